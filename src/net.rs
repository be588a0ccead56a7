//! The sockets of a network tool.
//!
//! * TCP: [`TcpStream`], [`TcpListener`], with [`TcpListenerBuilder`] for what must be set
//!   before it listens.
//! * UDP: [`UdpSocket`].
//! * Unix sockets, at paths and abstract names: `unix`, on systems that have them.
//! * Host names: [`resolve`], and whatever takes [`ToSocketAddrs`].
//!
//! Methods have std's names, and are async where std's block. Sockets belong to the
//! thread that made them, not to one `block_on`; one without clones moves to another
//! thread by being used there. They are `AsFd` (`AsSocket` on Windows), so that options
//! which have no method here can be set with `socket2::SockRef`.
//!
//! Operations that are ready complete at once, up to 128 in one poll of a task; then the other
//! tasks have their turn ([Fairness](crate::runtime#fairness)). A read or write of more than
//! 8 KiB counts more than once, an accept counts four times.
//!
//! Setting a socket up, its options included, fails with an error that says what was tried,
//! and with the [`ErrorKind`](io::ErrorKind) of the cause. Reads, writes, sends and receives give the
//! system's error as it is; only a datagram to a Unix path that fails names the path.

/// `AsFd`, or `AsSocket` on Windows, for a type with a field `socket: Socket<_>`.
macro_rules! impl_as_raw {
    ($type:ty) => {
        #[cfg(unix)]
        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.socket.get_ref().as_fd()
            }
        }

        #[cfg(windows)]
        impl std::os::windows::io::AsSocket for $type {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.socket.get_ref().as_socket()
            }
        }
    };
}

mod connect;
mod incoming;
mod resolve;
mod sigpipe;
mod split;
mod tcp;
mod udp;
#[cfg(unix)]
pub mod unix;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

pub use self::resolve::{ToSocketAddrs, resolve};
pub use self::split::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use self::tcp::{Incoming, TcpListener, TcpListenerBuilder, TcpStream};
pub use self::udp::UdpSocket;
// What the network in memory shares.
#[cfg(feature = "testing")]
pub(crate) use self::{
    connect::first_to_connect,
    resolve::Target,
    split::{Stream, halves},
};

/// A socket could not be turned into its std type, for it has clones. It is given
/// back.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, net::TcpListener};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let clone = listener.clone();
///     let error = listener.into_std().unwrap_err();
///     drop(clone);
///     let listener: std::net::TcpListener = error.into_socket().into_std().unwrap();
/// #   drop(listener);
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct IntoStdError<S> {
    socket: S,
}

impl<S> IntoStdError<S> {
    /// The socket.
    ///
    /// # Examples
    ///
    /// See [`IntoStdError`].
    pub fn into_socket(self) -> S {
        self.socket
    }
}

impl<S> fmt::Display for IntoStdError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the socket has clones: drop them before turning it into its std type")
    }
}

impl<S> fmt::Debug for IntoStdError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoStdError").finish_non_exhaustive()
    }
}

impl<S> std::error::Error for IntoStdError<S> {}

impl<S> From<IntoStdError<S>> for io::Error {
    fn from(error: IntoStdError<S>) -> io::Error {
        io::Error::other(error.to_string())
    }
}

/// The rare and slow part of an async function. The body of an `async fn` is compiled in
/// every program that calls it; what is boxed, is compiled with this crate.
type Boxed<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + Sync>>;

/// Does something with the first of the addresses for which it works; or returns the last
/// error, with the address in its text.
fn first_that_works<R>(
    addresses: Vec<SocketAddr>,
    what: &str,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<R>,
) -> io::Result<R> {
    let mut last = None;
    for address in addresses {
        match attempt(address) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(failed(what, &address, &error)),
        }
    }
    Err(last.expect("there is at least one address"))
}

/// An error that says what was tried.
fn failed(what: &str, with: &dyn fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {with} failed: {error}"))
}

/// Says which option was refused.
fn option<R>(result: io::Result<R>, option: &str, value: impl fmt::Debug) -> io::Result<R> {
    result.map_err(|error| failed("setting", &format_args!("{option} to {value:?}"), &error))
}
