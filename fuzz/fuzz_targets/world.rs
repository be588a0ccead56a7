//! All that the tasks of the program can get hold of, and what is known of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Waker;
use std::thread::{self, JoinHandle, ThreadId};

use soloist::io::Async;
use soloist::promise::Promise;
use soloist::runtime::RemoteTask;
use soloist::task::{AbortHandle, TaskGroup};
use soloist::{Handle, Runtime, Task};

use crate::future::{Output, Program};
use crate::lines::Lines;
use crate::process::{self, fail, say};
use crate::streams::{End, Operations};

/// What a panic carries that the program asked for.
pub(crate) struct Planned {
    pub(crate) heard: Arc<AtomicBool>,
}

/// As `Planned`, of the destructor of an output. Such a panic may be swallowed, and its payload
/// forgotten; this one is nothing on the heap.
pub(crate) struct PlannedOfOutput;

pub(crate) type Payload = Box<dyn std::any::Any + Send>;

/// Somebody has been told of this panic. Only planned ones get this far.
pub(crate) fn hear(payload: &Payload) {
    match payload.downcast_ref::<Planned>() {
        Some(planned) => planned.heard.store(true, Ordering::SeqCst),
        None if payload.is::<PlannedOfOutput>() => {}
        None => fail("an unplanned panic"),
    }
}

thread_local! {
    /// What a message contains that is expected now.
    static EXPECTED: Cell<&'static str> = const { Cell::new("") };
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

fn message(payload: &Payload) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("")
}

/// Runs something that may panic with a message that contains `text`. Whether it has.
pub(crate) fn expect_panic<R>(text: &'static str, f: impl FnOnce() -> R) -> Result<R, bool> {
    let before = EXPECTED.replace(text);
    let result = catch_unwind(AssertUnwindSafe(f));
    EXPECTED.set(before);
    result.map_err(|payload| {
        let is_expected = message(&payload).contains(text);
        if !is_expected {
            hear(&payload);
        }
        is_expected
    })
}

/// Panics that are not planned end the process, also where they would be caught.
pub(crate) fn set_up() {
    std::panic::set_hook(Box::new(|info| {
        let is_expected = || {
            let expected = EXPECTED.try_with(Cell::get).unwrap_or("");
            !expected.is_empty()
                && info
                    .payload_as_str()
                    .is_some_and(|text| text.contains(expected))
        };
        let payload = info.payload();
        let is_planned = payload.is::<Planned>() || payload.is::<PlannedOfOutput>();
        if !is_planned && !is_expected() {
            say(format_args!("{info}"));
            std::process::abort();
        }
    }));
    thread::spawn(|| {
        let mut jobs = HELPER.jobs.lock().unwrap();
        loop {
            match jobs.0.pop_front() {
                Some(job) => {
                    drop(jobs);
                    job();
                    jobs = HELPER.jobs.lock().unwrap();
                    jobs.1 -= 1;
                    HELPER.changed.notify_all();
                }
                None => jobs = HELPER.changed.wait(jobs).unwrap(),
            }
        }
    });
    // The reactor of that thread stays.
    elsewhere(true, || {
        soloist::block_on(async {
            let (one, _) = std::os::unix::net::UnixStream::pair().expect("a pair");
            let one = Async::new(one).expect("it is registered");
            one.writable().await.expect("it is");
        });
    });
}

type Job = Box<dyn FnOnce() + Send>;

/// The foreign thread.
struct Helper {
    /// With how many of them are not done yet.
    jobs: Mutex<(VecDeque<Job>, usize)>,
    changed: Condvar,
}

static HELPER: Helper = Helper {
    jobs: Mutex::new((VecDeque::new(), 0)),
    changed: Condvar::new(),
};

/// Has the foreign thread do something.
pub(crate) fn elsewhere(wait: bool, job: impl FnOnce() + Send + 'static) {
    let mut jobs = HELPER.jobs.lock().unwrap();
    jobs.0.push_back(Box::new(job));
    jobs.1 += 1;
    HELPER.changed.notify_all();
    drop(jobs);
    if wait {
        barrier();
    }
}

/// Waits until the foreign thread has done all.
pub(crate) fn barrier() {
    let mut jobs = HELPER.jobs.lock().unwrap();
    while jobs.1 > 0 {
        jobs = HELPER.changed.wait(jobs).unwrap();
    }
}

/// What is known of one task.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) home: Weak<Runtime>,
    /// By its handle; 0 for children of groups and those that another thread has spawned.
    pub(crate) id: Cell<u64>,
    pub(crate) over: Cell<bool>,
    pub(crate) drops: Cell<usize>,
    pub(crate) waker: RefCell<Option<Waker>>,
    /// Set before a wake, cleared when a poll begins.
    pub(crate) woken: Arc<AtomicBool>,
    /// A poll, or the destructor, has panicked.
    pub(crate) panicked: Cell<bool>,
    /// Its destructor has panicked when it was cancelled: whether somebody has heard of that.
    pub(crate) to_be_told: RefCell<Option<Arc<AtomicBool>>>,
    pub(crate) forgotten: Cell<bool>,
    /// A runtime that goes with the future.
    pub(crate) owned: RefCell<Option<Rc<Runtime>>>,
}

impl Record {
    pub(crate) fn is_settled(&self) -> bool {
        self.drops.get() == 1 || self.forgotten.get()
    }

    /// What `join` has said must be what has happened.
    pub(crate) fn check_join(&self, is_ok: bool, is_panic: bool) {
        if is_panic != self.panicked.get() {
            fail("`join` is wrong about a panic");
        }
        if !is_panic && is_ok != self.over.get() {
            fail("`join` is wrong about the end");
        }
        if !self.is_settled() {
            fail("`join` is ready before the future was dropped");
        }
    }
}

pub(crate) type Kept = (Task<Output>, Rc<Record>);

pub(crate) struct World {
    input: RefCell<VecDeque<u8>>,
    pub(crate) thread: ThreadId,
    auditing: Cell<bool>,
    /// The one that outside instructions go to, and whether a new one propagates panics.
    pub(crate) slot: Cell<usize>,
    pub(crate) runtimes: RefCell<[Option<Rc<Runtime>>; 2]>,
    /// The last ones, each with the place of its runtime in `made`.
    handles: RefCell<Vec<(Handle, usize)>>,
    /// All that were made in a slot. The places stay, for they cross threads where a `Weak`
    /// cannot.
    made: RefCell<Vec<Weak<Runtime>>>,
    /// Whose code is running.
    pub(crate) home: RefCell<Weak<Runtime>>,
    pub(crate) propagates: Cell<bool>,
    pub(crate) records: RefCell<Vec<Rc<Record>>>,
    pub(crate) tasks: RefCell<Vec<Kept>>,
    pub(crate) aborts: RefCell<Vec<AbortHandle>>,
    pub(crate) remotes: RefCell<Vec<RemoteTask<Box<u8>>>>,
    pub(crate) promises: RefCell<Vec<Promise<Box<u8>>>>,
    pub(crate) peers: RefCell<Vec<std::os::unix::net::UnixStream>>,
    pub(crate) groups: RefCell<Vec<TaskGroup<u8, Output>>>,
    pub(crate) ends: RefCell<Vec<End>>,
    /// Kept until the runtime is gone.
    pub(crate) wakers: RefCell<Vec<Waker>>,
    pub(crate) waiting: RefCell<Vec<JoinHandle<()>>>,
    pub(crate) lines: Lines,
    pub(crate) operations: Operations,
    pub(crate) timers: Operations,
    pub(crate) uses_tcp: Cell<bool>,
    /// In an audit a socket was ready, and its reactor did not know that.
    pub(crate) suspects: Cell<bool>,
    /// A handle is left to the end of the thread, and with it what it has to tell.
    pub(crate) tells_later: Cell<bool>,
    /// The thread is ending.
    pub(crate) is_late: Cell<bool>,
    /// A runtime is forgotten, or lives in a thread-local.
    pub(crate) outlived: Cell<bool>,
}

/// Takes one out, for what is done with it may come back here.
pub(crate) fn take<T>(from: &RefCell<Vec<T>>, which: u8) -> Option<T> {
    let mut from = from.borrow_mut();
    let len = from.len();
    (len > 0).then(|| from.swap_remove(which as usize % len))
}

/// The world of this thread, if it has not ended yet.
pub(crate) fn current() -> Option<Rc<World>> {
    WORLD.try_with(|world| world.borrow().clone()).ok()?
}

impl World {
    pub(crate) fn new(data: &[u8]) -> Rc<World> {
        let world = Rc::new(World {
            input: RefCell::new(data.iter().copied().collect()),
            thread: thread::current().id(),
            auditing: Cell::new(false),
            slot: Cell::new(0),
            runtimes: RefCell::default(),
            handles: RefCell::default(),
            made: RefCell::default(),
            home: RefCell::default(),
            propagates: Cell::new(false),
            records: RefCell::default(),
            tasks: RefCell::default(),
            aborts: RefCell::default(),
            remotes: RefCell::default(),
            promises: RefCell::default(),
            peers: RefCell::default(),
            groups: RefCell::default(),
            ends: RefCell::default(),
            wakers: RefCell::default(),
            waiting: RefCell::default(),
            lines: Lines::default(),
            operations: Operations::default(),
            timers: Operations::default(),
            uses_tcp: Cell::new(false),
            suspects: Cell::new(false),
            tells_later: Cell::new(false),
            is_late: Cell::new(false),
            outlived: Cell::new(false),
        });
        WORLD.set(Some(world.clone()));
        world
    }

    pub(crate) fn next_if_any(&self) -> Option<u8> {
        self.input.borrow_mut().pop_front()
    }

    /// 0 at the end, which stands for doing nothing.
    pub(crate) fn next(&self) -> u8 {
        self.next_if_any().unwrap_or(0)
    }

    /// From now on no instruction follows.
    pub(crate) fn end_input(&self) {
        self.input.borrow_mut().clear();
    }

    pub(crate) fn set_auditing(&self, auditing: bool) {
        self.auditing.set(auditing);
    }

    pub(crate) fn is_auditing(&self) -> bool {
        self.auditing.get()
    }

    /// The runtime of a slot, made if there is none.
    pub(crate) fn runtime(&self, slot: usize, propagate: bool) -> Rc<Runtime> {
        let mut runtimes = self.runtimes.borrow_mut();
        let runtime = runtimes[slot].get_or_insert_with(|| {
            let runtime = Rc::new(Runtime::builder().propagate_panics(propagate).build());
            self.propagates.set(self.propagates.get() || propagate);
            let (mut handles, mut made) = (self.handles.borrow_mut(), self.made.borrow_mut());
            handles.truncate(1);
            handles.insert(0, (runtime.handle(), made.len()));
            made.push(Rc::downgrade(&runtime));
            runtime
        });
        runtime.clone()
    }

    /// A handle, and which runtime it is of, for `made`.
    pub(crate) fn handle(&self, which: u8) -> Option<(Handle, usize)> {
        let handles = self.handles.borrow();
        let which = which as usize % handles.len().max(1);
        handles.get(which).cloned()
    }

    /// The runtime that was made as the `number`th in a slot.
    pub(crate) fn made(&self, number: usize) -> Weak<Runtime> {
        self.made.borrow()[number].clone()
    }

    /// Runs code of the runtime `home`.
    pub(crate) fn at_home<R>(&self, home: &Weak<Runtime>, f: impl FnOnce() -> R) -> R {
        struct Leave<'a>(&'a World, Weak<Runtime>);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.home.replace(std::mem::take(&mut self.1));
            }
        }
        let _leave = Leave(self, self.home.replace(home.clone()));
        f()
    }

    /// The runtime that is entered must be the one whose code is running.
    pub(crate) fn check_home(&self) {
        let Some(home) = self.home.borrow().upgrade() else {
            return;
        };
        // Only the texts of the handles tell them apart.
        let entered = Handle::try_current().map(|entered| format!("{entered:?}"));
        if entered != Some(format!("{:?}", home.handle())) {
            fail("code runs in another runtime than its own");
        }
    }

    /// A task of this runtime.
    pub(crate) fn spawn_on(self: &Rc<Self>, runtime: &Rc<Runtime>) -> Kept {
        let program = self.at_home(&Rc::downgrade(runtime), || Program::new(self));
        let record = program.record();
        let task = runtime.spawn(program);
        record.id.set(task.id().to_string().parse().unwrap_or(0));
        (task, record)
    }

    /// A task of the runtime that is entered.
    pub(crate) fn spawn(self: &Rc<Self>) -> Option<Kept> {
        Handle::try_current()?;
        self.check_home();
        let program = Program::new(self);
        let record = program.record();
        let task = soloist::spawn(program);
        record.id.set(task.id().to_string().parse().unwrap_or(0));
        Some((task, record))
    }

    pub(crate) fn keep(&self, kept: Kept) {
        self.aborts.borrow_mut().push(kept.0.abort_handle());
        self.tasks.borrow_mut().push(kept);
    }

    pub(crate) fn keep_end(&self, end: End) {
        let mut ends = self.ends.borrow_mut();
        let unwanted = if ends.len() < 16 {
            ends.push(end);
            None
        } else {
            Some(end)
        };
        drop(ends);
        drop(unwanted);
    }

    pub(crate) fn record(&self, which: u8) -> Option<(Waker, Arc<AtomicBool>)> {
        let records = self.records.borrow();
        let record = records.get(which as usize % records.len().max(1))?;
        let waker = record.waker.borrow().clone()?;
        Some((waker, record.woken.clone()))
    }

    /// All have been woken, and whoever was has been polled.
    pub(crate) fn check_nobody_is_forgotten(&self) {
        let slots = self.runtimes.borrow();
        let slots: Vec<_> = slots.iter().flatten().map(Rc::downgrade).collect();
        let runs = |home: &Weak<Runtime>| slots.iter().any(|slot| slot.ptr_eq(home));
        self.lines.check(runs);
        for record in self.records.borrow().iter() {
            if record.is_settled() || !runs(&record.home) {
                continue;
            }
            if record.waker.borrow().is_none() {
                fail("a task was never polled");
            }
            if record.woken.load(Ordering::SeqCst) {
                fail("a task was woken and not polled");
            }
        }
    }

    pub(crate) fn wake_all(&self) {
        let count = self.records.borrow().len();
        for n in 0..count {
            let record = self.records.borrow()[n].clone();
            let waker = record.waker.borrow().clone();
            if let Some(waker) = waker {
                record.woken.store(true, Ordering::SeqCst);
                waker.wake();
            }
        }
    }

    pub(crate) fn check_all_are_gone(&self) {
        for record in self.records.borrow().iter() {
            if record.home.strong_count() == 0 && !record.is_settled() {
                fail("a runtime has gone, and one of its tasks has not");
            }
        }
        // They work for ever, and do nothing.
        self.wake_all();
        let wakers = self.wakers.take();
        elsewhere(true, move || {
            for waker in wakers {
                waker.wake();
            }
        });
    }

    /// No future owns a runtime any more.
    pub(crate) fn disown(&self) {
        let count = self.records.borrow().len();
        for n in 0..count {
            let record = self.records.borrow()[n].clone();
            let owned = record.owned.take();
            planned(|| drop(owned));
        }
    }

    /// The panics of destructors that nobody has heard of must have been reported.
    fn check_reports(&self, records: &[Rc<Record>]) {
        if self.tells_later.get() {
            return;
        }
        let Some(text) = process::collected() else {
            return;
        };
        let reported = |what: &str| text.matches(what).count();
        let mut unheard: Vec<u64> = Vec::new();
        for record in records {
            if let Some(heard) = &*record.to_be_told.borrow() {
                if !heard.load(Ordering::SeqCst) {
                    unheard.push(record.id.get());
                }
            }
        }
        if unheard.len() > reported("has panicked, and no handle receives the panic") {
            say(format_args!("{unheard:?}: {text}"));
            fail("a destructor's panic is lost");
        }
        unheard.retain(|id| *id > 0);
        for id in &unheard {
            let same = unheard.iter().filter(|other| *other == id).count();
            if same > reported(&format!("`task-{id}`")) {
                say(format_args!("{id}: {text}"));
                fail("a destructor's panic is not reported");
            }
        }
    }

    /// The handles that are left outlive the runtime.
    pub(crate) fn clear(&self) {
        self.disown();
        for runtime in self.runtimes.take() {
            planned(|| drop(runtime));
        }
        for task in self.tasks.take() {
            planned(|| drop(task));
        }
        for group in self.groups.take() {
            planned(|| drop(group));
        }
        // A process that exits inside of a runtime stays inside: that one never goes.
        let stays = self.outlived.get() || process::is_exiting();
        for remote in self.remotes.take() {
            if stays {
                planned(|| drop(remote));
                continue;
            }
            // It was done before the runtime went, or is cancelled.
            if let Err(Ok(payload)) = remote
                .wait()
                .map_err(soloist::task::JoinError::try_into_panic)
            {
                hear(&payload);
            }
        }
        drop(self.promises.take());
        drop(self.aborts.take());
        drop(self.peers.take());
        drop(self.ends.take());
        drop(self.handles.take());
        self.lines.clear();
        for thread in self.waiting.take() {
            if !process::is_exiting() && thread.join().is_err() {
                fail("a thread that waits for a task has panicked");
            }
        }
        barrier();
        let records = self.records.take();
        for record in &records {
            if record.home.strong_count() == 0 && !record.is_settled() {
                fail("a future was never dropped");
            }
            drop(record.waker.take());
        }
        self.check_reports(&records);
        if self.outlived.get() {
            crate::late::check_later(records);
        }
        let _ = WORLD.try_with(|world| world.take());
    }
}

/// Only planned panics may come out of a runtime.
pub(crate) fn planned<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(payload) => {
            hear(&payload);
            None
        }
    }
}
