//! The deadline heap: what is to be woken when.
//!
//! A 4-ary heap over a slab, ordered by (deadline, sequence). Each entry stores its position in
//! the heap, so a timer that is dropped is removed at once. New timers are kept beside the heap
//! until the next deadline is needed. Equal deadlines fire in the order in which they were set.

use std::time::{Duration, Instant};

use crate::slab::Slab;

/// What is further off than this never fires, and is not kept.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Children per node: four are as much as a cache line, and the heap is half as deep.
const ARITY: usize = 4;

/// The bit of places in `fresh`.
const FRESH: u32 = 1 << 31;
/// The place of an entry that has fired.
const FIRED: u32 = u32::MAX;
/// The place of an entry that never will, unless it is set anew.
const UNSET: u32 = u32::MAX - 1;

/// `from + after`, or an instant that is never reached where that overflows.
pub(crate) fn saturating_add(from: Instant, after: Duration) -> Instant {
    // Every platform's clock has room for this.
    from.checked_add(after.min(2 * NEVER)).unwrap_or(from)
}

/// Names an entry. It is its owner's until [`Timers::remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey(u32);

/// The timers of one runtime. `W` is what is to be woken.
pub(crate) struct Timers<W> {
    /// Deadlines are nanoseconds after this.
    base: Instant,
    entries: Slab<Entry<W>>,
    heap: Vec<Node>,
    /// Timers that were set since the next deadline was last needed. They are not in the heap yet:
    /// most timers are timeouts of operations that complete at once, and are removed from here.
    fresh: Vec<Node>,
    sequence: u64,
}

struct Entry<W> {
    /// Its index in `heap`, or in `fresh` with the bit `FRESH` set, or `FIRED`: the entry
    /// stays until its owner removes it, or the owner's next word would hit the next owner
    /// of the slot.
    place: u32,
    /// Which task waits, for people to read.
    waiter: u32,
    /// It decides between equal deadlines. Not in the node: it is seldom asked for.
    sequence: u64,
    waker: Option<W>,
}

#[derive(Clone, Copy)]
struct Node {
    when: u64,
    key: u32,
}

impl<W> Timers<W> {
    pub(crate) fn new(base: Instant) -> Timers<W> {
        Timers {
            base,
            entries: Slab::default(),
            heap: Vec::new(),
            fresh: Vec::new(),
            sequence: 0,
        }
    }

    /// Has `waker` woken at `deadline`. One that is too far off is no deadline.
    pub(crate) fn insert(&mut self, deadline: Instant, waiter: u32, waker: W) -> TimerKey {
        let after = deadline.saturating_duration_since(self.base);
        let is_set = after < NEVER;
        let key = self.entries.insert(Entry {
            place: if is_set {
                FRESH | self.fresh.len() as u32
            } else {
                UNSET
            },
            waiter,
            sequence: self.sequence,
            waker: Some(waker),
        });
        self.sequence += 1;
        // So that all places have room below `UNSET`, also with the bit.
        assert!(
            key < (UNSET & !FRESH) as usize,
            "more than 2,147,483,646 timers"
        );
        let key = key as u32;
        if is_set {
            self.fresh.push(Node {
                when: nanos(after),
                key,
            });
        }
        TimerKey(key)
    }

    /// Takes the entry out. The waker is for the caller to drop, outside of any borrow.
    #[must_use]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<W> {
        let entry = self.entries.remove(key.0 as usize)?;
        if entry.place < FRESH {
            self.remove_node(entry.place as usize);
        } else if entry.place < UNSET {
            let place = (entry.place & !FRESH) as usize;
            self.fresh.swap_remove(place);
            if let Some(moved) = self.fresh.get(place) {
                self.entries[moved.key as usize].place = entry.place;
            }
        }
        entry.waker
    }

    /// Puts what is fresh into the heap.
    fn flush_pending(&mut self) {
        for index in 0..self.fresh.len() {
            let place = self.heap.len();
            self.heap.push(self.fresh[index]);
            self.sift_up(place);
        }
        self.fresh.clear();
    }

    /// `None` if the timer has fired.
    pub(crate) fn target(&self, key: TimerKey) -> Option<&W> {
        self.entries.get(key.0 as usize)?.waker.as_ref()
    }

    /// Sets another waker. Returns what the caller is to drop.
    #[must_use]
    pub(crate) fn set_target(&mut self, key: TimerKey, waiter: u32, waker: W) -> Option<W> {
        match self.entries.get_mut(key.0 as usize) {
            Some(entry) => {
                entry.waiter = waiter;
                entry.waker.replace(waker)
            }
            None => Some(waker),
        }
    }

    /// Calls `f` with each task that waits, and until when: `None` if that is too far off.
    pub(crate) fn for_each_wait(&self, f: &mut dyn FnMut(u32, Option<Instant>)) {
        for entry in self.entries.iter() {
            match entry.place {
                FIRED => {}
                UNSET => f(entry.waiter, None),
                place => {
                    let node = match place & FRESH {
                        0 => &self.heap[place as usize],
                        _ => &self.fresh[(place & !FRESH) as usize],
                    };
                    let when = Duration::from_nanos(node.when);
                    f(entry.waiter, Some(self.base + when));
                }
            }
        }
    }

    /// Which task waits for it.
    pub(crate) fn waiter_id(&self, key: TimerKey) -> u32 {
        self.entries
            .get(key.0 as usize)
            .map_or(0, |entry| entry.waiter)
    }

    /// Whether there is one that never fires, unless it is set anew.
    pub(crate) fn has_unset(&self) -> bool {
        self.entries.iter().any(|entry| entry.place == UNSET)
    }

    /// Whether there is no timer, fired or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many have still to fire.
    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.fresh.len()
    }

    /// When the first timer fires.
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        self.flush_pending();
        let first = self.heap.first()?;
        Some(self.base + Duration::from_nanos(first.when))
    }

    /// Moves the wakers of all that is due to `woken`, in order. They are for the
    /// caller to wake: a timer that is set meanwhile is not of this batch.
    pub(crate) fn expire(&mut self, now: Instant, woken: &mut Vec<W>) {
        self.flush_pending();
        let now = nanos(now.saturating_duration_since(self.base));
        while let Some(first) = self.heap.first() {
            if first.when > now {
                break;
            }
            let entry = &mut self.entries[first.key as usize];
            entry.place = FIRED;
            if let Some(waker) = entry.waker.take() {
                woken.push(waker);
            }
            self.remove_node(0);
        }
    }

    /// Takes all wakers out: the runtime goes, nothing fires any more.
    #[must_use]
    pub(crate) fn disarm(&mut self) -> Vec<W> {
        self.heap.clear();
        self.fresh.clear();
        let mut wakers = Vec::new();
        for entry in self.entries.iter_mut() {
            entry.place = FIRED;
            if let Some(waker) = entry.waker.take() {
                wakers.push(waker);
            }
        }
        wakers
    }

    /// Takes the node at `place` out of the heap.
    fn remove_node(&mut self, place: usize) {
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            // The former last node can belong further up or further down.
            self.sift_up(place);
            self.sift_down(place);
        }
    }

    #[inline]
    fn is_before(&self, a: &Node, b: &Node) -> bool {
        // In this form, the compiler makes one comparison of what is left.
        if a.when == b.when {
            return self.was_set_before(a, b);
        }
        a.when < b.when
    }

    #[cold]
    #[inline(never)]
    fn was_set_before(&self, a: &Node, b: &Node) -> bool {
        self.entries[a.key as usize].sequence < self.entries[b.key as usize].sequence
    }

    /// The first of the children of `place`, if it has any.
    #[inline]
    fn first_child(&self, place: usize) -> Option<usize> {
        let first = place * ARITY + 1;
        if let Some(four) = self.heap.get(first..first + ARITY) {
            // Who wins is as good as random: added up, and not branched on, it costs half.
            let a = usize::from(self.is_before(&four[1], &four[0]));
            let b = 2 + usize::from(self.is_before(&four[3], &four[2]));
            let b_wins = self.is_before(&four[b], &four[a]);
            return Some(first + if b_wins { b } else { a });
        }
        let mut earliest = first;
        for child in first + 1..self.heap.len() {
            if self.is_before(&self.heap[child], &self.heap[earliest]) {
                earliest = child;
            }
        }
        (earliest < self.heap.len()).then_some(earliest)
    }

    fn put(&mut self, place: usize, node: Node) {
        self.heap[place] = node;
        self.entries[node.key as usize].place = place as u32;
    }

    fn sift_up(&mut self, mut place: usize) {
        let node = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !self.is_before(&node, &self.heap[parent]) {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, node);
    }

    fn sift_down(&mut self, mut place: usize) {
        let node = self.heap[place];
        while let Some(child) = self.first_child(place) {
            if !self.is_before(&self.heap[child], &node) {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, node);
    }
}

/// Whole nanoseconds; what does not fit is 584 years off.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    use fastrand::Rng;

    use super::*;

    /// A waker that is told apart by its address.
    struct Mark;

    impl Wake for Mark {
        fn wake(self: Arc<Self>) {}
    }

    fn waker() -> Waker {
        Waker::from(Arc::new(Mark))
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Insert {
            after: u64,
        },
        /// The nth of those that are left, counted round.
        Cancel {
            nth: usize,
        },
        Reset {
            nth: usize,
            after: u64,
        },
        SetWaker {
            nth: usize,
        },
        /// Time passes.
        Expire {
            after: u64,
        },
    }

    /// Nanoseconds: many that are equal or near, and some of every length there is.
    fn after(random: &mut Rng) -> u64 {
        match random.u32(..9) {
            0..6 => random.u64(..50),
            6..8 => random.u64(..2000),
            _ => random.u64(..) >> random.u32(..64),
        }
    }

    fn operation(random: &mut Rng) -> Operation {
        let nth = random.usize(..1000);
        match random.u32(..18) {
            0..8 => Operation::Insert {
                after: after(random),
            },
            8..11 => Operation::Cancel { nth },
            11..14 => Operation::Reset {
                nth,
                after: after(random),
            },
            14 => Operation::SetWaker { nth },
            _ => Operation::Expire {
                after: random.u64(..40),
            },
        }
    }

    /// Whether the timers do with these operations what the ordered map does.
    fn agree(operations: &[Operation]) -> bool {
        let run = || {
            let mut both = Both::new();
            operations
                .iter()
                .for_each(|operation| both.apply(operation));
        };
        catch_unwind(AssertUnwindSafe(run)).is_ok()
    }

    /// Leaves out, of operations that fail, what can be left out.
    fn shrink(mut operations: Vec<Operation>) -> Vec<Operation> {
        let mut size = operations.len();
        while size > 0 {
            let mut at = 0;
            while at < operations.len() {
                let mut fewer = operations.clone();
                fewer.drain(at..operations.len().min(at + size));
                if agree(&fewer) {
                    at += size;
                } else {
                    operations = fewer;
                }
            }
            size /= 2;
        }
        operations
    }

    /// A timer as its owner knows it.
    struct Owned {
        key: TimerKey,
        waker: Waker,
        /// Its place in the oracle. `None` has fired, or never will.
        at: Option<(u64, u64)>,
        fired: bool,
    }

    /// The timers, and beside them what is to come of them.
    struct Both {
        base: Instant,
        now: u64,
        timers: Timers<Waker>,
        owned: Vec<Owned>,
        /// (when, order of setting), with the index in `owned`.
        oracle: BTreeMap<(u64, u64), usize>,
        order: u64,
    }

    impl Both {
        fn new() -> Both {
            let base = Instant::now();
            Both {
                base,
                now: 0,
                timers: Timers::new(base),
                owned: Vec::new(),
                oracle: BTreeMap::new(),
                order: 0,
            }
        }

        fn set(&mut self, after: u64, waker: Waker) -> Owned {
            let when = self.now.saturating_add(after);
            let deadline = saturating_add(self.base, Duration::from_nanos(when));
            let key = self.timers.insert(deadline, 0, waker.clone());
            self.order += 1;
            let at = (u128::from(when) < NEVER.as_nanos()).then_some((when, self.order));
            Owned {
                key,
                waker,
                at,
                fired: false,
            }
        }

        /// Puts it in the place of another, or at the end.
        fn put(&mut self, index: usize, owned: Owned) {
            if let Some(at) = owned.at {
                self.oracle.insert(at, index);
            }
            if index < self.owned.len() {
                self.owned[index] = owned;
            } else {
                self.owned.push(owned);
            }
        }

        /// Takes the entry out of both, and compares what they say of it.
        fn remove(&mut self, index: usize) {
            let owned = &self.owned[index];
            assert_eq!(self.timers.target(owned.key).is_none(), owned.fired);
            let waker = self.timers.remove(owned.key);
            assert_eq!(waker.is_some(), !owned.fired);
            assert!(waker.is_none_or(|waker| waker.will_wake(&owned.waker)));
            if let Some(at) = owned.at {
                self.oracle.remove(&at);
            }
        }

        fn apply(&mut self, operation: &Operation) {
            let index = |nth: usize| nth.checked_rem(self.owned.len());
            match *operation {
                Operation::Insert { after } => {
                    let owned = self.set(after, waker());
                    self.put(self.owned.len(), owned);
                }
                Operation::Cancel { nth } => {
                    let Some(index) = index(nth) else { return };
                    self.remove(index);
                    self.owned.swap_remove(index);
                    // The former last one has another index now.
                    if let Some(at) = self.owned.get(index).and_then(|owned| owned.at) {
                        self.oracle.insert(at, index);
                    }
                }
                Operation::Reset { nth, after } => {
                    let Some(index) = index(nth) else { return };
                    self.remove(index);
                    let owned = self.set(after, self.owned[index].waker.clone());
                    self.put(index, owned);
                }
                Operation::SetWaker { nth } => {
                    let Some(index) = index(nth) else { return };
                    let owned = &mut self.owned[index];
                    let new = waker();
                    assert!(
                        !self
                            .timers
                            .target(owned.key)
                            .is_some_and(|w| w.will_wake(&new))
                    );
                    let old = self.timers.set_target(owned.key, 0, new.clone());
                    assert_eq!(old.is_some(), !owned.fired);
                    assert!(old.is_none_or(|old| old.will_wake(&owned.waker)));
                    assert!(
                        self.timers
                            .target(owned.key)
                            .is_some_and(|w| w.will_wake(&new))
                    );
                    owned.waker = new;
                    if owned.fired {
                        // Nothing is woken twice: it has the waker, and keeps it.
                        let _ = self.timers.remove(owned.key);
                        self.owned.swap_remove(index);
                        if let Some(at) = self.owned.get(index).and_then(|owned| owned.at) {
                            self.oracle.insert(at, index);
                        }
                    }
                }
                Operation::Expire { after } => {
                    self.now += after;
                    let now = self.base + Duration::from_nanos(self.now);
                    let mut woken = Vec::new();
                    self.timers.expire(now, &mut woken);
                    let rest = self.oracle.split_off(&(self.now + 1, 0));
                    let due = std::mem::replace(&mut self.oracle, rest);
                    assert_eq!(woken.len(), due.len());
                    for (woken, index) in woken.iter().zip(due.into_values()) {
                        let owned = &mut self.owned[index];
                        assert!(woken.will_wake(&owned.waker));
                        owned.at = None;
                        owned.fired = true;
                    }
                }
            }
            // Not each time: asking puts the new ones into the heap.
            if self.order % 4 == 0 {
                let first = self.oracle.keys().next();
                let first = first.map(|(when, _)| self.base + Duration::from_nanos(*when));
                assert_eq!(self.timers.next_deadline(), first);
            }
            assert_eq!(self.timers.len(), self.oracle.len());
            assert_eq!(self.timers.entries.len(), self.owned.len());
        }
    }

    /// Against an ordered map. `SOLOIST_TIMER_OPERATIONS` says how many at least; of those
    /// that fail, the fewest that do are printed.
    #[test]
    fn b50_random_operations_do_what_an_ordered_map_says() {
        let wanted = std::env::var("SOLOIST_TIMER_OPERATIONS");
        let wanted = wanted.map_or(20_000, |text| text.parse().expect("a number"));
        let mut done = 0;
        while done < wanted {
            let mut random = Rng::new();
            let count = random.usize(..2000);
            let operations: Vec<_> = (0..count).map(|_| operation(&mut random)).collect();
            if !agree(&operations) {
                panic!("these fail: {:#?}", shrink(operations));
            }
            done += count;
        }
        println!("{done} operations");
    }

    #[test]
    fn far_deadlines_are_never() {
        let now = Instant::now();
        let mut timers = Timers::new(now);
        for far in [
            Duration::MAX,
            Duration::from_nanos(u64::MAX),
            Duration::from_millis(u64::MAX),
            Duration::from_secs(u64::MAX),
        ] {
            timers.insert(saturating_add(now, far), 0, waker());
            assert_eq!(timers.next_deadline(), None);
        }
        let years = Duration::from_secs(68 * 365 * 24 * 60 * 60);
        timers.insert(saturating_add(now, years), 0, waker());
        assert_eq!(timers.next_deadline(), Some(now + years));
        assert_eq!(saturating_add(now, years), now + years);
    }
}
