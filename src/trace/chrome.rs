//! Chrome's trace event format: what Perfetto and `chrome://tracing` read.
//!
//! A runtime is a process there and a task a thread of it, polls are slices of that thread,
//! wakes are flows, and waits, which may overlap, are asynchronous events.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use super::json::{Micros, Text};
use super::whole::whole;
use super::{Trace, rows};
use crate::hooks::{Cause, Event, EventKind, TaskRef, WaitReason};

struct Chrome<'a, W> {
    out: &'a mut W,
    /// The number of the thread that stands for a task.
    threads: HashMap<TaskRef, usize>,
    /// The number of the last flow, and of the last wait.
    ids: usize,
    /// The flow that ends at the next poll.
    flows: HashMap<TaskRef, usize>,
    /// The waits that have begun.
    waits: HashMap<(TaskRef, WaitReason), Vec<usize>>,
    begun: bool,
}

pub(super) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let (rows, _) = rows::rows(trace);
    let numbers = rows.iter().enumerate();
    let threads = numbers.map(|(at, row)| (row.totals.task, at + 1)).collect();
    let mut chrome = Chrome {
        out,
        threads,
        ids: 0,
        flows: HashMap::new(),
        waits: HashMap::new(),
        begun: false,
    };
    write!(
        chrome.out,
        "{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"lost\":\"{}\"}},\"traceEvents\":[",
        trace.lost
    )?;
    let mut runtimes: Vec<u64> = rows.iter().map(|row| row.totals.task.runtime).collect();
    runtimes.sort_unstable();
    runtimes.dedup();
    for runtime in runtimes {
        let name = format!("soloist runtime {runtime}");
        chrome.name("process_name", runtime, 0, &name)?;
    }
    for row in &rows {
        let totals = &row.totals;
        let name = match &totals.name {
            Some(name) => format!("{name} ({})", totals.task),
            None => totals.task.to_string(),
        };
        let thread = chrome.threads[&totals.task];
        chrome.name("thread_name", totals.task.runtime, thread, &name)?;
        chrome.open("M", "thread_sort_index", totals.task, Duration::ZERO)?;
        write!(chrome.out, ",\"args\":{{\"sort_index\":{thread}}}}}")?;
    }
    for event in whole(&trace.events, trace.end) {
        chrome.event(trace, event)?;
    }
    chrome.out.write_all(b"\n]}\n")
}

impl<W: Write> Chrome<'_, W> {
    fn next(&mut self) -> io::Result<()> {
        let comma = if self.begun { "," } else { "" };
        self.begun = true;
        writeln!(self.out, "{comma}")
    }

    fn name(&mut self, what: &str, process: u64, thread: usize, name: &str) -> io::Result<()> {
        self.next()?;
        let name = Text(name);
        write!(
            self.out,
            "{{\"ph\":\"M\",\"name\":\"{what}\",\"pid\":{process},\"tid\":{thread},\
             \"args\":{{\"name\":{name}}}}}"
        )
    }

    /// An event without its closing brace.
    fn open(&mut self, phase: &str, name: &str, task: TaskRef, at: Duration) -> io::Result<()> {
        self.next()?;
        write!(
            self.out,
            "{{\"ph\":\"{phase}\",\"name\":{},\"pid\":{},\"tid\":{},\"ts\":{}",
            Text(name),
            task.runtime,
            self.threads[&task],
            Micros(at.as_nanos())
        )
    }

    fn close(&mut self) -> io::Result<()> {
        self.out.write_all(b"}")
    }

    fn event(&mut self, trace: &Trace, event: Event) -> io::Result<()> {
        let Event { at, task, kind } = event;
        match kind {
            EventKind::Spawn(by) | EventKind::Wake(by) => {
                let is_spawn = matches!(kind, EventKind::Spawn(_));
                self.wake(task, at, by, if is_spawn { "spawn" } else { "wake" })
            }
            EventKind::PollBegin => {
                self.open("B", "poll", task, at)?;
                self.out.write_all(b",\"cat\":\"poll\"")?;
                if let Some(about) = trace.about.get(&task) {
                    let place = about.spawned_at.to_string();
                    let place = Text(&place);
                    let what = task.id.map_or("block_on at", |_| "spawned at");
                    write!(self.out, ",\"args\":{{\"{what}\":{place}}}")?;
                }
                self.close()?;
                match self.flows.remove(&task) {
                    Some(flow) => {
                        self.open("f", "wake", task, at)?;
                        write!(self.out, ",\"cat\":\"wake\",\"id\":{flow},\"bp\":\"e\"}}")
                    }
                    None => Ok(()),
                }
            }
            EventKind::PollEnd(how) => {
                self.open("E", "poll", task, at)?;
                write!(
                    self.out,
                    ",\"cat\":\"poll\",\"args\":{{\"end\":\"{how:?}\"}}}}"
                )
            }
            EventKind::WaitBegin(what) => {
                self.ids += 1;
                let id = self.ids;
                self.waits.entry((task, what)).or_default().push(id);
                self.wait("b", task, at, what, id)
            }
            EventKind::WaitEnd(what) => {
                let begun = self.waits.get_mut(&(task, what)).and_then(Vec::pop);
                begun.map_or(Ok(()), |id| self.wait("e", task, at, what, id))
            }
            EventKind::Cancel => {
                self.open("i", "cancelled", task, at)?;
                self.out.write_all(b",\"cat\":\"wake\",\"s\":\"t\"}")
            }
        }
    }

    fn wake(&mut self, task: TaskRef, at: Duration, by: Cause, name: &str) -> io::Result<()> {
        let by = match by {
            // TaskRef has no row of its own has no slice either that a flow could come from.
            Cause::Task(by) if self.threads.contains_key(&by) => {
                self.ids += 1;
                self.flows.insert(task, self.ids);
                let id = self.ids;
                self.open("s", "wake", by, at)?;
                return write!(self.out, ",\"cat\":\"wake\",\"id\":{id}}}");
            }
            Cause::Task(by) => by.to_string(),
            Cause::Timers => "a timer".to_string(),
            Cause::Reactor => "a socket".to_string(),
            Cause::Inbox => "another thread".to_string(),
            Cause::Outside => "code outside of tasks".to_string(),
        };
        self.open("i", name, task, at)?;
        write!(
            self.out,
            ",\"cat\":\"wake\",\"s\":\"t\",\"args\":{{\"by\":\"{by}\"}}}}"
        )
    }

    fn wait(
        &mut self,
        phase: &str,
        task: TaskRef,
        at: Duration,
        what: WaitReason,
        id: usize,
    ) -> io::Result<()> {
        let name = format!("{task} waits for {what}");
        self.open(phase, &name, task, at)?;
        let kind = what.category();
        // Local to the process: else Perfetto shows it apart from the tasks.
        write!(
            self.out,
            ",\"cat\":\"wait,{kind}\",\"id2\":{{\"local\":\"{id:#x}\"}}}}"
        )
    }
}
