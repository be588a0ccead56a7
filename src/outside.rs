//! Who can still act on a runtime from outside of it: the handles and jobs that are
//! counted, which wakers are not; and the tasks that other threads have woken, for a virtual
//! clock.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::cell::{Entry, Home, Message, Owner};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::watch::{Short, warn};

/// Counts what is [`Outside`].
#[derive(Debug)]
pub(crate) struct Count {
    alive: AtomicUsize,
}

impl Count {
    pub(crate) fn new() -> Arc<Count> {
        Arc::new(Count {
            alive: AtomicUsize::new(0),
        })
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.alive.load(Ordering::Acquire) == 0
    }
}

/// Held by what can act on a runtime from outside, for as long as it can.
#[derive(Debug)]
pub(crate) struct Outside {
    home: Home,
    count: Arc<Count>,
}

impl Outside {
    pub(crate) fn new(home: Home, count: &Arc<Count>) -> Outside {
        // Relaxed: it is counted by one that is counted, or on the runtime's own thread.
        count.alive.fetch_add(1, Ordering::Relaxed);
        Outside {
            home,
            count: count.clone(),
        }
    }
}

impl Clone for Outside {
    fn clone(&self) -> Outside {
        Outside::new(self.home, &self.count)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Release: what it has done before is seen by the runtime that counts.
        let last = self.count.alive.fetch_sub(1, Ordering::Release) == 1;
        if last && !self.home.is_current() {
            // It may be parked because of this one: with a message without contents it
            // looks around once more. On its own thread it runs, and does so anyway.
            // A drop does not panic, not even if the runtime cannot be notified: the panic
            // hook reports that.
            let word = || self.home.push(Message::Call(Box::new(|| {})));
            let refused = catch_unwind(AssertUnwindSafe(word));
            drop(refused);
        }
    }
}

/// The tasks that another thread has woken while they waited for nothing of ours, as those do
/// that wait for another crate's reactor. The next time that one of them waits in this way, a
/// virtual clock should not jump past the answer.
///
/// A task that waits for a message of another task looks the same, but for that wake.
/// So the clock is held for a limited time after each wake, and not for such a task alone.
#[derive(Debug)]
pub(crate) struct Foreign {
    tasks: RefCell<Vec<Entry>>,
    /// How long the clock is held after a wake.
    patience: Duration,
    /// What is left of that.
    left: Cell<Duration>,
    /// Set while what is in the inbox may have come from the runtime's own thread, before it
    /// ran.
    unknown: Cell<bool>,
    has_warned: Cell<bool>,
}

impl Foreign {
    pub(crate) fn new(patience: Duration) -> Foreign {
        Foreign {
            tasks: RefCell::new(Vec::new()),
            patience,
            left: Cell::new(Duration::ZERO),
            unknown: Cell::new(false),
            has_warned: Cell::new(false),
        }
    }

    /// The runtime begins to run. `filled`: something has come into its inbox before that,
    /// also from its own thread, which then takes the same way as any other.
    pub(crate) fn run_begins(&self, filled: bool) {
        self.unknown.set(filled);
    }

    /// Whether the wakes that are taken out of the inbox now may be those of the runtime's
    /// own thread.
    pub(crate) fn take_unknown(&self) -> bool {
        self.unknown.take()
    }

    /// Another thread has woken this task, which waited for nothing of ours.
    pub(crate) fn woken(&self, task: Entry) {
        self.left.set(self.patience);
        let mut tasks = self.tasks.borrow_mut();
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }

    /// For how long a virtual clock is to be held, if it is. Nothing is ready.
    pub(crate) fn holds(&self, owner: &Owner) -> Option<Duration> {
        let left = self.left.get();
        if left.is_zero() {
            return None;
        }
        let task = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.retain(|task| owner.waits_for_others(*task).is_some());
            let mut tasks = tasks.iter().copied();
            tasks.find(|task| owner.waits_for_others(*task) == Some(true))?
        };
        // Outside of the borrow: a logger is user code.
        if !self.has_warned.replace(true) {
            self.warn(owner, task);
        }
        Some(left)
    }

    fn warn(&self, owner: &Owner, task: Entry) {
        let patience = Short(self.patience);
        let what = format_args!(
            "waits for something that is not of soloist, and another thread has woken it \
             before: the virtual clock does not jump for up to {patience} (to hold it for as \
             long as it takes, keep a `Handle` until the task is woken)"
        );
        match owner.about(task) {
            Some(who) => warn(format_args!("{who} {what}")),
            None => warn(format_args!("the future of `block_on` {what}")),
        }
    }

    /// The clock was held for so long.
    pub(crate) fn waited(&self, time: Duration) {
        self.left.set(self.left.get().saturating_sub(time));
    }
}
