//! How connections are made, and how segments reach the other end.

use std::io::{self, ErrorKind};
use std::mem::take;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::Type;

use super::endpoints::{Connection, End, Phase, Segment, SocketId};
use super::endpoints::{as_seen_by, specified};
use super::state::State;
use crate::executor::ProcessId;
use crate::testing::faults::Place;

/// After how long a lost segment is sent again for the first time.
const RESEND: Duration = Duration::from_millis(200);

/// Requests to connect are repeated after 1, 2, 4 and so on seconds. This many are, like on Linux.
const REPEATS: u32 = 6;

/// How long Linux tries to send a segment again.
const GIVE_UP: Duration = Duration::from_millis(924_600);

impl State {
    /// A connection, if it still exists.
    fn find(&mut self, id: SocketId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(id.key);
        connection.filter(|connection| connection.id.number == id.number)
    }

    // ---- Connecting ----------------------------------------------------------------------

    /// A socket that is not connected yet. Its address may be unspecified.
    pub(super) fn new_connection(
        &mut self,
        owner: ProcessId,
        host: usize,
        local: SocketAddr,
    ) -> io::Result<SocketId> {
        self.check_local(host, local.ip())?;
        let id = self.new_id(self.connections.vacant_key());
        self.connections.insert(Connection {
            id,
            ordinal: 0,
            repeats: 0,
            hosts: [host; 2],
            addresses: [local; 2],
            ends: [owner, ProcessId::default()].map(End::new),
            pipes: Default::default(),
        });
        Ok(id)
    }

    pub(super) fn connect(&mut self, id: SocketId, to: SocketAddr) -> io::Result<()> {
        let connection = &self.connections[id.key];
        let (host, address) = (connection.hosts[0], connection.addresses[0]);
        let peer = self
            .route(host, to.ip())
            .ok_or(ErrorKind::HostUnreachable)?;
        let source = self.source(host, to.ip());
        let port = match address.port() {
            0 => self.free_port(host),
            port => port,
        };
        let ordinal = self.number_connection(host, peer);
        let connection = &mut self.connections[id.key];
        connection.ordinal = ordinal;
        connection.hosts[1] = peer;
        connection.addresses = [
            SocketAddr::new(specified(address.ip(), source), port),
            // Like the system, which connects to itself if the address is unspecified.
            SocketAddr::new(specified(to.ip(), source), to.port()),
        ];
        connection.ends[0].phase = Phase::Connecting;
        self.request(id);
        Ok(())
    }

    /// Sends a request to connect.
    fn request(&mut self, id: SocketId) {
        let pause = Duration::from_secs(1 << self.connections[id.key].repeats);
        let hosts = self.hosts_of(id);
        let place = self.next_place(id);
        self.record_segment("connect", id, 0);
        if self.is_lost(hosts, place) {
            self.record_segment("lost", id, 0);
        } else {
            let at = self.arrival(hosts, 0, place);
            self.schedule(at, move |state| state.request_arrives(id));
        }
        self.schedule(self.now + pause, move |state| state.repeat_request(id));
    }

    /// A request to connect has had no answer.
    fn repeat_request(&mut self, id: SocketId) {
        let now = self.now;
        let Some(found) = self.find(id) else { return };
        let [client, server] = &found.ends;
        if client.phase != Phase::Connecting || client.gone || client.reset {
            return;
        }
        found.repeats += 1;
        if found.repeats > REPEATS {
            self.reset_end(id, ErrorKind::TimedOut);
        } else if server.phase == Phase::Connected {
            let at = now + Duration::from_secs(1 << found.repeats);
            self.schedule(at, move |state| state.repeat_request(id));
        } else {
            self.request(id);
        }
    }

    fn reset_end(&mut self, id: SocketId, error: ErrorKind) {
        self.connections[id.key].reset(id.end, error, &mut self.woken);
    }

    /// A request to connect arrives.
    fn request_arrives(&mut self, id: SocketId) {
        let Some(found) = self.find(id) else { return };
        let [client, server] = &found.ends;
        if client.phase != Phase::Connecting || server.phase != Phase::Unconnected || client.reset {
            return;
        }
        let (hosts, address) = (found.hosts(0), found.addresses[1]);
        if self.is_blocked(hosts) {
            return;
        }
        let listeners = self.at_port((hosts.1, address.port()), Type::STREAM, |listener| {
            listener.receives(address.ip())
        });
        let Some(&key) = listeners.first() else {
            return self.send(id.peer(), Segment::Reset);
        };
        let listener = &mut self.bound[key];
        if listener.connections.len() >= listener.room {
            return;
        }
        listener.connections.push_back(id.peer());
        self.woken.append(&mut listener.readers);
        let connection = &mut self.connections[id.key];
        connection.addresses[1] = as_seen_by(listener.address, address);
        let server = &mut connection.ends[1];
        server.owner = listener.owner;
        server.ttl = listener.ttl;
        server.phase = Phase::Connected;
        self.send(id.peer(), Segment::Accepted);
    }

    // ---- Segments ------------------------------------------------------------------------

    fn record_segment(&self, kind: &'static str, from: SocketId, len: usize) {
        let addresses = self.connections[from.key].addresses;
        let (source, target) = (addresses[from.end], addresses[from.peer().end]);
        self.record(kind, source, target, len);
    }

    pub(super) fn send(&mut self, from: SocketId, segment: Segment) {
        self.pipe(from).bytes += segment.len();
        self.record_segment(segment.kind(), from, segment.len());
        self.transmit(from, segment);
    }

    /// A segment is under way. If it is lost, it is sent again.
    fn transmit(&mut self, from: SocketId, segment: Segment) {
        let len = segment.len();
        let mut place = self.next_place(from);
        let hosts = self.hosts_of(from);
        let mut at = self.arrival(hosts, len, place);
        let mut pause = RESEND;
        while pause < GIVE_UP && self.is_lost(hosts, place) {
            self.record_segment("lost", from, len);
            at += pause;
            pause *= 2;
            place = self.next_place(from);
        }
        let pipe = self.pipe(from);
        // No segment overtakes another.
        let at = pipe.last.map_or(at, |last| last.max(at));
        pipe.last = Some(at);
        pipe.on_the_way.push_back((at, segment));
        self.schedule(at, move |state| state.segments_arrive(from));
    }

    /// The place of the next segment that an end sends.
    fn next_place(&mut self, from: SocketId) -> Place {
        let sent = &mut self.pipe(from).sent;
        *sent += 1;
        let message = *sent;
        self.segment_place(from, message)
    }

    pub(super) fn segment_place(&self, from: SocketId, message: u64) -> Place {
        let connection = &self.connections[from.key];
        self.place(connection.hosts(from.end), connection.ordinal, message)
    }

    fn segments_arrive(&mut self, from: SocketId) {
        while let Some(segment) = self.next_segment(from) {
            self.deliver(from, segment);
        }
    }

    /// Takes a segment that arrives now.
    fn next_segment(&mut self, from: SocketId) -> Option<Segment> {
        let now = self.now;
        let found = self.find(from)?;
        let hosts = found.hosts(from.end);
        let next = found.pipes[from.end].on_the_way.front();
        next.filter(|(at, _)| *at <= now)?;
        let is_blocked = self.is_blocked(hosts);
        let pipe = self.pipe(from);
        if !is_blocked {
            pipe.stuck = None;
            return Some(pipe.on_the_way.pop_front()?.1);
        }
        // It is sent again until it arrives.
        if pipe.stuck.is_none() {
            pipe.stuck = Some(now);
            self.schedule(now + GIVE_UP, move |state| state.give_up(from));
        }
        None
    }

    fn deliver(&mut self, from: SocketId, segment: Segment) {
        let to = from.peer();
        let connection = &mut self.connections[to.key];
        let takes_nothing = connection.takes_nothing(to.end);
        let (pipe, end) = (
            &mut connection.pipes[from.end],
            &mut connection.ends[to.end],
        );
        match segment {
            // The client has given up.
            Segment::Accepted if end.reset => self.send(to, Segment::Reset),
            Segment::Accepted => {
                end.phase = Phase::Connected;
                connection.wake_end(to.end, &mut self.woken);
            }
            Segment::Reset => self.reset_end(to, ErrorKind::ConnectionReset),
            Segment::Bytes(_) | Segment::End if end.forgotten => {
                end.forgotten = false;
                self.send(to, Segment::Reset);
            }
            // What comes after a reset is lost.
            Segment::Bytes(bytes) if end.reset => {
                pipe.bytes -= bytes.len();
                self.woken.append(&mut pipe.writers);
            }
            // Like Linux, which resets both sides if the receiver has shut down both directions.
            Segment::Bytes(bytes) if takes_nothing => {
                pipe.bytes -= bytes.len();
                self.reset_end(to, ErrorKind::ConnectionReset);
                self.send(to, Segment::Reset);
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

    /// Segments of an end have not arrived for a long time.
    fn give_up(&mut self, from: SocketId) {
        let now = self.now;
        let Some(found) = self.find(from) else { return };
        let pipe = &mut found.pipes[from.end];
        if pipe.stuck.is_some_and(|since| since + GIVE_UP <= now) {
            pipe.on_the_way.clear();
            self.reset_end(from, ErrorKind::TimedOut);
        }
    }

    /// Something is reachable again: what was held back is sent again.
    pub(super) fn resend_held(&mut self) {
        for from in self.all_ends() {
            let is_blocked = self.is_blocked(self.hosts_of(from));
            let pipe = self.pipe(from);
            if pipe.stuck.is_none() || is_blocked {
                continue;
            }
            pipe.stuck = None;
            pipe.last = None;
            for (_, segment) in take(&mut pipe.on_the_way) {
                self.transmit(from, segment);
            }
        }
    }
}
