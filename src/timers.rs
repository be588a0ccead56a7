//! The deadline heap: who is to be woken when.
//!
//! A 4-ary heap over a slab, ordered by (deadline, sequence), in which every entry
//! knows its place: a timer that is dropped leaves at once, so there is nothing to
//! prune. Equal deadlines fire in the order in which they were set.

use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

/// What is further off than this never fires, and is not kept.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Children per node: four fit two cache lines, and the heap is half as deep.
const ARITY: usize = 4;

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

/// The timers of one runtime.
#[derive(Debug)]
pub(crate) struct Timers {
    /// Deadlines are nanoseconds after this.
    base: Instant,
    entries: Slab<Entry>,
    heap: Vec<Node>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    /// Its index in `heap`, or `FIRED`: the entry stays until its owner removes
    /// it, or the owner's next word would hit the next owner of the slot.
    place: u32,
    /// Which task waits, for people to read.
    who: u32,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    when: u64,
    sequence: u64,
    key: u32,
}

impl Node {
    fn is_before(&self, other: &Node) -> bool {
        (self.when, self.sequence) < (other.when, other.sequence)
    }
}

impl Timers {
    pub(crate) fn new(base: Instant) -> Timers {
        Timers {
            base,
            entries: Slab::new(),
            heap: Vec::new(),
            sequence: 0,
        }
    }

    /// Has `waker` woken at `deadline`. One that is too far off is no deadline.
    pub(crate) fn insert(&mut self, deadline: Instant, who: u32, waker: Waker) -> TimerKey {
        let after = deadline.saturating_duration_since(self.base);
        let place = self.heap.len();
        let key = self.entries.insert(Entry {
            place: if after < NEVER { place as u32 } else { UNSET },
            who,
            waker: Some(waker),
        });
        assert!(key < UNSET as usize, "more than 4,294,967,293 timers");
        if after >= NEVER {
            return TimerKey(key as u32);
        }
        self.sequence += 1;
        self.heap.push(Node {
            when: nanos(after),
            sequence: self.sequence,
            key: key as u32,
        });
        self.sift_up(place);
        TimerKey(key as u32)
    }

    /// Takes the entry out. The waker is for the caller to drop, outside of any borrow.
    #[must_use]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        let entry = self.entries.try_remove(key.0 as usize)?;
        if entry.place < UNSET {
            self.remove_node(entry.place as usize);
        }
        entry.waker
    }

    /// Whether the timer has fired, or is no more.
    pub(crate) fn has_fired(&self, key: TimerKey) -> bool {
        self.entries
            .get(key.0 as usize)
            .is_none_or(|entry| entry.place == FIRED)
    }

    /// Whether `waker` would wake the same task as the one that is set.
    pub(crate) fn will_wake(&self, key: TimerKey, waker: &Waker) -> bool {
        let entry = self.entries.get(key.0 as usize);
        entry.is_some_and(|entry| entry.waker.as_ref().is_some_and(|w| w.will_wake(waker)))
    }

    /// Sets another waker. Returns what the caller is to drop.
    #[must_use]
    pub(crate) fn set_waker(&mut self, key: TimerKey, who: u32, waker: Waker) -> Option<Waker> {
        match self.entries.get_mut(key.0 as usize) {
            Some(entry) => {
                entry.who = who;
                entry.waker.replace(waker)
            }
            None => Some(waker),
        }
    }

    /// Shows who waits, and until when; `None` for what is too far off.
    pub(crate) fn each_wait(&self, f: &mut dyn FnMut(u32, Option<Instant>)) {
        for (_, entry) in &self.entries {
            match entry.place {
                FIRED => {}
                UNSET => f(entry.who, None),
                place => {
                    let when = Duration::from_nanos(self.heap[place as usize].when);
                    f(entry.who, Some(self.base + when));
                }
            }
        }
    }

    /// Which task waits for it.
    pub(crate) fn who(&self, key: TimerKey) -> u32 {
        self.entries
            .get(key.0 as usize)
            .map_or(0, |entry| entry.who)
    }

    /// How many have still to fire.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// When the first timer fires.
    pub(crate) fn next(&self) -> Option<Instant> {
        let first = self.heap.first()?;
        Some(self.base + Duration::from_nanos(first.when))
    }

    /// Moves the wakers of all that is due to `woken`, in order. They are for the
    /// caller to wake: a timer that is set meanwhile is not of this batch.
    pub(crate) fn expire(&mut self, now: Instant, woken: &mut Vec<Waker>) {
        let now = nanos(now.saturating_duration_since(self.base));
        while let Some(first) = self.heap.first() {
            if first.when > now {
                break;
            }
            let entry = &mut self.entries[first.key as usize];
            entry.place = FIRED;
            woken.extend(entry.waker.take());
            self.remove_node(0);
        }
    }

    /// Takes all wakers out: the runtime goes, nothing fires any more.
    #[must_use]
    pub(crate) fn disarm(&mut self) -> Vec<Waker> {
        self.heap.clear();
        let entries = self.entries.iter_mut();
        entries
            .filter_map(|(_, entry)| {
                entry.place = FIRED;
                entry.waker.take()
            })
            .collect()
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

    fn put(&mut self, place: usize, node: Node) {
        self.heap[place] = node;
        self.entries[node.key as usize].place = place as u32;
    }

    fn sift_up(&mut self, mut place: usize) {
        let node = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !node.is_before(&self.heap[parent]) {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, node);
    }

    fn sift_down(&mut self, mut place: usize) {
        let node = self.heap[place];
        loop {
            let first = place * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            let Some(child) = (first..last).reduce(|a, b| {
                if self.heap[b].is_before(&self.heap[a]) {
                    b
                } else {
                    a
                }
            }) else {
                break;
            };
            if !self.heap[child].is_before(&node) {
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
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    /// A waker that is told apart by its address.
    struct Mark;

    impl Wake for Mark {
        fn wake(self: Arc<Self>) {}
    }

    fn waker() -> Waker {
        Waker::from(Arc::new(Mark))
    }

    #[test]
    fn random_operations_match_an_ordered_map() {
        // A linear congruential generator: the same operations on every run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let base = Instant::now();
        let mut timers = Timers::new(base);
        // (when, order of setting) -> key and waker: what is to fire, in order.
        let mut model: BTreeMap<(u64, u64), (TimerKey, Waker)> = BTreeMap::new();
        let mut fired: Vec<TimerKey> = Vec::new();
        let (mut now, mut order) = (0, 0);
        for _ in 0..200_000 {
            match random(8) {
                0..4 => {
                    let when = now + random(50);
                    let waker = waker();
                    let deadline = base + Duration::from_nanos(when);
                    let key = timers.insert(deadline, 0, waker.clone());
                    order += 1;
                    model.insert((when, order), (key, waker));
                }
                4 | 5 if !model.is_empty() => {
                    let nth = random(model.len() as u64) as usize;
                    let at = *model.keys().nth(nth).unwrap();
                    let (key, waker) = model.remove(&at).unwrap();
                    assert!(!timers.has_fired(key));
                    assert!(timers.remove(key).unwrap().will_wake(&waker));
                }
                6 if !fired.is_empty() => {
                    let key = fired.swap_remove(random(fired.len() as u64) as usize);
                    assert!(timers.has_fired(key));
                    assert!(timers.remove(key).is_none());
                }
                _ => {
                    now += random(20);
                    let mut woken = Vec::new();
                    timers.expire(base + Duration::from_nanos(now), &mut woken);
                    let rest = model.split_off(&(now + 1, 0));
                    assert_eq!(woken.len(), model.len());
                    for (got, (key, expected)) in woken.iter().zip(model.values()) {
                        assert!(got.will_wake(expected));
                        fired.push(*key);
                    }
                    model = rest;
                }
            }
            let first = model.keys().next().map(|(when, _)| *when);
            assert_eq!(
                timers.next(),
                first.map(|when| base + Duration::from_nanos(when))
            );
            if model.len() > 300 {
                now += 10;
            }
        }
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
            assert_eq!(timers.next(), None);
        }
        let years = Duration::from_secs(68 * 365 * 24 * 60 * 60);
        timers.insert(saturating_add(now, years), 0, waker());
        assert_eq!(timers.next(), Some(now + years));
        assert_eq!(saturating_add(now, years), now + years);
    }
}
