//! Who waits for one direction of a source.

use std::task::Waker;

use crate::panics::Panics;

/// The waiters of one direction.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// Costs no allocation.
    first: Option<Waiter>,
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    list: Vec<Waiter>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    /// 0 for a `poll_*` call: nobody takes that one back.
    pub(super) id: u32,
    /// Which task it is, for people to read.
    pub(super) who: u32,
    pub(super) waker: Waker,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest().is_empty()
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest().len()
    }

    fn rest(&self) -> &[Waiter] {
        self.rest.as_ref().map_or(&[], |rest| &rest.list)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.first.iter().chain(self.rest())
    }

    /// Whether a `poll_*` call has left this waker.
    pub(super) fn knows(&self, waker: &Waker) -> bool {
        self.polled().any(|one| one.waker.will_wake(waker))
    }

    /// What `poll_*` calls have left.
    pub(super) fn polled(&self) -> impl Iterator<Item = &Waiter> {
        self.iter().filter(|waiter| waiter.id == 0)
    }

    #[inline(always)]
    pub(super) fn push(&mut self, waiter: Waiter) {
        if self.first.is_none() {
            self.first = Some(waiter);
        } else {
            self.rest.get_or_insert_default().list.push(waiter);
        }
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Waker> {
        if self.first.as_ref().is_some_and(|first| first.id == id) {
            return self.first.take().map(|first| first.waker);
        }
        let list = &mut self.rest.as_mut()?.list;
        let index = list.iter().position(|waiter| waiter.id == id)?;
        Some(list.swap_remove(index).waker)
    }

    /// Takes out what `poll_*` calls have left.
    pub(super) fn split_polled(&mut self) -> Waiters {
        let mut polled = Waiters::default();
        let rest = self.rest.take().map(|rest| rest.list);
        let all = self.first.take().into_iter();
        for waiter in all.chain(rest.into_iter().flatten()) {
            if waiter.id == 0 {
                polled.push(waiter);
            } else {
                self.push(waiter);
            }
        }
        polled
    }

    #[inline]
    pub(super) fn wake(self, panics: &mut Panics) {
        if let Some(waiter) = self.first {
            panics.catch(|| waiter.waker.wake());
        }
        if let Some(rest) = self.rest {
            rest.wake(panics);
        }
    }
}

impl Rest {
    fn wake(self, panics: &mut Panics) {
        for waiter in self.list {
            panics.catch(|| waiter.waker.wake());
        }
    }
}
