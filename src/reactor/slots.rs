//! Slots: the reactor's data about a source, and the tasks that wait for it. A slot is found by the
//! key of an event.

use std::io;
use std::sync::Arc;
use std::task::Waker;

use super::event::{Direction, INDEX_BITS, Interest, MAX_KEY};
#[cfg(soloist_liar)]
use super::liar;
use super::registration::{PollerHandle, Registration};
use crate::panics::Panics;
use crate::slab::Slab;
use crate::sync::atomic::Ordering;
use crate::task_cell::{LocalTask, WaiterId, WakeTarget, polled_task};

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
    let slot = slot(slots, registration.key())?;
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

/// The entry id of `poll_*` calls. They share it, since a `poll_*` call cannot take its waiter
/// back. Other ids belong to one waiter each.
pub(super) const POLL_ENTRY: u32 = 0;

/// How many waiters `poll_*` calls may leave. Then all of them are woken, and those that still
/// wait come back. If as many are there again at once, the limit doubles, since so many do wait.
const MAX_POLL_WAITERS: usize = 32;

/// An entry in the list of a direction.
pub(super) struct Waiter {
    pub(super) entry_id: u32,
    /// The task that waits, for dumps. `target` may be the waker of a combinator.
    pub(super) waiter: WaiterId,
    pub(super) target: WakeTarget,
}

impl Waiter {
    /// This may clone the waker, which is user code.
    pub(super) fn new(entry_id: u32, waiter: WaiterId, waker: &Waker) -> Waiter {
        Waiter {
            entry_id,
            waiter,
            target: WakeTarget::new(waker),
        }
    }
}

/// A direction: its waiters, and whether the poller reports it.
#[derive(Default)]
pub(super) struct DirectionState {
    /// In most cases the only waiter: a task that waits with its own waker. It came before those of
    /// `rest`.
    task: Option<LocalTask>,
    /// The entry id of `task`.
    entry_id: u32,
    /// Whether the poller reports this direction as soon as it is, or becomes, ready.
    pub(super) armed: bool,
    /// Set when a waiter of a `poll_*` call is woken, until [`Reactor::take_fired`].
    ///
    /// [`Reactor::take_fired`]: super::Reactor::take_fired
    pub(super) fired: bool,
    rest: Option<Box<Rest>>,
}

/// Kept while it is empty: a direction that had such waiters is likely to have some again.
#[derive(Default)]
struct Rest {
    list: Vec<Waiter>,
    /// The number of the reactor's wait before which there were too many `poll_*` waiters.
    crowded_at: u32,
    /// How often `MAX_POLL_WAITERS` has been doubled.
    doublings: u8,
}

fn is_poll(waiter: &Waiter) -> bool {
    waiter.entry_id == POLL_ENTRY
}

impl DirectionState {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.task.is_none() && self.rest().is_empty()
    }

    #[inline]
    fn rest(&self) -> &[Waiter] {
        self.rest.as_ref().map_or(&[], |rest| &rest.list)
    }

    /// Calls `f` with the id of each waiter.
    pub(super) fn for_each(&self, f: &mut dyn FnMut(WaiterId)) {
        if let Some(task) = &self.task {
            f(task.waiter_id());
        }
        for waiter in self.rest() {
            f(waiter.waiter);
        }
    }

    /// Whether a waiter with this entry id wakes the same task as `waker`. `None` if there is no
    /// waiter with this id.
    pub(super) fn has_waker(&self, entry_id: u32, waker: &Waker) -> Option<bool> {
        let task = self.task.as_ref().filter(|_| self.entry_id == entry_id);
        let mut found = task.map(|task| task.will_wake(waker));
        for waiter in self.rest() {
            if waiter.entry_id == entry_id {
                found = Some(found == Some(true) || waiter.target.will_wake(waker));
            }
        }
        found
    }

    /// Whether a `poll_*` call has left this waker.
    pub(super) fn has_poll_waker(&self, waker: &Waker) -> bool {
        self.has_waker(POLL_ENTRY, waker) == Some(true)
    }

    /// Adds the task that is being polled, for a `poll_*` call, if `waker` is its own and nothing
    /// else waits. Returns whether that was the case. This runs no user code.
    #[inline]
    pub(super) fn push_only(&mut self, waker: &Waker) -> bool {
        if !self.is_empty() {
            return false;
        }
        self.task = polled_task(waker);
        self.entry_id = POLL_ENTRY;
        self.task.is_some()
    }

    pub(super) fn push(&mut self, mut waiter: Waiter) {
        if self.is_empty() {
            match waiter.target.into_task() {
                Ok(task) => {
                    self.task = Some(task);
                    self.entry_id = waiter.entry_id;
                    return;
                }
                Err(target) => waiter.target = target,
            }
        }
        self.rest.get_or_insert_default().list.push(waiter);
    }

    pub(super) fn remove(&mut self, entry_id: u32) -> Option<WakeTarget> {
        if self.entry_id == entry_id {
            if let Some(task) = self.task.take() {
                return Some(WakeTarget::task(task));
            }
        }
        let list = &mut self.rest.as_mut()?.list;
        let index = list.iter().position(|waiter| waiter.entry_id == entry_id)?;
        Some(list.swap_remove(index).target)
    }

    /// The poller has reported the direction. Takes the task out, and moves the other waiters to
    /// `others`.
    #[inline]
    pub(super) fn report(&mut self, others: &mut Vec<Waiter>) -> Option<LocalTask> {
        self.fired |= self.task.is_some() && self.entry_id == POLL_ENTRY;
        if let Some(rest) = &mut self.rest {
            self.fired |= rest.list.iter().any(is_poll);
            others.append(&mut rest.list);
        }
        self.task.take()
    }

    /// Takes out the waiters of `poll_*` calls if there are too many. `wait_count` is the number
    /// of the reactor's last wait.
    pub(super) fn take_crowd(&mut self, wait_count: u32) -> Vec<WakeTarget> {
        let Some(rest) = &mut self.rest else {
            return Vec::new();
        };
        let max = MAX_POLL_WAITERS << rest.doublings;
        // In most cases there are few waiters of any kind.
        if rest.list.len() < max || rest.list.iter().filter(|one| is_poll(one)).count() < max {
            return Vec::new();
        }
        if wait_count.wrapping_sub(rest.crowded_at) <= 2 {
            rest.doublings += 1;
        }
        rest.crowded_at = wait_count;
        let mut crowd = Vec::new();
        if self.entry_id == POLL_ENTRY {
            crowd.extend(self.task.take().map(WakeTarget::task));
        }
        for waiter in std::mem::take(&mut rest.list) {
            if is_poll(&waiter) {
                crowd.push(waiter.target);
            } else {
                rest.list.push(waiter);
            }
        }
        crowd
    }

    /// Wakes all waiters, since the source is gone.
    pub(super) fn wake_all(mut self, panics: &mut Panics) {
        let mut others = Vec::new();
        let task = self.report(&mut others);
        wake(task, &mut others, panics);
    }
}

/// Wakes a task and other waiters. That may be user code. A panic in it is caught.
#[inline]
pub(super) fn wake(task: Option<LocalTask>, others: &mut Vec<Waiter>, panics: &mut Panics) {
    if let Some(task) = task {
        panics.catch(|| task.wake());
    }
    if !others.is_empty() {
        wake_others(others, panics);
    }
}

#[cold]
fn wake_others(others: &mut Vec<Waiter>, panics: &mut Panics) {
    for waiter in others.drain(..) {
        panics.catch(|| waiter.target.wake());
    }
}
