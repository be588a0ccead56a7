//! [`Source`]: an I/O object with its registration, and the thread that it belongs to. Also how
//! tasks begin and end to wait for a source.

use std::cell::RefMut;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use super::driver::{ID, REACTOR, Reactor};
use super::event::{Direction, INDEX_BITS, Interest};
#[cfg(soloist_liar)]
use super::liar;
use super::platform::AsRaw;
use super::registration::{RawSource, Registration, wrong_thread};
use super::slots::{MAX_GENERATION, POLL_ENTRY, Slot, Waiter, slot, slot_of};
use crate::hooks::WaitReason;
use crate::panics::Panics;
use crate::sync::atomic::Ordering;
use crate::task_cell::{WaiterId, WakeTarget, note, polled_id};

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
        let key = self.0.key();
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
        let raw = RawSource::new(io, Reactor::id_or_new()?);
        Ok(Source {
            slot: SlotGuard(raw.registration().clone()),
            raw,
        })
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
}

/// Moves a source of another thread to this one.
#[cold]
fn adopt(registration: &Registration, unique: bool, exclusive: bool) -> io::Result<()> {
    if !unique || (!exclusive && registration.waiting.load(Ordering::Relaxed)) {
        return Err(wrong_thread());
    }
    let here = Reactor::id_or_new()?;
    if !exclusive {
        // Its old thread may be in the middle of an operation, which may clear a readiness that
        // this thread's reactor has set.
        registration.readiness.set_shared();
    }
    if let Some(old) = registration.move_to(here)? {
        // A task of the old thread may have begun to wait meanwhile. It is woken when the old
        // reactor frees the slot.
        old.notify()?;
    }
    Ok(())
}

impl Registration {
    /// Adds the fd to the poller now, which fails if it cannot be polled.
    pub(crate) fn add_now(self: &Arc<Self>) -> io::Result<()> {
        let reactor = Reactor::get_or_new()?;
        reactor.armed_slot(self, Direction::Read).map(|_| ())
    }

    /// Makes sure that the source belongs to this thread. In the usual case that is a lookup and a
    /// comparison. A source of another thread moves to this one if nothing else uses it:
    /// `is_unique`, its socket has no clones, and `exclusive`, the caller has `&mut` access.
    #[inline]
    pub(crate) fn claim(&self, is_unique: bool, exclusive: bool) -> io::Result<()> {
        // The reactor of a source is never 0. `ID` is 0 on a thread without a reactor.
        if self.reactor.load(Ordering::Relaxed) == ID.get() {
            return Ok(());
        }
        adopt(self, is_unique, exclusive)
    }

    /// Notes that the caller, which has `&mut` to the only handle, has stopped waiting. Wakers of
    /// its earlier polls no longer keep the source on this thread. They are not removed, since
    /// something else in the same task may wait with the same waker.
    pub(crate) fn note_settled(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Marks it as internal: waits for it do not count when deadlocks are detected.
    #[cfg(all(unix, feature = "signal"))]
    pub(crate) fn set_background(&self) {
        self.background.store(true, Ordering::Relaxed);
    }

    /// Whether a task may be waiting for the source.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Notes that the task that is being polled waits for `direction`.
    fn note_wait(&self, direction: Direction) -> WaiterId {
        let fd = self.number();
        note(match direction {
            Direction::Read => WaitReason::Read { fd },
            Direction::Write => WaitReason::Write { fd },
        })
    }
}

impl Reactor {
    /// The slot of a source of this reactor, if it has one.
    #[inline]
    fn slot(&self, registration: &Registration) -> Option<RefMut<'_, Slot>> {
        let slots = self.slots.borrow_mut();
        RefMut::filter_map(slots, |slots| slot_of(slots, registration)).ok()
    }

    /// The slot of a source of this reactor, with `direction` armed. The first time, it adds the
    /// source to the poller.
    fn armed_slot(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
    ) -> io::Result<RefMut<'_, Slot>> {
        if self.slot(registration).is_none() {
            // A thread that never waits in its reactor frees here what other threads have left.
            // This may wake tasks, so nothing is borrowed.
            let mut panics = Panics::default();
            self.free_orphans(&mut panics);
            panics.resume();
        }
        if self.slot(registration).is_none() {
            self.add_slot(registration, direction)?;
        }
        let mut slot = self.slot(registration).expect("it was made above");
        slot.arm(self.poller(), direction)?;
        Ok(slot)
    }

    /// Adds a source to the poller, and makes a slot for it.
    #[cold]
    fn add_slot(&self, registration: &Arc<Registration>, direction: Direction) -> io::Result<()> {
        #[cfg(soloist_liar)]
        liar::may_register()?;
        let mut slots = self.slots.borrow_mut();
        let generation = self.next_generation.get();
        let key = (generation << INDEX_BITS) | slots.vacant_key();
        let mut slot = Slot {
            key,
            registration: registration.clone(),
            directions: Default::default(),
        };
        slot.directions[direction as usize].armed = true;
        let interest = Interest {
            readable: direction == Direction::Read,
            writable: direction == Direction::Write,
        };
        registration.add(self.poller(), key, interest)?;
        self.next_generation.set(if generation < MAX_GENERATION {
            generation + 1
        } else {
            1
        });
        slots.insert(slot);
        Ok(())
    }

    /// Adds a waiter of a `poll_*` call, which cannot be removed. The source must belong to this
    /// thread.
    #[inline]
    pub(crate) fn wait_polled(
        registration: &Arc<Registration>,
        direction: Direction,
        waker: &Waker,
    ) -> io::Result<()> {
        let waiter = registration.note_wait(direction);
        // The usual case: the task waits with its own waker, nothing else waits, and the direction
        // is armed. It runs no user code, so it may borrow the thread-local.
        let waits = REACTOR.try_with(|reactor| {
            let reactor = reactor.borrow();
            let mut slots = reactor.as_ref()?.slots.borrow_mut();
            let slot = slot_of(&mut slots, registration)?;
            let state = &mut slot.directions[direction as usize];
            if !state.armed || !state.push_only(waker) {
                return None;
            }
            state.fired = false;
            registration.waiting.store(true, Ordering::Relaxed);
            Some(())
        });
        if waits.is_ok_and(|waits| waits.is_some()) {
            return Ok(());
        }
        Reactor::wait_polled_in_general(registration, direction, waiter, waker)
    }

    #[cold]
    fn wait_polled_in_general(
        registration: &Arc<Registration>,
        direction: Direction,
        waiter: WaiterId,
        waker: &Waker,
    ) -> io::Result<()> {
        let reactor = Reactor::get_or_new()?;
        // Cloned before the borrow; woken and dropped after it.
        let new = Waiter::new(POLL_ENTRY, waiter, waker);
        let mut slot = reactor.armed_slot(registration, direction)?;
        let state = &mut slot.directions[direction as usize];
        state.fired = false;
        // An earlier call may have added the same waker.
        if state.has_poll_waker(waker) {
            slot.update_waiting();
            drop(slot);
            drop(new);
            return Ok(());
        }
        let mut crowd = state.take_crowd(reactor.wait_count.get());
        state.push(new);
        slot.update_waiting();
        drop(slot);
        let mut panics = Panics::default();
        WakeTarget::wake_all(&mut crowd, &mut panics);
        panics.resume();
        Ok(())
    }

    /// Whether a waiter of a `poll_*` call was woken since the last call.
    pub(crate) fn take_fired(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
    ) -> bool {
        self.slot(registration)
            .is_some_and(|mut slot| std::mem::take(&mut slot.directions[direction as usize].fired))
    }

    /// Waits with an entry id that belongs to this waiter. The first call sets it. Returns false
    /// once the direction has been reported.
    pub(crate) fn wait_entry(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        entry_id: &mut Option<u32>,
        waker: &Waker,
    ) -> io::Result<bool> {
        if let Some(known) = *entry_id {
            let is_same = self
                .slot(registration)
                .and_then(|slot| slot.directions[direction as usize].has_waker(known, waker));
            match is_same {
                Some(true) => {
                    registration.note_wait(direction);
                    return Ok(true);
                }
                Some(false) => {}
                None => return Ok(false),
            }
        }
        // Cloned before the borrow. The waiter that it replaces is dropped after it, and not
        // woken.
        let id = entry_id.unwrap_or_else(|| self.next_entry_id());
        let new = Waiter::new(id, polled_id(), waker);
        let mut slot = self.armed_slot(registration, direction)?;
        let state = &mut slot.directions[direction as usize];
        let old = entry_id.and_then(|known| state.remove(known));
        state.push(new);
        slot.update_waiting();
        drop(slot);
        drop(old);
        registration.note_wait(direction);
        *entry_id = Some(id);
        Ok(true)
    }

    fn next_entry_id(&self) -> u32 {
        let id = self.next_entry_id.get();
        self.next_entry_id
            .set(id.checked_add(1).unwrap_or(POLL_ENTRY + 1));
        id
    }

    /// Removes a waiter.
    pub(crate) fn remove_entry(&self, key: usize, direction: Direction, id: u32) {
        let waiter = {
            let mut slots = self.slots.borrow_mut();
            slot(&mut slots, key).and_then(|slot| {
                let waiter = slot.directions[direction as usize].remove(id);
                if slot.registration.reactor.load(Ordering::Relaxed) == self.id {
                    slot.update_waiting();
                }
                waiter
            })
        };
        drop(waiter);
    }
}
