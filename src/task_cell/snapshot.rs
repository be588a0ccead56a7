//! What a task is doing at this moment, for `inspect`.

use super::header::{LocalTask, WaiterId, with_polled};
use super::state::State;

impl LocalTask {
    /// Whether its future is in place, and is not being dropped.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.header().state.get(), State::Idle | State::Running)
    }

    pub(crate) fn polls(&self) -> u32 {
        self.header().polls.get()
    }

    /// The state of main does not say this.
    pub(crate) fn is_polled(&self) -> bool {
        with_polled(|polled| std::ptr::eq(polled, self.header())) == Some(true)
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.header().queued.get()
    }

    /// The task that awaits its end.
    pub(crate) fn joined_by(&self) -> Option<WaiterId> {
        let header = self.header();
        // Out and back: no user code runs in between.
        let joiner = header.joiner.take();
        let waiter = joiner.waiter_id();
        header.joiner.set(joiner);
        waiter
    }
}
