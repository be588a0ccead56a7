//! Whether a runtime in which nothing is ready can ever go on: counted, not guessed.
//!
//! A task runs again only if it is woken, and waking takes its cell. So one to which only
//! the registry and its handle refer will never run again. Wakers that wait, in the cells of
//! such tasks, for their end are no help either; they are counted, and taken off. A waker
//! anywhere else means that somebody may still come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use super::waits::Waits;
use super::{Header, Owner, Raw, State};
use crate::sync::atomic::{Ordering, fence};

/// What a cell's references are when nobody else can wake it.
struct Count {
    /// Beside the registry's and the handle's.
    others: usize,
    /// Its own waker, for comparison. It is one of the references, counted off already.
    waker: Waker,
}

impl Owner {
    /// Whether no task and no main can ever run again, as far as that depends on their
    /// wakers: nothing is ready. `parked` are wakers that are woken only by what tasks of
    /// this runtime do.
    pub(crate) fn is_stuck(&self, parked: &[Option<Waker>]) -> bool {
        let local = self.home.local();
        let tasks = local.tasks.borrow();
        let cells = || tasks.iter().filter_map(|(_, place)| place.task.as_ref());
        // Out and back: no user code runs in between.
        let joiners: Vec<Option<Waker>> = cells()
            .map(|task| task.cell.header().joiner.take())
            .collect();
        let mut known: BTreeMap<*const (), Vec<&Waker>> = BTreeMap::new();
        for waker in joiners.iter().chain(parked).flatten() {
            known.entry(waker.data()).or_default().push(waker);
        }
        let is_accounted_for = |count: Count| {
            let same = known.get(&count.waker.data());
            let same = same.map_or(0, |same| {
                same.iter().filter(|w| w.will_wake(&count.waker)).count()
            });
            count.others == same
        };
        let all_tasks = cells().all(|task| is_accounted_for(count(&task.cell)));
        let main = self.with_main(|cell| {
            let others = Arc::strong_count(cell) - 1;
            let waker = Waker::from(cell.clone());
            cell.header.state.get() != State::Idle || is_accounted_for(Count { others, waker })
        });
        drop(known);
        for (task, joiner) in cells().zip(joiners) {
            task.cell.header().joiner.set(joiner);
        }
        // Whoever has let go of a reference has left his word before that.
        fence(Ordering::Acquire);
        all_tasks && main != Some(false) && !self.inbox().is_filled()
    }

    /// Looks for a task that somebody else can wake, without proof: if there is one, it
    /// is nearly always where the last one was. One that awaits tasks is none: those may be
    /// the ones that have its wakers.
    pub(crate) fn has_witness(&self) -> bool {
        let is_witness = |header: &Header, others: usize| {
            others > 0 && !header.waits.get().has(Waits::TASK | Waits::GROUP)
        };
        let main = self.with_main(|cell| {
            cell.header.state.get() == State::Idle
                && is_witness(&cell.header, Arc::strong_count(cell) - 1)
        });
        if main == Some(true) {
            return true;
        }
        let local = self.home.local();
        let tasks = local.tasks.borrow();
        let is_one = |slot: usize| {
            let task = tasks.get(slot).and_then(|place| place.task.as_ref());
            task.is_some_and(|task| is_witness(task.cell.header(), others(&task.cell)))
        };
        let last = local.witness.get();
        let mut slots = (last..tasks.capacity()).chain(0..last);
        let witness = slots.find(|slot| is_one(*slot));
        local.witness.set(witness.unwrap_or_default());
        witness.is_some()
    }
}

/// References to a task's cell beside those of the registry and of the handle: wakers, for
/// the most part.
pub(super) fn others(cell: &Arc<dyn Raw>) -> usize {
    let known = 1 + usize::from(cell.header().held.get());
    // A handle that never came as far as a `Task` is not there.
    Arc::strong_count(cell).saturating_sub(known)
}

fn count(cell: &Arc<dyn Raw>) -> Count {
    Count {
        others: others(cell),
        waker: cell.clone().waker(),
    }
}
