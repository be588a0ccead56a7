//! TCP listeners.

use std::io;
use std::net::SocketAddr;

use socket2::SockAddr;

use super::{TcpStream, system_socket};
use crate::net::accept::{ACCEPTING, Acceptor};
use crate::net::inner;
use crate::net::{ErrorContext, IntoStdError, ToSocketAddrs, resolve, try_each};

/// Accepts TCP connections.
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
    socket: Acceptor<inner::TcpListener>,
}

impl TcpListener {
    /// Listens on the first of the addresses that is free. With port 0 the system chooses a port.
    ///
    /// # Errors
    ///
    /// Returns the last error, which names its address, if none of the addresses could be bound.
    /// Returns an error outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// Only the look-up of a host name waits. The socket is bound after that.
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

    /// Returns a builder, for options that must be set before the listener exists: the length of
    /// its queue, and whether other sockets may listen on the same port.
    ///
    /// # Examples
    ///
    /// See [`TcpListenerBuilder`].
    pub fn builder() -> TcpListenerBuilder {
        TcpListenerBuilder::default()
    }

    /// Sets the number of hops that the packets of its connections may make (`IP_TTL`).
    /// Connections that have been accepted before keep their value.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses the value.
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
        /// Returns the address that it listens on.
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
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

        /// Returns the number of hops that the packets of its connections may make (`IP_TTL`).
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// See [`set_ttl`](TcpListener::set_ttl).
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
    TcpListener(inner::TcpListener), std::net::TcpListener, "`TcpListener::bind`",
    from_std: |listener, what| inner::adopt(listener, what).map(Acceptor::new),
    into_std: inner::into_system
);

fn accept(listener: &inner::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = inner::accept(listener)?;
    let socket = inner::new_socket(stream, ACCEPTING)?;
    Ok((TcpStream { socket }, peer))
}

impl_listener!(
    TcpListener, TcpStream, SocketAddr,
    /// ```
    /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
    /// use soloist::stream::StreamExt;
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
);

/// The length of the queue. The system reduces a number that it does not support. std's 128 is
/// too short for a tool that opens a thousand connections at once.
const BACKLOG: u32 = 4096;

builder! {
    /// Options of a [`TcpListener`] that must be set before it exists.
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
    #[must_use = "call `bind` to make the listener"]
    pub struct TcpListenerBuilder {
        /// Sets whether other sockets of this user may listen on the same address, if they set this
        /// option, too (`SO_REUSEPORT`). The default is `false`.
        ///
        /// Linux distributes the connections among them, so each thread or process can have a
        /// listener. Other systems may give all connections to one of them. On systems without this
        /// option, [`bind`](TcpListenerBuilder::bind) fails.
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
        pub fn reuse_port(reuse: bool);

        /// Sets how many connections may wait to be accepted. The default is 4096. The system may
        /// reduce the number (on Linux to `net.core.somaxconn`).
        ///
        /// # Examples
        ///
        /// See [`TcpListenerBuilder`].
        pub fn backlog(connections: u32);

        /// Sets whether a listener on an IPv6 address refuses IPv4 connections (`IPV6_V6ONLY`). The
        /// default is that of the system. On Linux `[::]` accepts both.
        ///
        /// It has no effect on a listener on an IPv4 address.
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
        pub fn only_v6(only: bool);

        /// Sets the size of the buffers for received bytes that the connections have
        /// (`SO_RCVBUF`). Linux doubles the number. By default the system adapts the size.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::TcpListener};
        /// # block_on(async {
        /// let builder = TcpListener::builder().recv_buffer_size(1 << 20).send_buffer_size(1 << 20);
        /// let listener = builder.bind("127.0.0.1:0").await?;
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn recv_buffer_size(size: usize);

        /// Sets the size of the buffers for bytes to be sent that the connections have (`SO_SNDBUF`).
        /// Linux doubles the number. By default the system adapts the size.
        ///
        /// # Examples
        ///
        /// See [`recv_buffer_size`](TcpListenerBuilder::recv_buffer_size).
        pub fn send_buffer_size(size: usize);
    }
}

impl TcpListenerBuilder {
    /// Listens on the first of the addresses that is free.
    ///
    /// # Errors
    ///
    /// The same as for [`TcpListener::bind`]. Returns an error if the system does not support an
    /// option.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`TcpListener::bind`].
    ///
    /// # Examples
    ///
    /// See [`TcpListenerBuilder`].
    pub async fn bind(self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let listen = |address| self.listen(address);
        let listener = try_each(resolve(address).await?, "listening at", listen)?;
        let socket = Acceptor::new(inner::new_socket(listener, "`TcpListener::bind`")?);
        Ok(TcpListener { socket })
    }

    // Without the feature `testing` the macro is its second expression.
    #[cfg_attr(not(feature = "testing"), expect(clippy::needless_question_mark))]
    fn listen(&self, address: SocketAddr) -> io::Result<inner::TcpListener> {
        Ok(inner::make!(
            |process| {
                let (only_v6, reuse_port) =
                    (self.only_v6 == Some(true), self.reuse_port == Some(true));
                process.listen(
                    address,
                    self.backlog.unwrap_or(BACKLOG),
                    only_v6,
                    reuse_port,
                )?
            },
            self.listen_on_system(address)?
        ))
    }

    fn listen_on_system(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let socket = system_socket(address, self.recv_buffer_size, self.send_buffer_size)?;
        // Like std. On Windows the option would let another process take over the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        if self.reuse_port == Some(true) {
            set_reuse_port(&socket)?;
        }
        if let (Some(only), SocketAddr::V6(_)) = (self.only_v6, address) {
            socket.set_only_v6(only)?;
        }
        socket.bind(&SockAddr::from(address))?;
        let backlog = self.backlog.unwrap_or(BACKLOG);
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }
}

fn set_reuse_port(_socket: &socket2::Socket) -> io::Result<()> {
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    return _socket.set_reuse_port(true);
    #[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos")))))]
    return crate::net::unsupported("SO_REUSEPORT");
}
