//! A virtual clock, which is stopped while tasks run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::mem::swap;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::foreign::Foreign;
use crate::executor::{Executor, SimulatedClock};
use crate::panics;
use crate::reactor::Reactor;
use crate::task_cell::LocalTask;

/// The clock that the timers of a runtime use, set by
/// [`Builder::clock`](crate::runtime::Builder::clock). Needs the feature `testing`.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use soloist::runtime::{Clock, Runtime};
/// use soloist::time::sleep;
///
/// let start = Instant::now();
/// let runtime = Runtime::builder().clock(Clock::Virtual).build();
/// runtime.block_on(async { sleep(Duration::from_secs(24 * 60 * 60)).await });
/// assert!(start.elapsed() < Duration::from_secs(60 * 60));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Clock {
    /// The system's clock.
    #[default]
    Real,
    /// A clock that is stopped while tasks run. When no task is ready, it can jump to the next
    /// deadline, as set by [`AutoAdvance`]. It starts at the time at which the runtime was built.
    Virtual,
}

/// When a virtual clock jumps to the next deadline by itself, set by
/// [`Builder::auto_advance`](crate::runtime::Builder::auto_advance). Needs the feature `testing`.
///
/// The clock never jumps while a task is ready. Before it jumps, the runtime checks the sockets and
/// the messages of other threads.
///
/// # Examples
///
/// ```
/// use soloist::runtime::AutoAdvance;
///
/// assert_eq!(AutoAdvance::default(), AutoAdvance::WhenNoIo);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum AutoAdvance {
    /// Whenever no task is ready, even while external operations are in progress. A timeout around
    /// a response from another process or thread expires before the response can arrive. This is
    /// for tests without such responses, or whose timers must not depend on them.
    WhenIdle,
    /// Only when no external event is pending. External events are pending while
    ///
    /// * a task waits for a socket, or for something else that the system reports, such as a child
    ///   process or a signal;
    /// * an [`unblock`](crate::unblock) job runs;
    /// * a [`Handle`](crate::Handle) or [`RemoteTask`](crate::runtime::RemoteTask) is alive.
    ///
    /// While there are such events, the runtime waits in real time. The clock then advances by the
    /// time that has been waited, but not past the next deadline. So a timeout around a dead socket
    /// takes its full time, and does fire.
    ///
    /// Wakers, promises and abort handles do not count, since the runtime cannot know which of
    /// them are on other threads. A thread that will wake a task through one of them should hold a
    /// `Handle` until then. A waiter that `poll_read` or `poll_accept` has registered counts until
    /// the socket is ready or dropped, since it cannot be deregistered.
    ///
    /// There is one exception, for crates that have their own reactor, such as `async-net` and
    /// `async-io`. When another thread has woken a task, and the task waits again for something
    /// outside of this crate, it holds the clock, even if it also waits for a timer (a timeout).
    /// It does so for a total of three seconds of real time after each such wake, and the first
    /// time a warning names the task. The first wait of a task, before another thread has woken
    /// it, does not hold the clock: it cannot be distinguished from a wait for another task.
    #[default]
    WhenNoIo,
    /// Never: only [`testing::advance`](crate::testing::advance) moves the clock.
    Manual,
}

/// How long a test waits in real time when the runtime knows of no event that could still happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// The state of a virtual clock, except for its current time.
#[derive(Default)]
pub(super) struct VirtualClock {
    pub(super) auto_advance: AutoAdvance,
    /// How long to wait in real time when the runtime knows of no event that could still happen.
    pub(super) patience: Option<Duration>,
    /// Whether a [`Handle`](crate::Handle) is known to stay on this thread.
    pub(super) is_closed: bool,
    pub(super) foreign: Foreign,
    /// The calls of `advance` that have not completed, by their ids.
    pub(super) wanted: RefCell<BTreeMap<u64, (Instant, Option<Waker>)>>,
    pub(super) next_id: Cell<u64>,
}

impl VirtualClock {
    /// Requests that the clock advances to `until`, deadline by deadline. Returns the request's id.
    pub(super) fn want(&self, until: Instant) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.wanted.borrow_mut().insert(id, (until, None));
        id
    }

    /// Registers the waker of a request. Returns false if the request is already complete.
    pub(super) fn wait(&self, id: u64, waker: &Waker) -> bool {
        // It is cloned, and the old one is dropped, without a borrow, since that is user code.
        let mut waker = Some(waker.clone());
        let mut wanted = self.wanted.borrow_mut();
        let found = wanted.get_mut(&id);
        found.map(|(_, old)| swap(old, &mut waker)).is_some()
    }

    /// Removes a request.
    pub(super) fn remove(&self, id: u64) {
        let old = self.wanted.borrow_mut().remove(&id);
        drop(old);
    }

    /// Returns the earliest instant that has been requested.
    pub(super) fn wanted(&self) -> Option<Instant> {
        let wanted = self.wanted.borrow();
        wanted.values().map(|(until, _)| *until).min()
    }

    /// Removes the requests up to `now`, and returns their wakers in the order of the requests.
    pub(super) fn take_reached(&self, now: Instant) -> Vec<Waker> {
        let mut reached = Vec::new();
        self.wanted.borrow_mut().retain(|_, (until, waker)| {
            let is_reached = *until <= now;
            reached.extend(waker.take_if(|_| is_reached));
            !is_reached
        });
        reached
    }
}

/// The next time of a virtual clock.
enum Jump {
    ToTimer(Instant),
    /// The time that `advance` was asked for, if no timer is due before.
    AsAsked(Instant),
}

impl SimulatedClock for VirtualClock {
    fn run_begins(&self, has_messages: bool) {
        self.foreign.run_begins(has_messages);
    }

    fn reads_inbox(&self) {
        self.foreign.reads_inbox();
    }

    fn woken_by_message(&self, task: &LocalTask) {
        self.foreign.woken(task);
    }

    fn visit(&self, executor: &Executor, wait: Option<Duration>) -> io::Result<()> {
        // Read before the inbox: a handle that has been dropped may have left a message there.
        let outside = self.is_anything_outside(executor);
        executor.wait(Some(Duration::ZERO))?;
        executor.read_inbox();
        // A `Sleep` may have been set to a time that has passed.
        executor.expire_timers();
        executor.deliver_events();
        if !executor.is_anything_ready() {
            let jump = self.jump(executor, outside, wait);
            let may_hold = self.auto_advance == AutoAdvance::WhenNoIo && self.wanted().is_none();
            let would_jump = jump.as_ref().filter(|_| may_hold);
            // How long a task that waits for another crate holds the clock.
            let held = would_jump.and_then(|_| self.foreign.holds());
            match jump.filter(|_| held.is_none()) {
                Some(Jump::ToTimer(deadline)) => {
                    executor.advance_to(deadline);
                    executor.expire_timers();
                }
                Some(Jump::AsAsked(until)) => {
                    executor.advance_to(until);
                    panics::for_each(self.take_reached(executor.now()), Waker::wake);
                }
                None => self.wait_in_real_time(executor, outside, held, wait)?,
            }
        }
        Ok(())
    }
}

/// The visits of a runtime with a virtual clock.
impl VirtualClock {
    fn is_anything_outside(&self, executor: &Executor) -> bool {
        executor.has_external() && !self.is_closed
            || Reactor::get().is_some_and(|reactor| reactor.is_awaited())
    }

    fn jump(&self, executor: &Executor, outside: bool, wait: Option<Duration>) -> Option<Jump> {
        let next = executor.next_deadline();
        if let Some(until) = self.wanted() {
            let next = next.filter(|next| *next <= until);
            return Some(next.map_or(Jump::AsAsked(until), Jump::ToTimer));
        }
        let may = match self.auto_advance {
            AutoAdvance::WhenIdle => true,
            AutoAdvance::WhenNoIo => !outside,
            AutoAdvance::Manual => false,
        };
        // Time does not advance in a turn that does not wait.
        let may = may && wait != Some(Duration::ZERO);
        next.filter(|_| may).map(Jump::ToTimer)
    }

    /// Waits in real time, and advances the clock by that time, but not past the next deadline. So
    /// timers are never late.
    fn wait_in_real_time(
        &self,
        executor: &Executor,
        outside: bool,
        held: Option<Duration>,
        wait: Option<Duration>,
    ) -> io::Result<()> {
        if wait == Some(Duration::ZERO) {
            return Ok(());
        }
        let runs = self.auto_advance != AutoAdvance::Manual;
        let deadline = executor.next_deadline().filter(|_| runs);
        let from = executor.now();
        let timer = deadline.map(|deadline| deadline.saturating_duration_since(from));
        let patience = self.patience.filter(|_| !outside && timer.is_none());
        let limits = [wait, timer, patience, held];
        let limit = limits.into_iter().flatten().min();
        let stopped = executor.is_stopped();
        let start = Instant::now();
        loop {
            let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
            executor.wait(left)?;
            executor.read_inbox();
            executor.deliver_events();
            if executor.is_anything_ready() || executor.is_stopped() != stopped {
                break;
            }
            // Without another limit, only the patience ends the wait.
            let Some(patience) = patience.filter(|_| wait.is_none()) else {
                break;
            };
            // A message may have created a handle or a job.
            if self.is_anything_outside(executor) {
                break;
            }
            assert!(
                start.elapsed() < patience,
                "the runtime is stuck: no task is ready, no timer is set, no task waits for a \
                 socket, no job runs, no `Handle` is alive, and no other thread has woken a task \
                 for {patience:.1?} (a thread that will wake a task later must hold a `Handle` \
                 until then)"
            );
        }
        if held.is_some() {
            self.foreign.waited(start.elapsed());
        }
        if runs {
            let now = from + start.elapsed();
            executor.advance_to(deadline.map_or(now, |deadline| now.min(deadline)));
            executor.expire_timers();
        }
        Ok(())
    }
}
