//! What all sockets have in common: try an operation, wait for readiness, try again.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use socket2::SockRef;

use crate::executor;
use crate::executor::budget;
use crate::hooks::WaitReason;
use crate::reactor::{AsRaw, Direction, Reactor, Readiness, Source};
use crate::sync::atomic::Ordering;
use crate::task_cell::note;

/// A registered I/O object. Clones share it.
pub(crate) struct Socket<T> {
    backend: Arc<Backend<T>>,
}

/// Where an object waits until it is ready.
enum Backend<T> {
    /// In the reactor.
    System(Source<T>),
    /// In the simulated network that it belongs to.
    #[cfg(feature = "testing")]
    World(T, fn(&T) -> &dyn Simulated),
}

/// A socket of a simulated network, which keeps the wakers of what waits for it.
pub(crate) trait Simulated {
    /// Returns `Ready` if an operation in this direction would not block. Otherwise `waker` is
    /// woken when that changes.
    fn poll_ready(&self, direction: Direction, waker: &Waker) -> Poll<()>;
}

impl<T> Clone for Socket<T> {
    fn clone(&self) -> Self {
        Socket {
            backend: self.backend.clone(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Socket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(self.get_ref()).finish()
    }
}

impl<T: AsRaw + 'static> Socket<T> {
    /// Registers an object that is in nonblocking mode already. `what` names the operation in the
    /// error that is returned outside of a runtime.
    pub(crate) fn new(io: T, what: &str) -> io::Result<Socket<T>> {
        executor::inside_or_error(what)?;
        Ok(Socket {
            backend: Arc::new(Backend::System(Source::new(io)?)),
        })
    }

    /// Adds it to the poller now instead of at the first wait.
    pub(crate) fn add(&self) -> io::Result<()> {
        self.source().map_or(Ok(()), Source::add)
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
    /// An object of a simulated network. It needs no runtime.
    #[cfg(feature = "testing")]
    pub(crate) fn simulated(io: T, as_simulated: fn(&T) -> &dyn Simulated) -> Socket<T> {
        Socket {
            backend: Arc::new(Backend::World(io, as_simulated)),
        }
    }

    /// Its place in the reactor, or the object of a simulated network.
    #[inline(always)]
    fn place(&self) -> Result<&Source<T>, &dyn Simulated> {
        match &*self.backend {
            Backend::System(source) => Ok(source),
            #[cfg(feature = "testing")]
            Backend::World(io, as_simulated) => Err(as_simulated(io)),
        }
    }

    #[inline(always)]
    fn source(&self) -> Option<&Source<T>> {
        self.place().ok()
    }

    /// What is known of the readiness, unless it is simulated: then each operation is tried.
    #[inline(always)]
    fn readiness(&self) -> Option<&Readiness> {
        self.source().map(Source::readiness)
    }

    /// Marks it as internal: waits for it do not count when deadlocks are detected.
    #[cfg(all(unix, feature = "signal"))]
    pub(crate) fn set_background(&self) {
        if let Some(source) = self.source() {
            let background = &source.registration().background;
            background.store(true, Ordering::Relaxed);
        }
    }

    /// Marks it as shared: other code may use the object, so its readiness is not known.
    pub(crate) fn set_shared(&self) {
        if let Some(readiness) = self.readiness() {
            readiness.set_shared();
        }
    }

    #[inline]
    pub(crate) fn get_ref(&self) -> &T {
        match &*self.backend {
            Backend::System(source) => source.get_ref(),
            #[cfg(feature = "testing")]
            Backend::World(io, _) => io,
        }
    }

    /// Whether both are clones of the same socket.
    pub(crate) fn is_same(&self, other: &Socket<T>) -> bool {
        Arc::ptr_eq(&self.backend, &other.backend)
    }

    /// The object itself, if it is one of the system and this is the only clone.
    pub(crate) fn into_inner(self) -> Result<T, Socket<T>> {
        if self.source().is_none() {
            return Err(self);
        }
        match Arc::try_unwrap(self.backend) {
            Ok(Backend::System(source)) => Ok(source.into_inner()),
            #[cfg(feature = "testing")]
            Ok(Backend::World(io, _)) => Ok(io),
            Err(backend) => Err(Socket { backend }),
        }
    }

    /// Makes sure that the source belongs to this thread. `exclusive`: the caller has `&mut`
    /// access, so a waker that an earlier poll has left on another thread does not count.
    #[inline]
    fn claim(&self, exclusive: bool) -> io::Result<()> {
        match self.source() {
            Some(source) => source.claim(|| Arc::strong_count(&self.backend) == 1, exclusive),
            None => Ok(()),
        }
    }

    /// Called after a poll that has completed. If an earlier poll was pending, its wait is over,
    /// and no longer keeps the socket on this thread.
    #[inline]
    fn settle(&self, exclusive: bool) {
        let Some(source) = self.source() else { return };
        if exclusive && source.is_waited_for() && Arc::strong_count(&self.backend) == 1 {
            source.note_settled();
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
        if let (Bytes::DrainedByShortRead, Some(readiness)) = (bytes, self.readiness()) {
            readiness.note_read(n, room);
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
        if let (0, Some(readiness)) = (len, self.readiness()) {
            // An empty write never blocks, but it can return an error: always try it.
            readiness.assume(Direction::Write);
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
        if let Some(readiness) = self.readiness() {
            readiness.assume(Direction::Write);
        }
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
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        executor::inside_or_error("using a socket")?;
        self.claim(exclusive)?;
        ready!(executor::poll_socket_budget(cx));
        loop {
            if let Some(result) = self.attempt(direction, &mut operation) {
                self.settle(exclusive);
                return Poll::Ready(result);
            }
            // Ready if it is simulated and another thread has made it ready meanwhile.
            ready!(self.wait_polled(direction, cx))?;
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
        if self
            .readiness()
            .is_some_and(|known| !known.is_ready(direction))
        {
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
            match operation(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(readiness) = self.readiness() {
                        readiness.clear(direction);
                    }
                    return Err(error);
                }
                result => return result,
            }
        }
    }

    #[inline]
    fn wait_polled(&self, direction: Direction, cx: &TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.place() {
            Ok(source) => {
                Reactor::wait_polled(source.registration(), direction, cx.waker())?;
                Poll::Pending
            }
            Err(simulated) => wait_simulated(simulated, direction, cx.waker()),
        }
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
        let is_known = match self.source() {
            Some(source) if source.readiness().is_shared() => {
                Reactor::get_or_new()?.take_fired(source.registration(), direction)
            }
            Some(source) => source.readiness().is_reported(direction),
            None => false,
        };
        if !is_known {
            ready!(self.wait_polled(direction, cx))?;
        }
        budget::charge(1);
        Poll::Ready(Ok(()))
    }

    /// Waits until the direction is known to be ready. For a shared source: until it is reported.
    pub(crate) async fn wait_ready(&self, direction: Direction) -> io::Result<()> {
        executor::inside_or_error("waiting for a socket")?;
        poll_fn(executor::poll_socket_budget).await;
        self.claim(false)?;
        let is_reported = |known: &Readiness| known.is_reported(direction);
        while !self.readiness().is_some_and(is_reported) {
            self.ready(direction).await?;
            // There is no record of the readiness of a shared or simulated object.
            if self.readiness().is_none_or(Readiness::is_shared) {
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

/// Waits for an object of a simulated network.
#[cold]
fn wait_simulated(
    simulated: &dyn Simulated,
    direction: Direction,
    waker: &Waker,
) -> Poll<io::Result<()>> {
    let polled = simulated.poll_ready(direction, waker);
    if polled.is_pending() {
        // It has no fd.
        note(match direction {
            Direction::Read => WaitReason::Read { fd: -1 },
            Direction::Write => WaitReason::Write { fd: -1 },
        });
    }
    polled.map(Ok)
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
        let source = match self.socket.place() {
            Ok(source) => source,
            Err(simulated) => return wait_simulated(simulated, self.direction, cx.waker()),
        };
        let reactor = Reactor::get_or_new()?;
        let registration = source.registration();
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
        let waits = reactor.wait_entry(registration, direction, &mut entry_id, cx.waker());
        self.entry = entry_id.map(|entry_id| WaitEntry {
            reactor: reactor.id(),
            key: registration.key.load(Ordering::Relaxed),
            entry_id,
        });
        if waits? {
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
