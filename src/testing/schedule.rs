//! The order in which tasks run in a simulated run: shuffled by a seed, and recorded as a hash.

use std::cell::Cell;

use crate::schedule::Order;

/// The order in which tasks that are ready at the same time run, set by
/// [`Builder::schedule`](crate::runtime::Builder::schedule). Needs the feature `testing`.
///
/// # Examples
///
/// ```
/// use soloist::runtime::{Runtime, Schedule};
/// use soloist::{spawn, task::yield_now};
///
/// let order = |schedule| {
///     let runtime = Runtime::builder().schedule(schedule).build();
///     let order = std::cell::RefCell::new(Vec::new());
///     let order = std::rc::Rc::new(order);
///     for n in 0..8 {
///         let order = order.clone();
///         runtime.spawn(async move { order.borrow_mut().push(n) }).detach();
///     }
///     runtime.run();
///     order.take()
/// };
/// assert_eq!(order(Schedule::Fifo), [0, 1, 2, 3, 4, 5, 6, 7]);
/// assert_ne!(order(Schedule::Shuffled(1)), order(Schedule::Fifo));
/// assert_eq!(order(Schedule::Shuffled(1)), order(Schedule::Shuffled(1)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Schedule {
    /// First in, first out.
    #[default]
    Fifo,
    /// The order is shuffled by this seed. This applies to
    ///
    /// * the tasks that are ready. Each is still polled once before any of them is polled again;
    /// * the timers that are due at the same instant;
    /// * the events that the system reports together.
    Shuffled(u64),
}

/// A random number generator (splitmix64) with the same numbers on every run.
#[derive(Debug, Clone)]
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Cell::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        mix(state)
    }

    /// Returns a number below `limit`, which must not be 0.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        // The upper half of the product: as uniform as 64 bits allow, without a division.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// Mixes the bits: every bit of the result depends on every bit of `z`.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The order of a runtime whose runs are reproducible.
#[derive(Debug)]
pub(super) struct SeededOrder {
    pub(super) seed: u64,
    /// `None` for first in, first out.
    random: Option<Random>,
    hash: Cell<u64>,
}

impl SeededOrder {
    /// Makes an order. `world` is the seed of the simulated world, if there is one.
    pub(super) fn new(schedule: Schedule, world: Option<u64>) -> SeededOrder {
        let (seed, random) = match schedule {
            Schedule::Fifo => (world.unwrap_or(0), None),
            Schedule::Shuffled(seed) => (seed, Some(Random::new(seed))),
        };
        SeededOrder {
            seed,
            random,
            hash: Cell::new(0),
        }
    }

    /// Returns the hash of the recorded order.
    pub(super) fn hash(&self) -> u64 {
        self.hash.get()
    }
}

impl Order for SeededOrder {
    fn is_shuffled(&self) -> bool {
        self.random.is_some()
    }

    fn shuffle_by(&self, len: usize, swap: &mut dyn FnMut(usize, usize)) {
        let Some(random) = &self.random else { return };
        for last in (1..len).rev() {
            swap(last, random.below(last as u64 + 1) as usize);
        }
    }

    fn note(&self, task: u64) {
        let hash = self.hash.get().rotate_left(5) ^ task;
        self.hash.set(mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    }
}
