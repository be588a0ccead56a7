//! The suite `timers`: sleeps that are dropped, sleeps that fire, and other tasks meanwhile.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::measure::{measure, process_time, quantile, random, report};
use super::wakes::yield_1;
use crate::rt::{self, Ctx};

pub fn main() {
    rt::run(|ctx| async move {
        let body = measure("unfired sleep, 0 others", ctx, unfired, None);
        rt::output(ctx.spawn(body).await);
    });
    rt::run(|ctx| async move {
        let body = async move {
            let others = pending(10_000).await;
            measure("yield beside 10,000 timers", ctx, yield_1, None).await;
            drop(others);
        };
        rt::output(ctx.spawn(body).await);
    });
}

pub fn among_others() {
    rt::run(|ctx| async move {
        let body = async move {
            let others = pending(100_000).await;
            measure("unfired sleep, 100,000 others", ctx, unfired, None).await;
            drop(others);
        };
        rt::output(ctx.spawn(body).await);
    });
}

pub fn firing() {
    rt::run(|ctx| all_fire(ctx, 100_000));
}

/// A timeout that does not fire, like most: created, polled once, dropped.
pub async fn unfired(_: Ctx, n: u64) {
    rt::without_budget(async move {
        for _ in 0..n {
            let mut sleep = pin!(rt::sleep(Duration::from_secs(60)));
            poll_fn(|cx| {
                assert!(sleep.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
    })
    .await;
}

/// Sleeps of 30 to 90 seconds, polled once, in no order.
pub async fn pending(n: usize) -> Vec<Pin<Box<impl Future>>> {
    let mut all: Vec<_> = random(n)
        .map(|unit| Box::pin(rt::sleep(Duration::from_secs_f64(30.0 + 60.0 * unit))))
        .collect();
    rt::without_budget(poll_fn(|cx| {
        for sleep in &mut all {
            assert!(sleep.as_mut().poll(cx).is_pending());
        }
        Poll::Ready(())
    }))
    .await;
    all
}

/// `n` tasks that sleep, all ending within 100 ms, evenly, in no order. The CPU time is
/// that of everything: to spawn, to sleep, to fire, to await.
async fn all_fire(ctx: Ctx, n: usize) {
    let cpu = process_time();
    // Enough time to spawn all of them.
    let first = Instant::now() + Duration::from_millis(500);
    let task = |unit: f64| {
        let deadline = first + Duration::from_millis(100).mul_f64(unit);
        ctx.spawn(async move {
            rt::sleep(deadline - Instant::now()).await;
            Instant::now().checked_duration_since(deadline)
        })
    };
    let tasks: Vec<_> = random(n).map(task).collect();
    let mut late = Vec::with_capacity(n);
    for task in tasks {
        let late_by = rt::output(task.await).expect("a sleep that is not too short");
        late.push(late_by.as_nanos() as f64 / 1000.0);
    }
    let cpu = (process_time() - cpu).as_nanos() as f64;
    report("100,000 firing: CPU", cpu / n as f64);
    report("100,000 firing: late, p50", quantile(late.clone(), 0.5));
    report("100,000 firing: late, p99", quantile(late, 0.99));
}
