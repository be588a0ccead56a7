//! What all sockets have in common: try, wait for the reactor's word, try again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use socket2::SockRef;

use crate::cell::{Wait, note, polled};
use crate::context;
use crate::reactor::{Direction, Reactor, Source};
use crate::source::{AsRaw, Registration};
use crate::sync::atomic::Ordering;

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

impl<T: AsRaw> Socket<T> {
    /// Takes over an object that is in nonblocking mode already. `what` is for the
    /// error outside of a runtime.
    pub(crate) fn new(io: T, what: &str) -> io::Result<Socket<T>> {
        context::inside_or_error(what)?;
        Ok(Socket {
            source: Arc::new(Source::new(io)?),
        })
    }

    /// Adds it to the poller now, and not when somebody first waits.
    pub(crate) fn add(&self) -> io::Result<()> {
        self.source.add()
    }
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
    /// Who waits for it is no task.
    #[cfg(all(unix, feature = "signal"))]
    pub(crate) fn set_background(&self) {
        let background = &self.source.registration().background;
        background.store(true, Ordering::Relaxed);
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
    /// `&mut`, so that a waker which an earlier poll left elsewhere is nobody's.
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

    /// Reads bytes, or has the task woken if that would block. `stream`: bytes without
    /// boundaries, so that a read of less than there was `room` for has emptied it.
    #[inline]
    pub(crate) fn poll_read(
        &self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        stream: bool,
        room: usize,
        read: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if stream && room == 0 {
            // The system would wait for a byte that nobody takes.
            return Poll::Ready(Ok(0));
        }
        let result = ready!(self.poll_read_with(cx, exclusive, stream, read));
        if let (true, Ok(n)) = (stream, &result) {
            self.source.reads().note_length(*n, room);
        }
        Poll::Ready(result)
    }

    /// Tries to read or accept, and has the task woken if that would block. `trusting`:
    /// not even tried while the earlier reads say that there is nothing.
    #[inline]
    pub(crate) fn poll_read_with<R>(
        &self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        trusting: bool,
        mut read: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.claim(exclusive)?;
        let reads = self.source.reads();
        while reads.may_try(trusting) {
            match read(self.source.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    reads.note_blocked();
                    break;
                }
                result => {
                    reads.note_done();
                    self.settle(exclusive);
                    return Poll::Ready(result);
                }
            }
        }
        self.wait_polled(Direction::Read, cx)
    }

    /// Tries to write, and has the task woken if that would block.
    #[inline]
    pub(crate) fn poll_write<R>(
        &self,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        mut write: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.claim(exclusive)?;
        if !context::may_write()? {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match write(self.source.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => {
                    self.settle(exclusive);
                    return Poll::Ready(result);
                }
            }
        }
        self.wait_polled(Direction::Write, cx)
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

    /// Waits for the reactor's word.
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
        mut read: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            self.claim(false)?;
            let reads = self.source.reads();
            while reads.may_try(false) {
                match read(self.source.get_ref()) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        reads.note_blocked();
                        break;
                    }
                    result => {
                        reads.note_done();
                        return result;
                    }
                }
            }
            self.ready(Direction::Read).await?;
        }
    }

    /// Tries a write until it does not block.
    pub(crate) async fn write_with<R>(
        &self,
        mut write: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            self.claim(false)?;
            if !context::may_write()? {
                futures_lite::future::yield_now().await;
                continue;
            }
            match write(self.source.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready(Direction::Write).await?;
                }
                result => return result,
            }
        }
    }
}

/// Leaves the waker behind: nobody takes it back. One for all types of sockets.
#[inline]
fn wait_polled(
    registration: &Arc<Registration>,
    direction: Direction,
    waker: &Waker,
) -> io::Result<()> {
    note_wait(registration, direction);
    if Reactor::wait_alone(registration, direction, waker) {
        return Ok(());
    }
    wait_beside_others(registration, direction, waker)
}

/// As `wait_polled`, in whatever case.
#[cold]
fn wait_beside_others(
    registration: &Arc<Registration>,
    direction: Direction,
    waker: &Waker,
) -> io::Result<()> {
    context::inside_or_error("waiting for a socket")?;
    let reactor = Reactor::get_or_new()?;
    reactor.wait_polled(registration, direction, polled(), waker)
}

fn note_wait(registration: &Registration, direction: Direction) {
    let fd = registration.number();
    note(match direction {
        Direction::Read => Wait::Read(fd),
        Direction::Write => Wait::Write(fd),
    });
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
        context::inside_or_error("waiting for a socket")?;
        self.socket.claim(false)?;
        let reactor = Reactor::get_or_new()?;
        let registration = self.socket.source.registration();
        let key = registration.key.load(Ordering::Relaxed);
        let is_here = |entry: Entry| entry.reactor == reactor.id() && entry.key == key;
        if self.entry.is_some_and(|entry| !is_here(entry)) {
            // The socket has moved on, which ends the wait: whoever waited looks again.
            self.entry = None;
            return Poll::Ready(Ok(()));
        }
        let mut id = self.entry.map(|entry| entry.id);
        let direction = self.direction;
        let waits = reactor.wait_entry(registration, direction, &mut id, polled(), cx.waker());
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
            here.leave_entry(entry.key, self.direction, entry.id);
        }
    }
}
