//! TCP streams and listeners.

mod builder;
mod listener;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

pub use self::builder::TcpStreamBuilder;
pub use self::listener::{Incoming, TcpListener, TcpListenerBuilder};
use super::inner;
use super::sigpipe::NoSigpipe;
use super::{ErrorContext, IntoStdError};
use crate::reactor::Direction;
use crate::socket::Socket;

/// A TCP connection.
///
/// It implements [`AsyncRead`](crate::io::AsyncRead) and [`AsyncWrite`](crate::io::AsyncWrite),
/// by value and by shared reference. So one task can read `&stream` while another writes. A clone
/// is another handle to the same connection. `close().await` shuts down the write direction. The
/// connection is closed when the last clone is dropped.
///
/// # Cancel safety
///
/// A read or write that is dropped before it completes has transferred no bytes. Helpers that
/// read or write several times, such as `read_exact` and `write_all`, may have completed some of
/// their operations.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, spawn, net::{TcpListener, TcpStream}};
/// use soloist::io::{AsyncReadExt, AsyncWriteExt};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let address = listener.local_addr()?;
///     let server = spawn(async move {
///         let (mut stream, _) = listener.accept().await?;
///         stream.write_all(b"hello").await
///     });
///     let mut text = String::new();
///     TcpStream::connect(address).await?.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     server.await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct TcpStream {
    socket: Socket<inner::TcpStream>,
}

impl TcpStream {
    /// Reads bytes without consuming them: the next read returns them again.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is gone, and outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// # use soloist::io::{AsyncReadExt, AsyncWriteExt};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let mut client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (mut stream, _) = listener.accept().await?;
    /// client.write_all(b"GET /").await?;
    /// let mut buf = [0; 3];
    /// assert_eq!(stream.peek(&mut buf).await?, 3);
    /// let mut all = [0; 5];
    /// stream.read_exact(&mut all).await?;
    /// assert_eq!(&all, b"GET /");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.socket.read_with(|io| io.peek(buf)).await
    }

    /// Like [`peek`](Self::peek), but does not wait.
    ///
    /// # Errors
    ///
    /// Returns [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing to read. Otherwise the
    /// same as for [`peek`](Self::peek).
    ///
    /// # Examples
    ///
    /// See [Waiting and trying](crate::net#waiting-and-trying).
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.socket.try_operate(Direction::Read, |io| io.peek(buf))
    }

    /// Like [`peek`](Self::peek), for implementations of [`Future`](std::future::Future). If it
    /// returns `Pending`, the task is woken when it should call again.
    ///
    /// # Errors
    ///
    /// The same as for [`peek`](Self::peek).
    ///
    /// # Examples
    ///
    /// See [Waiting and trying](crate::net#waiting-and-trying).
    pub fn poll_peek(&self, cx: &mut TaskContext<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.socket
            .poll_operate(Direction::Read, cx, false, |io| io.peek(buf))
    }

    /// Sets the number of hops that the packets of this connection may make (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses the value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.set_ttl(64)?;
    /// assert_eq!(stream.ttl()?, 64);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.get_ref().set_ttl(ttl).setting("the TTL", ttl)
    }

    /// Returns how long a drop waits for unsent bytes (`SO_LINGER`). See
    /// [`set_linger`](TcpStream::set_linger).
    ///
    /// # Errors
    ///
    /// Returns an error if the system call fails.
    ///
    /// # Examples
    ///
    /// See [`set_linger`](TcpStream::set_linger).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.get_ref().linger()
    }

    /// Sets what happens to unsent bytes when the stream is dropped (`SO_LINGER`).
    ///
    /// * `None`, the default: the drop returns at once, and the system sends them in the
    ///   background.
    /// * `Some(Duration::ZERO)`: they are discarded, and the connection is reset.
    /// * Any other time, rounded up to whole seconds: **the drop blocks the thread**, with all
    ///   its tasks, until they are sent or the time has elapsed.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses the value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::{io, time::Duration};
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}, io::AsyncReadExt};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let (mut other, _) = listener.accept().await?;
    /// stream.set_linger(Some(Duration::ZERO))?;
    /// drop(stream);
    /// let error = other.read(&mut [0; 8]).await.unwrap_err();
    /// assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        // The system counts whole seconds, and 0 would reset the connection.
        let rounded = linger.map(|linger| round_up(linger, i32::MAX as u64));
        let result = self.get_ref().set_linger(rounded);
        result.setting("the lingering", linger)
    }

    /// Returns how long the connection is idle before the system probes the peer (`SO_KEEPALIVE`,
    /// `TCP_KEEPIDLE`). `None`: it sends no probes.
    ///
    /// # Errors
    ///
    /// Returns an error if the system call fails, and on Windows and OpenBSD if keepalive is on:
    /// those systems do not report the time.
    ///
    /// # Examples
    ///
    /// See [`set_keepalive`](TcpStream::set_keepalive).
    pub fn keepalive(&self) -> io::Result<Option<Duration>> {
        self.get_ref().keepalive_time()
    }

    /// Makes the system probe the peer when the connection has been idle for this time
    /// (`SO_KEEPALIVE`, `TCP_KEEPIDLE`). If the peer does not answer, reads and writes fail with
    /// [`TimedOut`](io::ErrorKind::TimedOut). `None`, the default, sends no probes.
    ///
    /// The time is rounded up to whole seconds. The system determines the number of probes and
    /// the time between them.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses the value. Linux accepts at most 32,767 seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.set_keepalive(Some(Duration::from_secs(60)))?;
    /// # #[cfg(unix)]
    /// assert_eq!(stream.keepalive()?, Some(Duration::from_secs(60)));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn set_keepalive(&self, after: Option<Duration>) -> io::Result<()> {
        // The system refuses 0 seconds.
        let time = after.map(|after| round_up(after, u64::MAX).max(Duration::from_secs(1)));
        let result = self.get_ref().set_keepalive_time(time);
        match after {
            Some(time) => result.setting("the time of keepalive", time),
            None => result.setting("keepalive", false),
        }
    }

    forward_to_std! {
        /// Returns the local address.
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let stream = TcpStream::connect(listener.local_addr()?).await?;
        /// assert!(stream.local_addr()?.ip().is_loopback());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn local_addr(&self) -> io::Result<SocketAddr>;

        /// Returns the address of the peer.
        ///
        /// # Errors
        ///
        /// Returns an error if the connection is gone.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let stream = TcpStream::connect(listener.local_addr()?).await?;
        /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn peer_addr(&self) -> io::Result<SocketAddr>;

        /// Shuts down the read direction, the write direction, or both. After `Write` the peer
        /// reads the end of the stream, after all bytes that were sent before.
        ///
        /// # Errors
        ///
        /// Returns an error if the connection is gone.
        ///
        /// # Examples
        ///
        /// ```
        /// # use std::net::Shutdown;
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}, io::AsyncReadExt};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let stream = TcpStream::connect(listener.local_addr()?).await?;
        /// let (mut other, _) = listener.accept().await?;
        /// stream.shutdown(Shutdown::Write)?;
        /// assert_eq!(other.read(&mut [0; 8]).await?, 0);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn shutdown(&self, how: Shutdown) -> io::Result<()>;

        /// Returns whether small writes are sent at once. See
        /// [`set_nodelay`](TcpStream::set_nodelay).
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let stream = TcpStream::connect(listener.local_addr()?).await?;
        /// assert!(!stream.nodelay()?);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn nodelay(&self) -> io::Result<bool>;

        /// Sets whether small writes are sent at once (`TCP_NODELAY`).
        ///
        /// # Errors
        ///
        /// Returns an error if the system refuses the value.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let stream = TcpStream::connect(listener.local_addr()?).await?;
        /// stream.set_nodelay(true)?;
        /// assert!(stream.nodelay()?);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()>;

        /// Returns the number of hops that the packets of this connection may make (`IP_TTL`).
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// See [`set_ttl`](TcpStream::set_ttl).
        pub fn ttl(&self) -> io::Result<u32>;

        /// Returns the pending error of the socket, and clears it.
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let stream = TcpStream::connect(listener.local_addr()?).await?;
        /// assert!(stream.take_error()?.is_none());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn take_error(&self) -> io::Result<Option<io::Error>>;
    }
}

impl_socket!(
    TcpStream(inner::TcpStream), std::net::TcpStream, "`TcpStream::try_from`",
    from_std: |stream, what| inner::adopt(NoSigpipe::new(stream), what),
    into_std: |stream: inner::TcpStream| inner::into_system(stream).into_inner()
);

impl_stream!(TcpStream, bytes: DrainedByShortRead);

/// A TCP socket for an address of this family. The sizes are those of its buffers.
fn system_socket(
    address: SocketAddr,
    recv: Option<usize>,
    send: Option<usize>,
) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(size) = recv {
        let result = socket.set_recv_buffer_size(size);
        result.setting("the size of the receive buffer", size)?;
    }
    if let Some(size) = send {
        let result = socket.set_send_buffer_size(size);
        result.setting("the size of the send buffer", size)?;
    }
    Ok(socket)
}

/// Rounds up to whole seconds, and down to `max` seconds.
fn round_up(time: Duration, max: u64) -> Duration {
    let has_fraction = time.subsec_nanos() > 0;
    Duration::from_secs(time.as_secs().saturating_add(has_fraction.into()).min(max))
}
