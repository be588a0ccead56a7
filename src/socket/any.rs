//! What all sockets have in common, whatever their objects are: check, try an operation, wait for
//! readiness, try again. It is compiled once, not for each type.

use std::io::{self, ErrorKind};
use std::sync::Arc;
#[cfg(feature = "testing")]
use std::task::Waker;
use std::task::{Context as TaskContext, Poll, ready};

use crate::executor;
use crate::executor::budget;
use crate::reactor::{Direction, Reactor, Readiness, Registration};

/// A socket without its object. All that does not depend on the type of the object is here, and so
/// it is compiled once.
#[derive(Clone, Copy)]
pub(crate) struct AnySocket<'a> {
    pub(super) place: Place<'a>,
    /// Whether it has no clones.
    pub(super) is_unique: bool,
}

/// The `Backend` without the object.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    System(&'a Arc<Registration>),
    #[cfg(feature = "testing")]
    World(&'a dyn Simulated),
}

/// An operation on the object. What it returns is a number of bytes, if it reads or writes.
pub(super) type Operation<'a> = &'a mut dyn FnMut() -> io::Result<usize>;

/// A socket of a simulated network, which keeps the wakers of what waits for it.
#[cfg(feature = "testing")]
pub(crate) trait Simulated {
    /// Returns `Ready` if an operation in this direction would not block. Otherwise `waker` is
    /// woken when that changes.
    fn poll_ready(&self, direction: Direction, waker: &Waker) -> Poll<()>;
}

/// What is known about the reads of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Nothing: the object may be of any type.
    Opaque,
    /// They read a stream of bytes.
    #[cfg(unix)]
    Stream,
    /// They read a stream of bytes, and a read that does not fill the buffer shows that the stream
    /// is empty.
    DrainedByShortRead,
}

impl<'a> AnySocket<'a> {
    /// Its place in the reactor, unless it is simulated.
    #[inline]
    pub(super) fn registration(self) -> Option<&'a Arc<Registration>> {
        match self.place {
            Place::System(registration) => Some(registration),
            #[cfg(feature = "testing")]
            Place::World(_) => None,
        }
    }

    /// What is known of the readiness, unless it is simulated: then each operation is tried.
    #[inline]
    pub(super) fn readiness(self) -> Option<&'a Readiness> {
        Some(&self.registration()?.readiness)
    }

    /// Makes sure that a runtime polls this, and that the source belongs to this thread.
    #[inline]
    fn check(self, exclusive: bool) -> io::Result<()> {
        executor::inside_or_error("using a socket")?;
        match self.registration() {
            Some(registration) => registration.claim(self.is_unique, exclusive),
            None => Ok(()),
        }
    }

    /// Like `check`, and ready if the current poll may use a socket once more.
    #[inline]
    fn poll_check(self, cx: &mut TaskContext<'_>, exclusive: bool) -> Poll<io::Result<()>> {
        self.check(exclusive)?;
        executor::poll_socket_budget(cx).map(Ok)
    }

    /// Reads into a buffer of `room` bytes. If that would block, the task is woken when the socket
    /// is readable. `exclusive`: the caller has `&mut` access, so a waker that an earlier poll has
    /// left on another thread does not count.
    #[inline]
    pub(crate) fn poll_read(
        self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        bytes: Bytes,
        room: usize,
        read: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if bytes != Bytes::Opaque && room == 0 {
            // The system would wait until there is a byte, without reading it.
            return Poll::Ready(Ok(0));
        }
        let result = ready!(self.poll_io(Direction::Read, cx, exclusive, read));
        if let Ok(n) = result {
            self.note_read(bytes, n, room);
        }
        Poll::Ready(result)
    }

    /// Like `poll_read`, but returns `WouldBlock` instead of waiting.
    pub(crate) fn try_read(
        self,
        bytes: Bytes,
        room: usize,
        read: Operation<'_>,
    ) -> io::Result<usize> {
        if bytes != Bytes::Opaque && room == 0 {
            return Ok(0);
        }
        let n = self.try_io(Direction::Read, read)?;
        self.note_read(bytes, n, room);
        Ok(n)
    }

    /// Charges a read of `n` bytes into a buffer of `room` bytes, and notes what it shows.
    #[inline]
    fn note_read(self, bytes: Bytes, n: usize, room: usize) {
        budget::charge_bytes(n);
        if let (Bytes::DrainedByShortRead, Some(readiness)) = (bytes, self.readiness()) {
            readiness.note_read(n, room);
        }
    }

    /// Writes `len` bytes. If that would block, the task is woken when the socket is writable.
    #[inline]
    pub(crate) fn poll_write(
        self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        len: usize,
        write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if len == 0 {
            // An empty write never blocks, but it can return an error: always try it.
            self.assume(Direction::Write);
        }
        let result = ready!(self.poll_io(Direction::Write, cx, exclusive, write));
        if let Ok(n) = result {
            budget::charge_bytes(n);
        }
        Poll::Ready(result)
    }

    /// Like `poll_write`, but returns `WouldBlock` instead of waiting.
    pub(crate) fn try_write(self, write: Operation<'_>) -> io::Result<usize> {
        let n = self.try_io(Direction::Write, write)?;
        budget::charge_bytes(n);
        Ok(n)
    }

    /// Flushes the object. If that would block, the task is woken when the socket is writable.
    pub(crate) fn poll_flush(
        self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        flush: &mut dyn FnMut() -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        // A flush never blocks on a full socket buffer: always try it.
        self.assume(Direction::Write);
        let flushed = self.poll_io(Direction::Write, cx, exclusive, || flush().map(|()| 0));
        flushed.map_ok(|_| ())
    }

    /// The next operation is to be tried.
    fn assume(self, direction: Direction) {
        if let Some(readiness) = self.readiness() {
            readiness.assume(direction);
        }
    }

    /// Tries an operation. If it would block, the task is woken when the direction is ready.
    pub(super) fn poll_operate(
        self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        operation: Operation<'_>,
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.poll_io(direction, cx, exclusive, operation));
        budget::charge(1);
        Poll::Ready(result)
    }

    /// Like `poll_operate`, but returns `WouldBlock` instead of waiting.
    pub(super) fn try_operate(
        self,
        direction: Direction,
        operation: Operation<'_>,
    ) -> io::Result<usize> {
        let result = self.try_io(direction, operation)?;
        budget::charge(1);
        Ok(result)
    }

    #[inline]
    fn poll_io(
        self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        mut operation: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_check(cx, exclusive))?;
        loop {
            if let Some(result) = self.attempt(direction, &mut operation) {
                self.settle(exclusive);
                return Poll::Ready(result);
            }
            // Ready if it is simulated and another thread has made it ready meanwhile.
            ready!(self.wait_polled(direction, cx))?;
        }
    }

    /// Called after a poll that has completed. If an earlier poll was pending, its wait is over,
    /// and no longer keeps the socket on this thread.
    #[inline]
    fn settle(self, exclusive: bool) {
        let Some(registration) = self.registration() else {
            return;
        };
        if exclusive && registration.is_waited_for() && self.is_unique {
            registration.note_settled();
        }
    }

    /// Tries an operation, if the direction is ready. `None` if it would block.
    #[inline]
    fn attempt(
        self,
        direction: Direction,
        mut operation: impl FnMut() -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let is_blocked = |known: &Readiness| !known.is_ready(direction);
        if self.readiness().is_some_and(is_blocked) {
            return None;
        }
        loop {
            match operation() {
                Err(error) => match self.note_error(direction, &error) {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return None,
                    _ => return Some(Err(error)),
                },
                result => return Some(result),
            }
        }
    }

    /// Tries an operation now, whether or not the direction is ready: the readiness is not known
    /// while the direction is not armed.
    fn try_io(self, direction: Direction, operation: Operation<'_>) -> io::Result<usize> {
        self.check(false)?;
        loop {
            match operation() {
                Err(error) if self.note_error(direction, &error) == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// If an operation would block, then the direction is not ready.
    fn note_error(self, direction: Direction, error: &io::Error) -> ErrorKind {
        let kind = error.kind();
        if let (ErrorKind::WouldBlock, Some(readiness)) = (kind, self.readiness()) {
            readiness.clear(direction);
        }
        kind
    }

    #[inline]
    fn wait_polled(self, direction: Direction, cx: &TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.place {
            Place::System(registration) => {
                Reactor::wait_polled(registration, direction, cx.waker())?;
                Poll::Pending
            }
            #[cfg(feature = "testing")]
            Place::World(simulated) => wait_simulated(simulated, direction, cx.waker()),
        }
    }

    /// Ready while the direction is known to be ready. For a shared source: ready once after each
    /// event for which a call of this has waited.
    pub(crate) fn poll_ready(
        self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_check(cx, false))?;
        let is_known = match self.registration() {
            Some(registration) if registration.readiness.is_shared() => {
                Reactor::get_or_new()?.take_fired(registration, direction)
            }
            Some(registration) => registration.readiness.is_reported(direction),
            None => false,
        };
        if !is_known {
            ready!(self.wait_polled(direction, cx))?;
        }
        budget::charge(1);
        Poll::Ready(Ok(()))
    }
}

/// Waits for an object of a simulated network.
#[cfg(feature = "testing")]
#[cold]
fn wait_simulated(
    simulated: &dyn Simulated,
    direction: Direction,
    waker: &Waker,
) -> Poll<io::Result<()>> {
    use crate::hooks::WaitReason;

    let polled = simulated.poll_ready(direction, waker);
    if polled.is_pending() {
        // It has no fd.
        crate::task_cell::note(match direction {
            Direction::Read => WaitReason::Read { fd: -1 },
            Direction::Write => WaitReason::Write { fd: -1 },
        });
    }
    polled.map(Ok)
}

/// A wait until a direction is reported. Its waiter has an entry id of its own, and is removed when
/// the wait is dropped.
pub(super) struct ReadinessWait {
    direction: Direction,
    /// Set while it waits.
    entry: Option<WaitEntry>,
}

/// Identifies the waiter of a `ReadinessWait`. A key is valid only in its reactor.
#[derive(Clone, Copy)]
struct WaitEntry {
    reactor: u64,
    key: usize,
    entry_id: u32,
}

impl ReadinessWait {
    pub(super) fn new(direction: Direction) -> ReadinessWait {
        ReadinessWait {
            direction,
            entry: None,
        }
    }

    /// Ready with the result of an operation that does not block.
    pub(super) fn poll_operate(
        &mut self,
        socket: AnySocket<'_>,
        cx: &mut TaskContext<'_>,
        operation: Operation<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.entry.is_some() {
            ready!(self.poll_reported(socket, cx))?;
        }
        loop {
            ready!(socket.poll_check(cx, false))?;
            if let Some(result) = socket.attempt(self.direction, &mut *operation) {
                budget::charge(1);
                return Poll::Ready(result);
            }
            ready!(self.poll_reported(socket, cx))?;
        }
    }

    /// Ready if the direction is known to be ready, or, for a shared source, was reported.
    pub(super) fn poll_known(
        &mut self,
        socket: AnySocket<'_>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        if self.entry.is_none() {
            ready!(socket.poll_check(cx, false))?;
        }
        let direction = self.direction;
        let is_reported = |known: &Readiness| known.is_reported(direction);
        while self.entry.is_some() || !socket.readiness().is_some_and(is_reported) {
            ready!(self.poll_reported(socket, cx))?;
            // There is no record of the readiness of a shared or simulated object.
            if socket.readiness().is_none_or(Readiness::is_shared) {
                break;
            }
        }
        budget::charge(1);
        Poll::Ready(Ok(()))
    }

    /// Ready once the direction has been reported.
    pub(super) fn poll_reported(
        &mut self,
        socket: AnySocket<'_>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        socket.check(false)?;
        let direction = self.direction;
        #[cfg_attr(
            not(feature = "testing"),
            expect(clippy::infallible_destructuring_match, reason = "one variant")
        )]
        let registration = match socket.place {
            Place::System(registration) => registration,
            #[cfg(feature = "testing")]
            Place::World(simulated) => return wait_simulated(simulated, direction, cx.waker()),
        };
        let reactor = Reactor::get_or_new()?;
        let key = registration.key();
        let is_current = |entry: WaitEntry| entry.reactor == reactor.id() && entry.key == key;
        if self.entry.is_some_and(|entry| !is_current(entry)) {
            // The socket has moved to another reactor, which ends the wait. The caller tries the
            // operation again.
            self.entry = None;
            return Poll::Ready(Ok(()));
        }
        let mut entry_id = self.entry.map(|entry| entry.entry_id);
        let waits = reactor.wait_entry(registration, direction, &mut entry_id, cx.waker());
        self.entry = entry_id.map(|entry_id| WaitEntry {
            reactor: reactor.id(),
            key: registration.key(),
            entry_id,
        });
        if waits? {
            return Poll::Pending;
        }
        self.entry = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for ReadinessWait {
    fn drop(&mut self) {
        let Some(entry) = self.entry else { return };
        // On another thread the waiter stays until the next event removes it.
        if let Some(here) = Reactor::get().filter(|here| here.id() == entry.reactor) {
            here.remove_entry(entry.key, self.direction, entry.entry_id);
        }
    }
}
