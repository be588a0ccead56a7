//! One direction of a source, and the tasks that wait for it.

use std::task::Waker;

use crate::cell::{OwnTask, WaiterId};
use crate::panics::Panics;

/// Wakers that `poll_*` calls leave behind: beyond this all are woken, and those that
/// still wait come again. If they are as many again at once, the limit doubles: so many
/// do wait.
const POLLED: usize = 32;

/// What is to be woken.
pub(super) enum By {
    /// A task that waits with its own waker.
    Task(OwnTask),
    /// Another waker, and which task has left it, for people to read.
    Waker(WaiterId, Waker),
}

impl By {
    /// This may clone the waker, which is user code.
    pub(super) fn new(who: WaiterId, waker: &Waker) -> By {
        match OwnTask::polled(waker) {
            Some(task) => By::Task(task),
            None => By::Waker(who, waker.clone()),
        }
    }

    pub(super) fn is(&self, waker: &Waker) -> bool {
        match self {
            By::Task(task) => task.is(waker),
            By::Waker(_, own) => own.will_wake(waker),
        }
    }

    fn who(&self) -> WaiterId {
        match self {
            By::Task(task) => task.waiter_id(),
            By::Waker(who, _) => *who,
        }
    }

    pub(super) fn wake(self, panics: &mut Panics) {
        match self {
            By::Task(task) => task.wake(panics),
            By::Waker(_, waker) => panics.catch(|| waker.wake()),
        }
    }
}

/// A direction: its waiters, and whether the poller reports it.
#[derive(Default)]
pub(super) struct DirectionState {
    /// Mostly the only one: it costs no allocation, and no locked instruction.
    own: Option<OwnTask>,
    rest: Option<Box<Rest>>,
    /// The name of `own`'s entry; 0 for a `poll_*` call.
    own_id: u32,
    /// Whether the poller will report this direction as soon as it is, or becomes, ready.
    pub(super) armed: bool,
    /// Set when a `poll_*` waiter has been woken, until one of them is told.
    pub(super) fired: bool,
}

/// Kept when it is empty: a direction with several waiters will have several again.
#[derive(Default)]
struct Rest {
    list: Vec<Waiter>,
    /// The reactor's wait before which there were too many `poll_*` waiters.
    crowded: u32,
    /// How often `POLLED` has been doubled.
    doubled: u8,
}

pub(super) struct Waiter {
    /// 0 for a `poll_*` call, which cannot take it back.
    id: u32,
    pub(super) by: By,
}

impl DirectionState {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_none() && self.rest().is_empty()
    }

    #[inline]
    fn rest(&self) -> &[Waiter] {
        self.rest.as_ref().map_or(&[], |rest| &rest.list)
    }

    /// Calls `f` for each task that waits, for people to read.
    pub(super) fn each(&self, f: &mut dyn FnMut(WaiterId)) {
        self.own.iter().for_each(|own| f(own.waiter_id()));
        self.rest().iter().for_each(|waiter| f(waiter.by.who()));
    }

    /// Whether a `poll_*` call has left this waker.
    pub(super) fn knows(&self, waker: &Waker) -> bool {
        self.waits_as(0, waker) == Some(true)
    }

    /// Whether the waiter with this id waits with this waker; `None` if there is none with this
    /// id. For the id of `poll_*` calls: whether one of them does.
    pub(super) fn waits_as(&self, id: u32, waker: &Waker) -> Option<bool> {
        let own = self.own.iter().filter(|_| self.own_id == id);
        let rest = self.rest().iter().filter(|waiter| waiter.id == id);
        let mut all = (own.map(|own| own.is(waker))).chain(rest.map(|one| one.by.is(waker)));
        all.next().map(|first| first || all.any(|is| is))
    }

    /// Adds the task that is being polled, for a `poll_*` call, if this is its own waker and
    /// nothing else waits. Returns whether that was so.
    #[inline]
    pub(super) fn push_alone(&mut self, waker: &Waker) -> bool {
        if !self.is_empty() {
            return false;
        }
        self.own = OwnTask::polled(waker);
        self.own_id = 0;
        self.own.is_some()
    }

    pub(super) fn push(&mut self, id: u32, by: By) {
        match by {
            By::Task(task) if self.own.is_none() => {
                self.own = Some(task);
                self.own_id = id;
            }
            by => self
                .rest
                .get_or_insert_default()
                .list
                .push(Waiter { id, by }),
        }
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<By> {
        if let Some(own) = self.own.take_if(|_| self.own_id == id) {
            return Some(By::Task(own));
        }
        let list = &mut self.rest.as_mut()?.list;
        let index = list.iter().position(|waiter| waiter.id == id)?;
        Some(list.swap_remove(index).by)
    }

    /// The poller has reported it: returns the task that waits, and moves other waiters to
    /// `others`.
    #[inline]
    pub(super) fn report(&mut self, others: &mut Vec<Waiter>) -> Option<OwnTask> {
        let own = self.own.take();
        self.fired |= own.is_some() && self.own_id == 0;
        if let Some(rest) = &mut self.rest {
            self.fired |= rest.list.iter().any(|waiter| waiter.id == 0);
            others.append(&mut rest.list);
        }
        own
    }

    /// Takes out what `poll_*` calls have left, if that is too much.
    pub(super) fn split_crowd(&mut self, waits: u32) -> Vec<Waiter> {
        let Some(rest) = &mut self.rest else {
            return Vec::new();
        };
        let most = POLLED << rest.doubled;
        // Mostly there are few of any kind.
        if rest.list.len() < most || rest.list.iter().filter(|one| one.id == 0).count() < most {
            return Vec::new();
        }
        if waits.wrapping_sub(rest.crowded) <= 2 {
            rest.doubled += 1;
        }
        rest.crowded = waits;
        let all = std::mem::take(&mut rest.list).into_iter();
        let (mut crowd, stay): (Vec<_>, _) = all.partition(|waiter| waiter.id == 0);
        rest.list = stay;
        let own = self.own.take_if(|_| self.own_id == 0);
        crowd.extend(own.map(|task| Waiter {
            id: 0,
            by: By::Task(task),
        }));
        crowd
    }

    /// Wakes all, for the source is gone.
    pub(super) fn wake_all(self, panics: &mut Panics) {
        if let Some(own) = self.own {
            own.wake(panics);
        }
        for waiter in self.rest.into_iter().flat_map(|rest| rest.list) {
            waiter.by.wake(panics);
        }
    }
}
