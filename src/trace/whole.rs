//! Completes a trace, so that each begin has its end. The ring may have lost a begin, and the
//! recording may have stopped, or be read, before an end.

use std::collections::HashMap;
use std::time::Duration;

use crate::hooks::{Event, EventKind, Outcome, TaskRef};

/// The events in their order. Missing begins are added at the time of the first event, and
/// missing ends at `end`.
pub(super) fn whole(events: &[Event], end: Duration) -> Vec<Event> {
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
