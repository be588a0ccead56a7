//! The suite `wakes`: tasks that wake themselves or each other, or are woken by other threads.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use super::measure::{measure, median, report};
use super::place;
use crate::rt::{self, Ctx};

pub fn main() {
    rt::run(|ctx| async move {
        let body = measure("yield, 1 task", ctx, yield_1, None);
        rt::output(ctx.spawn(body).await);
    });
    rt::run(|ctx| async move {
        let body = measure("yield, 1,000 tasks", ctx, yield_1000, Some(500_000));
        rt::output(ctx.spawn(body).await);
    });
    rt::run(|ctx| async move {
        let body = measure("the runtime's own yield, 1 task", ctx, yield_own, None);
        rt::output(ctx.spawn(body).await);
    });
    rt::run(|ctx| async move {
        // Some runtimes spawn only `Send` futures, and this channel is not `Send`.
        if let Some(task) = ctx.spawn_local(async {}) {
            rt::output(task.await);
            measure("ping-pong, local channel", ctx, ping_pong_local, None).await;
        }
    });
    rt::run(|ctx| measure("ping-pong, async-channel", ctx, ping_pong, None));
    rt::run(|ctx| async move { rt::output(ctx.spawn(other_thread()).await) });
}

/// Wakes its task, and is ready at the next poll. The same for all runtimes.
pub fn yield_now() -> impl Future<Output = ()> {
    struct Yield(bool);
    impl Future for Yield {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    Yield(false)
}

pub async fn yield_1(_: Ctx, n: u64) {
    for _ in 0..n {
        yield_now().await;
    }
}

async fn yield_1000(ctx: Ctx, n: u64) {
    let task = |_| ctx.spawn(yield_1(ctx, n / 1000));
    let tasks: Vec<_> = (0..1000).map(task).collect();
    for task in tasks {
        rt::output(task.await);
    }
}

/// The `yield_now` of the runtime, which may do more than wake the task.
async fn yield_own(_: Ctx, n: u64) {
    for _ in 0..n {
        rt::yield_now().await;
    }
}

// ---- two tasks -------------------------------------------------------------------

/// `n` round trips.
async fn ping_pong_local(ctx: Ctx, n: u64) {
    let (there, back) = (Slot::new(), Slot::new());
    let other = {
        let (there, back) = (there.clone(), back.clone());
        let echo = async move {
            for _ in 0..n {
                back.send(there.receive().await).await;
            }
        };
        ctx.spawn_local(echo).expect("a runtime with local tasks")
    };
    let this = async move {
        for i in 0..n {
            there.send(i).await;
            assert_eq!(back.receive().await, i);
        }
    };
    let this = ctx.spawn_local(this).expect("a runtime with local tasks");
    rt::output(this.await);
    rt::output(other.await);
}

async fn ping_pong(ctx: Ctx, n: u64) {
    let (there, at_other) = async_channel::bounded(1);
    let (back, at_this) = async_channel::bounded(1);
    let other = ctx.spawn(async move {
        for _ in 0..n {
            back.send(at_other.recv().await.unwrap()).await.unwrap();
        }
    });
    let this = ctx.spawn(async move {
        for i in 0..n {
            there.send(i).await.unwrap();
            assert_eq!(at_this.recv().await.unwrap(), i);
        }
    });
    rt::output(this.await);
    rt::output(other.await);
}

/// A minimal channel with a capacity of 1, for one thread.
#[derive(Clone, Default)]
struct Slot(Rc<RefCell<Inside>>);

#[derive(Default)]
struct Inside {
    value: Option<u64>,
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

impl Slot {
    fn new() -> Slot {
        Slot::default()
    }

    async fn send(&self, value: u64) {
        poll_fn(|cx| {
            let mut inside = self.0.borrow_mut();
            if inside.value.is_some() {
                inside.sender = Some(cx.waker().clone());
                return Poll::Pending;
            }
            inside.value = Some(value);
            let receiver = inside.receiver.take();
            // The borrow has ended, since a wake may run any code.
            drop(inside);
            receiver.map(Waker::wake);
            Poll::Ready(())
        })
        .await;
    }

    async fn receive(&self) -> u64 {
        poll_fn(|cx| {
            let mut inside = self.0.borrow_mut();
            let Some(value) = inside.value.take() else {
                inside.receiver = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let sender = inside.sender.take();
            drop(inside);
            sender.map(Waker::wake);
            Poll::Ready(value)
        })
        .await
    }
}

// ---- two threads -----------------------------------------------------------------

/// The task wakes a thread that is parked, and the thread wakes the task. Both sleep
/// until then, on different cores, so this measures real time. Each round trip is measured separately, so
/// that other programs do not affect the median.
async fn other_thread() {
    const ROUNDS: usize = 4_000;
    let turn: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    let other = {
        let turn = turn.clone();
        thread::spawn(move || {
            place::on_core(1);
            for _ in 0..ROUNDS {
                let waker = loop {
                    let mut turn = turn.lock().unwrap();
                    if turn.0 {
                        turn.0 = false;
                        break turn.1.take();
                    }
                    drop(turn);
                    thread::park();
                };
                waker.expect("the task's waker").wake();
            }
        })
    };
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut sent = false;
        poll_fn(|cx| {
            let mut turn = turn.lock().unwrap();
            if sent && !turn.0 {
                return Poll::Ready(());
            }
            turn.1 = Some(cx.waker().clone());
            if !sent {
                sent = true;
                turn.0 = true;
                drop(turn);
                other.thread().unpark();
            }
            Poll::Pending
        })
        .await;
        times.push(start.elapsed().as_nanos() as f64);
    }
    other.join().unwrap();
    report("a wake from another thread, and back", median(times));
}
