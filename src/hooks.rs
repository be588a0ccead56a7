//! What the engine reports while it runs: tasks that are spawned, polled and woken, the causes
//! of wakes, and what tasks wait for. With the feature `trace`, `hooks/ring.rs` records it.
//! Without the feature, the same functions are empty (`hooks/off.rs`). The feature `tracing` has a
//! hook of its own: `hooks/span.rs`.
//!
//! All state is per thread, as a runtime is: no locks, no atomics. No user code runs in here.

pub(crate) mod counts;
#[cfg(feature = "trace")]
mod event;
#[cfg(not(feature = "trace"))]
mod off;
#[cfg(feature = "trace")]
mod ring;
mod span;
pub(crate) mod watch;

use std::fmt;
use std::panic::Location;
use std::time::Instant;

#[cfg(feature = "trace")]
pub use self::event::{Cause, Event, EventKind, Outcome};
#[cfg(not(feature = "trace"))]
pub(crate) use self::off::*;
#[cfg(feature = "trace")]
pub(crate) use self::ring::*;
pub(crate) use self::span::in_span;

/// The number of a task. Each runtime counts its tasks from 1. Tasks that are spawned through a
/// [`Handle`](crate::Handle) have numbers of their own, which are printed as `r1`, `r2` and so on.
///
/// # Examples
///
/// ```
/// soloist::block_on(async {
///     let (a, b) = (soloist::spawn(async {}), soloist::spawn(async {}));
///     assert!(a.id() < b.id());
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

impl TaskId {
    /// Set in the number of a task that a handle has spawned. The handle chooses it, on any thread,
    /// before the runtime learns of the task.
    const REMOTE: u64 = 1 << 63;

    #[inline]
    pub(crate) const fn new(number: u64) -> TaskId {
        TaskId(number)
    }

    pub(crate) fn remote(number: u64) -> TaskId {
        TaskId(number | TaskId::REMOTE)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 & TaskId::REMOTE != 0 {
            f.write_str("r")?;
        }
        (self.0 & !TaskId::REMOTE).fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

/// A task of a runtime, or the future of its `block_on`.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "trace")] {
/// use soloist::{block_on, spawn, trace};
///
/// trace::start(1000);
/// let id = block_on(async {
///     let task = spawn(async {});
///     let id = task.id();
///     task.await;
///     id
/// });
/// let trace = trace::stop().unwrap();
/// assert_eq!(trace.events()[0].task.id, None);
/// assert_eq!(trace.events()[0].task.to_string(), "main");
/// assert!(trace.events().iter().any(|event| event.task.id == Some(id)));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[cfg_attr(not(feature = "trace"), expect(unreachable_pub))]
pub struct TaskRef {
    /// The number of the runtime: a thread may have had several.
    pub runtime: u64,
    /// `None` is the future of a `block_on`.
    pub id: Option<TaskId>,
}

/// What a task waits for.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "trace")] {
/// use soloist::trace::{self, EventKind};
/// use soloist::{block_on, spawn};
///
/// trace::start(1000);
/// block_on(async { spawn(async {}).await });
/// let trace = trace::stop().unwrap();
/// let waits = trace.events().iter().filter_map(|event| match event.kind {
///     EventKind::WaitBegin(reason) => Some(reason.to_string()),
///     _ => None,
/// });
/// assert_eq!(waits.collect::<Vec<_>>(), ["the end of task-1"]);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(not(feature = "trace"), expect(unreachable_pub, dead_code))]
pub enum WaitReason {
    /// Something to read, or a connection to accept.
    Read {
        /// The number of the file descriptor, or of the socket.
        fd: i64,
    },
    /// Room to write, or the end of a connect.
    Write {
        /// The number of the file descriptor, or of the socket.
        fd: i64,
    },
    /// A timer.
    Timer {
        /// The time at which it fires, by the clock of the runtime.
        deadline: Instant,
    },
    /// The end of another task.
    Task(TaskRef),
    /// The end of a task of a `TaskGroup`, `JoinSet` or `TaskTracker`.
    Group,
    /// The result of a `RemoteTask`.
    RemoteTask,
    /// A promise.
    Promise,
    /// A closure on the thread pool.
    Job,
    /// Something that the runtime does not know: the future of another crate, such as a channel.
    Other,
}

/// A task with its description.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "trace"), expect(dead_code))]
pub(crate) struct TaskMeta<'a> {
    pub(crate) task: TaskRef,
    pub(crate) name: Option<&'a str>,
    pub(crate) spawned_at: &'static Location<'static>,
}

/// What wakes tasks while none is being polled.
#[derive(Clone, Copy)]
pub(crate) enum WakeSource {
    Timers,
    Reactor,
    Inbox,
}
