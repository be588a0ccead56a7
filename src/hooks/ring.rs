//! The ring, and the functions through which the engine fills it.
//!
//! While nothing is recorded, each of them is one branch. The rest is out of line.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
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

/// A task that lives, or has an event in the ring.
#[derive(Debug)]
pub(crate) struct KnownTask {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) spawned_at: &'static Location<'static>,
    waits: Vec<WaitReason>,
}

/// What is recorded on one thread.
pub(crate) struct Record {
    started: Instant,
    /// How long it was recorded, once that is over.
    stopped: Option<Duration>,
    capacity: usize,
    pub(crate) events: VecDeque<Event>,
    /// The number of events that no longer fit into the ring.
    pub(crate) lost: u64,
    pub(crate) tasks: HashMap<TaskRef, KnownTask>,
    /// What the future of `block_on` waits for. It is not kept in `tasks`, since the end of an
    /// earlier `block_on`, which removes the entry there, may leave the ring meanwhile.
    main_waits: Vec<WaitReason>,
    /// The task that is being polled.
    current: Option<TaskRef>,
    /// The outcome of that poll, if it is not what the poll returns.
    outcome: Option<Outcome>,
    /// Whether the task was woken in that poll. Then it is in the queue, and does not wait.
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
        // All at once, since growing would show as a slow poll. The limit is for a capacity
        // that stands for "everything".
        events: VecDeque::with_capacity(capacity.min(1 << 20)),
        lost: 0,
        tasks: HashMap::default(),
        main_waits: Vec::new(),
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

/// Stops. What was recorded is kept.
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
    // The record may be gone already when the end of the thread wakes a waker.
    let _ = RECORD.try_with(|record| record.borrow_mut().as_mut().map(f));
}

/// A new task is in the queue.
#[inline(always)]
pub(crate) fn task_spawned<'a>(meta: impl FnOnce() -> TaskMeta<'a>) {
    with(|record| {
        let task = record.register(meta());
        record.push(record.duration(), task, EventKind::Spawn(record.cause()));
    });
}

#[inline(always)]
pub(crate) fn poll_started<'a>(meta: impl FnOnce() -> TaskMeta<'a>) {
    with(|record| {
        let (task, at) = (record.register(meta()), record.duration());
        record.end_waits(at, task);
        // The recording may have begun in the middle of a poll, which has left these.
        record.noted.clear();
        (record.outcome, record.woken) = (None, false);
        record.current = Some(task);
        record.push(at, task, EventKind::PollBegin);
    });
}

/// The task that is being polled will wait for this, if the poll returns `Pending`.
#[inline(always)]
pub(crate) fn will_wait(reason: WaitReason) {
    with(|record| {
        if !record.noted.contains(&reason) {
            record.noted.push(reason);
        }
    });
}

/// The poll is over. If the task is over, too, its future has been dropped, and the task that
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

/// The poll that is under way has panicked.
#[inline(always)]
pub(crate) fn poll_panicked() {
    with(|record| record.outcome = Some(Outcome::Panicked));
}

/// The task's future is dropped before it is done.
#[inline(always)]
pub(crate) fn task_cancelled<'a>(meta: impl FnOnce() -> TaskMeta<'a>) {
    with(|record| {
        let task = record.register(meta());
        if record.current == Some(task) {
            record.outcome = Some(Outcome::Cancelled);
        } else {
            let at = record.duration();
            record.end_waits(at, task);
            record.push(at, task, EventKind::Cancel);
        }
    });
}

/// The task was not in the queue, and is now.
#[inline(always)]
pub(crate) fn task_woken<'a>(meta: impl FnOnce() -> TaskMeta<'a>) {
    with(|record| {
        let (task, at) = (record.register(meta()), record.duration());
        record.woken |= record.current == Some(task);
        record.push(at, task, EventKind::Wake(record.cause()));
        record.end_waits(at, task);
    });
}

/// The runtime is left. A poll that is still under way is that of a main future that has
/// panicked.
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
    /// How long it was recorded, or has been so far.
    pub(crate) fn duration(&self) -> Duration {
        self.stopped.unwrap_or_else(|| self.started.elapsed())
    }

    fn cause(&self) -> Cause {
        self.current.map_or(self.source, Cause::Task)
    }

    /// Notes the task's name and where it was spawned.
    fn register(&mut self, meta: TaskMeta<'_>) -> TaskRef {
        let known = self.tasks.entry(meta.task).or_insert_with(|| KnownTask {
            name: meta.name.map(Arc::from),
            spawned_at: meta.spawned_at,
            waits: Vec::new(),
        });
        // Each `block_on` of a runtime is called elsewhere.
        known.spawned_at = meta.spawned_at;
        meta.task
    }

    fn waits(&mut self, task: TaskRef) -> Option<&mut Vec<WaitReason>> {
        match task.id {
            None => Some(&mut self.main_waits),
            Some(_) => self.tasks.get_mut(&task).map(|known| &mut known.waits),
        }
    }

    fn finish_poll(&mut self, outcome: Outcome) {
        // None: the recording has begun in the middle of this poll.
        let Some(task) = self.current.take() else {
            return;
        };
        let outcome = self.outcome.take().unwrap_or(outcome);
        let woken = std::mem::take(&mut self.woken);
        let at = self.duration();
        self.push(at, task, EventKind::PollEnd(outcome));
        let mut noted = std::mem::take(&mut self.noted);
        if outcome == Outcome::Pending && !woken {
            if noted.is_empty() {
                noted.push(WaitReason::Other);
            }
            for &reason in &noted {
                self.push(at, task, EventKind::WaitBegin(reason));
            }
            if let Some(waits) = self.waits(task) {
                std::mem::swap(waits, &mut noted);
            }
        }
        noted.clear();
        self.noted = noted;
    }

    fn end_waits(&mut self, at: Duration, task: TaskRef) {
        let mut waits = self.waits(task).map(std::mem::take).unwrap_or_default();
        for reason in waits.drain(..) {
            self.push(at, task, EventKind::WaitEnd(reason));
        }
        // The next waits use the same allocation.
        if let Some(empty) = self.waits(task) {
            *empty = waits;
        }
    }

    fn push(&mut self, at: Duration, task: TaskRef, kind: EventKind) {
        if self.events.len() == self.capacity {
            let oldest = self.events.pop_front();
            self.lost += 1;
            if let Some(last) = oldest.filter(|oldest| oldest.kind.is_last()) {
                // The ring has no other event of that task.
                self.tasks.remove(&last.task);
            }
        }
        self.events.push_back(Event { at, task, kind });
    }
}
