//! What a task is doing at this moment, for `inspect`.

use super::header::{LocalTask, WaiterId, with_polled};
use super::label::TaskLabel;
use super::state::State;
use super::wait_kinds::WaitKinds;

pub(crate) struct TaskSnapshot {
    pub(crate) label: TaskLabel,
    pub(crate) id: WaiterId,
    /// Its key in the registry. Main has none.
    pub(crate) slot: Option<usize>,
    pub(crate) polls: u32,
    pub(crate) is_polled: bool,
    pub(crate) is_queued: bool,
    /// The kinds of waits that its last poll came to.
    pub(crate) waits: WaitKinds,
    /// The task that awaits its end.
    pub(crate) joined_by: Option<WaiterId>,
    /// Whether something could still wake it.
    pub(crate) has_waker: bool,
}

impl LocalTask {
    /// `None` if it is over, or its future is being dropped.
    pub(crate) fn snapshot(&self) -> Option<TaskSnapshot> {
        let header = self.header();
        // The state of main does not say whether it is being polled.
        let is_polled = with_polled(|polled| std::ptr::eq(polled, header)) == Some(true);
        if !matches!(header.state.get(), State::Idle | State::Running) {
            return None;
        }
        // Out and back: no user code runs in between.
        let joiner = header.joiner.take();
        let joined_by = (!joiner.is_none()).then(|| header.joined_by.get());
        header.joiner.set(joiner);
        Some(TaskSnapshot {
            label: header.label(),
            id: header.waiter_id(),
            slot: self.slot(),
            polls: header.polls.get(),
            is_polled,
            is_queued: header.queued.get(),
            waits: header.waits.get(),
            joined_by,
            has_waker: is_polled || self.remote_count() > 0,
        })
    }
}
