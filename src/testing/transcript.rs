//! What has happened on a simulated network, in order.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use crate::sync::{Mutex, lock};

/// Something that has happened on the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    /// For example "connect", "data", "fin", "rst", "datagram", "lost", "crash", "partition".
    pub(crate) kind: &'static str,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// The number of bytes.
    pub(crate) len: usize,
}

/// The events of a world, with endpoints, lengths and times, but without their data.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    names: Mutex<BTreeMap<IpAddr, String>>,
    events: Mutex<Vec<(Duration, Event)>>,
    /// The number of events at the last panic.
    at_panic: Mutex<Option<usize>>,
}

impl Transcript {
    /// Adds an event, which has happened at `time` after the start of the world.
    pub(crate) fn record(&self, time: Duration, event: Event) {
        lock(&self.events).push((time, event));
    }

    /// Sets the name that is shown instead of the address of a host.
    pub(crate) fn set_name(&self, address: IpAddr, name: &str) {
        lock(&self.names).insert(address, name.to_string());
    }

    /// Records that the test panics now.
    pub(crate) fn panics(&self) {
        let events = lock(&self.events).len();
        *lock(&self.at_panic) = Some(events);
    }

    /// Returns a line for each event.
    pub(crate) fn text(&self) -> String {
        let all = lock(&self.events).len();
        self.lines(0..all)
    }

    /// Returns the lines of the last events before the panic.
    pub(crate) fn end(&self, most: usize) -> String {
        let all = lock(&self.events).len();
        let end = lock(&self.at_panic).unwrap_or(all);
        let start = end.saturating_sub(most);
        let [before, after] = [(start, "before"), (all - end, "after the panic")].map(
            |(events, when)| match events {
                0 => String::new(),
                _ => format!("({events} events {when})\n"),
            },
        );
        before + &self.lines(start..end) + &after
    }

    fn lines(&self, events: Range<usize>) -> String {
        let lines = events.filter_map(|index| self.line(index));
        lines.map(|line| line + "\n").collect()
    }

    /// Returns the line of an event, if there are so many.
    pub(crate) fn line(&self, index: usize) -> Option<String> {
        let (time, event) = lock(&self.events).get(index).copied()?;
        let names = lock(&self.names);
        let from = Endpoint(&names, event.from);
        let to = Endpoint(&names, event.to);
        let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
        let mut line = format!("{seconds}.{nanos:09} {from} > {to} {}", event.kind);
        if event.len > 0 {
            let _ = write!(line, " {}", event.len);
        }
        Some(line)
    }

    /// Returns the index of the first event that differs from `other`.
    pub(crate) fn first_difference(&self, other: &Transcript) -> Option<usize> {
        let (ours, theirs) = (lock(&self.events), lock(&other.events));
        let same = ours.iter().zip(theirs.iter());
        let same = same.take_while(|(one, other)| one == other).count();
        (same < ours.len().max(theirs.len())).then_some(same)
    }
}

/// An endpoint, with the name of its host if that is known. A port of 0 is not shown: the event
/// concerns the whole host.
struct Endpoint<'a>(&'a BTreeMap<IpAddr, String>, SocketAddr);

impl fmt::Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint(names, address) = self;
        match (names.get(&address.ip()), address.port()) {
            (Some(name), 0) => f.write_str(name),
            (Some(name), port) => write!(f, "{name}:{port}"),
            (None, 0) => address.ip().fmt(f),
            (None, _) => address.fmt(f),
        }
    }
}
