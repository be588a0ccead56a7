//! A stream split into two halves, each with its own owner.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use super::{Stream, TcpStream};
use crate::io::{AsyncRead, AsyncWrite};

/// The read half of a stream, made by [`TcpStream::into_split`] or by the method of the same name
/// of a Unix stream.
///
/// Its reads are as cancel safe as those of the stream. [`as_ref`](AsRef::as_ref) gives access to
/// the stream, for everything but reads and writes. The halves are clones of one stream, so both
/// must be used on the same thread.
///
/// # Examples
///
/// See [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf<S = TcpStream> {
    stream: S,
}

/// The write half of a stream, made by [`TcpStream::into_split`] or by the method of the same
/// name of a Unix stream.
///
/// When it is dropped or closed, the peer reads the end of the stream.
///
/// # Examples
///
/// See [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedWriteHalf<S: Stream = TcpStream> {
    stream: S,
    shuts_down: bool,
}

/// Makes the halves from two handles of one stream.
pub(crate) fn halves<S: Stream + Clone>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let write = OwnedWriteHalf {
        stream: stream.clone(),
        shuts_down: true,
    };
    (OwnedReadHalf { stream }, write)
}

impl TcpStream {
    /// Splits the stream into a read half and a write half, each with its own owner. So one task
    /// can read while another writes. When the write half is dropped, the peer reads the end of
    /// the stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, spawn, net::{TcpListener, TcpStream}};
    /// # use soloist::io::{AsyncReadExt, AsyncWriteExt};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (other, _) = listener.accept().await?;
    /// let (mut read, mut write) = stream.into_split();
    /// let writer = spawn(async move { write.write_all(b"hello").await });
    /// let echo = spawn(async move { soloist::io::copy(&other, &other).await });
    /// let mut text = String::new();
    /// read.read_to_string(&mut text).await?;
    /// assert_eq!(text, "hello");
    /// # writer.await?;
    /// # echo.await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        halves(self)
    }
}

impl<S: Stream> OwnedReadHalf<S> {
    /// Joins the halves into the stream that they came from.
    ///
    /// # Errors
    ///
    /// Returns an error that carries both halves if they belong to different streams.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let (read, write) = stream.into_split();
    /// let stream = read.reunite(write).expect("they are of one stream");
    /// let stream: std::net::TcpStream = stream.into_std()?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn reunite(self, write: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !self.stream.is_same(&write.stream) {
            return Err(ReuniteError(self, write));
        }
        write.forget();
        Ok(self.stream)
    }
}

impl<S: Stream> OwnedWriteHalf<S> {
    /// Joins the halves into the stream that they came from. See [`OwnedReadHalf::reunite`].
    ///
    /// # Errors
    ///
    /// Returns an error that carries both halves if they belong to different streams.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let (read, write) = stream.into_split();
    /// let stream: TcpStream = write.reunite(read).expect("they are of one stream");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn reunite(self, read: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        read.reunite(self)
    }

    /// Drops the half without ending the stream. The peer reads the end of the stream when the
    /// read half is dropped, too.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// # use soloist::io::{AsyncReadExt, AsyncWriteExt};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut other, _) = listener.accept().await?;
    /// let (read, mut write) = stream.into_split();
    /// write.write_all(b"hello").await?;
    /// write.forget();
    /// drop(read);
    /// let mut text = String::new();
    /// other.read_to_string(&mut text).await?;
    /// assert_eq!(text, "hello");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn forget(mut self) {
        self.shuts_down = false;
    }
}

impl<S: Stream> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.shuts_down {
            // This fails if the connection is gone already.
            let _ = self.stream.shut_down_writing();
        }
    }
}

impl<S> AsRef<S> for OwnedReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Stream> AsRef<S> for OwnedWriteHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Stream> AsyncRead for OwnedReadHalf<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read_vectored(cx, bufs)
    }
}

impl<S: Stream> AsyncWrite for OwnedWriteHalf<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// The error of [`OwnedReadHalf::reunite`]: the halves belong to different streams. It carries
/// both.
///
/// # Examples
///
/// ```
/// # use soloist::{block_on, net::{ReuniteError, TcpListener, TcpStream}};
/// # block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?;
/// let (read, _write) = TcpStream::connect(address).await?.into_split();
/// let (_read, write) = TcpStream::connect(address).await?.into_split();
/// let ReuniteError(_read, _write) = read.reunite(write).unwrap_err();
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub struct ReuniteError<S: Stream = TcpStream>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S: Stream> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves belong to different streams")
    }
}

impl<S: Stream> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").finish_non_exhaustive()
    }
}

impl<S: Stream> std::error::Error for ReuniteError<S> {}
