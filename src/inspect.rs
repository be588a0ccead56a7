//! What is the runtime doing? Its tasks, each with what it waits for, and its counts.
//!
//! A program that hangs is asked with [`dump`]: every task, where it was spawned, how often
//! it was polled, and for what it waits: which socket, which timer, which other task. What
//! the runtime has to note for that costs it a few stores a poll; the rest is looked up when
//! somebody asks. With the feature `signal`, `dump_on_signal` prints it from outside, on
//! `kill -USR1`.
//!
//! Times cost two looks at the clock per poll, and are kept only under
//! [`Builder::inspect`](crate::runtime::Builder::inspect).

#[cfg(all(unix, feature = "signal"))]
mod on_signal;

#[cfg(all(unix, feature = "signal"))]
#[cfg_attr(docsrs, doc(cfg(all(unix, feature = "signal"))))]
pub use self::on_signal::dump_on_signal;
use crate::executor;
pub use crate::info::{Dump, Metrics, TaskInfo, TaskState, WaitsFor};

/// What all tasks of the runtime that runs on this thread are doing, and its main future.
///
/// It is a table when it is printed. From outside of the runtime there is
/// [`Runtime::tasks`](crate::Runtime::tasks).
///
/// # Panics
///
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, inspect, spawn, task, time::{sleep, timeout}};
///
/// block_on(async {
///     let slow = task::Builder::new().name("slow").spawn(sleep(Duration::from_secs(5)));
///     let waits = spawn(async { slow.await });
///     sleep(Duration::from_millis(1)).await;
///     let table = inspect::dump().to_string();
///     let lines: Vec<&str> = table.lines().collect();
///     assert!(lines[1].starts_with("main    running      2 "));
///     assert!(lines[2].starts_with("1 slow  waiting      1  a timer, in "));
///     assert!(lines[3].starts_with("2       waiting      1  task `slow` "));
///     # drop(waits);
/// });
/// ```
#[track_caller]
pub fn dump() -> Dump {
    crate::info::dump(&executor::current("`inspect::dump`"))
}

/// The counts of the runtime that runs on this thread. From outside of it there is
/// [`Runtime::metrics`](crate::Runtime::metrics).
///
/// # Panics
///
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, inspect};
///
/// block_on(async {
///     assert_eq!(inspect::metrics().polls, 1);
/// });
/// ```
#[track_caller]
pub fn metrics() -> Metrics {
    crate::info::metrics(&executor::current("`inspect::metrics`"))
}
