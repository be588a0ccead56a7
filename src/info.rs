//! What a runtime tells of itself and its tasks. Users find it in [`crate::inspect`].

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::Location;
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockRef};

use crate::executor::Executor;
use crate::hooks::{TaskId, WaitReason};
use crate::reactor::{Direction, Reactor, Registration};
use crate::task_cell::{TaskSnapshot, WaiterId};
use crate::watch::Short;

/// What a runtime has counted since it was made: [`Runtime::metrics`](crate::Runtime::metrics).
///
/// To read it costs no more than to copy it, and to count costs next to nothing: plain
/// numbers of the runtime's own thread. What happens between two readings is their
/// difference.
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
/// // The future of `block_on` is no task, but it is polled and woken like one.
/// assert_eq!((metrics.spawned, metrics.live), (1, 0));
/// // Main: to spawn and wait, and when the task is done. The task: at its start, after its
/// // yield, when its time has come.
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
    /// Tasks that were spawned.
    pub spawned: u64,
    /// Tasks that are there now: not done, not cancelled.
    pub live: usize,
    /// Polls, of tasks and of the future of `block_on`.
    pub polls: u64,
    /// Wakes on the runtime's own thread that made a task ready: by its sockets and timers,
    /// and by other tasks.
    pub wakes_local: u64,
    /// Wakes from other threads that made a task ready.
    pub wakes_remote: u64,
    /// Wakes of a task that was ready already, and of one that was over. Not counted are
    /// those from other threads for which another such wake was still under way: that would
    /// cost them more than the wake.
    pub wakes_redundant: u64,
    /// Generations: times in which all that was ready was polled, each once.
    pub turns: u64,
    /// Times when nothing was ready, and the thread waited for something to happen.
    pub waits: u64,
    /// What the system has reported of sockets and other file descriptors.
    pub events: u64,
    /// Timers that are set now.
    pub timers_pending: usize,
    /// Timers whose time has come.
    pub timers_fired: u64,
    /// The most that was ready at the start of a turn.
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

/// What a task is doing: from [`Runtime::tasks`](crate::Runtime::tasks) and
/// [`inspect::dump`](crate::inspect::dump).
///
/// As text it is a line.
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
    /// Its number.
    pub id: TaskId,
    /// The name that it was given.
    pub name: Option<String>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
    /// How often it was polled.
    pub polls: u32,
    /// How long ago it was spawned. Only under [`Builder::inspect`], as the times below.
    ///
    /// [`Builder::inspect`]: crate::runtime::Builder::inspect
    pub age: Option<Duration>,
    /// How long all its polls have taken.
    pub total_poll: Option<Duration>,
    /// How long the longest of them has taken.
    pub longest_poll: Option<Duration>,
    /// What it is doing.
    pub state: TaskState,
    /// What may wake it, while it waits. A task that waits for several things at once has
    /// several; what it has left without taking its waker back is among them.
    pub waits_for: Vec<WaitsFor>,
}

/// Whether a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// It is being polled: it is the one that asks.
    Running,
    /// It will be polled in the next turn.
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

/// For what a task waits.
///
/// Sockets, timers and tasks are known exactly. The kinds without details are known from
/// the task's last poll: a future inside of it that was not polled then (in a
/// `FuturesUnordered`, say) is not among them.
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
    /// Room to write, or a connection that is being made.
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
        /// How long still; `None` for one that is too far off to fire.
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
    /// The next end of a task of a `TaskGroup`.
    Group,
    /// A `RemoteTask`.
    RemoteTask,
    /// A promise.
    Promise,
    /// A closure on the pool of threads.
    Unblock,
    /// Something that is not of this crate: a channel, a lock, another thread.
    Outside,
    /// Nothing: it has returned `Pending`, and nobody has its waker. It will never be
    /// polled again, unless its abort handle is used.
    Nothing,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut address = |what: &str, fd: &i64, peer: &Option<_>, local: &Option<_>| {
            write!(f, "{what} fd {fd}")?;
            match (peer, local) {
                (Some(peer), _) => write!(f, " ({peer})"),
                (None, Some(local)) => write!(f, " (at {local})"),
                (None, None) => Ok(()),
            }
        };
        match self {
            WaitsFor::Read { fd, peer, local } => address("to read", fd, peer, local),
            WaitsFor::Write { fd, peer, local } => address("to write", fd, peer, local),
            WaitsFor::Timer { left: Some(left) } => write!(f, "a timer, in {}", Short(*left)),
            WaitsFor::Timer { left: None } => f.write_str("a timer that never fires"),
            WaitsFor::Task {
                name: Some(name), ..
            } => write!(f, "task `{name}`"),
            WaitsFor::Task { id, name: None } => write!(f, "task `task-{id}`"),
            WaitsFor::Group => f.write_str("a task of its group"),
            WaitsFor::RemoteTask => f.write_str("a remote task"),
            WaitsFor::Promise => f.write_str("a promise"),
            WaitsFor::Unblock => f.write_str("a job of `unblock`"),
            WaitsFor::Outside => f.write_str("something outside"),
            WaitsFor::Nothing => f.write_str("nothing: its waker is gone"),
        }
    }
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "task `{name}`")?,
            None => write!(f, "task `task-{}`", self.id)?,
        }
        write!(f, " (spawned at {}): {}", self.spawned_at, self.state)?;
        if !self.waits_for.is_empty() {
            f.write_str(" for ")?;
            write_list(f, &self.waits_for, "; ")?;
        }
        write!(f, ", {} polls", self.polls)?;
        if let (Some(age), Some(total), Some(longest)) =
            (self.age, self.total_poll, self.longest_poll)
        {
            let [age, total, longest] = [age, total, longest].map(Short);
            write!(f, ", {age} old, busy for {total}, for {longest} at once")?;
        }
        Ok(())
    }
}

/// All of them, with `between` in between.
pub(crate) fn write_list(
    to: &mut dyn fmt::Write,
    waits: &[WaitsFor],
    between: &str,
) -> fmt::Result {
    for (at, wait) in waits.iter().enumerate() {
        if at > 0 {
            to.write_str(between)?;
        }
        write!(to, "{wait}")?;
    }
    Ok(())
}

/// All tasks of a runtime, from [`inspect::dump`](crate::inspect::dump). As text it is a
/// table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dump {
    /// The future of the `block_on` that is under way. Its number is 0, and its place that
    /// of the call.
    pub main: Option<TaskInfo>,
    /// The tasks that are not over, in the order in which they were spawned.
    pub tasks: Vec<TaskInfo>,
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(self.tasks.iter().chain(&self.main).any(|i| i.age.is_some()));
        if let Some(main) = &self.main {
            table.add("main".to_string(), main);
        }
        for info in &self.tasks {
            let who = match &info.name {
                Some(name) => format!("{} {name}", info.id),
                None => info.id.to_string(),
            };
            table.add(who, info);
        }
        table.fmt(f)
    }
}

/// Rows of equal length, the titles first.
struct Table {
    has_times: bool,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(has_times: bool) -> Table {
        let titles: &[&str] = match has_times {
            true => &[
                "task",
                "state",
                "polls",
                "age",
                "busy",
                "longest",
                "waits for",
                "spawned at",
            ],
            false => &["task", "state", "polls", "waits for", "spawned at"],
        };
        let titles = titles.iter().map(|title| title.to_string()).collect();
        Table {
            has_times,
            rows: vec![titles],
        }
    }

    fn add(&mut self, who: String, info: &TaskInfo) {
        let mut row = vec![who, info.state.to_string(), info.polls.to_string()];
        if self.has_times {
            let times = [info.age, info.total_poll, info.longest_poll];
            let text = |time: Option<_>| time.map(|time| Short(time).to_string());
            row.extend(times.map(|time| text(time).unwrap_or_default()));
        }
        let mut waits = String::new();
        // To a `String`: it does not fail.
        let _ = write_list(&mut waits, &info.waits_for, "; ");
        row.extend([waits, info.spawned_at.to_string()]);
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Numbers to the right; nothing after the last.
                match column {
                    _ if column + 1 == columns => writeln!(f, "{cell}")?,
                    2.. if column + 2 < columns => write!(f, "{cell:>width$}  ")?,
                    _ => write!(f, "{cell:width$}  ")?,
                }
            }
        }
        Ok(())
    }
}

/// What all tasks of a runtime are doing, and its main.
pub(crate) fn dump(executor: &Executor) -> Dump {
    let mut all = executor.snapshot();
    let tasks = all.len();
    all.extend(executor.snapshot_main());
    let mut waits = waits(executor, &all);
    let mut info = |at: usize| {
        let seen = &all[at];
        let waits = std::mem::take(&mut waits[at]);
        let times = executor
            .watch()
            .and_then(|watch| watch.times(seen.slot, seen.label.number));
        TaskInfo {
            waits_for: match state(seen) {
                TaskState::Waiting => waits_of(seen, waits),
                _ => Vec::new(),
            },
            state: state(seen),
            id: TaskId::new(if at < tasks { seen.label.number } else { 0 }),
            name: seen.label.name.as_ref().map(|name| name.to_string()),
            spawned_at: seen.label.spawned_at,
            polls: seen.polls,
            age: times.map(|times| times.born.elapsed()),
            total_poll: times.map(|times| times.total),
            longest_poll: times.map(|times| times.longest),
        }
    };
    let mut order: Vec<usize> = (0..tasks).collect();
    order.sort_by_key(|at| all[*at].label.number);
    Dump {
        tasks: order.into_iter().map(&mut info).collect(),
        main: (tasks < all.len()).then(|| info(tasks)),
    }
}

fn state(seen: &TaskSnapshot) -> TaskState {
    if seen.is_polled {
        TaskState::Running
    } else if seen.is_queued {
        TaskState::Ready
    } else {
        TaskState::Waiting
    }
}

/// The sockets, timers and tasks for which each of them waits.
fn waits(executor: &Executor, all: &[TaskSnapshot]) -> Vec<Vec<WaitsFor>> {
    let places: HashMap<WaiterId, usize> = all
        .iter()
        .enumerate()
        .map(|(at, seen)| (seen.id, at))
        .collect();
    let mut waits: Vec<_> = all.iter().map(|_| Vec::new()).collect();
    let mut add = |who: WaiterId, wait: WaitsFor| {
        if let Some(at) = places.get(&who) {
            waits[*at].push(wait);
        }
    };
    if let Some(reactor) = Reactor::get() {
        reactor.for_each_wait(&mut |who, direction, registration| {
            let (fd, [peer, local]) = (registration.number(), addresses(registration));
            let wait = match direction {
                Direction::Read => WaitsFor::Read { fd, peer, local },
                Direction::Write => WaitsFor::Write { fd, peer, local },
            };
            add(who, wait);
        });
    }
    let now = match executor.virtual_clock {
        None => Instant::now(),
        Some(_) => executor.now(),
    };
    executor.for_each_timer(&mut |who, deadline| {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        add(who, WaitsFor::Timer { left });
    });
    for seen in all {
        if let Some(who) = seen.joined_by {
            let id = TaskId::new(seen.label.number);
            let name = seen.label.name.as_ref().map(|name| name.to_string());
            add(who, WaitsFor::Task { id, name });
        }
    }
    waits
}

/// The ends of a socket, as far as there are any.
fn addresses(registration: &Registration) -> [Option<SocketAddr>; 2] {
    let address = |address: std::io::Result<SockAddr>| address.ok()?.as_socket();
    let both = registration.with_fd(|fd| {
        let socket = SockRef::from(&fd);
        [address(socket.peer_addr()), address(socket.local_addr())]
    });
    both.unwrap_or_default()
}

/// With what is known of the last poll only.
fn waits_of(seen: &TaskSnapshot, mut waits: Vec<WaitsFor>) -> Vec<WaitsFor> {
    let mut add = |kind, wait: fn() -> WaitsFor| {
        if seen.waits.has(kind) {
            waits.push(wait());
        }
    };
    add(WaitReason::Group, || WaitsFor::Group);
    add(WaitReason::RemoteTask, || WaitsFor::RemoteTask);
    add(WaitReason::Promise, || WaitsFor::Promise);
    add(WaitReason::Job, || WaitsFor::Unblock);
    if waits.is_empty() {
        waits.push(if seen.has_waker {
            WaitsFor::Outside
        } else {
            WaitsFor::Nothing
        });
    }
    waits
}
