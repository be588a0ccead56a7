//! Unix streams.

#[cfg(target_os = "linux")]
use std::ffi::OsStr;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
#[cfg(target_os = "linux")]
use std::os::{linux::net::SocketAddrExt, unix::ffi::OsStrExt};
use std::path::Path;

use socket2::{Domain, SockAddr, SockRef, Type};

use super::{Backoff, address_of, display};
use crate::net::sigpipe::NoSigpipe;
use crate::net::split::{self, OwnedReadHalf, OwnedWriteHalf};
use crate::net::{ErrorContext, IntoStdError};
use crate::socket::Socket;

/// A connection between two programs of one machine.
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
/// # Options
///
/// There is no builder like that of a TCP stream. The options of a Unix stream need not be set before
/// it is connected: use `socket2::SockRef`. A client that needs an address of its own binds a
/// socket of the crate `socket2`, connects it, and converts it.
///
/// ```
/// use soloist::{block_on, net::unix::{UnixListener, UnixStream}};
///
/// # let dir = std::env::temp_dir().join(format!("soloist-doc-bound-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let (path, client_path) = (dir.join("server"), dir.join("client"));
/// block_on(async {
///     let listener = UnixListener::bind(&path)?;
///     let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
///     socket.bind(&socket2::SockAddr::unix(&client_path)?)?;
///     socket.connect(&socket2::SockAddr::unix(&path)?)?;
///     let _client = UnixStream::try_from(std::os::unix::net::UnixStream::from(socket))?;
///     let (_stream, from) = listener.accept().await?;
///     assert_eq!(from.as_pathname(), Some(&*client_path));
///     Ok::<(), std::io::Error>(())
/// })?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Credentials of the peer
///
/// There is no `peer_cred` yet, since that of std is not stable. The stream is `AsFd`, so the
/// crate `nix` (feature `socket`) can read them. The pid of a process in another container is 0.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
/// use soloist::{block_on, net::unix::UnixStream};
///
/// block_on(async {
///     let (one, _other) = UnixStream::pair()?;
///     let peer = getsockopt(&one, PeerCredentials)?;
///     assert_eq!(peer.pid(), std::process::id() as i32);
///     println!("user {}, group {}", peer.uid(), peer.gid());
///     Ok::<(), std::io::Error>(())
/// })?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Examples
///
/// ```
/// use soloist::{block_on, spawn, net::unix::UnixStream};
/// use soloist::io::{AsyncReadExt, AsyncWriteExt};
///
/// block_on(async {
///     let (mut one, mut other) = UnixStream::pair()?;
///     let writer = spawn(async move { one.write_all(b"hello").await });
///     let mut text = String::new();
///     other.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     writer.await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixStream {
    socket: Socket<NoSigpipe<net::UnixStream>>,
}

impl UnixStream {
    /// Connects to the listener at a path.
    ///
    /// If the queue of the listener is full, it tries again: the first time after 1 ms, and then
    /// after pauses that grow to 64 ms, since the system does not report when there is room.
    /// (Systems other than Linux refuse the connection instead.)
    ///
    /// # Errors
    ///
    /// Returns an error, which names the path, if there is no listener: `NotFound` if there is no
    /// file, `ConnectionRefused` if the file is not a socket or nothing listens on it,
    /// `InvalidInput` if the path is too long. Returns an error outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, no connection has been made.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, net::unix::{UnixListener, UnixStream}};
    ///
    /// # let dir = std::env::temp_dir().join(format!("soloist-doc-connect-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// # let path = dir.join("socket");
    /// # let _ = std::fs::remove_file(&path);
    /// block_on(async {
    ///     let listener = UnixListener::bind(&path)?;
    ///     let stream = UnixStream::connect(&path).await?;
    ///     assert_eq!(stream.peer_addr()?.as_pathname(), Some(path.as_path()));
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&address_of(CONNECTING, path.as_ref())?).await
    }

    /// Connects to the listener at an address: a path or, on Linux, an abstract name.
    ///
    /// # Errors
    ///
    /// The same as for [`connect`](UnixStream::connect).
    ///
    /// # Cancel safety
    ///
    /// The same as for [`connect`](UnixStream::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    /// use soloist::{block_on, net::unix::{UnixListener, UnixStream}};
    ///
    /// block_on(async {
    ///     let name = format!("soloist-example-{}", std::process::id());
    ///     let address = SocketAddr::from_abstract_name(name)?;
    ///     let listener = UnixListener::bind_addr(&address)?;
    ///     let _client = UnixStream::connect_addr(&address).await?;
    ///     let (_stream, _from) = listener.accept().await?;
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        let connected = UnixStream::connect_to(address).await;
        connected.context(CONNECTING, display(address))
    }

    async fn connect_to(address: &SocketAddr) -> io::Result<UnixStream> {
        let address = sock_addr(address)?;
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // Fails outside of a runtime, before a connection is made.
        let stream = UnixStream::from_nonblocking(socket.into(), "`UnixStream::connect`")?;
        let mut backoff = Backoff::default();
        loop {
            match SockRef::from(stream.get_ref()).connect(&address) {
                // The listener's queue is full. No connection is in progress: waiting for
                // the socket to become writable would return at once, every time.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => backoff.wait().await,
                result => return result.map(|()| stream),
            }
        }
    }

    /// Returns two streams that are connected to each other.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has no file descriptors left, and outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`UnixStream`].
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = net::UnixStream::pair()?;
        Ok((UnixStream::try_from(one)?, UnixStream::try_from(other)?))
    }

    /// Splits the stream into a read half and a write half, each with its own owner. So one task
    /// can read while another writes. When the write half is dropped, the peer reads the end of
    /// the stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, net::unix::UnixStream};
    /// # use soloist::io::{AsyncReadExt, AsyncWriteExt};
    /// # block_on(async {
    /// let (stream, other) = UnixStream::pair()?;
    /// let (mut read, mut write) = stream.into_split();
    /// write.write_all(b"hello").await?;
    /// drop(write);
    /// soloist::io::copy(&other, &other).await?;
    /// drop(other);
    /// let mut text = String::new();
    /// read.read_to_string(&mut text).await?;
    /// assert_eq!(text, "hello");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf<UnixStream>, OwnedWriteHalf<UnixStream>) {
        split::halves(self)
    }

    forward_to_std! {
        /// Returns the local address. It is unnamed unless the stream was accepted by a listener.
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, net::unix::UnixStream};
        /// # block_on(async {
        /// let (one, other) = UnixStream::pair()?;
        /// assert!(one.local_addr()?.is_unnamed());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn local_addr(&self) -> io::Result<SocketAddr>;

        /// Returns the address of the peer. For the stream that connected, that is the address of
        /// the listener.
        ///
        /// # Errors
        ///
        /// Returns an error if the connection is gone.
        ///
        /// # Examples
        ///
        /// See [`connect`](UnixStream::connect).
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
        /// # use soloist::{block_on, net::unix::UnixStream, io::AsyncReadExt};
        /// # block_on(async {
        /// let (one, mut other) = UnixStream::pair()?;
        /// one.shutdown(Shutdown::Write)?;
        /// assert_eq!(other.read(&mut [0; 8]).await?, 0);
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
        /// # use soloist::{block_on, net::unix::UnixStream};
        /// # block_on(async {
        /// let (one, other) = UnixStream::pair()?;
        /// assert!(one.take_error()?.is_none());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn take_error(&self) -> io::Result<Option<io::Error>>;
    }
}

const CONNECTING: &str = "connecting to";

/// Converts std's address into that of socket2, which has a nonblocking connect.
fn sock_addr(address: &SocketAddr) -> io::Result<SockAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_abstract_name() {
        return SockAddr::unix(OsStr::from_bytes(&[b"\0", name].concat()));
    }
    match address.as_pathname() {
        Some(path) => SockAddr::unix(path),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the address has no name",
        )),
    }
}

// Not `DrainedByShortRead`: a read also ends before bytes that came with file descriptors.
impl_stream!(UnixStream, bytes: Stream);

impl_socket!(
    UnixStream, std::os::unix::net::UnixStream, "`UnixStream::try_from`",
    from_std: |stream, what| Socket::new(NoSigpipe::new(stream), what),
    into_std: NoSigpipe::into_inner
);
