//! Tasks that wait for another crate's reactor, which hold a virtual clock.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::stderr::warn;
use crate::task_cell::LocalTask;

/// The tasks that another thread has woken while they waited for nothing of ours, as those do
/// that wait for another crate's reactor. The next time that one of them waits in this way, a
/// virtual clock should not jump past the answer.
///
/// A task that waits for a message of another task looks the same, but for that wake.
/// So the clock is held for a limited time after each wake, and not for such a task alone.
#[derive(Debug)]
pub(super) struct Foreign {
    tasks: RefCell<Vec<LocalTask>>,
    /// How long the clock is held after a wake.
    patience: Duration,
    /// What is left of that.
    left: Cell<Duration>,
    /// Set while what is in the inbox may have come from the runtime's own thread, before it
    /// ran.
    unknown: Cell<bool>,
    /// Whether the wakes that are taken out of the inbox now may be those of the runtime's own
    /// thread.
    is_reading_unknown: Cell<bool>,
    has_warned: Cell<bool>,
}

impl Foreign {
    pub(super) fn new(patience: Duration) -> Foreign {
        Foreign {
            tasks: RefCell::new(Vec::new()),
            patience,
            left: Cell::new(Duration::ZERO),
            unknown: Cell::new(false),
            is_reading_unknown: Cell::new(false),
            has_warned: Cell::new(false),
        }
    }

    /// The runtime begins to run. `filled`: something has come into its inbox before that,
    /// also from its own thread, which then takes the same way as any other.
    pub(super) fn run_begins(&self, filled: bool) {
        self.unknown.set(filled);
    }

    /// The runtime takes messages out of its inbox.
    pub(super) fn reads_inbox(&self) {
        self.is_reading_unknown.set(self.unknown.take());
    }

    /// A message has woken this task, which waited for nothing of ours.
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

    /// For how long a virtual clock is to be held, if it is. Nothing is ready.
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
            "waits for something that is not of soloist, and another thread has woken it \
             before: the virtual clock does not jump for up to {:.1?} (to hold it for as \
             long as it takes, keep a `Handle` until the task is woken)",
            self.patience
        );
        match task.slot() {
            Some(_) => warn(format_args!("{} {what}", task.label())),
            None => warn(format_args!("the future of `block_on` {what}")),
        }
    }

    /// The clock was held for so long.
    pub(super) fn waited(&self, time: Duration) {
        self.left.set(self.left.get().saturating_sub(time));
    }
}

/// Whether this task waits for something that is not of this crate, and has left a waker there.
fn waits_for_others(task: &LocalTask) -> bool {
    task.is_idle() && task.remote_count() > 0 && task.waits().are_external()
}
