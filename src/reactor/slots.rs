//! Slots: the reactor's data about a source, found by the key of an event.

use std::io;
use std::sync::Arc;

use slab::Slab;

use super::event::{Direction, INDEX_BITS, Interest, MAX_KEY};
#[cfg(soloist_liar)]
use super::liar;
use super::registration::{PollerHandle, Registration};
use super::waiters::DirectionState;
use crate::sync::atomic::Ordering;

pub(super) const MAX_GENERATION: usize = MAX_KEY >> INDEX_BITS;

pub(super) struct Slot {
    pub(super) key: usize,
    pub(super) registration: Arc<Registration>,
    pub(super) directions: [DirectionState; 2],
}

pub(super) fn index(key: usize) -> usize {
    key & ((1 << INDEX_BITS) - 1)
}

/// The slot with this key. `None` if the slot was freed, even if its index is in use again.
#[inline]
pub(super) fn slot(slots: &mut Slab<Slot>, key: usize) -> Option<&mut Slot> {
    let slot = slots.get_mut(index(key))?;
    (slot.key == key).then_some(slot)
}

/// The slot of this source. To compare keys is not enough: the source may just have moved to
/// another reactor, and keys of different reactors can be equal.
#[inline]
pub(super) fn slot_of<'a>(
    slots: &'a mut Slab<Slot>,
    registration: &Registration,
) -> Option<&'a mut Slot> {
    let slot = slot(slots, registration.key.load(Ordering::Relaxed))?;
    std::ptr::eq(&*slot.registration, registration).then_some(slot)
}

impl Slot {
    pub(super) fn is_background(&self) -> bool {
        self.registration.background.load(Ordering::Relaxed)
    }

    /// Stores whether a task waits. Only for a source that still belongs to this reactor.
    #[inline]
    pub(super) fn update_waiting(&self) {
        let waiting = self.directions.iter().any(|one| !one.is_empty());
        self.registration.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Makes the poller report `direction`, in addition to what it reports already.
    pub(super) fn arm(
        &mut self,
        poller: &Arc<PollerHandle>,
        direction: Direction,
    ) -> io::Result<()> {
        if self.directions[direction as usize].armed {
            return Ok(());
        }
        #[cfg(soloist_liar)]
        liar::may_register()?;
        let interest = Interest {
            readable: self.directions[0].armed || direction == Direction::Read,
            writable: self.directions[1].armed || direction == Direction::Write,
        };
        self.registration.modify(poller, self.key, interest)?;
        self.directions[direction as usize].armed = true;
        Ok(())
    }
}
