//! A trace made whole: each begin with its end. The ring cuts off the beginning, and the
//! recording may stop, or be looked at, in the middle of something.

use std::collections::HashMap;
use std::time::Duration;

use super::event::{Event, For, Happened, How, Who};

/// What has begun and not ended.
#[derive(Default)]
struct Open {
    poll: bool,
    waits: Vec<For>,
}

/// The events, in their order, with what is missing: begins at the time of the first event,
/// ends at `end`.
pub(super) fn whole(events: &[Event], end: Duration) -> Vec<Event> {
    let mut open: HashMap<Who, Open> = HashMap::new();
    let mut order = Vec::new();
    let mut missing = Vec::new();
    for event in events {
        let known = open.entry(event.who).or_insert_with(|| {
            order.push(event.who);
            Open::default()
        });
        match event.happened {
            Happened::PollBegin => known.poll = true,
            Happened::PollEnd(_) if known.poll => known.poll = false,
            Happened::PollEnd(_) => missing.push((event.who, Happened::PollBegin)),
            Happened::WaitBegin(what) => known.waits.push(what),
            Happened::WaitEnd(what) => match known.waits.iter().position(|&known| known == what) {
                Some(at) => drop(known.waits.remove(at)),
                None => missing.push((event.who, Happened::WaitBegin(what))),
            },
            Happened::Spawn(_) | Happened::Wake(_) | Happened::Cancel => {}
        }
    }
    let start = events.first().map_or(Duration::ZERO, |first| first.at);
    let begins = missing.into_iter().map(|(who, happened)| Event {
        at: start,
        who,
        happened,
    });
    let mut whole: Vec<Event> = begins.collect();
    whole.extend(events);
    for who in order {
        let left = open.remove(&who).unwrap_or_default();
        let poll = left.poll.then_some(Happened::PollEnd(How::Pending));
        let waits = left.waits.into_iter().map(Happened::WaitEnd);
        whole.extend(poll.into_iter().chain(waits).map(|happened| Event {
            at: end,
            who,
            happened,
        }));
    }
    whole
}
