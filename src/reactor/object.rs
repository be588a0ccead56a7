//! An I/O object with its registration, its slot, and the thread that it belongs to.

use std::io;
use std::sync::Arc;

use super::driver::{ID, Reactor};
use super::event::Direction;
use super::platform::AsRaw;
use super::readiness::Readiness;
use super::registration::{RawSource, Registration, wrong_thread};
use crate::panics::Panics;
use crate::sync::atomic::Ordering;

/// An I/O object and its registration. Sockets and `Async` consist of it.
#[derive(Debug)]
pub(crate) struct Source<T> {
    // Dropped first: the slot is freed while the registration still has its key.
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
    /// A source of this thread's reactor. Makes the reactor if there is none. The fd is added to
    /// the poller when a task first waits for it.
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

    /// Adds the fd to the poller now, which fails if it cannot be polled.
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

    /// Makes sure that the source belongs to this thread. In the usual case that is a lookup and a
    /// comparison. A source of another thread moves to this one if nothing else uses it.
    /// `exclusive`: a `&mut` of the caller proves that.
    #[inline]
    pub(crate) fn claim(&self, unique: impl Fn() -> bool, exclusive: bool) -> io::Result<()> {
        // The reactor of a source is never 0. `ID` is 0 on a thread without a reactor.
        if self.slot.0.reactor.load(Ordering::Relaxed) == ID.get() {
            return Ok(());
        }
        adopt(&self.slot.0, unique(), exclusive)
    }

    /// Notes that the caller, which has `&mut` to the only handle, has stopped waiting. Wakers of
    /// its earlier polls no longer keep the source on this thread. They are not removed, since
    /// something else in the same task may wait with the same waker.
    pub(crate) fn note_settled(&self) {
        self.slot.0.waiting.store(false, Ordering::Relaxed);
    }

    /// Whether a task may be waiting for the source.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.slot.0.waiting.load(Ordering::Relaxed)
    }

    /// Which directions are ready.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.slot.0.readiness
    }
}

/// Moves a source of another thread to this one.
#[cold]
fn adopt(registration: &Registration, unique: bool, exclusive: bool) -> io::Result<()> {
    if !unique || (!exclusive && registration.waiting.load(Ordering::Relaxed)) {
        return Err(wrong_thread());
    }
    let here = Reactor::get_or_new()?;
    if !exclusive {
        // Its old thread may be in the middle of an operation, which may clear a readiness that
        // this thread's reactor has set.
        registration.readiness.set_shared();
    }
    if let Some(old) = registration.move_to(here.id())? {
        // A task of the old thread may have begun to wait meanwhile. It is woken when the old
        // reactor frees the slot.
        old.notify()?;
    }
    Ok(())
}
