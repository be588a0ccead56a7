//! An I/O object of the reactor: its registration, its slot, the thread it belongs to.

use std::io;
use std::sync::Arc;

use super::driver::{ID, Reactor};
use super::event::Direction;
use super::platform::AsRaw;
use super::readiness::Readiness;
use super::registration::{RawSource, Registration, elsewhere};
use crate::panics::Panics;
use crate::sync::atomic::Ordering;

/// A registered I/O object: what sockets and `Async` are made of.
#[derive(Debug)]
pub(crate) struct Source<T> {
    // Dropped first: the slot goes before the registration that tells where it is.
    slot: SlotGuard,
    raw: RawSource<T>,
}

#[derive(Debug)]
struct SlotGuard(Arc<Registration>);

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let key = self.0.key.load(Ordering::Relaxed);
        if key == 0 {
            return;
        }
        match Reactor::get() {
            Some(here) if here.id() == self.0.reactor.load(Ordering::Relaxed) => {
                let mut panics = Panics::default();
                here.free(key, &mut panics);
                panics.resume();
            }
            _ => self.0.orphan(),
        }
    }
}

impl<T: AsRaw + 'static> Source<T> {
    /// A source of this thread's reactor, which is made now if need be. The fd is
    /// added to the poller when a task first waits for it.
    pub(crate) fn new(io: T) -> io::Result<Source<T>> {
        let reactor = Reactor::get_or_new()?;
        let raw = RawSource::new(io);
        let registration = raw.registration().clone();
        registration.reactor.store(reactor.id(), Ordering::Relaxed);
        Ok(Source {
            slot: SlotGuard(registration),
            raw,
        })
    }

    /// Adds the fd to the poller now, so that one which cannot be polled is refused.
    pub(crate) fn add(&self) -> io::Result<()> {
        let reactor = Reactor::get_or_new()?;
        reactor.with_armed_slot(&self.slot.0, Direction::Read, |_| ())
    }
}

impl<T> Source<T> {
    pub(crate) fn get_ref(&self) -> &T {
        self.raw.get_ref()
    }

    pub(crate) fn registration(&self) -> &Arc<Registration> {
        &self.slot.0
    }

    pub(crate) fn into_inner(self) -> T {
        let Source { slot, raw } = self;
        drop(slot);
        raw.into_inner()
    }

    /// Makes sure that the source belongs to this thread: a look-up and a compare
    /// in the usual case. A source that does not, and that nothing else uses, moves here;
    /// `exclusive` says that the caller has proven that by a `&mut`.
    #[inline]
    pub(crate) fn claim(&self, unique: impl Fn() -> bool, exclusive: bool) -> io::Result<()> {
        // A source's reactor has an id, a thread without one has 0.
        if self.slot.0.reactor.load(Ordering::Relaxed) == ID.get() {
            return Ok(());
        }
        adopt(&self.slot.0, unique(), exclusive)
    }

    /// Notes that the caller, which has the only handle by `&mut`, waits no longer: wakers
    /// that its earlier polls have left behind no longer count. They stay where they are, for
    /// a waker alone does not tell whether something else in its task waits, too.
    pub(crate) fn note_settled(&self) {
        self.slot.0.waiting.store(false, Ordering::Relaxed);
    }

    /// Whether a task may be waiting for it.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.slot.0.waiting.load(Ordering::Relaxed)
    }

    /// Which directions are ready.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.slot.0.readiness
    }
}

/// A source that was elsewhere belongs to this thread from now on.
#[cold]
fn adopt(registration: &Registration, unique: bool, exclusive: bool) -> io::Result<()> {
    if !unique || (!exclusive && registration.waiting.load(Ordering::Relaxed)) {
        return Err(elsewhere());
    }
    let here = Reactor::get_or_new()?;
    if !exclusive {
        // Its old thread can be in the middle of an operation, which may clear a readiness
        // that this thread's reactor has reported.
        registration.readiness.set_shared();
    }
    if let Some(old) = registration.move_to(here.id())? {
        // A task may have begun to wait there meanwhile. It is woken when the old reactor
        // frees the slot.
        old.notify()?;
    }
    Ok(())
}
