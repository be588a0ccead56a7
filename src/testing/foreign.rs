//! Tasks that wait for another crate's reactor, which hold a virtual clock.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::stderr::warn;
use crate::task_cell::LocalTask;

/// The tasks that another thread has woken while they waited for something outside of this crate,
/// such as another crate's reactor. When one of them waits in this way again, a virtual clock
/// should not jump past the answer.
///
/// A task that waits for a message of another task looks the same, except for that wake. So the
/// clock is held for a limited time after each wake.
#[derive(Default)]
pub(super) struct Foreign {
    tasks: RefCell<Vec<LocalTask>>,
    /// How long the clock is held after a wake.
    patience: Duration,
    /// The rest of that time.
    left: Cell<Duration>,
    /// Set while the inbox may contain messages that the runtime's own thread sent before the
    /// runtime was entered.
    unknown: Cell<bool>,
    /// Whether the wakes that are taken out of the inbox now may be those of the runtime's own
    /// thread.
    is_reading_unknown: Cell<bool>,
    has_warned: Cell<bool>,
}

impl Foreign {
    pub(super) fn new(patience: Duration) -> Foreign {
        Foreign {
            patience,
            ..Foreign::default()
        }
    }

    /// The runtime is entered. `filled`: there are messages in its inbox, which may be from its own
    /// thread.
    pub(super) fn run_begins(&self, filled: bool) {
        self.unknown.set(filled);
    }

    /// The runtime takes messages out of its inbox.
    pub(super) fn reads_inbox(&self) {
        self.is_reading_unknown.set(self.unknown.take());
    }

    /// A message has woken this task, which waited for something outside of this crate.
    pub(super) fn woken(&self, task: &LocalTask) {
        if self.is_reading_unknown.get() {
            return;
        }
        self.left.set(self.patience);
        let mut tasks = self.tasks.borrow_mut();
        if !tasks.iter().any(|known| known.is_same(task)) {
            tasks.push(task.clone());
        }
    }

    /// Returns how long a virtual clock must be held, if it must. Called when no task is ready.
    pub(super) fn holds(&self) -> Option<Duration> {
        let left = self.left.get();
        if left.is_zero() {
            return None;
        }
        let task = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.retain(|task| !task.is_over());
            tasks.iter().find(|task| waits_for_others(task))?.clone()
        };
        // Outside of the borrow: a logger is user code.
        if !self.has_warned.replace(true) {
            self.warn(&task);
        }
        Some(left)
    }

    fn warn(&self, task: &LocalTask) {
        let what = format!(
            "waits for something outside of soloist, and another thread has woken it before: the \
             virtual clock does not advance for up to {:.1?} (to hold the clock for longer, keep \
             a `Handle` until the task is woken)",
            self.patience
        );
        match task.slot() {
            Some(_) => warn(format_args!("{} {what}", task.label())),
            None => warn(format_args!("the future of `block_on` {what}")),
        }
    }

    /// Notes that the clock was held for this time.
    pub(super) fn waited(&self, time: Duration) {
        self.left.set(self.left.get().saturating_sub(time));
    }
}

/// Whether this task waits for something outside of this crate that holds its waker.
fn waits_for_others(task: &LocalTask) -> bool {
    task.is_idle() && task.remote_count() > 0 && task.waits().are_external()
}
