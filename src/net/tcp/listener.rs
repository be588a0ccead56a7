//! TCP listeners.

use std::convert::identity;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_lite::Stream;
use socket2::{Domain, Protocol, SockAddr, Type};

use super::TcpStream;
use crate::net::accept::{ACCEPTING, Acceptor};
use crate::net::{ErrorContext, IntoStdError, ToSocketAddrs, resolve, try_each};
use crate::time::Sleep;

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
    socket: Acceptor<std::net::TcpListener>,
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
    /// It waits for nothing but the look-up of a host name, and listens only after that.
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
        TcpListener::builder().bind(address).await
    }

    /// Settings that must be made before a listener is there: the length of its queue,
    /// whether others may listen at the same port.
    ///
    /// # Examples
    ///
    /// See [`TcpListenerBuilder`].
    pub fn builder() -> TcpListenerBuilder {
        TcpListenerBuilder {
            reuse_port: false,
            only_v6: None,
            backlog: BACKLOG,
        }
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
        self.socket.accept(convert).await
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

    /// Sets how many hops the packets of its connections may make (`IP_TTL`): of those
    /// that it accepts from now on.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::TcpListener};
    /// # block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// listener.set_ttl(64)?;
    /// assert_eq!(listener.ttl()?, 64);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.get_ref().set_ttl(ttl).setting("the TTL", ttl)
    }

    forward_to_std! {
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
        pub fn local_addr(&self) -> io::Result<SocketAddr>;

        /// How many hops the packets of its connections may make (`IP_TTL`).
        ///
        /// # Errors
        ///
        /// If the system cannot tell.
        ///
        /// # Examples
        ///
        /// See [`set_ttl`](TcpListener::set_ttl).
        pub fn ttl(&self) -> io::Result<u32>;

        /// The error that waits for the listener, if there is one; after that it is gone.
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
        /// assert!(listener.take_error()?.is_none());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn take_error(&self) -> io::Result<Option<io::Error>>;
    }
}

impl_socket!(
    TcpListener, std::net::TcpListener, "`TcpListener::bind`",
    from_std: Acceptor::new, into_std: identity
);

fn convert(stream: socket2::Socket, peer: SockAddr) -> io::Result<(TcpStream, SocketAddr)> {
    // Some systems return no address if the connection is gone already.
    let peer = peer.as_socket().ok_or(io::ErrorKind::ConnectionAborted)?;
    let stream = TcpStream::from_nonblocking(stream.into(), ACCEPTING)?;
    Ok((stream, peer))
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
        let listener = &self.listener.socket;
        let accepted = ready!(listener.poll_accept(cx, &mut self.pause, convert));
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }
}

/// Connections that wait to be accepted: the system takes less if that is too many.
/// std's 128 overflow when a tool opens a thousand at once.
const BACKLOG: u32 = 4096;

/// Settings of a [`TcpListener`] that must be made before it is there.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, net::TcpListener};
///
/// block_on(async {
///     let listener = TcpListener::builder().backlog(16).bind("127.0.0.1:0").await?;
///     println!("listening at {}", listener.local_addr()?);
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `bind` to make the listener"]
pub struct TcpListenerBuilder {
    reuse_port: bool,
    only_v6: Option<bool>,
    backlog: u32,
}

impl TcpListenerBuilder {
    /// Whether other sockets of this user may listen at the same address, if they say
    /// so, too (`SO_REUSEPORT`). By default they may not.
    ///
    /// Linux shares the connections out among them: one listener for each thread or
    /// process. Elsewhere all of them may go to one. Where the system does not have it,
    /// [`bind`](TcpListenerBuilder::bind) fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use soloist::{block_on, net::TcpListener};
    ///
    /// block_on(async {
    ///     let builder = TcpListener::builder().reuse_port(true);
    ///     let one = builder.clone().bind("127.0.0.1:0").await?;
    ///     let _other = builder.bind(one.local_addr()?).await?;
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reuse_port(mut self, reuse: bool) -> TcpListenerBuilder {
        self.reuse_port = reuse;
        self
    }

    /// How many connections may wait to be accepted; 4096 by default. The system takes
    /// less if that is too many for it (on Linux, `net.core.somaxconn`).
    ///
    /// # Examples
    ///
    /// See [`TcpListenerBuilder`].
    pub fn backlog(mut self, connections: u32) -> TcpListenerBuilder {
        self.backlog = connections;
        self
    }

    /// Whether a listener at an IPv6 address takes no IPv4 connections (`IPV6_V6ONLY`).
    /// By default the system decides; Linux lets `[::]` take both.
    ///
    /// It says nothing to a listener at an IPv4 address.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use soloist::{block_on, net::TcpListener};
    ///
    /// block_on(async {
    ///     let all_v4 = TcpListener::bind("0.0.0.0:8080").await?;
    ///     let all_v6 = TcpListener::builder().only_v6(true).bind("[::]:8080").await?;
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn only_v6(mut self, only: bool) -> TcpListenerBuilder {
        self.only_v6 = Some(only);
        self
    }

    /// Listens at the first of the addresses that is free.
    ///
    /// # Errors
    ///
    /// As for [`TcpListener::bind`]; and if the system does not have what was asked for.
    ///
    /// # Cancel safety
    ///
    /// As for [`TcpListener::bind`].
    ///
    /// # Examples
    ///
    /// See [`TcpListenerBuilder`].
    pub async fn bind(self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let listen = |address| self.listen(address);
        TcpListener::try_from(try_each(resolve(address).await?, "listening at", listen)?)
    }

    fn listen(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        // Like std. On Windows the option would let another process take over the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        if self.reuse_port {
            set_reuse_port(&socket)?;
        }
        if let (Some(only), SocketAddr::V6(_)) = (self.only_v6, address) {
            socket.set_only_v6(only)?;
        }
        socket.bind(&SockAddr::from(address))?;
        socket.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    }
}

#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
fn set_reuse_port(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos")))))]
fn set_reuse_port(_: &socket2::Socket) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system has no `SO_REUSEPORT`",
    ))
}
