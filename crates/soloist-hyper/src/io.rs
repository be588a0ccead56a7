//! Streams of futures-io for hyper, and hyper's streams for futures-io.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use soloist::io::{AsyncRead, AsyncWrite};

/// At most this much is read at once. It is about what hyper asks for in large bodies. Memory that no
/// read has filled costs nothing.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    /// Memory to read into. hyper's buffers are uninitialised, and only unsafe code can pass them
    /// to `AsyncRead`. A copy of what was read costs less than to zero all that could be read.
    static SCRATCH_BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Adapts a stream between futures-io and hyper, in both directions.
///
/// With a stream that is [`AsyncRead`] and [`AsyncWrite`], such as `soloist::net::TcpStream`, it
/// is hyper's [`Read`] and [`Write`]. With one of hyper's, such as
/// [`Upgraded`](hyper::upgrade::Upgraded), it is `AsyncRead` and `AsyncWrite`.
///
/// # Examples
///
/// hyper's low-level client on a socket:
///
/// ```no_run
/// use http_body_util::Empty;
/// use hyper::{Request, body::Bytes, client::conn::http1};
/// use soloist::{block_on, net::TcpStream, spawn};
/// use soloist_hyper::Io;
///
/// block_on(async {
///     let stream = TcpStream::connect("127.0.0.1:8080").await?;
///     let (mut sender, connection) = http1::handshake(Io::new(stream)).await?;
///     let _connection = spawn(connection);
///     let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new())?;
///     println!("{}", sender.send_request(request).await?.status());
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Io<T> {
    inner: T,
    vectored: bool,
}

impl<T> Io<T> {
    /// Wraps a stream.
    pub fn new(inner: T) -> Io<T> {
        Io::with(inner, false)
    }

    /// Wraps a stream of which `poll_write_vectored` writes several buffers with one system call,
    /// as sockets do. hyper then passes large bodies on without a copy.
    pub fn vectored(inner: T) -> Io<T> {
        Io::with(inner, true)
    }

    pub(crate) fn with(inner: T, vectored: bool) -> Io<T> {
        Io { inner, vectored }
    }

    /// The stream.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The stream.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Takes the stream out.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: Unpin> Io<T> {
    fn pinned(self: Pin<&mut Self>) -> Pin<&mut T> {
        Pin::new(&mut self.get_mut().inner)
    }
}

impl<T: AsyncRead + Unpin> Read for Io<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Taken, not borrowed: `inner` may be another `Io`.
        let mut scratch = SCRATCH_BUFFER
            .take()
            .unwrap_or_else(|| vec![0; SCRATCH].into());
        let wanted = buf.remaining().min(SCRATCH);
        let read = self.pinned().poll_read(cx, &mut scratch[..wanted]);
        if let Poll::Ready(Ok(n)) = read {
            buf.put_slice(&scratch[..n]);
        }
        SCRATCH_BUFFER.set(Some(scratch));
        read.map_ok(drop)
    }
}

impl<T: AsyncWrite + Unpin> Write for Io<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(cx, bufs)
    }
}

impl<T: Read + Unpin> AsyncRead for Io<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(self.pinned().poll_read(cx, buf.unfilled()))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<T: Write + Unpin> AsyncWrite for Io<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(cx)
    }
}
