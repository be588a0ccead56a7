//! The suite `tasks`: starting a runtime, spawning tasks, awaiting them.

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Poll, Waker};

use super::measure::{allocations, measure, measure_call, report, resident, unknown};
use crate::rt::{self, Ctx};

pub fn main() {
    rt::with_runtime(|block_on_ready| {
        measure_call("block_on of a ready future", || {
            unknown(block_on_ready());
        });
    });
    measure_call("new runtime, block_on, drop", || {
        unknown(rt::fresh_block_on());
    });
    rt::run(|ctx| async move {
        let body = measure("spawn + await, in a task", ctx, spawn_await, None);
        rt::output(ctx.spawn(body).await);
    });
    rt::run(|ctx| measure("spawn + await, from main", ctx, spawn_await, None));
    let name = "100,000 spawned, then awaited";
    rt::run(|ctx| measure(name, ctx, spawn_all, Some(100_000)));
    let name = "1,000,000 tasks, detached";
    rt::run(|ctx| measure(name, ctx, spawn_detached, Some(1_000_000)));
    rt::run(|ctx| async move {
        // One allocation is the vector of handles.
        let n = allocations(spawn_all(ctx, 10_000)).await - 1;
        // Rounding removes the few allocations of growing collections.
        report(
            "allocations per task",
            (n as f64 / 10_000.0 * 10.0).round() / 10.0,
        );
    });
}

async fn spawn_await(ctx: Ctx, n: u64) {
    for i in 0..n {
        unknown(rt::output(ctx.spawn(async move { unknown(i) }).await));
    }
}

pub async fn spawn_all(ctx: Ctx, n: u64) {
    let mut tasks = Vec::with_capacity(n as usize);
    tasks.extend((0..n).map(|i| ctx.spawn(async move { unknown(i) })));
    for task in tasks {
        unknown(rt::output(task.await));
    }
}

async fn spawn_detached(ctx: Ctx, n: u64) {
    static DONE: Countdown = Countdown::new();
    DONE.start(n);
    for _ in 0..n {
        rt::detach(ctx.spawn(async { DONE.down() }));
    }
    DONE.wait().await;
}

/// The memory of a million waiting tasks. Runs in its own process, since an allocator keeps freed memory.
pub fn memory() {
    const N: usize = 1_000_000;
    static POLLED: Countdown = Countdown::new();
    rt::run(|ctx| async move {
        POLLED.start(N as u64);
        let before = resident();
        for _ in 0..N {
            rt::detach(ctx.spawn(async {
                POLLED.down();
                std::future::pending::<()>().await;
            }));
        }
        POLLED.wait().await;
        report("bytes per waiting task", (resident() - before) / N as f64);
        // Dropping them is not measured.
        std::process::exit(0);
    });
}

/// A latch: the last of `n` tasks wakes the waiting one. Yielding until all are done would never end on a
/// runtime that always runs a task that yields next.
struct Countdown {
    left: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Countdown {
    const fn new() -> Countdown {
        Countdown {
            left: AtomicU64::new(0),
            waker: Mutex::new(None),
        }
    }

    fn start(&self, n: u64) {
        self.left.store(n, Relaxed);
    }

    fn down(&self) {
        // There is only one thread, and this is the cheapest counter.
        let left = self.left.load(Relaxed) - 1;
        self.left.store(left, Relaxed);
        if left == 0 {
            let waker = self.waker.lock().unwrap().take();
            waker.map(Waker::wake);
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.left.load(Relaxed) == 0 {
                return Poll::Ready(());
            }
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
