//! TCP streams and listeners.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use futures_lite::Stream;
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::IntoStdError;
use super::resolve::{ToSocketAddrs, addresses};
use crate::io::futures_io;
use crate::reactor::Direction;
use crate::socket::Socket;
use crate::time::{Sleep, sleep};

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
    socket: Socket<std::net::TcpStream>,
}

impl TcpStream {
    /// Opens a connection: to the first of the addresses that takes it.
    ///
    /// A host name is looked up on the calling thread, which blocks; see
    /// [`ToSocketAddrs`].
    ///
    /// # Errors
    ///
    /// The last error, if no address could be connected to, with the address in its
    /// text. Outside of a runtime.
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
        let mut last = None;
        for address in addresses(&address)? {
            match TcpStream::connect_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    let text = format!("connecting to {address} failed: {error}");
                    last = Some(io::Error::new(error.kind(), text));
                }
            }
        }
        Err(last.expect("there is at least one address"))
    }

    async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
        let socket = new_socket(address)?;
        let started = match SockRef::from(&socket).connect(&SockAddr::from(address)) {
            Ok(()) => false,
            Err(error) if in_progress(&error) => true,
            Err(error) => return Err(error),
        };
        let stream = TcpStream {
            socket: Socket::new(socket, "`TcpStream::connect`")?,
        };
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
        self.socket.read_with(|io| io.peek(buf)).await
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
        self.get_ref().set_ttl(ttl)
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
        self.socket.into_inner().map_err(|socket| IntoStdError {
            socket: TcpStream { socket },
        })
    }

    fn get_ref(&self) -> &std::net::TcpStream {
        self.socket.get_ref()
    }
}

futures_io!(
    TcpStream; stream: true,
    close: |stream| match stream.shutdown(Shutdown::Write) {
        // Closed already.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    }
);

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
        Ok(TcpStream {
            socket: Socket::new(stream, "`TcpStream::try_from`")?,
        })
    }
}

/// Waits for TCP connections.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, net::{TcpListener, TcpStream}};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let client = TcpStream::connect(listener.local_addr()?).await?;
///     let (_stream, from) = listener.accept().await?;
///     assert_eq!(from, client.local_addr()?);
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct TcpListener {
    socket: Socket<std::net::TcpListener>,
    /// Accepts in a row that failed for want of file descriptors or memory.
    starved: Arc<AtomicU32>,
}

impl TcpListener {
    /// Listens at the first of the addresses that is free. Port 0 lets the system
    /// choose one.
    ///
    /// # Errors
    ///
    /// The last error, if no address could be bound to, with the address in its text.
    /// Outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// It never waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, net::TcpListener};
    ///
    /// block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     assert_ne!(listener.local_addr()?.port(), 0);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let mut last = None;
        for address in addresses(&address)? {
            match listen(address) {
                Ok(listener) => return TcpListener::try_from(listener),
                Err(error) => {
                    let text = format!("listening at {address} failed: {error}");
                    last = Some(io::Error::new(error.kind(), text));
                }
            }
        }
        Err(last.expect("there is at least one address"))
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// When the process or the system is out of file descriptors or memory, and outside
    /// of a runtime. After an error of the first kind the next call waits a while, so
    /// that a loop which goes on does not spin: 10 ms, and longer each time, up to a
    /// second.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let _client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (stream, from) = listener.accept().await?;
    /// println!("{from} came, at {}", stream.local_addr()?);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        if let Some(pause) = self.pause() {
            pause.await;
        }
        let accepted = self.socket.read_with(accept).await;
        self.finish(accepted)
    }

    /// The connections that come, as a [`Stream`] without an end.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// use futures_lite::StreamExt;
    /// # block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let _client = TcpStream::connect(listener.local_addr()?).await?;
    /// let mut incoming = listener.incoming();
    /// while let Some(stream) = incoming.next().await {
    ///     println!("{} came", stream?.peer_addr()?);
    /// #   break;
    /// }
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            listener: self,
            pause: None,
        }
    }

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::TcpListener};
    /// # block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// println!("listening at {}", listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    /// The std listener, still in nonblocking mode.
    ///
    /// # Errors
    ///
    /// While it has clones: the error carries the listener.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::TcpListener};
    /// # block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let listener: std::net::TcpListener = listener.into_std()?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn into_std(self) -> Result<std::net::TcpListener, IntoStdError<TcpListener>> {
        let starved = self.starved;
        self.socket.into_inner().map_err(|socket| IntoStdError {
            socket: TcpListener { socket, starved },
        })
    }

    fn get_ref(&self) -> &std::net::TcpListener {
        self.socket.get_ref()
    }

    /// How long to leave it alone.
    fn pause(&self) -> Option<Sleep> {
        match self.starved.load(Ordering::Relaxed) {
            0 => None,
            times => Some(sleep(
                Duration::from_millis(10 << (times - 1).min(7)).min(LONGEST),
            )),
        }
    }

    fn finish(
        &self,
        accepted: io::Result<(std::net::TcpStream, SocketAddr)>,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let times = self.starved.load(Ordering::Relaxed);
                self.starved
                    .store(times.saturating_add(1), Ordering::Relaxed);
                return Err(error);
            }
        };
        self.starved.store(0, Ordering::Relaxed);
        Ok((TcpStream::try_from(stream)?, from))
    }
}

impl_as_raw!(TcpStream);
impl_as_raw!(TcpListener);

/// The longest pause after an accept that failed.
const LONGEST: Duration = Duration::from_secs(1);

/// A connection that went while it waited is no error of the listener's.
fn accept(listener: &std::net::TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    loop {
        match listener.accept() {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            result => return result,
        }
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get_ref().fmt(f)
    }
}

/// Registers a std listener with this thread's reactor, in nonblocking mode.
impl TryFrom<std::net::TcpListener> for TcpListener {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener {
            socket: Socket::new(listener, "`TcpListener::bind`")?,
            starved: Arc::new(AtomicU32::new(0)),
        })
    }
}

/// The stream of [`TcpListener::incoming`].
///
/// It never ends. An error does not end it either: it waits a while after one that
/// comes from a lack of file descriptors or memory, and goes on.
///
/// # Cancel safety
///
/// No connection is lost.
///
/// # Examples
///
/// See [`TcpListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless they are polled"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
    pause: Option<Sleep>,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(Pin::new(pause).poll(cx));
            self.pause = None;
        }
        let listener = self.listener;
        let accepted = ready!(listener.socket.poll_read_with(cx, false, false, accept));
        let result = listener.finish(accepted).map(|(stream, _)| stream);
        self.pause = listener.pause();
        Poll::Ready(Some(result))
    }
}

/// Connections that wait to be accepted: the system takes less if that is too many.
/// std's 128 overflow when a tool opens a thousand at once.
const BACKLOG: i32 = 4096;

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // As std does: elsewhere the option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A nonblocking socket for a connection to this address.
fn new_socket(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether a nonblocking connect has only been started.
fn in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    return rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS);
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::WouldBlock;
}
