//! The sockets of the network, each with what has arrived for it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;
use std::time::{Duration, Instant};

use socket2::Type;

use crate::executor::ProcessId;

/// Why a socket is there: only the drop of its last handle removes it.
pub(super) const OPEN: &str = "the socket is open";

/// A socket: its key in its slab, and its number, which is never reused.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SocketId {
    pub(super) key: usize,
    pub(super) number: u64,
    /// Which end of a connection it is: 0 for the client, 1 for the server.
    pub(super) end: usize,
}

impl SocketId {
    /// The other end of the connection.
    pub(super) fn peer(self) -> SocketId {
        let end = 1 - self.end;
        SocketId { end, ..self }
    }
}

/// What Linux keeps beside each datagram that waits in a socket.
pub(super) const OVERHEAD: usize = 256;

/// A socket that is bound to a port: a listener, or a UDP socket.
pub(super) struct Bound {
    pub(super) id: SocketId,
    pub(super) kind: Type,
    pub(super) owner: ProcessId,
    pub(super) host: usize,
    pub(super) address: SocketAddr,
    pub(super) only_v6: bool,
    pub(super) ttl: u32,
    pub(super) readers: Vec<Waker>,
    /// Its process is over.
    pub(super) is_dead: bool,
    /// The connections that wait to be accepted, and how many may.
    pub(super) connections: VecDeque<SocketId>,
    pub(super) room: usize,
    pub(super) peer: Option<SocketAddr>,
    pub(super) datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The size of the datagrams, with the overhead.
    pub(super) bytes: usize,
    pub(super) error: Option<ErrorKind>,
    pub(super) broadcast: bool,
    pub(super) multicast_loop_v4: bool,
    pub(super) multicast_ttl_v4: u32,
}

pub(super) struct Connection {
    /// That of the client.
    pub(super) id: SocketId,
    /// Its number among those of the two hosts.
    pub(super) ordinal: u64,
    /// How often the request was repeated.
    pub(super) repeats: u32,
    /// Those of the client, and those of the server.
    pub(super) hosts: [usize; 2],
    pub(super) addresses: [SocketAddr; 2],
    pub(super) ends: [End; 2],
    /// What each end has sent.
    pub(super) pipes: [Pipe; 2],
}

#[derive(Default)]
pub(super) struct Pipe {
    pub(super) on_the_way: VecDeque<(Instant, Segment)>,
    pub(super) arrived: VecDeque<u8>,
    /// How many bytes are in the two.
    pub(super) bytes: usize,
    /// The end of the stream has arrived.
    pub(super) ended: bool,
    /// When the last segment arrives.
    pub(super) last: Option<Instant>,
    /// Since when nothing arrives.
    pub(super) stuck: Option<Instant>,
    pub(super) readers: Vec<Waker>,
    pub(super) writers: Vec<Waker>,
    /// Its ends have shut it down for reading, and for writing.
    pub(super) reads_no_more: bool,
    pub(super) writes_no_more: bool,
    /// How many segments were sent, and how often it was read from and written to.
    pub(super) sent: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
}

pub(super) enum Segment {
    Accepted,
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Segment {
    /// The number of bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Segment::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// How the transcript calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Segment::Accepted => "accept",
            Segment::Bytes(_) => "data",
            Segment::End => "fin",
            Segment::Reset => "rst",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Unconnected,
    Connecting,
    Connected,
}

#[derive(Default)]
pub(super) struct End {
    pub(super) owner: ProcessId,
    pub(super) phase: Phase,
    pub(super) reset: bool,
    /// What the next operation returns.
    pub(super) error: Option<ErrorKind>,
    /// Its handles have been dropped.
    pub(super) gone: bool,
    /// Its host has lost power: it answers whatever arrives with a reset.
    pub(super) forgotten: bool,
    pub(super) nodelay: bool,
    pub(super) ttl: u32,
    pub(super) linger: Option<Duration>,
    pub(super) keepalive_time: Option<Duration>,
}

impl End {
    pub(super) fn new(owner: ProcessId) -> End {
        End {
            owner,
            ttl: 64,
            ..End::default()
        }
    }

    /// Returns an error if nothing can be sent or received.
    pub(super) fn check_connected(&self) -> io::Result<()> {
        match self.phase {
            Phase::Unconnected => Err(ErrorKind::NotConnected.into()),
            Phase::Connecting if !self.reset => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }
}

impl Connection {
    /// The hosts of what an end sends: its own, and the other.
    pub(super) fn hosts(&self, from: usize) -> (usize, usize) {
        (self.hosts[from], self.hosts[1 - from])
    }

    /// Whether the connection is gone for an end: it was reset, or both directions have ended.
    pub(super) fn is_closed(&self, end: usize) -> bool {
        self.ends[end].reset || self.pipes.iter().all(|pipe| pipe.ended)
    }

    pub(super) fn peer(&self, end: usize) -> SocketAddr {
        as_seen_by(self.addresses[end], self.addresses[1 - end])
    }

    pub(super) fn peer_addr(&self, end: usize) -> io::Result<SocketAddr> {
        if self.ends[end].phase != Phase::Connected || self.is_closed(end) {
            return Err(ErrorKind::NotConnected.into());
        }
        Ok(self.peer(end))
    }

    /// Whether an end takes no more bytes.
    pub(super) fn takes_nothing(&self, end: usize) -> bool {
        let is_shut = self.pipes[1 - end].reads_no_more && self.pipes[end].writes_no_more;
        self.ends[end].gone || is_shut
    }

    /// Whether a read (`reads`) or a write would not block.
    pub(super) fn is_ready(&self, end: usize, reads: bool, window: usize) -> bool {
        let side = &self.ends[end];
        if side.reset || side.phase != Phase::Connected {
            return side.reset || side.phase == Phase::Unconnected;
        }
        let (incoming, outgoing) = (&self.pipes[1 - end], &self.pipes[end]);
        let can_transfer = match reads {
            true => !incoming.arrived.is_empty() || incoming.ended || incoming.reads_no_more,
            false => outgoing.writes_no_more || outgoing.bytes < window,
        };
        can_transfer || side.error.is_some()
    }

    /// The wakers of what waits to read or to write at an end.
    pub(super) fn waiters(&mut self, end: usize, reads: bool) -> &mut Vec<Waker> {
        match reads {
            true => &mut self.pipes[1 - end].readers,
            false => &mut self.pipes[end].writers,
        }
    }

    pub(super) fn wake_end(&mut self, end: usize, woken: &mut Vec<Waker>) {
        woken.append(self.waiters(end, true));
        woken.append(self.waiters(end, false));
    }

    /// The other side has reset the connection, or the network has given it up.
    pub(super) fn reset(&mut self, end: usize, error: ErrorKind, woken: &mut Vec<Waker>) {
        if self.is_closed(end) {
            return;
        }
        let side = &mut self.ends[end];
        side.reset = true;
        side.error = Some(match error {
            ErrorKind::ConnectionReset if side.phase == Phase::Connecting => {
                ErrorKind::ConnectionRefused
            }
            // Linux reports a broken pipe if the peer had ended its stream before the reset.
            ErrorKind::ConnectionReset if self.pipes[1 - end].ended => ErrorKind::BrokenPipe,
            error => error,
        });
        self.wake_end(end, woken);
    }
}

/// A datagram under way.
#[derive(Clone)]
pub(super) struct Datagram {
    pub(super) sender: SocketId,
    pub(super) hosts: (usize, usize),
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

impl Bound {
    pub(super) fn new(kind: Type, owner: ProcessId, host: usize, address: SocketAddr) -> Bound {
        Bound {
            id: SocketId::default(),
            kind,
            owner,
            host,
            address,
            only_v6: false,
            ttl: 64,
            readers: Vec::new(),
            is_dead: false,
            connections: VecDeque::new(),
            room: 0,
            peer: None,
            datagrams: VecDeque::new(),
            bytes: 0,
            error: None,
            broadcast: false,
            multicast_loop_v4: true,
            multicast_ttl_v4: 1,
        }
    }

    /// Whether it receives what is sent to `ip` of its host.
    pub(super) fn receives(&self, ip: IpAddr) -> bool {
        match self.address.ip() {
            own if !own.is_unspecified() => own.to_canonical() == ip.to_canonical(),
            IpAddr::V4(_) => ip.to_canonical().is_ipv4(),
            IpAddr::V6(_) => ip.is_ipv6() || !self.only_v6,
        }
    }

    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take().map(io::Error::from)
    }

    /// Whether there is something to accept or to receive.
    pub(super) fn can_receive(&self) -> bool {
        let is_empty = self.connections.is_empty() && self.datagrams.is_empty();
        !is_empty || self.error.is_some() || self.is_dead
    }

    /// The error of an operation that finds nothing.
    pub(super) fn nothing(&self) -> io::Error {
        match self.is_dead {
            true => crashed(),
            false => ErrorKind::WouldBlock.into(),
        }
    }

    /// Takes the next datagram, or copies it if `peek`. What does not fit in the buffer is lost.
    pub(super) fn receive(
        &mut self,
        buf: &mut [u8],
        peek: bool,
    ) -> io::Result<(usize, SocketAddr)> {
        if let Some(error) = self.take_error() {
            return Err(error);
        }
        let next = self.datagrams.front();
        let (from, bytes) = next.ok_or_else(|| self.nothing())?;
        let (from, count) = (as_seen_by(self.address, *from), bytes.len().min(buf.len()));
        buf[..count].copy_from_slice(&bytes[..count]);
        if !peek {
            self.bytes -= bytes.len() + OVERHEAD;
            self.datagrams.pop_front();
        }
        Ok((count, from))
    }
}

/// An address as a socket at `local` shows it. One for IPv6 also has connections of IPv4.
pub(super) fn as_seen_by(local: SocketAddr, address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) if local.is_ipv6() => ip.to_ipv6_mapped().into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// An error of the system that has no kind of its own.
macro_rules! errno {
    ($errno:ident, elsewhere: $kind:ident) => {{
        #[cfg(unix)]
        let error = std::io::Error::from(rustix::io::Errno::$errno);
        #[cfg(not(unix))]
        let error = std::io::Error::from(std::io::ErrorKind::$kind);
        error
    }};
}
pub(super) use errno;

/// `ip`, or another address if it is unspecified.
pub(super) fn specified(ip: IpAddr, otherwise: IpAddr) -> IpAddr {
    match ip.is_unspecified() {
        true => otherwise,
        false => ip,
    }
}

/// What the socket belongs to is over.
pub(super) fn crashed() -> io::Error {
    io::Error::new(ErrorKind::NetworkDown, "the host has crashed")
}
