//! How tasks wait for a source: arms a direction, and adds or removes a waiter.

use std::io;
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;

use super::driver::{REACTOR, Reactor};
use super::event::{Direction, INDEX_BITS, Interest};
#[cfg(soloist_liar)]
use super::liar;
use super::registration::Registration;
use super::slots::{MAX_GENERATION, Slot, slot, slot_of};
use super::waiters::{POLL_ENTRY, Waiter};
use crate::panics::Panics;
use crate::sync::atomic::Ordering;
use crate::task_cell::WaiterId;

impl Reactor {
    /// Calls `f` with the slot of a source of this reactor, if it has one.
    #[inline]
    fn with_slot<R>(
        &self,
        registration: &Registration,
        f: impl FnOnce(&mut Slot) -> R,
    ) -> Option<R> {
        let mut slots = self.slots.borrow_mut();
        slot_of(&mut slots, registration).map(f)
    }

    /// Arms `direction` of a source of this reactor, and calls `f` with its slot. The first time,
    /// it adds the source to the poller. Before that, it may wake tasks while nothing is
    /// borrowed.
    pub(super) fn with_armed_slot<R>(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        f: impl FnOnce(&mut Slot) -> R,
    ) -> io::Result<R> {
        {
            let mut slots = self.slots.borrow_mut();
            if let Some(slot) = slot_of(&mut slots, registration) {
                slot.arm(self.poller(), direction)?;
                return Ok(f(slot));
            }
        }
        // A thread that never waits in its reactor frees here what other threads have left.
        let mut panics = Panics::default();
        self.free_orphans(&mut panics);
        panics.resume();
        let mut slots = self.slots.borrow_mut();
        // A waker that was woken may have made the slot.
        if let Some(slot) = slot_of(&mut slots, registration) {
            slot.arm(self.poller(), direction)?;
            return Ok(f(slot));
        }
        let slot = self.add_slot(&mut slots, registration, direction)?;
        Ok(f(slot))
    }

    /// Adds a source to the poller, and makes a slot for it.
    #[cold]
    fn add_slot<'a>(
        &self,
        slots: &'a mut Slab<Slot>,
        registration: &Arc<Registration>,
        direction: Direction,
    ) -> io::Result<&'a mut Slot> {
        #[cfg(soloist_liar)]
        liar::may_register()?;
        let entry = slots.vacant_entry();
        let generation = self.next_generation.get();
        let key = (generation << INDEX_BITS) | entry.key();
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
        Ok(entry.insert(slot))
    }

    /// The usual case of [`Reactor::wait_polled`]: a task waits with its own waker, nothing else
    /// waits, and the direction is armed. Returns whether that is the case. It runs no user code,
    /// so it may borrow the thread-local. The source must belong to this thread.
    #[inline]
    pub(crate) fn wait_only(
        registration: &Registration,
        direction: Direction,
        waiter: WaiterId,
        waker: &Waker,
    ) -> bool {
        let waits = REACTOR.try_with(|reactor| {
            let reactor = reactor.borrow();
            let mut slots = reactor.as_ref()?.slots.borrow_mut();
            let slot = slot_of(&mut slots, registration)?;
            let state = &mut slot.directions[direction as usize];
            if !state.armed || !state.push_only(waiter, waker) {
                return None;
            }
            state.fired = false;
            registration.waiting.store(true, Ordering::Relaxed);
            Some(())
        });
        waits.is_ok_and(|waits| waits.is_some())
    }

    /// Adds a waiter of a `poll_*` call.
    pub(crate) fn wait_polled(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        waiter: WaiterId,
        waker: &Waker,
    ) -> io::Result<()> {
        // If this waker waits already, it is not cloned.
        if registration.waiting.load(Ordering::Relaxed)
            && self.waits_again(registration, direction, waker)
        {
            return Ok(());
        }
        // Cloned before the borrow; woken and dropped after it.
        let mut new = Some(Waiter::new(POLL_ENTRY, waiter, waker));
        let mut crowd = Vec::new();
        let result = self.with_armed_slot(registration, direction, |slot| {
            let state = &mut slot.directions[direction as usize];
            state.fired = false;
            // An earlier call may have added the same waker.
            if !state.has_poll_waker(waker) {
                crowd = state.take_crowd(self.wait_count.get());
                state.push(new.take().expect("it was made above"));
            }
            slot.update_waiting();
        });
        drop(new);
        let mut panics = Panics::default();
        for waiter in crowd {
            waiter.wake(&mut panics);
        }
        panics.resume();
        result
    }

    /// Whether an earlier `poll_*` call has added `waker`, and the direction is armed.
    fn waits_again(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        waker: &Waker,
    ) -> bool {
        let waits = self.with_slot(registration, |slot| {
            let state = &mut slot.directions[direction as usize];
            state.fired = false;
            state.armed && state.has_poll_waker(waker)
        });
        waits.unwrap_or(false)
    }

    /// Whether a waiter of a `poll_*` call was woken since the last call.
    pub(crate) fn take_fired(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
    ) -> bool {
        let fired = self.with_slot(registration, |slot| {
            std::mem::take(&mut slot.directions[direction as usize].fired)
        });
        fired.unwrap_or(false)
    }

    /// Waits with an entry id that belongs to this waiter. The first call sets it. Returns false
    /// once the direction has been reported.
    pub(crate) fn wait_entry(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        entry_id: &mut Option<u32>,
        waiter: WaiterId,
        waker: &Waker,
    ) -> io::Result<bool> {
        if let Some(known) = *entry_id {
            let same = self.with_slot(registration, |slot| {
                slot.directions[direction as usize].has_waker(known, waker)
            });
            match same.flatten() {
                Some(true) => return Ok(true),
                Some(false) => {}
                None => return Ok(false),
            }
        }
        // Cloned before the borrow. The waiter that it replaces is dropped after it, and not
        // woken.
        let id = entry_id.unwrap_or_else(|| self.next_entry_id());
        let mut new = Some(Waiter::new(id, waiter, waker));
        let mut old = None;
        let result = self.with_armed_slot(registration, direction, |slot| {
            let state = &mut slot.directions[direction as usize];
            old = entry_id.and_then(|known| state.remove(known));
            state.push(new.take().expect("it was made above"));
            slot.update_waiting();
        });
        drop((old, new));
        result?;
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
