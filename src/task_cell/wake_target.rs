//! [`WakeTarget`]: what waits for something of this thread, a task or another waker.

use std::task::Waker;

use super::header::{LocalTask, polled_task};
use crate::panics::Panics;

/// What is to be woken: by a timer or a source, for example.
///
/// Mostly that is the task that is being polled, with its own waker. Then a reference that stays
/// on the thread is enough: to clone and drop the waker would be two locked instructions.
pub(crate) struct WakeTarget(Target);

enum Target {
    /// `None` is nothing at all. Here, so that the whole is as large as a waker.
    Task(Option<LocalTask>),
    Waker(Waker),
}

impl WakeTarget {
    /// What `waker` wakes. It may clone the waker, which is user code.
    #[inline]
    pub(crate) fn new(waker: &Waker) -> WakeTarget {
        WakeTarget(match polled_task(waker) {
            Some(task) => Target::Task(Some(task)),
            None => Target::Waker(waker.clone()),
        })
    }

    #[inline]
    pub(crate) fn task(task: LocalTask) -> WakeTarget {
        WakeTarget(Target::Task(Some(task)))
    }

    /// Whether it wakes the same as `waker`.
    #[inline]
    pub(crate) fn will_wake(&self, waker: &Waker) -> bool {
        match &self.0 {
            Target::Task(Some(task)) => task.will_wake(waker),
            Target::Task(None) => false,
            Target::Waker(own) => own.will_wake(waker),
        }
    }

    /// The task, if it is one.
    pub(crate) fn into_task(self) -> Result<LocalTask, WakeTarget> {
        match self.0 {
            Target::Task(Some(task)) => Ok(task),
            other => Err(WakeTarget(other)),
        }
    }

    /// Wakes it. That may be user code.
    #[inline]
    pub(crate) fn wake(self) {
        match self.0 {
            Target::Task(Some(task)) => task.wake(),
            Target::Task(None) => {}
            Target::Waker(waker) => waker.wake(),
        }
    }

    /// Wakes all, in order, and empties the vector.
    pub(crate) fn wake_all(targets: &mut Vec<WakeTarget>, panics: &mut Panics) {
        for target in &mut *targets {
            panics.catch(|| std::mem::take(target).wake());
        }
        targets.clear();
    }
}

impl Default for WakeTarget {
    /// Nothing.
    #[inline]
    fn default() -> WakeTarget {
        WakeTarget(Target::Task(None))
    }
}
