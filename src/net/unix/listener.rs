//! Unix listeners.

use std::convert::identity;
use std::io;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use socket2::SockAddr;

use super::{UnixStream, address_of, display};
use crate::executor;
use crate::net::accept::{ACCEPTING, Acceptor, accept_nonblocking};
use crate::net::{ErrorContext, IntoStdError};
use crate::socket::Socket;

/// Accepts connections from programs of the same machine.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, net::unix::{UnixListener, UnixStream}};
///
/// # let dir = std::env::temp_dir().join(format!("soloist-doc-listener-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let path = dir.join("socket");
/// block_on(async {
///     let _ = std::fs::remove_file(&path);
///     let listener = UnixListener::bind(&path)?;
///     let _client = UnixStream::connect(&path).await?;
///     let (_stream, from) = listener.accept().await?;
///     assert!(from.is_unnamed());
///     std::fs::remove_file(&path)
/// })?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixListener {
    socket: Acceptor<net::UnixListener>,
}

impl UnixListener {
    /// Listens at a path, and creates the file there. The file is never removed.
    ///
    /// # Errors
    ///
    /// Returns an error, which names the path, if the socket cannot be bound: `AddrInUse` if
    /// there is a file, `NotFound` if there is no such directory, `InvalidInput` if the path is
    /// too long. Returns an error outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`UnixListener`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&address_of(LISTENING, path.as_ref())?)
    }

    /// Listens at an address: a path or, on Linux, an abstract name.
    ///
    /// # Errors
    ///
    /// The same as for [`bind`](UnixListener::bind).
    ///
    /// # Examples
    ///
    /// See [`UnixStream::connect_addr`].
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        // Checked before binding, which creates a file.
        executor::inside_or_error("`UnixListener::bind`")?;
        let listener = net::UnixListener::bind_addr(address);
        UnixListener::try_from(listener.context(LISTENING, display(address))?)
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
        /// # use soloist::{block_on, net::unix::UnixListener};
        /// # let dir = std::env::temp_dir().join(format!("soloist-doc-local-{}", std::process::id()));
        /// # std::fs::create_dir_all(&dir)?;
        /// # let path = dir.join("socket");
        /// # let _ = std::fs::remove_file(&path);
        /// # block_on(async {
        /// let listener = UnixListener::bind(&path)?;
        /// assert_eq!(listener.local_addr()?.as_pathname(), Some(path.as_path()));
        /// # Ok::<(), std::io::Error>(()) })?;
        /// # std::fs::remove_dir_all(&dir)?;
        /// # Ok::<(), std::io::Error>(())
        /// ```
        pub fn local_addr(&self) -> io::Result<SocketAddr>;

        /// Returns the pending error of the socket, and clears it.
        ///
        /// # Errors
        ///
        /// Returns an error if the system call fails.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # use soloist::{block_on, net::unix::UnixListener};
        /// # block_on(async {
        /// let listener = UnixListener::bind("/run/echo/socket")?;
        /// assert!(listener.take_error()?.is_none());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn take_error(&self) -> io::Result<Option<io::Error>>;
    }
}

const LISTENING: &str = "listening at";

impl_socket!(
    UnixListener, std::os::unix::net::UnixListener, "`UnixListener::try_from`",
    from_std: |listener, what| Socket::new(listener, what).map(Acceptor::new),
    into_std: identity
);

fn accept(listener: &std::os::unix::net::UnixListener) -> io::Result<(UnixStream, SocketAddr)> {
    let (stream, peer) = accept_nonblocking(listener)?;
    let stream = UnixStream::from_nonblocking(stream.into(), ACCEPTING)?;
    Ok((stream, std_address(&peer)?))
}

/// Converts an address: unnamed, a path, or a name in the abstract namespace of Linux.
fn std_address(address: &SockAddr) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if let Some(name) = address.as_abstract_namespace() {
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(address.as_pathname().unwrap_or(Path::new("")))
}

impl_listener!(
    UnixListener, UnixStream, SocketAddr,
    /// ```no_run
    /// use soloist::stream::StreamExt;
    /// use soloist::{block_on, io, net::unix::UnixListener, spawn};
    ///
    /// block_on(async {
    ///     let listener = UnixListener::bind("/run/echo/socket")?;
    ///     let mut incoming = listener.incoming();
    ///     while let Some(stream) = incoming.next().await {
    ///         let stream = stream?;
    ///         spawn(async move { io::copy(&stream, &stream).await }).detach();
    ///     }
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
);
