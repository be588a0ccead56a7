//! Connections and listeners.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::network::{Later, SocketId, State, address_in_use, as_seen_by, collide, receives};
use crate::executor::ProcessId;
use crate::testing::faults::{FaultKind, Place};

/// The largest number of bytes that are sent at once.
const SEGMENT: usize = 1460;

/// After how long a lost segment is sent again for the first time.
const RESEND: Duration = Duration::from_millis(200);

/// Requests to connect are repeated after 1, 2, 4 and so on seconds. This many are, like on Linux.
const REPEATS: u32 = 6;

/// How long Linux tries to send a segment again.
const GIVE_UP: Duration = Duration::from_millis(924_600);

pub(super) struct Listener {
    owner: ProcessId,
    pub(super) address: SocketAddr,
    only_v6: bool,
    /// How many connections may wait to be accepted.
    room: usize,
    pub(super) ttl: u32,
    waiting: VecDeque<SocketId>,
    pub(super) accepters: Vec<Waker>,
    /// Its process is over.
    is_dead: bool,
}

pub(super) struct Connection {
    id: SocketId,
    /// Its number among those of the two hosts.
    ordinal: u64,
    /// How often the request was repeated.
    repeats: u32,
    /// That of the client, and that of the server.
    pub(super) ends: [End; 2],
    /// What each end has sent.
    pipes: [Pipe; 2],
}

#[derive(Default)]
struct Pipe {
    on_the_way: VecDeque<(Instant, Segment)>,
    arrived: VecDeque<u8>,
    /// How many bytes are in the two.
    bytes: usize,
    /// The end of the stream has arrived.
    ended: bool,
    /// When the last segment arrives.
    last: Option<Instant>,
    /// Since when nothing arrives.
    stuck: Option<Instant>,
    readers: Vec<Waker>,
    writers: Vec<Waker>,
}

enum Segment {
    Accepted,
    Bytes(Vec<u8>),
    End,
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unconnected,
    Connecting,
    Connected,
}

pub(super) struct End {
    owner: ProcessId,
    host: usize,
    pub(super) address: SocketAddr,
    phase: Phase,
    reset: bool,
    /// What the next operation returns.
    error: Option<io::ErrorKind>,
    reads_no_more: bool,
    writes_no_more: bool,
    /// Its handles have been dropped.
    gone: bool,
    /// Its host has lost power: it answers whatever arrives with a reset.
    forgotten: bool,
    /// How many segments it has sent, and how often it was read from and written to.
    sent: u64,
    reads: u64,
    writes: u64,
    pub(super) nodelay: bool,
    pub(super) ttl: u32,
    pub(super) linger: Option<Duration>,
    pub(super) keepalive: Option<Duration>,
}

impl End {
    fn new(owner: ProcessId, host: usize, address: SocketAddr) -> End {
        End {
            owner,
            host,
            address,
            phase: Phase::Unconnected,
            reset: false,
            error: None,
            reads_no_more: false,
            writes_no_more: false,
            gone: false,
            forgotten: false,
            sent: 0,
            reads: 0,
            writes: 0,
            nodelay: false,
            ttl: 64,
            linger: None,
            keepalive: None,
        }
    }

    fn takes_nothing(&self) -> bool {
        self.gone || (self.reads_no_more && self.writes_no_more)
    }
}

impl Connection {
    /// Whether the connection is gone for an end: it was reset, or both directions have ended.
    fn is_closed(&self, end: usize) -> bool {
        self.ends[end].reset || self.pipes.iter().all(|pipe| pipe.ended)
    }

    pub(super) fn local_addr(&self, end: usize) -> SocketAddr {
        self.ends[end].address
    }

    pub(super) fn peer(&self, end: usize) -> SocketAddr {
        as_seen_by(self.ends[end].address, self.ends[1 - end].address)
    }

    pub(super) fn peer_addr(&self, end: usize) -> io::Result<SocketAddr> {
        if self.ends[end].phase != Phase::Connected || self.is_closed(end) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(self.peer(end))
    }

    pub(super) fn take_error(&mut self, end: usize) -> Option<io::Error> {
        self.ends[end].error.take().map(io::Error::from)
    }

    pub(super) fn can_read(&self, end: usize) -> bool {
        let (side, pipe) = (&self.ends[end], &self.pipes[1 - end]);
        match side.phase {
            Phase::Connecting => side.reset,
            Phase::Unconnected => true,
            Phase::Connected => {
                let has_something = !pipe.arrived.is_empty() || pipe.ended;
                has_something || side.error.is_some() || side.reset || side.reads_no_more
            }
        }
    }

    pub(super) fn can_write(&self, end: usize, window: usize) -> bool {
        let side = &self.ends[end];
        match side.phase {
            Phase::Connecting => side.reset,
            Phase::Unconnected => true,
            Phase::Connected => {
                let is_over = side.error.is_some() || side.reset || side.writes_no_more;
                is_over || self.pipes[end].bytes < window
            }
        }
    }

    /// The wakers of what waits to read or to write at an end.
    pub(super) fn waiters(&mut self, end: usize, reads: bool) -> &mut Vec<Waker> {
        match reads {
            true => &mut self.pipes[1 - end].readers,
            false => &mut self.pipes[end].writers,
        }
    }

    fn wake_end(&mut self, end: usize, woken: &mut Vec<Waker>) {
        woken.append(self.waiters(end, true));
        woken.append(self.waiters(end, false));
    }

    /// The other side has reset the connection, or the network has given it up.
    fn reset(&mut self, end: usize, error: io::ErrorKind, woken: &mut Vec<Waker>) {
        if self.is_closed(end) {
            return;
        }
        let side = &mut self.ends[end];
        side.reset = true;
        side.error = Some(match error {
            io::ErrorKind::ConnectionReset if side.phase == Phase::Connecting => {
                io::ErrorKind::ConnectionRefused
            }
            // Linux reports a broken pipe if the peer had ended its stream before the reset.
            io::ErrorKind::ConnectionReset if self.pipes[1 - end].ended => {
                io::ErrorKind::BrokenPipe
            }
            error => error,
        });
        self.wake_end(end, woken);
    }
}

impl Listener {
    pub(super) fn can_accept(&self) -> bool {
        self.is_dead || !self.waiting.is_empty()
    }
}

impl State {
    fn connection(&mut self, id: SocketId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(id.key);
        connection.filter(|connection| connection.id == id)
    }

    // ---- Connecting ----------------------------------------------------------------------

    /// A socket that is not connected yet.
    pub(super) fn new_connection(&mut self, owner: ProcessId, host: usize, v6: bool) -> SocketId {
        let nowhere: IpAddr = match v6 {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let end = || End::new(owner, host, SocketAddr::new(nowhere, 0));
        let id = SocketId {
            key: self.connections.vacant_key(),
            number: self.next_number(),
        };
        let mut ends = [end(), end()];
        ends[1].owner = ProcessId::default();
        self.connections.insert(Connection {
            id,
            ordinal: 0,
            repeats: 0,
            ends,
            pipes: Default::default(),
        });
        id
    }

    pub(super) fn connect(&mut self, id: SocketId, to: SocketAddr) -> io::Result<()> {
        let host = self.connections[id.key].ends[0].host;
        let Some(peer) = self.route(host, to.ip()) else {
            return Err(io::ErrorKind::HostUnreachable.into());
        };
        let source = self.source(host, to.ip());
        let bound = self.connections[id.key].ends[0].address;
        let port = match bound.port() {
            0 => self.free_port(host),
            port => port,
        };
        let ip = if bound.ip().is_unspecified() {
            source
        } else {
            bound.ip()
        };
        // Like the system, which connects to itself if the address is unspecified.
        let target = if to.ip().is_unspecified() {
            source
        } else {
            to.ip()
        };
        let ordinal = self.number_connection(host, peer);
        let connection = &mut self.connections[id.key];
        connection.ordinal = ordinal;
        connection.ends[0].address = SocketAddr::new(ip, port);
        connection.ends[0].phase = Phase::Connecting;
        connection.ends[1].address = SocketAddr::new(target, to.port());
        connection.ends[1].host = peer;
        self.request(id);
        Ok(())
    }

    /// Sends a request to connect.
    fn request(&mut self, id: SocketId) {
        let connection = &mut self.connections[id.key];
        let [client, server] = &mut connection.ends;
        client.sent += 1;
        let (from, to, message) = (client.host, server.host, client.sent);
        let (source, target) = (client.address, server.address);
        let pause = Duration::from_secs(1 << connection.repeats);
        let place = self.place(from, to, self.connections[id.key].ordinal, message);
        self.record("connect", source, target, 0);
        if self.is_lost(from, to, place) {
            self.record("lost", source, target, 0);
        } else {
            let at = self.arrival(from, to, 0, place);
            self.schedule(at, Later::Request(id));
        }
        self.schedule(self.now + pause, Later::Repeat(id));
    }

    pub(super) fn repeat_request(&mut self, id: SocketId) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let client = &connection.ends[0];
        if client.phase != Phase::Connecting || client.gone || client.reset {
            return;
        }
        let is_accepted = connection.ends[1].phase == Phase::Connected;
        connection.repeats += 1;
        let repeats = connection.repeats;
        if repeats > REPEATS {
            self.reset_end(id, 0, io::ErrorKind::TimedOut);
        } else if is_accepted {
            self.schedule(
                self.now + Duration::from_secs(1 << repeats),
                Later::Repeat(id),
            );
        } else {
            self.request(id);
        }
    }

    fn reset_end(&mut self, id: SocketId, end: usize, error: io::ErrorKind) {
        self.connections[id.key].reset(end, error, &mut self.woken);
    }

    pub(super) fn request_arrives(&mut self, id: SocketId) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let [client, server] = &connection.ends;
        if client.phase != Phase::Connecting || server.phase != Phase::Unconnected || client.reset {
            return;
        }
        let (from, to, address) = (client.host, server.host, server.address);
        if self.is_blocked(from, to) {
            return;
        }
        let Some(key) = self.find_listener(to, address) else {
            return self.send(id, 1, Segment::Reset);
        };
        let listener = &mut self.listeners[key];
        if listener.waiting.len() >= listener.room {
            return;
        }
        listener.waiting.push_back(id);
        self.woken.append(&mut listener.accepters);
        let local = as_seen_by(listener.address, address);
        let (owner, ttl) = (listener.owner, listener.ttl);
        let server = &mut self.connections[id.key].ends[1];
        server.owner = owner;
        server.address = local;
        server.ttl = ttl;
        server.phase = Phase::Connected;
        self.send(id, 1, Segment::Accepted);
    }

    // ---- Segments ------------------------------------------------------------------------

    fn is_lost(&self, from: usize, to: usize, place: Place) -> bool {
        let loss = self.link(from, to).loss;
        loss > 0.0 && self.faults.happens(FaultKind::Loss, place, loss)
    }

    fn send(&mut self, id: SocketId, from: usize, what: Segment) {
        let connection = &self.connections[id.key];
        let ordinal = connection.ordinal;
        let (source, target) = (&connection.ends[from], &connection.ends[1 - from]);
        let (addresses, hosts) = ((source.address, target.address), (source.host, target.host));
        let mut message = source.sent + 1;
        let (kind, size) = match &what {
            Segment::Accepted => ("accept", 0),
            Segment::Bytes(bytes) => ("data", bytes.len()),
            Segment::End => ("fin", 0),
            Segment::Reset => ("rst", 0),
        };
        self.record(kind, addresses.0, addresses.1, size);
        let mut place = self.place(hosts.0, hosts.1, ordinal, message);
        let mut at = self.arrival(hosts.0, hosts.1, size, place);
        let mut pause = RESEND;
        // A segment that is lost is sent again.
        while pause < GIVE_UP && self.is_lost(hosts.0, hosts.1, place) {
            self.record("lost", addresses.0, addresses.1, size);
            at += pause;
            pause *= 2;
            message += 1;
            place.message = message;
        }
        let connection = &mut self.connections[id.key];
        connection.ends[from].sent = message;
        let pipe = &mut connection.pipes[from];
        let at = pipe.last.map_or(at, |last| last.max(at));
        pipe.last = Some(at);
        pipe.bytes += size;
        pipe.on_the_way.push_back((at, what));
        self.schedule(at, Later::Segment(id, from));
    }

    pub(super) fn segments_arrive(&mut self, id: SocketId, from: usize) {
        let now = self.now;
        loop {
            let Some(connection) = self.connection(id) else {
                return;
            };
            let pipe = &connection.pipes[from];
            if pipe.on_the_way.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let hosts = (connection.ends[from].host, connection.ends[1 - from].host);
            let is_blocked = self.is_blocked(hosts.0, hosts.1);
            let pipe = &mut self.connections[id.key].pipes[from];
            if is_blocked {
                // It is sent again until it arrives.
                if pipe.stuck.is_none() {
                    pipe.stuck = Some(now);
                    self.schedule(now + GIVE_UP, Later::GiveUp(id, from));
                }
                return;
            }
            pipe.stuck = None;
            let Some((_, segment)) = pipe.on_the_way.pop_front() else {
                return;
            };
            self.deliver(id, from, segment);
        }
    }

    fn deliver(&mut self, id: SocketId, from: usize, segment: Segment) {
        let to = 1 - from;
        let connection = &mut self.connections[id.key];
        let (pipe, end) = (&mut connection.pipes[from], &mut connection.ends[to]);
        match segment {
            Segment::Accepted => {
                end.phase = Phase::Connected;
                connection.wake_end(to, &mut self.woken);
            }
            Segment::Reset => connection.reset(to, io::ErrorKind::ConnectionReset, &mut self.woken),
            Segment::Bytes(_) | Segment::End if end.forgotten => {
                end.forgotten = false;
                self.send(id, to, Segment::Reset);
            }
            // What comes after a reset is lost.
            Segment::Bytes(bytes) if end.reset => {
                pipe.bytes -= bytes.len();
                self.woken.append(&mut pipe.writers);
            }
            // Like Linux, which resets both sides if the receiver has shut down both directions.
            Segment::Bytes(bytes) if end.takes_nothing() => {
                pipe.bytes -= bytes.len();
                self.reset_end(id, to, io::ErrorKind::ConnectionReset);
                self.send(id, to, Segment::Reset);
            }
            Segment::Bytes(bytes) => {
                pipe.arrived.extend(bytes);
                self.woken.append(&mut pipe.readers);
            }
            Segment::End if end.reset => {}
            Segment::End => {
                pipe.ended = true;
                self.woken.append(&mut pipe.readers);
            }
        }
    }

    pub(super) fn give_up(&mut self, id: SocketId, from: usize) {
        let now = self.now;
        let Some(connection) = self.connection(id) else {
            return;
        };
        let pipe = &mut connection.pipes[from];
        if pipe.stuck.is_some_and(|since| since + GIVE_UP <= now) {
            pipe.on_the_way.clear();
            self.reset_end(id, from, io::ErrorKind::TimedOut);
        }
    }

    /// Something is reachable again: what was held back is sent again.
    pub(super) fn resend_held(&mut self) {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for (key, from) in keys.into_iter().flat_map(|key| [(key, 0), (key, 1)]) {
            let connection = &self.connections[key];
            let hosts = (connection.ends[from].host, connection.ends[1 - from].host);
            let (id, ordinal) = (connection.id, connection.ordinal);
            if connection.pipes[from].stuck.is_none() || self.is_blocked(hosts.0, hosts.1) {
                continue;
            }
            self.connections[key].pipes[from].stuck = None;
            let held = std::mem::take(&mut self.connections[key].pipes[from].on_the_way);
            let mut last = self.now;
            for (at, segment) in held {
                let end = &mut self.connections[key].ends[from];
                end.sent += 1;
                let message = end.sent;
                let place = self.place(hosts.0, hosts.1, ordinal, message);
                let size = match &segment {
                    Segment::Bytes(bytes) => bytes.len(),
                    _ => 0,
                };
                last = self
                    .arrival(hosts.0, hosts.1, size, place)
                    .max(last)
                    .max(at);
                let pipe = &mut self.connections[key].pipes[from];
                pipe.on_the_way.push_back((last, segment));
                self.schedule(last, Later::Segment(id, from));
            }
            self.connections[key].pipes[from].last = Some(last);
        }
    }

    // ---- Operations ----------------------------------------------------------------------

    /// Copies bytes that have arrived into the buffers, and removes them unless `peek`.
    pub(super) fn read(
        &mut self,
        id: SocketId,
        end: usize,
        bufs: &mut [io::IoSliceMut<'_>],
        peek: bool,
    ) -> io::Result<usize> {
        let connection = &mut self.connections[id.key];
        let hosts = (connection.ends[1 - end].host, connection.ends[end].host);
        let ordinal = connection.ordinal;
        let (side, pipe) = (&mut connection.ends[end], &mut connection.pipes[1 - end]);
        match side.phase {
            Phase::Unconnected => return Err(io::ErrorKind::NotConnected.into()),
            Phase::Connecting if !side.reset => return Err(io::ErrorKind::WouldBlock.into()),
            _ => {}
        }
        let room: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut count = room.min(pipe.arrived.len());
        if count == 0 && room > 0 {
            // After the end of the stream, reads do not take the error of a reset.
            if pipe.ended {
                return Ok(0);
            }
            return match side.error.take() {
                Some(error) => Err(error.into()),
                None if side.reset || side.reads_no_more => Ok(0),
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        side.reads += 1;
        let reads = side.reads;
        if count > 1 && self.link(hosts.0, hosts.1).partial {
            let place = self.place(hosts.0, hosts.1, ordinal, reads);
            let most = count as u64 - 1;
            count = 1 + self.faults.amount(FaultKind::PartialRead, place, most) as usize;
        }
        let pipe = &mut self.connections[id.key].pipes[1 - end];
        let mut bytes = pipe.arrived.iter().take(count);
        for place in bufs.iter_mut().flat_map(|buf| buf.iter_mut()) {
            match bytes.next() {
                Some(byte) => *place = *byte,
                None => break,
            }
        }
        if !peek {
            pipe.arrived.drain(..count);
            pipe.bytes -= count;
            self.woken.append(&mut pipe.writers);
        }
        Ok(count)
    }

    pub(super) fn window(&self, id: SocketId, end: usize) -> usize {
        let ends = &self.connections[id.key].ends;
        self.link(ends[end].host, ends[1 - end].host).window
    }

    /// Sends as many bytes as the window takes.
    pub(super) fn write(
        &mut self,
        id: SocketId,
        end: usize,
        bufs: &[io::IoSlice<'_>],
    ) -> io::Result<usize> {
        let connection = &mut self.connections[id.key];
        let hosts = (connection.ends[end].host, connection.ends[1 - end].host);
        let ordinal = connection.ordinal;
        let side = &mut connection.ends[end];
        match side.phase {
            Phase::Unconnected => return Err(io::ErrorKind::NotConnected.into()),
            Phase::Connecting if !side.reset => return Err(io::ErrorKind::WouldBlock.into()),
            _ => {}
        }
        if let Some(error) = side.error.take() {
            return Err(error.into());
        }
        if side.reset || side.writes_no_more {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if len == 0 {
            return Ok(0);
        }
        side.writes += 1;
        let writes = side.writes;
        let link = self.link(hosts.0, hosts.1);
        let mut count = len.min(
            link.window
                .saturating_sub(self.connections[id.key].pipes[end].bytes),
        );
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if count > 1 && link.partial {
            let place = self.place(hosts.0, hosts.1, ordinal, writes);
            let most = count as u64 - 1;
            count = 1 + self.faults.amount(FaultKind::PartialWrite, place, most) as usize;
        }
        let bytes = bufs.iter().flat_map(|buf| buf.iter().copied());
        let bytes: Vec<u8> = bytes.take(count).collect();
        for segment in bytes.chunks(SEGMENT) {
            let sent = self.connections[id.key].ends[end].sent;
            let place = self.place(hosts.0, hosts.1, ordinal, sent + 1);
            if link.resets > 0.0 && self.faults.happens(FaultKind::Reset, place, link.resets) {
                self.send(id, end, Segment::Reset);
                self.send(id, 1 - end, Segment::Reset);
                // What comes after a reset is lost.
                break;
            }
            self.send(id, end, Segment::Bytes(segment.to_vec()));
        }
        Ok(count)
    }

    pub(super) fn shutdown(&mut self, id: SocketId, end: usize, how: Shutdown) -> io::Result<()> {
        let connection = &mut self.connections[id.key];
        if connection.ends[end].phase != Phase::Connected || connection.is_closed(end) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if how != Shutdown::Write {
            // Bytes that have arrived, or still arrive, can be read.
            connection.ends[end].reads_no_more = true;
            self.woken.append(&mut connection.pipes[1 - end].readers);
        }
        if how != Shutdown::Read {
            self.end(id, end);
        }
        Ok(())
    }

    fn end(&mut self, id: SocketId, end: usize) {
        let connection = &mut self.connections[id.key];
        if !std::mem::replace(&mut connection.ends[end].writes_no_more, true) {
            self.woken.append(&mut connection.pipes[end].writers);
            self.send(id, end, Segment::End);
        }
    }

    /// The last handle of an end was dropped. `abort`: the other side sees a reset.
    pub(super) fn close(&mut self, id: SocketId, end: usize, abort: bool) {
        let connection = &mut self.connections[id.key];
        connection.wake_end(end, &mut self.woken);
        let incoming = &mut connection.pipes[1 - end];
        let unread = std::mem::take(&mut incoming.arrived).len();
        incoming.bytes -= unread;
        connection.ends[end].gone = true;
        let is_open = !connection.is_closed(end);
        match connection.ends[end].phase {
            Phase::Connected if is_open && (unread > 0 || abort) => {
                self.send(id, end, Segment::Reset);
            }
            Phase::Connected if is_open => self.end(id, end),
            // The answer finds no socket.
            Phase::Connecting if connection.ends[1].phase == Phase::Connected => {
                self.send(id, end, Segment::Reset);
            }
            _ => {}
        }
        let ends = &self.connections[id.key].ends;
        if ends
            .iter()
            .all(|end| end.gone || end.phase == Phase::Unconnected)
        {
            let mut connection = self.connections.remove(id.key);
            connection.wake_end(1 - end, &mut self.woken);
        }
    }

    // ---- Listeners -----------------------------------------------------------------------

    pub(super) fn listen(
        &mut self,
        owner: ProcessId,
        host: usize,
        mut address: SocketAddr,
        backlog: u32,
        only_v6: bool,
    ) -> io::Result<SocketId> {
        self.check_local(host, address.ip())?;
        if address.port() == 0 {
            address.set_port(self.free_port(host));
        }
        let others = self.hosts[host].listeners.get(&address.port());
        let collides = |key: &usize| {
            let other = &self.listeners[*key];
            collide((address, only_v6), (other.address, other.only_v6))
        };
        if others.is_some_and(|others| others.iter().any(collides)) {
            return Err(address_in_use());
        }
        let id = SocketId {
            key: self.listeners.vacant_key(),
            number: self.next_number(),
        };
        self.listeners.insert(Listener {
            owner,
            address,
            only_v6,
            // Like Linux, which lets one more wait.
            room: usize::try_from(backlog).map_or(usize::MAX, |room| room.saturating_add(1)),
            ttl: 64,
            waiting: VecDeque::new(),
            accepters: Vec::new(),
            is_dead: false,
        });
        let listeners = &mut self.hosts[host].listeners;
        listeners.entry(address.port()).or_default().push(id.key);
        Ok(id)
    }

    fn find_listener(&self, host: usize, address: SocketAddr) -> Option<usize> {
        let keys = self.hosts[host].listeners.get(&address.port())?;
        let mut keys = keys.iter().copied();
        keys.find(|key| {
            let listener = &self.listeners[*key];
            receives(listener.address, listener.only_v6, address.ip())
        })
    }

    /// The next connection, and the address of its client.
    pub(super) fn accept(&mut self, id: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        let listener = &mut self.listeners[id.key];
        if listener.is_dead {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let connection = listener.waiting.pop_front();
        let connection = connection.ok_or(io::ErrorKind::WouldBlock)?;
        // It is known also if the connection was reset meanwhile.
        let peer = self.connections[connection.key].peer(1);
        Ok((connection, peer))
    }

    pub(super) fn close_listener(&mut self, id: SocketId, host: usize) {
        let mut listener = self.listeners.remove(id.key);
        self.woken.append(&mut listener.accepters);
        let listeners = &mut self.hosts[host].listeners;
        let port = listener.address.port();
        if let Some(keys) = listeners.get_mut(&port).filter(|_| !listener.is_dead) {
            keys.retain(|key| *key != id.key);
            if keys.is_empty() {
                listeners.remove(&port);
            }
        }
        for connection in listener.waiting {
            self.close(connection, 1, true);
        }
    }

    /// Cuts the connections of a process that is over, and closes its listeners.
    pub(super) fn end_tcp(&mut self, process: ProcessId, silently: bool) {
        let mut waiting = Vec::new();
        for (_, listener) in &mut self.listeners {
            if listener.owner == process {
                listener.is_dead = true;
                waiting.extend(listener.waiting.drain(..));
                self.woken.append(&mut listener.accepters);
            }
        }
        let mut owned = Vec::new();
        for (_, connection) in &self.connections {
            for end in 0..2 {
                if connection.ends[end].owner == process {
                    owned.push((connection.id, end));
                }
            }
        }
        for (id, end) in owned {
            let connection = &mut self.connections[id.key];
            let is_open = !connection.is_closed(end);
            if is_open && !silently && connection.ends[end].phase == Phase::Connected {
                self.send(id, end, Segment::Reset);
            }
            let connection = &mut self.connections[id.key];
            connection.ends[end].reset = true;
            connection.ends[end].forgotten = silently && is_open;
            connection.wake_end(end, &mut self.woken);
        }
        for id in waiting {
            self.close(id, 1, false);
        }
    }
}
