//! What all sockets have in common: try an operation, wait for readiness, try again.

use std::future::{Future, poll_fn};
use std::io::{self, IoSliceMut};
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

/// A registered I/O object. Clones share it.
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
    /// Registers an object that is in nonblocking mode already. `what` names the operation in the
    /// error that is returned outside of a runtime.
    pub(crate) fn new(io: T, what: &str) -> io::Result<Socket<T>> {
        executor::inside_or_error(what)?;
        Ok(Socket {
            source: Arc::new(Source::new(io)?),
        })
    }

    /// Adds it to the poller now instead of at the first wait.
    pub(crate) fn add(&self) -> io::Result<()> {
        self.source.add()
    }
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

/// The largest number of buffers that the system takes in one call. It refuses a longer list as a
/// whole.
pub(crate) const MAX_BUFFERS: usize = 1024;

/// How many bytes one read into these buffers can return.
pub(crate) fn room(bufs: &[IoSliceMut<'_>]) -> usize {
    bufs.iter().take(MAX_BUFFERS).map(|buf| buf.len()).sum()
}

/// Sets nonblocking mode.
#[cfg(unix)]
pub(crate) fn set_nonblocking(io: &impl std::os::fd::AsFd) -> io::Result<()> {
    SockRef::from(io).set_nonblocking(true)
}

/// Sets nonblocking mode.
#[cfg(windows)]
pub(crate) fn set_nonblocking(io: &impl std::os::windows::io::AsSocket) -> io::Result<()> {
    SockRef::from(io).set_nonblocking(true)
}

impl<T> Socket<T> {
    /// Marks it as internal: waits for it do not count when deadlocks are detected.
    #[cfg(all(unix, feature = "signal"))]
    pub(crate) fn set_background(&self) {
        let background = &self.source.registration().background;
        background.store(true, Ordering::Relaxed);
    }

    /// Marks it as shared: other code may use the object, so its readiness is not known.
    pub(crate) fn set_shared(&self) {
        self.source.readiness().set_shared();
    }

    pub(crate) fn get_ref(&self) -> &T {
        self.source.get_ref()
    }

    /// Whether both are clones of the same socket.
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

    /// Makes sure that the source belongs to this thread. `exclusive`: the caller has `&mut`
    /// access, so a waker that an earlier poll has left on another thread does not count.
    fn claim(&self, exclusive: bool) -> io::Result<()> {
        self.source
            .claim(|| Arc::strong_count(&self.source) == 1, exclusive)
    }

    /// Called after a poll that has completed. If an earlier poll was pending, its wait is over,
    /// and no longer keeps the socket on this thread.
    fn settle(&self, exclusive: bool) {
        if exclusive && self.source.is_waited_for() && Arc::strong_count(&self.source) == 1 {
            self.source.note_settled();
        }
    }

    /// Reads into a buffer of `room` bytes. If that would block, the task is woken when the socket
    /// is readable.
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
            // The system would wait until there is a byte, without reading it.
            return Poll::Ready(Ok(0));
        }
        let result = ready!(self.poll_io(Direction::Read, cx, exclusive, read));
        if let Ok(n) = result {
            self.note_read(bytes, n, room);
        }
        Poll::Ready(result)
    }

    /// Charges a read of `n` bytes into a buffer of `room` bytes, and notes what it shows.
    #[inline]
    fn note_read(&self, bytes: Bytes, n: usize, room: usize) {
        budget::charge_bytes(n);
        if bytes == Bytes::DrainedByShortRead {
            self.source.readiness().note_read(n, room);
        }
    }

    /// Writes `len` bytes. If that would block, the task is woken when the socket is writable.
    #[inline]
    pub(crate) fn poll_write(
        &self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        len: usize,
        write: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if len == 0 {
            // An empty write never blocks, but it can return an error: always try it.
            self.source.readiness().assume(Direction::Write);
        }
        let result = ready!(self.poll_io(Direction::Write, cx, exclusive, write));
        if let Ok(n) = result {
            budget::charge_bytes(n);
        }
        Poll::Ready(result)
    }

    /// Flushes the object. If that would block, the task is woken when the socket is writable.
    #[inline]
    pub(crate) fn poll_flush(
        &self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        flush: impl FnMut(&T) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        // A flush never blocks on a full socket buffer: always try it.
        self.source.readiness().assume(Direction::Write);
        self.poll_io(Direction::Write, cx, exclusive, flush)
    }

    /// Tries an operation. If it would block, the task is woken when the direction is ready. The
    /// caller charges the budget of the poll.
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

    /// Like `poll_io` for an operation that is not a read or write of a stream.
    pub(crate) fn poll_operate<R>(
        &self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let result = ready!(self.poll_io(direction, cx, false, operation));
        budget::charge(1);
        Poll::Ready(result)
    }

    /// Tries an operation now, whether or not the direction is ready: the readiness is not known
    /// while the direction is not armed. The caller charges the budget of the poll.
    pub(crate) fn try_io<R>(
        &self,
        direction: Direction,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        executor::inside_or_error("using a socket")?;
        self.claim(false)?;
        self.call(direction, operation)
    }

    /// Like `try_io` for an operation that is not a read or write of a stream.
    pub(crate) fn try_operate<R>(
        &self,
        direction: Direction,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let result = self.try_io(direction, operation)?;
        budget::charge(1);
        Ok(result)
    }

    /// Like `poll_read`, but returns `WouldBlock` instead of waiting.
    pub(crate) fn try_read(
        &self,
        bytes: Bytes,
        room: usize,
        read: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if bytes != Bytes::Opaque && room == 0 {
            return Ok(0);
        }
        let n = self.try_io(Direction::Read, read)?;
        self.note_read(bytes, n, room);
        Ok(n)
    }

    /// Like `poll_write`, but returns `WouldBlock` instead of waiting.
    pub(crate) fn try_write(
        &self,
        write: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let n = self.try_io(Direction::Write, write)?;
        budget::charge_bytes(n);
        Ok(n)
    }

    /// Tries an operation, if the direction is ready. `None` if it would block.
    #[inline]
    fn attempt<R>(
        &self,
        direction: Direction,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Option<io::Result<R>> {
        if !self.source.readiness().is_ready(direction) {
            return None;
        }
        match self.call(direction, operation) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }

    /// Calls an operation. If it would block, the direction is not ready.
    #[inline]
    fn call<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            match operation(self.source.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.source.readiness().clear(direction);
                    return Err(error);
                }
                result => return result,
            }
        }
    }

    fn wait_polled<R>(
        &self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<R>> {
        wait_polled(self.source.registration(), direction, cx.waker())?;
        Poll::Pending
    }

    /// Ready while the direction is known to be ready. For a shared source: ready once after each
    /// event for which a call of this has waited.
    pub(crate) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        executor::inside_or_error("waiting for a socket")?;
        self.claim(false)?;
        ready!(executor::poll_socket_budget(cx));
        let registration = self.source.registration();
        if self.source.readiness().is_reported(direction)
            || self.source.readiness().is_shared()
                && Reactor::get_or_new()?.take_fired(registration, direction)
        {
            budget::charge(1);
            return Poll::Ready(Ok(()));
        }
        self.wait_polled(direction, cx)
    }

    /// Waits until the direction is known to be ready. For a shared source: until it is reported.
    pub(crate) async fn wait_ready(&self, direction: Direction) -> io::Result<()> {
        executor::inside_or_error("waiting for a socket")?;
        poll_fn(executor::poll_socket_budget).await;
        self.claim(false)?;
        let readiness = self.source.readiness();
        while !readiness.is_reported(direction) {
            self.ready(direction).await?;
            if readiness.is_shared() {
                break;
            }
        }
        budget::charge(1);
        Ok(())
    }

    /// Waits until the poller reports the direction.
    pub(crate) fn ready(&self, direction: Direction) -> ReadinessFuture<'_, T> {
        ReadinessFuture {
            socket: self,
            direction,
            entry: None,
        }
    }

    /// Reads or accepts, as soon as that does not block.
    pub(crate) async fn read_with<R>(
        &self,
        read: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(Direction::Read, read).await
    }

    /// Writes, as soon as that does not block.
    pub(crate) async fn write_with<R>(
        &self,
        write: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(Direction::Write, write).await
    }

    /// Calls an operation as soon as the direction is ready, and again if it would block.
    pub(crate) async fn operate<R>(
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

/// Adds a waiter of a `poll_*` call, which cannot be removed. It is not generic, so that all types
/// of sockets share the code.
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
    wait_general(registration, direction, waiter, waker)
}

/// `wait_polled` in all other cases.
#[cold]
fn wait_general(
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

/// Waits until a direction is reported. Its waiter has an entry id of its own, and is removed when
/// the future is dropped.
#[derive(Debug)]
pub(crate) struct ReadinessFuture<'a, T> {
    socket: &'a Socket<T>,
    direction: Direction,
    entry: Option<WaitEntry>,
}

/// Identifies the waiter of a `ReadinessFuture`. A key is valid only in its reactor.
#[derive(Clone, Copy, Debug)]
struct WaitEntry {
    reactor: u64,
    key: usize,
    entry_id: u32,
}

impl<T> Future for ReadinessFuture<'_, T> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        executor::inside_or_error("waiting for a socket")?;
        self.socket.claim(false)?;
        let reactor = Reactor::get_or_new()?;
        let registration = self.socket.source.registration();
        let key = registration.key.load(Ordering::Relaxed);
        let is_current = |entry: WaitEntry| entry.reactor == reactor.id() && entry.key == key;
        if self.entry.is_some_and(|entry| !is_current(entry)) {
            // The socket has moved to another reactor, which ends the wait. The caller tries the
            // operation again.
            self.entry = None;
            return Poll::Ready(Ok(()));
        }
        let mut entry_id = self.entry.map(|entry| entry.entry_id);
        let direction = self.direction;
        let waits = reactor.wait_entry(
            registration,
            direction,
            &mut entry_id,
            polled_id(),
            cx.waker(),
        );
        self.entry = entry_id.map(|entry_id| WaitEntry {
            reactor: reactor.id(),
            key: registration.key.load(Ordering::Relaxed),
            entry_id,
        });
        if waits? {
            note_wait(registration, direction);
            return Poll::Pending;
        }
        self.entry = None;
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for ReadinessFuture<'_, T> {
    fn drop(&mut self) {
        let Some(entry) = self.entry else { return };
        // On another thread the waiter stays until the next event removes it.
        if let Some(here) = Reactor::get().filter(|here| here.id() == entry.reactor) {
            here.remove_entry(entry.key, self.direction, entry.entry_id);
        }
    }
}
