//! [`Executor`]: what it consists of.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "testing")]
use super::foreign::Foreign;
#[cfg(not(feature = "testing"))]
use super::foreign_off::Foreign;
use super::park::Park;
use super::registry::Registry;
use super::timers::Timers;
use crate::clock::{OwnedClock, Simulation};
use crate::counts::Counts;
use crate::schedule::SharedOrder;
use crate::sync::atomic::AtomicUsize;
use crate::task_cell::{LocalTask, MainTask, Message, Owner, Remote, WakeTarget};
use crate::watch::Watch;

/// The settings of a runtime.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) propagate_panics: bool,
    pub(crate) simulation: Simulation,
    pub(crate) inspect: bool,
    pub(crate) warn_slow: Option<Duration>,
}

/// Everything of a runtime that its own thread uses.
pub(crate) struct Executor {
    pub(super) owner: Owner,
    pub(super) remote: Remote,
    pub(super) ready: RefCell<VecDeque<LocalTask>>,
    /// Tasks that have yielded in this generation. They count as queued.
    pub(super) yielded: RefCell<Vec<LocalTask>>,
    /// What waits for operations that were not tried because the budget of the poll was spent.
    pub(super) deferred: RefCell<Vec<WakeTarget>>,
    /// The registry: the tasks that have a future in place.
    pub(super) tasks: RefCell<Registry>,
    /// The cell of the `block_on` that is under way, or of the last one.
    pub(super) main: RefCell<Option<MainTask<Executor>>>,
    pub(super) spawned: Cell<u64>,
    pub(super) main_calls: Cell<u64>,
    /// Set when the runtime is dropped: what is spawned from then on is dropped at once.
    pub(super) is_closed: Cell<bool>,
    pub(super) timers: RefCell<Timers<WakeTarget>>,
    /// The time of the last visit. The first poll of a `Sleep` goes by it. If the clock is
    /// virtual, this is the time.
    pub(super) now: Cell<Instant>,
    pub(super) park: Park,
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
    pub(super) external: OnceCell<Arc<AtomicUsize>>,
    /// Where in the registry the last search for a task that can still be woken ended.
    pub(super) external_waker_hint: Cell<usize>,
    pub(crate) virtual_clock: Option<OwnedClock>,
    /// With a virtual clock only.
    pub(crate) foreign: Option<Box<Foreign>>,
    /// If runs are to be repeated.
    pub(crate) order: Option<SharedOrder>,
    /// If it runs a simulated world.
    #[cfg(feature = "testing")]
    pub(super) hosts: OnceCell<Box<super::hosts::Hosts>>,
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

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remote.fmt(f)
    }
}
