//! The settings of simulated runs, and [`Simulated`], the state of one.

use std::any::Any;
use std::cell::OnceCell;
use std::time::{Duration, Instant};

use super::foreign::Foreign;
use super::schedule::{Schedule, SeededOrder};
use super::virtual_clock::{AutoAdvance, Clock, PATIENCE, VirtualClock};
use super::world::WorldHosts;
use crate::executor::{BudgetClock, Executor, Hosts};
use crate::executor::{SimulatedClock, Simulation, SimulationSettings};
use crate::runtime::Builder;
use crate::schedule::Order;

#[derive(Debug, Default)]
struct SimulatedSettings {
    clock: Clock,
    auto_advance: AutoAdvance,
    /// `None` if the order is not recorded.
    schedule: Option<Schedule>,
    /// With a virtual clock: how long to wait in real time when the runtime knows of no event that
    /// could still happen.
    patience: Option<Duration>,
    /// The seed of a simulated world.
    world: Option<u64>,
}

impl SimulationSettings for SimulatedSettings {
    fn build(&self) -> Box<dyn Simulation> {
        let is_virtual = self.clock == Clock::Virtual;
        // A virtual clock is for tests, so the order of their polls is recorded.
        let schedule = self.schedule.or(is_virtual.then_some(Schedule::Fifo));
        let clock = || VirtualClock {
            auto_advance: self.auto_advance,
            patience: self.patience,
            is_closed: self.world.is_some(),
            foreign: Foreign::new(self.patience.unwrap_or(PATIENCE)),
            ..VirtualClock::default()
        };
        Box::new(Simulated {
            clock: is_virtual.then(clock),
            order: schedule.map(|schedule| SeededOrder::new(schedule, self.world)),
            hosts: OnceCell::new(),
        })
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The state of a simulated run.
pub(super) struct Simulated {
    pub(super) clock: Option<VirtualClock>,
    pub(super) order: Option<SeededOrder>,
    /// Those of the simulated world, once there is one.
    pub(super) hosts: OnceCell<WorldHosts>,
}

impl Simulated {
    /// The simulation of a runtime, if it has one.
    pub(super) fn of(executor: &Executor) -> Option<&Simulated> {
        executor.simulation()?.as_any().downcast_ref()
    }

    /// Returns the hash of the order of all polls so far, or `None` if it is not recorded.
    pub(super) fn hash(executor: &Executor) -> Option<u64> {
        Some(Simulated::of(executor)?.order.as_ref()?.hash())
    }

    /// Returns the seed of a runtime, or 0.
    pub(super) fn seed(executor: &Executor) -> u64 {
        let order = Simulated::of(executor).and_then(|simulated| simulated.order.as_ref());
        order.map_or(0, |order| order.seed)
    }
}

/// The hosts of a runtime, if it runs a simulated world.
pub(super) fn hosts_of(executor: &Executor) -> Option<&WorldHosts> {
    Simulated::of(executor)?.hosts.get()
}

impl Simulation for Simulated {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn order(&self) -> Option<&dyn Order> {
        self.order.as_ref().map(|order| order as &dyn Order)
    }

    fn hosts(&self) -> Option<&dyn Hosts> {
        self.hosts.get().map(|hosts| hosts as &dyn Hosts)
    }

    fn clock(&self) -> Option<&dyn SimulatedClock> {
        self.clock
            .as_ref()
            .map(|clock| clock as &dyn SimulatedClock)
    }
}

fn simulated(builder: &mut Builder) -> &mut SimulatedSettings {
    let settings = &mut builder.settings.simulation;
    let settings = settings.get_or_insert_with(|| Box::new(SimulatedSettings::default()));
    let settings = settings.as_any_mut().downcast_mut();
    settings.expect("there is one type of settings")
}

impl Builder {
    /// Sets the clock that the functions of [`time`](crate::time) use. Under [`Clock::Virtual`], a
    /// test of a schedule of 24 hours takes milliseconds. Needs the feature `testing`.
    ///
    /// `Instant::now()`, the durations of polls, and `max_wait` of
    /// [`Runtime::turn`](crate::Runtime::turn) always use the system's clock. Do not compare instants
    /// of the two clocks. `turn(Some(Duration::ZERO))` never advances a virtual clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::runtime::{Clock, Runtime};
    /// use soloist::time::{interval, now};
    ///
    /// let runtime = Runtime::builder().clock(Clock::Virtual).build();
    /// runtime.block_on(async {
    ///     let start = now();
    ///     let mut hours = interval(Duration::from_secs(3600));
    ///     for _ in 0..=24 {
    ///         hours.tick().await;
    ///     }
    ///     // To the nanosecond: timers are never late.
    ///     assert_eq!(now() - start, Duration::from_secs(24 * 3600));
    /// });
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn clock(mut self, clock: Clock) -> Builder {
        simulated(&mut self).clock = clock;
        self
    }

    /// Sets when a virtual clock jumps to the next deadline by itself. The default is
    /// [`AutoAdvance::WhenNoIo`]. It has no effect on the system's clock. Needs the feature
    /// `testing`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{spawn, testing, time::sleep};
    /// use soloist::runtime::{AutoAdvance, Clock, Runtime};
    ///
    /// let builder = Runtime::builder().clock(Clock::Virtual);
    /// let runtime = builder.auto_advance(AutoAdvance::Manual).build();
    /// runtime.block_on(async {
    ///     let task = spawn(sleep(Duration::from_secs(60)));
    ///     testing::advance(Duration::from_secs(59)).await;
    ///     assert!(!task.is_finished());
    ///     testing::advance(Duration::from_secs(1)).await;
    ///     assert!(task.is_finished());
    /// });
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn auto_advance(mut self, when: AutoAdvance) -> Builder {
        simulated(&mut self).auto_advance = when;
        self
    }

    /// Sets the order of tasks that are ready at the same time. The default is first in, first out.
    /// A seeded order finds races that the default order hides, and reproduces them: see
    /// [`testing::explore`](crate::testing::explore). Needs the feature `testing`.
    ///
    /// # Examples
    ///
    /// See [`Schedule`].
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn schedule(mut self, schedule: Schedule) -> Builder {
        simulated(&mut self).schedule = Some(schedule);
        self
    }

    /// Sets the clock that measures how long tasks have run since the reactor was last polled, for
    /// tests that count polls. The default is the system's clock, even under [`Clock::Virtual`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    /// use std::time::{Duration, Instant};
    /// use soloist::{Runtime, task::yield_now, time::sleep};
    ///
    /// let (start, polls) = (Instant::now(), Arc::new(AtomicU32::new(0)));
    /// let count = polls.clone();
    /// // Each poll takes three milliseconds.
    /// let clock = move || start + count.load(Relaxed) * Duration::from_millis(3);
    /// let runtime = Runtime::builder().budget_clock(clock).build();
    /// let count = polls.clone();
    /// let busy = runtime.spawn(async move {
    ///     loop {
    ///         count.fetch_add(1, Relaxed);
    ///         yield_now().await;
    ///     }
    /// });
    /// // An expired timer is noticed at the end of a generation, not after 128 polls.
    /// runtime.block_on(async { sleep(Duration::from_nanos(1)).await });
    /// assert!(polls.load(Relaxed) <= 3);
    /// # drop(busy);
    /// ```
    pub fn budget_clock(mut self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Builder {
        self.settings.budget_clock = Some(BudgetClock(Box::new(clock)));
        self
    }

    /// For [`simulate`](super::simulate()): the seed of the world.
    pub(super) fn world(mut self, seed: u64) -> Builder {
        simulated(&mut self).world = Some(seed);
        self
    }

    /// Sets how long a runtime with a virtual clock waits in real time before it panics because it
    /// is stuck.
    pub(super) fn patience(mut self, patience: Duration) -> Builder {
        simulated(&mut self).patience = Some(patience);
        self
    }
}
