//! What is inside of a TCP or UDP socket: std's type, or, with the feature `testing`, either that
//! or a socket of a simulated network. Both have the methods of std's type.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockAddr, SockRef, TcpKeepalive};

#[cfg(feature = "testing")]
pub(super) use self::either::*;
#[cfg(not(feature = "testing"))]
pub(super) use self::system::*;
use super::accept::accept_nonblocking;
use super::sigpipe::NoSigpipe;
use crate::reactor::AsRaw;
use crate::socket::Socket;

/// Without the feature there is only the system.
#[cfg(not(feature = "testing"))]
mod system {
    use super::*;

    pub(in crate::net) type TcpStream = NoSigpipe<std::net::TcpStream>;
    pub(in crate::net) type TcpListener = std::net::TcpListener;
    pub(in crate::net) type UdpSocket = std::net::UdpSocket;

    /// Makes the object for the simulated host of the current task, or for the system.
    macro_rules! make {
        (|$process:ident| $simulated:expr, $system:expr) => {
            $system
        };
    }

    pub(in crate::net) use make;

    pub(in crate::net) fn into_system<S>(io: S) -> S {
        io
    }

    /// A socket from std's type.
    pub(in crate::net) fn adopt<S: AsRaw + 'static>(io: S, what: &str) -> io::Result<Socket<S>> {
        Socket::new(io, what)
    }

    pub(in crate::net) use self::adopt as new_socket;
}

/// Objects of the system, or of a simulated host.
#[cfg(feature = "testing")]
mod either {
    use std::fmt;
    use std::io::{IoSlice, IoSliceMut, Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, Shutdown};

    use super::*;
    use crate::socket::Simulated;
    use crate::testing::world::{self, Placeholder, Process};

    pub(in crate::net) type TcpStream = Either<NoSigpipe<std::net::TcpStream>, world::TcpStream>;
    pub(in crate::net) type TcpListener = Either<std::net::TcpListener, world::TcpListener>;
    pub(in crate::net) type UdpSocket = Either<std::net::UdpSocket, world::UdpSocket>;

    pub(in crate::net) enum Either<S, W> {
        System(S),
        World(W),
    }

    /// Makes the object for the simulated host of the current task, or for the system.
    macro_rules! make {
        (|$process:ident| $simulated:expr, $system:expr) => {
            match $crate::testing::world::Process::current()? {
                Some($process) => $crate::net::inner::Either::World($simulated),
                None => $crate::net::inner::Either::System($system),
            }
        };
    }

    /// Does the same with either object.
    macro_rules! with {
        ($object:expr, |$io:ident| $operation:expr) => {
            with!($object, |$io| $operation, |$io| $operation)
        };
        ($object:expr, |$io:ident| $operation:expr, |$simulated:ident| $other:expr) => {
            match $object {
                Either::System($io) => $operation,
                Either::World($simulated) => $other,
            }
        };
    }

    pub(in crate::net) use make;

    pub(in crate::net) fn into_system<S, W>(io: Either<S, W>) -> S {
        with!(io, |io| io, |_io| unreachable!(
            "`Socket::into_inner` refuses it"
        ))
    }

    /// A socket from std's type. A simulated host has none.
    pub(in crate::net) fn adopt<S: AsRaw + 'static, W: Placeholder>(
        io: S,
        what: &str,
    ) -> io::Result<Socket<Either<S, W>>> {
        if Process::current()?.is_some() {
            let text = "a simulated host has no sockets of the system";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        new_socket(Either::System(io), what)
    }

    /// `what` is named in the error outside of a runtime.
    pub(in crate::net) fn new_socket<S: AsRaw + 'static, W: Placeholder>(
        io: Either<S, W>,
        what: &str,
    ) -> io::Result<Socket<Either<S, W>>> {
        fn simulated<S, W: Placeholder>(io: &Either<S, W>) -> &dyn Simulated {
            with!(io, |_io| unreachable!("it is simulated"), |io| io)
        }
        match io {
            Either::System(_) => Socket::new(io, what),
            Either::World(_) => Ok(Socket::simulated(io, simulated)),
        }
    }

    macro_rules! forward {
        ($type:ty: $(fn $name:ident(&self $(, $arg:ident: $argument:ty)*) -> $output:ty;)*) => {
            impl $type {
                $(pub(in crate::net) fn $name(&self $(, $arg: $argument)*) -> io::Result<$output> {
                    with!(self, |io| io.$name($($arg),*))
                })*
            }
        };
    }

    forward! {
        TcpStream:
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

    forward! {
        TcpListener:
        fn local_addr(&self) -> SocketAddr;
        fn ttl(&self) -> u32;
        fn set_ttl(&self, ttl: u32) -> ();
        fn take_error(&self) -> Option<io::Error>;
    }

    forward! {
        UdpSocket:
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

    impl Read for &TcpStream {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            with!(self, |io| (&mut &*io).read(buf))
        }

        fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            with!(self, |io| (&mut &*io).read_vectored(bufs))
        }
    }

    impl Write for &TcpStream {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            with!(self, |io| (&mut &*io).write(buf))
        }

        fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
            with!(self, |io| (&mut &*io).write_vectored(bufs))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<S: fmt::Debug, W: fmt::Debug> fmt::Debug for Either<S, W> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            with!(self, |io| io.fmt(f))
        }
    }

    #[cfg(unix)]
    impl<S: AsRaw, W: Placeholder> std::os::fd::AsFd for Either<S, W> {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            with!(self, |io| io.as_fd(), |io| io
                .socket()
                .placeholder()
                .as_fd())
        }
    }

    #[cfg(windows)]
    impl<S: AsRaw, W: Placeholder> std::os::windows::io::AsSocket for Either<S, W> {
        fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
            with!(self, |io| io.as_socket(), |io| io
                .socket()
                .placeholder()
                .as_socket())
        }
    }
}

pub(super) fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    Ok(make!(|process| process.bind_udp(address)?, {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        socket
    }))
}

pub(super) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    #[cfg(feature = "testing")]
    let listener = match listener {
        Either::System(listener) => listener,
        Either::World(listener) => {
            let (stream, peer) = listener.accept()?;
            return Ok((Either::World(stream), peer));
        }
    };
    let (stream, peer) = accept_nonblocking(listener)?;
    // Some systems return no address if the connection is gone already.
    let peer = peer.as_socket().ok_or(io::ErrorKind::ConnectionAborted)?;
    let stream = NoSigpipe::new(stream.into());
    #[cfg(feature = "testing")]
    let stream = Either::System(stream);
    Ok((stream, peer))
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
        #[cfg(not(any(windows, target_os = "openbsd")))]
        return socket.tcp_keepalive_time().map(Some);
        #[cfg(any(windows, target_os = "openbsd"))]
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system does not report the time of keepalive",
        ))
    }

    pub(super) fn set_keepalive_time(&self, time: Option<Duration>) -> io::Result<()> {
        let socket = SockRef::from(self);
        match time {
            Some(time) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time)),
            None => socket.set_keepalive(false),
        }
    }
}
