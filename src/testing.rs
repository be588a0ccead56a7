//! Tests that take no time, and that can be repeated. Needs the feature `testing`:
//!
//! ```toml
//! [dev-dependencies]
//! soloist = { version = "0.1", features = ["testing"] }
//! ```
//!
//! * [`block_on`] runs a test under a virtual clock, which [`advance`] moves by hand.
//! * [`explore`] runs it under many schedules, and stops at the seed that fails.
//! * [`net`] is a network in memory, with latency, partitions and resets.
//!
//! The guide has a page on how they work together: [testing](crate::guide::testing).

mod explore;
pub mod net;

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

pub use self::explore::{Explored, Outcome, explore};
use crate::clock::{self, PATIENCE, VirtualClock};
use crate::executor::timers::saturating_add;
use crate::executor::{self, Executor};
use crate::runtime::{Builder, Clock, Runtime};

/// Runs a future, and all that it spawns, under a virtual clock: what
/// [`soloist::block_on`](crate::block_on) is to a program, this is to a test.
///
/// Sleeps, timeouts and intervals take no time, as long as nothing outside can still happen
/// ([`AutoAdvance::WhenNoIo`](crate::runtime::AutoAdvance::WhenNoIo)). A detached task that
/// panics fails the test.
///
/// # Panics
///
/// When nothing can happen any more: nothing is ready, no timer is set, nobody waits for a
/// socket, no job runs, no [`Handle`](crate::Handle) is alive, and no other thread has woken
/// a task for three seconds. So a deadlock is a failure, and no test that hangs. Inside of a
/// running runtime.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use soloist::{testing, time};
///
/// /// Tries again, and waits twice as long each time, for up to an hour.
/// async fn retry(mut attempt: impl AsyncFnMut() -> bool) -> u32 {
///     let mut pause = Duration::from_secs(1);
///     let mut attempts = 1;
///     while !attempt().await {
///         time::sleep(pause).await;
///         pause = (pause * 2).min(Duration::from_secs(3600));
///         attempts += 1;
///     }
///     attempts
/// }
///
/// let real = Instant::now();
/// testing::block_on(async {
///     let start = time::now();
///     let day = Duration::from_secs(24 * 3600);
///     let attempts = retry(async || time::now() - start >= day).await;
///     assert_eq!(attempts, 36);
/// });
/// assert!(real.elapsed() < Duration::from_secs(60));
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    builder().build().block_on(future)
}

fn builder() -> Builder {
    let builder = Runtime::builder().clock(Clock::Virtual);
    builder.propagate_panics(true).patience(PATIENCE)
}

/// Moves the virtual clock on, and lets everything that becomes due on the way have its
/// turn.
///
/// The clock goes from deadline to deadline, and never while a task is ready: so an interval
/// of a second ticks sixty times in a minute, each time at its own instant. It does so
/// whatever [`AutoAdvance`](crate::runtime::AutoAdvance) says, also while something is under
/// way outside. When this is done, nothing is ready that was due by then.
///
/// # Panics
///
/// If the clock is not virtual, and outside of a runtime.
///
/// # Cancel safety
///
/// The time that has passed has passed; dropped, it goes no further.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{spawn, testing, time};
///
/// testing::block_on(async {
///     let start = time::now();
///     let task = spawn(time::sleep(Duration::from_secs(60)));
///     testing::advance(Duration::from_secs(59)).await;
///     assert!(!task.is_finished());
///     testing::advance(Duration::from_secs(1)).await;
///     assert!(task.is_finished());
///     assert_eq!(time::now() - start, Duration::from_secs(60));
/// });
/// ```
#[track_caller]
pub fn advance(duration: Duration) -> impl Future<Output = ()> {
    struct Request {
        executor: Rc<Executor>,
        id: u64,
    }
    impl Request {
        fn clock(&self) -> &VirtualClock {
            virtual_clock(&self.executor)
        }
    }
    impl Drop for Request {
        fn drop(&mut self) {
            self.clock().leave(self.id);
        }
    }
    let executor = executor::current("`testing::advance`");
    let until = saturating_add(clock::now(), duration);
    let id = virtual_clock(&executor).want(until);
    let request = Request { executor, id };
    poll_fn(move |cx| {
        if request.clock().wait(request.id, cx.waker()) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
}

#[track_caller]
fn virtual_clock(executor: &Executor) -> &VirtualClock {
    executor.virtual_clock.as_ref().expect(
        "the clock of this runtime cannot be moved: build it with `clock(Clock::Virtual)`, or \
         use `testing::block_on`",
    )
}

/// A number that stands for the order of all polls so far on this runtime: two runs with the
/// same number have taken the same path.
///
/// It is kept where the clock is virtual or [a schedule has been
/// chosen](crate::runtime::Builder::schedule).
///
/// # Panics
///
/// If it is not kept, and outside of a runtime.
///
/// # Examples
///
/// ```
/// use soloist::{spawn, testing, task::yield_now};
///
/// let run = |tasks| testing::block_on(async move {
///     let tasks: Vec<_> = (0..tasks).map(|_| spawn(yield_now())).collect();
///     for task in tasks {
///         task.await;
///     }
///     testing::schedule_hash()
/// });
/// assert_eq!(run(3), run(3));
/// assert_ne!(run(3), run(4));
/// ```
#[track_caller]
pub fn schedule_hash() -> u64 {
    order_of(&executor::current("`testing::schedule_hash`"))
}

#[track_caller]
fn order_of(executor: &Executor) -> u64 {
    let order = executor.order.as_ref().expect(
        "this runtime does not write down the order of its polls: build it with \
         `clock(Clock::Virtual)` or `schedule(...)`, or use `testing::block_on`",
    );
    order.hash()
}

/// The seed of this runtime's schedule, to derive others from: of what a test sends, of what
/// fails when. 0 where tasks run first come, first served.
///
/// # Panics
///
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, testing};
///
/// testing::explore(1..4, async || {
///     let length = testing::seed() % 100;
///     assert!(length < 100);
/// });
/// assert_eq!(block_on(async { testing::seed() }), 0);
/// ```
#[track_caller]
pub fn seed() -> u64 {
    let executor = executor::current("`testing::seed`");
    executor.order.as_ref().map_or(0, |order| order.seed)
}
