//! TCP streams and listeners.

mod listener;

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, TcpKeepalive, Type};

pub use self::listener::{Incoming, TcpListener, TcpListenerBuilder};
use super::connect::first_to_connect;
use super::resolve::{ToSocketAddrs, resolve};
use super::sigpipe::NoSigpipe;
use super::split::{self, OwnedReadHalf, OwnedWriteHalf, Stream};
use super::{Boxed, IntoStdError, option};
use crate::executor;
use crate::io::futures_io;
use crate::socket::Socket;
use crate::source::Direction;

/// A TCP connection.
///
/// It is [`AsyncRead`](crate::io::AsyncRead) and [`AsyncWrite`](crate::io::AsyncWrite),
/// by value and by shared reference: one task can read `&stream` while another writes.
/// A clone is another handle to the same connection. Closing it (`close().await`)
/// shuts the sending direction down; the connection itself ends with the last clone.
///
/// # Cancel safety
///
/// A read or write that is dropped before it is done has moved no byte. For helpers
/// that make several, as `read_exact` and `write_all`, that holds for each of them.
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
    socket: Socket<NoSigpipe<std::net::TcpStream>>,
}

impl TcpStream {
    /// Opens a connection.
    ///
    /// Where there are several addresses, it tries them side by side (Happy Eyeballs, RFC
    /// 8305): the families take turns, each attempt has 250 ms for itself, the next one
    /// starts at once when one fails. The first to connect wins, the others are closed.
    ///
    /// # Errors
    ///
    /// If no address could be connected to: one error that lists every attempt. If the
    /// host name is not known (see [`resolve`]). Outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it closes the half-open connection.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, net::{TcpListener, TcpStream}};
    ///
    /// block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let stream = TcpStream::connect(listener.local_addr()?).await?;
    ///     assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        TcpStream::connect_to_one_of(resolve(address).await?).await
    }

    fn connect_to_one_of(addresses: Vec<SocketAddr>) -> Boxed<TcpStream> {
        Box::pin(first_to_connect(addresses, TcpStream::connect_to))
    }

    async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
        // Before anybody is called.
        executor::current_or_error(CONNECT)?;
        let socket = new_socket(address)?;
        let started = match SockRef::from(&socket).connect(&SockAddr::from(address)) {
            Ok(()) => false,
            Err(error) if in_progress(&error) => true,
            Err(error) => return Err(error),
        };
        let stream = TcpStream::from_nonblocking(socket, CONNECT)?;
        if started {
            stream.connected().await?;
        }
        Ok(stream)
    }

    /// Waits until the connection stands. The reactor's word may be a mistake: it
    /// stands when there is a peer, and if there is none, it has failed when there is
    /// an error.
    async fn connected(&self) -> io::Result<()> {
        loop {
            self.socket.ready(Direction::Write).await?;
            match self.peer_addr() {
                Ok(_) => return Ok(()),
                Err(no_peer) => match self.get_ref().take_error()? {
                    Some(error) => return Err(error),
                    None if no_peer.kind() == io::ErrorKind::NotConnected => {}
                    None => return Err(no_peer),
                },
            }
        }
    }

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
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
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    /// The address of the other side.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
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
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().peer_addr()
    }

    /// Shuts a direction down. After `Write` the other side reads the end of the
    /// stream; what is on its way arrives.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
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
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.get_ref().shutdown(how)
    }

    /// Reads without taking the bytes out: the next read gets them again.
    ///
    /// # Errors
    ///
    /// If the connection is gone, or outside of a runtime.
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
        self.socket.read_with(|io| io.get_ref().peek(buf)).await
    }

    /// Whether small writes are sent at once ([`set_nodelay`](TcpStream::set_nodelay)).
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
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
    pub fn nodelay(&self) -> io::Result<bool> {
        self.get_ref().nodelay()
    }

    /// Has small writes sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// If the system refuses.
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
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.get_ref().set_nodelay(nodelay)
    }

    /// How many hops its packets may make (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
    ///
    /// # Examples
    ///
    /// See [`set_ttl`](TcpStream::set_ttl).
    pub fn ttl(&self) -> io::Result<u32> {
        self.get_ref().ttl()
    }

    /// Sets how many hops its packets may make (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// If the system refuses.
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
        option(self.get_ref().set_ttl(ttl), "the TTL", ttl)
    }

    /// How long the connection goes on after the stream was dropped with bytes still on
    /// their way (`SO_LINGER`). `None`: the system goes on by itself.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
    ///
    /// # Examples
    ///
    /// See [`set_linger`](TcpStream::set_linger).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self.get_ref()).linger()
    }

    /// Sets what becomes of bytes that are still on their way when the stream is dropped
    /// (`SO_LINGER`).
    ///
    /// * `None`, the default: the system goes on sending them, and the drop returns at
    ///   once.
    /// * `Some(Duration::ZERO)`: they are thrown away, and the other side sees a reset.
    /// * Any other time, rounded up to whole seconds: **the drop blocks the thread**, with all its
    ///   tasks, until they have arrived or the time is over.
    ///
    /// # Errors
    ///
    /// If the system refuses.
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
        // Whole seconds: what is less must not become the zero that resets.
        let rounded = linger.map(|linger| round_up(linger, i32::MAX as u64));
        let result = SockRef::from(self.get_ref()).set_linger(rounded);
        option(result, "the lingering", linger)
    }

    /// How long the connection may be silent before the system asks whether the other
    /// side is still there (`SO_KEEPALIVE`, `TCP_KEEPIDLE`). `None`: it never asks.
    ///
    /// # Errors
    ///
    /// If the system cannot tell: Windows and OpenBSD only know whether it asks at all.
    ///
    /// # Examples
    ///
    /// See [`set_keepalive`](TcpStream::set_keepalive).
    pub fn keepalive(&self) -> io::Result<Option<Duration>> {
        let socket = SockRef::from(self.get_ref());
        if !socket.keepalive()? {
            return Ok(None);
        }
        keepalive_time(&socket).map(Some)
    }

    /// Has the system ask whether the other side is still there when the connection has
    /// been silent for so long (`SO_KEEPALIVE`, `TCP_KEEPIDLE`): if it is not, reads and
    /// writes fail with [`TimedOut`](io::ErrorKind::TimedOut) in the end. `None`, the
    /// default: it never asks.
    ///
    /// The time is rounded up to whole seconds. How often it asks, and for how long, is
    /// the system's.
    ///
    /// # Errors
    ///
    /// If the system refuses: Linux takes at most 32,767 seconds.
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
        let socket = SockRef::from(self.get_ref());
        let Some(after) = after else {
            return socket.set_keepalive(false);
        };
        // 0 seconds are refused.
        let time = round_up(after, u64::MAX).max(Duration::from_secs(1));
        let result = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time));
        option(result, "the time of keepalive", after)
    }

    /// The error that waits for the connection, if there is one; after that it is gone.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
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
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.get_ref().take_error()
    }

    /// The stream in two halves, each with an owner of its own: one task reads while
    /// another writes. The other side reads the end of the stream when the half that
    /// writes is dropped.
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
        split::halves(self)
    }

    /// The std stream, still in nonblocking mode.
    ///
    /// # Errors
    ///
    /// While it has clones: the error carries the stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let stream: std::net::TcpStream = stream.into_std()?;
    /// stream.set_nonblocking(false)?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn into_std(self) -> Result<std::net::TcpStream, IntoStdError<TcpStream>> {
        let stream = self.socket.into_inner().map_err(|socket| IntoStdError {
            socket: TcpStream { socket },
        })?;
        Ok(stream.into_inner())
    }

    /// `what` is for the error outside of a runtime.
    fn from_nonblocking(stream: std::net::TcpStream, what: &str) -> io::Result<TcpStream> {
        Ok(TcpStream {
            socket: Socket::new(NoSigpipe::new(stream), what)?,
        })
    }

    fn get_ref(&self) -> &std::net::TcpStream {
        self.socket.get_ref().get_ref()
    }
}

futures_io!(
    TcpStream; bytes: DrainedByShortRead,
    close: |stream| stream.shut_down_writing()
);

impl Stream for TcpStream {
    fn shut_down_writing(&self) -> io::Result<()> {
        match self.shutdown(Shutdown::Write) {
            // Closed already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.socket.is_same(&other.socket)
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get_ref().fmt(f)
    }
}

/// Registers a std stream with this thread's reactor, in nonblocking mode.
impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    fn try_from(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        TcpStream::from_nonblocking(stream, "`TcpStream::try_from`")
    }
}

impl_as_raw!(TcpStream);

/// For the error outside of a runtime.
const CONNECT: &str = "`TcpStream::connect`";

/// A nonblocking socket for a connection to this address.
fn new_socket(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whole seconds, and not more than `most`.
fn round_up(time: Duration, most: u64) -> Duration {
    let part = time.subsec_nanos() > 0;
    Duration::from_secs(time.as_secs().saturating_add(part.into()).min(most))
}

/// Whether a nonblocking connect has only been started.
fn in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    return rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS);
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::WouldBlock;
}

#[cfg(not(any(windows, target_os = "openbsd")))]
fn keepalive_time(socket: &socket2::Socket) -> io::Result<Duration> {
    socket.tcp_keepalive_time()
}

#[cfg(any(windows, target_os = "openbsd"))]
fn keepalive_time(_: &socket2::Socket) -> io::Result<Duration> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system cannot tell after which time it asks",
    ))
}
