//! Whether a runtime in which nothing is ready can ever go on: counted, not guessed.
//!
//! A task runs again only if it is woken, and waking takes its cell. So one to which only
//! the registry and its handle refer will never run again. Wakers that wait, in the cells of
//! such tasks, for their end are no help either; they are counted, and taken off. (Places that
//! wait there are no references.) A waker anywhere else means that somebody may still come.

use std::task::Waker;

#[cfg(feature = "testing")]
use super::Entry;
use super::{Awaiter, Header, Owner, State, sorted};
use crate::sync::atomic::{Ordering, fence};

impl Owner {
    /// Whether no task and no main can ever run again, as far as that depends on their
    /// wakers: nothing is ready. `parked` are wakers that are woken only by what tasks of
    /// this runtime do.
    pub(crate) fn is_deadlocked(&self, parked: &[Option<Waker>]) -> bool {
        let local = self.local();
        let tasks = local.tasks.borrow();
        let cells = || tasks.iter();
        // Out and back: no user code runs in between.
        let joiners: Vec<Awaiter> = cells().map(|task| task.header().joiner.take()).collect();
        let joining = joiners.iter().filter_map(Awaiter::waker);
        let known: Vec<&Waker> = joining.chain(parked.iter().flatten()).collect();
        let address = |waker: &Waker| waker.data().addr() as u64;
        let places = known.iter().enumerate();
        let places = sorted(places.map(|(at, waker)| (address(waker), at)).collect());
        let are_accounted_for = |others: usize, waker: &Waker| {
            let first = places.partition_point(|(known, _)| *known < address(waker));
            let same = places[first..].iter();
            let same = same.take_while(|(known, _)| *known == address(waker));
            let same = same.filter(|(_, at)| known[*at].will_wake(waker));
            others == same.count()
        };
        let all_tasks = cells().all(|task| are_accounted_for(task.others(), &task.waker()));
        let main = local.main_cell.borrow();
        let main_too = main.as_ref().is_none_or(|cell| {
            cell.header.state.get() != State::Idle
                || are_accounted_for(cell.others(), &cell.waker())
        });
        drop(known);
        for (task, joiner) in cells().zip(joiners) {
            task.header().joiner.set(joiner);
        }
        // Whatever was sent through a reference was sent before it was dropped.
        fence(Ordering::Acquire);
        all_tasks && main_too && !self.inbox().is_filled()
    }

    /// Whether this task waits for something that is not of this crate, and has left a waker
    /// there. `None` if it is over.
    #[cfg(feature = "testing")]
    pub(crate) fn waits_for_others(&self, task: Entry) -> Option<bool> {
        let waits = |header: &Header, others: usize| {
            header.state.get() == State::Idle && others > 0 && header.waits.get().are_for_others()
        };
        let local = self.local();
        if task.place().is_none() {
            let main = local.main_cell.borrow();
            let main = main.as_ref();
            let main = main.filter(|main| main.header.entry() == task)?;
            return Some(waits(&main.header, main.others()));
        }
        let tasks = local.tasks.borrow();
        let task = tasks.get(task.slot, task.number)?;
        Some(waits(task.header(), task.others()))
    }

    /// Looks for a task that somebody else can wake, without proof: if there is one, it
    /// is nearly always where the last one was. One that awaits tasks is none: those may be
    /// the ones that have its wakers.
    pub(crate) fn external_waker_hint(&self) -> bool {
        let is_witness =
            |header: &Header, others: usize| others > 0 && !header.waits.get().include_tasks();
        let local = self.local();
        let main = local.main_cell.borrow();
        if main.as_ref().is_some_and(|cell| {
            cell.header.state.get() == State::Idle && is_witness(&cell.header, cell.others())
        }) {
            return true;
        }
        let tasks = local.tasks.borrow();
        let is_one = |slot: usize| {
            let task = tasks.at(slot);
            task.is_some_and(|task| is_witness(task.header(), task.others()))
        };
        let last = local.witness.get();
        let mut slots = (last..tasks.places()).chain(0..last);
        let witness = slots.find(|slot| is_one(*slot));
        local.witness.set(witness.unwrap_or_default());
        witness.is_some()
    }
}
