//! [`Trace`], the recording of a thread. The ring may have lost the begin of a poll or wait, and
//! the recording may have stopped before its end. `whole` adds both.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use crate::hooks::{About, Event, EventKind, Outcome, TaskRef};

/// A recording of one thread, from [`start`](crate::trace::start) on.
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
    pub(super) events: Vec<Event>,
    pub(super) about: BTreeMap<TaskRef, About>,
    pub(super) lost: u64,
    pub(super) end: Duration,
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

    /// The number of events that the ring has dropped. They are older than all that are left.
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
    /// // A begin and an end of each poll, and a wake between two polls.
    /// assert_eq!(trace.lost(), 2 * 11 + 10 - 4);
    /// ```
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The duration of the recording. If it has not stopped, the duration so far.
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

    /// The events in their order. Missing begins are added at the time of the first event, and
    /// missing ends at `end`.
    pub(super) fn whole(&self) -> Vec<Event> {
        let (events, end) = (&self.events, self.end);
        let mut open: HashMap<TaskRef, Vec<EventKind>> = HashMap::new();
        let start = events.first().map_or(Duration::ZERO, |first| first.at);
        let mut whole = Vec::new();
        for &Event { task, kind, .. } in events {
            let begun = open.entry(task).or_default();
            let begin = match kind {
                EventKind::PollBegin | EventKind::WaitBegin(_) => {
                    begun.push(kind);
                    continue;
                }
                EventKind::PollEnd(_) => EventKind::PollBegin,
                EventKind::WaitEnd(reason) => EventKind::WaitBegin(reason),
                EventKind::Spawn(_) | EventKind::Wake(_) | EventKind::Cancel => continue,
            };
            if let Some(found) = begun.iter().position(|&known| known == begin) {
                begun.remove(found);
            } else {
                let (at, kind) = (start, begin);
                whole.push(Event { at, task, kind });
            }
        }
        whole.extend(events);
        let mut open: Vec<_> = open.into_iter().collect();
        open.sort_unstable_by_key(|&(task, _)| task);
        for (task, begun) in open {
            whole.extend(begun.into_iter().map(|begin| {
                let kind = match begin {
                    EventKind::WaitBegin(reason) => EventKind::WaitEnd(reason),
                    _ => EventKind::PollEnd(Outcome::Pending),
                };
                let at = end;
                Event { at, task, kind }
            }));
        }
        whole
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
