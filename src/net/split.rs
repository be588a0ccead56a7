//! A stream in two halves, each with an owner of its own.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use super::TcpStream;
use crate::io::{AsyncRead, AsyncWrite};

mod sealed {
    /// A stream that can be split.
    pub trait Stream: crate::io::AsyncRead + crate::io::AsyncWrite + Unpin {
        fn shut_down_writing(&self) -> std::io::Result<()>;
        fn is_same(&self, other: &Self) -> bool;
    }
}

pub(crate) use self::sealed::Stream;

/// The half of a stream that reads: of [`TcpStream::into_split`], or of a Unix stream.
///
/// Reads may be dropped like those of the stream. [`as_ref`](AsRef::as_ref) gives the
/// stream, for all that is neither read nor written. The other half is on the same
/// thread, and so stays this one while both are there.
///
/// # Examples
///
/// See [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf<S = TcpStream> {
    stream: S,
}

/// The half of a stream that writes: of [`TcpStream::into_split`], or of a Unix stream.
///
/// When it is dropped, or closed, the other side reads the end of the stream.
///
/// # Examples
///
/// See [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedWriteHalf<S: Stream = TcpStream> {
    stream: S,
    shuts_down: bool,
}

/// The halves, made from two handles of one stream.
pub(crate) fn halves<S: Stream + Clone>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let write = OwnedWriteHalf {
        stream: stream.clone(),
        shuts_down: true,
    };
    (OwnedReadHalf { stream }, write)
}

impl<S: Stream> OwnedReadHalf<S> {
    /// Makes the stream whole again.
    ///
    /// # Errors
    ///
    /// If the halves are not of the same stream: the error carries both.
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
    /// Makes the stream whole again. See [`OwnedReadHalf::reunite`].
    ///
    /// # Errors
    ///
    /// If the halves are not of the same stream: the error carries both.
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

    /// Drops it without an end of the stream for the other side: that comes when the
    /// other half is dropped, too.
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
            // It fails if the connection is gone already.
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

/// Two halves are not of the same stream. They are given back.
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
        f.write_str("the halves are not of the same stream")
    }
}

impl<S: Stream> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").finish_non_exhaustive()
    }
}

impl<S: Stream> std::error::Error for ReuniteError<S> {}
