//! The tasks of the program, and all that they can get hold of.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{Read, Write};
use std::panic::{panic_any, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use soloist::io::Async;
use soloist::promise::{Promise, promise};
use soloist::runtime::RemoteTask;
use soloist::task::{AbortHandle, TaskGroup, yield_now};
use soloist::time::{Sleep, sleep, timeout};
use soloist::{Handle, Runtime, Task, spawn};

/// What a panic carries that the program asked for.
pub(crate) struct Planned;

/// Ends the process: the fuzzer keeps the bytes.
pub(crate) fn fail(what: &str) -> ! {
    eprintln!("FAILED: {what}");
    std::process::abort();
}

/// Panics that are not planned end the process, also where they would be caught.
pub(crate) fn set_up() {
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().is::<Planned>() {
            eprintln!("{info}");
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
fn elsewhere(wait: bool, job: impl FnOnce() + Send + 'static) {
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

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// What is known of one task.
#[derive(Default)]
struct Record {
    over: Cell<bool>,
    drops: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    /// Set before a wake, cleared when a poll begins.
    woken: Arc<AtomicBool>,
}

pub(crate) struct World {
    input: RefCell<VecDeque<u8>>,
    thread: ThreadId,
    auditing: Cell<bool>,
    handle: RefCell<Option<Handle>>,
    records: RefCell<Vec<Rc<Record>>>,
    tasks: RefCell<Vec<Task<Box<u8>>>>,
    aborts: RefCell<Vec<AbortHandle>>,
    remotes: RefCell<Vec<RemoteTask<Box<u8>>>>,
    promises: RefCell<Vec<Promise<Box<u8>>>>,
    peers: RefCell<Vec<std::os::unix::net::UnixStream>>,
    /// Kept until the runtime is gone.
    wakers: RefCell<Vec<Waker>>,
}

/// Takes one out, for what is done with it may come back here.
fn take<T>(from: &RefCell<Vec<T>>, which: u8) -> Option<T> {
    let mut from = from.borrow_mut();
    let len = from.len();
    (len > 0).then(|| from.swap_remove(which as usize % len))
}

impl World {
    pub(crate) fn new(data: &[u8]) -> Rc<World> {
        let world = Rc::new(World {
            input: RefCell::new(data.iter().copied().collect()),
            thread: thread::current().id(),
            auditing: Cell::new(false),
            handle: RefCell::default(),
            records: RefCell::default(),
            tasks: RefCell::default(),
            aborts: RefCell::default(),
            remotes: RefCell::default(),
            promises: RefCell::default(),
            peers: RefCell::default(),
            wakers: RefCell::default(),
        });
        WORLD.set(Some(world.clone()));
        world
    }

    pub(crate) fn next_if_any(&self) -> Option<u8> {
        self.input.borrow_mut().pop_front()
    }

    /// 0 at the end, which stands for doing nothing.
    fn next(&self) -> u8 {
        self.next_if_any().unwrap_or(0)
    }

    pub(crate) fn set_handle(&self, handle: Handle) {
        self.handle.replace(Some(handle));
    }

    pub(crate) fn set_auditing(&self, auditing: bool) {
        self.auditing.set(auditing);
    }

    pub(crate) fn keep(&self, task: Task<Box<u8>>) {
        self.aborts.borrow_mut().push(task.abort_handle());
        self.tasks.borrow_mut().push(task);
    }

    fn record(&self, which: u8) -> Option<(Waker, Arc<AtomicBool>)> {
        let records = self.records.borrow();
        let record = records.get(which as usize % records.len().max(1))?;
        let waker = record.waker.borrow().clone()?;
        Some((waker, record.woken.clone()))
    }

    fn spawn(self: &Rc<Self>) -> Option<Task<Box<u8>>> {
        Handle::try_current().map(|_| spawn(Program::new(self)))
    }

    /// One instruction that needs no `Context`: of a poll, of a drop, or from outside.
    pub(crate) fn act(self: &Rc<Self>, op: u8) {
        let which = self.next();
        match op % 24 {
            0 => {
                if let Some((waker, woken)) = self.record(which) {
                    woken.store(true, Ordering::SeqCst);
                    waker.wake();
                }
            }
            1 | 2 => {
                if let Some((waker, woken)) = self.record(which) {
                    elsewhere(op % 24 == 1, move || {
                        woken.store(true, Ordering::SeqCst);
                        waker.wake_by_ref();
                        drop(waker);
                    });
                }
            }
            3 => {
                // The last reference may go there.
                if let Some((waker, _)) = self.record(which) {
                    elsewhere(which & 0x80 != 0, move || drop(waker));
                }
            }
            4 | 5 => {
                if let Some(task) = self.spawn() {
                    self.keep(task);
                }
            }
            6 => {
                if let Some(task) = self.spawn() {
                    task.detach();
                }
            }
            7 | 8 => drop(take(&self.tasks, which)),
            9 => {
                if let Some(task) = take(&self.tasks, which) {
                    task.detach();
                }
            }
            10 | 11 => {
                if let Some(abort) = take(&self.aborts, which) {
                    match op % 24 {
                        10 => abort.abort(),
                        _ => elsewhere(which & 0x80 != 0, move || abort.abort()),
                    }
                }
            }
            12 | 13 => {
                if let Some(promise) = take(&self.promises, which) {
                    let set = move || {
                        if which & 0x40 != 0 {
                            drop(promise.set(Box::new(which)));
                        }
                    };
                    match op % 24 {
                        12 => set(),
                        _ => elsewhere(which & 0x80 != 0, set),
                    }
                }
            }
            14 | 15 => {
                let Some(handle) = self.handle.borrow().clone() else {
                    return;
                };
                let make = || {
                    let world = WORLD.with_borrow(|world| world.clone());
                    Program::wrapped(&world.expect("it is there as long as the thread"))
                };
                if op % 24 == 14 {
                    let remote = handle.spawn(make);
                    self.remotes.borrow_mut().push(remote);
                } else {
                    let slot = Arc::new(Mutex::new(None));
                    let there = slot.clone();
                    elsewhere(true, move || {
                        *there.lock().unwrap() = Some(handle.spawn(make));
                    });
                    let remote = slot.lock().unwrap().take();
                    self.remotes.borrow_mut().extend(remote);
                }
            }
            16 => {
                if let Some(remote) = take(&self.remotes, which) {
                    elsewhere(which & 0x80 != 0, move || match which % 3 {
                        0 => drop(remote),
                        1 => remote.detach(),
                        _ => remote.abort(),
                    });
                }
            }
            17 => {
                if let Some(remote) = take(&self.remotes, which) {
                    match which % 3 {
                        0 => drop(remote),
                        1 => remote.detach(),
                        _ => remote.abort(),
                    }
                }
            }
            18 | 19 => {
                if let Some(mut peer) = take(&self.peers, which) {
                    if which & 0x80 == 0 {
                        let _ = peer.write(&[which]);
                        self.peers.borrow_mut().push(peer);
                    }
                }
            }
            20 => {
                if let Some(handle) = &*self.handle.borrow() {
                    handle.stop();
                }
            }
            21 => {
                // A runtime that comes and goes inside of another one.
                let inner = Runtime::new();
                let kept = inner.spawn(Program::new(self));
                inner.spawn(Program::new(self)).detach();
                match which % 3 {
                    0 => drop(kept),
                    1 => self.keep(kept),
                    _ => kept.detach(),
                }
                drop(inner);
            }
            22 => {
                if let Some((waker, _)) = self.record(which) {
                    self.wakers.borrow_mut().push(waker);
                }
            }
            _ => {}
        }
    }

    /// All have been woken, and whoever was has been polled.
    pub(crate) fn check_nobody_is_forgotten(&self) {
        for record in self.records.borrow().iter() {
            if record.drops.get() > 0 {
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
        for n in 0..self.records.borrow().len() {
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
            if record.drops.get() != 1 {
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

    /// The handles that are left outlive the runtime.
    pub(crate) fn clear(&self) {
        drop(self.tasks.take());
        for remote in self.remotes.take() {
            // It was done before the runtime went, or is cancelled.
            let _ = remote.wait();
        }
        drop(self.promises.take());
        drop(self.aborts.take());
        drop(self.peers.take());
        drop(self.handle.take());
        for record in self.records.take() {
            if record.drops.get() != 1 {
                fail("a future was never dropped");
            }
            drop(record.waker.take());
        }
        barrier();
        WORLD.set(None);
    }
}

/// What a task waits for.
enum Inner {
    Sleep(Pin<Box<Sleep>>),
    Other(&'static str, Pin<Box<dyn Future<Output = ()>>>),
}

impl Inner {
    fn new(name: &'static str, future: impl Future<Output = ()> + 'static) -> Inner {
        Inner::Other(name, Box::pin(future))
    }

    fn name(&self) -> &'static str {
        match self {
            Inner::Sleep(_) => "sleep",
            Inner::Other(name, _) => name,
        }
    }

    fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Inner::Sleep(sleep) => {
                let ready = sleep.as_mut().poll(cx).is_ready();
                if ready && Instant::now() < sleep.deadline() {
                    fail("a sleep that ends early");
                }
                ready
            }
            Inner::Other(_, future) => future.as_mut().poll(cx).is_ready(),
        }
    }
}

/// One task of the program.
pub(crate) struct Program {
    world: Rc<World>,
    record: Rc<Record>,
    inner: Vec<Inner>,
    /// What its drop does: nothing, an instruction, a panic.
    at_end: u8,
    /// Whether it is awaited in an `async` block, and not the task's own future. If the drop
    /// panics after the last poll there, the compiler forgets the output (rust-lang/rust#47949).
    wrapped: bool,
}

fn length(byte: u8) -> Duration {
    match byte % 8 {
        0 => Duration::ZERO,
        1 => Duration::from_nanos(1),
        2 | 3 => Duration::from_micros(20),
        4 => Duration::from_micros(u64::from(byte)),
        5 | 6 => Duration::from_secs(3600 + u64::from(byte)),
        _ => Duration::MAX,
    }
}

impl Program {
    pub(crate) fn new(world: &Rc<World>) -> Program {
        let record = Rc::new(Record::default());
        world.records.borrow_mut().push(record.clone());
        Program {
            world: world.clone(),
            record,
            inner: Vec::new(),
            at_end: 0,
            wrapped: false,
        }
    }

    fn wrapped(world: &Rc<World>) -> Program {
        let mut program = Program::new(world);
        program.wrapped = true;
        program
    }

    fn wait_for(&mut self, mut inner: Inner, cx: &mut Context<'_>) {
        if !inner.is_ready(cx) {
            self.inner.push(inner);
        }
    }

    /// One instruction. Returns what the poll ends with, if it does.
    fn instruction(&mut self, op: u8, cx: &mut Context<'_>) -> Option<Poll<Box<u8>>> {
        let world = self.world.clone();
        match op {
            0..=15 => return Some(Poll::Pending),
            16..=31 => {
                self.record.woken.store(true, Ordering::SeqCst);
                cx.waker().wake_by_ref();
                return Some(Poll::Pending);
            }
            32..=47 => return Some(Poll::Ready(Box::new(op))),
            48..=55 => panic_any(Planned),
            56..=63 => self.at_end = world.next(),
            64..=79 => {
                let length = length(world.next());
                self.wait_for(Inner::Sleep(Box::pin(sleep(length))), cx);
            }
            80..=87 => {
                let length = length(world.next());
                let sleeps = self.inner.iter_mut().filter_map(|inner| match inner {
                    Inner::Sleep(sleep) => Some(sleep),
                    Inner::Other(..) => None,
                });
                let deadline = Instant::now().checked_add(length);
                if let (Some(sleep), Some(deadline)) = (sleeps.last(), deadline) {
                    // Its deadline is another one: nothing else needs to be done.
                    sleep.reset(deadline);
                }
            }
            88..=95 => {
                let which = world.next();
                if which as usize % 4 < self.inner.len() {
                    drop(self.inner.swap_remove(which as usize % 4));
                }
            }
            96..=103 => {
                if let Some(task) = take(&world.tasks, world.next()) {
                    let join = async { drop(task.join().await) };
                    self.wait_for(Inner::new("join", join), cx);
                }
            }
            104..=111 => {
                if let Some(task) = take(&world.tasks, world.next()) {
                    let cancel = async { drop(task.cancel().await) };
                    self.wait_for(Inner::new("cancel", cancel), cx);
                }
            }
            112..=119 => {
                let length = length(world.next());
                if let Some(task) = take(&world.tasks, op) {
                    let join = async move { drop(timeout(length, task.join()).await) };
                    self.wait_for(Inner::new("timeout", join), cx);
                }
            }
            120..=135 => {
                let (promise, promised) = promise();
                world.promises.borrow_mut().push(promise);
                let second = (op & 1 == 1).then(|| promised.clone());
                let wait = async move { drop(promised.await) };
                self.wait_for(Inner::new("promise", wait), cx);
                if let Some(second) = second {
                    let wait = async move { drop(second.await) };
                    self.wait_for(Inner::new("promise's clone", wait), cx);
                }
            }
            136..=143 => {
                if let Some(remote) = take(&world.remotes, world.next()) {
                    let wait = async { drop(remote.await) };
                    self.wait_for(Inner::new("remote", wait), cx);
                }
            }
            144..=159 => {
                if world.peers.borrow().len() < 8 {
                    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
                    ours.set_nonblocking(true).expect("non-blocking");
                    world.peers.borrow_mut().push(theirs);
                    let bytes = 1 + op % 4;
                    let read = async move {
                        let ours = Async::new(ours).expect("it is registered");
                        for _ in 0..bytes {
                            let read = ours.read_with(|mut ours| ours.read(&mut [0]));
                            if read.await.expect("a read") == 0 {
                                return;
                            }
                        }
                    };
                    self.wait_for(Inner::new("read", read), cx);
                }
            }
            160..=167 => {
                let group = TaskGroup::<u8, Box<u8>>::new();
                for _ in 0..op % 4 {
                    let child = Program::wrapped(&world);
                    let fails = world.next() & 1 == 1;
                    group.spawn(async move {
                        let output = child.await;
                        if fails { Err(output) } else { Ok(*output) }
                    });
                }
                let all = async { drop(group.join_all().await) };
                self.wait_for(Inner::new("group", all), cx);
            }
            168..=171 => {
                let twice = async {
                    yield_now().await;
                    yield_now().await;
                };
                self.wait_for(Inner::new("yield", twice), cx);
            }
            _ => world.act(op),
        }
        None
    }
}

impl Future for Program {
    type Output = Box<u8>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Box<u8>> {
        /// By a panic, too.
        struct Over<'a>(&'a Cell<bool>);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let record = self.record.clone();
        if record.over.get() {
            fail("polled after it was ready");
        }
        if thread::current().id() != self.world.thread {
            fail("polled on a foreign thread");
        }
        let over = Over(&record.over);
        record.woken.store(false, Ordering::SeqCst);
        let old = record.waker.replace(Some(cx.waker().clone()));
        drop(old);
        let auditing = self.world.auditing.get();
        let mut ready = Vec::new();
        for n in (0..self.inner.len()).rev() {
            if self.inner[n].is_ready(cx) {
                if auditing {
                    eprintln!("it is the {}", self.inner[n].name());
                    fail("what a task waits for is ready, and nobody has told it");
                }
                ready.push(self.inner.swap_remove(n));
            }
        }
        drop(ready);
        let mut polled = None;
        for _ in 0..16 {
            let op = self.world.next();
            polled = self.instruction(op, cx);
            if polled.is_some() {
                break;
            }
        }
        let polled = polled.unwrap_or(Poll::Pending);
        if polled.is_pending() {
            std::mem::forget(over);
        }
        polled
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.record.drops.set(self.record.drops.get() + 1);
        if self.record.drops.get() != 1 {
            fail("dropped twice");
        }
        if thread::current().id() != self.world.thread {
            fail("dropped on a foreign thread");
        }
        let forgetful = self.wrapped && self.record.over.get();
        match self.at_end {
            0 => {}
            1..=63 if thread::panicking() || forgetful => {}
            1..=63 => resume_unwind(Box::new(Planned)),
            op => self.world.act(op),
        }
    }
}
