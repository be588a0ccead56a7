//! [`Executor`]: what it consists of. Also [`Simulation`]: what a simulated run changes,
//! which is the clock, the hosts that tasks belong to, and the order of what is ready at the same
//! time. `testing` implements it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::timers::Timers;
use crate::hooks::counts::Counts;
use crate::hooks::watch::Watch;
use crate::schedule::Order;
use crate::slab::Slab;
use crate::sync::Parker;
use crate::sync::atomic::{AtomicU64, AtomicUsize};
use crate::task_cell::{LocalTask, MainTask, Message, Owner, Remote, WakeTarget};

/// The settings of a runtime.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) propagate_panics: bool,
    pub(crate) simulation: Option<Box<dyn SimulationSettings>>,
    pub(crate) budget_clock: Option<BudgetClock>,
    pub(crate) inspect: bool,
    pub(crate) warn_slow: Option<Duration>,
}

/// Replaces the system's clock in a `VisitBudget`, for tests that count polls.
pub(crate) struct BudgetClock(pub(crate) Box<dyn Fn() -> Instant + Send + Sync>);

impl fmt::Debug for BudgetClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BudgetClock")
    }
}

/// What can act on an executor from outside.
pub(super) struct ExternalCounts {
    /// How many `ExternalRef`s there are.
    pub(super) refs: AtomicUsize,
    /// How many tasks handles have spawned.
    pub(super) spawned: AtomicU64,
}

/// Everything of a runtime that its own thread uses.
pub(crate) struct Executor {
    pub(super) owner: Owner,
    pub(super) remote: Remote,
    pub(super) ready: RefCell<VecDeque<LocalTask>>,
    /// What becomes ready at the end of this generation.
    pub(super) deferred: RefCell<Deferred>,
    /// The registry: the tasks that have a future in place.
    pub(super) tasks: RefCell<Slab<LocalTask>>,
    /// The cell of the `block_on` that is under way, or of the last one.
    pub(super) main: RefCell<Option<MainTask>>,
    pub(super) spawned: Cell<u64>,
    pub(super) main_calls: Cell<u64>,
    /// Set when the runtime is dropped: what is spawned from then on is dropped at once.
    pub(super) is_closed: Cell<bool>,
    pub(super) timers: RefCell<Timers<WakeTarget>>,
    /// The time of the last visit. The first poll of a `Sleep` goes by it. If the clock is
    /// virtual, this is the time.
    pub(super) now: Cell<Instant>,
    /// Made for the first wait without a reactor.
    pub(super) parker: OnceCell<Parker>,
    /// The id of the reactor that the inbox notifies, 0 for the thread, `None` at first.
    pub(super) notified_reactor: Cell<Option<u64>>,
    /// Set by `Handle::stop`, cleared by the `run` that sees it.
    pub(super) stopped: Cell<bool>,
    pub(super) propagate_panics: bool,
    /// Set while the rest of a batch of messages is handled after one of them has panicked:
    /// that panic is resumed at the end, and no other can be.
    pub(super) is_panicking: Cell<bool>,
    /// Reused by each look at the timers, and at the inbox.
    pub(super) due: Cell<Vec<WakeTarget>>,
    pub(super) messages: Cell<Vec<Message>>,
    /// How many messages may still be taken in this generation.
    pub(super) messages_left: Cell<usize>,
    pub(super) counts: Counts,
    /// If times are measured.
    pub(super) watch: Option<Box<Watch>>,
    /// Handles and jobs: made for the first.
    pub(super) external: OnceCell<Arc<ExternalCounts>>,
    /// Where in the registry the last search for a task that can still be woken ended.
    pub(super) external_waker_hint: Cell<usize>,
    pub(super) simulation: Option<Box<dyn Simulation>>,
}

/// What becomes ready at the end of the generation.
#[derive(Default)]
pub(super) struct Deferred {
    /// Tasks that have yielded. They count as queued.
    pub(super) yielded: VecDeque<LocalTask>,
    /// What waits for operations that were not tried because the budget of the poll was spent.
    pub(super) wakes: Vec<WakeTarget>,
}

impl Deferred {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.yielded.is_empty() && self.wakes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.yielded.len() + self.wakes.len()
    }
}

impl Executor {
    /// Never 0, never reused.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.remote.id()
    }

    #[inline]
    pub(crate) fn remote(&self) -> Remote {
        self.remote
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    #[inline]
    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_deref()
    }
}

/// The settings of a simulated run.
pub(crate) trait SimulationSettings: fmt::Debug + Send + Sync {
    fn build(&self) -> Box<dyn Simulation>;

    #[cfg(feature = "testing")]
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any;
}

/// The state of a simulated run, owned by its executor.
pub(crate) trait Simulation {
    #[cfg(feature = "testing")]
    fn as_any(&self) -> &dyn std::any::Any;

    /// `None` for first in, first out.
    fn order(&self) -> Option<&dyn Order>;

    /// `None` outside of a simulated world.
    fn hosts(&self) -> Option<&dyn Hosts>;

    /// `None` for the system's clock.
    fn clock(&self) -> Option<&dyn SimulatedClock>;
}

/// A virtual clock.
pub(crate) trait SimulatedClock {
    /// Called when the runtime is entered.
    fn run_begins(&self, has_messages: bool);

    /// Called before messages are taken out of the inbox.
    fn reads_inbox(&self);

    /// Called when a message has woken `task`, which waited for something that is not of this
    /// crate.
    fn woken_by_message(&self, task: &LocalTask);

    /// Called when no task is ready. Advances the clock, or waits.
    fn visit(&self, executor: &Executor, wait: Option<Duration>) -> io::Result<()>;
}

/// The simulated hosts that the tasks of an executor belong to.
pub(crate) trait Hosts {
    /// The process of a task, or the one that runs.
    fn process(&self, task: Option<&LocalTask>) -> ProcessId;

    /// From now on this process runs. Returns the one that ran before.
    fn enter(&self, process: ProcessId) -> ProcessId;

    /// Called before a poll. Returns whether the host of the task is paused: then the task is not
    /// polled, and queued again when the host is resumed.
    fn keeps(&self, task: &LocalTask) -> bool;

    /// A task is spawned, and joins the process that runs. Returns false if that is over: then the
    /// task is dropped.
    fn join(&self, task: &LocalTask) -> bool;
}

/// A process of a simulated host: what runs there from its first task, or from the first one after
/// a crash, to the next crash. Consists of the index of the host, and how often it had crashed
/// before. The default is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ProcessId(#[cfg(feature = "testing")] pub(crate) Option<(usize, usize)>);

/// Restores the process that ran before.
pub(crate) struct EnteredProcess<'a>(Option<(&'a dyn Hosts, ProcessId)>);

impl Drop for EnteredProcess<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((hosts, before)) = self.0 {
            hosts.enter(before);
        }
    }
}

impl Executor {
    /// Always `None` without the feature `testing`, so the compiler removes what depends on it.
    #[inline(always)]
    pub(crate) fn simulation(&self) -> Option<&dyn Simulation> {
        if cfg!(feature = "testing") {
            self.simulation.as_deref()
        } else {
            None
        }
    }

    #[inline(always)]
    pub(crate) fn order(&self) -> Option<&dyn Order> {
        self.simulation()?.order()
    }

    #[inline(always)]
    pub(crate) fn simulated_clock(&self) -> Option<&dyn SimulatedClock> {
        self.simulation()?.clock()
    }

    #[inline(always)]
    pub(super) fn hosts(&self) -> Option<&dyn Hosts> {
        self.simulation()?.hosts()
    }

    /// The process of a task, or the one that runs.
    #[inline(always)]
    pub(crate) fn process(&self, task: Option<&LocalTask>) -> ProcessId {
        let process = self.hosts().map(|hosts| hosts.process(task));
        process.unwrap_or_default()
    }

    /// The process runs until the guard is dropped.
    #[inline(always)]
    pub(crate) fn enter_process(&self, process: ProcessId) -> EnteredProcess<'_> {
        EnteredProcess(self.hosts().map(|hosts| (hosts, hosts.enter(process))))
    }

    #[inline(always)]
    pub(crate) fn has_virtual_clock(&self) -> bool {
        self.simulated_clock().is_some()
    }
}
