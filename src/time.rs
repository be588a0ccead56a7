//! Time: [`sleep`], [`timeout`], [`interval`].
//!
//! A timer belongs to the runtime that polls it. Dropping a timer removes it at once. A timer
//! that never fires costs no system call. Timers fire a few microseconds late, and never
//! early. A duration that is too long for the clock means "never".
//!
//! At most 64 expired timers complete in one poll of a task, and then the other tasks run. So an
//! [`interval`] whose work takes longer than its period does not keep other tasks from running.
//!
//! Tests do not have to wait: see the module `testing` (feature `testing`).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use futures_lite::Stream;
use pin_project_lite::pin_project;

use crate::clock;
use crate::executor::timers::{TimerKey, saturating_add};
use crate::executor::{self, Executor};
use crate::hooks::WaitReason;
use crate::task_cell::{Message, Remote, note};

/// Returns the current time of the clock of the runtime that runs on this thread.
///
/// If that clock is virtual (feature `testing`), its instants cannot be compared with those of
/// `Instant::now()`.
///
/// # Panics
///
/// Panics outside of a runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, time};
///
/// block_on(async {
///     let start = time::now();
///     time::sleep(Duration::from_millis(1)).await;
///     assert!(time::now() - start >= Duration::from_millis(1));
/// });
/// ```
#[track_caller]
pub fn now() -> Instant {
    executor::check_inside("`time::now`");
    clock::now()
}

/// Waits for a duration. If the duration is too long for the clock, it waits forever.
///
/// # Panics
///
/// Panics outside of a runtime. Write `block_on(async { sleep(...).await })`, not
/// `block_on(sleep(...))`.
///
/// # Cancel safety
///
/// Nothing is lost. Dropping the future removes the timer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, time::sleep};
///
/// block_on(async {
///     sleep(Duration::from_millis(1)).await;
/// });
/// ```
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    executor::check_inside("`sleep`");
    Sleep::new(saturating_add(clock::now(), duration))
}

/// Waits until an instant of the runtime's clock. If it has passed, the future is ready at once.
///
/// # Panics
///
/// Panics outside of a runtime.
///
/// # Cancel safety
///
/// Nothing is lost.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, time};
///
/// block_on(async {
///     let start = time::now();
///     time::sleep_until(start + Duration::from_millis(1)).await;
/// });
/// ```
#[track_caller]
pub fn sleep_until(deadline: Instant) -> Sleep {
    executor::check_inside("`sleep_until`");
    Sleep::new(deadline)
}

/// The future of [`sleep`] and [`sleep_until`].
///
/// Any runtime can poll it: the timer moves to the runtime that polls it.
///
/// # Panics
///
/// Panics if it is polled outside of a runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, time::sleep};
///
/// block_on(async {
///     let mut sleep = sleep(Duration::from_secs(3600));
///     // Fires at once after all:
///     sleep.reset(soloist::time::now());
///     sleep.await;
/// });
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` them"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<TimerHandle>,
    /// The first poll compares with the time of the reactor's last poll, which is cheap but may
    /// be a little old. Later polls read the clock.
    polled: bool,
}

/// A timer that is registered with a runtime.
#[derive(Debug)]
struct TimerHandle {
    remote: Remote,
    key: TimerKey,
}

impl TimerHandle {
    fn belongs_to(&self, executor: &Executor) -> bool {
        self.remote.id() == executor.remote().id()
    }

    /// Calls `f` on the thread of the timer's runtime: now, or through its inbox. If that runtime
    /// is gone, so is the timer, and `f` is not called.
    fn with_executor(self, f: fn(&Executor, TimerKey)) {
        match executor::try_current() {
            Some(executor) if self.belongs_to(&executor) => f(&executor, self.key),
            _ => {
                let key = self.key;
                let call = move || {
                    if let Some(executor) = executor::try_current() {
                        f(&executor, key);
                    }
                };
                self.remote.send(Message::Call(Box::new(call)));
            }
        }
    }
}

impl Sleep {
    fn new(deadline: Instant) -> Sleep {
        Sleep {
            deadline,
            timer: None,
            polled: false,
        }
    }

    /// Returns the instant at which it fires. If it waits forever, this is an arbitrary instant in
    /// the far future.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, time};
    ///
    /// block_on(async {
    ///     let now = time::now();
    ///     assert_eq!(time::sleep_until(now).deadline(), now);
    /// });
    /// ```
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Changes the deadline. A `Sleep` that has completed can be used again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, time};
    ///
    /// block_on(async {
    ///     let mut sleep = time::sleep(Duration::ZERO);
    ///     (&mut sleep).await;
    ///     sleep.reset(time::now() + Duration::from_millis(1));
    ///     sleep.await;
    /// });
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        self.polled = false;
        let Some(timer) = self.timer.take() else {
            return;
        };
        match executor::try_current() {
            // The waiting task is woken at the new time, without another poll.
            Some(executor) if timer.belongs_to(&executor) => {
                let key = executor.reset_timer(timer.key, clock::to_runtime(deadline));
                self.timer = key.map(|key| TimerHandle { key, ..timer });
            }
            // The waiting task is woken now, and sees the new deadline when it polls.
            _ => timer.with_executor(Executor::wake_timer),
        }
    }

    fn deregister(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.with_executor(Executor::remove_timer);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let executor = executor::current("polling a `Sleep`");
        let now = if self.polled {
            clock::now()
        } else {
            clock::to_host(executor.now())
        };
        self.polled = true;
        let deadline = self.deadline;
        if deadline <= now {
            ready!(executor::poll_timer_budget(cx));
            self.deregister();
            return Poll::Ready(());
        }
        let task = note(WaitReason::Timer { deadline });
        let is_set = self.timer.as_ref().is_some_and(|timer| {
            timer.belongs_to(&executor) && executor.set_timer_waker(timer.key, task, cx.waker())
        });
        if !is_set {
            // There is no timer yet, it has fired, or another runtime has it.
            self.deregister();
            self.timer = Some(TimerHandle {
                remote: executor.remote(),
                key: executor.add_timer(clock::to_runtime(deadline), task, cx.waker()),
            });
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.deregister();
    }
}

/// Waits for a future, but at most for `duration`.
///
/// The future is polled before the timer: if it is ready when the time is up, its output is
/// returned.
///
/// # Errors
///
/// Returns [`Elapsed`] when the time is up. `?` converts it into an [`io::Error`].
///
/// # Panics
///
/// Panics outside of a runtime.
///
/// # Cancel safety
///
/// The same as that of the future. When the time is up, the future is dropped together with the
/// `Timeout`.
///
/// # Examples
///
/// ```
/// use std::{future::pending, time::Duration};
/// use soloist::{block_on, time::timeout};
///
/// block_on(async {
///     assert_eq!(timeout(Duration::from_secs(1), async { 5 }).await, Ok(5));
///     assert!(timeout(Duration::from_millis(1), pending::<()>()).await.is_err());
/// });
/// ```
#[track_caller]
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    executor::check_inside("`timeout`");
    let sleep = sleep(duration);
    Timeout { future, sleep }
}

/// Waits for a future, but at most until `deadline`.
///
/// # Errors
///
/// Returns [`Elapsed`] when the time is up.
///
/// # Panics
///
/// Panics outside of a runtime.
///
/// # Cancel safety
///
/// The same as that of the future.
///
/// # Examples
///
/// ```
/// use std::{future::pending, time::Duration};
/// use soloist::{block_on, time::{now, timeout_at}};
///
/// block_on(async {
///     let soon = now() + Duration::from_millis(1);
///     assert!(timeout_at(soon, pending::<()>()).await.is_err());
/// });
/// ```
#[track_caller]
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    executor::check_inside("`timeout_at`");
    let sleep = sleep_until(deadline);
    Timeout { future, sleep }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, time::timeout};
    ///
    /// block_on(async {
    ///     assert_eq!(timeout(Duration::from_secs(1), async { "quick" }).await, Ok("quick"));
    /// });
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` them"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed(())))
    }
}

/// The error of [`timeout`] and [`timeout_at`]: the time was up before the future completed.
///
/// # Examples
///
/// ```
/// use std::{future::pending, io, time::Duration};
/// use soloist::{block_on, time::timeout};
///
/// let result: io::Result<()> = block_on(async {
///     timeout(Duration::from_millis(1), pending::<()>()).await?;
///     Ok(())
/// });
/// assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was up before the operation completed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Returns an interval that ticks at once, and then every `period`.
///
/// # Panics
///
/// Panics outside of a runtime, and if `period` is zero. To run again as soon as possible, use
/// [`yield_now`](crate::task::yield_now).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, time::interval};
///
/// block_on(async {
///     let mut interval = interval(Duration::from_millis(1));
///     let first = interval.tick().await;
///     let second = interval.tick().await;
///     assert!(second - first >= Duration::from_millis(1));
/// });
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    executor::check_inside("`interval`");
    interval_at(now(), period)
}

/// Returns an interval that ticks at `start`, and then every `period`.
///
/// # Panics
///
/// Panics outside of a runtime, and if `period` is zero.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, time};
///
/// block_on(async {
///     let start = time::now() + Duration::from_millis(2);
///     let mut interval = time::interval_at(start, Duration::from_millis(1));
///     assert_eq!(interval.tick().await, start);
/// });
/// ```
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "the period of an interval must not be zero: use `task::yield_now` to run again as soon \
         as possible"
    );
    executor::check_inside("`interval_at`");
    Interval {
        sleep: sleep_until(start),
        period,
        missed_tick_behavior: MissedTickBehavior::default(),
    }
}

/// A periodic timer, made by [`interval`] and [`interval_at`]. It is also a [`Stream`] of its
/// ticks.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::stream::StreamExt;
/// use soloist::{block_on, time::interval};
///
/// block_on(async {
///     let ticks = interval(Duration::from_millis(1)).take(3);
///     assert_eq!(ticks.count().await, 3);
/// });
/// ```
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    period: Duration,
    missed_tick_behavior: MissedTickBehavior,
}

/// A tick counts as missed if it is taken later than this, or later than one period if that is
/// shorter.
const TOLERANCE: Duration = Duration::from_millis(5);

impl Interval {
    /// Waits for the next tick, and returns the instant at which it was due.
    ///
    /// # Cancel safety
    ///
    /// No tick is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, time::interval};
    ///
    /// block_on(async {
    ///     let mut interval = interval(Duration::from_millis(1));
    ///     for _ in 0..3 {
    ///         interval.tick().await;
    ///     }
    /// });
    /// ```
    pub async fn tick(&mut self) -> Instant {
        std::future::poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick. If it is pending, the task is woken when the tick is due.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{future::poll_fn, time::Duration};
    /// use soloist::{block_on, time::interval};
    ///
    /// block_on(async {
    ///     let mut interval = interval(Duration::from_millis(1));
    ///     poll_fn(|cx| interval.poll_tick(cx)).await;
    /// });
    /// ```
    pub fn poll_tick(&mut self, cx: &mut TaskContext<'_>) -> Poll<Instant> {
        let due = self.sleep.deadline();
        let now = clock::now();
        if now < due {
            ready!(Pin::new(&mut self.sleep).poll(cx));
        } else {
            // The tick is already due, so the timer is not polled.
            ready!(executor::poll_timer_budget(cx));
        }
        let late = now.saturating_duration_since(due);
        let next = if late > TOLERANCE.min(self.period) {
            match self.missed_tick_behavior {
                MissedTickBehavior::Burst => saturating_add(due, self.period),
                MissedTickBehavior::Delay => saturating_add(now, self.period),
                MissedTickBehavior::Skip => {
                    // The next tick of the original schedule.
                    let over = late.as_nanos() % self.period.as_nanos();
                    let over = Duration::from_nanos(over.try_into().unwrap_or(u64::MAX));
                    saturating_add(now, self.period.saturating_sub(over))
                }
            }
        } else {
            saturating_add(due, self.period)
        };
        // The tick has been taken, so no task waits for the timer.
        self.sleep.deregister();
        self.sleep.reset(next);
        Poll::Ready(due)
    }

    /// Restarts the interval: the next tick is one period from now.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, time::{interval, now}};
    ///
    /// block_on(async {
    ///     let mut interval = interval(Duration::from_millis(2));
    ///     let start = now();
    ///     interval.reset();
    ///     assert!(interval.tick().await >= start + Duration::from_millis(2));
    /// });
    /// ```
    pub fn reset(&mut self) {
        self.reset_at(saturating_add(clock::now(), self.period));
    }

    /// Restarts the interval: the next tick is at `next`, and the others every period after that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, time::{interval, now}};
    ///
    /// block_on(async {
    ///     let mut interval = interval(Duration::from_secs(60));
    ///     let soon = now() + Duration::from_millis(2);
    ///     interval.reset_at(soon);
    ///     assert_eq!(interval.tick().await, soon);
    /// });
    /// ```
    pub fn reset_at(&mut self, next: Instant) {
        self.sleep.reset(next);
    }

    /// Returns the time between two ticks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, time::interval};
    ///
    /// block_on(async {
    ///     let period = Duration::from_secs(1);
    ///     assert_eq!(interval(period).period(), period);
    /// });
    /// ```
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Sets what happens after missed ticks: see [`MissedTickBehavior`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, time::{interval, MissedTickBehavior}};
    ///
    /// block_on(async {
    ///     let mut interval = interval(Duration::from_secs(1));
    ///     interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    /// });
    /// ```
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed_tick_behavior = behavior;
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
}

/// What an [`Interval`] does after ticks that were not taken in time.
///
/// # Examples
///
/// ```
/// use soloist::time::MissedTickBehavior;
///
/// assert_eq!(MissedTickBehavior::default(), MissedTickBehavior::Delay);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MissedTickBehavior {
    /// The missed ticks follow at once, one after the other.
    Burst,
    /// The next tick is one period after the late one, so the schedule shifts.
    #[default]
    Delay,
    /// The missed ticks are skipped, and the schedule stays the same.
    Skip,
}
