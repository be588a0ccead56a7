//! The operations of streams and listeners.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};

use super::endpoints::{
    Listener, OPEN, Phase, Segment, SocketId, address_in_use, collide, crashed, receives,
};
use super::state::State;
use crate::executor::ProcessId;
use crate::testing::faults::FaultKind;

/// The largest number of bytes that are sent at once.
const SEGMENT: usize = 1460;

impl State {
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
        let hosts = connection.hosts(1 - end);
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
        if count > 1 && self.link(hosts).partial {
            let place = self.place(hosts, ordinal, reads);
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
        self.link(self.connections[id.key].hosts(end)).window
    }

    /// Sends as many bytes as the window takes.
    pub(super) fn write(
        &mut self,
        id: SocketId,
        end: usize,
        bufs: &[io::IoSlice<'_>],
    ) -> io::Result<usize> {
        let connection = &mut self.connections[id.key];
        let hosts = connection.hosts(end);
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
        let link = self.link(hosts);
        let mut count = len.min(
            link.window
                .saturating_sub(self.connections[id.key].pipes[end].bytes),
        );
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if count > 1 && link.partial {
            let place = self.place(hosts, ordinal, writes);
            let most = count as u64 - 1;
            count = 1 + self.faults.amount(FaultKind::PartialWrite, place, most) as usize;
        }
        let bytes = bufs.iter().flat_map(|buf| buf.iter().copied());
        let bytes: Vec<u8> = bytes.take(count).collect();
        for segment in bytes.chunks(SEGMENT) {
            let sent = self.connections[id.key].ends[end].sent;
            let place = self.place(hosts, ordinal, sent + 1);
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
            let mut connection = self.connections.remove(id.key).expect(OPEN);
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

    pub(super) fn find_listener(&self, host: usize, address: SocketAddr) -> Option<usize> {
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
            return Err(crashed());
        }
        let connection = listener.waiting.pop_front();
        let connection = connection.ok_or(io::ErrorKind::WouldBlock)?;
        // It is known also if the connection was reset meanwhile.
        let peer = self.connections[connection.key].peer(1);
        Ok((connection, peer))
    }

    pub(super) fn close_listener(&mut self, id: SocketId, host: usize) {
        let mut listener = self.listeners.remove(id.key).expect(OPEN);
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
        for listener in self.listeners.iter_mut() {
            if listener.owner == process {
                listener.is_dead = true;
                waiting.extend(listener.waiting.drain(..));
                self.woken.append(&mut listener.accepters);
            }
        }
        let mut owned = Vec::new();
        for connection in self.connections.iter() {
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
            if silently && connection.pipes[end].stuck.is_some() {
                connection.pipes[end].on_the_way.clear();
            }
            connection.wake_end(end, &mut self.woken);
        }
        for id in waiting {
            self.close(id, 1, false);
        }
    }
}
