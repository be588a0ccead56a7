//! What is inside of a TCP or UDP socket: std's type, or, with the feature `testing`, either that
//! or a socket of a simulated network. Both have the methods of std's type.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockAddr, SockRef, TcpKeepalive};

use super::sigpipe::NoSigpipe;
use crate::reactor::AsRaw;
use crate::socket::Socket;

#[cfg(feature = "testing")]
pub(super) use self::either::*;
#[cfg(not(feature = "testing"))]
pub(super) use self::system::*;

/// Only the system's.
#[cfg(not(feature = "testing"))]
mod system {
    use super::*;

    pub(in crate::net) type TcpStream = NoSigpipe<std::net::TcpStream>;
    pub(in crate::net) type TcpListener = std::net::TcpListener;
    pub(in crate::net) type UdpSocket = std::net::UdpSocket;

    /// Something of the system.
    pub(in crate::net) fn system<S>(io: S) -> S {
        io
    }

    /// Back from [`system`].
    pub(in crate::net) fn into_system<S>(io: S) -> S {
        io
    }

    /// `what` is named in the error outside of a runtime.
    pub(in crate::net) fn new_socket<T: AsRaw + 'static>(
        io: T,
        what: &str,
    ) -> io::Result<Socket<T>> {
        Socket::new(io, what)
    }

    pub(in crate::net) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        accept_system(listener)
    }
}

/// The system's, or those of a simulated host.
#[cfg(feature = "testing")]
mod either {
    use std::fmt;
    use std::io::{IoSlice, IoSliceMut, Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, Shutdown};

    use super::*;

    pub(in crate::net) type TcpStream = Either<NoSigpipe<std::net::TcpStream>>;
    pub(in crate::net) type TcpListener = Either<std::net::TcpListener>;
    pub(in crate::net) type UdpSocket = Either<std::net::UdpSocket>;

    pub(in crate::net) enum Either<S> {
        System(S),
    }

    /// Something of the system.
    pub(in crate::net) fn system<S>(io: S) -> Either<S> {
        Either::System(io)
    }

    /// Back from [`system`].
    pub(in crate::net) fn into_system<S>(io: Either<S>) -> S {
        match io {
            Either::System(io) => io,
        }
    }

    /// `what` is named in the error outside of a runtime.
    pub(in crate::net) fn new_socket<S: AsRaw + 'static>(
        io: Either<S>,
        what: &str,
    ) -> io::Result<Socket<Either<S>>> {
        match io {
            Either::System(_) => Socket::new(io, what),
        }
    }

    pub(in crate::net) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        match listener {
            Either::System(listener) => accept_system(listener),
        }
    }

    /// Methods that both have.
    macro_rules! forward {
        ($type:ty { $(fn $name:ident(&self $(, $arg:ident: $argument:ty)*) -> $output:ty;)* }) => {
            impl $type {
                $(pub(in crate::net) fn $name(&self $(, $arg: $argument)*) -> io::Result<$output> {
                    match self {
                        Either::System(io) => io.$name($($arg),*),
                    }
                })*
            }
        };
    }

    forward! {
        TcpStream {
            fn start_to_connect(&self, address: SocketAddr) -> ();
            fn local_addr(&self) -> SocketAddr;
            fn peer_addr(&self) -> SocketAddr;
            fn shutdown(&self, how: Shutdown) -> ();
            fn peek(&self, buf: &mut [u8]) -> usize;
            fn nodelay(&self) -> bool;
            fn set_nodelay(&self, on: bool) -> ();
            fn ttl(&self) -> u32;
            fn set_ttl(&self, ttl: u32) -> ();
            fn linger(&self) -> Option<Duration>;
            fn set_linger(&self, linger: Option<Duration>) -> ();
            fn keepalive_time(&self) -> Option<Duration>;
            fn set_keepalive_time(&self, time: Option<Duration>) -> ();
            fn take_error(&self) -> Option<io::Error>;
        }
    }

    forward! {
        TcpListener {
            fn local_addr(&self) -> SocketAddr;
            fn ttl(&self) -> u32;
            fn set_ttl(&self, ttl: u32) -> ();
            fn take_error(&self) -> Option<io::Error>;
        }
    }

    forward! {
        UdpSocket {
            fn connect(&self, address: SocketAddr) -> ();
            fn local_addr(&self) -> SocketAddr;
            fn peer_addr(&self) -> SocketAddr;
            fn send(&self, buf: &[u8]) -> usize;
            fn send_to(&self, buf: &[u8], to: SocketAddr) -> usize;
            fn recv(&self, buf: &mut [u8]) -> usize;
            fn recv_from(&self, buf: &mut [u8]) -> (usize, SocketAddr);
            fn peek(&self, buf: &mut [u8]) -> usize;
            fn peek_from(&self, buf: &mut [u8]) -> (usize, SocketAddr);
            fn broadcast(&self) -> bool;
            fn set_broadcast(&self, on: bool) -> ();
            fn ttl(&self) -> u32;
            fn set_ttl(&self, ttl: u32) -> ();
            fn take_error(&self) -> Option<io::Error>;
            fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
            fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
            fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> ();
            fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> ();
            fn multicast_loop_v4(&self) -> bool;
            fn set_multicast_loop_v4(&self, on: bool) -> ();
            fn multicast_ttl_v4(&self) -> u32;
            fn set_multicast_ttl_v4(&self, ttl: u32) -> ();
            fn multicast_loop_v6(&self) -> bool;
            fn set_multicast_loop_v6(&self, on: bool) -> ();
        }
    }

    impl Read for &TcpStream {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self {
                Either::System(io) => (&mut &*io).read(buf),
            }
        }

        fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            match self {
                Either::System(io) => (&mut &*io).read_vectored(bufs),
            }
        }
    }

    impl Write for &TcpStream {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            match self {
                Either::System(io) => (&mut &*io).write(buf),
            }
        }

        fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
            match self {
                Either::System(io) => (&mut &*io).write_vectored(bufs),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<S: fmt::Debug> fmt::Debug for Either<S> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Either::System(io) => io.fmt(f),
            }
        }
    }

    #[cfg(unix)]
    impl<S: AsRaw> std::os::fd::AsFd for Either<S> {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            match self {
                Either::System(io) => io.as_fd(),
            }
        }
    }

    #[cfg(windows)]
    impl<S: AsRaw> std::os::windows::io::AsSocket for Either<S> {
        fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
            match self {
                Either::System(io) => io.as_socket(),
            }
        }
    }
}

fn accept_system(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = super::accept::accept_nonblocking(listener)?;
    // Some systems return no address if the connection is gone already.
    let peer = peer.as_socket().ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((system(NoSigpipe::new(stream.into())), peer))
}

/// What std's stream has no methods for.
impl NoSigpipe<std::net::TcpStream> {
    /// Begins to connect. The error may be one that says so.
    pub(super) fn start_to_connect(&self, address: SocketAddr) -> io::Result<()> {
        SockRef::from(self).connect(&SockAddr::from(address))
    }

    pub(super) fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self).linger()
    }

    pub(super) fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self).set_linger(linger)
    }

    pub(super) fn keepalive_time(&self) -> io::Result<Option<Duration>> {
        let socket = SockRef::from(self);
        if !socket.keepalive()? {
            return Ok(None);
        }
        keepalive_time(&socket).map(Some)
    }

    pub(super) fn set_keepalive_time(&self, time: Option<Duration>) -> io::Result<()> {
        let socket = SockRef::from(self);
        match time {
            Some(time) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time)),
            None => socket.set_keepalive(false),
        }
    }
}

#[cfg(not(any(windows, target_os = "openbsd")))]
fn keepalive_time(socket: &socket2::Socket) -> io::Result<Duration> {
    socket.tcp_keepalive_time()
}

#[cfg(any(windows, target_os = "openbsd"))]
fn keepalive_time(_: &socket2::Socket) -> io::Result<Duration> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system does not report the time of keepalive",
    ))
}
