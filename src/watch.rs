//! What a runtime measures only if it is asked to: how long polls take, and how long it is
//! busy. And how such times are written.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::{Duration, Instant};

/// The clock of the system: also where time is virtual, polls take real time.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Whether times are kept.
    pub(crate) keeps: bool,
    /// From this on a poll, or a turn, is slow.
    pub(crate) slow: Option<Duration>,
    /// By the place in the registry. Those of tasks that are over stay
    /// until the place is used again.
    times: RefCell<Vec<Times>>,
    main: Cell<Times>,
    /// Since when the runtime runs, if it does.
    entered: Cell<Option<Instant>>,
    /// How often it is entered: again from inside of another one, for a destructor.
    depth: Cell<u32>,
    /// How long it has run before that.
    inside: Cell<Duration>,
    idle: Cell<Duration>,
    /// Whether a poll of this turn was slow.
    pub(crate) has_warned: Cell<bool>,
    turn_began: Cell<Option<Instant>>,
}

/// Of one task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    number: u64,
    pub(crate) born: Instant,
    pub(crate) total: Duration,
    pub(crate) longest: Duration,
}

impl Times {
    fn new(number: u64) -> Times {
        Times {
            number,
            born: Instant::now(),
            total: Duration::ZERO,
            longest: Duration::ZERO,
        }
    }
}

impl Watch {
    pub(crate) fn new(keeps: bool, slow: Option<Duration>) -> Option<Box<Watch>> {
        (keeps || slow.is_some()).then(|| {
            Box::new(Watch {
                keeps,
                slow,
                times: RefCell::new(Vec::new()),
                main: Cell::new(Times::new(0)),
                entered: Cell::new(None),
                depth: Cell::new(0),
                inside: Cell::new(Duration::ZERO),
                idle: Cell::new(Duration::ZERO),
                has_warned: Cell::new(false),
                turn_began: Cell::new(None),
            })
        })
    }

    #[cold]
    pub(crate) fn begin_turn(&self) {
        self.has_warned.set(false);
        self.turn_began.set(self.slow.map(|_| Instant::now()));
    }

    /// Warns if all polls of a turn together are slow and none is by itself.
    #[cold]
    pub(crate) fn end_turn(&self, polls: usize) {
        let (Some(slow), Some(start)) = (self.slow, self.turn_began.take()) else {
            return;
        };
        let took = start.elapsed();
        if took >= slow && !self.has_warned.get() {
            let took = Short(took);
            warn(format_args!(
                "slow turn: {polls} polls have taken {took}, and each task has waited for as \
                 long"
            ));
        }
    }

    /// A task was spawned into this place of the registry; main has none.
    pub(crate) fn born(&self, slot: Option<usize>, number: u64) {
        let new = Times::new(number);
        let Some(slot) = slot else {
            self.main.set(new);
            return;
        };
        let mut times = self.times.borrow_mut();
        if slot >= times.len() {
            // Those in between belong to tasks that were there before.
            times.resize(slot + 1, Times { number: 0, ..new });
        }
        times[slot] = new;
    }

    pub(crate) fn polled(&self, slot: Option<usize>, number: u64, took: Duration) {
        let add = |times: &mut Times| {
            if times.number == number || slot.is_none() {
                times.total += took;
                times.longest = times.longest.max(took);
            }
        };
        match slot {
            Some(slot) => {
                self.times.borrow_mut().get_mut(slot).map(add);
            }
            None => {
                let mut main = self.main.get();
                add(&mut main);
                self.main.set(main);
            }
        }
    }

    pub(crate) fn times(&self, slot: Option<usize>, number: u64) -> Option<Times> {
        let times = match slot {
            Some(slot) => self.times.borrow().get(slot).copied()?,
            None => self.main.get(),
        };
        (self.keeps && (times.number == number || slot.is_none())).then_some(times)
    }

    /// The runtime is entered, or left.
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

    /// How long the runtime has been busy, and idle.
    pub(crate) fn busy_and_idle(&self) -> Option<(Duration, Duration)> {
        let idle = self.idle.get();
        self.keeps
            .then(|| (self.inside().saturating_sub(idle), idle))
    }
}

/// A duration, in three digits or so.
pub(crate) struct Short(pub(crate) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        // By hand: what std has for floating point would be larger than all else in here,
        // and every program would carry it.
        let tenths = |unit: u64| {
            let tenths = (micros + unit / 20) / (unit / 10);
            (tenths / 10, tenths % 10)
        };
        let text = match micros {
            0..1_000 => format!("{micros} us"),
            1_000..1_000_000 => {
                let (whole, tenth) = tenths(1_000);
                format!("{whole}.{tenth} ms")
            }
            1_000_000..600_000_000 => {
                let (whole, tenth) = tenths(1_000_000);
                format!("{whole}.{tenth} s")
            }
            _ => format!("{} min", micros / 60_000_000),
        };
        f.pad(&text)
    }
}

/// Where warnings go: to the logger with the feature `log`, else to standard error.
pub(crate) fn warn(what: fmt::Arguments<'_>) {
    #[cfg(feature = "log")]
    log::warn!(target: "soloist", "{what}");
    #[cfg(not(feature = "log"))]
    crate::stderr::write(format_args!("soloist: {what}\n"));
}
