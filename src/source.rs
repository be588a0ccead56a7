//! An fd that is registered with a poller exactly as long as its owner holds it
//! open. Unsafe room 2 of 2.
//!
//! # Invariants
//!
//! * **\[OPEN\]** `Registration::fd` is open, and the same open file, from
//!   [`RawSource::new`] until its `Closing` guard has been dropped: the `RawSource`
//!   holds the I/O object, hands out only `&T`, and drops the guard first.
//! * **\[GONE\]** After the guard has been dropped (`Place::Closed`) the fd is
//!   registered nowhere, and no method of `Registration` uses the number again. It is
//!   decided under the lock of `place`, so a word about an old event that comes late
//!   cannot hit the number's next owner.
//! * Modifying and deleting use the number that was registered, never a later
//!   `as_fd()`, which a type may answer differently.

#![expect(
    unsafe_code,
    reason = "room 2: polling asks for a promise that a source is deleted before it is closed"
)]

mod reads;

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use polling::{Event, PollMode, Poller};

pub(crate) use self::reads::Reads;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

#[cfg(unix)]
mod raw {
    pub(crate) use std::os::fd::{AsFd as AsRaw, BorrowedFd as Borrowed, RawFd as Raw};

    pub(super) fn number(io: &impl AsRaw) -> Raw {
        std::os::fd::AsRawFd::as_raw_fd(&io.as_fd())
    }
}

#[cfg(windows)]
mod raw {
    pub(crate) use std::os::windows::io::{
        AsSocket as AsRaw, BorrowedSocket as Borrowed, RawSocket as Raw,
    };

    pub(super) fn number(io: &impl AsRaw) -> Raw {
        std::os::windows::io::AsRawSocket::as_raw_socket(&io.as_socket())
    }
}

pub(crate) use raw::AsRaw;

/// On Windows a socket without an interest whose peer resets keeps polling busy:
/// there it is taken out, and added again at the next wait.
const PARKS_BY_DELETING: bool = cfg!(windows);

/// The poller of one reactor, which knows the process that made it.
pub(crate) struct Polling {
    poller: ManuallyDrop<Poller>,
    /// Never 0, never reused.
    pub(crate) id: u64,
    pid: u32,
    /// Keys of sources that other threads have dropped or taken over: their slots
    /// are left to the reactor.
    orphans: Mutex<Vec<usize>>,
    /// Set after a push, cleared before the orphans are taken.
    orphaned: AtomicBool,
}

impl Polling {
    pub(crate) fn new(id: u64) -> io::Result<Polling> {
        Ok(Polling {
            poller: ManuallyDrop::new(Poller::new()?),
            id,
            pid: std::process::id(),
            orphans: Mutex::new(Vec::new()),
            orphaned: AtomicBool::new(false),
        })
    }

    pub(crate) fn poller(&self) -> &Poller {
        &self.poller
    }

    /// False in the child of a fork: the kernel's half is still the parent's.
    pub(crate) fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Leaves a slot to the reactor.
    pub(crate) fn orphan(&self, key: usize) {
        lock(&self.orphans).push(key);
        self.orphaned.store(true, Ordering::Release);
    }

    /// The slots that were left to the reactor since it last asked.
    pub(crate) fn take_orphans(&self) -> Vec<usize> {
        if self.orphaned.swap(false, Ordering::Acquire) {
            std::mem::take(&mut *lock(&self.orphans))
        } else {
            Vec::new()
        }
    }

    /// Whether an interest stays armed when it has been reported.
    pub(crate) fn is_level(&self) -> bool {
        self.mode() == PollMode::Level
    }

    /// The mode in which an interest stays armed, where the platform has it.
    fn mode(&self) -> PollMode {
        if self.poller.supports_level() {
            PollMode::Level
        } else {
            PollMode::Oneshot
        }
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        // Elsewhere polling would deregister its own fds from the parent's epoll:
        // they are left open instead.
        if self.is_ours() {
            // SAFETY: dropped here and nowhere else, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.poller) }
        }
    }
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling").field("id", &self.id).finish()
    }
}

/// Where a source is registered.
#[derive(Debug)]
enum Place {
    /// Nowhere yet.
    Nowhere,
    /// Known to this poller, under the key of the registration. `added` is false while it
    /// is parked on a platform that parks by deleting.
    In { polling: Arc<Polling>, added: bool },
    /// The owner lets go of the fd. [GONE]
    Closed,
}

/// What a reactor needs to know of a source, apart from the I/O object itself.
#[derive(Debug)]
pub(crate) struct Registration {
    fd: raw::Raw,
    place: Mutex<Place>,
    /// The reactor that the source belongs to; it changes when a source moves to
    /// another thread. Relaxed: it says whose slots to look at, and the slot says
    /// whether it is the right one.
    pub(crate) reactor: AtomicU64,
    /// Its key there; 0 while it has none. It changes before it is armed under another one,
    /// and after it has left.
    pub(crate) key: AtomicUsize,
    /// Whether a task waits for it in that reactor.
    pub(crate) waiting: AtomicBool,
    /// Whether the next read is worth a try.
    pub(crate) reads: Reads,
    /// Set where who waits for it is never a task: it keeps nothing going.
    pub(crate) background: AtomicBool,
}

impl Registration {
    fn new(fd: raw::Raw) -> Registration {
        Registration {
            fd,
            place: Mutex::new(Place::Nowhere),
            reactor: AtomicU64::new(0),
            key: AtomicUsize::new(0),
            waiting: AtomicBool::new(false),
            reads: Reads::new(),
            background: AtomicBool::new(false),
        }
    }

    /// The number of the fd, for people to read: it may be another's by now.
    pub(crate) fn number(&self) -> i64 {
        self.fd as i64
    }

    /// Shows the fd, unless its owner has let go of it. `f` must not use the reactor.
    pub(crate) fn with_fd<R>(&self, f: impl FnOnce(raw::Borrowed<'_>) -> R) -> Option<R> {
        let place = lock(&self.place);
        if matches!(*place, Place::Closed) {
            return None;
        }
        // SAFETY: not `Closed`, which is decided under this lock: open [OPEN].
        Some(f(unsafe { raw::Borrowed::borrow_raw(self.fd) }))
    }

    /// Has the poller report these directions under `key` from now on.
    pub(crate) fn arm(
        &self,
        polling: &Arc<Polling>,
        key: usize,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let interest = Event::new(key, readable, writable);
        let mut place = lock(&self.place);
        match &*place {
            Place::Closed => return Err(closed()),
            Place::In { polling: now, .. } if now.id != polling.id => {
                return Err(elsewhere());
            }
            Place::In { added: true, .. } => return self.modify(polling, interest, polling.mode()),
            Place::In { added: false, .. } | Place::Nowhere => {}
        }
        // SAFETY: the fd is open: not `Closed` [OPEN]. Before it is closed, `Closing`
        // deletes it, under this lock [GONE].
        unsafe {
            let poller = polling.poller();
            poller.add_with_mode(self.fd, interest, polling.mode())?;
        }
        *place = Place::In {
            polling: polling.clone(),
            added: true,
        };
        Ok(())
    }

    /// Ends the registration, so that another thread's reactor can take the source
    /// over, and leaves the slot to the old one.
    pub(crate) fn leave(&self) -> io::Result<()> {
        let mut place = lock(&self.place);
        if let Place::In { polling, added } = &*place {
            if !polling.is_ours() {
                return Err(io::Error::other(
                    "the socket was registered before a fork: it cannot be waited for in the \
                     child process",
                ));
            }
            if *added {
                self.delete(polling)?;
            }
            polling.orphan(self.key.load(Ordering::Relaxed));
            *place = Place::Nowhere;
        }
        Ok(())
    }

    /// Leaves the slot to the reactor that it belongs to.
    pub(crate) fn orphan(&self) {
        if let Place::In { polling, .. } = &*lock(&self.place) {
            polling.orphan(self.key.load(Ordering::Relaxed));
        }
    }

    /// Has the poller report only these directions. Nothing happens if the source
    /// has gone elsewhere meanwhile.
    pub(crate) fn disarm(
        &self,
        polling: &Polling,
        key: usize,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let mut place = lock(&self.place);
        let Place::In {
            polling: now,
            added: added @ true,
        } = &mut *place
        else {
            return Ok(());
        };
        if now.id != polling.id || self.key.load(Ordering::Relaxed) != key {
            return Ok(());
        }
        if readable || writable {
            self.modify(polling, Event::new(key, readable, writable), polling.mode())
        } else if PARKS_BY_DELETING {
            *added = false;
            self.delete(polling)
        } else {
            // HUP and ERR come even without an interest: at most once.
            self.modify(polling, Event::none(key), PollMode::Oneshot)
        }
    }

    fn modify(&self, polling: &Polling, interest: Event, mode: PollMode) -> io::Result<()> {
        // SAFETY: the caller holds the lock and has seen `Place::In`: open [OPEN].
        let fd = unsafe { raw::Borrowed::borrow_raw(self.fd) };
        polling.poller().modify_with_mode(fd, interest, mode)
    }

    fn delete(&self, polling: &Polling) -> io::Result<()> {
        // SAFETY: as in `modify`.
        let fd = unsafe { raw::Borrowed::borrow_raw(self.fd) };
        polling.poller().delete(fd)
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket has been closed")
}

pub(crate) fn elsewhere() -> io::Error {
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
        if let Place::In {
            polling,
            added: true,
            ..
        } = &*place
        {
            // Also where the close would do it: a duplicate keeps the entry alive.
            // After a fork it would take the parent's entry away.
            if polling.is_ours() {
                // It can fail only if the entry is not there: then all is well.
                let _ = self.0.delete(polling);
            }
        }
        *place = Place::Closed;
    }
}

/// An I/O object and its registration.
#[derive(Debug)]
pub(crate) struct RawSource<T> {
    // Dropped first: deleted, then closed. [OPEN]
    closing: Closing,
    io: T,
}

impl<T: AsRaw> RawSource<T> {
    pub(crate) fn new(io: T) -> RawSource<T> {
        let registration = Registration::new(raw::number(&io));
        RawSource {
            closing: Closing(Arc::new(registration)),
            io,
        }
    }
}

impl<T> RawSource<T> {
    pub(crate) fn get_ref(&self) -> &T {
        &self.io
    }

    pub(crate) fn registration(&self) -> &Arc<Registration> {
        &self.closing.0
    }

    /// Ends the registration and gives the I/O object back.
    pub(crate) fn into_inner(self) -> T {
        let RawSource { closing, io } = self;
        drop(closing);
        io
    }
}

/// Adds an fd of the reactor's own, which reports every change once and is never
/// read.
#[cfg(all(target_os = "linux", not(soloist_portable)))]
pub(crate) fn watch_edges<T: AsRaw>(
    source: &RawSource<T>,
    polling: &Arc<Polling>,
    key: usize,
) -> io::Result<()> {
    let registration = source.registration();
    let mut place = lock(&registration.place);
    // SAFETY: the source is borrowed, so its fd is open [OPEN]; `Closing` deletes it
    // before it is closed [GONE].
    unsafe {
        let poller = polling.poller();
        poller.add_with_mode(registration.fd, Event::readable(key), PollMode::Edge)?;
    }
    *place = Place::In {
        polling: polling.clone(),
        added: true,
    };
    Ok(())
}
