//! UDP sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::inner;
use super::resolve::{ToSocketAddrs, resolve};
use super::{ErrorContext, IntoStdError, try_each};
use crate::socket::Socket;

/// A UDP socket.
///
/// Each call sends or receives one whole datagram. A datagram may be empty, so 0 bytes do not
/// mean the end of a stream. A clone is another handle to the same socket, so one task can
/// receive while another sends.
///
/// # Datagrams that are longer than the buffer
///
/// The buffer receives the beginning, and **the rest is lost** without an error. Use a buffer
/// that is longer than the datagrams you expect (65,535 bytes hold every datagram). On Windows
/// the receive fails instead, and the datagram is lost as well.
///
/// # Errors from the network
///
/// If a datagram of a connected socket finds no receiver, a later call may return
/// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) (on Windows, `ConnectionReset`). The
/// socket remains usable, so a receive loop should continue after an error. Sockets that are not
/// connected get no such errors.
///
/// # Cancel safety
///
/// A receive that is dropped before it completes has consumed no datagram. A send has sent none.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, net::UdpSocket, spawn};
///
/// block_on(async {
///     let server = UdpSocket::bind("127.0.0.1:0").await?;
///     let address = server.local_addr()?;
///     let echo = spawn(async move {
///         let mut buf = [0; 1500];
///         let (n, from) = server.recv_from(&mut buf).await?;
///         server.send_to(&buf[..n], from).await
///     });
///     let client = UdpSocket::bind("127.0.0.1:0").await?;
///     client.send_to(b"hello", address).await?;
///     let mut buf = [0; 1500];
///     let (n, from) = client.recv_from(&mut buf).await?;
///     assert_eq!((&buf[..n], from), (&b"hello"[..], address));
///     echo.await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UdpSocket {
    socket: Socket<inner::UdpSocket>,
}

impl UdpSocket {
    /// Binds a socket to the first of the addresses that is free. With port 0 the system chooses
    /// a port.
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
    /// # use soloist::{block_on, net::UdpSocket};
    /// # block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        let socket = try_each(resolve(address).await?, "binding to", inner::bind_udp)?;
        let socket = inner::new_socket(socket, "`UdpSocket::bind`")?;
        Ok(UdpSocket { socket })
    }

    /// Connects the socket: [`send`](Self::send) sends to this address, and [`recv`](Self::recv)
    /// receives from this address only. Of several addresses, the first that works is used.
    /// Nothing is sent. The socket can be connected again, to another address.
    ///
    /// # Errors
    ///
    /// Returns the last error, which names its address, if none of the addresses works.
    ///
    /// # Cancel safety
    ///
    /// Only the look-up of a host name waits. The socket is connected after that.
    ///
    /// # Examples
    ///
    /// See [`send`](Self::send).
    pub async fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        let connect = |address: SocketAddr| self.get_ref().connect(address);
        try_each(resolve(address).await?, "connecting to", connect)
    }

    operations! {
        /// Sends a datagram to the connected address, and returns its length.
        ///
        /// # Errors
        ///
        /// Returns an error if the socket is not connected, if the datagram is too long, if the
        /// network reports an error of an earlier datagram (see [`UdpSocket`]), and outside of a
        /// runtime.
        ///
        /// # Cancel safety
        ///
        /// If the future is dropped before it completes, nothing has been sent.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::UdpSocket};
        /// # block_on(async {
        /// let one = UdpSocket::bind("127.0.0.1:0").await?;
        /// let other = UdpSocket::bind("127.0.0.1:0").await?;
        /// one.connect(other.local_addr()?).await?;
        /// other.connect(one.local_addr()?).await?;
        /// assert_eq!(one.send(b"hello").await?, 5);
        /// let mut buf = [0; 1500];
        /// let n = other.recv(&mut buf).await?;
        /// assert_eq!(&buf[..n], b"hello");
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn send, try_send, poll_send(&self, buf: &[u8]) -> usize
            = Write, |io| io.send(buf);

        /// Receives a datagram from the connected address, and returns its length. Bytes that do not
        /// fit into the buffer are lost; see [`UdpSocket`].
        ///
        /// # Errors
        ///
        /// Returns an error if the network reports an error of an earlier datagram (see
        /// [`UdpSocket`]), and outside of a runtime.
        ///
        /// # Cancel safety
        ///
        /// No datagram is lost.
        ///
        /// # Examples
        ///
        /// See [`send`](Self::send).
        pub fn recv, try_recv, poll_recv(&self, buf: &mut [u8]) -> usize
            = Read, |io| io.recv(buf);
    }

    /// Sends a datagram to the first of the addresses, and returns its length.
    ///
    /// # Errors
    ///
    /// Returns an error if the datagram is too long, if the address is of the other family, for a
    /// broadcast without [`set_broadcast`](Self::set_broadcast), and outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing has been sent.
    ///
    /// # Examples
    ///
    /// See [`UdpSocket`].
    pub async fn send_to(&self, buf: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        let to = resolve(address).await?[0];
        self.socket.write_with(|io| io.send_to(buf, to)).await
    }

    operations!(
        @without_waiting
        send_to, try_send_to, poll_send_to(&self, buf: &[u8], address: SocketAddr) -> usize
            = Write, |io| io.send_to(buf, address)
    );

    operations! {
        /// Receives a datagram, and returns its length and the address of its sender. Bytes that do
        /// not fit into the buffer are lost; see [`UdpSocket`].
        ///
        /// # Errors
        ///
        /// Returns an error if the system is out of memory, and outside of a runtime. For a connected
        /// socket, also the errors of [`recv`](Self::recv).
        ///
        /// # Cancel safety
        ///
        /// No datagram is lost.
        ///
        /// # Examples
        ///
        /// See [`UdpSocket`].
        pub fn recv_from, try_recv_from, poll_recv_from(&self, buf: &mut [u8]) -> (usize, SocketAddr)
            = Read, |io| ignore_reset(io.recv_from(buf));

        /// Like [`recv`](Self::recv), but does not consume the datagram.
        ///
        /// # Errors
        ///
        /// The same as for [`recv`](Self::recv).
        ///
        /// # Cancel safety
        ///
        /// Nothing is lost.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::UdpSocket};
        /// # block_on(async {
        /// # let socket = UdpSocket::bind("127.0.0.1:0").await?;
        /// # socket.connect(socket.local_addr()?).await?;
        /// socket.send(b"hello").await?;
        /// let mut buf = [0; 1500];
        /// assert_eq!(socket.peek(&mut buf).await?, 5);
        /// assert_eq!(socket.recv(&mut buf).await?, 5);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn peek, try_peek, poll_peek(&self, buf: &mut [u8]) -> usize
            = Read, |io| io.peek(buf);

        /// Like [`recv_from`](Self::recv_from), but does not consume the datagram.
        ///
        /// # Errors
        ///
        /// The same as for [`recv_from`](Self::recv_from).
        ///
        /// # Cancel safety
        ///
        /// Nothing is lost.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::UdpSocket};
        /// # block_on(async {
        /// # let socket = UdpSocket::bind("127.0.0.1:0").await?;
        /// # let address = socket.local_addr()?;
        /// socket.send_to(b"hello", address).await?;
        /// let mut buf = [0; 1500];
        /// assert_eq!(socket.peek_from(&mut buf).await?, (5, address));
        /// assert_eq!(socket.recv_from(&mut buf).await?, (5, address));
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn peek_from, try_peek_from, poll_peek_from(&self, buf: &mut [u8]) -> (usize, SocketAddr)
            = Read, |io| ignore_reset(io.peek_from(buf));
    }

    /// Joins an IPv4 multicast group. `interface` is an address of the interface to receive on.
    /// With [`UNSPECIFIED`](Ipv4Addr::UNSPECIFIED) the system chooses one.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is not a group, if there is no such interface, and if the
    /// socket is in the group already.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::net::Ipv4Addr;
    /// # use soloist::{block_on, net::UdpSocket};
    /// # block_on(async {
    /// let socket = UdpSocket::bind("0.0.0.0:0").await?;
    /// let group = Ipv4Addr::new(224, 0, 0, 123);
    /// socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// socket.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        let result = self.get_ref().join_multicast_v4(group, interface);
        result.context("joining the group", group)
    }

    /// Leaves an IPv4 multicast group.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket is not in the group on that interface.
    ///
    /// # Examples
    ///
    /// See [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        let result = self.get_ref().leave_multicast_v4(group, interface);
        result.context("leaving the group", group)
    }

    /// Joins an IPv6 multicast group. `interface` is the index of the interface to receive on.
    /// With 0 the system chooses one.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is not a group, if there is no such interface, if the
    /// socket is in the group already, and for an IPv4 socket.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::net::Ipv6Addr;
    /// # use soloist::{block_on, net::UdpSocket};
    /// # block_on(async {
    /// let socket = UdpSocket::bind("[::]:5353").await?;
    /// let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
    /// socket.join_multicast_v6(&group, 0)?;
    /// socket.leave_multicast_v6(&group, 0)?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        let result = self.get_ref().join_multicast_v6(group, interface);
        result.context("joining the group", group)
    }

    /// Leaves an IPv6 multicast group.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket is not in the group on that interface.
    ///
    /// # Examples
    ///
    /// See [`join_multicast_v6`](Self::join_multicast_v6).
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        let result = self.get_ref().leave_multicast_v6(group, interface);
        result.context("leaving the group", group)
    }

    /// Sets the number of hops that packets to IPv4 groups may make (`IP_MULTICAST_TTL`). With 1,
    /// the default, they stay in the local network.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses the value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::UdpSocket};
    /// # block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// assert_eq!(socket.multicast_ttl_v4()?, 1);
    /// socket.set_multicast_ttl_v4(4)?;
    /// assert_eq!(socket.multicast_ttl_v4()?, 4);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        let result = self.get_ref().set_multicast_ttl_v4(ttl);
        result.setting("the TTL of multicasts", ttl)
    }

    /// Sets the number of hops that the packets of this socket may make (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses the value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::UdpSocket};
    /// # block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.set_ttl(64)?;
    /// assert_eq!(socket.ttl()?, 64);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.get_ref().set_ttl(ttl).setting("the TTL", ttl)
    }

    forward_to_std! {
        /// Returns the address that the socket is bound to.
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// See [`bind`](Self::bind).
        pub fn local_addr(&self) -> io::Result<SocketAddr>;

        /// Returns the address that the socket is connected to.
        ///
        /// # Errors
        ///
        /// Returns an error if the socket is not connected.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::UdpSocket};
        /// # block_on(async {
        /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
        /// assert!(socket.peer_addr().is_err());
        /// socket.connect("127.0.0.1:53").await?;
        /// assert_eq!(socket.peer_addr()?.port(), 53);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn peer_addr(&self) -> io::Result<SocketAddr>;

        /// Returns whether the socket may send to broadcast addresses (`SO_BROADCAST`).
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// See [`set_broadcast`](Self::set_broadcast).
        pub fn broadcast(&self) -> io::Result<bool>;

        /// Sets whether the socket may send to broadcast addresses (`SO_BROADCAST`). Otherwise
        /// such a send fails with [`PermissionDenied`](io::ErrorKind::PermissionDenied).
        ///
        /// # Errors
        ///
        /// Returns an error if the system refuses the value.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::UdpSocket};
        /// # block_on(async {
        /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
        /// assert!(!socket.broadcast()?);
        /// socket.set_broadcast(true)?;
        /// assert!(socket.broadcast()?);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()>;

        /// Returns whether datagrams to IPv4 groups are also received on this machine
        /// (`IP_MULTICAST_LOOP`).
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// See [`set_multicast_loop_v4`](Self::set_multicast_loop_v4).
        pub fn multicast_loop_v4(&self) -> io::Result<bool>;

        /// Sets whether datagrams to IPv4 groups are also received on this machine
        /// (`IP_MULTICAST_LOOP`). On Windows the option is one of the receiver.
        ///
        /// # Errors
        ///
        /// Returns an error if the system refuses the value.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::UdpSocket};
        /// # block_on(async {
        /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
        /// assert!(socket.multicast_loop_v4()?);
        /// socket.set_multicast_loop_v4(false)?;
        /// assert!(!socket.multicast_loop_v4()?);
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()>;

        /// Returns the number of hops that packets to IPv4 groups may make (`IP_MULTICAST_TTL`).
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// See [`set_multicast_ttl_v4`](Self::set_multicast_ttl_v4).
        pub fn multicast_ttl_v4(&self) -> io::Result<u32>;

        /// Returns whether datagrams to IPv6 groups are also received on this machine
        /// (`IPV6_MULTICAST_LOOP`).
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails, as for an IPv4 socket.
        ///
        /// # Examples
        ///
        /// See [`set_multicast_loop_v6`](Self::set_multicast_loop_v6).
        pub fn multicast_loop_v6(&self) -> io::Result<bool>;

        /// Sets whether datagrams to IPv6 groups are also received on this machine
        /// (`IPV6_MULTICAST_LOOP`). On Windows the option is one of the receiver.
        ///
        /// # Errors
        ///
        /// Returns an error if the system refuses the value, as for an IPv4 socket.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # use soloist::{block_on, net::UdpSocket};
        /// # block_on(async {
        /// let socket = UdpSocket::bind("[::1]:0").await?;
        /// assert!(socket.multicast_loop_v6()?);
        /// socket.set_multicast_loop_v6(false)?;
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()>;

        /// Returns the number of hops that the packets of this socket may make (`IP_TTL`).
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// See [`set_ttl`](Self::set_ttl).
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
        /// # use soloist::{block_on, net::UdpSocket};
        /// # block_on(async {
        /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
        /// assert!(socket.take_error()?.is_none());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn take_error(&self) -> io::Result<Option<io::Error>>;
    }
}

impl_socket!(
    UdpSocket(inner::UdpSocket), std::net::UdpSocket, "`UdpSocket::bind`",
    from_std: inner::adopt,
    into_std: inner::into_system
);

/// Tries a receive again that failed because an earlier datagram found no receiver.
///
/// Windows reports that to sockets that are not connected, too, and does not say which datagram
/// it was. Other systems ignore it.
fn ignore_reset<R>(received: io::Result<R>) -> io::Result<R> {
    match received {
        Err(error) if cfg!(windows) && error.kind() == io::ErrorKind::ConnectionReset => {
            Err(io::ErrorKind::Interrupted.into())
        }
        received => received,
    }
}
