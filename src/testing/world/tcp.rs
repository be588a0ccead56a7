//! How connections are made, and how segments reach the other end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::endpoints::{Connection, End, Phase, Segment, SocketId, as_seen_by};
use super::state::{Later, State};
use crate::executor::ProcessId;
use crate::testing::faults::Place;

/// After how long a lost segment is sent again for the first time.
const RESEND: Duration = Duration::from_millis(200);

/// Requests to connect are repeated after 1, 2, 4 and so on seconds. This many are, like on Linux.
const REPEATS: u32 = 6;

/// How long Linux tries to send a segment again.
const GIVE_UP: Duration = Duration::from_millis(924_600);

impl State {
    pub(super) fn connection(&mut self, id: SocketId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(id.key);
        connection.filter(|connection| connection.id == id)
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
        let end = || End::new(owner, host, local);
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
        Ok(id)
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
        let connection = &self.connections[id.key];
        let hosts = connection.hosts(0);
        let [source, target] = [0, 1].map(|end| connection.ends[end].address);
        let pause = Duration::from_secs(1 << connection.repeats);
        let place = self.next_place(id, 0);
        self.record("connect", source, target, 0);
        if self.is_lost(hosts, place) {
            self.record("lost", source, target, 0);
        } else {
            let at = self.arrival(hosts, 0, place);
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

    pub(super) fn reset_end(&mut self, id: SocketId, end: usize, error: io::ErrorKind) {
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
        let (hosts, address) = (connection.hosts(0), server.address);
        if self.is_blocked(hosts) {
            return;
        }
        let Some(key) = self.find_listener(hosts.1, address) else {
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

    pub(super) fn send(&mut self, id: SocketId, from: usize, segment: Segment) {
        let connection = &mut self.connections[id.key];
        connection.pipes[from].bytes += segment.len();
        let addresses = [from, 1 - from].map(|end| connection.ends[end].address);
        self.record(segment.kind(), addresses[0], addresses[1], segment.len());
        self.transmit(id, from, segment);
    }

    /// A segment is under way. If it is lost, it is sent again.
    fn transmit(&mut self, id: SocketId, from: usize, segment: Segment) {
        let len = segment.len();
        let mut place = self.next_place(id, from);
        let hosts = self.connections[id.key].hosts(from);
        let mut at = self.arrival(hosts, len, place);
        let mut pause = RESEND;
        while pause < GIVE_UP && self.is_lost(hosts, place) {
            let addresses = [from, 1 - from].map(|end| self.connections[id.key].ends[end].address);
            self.record("lost", addresses[0], addresses[1], len);
            at += pause;
            pause *= 2;
            place = self.next_place(id, from);
        }
        let pipe = &mut self.connections[id.key].pipes[from];
        // No segment overtakes another.
        let at = pipe.last.map_or(at, |last| last.max(at));
        pipe.last = Some(at);
        pipe.on_the_way.push_back((at, segment));
        self.schedule(at, Later::Segment(id, from));
    }

    /// The place of the next segment that an end sends.
    pub(super) fn next_place(&mut self, id: SocketId, from: usize) -> Place {
        let connection = &mut self.connections[id.key];
        let sent = &mut connection.ends[from].sent;
        *sent += 1;
        let message = *sent;
        let (hosts, ordinal) = (connection.hosts(from), connection.ordinal);
        self.place(hosts, ordinal, message)
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
            let hosts = connection.hosts(from);
            let is_blocked = self.is_blocked(hosts);
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
            // The client has given up.
            Segment::Accepted if end.reset => self.send(id, to, Segment::Reset),
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
        let ids: Vec<SocketId> = self.connections.iter().map(|known| known.id).collect();
        for (id, from) in ids.into_iter().flat_map(|id| [(id, 0), (id, 1)]) {
            let connection = &self.connections[id.key];
            let hosts = connection.hosts(from);
            if connection.pipes[from].stuck.is_none() || self.is_blocked(hosts) {
                continue;
            }
            let pipe = &mut self.connections[id.key].pipes[from];
            pipe.stuck = None;
            pipe.last = None;
            for (_, segment) in std::mem::take(&mut pipe.on_the_way) {
                self.transmit(id, from, segment);
            }
        }
    }
}
