//! First come, first served: tasks that only the program wakes are polled in the order of their
//! wakes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use soloist::{Runtime, Task, spawn};

use crate::process::fail;

/// The tasks of one runtime that wait for their polls, in order.
#[derive(Default)]
struct Line {
    waiting: RefCell<VecDeque<Rc<Place>>>,
}

#[derive(Default)]
struct Place {
    waker: RefCell<Option<Waker>>,
    is_waiting: Cell<bool>,
    is_gone: Cell<bool>,
    polls_left: Cell<u8>,
}

impl Line {
    fn push(&self, place: &Rc<Place>) {
        if !place.is_waiting.replace(true) {
            self.waiting.borrow_mut().push_back(place.clone());
        }
    }
}

/// A task that only records its polls.
struct Customer {
    line: Rc<Line>,
    place: Rc<Place>,
}

impl Future for Customer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let first = loop {
            match self.line.waiting.borrow_mut().pop_front() {
                Some(place) if place.is_gone.get() => {}
                other => break other,
            }
        };
        if !first.is_some_and(|first| Rc::ptr_eq(&first, &self.place)) {
            fail("tasks are not polled in the order of their wakes");
        }
        self.place.is_waiting.set(false);
        let old = self.place.waker.replace(Some(cx.waker().clone()));
        drop(old);
        match self.place.polls_left.get() {
            0 => Poll::Ready(()),
            left => {
                self.place.polls_left.set(left - 1);
                Poll::Pending
            }
        }
    }
}

impl Drop for Customer {
    fn drop(&mut self) {
        self.place.is_gone.set(true);
    }
}

type RuntimePlace = (Weak<Runtime>, Rc<Line>, Rc<Place>);

#[derive(Default)]
pub(crate) struct Lines {
    lines: RefCell<Vec<(Weak<Runtime>, Rc<Line>)>>,
    places: RefCell<Vec<RuntimePlace>>,
    tasks: RefCell<Vec<Task<()>>>,
}

impl Lines {
    /// More tasks in the line of `home`, which is the runtime that polls the caller.
    pub(crate) fn spawn(&self, home: &Weak<Runtime>, count: u8, polls: u8) {
        let line = {
            let mut lines = self.lines.borrow_mut();
            match lines.iter().find(|(of, _)| of.ptr_eq(home)) {
                Some((_, line)) => line.clone(),
                None => {
                    lines.push((home.clone(), Rc::default()));
                    lines[lines.len() - 1].1.clone()
                }
            }
        };
        for n in 0..count {
            let place = Rc::new(Place::default());
            place.polls_left.set(polls);
            line.push(&place);
            let task = spawn(Customer {
                line: line.clone(),
                place: place.clone(),
            });
            if n & 1 == 0 {
                task.detach();
            } else {
                self.tasks.borrow_mut().push(task);
            }
            let place = (home.clone(), line.clone(), place);
            self.places.borrow_mut().push(place);
        }
    }

    /// Wakes one of them, if it is in the runtime that polls the caller.
    pub(crate) fn wake(&self, home: &Weak<Runtime>, which: u8) {
        let found = {
            let places = self.places.borrow();
            let count = places.len().max(1);
            places.get(usize::from(which & 0x7f) % count).cloned()
        };
        let Some((of, line, place)) = found else {
            return;
        };
        let waker = place.waker.borrow().clone();
        let Some(waker) = waker.filter(|_| of.ptr_eq(home) && !place.is_gone.get()) else {
            return;
        };
        line.push(&place);
        if which & 0x80 == 0 {
            waker.wake();
        } else {
            waker.wake_by_ref();
            waker.wake_by_ref();
        }
    }

    /// Cancels or aborts one of them.
    pub(crate) fn cancel(&self, which: u8) {
        let task = {
            let mut tasks = self.tasks.borrow_mut();
            let count = tasks.len();
            (count > 0).then(|| tasks.swap_remove(usize::from(which & 0x7f) % count))
        };
        let Some(task) = task else { return };
        if which & 0x80 == 0 {
            drop(task);
        } else {
            task.abort_handle().abort();
            task.detach();
        }
    }

    /// Checks that all woken tasks have been polled, in the runtimes that still run.
    pub(crate) fn check(&self, runs: impl Fn(&Weak<Runtime>) -> bool) {
        for (home, line) in &*self.lines.borrow() {
            let waits = |place: &Rc<Place>| !place.is_gone.get();
            if runs(home) && line.waiting.borrow().iter().any(waits) {
                fail("a task in line was woken and not polled");
            }
        }
    }

    pub(crate) fn clear(&self) {
        drop(self.tasks.take());
        for (_, _, place) in self.places.take() {
            drop(place.waker.take());
        }
        drop(self.lines.take());
    }
}
