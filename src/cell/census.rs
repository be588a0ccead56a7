//! Who is there, and what they are doing.

use std::collections::BinaryHeap;

use super::home::NO_SLOT;
use super::{About, Header, Owner, State, WaitKinds, WaiterId, with_polled};
use crate::watch::{Times, Watch};

/// A task, or main, as it is at this moment.
pub(crate) struct TaskSnapshot {
    pub(crate) about: About,
    pub(crate) who: WaiterId,
    pub(crate) polls: u32,
    pub(crate) is_polled: bool,
    pub(crate) is_queued: bool,
    /// The kinds of waits of its last poll.
    pub(crate) waits: WaitKinds,
    /// Who awaits its end.
    pub(crate) joined_by: Option<WaiterId>,
    /// Whether a waker of it is left anywhere.
    pub(crate) has_waker: bool,
    /// If they are kept.
    pub(crate) times: Option<Times>,
}

impl TaskSnapshot {
    fn new(
        watch: Option<&Watch>,
        header: &Header,
        is_polled: bool,
        has_waker: bool,
    ) -> TaskSnapshot {
        // Out and back: no user code runs in between.
        let joiner = header.joiner.take();
        let joined_by = joiner.is_somebody().then(|| header.joined_by.get());
        header.joiner.set(joiner);
        TaskSnapshot {
            about: header.about(),
            who: header.waiter_id(),
            polls: header.polls.get(),
            is_polled,
            is_queued: header.queued.get(),
            waits: header.waits.get(),
            joined_by,
            has_waker,
            times: watch.and_then(|watch| watch.times(header.entry().place(), header.number)),
        }
    }
}

impl Owner {
    /// The future of the `block_on` that is under way, if one is.
    pub(crate) fn snapshot_main(&self) -> Option<TaskSnapshot> {
        if let Some(seen) = self.snapshot_polled(|header| header.slot == NO_SLOT) {
            return Some(seen);
        }
        let main = self.local().main_cell.borrow();
        let cell = main.as_ref()?;
        let parked = cell.header.state.get() == State::Idle;
        parked.then(|| TaskSnapshot::new(self.watch(), &cell.header, false, cell.others() > 0))
    }

    /// All tasks that are not over, in the order of their places in the registry.
    pub(crate) fn snapshot_tasks(&self) -> Vec<TaskSnapshot> {
        let tasks = self.local().tasks.borrow();
        let seen = tasks.iter().filter_map(|task| {
            let header = task.header();
            match header.state.get() {
                State::Idle => Some(TaskSnapshot::new(
                    self.watch(),
                    header,
                    false,
                    task.others() > 0,
                )),
                State::Running => Some(TaskSnapshot::new(self.watch(), header, true, true)),
                // Its future is being dropped.
                State::Dropping | State::Done | State::Gone => None,
            }
        });
        seen.collect()
    }

    /// The cell that is being polled, if it is one of this runtime, and the one meant.
    fn snapshot_polled(&self, is_meant: impl FnOnce(&Header) -> bool) -> Option<TaskSnapshot> {
        with_polled(|header| {
            let is_meant = header.home.id() == self.home.id() && is_meant(header);
            is_meant.then(|| TaskSnapshot::new(self.watch(), header, true, true))
        })?
    }
}

/// Numbers with their places, by number. By a heap: it is a tenth of the code of std's sorts
/// and maps, and what describes tasks that hang is in every program.
pub(crate) fn sorted(numbers: Vec<(u64, usize)>) -> Vec<(u64, usize)> {
    BinaryHeap::from(numbers).into_sorted_vec()
}
