//! What the tasks of a thread do, as data and as a picture (feature `trace`).
//!
//! [`start`] begins to record on this thread: who is spawned, polled and woken, by whom, and
//! for what it waits. [`save_html`] draws it as one page with nothing around it: a row per
//! task, its polls as bars, its waits as lines, arrows for who wakes whom. [`save_json`]
//! writes the same for [Perfetto](https://ui.perfetto.dev) and other tools that read Chrome's
//! trace event format. [`stop`] and [`snapshot`] give it as a [`Trace`].
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
//! Each thread has a recording of its own, as it has its own runtimes. All that run on it
//! while it is on are in it. What is kept is the last `capacity` events: older ones fall out
//! of the ring, and are counted ([`Trace::lost`]). So a program may record for as long as it
//! runs, and write the file when something strange has happened.
//!
//! The times are those of the system's clock, also under a virtual one: a poll takes as long
//! as it takes.
//!
//! # What it costs
//!
//! Without the feature nothing of it is compiled. With it, while nothing is recorded: a
//! branch at each spawn, poll and wake. While it records, each event costs a look at the
//! clock and about 70 bytes of memory, so that very short polls seem longer than they are.
//!
//! # What it does not know
//!
//! Of a future of another crate, as the receiver of a channel, the runtime does not know what
//! it waits for: [`WaitReason::Other`]. And a future that polls only some of its parts, as
//! `FuturesUnordered` does, says only for what these wait.

mod chrome;
mod event;
mod page;
mod rows;
mod whole;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

pub use self::rows::Totals;
use crate::hooks::{self, About};
pub use crate::hooks::{Cause, Event, EventKind, Outcome, TaskRef, WaitReason};

/// Begins to record on this thread: the last `capacity` events are kept. What was recorded
/// before is thrown away.
///
/// Call it on the thread that runs the runtime: before `block_on`, or in the middle. The
/// memory is taken at once, about 70 bytes an event.
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

/// Records no more, and returns what was recorded: `None` if nothing was started on this
/// thread.
///
/// The record stays for [`save_json`] and [`save_html`] until the next [`start`].
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

/// Whether this thread records.
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

/// What this thread has recorded so far; it goes on. `None` if nothing was started.
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
/// Open the file in [Perfetto](https://ui.perfetto.dev). A runtime is a process there, and a
/// task a thread of it. The waits, which may overlap, are rows of their own.
///
/// This writes a file, which keeps the thread from its tasks for that long.
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

/// Writes what this thread has recorded so far as one HTML page that needs nothing else.
///
/// Open it in a browser. The wheel zooms, dragging moves, and what is under the mouse says
/// what it is and where the task was spawned. Below is a table of what each task has done.
///
/// This writes a file, which keeps the thread from its tasks for that long.
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
            "there is no trace of this thread: call `soloist::trace::start` first, on the \
             thread that runs the runtime",
        )
    })?;
    let mut out = BufWriter::new(File::create(path)?);
    write(&trace, &mut out)?;
    out.flush()
}

/// What was recorded: of one thread, from its [`start`] on.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, spawn, trace};
///
/// trace::start(1000);
/// block_on(async { spawn(async {}).await });
/// let trace = trace::stop().unwrap();
/// for event in trace.events() {
///     println!("{:?} {} {:?}", event.at, event.task, event.kind);
/// }
/// assert_eq!(trace.totals().len(), 2);
/// ```
#[derive(Clone)]
pub struct Trace {
    events: Vec<Event>,
    about: HashMap<TaskRef, About>,
    lost: u64,
    end: Duration,
}

impl Trace {
    /// The events, in the order in which they happened.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::trace;
    ///
    /// trace::start(1000);
    /// soloist::block_on(async {});
    /// assert_eq!(trace::stop().unwrap().events().len(), 2);
    /// ```
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many events have fallen out of the ring: they were before all others.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, task::yield_now, trace};
    ///
    /// trace::start(4);
    /// block_on(async {
    ///     for _ in 0..10 {
    ///         yield_now().await;
    ///     }
    /// });
    /// let trace = trace::stop().unwrap();
    /// assert_eq!(trace.events().len(), 4);
    /// // A begin and an end of each poll, a wake between two.
    /// assert_eq!(trace.lost(), 2 * 11 + 10 - 4);
    /// ```
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How long it was recorded, or has been so far.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::trace;
    ///
    /// trace::start(1000);
    /// soloist::block_on(async { soloist::time::sleep(Duration::from_millis(1)).await });
    /// assert!(trace::stop().unwrap().duration() >= Duration::from_millis(1));
    /// ```
    pub fn duration(&self) -> Duration {
        self.end
    }

    /// What each task has done in the trace, in the order in which they appear.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, spawn, trace};
    ///
    /// trace::start(1000);
    /// block_on(async { spawn(async {}).await });
    /// let totals = trace::stop().unwrap().totals();
    /// // The task, and main: before it, and when it was woken by its end.
    /// assert_eq!(totals.iter().map(|task| task.polls).collect::<Vec<_>>(), [2, 1]);
    /// ```
    pub fn totals(&self) -> Vec<Totals> {
        let (rows, _) = rows::rows(self);
        rows.into_iter().map(|row| row.totals).collect()
    }

    /// Writes it as [`save_json`] does.
    ///
    /// # Errors
    ///
    /// Those of `out`.
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

    /// Writes it as [`save_html`] does.
    ///
    /// # Errors
    ///
    /// Those of `out`.
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

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("events", &self.events.len())
            .field("lost", &self.lost)
            .field("duration", &self.end)
            .finish_non_exhaustive()
    }
}
