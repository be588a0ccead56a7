//! The events of which a trace consists.

use std::time::Duration;

use super::{TaskRef, WaitReason};

/// Something that a task did, or that was done to it.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, EventKind, Outcome};
///
/// trace::start(1000);
/// soloist::block_on(async {});
/// let events = trace::stop().unwrap().events().to_vec();
/// assert_eq!(events.len(), 2);
/// assert_eq!(events[0].kind, EventKind::PollBegin);
/// assert_eq!(events[1].kind, EventKind::PollEnd(Outcome::Done));
/// assert!(events[1].at >= events[0].at);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The time since the start of the recording, by the system's clock.
    pub at: Duration,
    /// The task that it happened to.
    pub task: TaskRef,
    /// What happened.
    pub kind: EventKind,
}

/// What an [`Event`] is.
///
/// A task that waits for several things at once, as a read with a timeout does, begins
/// several waits. A wake ends them all. If the next poll returns `Pending`, too, it begins
/// those that are left anew.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, EventKind, Outcome};
///
/// trace::start(1000);
/// soloist::block_on(async { soloist::spawn(async {}).await });
/// let trace = trace::stop().unwrap();
/// let of_task = trace.events().iter().filter(|event| event.task.id.is_some());
/// let kinds: Vec<_> = of_task.map(|event| event.kind).collect();
/// assert!(matches!(kinds[0], EventKind::Spawn(_)));
/// assert_eq!(kinds[1..], [EventKind::PollBegin, EventKind::PollEnd(Outcome::Done)]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// It was spawned, and is in the queue.
    Spawn(Cause),
    /// It was put into the queue. Wakes of a task that is there already are left out. A
    /// wake by another thread counts from when the runtime learns of it.
    Wake(Cause),
    /// Its future is being polled.
    PollBegin,
    /// The poll is over. If the future is done, its destructor has run, and the task that
    /// awaits it has been woken.
    PollEnd(Outcome),
    /// It waits since the end of its last poll.
    WaitBegin(WaitReason),
    /// It has been woken, or cancelled.
    WaitEnd(WaitReason),
    /// Its future was dropped while it was not being polled.
    Cancel,
}

/// What has spawned or woken a task.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, Cause, EventKind};
///
/// trace::start(1000);
/// let runtime = soloist::Runtime::new();
/// runtime.spawn(async {}).detach();
/// let trace = trace::stop().unwrap();
/// assert_eq!(trace.events()[0].kind, EventKind::Spawn(Cause::Outside));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The task that was being polled, or was ending.
    Task(TaskRef),
    /// A timer that was due.
    Timers,
    /// A socket, or another source that the system reports on.
    Reactor,
    /// Another thread; or this one, while the runtime was not entered.
    Inbox,
    /// Code on the runtime's thread that is not part of a task.
    Outside,
}

/// How a poll ended.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, EventKind, Outcome};
///
/// trace::start(1000);
/// soloist::block_on(soloist::task::yield_now());
/// let trace = trace::stop().unwrap();
/// let last = trace.events().last().unwrap();
/// assert_eq!(last.kind, EventKind::PollEnd(Outcome::Done));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The future is not done.
    Pending,
    /// The future is done.
    Done,
    /// The future, or its destructor, panicked.
    Panicked,
    /// The task was cancelled in this poll, and dropped at its end.
    Cancelled,
}

impl EventKind {
    /// Whether the task is over after this event.
    pub(super) fn is_last(self) -> bool {
        match self {
            EventKind::Cancel => true,
            EventKind::PollEnd(outcome) => outcome != Outcome::Pending,
            _ => false,
        }
    }
}
