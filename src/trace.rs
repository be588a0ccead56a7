//! What the tasks of a thread do, as data and as a picture (feature `trace`).
//!
//! [`start`] starts a recording on this thread: which tasks are spawned, polled and woken, what
//! spawns and wakes them, and what they wait for. [`save_html`] writes it as a self-contained
//! page: a row per task, with its polls as bars and its waits as lines, and an arrow from the
//! cause of each wake to the task. [`save_json`] writes it for
//! [Perfetto](https://ui.perfetto.dev) and other tools that read Chrome's trace event format.
//! [`stop`] and [`snapshot`] return it as a [`Trace`].
//!
//! ```
//! use std::time::Duration;
//! use soloist::{block_on, spawn, time::sleep, trace};
//!
//! # let file = std::env::temp_dir().join(format!("soloist-doc-{}.html", std::process::id()));
//! # let file = file.to_str().unwrap();
//! trace::start(100_000);
//! block_on(async {
//!     let slow = spawn(sleep(Duration::from_millis(2)));
//!     let quick = spawn(sleep(Duration::from_millis(1)));
//!     quick.await;
//!     slow.await;
//! });
//! trace::save_html(file)?;
//! # std::fs::remove_file(file)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What belongs to a recording
//!
//! A recording belongs to a thread, and contains all runtimes that run on this thread. A ring
//! buffer keeps the last `capacity` events. Older events are dropped and counted
//! ([`Trace::lost`]). So a program can record for as long as it runs, and write the file after
//! something unexpected has happened.
//!
//! Times are those of the system's clock, also under a virtual clock, because polls take real
//! time.
//!
//! # What it costs
//!
//! Without the feature, no code for recordings is compiled. With it, each spawn, poll and wake
//! costs a branch while nothing is recorded. During a recording, each event reads the clock and
//! takes about 70 bytes of memory. Very short polls therefore appear longer than they are.
//!
//! # Limits
//!
//! The runtime does not know what a future of another crate waits for, such as the receiver of
//! a channel: [`WaitReason::Other`]. A future that polls only some of its parts, as
//! `FuturesUnordered` does, reports only what those parts wait for.

mod chrome;
mod event;
mod page;
mod recording;
mod rows;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use self::recording::Trace;
pub use self::rows::Totals;
use crate::hooks;
pub use crate::hooks::{Cause, Event, EventKind, Outcome, TaskRef, WaitReason};

/// Starts a recording on this thread, which keeps the last `capacity` events. An earlier
/// recording is dropped.
///
/// Call it on the thread that runs the runtime, before `block_on` or inside it. The memory is
/// allocated at once, about 70 bytes per event.
///
/// # Panics
///
/// If `capacity` is 0.
///
/// # Examples
///
/// ```
/// use soloist::trace;
///
/// trace::start(100_000);
/// soloist::block_on(async { /* the program */ });
/// println!("{} events", trace::stop().unwrap().events().len());
/// ```
pub fn start(capacity: usize) {
    assert!(
        capacity > 0,
        "`trace::start(0)` would record nothing: give the number of events to keep, as 100_000"
    );
    hooks::start(capacity);
}

/// Stops the recording and returns it. Returns `None` if none was started on this thread.
///
/// The recording stays available to [`save_json`] and [`save_html`] until the next [`start`].
///
/// # Examples
///
/// ```
/// use soloist::trace;
///
/// assert!(trace::stop().is_none());
/// trace::start(10);
/// assert!(trace::stop().is_some());
/// assert!(!trace::is_recording());
/// ```
pub fn stop() -> Option<Trace> {
    hooks::stop();
    snapshot()
}

/// Returns whether this thread is recording.
///
/// # Examples
///
/// ```
/// use soloist::trace;
///
/// assert!(!trace::is_recording());
/// trace::start(10);
/// assert!(trace::is_recording());
/// ```
pub fn is_recording() -> bool {
    hooks::is_recording()
}

/// Returns what this thread has recorded so far, without stopping. Returns `None` if no
/// recording was started.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task::yield_now, trace};
///
/// trace::start(1000);
/// block_on(async {
///     yield_now().await;
///     let so_far = trace::snapshot().unwrap();
///     assert_eq!(so_far.totals()[0].polls, 2);
/// });
/// ```
pub fn snapshot() -> Option<Trace> {
    hooks::read(|record| Trace {
        events: record.events.iter().copied().collect(),
        about: record.tasks.clone(),
        lost: record.lost,
        end: record.duration(),
    })
}

/// Writes what this thread has recorded so far as JSON, in Chrome's trace event format.
///
/// Open the file in [Perfetto](https://ui.perfetto.dev). It shows a runtime as a process and a
/// task as a thread of it. Waits may overlap, so each has its own row.
///
/// No task runs on this thread while the file is written.
///
/// # Errors
///
/// If the file cannot be written, or if nothing was started on this thread.
///
/// # Examples
///
/// ```
/// use soloist::trace;
///
/// # let file = std::env::temp_dir().join(format!("soloist-doc-{}.json", std::process::id()));
/// # let file = file.to_str().unwrap();
/// trace::start(1000);
/// soloist::block_on(async {});
/// trace::save_json(file)?;
/// # assert!(std::fs::read_to_string(file)?.contains("traceEvents"));
/// # std::fs::remove_file(file)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn save_json(path: impl AsRef<Path>) -> io::Result<()> {
    save(path.as_ref(), |trace, out| trace.write_json(out))
}

/// Writes what this thread has recorded so far as a self-contained HTML page.
///
/// Open it in a browser. The mouse wheel zooms, and dragging moves the view. Hovering over a
/// poll or wait shows its details and where the task was spawned. Below is a table with the
/// totals of each task.
///
/// No task runs on this thread while the file is written.
///
/// # Errors
///
/// If the file cannot be written, or if nothing was started on this thread.
///
/// # Examples
///
/// ```
/// use soloist::trace;
///
/// # let file = std::env::temp_dir().join(format!("soloist-doc-save-{}.html", std::process::id()));
/// # let file = file.to_str().unwrap();
/// trace::start(1000);
/// soloist::block_on(async {});
/// trace::save_html(file)?;
/// # assert!(std::fs::read_to_string(file)?.starts_with("<!doctype html>"));
/// # std::fs::remove_file(file)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn save_html(path: impl AsRef<Path>) -> io::Result<()> {
    save(path.as_ref(), |trace, out| trace.write_html(out))
}

fn save(
    path: &Path,
    write: impl FnOnce(&Trace, &mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let trace = snapshot().ok_or_else(|| {
        io::Error::other(
            "nothing was recorded on this thread: call `soloist::trace::start` first, on the \
             thread that runs the runtime",
        )
    })?;
    let mut out = BufWriter::new(File::create(path)?);
    write(&trace, &mut out)?;
    out.flush()
}

impl Trace {
    /// The totals of each task, in the order in which the tasks appear in the trace.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, spawn, trace};
    ///
    /// trace::start(1000);
    /// block_on(async { spawn(async {}).await });
    /// let totals = trace::stop().unwrap().totals();
    /// // Main is polled at its start, and after the end of the task. The task is polled once.
    /// assert_eq!(totals.iter().map(|task| task.polls).collect::<Vec<_>>(), [2, 1]);
    /// ```
    pub fn totals(&self) -> Vec<Totals> {
        let (rows, _) = rows::rows(self);
        rows.into_iter().map(|row| row.totals).collect()
    }

    /// Writes the trace in the format of [`save_json`].
    ///
    /// # Errors
    ///
    /// If `out` returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::trace;
    ///
    /// trace::start(1000);
    /// let mut json = Vec::new();
    /// trace::stop().unwrap().write_json(&mut json)?;
    /// assert!(json.starts_with(b"{"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_json(&self, mut out: impl Write) -> io::Result<()> {
        chrome::write(self, &mut out)
    }

    /// Writes the trace as the page of [`save_html`].
    ///
    /// # Errors
    ///
    /// If `out` returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::trace;
    ///
    /// trace::start(1000);
    /// let mut page = Vec::new();
    /// trace::stop().unwrap().write_html(&mut page)?;
    /// assert!(page.starts_with(b"<!doctype html>"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_html(&self, mut out: impl Write) -> io::Result<()> {
        page::write(self, &mut out)
    }
}
