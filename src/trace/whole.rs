//! A trace made whole: each begin with its end. The ring cuts off the beginning, and the
//! recording may stop, or be looked at, in the middle of something.

use std::collections::HashMap;
use std::time::Duration;

use crate::hooks::{Event, EventKind, Outcome, TaskRef, WaitReason};

/// What has begun and not ended.
#[derive(Default)]
struct Open {
    poll: bool,
    waits: Vec<WaitReason>,
}

/// The events, in their order, with what is missing: begins at the time of the first event,
/// ends at `end`.
pub(super) fn whole(events: &[Event], end: Duration) -> Vec<Event> {
    let mut open: HashMap<TaskRef, Open> = HashMap::new();
    let mut order = Vec::new();
    let mut missing = Vec::new();
    for event in events {
        let known = open.entry(event.task).or_insert_with(|| {
            order.push(event.task);
            Open::default()
        });
        match event.kind {
            EventKind::PollBegin => known.poll = true,
            EventKind::PollEnd(_) if known.poll => known.poll = false,
            EventKind::PollEnd(_) => missing.push((event.task, EventKind::PollBegin)),
            EventKind::WaitBegin(what) => known.waits.push(what),
            EventKind::WaitEnd(what) => match known.waits.iter().position(|&known| known == what) {
                Some(at) => drop(known.waits.remove(at)),
                None => missing.push((event.task, EventKind::WaitBegin(what))),
            },
            EventKind::Spawn(_) | EventKind::Wake(_) | EventKind::Cancel => {}
        }
    }
    let start = events.first().map_or(Duration::ZERO, |first| first.at);
    let begins = missing.into_iter().map(|(task, kind)| Event {
        at: start,
        task,
        kind,
    });
    let mut whole: Vec<Event> = begins.collect();
    whole.extend(events);
    for task in order {
        let left = open.remove(&task).unwrap_or_default();
        let poll = left.poll.then_some(EventKind::PollEnd(Outcome::Pending));
        let waits = left.waits.into_iter().map(EventKind::WaitEnd);
        whole.extend(poll.into_iter().chain(waits).map(|kind| Event {
            at: end,
            task,
            kind,
        }));
    }
    whole
}
