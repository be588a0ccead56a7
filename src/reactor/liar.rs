//! A wait that injects faults, by seed: for the tests, under `cfg(soloist_liar)`.
//!
//! It wraps the real wait, and does what a kernel may do, or a broken one might. Waits end without
//! a reason, or fail. Events are spurious, or arrive twice, late, in another order, or for a source
//! that has been closed. Notifications and registrations fail. No event is lost: one that is held
//! back arrives later.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::event::{INDEX_BITS, SourceEvent};
use super::real;
use super::registration::PollerHandle;
use crate::schedule::Order;

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
    static WAITS_MAY_FAIL: Cell<bool> = const { Cell::new(false) };
    static REGISTRATIONS: RefCell<LieRandom> = const { RefCell::new(LieRandom(0)) };
}

/// A wait is never longer while something is held back.
const SHORT: Duration = Duration::from_millis(1);

/// How many keys are remembered, for events of sources that have been closed.
const PAST: usize = 16;

/// The kinds of faults.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "hidden")]
pub enum Lie {
    Interrupted,
    WaitFails,
    LateFailure,
    Delayed,
    Twice,
    Spurious,
    Stale,
    Reordered,
    NotifyFails,
    RegistrationFails,
}

const KINDS: usize = Lie::RegistrationFails as usize + 1;

static TOLD: [AtomicUsize; KINDS] = [const { AtomicUsize::new(0) }; KINDS];

fn told(lie: Lie) {
    TOLD[lie as usize].fetch_add(1, Ordering::Relaxed);
}

/// How many faults of each kind there have been.
pub fn lies() -> [usize; KINDS] {
    TOLD.each_ref().map(|count| count.load(Ordering::Relaxed))
}

/// The reactor that this thread makes next injects faults, unless the seed is 0. Its waits fail
/// only if `waits_may_fail`: then a `block_on` panics, and a `turn` returns the error.
pub fn lie(seed: u64, waits_may_fail: bool) {
    SEED.set(seed);
    WAITS_MAY_FAIL.set(waits_may_fail);
}

/// splitmix64.
#[derive(Debug)]
struct LieRandom(u64);

impl LieRandom {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True once in `often` calls, and never with the state 0.
    fn one_in(&mut self, often: usize) -> bool {
        self.0 != 0 && self.below(often) == 0
    }
}

fn scramble(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn failure(what: &str) -> io::Error {
    io::Error::other(format!("a lie: {what}"))
}

/// Called before a direction is armed.
pub(super) fn may_register() -> io::Result<()> {
    if REGISTRATIONS.with_borrow_mut(|random| random.one_in(24)) {
        told(Lie::RegistrationFails);
        return Err(failure("the registration has failed"));
    }
    Ok(())
}

/// The notifications of a reactor, some of which fail.
#[derive(Debug)]
pub(super) struct Notifications {
    /// 0 for no faults.
    seed: u64,
    calls: AtomicU64,
}

impl Notifications {
    pub(super) fn new() -> Notifications {
        Notifications {
            seed: SEED.get(),
            calls: AtomicU64::new(0),
        }
    }

    pub(super) fn may_notify(&self) -> io::Result<()> {
        if self.seed != 0 {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            if scramble(self.seed.wrapping_add(call)) % 8 == 0 {
                told(Lie::NotifyFails);
                return Err(failure("the notification has failed"));
            }
        }
        Ok(())
    }
}

pub(super) struct Wait {
    real: real::Wait,
    random: LieRandom,
    may_fail: bool,
    /// The mean number of chances per fault of a kind.
    rarely: usize,
    events: Vec<SourceEvent>,
    /// Events, and for how many waits each is held back.
    held: Vec<(usize, SourceEvent)>,
    past: Vec<usize>,
}

impl Wait {
    pub(super) fn new(poller: &Arc<PollerHandle>) -> io::Result<Wait> {
        let real = real::Wait::new(poller)?;
        let seed = SEED.get();
        let random = |part: u64| LieRandom(if seed == 0 { 0 } else { scramble(seed + part) });
        REGISTRATIONS.set(random(1 << 60));
        Ok(Wait {
            real,
            random: random(2 << 60),
            may_fail: WAITS_MAY_FAIL.get(),
            rarely: [3, 8, 24][(seed % 3) as usize],
            events: Vec::new(),
            held: Vec::new(),
            past: Vec::new(),
        })
    }

    pub(super) fn wait(
        &mut self,
        poller: &Arc<PollerHandle>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.events.clear();
        if self.may_fail && self.random.one_in(2 * self.rarely) {
            told(Lie::WaitFails);
            return Err(failure("the wait has failed"));
        }
        if self.random.one_in(self.rarely) {
            // As with EINTR: the wait ends without an event.
            told(Lie::Interrupted);
            return Ok(());
        }
        let timeout = match timeout {
            _ if self.held.is_empty() => timeout,
            Some(timeout) => Some(timeout.min(SHORT)),
            None => Some(SHORT),
        };
        self.real.wait(poller, timeout)?;
        self.report();
        if self.may_fail && self.random.one_in(4 * self.rarely) {
            told(Lie::LateFailure);
            self.held
                .extend(self.events.drain(..).map(|event| (1, event)));
            return Err(failure("the wait has failed after all"));
        }
        Ok(())
    }

    /// Makes the reported events from the real ones.
    fn report(&mut self) {
        let (random, rarely) = (&mut self.random, self.rarely);
        if random.0 == 0 {
            // Seed 0 injects no faults, and the next number would not be 0.
            self.events.extend(self.real.events());
            return;
        }
        // The events that were held back before this wait.
        let mut held = std::mem::take(&mut self.held);
        for event in self.real.events() {
            if !self.past.contains(&event.key) {
                self.past.push(event.key);
            }
            if let Some((_, late)) = held.iter_mut().find(|(_, late)| late.key == event.key) {
                // It is reported together with the one that is held back.
                late.readable |= event.readable;
                late.writable |= event.writable;
                late.ended |= event.ended;
                continue;
            }
            if random.one_in(rarely) {
                told(Lie::Delayed);
                self.held.push((1 + random.below(4), event));
                continue;
            }
            self.events.push(event);
            if random.one_in(rarely) {
                told(Lie::Twice);
                self.events.push(event);
            }
        }
        if self.past.len() > PAST {
            let which = random.below(self.past.len());
            self.past.swap_remove(which);
        }
        held.retain_mut(|(waits, event)| {
            *waits -= 1;
            if *waits == 0 {
                self.events.push(*event);
            }
            *waits > 0
        });
        self.held.append(&mut held);
        if !self.past.is_empty() && random.one_in(rarely) {
            // For a source that exists, or did.
            told(Lie::Spurious);
            let key = self.past[random.below(self.past.len())];
            self.events.push(made_up(key, random));
        }
        if !self.past.is_empty() && random.one_in(rarely) {
            // For another generation of the same slot.
            told(Lie::Stale);
            let key = self.past[random.below(self.past.len())];
            let key = key ^ ((1 + random.below(3)) << INDEX_BITS);
            self.events.push(made_up(key, random));
        }
        if self.events.len() > 1 && random.one_in(rarely) {
            told(Lie::Reordered);
            for n in (1..self.events.len()).rev() {
                self.events.swap(n, random.below(n + 1));
            }
        }
    }

    #[cfg(unix)]
    pub(super) fn arm_timer(&self, after: Option<Duration>) -> io::Result<()> {
        self.real.arm_timer(after)
    }

    #[cfg(unix)]
    pub(super) fn consumed_wakeup(&mut self) -> bool {
        self.real.consumed_wakeup()
    }

    /// Changes the order of the events of the last wait.
    pub(super) fn shuffle(&mut self, order: &dyn Order) {
        order.shuffle(&mut self.events);
    }

    pub(super) fn events(&self) -> impl Iterator<Item = SourceEvent> + '_ {
        self.events.iter().copied()
    }
}

fn made_up(key: usize, random: &mut LieRandom) -> SourceEvent {
    SourceEvent {
        key,
        readable: random.below(2) == 0,
        writable: random.below(2) == 0,
        ended: false,
    }
}
