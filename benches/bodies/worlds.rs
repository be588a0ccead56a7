//! Simulated networks. Each client sends 64 bytes to its server, and waits until they are back.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::measure::{median, report, thread_time};

pub const SIZE: usize = 64;
const BATCHES: usize = 6;
/// No batch is started after this time.
const TIME: Duration = Duration::from_secs(5);

/// `run` runs a world with so many clients, each with a server of its own, until each client has
/// made so many round trips.
pub fn main(mut run: impl FnMut(usize, usize)) {
    let mut measure = |name, pairs, trips, per: usize| {
        let (mut batches, started) = (Vec::new(), Instant::now());
        while batches.len() < BATCHES && (batches.is_empty() || started.elapsed() < TIME) {
            let start = thread_time();
            run(black_box(pairs), trips);
            batches.push((thread_time() - start).as_nanos() as f64 / per as f64);
        }
        report(name, median(batches));
    };
    measure("empty world", 0, 0, 1);
    measure("message, 2 hosts", 1, 20_000, 40_000);
    measure("message, 1,000 hosts", 500, 10, 10_000);
}
