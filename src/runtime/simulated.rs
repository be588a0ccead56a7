//! What a turn does under a virtual clock when nothing is ready; and the settings for runs
//! that are to be repeated.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::{AutoAdvance, Builder, Clock, Runtime, Schedule};
use crate::clock::{BudgetClock, VirtualClock};
use crate::panics::Panics;
use crate::reactor::Reactor;
use crate::watch::Short;

/// Where a virtual clock goes next.
enum Jump {
    ToTimer(Instant),
    /// As far as `advance` was asked to go, if no timer is due before.
    AsAsked(Instant),
}

impl Runtime {
    /// Nothing is ready: moves the clock, or waits in real time.
    pub(super) fn visit_virtual(&self, wait: Option<Duration>) -> io::Result<()> {
        let executor = &self.executor;
        let Some(clock) = &executor.virtual_clock else {
            return Ok(());
        };
        // Asked before the inbox is read: a handle that is gone by now has left a message there.
        let outside = self.is_anything_outside();
        executor.wait(Some(Duration::ZERO))?;
        executor.read_inbox();
        // A `Sleep` may have been set to a time that has passed.
        executor.expire_timers();
        executor.deliver_events();
        if !executor.is_anything_ready() {
            let held = self.held_by_others(clock, outside, wait);
            match self.jump(clock, outside || held.is_some(), wait) {
                Some(Jump::ToTimer(deadline)) => {
                    executor.advance_to(deadline);
                    executor.expire_timers();
                }
                Some(Jump::AsAsked(until)) => {
                    executor.advance_to(until);
                    wake(clock.take_reached(executor.now()));
                }
                None => self.wait_in_real_time(clock, outside, held, wait)?,
            }
        }
        self.budget.visited(Instant::now());
        Ok(())
    }

    /// The hash of the order of all polls so far, 0 if it is not kept.
    pub(crate) fn schedule_hash(&self) -> u64 {
        let order = self.executor.order.as_ref();
        order.map_or(0, |order| order.hash())
    }

    fn is_anything_outside(&self) -> bool {
        let clock = self.executor.virtual_clock.as_ref();
        let is_closed = clock.is_some_and(|clock| clock.is_closed);
        self.executor.has_external() && !is_closed
            || Reactor::get().is_some_and(|reactor| reactor.is_awaited())
    }

    /// For how long the clock, which would jump, is held by a task that waits for
    /// something that is not of this crate.
    fn held_by_others(
        &self,
        clock: &VirtualClock,
        outside: bool,
        wait: Option<Duration>,
    ) -> Option<Duration> {
        let executor = &self.executor;
        let would_jump = clock.auto_advance == AutoAdvance::WhenNoIo
            && !outside
            && wait != Some(Duration::ZERO)
            && clock.wanted().is_none()
            && executor.next_deadline().is_some();
        let foreign = executor.foreign.as_ref().filter(|_| would_jump)?;
        foreign.holds()
    }

    fn jump(&self, clock: &VirtualClock, outside: bool, wait: Option<Duration>) -> Option<Jump> {
        let next = self.executor.next_deadline();
        if let Some(until) = clock.wanted() {
            let next = next.filter(|next| *next <= until);
            return Some(next.map_or(Jump::AsAsked(until), Jump::ToTimer));
        }
        let may = match clock.auto_advance {
            AutoAdvance::WhenIdle => true,
            AutoAdvance::WhenNoIo => !outside,
            AutoAdvance::Manual => false,
        };
        // A turn that does not wait lets no time pass.
        let may = may && wait != Some(Duration::ZERO);
        next.filter(|_| may).map(Jump::ToTimer)
    }

    /// The clock runs along, and not past the next deadline: so timers are never late.
    fn wait_in_real_time(
        &self,
        clock: &VirtualClock,
        outside: bool,
        held: Option<Duration>,
        wait: Option<Duration>,
    ) -> io::Result<()> {
        if wait == Some(Duration::ZERO) {
            return Ok(());
        }
        let executor = &self.executor;
        let runs = clock.auto_advance != AutoAdvance::Manual;
        let deadline = executor.next_deadline().filter(|_| runs);
        let from = executor.now();
        let timer = deadline.map(|deadline| deadline.saturating_duration_since(from));
        let patience = clock.patience.filter(|_| !outside && timer.is_none());
        let limits = [wait, timer, patience, held];
        let limit = limits.into_iter().flatten().min();
        let stopped = executor.is_stopped();
        let start = Instant::now();
        loop {
            let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
            executor.wait(left)?;
            executor.read_inbox();
            executor.deliver_events();
            if executor.is_anything_ready() || executor.is_stopped() != stopped {
                break;
            }
            // Out of patience, and of nothing else.
            let Some(patience) = patience.filter(|_| wait.is_none()) else {
                break;
            };
            // The messages may have made something that acts from outside.
            if self.is_anything_outside() {
                break;
            }
            assert!(
                start.elapsed() < patience,
                "nothing can happen any more: no task is ready, no timer is set, nobody waits \
                 for a socket, no job runs, no `Handle` is alive, and no other thread has woken \
                 a task for {} (a thread that will, must hold a `Handle` until it has)",
                Short(patience)
            );
        }
        if let Some(foreign) = executor.foreign.as_ref().filter(|_| held.is_some()) {
            foreign.waited(start.elapsed());
        }
        if runs {
            let now = from + start.elapsed();
            executor.advance_to(deadline.map_or(now, |deadline| now.min(deadline)));
            executor.expire_timers();
        }
        Ok(())
    }
}

/// Wakes them all.
fn wake(wakers: Vec<Waker>) {
    let mut panics = Panics::default();
    for waker in wakers {
        panics.catch(|| waker.wake());
    }
    panics.resume();
}

impl Builder {
    /// Which clock [`time`](crate::time) runs on. Under [`Clock::Virtual`] a test of a
    /// schedule of 24 hours takes milliseconds. Needs the feature `testing`.
    ///
    /// Whatever else measures time, such as `Instant::now()`, the time that tasks take to
    /// run, and `max_wait` of [`Runtime::turn`], stays with the system's clock. Instants of
    /// the two are not to be mixed. `turn(Some(Duration::ZERO))` never moves the clock.
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
        self.settings.simulation.clock = clock;
        self
    }

    /// When a virtual clock jumps to the next deadline by itself; by default
    /// [`AutoAdvance::WhenNoIo`]. It means nothing to the system's clock. Needs the feature
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
        self.settings.simulation.auto_advance = when;
        self
    }

    /// In which order tasks run that are ready at the same time; by default first come,
    /// first served. A seed finds the races that this order hides, and shows them again:
    /// see [`testing::explore`](crate::testing::explore). Needs the feature `testing`.
    ///
    /// # Examples
    ///
    /// See [`Schedule`].
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn schedule(mut self, schedule: Schedule) -> Builder {
        self.settings.simulation.schedule = Some(schedule);
        self
    }

    /// The clock that tells how long tasks have run since the last visit to the reactor, for
    /// tests that count polls. By default it is the system's, also under [`Clock::Virtual`].
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
    /// // A timer that is due is seen at the end of a generation, not after 128 polls.
    /// runtime.block_on(async { sleep(Duration::from_nanos(1)).await });
    /// assert!(polls.load(Relaxed) <= 3);
    /// # drop(busy);
    /// ```
    pub fn budget_clock(mut self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Builder {
        self.settings.simulation.budget_clock = Some(BudgetClock(Arc::new(clock)));
        self
    }

    /// For [`testing::simulate`](crate::testing::simulate): the seed of the world.
    pub(crate) fn world(mut self, seed: u64) -> Builder {
        self.settings.simulation.world = Some(seed);
        self
    }

    /// For tests: panics when nothing can happen any more, after so long in real time.
    pub(crate) fn patience(mut self, patience: Duration) -> Builder {
        self.settings.simulation.patience = Some(patience);
        self
    }
}
