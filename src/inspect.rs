//! Shows what a runtime is doing: its tasks, what each of them waits for, and its metrics.
//!
//! For a program that hangs, [`dump`] lists every task: where it was spawned, how often it was
//! polled, and which socket, timer or other task it waits for. The runtime makes a few stores
//! per poll for this. The rest is looked up when `dump` is called. With the feature `signal`,
//! `dump_on_signal` prints the list on `kill -USR1`.
//!
//! Times cost two readings of the clock per poll. They are measured only under
//! [`Builder::inspect`](crate::runtime::Builder::inspect).

pub(crate) mod info;
#[cfg(all(unix, feature = "signal"))]
mod on_signal;

pub use self::info::{Dump, Metrics, TaskInfo, TaskState, WaitsFor};
#[cfg(all(unix, feature = "signal"))]
#[cfg_attr(docsrs, doc(cfg(all(unix, feature = "signal"))))]
pub use self::on_signal::dump_on_signal;
use crate::executor;

/// Returns the state of the tasks of the current runtime, and of the future of its `block_on`.
///
/// The result prints as a table. Outside of the runtime, use
/// [`Runtime::tasks`](crate::Runtime::tasks).
///
/// # Panics
///
/// If it is called outside of a runtime.
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
    info::dump(&executor::current("`inspect::dump`"))
}

/// Returns the metrics of the current runtime. Outside of the runtime, use
/// [`Runtime::metrics`](crate::Runtime::metrics).
///
/// # Panics
///
/// If it is called outside of a runtime.
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
    info::metrics(&executor::current("`inspect::metrics`"))
}
