//! The timers of an executor, and its clock.

use std::task::Waker;
use std::time::Instant;

use super::state::Executor;
use super::timers::TimerKey;
use crate::clock;
use crate::hooks::{self, WakeSource};
use crate::panics::Panics;
use crate::schedule::Order;
use crate::task_cell::{WaiterId, WakeTarget};

impl Executor {
    /// The time of the last visit: cheap, and a little old.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Reads the clock.
    pub(crate) fn update_now(&self) -> Instant {
        let now = clock::runtime_now();
        self.now.set(now);
        now
    }

    /// Moves a virtual clock on, inside the runtime. It never goes back.
    #[cfg(feature = "testing")]
    pub(crate) fn advance_to(&self, now: Instant) {
        debug_assert!(self.has_virtual_clock());
        if now > self.now.get() {
            self.now.set(now);
            clock::replace(Some(now));
        }
    }

    /// When the next timer fires.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.borrow_mut().next_deadline()
    }

    /// How many timers have still to fire.
    pub(crate) fn timers_pending(&self) -> usize {
        self.timers.borrow().len()
    }

    /// Whether there is a timer that is too far off to fire. Its owner may set it anew.
    pub(crate) fn has_unset_timer(&self) -> bool {
        self.timers.borrow().has_unset()
    }

    /// Calls `f` for each task that waits for a timer.
    pub(crate) fn for_each_timer(&self, f: &mut dyn FnMut(WaiterId, Option<Instant>)) {
        self.timers.borrow().for_each_wait(f);
    }

    /// Has `waker` woken at `deadline`.
    pub(crate) fn add_timer(&self, deadline: Instant, id: WaiterId, waker: &Waker) -> TimerKey {
        // Before the timers are borrowed: it may be user code.
        let target = WakeTarget::new(waker);
        self.timers.borrow_mut().insert(deadline, id, target)
    }

    pub(crate) fn remove_timer(&self, key: TimerKey) {
        let target = self.timers.borrow_mut().remove(key);
        drop(target);
    }

    /// Removes a timer, and wakes what waits for it.
    pub(crate) fn wake_timer(&self, key: TimerKey) {
        let target = self.timers.borrow_mut().remove(key);
        if let Some(target) = target {
            target.wake();
        }
    }

    /// Sets another deadline, in the last place among equals. A timer that has fired is
    /// removed.
    pub(crate) fn reset_timer(&self, key: TimerKey, deadline: Instant) -> Option<TimerKey> {
        let mut timers = self.timers.borrow_mut();
        let (id, target) = (timers.waiter_id(key), timers.remove(key)?);
        Some(timers.insert(deadline, id, target))
    }

    /// Sets what is woken. Returns false if the timer has fired.
    pub(crate) fn set_timer_waker(&self, key: TimerKey, id: WaiterId, waker: &Waker) -> bool {
        match self.timers.borrow().target(key) {
            None => return false,
            Some(target) if target.will_wake(waker) => return true,
            Some(_) => {}
        }
        // While nothing is borrowed: it may clone the waker.
        let target = WakeTarget::new(waker);
        let old = self.timers.borrow_mut().set_target(key, id, target);
        drop(old);
        true
    }

    /// Wakes what waits for timers that are due, by the last reading of the clock.
    #[inline]
    pub(crate) fn expire_timers(&self) {
        // Every visit asks, and many programs have none.
        if !self.timers.borrow().is_empty() {
            self.expire_some();
        }
    }

    fn expire_some(&self) {
        let mut due = self.due.take();
        match self.order() {
            Some(order) if order.is_shuffled() => self.expire_shuffled(order, &mut due),
            _ => self.timers.borrow_mut().expire(self.now.get(), &mut due),
        }
        let mut panics = Panics::default();
        if !due.is_empty() {
            self.counts.fired.add(due.len());
            hooks::attribute_wakes(WakeSource::Timers, || {
                WakeTarget::wake_all(&mut due, &mut panics);
            });
        }
        self.due.set(due);
        panics.resume();
    }

    /// Timers that are due at the same instant fire in any order.
    #[cold]
    fn expire_shuffled(&self, order: &dyn Order, due: &mut Vec<WakeTarget>) {
        let mut timers = self.timers.borrow_mut();
        while let Some(next) = timers.next_deadline() {
            if next > self.now.get() {
                break;
            }
            let before = due.len();
            timers.expire(next, due);
            order.shuffle(&mut due[before..]);
        }
    }
}
