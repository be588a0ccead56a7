//! Counters of a runtime. Only its own thread reads and writes them.

use std::cell::Cell;

/// A counter that only grows.
#[derive(Default)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    #[inline]
    pub(crate) fn add(&self, n: usize) {
        self.0.set(self.0.get().wrapping_add(n as u64));
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }

    /// Raises the counter to `n` if `n` is greater.
    #[inline]
    pub(crate) fn raise_to(&self, n: usize) {
        if n as u64 > self.0.get() {
            self.0.set(n as u64);
        }
    }
}

/// The counters of one runtime. `Metrics` documents them.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) polls: Count,
    pub(crate) wakes_local: Count,
    pub(crate) wakes_remote: Count,
    pub(crate) wakes_redundant: Count,
    pub(crate) turns: Count,
    pub(crate) waits: Count,
    pub(crate) events: Count,
    pub(crate) fired: Count,
    pub(crate) longest_queue: Count,
}
