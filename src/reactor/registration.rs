//! An fd that is registered with a poller exactly as long as its owner holds it
//! open. Unsafe room 2 of 2.
//!
//! # Invariants
//!
//! * **\[OPEN\]** `Registration::fd` is open, and the same open file, from
//!   [`RawSource::new`] until its `Closing` guard has been dropped: the `RawSource`
//!   holds the I/O object, hands out only `&T`, and drops the guard first. The object's type
//!   is `'static`, so an object that is forgotten stays open for ever.
//! * **\[GONE\]** After the guard has been dropped (`Place::Closed`) the fd is
//!   registered nowhere, and no method of `Registration` uses the number again. It is
//!   decided under the lock of `place`, so a late request about an old event cannot
//!   hit the number's next owner.
//! * Modifying and deleting use the number that was registered, never a later
//!   `as_fd()`, which a type may answer differently.

#![expect(
    unsafe_code,
    reason = "room 2: polling asks for a promise that a source is deleted before it is closed"
)]

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use polling::Poller;

use super::event::Interest;
use super::fork::Process;
use super::platform::{self, AsRaw, Borrowed, Notification, Raw};
use super::readiness::Readiness;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// The poller of one reactor, which knows the process that made it.
pub(super) struct PollerHandle {
    poller: ManuallyDrop<Poller>,
    notification: Notification,
    /// Never 0, never reused.
    pub(super) id: u64,
    process: Process,
    /// Keys of sources that other threads have dropped or taken over: their slots
    /// are left to the reactor.
    orphans: Mutex<Vec<usize>>,
    /// Set after a push, cleared before the orphans are taken.
    orphaned: AtomicBool,
}

impl PollerHandle {
    pub(super) fn new(id: u64) -> io::Result<PollerHandle> {
        let poller = Poller::new()?;
        Ok(PollerHandle {
            notification: Notification::new(&poller)?,
            poller: ManuallyDrop::new(poller),
            id,
            process: Process::current()?,
            orphans: Mutex::new(Vec::new()),
            orphaned: AtomicBool::new(false),
        })
    }

    pub(super) fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Ends the wait, from any thread.
    pub(super) fn notify(&self) -> io::Result<()> {
        self.notification.notify(&self.poller)
    }

    /// False in the child of a fork: the kernel's half is still the parent's.
    pub(super) fn is_ours(&self) -> bool {
        self.process.is_current()
    }

    /// Leaves a slot to the reactor.
    fn orphan(&self, key: usize) {
        lock(&self.orphans).push(key);
        self.orphaned.store(true, Ordering::Release);
    }

    /// The slots that were left to the reactor since it last asked.
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
        // Elsewhere polling would deregister its own fds from the parent's epoll:
        // they are left open instead.
        if self.is_ours() {
            // SAFETY: dropped here and nowhere else, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.poller) }
        }
    }
}

impl fmt::Debug for PollerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollerHandle")
            .field("id", &self.id)
            .finish()
    }
}

/// Where a source is registered.
#[derive(Debug)]
enum Place {
    /// Nowhere yet.
    Nowhere,
    /// With this poller, under the key of the registration.
    In(Arc<PollerHandle>),
    /// The owner lets go of the fd. [GONE]
    Closed,
}

/// What a reactor needs to know of a source, apart from the I/O object itself.
#[derive(Debug)]
pub(crate) struct Registration {
    fd: Raw,
    place: Mutex<Place>,
    /// The reactor that the source belongs to. It is written under the lock of `place`, when a
    /// source moves to another thread.
    pub(super) reactor: AtomicU64,
    /// Its key there; 0 while it is registered nowhere. It is written under the lock of
    /// `place`. Keys of different reactors can be equal.
    pub(crate) key: AtomicUsize,
    /// Whether a task waits for it in that reactor.
    pub(super) waiting: AtomicBool,
    pub(super) readiness: Readiness,
    /// Set if no task ever waits for it, so that it keeps no runtime from being stuck.
    pub(crate) background: AtomicBool,
}

impl Registration {
    fn new(fd: Raw) -> Registration {
        Registration {
            fd,
            place: Mutex::new(Place::Nowhere),
            reactor: AtomicU64::new(0),
            key: AtomicUsize::new(0),
            waiting: AtomicBool::new(false),
            readiness: Readiness::new(),
            background: AtomicBool::new(false),
        }
    }

    /// The number of the fd, for people to read: it may be another's by now.
    pub(crate) fn number(&self) -> i64 {
        self.fd as i64
    }

    /// Shows the fd, unless its owner has let go of it. `f` must not use the reactor.
    pub(crate) fn with_fd<R>(&self, f: impl FnOnce(Borrowed<'_>) -> R) -> Option<R> {
        let place = lock(&self.place);
        if matches!(*place, Place::Closed) {
            return None;
        }
        // SAFETY: not `Closed`, which is decided under this lock: open [OPEN].
        Some(f(unsafe { Borrowed::borrow_raw(self.fd) }))
    }

    /// Registers the source with the poller of the reactor that it belongs to, under `key`.
    pub(super) fn add(
        &self,
        poller: &Arc<PollerHandle>,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let mut place = lock(&self.place);
        match &*place {
            Place::Closed => return Err(closed()),
            // Another thread has taken it over.
            _ if self.reactor.load(Ordering::Relaxed) != poller.id => return Err(elsewhere()),
            Place::In(_) => return Err(elsewhere()),
            Place::Nowhere => {}
        }
        // SAFETY: the fd is open, since the place is not `Closed` [OPEN]. `Closing` deletes
        // it under this lock before it is closed [GONE].
        unsafe {
            let fd = Borrowed::borrow_raw(self.fd);
            platform::add(poller.poller(), fd, key, interest).map_err(registered_already)?;
        }
        self.key.store(key, Ordering::Relaxed);
        *place = Place::In(poller.clone());
        Ok(())
    }

    /// Has the poller report `interest` from now on. What is ready already is reported, too.
    pub(super) fn modify(
        &self,
        poller: &PollerHandle,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let place = lock(&self.place);
        match &*place {
            Place::Closed => Err(closed()),
            Place::In(now) if now.id == poller.id && self.key.load(Ordering::Relaxed) == key => {
                // SAFETY: the place is `In`, and the lock is held: open [OPEN].
                let fd = unsafe { Borrowed::borrow_raw(self.fd) };
                platform::modify(poller.poller(), fd, key, interest)
            }
            Place::In(_) | Place::Nowhere => Err(elsewhere()),
        }
    }

    /// Makes it a source of another reactor. Its slot is left to the old one, which is
    /// returned.
    pub(super) fn move_to(&self, reactor: u64) -> io::Result<Option<Arc<PollerHandle>>> {
        let mut place = lock(&self.place);
        if let Place::In(poller) = &*place {
            if !poller.is_ours() {
                return Err(io::Error::other(
                    "the socket was registered before a fork: it cannot be waited for in the \
                     child process",
                ));
            }
            self.delete(poller)?;
            poller.orphan(self.key.load(Ordering::Relaxed));
        }
        self.key.store(0, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
        self.readiness.reset();
        self.reactor.store(reactor, Ordering::Relaxed);
        match std::mem::replace(&mut *place, Place::Nowhere) {
            Place::In(old) => Ok(Some(old)),
            Place::Nowhere | Place::Closed => Ok(None),
        }
    }

    /// Leaves the slot to the reactor that it belongs to.
    pub(super) fn orphan(&self) {
        if let Place::In(poller) = &*lock(&self.place) {
            poller.orphan(self.key.load(Ordering::Relaxed));
        }
    }

    /// The caller holds the lock and has seen `Place::In`.
    fn delete(&self, poller: &PollerHandle) -> io::Result<()> {
        // SAFETY: the place is `In`, and the lock is held: open [OPEN].
        let fd = unsafe { Borrowed::borrow_raw(self.fd) };
        poller.poller().delete(fd)
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket has been closed")
}

/// Says what to do if it is that.
fn registered_already(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return error;
    }
    io::Error::new(
        error.kind(),
        "the file descriptor is registered already, by another object of this thread: use that \
         one, or a duplicate (`try_clone`)",
    )
}

pub(super) fn elsewhere() -> io::Error {
    io::Error::other(
        "the socket belongs to another thread: only a socket without clones, for which \
         nobody waits there, moves to the thread that uses it",
    )
}

/// Ends the registration when the owner lets go of the fd.
#[derive(Debug)]
struct Closing(Arc<Registration>);

impl Drop for Closing {
    fn drop(&mut self) {
        let mut place = lock(&self.0.place);
        // Also where the close would do it: a duplicate keeps the entry alive. In the child of
        // a fork it would take the parent's entry away.
        match &*place {
            Place::In(poller) if poller.is_ours() => {
                // It can fail only if the entry is not there: then all is well.
                let _ = self.0.delete(poller);
            }
            _ => {}
        }
        *place = Place::Closed;
    }
}

/// An I/O object and its registration.
#[derive(Debug)]
pub(super) struct RawSource<T> {
    // Dropped first: deleted, then closed. [OPEN]
    closing: Closing,
    io: T,
}

impl<T: AsRaw + 'static> RawSource<T> {
    pub(super) fn new(io: T) -> RawSource<T> {
        let registration = Registration::new(platform::number(&io));
        RawSource {
            closing: Closing(Arc::new(registration)),
            io,
        }
    }
}

impl<T> RawSource<T> {
    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }

    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.closing.0
    }

    /// Ends the registration and gives the I/O object back.
    pub(super) fn into_inner(self) -> T {
        let RawSource { closing, io } = self;
        drop(closing);
        io
    }
}
