//! What all sockets have in common: try, wait until the reactor reports readiness, try again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use socket2::SockRef;

use crate::executor;
use crate::executor::budget;
use crate::hooks::WaitReason;
use crate::reactor::{AsRaw, Direction, Reactor, Registration, Source};
use crate::sync::atomic::Ordering;
use crate::task_cell::{WaiterId, note, polled_id};

/// A registered I/O object that its clones share.
#[derive(Debug)]
pub(crate) struct Socket<T> {
    source: Arc<Source<T>>,
}

impl<T> Clone for Socket<T> {
    fn clone(&self) -> Self {
        Socket {
            source: self.source.clone(),
        }
    }
}

impl<T: AsRaw + 'static> Socket<T> {
    /// Takes over an object that is in nonblocking mode already. `what` is for the
    /// error outside of a runtime.
    pub(crate) fn new(io: T, what: &str) -> io::Result<Socket<T>> {
        executor::inside_or_error(what)?;
        Ok(Socket {
            source: Arc::new(Source::new(io)?),
        })
    }

    /// Adds it to the poller now, and not at the first wait.
    pub(crate) fn add(&self) -> io::Result<()> {
        self.source.add()
    }
}

/// What is known of the reads of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Nothing: the object can be of any type.
    Opaque,
    /// They have no boundaries.
    #[cfg(unix)]
    Stream,
    /// They have no boundaries, and a read that returns less than there was room for shows that
    /// nothing is left.
    DrainedByShortRead,
}

/// Puts it into nonblocking mode.
#[cfg(unix)]
pub(crate) fn set_nonblocking(io: &impl std::os::fd::AsFd) -> io::Result<()> {
    SockRef::from(io).set_nonblocking(true)
}

/// Puts it into nonblocking mode.
#[cfg(windows)]
pub(crate) fn set_nonblocking(io: &impl std::os::windows::io::AsSocket) -> io::Result<()> {
    SockRef::from(io).set_nonblocking(true)
}

impl<T> Socket<T> {
    /// Marks it as one for which no task waits.
    #[cfg(all(unix, feature = "signal"))]
    pub(crate) fn set_background(&self) {
        let background = &self.source.registration().background;
        background.store(true, Ordering::Relaxed);
    }

    /// Marks it as shared: other code may use the object, so what was reported of it proves
    /// nothing.
    pub(crate) fn set_shared(&self) {
        self.source.readiness().set_shared();
    }

    pub(crate) fn get_ref(&self) -> &T {
        self.source.get_ref()
    }

    /// Whether both are handles of the same object.
    pub(crate) fn is_same(&self, other: &Socket<T>) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }

    /// The object itself, if this is the only clone.
    pub(crate) fn into_inner(self) -> Result<T, Socket<T>> {
        match Arc::try_unwrap(self.source) {
            Ok(source) => Ok(source.into_inner()),
            Err(source) => Err(Socket { source }),
        }
    }

    /// Makes sure that it belongs to this thread. `exclusive`: the caller has it by
    /// `&mut`, so that a waker which an earlier poll left elsewhere does not count.
    fn claim(&self, exclusive: bool) -> io::Result<()> {
        self.source
            .claim(|| Arc::strong_count(&self.source) == 1, exclusive)
    }

    /// After a poll that went through, which may have been pending before: with that its
    /// wait is over, and does not keep the socket on this thread.
    fn settle(&self, exclusive: bool) {
        if exclusive && self.source.is_waited_for() && Arc::strong_count(&self.source) == 1 {
            self.source.note_settled();
        }
    }

    /// Reads bytes into a buffer with so much `room`, or has the task woken if that would
    /// block.
    #[inline]
    pub(crate) fn poll_read(
        &self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        bytes: Bytes,
        room: usize,
        read: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if bytes != Bytes::Opaque && room == 0 {
            // The system would wait for a byte that is not read.
            return Poll::Ready(Ok(0));
        }
        let result = ready!(self.poll_io(Direction::Read, cx, exclusive, read));
        if let Ok(n) = result {
            budget::charge_bytes(n);
            if bytes == Bytes::DrainedByShortRead {
                self.source.readiness().note_read(n, room);
            }
        }
        Poll::Ready(result)
    }

    /// Writes `len` bytes, or has the task woken if that would block.
    #[inline]
    pub(crate) fn poll_write(
        &self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        len: usize,
        write: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if len == 0 {
            // An empty write never blocks, but it can report an error: always try it.
            self.source.readiness().report(false, true, false);
        }
        let result = ready!(self.poll_io(Direction::Write, cx, exclusive, write));
        if let Ok(n) = result {
            budget::charge_bytes(n);
        }
        Poll::Ready(result)
    }

    /// Flushes the object, or has the task woken if that would block.
    #[inline]
    pub(crate) fn poll_flush(
        &self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        flush: impl FnMut(&T) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        // A socket has nothing to flush, whether or not there is room for a write.
        self.source.readiness().report(false, true, false);
        self.poll_io(Direction::Write, cx, exclusive, flush)
    }

    /// Tries an operation, and has the task woken if it would block. The caller charges the
    /// budget of the poll for it.
    #[inline]
    pub(crate) fn poll_io<R>(
        &self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        executor::inside_or_error("using a socket")?;
        self.claim(exclusive)?;
        ready!(executor::poll_socket_budget(cx));
        match self.attempt(direction, operation) {
            Some(result) => {
                self.settle(exclusive);
                Poll::Ready(result)
            }
            None => self.wait_polled(direction, cx),
        }
    }

    /// Tries an operation, if the direction is ready. `None` if it would block.
    #[inline]
    fn attempt<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Option<io::Result<R>> {
        let readiness = self.source.readiness();
        while readiness.is_ready(direction) {
            match operation(self.source.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    readiness.clear(direction);
                    break;
                }
                result => return Some(result),
            }
        }
        None
    }

    fn wait_polled<R>(
        &self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<R>> {
        wait_polled(self.source.registration(), direction, cx.waker())?;
        Poll::Pending
    }

    /// Ready once after each report for which a call of this waited.
    pub(crate) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        self.claim(false)?;
        let reactor = Reactor::get_or_new()?;
        if reactor.take_fired(self.source.registration(), direction) {
            return Poll::Ready(Ok(()));
        }
        self.wait_polled(direction, cx)
    }

    /// Waits until the reactor reports the direction.
    pub(crate) fn ready(&self, direction: Direction) -> Ready<'_, T> {
        Ready {
            socket: self,
            direction,
            entry: None,
        }
    }

    /// Tries a read or an accept until it does not block.
    pub(crate) async fn read_with<R>(
        &self,
        read: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(Direction::Read, read).await
    }

    /// Tries a write until it does not block.
    pub(crate) async fn write_with<R>(
        &self,
        write: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(Direction::Write, write).await
    }

    async fn operate<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        executor::inside_or_error("using a socket")?;
        loop {
            self.claim(false)?;
            poll_fn(executor::poll_socket_budget).await;
            if let Some(result) = self.attempt(direction, &mut operation) {
                budget::charge(1);
                return result;
            }
            self.ready(direction).await?;
        }
    }
}

/// Leaves the waker behind, which cannot be taken back. Not generic: one function for all types
/// of sockets.
#[inline]
fn wait_polled(
    registration: &Arc<Registration>,
    direction: Direction,
    waker: &Waker,
) -> io::Result<()> {
    let waiter = note_wait(registration, direction);
    if Reactor::wait_only(registration, direction, waiter, waker) {
        return Ok(());
    }
    wait_beside_others(registration, direction, waiter, waker)
}

/// As `wait_polled`, in whatever case.
#[cold]
fn wait_beside_others(
    registration: &Arc<Registration>,
    direction: Direction,
    waiter: WaiterId,
    waker: &Waker,
) -> io::Result<()> {
    executor::inside_or_error("waiting for a socket")?;
    let reactor = Reactor::get_or_new()?;
    reactor.wait_polled(registration, direction, waiter, waker)
}

fn note_wait(registration: &Registration, direction: Direction) -> WaiterId {
    let fd = registration.number();
    note(match direction {
        Direction::Read => WaitReason::Read { fd },
        Direction::Write => WaitReason::Write { fd },
    })
}

/// Waits until a direction is reported. It has an entry of its own, which leaves
/// with it.
#[derive(Debug)]
pub(crate) struct Ready<'a, T> {
    socket: &'a Socket<T>,
    direction: Direction,
    entry: Option<Entry>,
}

/// Where a wait is written down. Keys are the reactor's own: the same one means another
/// source elsewhere.
#[derive(Clone, Copy, Debug)]
struct Entry {
    reactor: u64,
    key: usize,
    id: u32,
}

impl<T> Future for Ready<'_, T> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        executor::inside_or_error("waiting for a socket")?;
        self.socket.claim(false)?;
        let reactor = Reactor::get_or_new()?;
        let registration = self.socket.source.registration();
        let key = registration.key.load(Ordering::Relaxed);
        let is_here = |entry: Entry| entry.reactor == reactor.id() && entry.key == key;
        if self.entry.is_some_and(|entry| !is_here(entry)) {
            // The socket has moved to another reactor, which ends the wait: the caller tries
            // again.
            self.entry = None;
            return Poll::Ready(Ok(()));
        }
        let mut id = self.entry.map(|entry| entry.id);
        let direction = self.direction;
        let waits = reactor.wait_entry(registration, direction, &mut id, polled_id(), cx.waker());
        self.entry = id.map(|id| Entry {
            reactor: reactor.id(),
            key: registration.key.load(Ordering::Relaxed),
            id,
        });
        if waits? {
            note_wait(registration, direction);
            return Poll::Pending;
        }
        self.entry = None;
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Ready<'_, T> {
    fn drop(&mut self) {
        let Some(entry) = self.entry else { return };
        // On another thread it stays, until the next report takes it along.
        if let Some(here) = Reactor::get().filter(|here| here.id() == entry.reactor) {
            here.remove_entry(entry.key, self.direction, entry.id);
        }
    }
}
