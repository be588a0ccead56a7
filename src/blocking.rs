//! Blocking work on a thread pool: that of the `blocking` crate.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;

pub use ::blocking::Unblock;

use crate::executor;
use crate::hooks::WaitReason;
use crate::task_cell::note;

/// Runs a blocking closure on a thread pool, and waits for its output.
///
/// The closure is queued at once, before the future is polled. The pool starts threads as needed,
/// and idle threads exit after a while. For files and other blocking streams, see [`Unblock`].
///
/// In a simulated world (`testing::simulate`) the closure runs on this thread, outside of the
/// runtime, when the future is polled.
///
/// # Panics
///
/// If the closure panics, awaiting the future resumes that panic.
///
/// # Cancel safety
///
/// If the future is dropped before the closure has started, the closure does not run. A closure
/// that has started runs to its end, and its output is lost.
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
    let job = match executor::is_simulated() {
        true => Err(f),
        false => Ok(queue(f)),
    };
    async move {
        match job {
            Ok(job) => job.await,
            Err(f) => executor::leave(f),
        }
    }
}

fn queue<T, F>(f: F) -> impl Future<Output = T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // The job counts as external until it has run, and then until its output has been received.
    let external = || executor::try_current().map(|executor| executor.external());
    let running = external();
    // A panic is caught here: if the pool caught it, its payload would be lost.
    let mut task = ::blocking::unblock(move || {
        let output = catch_unwind(AssertUnwindSafe(f));
        drop(running);
        output
    });
    async move {
        let _waiting = external();
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
