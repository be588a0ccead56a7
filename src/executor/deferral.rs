//! What a task defers to the end of the generation: a yield, and an operation beyond its budget.

use std::task::{Context, Poll, Waker};

use super::budget;
use super::current::{self, try_current};
use super::state::Executor;
use crate::hooks;
use crate::task_cell::{WakeTarget, is_polling, polled_task};

/// If the task that is being polled on this thread has this waker, queues it at the end of the
/// generation. Returns whether it has.
pub(crate) fn yield_polled(waker: &Waker) -> bool {
    let Some(task) = polled_task(waker) else {
        return false;
    };
    let yielded = current::with(|executor| {
        if executor.id() == task.executor() && task.mark_queued() {
            executor.counts.wakes_local.add(1);
            hooks::task_woken(|| task.meta());
            executor.deferred.borrow_mut().yielded.push_back(task);
        }
    });
    yielded.is_some()
}

impl Executor {
    /// Has `waker` woken at the end of the generation.
    #[cold]
    fn defer(&self, waker: &Waker) {
        let will_wake = |last: &WakeTarget| last.will_wake(waker);
        if self.deferred.borrow().wakes.last().is_some_and(will_wake) {
            return;
        }
        // While nothing is borrowed: it may clone the waker.
        let target = WakeTarget::new(waker);
        self.deferred.borrow_mut().wakes.push(target);
    }
}

/// Ready if the current poll may use a socket once more. If its budget is spent, the waker is
/// woken at the end of the generation.
///
/// Not within the poll: a combinator that polls again whatever was woken would never return.
#[inline]
pub(crate) fn poll_socket_budget(cx: &mut Context<'_>) -> Poll<()> {
    if budget::is_spent_for_sockets() {
        return defer(cx.waker());
    }
    Poll::Ready(())
}

/// As [`poll_socket_budget`], for a timer that is due.
#[inline]
pub(crate) fn poll_timer_budget(cx: &mut Context<'_>) -> Poll<()> {
    if budget::is_spent_for_timers() {
        return defer(cx.waker());
    }
    budget::charge_timer();
    Poll::Ready(())
}

#[cold]
fn defer(waker: &Waker) -> Poll<()> {
    match try_current().filter(|_| is_polling()) {
        Some(executor) => {
            executor.defer(waker);
            Poll::Pending
        }
        // A destructor or a waker runs between two polls. What is spent is not its budget.
        None => Poll::Ready(()),
    }
}
