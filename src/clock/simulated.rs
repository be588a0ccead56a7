//! The system's clock, or a virtual clock, which is stopped while tasks run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::budget_clock::BudgetClock;
use crate::schedule::{Order, Schedule, SharedOrder};

thread_local! {
    /// The time of the runtime that is entered on this thread, if its clock is virtual.
    static VIRTUAL: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The clock of the simulated host whose task runs, if it differs from that of the runtime.
    static HOST: Cell<Option<HostClock>> = const { Cell::new(None) };
}

/// Returns the current time of the runtime that is entered on this thread, by the clock of the
/// simulated host whose task runs. Outside of a runtime it is the time of the system's clock.
#[inline]
pub(crate) fn now() -> Instant {
    match VIRTUAL.get() {
        None => Instant::now(),
        Some(now) => to_host(now),
    }
}

/// As [`now`], by the clock of the runtime.
#[inline]
pub(crate) fn runtime_now() -> Instant {
    VIRTUAL.get().unwrap_or_else(Instant::now)
}

/// Converts a time of the runtime into one of the host whose task runs.
#[inline]
pub(crate) fn to_host(time: Instant) -> Instant {
    HOST.get().map_or(time, |clock| clock.local(time))
}

/// Converts a time of the host whose task runs into one of the runtime.
#[inline]
pub(crate) fn to_runtime(time: Instant) -> Instant {
    HOST.get().map_or(time, |clock| clock.global(time))
}

/// Sets the clock of the host whose task runs. Returns the previous one.
#[inline]
pub(crate) fn replace_host(clock: Option<HostClock>) -> Option<HostClock> {
    HOST.replace(clock)
}

/// The clock of a simulated host, which runs at a rate of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    /// A time of the runtime, and that of the host at that time.
    global: Instant,
    local: Instant,
    /// In units of 2^-32, so that conversions are exact.
    rate: u64,
}

impl HostClock {
    pub(crate) fn new(global: Instant, local: Instant, rate: f64) -> HostClock {
        let rate = (rate * (1_u64 << 32) as f64) as u64;
        HostClock {
            global,
            local,
            rate: rate.max(1),
        }
    }

    pub(crate) fn local(self, global: Instant) -> Instant {
        let nanos = global.saturating_duration_since(self.global).as_nanos();
        let nanos = nanos.saturating_mul(self.rate.into()) >> 32;
        later(self.local, nanos).unwrap_or(global)
    }

    /// The first time at which the host's is `local`.
    pub(crate) fn global(self, local: Instant) -> Instant {
        let nanos = local.saturating_duration_since(self.local).as_nanos();
        let nanos = (nanos << 32).div_ceil(self.rate.into());
        later(self.global, nanos).unwrap_or(local)
    }
}

fn later(time: Instant, nanos: u128) -> Option<Instant> {
    time.checked_add(Duration::from_nanos(nanos.try_into().ok()?))
}

/// Sets the virtual time that [`now`] returns, or `None` for the system's clock. Returns the
/// previous value.
#[inline]
pub(crate) fn replace(virtual_now: Option<Instant>) -> Option<Instant> {
    // The usual case avoids the write: reading it back in parts of another size would stall the
    // processor.
    if virtual_now.is_none() && VIRTUAL.get().is_none() {
        return None;
    }
    VIRTUAL.replace(virtual_now)
}

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

/// The settings of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Simulation {
    pub(crate) clock: Clock,
    pub(crate) auto_advance: AutoAdvance,
    /// `None` if the order is not recorded.
    pub(crate) schedule: Option<Schedule>,
    /// With a virtual clock: how long to wait in real time when the runtime knows of no event that
    /// could still happen.
    pub(crate) patience: Option<Duration>,
    pub(crate) budget_clock: Option<BudgetClock>,
    /// The seed of a simulated world, outside of which nothing can wake a task.
    pub(crate) world: Option<u64>,
}

/// How long a test waits in real time when the runtime knows of no event that could still happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

impl Simulation {
    /// Returns how long a task that waits for another crate's reactor holds a virtual clock.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let is_virtual = self.clock == Clock::Virtual;
        is_virtual.then(|| self.patience.unwrap_or(PATIENCE))
    }

    pub(crate) fn budget_clock(&self) -> Option<BudgetClock> {
        self.budget_clock.clone()
    }

    pub(crate) fn clock(&self) -> Option<OwnedClock> {
        let is_virtual = self.clock == Clock::Virtual;
        is_virtual.then(|| {
            let is_closed = self.world.is_some();
            Box::new(VirtualClock::new(
                self.auto_advance,
                self.patience,
                is_closed,
            ))
        })
    }

    pub(crate) fn order(&self) -> Option<SharedOrder> {
        // A virtual clock is for tests, so the order of their polls is recorded.
        let is_virtual = self.clock == Clock::Virtual;
        let schedule = self.schedule.or(is_virtual.then_some(Schedule::Fifo));
        schedule.map(|schedule| Rc::new(Order::new(schedule, self.world)))
    }
}

/// The virtual clock that a runtime owns.
pub(crate) type OwnedClock = Box<VirtualClock>;

/// The state of a virtual clock, except for its current time.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    pub(crate) auto_advance: AutoAdvance,
    /// How long to wait in real time when the runtime knows of no event that could still happen.
    pub(crate) patience: Option<Duration>,
    /// Whether a [`Handle`](crate::Handle) is known to stay on this thread.
    pub(crate) is_closed: bool,
    /// The calls of `advance` that have not completed.
    wanted: RefCell<Vec<Wanted>>,
    next_id: Cell<u64>,
}

#[derive(Debug)]
struct Wanted {
    id: u64,
    until: Instant,
    waker: Option<Waker>,
}

impl VirtualClock {
    fn new(auto_advance: AutoAdvance, patience: Option<Duration>, is_closed: bool) -> VirtualClock {
        VirtualClock {
            auto_advance,
            patience,
            is_closed,
            wanted: RefCell::new(Vec::new()),
            next_id: Cell::new(1),
        }
    }

    /// Requests that the clock advances to `until`, deadline by deadline. Returns the request's id.
    pub(crate) fn want(&self, until: Instant) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.wanted.borrow_mut().push(Wanted {
            id,
            until,
            waker: None,
        });
        id
    }

    /// Registers the waker of a request. Returns false if the request is already complete.
    pub(crate) fn wait(&self, id: u64, waker: &Waker) -> bool {
        // The waker is cloned and dropped without a borrow, since that is user code.
        let waker = waker.clone();
        let old = {
            let mut wanted = self.wanted.borrow_mut();
            let Some(wanted) = wanted.iter_mut().find(|wanted| wanted.id == id) else {
                return false;
            };
            wanted.waker.replace(waker)
        };
        drop(old);
        true
    }

    /// Removes a request.
    pub(crate) fn remove(&self, id: u64) {
        let old = {
            let mut wanted = self.wanted.borrow_mut();
            let index = wanted.iter().position(|wanted| wanted.id == id);
            index.map(|index| wanted.remove(index))
        };
        drop(old);
    }

    /// Returns the earliest instant that has been requested.
    pub(crate) fn wanted(&self) -> Option<Instant> {
        self.wanted.borrow().iter().map(|wanted| wanted.until).min()
    }

    /// Removes the requests up to `now`, and returns their wakers in the order of the requests.
    pub(crate) fn take_reached(&self, now: Instant) -> Vec<Waker> {
        let mut reached = Vec::new();
        self.wanted.borrow_mut().retain_mut(|wanted| {
            if wanted.until > now {
                return true;
            }
            reached.extend(wanted.waker.take());
            false
        });
        reached
    }
}
