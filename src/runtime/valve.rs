//! When a long generation lets the reactor and the timers have their turn.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long the reactor and the timers wait for a generation at most, give or take
/// one poll.
const PATIENCE: Duration = Duration::from_millis(1);

/// Polls between two looks at the clock, at most.
const LONGEST_STRETCH: u32 = 64;

/// Counts polls, and looks at the clock after as many as fit into the time that is
/// left, going by what the last ones took.
#[derive(Debug)]
pub(super) struct Valve {
    /// Since the last visit at the end of a generation. Not as wide as `left`: the compiler
    /// would count both at once, in a register that takes longer.
    polls: Cell<usize>,
    /// Until the next look.
    left: Cell<u32>,
    /// From the last look to the next.
    stretch: Cell<u32>,
    /// What a poll took, on the mean of the last stretch.
    mean: Cell<Duration>,
    looked: Cell<Instant>,
    visited: Cell<Instant>,
    /// Set while those run that the last visit has woken.
    held: Cell<bool>,
}

impl Valve {
    pub(super) fn new(now: Instant) -> Valve {
        Valve {
            polls: Cell::new(0),
            left: Cell::new(1),
            stretch: Cell::new(1),
            mean: Cell::new(PATIENCE),
            looked: Cell::new(now),
            visited: Cell::new(now),
            held: Cell::new(false),
        }
    }

    /// Polls since the last visit at the end of a generation.
    #[inline]
    pub(super) fn polls(&self) -> usize {
        self.polls.get()
    }

    #[inline]
    pub(super) fn count_poll(&self) {
        self.polls.set(self.polls.get().wrapping_add(1));
    }

    /// Counts a poll. Returns whether it is time for a visit.
    #[inline]
    pub(super) fn is_due_after_poll(&self) -> bool {
        self.count_poll();
        if cfg!(soloist_loom) {
            // A model has to do the same whenever it is run.
            return false;
        }
        let left = self.left.get() - 1;
        self.left.set(left);
        left == 0 && self.look()
    }

    #[cold]
    fn look(&self) -> bool {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.looked.get());
        self.mean.set(took / self.stretch.get());
        if self.held.take() {
            // Now those that were interrupted: they have their full time. Else they would
            // stand still when each visit wakes so many that they take longer than it.
            self.visited.set(now);
        }
        let rest = PATIENCE.saturating_sub(now.saturating_duration_since(self.visited.get()));
        self.start_stretch(now, rest);
        rest.is_zero()
    }

    /// A visit has been made.
    pub(super) fn visited(&self, now: Instant, end_of_generation: bool) {
        if end_of_generation {
            self.polls.set(0);
        }
        self.visited.set(now);
        self.held.set(false);
        self.start_stretch(now, PATIENCE);
    }

    /// Lets this many polls pass before the next look: those that the visit has woken.
    pub(super) fn hold(&self, polls: usize) {
        let polls = u32::try_from(polls).unwrap_or(u32::MAX);
        if polls >= self.left.get() {
            self.left.set(polls);
            self.stretch.set(polls);
            self.held.set(true);
        }
    }

    fn start_stretch(&self, now: Instant, time: Duration) {
        let fit = time.as_nanos() / self.mean.get().as_nanos().max(1);
        let stretch = fit.clamp(1, u128::from(LONGEST_STRETCH)) as u32;
        self.looked.set(now);
        self.left.set(stretch);
        self.stretch.set(stretch);
    }
}
