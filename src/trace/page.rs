//! The page for the browser: `page.html`, with the data of a trace in it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::recording::Trace;
use super::rows::{Row, rows};
use crate::hooks::{Cause, Outcome, TaskRef, WaitReason};

const PAGE: &str = include_str!("page.html");

pub(super) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let (head, tail) = PAGE
        .split_once("@DATA@")
        .expect("the page has a place for the data");
    out.write_all(head.as_bytes())?;
    // The data is in a `<script>`, which `</script>` or `<!--` in a name would end. JSON has a
    // `<` only in strings.
    let data = data(trace).to_string().replace('<', "\\u003c");
    out.write_all(data.as_bytes())?;
    out.write_all(tail.as_bytes())
}

/// Times are in nanoseconds. Spans and wakes are flat lists of numbers, because there may be a
/// million of them.
fn data(trace: &Trace) -> Value {
    let (rows, wakes) = rows(trace);
    let tasks = rows.iter().map(|row| row.totals.task);
    let index: HashMap<TaskRef, i64> = tasks.clone().zip(0..).collect();
    // Each runtime has a `main` and a `task-1`.
    let several = tasks
        .clone()
        .any(|task| task.runtime != rows[0].totals.task.runtime);
    let mut labels = Labels::default();
    let tasks: Vec<Value> = rows
        .iter()
        .map(|row| row_data(row, several, &mut labels))
        .collect();
    let mut flat = Vec::with_capacity(4 * wakes.len());
    for wake in wakes {
        let cause = match wake.cause {
            Cause::Task(task) => index.get(&task).copied().unwrap_or(-4),
            Cause::Timers => -1,
            Cause::Reactor => -2,
            Cause::Inbox => -3,
            Cause::Outside => -4,
        };
        let (at, row) = (nanos(wake.at) as i64, wake.row as i64);
        flat.extend([at, cause, row, wake.is_spawn.into()]);
    }
    json!({
        "end": nanos(trace.end),
        "lost": trace.lost,
        "tasks": tasks,
        "wakes": flat,
        "labels": labels.list,
    })
}

fn row_data(row: &Row, several: bool, labels: &mut Labels) -> Value {
    let totals = &row.totals;
    let id = match several {
        true => format!("{} of runtime {}", totals.task, totals.task.runtime),
        false => totals.task.to_string(),
    };
    let polls = row.polls.iter();
    let polls =
        polls.flat_map(|&(begin, end, outcome)| [nanos(begin), nanos(end), number(outcome)]);
    let queued = row.queued.iter();
    let queued = queued.flat_map(|&(begin, end)| [nanos(begin), nanos(end)]);
    let mut waits = row.waits.clone();
    waits.sort_by_key(|&(begin, ..)| begin);
    let waits = waits.into_iter();
    let waits =
        waits.flat_map(|(begin, end, reason)| [nanos(begin), nanos(end), labels.number(reason)]);
    json!({
        "id": id,
        "name": totals.name,
        "place": totals.spawned_at.map(ToString::to_string).unwrap_or_default(),
        "spawned": totals.spawned.map(nanos),
        "ended": totals.ended.map(|(at, _)| nanos(at)),
        "how": totals.ended.map(|(_, outcome)| number(outcome)),
        "count": totals.polls,
        "busy": nanos(totals.busy),
        "longest": nanos(totals.longest),
        "queue": nanos(totals.queued),
        "wait": nanos(totals.waited),
        "polls": polls.collect::<Vec<_>>(),
        "queued": queued.collect::<Vec<_>>(),
        "waits": waits.collect::<Vec<_>>(),
    })
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// The number of an outcome in the page.
fn number(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Pending => 0,
        Outcome::Done => 1,
        Outcome::Panicked => 2,
        Outcome::Cancelled => 3,
    }
}

/// The categories and texts of what tasks wait for, each pair once. (All timers have the same
/// text.)
#[derive(Default)]
struct Labels {
    list: Vec<(&'static str, String)>,
    index: HashMap<(&'static str, String), u64>,
}

impl Labels {
    fn number(&mut self, reason: WaitReason) -> u64 {
        let label = (reason.category(), reason.to_string());
        *self.index.entry(label).or_insert_with_key(|label| {
            self.list.push(label.clone());
            self.list.len() as u64 - 1
        })
    }
}
