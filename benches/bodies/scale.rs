//! Parts of the suite `scale`: the same work, ten times as much at each step.

use super::measure::{median, report, thread_time};
use super::{tasks, timers};
use crate::rt;

const STEPS: [u64; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// Tasks that are spawned, then awaited.
pub fn of_tasks() {
    for n in STEPS {
        let figure = rt::run(|ctx| async move {
            let body = async move {
                let mut batches = Vec::new();
                for _ in 0..batches_of(n) {
                    let start = thread_time();
                    for _ in 0..repeats_of(n) {
                        tasks::spawn_all(ctx, n).await;
                    }
                    batches.push(per_item(start, n));
                }
                median(batches)
            };
            rt::output(ctx.spawn(body).await)
        });
        report(&format!("tasks: {n}"), figure);
    }
}

/// Sleeps that are created and polled once. They are dropped when all exist.
pub fn of_timers() {
    for n in [&[1], &STEPS[..]].concat() {
        let figure = rt::run(|ctx| async move {
            let body = async move {
                let mut batches = Vec::new();
                for _ in 0..batches_of(n) {
                    let start = thread_time();
                    for _ in 0..repeats_of(n) {
                        drop(timers::pending(n as usize).await);
                    }
                    batches.push(per_item(start, n));
                }
                median(batches)
            };
            rt::output(ctx.spawn(body).await)
        });
        report(&format!("timers: {n}"), figure);
    }
}

/// Repeats small numbers of items, so that the time can be measured.
fn repeats_of(n: u64) -> u64 {
    (20_000 / n).max(1)
}

/// The first is to warm up, and does not change a median.
fn batches_of(n: u64) -> u64 {
    if n > 100_000 { 3 } else { 7 }
}

fn per_item(start: std::time::Duration, n: u64) -> f64 {
    (thread_time() - start).as_nanos() as f64 / (n * repeats_of(n)) as f64
}
