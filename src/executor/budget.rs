//! Two budgets: how much one poll of a task may complete, and how long tasks may run before
//! the reactor is visited. Also what a task defers to the end of the generation: a yield, and an
//! operation beyond its budget.

use std::cell::Cell;
use std::task::{Context, Poll, Waker};
use std::thread_local;
use std::time::{Duration, Instant};

use super::current::{self, try_current};
use super::state::{BudgetClock, Executor};
use crate::hooks;
use crate::task_cell::{WakeTarget, is_polling, polled_task};

/// What one poll of a task may complete.
///
/// Sockets and timers have separate budgets. With one for both, a task that polls a socket
/// which is always ready before its timeout would never see the timeout.
#[derive(Clone, Copy)]
struct Budget {
    sockets: u32,
    timers: u32,
}

const FULL: Budget = Budget {
    sockets: 128,
    timers: 64,
};

/// So many bytes are charged like one more operation.
const BYTES: usize = 8 << 10;

/// What an accept costs: it makes a socket, and mostly a task, too.
pub(crate) const ACCEPT: u32 = 4;

thread_local! {
    /// What is left of the budget of the current poll.
    static LEFT: Cell<Budget> = const { Cell::new(FULL) };
}

/// A poll begins, with a full budget.
#[inline]
pub(crate) fn begin_poll() {
    LEFT.set(FULL);
}

/// Charges the current poll for socket operations.
#[inline]
pub(crate) fn charge(operations: u32) {
    let mut left = LEFT.get();
    left.sockets = left.sockets.saturating_sub(operations);
    LEFT.set(left);
}

/// Charges the current poll for a read or write of so many bytes.
#[inline]
pub(crate) fn charge_bytes(bytes: usize) {
    charge(1 + (bytes / BYTES) as u32);
}

/// Ready if the current poll may use a socket once more. If its budget is spent, the waker is
/// woken at the end of the generation.
///
/// Not within the poll: a combinator that polls again whatever was woken would never return.
#[inline]
pub(crate) fn poll_socket_budget(cx: &mut Context<'_>) -> Poll<()> {
    if LEFT.get().sockets == 0 {
        return defer(cx.waker());
    }
    Poll::Ready(())
}

/// As [`poll_socket_budget`], for a timer that is due, which is charged.
#[inline]
pub(crate) fn poll_timer_budget(cx: &mut Context<'_>) -> Poll<()> {
    let mut left = LEFT.get();
    if left.timers == 0 {
        return defer(cx.waker());
    }
    left.timers -= 1;
    LEFT.set(left);
    Poll::Ready(())
}

#[cold]
fn defer(waker: &Waker) -> Poll<()> {
    match try_current() {
        Some(executor) if is_polling() => {
            executor.defer(waker);
            Poll::Pending
        }
        // A destructor or a waker runs between two polls. What is spent is not its budget.
        _ => Poll::Ready(()),
    }
}

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

/// Polls after which the reactor is visited at the end of a generation.
pub(crate) const POLLS: usize = 128;

/// Time after which the reactor is visited at the end of a generation.
const GENERATION: Duration = Duration::from_millis(1);

/// Time after which a generation is interrupted for a visit.
const INTERRUPTION: Duration = Duration::from_millis(10);

/// The most polls between two readings of the clock.
const LONGEST_STRETCH: u32 = 64;

/// The same while polls may be slow.
const CAREFUL_STRETCH: u32 = 8;

/// After so many generations in a row without a slow stretch, all polls are taken to be quick.
const QUICK: u32 = 1000;

/// Says when the reactor is visited while tasks are ready.
///
/// To read the clock costs more than a short poll. So it is read after a *stretch* of polls: as
/// many as should fit into the time that is left, by the mean of the last stretch. The mean says
/// little where one task computes for long beside quick ones. So the clock is also read at the
/// end of each generation, until [`QUICK`] generations in a row had no slow stretch.
pub(crate) struct VisitBudget {
    /// Polls since the last visit, or at least [`POLLS`] if a visit is due because of the time.
    polls: Cell<usize>,
    /// Polls until the clock is read again.
    until_reading: Cell<u32>,
    /// Polls from the last reading of the clock to the next.
    stretch: Cell<u32>,
    /// How long a poll took in the last stretch, on average.
    mean: Cell<Duration>,
    read_at: Cell<Instant>,
    visited_at: Cell<Instant>,
    /// Generations since the last slow stretch, up to [`QUICK`].
    quick: Cell<u32>,
    clock: Option<BudgetClock>,
}

impl VisitBudget {
    pub(crate) fn new(now: Instant, clock: Option<BudgetClock>) -> VisitBudget {
        let now = clock.as_ref().map_or(now, |clock| clock.0());
        VisitBudget {
            polls: Cell::new(0),
            until_reading: Cell::new(1),
            stretch: Cell::new(1),
            mean: Cell::new(GENERATION),
            read_at: Cell::new(now),
            visited_at: Cell::new(now),
            quick: Cell::new(0),
            clock,
        }
    }

    /// Whether a visit is known to be due at the end of the generation.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.polls.get() >= POLLS
    }

    /// A generation has ended. Returns whether a visit is due.
    #[inline]
    pub(crate) fn is_due_after_generation(&self) -> bool {
        if self.quick.get() < QUICK && !cfg!(soloist_loom) {
            self.quick.set(self.quick.get() + 1);
            self.read_clock();
        }
        self.is_due()
    }

    /// Counts a poll.
    #[inline]
    pub(crate) fn count_poll(&self) {
        self.polls.set(self.polls.get().wrapping_add(1));
    }

    /// Counts a poll. Returns whether the generation must be interrupted for a visit.
    #[inline]
    pub(crate) fn is_interrupted_after_poll(&self) -> bool {
        self.count_poll();
        if cfg!(soloist_loom) {
            // A model must do the same in every run.
            return false;
        }
        let left = self.until_reading.get() - 1;
        self.until_reading.set(left);
        left == 0 && self.read_clock()
    }

    #[cold]
    fn read_clock(&self) -> bool {
        let now = self.now();
        let took = now.saturating_duration_since(self.read_at.get());
        // The stretch may have been cut short.
        let polls = self.stretch.get() - self.until_reading.get();
        self.mean.set(took / polls.max(1));
        if took >= GENERATION {
            self.quick.set(0);
        }
        let since_visit = now.saturating_duration_since(self.visited_at.get());
        let mut limit = GENERATION;
        if since_visit >= GENERATION {
            self.polls.set(POLLS);
            limit = INTERRUPTION;
        }
        let rest = limit.saturating_sub(since_visit);
        self.begin_stretch(now, rest);
        rest.is_zero()
    }

    /// A visit has been made. `now` is the system's time.
    pub(crate) fn visited(&self, now: Instant) {
        let now = match self.clock {
            None => now,
            Some(_) => self.now(),
        };
        self.polls.set(0);
        self.visited_at.set(now);
        self.begin_stretch(now, GENERATION);
    }

    fn now(&self) -> Instant {
        match &self.clock {
            None => Instant::now(),
            Some(clock) => clock.0(),
        }
    }

    fn begin_stretch(&self, now: Instant, time: Duration) {
        let fit = time.as_nanos() / self.mean.get().as_nanos().max(1);
        let longest = if self.quick.get() < QUICK {
            CAREFUL_STRETCH
        } else {
            LONGEST_STRETCH
        };
        let stretch = fit.clamp(1, u128::from(longest)) as u32;
        self.read_at.set(now);
        self.until_reading.set(stretch);
        self.stretch.set(stretch);
    }
}
