//! Opening a TCP connection, and the options that it has from the beginning.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockAddr;

use super::{TcpStream, system_socket};
use crate::net::connect::first_to_connect;
use crate::net::inner;
use crate::net::sigpipe::NoSigpipe;
use crate::net::{ErrorContext, ToSocketAddrs, resolve};
use crate::reactor::Direction;

impl TcpStream {
    /// Opens a connection.
    ///
    /// If there are several addresses, they are tried concurrently (Happy Eyeballs, RFC 8305).
    /// The address families alternate. The next attempt starts 250 ms after the last one, or at
    /// once when an attempt fails. The first connection is used, and the other attempts are
    /// closed.
    ///
    /// # Errors
    ///
    /// Returns one error that lists every attempt if none of them succeeds. Returns an error if
    /// the host name is not known (see [`resolve`]), and outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, all attempts are closed.
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
        TcpStream::builder().connect(address).await
    }

    /// Returns a builder, for options that must be set before the connection is opened: the local
    /// address, and the sizes of its buffers.
    ///
    /// # Examples
    ///
    /// See [`TcpStreamBuilder`].
    pub fn builder() -> TcpStreamBuilder {
        TcpStreamBuilder::default()
    }

    async fn connect_to(address: SocketAddr, options: &TcpStreamBuilder) -> io::Result<TcpStream> {
        let stream = options.open(address)?;
        // Fails outside of a runtime, before anything is sent to the peer.
        let socket = inner::new_socket(stream, "`TcpStream::connect`")?;
        let stream = TcpStream { socket };
        options.set(&stream)?;
        match stream.get_ref().start_to_connect(address) {
            Err(error) if is_in_progress(&error) => stream.wait_until_connected().await?,
            result => result?,
        }
        Ok(stream)
    }

    /// Waits until the connection is established or has failed.
    ///
    /// A readiness event can be spurious. So the socket is asked: if it has a peer, it is
    /// connected, and if it has neither a peer nor an error, the wait goes on.
    async fn wait_until_connected(&self) -> io::Result<()> {
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
}

builder! {
    /// Options of a [`TcpStream`] that are set before the connection is opened.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, net::{TcpListener, TcpStream}};
    ///
    /// block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let stream = TcpStream::builder()
    ///         .bind("127.0.0.1:0".parse().unwrap())
    ///         .nodelay(true)
    ///         .recv_buffer_size(1 << 20)
    ///         .connect(listener.local_addr()?)
    ///         .await?;
    ///     assert!(stream.nodelay()?);
    ///     let (_, from) = listener.accept().await?;
    ///     assert_eq!(from, stream.local_addr()?);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "call `connect` to open the connection"]
    pub struct TcpStreamBuilder {
        /// Sets the local address. With port 0 the system chooses a port. Of the addresses to
        /// connect to, only those of the same family can be reached from it.
        ///
        /// # Examples
        ///
        /// See [`TcpStreamBuilder`].
        pub fn bind(local: SocketAddr);

        /// Sets whether the local address may be one that an earlier connection has used shortly
        /// before (`SO_REUSEADDR`). The default is `false`. On Windows it may even be one that
        /// another socket uses now.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # use soloist::{block_on, net::TcpStream};
        /// # block_on(async {
        /// let builder = TcpStream::builder().bind(([0, 0, 0, 0], 1023).into()).reuse_address(true);
        /// let stream = builder.connect("example.com:513").await?;
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn reuse_address(reuse: bool);

        /// Sets whether small writes are sent at once. See
        /// [`TcpStream::set_nodelay`](TcpStream::set_nodelay).
        ///
        /// # Examples
        ///
        /// See [`TcpStreamBuilder`].
        pub fn nodelay(nodelay: bool);

        /// Sets the size of the buffer for received bytes (`SO_RCVBUF`). Linux doubles the number.
        /// By default the system adapts the size. It limits how many bytes the peer sends ahead,
        /// which the ends negotiate when the connection is opened.
        ///
        /// # Examples
        ///
        /// See [`TcpStreamBuilder`].
        pub fn recv_buffer_size(size: usize);

        /// Sets the size of the buffer for bytes to be sent (`SO_SNDBUF`). Linux doubles the
        /// number. By default the system adapts the size.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        /// # let listener = TcpListener::bind(address).await?;
        /// let stream = TcpStream::builder().send_buffer_size(1 << 16).connect(address).await?;
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn send_buffer_size(size: usize);

        /// Sets the number of hops that the packets may make, also those that open the connection
        /// (`IP_TTL`).
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let stream = TcpStream::builder().ttl(4).connect(listener.local_addr()?).await?;
        /// assert_eq!(stream.ttl()?, 4);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn ttl(ttl: u32);

        /// Sets the type of service of the packets (`IP_TOS`). It has no effect on a connection to
        /// an IPv6 address. On systems without this option,
        /// [`connect`](TcpStreamBuilder::connect) fails.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// // Low delay.
        /// let stream = TcpStream::builder().tos(0x10).connect(listener.local_addr()?).await?;
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn tos(tos: u32);

        /// Makes the system probe the peer when the connection has been idle for this time. See
        /// [`TcpStream::set_keepalive`](TcpStream::set_keepalive).
        ///
        /// # Examples
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// # let address = listener.local_addr()?;
        /// let minute = Duration::from_secs(60);
        /// let stream = TcpStream::builder().keepalive(minute).connect(address).await?;
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn keepalive(after: Duration);

        /// Sets how long a drop waits for unsent bytes. **It blocks the thread**, or resets the
        /// connection: see [`TcpStream::set_linger`](TcpStream::set_linger).
        ///
        /// # Examples
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use soloist::{block_on, net::{TcpListener, TcpStream}};
        /// # block_on(async {
        /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// # let address = listener.local_addr()?;
        /// // A drop resets the connection.
        /// let stream = TcpStream::builder().linger(Duration::ZERO).connect(address).await?;
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn linger(linger: Duration);
    }
}

impl TcpStreamBuilder {
    /// Opens a connection with these options. Several addresses are tried as in
    /// [`TcpStream::connect`], each with a socket of its own.
    ///
    /// # Errors
    ///
    /// The same as for [`TcpStream::connect`]. An attempt also fails if the system refuses an
    /// option, or if the local address is in use or of the other family.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`TcpStream::connect`].
    ///
    /// # Examples
    ///
    /// See [`TcpStreamBuilder`].
    pub async fn connect(self, address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let connect = |address| TcpStream::connect_to(address, &self);
        first_to_connect(resolve(address).await?, connect).await
    }

    /// A stream that is not connected yet. A simulated one has only the option `bind`.
    fn open(&self, address: SocketAddr) -> io::Result<inner::TcpStream> {
        Ok(inner::make!(
            |process| process.open_stream(address, self.bind)?,
            NoSigpipe::new(self.open_on_system(address)?.into())
        ))
    }

    fn open_on_system(&self, address: SocketAddr) -> io::Result<socket2::Socket> {
        let socket = system_socket(address, self.recv_buffer_size, self.send_buffer_size)?;
        socket.set_nonblocking(true)?;
        if let (Some(tos), SocketAddr::V4(_)) = (self.tos, address) {
            set_tos(&socket, tos).setting("the type of service", tos)?;
        }
        if let Some(reuse) = self.reuse_address {
            socket.set_reuse_address(reuse)?;
        }
        if let Some(local) = self.bind {
            let bound = socket.bind(&SockAddr::from(local));
            bound.context("binding to", local)?;
        }
        Ok(socket)
    }

    /// Sets the options that can also be set later.
    fn set(&self, stream: &TcpStream) -> io::Result<()> {
        if let Some(nodelay) = self.nodelay {
            stream.set_nodelay(nodelay)?;
        }
        if let Some(ttl) = self.ttl {
            stream.set_ttl(ttl)?;
        }
        if self.keepalive.is_some() {
            stream.set_keepalive(self.keepalive)?;
        }
        if self.linger.is_some() {
            stream.set_linger(self.linger)?;
        }
        Ok(())
    }
}

fn set_tos(_socket: &socket2::Socket, _tos: u32) -> io::Result<()> {
    #[cfg(not(any(target_os = "haiku", target_os = "redox", target_os = "solaris")))]
    return _socket.set_tos_v4(_tos);
    #[cfg(any(target_os = "haiku", target_os = "redox", target_os = "solaris"))]
    return crate::net::unsupported("IP_TOS");
}

/// Whether a nonblocking connect has been started and goes on in the background.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    return rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS);
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::WouldBlock;
}
