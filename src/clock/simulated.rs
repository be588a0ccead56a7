//! The system's clock, or a virtual one, which stands still while tasks run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::budget_clock::BudgetClock;
use crate::schedule::{Order, Schedule, SharedOrder};

thread_local! {
    /// The time of the runtime that is entered on this thread, if its clock is virtual.
    /// Const and without a destructor.
    static VIRTUAL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time by the clock of the runtime that is entered on this thread; by the system's
/// outside of one.
#[inline]
pub(crate) fn now() -> Instant {
    match VIRTUAL.get() {
        None => Instant::now(),
        Some(now) => now,
    }
}

/// From now on `now` returns this. Returns what was there before.
#[inline]
pub(crate) fn replace(virtual_now: Option<Instant>) -> Option<Instant> {
    // The usual case writes nothing: the processor would wait where that is read in other
    // pieces than it was written in.
    if virtual_now.is_none() && VIRTUAL.get().is_none() {
        return None;
    }
    VIRTUAL.replace(virtual_now)
}

/// Which clock the timers of a runtime run on:
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
    /// The system's.
    #[default]
    Real,
    /// One that stands still while tasks run, and moves on when nothing is ready: when it
    /// may jump to the next deadline, [`AutoAdvance`] says. It starts at the time at which
    /// the runtime was built.
    Virtual,
}

/// When a virtual clock jumps to the next deadline by itself:
/// [`Builder::auto_advance`](crate::runtime::Builder::auto_advance). Needs the feature `testing`.
///
/// It never does so while a task is ready, and never past what has already happened: first
/// the sockets and the messages of other threads are looked at.
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
    /// Whenever nothing is ready, whatever is under way outside. A timeout around an
    /// answer from another process or thread is over before the answer can come: this is
    /// for tests that have neither, or whose timers must not depend on them.
    WhenIdle,
    /// Only when nothing outside can still happen: nobody waits for a socket (or for
    /// another thing that the system reports: a child process, a signal), no
    /// [`unblock`](crate::unblock) job runs, and no [`Handle`](crate::Handle) or
    /// [`RemoteTask`](crate::runtime::RemoteTask) is alive. Else the runtime waits in real
    /// time, and the clock runs along: by as much as was waited, and not past the next
    /// deadline. So a timeout around a dead socket takes its time, and does fire.
    ///
    /// Bare wakers, promises and abort handles are not counted, for there is no telling
    /// which of them are on other threads: a thread that will wake a task by other means than
    /// these should hold a `Handle` until it has. What a `poll_read` or `poll_accept` has left
    /// behind counts until the socket is reported or dropped, for it cannot be taken back.
    ///
    /// There is one exception, for what has a reactor of its own, such as the `async-net` and
    /// `async-io` crates. A task that another thread has woken holds the clock when it waits
    /// again for something that is not of this crate, with or without a timer beside it (a
    /// timeout). It does so for three seconds of real time after each such wake, in sum, and the
    /// first time a warning names the task. The first wait of a task, before any other thread
    /// has woken it, does not hold the clock: it looks the same as that for a message of another
    /// task.
    #[default]
    WhenNoIo,
    /// Never: only [`testing::advance`](crate::testing::advance) moves it.
    Manual,
}

/// How a run is to be simulated, if it is.
#[derive(Debug, Default)]
pub(crate) struct Simulation {
    pub(crate) clock: Clock,
    pub(crate) auto_advance: AutoAdvance,
    /// None where the order is of no interest.
    pub(crate) schedule: Option<Schedule>,
    /// With a virtual clock: how long to wait in real time when nothing can happen any
    /// more, as far as we know.
    pub(crate) patience: Option<Duration>,
    pub(crate) budget_clock: Option<BudgetClock>,
}

/// How long a test waits in real time when nothing can happen any more, as far as we know.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

impl Simulation {
    /// For how long a task that waits for another crate's reactor holds a virtual clock.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let is_virtual = self.clock == Clock::Virtual;
        is_virtual.then(|| self.patience.unwrap_or(PATIENCE))
    }

    pub(crate) fn budget_clock(&self) -> Option<BudgetClock> {
        self.budget_clock.clone()
    }

    pub(crate) fn clock(&self) -> Option<OwnedClock> {
        let is_virtual = self.clock == Clock::Virtual;
        is_virtual.then(|| Box::new(VirtualClock::new(self.auto_advance, self.patience)))
    }

    pub(crate) fn order(&self) -> Option<SharedOrder> {
        // A virtual clock is for tests: what they do can be written down.
        let is_virtual = self.clock == Clock::Virtual;
        let schedule = self.schedule.or(is_virtual.then_some(Schedule::Fifo));
        schedule.map(|schedule| Rc::new(Order::new(schedule)))
    }
}

/// A virtual clock as its runtime has it.
pub(crate) type OwnedClock = Box<VirtualClock>;

/// What a runtime with a virtual clock knows beside the time.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    pub(crate) auto_advance: AutoAdvance,
    /// How long to wait in real time when nothing can happen any more, as far as we know.
    pub(crate) patience: Option<Duration>,
    /// The calls of `advance` that have not been served.
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
    pub(crate) fn new(auto_advance: AutoAdvance, patience: Option<Duration>) -> VirtualClock {
        VirtualClock {
            auto_advance,
            patience,
            wanted: RefCell::new(Vec::new()),
            next_id: Cell::new(1),
        }
    }

    /// Asks for the clock to be moved on to this, deadline by deadline.
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

    /// Has `waker` woken when that has been done. Returns false if it has been already.
    pub(crate) fn wait(&self, id: u64, waker: &Waker) -> bool {
        // Cloned and dropped outside of the borrow: it is user code.
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

    /// Takes the request back.
    pub(crate) fn leave(&self, id: u64) {
        let old = {
            let mut wanted = self.wanted.borrow_mut();
            let index = wanted.iter().position(|wanted| wanted.id == id);
            index.map(|index| wanted.remove(index))
        };
        drop(old);
    }

    /// How far the clock has been asked to go, at least.
    pub(crate) fn wanted(&self) -> Option<Instant> {
        self.wanted.borrow().iter().map(|wanted| wanted.until).min()
    }

    /// The wakers of the calls that asked for no more than this, in the order of the calls.
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
