//! Sockets: TCP, UDP and Unix sockets, and host names.
//!
//! * TCP: [`TcpStream`] and [`TcpListener`], with [`TcpStreamBuilder`] and [`TcpListenerBuilder`] for
//!   options that must be set before.
//! * UDP: [`UdpSocket`].
//! * Unix sockets, at paths and abstract names: `unix`, on systems that have them.
//! * Host names: [`resolve`], and every function that takes [`ToSocketAddrs`].
//!
//! Methods have the names of `std::net`, and are async where those of std block. A socket belongs
//! to the thread that made it, not to one call of `block_on`. A socket without clones moves to
//! another thread when it is used there. Sockets implement `AsFd` (`AsSocket` on Windows), so
//! options that have no method here can be set with `socket2::SockRef`.
//!
//! In a test with `testing::simulate`, the TCP and UDP sockets and the host names of a simulated host
//! are those of its simulated network.
//!
//! An operation that is ready completes at once. One poll of a task completes at most 128
//! operations; then the other tasks run ([Fairness](crate::runtime#fairness)). A read or write of
//! more than 8 KiB counts more than once, and an accept counts four times.
//!
//! # Waiting and trying
//!
//! Most programs await operations: a read, an [`accept`](TcpListener::accept), a
//! [`recv_from`](UdpSocket::recv_from). There are other forms of them, with the names of tokio:
//!
//! * `readable` and `writable` wait until the socket is ready. `poll_readable` and `poll_writable`
//!   do that for implementations of [`Future`].
//! * `try_read`, `try_write`, `try_accept`, `try_recv`, `try_send` and so on do not wait. If they
//!   would have to, they return [`WouldBlock`](io::ErrorKind::WouldBlock). They always ask the
//!   system, so they do not need a call of `readable` or `writable` before.
//! * `poll_accept`, `poll_recv`, `poll_send` and so on are for implementations of [`Future`]. All
//!   tasks to which they have returned `Pending` are woken, so several tasks can use one socket.
//!
//! A loop of `try_*` calls follows these rules:
//!
//! * After `WouldBlock`, await `readable` or `writable`, and try again.
//! * Handle `WouldBlock` also right after `readable` or `writable`: another task may have been
//!   faster, and the system can report a socket as ready that is not.
//! * A socket stays ready until an operation shows that it is not. So `readable` returns at once
//!   until a receive returns `WouldBlock`, or a `read` of a TCP stream leaves room in its buffer.
//! * `try_*` calls never let other tasks run. They are counted, so that the next `readable` or
//!   `writable` lets other tasks run after 128 operations. A peer that sends without a pause can
//!   keep a loop that only tries in one poll for ever.
//!
//! ```
//! use std::io;
//! use soloist::{block_on, net::{TcpListener, TcpStream}};
//!
//! async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
//!     while !bytes.is_empty() {
//!         stream.writable().await?;
//!         match stream.try_write(bytes) {
//!             Ok(n) => bytes = &bytes[n..],
//!             Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
//!             Err(error) => return Err(error),
//!         }
//!     }
//!     Ok(())
//! }
//!
//! /// Adds what has arrived to `to`. Returns false at the end of the stream.
//! async fn receive(stream: &TcpStream, to: &mut Vec<u8>) -> io::Result<bool> {
//!     let mut buf = [0; 4096];
//!     stream.readable().await?;
//!     loop {
//!         match stream.try_read(&mut buf) {
//!             Ok(0) => return Ok(false),
//!             Ok(n) => to.extend_from_slice(&buf[..n]),
//!             Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
//!             Err(error) => return Err(error),
//!         }
//!     }
//! }
//!
//! block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     assert_eq!(listener.try_accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
//!     let client = TcpStream::connect(listener.local_addr()?).await?;
//!     listener.readable().await?;
//!     let (server, _) = listener.try_accept()?;
//!
//!     send(&client, b"hello").await?;
//!     drop(client);
//!     let mut received = Vec::new();
//!     while receive(&server, &mut received).await? {}
//!     assert_eq!(received, b"hello");
//!     Ok::<(), io::Error>(())
//! })?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! A `poll_*` method in a future of its own:
//!
//! ```
//! use std::future::poll_fn;
//! use soloist::{block_on, net::UdpSocket};
//!
//! block_on(async {
//!     let socket = UdpSocket::bind("127.0.0.1:0").await?;
//!     let address = socket.local_addr()?;
//!     socket.try_send_to(b"hello", address)?;
//!     let mut buf = [0; 1500];
//!     let (n, from) = poll_fn(|cx| socket.poll_recv_from(cx, &mut buf)).await?;
//!     assert_eq!((&buf[..n], from), (&b"hello"[..], address));
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Errors
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
            /// Returns an error that carries the socket if there are clones of it, and if it
            /// belongs to a simulated host (`testing::simulate`).
            ///
            /// # Examples
            ///
            /// See [`IntoStdError`].
            pub fn into_std(self) -> Result<$std, IntoStdError<$socket>> {
                match self.socket.into_inner() {
                    Ok(io) => Ok($into_std(io)),
                    Err(socket) => Err(IntoStdError {
                        socket: $socket { socket },
                    }),
                }
            }

            /// Waits until the socket is readable: until a `try_*` or `poll_*` call can receive
            /// something. It is also readable at the end of a stream, and after an error.
            ///
            /// It stays readable until a call finds nothing more to receive. See
            /// [Waiting and trying](crate::net#waiting-and-trying).
            ///
            /// # Errors
            ///
            /// Returns an error outside of a runtime, and if the socket belongs to another thread
            /// and has clones.
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost.
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub async fn readable(&self) -> std::io::Result<()> {
                self.socket
                    .wait_ready(crate::reactor::Direction::Read)
                    .await
            }

            /// Waits until the socket is writable. It is also writable after an error.
            ///
            /// It stays writable until a call finds that the buffer of the system is full. See
            /// [Waiting and trying](crate::net#waiting-and-trying).
            ///
            /// # Errors
            ///
            /// The same as for [`readable`](Self::readable).
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost.
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub async fn writable(&self) -> std::io::Result<()> {
                self.socket
                    .wait_ready(crate::reactor::Direction::Write)
                    .await
            }

            /// Like [`readable`](Self::readable), for implementations of
            /// [`Future`](std::future::Future). If it returns `Pending`, the task is woken when
            /// the socket is readable.
            ///
            /// # Errors
            ///
            /// The same as for [`readable`](Self::readable).
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub fn poll_readable(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.socket.as_any().poll_ready(crate::reactor::Direction::Read, cx)
            }

            /// Like [`writable`](Self::writable), for implementations of
            /// [`Future`](std::future::Future). If it returns `Pending`, the task is woken when
            /// the socket is writable.
            ///
            /// # Errors
            ///
            /// The same as for [`readable`](Self::readable).
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub fn poll_writable(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.socket.as_any().poll_ready(crate::reactor::Direction::Write, cx)
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

        impl $stream {
            /// Reads without waiting, and returns the number of bytes. 0 means the end of the
            /// stream.
            ///
            /// # Errors
            ///
            /// Returns [`WouldBlock`](std::io::ErrorKind::WouldBlock) if there is nothing to read:
            /// then wait with [`readable`](Self::readable). Returns an error if the connection is
            /// gone, and outside of a runtime.
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let room = buf.len();
                let mut read = || std::io::Read::read(&mut self.get_ref(), buf);
                let socket = self.socket.as_any();
                socket.try_read(crate::socket::Bytes::$bytes, room, &mut read)
            }

            /// Like [`try_read`](Self::try_read), into several buffers.
            ///
            /// # Errors
            ///
            /// The same as for [`try_read`](Self::try_read).
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub fn try_read_vectored(
                &self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                let room = crate::socket::room(bufs);
                let mut read = || std::io::Read::read_vectored(&mut self.get_ref(), bufs);
                let socket = self.socket.as_any();
                socket.try_read(crate::socket::Bytes::$bytes, room, &mut read)
            }

            /// Writes without waiting, and returns the number of bytes. It can be less than the
            /// length of the buffer.
            ///
            /// # Errors
            ///
            /// Returns [`WouldBlock`](std::io::ErrorKind::WouldBlock) if the buffer of the system
            /// is full: then wait with [`writable`](Self::writable). Returns an error if the
            /// connection is gone, and outside of a runtime.
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                let mut write = || std::io::Write::write(&mut self.get_ref(), buf);
                self.socket.as_any().try_write(&mut write)
            }

            /// Like [`try_write`](Self::try_write), from several buffers.
            ///
            /// # Errors
            ///
            /// The same as for [`try_write`](Self::try_write).
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub fn try_write_vectored(
                &self,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                let mut write = || std::io::Write::write_vectored(&mut self.get_ref(), bufs);
                self.socket.as_any().try_write(&mut write)
            }
        }

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

/// Operations that may have to wait, in three forms: one that waits, one that returns
/// `WouldBlock` instead, and one that returns `Pending`.
macro_rules! operations {
    ($(
        $(#[$doc:meta])*
        pub fn $name:ident, $try_name:ident, $poll_name:ident(&self $(, $arg:ident: $type:ty)*)
            -> $result:ty = $direction:ident, $operation:expr;
    )*) => {$(
        $(#[$doc])*
        pub async fn $name(&self $(, $arg: $type)*) -> std::io::Result<$result> {
            self.socket.operate(crate::reactor::Direction::$direction, $operation).await
        }

        operations!(
            @without_waiting
            $name, $try_name, $poll_name(&self $(, $arg: $type)*)
                -> $result = $direction, $operation
        );
    )*};
    (
        @without_waiting
        $name:ident, $try_name:ident, $poll_name:ident(&self $(, $arg:ident: $type:ty)*)
            -> $result:ty = $direction:ident, $operation:expr
    ) => {
        #[doc = concat!("Like [`", stringify!($name), "`](Self::", stringify!($name), "), ")]
        /// but does not wait.
        ///
        /// # Errors
        ///
        /// Returns [`WouldBlock`](std::io::ErrorKind::WouldBlock) if it would have to wait.
        #[doc = concat!(
            "Otherwise the same as for [`", stringify!($name), "`](Self::", stringify!($name), ")."
        )]
        ///
        /// # Examples
        ///
        /// See [Waiting and trying](crate::net#waiting-and-trying).
        pub fn $try_name(&self $(, $arg: $type)*) -> std::io::Result<$result> {
            self.socket.try_operate(crate::reactor::Direction::$direction, $operation)
        }

        #[doc = concat!("Like [`", stringify!($name), "`](Self::", stringify!($name), "), ")]
        /// for implementations of [`Future`](std::future::Future). If it returns `Pending`, the
        /// task is woken when it should call again.
        ///
        /// # Errors
        ///
        #[doc = concat!(
            "The same as for [`", stringify!($name), "`](Self::", stringify!($name), ")."
        )]
        ///
        /// # Examples
        ///
        /// See [Waiting and trying](crate::net#waiting-and-trying).
        pub fn $poll_name(
            &self,
            cx: &mut std::task::Context<'_>,
            $($arg: $type),*
        ) -> std::task::Poll<std::io::Result<$result>> {
            self.socket.poll_operate(crate::reactor::Direction::$direction, cx, false, $operation)
        }
    };
}

/// The verbs of a listener. `accept` of the calling module accepts a connection. `$example` is an example of `incoming`.
macro_rules! impl_listener {
    ($listener:ident, $stream:ident, $address:ty, $(#[$example:meta])*) => {
        impl $listener {
            /// Waits for the next connection.
            ///
            /// # Errors
            ///
            /// Returns an error if the process or the system is out of file descriptors or memory,
            /// and outside of a runtime. After an error of the first kind the next call pauses, so
            /// a loop that continues does not spin. The pause is 10 ms, and doubles with each
            /// further error, up to one second.
            ///
            /// # Cancel safety
            ///
            /// No connection is lost.
            ///
            /// # Examples
            ///
            #[doc = concat!("See [`", stringify!($listener), "`].")]
            pub async fn accept(&self) -> std::io::Result<($stream, $address)> {
                self.socket.accept(accept).await
            }

            /// Accepts a connection without waiting.
            ///
            /// # Errors
            ///
            /// Returns [`WouldBlock`](std::io::ErrorKind::WouldBlock) if there is no connection:
            /// then wait with [`readable`](Self::readable). Otherwise the same as for
            /// [`accept`](Self::accept). This function does not pause after an error.
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub fn try_accept(&self) -> std::io::Result<($stream, $address)> {
                self.socket.try_accept(accept)
            }

            /// Like [`accept`](Self::accept), for implementations of
            /// [`Future`](std::future::Future) and [`Stream`](crate::stream::Stream). If it
            /// returns `Pending`, the task is woken when there is a connection.
            ///
            /// # Errors
            ///
            /// The same as for [`accept`](Self::accept). This function does not pause after an
            /// error.
            ///
            /// # Examples
            ///
            /// See [Waiting and trying](crate::net#waiting-and-trying).
            pub fn poll_accept(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<($stream, $address)>> {
                self.socket.poll_accept(cx, accept)
            }

            /// Returns a [`Stream`](crate::stream::Stream) of the connections. It never ends.
            ///
            /// # Examples
            ///
            $(#[$example])*
            pub fn incoming(&self) -> Incoming<'_> {
                Incoming {
                    listener: self,
                    pause: None,
                }
            }
        }

        #[doc = concat!("The stream that [`", stringify!($listener), "::incoming`] returns.")]
        ///
        /// It never ends, not even after an error. After an error that comes from a lack of file
        /// descriptors or memory, it pauses before the next attempt.
        ///
        /// # Cancel safety
        ///
        /// No connection is lost.
        ///
        /// # Examples
        ///
        #[doc = concat!("See [`", stringify!($listener), "::incoming`].")]
        #[derive(Debug)]
        #[must_use = "streams do nothing unless they are polled"]
        pub struct Incoming<'a> {
            listener: &'a $listener,
            pause: Option<crate::time::Sleep>,
        }

        impl futures_lite::Stream for Incoming<'_> {
            type Item = std::io::Result<$stream>;

            fn poll_next(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                let socket = &self.listener.socket;
                let accepted = std::task::ready!(socket.poll_next(cx, &mut self.pause, accept));
                std::task::Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
            }
        }
    };
}

/// A builder: its options, which are not set at first, and the methods that set them.
macro_rules! builder {
    (
        $(#[$doc:meta])*
        pub struct $builder:ident {
            $($(#[$option_doc:meta])* pub fn $option:ident($arg:ident: $type:ty);)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $builder {
            $($option: Option<$type>,)*
        }

        impl $builder {$(
            $(#[$option_doc])*
            pub fn $option(mut self, $arg: $type) -> $builder {
                self.$option = Some($arg);
                self
            }
        )*}
    };
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
pub use self::tcp::{Incoming, TcpListener, TcpListenerBuilder, TcpStream, TcpStreamBuilder};
pub use self::udp::UdpSocket;

mod sealed {
    /// A stream that can be split into halves.
    pub trait Stream: crate::io::AsyncRead + crate::io::AsyncWrite + Unpin {
        fn shut_down_writing(&self) -> std::io::Result<()>;
        fn is_same(&self, other: &Self) -> bool;
    }
}

pub(crate) use self::sealed::Stream;

/// The error of a conversion into a std type that failed because the socket has clones, or belongs
/// to a simulated host. It carries the socket.
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
        f.write_str(
            "the socket has clones (drop them before turning it into its std type), or belongs to a \
             simulated host",
        )
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

/// The error of an option that this system does not have.
#[allow(dead_code, reason = "most systems have all options")]
fn unsupported<T>(option: &str) -> io::Result<T> {
    let text = format!("this system has no `{option}`");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
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
