//! The types of [`crate::inspect`], and how they are filled and printed.

use std::collections::BinaryHeap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::Location;
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockRef};

use crate::executor::Executor;
use crate::hooks::{TaskId, WaitReason};
use crate::reactor::{Direction, Reactor, Registration};
use crate::task_cell::{TaskSnapshot, WaiterId, write_name};

/// The metrics of a runtime since its creation, from
/// [`Runtime::metrics`](crate::Runtime::metrics).
///
/// Reading them is a copy, and counting is nearly free, because the counters are plain numbers
/// of the runtime's thread. The difference of two readings is what happened in between.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{Runtime, spawn, task::yield_now, time::sleep};
///
/// let runtime = Runtime::new();
/// runtime.block_on(async {
///     let task = spawn(async {
///         yield_now().await;
///         sleep(Duration::from_millis(1)).await;
///     });
///     task.await;
/// });
/// let metrics = runtime.metrics();
/// // The future of `block_on` is not a task, but its polls and wakes count.
/// assert_eq!((metrics.spawned, metrics.live), (1, 0));
/// // Main is polled at its start and after the end of the task. The task is polled at its
/// // start, after its yield, and after its sleep.
/// assert_eq!(metrics.polls, 2 + 3);
/// // The yield, the timer, and the end of the task, which wakes main.
/// assert_eq!((metrics.wakes_local, metrics.wakes_remote), (3, 0));
/// assert_eq!((metrics.timers_fired, metrics.timers_pending), (1, 0));
/// // Nothing was ready while it slept.
/// assert!(metrics.waits >= 1);
/// assert_eq!(metrics.events, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// The number of tasks that were spawned.
    pub spawned: u64,
    /// The number of tasks that have neither completed nor been cancelled.
    pub live: usize,
    /// The number of polls of tasks and of the future of `block_on`.
    pub polls: u64,
    /// Wakes on the runtime's thread that made a task ready, by sockets, timers and other tasks.
    pub wakes_local: u64,
    /// Wakes from other threads that made a task ready.
    pub wakes_remote: u64,
    /// Wakes of tasks that were already ready, or had ended. A wake from another thread is not
    /// counted while an earlier one of the same task has not arrived, since counting it would cost
    /// more than the wake.
    pub wakes_redundant: u64,
    /// Generations. In each, every task that was ready at its start is polled once.
    pub turns: u64,
    /// How often no task was ready and the thread waited for events.
    pub waits: u64,
    /// Events that the system has reported for sockets and other file descriptors.
    pub events: u64,
    /// Timers that are set now.
    pub timers_pending: usize,
    /// Timers that have fired.
    pub timers_fired: u64,
    /// The largest number of tasks that were ready at the start of a generation.
    pub longest_queue: usize,
    /// How long the runtime has run without waiting. Only under [`Builder::inspect`].
    ///
    /// [`Builder::inspect`]: crate::runtime::Builder::inspect
    pub busy: Option<Duration>,
    /// How long it has waited. Only under [`Builder::inspect`].
    ///
    /// [`Builder::inspect`]: crate::runtime::Builder::inspect
    pub idle: Option<Duration>,
}

pub(crate) fn metrics(executor: &Executor) -> Metrics {
    let counts = executor.counts();
    let times = executor.watch().and_then(|watch| watch.busy_and_idle());
    Metrics {
        spawned: executor.spawned(),
        live: executor.live(),
        polls: counts.polls.get(),
        wakes_local: counts.wakes_local.get(),
        wakes_remote: counts.wakes_remote.get(),
        wakes_redundant: counts.wakes_redundant.get(),
        turns: counts.turns.get(),
        waits: counts.waits.get(),
        events: counts.events.get(),
        timers_pending: executor.timers_pending(),
        timers_fired: counts.fired.get(),
        longest_queue: counts.longest_queue.get() as usize,
        busy: times.map(|(busy, _)| busy),
        idle: times.map(|(_, idle)| idle),
    }
}

/// The state of a task, from [`Runtime::tasks`](crate::Runtime::tasks) and
/// [`inspect::dump`](crate::inspect::dump).
///
/// It prints as one line.
///
/// # Examples
///
/// ```
/// use soloist::inspect::TaskState;
///
/// let runtime = soloist::Runtime::new();
/// let task = runtime.spawn(async {});
/// let info = &runtime.tasks()[0];
/// assert_eq!((info.id, info.polls, info.state), (task.id(), 0, TaskState::Ready));
/// assert!(info.spawned_at.file().ends_with(".rs"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The number of the task.
    pub id: TaskId,
    /// The name of the task, if it has one.
    pub name: Option<String>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
    /// How often it was polled.
    pub polls: u32,
    /// How long ago it was spawned. Like the times below, only under [`Builder::inspect`].
    ///
    /// [`Builder::inspect`]: crate::runtime::Builder::inspect
    pub age: Option<Duration>,
    /// The sum of the durations of its polls.
    pub total_poll: Option<Duration>,
    /// The duration of its longest poll.
    pub longest_poll: Option<Duration>,
    /// Whether it is running, ready or waiting.
    pub state: TaskState,
    /// What may wake the task while it waits. This includes things that the task no longer
    /// waits for, but that still have its waker.
    pub waits_for: Vec<WaitsFor>,
}

/// Whether a task is running, ready or waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// It is being polled: it is the task that called `dump`.
    Running,
    /// It is in the queue, and will be polled.
    Ready,
    /// It waits for something.
    Waiting,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TaskState::Running => "running",
            TaskState::Ready => "ready",
            TaskState::Waiting => "waiting",
        })
    }
}

/// What a task waits for.
///
/// Sockets, timers and tasks are known exactly. The variants without fields are those of the
/// task's last poll. They do not include an inner future that was not polled then, as in a
/// `FuturesUnordered`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{Runtime, inspect::WaitsFor, time::sleep};
///
/// let runtime = Runtime::new();
/// let task = runtime.spawn(async { sleep(Duration::from_secs(60)).await });
/// runtime.turn(Some(Duration::ZERO))?;
/// match runtime.tasks()[0].waits_for[..] {
///     [WaitsFor::Timer { left: Some(left), .. }] => assert!(left <= Duration::from_secs(60)),
///     ref other => panic!("{other:?}"),
/// }
/// # drop(task);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// Something to read, or a connection to accept.
    #[non_exhaustive]
    Read {
        /// The number of the file descriptor, or of the socket.
        fd: i64,
        /// The other end, of a connected TCP or UDP socket.
        peer: Option<SocketAddr>,
        /// This end, of a TCP or UDP socket.
        local: Option<SocketAddr>,
    },
    /// Room to write, or the end of a connect.
    #[non_exhaustive]
    Write {
        /// The number of the file descriptor, or of the socket.
        fd: i64,
        /// The other end, of a connected TCP or UDP socket.
        peer: Option<SocketAddr>,
        /// This end, of a TCP or UDP socket.
        local: Option<SocketAddr>,
    },
    /// A timer.
    #[non_exhaustive]
    Timer {
        /// The time until it fires, or `None` if it is too far in the future to fire.
        left: Option<Duration>,
    },
    /// The end of another task of this runtime.
    #[non_exhaustive]
    Task {
        /// Its number.
        id: TaskId,
        /// Its name, if it has one.
        name: Option<String>,
    },
    /// The end of a task of a `TaskGroup`, `JoinSet` or `TaskTracker`.
    Group,
    /// The result of a `RemoteTask`.
    RemoteTask,
    /// A promise.
    Promise,
    /// A closure on the thread pool.
    Unblock,
    /// Something outside of this crate, such as a channel, a lock or another thread.
    Outside,
    /// Nothing: the task returned `Pending`, and no clone of its waker exists. It will not be
    /// polled again, except after an abort.
    Nothing,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitsFor::Read { fd, peer, local } => return socket(f, "to read", *fd, peer, local),
            WaitsFor::Write { fd, peer, local } => return socket(f, "to write", *fd, peer, local),
            WaitsFor::Timer { left: Some(left) } => return write!(f, "a timer, in {left:.1?}"),
            WaitsFor::Task { id, name } => return write_name(f, name.as_deref(), *id),
            WaitsFor::Timer { left: None } => "a timer that never fires",
            WaitsFor::Group => "a task of its group",
            WaitsFor::RemoteTask => "a remote task",
            WaitsFor::Promise => "a promise",
            WaitsFor::Unblock => "a job of `unblock`",
            WaitsFor::Outside => "something outside",
            WaitsFor::Nothing => "nothing: its waker was dropped",
        })
    }
}

fn socket(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    fd: i64,
    peer: &Option<SocketAddr>,
    local: &Option<SocketAddr>,
) -> fmt::Result {
    write!(f, "{what} fd {fd}")?;
    match (peer, local) {
        (Some(peer), _) => write!(f, " ({peer})"),
        (None, Some(local)) => write!(f, " (at {local})"),
        (None, None) => Ok(()),
    }
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.id == MAIN {
            f.write_str("the future of `block_on` (called")?;
        } else {
            write_name(f, self.name.as_deref(), self.id)?;
            f.write_str(" (spawned")?;
        }
        let waits = list(&self.waits_for);
        let waits_for = if waits.is_empty() { "" } else { " for " };
        let (place, state, polls) = (self.spawned_at, self.state, self.polls);
        write!(f, " at {place}): {state}{waits_for}{waits}, {polls} polls")?;
        match (self.age, self.total_poll, self.longest_poll) {
            (Some(age), Some(total), Some(longest)) => write!(
                f,
                ", {age:.1?} old, busy for {total:.1?}, for {longest:.1?} at once"
            ),
            _ => Ok(()),
        }
    }
}

fn list(waits: &[WaitsFor]) -> String {
    let mut list = String::new();
    for wait in waits {
        if !list.is_empty() {
            list += "; ";
        }
        list += &wait.to_string();
    }
    list
}

/// All tasks of a runtime, from [`inspect::dump`](crate::inspect::dump). It prints as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dump {
    /// The future of the current `block_on`. Its number is 0, and `spawned_at` is the place of
    /// the call.
    pub main: Option<TaskInfo>,
    /// The tasks that have not ended, in the order in which they were spawned.
    pub tasks: Vec<TaskInfo>,
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![TITLES.map(String::from)];
        let mut has_times = false;
        for info in self.main.iter().chain(&self.tasks) {
            has_times |= info.age.is_some();
            rows.push(row(info));
        }
        let mut widths = [0; TITLES.len()];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                match column {
                    AGE..=LONGEST if !has_times => {}
                    // Numbers are aligned to the right.
                    POLLS..=LONGEST => write!(f, "{cell:>width$}  ")?,
                    SPAWNED_AT => writeln!(f, "{cell}")?,
                    _ => write!(f, "{cell:width$}  ")?,
                }
            }
        }
        Ok(())
    }
}

const TITLES: [&str; 8] = [
    "task",
    "state",
    "polls",
    "age",
    "busy",
    "longest",
    "waits for",
    "spawned at",
];

/// Columns, as indices into `TITLES`.
const POLLS: usize = 2;
const AGE: usize = 3;
const LONGEST: usize = 5;
const SPAWNED_AT: usize = 7;

/// The number of the future of a `block_on`.
const MAIN: TaskId = TaskId::new(0);

fn row(info: &TaskInfo) -> [String; 8] {
    let time = |time: Option<Duration>| time.map_or(String::new(), |time| format!("{time:.1?}"));
    [
        match &info.name {
            _ if info.id == MAIN => "main".to_string(),
            Some(name) => format!("{} {name}", info.id),
            None => info.id.to_string(),
        },
        info.state.to_string(),
        info.polls.to_string(),
        time(info.age),
        time(info.total_poll),
        time(info.longest_poll),
        list(&info.waits_for),
        info.spawned_at.to_string(),
    ]
}

/// Describes all tasks of a runtime, and the future of its `block_on`.
pub(crate) fn dump(executor: &Executor) -> Dump {
    let all = executor.snapshot();
    let mut tasks: Vec<TaskInfo> = all.iter().map(|seen| info(executor, seen)).collect();
    add_waits(executor, &all, &mut tasks);
    let has_main = tasks.first().is_some_and(|first| first.id == MAIN);
    let main = has_main.then(|| tasks.remove(0));
    Dump { main, tasks }
}

fn info(executor: &Executor, seen: &TaskSnapshot) -> TaskInfo {
    let label = &seen.label;
    let watch = executor.watch();
    let times = watch.and_then(|watch| watch.times(seen.slot, label.number));
    TaskInfo {
        id: seen.slot.map_or(MAIN, |_| TaskId::new(label.number)),
        name: name(seen),
        spawned_at: label.spawned_at,
        polls: seen.polls,
        age: times.map(|times| times.spawned_at.elapsed()),
        total_poll: times.map(|times| times.total),
        longest_poll: times.map(|times| times.longest),
        state: match seen {
            _ if seen.is_polled => TaskState::Running,
            _ if seen.is_queued => TaskState::Ready,
            _ => TaskState::Waiting,
        },
        waits_for: Vec::new(),
    }
}

fn name(seen: &TaskSnapshot) -> Option<String> {
    seen.label.name.as_deref().map(|name| name.to_string())
}

/// Adds what the tasks wait for.
fn add_waits(executor: &Executor, all: &[TaskSnapshot], infos: &mut [TaskInfo]) {
    let mut index = BinaryHeap::new();
    for (place, seen) in all.iter().enumerate() {
        index.push((u64::from(seen.id), place));
    }
    let index = index.into_sorted_vec();
    let mut add = |waiter: WaiterId, wait: WaitsFor| {
        if let Ok(found) = index.binary_search_by_key(&waiter.into(), |&(id, _)| id) {
            infos[index[found].1].waits_for.push(wait);
        }
    };
    if let Some(reactor) = Reactor::get() {
        reactor.for_each_wait(&mut |waiter, direction, registration| {
            let (fd, [peer, local]) = (registration.number(), addresses(registration));
            let wait = match direction {
                Direction::Read => WaitsFor::Read { fd, peer, local },
                Direction::Write => WaitsFor::Write { fd, peer, local },
            };
            add(waiter, wait);
        });
    }
    let now = if executor.has_virtual_clock() {
        executor.now()
    } else {
        Instant::now()
    };
    executor.for_each_timer(&mut |waiter, deadline| {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        add(waiter, WaitsFor::Timer { left });
    });
    for seen in all {
        if let Some(waiter) = seen.joined_by {
            let id = TaskId::new(seen.label.number);
            let name = name(seen);
            add(waiter, WaitsFor::Task { id, name });
        }
    }
    for (seen, info) in all.iter().zip(infos) {
        match info.state {
            TaskState::Waiting => add_kinds(seen, &mut info.waits_for),
            _ => info.waits_for.clear(),
        }
    }
}

/// The peer and local address of a socket, if it has them.
fn addresses(registration: &Registration) -> [Option<SocketAddr>; 2] {
    let address = |address: std::io::Result<SockAddr>| address.ok()?.as_socket();
    let both = registration.with_fd(|fd| {
        let socket = SockRef::from(&fd);
        [address(socket.peer_addr()), address(socket.local_addr())]
    });
    both.unwrap_or_default()
}

/// Adds what is known only from the last poll.
fn add_kinds(seen: &TaskSnapshot, waits: &mut Vec<WaitsFor>) {
    let mut add = |reason, wait| {
        if seen.waits.has(reason) {
            waits.push(wait);
        }
    };
    add(WaitReason::Group, WaitsFor::Group);
    add(WaitReason::RemoteTask, WaitsFor::RemoteTask);
    add(WaitReason::Promise, WaitsFor::Promise);
    add(WaitReason::Job, WaitsFor::Unblock);
    if waits.is_empty() {
        waits.push(if seen.has_waker {
            WaitsFor::Outside
        } else {
            WaitsFor::Nothing
        });
    }
}
