//! Times that a runtime measures only on request: how long polls take, how long each task has
//! been polled, and how long the runtime is busy or idle.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::stderr::warn;

/// Measures with the system's clock, because polls take real time under a virtual clock too.
#[derive(Default)]
pub(crate) struct Watch {
    /// Whether times of tasks and of the runtime are kept.
    pub(crate) keeps: bool,
    /// A poll or turn that takes this long is slow.
    pub(crate) slow: Option<Duration>,
    /// The first entry is that of main, and the entry at `slot + 1` that of the task in this
    /// slot of the registry. Entries of tasks that are over stay until the slot is reused.
    times: RefCell<Vec<Times>>,
    /// When the runtime was entered, if it is entered now.
    entered: Cell<Option<Instant>>,
    /// How many times the runtime is entered. A destructor may enter it while it is entered.
    depth: Cell<u32>,
    /// How long the runtime was entered before `entered`.
    inside: Cell<Duration>,
    idle: Cell<Duration>,
    /// Whether a poll of this turn was slow.
    pub(crate) has_warned: Cell<bool>,
    turn_began: Cell<Option<Instant>>,
}

/// The times of one task.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// The number of the task, or 0 for main.
    number: u64,
    pub(crate) spawned_at: Instant,
    pub(crate) total: Duration,
    pub(crate) longest: Duration,
}

impl Watch {
    pub(crate) fn new(keeps: bool, slow: Option<Duration>) -> Option<Box<Watch>> {
        let watch = Watch {
            keeps,
            slow,
            ..Watch::default()
        };
        (keeps || slow.is_some()).then(|| Box::new(watch))
    }

    #[cold]
    pub(crate) fn begin_turn(&self) {
        self.has_warned.set(false);
        self.turn_began.set(self.slow.map(|_| Instant::now()));
    }

    /// Warns if the polls of a turn are slow together, and none of them is slow by itself.
    #[cold]
    pub(crate) fn end_turn(&self, polls: usize) {
        let (Some(slow), Some(start)) = (self.slow, self.turn_began.take()) else {
            return;
        };
        let took = start.elapsed();
        if took >= slow && !self.has_warned.get() {
            warn(format_args!(
                "slow turn: {polls} polls have taken {took:.1?}, during which every other task \
                 has waited"
            ));
        }
    }

    /// A task was spawned into this slot of the registry. Main has no slot.
    pub(crate) fn on_spawn(&self, slot: Option<usize>, number: u64) {
        let (index, number) = key(slot, number);
        let new = Times {
            number,
            spawned_at: Instant::now(),
            total: Duration::ZERO,
            longest: Duration::ZERO,
        };
        let mut times = self.times.borrow_mut();
        while times.len() <= index {
            // No task has the number 0.
            times.push(Times { number: 0, ..new });
        }
        times[index] = new;
    }

    pub(crate) fn polled(&self, slot: Option<usize>, number: u64, took: Duration) {
        let (index, number) = key(slot, number);
        let mut times = self.times.borrow_mut();
        match times.get_mut(index) {
            Some(times) if times.number == number => {
                times.total += took;
                times.longest = times.longest.max(took);
            }
            _ => {}
        }
    }

    pub(crate) fn times(&self, slot: Option<usize>, number: u64) -> Option<Times> {
        let (index, number) = key(slot, number);
        match self.times.borrow().get(index) {
            Some(times) if self.keeps && times.number == number => Some(*times),
            _ => None,
        }
    }

    /// The runtime is entered or left.
    pub(crate) fn set_entered(&self, entered: bool) {
        let depth = self.depth.get();
        self.depth.set(if entered { depth + 1 } else { depth - 1 });
        if self.depth.get().max(depth) > 1 {
            return;
        }
        self.inside.set(self.inside());
        self.entered.set(entered.then(Instant::now));
    }

    fn inside(&self) -> Duration {
        let now = self.entered.get().map(|since| since.elapsed());
        self.inside.get() + now.unwrap_or_default()
    }

    pub(crate) fn waited(&self, idle: Duration) {
        self.idle.set(self.idle.get() + idle);
    }

    /// How long the runtime has been busy, and how long idle.
    pub(crate) fn busy_and_idle(&self) -> Option<(Duration, Duration)> {
        let idle = self.idle.get();
        self.keeps
            .then(|| (self.inside().saturating_sub(idle), idle))
    }
}

/// The index of a task's times, and the number in them: 0 for main, whose number changes with
/// each `block_on`.
fn key(slot: Option<usize>, number: u64) -> (usize, u64) {
    slot.map_or((0, 0), |slot| (slot + 1, number))
}
