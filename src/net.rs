//! TCP: [`TcpStream`], [`TcpListener`].
//!
//! Methods have std's names, and are async where std's block. Sockets belong to the
//! thread that made them, not to one `block_on`; one without clones moves to another
//! thread by being used there.

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

mod resolve;
mod tcp;

pub use self::resolve::ToSocketAddrs;
pub use self::tcp::{Incoming, TcpListener, TcpStream};

use std::fmt;
use std::io;

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
