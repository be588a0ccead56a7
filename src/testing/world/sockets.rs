//! The sockets of a simulated host, with the methods of std's types. None of them blocks.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use socket2::{Domain, Type};

use super::endpoints::{Bound, Connection, End, SocketId, crashed, errno};
use super::network::Network;
use super::state::State;
use crate::executor::{self, Hosts, ProcessId};
use crate::reactor::Direction;
use crate::socket::Simulated;
use crate::testing::simulation::hosts_of;

/// Linux's limit.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// A process of a simulated host, which makes its sockets.
#[derive(Clone)]
pub(crate) struct Process {
    network: Arc<Network>,
    id: ProcessId,
    host: usize,
}

impl Process {
    /// The process of the task that runs. `None` outside of a simulated world, where the network is
    /// the system's.
    pub(crate) fn current() -> io::Result<Option<Process>> {
        let executor = executor::try_current();
        let Some(hosts) = executor.as_deref().and_then(hosts_of) else {
            return Ok(None);
        };
        let id = hosts.process(None);
        let Some(host) = id.host() else {
            return Err(io::Error::other(
                "this task belongs to no host of its simulated world, so it has no network: spawn \
                 it with `Host::spawn`",
            ));
        };
        if hosts.is_over(id) {
            return Err(crashed());
        }
        let network = hosts.network.clone();
        Ok(Some(Process { network, id, host }))
    }

    /// The address of a host, or of this one for `localhost`.
    pub(crate) fn look_up(&self, name: &str) -> io::Result<IpAddr> {
        let found = self.network.with(|state| state.look_up(name));
        // The error of the system, which has no kind of its own.
        let kind = io::Error::from_raw_os_error(0).kind();
        let text = "failed to lookup address information: Name or service not known";
        found.ok_or_else(|| io::Error::new(kind, text))
    }

    /// `local` is the address to connect from.
    pub(crate) fn open_stream(
        &self,
        to: SocketAddr,
        local: Option<SocketAddr>,
    ) -> io::Result<TcpStream> {
        let local = local.unwrap_or_else(|| match to.is_ipv6() {
            true => (Ipv6Addr::UNSPECIFIED, 0).into(),
            false => (Ipv4Addr::UNSPECIFIED, 0).into(),
        });
        if local.is_ipv6() != to.is_ipv6() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let open = |state: &mut State| state.new_connection(self.id, self.host, local);
        let id = self.network.with(open)?;
        let socket = SimulatedSocket::new(&self.network, id, Type::STREAM);
        Ok(TcpStream { socket })
    }

    pub(crate) fn listen(
        &self,
        address: SocketAddr,
        backlog: u32,
        only_v6: bool,
        reuse_port: bool,
    ) -> io::Result<TcpListener> {
        if reuse_port {
            return Err(unsupported("`SO_REUSEPORT`"));
        }
        let mut listener = Bound::new(Type::STREAM, self.id, self.host, address);
        listener.only_v6 = only_v6;
        // Like Linux, which lets one more wait.
        listener.room = usize::try_from(backlog).map_or(usize::MAX, |room| room.saturating_add(1));
        self.bind(listener)
    }

    pub(crate) fn bind_udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        self.bind(Bound::new(Type::DGRAM, self.id, self.host, address))
    }

    fn bind(&self, socket: Bound) -> io::Result<BoundSocket> {
        let kind = socket.kind;
        let id = self.network.with(|state| state.bind(socket))?;
        let socket = SimulatedSocket::new(&self.network, id, kind);
        Ok(BoundSocket { socket })
    }
}

/// What all sockets of a simulated host have.
pub(crate) struct SimulatedSocket {
    network: Arc<Network>,
    id: SocketId,
    kind: Type,
    placeholder: OnceLock<socket2::Socket>,
}

impl SimulatedSocket {
    fn new(network: &Arc<Network>, id: SocketId, kind: Type) -> SimulatedSocket {
        SimulatedSocket {
            network: network.clone(),
            id,
            kind,
            placeholder: OnceLock::new(),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut State, SocketId) -> R) -> R {
        self.network.with(|state| f(state, self.id))
    }

    /// A socket of the system that is not connected, for code that wants one.
    pub(crate) fn placeholder(&self) -> &socket2::Socket {
        self.placeholder.get_or_init(|| {
            let socket = socket2::Socket::new(Domain::IPV4, self.kind, None);
            let socket = socket.expect("there is a socket of the system for `as_fd`");
            let _ = socket.set_nonblocking(true);
            socket
        })
    }

    /// `waiters` returns where the waker is kept, or `None` if there is nothing to wait for.
    fn poll_ready(
        &self,
        waker: &Waker,
        waiters: impl FnOnce(&mut State) -> Option<&mut Vec<Waker>>,
    ) -> Poll<()> {
        // It is cloned and dropped while the state is not locked.
        let mut waker = Some(waker.clone());
        self.network.with(|state| {
            let Some(waiters) = waiters(state) else {
                return Poll::Ready(());
            };
            let is_new = |waker: &mut Waker| !waiters.iter().any(|known| known.will_wake(waker));
            let new = waker.take_if(is_new);
            waiters.extend(new);
            Poll::Pending
        })
    }
}

/// `get` and `set` for options. Most have no effect. `check` returns whether a value is valid.
macro_rules! options {
    ($with:ident: $($get:ident, $set:ident: $type:ty $(, $check:expr)?;)*) => {$(
        pub(crate) fn $get(&self) -> io::Result<$type> {
            Ok(self.$with(|socket| socket.$get))
        }

        pub(crate) fn $set(&self, value: $type) -> io::Result<()> {
            $(if !$check(value) {
                return Err(ErrorKind::InvalidInput.into());
            })?
            self.$with(|socket| socket.$get = value);
            Ok(())
        }
    )*};
}

/// One end of a connection.
pub(crate) struct TcpStream {
    socket: SimulatedSocket,
}

impl TcpStream {
    fn with<R>(&self, f: impl FnOnce(&mut Connection, usize) -> R) -> R {
        self.socket
            .with(|state, id| f(&mut state.connections[id.key], id.end))
    }

    fn with_end<R>(&self, f: impl FnOnce(&mut End) -> R) -> R {
        self.socket.with(|state, id| f(state.end(id)))
    }

    /// The error says that it is in progress.
    pub(crate) fn start_to_connect(&self, address: SocketAddr) -> io::Result<()> {
        self.socket.with(|state, id| state.connect(id, address))?;
        Err(errno!(INPROGRESS, elsewhere: WouldBlock))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.with(|connection, end| connection.addresses[end]))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.with(|connection, end| connection.peer_addr(end))
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.with_end(|end| end.error.take()).map(io::Error::from))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.with(|state, id| state.shutdown(id, how))
    }

    pub(crate) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let bufs = &mut [IoSliceMut::new(buf)];
        self.socket.with(|state, id| state.read(id, bufs, true))
    }

    options! {
        with_end:
        nodelay, set_nodelay: bool;
        linger, set_linger: Option<Duration>;
        keepalive_time, set_keepalive_time: Option<Duration>, is_keepalive;
        ttl, set_ttl: u32, is_ttl;
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.socket.with(|state, id| state.read(id, bufs, false))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.with(|state, id| state.write(id, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Simulated for TcpStream {
    fn poll_ready(&self, direction: Direction, waker: &Waker) -> Poll<()> {
        let (id, end) = (self.socket.id, self.socket.id.end);
        let reads = direction == Direction::Read;
        self.socket.poll_ready(waker, |state| {
            let window = state.window(id);
            let connection = &mut state.connections[id.key];
            let is_ready = connection.is_ready(end, reads, window);
            (!is_ready).then(|| connection.waiters(end, reads))
        })
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.socket.with(|state, id| {
            let linger = state.end(id).linger;
            state.close(id, linger == Some(Duration::ZERO));
        });
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addr, peer) =
            self.with(|connection, end| (connection.addresses[end], connection.peer(end)));
        let mut debug = f.debug_struct("TcpStream");
        debug.field("addr", &addr).field("peer", &peer).finish()
    }
}

/// A listener, or a UDP socket.
pub(crate) struct BoundSocket {
    socket: SimulatedSocket,
}

pub(crate) type TcpListener = BoundSocket;
pub(crate) type UdpSocket = BoundSocket;

/// Methods that a simulated network has not.
macro_rules! unsupported {
    ($what:literal: $(fn $name:ident($($type:ty),*) -> $output:ty;)*) => {$(
        pub(crate) fn $name(&self $(, _: $type)*) -> io::Result<$output> {
            Err(unsupported($what))
        }
    )*};
}

impl BoundSocket {
    fn with<R>(&self, f: impl FnOnce(&mut Bound) -> R) -> R {
        self.socket.with(|state, id| f(&mut state.bound[id.key]))
    }

    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (id, peer) = self.socket.with(State::accept)?;
        let socket = SimulatedSocket::new(&self.socket.network, id, self.socket.kind);
        Ok((TcpStream { socket }, peer))
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<()> {
        self.socket.with(|state, id| state.connect_udp(id, address))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.with(|socket| socket.address))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        let peer = self.with(|socket| socket.peer);
        Ok(peer.ok_or(ErrorKind::NotConnected)?)
    }

    pub(crate) fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket
            .with(|state, id| state.send_datagram(id, buf, None))
    }

    pub(crate) fn send_to(&self, buf: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.socket
            .with(|state, id| state.send_datagram(id, buf, Some(to)))
    }

    pub(crate) fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv_from(buf)?.0)
    }

    pub(crate) fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.with(|socket| socket.receive(buf, false))
    }

    pub(crate) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.peek_from(buf)?.0)
    }

    pub(crate) fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.with(|socket| socket.receive(buf, true))
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.with(Bound::take_error))
    }

    options! {
        with:
        broadcast, set_broadcast: bool;
        multicast_loop_v4, set_multicast_loop_v4: bool;
        multicast_ttl_v4, set_multicast_ttl_v4: u32;
        ttl, set_ttl: u32, is_ttl;
    }

    unsupported! {
        "multicast":
        fn join_multicast_v4(&Ipv4Addr, &Ipv4Addr) -> ();
        fn leave_multicast_v4(&Ipv4Addr, &Ipv4Addr) -> ();
        fn join_multicast_v6(&Ipv6Addr, u32) -> ();
        fn leave_multicast_v6(&Ipv6Addr, u32) -> ();
        fn multicast_loop_v6() -> bool;
        fn set_multicast_loop_v6(bool) -> ();
    }
}

fn unsupported(what: &str) -> io::Error {
    let text = format!("a simulated network has no {what}");
    io::Error::new(ErrorKind::Unsupported, text)
}

impl Simulated for BoundSocket {
    fn poll_ready(&self, direction: Direction, waker: &Waker) -> Poll<()> {
        let SimulatedSocket { id, kind, .. } = self.socket;
        self.socket.poll_ready(waker, |state| {
            let socket = &mut state.bound[id.key];
            let is_ready = match direction {
                Direction::Read => socket.can_receive(),
                // A send never blocks.
                Direction::Write => kind == Type::DGRAM,
            };
            (!is_ready).then_some(&mut socket.readers)
        })
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        self.socket.with(State::close_bound);
    }
}

impl fmt::Debug for BoundSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addr, peer) = self.with(|socket| (socket.address, socket.peer));
        let mut debug = f.debug_struct(match self.socket.kind {
            Type::DGRAM => "UdpSocket",
            _ => "TcpListener",
        });
        debug.field("addr", &addr);
        if let Some(peer) = peer {
            debug.field("peer", &peer);
        }
        debug.finish()
    }
}

/// A simulated socket. `as_fd` lends an unconnected socket of the system instead.
pub(crate) trait Placeholder: Simulated + 'static {
    fn socket(&self) -> &SimulatedSocket;
}

impl Placeholder for TcpStream {
    fn socket(&self) -> &SimulatedSocket {
        &self.socket
    }
}

impl Placeholder for BoundSocket {
    fn socket(&self) -> &SimulatedSocket {
        &self.socket
    }
}

fn is_ttl(ttl: u32) -> bool {
    (1..=255).contains(&ttl)
}

fn is_keepalive(time: Option<Duration>) -> bool {
    time.is_none_or(|time| time <= LONGEST_KEEPALIVE)
}
