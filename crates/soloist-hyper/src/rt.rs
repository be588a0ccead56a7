//! What hyper asks of a runtime: an executor and timers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use soloist::time;

/// Spawns hyper's futures on the current runtime. They need not be `Send`.
///
/// # Panics
///
/// [`execute`](hyper::rt::Executor::execute) panics outside of a runtime, as [`soloist::spawn`]
/// does.
///
/// # Examples
///
/// ```
/// use hyper::rt::Executor as _;
/// use soloist::{block_on, promise::promise};
/// use soloist_hyper::Executor;
///
/// block_on(async {
///     let (promise, promised) = promise();
///     Executor.execute(async { promise.set(1).unwrap() });
///     assert_eq!(promised.await, Ok(1));
/// });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        soloist::spawn(future).detach();
    }
}

/// Timers for hyper on the clock of the current runtime, which is virtual in a test under a
/// virtual clock.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use hyper::server::conn::http1;
/// use soloist_hyper::Timer;
///
/// let mut builder = http1::Builder::new();
/// builder.timer(Timer).header_read_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer;

struct Sleep(time::Sleep);

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(time::sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(time::sleep_until(deadline)))
    }

    fn now(&self) -> Instant {
        time::now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(sleep) => sleep.get_mut().0.reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

impl hyper::rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}
