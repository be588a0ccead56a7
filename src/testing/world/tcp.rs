//! How connections are made, and how segments reach the other end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::endpoints::{Connection, End, Phase, Segment, SocketId, as_seen_by};
use super::state::{Later, State};
use crate::executor::ProcessId;

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

    pub(super) fn send(&mut self, id: SocketId, from: usize, what: Segment) {
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
}
