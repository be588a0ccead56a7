//! The sockets of a simulated host, with the methods of std's types. None of them blocks.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use socket2::{Domain, Type};

use super::endpoints::{Connection, End, SocketId, Udp};
use super::network::Network;
use super::state::State;
use crate::executor::{self, ProcessId};
use crate::reactor::Direction;
use crate::socket::Simulated;

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
        let Some(executor) = executor::try_current() else {
            return Ok(None);
        };
        let Some(network) = super::network_of(&executor) else {
            return Ok(None);
        };
        let id = executor.current_process();
        let Some(host) = id.host() else {
            return Err(io::Error::other(
                "this task belongs to no host of its simulated world, so it has no network: spawn \
                 it with `Host::spawn`",
            ));
        };
        if executor.is_process_over(id) {
            return Err(crashed());
        }
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
        let nowhere: IpAddr = match to.is_ipv6() {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let local = local.unwrap_or(SocketAddr::new(nowhere, 0));
        if local.is_ipv6() != to.is_ipv6() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let open = |state: &mut State| state.new_connection(self.id, self.host, local);
        let socket = SimulatedSocket::new(self, self.network.with(open)?);
        Ok(TcpStream { socket, end: 0 })
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
        let listen =
            |state: &mut State| state.listen(self.id, self.host, address, backlog, only_v6);
        let socket = SimulatedSocket::new(self, self.network.with(listen)?);
        Ok(TcpListener { socket })
    }

    pub(crate) fn bind_udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let bind = |state: &mut State| state.bind_udp(self.id, self.host, address);
        let socket = SimulatedSocket::new(self, self.network.with(bind)?);
        Ok(UdpSocket { socket })
    }
}

#[cold]
fn crashed() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the host of this task has crashed",
    )
}

/// What all sockets of a simulated host have.
struct SimulatedSocket {
    network: Arc<Network>,
    host: usize,
    id: SocketId,
    placeholder: OnceLock<socket2::Socket>,
}

impl SimulatedSocket {
    fn new(process: &Process, id: SocketId) -> SimulatedSocket {
        SimulatedSocket {
            network: process.network.clone(),
            host: process.host,
            id,
            placeholder: OnceLock::new(),
        }
    }

    /// A socket of the system that is not connected, for code that wants one.
    fn placeholder(&self, kind: Type) -> &socket2::Socket {
        self.placeholder.get_or_init(|| {
            let socket = socket2::Socket::new(Domain::IPV4, kind, None);
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
        self.network.with(|state| match waiters(state) {
            Some(waiters) => wait_in(waiters, &mut waker),
            None => Poll::Ready(()),
        })
    }
}

/// `get` and `set` for an option that has no effect.
macro_rules! options {
    ($with:ident: $($get:ident, $set:ident: $type:ty;)*) => {$(
        pub(crate) fn $get(&self) -> io::Result<$type> {
            Ok(self.$with(|socket| socket.$get))
        }

        pub(crate) fn $set(&self, value: $type) -> io::Result<()> {
            self.$with(|socket| socket.$get = value);
            Ok(())
        }
    )*};
}

/// One end of a connection.
pub(crate) struct TcpStream {
    socket: SimulatedSocket,
    end: usize,
}

impl TcpStream {
    fn with<R>(&self, f: impl FnOnce(&mut Connection, usize) -> R) -> R {
        let (key, end) = (self.socket.id.key, self.end);
        self.socket
            .network
            .with(|state| f(&mut state.connections[key], end))
    }

    fn with_end<R>(&self, f: impl FnOnce(&mut End) -> R) -> R {
        self.with(|connection, end| f(&mut connection.ends[end]))
    }

    /// The error says that it is in progress.
    pub(crate) fn start_to_connect(&self, address: SocketAddr) -> io::Result<()> {
        let id = self.socket.id;
        self.socket
            .network
            .with(|state| state.connect(id, address))?;
        Err(in_progress())
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.with(|connection, end| connection.local_addr(end)))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.with(|connection, end| connection.peer_addr(end))
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.with(Connection::take_error))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let (id, end) = (self.socket.id, self.end);
        self.socket
            .network
            .with(|state| state.shutdown(id, end, how))
    }

    pub(crate) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_into(&mut [IoSliceMut::new(buf)], true)
    }

    fn read_into(&self, bufs: &mut [IoSliceMut<'_>], peek: bool) -> io::Result<usize> {
        let (id, end) = (self.socket.id, self.end);
        self.socket
            .network
            .with(|state| state.read(id, end, bufs, peek))
    }

    options! {
        with_end:
        nodelay, set_nodelay: bool;
        linger, set_linger: Option<Duration>;
    }

    pub(crate) fn ttl(&self) -> io::Result<u32> {
        Ok(self.with_end(|end| end.ttl))
    }

    pub(crate) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        check_ttl(ttl)?;
        self.with_end(|end| end.ttl = ttl);
        Ok(())
    }

    pub(crate) fn keepalive_time(&self) -> io::Result<Option<Duration>> {
        Ok(self.with_end(|end| end.keepalive))
    }

    pub(crate) fn set_keepalive_time(&self, time: Option<Duration>) -> io::Result<()> {
        if time.is_some_and(|time| time > LONGEST_KEEPALIVE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.with_end(|end| end.keepalive = time);
        Ok(())
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_into(&mut [IoSliceMut::new(buf)], false)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_into(bufs, false)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let (id, end) = (self.socket.id, self.end);
        self.socket.network.with(|state| state.write(id, end, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A simulated socket, in whose place there is one of the system for `as_fd`.
pub(crate) trait Placeholder: Simulated + 'static {
    fn placeholder(&self) -> &socket2::Socket;
}

impl Placeholder for TcpStream {
    fn placeholder(&self) -> &socket2::Socket {
        self.socket.placeholder(Type::STREAM)
    }
}

impl Placeholder for TcpListener {
    fn placeholder(&self) -> &socket2::Socket {
        self.socket.placeholder(Type::STREAM)
    }
}

impl Placeholder for UdpSocket {
    fn placeholder(&self) -> &socket2::Socket {
        self.socket.placeholder(Type::DGRAM)
    }
}

impl Simulated for TcpStream {
    fn poll_ready(&self, direction: Direction, waker: &Waker) -> Poll<()> {
        let (id, end) = (self.socket.id, self.end);
        let reads = direction == Direction::Read;
        self.socket.poll_ready(waker, |state| {
            let window = state.window(id, end);
            let connection = &mut state.connections[id.key];
            let is_ready = match reads {
                true => connection.can_read(end),
                false => connection.can_write(end, window),
            };
            (!is_ready).then(|| connection.waiters(end, reads))
        })
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let (id, end) = (self.socket.id, self.end);
        self.socket.network.with(|state| {
            let linger = state.connections[id.key].ends[end].linger;
            state.close(id, end, linger == Some(Duration::ZERO));
        });
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addr, peer) =
            self.with(|connection, end| (connection.local_addr(end), connection.peer(end)));
        let mut debug = f.debug_struct("TcpStream");
        debug.field("addr", &addr).field("peer", &peer).finish()
    }
}

pub(crate) struct TcpListener {
    socket: SimulatedSocket,
}

impl TcpListener {
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let SimulatedSocket {
            network, host, id, ..
        } = &self.socket;
        let (id, peer) = network.with(|state| state.accept(*id))?;
        let socket = SimulatedSocket {
            network: network.clone(),
            host: *host,
            id,
            placeholder: OnceLock::new(),
        };
        Ok((TcpStream { socket, end: 1 }, peer))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        let key = self.socket.id.key;
        Ok(self
            .socket
            .network
            .with(|state| state.listeners[key].address))
    }

    pub(crate) fn ttl(&self) -> io::Result<u32> {
        let key = self.socket.id.key;
        Ok(self.socket.network.with(|state| state.listeners[key].ttl))
    }

    pub(crate) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        check_ttl(ttl)?;
        let key = self.socket.id.key;
        self.socket
            .network
            .with(|state| state.listeners[key].ttl = ttl);
        Ok(())
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
}

impl Simulated for TcpListener {
    fn poll_ready(&self, direction: Direction, waker: &Waker) -> Poll<()> {
        let id = self.socket.id;
        let reads = direction == Direction::Read;
        self.socket.poll_ready(waker, |state| {
            let listener = &mut state.listeners[id.key];
            let is_ready = reads && listener.can_accept();
            (!is_ready).then_some(&mut listener.accepters)
        })
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let (id, host) = (self.socket.id, self.socket.host);
        self.socket
            .network
            .with(|state| state.close_listener(id, host));
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpListener");
        debug.field("addr", &self.local_addr().ok()).finish()
    }
}

pub(crate) struct UdpSocket {
    socket: SimulatedSocket,
}

impl UdpSocket {
    fn with<R>(&self, f: impl FnOnce(&mut Udp) -> R) -> R {
        let key = self.socket.id.key;
        self.socket.network.with(|state| f(&mut state.udp[key]))
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<()> {
        let id = self.socket.id;
        self.socket
            .network
            .with(|state| state.connect_udp(id, address))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.with(|socket| socket.local))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        let peer = self.with(|socket| socket.peer);
        peer.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(crate) fn send(&self, buf: &[u8]) -> io::Result<usize> {
        let id = self.socket.id;
        self.socket
            .network
            .with(|state| state.send_datagram(id, buf, None))
    }

    pub(crate) fn send_to(&self, buf: &[u8], to: SocketAddr) -> io::Result<usize> {
        let id = self.socket.id;
        self.socket
            .network
            .with(|state| state.send_datagram(id, buf, Some(to)))
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

    options! {
        with:
        broadcast, set_broadcast: bool;
        multicast_loop_v4, set_multicast_loop_v4: bool;
        multicast_ttl_v4, set_multicast_ttl_v4: u32;
    }

    pub(crate) fn ttl(&self) -> io::Result<u32> {
        Ok(self.with(|socket| socket.ttl))
    }

    pub(crate) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        check_ttl(ttl)?;
        self.with(|socket| socket.ttl = ttl);
        Ok(())
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.with(Udp::take_error))
    }

    pub(crate) fn join_multicast_v4(&self, _: &Ipv4Addr, _: &Ipv4Addr) -> io::Result<()> {
        Err(unsupported("multicast"))
    }

    pub(crate) fn leave_multicast_v4(&self, _: &Ipv4Addr, _: &Ipv4Addr) -> io::Result<()> {
        Err(unsupported("multicast"))
    }

    pub(crate) fn join_multicast_v6(&self, _: &Ipv6Addr, _: u32) -> io::Result<()> {
        Err(unsupported("multicast"))
    }

    pub(crate) fn leave_multicast_v6(&self, _: &Ipv6Addr, _: u32) -> io::Result<()> {
        Err(unsupported("multicast"))
    }

    pub(crate) fn multicast_loop_v6(&self) -> io::Result<bool> {
        Err(unsupported("multicast"))
    }

    pub(crate) fn set_multicast_loop_v6(&self, _: bool) -> io::Result<()> {
        Err(unsupported("multicast"))
    }
}

fn unsupported(what: &str) -> io::Error {
    let text = format!("a simulated network has no {what}");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

impl Simulated for UdpSocket {
    fn poll_ready(&self, direction: Direction, waker: &Waker) -> Poll<()> {
        let key = self.socket.id.key;
        // A send never blocks.
        let writes = direction == Direction::Write;
        self.socket.poll_ready(waker, |state| {
            let socket = &mut state.udp[key];
            let is_ready = writes || socket.can_receive();
            (!is_ready).then_some(&mut socket.readers)
        })
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let id = self.socket.id;
        self.socket.network.with(|state| state.close_udp(id));
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UdpSocket");
        debug.field("addr", &self.local_addr().ok());
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.finish()
    }
}

fn check_ttl(ttl: u32) -> io::Result<()> {
    match ttl {
        1..=255 => Ok(()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Adds a waker to a list, without duplicates.
fn wait_in(list: &mut Vec<Waker>, waker: &mut Option<Waker>) -> Poll<()> {
    let is_known = |waker: &Waker| list.iter().any(|known| known.will_wake(waker));
    if let Some(waker) = waker.take_if(|waker| !is_known(waker)) {
        list.push(waker);
    }
    Poll::Pending
}

#[cfg(unix)]
fn in_progress() -> io::Error {
    rustix::io::Errno::INPROGRESS.into()
}

#[cfg(not(unix))]
fn in_progress() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}
