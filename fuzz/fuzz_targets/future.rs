//! The tasks of the program.

use std::cell::Cell;
use std::future::Future;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use soloist::io::Async;
use soloist::promise::promise;
use soloist::task::{JoinError, TaskGroup, yield_now};
use soloist::time::{Sleep, interval, sleep, sleep_until, timeout};

use crate::process::{fail, forget, say, trace};
use crate::streams::{self, Transfer};
use crate::world::{Kept, Planned, PlannedOfOutput, Record, World, expect_panic, hear, take};

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

/// The output of a task. Its destructor may execute an instruction, too.
pub(crate) struct Output {
    value: u8,
    at_end: u8,
    world: Rc<World>,
    _heap: Box<u8>,
}

impl Output {
    pub(crate) fn value(&self) -> u8 {
        self.value
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if thread::current().id() != self.world.thread {
            fail("an output is dropped on a foreign thread");
        }
        match self.at_end {
            0 => {}
            1..=63 if thread::panicking() => {}
            1..=63 => resume_unwind(Box::new(PlannedOfOutput)),
            // In whatever runtime has taken it.
            op => self.world.act(op),
        }
    }
}

fn planned_panic() -> Planned {
    Planned {
        heard: Arc::new(AtomicBool::new(false)),
    }
}

/// One task of the program.
pub(crate) struct Program {
    world: Rc<World>,
    record: Rc<Record>,
    inner: Vec<Inner>,
    /// The effect of its destructor: nothing, an instruction, or a panic.
    at_end: u8,
    /// The same for the drop of its output.
    after_end: u8,
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

/// Checks that joining a task reports its panic.
fn joined(record: &Record, result: Result<Output, JoinError>) {
    record.check_join(
        result.is_ok(),
        result.as_ref().is_err_and(JoinError::is_panic),
    );
    if let Err(Ok(payload)) = result.map_err(JoinError::try_into_panic) {
        hear(&payload);
    }
}

async fn join((task, record): Kept) {
    joined(&record, task.join().await);
}

impl Program {
    /// The runtime whose code is running.
    pub(crate) fn new(world: &Rc<World>) -> Program {
        let record = Rc::new(Record {
            home: world.home.borrow().clone(),
            ..Record::default()
        });
        world.records.borrow_mut().push(record.clone());
        Program {
            world: world.clone(),
            record,
            inner: Vec::new(),
            at_end: 0,
            after_end: 0,
            wrapped: false,
        }
    }

    pub(crate) fn wrapped(world: &Rc<World>) -> Program {
        let mut program = Program::new(world);
        program.wrapped = true;
        program
    }

    pub(crate) fn record(&self) -> Rc<Record> {
        self.record.clone()
    }

    fn wait_for(&mut self, mut inner: Inner, cx: &mut Context<'_>) {
        if !inner.is_ready(cx) {
            self.inner.push(inner);
        }
    }

    /// Executes one instruction. Returns the result of the poll if it ends the poll.
    fn instruction(&mut self, op: u8, cx: &mut Context<'_>) -> Option<Poll<Output>> {
        let world = self.world.clone();
        trace(format_args!(
            "  instruction {op} of {}",
            self.record.id.get()
        ));
        match op {
            0..=7 => return Some(Poll::Pending),
            8..=15 => self.more(world.next(), cx),
            16..=31 => {
                self.record.woken.store(true, Ordering::SeqCst);
                cx.waker().wake_by_ref();
                return Some(Poll::Pending);
            }
            32..=47 => {
                return Some(Poll::Ready(Output {
                    value: op,
                    at_end: self.after_end,
                    world,
                    _heap: Box::new(op),
                }));
            }
            48..=55 => panic_any(planned_panic()),
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
                if let Some(kept) = take(&world.tasks, world.next()) {
                    self.wait_for(Inner::new("join", join(kept)), cx);
                }
            }
            104..=111 => {
                if let Some((task, record)) = take(&world.tasks, world.next()) {
                    let cancel = async move {
                        let output = task.cancel().await;
                        record.check_join(output.is_some(), false);
                    };
                    self.wait_for(Inner::new("cancel", cancel), cx);
                }
            }
            112..=119 => {
                let length = length(world.next());
                if let Some(kept) = take(&world.tasks, op) {
                    let join = async move {
                        let _ = timeout(length, join(kept)).await;
                    };
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
                    let wait = async {
                        if let Err(Ok(payload)) = remote.await.map_err(JoinError::try_into_panic) {
                            hear(&payload);
                        }
                    };
                    self.wait_for(Inner::new("remote", wait), cx);
                }
            }
            144..=159 => {
                if world.peers.borrow().len() < 8 {
                    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
                    ours.set_nonblocking(true).expect("non-blocking");
                    world.peers.borrow_mut().push(theirs);
                    let bytes = 1 + op % 4;
                    let there = world.clone();
                    let read = async move {
                        let ours = Async::new(ours).expect("it is registered");
                        for _ in 0..bytes {
                            let read = ours.read_with(|mut ours| ours.read(&mut [0]));
                            match read.await {
                                Ok(0) => return,
                                Ok(_) => {}
                                // The reactor is dropped with its thread.
                                Err(_) if there.is_late.get() => return,
                                Err(error) => fail(&format!("a read: {error}")),
                            }
                        }
                    };
                    self.wait_for(Inner::new("read", read), cx);
                }
            }
            160..=167 => {
                let group = TaskGroup::<u8, Output>::new();
                for _ in 0..op % 4 {
                    spawn_child(&world, &group);
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

    /// One of the other instructions.
    fn more(&mut self, op: u8, cx: &mut Context<'_>) {
        let world = self.world.clone();
        trace(format_args!(
            "  more {} of {}",
            op % 16,
            self.record.id.get()
        ));
        match op % 16 {
            0 => {
                let [one, other] = streams::connect(op & 0x80 != 0);
                world.uses_tcp.set(world.uses_tcp.get() || op & 0x80 != 0);
                world.keep_end(one);
                world.keep_end(other);
            }
            1..=3 => {
                let which = world.next();
                let how = world.next();
                if let Some(end) = take(&world.ends, which) {
                    let name = if end.writes {
                        "write"
                    } else {
                        "read from a stream"
                    };
                    self.wait_for(Inner::new(name, Transfer::new(&world, end, how)), cx);
                }
            }
            4 => world
                .lines
                .spawn(&self.record.home, 1 + (op >> 4) % 6, world.next() % 8),
            5 | 6 => {
                for _ in 0..=op >> 4 {
                    world.lines.wake(&self.record.home, world.next());
                }
            }
            7 => {
                let (there, length) = (world.clone(), length(world.next()));
                // Its work outlasts the period.
                let ticks = async move {
                    if length.is_zero() || length > Duration::from_secs(1) {
                        return;
                    }
                    let mut ticks = interval(length);
                    for _ in 0..usize::from(op) {
                        ticks.tick().await;
                        there.timers.count(64, "more than 64 ticks in one poll");
                    }
                };
                self.wait_for(Inner::new("interval", ticks), cx);
            }
            8 => {
                let there = world.clone();
                let due = async move {
                    for _ in 0..usize::from(op) {
                        sleep_until(Instant::now() - Duration::from_millis(1)).await;
                        there
                            .timers
                            .count(64, "more than 64 sleeps that are due in one poll");
                    }
                };
                self.wait_for(Inner::new("sleeps that are due", due), cx);
            }
            9 => self.after_end = world.next(),
            10 if op & 0x80 != 0 => {
                // A future that was polled, with all that it has.
                let Some(_depth) = Depth::enter() else { return };
                let program = Program::new(&world);
                let record = program.record();
                let mut program = Box::pin(program);
                let _ = program.as_mut().poll(cx);
                record.forgotten.set(true);
                forget(program);
            }
            10 => {
                // Somewhere in the middle.
                if let Some(mut inner) = self.inner.pop() {
                    if let Inner::Sleep(sleep) = &mut inner {
                        let _ = sleep.as_mut().poll(cx);
                    }
                    forget(inner);
                }
            }
            11 => {
                let slots = world.runtimes.borrow();
                let runtime = slots[usize::from(op >> 7)].clone();
                drop(slots);
                let old = self.record.owned.replace(runtime);
                drop(old);
            }
            12 => {
                if let Some((task, record)) = take(&world.tasks, world.next()) {
                    let mut task = Box::pin(task);
                    let wait = std::future::poll_fn(move |cx| {
                        let cancelled = "was cancelled";
                        match expect_panic(cancelled, || task.as_mut().poll(cx)) {
                            Ok(polled) => {
                                if polled.is_ready() {
                                    record.check_join(true, false);
                                }
                                polled.map(drop)
                            }
                            Err(is_cancelled) => {
                                record.check_join(false, !is_cancelled);
                                Poll::Ready(())
                            }
                        }
                    });
                    self.wait_for(Inner::new("task", wait), cx);
                }
            }
            13 => {
                if let Some(group) = take(&world.groups, world.next()) {
                    match op & 0x80 {
                        0 => self.wait_for(Inner::new("cancel of a group", group.cancel()), cx),
                        _ => {
                            let all = group_joined(group);
                            self.wait_for(Inner::new("a group's end", all), cx);
                        }
                    }
                }
            }
            14 => {
                // By readiness alone.
                let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
                if world.peers.borrow().len() < 8 {
                    ours.set_nonblocking(true).expect("non-blocking");
                    world.peers.borrow_mut().push(theirs);
                    let there = world.clone();
                    let read = async move {
                        let ours = Async::new(ours).expect("it is registered");
                        for _ in 0..op >> 4 {
                            match ours.readable().await {
                                Ok(()) => {}
                                Err(_) if there.is_late.get() => return,
                                Err(error) => fail(&format!("readable: {error}")),
                            }
                            match ours.get_ref().read(&mut [0; 2]) {
                                Ok(0) => return,
                                Ok(_) => {}
                                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                                Err(_) => return,
                            }
                        }
                    };
                    self.wait_for(Inner::new("readable", read), cx);
                }
            }
            _ => world.lines.cancel(world.next()),
        }
    }

    /// A poll, without the checks around it.
    fn poll_inside(&mut self, cx: &mut Context<'_>) -> Poll<Output> {
        let world = self.world.clone();
        let auditing = world.is_auditing();
        let mut ready = Vec::new();
        for n in (0..self.inner.len()).rev() {
            if self.inner[n].is_ready(cx) {
                if auditing {
                    say(format_args!("it is the {}", self.inner[n].name()));
                    fail("what a task waits for is ready, and nobody has told it");
                }
                ready.push(self.inner.swap_remove(n));
            }
        }
        drop(ready);
        for _ in 0..16 {
            let op = world.next();
            if let Some(polled) = self.instruction(op, cx) {
                return polled;
            }
        }
        Poll::Pending
    }
}

async fn group_joined(group: TaskGroup<u8, Output>) {
    // A group whose runtime was dropped reports that.
    let mut all = Box::pin(group.join_all());
    std::future::poll_fn(move |cx| {
        match expect_panic("because its runtime is gone", || all.as_mut().poll(cx)) {
            Ok(polled) => polled.map(drop),
            Err(_) => Poll::Ready(()),
        }
    })
    .await;
}

/// A child of a group.
pub(crate) fn spawn_child(world: &Rc<World>, group: &TaskGroup<u8, Output>) {
    let child = Program::wrapped(world);
    let fails = world.next() & 1 == 1;
    group.spawn(async move {
        let output = child.await;
        if fails {
            Err(output)
        } else {
            Ok(output.value())
        }
    });
}

impl Future for Program {
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        let record = self.record.clone();
        let world = self.world.clone();
        if record.over.get() {
            fail("polled after it was ready");
        }
        if thread::current().id() != world.thread {
            fail("polled on a foreign thread");
        }
        record.woken.store(false, Ordering::SeqCst);
        let old = record.waker.replace(Some(cx.waker().clone()));
        drop(old);
        world.operations.reset();
        world.timers.reset();
        let polled = world.at_home(&record.home, || {
            catch_unwind(AssertUnwindSafe(|| self.poll_inside(cx)))
        });
        match polled {
            Ok(polled) => {
                record.over.set(polled.is_ready());
                polled
            }
            Err(payload) => {
                record.over.set(true);
                record.panicked.set(true);
                // Some destructor's, perhaps.
                hear(&payload);
                resume_unwind(payload);
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let (world, record) = (self.world.clone(), self.record.clone());
        record.drops.set(record.drops.get() + 1);
        if record.drops.get() != 1 {
            fail("dropped twice");
        }
        if thread::current().id() != world.thread {
            fail("dropped on a foreign thread");
        }
        trace(format_args!(
            "  drop of {}: {}",
            record.id.get(),
            self.at_end
        ));
        let forgetful = self.wrapped && record.over.get();
        let inner = std::mem::take(&mut self.inner);
        let at_end = self.at_end;
        let mut first = None;
        world.at_home(&record.home, || {
            let mut keep = |result: Result<(), crate::world::Payload>| {
                if let Err(payload) = result {
                    // The other ones are heard here.
                    match first {
                        None => first = Some(payload),
                        Some(_) => hear(&payload),
                    }
                }
            };
            for inner in inner {
                keep(catch_unwind(AssertUnwindSafe(|| drop(inner))));
            }
            let owned = record.owned.take();
            keep(catch_unwind(AssertUnwindSafe(|| drop(owned))));
            keep(catch_unwind(AssertUnwindSafe(|| match at_end {
                0 => {}
                1..=63 => resume_unwind(Box::new(planned_panic())),
                op => world.act(op),
            })));
        });
        let Some(payload) = first else { return };
        trace(format_args!("  panics in the drop of {}", record.id.get()));
        if thread::panicking() || forgetful {
            hear(&payload);
            return;
        }
        record.panicked.set(true);
        // What it passes on, of a task of a runtime that it owned, is its own panic from here on.
        hear(&payload);
        let own = planned_panic();
        if payload.is::<Planned>() && !record.over.get() {
            record.to_be_told.replace(Some(own.heard.clone()));
            resume_unwind(Box::new(own));
        }
        resume_unwind(payload);
    }
}

/// The limit of nested instructions.
pub(crate) struct Depth;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl Depth {
    pub(crate) fn enter() -> Option<Depth> {
        let depth = DEPTH
            .try_with(|depth| depth.replace(depth.get() + 1))
            .ok()?;
        let entered = Depth;
        (depth < 40).then_some(entered)
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get() - 1));
    }
}
