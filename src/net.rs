//! Sockets: TCP, UDP and Unix sockets, and host names.
//!
//! * TCP: [`TcpStream`], [`TcpListener`], and [`TcpListenerBuilder`] for options that must be set
//!   before the listener exists.
//! * UDP: [`UdpSocket`].
//! * Unix sockets, at paths and abstract names: `unix`, on systems that have them.
//! * Host names: [`resolve`], and every function that takes [`ToSocketAddrs`].
//!
//! Methods have the names of `std::net`, and are async where those of std block. A socket belongs
//! to the thread that made it, not to one call of `block_on`. A socket without clones moves to
//! another thread when it is used there. Sockets implement `AsFd` (`AsSocket` on Windows), so
//! options that have no method here can be set with `socket2::SockRef`.
//!
//! An operation that is ready completes at once. One poll of a task completes at most 128
//! operations; then the other tasks run ([Fairness](crate::runtime#fairness)). A read or write of
//! more than 8 KiB counts more than once, and an accept counts four times.
//!
//! Errors of functions that set up a socket or set an option say what was attempted, and have the
//! [`ErrorKind`](io::ErrorKind) of the cause. Reads, writes, sends and receives return the error
//! of the system unchanged, except for a datagram to a Unix path: that error names the path.

/// What every socket type has: conversions from and to std's type, `AsFd` (`AsSocket` on
/// Windows), and `Debug`.
///
/// `from_std` makes the field `socket` from std's type, in nonblocking mode. `into_std` turns the
/// object in that field into std's type. `$what` names the conversion from std's type in the error
/// outside of a runtime. `$inner` is the type in that field, if it is not std's.
macro_rules! impl_socket {
    ($socket:ident, $std:ty, $what:literal, $($conversions:tt)*) => {
        impl_socket!($socket($std), $std, $what, $($conversions)*);
    };
    (
        $socket:ident($inner:ty), $std:ty, $what:literal,
        from_std: $from_std:expr, into_std: $into_std:expr
    ) => {
        impl $socket {
            /// Returns the std type. It stays in nonblocking mode.
            ///
            /// # Errors
            ///
            /// Returns an error that carries the socket if there are clones of it.
            ///
            /// # Examples
            ///
            /// See [`IntoStdError`].
            pub fn into_std(self) -> Result<$std, IntoStdError<$socket>> {
                match self.socket.into_inner() {
                    Ok(inner) => Ok($into_std(inner)),
                    Err(socket) => Err(IntoStdError {
                        socket: $socket { socket },
                    }),
                }
            }

            fn get_ref(&self) -> &$inner {
                self.socket.get_ref()
            }

            /// `what` is named in the error outside of a runtime.
            pub(in crate::net) fn from_nonblocking(
                socket: $std,
                what: &str,
            ) -> std::io::Result<$socket> {
                let socket = $from_std(socket, what)?;
                Ok($socket { socket })
            }
        }

        /// Registers a std socket with the reactor of this thread, in nonblocking mode.
        impl TryFrom<$std> for $socket {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<$socket> {
                socket.set_nonblocking(true)?;
                $socket::from_nonblocking(socket, $what)
            }
        }

        #[cfg(unix)]
        impl std::os::fd::AsFd for $socket {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.socket.get_ref().as_fd()
            }
        }

        #[cfg(windows)]
        impl std::os::windows::io::AsSocket for $socket {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.socket.get_ref().as_socket()
            }
        }

        impl std::fmt::Debug for $socket {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.get_ref().fmt(f)
            }
        }
    };
}

/// Reads, writes and halves of a stream. `$bytes` says what is known of its reads.
macro_rules! impl_stream {
    ($stream:ident, bytes: $bytes:ident) => {
        crate::io::futures_io!(
            $stream; bytes: $bytes,
            close: |stream| {
                use crate::net::Stream;
                stream.shut_down_writing()
            }
        );

        impl crate::net::Stream for $stream {
            fn shut_down_writing(&self) -> std::io::Result<()> {
                match self.shutdown(std::net::Shutdown::Write) {
                    // It is closed already.
                    Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(()),
                    result => result,
                }
            }

            fn is_same(&self, other: &Self) -> bool {
                self.socket.is_same(&other.socket)
            }
        }
    };
}

/// Methods that call the method of the same name of std's type.
macro_rules! forward_to_std {
    ($(
        $(#[$doc:meta])*
        pub fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $result:ty;
    )*) => {$(
        $(#[$doc])*
        pub fn $name(&self $(, $arg: $type)*) -> $result {
            self.get_ref().$name($($arg),*)
        }
    )*};
}

mod accept;
mod connect;
mod inner;
mod resolve;
mod sigpipe;
mod split;
mod tcp;
mod udp;
#[cfg(unix)]
pub mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;

pub use self::resolve::{ToSocketAddrs, resolve};
pub use self::split::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use self::tcp::{Incoming, TcpListener, TcpListenerBuilder, TcpStream};
pub use self::udp::UdpSocket;

mod sealed {
    /// A stream that can be split into halves.
    pub trait Stream: crate::io::AsyncRead + crate::io::AsyncWrite + Unpin {
        fn shut_down_writing(&self) -> std::io::Result<()>;
        fn is_same(&self, other: &Self) -> bool;
    }
}

pub(crate) use self::sealed::Stream;

/// The error of a conversion into a std type that failed because the socket has clones. It
/// carries the socket.
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
    /// Returns the socket.
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

/// Tries one address after the other until `attempt` succeeds. Otherwise returns the last error,
/// which names its address.
fn try_each<R>(
    addresses: Vec<SocketAddr>,
    what: &str,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<R>,
) -> io::Result<R> {
    let mut last = None;
    for address in addresses {
        match attempt(address).context(what, address) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("there is at least one address"))
}

/// Adds to an error what was attempted.
trait ErrorContext<R> {
    /// `{what} {object} failed: {error}`
    fn context(self, what: &str, object: impl fmt::Display) -> io::Result<R>;

    /// `setting {option} to {value:?} failed: {error}`
    fn setting(self, option: &str, value: impl fmt::Debug) -> io::Result<R>
    where
        Self: Sized,
    {
        self.context("setting", format_args!("{option} to {value:?}"))
    }
}

impl<R> ErrorContext<R> for io::Result<R> {
    fn context(self, what: &str, object: impl fmt::Display) -> io::Result<R> {
        self.map_err(|error| {
            io::Error::new(error.kind(), format!("{what} {object} failed: {error}"))
        })
    }
}
