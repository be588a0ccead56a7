//! What a trace consists of.

use std::fmt;
use std::time::Duration;

use crate::hooks;
use crate::task::TaskId;

/// Something that a task did, or that was done to it.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, By, Happened, How};
///
/// trace::start(1000);
/// soloist::block_on(async {});
/// let events = trace::stop().unwrap().events().to_vec();
/// assert_eq!(events.len(), 2);
/// assert_eq!(events[0].happened, Happened::PollBegin);
/// assert_eq!(events[1].happened, Happened::PollEnd(How::Done));
/// assert!(events[1].at >= events[0].at);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When: the time since the start of the recording, by the system's clock.
    pub at: Duration,
    /// Whose event it is.
    pub who: Who,
    /// What it is.
    pub happened: Happened,
}

/// A task of a runtime, or the future of its `block_on`.
///
/// # Examples
///
/// ```
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
/// assert_eq!(trace.events()[0].who.task, None);
/// assert!(trace.events().iter().any(|event| event.who.task == Some(id)));
/// assert_eq!(trace.events()[0].who.to_string(), "main");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Who {
    /// The number of the runtime: a thread may have had several.
    pub runtime: u64,
    /// `None` is the future of a `block_on`.
    pub task: Option<TaskId>,
}

impl Who {
    pub(super) fn new(id: hooks::Id) -> Who {
        Who {
            runtime: id.runtime,
            task: (id.number > 0).then(|| TaskId::new(id.number)),
        }
    }
}

/// `main`, or the name that a task without a name goes by: `task-1`.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task {
            Some(id) => write!(f, "task-{id}"),
            None => f.write_str("main"),
        }
    }
}

/// What an [`Event`] is.
///
/// A task that waits for several things at once, as a read with a timeout does, begins
/// several waits. A wake ends them all: the next poll begins those that are left anew.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, By, For, Happened, How};
///
/// trace::start(1000);
/// soloist::block_on(async { soloist::time::sleep(std::time::Duration::from_millis(1)).await });
/// let trace = trace::stop().unwrap();
/// let happened: Vec<_> = trace.events().iter().map(|event| event.happened).collect();
/// assert_eq!(happened, [
///     Happened::PollBegin,
///     Happened::PollEnd(How::Pending),
///     Happened::WaitBegin(For::Timer),
///     Happened::Wake(By::Timers),
///     Happened::WaitEnd(For::Timer),
///     Happened::PollBegin,
///     Happened::PollEnd(How::Done),
/// ]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happened {
    /// It was spawned, and is in the queue.
    Spawn(By),
    /// It was put into the queue. Wakes of a task that is there already are left out. A
    /// wake by another thread counts from when the runtime hears of it.
    Wake(By),
    /// Its future is being polled.
    PollBegin,
    /// The poll is over; if the future is done, so are its destructor and the wake of who
    /// awaits it.
    PollEnd(How),
    /// The poll before this has left it waiting.
    WaitBegin(For),
    /// It has been woken, or cancelled.
    WaitEnd(For),
    /// Its future was dropped while it was not being polled.
    Cancel,
}

/// Who has spawned or woken a task.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, By, Happened};
///
/// trace::start(1000);
/// let runtime = soloist::Runtime::new();
/// runtime.spawn(async {}).detach();
/// let trace = trace::stop().unwrap();
/// assert_eq!(trace.events()[0].happened, Happened::Spawn(By::Outside));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum By {
    /// The task that was being polled, or was ending.
    Task(Who),
    /// A timer that was due.
    Timers,
    /// A socket, or whatever else the system reports on.
    Reactor,
    /// Another thread; or this one, while the runtime was not entered.
    Inbox,
    /// Code on the runtime's thread that is no task.
    Outside,
}

/// For what a task waits.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, For, Happened};
/// use soloist::{block_on, spawn};
///
/// trace::start(1000);
/// block_on(async { spawn(async {}).await });
/// let trace = trace::stop().unwrap();
/// let waits = trace.events().iter().filter_map(|event| match event.happened {
///     Happened::WaitBegin(what) => Some(what.to_string()),
///     _ => None,
/// });
/// assert_eq!(waits.collect::<Vec<_>>(), ["the end of task-1"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum For {
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
    /// A time.
    Timer,
    /// The end of another task.
    Task(Who),
    /// The end of a task of a `TaskGroup`.
    Group,
    /// The result of a `RemoteTask`.
    RemoteTask,
    /// A promise.
    Promise,
    /// A closure on the pool of threads.
    Job,
    /// Something that the runtime does not know: the future of another crate, as a channel.
    Other,
}

impl For {
    pub(super) fn new(waiting: hooks::Id, wait: Option<hooks::WaitReason>) -> For {
        match wait {
            Some(hooks::WaitReason::Read(fd)) => For::Read { fd },
            Some(hooks::WaitReason::Write(fd)) => For::Write { fd },
            Some(hooks::WaitReason::Timer(_)) => For::Timer,
            Some(hooks::WaitReason::Task(number)) => For::Task(Who::new(hooks::Id {
                runtime: waiting.runtime,
                number,
            })),
            Some(hooks::WaitReason::Group) => For::Group,
            Some(hooks::WaitReason::Remote) => For::RemoteTask,
            Some(hooks::WaitReason::Promise) => For::Promise,
            Some(hooks::WaitReason::Job) => For::Job,
            None => For::Other,
        }
    }

    /// One word, for the legend.
    pub(super) fn kind(self) -> &'static str {
        match self {
            For::Read { .. } => "read",
            For::Write { .. } => "write",
            For::Timer => "timer",
            For::Task(_) | For::Group | For::RemoteTask => "task",
            For::Promise => "promise",
            For::Job => "job",
            For::Other => "other",
        }
    }
}

impl fmt::Display for For {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            For::Read { fd } => write!(f, "fd {fd}, to read"),
            For::Write { fd } => write!(f, "fd {fd}, to write"),
            For::Timer => f.write_str("a timer"),
            For::Task(who) => write!(f, "the end of {who}"),
            For::Group => f.write_str("a task of its group"),
            For::RemoteTask => f.write_str("a task of another runtime"),
            For::Promise => f.write_str("a promise"),
            For::Job => f.write_str("a job on the pool of threads"),
            For::Other => f.write_str("something outside"),
        }
    }
}

/// How a poll ended.
///
/// # Examples
///
/// ```
/// use soloist::trace::{self, Happened, How};
///
/// trace::start(1000);
/// soloist::block_on(soloist::task::yield_now());
/// let trace = trace::stop().unwrap();
/// let last = trace.events().last().unwrap();
/// assert_eq!(last.happened, Happened::PollEnd(How::Done));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum How {
    /// The future is not done.
    Pending,
    /// The future is done.
    Done,
    /// The future, or its destructor, panicked.
    Panicked,
    /// The task was cancelled in this poll, and dropped at its end.
    Cancelled,
}

impl Event {
    pub(super) fn new(entry: &hooks::Entry) -> Event {
        let by = |by| match by {
            hooks::By::Task(id) => By::Task(Who::new(id)),
            hooks::By::Timers => By::Timers,
            hooks::By::Reactor => By::Reactor,
            hooks::By::Inbox => By::Inbox,
            hooks::By::Outside => By::Outside,
        };
        let wait = |wait| For::new(entry.task, wait);
        Event {
            at: Duration::from_nanos(entry.at),
            who: Who::new(entry.task),
            happened: match entry.what {
                hooks::What::Spawned(who) => Happened::Spawn(by(who)),
                hooks::What::Woken(who) => Happened::Wake(by(who)),
                hooks::What::PollBegins => Happened::PollBegin,
                hooks::What::PollEnds(outcome) => Happened::PollEnd(match outcome {
                    hooks::Outcome::Pending => How::Pending,
                    hooks::Outcome::Done => How::Done,
                    hooks::Outcome::Panicked => How::Panicked,
                    hooks::Outcome::Cancelled => How::Cancelled,
                }),
                hooks::What::WaitBegins(what) => Happened::WaitBegin(wait(what)),
                hooks::What::WaitEnds(what) => Happened::WaitEnd(wait(what)),
                hooks::What::Cancelled => Happened::Cancel,
            },
        }
    }
}
