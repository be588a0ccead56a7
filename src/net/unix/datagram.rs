//! Unix datagram sockets.

use std::convert::identity;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use super::{Backoff, address_of, display};
use crate::executor;
use crate::net::{ErrorContext, IntoStdError};
use crate::reactor::Direction;
use crate::socket::Socket;

/// A socket for datagrams between processes on one machine. Datagrams are delivered reliably and
/// in order.
///
/// Each call sends or receives one whole datagram. A datagram can be empty: a length of 0 does not
/// mean the end of a stream. A clone is another handle to the same socket, so one task can receive
/// while another sends.
///
/// A datagram that is longer than the receive buffer is truncated: **the rest is discarded**,
/// without an error.
///
/// # Slow receivers
///
/// The queue of a receiver is short: 10 datagrams by default on Linux
/// (`net.unix.max_dgram_qlen`). While the queue is full, [`send`](UnixDatagram::send) waits until
/// the system reports space in it. The system does not report this for the queues of other
/// sockets than the connected peer, so [`send_to`](UnixDatagram::send_to) tries again: after one
/// millisecond, and then after pauses that grow to 64 ms. On systems other than Linux, sending to
/// a full queue fails with `ENOBUFS` instead.
///
/// # Cancel safety
///
/// A receive that is dropped before it completes has received nothing, and a send has sent
/// nothing.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, net::unix::UnixDatagram};
///
/// # let dir = std::env::temp_dir().join(format!("soloist-doc-datagram-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let path = dir.join("log");
/// block_on(async {
///     let _ = std::fs::remove_file(&path);
///     let log = UnixDatagram::bind(&path)?;
///     let program = UnixDatagram::unbound()?;
///     program.send_to(b"hello", &path).await?;
///     let mut buf = [0; 1500];
///     let (n, from) = log.recv_from(&mut buf).await?;
///     assert_eq!(&buf[..n], b"hello");
///     assert!(from.is_unnamed());
///     std::fs::remove_file(&path)
/// })?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixDatagram {
    socket: Socket<net::UnixDatagram>,
}

impl UnixDatagram {
    /// Creates a socket, and binds it to a path. This creates a file, which is not removed when the
    /// socket is closed.
    ///
    /// # Errors
    ///
    /// Returns an error that names the path: `AddrInUse` if the file exists, `NotFound` if the
    /// directory does not exist, `InvalidInput` if the path is too long for a socket address.
    /// Also returns an error outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_addr(&address_of(BINDING, path.as_ref())?)
    }

    /// Creates a socket, and binds it to an address: a path or, on Linux, an abstract name.
    ///
    /// # Errors
    ///
    /// The same as for [`bind`](UnixDatagram::bind).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    /// use soloist::{block_on, net::unix::UnixDatagram};
    ///
    /// block_on(async {
    ///     let name = format!("soloist-example-{}", std::process::id());
    ///     let address = SocketAddr::from_abstract_name(name)?;
    ///     let receiver = UnixDatagram::bind_addr(&address)?;
    ///     let sender = UnixDatagram::unbound()?;
    ///     sender.send_to_addr(b"hello", &address).await?;
    ///     assert_eq!(receiver.recv(&mut [0; 8]).await?, 5);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixDatagram> {
        // Checked before binding, which creates a file.
        executor::inside_or_error("`UnixDatagram::bind`")?;
        let socket = net::UnixDatagram::bind_addr(address);
        UnixDatagram::try_from(socket.context(BINDING, display(address))?)
    }

    /// Creates a socket without an address. It can send, but not be replied to.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has no file descriptors left, and outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::try_from(net::UnixDatagram::unbound()?)
    }

    /// Creates two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has no file descriptors left, and outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`send`](UnixDatagram::send).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::try_from(one)?, UnixDatagram::try_from(other)?))
    }

    /// Connects to the socket at a path. After that, [`send`](UnixDatagram::send) sends to it, and
    /// only its datagrams are received. It can be called again, to connect to another socket.
    ///
    /// # Errors
    ///
    /// Returns an error that names the path: `NotFound` if there is no file, `ConnectionRefused`
    /// if the file is not a socket, or if no process has bound it any more.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::unix::UnixDatagram};
    /// # let dir = std::env::temp_dir().join(format!("soloist-doc-dgconn-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// # let path = dir.join("log");
    /// # let _ = std::fs::remove_file(&path);
    /// # block_on(async {
    /// let log = UnixDatagram::bind(&path)?;
    /// let program = UnixDatagram::unbound()?;
    /// program.connect(&path)?;
    /// program.send(b"hello").await?;
    /// assert_eq!(log.recv(&mut [0; 8]).await?, 5);
    /// # Ok::<(), std::io::Error>(()) })?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&address_of(CONNECTING, path.as_ref())?)
    }

    /// Connects to an address, like [`connect`](UnixDatagram::connect): a path or, on Linux, an
    /// abstract name.
    ///
    /// # Errors
    ///
    /// The same as for [`connect`](UnixDatagram::connect).
    ///
    /// # Examples
    ///
    /// See [`connect`](UnixDatagram::connect), and [`bind_addr`](UnixDatagram::bind_addr).
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        let connected = self.get_ref().connect_addr(address);
        connected.context(CONNECTING, display(address))
    }

    operations! {
        /// Sends a datagram to the connected socket, and returns its length.
        ///
        /// # Errors
        ///
        /// Returns an error if the socket is not connected, if the other socket has been closed
        /// (`ConnectionRefused`), if the datagram is too long, and outside of a runtime.
        ///
        /// # Cancel safety
        ///
        /// If the future is dropped before it completes, nothing has been sent.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::unix::UnixDatagram};
        /// # block_on(async {
        /// let (one, other) = UnixDatagram::pair()?;
        /// assert_eq!(one.send(b"hello").await?, 5);
        /// let mut buf = [0; 1500];
        /// let n = other.recv(&mut buf).await?;
        /// assert_eq!(&buf[..n], b"hello");
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn send, try_send, poll_send(&self, buf: &[u8]) -> usize
            = Write, |io| io.send(buf);

        /// Receives a datagram, and returns its length. Bytes that do not fit into the buffer are
        /// discarded.
        ///
        /// # Errors
        ///
        /// Returns an error outside of a runtime.
        ///
        /// # Cancel safety
        ///
        /// No datagram is lost.
        ///
        /// # Examples
        ///
        /// See [`send`](UnixDatagram::send).
        pub fn recv, try_recv, poll_recv(&self, buf: &mut [u8]) -> usize
            = Read, |io| io.recv(buf);
    }

    /// Sends a datagram to the socket at a path, and returns its length. While the receiver's queue
    /// is full, it tries again from time to time, as described for [`UnixDatagram`].
    ///
    /// # Errors
    ///
    /// Returns an error that names the path if there is no such socket, or if the datagram is too
    /// long. Also returns an error outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing has been sent.
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub async fn send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.send_to_addr(buf, &address_of(SENDING, path.as_ref())?)
            .await
    }

    /// Sends a datagram to an address, like [`send_to`](UnixDatagram::send_to): a path or, on Linux,
    /// an abstract name.
    ///
    /// # Errors
    ///
    /// The same as for [`send_to`](UnixDatagram::send_to).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing has been sent.
    ///
    /// # Examples
    ///
    /// See [`bind_addr`](UnixDatagram::bind_addr).
    pub async fn send_to_addr(&self, buf: &[u8], address: &SocketAddr) -> io::Result<usize> {
        // `None`: the receiver's queue is full. Waiting for the socket to become writable would
        // not help: that depends on the queue of the connected peer.
        let attempt = |io: &net::UnixDatagram| match io.send_to_addr(buf, address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result.map(Some),
        };
        let mut backoff = Backoff::default();
        loop {
            match self.socket.write_with(attempt).await {
                Ok(Some(n)) => return Ok(n),
                Ok(None) => backoff.wait().await,
                Err(error) => return Err(error).context(SENDING, display(address)),
            }
        }
    }

    /// Like [`send_to`](UnixDatagram::send_to), but does not wait.
    ///
    /// There is no `poll_send_to`, and [`writable`](UnixDatagram::writable) does not wait for the
    /// queue of the receiver: the system does not report when there is space in it.
    ///
    /// # Errors
    ///
    /// Returns [`WouldBlock`](io::ErrorKind::WouldBlock) if the receiver's queue is full: then use
    /// [`send_to`](UnixDatagram::send_to), or try again after a pause. Otherwise the same as for
    /// [`send_to`](UnixDatagram::send_to).
    ///
    /// # Examples
    ///
    /// See [Waiting and trying](crate::net#waiting-and-trying).
    pub fn try_send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.try_send_to_addr(buf, &address_of(SENDING, path.as_ref())?)
    }

    /// Like [`send_to_addr`](UnixDatagram::send_to_addr), but does not wait.
    ///
    /// # Errors
    ///
    /// The same as for [`try_send_to`](UnixDatagram::try_send_to).
    ///
    /// # Examples
    ///
    /// See [Waiting and trying](crate::net#waiting-and-trying).
    pub fn try_send_to_addr(&self, buf: &[u8], address: &SocketAddr) -> io::Result<usize> {
        let send = |io: &net::UnixDatagram| io.send_to_addr(buf, address);
        let sent = self.socket.try_operate(Direction::Write, send);
        sent.context(SENDING, display(address))
    }

    operations! {
        /// Receives a datagram, and returns its length and the address of its sender. Bytes that do not
        /// fit into the buffer are discarded.
        ///
        /// # Errors
        ///
        /// Returns an error outside of a runtime.
        ///
        /// # Cancel safety
        ///
        /// No datagram is lost.
        ///
        /// # Examples
        ///
        /// See [`UnixDatagram`].
        pub fn recv_from, try_recv_from, poll_recv_from(&self, buf: &mut [u8]) -> (usize, SocketAddr)
            = Read, |io| io.recv_from(buf);
    }

    forward_to_std! {
        /// Returns the address that the socket is bound to. It is unnamed if the socket is not
        /// bound.
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::unix::UnixDatagram};
        /// # block_on(async {
        /// assert!(UnixDatagram::unbound()?.local_addr()?.is_unnamed());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn local_addr(&self) -> io::Result<SocketAddr>;

        /// Returns the address of the connected socket.
        ///
        /// # Errors
        ///
        /// Returns an error if the socket is not connected.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::unix::UnixDatagram};
        /// # block_on(async {
        /// assert!(UnixDatagram::unbound()?.peer_addr().is_err());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn peer_addr(&self) -> io::Result<SocketAddr>;

        /// Shuts down one or both directions. After `Write`, sending fails. After `Read`, receiving
        /// returns 0 once the queue is empty.
        ///
        /// # Errors
        ///
        /// Returns an error if the socket is not connected.
        ///
        /// # Examples
        ///
        /// ```
        /// # use std::net::Shutdown;
        /// # use soloist::{block_on, net::unix::UnixDatagram};
        /// # block_on(async {
        /// let (one, other) = UnixDatagram::pair()?;
        /// one.shutdown(Shutdown::Write)?;
        /// assert!(one.send(b"hello").await.is_err());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn shutdown(&self, how: Shutdown) -> io::Result<()>;

        /// Returns the pending error of the socket, and clears it.
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::unix::UnixDatagram};
        /// # block_on(async {
        /// assert!(UnixDatagram::unbound()?.take_error()?.is_none());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn take_error(&self) -> io::Result<Option<io::Error>>;
    }
}

impl_socket!(
    UnixDatagram, std::os::unix::net::UnixDatagram, "`UnixDatagram::try_from`",
    from_std: new_shared, into_std: identity
);

/// A send can block for one receiver and not for another. So a send that would block does not mark
/// the socket as not writable.
fn new_shared(socket: net::UnixDatagram, what: &str) -> io::Result<Socket<net::UnixDatagram>> {
    let socket = Socket::new(socket, what)?;
    socket.set_shared();
    Ok(socket)
}

const BINDING: &str = "binding to";
const CONNECTING: &str = "connecting to";
const SENDING: &str = "sending to";
