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
use crate::task_cell::{LocalTask, WaiterId, write_name};

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
            WaitsFor::Read { fd, peer, local } | WaitsFor::Write { fd, peer, local } => {
                let is_read = matches!(self, WaitsFor::Read { .. });
                let what = if is_read { "read" } else { "write" };
                let (at, address) = match (peer, local) {
                    (Some(peer), _) => ("", peer),
                    (None, Some(local)) => ("at ", local),
                    (None, None) => return write!(f, "to {what} fd {fd}"),
                };
                return write!(f, "to {what} fd {fd} ({at}{address})");
            }
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
        let mut cells = Vec::new();
        for title in TITLES {
            cells.push(title.to_string());
        }
        let mut has_times = false;
        for info in self.main.iter().chain(&self.tasks) {
            has_times |= info.age.is_some();
            add_row(&mut cells, info);
        }
        let mut widths = [0; TITLES.len()];
        for (place, cell) in cells.iter().enumerate() {
            let width = &mut widths[place % TITLES.len()];
            *width = cell.chars().count().max(*width);
        }
        for (place, cell) in cells.iter().enumerate() {
            let column = place % TITLES.len();
            let width = widths[column];
            match column {
                AGE..=LONGEST if !has_times => {}
                // Numbers are aligned to the right.
                POLLS..=LONGEST => write!(f, "{cell:>width$}  ")?,
                SPAWNED_AT => writeln!(f, "{cell}")?,
                _ => write!(f, "{cell:width$}  ")?,
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

fn add_row(cells: &mut Vec<String>, info: &TaskInfo) {
    cells.push(match &info.name {
        _ if info.id == MAIN => "main".to_string(),
        Some(name) => format!("{} {name}", info.id),
        None => info.id.to_string(),
    });
    cells.push(info.state.to_string());
    cells.push(info.polls.to_string());
    for time in [info.age, info.total_poll, info.longest_poll] {
        cells.push(time.map_or(String::new(), |time| format!("{time:.1?}")));
    }
    cells.push(list(&info.waits_for));
    cells.push(info.spawned_at.to_string());
}

/// Describes all tasks of a runtime, and the future of its `block_on`.
pub(crate) fn dump(executor: &Executor) -> Dump {
    let mut waits = Waits::new(executor);
    waits.add_events(executor);
    waits.into_dump(executor)
}

/// As [`dump`], if it is known that no task waits for a source or a timer. The description of
/// tasks that hang is in every program, and this is all that it needs.
pub(crate) fn dump_without_events(executor: &Executor) -> Dump {
    Waits::new(executor).into_dump(executor)
}

/// The tasks of a runtime, and what each of them waits for.
struct Waits {
    tasks: Vec<(LocalTask, Vec<WaitsFor>)>,
    /// The id of each task, and its place in `tasks`. Sorted by a heap, whose code is a quarter of
    /// that of a sort.
    index: Vec<(u64, usize)>,
}

impl Waits {
    fn new(executor: &Executor) -> Waits {
        let mut tasks = Vec::new();
        let mut index = BinaryHeap::new();
        executor.for_each_task(&mut |task| {
            index.push((task.waiter_id().into(), tasks.len()));
            tasks.push((task, Vec::new()));
        });
        let index = index.into_sorted_vec();
        Waits { tasks, index }
    }

    fn add(&mut self, waiter: WaiterId, wait: WaitsFor) {
        let waiter = u64::from(waiter);
        if let Ok(found) = self.index.binary_search_by_key(&waiter, |entry| entry.0) {
            let (_, place) = self.index[found];
            self.tasks[place].1.push(wait);
        }
    }

    fn add_events(&mut self, executor: &Executor) {
        if let Some(reactor) = Reactor::get() {
            reactor.for_each_wait(&mut |waiter, direction, registration| {
                let (fd, [peer, local]) = (registration.number(), addresses(registration));
                let wait = match direction {
                    Direction::Read => WaitsFor::Read { fd, peer, local },
                    Direction::Write => WaitsFor::Write { fd, peer, local },
                };
                self.add(waiter, wait);
            });
        }
        let now = if executor.has_virtual_clock() {
            executor.now()
        } else {
            Instant::now()
        };
        executor.for_each_timer(&mut |waiter, deadline| {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            self.add(waiter, WaitsFor::Timer { left });
        });
    }

    fn into_dump(mut self, executor: &Executor) -> Dump {
        for place in 0..self.tasks.len() {
            let task = &self.tasks[place].0;
            if let Some(waiter) = task.joined_by() {
                let (id, name) = (TaskId::new(task.number()), name(task));
                self.add(waiter, WaitsFor::Task { id, name });
            }
        }
        let (mut main, mut tasks) = (None, Vec::new());
        for (task, waits) in self.tasks {
            let info = info(executor, &task, waits);
            match info.id {
                MAIN => main = Some(info),
                _ => tasks.push(info),
            }
        }
        Dump { main, tasks }
    }
}

fn info(executor: &Executor, task: &LocalTask, waits: Vec<WaitsFor>) -> TaskInfo {
    let watch = executor.watch();
    let times = watch.and_then(|watch| watch.times(task.slot(), task.number()));
    let state = match task {
        _ if task.is_polled() => TaskState::Running,
        _ if task.is_queued() => TaskState::Ready,
        _ => TaskState::Waiting,
    };
    TaskInfo {
        id: TaskId::new(task.number()),
        name: name(task),
        spawned_at: task.meta().spawned_at,
        polls: task.polls(),
        age: times.map(|times| times.spawned_at.elapsed()),
        total_poll: times.map(|times| times.total),
        longest_poll: times.map(|times| times.longest),
        state,
        waits_for: match state {
            TaskState::Waiting => waits_of(task, waits),
            _ => Vec::new(),
        },
    }
}

fn name(task: &LocalTask) -> Option<String> {
    task.meta().name.map(str::to_string)
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

/// Adds to `waits` what is known only from the last poll.
fn waits_of(task: &LocalTask, mut waits: Vec<WaitsFor>) -> Vec<WaitsFor> {
    let mut add = |reason, wait| {
        if task.waits().has(reason) {
            waits.push(wait);
        }
    };
    add(WaitReason::Group, WaitsFor::Group);
    add(WaitReason::RemoteTask, WaitsFor::RemoteTask);
    add(WaitReason::Promise, WaitsFor::Promise);
    add(WaitReason::Job, WaitsFor::Unblock);
    if waits.is_empty() {
        waits.push(if task.remote_count() > 0 {
            WaitsFor::Outside
        } else {
            WaitsFor::Nothing
        });
    }
    waits
}
