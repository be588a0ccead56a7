//! Unix datagrams.

use std::convert::identity;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use super::{Backoff, address_of, display};
use crate::executor;
use crate::net::{ErrorContext, IntoStdError};
use crate::socket::Socket;

/// A socket for datagrams between programs of one machine. They arrive, and in order.
///
/// Each call sends or receives one whole datagram. An empty one is a datagram too: 0
/// bytes are not the end of anything. A clone is another handle to the same socket, so
/// that one task can receive while another sends.
///
/// A datagram that is longer than the buffer of a receive is cut off: the buffer gets
/// the beginning, and **the rest is gone**. Nothing says so.
///
/// # A receiver that does not keep up
///
/// Its queue is short (10 datagrams are Linux's default, `net.unix.max_dgram_qlen`). A
/// send to a queue that is full waits: [`send`](UnixDatagram::send) until the system says
/// that there is room. [`send_to`](UnixDatagram::send_to) is told nothing of a queue that
/// is not its peer's, and asks again: after a millisecond, and then after pauses that
/// grow to 64 ms. (Systems other than Linux fail instead, with `ENOBUFS`.)
///
/// # Cancel safety
///
/// A receive that is dropped before it is done has taken no datagram, and a send has sent
/// none.
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
    /// Binds a socket to a path, and makes the file there. Nothing removes it.
    ///
    /// # Errors
    ///
    /// If that cannot be done, with the path in its text: `AddrInUse` if there is a file,
    /// `NotFound` if there is no such directory, `InvalidInput` if the path is too long for
    /// a socket. Outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_addr(&address_of(BINDING, path.as_ref())?)
    }

    /// Binds a socket to an address: a path, or on Linux an abstract name.
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

    /// Returns a socket without an address: it can send, but receives no answers.
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

    /// Two sockets that are connected to each other.
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

    /// Connects the socket to the one at a path: [`send`](UnixDatagram::send) sends to it, and
    /// only datagrams from it are received. The socket can be connected again, to another one.
    ///
    /// # Errors
    ///
    /// Returns an error, which names the path, if there is no such socket: `NotFound` if there is
    /// no file, `ConnectionRefused` if the file is not a socket or the socket is closed.
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

    /// As [`connect`](UnixDatagram::connect), to an address: a path, or on Linux an
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

    /// Sends a datagram to the socket that it is connected to, and returns its length.
    ///
    /// # Errors
    ///
    /// If it is not connected, if the other socket is gone (`ConnectionRefused`), and if
    /// the datagram is too long. Outside of a runtime.
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
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.write_with(|io| io.send(buf)).await
    }

    /// Receives a datagram, and returns its length. What does not fit into the buffer is
    /// gone.
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
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.read_with(|io| io.recv(buf)).await
    }

    /// Sends a datagram to the socket at a path, and returns its length. If the queue of that
    /// socket is full, it tries again after a pause; see [`UnixDatagram`].
    ///
    /// # Errors
    ///
    /// Returns an error, which names the path, if there is no such socket, and if the datagram is
    /// too long. Returns an error outside of a runtime.
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

    /// As [`send_to`](UnixDatagram::send_to), to an address: a path, or on Linux an
    /// abstract name.
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

    /// Receives a datagram, and returns its length and where it came from. What does not
    /// fit into the buffer is gone.
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
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.read_with(|io| io.recv_from(buf)).await
    }

    forward_to_std! {
        /// The address that it is bound to: without a name, if it is not.
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

        /// The address of the socket that it is connected to.
        ///
        /// # Errors
        ///
        /// If it is not connected.
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

        /// Shuts down the read direction, the write direction, or both. After `Write`, sends
        /// fail. After `Read`, receives return 0 bytes once the datagrams that have arrived are
        /// consumed.
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

/// A send may block for one receiver and not for another. So a send that would block does not mark
/// the socket as one that is not writable.
fn new_shared(socket: net::UnixDatagram, what: &str) -> io::Result<Socket<net::UnixDatagram>> {
    let socket = Socket::new(socket, what)?;
    socket.set_shared();
    Ok(socket)
}

const BINDING: &str = "binding to";
const CONNECTING: &str = "connecting to";
const SENDING: &str = "sending to";
