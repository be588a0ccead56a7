//! The operations of streams and listeners.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::mem::{replace, take};
use std::net::{Shutdown, SocketAddr};

use super::endpoints::{End, OPEN, Phase, Pipe, Segment, SocketId};
use super::state::State;
use crate::testing::faults::FaultKind::{self, PartialRead, PartialWrite, Reset};

/// The largest number of bytes that are sent at once.
const SEGMENT: usize = 1460;

impl State {
    pub(super) fn end(&mut self, id: SocketId) -> &mut End {
        &mut self.connections[id.key].ends[id.end]
    }

    /// What an end has sent.
    pub(super) fn pipe(&mut self, id: SocketId) -> &mut Pipe {
        &mut self.connections[id.key].pipes[id.end]
    }

    /// The host of an end, and that of the other.
    pub(super) fn hosts_of(&self, id: SocketId) -> (usize, usize) {
        self.connections[id.key].hosts(id.end)
    }

    pub(super) fn window(&self, id: SocketId) -> usize {
        self.link(self.hosts_of(id)).window
    }

    /// Copies bytes that have arrived into the buffers, and removes them unless `peek`.
    pub(super) fn read(
        &mut self,
        id: SocketId,
        bufs: &mut [IoSliceMut<'_>],
        peek: bool,
    ) -> io::Result<usize> {
        let connection = &mut self.connections[id.key];
        let side = &mut connection.ends[id.end];
        let pipe = &mut connection.pipes[id.peer().end];
        side.check_connected()?;
        let room: usize = bufs.iter().map(|buf| buf.len()).sum();
        let arrived = pipe.arrived.len();
        if arrived == 0 && room > 0 {
            // After the end of the stream, reads do not take the error of a reset.
            if pipe.ended {
                return Ok(0);
            }
            return match side.error.take() {
                Some(error) => Err(error.into()),
                None if side.reset || pipe.reads_no_more => Ok(0),
                None => Err(ErrorKind::WouldBlock.into()),
            };
        }
        pipe.reads += 1;
        let (reads, most) = (pipe.reads, room.min(arrived));
        let count = self.part(PartialRead, id.peer(), reads, most);
        let pipe = &mut self.connections[id.key].pipes[id.peer().end];
        let mut bytes = &pipe.arrived.make_contiguous()[..count];
        let count = bytes.read_vectored(bufs)?;
        if !peek {
            pipe.arrived.drain(..count);
            pipe.bytes -= count;
            self.woken.append(&mut pipe.writers);
        }
        Ok(count)
    }

    /// Sends as many bytes as the window takes.
    pub(super) fn write(&mut self, id: SocketId, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let connection = &mut self.connections[id.key];
        let (side, pipe) = (&mut connection.ends[id.end], &mut connection.pipes[id.end]);
        side.check_connected()?;
        if let Some(error) = side.error.take() {
            return Err(error.into());
        }
        if side.reset || pipe.writes_no_more {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if len == 0 {
            return Ok(0);
        }
        pipe.writes += 1;
        let (writes, waiting) = (pipe.writes, pipe.bytes);
        let link = self.link(self.hosts_of(id));
        let most = len.min(link.window.saturating_sub(waiting));
        if most == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.part(PartialWrite, id, writes, most);
        let mut bytes = Vec::with_capacity(count);
        for buf in bufs {
            bytes.extend(buf.iter().take(count - bytes.len()));
        }
        for segment in bytes.chunks(SEGMENT) {
            let place = self.segment_place(id, self.connections[id.key].pipes[id.end].sent + 1);
            if self.faults.happens(Reset, place, link.resets) {
                self.send(id, Segment::Reset);
                self.send(id.peer(), Segment::Reset);
                // What comes after a reset is lost.
                break;
            }
            self.send(id, Segment::Bytes(segment.to_vec()));
        }
        Ok(count)
    }

    /// How many of the bytes a read or write transfers. They are sent by the end `from`.
    fn part(&self, kind: FaultKind, from: SocketId, number: u64, most: usize) -> usize {
        if most < 2 || !self.link(self.hosts_of(from)).partial {
            return most;
        }
        let place = self.segment_place(from, number);
        1 + self.faults.amount(kind, place, most as u64 - 1) as usize
    }

    pub(super) fn shutdown(&mut self, id: SocketId, how: Shutdown) -> io::Result<()> {
        let connection = &mut self.connections[id.key];
        connection.peer_addr(id.end)?;
        if how != Shutdown::Write {
            // Bytes that have arrived, or still arrive, can be read.
            let pipe = &mut connection.pipes[id.peer().end];
            pipe.reads_no_more = true;
            self.woken.append(&mut pipe.readers);
        }
        if how != Shutdown::Read {
            self.end_stream(id);
        }
        Ok(())
    }

    fn end_stream(&mut self, id: SocketId) {
        let pipe = &mut self.connections[id.key].pipes[id.end];
        if !replace(&mut pipe.writes_no_more, true) {
            self.woken.append(&mut pipe.writers);
            self.send(id, Segment::End);
        }
    }

    /// The last handle of an end was dropped. `abort`: the other side sees a reset.
    pub(super) fn close(&mut self, id: SocketId, abort: bool) {
        let connection = &mut self.connections[id.key];
        connection.wake_end(id.end, &mut self.woken);
        let incoming = &mut connection.pipes[id.peer().end];
        let unread = take(&mut incoming.arrived).len();
        incoming.bytes -= unread;
        connection.ends[id.end].gone = true;
        let is_open = !connection.is_closed(id.end);
        match connection.ends[id.end].phase {
            Phase::Connected if is_open && (unread > 0 || abort) => self.send(id, Segment::Reset),
            Phase::Connected if is_open => self.end_stream(id),
            // The answer finds no socket.
            Phase::Connecting if connection.ends[1].phase == Phase::Connected => {
                self.send(id, Segment::Reset);
            }
            _ => {}
        }
        let mut ends = self.connections[id.key].ends.iter();
        if ends.all(|end| end.gone || end.phase == Phase::Unconnected) {
            let mut connection = self.connections.remove(id.key).expect(OPEN);
            connection.wake_end(id.peer().end, &mut self.woken);
        }
    }

    /// The next connection of a listener, and the address of its client.
    pub(super) fn accept(&mut self, id: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        let listener = &mut self.bound[id.key];
        let connection = listener.connections.pop_front();
        let connection = connection.ok_or_else(|| listener.nothing())?;
        // It is known also if the connection was reset meanwhile.
        let peer = self.connections[connection.key].peer(1);
        Ok((connection, peer))
    }

    /// Both ends of all connections.
    pub(super) fn all_ends(&self) -> Vec<SocketId> {
        let ids = self.connections.iter().map(|known| known.id);
        ids.flat_map(|id| [id, id.peer()]).collect()
    }

    /// Closes an end whose process is over. `silently`: the other side does not notice.
    pub(super) fn end_crashes(&mut self, id: SocketId, silently: bool) {
        let connection = &self.connections[id.key];
        let is_open = !connection.is_closed(id.end);
        if is_open && !silently && connection.ends[id.end].phase == Phase::Connected {
            self.send(id, Segment::Reset);
        }
        let connection = &mut self.connections[id.key];
        let (side, pipe) = (&mut connection.ends[id.end], &mut connection.pipes[id.end]);
        side.reset = true;
        side.forgotten = silently && is_open;
        if silently && pipe.stuck.is_some() {
            pipe.on_the_way.clear();
        }
        connection.wake_end(id.end, &mut self.woken);
    }
}
