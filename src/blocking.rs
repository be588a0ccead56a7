//! Work that blocks, on threads of its own: the pool of the `blocking` crate.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;

use crate::cell::note;
use crate::hooks::WaitReason;

pub use ::blocking::Unblock;

use crate::context;

/// Runs a closure that blocks on a pool of threads, and waits for what it returns.
///
/// It starts at once; the pool makes threads as they are needed, and lets them go when
/// they have nothing to do. For files and other streams that block, see [`Unblock`].
///
/// # Panics
///
/// Awaiting it goes on with a panic of the closure.
///
/// # Cancel safety
///
/// A closure that has not started when the future is dropped does not run. One that runs
/// runs on; what it returns is lost.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, unblock};
///
/// let text = block_on(unblock(|| std::fs::read_to_string("Cargo.toml")))?;
/// assert!(text.contains("soloist"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn unblock<T, F>(f: F) -> impl Future<Output = T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // It counts as outside until it has run, and then until who waits for it knows.
    let outside = || context::try_current().map(|context| context.outside());
    let running = outside();
    // Caught here: on the pool's thread it would take the awaiting task's news along.
    let mut task = ::blocking::unblock(move || {
        let output = catch_unwind(AssertUnwindSafe(f));
        drop(running);
        output
    });
    async move {
        let _waiting = outside();
        let result = poll_fn(|cx| {
            let polled = Pin::new(&mut task).poll(cx);
            if polled.is_pending() {
                note(WaitReason::Job);
            }
            polled
        });
        match result.await {
            Ok(output) => output,
            Err(payload) => resume_unwind(payload),
        }
    }
}
