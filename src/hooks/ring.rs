//! The ring, and the functions through which the engine fills it.
//!
//! Each of them is one branch as long as nothing is recorded; what comes after it is out of
//! line.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use super::{Subject, WaitReason, WakeSource};

thread_local! {
    /// Const and without a destructor, for it is read at every poll and every wake.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// A task, among all runtimes of the thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Id {
    pub(crate) runtime: u64,
    pub(crate) number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    Task(Id),
    Timers,
    Reactor,
    Inbox,
    Outside,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Pending,
    Done,
    Panicked,
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Spawned(By),
    PollBegins,
    PollEnds(Outcome),
    Woken(By),
    /// `None` is something that the runtime does not know.
    WaitBegins(Option<WaitReason>),
    WaitEnds(Option<WaitReason>),
    Cancelled,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Nanoseconds since the start.
    pub(crate) at: u64,
    pub(crate) task: Id,
    pub(crate) what: What,
}

// `trace::start` promises about 60 bytes.
const _: () = assert!(size_of::<Entry>() <= 64);

/// What is known of a task as long as it has an entry in the ring, or lives.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) spawned_at: &'static Location<'static>,
    waits: Vec<Option<WaitReason>>,
}

/// What is recorded on one thread.
pub(crate) struct Record {
    started: Instant,
    /// Nanoseconds since the start, once it is over.
    pub(crate) stopped: Option<u64>,
    capacity: usize,
    pub(crate) entries: VecDeque<Entry>,
    /// How many have fallen out of the ring.
    pub(crate) lost: u64,
    pub(crate) tasks: HashMap<Id, Known, BuildHasherDefault<Numbers>>,
    /// For what the future of the `block_on` waits. Not with the others: an earlier one's end
    /// may fall out of the ring meanwhile.
    main_waits: Vec<Option<WaitReason>>,
    /// The task that is being polled.
    current: Option<Id>,
    /// How that poll ends, if not as its result says.
    outcome: Option<Outcome>,
    /// Whether it was woken in that poll: then it is in the queue, and waits for nothing.
    woken: bool,
    /// For what it will wait.
    noted: Vec<Option<WaitReason>>,
    /// Who wakes while nobody is polled.
    source: By,
}

/// For keys that are numbers which nobody chooses: mixes them, no more.
#[derive(Default)]
pub(crate) struct Numbers(u64);

impl Hasher for Numbers {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(32) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Starts anew.
pub(crate) fn start(capacity: usize) {
    let record = Record {
        started: Instant::now(),
        stopped: None,
        capacity,
        // All at once, for to grow would show as a slow poll; but nobody means so many.
        entries: VecDeque::with_capacity(capacity.min(1 << 20)),
        lost: 0,
        tasks: HashMap::default(),
        main_waits: Vec::new(),
        current: None,
        outcome: None,
        woken: false,
        noted: Vec::new(),
        source: By::Outside,
    };
    let old = RECORD.try_with(|slot| slot.replace(Some(record)));
    RECORDING.set(old.is_ok());
    drop(old);
}

/// What has been recorded stays.
pub(crate) fn stop() {
    with(|record| record.stopped = Some(record.now()));
    RECORDING.set(false);
}

pub(crate) fn is_recording() -> bool {
    RECORDING.get()
}

/// Shows what is recorded, if something was ever.
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
    // A waker that is woken by the end of the thread may find nothing.
    let _ = RECORD.try_with(|record| record.borrow_mut().as_mut().map(f));
}

/// A task is new, and in the queue.
#[inline(always)]
pub(crate) fn task_spawned<'a>(task: impl FnOnce() -> Subject<'a>) {
    with(|record| {
        let (id, at) = (record.meet(task()), record.now());
        record.push(at, id, What::Spawned(record.by()));
    });
}

#[inline(always)]
pub(crate) fn poll_started<'a>(task: impl FnOnce() -> Subject<'a>) {
    with(|record| {
        let (id, at) = (record.meet(task()), record.now());
        record.end_waits(at, id);
        // What is left of a poll in which the recording began.
        record.noted.clear();
        (record.outcome, record.woken) = (None, false);
        record.current = Some(id);
        record.push(at, id, What::PollBegins);
    });
}

/// The task that is being polled will wait for this, if it returns `Pending`.
#[inline(always)]
pub(crate) fn will_wait(wait: WaitReason) {
    with(|record| {
        if !record.noted.contains(&Some(wait)) {
            record.noted.push(Some(wait));
        }
    });
}

/// The poll is over, with the drop of the future and the wake of the joiner if the task is.
#[inline(always)]
pub(crate) fn poll_ended(over: bool) {
    let outcome = if over {
        Outcome::Done
    } else {
        Outcome::Pending
    };
    with(|record| record.finish_poll(outcome));
}

/// The runtime is left. A poll that is still under way is that of a main that has panicked.
#[inline(always)]
pub(crate) fn runtime_left(runtime: u64) {
    with(|record| {
        if record.current.is_some_and(|id| id.runtime == runtime) {
            record.finish_poll(Outcome::Panicked);
        }
    });
}

/// The poll that is under way has panicked.
#[inline(always)]
pub(crate) fn poll_panicked() {
    with(|record| record.outcome = Some(Outcome::Panicked));
}

/// The task's future is dropped before it is done.
#[inline(always)]
pub(crate) fn task_cancelled<'a>(task: impl FnOnce() -> Subject<'a>) {
    with(|record| {
        let id = record.meet(task());
        if record.current == Some(id) {
            record.outcome = Some(Outcome::Cancelled);
        } else {
            let at = record.now();
            record.end_waits(at, id);
            record.push(at, id, What::Cancelled);
        }
    });
}

/// The task was not in the queue, and is now.
#[inline(always)]
pub(crate) fn task_woken<'a>(task: impl FnOnce() -> Subject<'a>) {
    with(|record| {
        let (id, at) = (record.meet(task()), record.now());
        record.woken |= record.current == Some(id);
        record.push(at, id, What::Woken(record.by()));
        record.end_waits(at, id);
    });
}

/// Whom `f` wakes, `source` has woken.
#[inline(always)]
pub(crate) fn attribute_wakes<R>(source: WakeSource, f: impl FnOnce() -> R) -> R {
    with(|record| {
        record.source = match source {
            WakeSource::Timers => By::Timers,
            WakeSource::Reactor => By::Reactor,
            WakeSource::Inbox => By::Inbox,
        };
    });
    let result = f();
    with(|record| record.source = By::Outside);
    result
}

impl Record {
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn by(&self) -> By {
        self.current.map_or(self.source, By::Task)
    }

    /// Makes sure that it is known who the task is.
    fn meet(&mut self, task: Subject<'_>) -> Id {
        let id = Id {
            runtime: task.runtime,
            number: task.number,
        };
        let known = self.tasks.entry(id).or_insert_with(|| Known {
            name: task.name.map(Arc::from),
            spawned_at: task.spawned_at,
            waits: Vec::new(),
        });
        // Each `block_on` is another main.
        known.spawned_at = task.spawned_at;
        id
    }

    fn waits(&mut self, id: Id) -> Option<&mut Vec<Option<WaitReason>>> {
        if id.number == 0 {
            return Some(&mut self.main_waits);
        }
        self.tasks.get_mut(&id).map(|known| &mut known.waits)
    }

    fn finish_poll(&mut self, outcome: Outcome) {
        // None: the recording has begun in the middle of this poll.
        let Some(id) = self.current.take() else {
            return;
        };
        let outcome = self.outcome.take().unwrap_or(outcome);
        let woken = std::mem::take(&mut self.woken);
        let at = self.now();
        self.push(at, id, What::PollEnds(outcome));
        let mut noted = std::mem::take(&mut self.noted);
        if outcome == Outcome::Pending && !woken {
            if noted.is_empty() {
                noted.push(None);
            }
            for &wait in &noted {
                self.push(at, id, What::WaitBegins(wait));
            }
            if let Some(waits) = self.waits(id) {
                std::mem::swap(waits, &mut noted);
            }
        }
        noted.clear();
        self.noted = noted;
    }

    fn end_waits(&mut self, at: u64, id: Id) {
        let Some(waits) = self.waits(id) else {
            return;
        };
        let mut waits = std::mem::take(waits);
        for &wait in &waits {
            self.push(at, id, What::WaitEnds(wait));
        }
        waits.clear();
        if let Some(place) = self.waits(id) {
            // For the next ones, so that there is no allocation for each.
            *place = waits;
        }
    }

    fn push(&mut self, at: u64, task: Id, what: What) {
        if self.entries.len() == self.capacity {
            let oldest = self.entries.pop_front();
            self.lost += 1;
            let last = oldest.filter(|oldest| oldest.what.is_last());
            // Nothing of that task is left in the ring.
            last.and_then(|last| self.tasks.remove(&last.task));
        }
        self.entries.push_back(Entry { at, task, what });
    }
}

impl What {
    /// Whether nothing comes after it.
    fn is_last(self) -> bool {
        match self {
            What::Cancelled => true,
            What::PollEnds(outcome) => outcome != Outcome::Pending,
            _ => false,
        }
    }
}
