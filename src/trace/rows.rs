//! The events of each task, as spans of time, and what they add up to.

use std::collections::HashMap;
use std::panic::Location;
use std::time::Duration;

use super::Trace;
use super::whole::whole;
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
    /// Whose these are.
    pub task: TaskRef,
    pub(super) name: Option<String>,
    /// Where it was spawned, or where `block_on` was called; the last of these, if there were
    /// several.
    pub spawned_at: Option<&'static Location<'static>>,
    /// When it was spawned, if that is in the trace.
    pub spawned: Option<Duration>,
    /// When and how it ended, if that is in the trace.
    pub ended: Option<(Duration, Outcome)>,
    /// How often it was polled.
    pub polls: u64,
    /// How long its polls took, all together.
    pub busy: Duration,
    /// How long the longest poll took.
    pub longest: Duration,
    /// How long it was ready, and in the queue.
    pub queued: Duration,
    /// How long it waited.
    pub waited: Duration,
}

impl Totals {
    /// The name of the task: its own, or `task-1` with its number, or `main`.
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

/// A task with its spans, each with its begin and end.
pub(super) struct Row {
    pub(super) totals: Totals,
    pub(super) polls: Vec<(Duration, Duration, Outcome)>,
    pub(super) queued: Vec<(Duration, Duration)>,
    pub(super) waits: Vec<(Duration, Duration, WaitReason)>,
}

/// Somebody was woken, or spawned.
pub(super) struct Wake {
    pub(super) at: Duration,
    pub(super) by: Cause,
    pub(super) row: usize,
    pub(super) is_spawn: bool,
}

/// What is open while the events are gone through.
#[derive(Default)]
struct Open {
    poll: Option<Duration>,
    queued: Option<Duration>,
    waiting: Option<Duration>,
    waits: Vec<(Duration, WaitReason)>,
}

/// The tasks in the order in which they appear, and the wakes in theirs.
pub(super) fn rows(trace: &Trace) -> (Vec<Row>, Vec<Wake>) {
    let mut index: HashMap<TaskRef, usize> = HashMap::new();
    let mut rows: Vec<(Row, Open)> = Vec::new();
    let mut wakes = Vec::new();
    for Event { at, task, kind } in whole(&trace.events, trace.end) {
        let place = *index.entry(task).or_insert_with(|| {
            rows.push((Row::new(trace, task), Open::default()));
            rows.len() - 1
        });
        let (row, open) = &mut rows[place];
        match kind {
            EventKind::Spawn(by) | EventKind::Wake(by) => {
                let is_spawn = matches!(kind, EventKind::Spawn(_));
                if is_spawn {
                    row.totals.spawned = Some(at);
                }
                open.queued = Some(at);
                wakes.push(Wake {
                    at,
                    by,
                    row: place,
                    is_spawn,
                });
            }
            EventKind::PollBegin => {
                row.leave_queue(open, at);
                open.poll = Some(at);
            }
            EventKind::PollEnd(how) => {
                row.end_poll(open, at, how);
            }
            EventKind::WaitBegin(what) => {
                open.waiting.get_or_insert(at);
                open.waits.push((at, what));
            }
            EventKind::WaitEnd(what) => {
                let known = open.waits.iter().position(|&(_, known)| known == what);
                if let Some(known) = known {
                    let (begin, what) = open.waits.remove(known);
                    row.waits.push((begin, at, what));
                }
                if open.waits.is_empty() {
                    let begin = open.waiting.take().unwrap_or(at);
                    row.totals.waited += at.saturating_sub(begin);
                }
            }
            EventKind::Cancel => {
                row.leave_queue(open, at);
                row.totals.ended = Some((at, Outcome::Cancelled));
            }
        }
    }
    for (row, open) in &mut rows {
        row.leave_queue(open, trace.end);
    }
    (rows.into_iter().map(|(row, _)| row).collect(), wakes)
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
        }
    }

    fn leave_queue(&mut self, open: &mut Open, at: Duration) {
        if let Some(since) = open.queued.take() {
            self.queued.push((since, at));
            self.totals.queued += at.saturating_sub(since);
        }
    }

    fn end_poll(&mut self, open: &mut Open, at: Duration, how: Outcome) {
        let Some(begin) = open.poll.take() else {
            return;
        };
        let took = at.saturating_sub(begin);
        self.polls.push((begin, at, how));
        self.totals.polls += 1;
        self.totals.busy += took;
        self.totals.longest = self.totals.longest.max(took);
        if how != Outcome::Pending {
            self.totals.ended = Some((at, how));
        }
        if open.queued.is_some() {
            // It has woken itself while it was polled: it waits for its turn from here on.
            open.queued = Some(at);
        }
    }
}
