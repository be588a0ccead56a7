//! Who is there, and what they are doing.

use std::sync::Arc;

use super::home::NO_SLOT;
use super::stuck::others;
use super::{About, Header, MainCell, Owner, State, Waits, Who, with_polled};

/// A task, or main, as it is at this moment.
pub(crate) struct Seen {
    pub(crate) about: About,
    pub(crate) who: Who,
    pub(crate) polls: u32,
    pub(crate) is_polled: bool,
    pub(crate) is_queued: bool,
    /// The kinds of waits of its last poll.
    pub(crate) waits: Waits,
    /// Who awaits its end.
    pub(crate) joined_by: Option<Who>,
    /// Whether a waker of it is left anywhere.
    pub(crate) has_waker: bool,
}

impl Seen {
    fn new(header: &Header, is_polled: bool, has_waker: bool) -> Seen {
        // Out and back: no user code runs in between.
        let joiner = header.joiner.take();
        let joined_by = joiner.as_ref().map(|_| header.joined_by.get());
        header.joiner.set(joiner);
        Seen {
            about: header.about(),
            who: header.who(),
            polls: header.polls.get(),
            is_polled,
            is_queued: header.queued.get(),
            waits: header.waits.get(),
            joined_by,
            has_waker,
        }
    }
}

impl Owner {
    /// The future of the `block_on` that is under way, if one is.
    pub(crate) fn see_main(&self) -> Option<Seen> {
        if let Some(seen) = self.see_polled(|header| header.slot == NO_SLOT) {
            return Some(seen);
        }
        self.with_main(|cell| {
            let parked = cell.header.state.get() == State::Idle;
            parked.then(|| Seen::new(&cell.header, false, Arc::strong_count(cell) > 1))
        })?
    }

    /// All tasks that are not over, in the order of their places in the registry.
    pub(crate) fn see_tasks(&self) -> Vec<Seen> {
        let tasks = self.home.local().tasks.borrow();
        let seen = tasks.iter().filter_map(|(_, place)| match &place.task {
            Some(task) => {
                let header = task.cell.header();
                Some(Seen::new(header, false, others(&task.cell) > 0))
            }
            // Taken out to be polled. If that is over, its future is being dropped.
            None => {
                self.see_polled(|header| header.slot != NO_SLOT && header.number == place.number)
            }
        });
        seen.collect()
    }

    /// The cell that is being polled, if it is one of this runtime, and the one meant.
    fn see_polled(&self, is_meant: impl FnOnce(&Header) -> bool) -> Option<Seen> {
        with_polled(|header| {
            let is_meant = header.home.id() == self.home.id() && is_meant(header);
            is_meant.then(|| Seen::new(header, true, true))
        })?
    }

    pub(super) fn with_main<R>(&self, f: impl FnOnce(&Arc<MainCell>) -> R) -> Option<R> {
        let slot = &self.home.local().main_cell;
        let cell = slot.take()?;
        let result = f(&cell);
        slot.set(Some(cell));
        Some(result)
    }
}
