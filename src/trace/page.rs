//! The picture: `page.html`, with the data of a trace in it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use super::Trace;
use super::json::Text;
use super::rows::{Row, rows};
use crate::hooks::{Cause, Outcome, TaskRef, WaitReason};

const PAGE: &str = include_str!("page.html");

pub(super) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let (head, tail) = PAGE
        .split_once("@DATA@")
        .expect("the page has a place for the data");
    out.write_all(head.as_bytes())?;
    write_data(trace, out)?;
    out.write_all(tail.as_bytes())
}

/// Times are in nanoseconds, spans flat lists of numbers: there may be a million of them.
fn write_data(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let (rows, wakes) = rows(trace);
    let numbers = rows.iter().enumerate();
    let index: HashMap<TaskRef, usize> = numbers.map(|(at, row)| (row.totals.task, at)).collect();
    let mut labels = Labels::default();
    let (end, lost) = (trace.end.as_nanos(), trace.lost);
    write!(out, "{{\"end\":{end},\"lost\":{lost},\n\"tasks\":[")?;
    // Several runtimes have a `main` each, and a `task-1`.
    let several = rows
        .windows(2)
        .any(|pair| pair[0].totals.task.runtime != pair[1].totals.task.runtime);
    for (at, row) in rows.iter().enumerate() {
        out.write_all(if at > 0 { b",\n" } else { b"\n" })?;
        write_row(row, several, &mut labels, out)?;
    }
    out.write_all(b"],\n\"wakes\":")?;
    let wakes = wakes.iter().map(|wake| {
        let by = match wake.by {
            Cause::Task(task) => index.get(&task).map_or(-4, |&at| at as i64),
            Cause::Timers => -1,
            Cause::Reactor => -2,
            Cause::Inbox => -3,
            Cause::Outside => -4,
        };
        let at = wake.at.as_nanos();
        format!("{at},{by},{},{}", wake.row, u8::from(wake.is_spawn))
    });
    write_list(out, wakes)?;
    out.write_all(b",\n\"labels\":")?;
    let labels = labels.list.iter();
    write_list(
        out,
        labels.map(|what| format!("[{},{}]", Text(what.category()), Text(&what.to_string()))),
    )?;
    out.write_all(b"}")
}

fn write_row(
    row: &Row,
    several: bool,
    labels: &mut Labels,
    out: &mut impl Write,
) -> io::Result<()> {
    let totals = &row.totals;
    let id = match several {
        true => format!("{} of runtime {}", totals.task, totals.task.runtime),
        false => totals.task.to_string(),
    };
    write!(out, "{{\"id\":{}", Text(&id))?;
    match &totals.name {
        Some(name) => write!(out, ",\"name\":{}", Text(name))?,
        None => write!(out, ",\"name\":null")?,
    }
    let place = totals.spawned_at.map(ToString::to_string);
    write!(out, ",\"place\":{}", Text(&place.unwrap_or_default()))?;
    let time = |time: Option<Duration>| match time {
        Some(time) => time.as_nanos().to_string(),
        None => "null".to_string(),
    };
    let how = totals.ended.map(|(_, how)| number(how).to_string());
    write!(
        out,
        ",\"spawned\":{},\"ended\":{},\"how\":{},\"count\":{},\"busy\":{},\"longest\":{},\"queue\":{},\"wait\":{}",
        time(totals.spawned),
        time(totals.ended.map(|(at, _)| at)),
        how.as_deref().unwrap_or("null"),
        totals.polls,
        totals.busy.as_nanos(),
        totals.longest.as_nanos(),
        totals.queued.as_nanos(),
        totals.waited.as_nanos(),
    )?;
    let span =
        |begin: &Duration, end: &Duration| format!("{},{}", begin.as_nanos(), end.as_nanos());
    out.write_all(b",\n\"polls\":")?;
    let polls = row.polls.iter();
    write_list(
        out,
        polls.map(|(begin, end, how)| format!("{},{}", span(begin, end), number(*how))),
    )?;
    out.write_all(b",\"queued\":")?;
    write_list(out, row.queued.iter().map(|(begin, end)| span(begin, end)))?;
    out.write_all(b",\"waits\":")?;
    let mut waits: Vec<_> = row.waits.iter().collect();
    waits.sort_by_key(|(begin, ..)| *begin);
    let waits = waits.into_iter();
    write_list(
        out,
        waits.map(|(begin, end, what)| format!("{},{}", span(begin, end), labels.number(*what))),
    )?;
    out.write_all(b"}")
}

fn write_list(out: &mut impl Write, items: impl Iterator<Item = String>) -> io::Result<()> {
    out.write_all(b"[")?;
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        out.write_all(item.as_bytes())?;
    }
    out.write_all(b"]")
}

/// As the page numbers them.
fn number(how: Outcome) -> u8 {
    match how {
        Outcome::Pending => 0,
        Outcome::Done => 1,
        Outcome::Panicked => 2,
        Outcome::Cancelled => 3,
    }
}

/// The things that tasks wait for, each once.
#[derive(Default)]
struct Labels {
    list: Vec<WaitReason>,
    index: HashMap<WaitReason, usize>,
}

impl Labels {
    fn number(&mut self, what: WaitReason) -> usize {
        *self.index.entry(what).or_insert_with(|| {
            self.list.push(what);
            self.list.len() - 1
        })
    }
}
