//! The order in which tasks run, for runs that can be repeated: shuffled by a seed, and recorded
//! as a hash.

use std::cell::Cell;
use std::rc::Rc;

/// In which order tasks run that are ready at the same time:
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
    /// First come, first served.
    #[default]
    Fifo,
    /// Each batch is shuffled by this seed: the tasks that are ready, each of which still
    /// has its turn once before any has a second; the timers that are due at the same
    /// instant; what the system reports in one go.
    Shuffled(u64),
}

/// A generator of numbers (splitmix64) that are the same on every run.
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

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        // The upper half of the product: as even as 64 bits allow, without a division.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// Every bit of the result depends on every bit of `z`.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A reference to an [`Order`].
pub(crate) type SharedOrder = Rc<Order>;

/// The order of a runtime whose runs can be repeated.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) seed: u64,
    /// None for first come, first served.
    random: Option<Random>,
    hash: Cell<u64>,
}

impl Order {
    pub(crate) fn new(schedule: Schedule) -> Order {
        let (seed, random) = match schedule {
            Schedule::Fifo => (0, None),
            Schedule::Shuffled(seed) => (seed, Some(Random::new(seed))),
        };
        Order {
            seed,
            random,
            hash: Cell::new(0),
        }
    }

    pub(crate) fn is_shuffled(&self) -> bool {
        self.random.is_some()
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        if let Some(random) = &self.random {
            random.shuffle(items);
        }
    }

    /// Records which task runs next.
    pub(crate) fn note(&self, who: u64) {
        let hash = self.hash.get().rotate_left(5) ^ who;
        self.hash.set(mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    }

    /// The hash of all that was recorded.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }
}
