//! The ring, and the functions through which the engine fills it.
//!
//! While nothing is recorded, each of them is one branch. The rest is out of line.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Cause, Event, EventKind, Outcome, TaskMeta, TaskRef, WaitReason, WakeSource};

thread_local! {
    /// Const and without a destructor, because every poll and every wake reads it.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

// `trace::start` promises about 70 bytes.
const _: () = assert!(size_of::<Event>() <= 72);

/// The description of a task.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) spawned_at: &'static Location<'static>,
}

/// The recording of one thread.
pub(crate) struct Record {
    started: Instant,
    /// The duration of the recording, once it has stopped.
    stopped: Option<Duration>,
    capacity: usize,
    pub(crate) events: VecDeque<Event>,
    /// The number of events that no longer fit into the ring.
    pub(crate) lost: u64,
    /// The tasks that are alive or have an event in the ring.
    pub(crate) tasks: BTreeMap<TaskRef, About>,
    /// What each task waits for. A task that is over has no entry.
    waits: BTreeMap<TaskRef, Vec<WaitReason>>,
    /// The task that is being polled.
    current: Option<TaskRef>,
    /// The outcome of that poll, if it differs from what the poll returns.
    outcome: Option<Outcome>,
    /// Whether the task was woken during that poll. Then it is in the queue and does not wait.
    woken: bool,
    /// What the task will wait for if the poll returns `Pending`.
    noted: Vec<WaitReason>,
    /// What wakes tasks while none is being polled.
    source: Cause,
}

/// Starts a new recording.
pub(crate) fn start(capacity: usize) {
    let record = Record {
        started: Instant::now(),
        stopped: None,
        capacity,
        // Growing the ring later would show as a slow poll. The limit is for a capacity such as
        // `usize::MAX`.
        events: VecDeque::with_capacity(capacity.min(1 << 20)),
        lost: 0,
        tasks: BTreeMap::new(),
        waits: BTreeMap::new(),
        current: None,
        outcome: None,
        woken: false,
        noted: Vec::new(),
        source: Cause::Outside,
    };
    let old = RECORD.try_with(|slot| slot.replace(Some(record)));
    RECORDING.set(old.is_ok());
    drop(old);
}

/// Stops the recording, and keeps it.
pub(crate) fn stop() {
    with(|record| record.stopped = Some(record.duration()));
    RECORDING.set(false);
}

pub(crate) fn is_recording() -> bool {
    RECORDING.get()
}

/// Calls `f` with the recording of this thread, if there is one.
pub(crate) fn read<R>(f: impl FnOnce(&Record) -> R) -> Option<R> {
    let read = RECORD.try_with(|record| record.borrow().as_ref().map(f));
    read.ok().flatten()
}

#[inline(always)]
fn with(f: impl FnOnce(&mut Record)) {
    if RECORDING.get() {
        with_record(f);
    }
}

#[cold]
#[inline(never)]
fn with_record(f: impl FnOnce(&mut Record)) {
    // While the thread exits, a waker may be woken after the record was dropped.
    let _ = RECORD.try_with(|record| record.borrow_mut().as_mut().map(f));
}

/// A new task is in the queue.
#[inline(always)]
pub(crate) fn task_spawned<'a>(meta: impl FnOnce() -> TaskMeta<'a>) {
    with(|record| {
        let task = record.describe(meta());
        record.push(record.duration(), task, EventKind::Spawn(record.cause()));
    });
}

#[inline(always)]
pub(crate) fn poll_started<'a>(meta: impl FnOnce() -> TaskMeta<'a>) {
    with(|record| {
        let (task, at) = (record.describe(meta()), record.duration());
        record.end_waits(at, task);
        // If the recording started in the middle of a poll, that poll has left reasons here.
        record.noted.clear();
        (record.outcome, record.woken) = (None, false);
        record.current = Some(task);
        record.push(at, task, EventKind::PollBegin);
    });
}

/// The task that is being polled will wait for `reason` if the poll returns `Pending`.
#[inline(always)]
pub(crate) fn will_wait(reason: WaitReason) {
    with(|record| {
        if !record.noted.contains(&reason) {
            record.noted.push(reason);
        }
    });
}

/// The poll is over. If the task is over as well, its future has been dropped, and the task that
/// awaits it has been woken.
#[inline(always)]
pub(crate) fn poll_ended(is_over: bool) {
    let outcome = if is_over {
        Outcome::Done
    } else {
        Outcome::Pending
    };
    with(|record| record.finish_poll(outcome));
}

/// The current poll has panicked.
#[inline(always)]
pub(crate) fn poll_panicked() {
    with(|record| record.outcome = Some(Outcome::Panicked));
}

/// The future of the task is dropped before it is done.
#[inline(always)]
pub(crate) fn task_cancelled<'a>(meta: impl FnOnce() -> TaskMeta<'a>) {
    with(|record| {
        let task = record.describe(meta());
        if record.current == Some(task) {
            record.outcome = Some(Outcome::Cancelled);
        } else {
            let at = record.duration();
            record.end_waits(at, task);
            record.waits.remove(&task);
            record.push(at, task, EventKind::Cancel);
        }
    });
}

/// The task was not in the queue, and is now.
#[inline(always)]
pub(crate) fn task_woken<'a>(meta: impl FnOnce() -> TaskMeta<'a>) {
    with(|record| {
        let (task, at) = (record.describe(meta()), record.duration());
        record.woken |= record.current == Some(task);
        record.push(at, task, EventKind::Wake(record.cause()));
        record.end_waits(at, task);
    });
}

/// The runtime is left. If a poll has not ended, it is that of a main future that panicked.
#[inline(always)]
pub(crate) fn runtime_left(id: u64) {
    with(|record| {
        if record.current.is_some_and(|task| task.runtime == id) {
            record.finish_poll(Outcome::Panicked);
        }
    });
}

/// Attributes the wakes that `f` makes to `source`.
#[inline(always)]
pub(crate) fn attribute_wakes<R>(source: WakeSource, f: impl FnOnce() -> R) -> R {
    with(|record| {
        record.source = match source {
            WakeSource::Timers => Cause::Timers,
            WakeSource::Reactor => Cause::Reactor,
            WakeSource::Inbox => Cause::Inbox,
        };
    });
    let result = f();
    with(|record| record.source = Cause::Outside);
    result
}

impl Record {
    /// The duration of the recording, so far if it has not stopped.
    pub(crate) fn duration(&self) -> Duration {
        self.stopped.unwrap_or_else(|| self.started.elapsed())
    }

    fn cause(&self) -> Cause {
        self.current.map_or(self.source, Cause::Task)
    }

    /// Records the task's name and where it was spawned.
    fn describe(&mut self, meta: TaskMeta<'_>) -> TaskRef {
        let known = self.tasks.entry(meta.task).or_insert_with(|| About {
            name: meta.name.map(Arc::from),
            spawned_at: meta.spawned_at,
        });
        // Each `block_on` of a runtime may be called from a different place.
        known.spawned_at = meta.spawned_at;
        meta.task
    }

    fn finish_poll(&mut self, outcome: Outcome) {
        // None: the recording started in the middle of this poll.
        let Some(task) = self.current.take() else {
            return;
        };
        let outcome = self.outcome.take().unwrap_or(outcome);
        let woken = std::mem::take(&mut self.woken);
        let at = self.duration();
        self.push(at, task, EventKind::PollEnd(outcome));
        let mut noted = std::mem::take(&mut self.noted);
        if outcome != Outcome::Pending {
            self.waits.remove(&task);
        } else if !woken {
            if noted.is_empty() {
                noted.push(WaitReason::Other);
            }
            for &reason in &noted {
                self.push(at, task, EventKind::WaitBegin(reason));
            }
            std::mem::swap(self.waits.entry(task).or_default(), &mut noted);
        }
        noted.clear();
        self.noted = noted;
    }

    fn end_waits(&mut self, at: Duration, task: TaskRef) {
        let Some(mut waits) = self.waits.get_mut(&task).map(std::mem::take) else {
            return;
        };
        for reason in waits.drain(..) {
            self.push(at, task, EventKind::WaitEnd(reason));
        }
        // The next waits use the same allocation.
        self.waits.insert(task, waits);
    }

    fn push(&mut self, at: Duration, task: TaskRef, kind: EventKind) {
        if self.events.len() == self.capacity {
            let oldest = self.events.pop_front();
            self.lost += 1;
            if let Some(last) = oldest.filter(|oldest| oldest.kind.is_last()) {
                // That was the last event of the task in the ring.
                self.tasks.remove(&last.task);
            }
        }
        self.events.push_back(Event { at, task, kind });
    }
}
