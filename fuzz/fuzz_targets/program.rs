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
//! * tasks that only the program wakes are polled in the order of their wakes;
//! * what arrives at a socket is what was sent, and all of it at an end in order;
//! * no poll completes more than its budget;
//! * a task, a destructor, and what a handle spawns run inside of the right runtime;
//! * a run inside a running runtime is refused;
//! * a panic of a destructor at a cancel is told or reported;
//! * a process that exits in the middle does so;
//! * with the runtime and the thread gone, the heap and the file descriptors are as before,
//!   unless something was forgotten.

#![no_main]

mod acts;
mod future;
mod late;
mod lines;
mod process;
mod streams;
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use soloist::Runtime;
use soloist::task::yield_now;

use crate::future::Program;
use crate::process::{fail, lowest_fd};
use crate::world::{World, barrier, planned};

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

fuzz_target!(
    init: {
        process::keep_output();
        if let Some(data) = process::child_input() {
            set_up();
            process::collect_stderr();
            run(&data);
            std::process::exit(0);
        }
    },
    |data: &[u8]| {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            set_up();
            run(&[]);
            process::note_fds();
        });
        process::collect_stderr();
        check(data);
        process::restore_stderr();
        process::run_child(data);
    }
);

fn set_up() {
    process::set_up();
    streams::set_up();
    world::set_up();
}

fn check(data: &[u8]) {
    let (blocks, fd) = (BLOCKS.load(Ordering::Relaxed), lowest_fd());
    run(data);
    if process::take_forgetful() {
        process::close_other_fds();
        return;
    }
    if lowest_fd() != fd {
        fail("a file descriptor is left open");
    }
    // A few blocks are kept for the next runtime; that must come to an end.
    let mut last = BLOCKS.load(Ordering::Relaxed);
    if last <= blocks {
        return;
    }
    for _ in 0..8 {
        process::collect_stderr();
        run(data);
        if process::take_forgetful() {
            process::close_other_fds();
            return;
        }
        let now = BLOCKS.load(Ordering::Relaxed);
        if now <= last {
            return;
        }
        last = now;
    }
    fail("every run leaves more on the heap");
}

/// A thread of its own: its reactor is new, and gone at the end.
fn run(data: &[u8]) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let world = World::new(data);
            while let Some(op) = world.next_if_any() {
                step(&world, op);
            }
            settle(&world);
            audit(&world);
            end(&world);
            world.clear();
        });
        if thread.join().is_err() {
            fail("the program's thread has panicked");
        }
    });
}

/// What happens outside of the runtime.
fn step(world: &Rc<World>, op: u8) {
    process::trace(format_args!("step {}", op & 0x7f));
    let now = world.runtime(world.slot.get(), op & 0x80 != 0);
    if op & 0x7f >= 120 {
        planned(|| drop(now));
        return end(world);
    }
    let home = Rc::downgrade(&now);
    world.at_home(&home, || match op & 0x7f {
        0..=15 => {
            planned(|| world.spawn_on(&now).0.detach());
        }
        16..=31 => world.keep(world.spawn_on(&now)),
        32..=79 => {
            planned(|| now.turn(Some(Duration::ZERO)).expect("a turn"));
        }
        80..=95 => {
            planned(|| world.act(op));
        }
        96..=103 => {
            let polls = op & 7;
            planned(|| now.block_on(main_task(world, polls)));
        }
        104..=111 => {
            now.handle().stop();
            planned(|| now.run());
        }
        _ => settle(world),
    });
    // Perhaps the last one.
    planned(|| drop(now));
}

/// Polls a program some times, whoever wakes it.
async fn main_task(world: &Rc<World>, polls: u8) {
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
fn settle(world: &Rc<World>) {
    let runtimes = world.runtimes.borrow().clone();
    let mut quiet = 0;
    // One after the other, until none of them has had anything to do.
    for runtime in runtimes.iter().flatten().cycle() {
        barrier();
        let home = Rc::downgrade(runtime);
        if world.at_home(&home, || is_quiet(world, runtime)) {
            quiet += 1;
        } else {
            quiet = 0;
        }
        if quiet >= 2 {
            break;
        }
    }
    for runtime in runtimes {
        planned(|| drop(runtime));
    }
    world.check_nobody_is_forgotten();
}

/// Whether there is nothing to do.
fn is_quiet(world: &World, runtime: &Runtime) -> bool {
    let turn = |wait| {
        let turn = planned(|| runtime.turn(Some(wait)).expect("a turn"));
        turn.is_some_and(|turn| turn.polled + turn.ready == 0)
    };
    if !turn(Duration::ZERO) {
        return false;
    }
    let soon = Instant::now() + Duration::from_secs(60);
    let waits = runtime.next_deadline().is_some_and(|next| next < soon);
    if waits {
        turn(Duration::from_millis(10));
        return false;
    }
    // What the system delivers takes a moment.
    !world.uses_tcp.get() || turn(Duration::from_millis(3))
}

/// Polls all tasks once more: what they wait for must not be ready.
fn audit(world: &Rc<World>) {
    for _ in 0..4 {
        world.set_auditing(true);
        world.wake_all();
        settle(world);
        world.set_auditing(false);
        if !world.suspects.take() {
            return;
        }
        // What has just arrived is told.
        std::thread::sleep(Duration::from_millis(20));
        settle(world);
    }
    fail("a socket is ready, and the task that waits for it is not told");
}

/// The runtimes go.
fn end(world: &Rc<World>) {
    barrier();
    world.disown();
    for runtime in world.runtimes.take() {
        planned(|| drop(runtime));
    }
    world.check_all_are_gone();
}
