//! The sources of a reactor, by the keys that the poller reports.

use std::sync::Arc;

use slab::Slab;

use super::waiters::DirectionState;
use crate::source::Registration;
use crate::sync::atomic::Ordering;

/// A key holds the index of a slot, and a number that tells its owners apart.
pub(super) const INDEX_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };
/// Keys beyond this are for the reactor's own fds.
pub(super) const SLOT_KEYS: usize = usize::MAX >> 1;
pub(super) const OWNERS: usize = SLOT_KEYS >> INDEX_BITS;

pub(super) struct Slot {
    pub(super) key: usize,
    pub(super) registration: Arc<Registration>,
    pub(super) directions: [DirectionState; 2],
}

pub(super) fn index(key: usize) -> usize {
    key & ((1 << INDEX_BITS) - 1)
}

/// The slot with this key, if its owner is still the same.
#[inline]
pub(super) fn slot(slots: &mut Slab<Slot>, key: usize) -> Option<&mut Slot> {
    let slot = slots.get_mut(index(key))?;
    (slot.key == key).then_some(slot)
}

/// The slot of this source. The key alone does not prove that: the source may just have moved to
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

    /// Only for a source that still belongs to this reactor.
    #[inline]
    pub(super) fn note_waiting(&self) {
        let waiting = self.directions.iter().any(|one| !one.is_empty());
        self.registration.waiting.store(waiting, Ordering::Relaxed);
    }
}
