//! One direction of a source, and the tasks that wait for it.

use std::task::Waker;

use crate::panics::Panics;
use crate::task_cell::{WaiterId, WakeTarget, polled_task};

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

    /// This may be user code. A panic in it is caught.
    pub(super) fn wake(self, panics: &mut Panics) {
        panics.catch(|| self.target.wake());
    }
}

/// A direction: its waiters, and whether the poller reports it.
#[derive(Default)]
pub(super) struct DirectionState {
    /// In most cases the only waiter. It needs no allocation.
    first: Option<Waiter>,
    rest: Option<Box<Rest>>,
    /// Whether the poller reports this direction as soon as it is, or becomes, ready.
    pub(super) armed: bool,
    /// Set when a waiter of a `poll_*` call is woken, until [`Reactor::take_fired`].
    ///
    /// [`Reactor::take_fired`]: super::driver::Reactor::take_fired
    pub(super) fired: bool,
}

/// Kept while it is empty: a direction that had several waiters is likely to have several again.
#[derive(Default)]
struct Rest {
    list: Vec<Waiter>,
    /// The number of the reactor's wait before which there were too many `poll_*` waiters.
    crowded_at: u32,
    /// How often `MAX_POLL_WAITERS` has been doubled.
    doublings: u8,
}

impl DirectionState {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest().is_empty()
    }

    #[inline]
    fn rest(&self) -> &[Waiter] {
        self.rest.as_ref().map_or(&[], |rest| &rest.list)
    }

    fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.first.iter().chain(self.rest())
    }

    /// Calls `f` for each task that waits, for dumps.
    pub(super) fn for_each(&self, f: &mut dyn FnMut(WaiterId)) {
        self.iter().for_each(|waiter| f(waiter.waiter));
    }

    /// Whether a waiter with this entry id wakes the same task as `waker`. `None` if there is no
    /// waiter with this id.
    pub(super) fn has_waker(&self, entry_id: u32, waker: &Waker) -> Option<bool> {
        let mut same = self
            .iter()
            .filter(|waiter| waiter.entry_id == entry_id)
            .map(|waiter| waiter.target.will_wake(waker));
        same.next()
            .map(|first| first || same.any(|is_same| is_same))
    }

    /// Whether a `poll_*` call has left this waker.
    pub(super) fn has_poll_waker(&self, waker: &Waker) -> bool {
        self.has_waker(POLL_ENTRY, waker) == Some(true)
    }

    /// Adds the task that is being polled, for a `poll_*` call, if `waker` is its own and nothing
    /// else waits. Returns whether that was the case. This runs no user code.
    #[inline]
    pub(super) fn push_only(&mut self, waiter: WaiterId, waker: &Waker) -> bool {
        if !self.is_empty() {
            return false;
        }
        self.first = polled_task(waker).map(|task| Waiter {
            entry_id: POLL_ENTRY,
            waiter,
            target: WakeTarget::task(task),
        });
        self.first.is_some()
    }

    pub(super) fn push(&mut self, waiter: Waiter) {
        if self.first.is_none() {
            self.first = Some(waiter);
        } else {
            self.rest.get_or_insert_default().list.push(waiter);
        }
    }

    pub(super) fn remove(&mut self, entry_id: u32) -> Option<Waiter> {
        let is_it = |waiter: &Waiter| waiter.entry_id == entry_id;
        if let Some(first) = self.first.take_if(|first| is_it(first)) {
            return Some(first);
        }
        let list = &mut self.rest.as_mut()?.list;
        let index = list.iter().position(is_it)?;
        Some(list.swap_remove(index))
    }

    /// The poller has reported the direction. Returns the first waiter, and moves the others to
    /// `others`.
    #[inline]
    pub(super) fn report(&mut self, others: &mut Vec<Waiter>) -> Option<Waiter> {
        let is_poll = |waiter: &Waiter| waiter.entry_id == POLL_ENTRY;
        let first = self.first.take();
        self.fired |= first.as_ref().is_some_and(is_poll);
        if let Some(rest) = &mut self.rest {
            self.fired |= rest.list.iter().any(is_poll);
            others.append(&mut rest.list);
        }
        first
    }

    /// Takes out the waiters of `poll_*` calls if there are too many. `wait_count` is the number
    /// of the reactor's last wait.
    pub(super) fn take_crowd(&mut self, wait_count: u32) -> Vec<Waiter> {
        let Some(rest) = &mut self.rest else {
            return Vec::new();
        };
        let is_poll = |waiter: &Waiter| waiter.entry_id == POLL_ENTRY;
        let max = MAX_POLL_WAITERS << rest.doublings;
        // In most cases there are few waiters of any kind.
        if rest.list.len() < max || rest.list.iter().filter(|one| is_poll(one)).count() < max {
            return Vec::new();
        }
        if wait_count.wrapping_sub(rest.crowded_at) <= 2 {
            rest.doublings += 1;
        }
        rest.crowded_at = wait_count;
        let all = std::mem::take(&mut rest.list).into_iter();
        let (mut crowd, others): (Vec<_>, _) = all.partition(is_poll);
        rest.list = others;
        crowd.extend(self.first.take_if(|first| is_poll(first)));
        crowd
    }

    /// Wakes all waiters, since the source is gone.
    pub(super) fn wake_all(self, panics: &mut Panics) {
        let rest = self.rest.into_iter().flat_map(|rest| rest.list);
        for waiter in self.first.into_iter().chain(rest) {
            waiter.wake(panics);
        }
    }
}
