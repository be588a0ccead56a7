//! Bytes as a program: tasks that spawn, wake, cancel, abort, sleep, read, panic, in their
//! polls and in their drops, in runtimes that come and go.
//!
//!     .ci/fuzz.sh 60       # seconds
//!
//! All tasks read their instructions from the same bytes, one after the other, so the
//! order in which they run is a part of the program. When the bytes are used up every task
//! waits, and it is checked that
//!
//! * no future is polled after it was ready, or on a foreign thread;
//! * each is dropped once, on its own thread;
//! * a task that was woken has been polled since;
//! * nothing that a task waits for is ready without the task having been told
//!   (all are polled once more to see that: the audit);
//! * with the runtime and the thread gone, the heap and the file descriptors are as before.

#![no_main]

mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use soloist::Runtime;
use soloist::task::yield_now;

use crate::world::{Planned, Program, World, barrier, fail};

/// Counts what is on the heap: in blocks, for buffers that are kept may grow.
struct Counting;

static BLOCKS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: as System, which does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fuzz_target!(|data: &[u8]| {
    static ONCE: Once = Once::new();
    ONCE.call_once(world::set_up);
    let (blocks, fd) = (BLOCKS.load(Ordering::Relaxed), lowest_fd());
    run(data);
    if lowest_fd() != fd {
        fail("a file descriptor is left open");
    }
    // A few blocks are kept for the next runtime; that must come to an end.
    let mut last = BLOCKS.load(Ordering::Relaxed);
    if last <= blocks {
        return;
    }
    for _ in 0..8 {
        run(data);
        let now = BLOCKS.load(Ordering::Relaxed);
        if now <= last {
            return;
        }
        last = now;
    }
    fail("every run leaves more on the heap");
});

/// Rises when one is leaked.
fn lowest_fd() -> i32 {
    File::open("/dev/null").expect("/dev/null").as_raw_fd()
}

/// A thread of its own: its reactor is new, and gone at the end.
fn run(data: &[u8]) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let world = World::new(data);
            let mut runtime = None;
            while let Some(op) = world.next_if_any() {
                step(&world, &mut runtime, op);
            }
            if let Some(runtime) = &runtime {
                settle(&world, runtime);
                audit(&world, runtime);
            }
            end(&world, &mut runtime);
            world.clear();
        });
        if thread.join().is_err() {
            fail("the program's thread has panicked");
        }
    });
}

/// Only planned panics may come out of a runtime.
fn planned<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Planned>() => None,
        Err(_) => fail("an unplanned panic"),
    }
}

/// What happens outside of the runtime.
fn step(world: &Rc<World>, runtime: &mut Option<Runtime>, op: u8) {
    let now = runtime.get_or_insert_with(|| {
        let runtime = Runtime::builder().propagate_panics(op & 0x80 != 0).build();
        world.set_handle(runtime.handle());
        runtime
    });
    match op & 0x7f {
        0..=15 => {
            planned(|| now.spawn(Program::new(world)).detach());
        }
        16..=31 => world.keep(now.spawn(Program::new(world))),
        32..=79 => {
            planned(|| now.turn(Some(Duration::ZERO)).expect("a turn"));
        }
        80..=95 => {
            planned(|| world.act(op));
        }
        96..=103 => {
            let polls = op & 7;
            planned(|| now.block_on(main(world, polls)));
        }
        104..=111 => {
            now.handle().stop();
            planned(|| now.run());
        }
        112..=119 => settle(world, now),
        _ => end(world, runtime),
    }
}

/// Polls a program some times, whoever wakes it.
async fn main(world: &Rc<World>, polls: u8) {
    let mut program = Box::pin(Program::new(world));
    for _ in 0..=polls {
        let ready =
            std::future::poll_fn(|cx| std::task::Poll::Ready(program.as_mut().poll(cx).is_ready()));
        if ready.await {
            return;
        }
        yield_now().await;
    }
}

/// Runs until nothing is ready, and nothing will be soon.
fn settle(world: &Rc<World>, runtime: &Runtime) {
    loop {
        barrier();
        let Some(turn) = planned(|| runtime.turn(Some(Duration::ZERO)).expect("a turn")) else {
            continue;
        };
        if turn.polled + turn.ready > 0 {
            continue;
        }
        match runtime.next_deadline() {
            Some(next) if next < Instant::now() + Duration::from_secs(60) => {
                planned(|| {
                    runtime
                        .turn(Some(Duration::from_millis(10)))
                        .expect("a turn")
                });
            }
            _ => break,
        }
    }
    world.check_nobody_is_forgotten();
}

/// Polls all tasks once more: what they wait for must not be ready.
fn audit(world: &Rc<World>, runtime: &Runtime) {
    world.set_auditing(true);
    world.wake_all();
    settle(world, runtime);
    world.set_auditing(false);
}

/// The runtime goes.
fn end(world: &Rc<World>, runtime: &mut Option<Runtime>) {
    let Some(runtime) = runtime.take() else {
        return;
    };
    barrier();
    planned(|| drop(runtime));
    world.check_all_are_gone();
}
