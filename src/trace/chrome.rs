//! Chrome's trace event format, which Perfetto and `chrome://tracing` read.
//!
//! A runtime is written as a process, and a task as a thread of it. Polls are slices of the
//! thread, and wakes are flows. Waits are asynchronous events, because they may overlap.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::recording::Trace;
use super::rows;
use crate::hooks::{Cause, Event, EventKind, TaskRef, WaitReason};

struct Chrome<'a, W> {
    out: &'a mut W,
    /// The thread number of each task.
    threads: HashMap<TaskRef, usize>,
    /// The last number that was given to a flow or to a wait.
    last_id: usize,
    /// The flows that end at the next poll of the task.
    flows: HashMap<TaskRef, usize>,
    /// The waits that have begun.
    waits: HashMap<(TaskRef, WaitReason), Vec<usize>>,
    separator: &'static str,
}

pub(super) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let (rows, _) = rows::rows(trace);
    let tasks = rows.iter().map(|row| row.totals.task);
    let lost = trace.lost;
    write!(
        out,
        r#"{{"displayTimeUnit":"ns","otherData":{{"lost":"{lost}"}},"traceEvents":["#
    )?;
    let mut chrome = Chrome {
        out,
        threads: tasks.clone().zip(1..).collect(),
        last_id: 0,
        flows: HashMap::new(),
        waits: HashMap::new(),
        separator: "\n",
    };
    for runtime in tasks.map(|task| task.runtime).collect::<BTreeSet<_>>() {
        let name = format!("soloist runtime {runtime}");
        chrome.metadata("process_name", runtime, 0, json!({ "name": name }))?;
    }
    for (row, thread) in rows.iter().zip(1..) {
        let task = row.totals.task;
        let name = match &row.totals.name {
            Some(name) => format!("{name} ({task})"),
            None => task.to_string(),
        };
        chrome.metadata("thread_name", task.runtime, thread, json!({ "name": name }))?;
        let order = json!({ "sort_index": thread });
        chrome.metadata("thread_sort_index", task.runtime, thread, order)?;
    }
    for event in trace.whole() {
        chrome.event(trace, event)?;
    }
    chrome.out.write_all(b"\n]}\n")
}

impl<W: Write> Chrome<'_, W> {
    fn write(&mut self, event: &Value) -> io::Result<()> {
        self.out.write_all(self.separator.as_bytes())?;
        self.separator = ",\n";
        Ok(serde_json::to_writer(&mut *self.out, event)?)
    }

    fn metadata(&mut self, name: &str, pid: u64, tid: usize, args: Value) -> io::Result<()> {
        self.write(&json!({ "ph": "M", "name": name, "pid": pid, "tid": tid, "args": args }))
    }

    /// Writes `event`, an object, with the fields that all events have.
    fn put(
        &mut self,
        phase: &str,
        name: &str,
        task: TaskRef,
        at: Duration,
        mut event: Value,
    ) -> io::Result<()> {
        event["ph"] = phase.into();
        event["name"] = name.into();
        event["pid"] = task.runtime.into();
        event["tid"] = self.threads[&task].into();
        // Microseconds, exact to the nanosecond for the first 100 days.
        event["ts"] = (at.as_nanos() as f64 / 1000.0).into();
        self.write(&event)
    }

    fn event(&mut self, trace: &Trace, Event { at, task, kind }: Event) -> io::Result<()> {
        match kind {
            EventKind::Spawn(cause) => self.wake(task, at, cause, "spawn"),
            EventKind::Wake(cause) => self.wake(task, at, cause, "wake"),
            EventKind::PollBegin => {
                let mut poll = json!({ "cat": "poll" });
                if let Some(about) = trace.about.get(&task) {
                    let what = task.id.map_or("block_on at", |_| "spawned at");
                    poll["args"] = json!({ what: about.spawned_at.to_string() });
                }
                self.put("B", "poll", task, at, poll)?;
                match self.flows.remove(&task) {
                    Some(id) => {
                        let flow = json!({ "cat": "wake", "id": id, "bp": "e" });
                        self.put("f", "wake", task, at, flow)
                    }
                    None => Ok(()),
                }
            }
            EventKind::PollEnd(outcome) => {
                let args = json!({ "end": format!("{outcome:?}") });
                self.put(
                    "E",
                    "poll",
                    task,
                    at,
                    json!({ "cat": "poll", "args": args }),
                )
            }
            EventKind::WaitBegin(reason) => {
                let id = self.next_id();
                self.waits.entry((task, reason)).or_default().push(id);
                self.wait("b", task, at, reason, id)
            }
            EventKind::WaitEnd(reason) => {
                let begun = self.waits.get_mut(&(task, reason)).and_then(Vec::pop);
                begun.map_or(Ok(()), |id| self.wait("e", task, at, reason, id))
            }
            EventKind::Cancel => self.put(
                "i",
                "cancelled",
                task,
                at,
                json!({ "cat": "wake", "s": "t" }),
            ),
        }
    }

    fn next_id(&mut self) -> usize {
        self.last_id += 1;
        self.last_id
    }

    fn wake(&mut self, task: TaskRef, at: Duration, cause: Cause, name: &str) -> io::Result<()> {
        let by = match cause {
            // A flow starts from a slice. A task without a row has none.
            Cause::Task(by) if self.threads.contains_key(&by) => {
                let id = self.next_id();
                self.flows.insert(task, id);
                return self.put("s", "wake", by, at, json!({ "cat": "wake", "id": id }));
            }
            Cause::Task(by) => by.to_string(),
            Cause::Timers => "a timer".to_string(),
            Cause::Reactor => "a socket".to_string(),
            Cause::Inbox => "another thread".to_string(),
            Cause::Outside => "code outside of tasks".to_string(),
        };
        let instant = json!({ "cat": "wake", "s": "t", "args": { "by": by } });
        self.put("i", name, task, at, instant)
    }

    fn wait(
        &mut self,
        phase: &str,
        task: TaskRef,
        at: Duration,
        reason: WaitReason,
        id: usize,
    ) -> io::Result<()> {
        let name = format!("{task} waits for {reason}");
        let category = format!("wait,{}", reason.category());
        // The id is local to the process. With a global one, Perfetto shows the waits apart
        // from the tasks.
        let id = json!({ "local": format!("{id:#x}") });
        self.put(
            phase,
            &name,
            task,
            at,
            json!({ "cat": category, "id2": id }),
        )
    }
}
