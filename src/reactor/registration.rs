//! An fd that is registered with a poller only while its owner holds it open.
//!
//! # Invariants
//!
//! * **\[OPEN\]** `Registration::fd` is open, and the same open file, from
//!   [`RawSource::new`] until its `DeregisterGuard` has been dropped: the `RawSource`
//!   holds the I/O object, hands out only `&T`, and drops the guard first. The object's type
//!   is `'static`, so an object that is forgotten stays open for ever.
//! * **\[GONE\]** After the guard has been dropped (the key is `CLOSED`) the fd is registered
//!   nowhere, and no method of `Registration` uses the number again. The key is written under the
//!   lock of `poller` only, and never after that, so a late request about an old event cannot
//!   affect the next owner of the number.
//! * Modifying and deleting use the number that was registered, never a later
//!   `as_fd()`, which a type may answer differently.

#![expect(
    unsafe_code,
    reason = "polling asks for a promise that a source is deleted before it is closed"
)]

use std::io;
use std::sync::Arc;

use polling::Poller;

use super::event::Interest;
use super::fork::ForkCount;
use super::platform::{self, AsRaw, Borrowed, Notification, Raw};
use super::readiness::Readiness;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};

/// The poller of one reactor, and the process that made it.
#[derive(Debug)]
pub(super) struct PollerHandle {
    poller: Arc<Poller>,
    notification: Notification,
    /// Never 0, never reused.
    pub(super) id: u64,
    forks: ForkCount,
    /// Keys of sources that other threads have dropped or taken over. The reactor frees their
    /// slots.
    orphans: Mutex<Vec<usize>>,
    /// Set after a push, cleared before the orphans are taken.
    orphaned: AtomicBool,
}

impl PollerHandle {
    pub(super) fn new(id: u64) -> io::Result<PollerHandle> {
        let poller = Poller::new()?;
        Ok(PollerHandle {
            notification: Notification::new(&poller)?,
            poller: Arc::new(poller),
            id,
            forks: ForkCount::current()?,
            orphans: Mutex::new(Vec::new()),
            orphaned: AtomicBool::new(false),
        })
    }

    pub(super) fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Ends the wait. It works on any thread.
    pub(super) fn notify(&self) -> io::Result<()> {
        self.notification.notify(&self.poller)
    }

    /// False in the child of a fork: the epoll instance is still the parent's.
    pub(super) fn is_ours(&self) -> bool {
        self.forks.is_current()
    }

    /// Leaves the key of a slot for the reactor, which frees it.
    fn orphan(&self, key: usize) {
        lock(&self.orphans).push(key);
        self.orphaned.store(true, Ordering::Release);
    }

    /// The keys that were left since the last call.
    pub(super) fn take_orphans(&self) -> Vec<usize> {
        if self.orphaned.swap(false, Ordering::Acquire) {
            std::mem::take(&mut *lock(&self.orphans))
        } else {
            Vec::new()
        }
    }
}

impl Drop for PollerHandle {
    fn drop(&mut self) {
        // In the child of a fork, polling would deregister its own fds from the parent's epoll
        // instance. They are left open instead.
        if !self.is_ours() {
            std::mem::forget(self.poller.clone());
        }
    }
}

/// The key of a source whose owner has given the fd up. [GONE]
const CLOSED: usize = usize::MAX;

/// The reactor's view of a source: all of it but the I/O object.
#[derive(Debug)]
pub(crate) struct Registration {
    fd: Raw,
    /// The poller that it is registered with.
    poller: Mutex<Option<Arc<PollerHandle>>>,
    /// The reactor that the source belongs to. It is written under the lock of `poller`, when a
    /// source moves to another thread.
    pub(super) reactor: AtomicU64,
    /// Its key there; 0 while it is not registered, and `CLOSED` at the end. It is written under
    /// the lock of `poller`. Keys of different reactors can be equal.
    key: AtomicUsize,
    /// Whether a task waits for it in that reactor.
    pub(super) waiting: AtomicBool,
    /// Which directions are ready.
    pub(crate) readiness: Readiness,
    /// Set for internal sources. A runtime in which tasks wait for nothing else is deadlocked.
    pub(crate) background: AtomicBool,
}

impl Registration {
    fn new(fd: Raw) -> Registration {
        Registration {
            fd,
            poller: Mutex::new(None),
            reactor: AtomicU64::new(0),
            key: AtomicUsize::new(0),
            waiting: AtomicBool::new(false),
            readiness: Readiness::new(),
            background: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn key(&self) -> usize {
        self.key.load(Ordering::Relaxed)
    }

    /// The number of the fd, for dumps. Another object may have that number by now.
    pub(crate) fn number(&self) -> i64 {
        self.fd as i64
    }

    /// Calls `f` with the fd, unless its owner has given it up. `f` must not use the reactor.
    pub(crate) fn with_fd<R>(&self, f: impl FnOnce(Borrowed<'_>) -> R) -> Option<R> {
        let registered = lock(&self.poller);
        Some(f(self.borrow(&registered)?))
    }

    /// The fd, for as long as the lock of `poller` is held. `None` if its owner has given it up.
    fn borrow<'a>(
        &self,
        _lock: &'a MutexGuard<'_, Option<Arc<PollerHandle>>>,
    ) -> Option<Borrowed<'a>> {
        if self.key() == CLOSED {
            return None;
        }
        // SAFETY: the key is not `CLOSED`, and the lock is held: open [OPEN].
        Some(unsafe { Borrowed::borrow_raw(self.fd) })
    }

    /// Registers the source with the poller of the reactor that it belongs to, under `key`.
    pub(super) fn add(
        &self,
        poller: &Arc<PollerHandle>,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let mut registered = lock(&self.poller);
        let fd = self.borrow(&registered).ok_or_else(closed)?;
        if self.reactor.load(Ordering::Relaxed) != poller.id || registered.is_some() {
            // Another thread has taken it over.
            return Err(wrong_thread());
        }
        // SAFETY: `DeregisterGuard` deletes the fd under this lock before it is closed [GONE].
        let added = unsafe { platform::add(poller.poller(), fd, key, interest) };
        added.map_err(registered_already)?;
        self.key.store(key, Ordering::Relaxed);
        *registered = Some(poller.clone());
        Ok(())
    }

    /// Makes the poller report `interest` from now on. It also reports what is ready already.
    pub(super) fn modify(
        &self,
        poller: &PollerHandle,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let registered = lock(&self.poller);
        let fd = self.borrow(&registered).ok_or_else(closed)?;
        let is_with = |now: &Arc<PollerHandle>| now.id == poller.id;
        if !registered.as_ref().is_some_and(is_with) || self.key() != key {
            return Err(wrong_thread());
        }
        platform::modify(poller.poller(), fd, key, interest)
    }

    /// Makes it a source of another reactor. Returns the poller of the old one, which has to free
    /// the slot.
    pub(super) fn move_to(&self, reactor: u64) -> io::Result<Option<Arc<PollerHandle>>> {
        let mut registered = lock(&self.poller);
        let fd = self.borrow(&registered).ok_or_else(closed)?;
        if let Some(poller) = &*registered {
            if !poller.is_ours() {
                return Err(io::Error::other(
                    "the socket was registered before a fork: it cannot be waited for in the \
                     child process",
                ));
            }
            poller.poller().delete(fd)?;
            poller.orphan(self.key());
        }
        self.key.store(0, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
        self.readiness.reset();
        self.reactor.store(reactor, Ordering::Relaxed);
        Ok(registered.take())
    }

    /// Leaves the slot for its reactor, which frees it.
    pub(super) fn orphan(&self) {
        if let Some(poller) = &*lock(&self.poller) {
            poller.orphan(self.key());
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket has been closed")
}

/// Adds advice to the error of a second registration.
fn registered_already(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return error;
    }
    io::Error::new(
        error.kind(),
        "another object of this thread has already registered the file descriptor: use that \
         object, or a duplicate of the descriptor (`try_clone`)",
    )
}

pub(super) fn wrong_thread() -> io::Error {
    io::Error::other(
        "the socket belongs to another thread: it moves to this thread only if it has no clones \
         and no task waits for it there",
    )
}

/// Ends the registration when the owner gives the fd up.
#[derive(Debug)]
struct DeregisterGuard(Arc<Registration>);

impl Drop for DeregisterGuard {
    fn drop(&mut self) {
        let mut registered = lock(&self.0.poller);
        // The close alone is not enough, since a duplicate of the fd keeps the entry alive. In the
        // child of a fork the entry is the parent's, and stays.
        if let (Some(poller), Some(fd)) = (&*registered, self.0.borrow(&registered)) {
            if poller.is_ours() {
                // It fails only if there is no entry, which is harmless.
                let _ = poller.poller().delete(fd);
            }
        }
        *registered = None;
        self.0.key.store(CLOSED, Ordering::Relaxed);
    }
}

/// An I/O object and its registration.
#[derive(Debug)]
pub(super) struct RawSource<T> {
    // Dropped first: deleted, then closed. [OPEN]
    guard: DeregisterGuard,
    io: T,
}

impl<T: AsRaw + 'static> RawSource<T> {
    pub(super) fn new(io: T) -> RawSource<T> {
        let registration = Registration::new(platform::number(&io));
        RawSource {
            guard: DeregisterGuard(Arc::new(registration)),
            io,
        }
    }
}

impl<T> RawSource<T> {
    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }

    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.guard.0
    }

    /// Ends the registration and gives the I/O object back.
    pub(super) fn into_inner(self) -> T {
        let RawSource { guard, io } = self;
        drop(guard);
        io
    }
}
