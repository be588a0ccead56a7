//! Fast and reproducible tests. Needs the feature `testing`:
//!
//! ```toml
//! [dev-dependencies]
//! soloist = { version = "0.1", features = ["testing"] }
//! ```
//!
//! * [`block_on`] runs a test with a virtual clock, which [`advance`] moves manually.
//! * [`explore`] runs a test with many schedules, and stops at the first seed that fails.
//! * [`simulate`] does the same in a simulated [`World`], with hosts and a network between them.
//!
//! The guide has a page on how to use them together: [testing](crate::guide::testing).
//!
//! # The network of a world
//!
//! A task that is spawned on a [`Host`] has the network of the world: [`TcpStream`], [`TcpListener`],
//! [`UdpSocket`], [`resolve`], and everything that is built on them. No system call is made. The
//! sockets behave like those of Linux: the same kinds of errors in the same order, the same bytes
//! after a shutdown or a reset, the same limits. A table of about 130 short scripts runs on the
//! loopback device and in a world. Both must give what the table says. These are the differences:
//!
//! * The [window](Link::window) limits the bytes that a stream takes and the other side has not read,
//!   to 64 KiB by default. The buffers of the system hold megabytes. The window opens as soon as the
//!   reader reads.
//! * There is no congestion control. Lost bytes are a delay.
//! * Small writes are sent at once, independently of `nodelay`. Dropping a stream with a linger time
//!   does not block. Keepalive is an option without an effect.
//! * A connection is in the queue of its listener as soon as the request arrives.
//! * An address that no host has is not reachable: connecting fails at once. A datagram to it is lost.
//! * A host has one IPv4 address, and the loopback addresses `127.0.0.1` and `::1`, which are its own.
//! * There is no `SO_REUSEPORT` and no multicast: these are errors of the kind
//!   [`Unsupported`](std::io::ErrorKind::Unsupported). A broadcast to `255.255.255.255` reaches all hosts.
//! * A look-up of a name takes no time. Each host has one name. `localhost` is the host itself.
//! * `into_std` returns an error that carries the socket, and `TryFrom` of a type of std returns an
//!   error. `as_fd` returns a socket of the system that is not connected.
//!
//! Unix sockets, files, child processes, signals and [`Async`](crate::io::Async) stay the system's.
//! While a task waits for one of them, the virtual clock does not jump: it keeps pace with the
//! system's clock. So pass a stop signal to the code under test as a future.
//! [`unblock`](crate::unblock) runs its closure on the thread of the world, outside of the runtime.
//! There the network is the system's.
//!
//! [`TcpStream`]: crate::net::TcpStream
//! [`TcpListener`]: crate::net::TcpListener
//! [`UdpSocket`]: crate::net::UdpSocket
//! [`resolve`]: crate::net::resolve()

mod explore;
mod faults;
mod foreign;
pub(crate) mod schedule;
mod shrink;
mod simulate;
mod simulation;
mod transcript;
pub(crate) mod virtual_clock;
pub(crate) mod world;

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

pub use self::explore::{Explored, Outcome, explore};
pub use self::simulate::simulate;
use self::simulation::Simulated;
use self::virtual_clock::{PATIENCE, VirtualClock};
pub use self::world::{Host, Link, LinkHandle, World};
use crate::clock;
use crate::executor::timers::saturating_add;
use crate::executor::{self, Executor};
use crate::runtime::{Builder, Clock, Runtime};

/// Runs a test, and the tasks that it spawns, with a virtual clock. It is to a test what
/// [`soloist::block_on`](crate::block_on) is to a program.
///
/// Sleeps, timeouts and intervals take no time, as long as no external event is pending
/// ([`AutoAdvance::WhenNoIo`](crate::runtime::AutoAdvance::WhenNoIo)). A panic of a detached task
/// fails the test.
///
/// # Panics
///
/// Panics on a deadlock, so that the test fails instead of hanging: no task is ready, no timer is
/// set, no task waits for a socket, no job runs, no [`Handle`](crate::Handle) is alive, and no other
/// thread has woken a task for three seconds. Also panics inside a running runtime.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use soloist::{testing, time};
///
/// /// Retries with pauses that double each time, up to an hour.
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

/// Advances the virtual clock, and runs the tasks whose timers expire on the way.
///
/// The clock moves from deadline to deadline, and never while a task is ready. So an interval of
/// one second ticks sixty times in a minute, each time at its own instant. The clock moves with
/// every setting of [`AutoAdvance`](crate::runtime::AutoAdvance), even while external events are
/// pending. When the future completes, all tasks whose timers have expired have run.
///
/// # Panics
///
/// Panics if the clock is not virtual, and outside of a runtime.
///
/// # Cancel safety
///
/// If the future is dropped, the clock stays at the time that it has reached.
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
    struct Request(Rc<Executor>, u64);
    impl Drop for Request {
        fn drop(&mut self) {
            clock_of(&self.0).remove(self.1);
        }
    }
    let executor = executor::current("`testing::advance`");
    let until = saturating_add(clock::runtime_now(), duration);
    let id = clock_of(&executor).want(until);
    let request = Request(executor, id);
    poll_fn(move |cx| {
        let Request(executor, id) = &request;
        match clock_of(executor).wait(*id, cx.waker()) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
}

#[track_caller]
fn clock_of(executor: &Executor) -> &VirtualClock {
    let clock = Simulated::of(executor).and_then(|simulated| simulated.clock.as_ref());
    clock.expect(
        "the clock of this runtime cannot be moved: build it with `clock(Clock::Virtual)`, or \
         use `testing::block_on`",
    )
}

/// Returns a hash of the order of all polls so far on this runtime. Two runs with the same hash have
/// polled their tasks in the same order.
///
/// The order is recorded if the clock is virtual or a
/// [schedule](crate::runtime::Builder::schedule) has been set.
///
/// # Panics
///
/// Panics if the order is not recorded, and outside of a runtime.
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
    let executor = executor::current("`testing::schedule_hash`");
    Simulated::hash(&executor).expect(
        "this runtime does not record the order of its polls: build it with \
         `clock(Clock::Virtual)` or `schedule(...)`, or use `testing::block_on`",
    )
}

/// Returns the seed of this runtime's schedule, or 0 if the order is first in, first out. A test can
/// derive its own random data and faults from it.
///
/// # Panics
///
/// Panics outside of a runtime.
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
    Simulated::seed(&executor)
}
