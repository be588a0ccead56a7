//! Input and output: [`Async`] makes any pollable object awaitable. The traits and helpers of
//! `futures-lite` are re-exported here, and work with all sockets of this crate.
//!
//! The streams of this crate can be read and written by shared reference, and its sockets are
//! cheap to clone. For other streams, such as those of TLS, [`split`] returns two halves.
//!
//! [`copy`] copies in one direction, [`copy_bidirectional`] in both. One poll of a task
//! completes a limited number of socket operations ([Fairness](crate::runtime#fairness)), so
//! both functions let other tasks run, even if bytes arrive faster than they are copied.

mod block_on;
mod copy;
#[cfg(unix)]
mod stdio;

use std::fmt;
use std::io;
use std::task::{Context as TaskContext, Poll};

pub use futures_lite::io::*;

// An explicit import takes precedence over the glob. The `BlockOn` of futures-lite would hang
// inside a task.
pub use self::block_on::BlockOn;
pub use self::copy::{CopyBidirectional, copy_bidirectional};
#[cfg(unix)]
pub use self::stdio::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
use crate::reactor::{AsRaw, Direction};
use crate::socket::{Socket, set_nonblocking};

/// An async adapter for an I/O object that the system can poll: a pipe, a socket, a terminal, an
/// inotify or perf fd.
///
/// The object is put into nonblocking mode, and stays registered with the thread's reactor until
/// the `Async` is dropped. If `&T` implements [`Read`](std::io::Read) or
/// [`Write`](std::io::Write), then the `Async` implements [`AsyncRead`] or [`AsyncWrite`].
///
/// The object is only lent as `&T`, and it must be owned: replacing or closing a registered
/// object would break its registration.
///
/// ```compile_fail,E0597
/// # use soloist::{block_on, io::Async};
/// block_on(async {
///     let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
///     // The `Async` could be forgotten, and the listener closed while it is registered.
///     let borrowed = Async::new(&listener).unwrap();
///     std::mem::forget(borrowed);
/// });
/// ```
///
/// # Examples
///
/// ```
/// # #[cfg(unix)] {
/// use std::os::unix::net::UnixStream;
/// use soloist::{block_on, io::{Async, AsyncReadExt, AsyncWriteExt}};
///
/// block_on(async {
///     let (a, b) = UnixStream::pair()?;
///     let (mut a, mut b) = (Async::new(a)?, Async::new(b)?);
///     a.write_all(b"hello").await?;
///     let mut buf = [0; 5];
///     b.read_exact(&mut buf).await?;
///     assert_eq!(&buf, b"hello");
///     Ok::<(), std::io::Error>(())
/// })?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Async<T> {
    socket: Socket<T>,
}

impl<T: AsRaw + 'static> Async<T> {
    /// Puts an object into nonblocking mode, and registers it with this thread's reactor.
    ///
    /// Nonblocking mode also applies to duplicates of the file descriptor, in other processes
    /// too.
    ///
    /// # Errors
    ///
    /// Returns an error outside of a runtime, if the system cannot poll the object, or
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the file descriptor is registered already,
    /// by another `Async` or a socket of this thread. Regular files cannot be polled: they are always
    /// ready, so use them without `Async`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use soloist::{block_on, io::Async};
    ///
    /// block_on(async {
    ///     let listener = Async::new(TcpListener::bind("127.0.0.1:0")?)?;
    ///     println!("listening on {}", listener.get_ref().local_addr()?);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(io: T) -> io::Result<Async<T>> {
        set_nonblocking(&io)?;
        let socket = Socket::new(io, "`Async::new`")?;
        // User code may read through `get_ref`, past the reactor's record of readiness.
        socket.set_shared();
        socket.add().map_err(|error| match error.kind() {
            // It says what to do.
            io::ErrorKind::AlreadyExists => error,
            kind => {
                let text = format!("this object cannot be polled for readiness: {error}");
                io::Error::new(kind, text)
            }
        })?;
        Ok(Async { socket })
    }
}

impl<T> Async<T> {
    #[cfg(all(unix, feature = "signal"))]
    pub(crate) fn set_background(&self) {
        self.socket.set_background();
    }

    /// Returns a reference to the object.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, io::Async};
    /// # block_on(async {
    /// let listener = Async::new(std::net::TcpListener::bind("127.0.0.1:0")?)?;
    /// assert!(listener.get_ref().local_addr()?.ip().is_loopback());
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn get_ref(&self) -> &T {
        self.socket.get_ref()
    }

    /// Deregisters the object, and returns it. The object stays in nonblocking mode.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, io::Async};
    /// # block_on(async {
    /// let listener = Async::new(std::net::TcpListener::bind("127.0.0.1:0")?)?;
    /// let listener: std::net::TcpListener = listener.into_inner();
    /// listener.set_nonblocking(false)?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn into_inner(self) -> T {
        let Ok(io) = self.socket.into_inner() else {
            unreachable!("an `Async` has no clones");
        };
        io
    }

    /// Waits until the object is reported readable. It is also readable at the end of the stream
    /// and after an error.
    ///
    /// A report can be spurious: a read may still fail with
    /// [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// # Errors
    ///
    /// Returns an error outside of a runtime, and if the object is registered on another thread
    /// where a task waits for it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, io::Async};
    /// # block_on(async {
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let _client = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let listener = Async::new(listener)?;
    /// listener.readable().await?;
    /// let (_stream, _from) = listener.get_ref().accept()?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.ready(Direction::Read).await
    }

    /// Waits until the object is reported writable.
    ///
    /// # Errors
    ///
    /// The same as for [`readable`](Async::readable).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, io::Async};
    /// # block_on(async {
    /// let socket = Async::new(std::net::UdpSocket::bind("127.0.0.1:0")?)?;
    /// socket.writable().await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.ready(Direction::Write).await
    }

    /// Polls for readability. It returns `Pending` first, and `Ready` once the object has been
    /// reported readable since then. The task is woken at that time.
    ///
    /// # Errors
    ///
    /// The same as for [`readable`](Async::readable).
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, io::Async};
    /// # block_on(async {
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let _client = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let listener = Async::new(listener)?;
    /// std::future::poll_fn(|cx| listener.poll_readable(cx)).await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn poll_readable(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.socket.as_any().poll_ready(Direction::Read, cx)
    }

    /// Polls for writability. It returns `Pending` first, and `Ready` once the object has been
    /// reported writable since then. The task is woken at that time.
    ///
    /// # Errors
    ///
    /// The same as for [`readable`](Async::readable).
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, io::Async};
    /// # block_on(async {
    /// let socket = Async::new(std::net::UdpSocket::bind("127.0.0.1:0")?)?;
    /// std::future::poll_fn(|cx| socket.poll_writable(cx)).await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn poll_writable(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.socket.as_any().poll_ready(Direction::Write, cx)
    }

    /// Calls `read` now, and again each time the object is reported readable, until it no longer
    /// fails with [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// # Errors
    ///
    /// Returns the error of `read`, or an error as described for [`readable`](Async::readable).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, `read` has read nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, io::Async};
    /// # block_on(async {
    /// let socket = Async::new(std::net::UdpSocket::bind("127.0.0.1:0")?)?;
    /// let to = socket.get_ref().local_addr()?;
    /// socket.write_with(|socket| socket.send_to(b"hello", to)).await?;
    /// let mut buf = [0; 16];
    /// let (n, from) = socket.read_with(|socket| socket.recv_from(&mut buf)).await?;
    /// assert_eq!((&buf[..n], from), (&b"hello"[..], to));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn read_with<R>(&self, read: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.socket.read_with(read).await
    }

    /// Calls `write` now, and again each time the object is reported writable, until it no longer
    /// fails with [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// # Errors
    ///
    /// Returns the error of `write`, or an error as described for [`readable`](Async::readable).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, `write` has written nothing.
    ///
    /// # Examples
    ///
    /// See [`read_with`](Async::read_with).
    pub async fn write_with<R>(&self, write: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.socket.write_with(write).await
    }
}

impl<T: fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(self.get_ref()).finish()
    }
}

impl<T> AsRef<T> for Async<T> {
    fn as_ref(&self) -> &T {
        self.get_ref()
    }
}

#[cfg(unix)]
impl<T: AsRaw> std::os::fd::AsFd for Async<T> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

#[cfg(windows)]
impl<T: AsRaw> std::os::windows::io::AsSocket for Async<T> {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.get_ref().as_socket()
    }
}

/// Implements `AsyncRead` and `AsyncWrite`, by value and by shared reference, for a type with a
/// field `socket: Socket<_>` whose object is read and written by `&`. `bytes` is a variant of
/// `socket::Bytes`: what a short read means.
macro_rules! futures_io {
    ($type:ty $(, $T:ident)?; bytes: $bytes:ident, close: $close:expr) => {
        $crate::io::futures_io!(@read [$($T)?] $type, true, $bytes);
        $crate::io::futures_io!(@read [$($T)?] &$type, false, $bytes);
        $crate::io::futures_io!(@write [$($T)?] $type, true, $close);
        $crate::io::futures_io!(@write [$($T)?] &$type, false, $close);
    };
    (@read [$($T:ident)?] $type:ty, $exclusive:literal, $bytes:ident) => {
        impl<$($T)?> $crate::io::AsyncRead for $type
        $(where for<'a> &'a $T: std::io::Read)?
        {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let room = buf.len();
                let read = || std::io::Read::read(&mut self.socket.get_ref(), buf);
                let bytes = $crate::socket::Bytes::$bytes;
                let socket = self.socket.as_any();
                socket.poll_read(cx, $exclusive, bytes, room, read)
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let room = $crate::socket::room(bufs);
                let read = || std::io::Read::read_vectored(&mut self.socket.get_ref(), bufs);
                let bytes = $crate::socket::Bytes::$bytes;
                let socket = self.socket.as_any();
                socket.poll_read(cx, $exclusive, bytes, room, read)
            }
        }
    };
    (@write [$($T:ident)?] $type:ty, $exclusive:literal, $close:expr) => {
        impl<$($T)?> $crate::io::AsyncWrite for $type
        $(where for<'a> &'a $T: std::io::Write)?
        {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let write = || std::io::Write::write(&mut self.socket.get_ref(), buf);
                let socket = self.socket.as_any();
                socket.poll_write(cx, $exclusive, buf.len(), write)
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let write = || std::io::Write::write_vectored(&mut self.socket.get_ref(), bufs);
                let len = $crate::socket::len(bufs);
                let socket = self.socket.as_any();
                socket.poll_write(cx, $exclusive, len, write)
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let mut flush = || std::io::Write::flush(&mut self.socket.get_ref());
                let socket = self.socket.as_any();
                socket.poll_flush(cx, $exclusive, &mut flush)
            }

            fn poll_close(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::ready!(self.as_mut().poll_flush(cx))?;
                let close: fn(&Self) -> std::io::Result<()> = $close;
                std::task::Poll::Ready(close(&self))
            }
        }
    };
}
pub(crate) use futures_io;

futures_io!(Async<T>, T; bytes: Opaque, close: |_| Ok(()));
