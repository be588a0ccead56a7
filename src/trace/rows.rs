//! The events of each task as spans of time, and their totals.

use std::collections::HashMap;
use std::panic::Location;
use std::time::Duration;

use super::recording::Trace;
use crate::hooks::{Cause, Event, EventKind, Outcome, TaskRef, WaitReason};

/// What a task has done in a [`Trace`].
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task, trace};
///
/// trace::start(1000);
/// block_on(async {
///     task::Builder::new().name("twice").spawn(task::yield_now()).await;
/// });
/// let totals = trace::stop().unwrap().totals();
/// let names: Vec<_> = totals.iter().map(|task| task.name()).collect();
/// assert_eq!(names, ["main", "twice"]);
/// assert_eq!(totals[1].polls, 2);
/// assert!(totals[1].busy >= totals[1].longest);
/// println!("{:?} was busy for {:?}", totals[1].spawned_at, totals[1].busy);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// The task.
    pub task: TaskRef,
    pub(super) name: Option<String>,
    /// Where it was spawned. For the future of a `block_on`, the place of the last call.
    pub spawned_at: Option<&'static Location<'static>>,
    /// When it was spawned, if that event is in the trace.
    pub spawned: Option<Duration>,
    /// When and how it ended, if that event is in the trace.
    pub ended: Option<(Duration, Outcome)>,
    /// How often it was polled.
    pub polls: u64,
    /// The sum of the durations of its polls.
    pub busy: Duration,
    /// The duration of the longest poll.
    pub longest: Duration,
    /// How long it was ready and waited in the queue to be polled.
    pub queued: Duration,
    /// How long it waited to be woken.
    pub waited: Duration,
}

impl Totals {
    /// The name of the task. Without one, `task-1` with its number, or `main`.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::trace;
    ///
    /// trace::start(1000);
    /// soloist::block_on(async {});
    /// assert_eq!(trace::stop().unwrap().totals()[0].name(), "main");
    /// ```
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.task.to_string())
    }
}

/// A task with its spans. Each has a begin and an end.
pub(super) struct Row {
    pub(super) totals: Totals,
    pub(super) polls: Vec<(Duration, Duration, Outcome)>,
    pub(super) queued: Vec<(Duration, Duration)>,
    pub(super) waits: Vec<(Duration, Duration, WaitReason)>,
    open: Open,
}

/// A task was woken or spawned.
pub(super) struct Wake {
    pub(super) at: Duration,
    pub(super) cause: Cause,
    pub(super) row: usize,
    pub(super) is_spawn: bool,
}

/// The begins of the spans that have not ended.
#[derive(Default)]
struct Open {
    poll: Option<Duration>,
    queued: Option<Duration>,
    /// Since when the task waits for anything at all.
    waiting: Option<Duration>,
    waits: Vec<(Duration, WaitReason)>,
}

/// The tasks in the order in which they appear, and the wakes in theirs.
pub(super) fn rows(trace: &Trace) -> (Vec<Row>, Vec<Wake>) {
    let mut index: HashMap<TaskRef, usize> = HashMap::new();
    let mut rows: Vec<Row> = Vec::new();
    let mut wakes = Vec::new();
    for Event { at, task, kind } in trace.whole() {
        let number = *index.entry(task).or_insert_with(|| {
            rows.push(Row::new(trace, task));
            rows.len() - 1
        });
        let row = &mut rows[number];
        match kind {
            EventKind::Spawn(cause) | EventKind::Wake(cause) => {
                let is_spawn = matches!(kind, EventKind::Spawn(_));
                if is_spawn {
                    row.totals.spawned = Some(at);
                }
                row.open.queued = Some(at);
                wakes.push(Wake {
                    at,
                    cause,
                    row: number,
                    is_spawn,
                });
            }
            EventKind::PollBegin => {
                row.leave_queue(at);
                row.open.poll = Some(at);
            }
            EventKind::PollEnd(outcome) => row.end_poll(at, outcome),
            EventKind::WaitBegin(reason) => {
                row.open.waiting.get_or_insert(at);
                row.open.waits.push((at, reason));
            }
            EventKind::WaitEnd(reason) => row.end_wait(at, reason),
            EventKind::Cancel => {
                row.leave_queue(at);
                row.totals.ended = Some((at, Outcome::Cancelled));
            }
        }
    }
    for row in &mut rows {
        row.leave_queue(trace.end);
    }
    (rows, wakes)
}

impl Row {
    fn new(trace: &Trace, task: TaskRef) -> Row {
        let about = trace.about.get(&task);
        Row {
            totals: Totals {
                task,
                name: about.and_then(|about| about.name.as_deref().map(String::from)),
                spawned_at: about.map(|about| about.spawned_at),
                spawned: None,
                ended: None,
                polls: 0,
                busy: Duration::ZERO,
                longest: Duration::ZERO,
                queued: Duration::ZERO,
                waited: Duration::ZERO,
            },
            polls: Vec::new(),
            queued: Vec::new(),
            waits: Vec::new(),
            open: Open::default(),
        }
    }

    fn leave_queue(&mut self, at: Duration) {
        if let Some(begin) = self.open.queued.take() {
            self.queued.push((begin, at));
            self.totals.queued += at.saturating_sub(begin);
        }
    }

    fn end_wait(&mut self, at: Duration, reason: WaitReason) {
        let waits = &mut self.open.waits;
        if let Some(found) = waits.iter().position(|&(_, known)| known == reason) {
            let (begin, _) = waits.remove(found);
            self.waits.push((begin, at, reason));
        }
        if waits.is_empty() {
            let begin = self.open.waiting.take().unwrap_or(at);
            self.totals.waited += at.saturating_sub(begin);
        }
    }

    fn end_poll(&mut self, at: Duration, outcome: Outcome) {
        let Some(begin) = self.open.poll.take() else {
            return;
        };
        let took = at.saturating_sub(begin);
        self.polls.push((begin, at, outcome));
        self.totals.polls += 1;
        self.totals.busy += took;
        self.totals.longest = self.totals.longest.max(took);
        if outcome != Outcome::Pending {
            self.totals.ended = Some((at, outcome));
        }
        // A task that was woken during its poll is in the queue from the end of the poll.
        if self.open.queued.is_some() {
            self.open.queued = Some(at);
        }
    }
}
