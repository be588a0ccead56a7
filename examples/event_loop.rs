//! The last step of the tutorials on event loops: ten tasks, each three calls deep, each waiting for a
//! thread that sleeps for a random time and then returns a number. The loop stops when all are done.
//!
//! cargo run --release --example event_loop
//! cargo run --release --example event_loop -- --seed 7 --tasks 100

mod cli;

use cli::say;
use lexopt::prelude::*;
use soloist::promise::{Promised, promise};
use soloist::{Handle, Runtime};
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: event_loop [--seed N] [--tasks N]

Runs N tasks at once (10), prints a line as each of them ends, and then all results. With the same
seed the results are the same.";

fn main() -> ExitCode {
    let (mut seed, mut tasks) = (fastrand::u64(..), 10);
    cli::parse(USAGE, |args| {
        while let Some(arg) = args.next()? {
            match arg {
                Long("seed") => seed = args.value()?.parse()?,
                Long("tasks") => tasks = args.value()?.parse()?,
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(())
    });
    let started = Instant::now();
    let results = run(seed, tasks);
    let took = started.elapsed().as_secs_f64();

    let failed = results.iter().filter(|result| result.is_err()).count();
    let numbers: Vec<u32> = results.into_iter().flatten().collect();
    say(&format!("results: {numbers:?}"));
    if failed > 0 {
        eprintln!("event_loop: {failed} of {tasks} tasks failed");
        return ExitCode::FAILURE;
    }
    let waited = plan(seed, tasks).map(|read| read.takes).sum::<Duration>();
    let waited = waited.as_secs_f64();
    say(&format!(
        "the waits of {tasks} tasks add up to {waited:.2} s; they took {took:.2} s together"
    ));
    ExitCode::SUCCESS
}

/// What the thread of a task does.
struct Read {
    takes: Duration,
    number: u32,
}

fn plan(seed: u64, tasks: usize) -> impl Iterator<Item = Read> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..tasks).map(move |_| Read {
        takes: Duration::from_millis(random.u64(..1000)),
        number: random.u32(1..=100),
    })
}

fn run(seed: u64, tasks: usize) -> Vec<io::Result<u32>> {
    let runtime = Runtime::new();
    let tasks: Vec<_> = plan(seed, tasks)
        .enumerate()
        .map(|(index, read)| runtime.spawn(one_task(index + 1, read)))
        .collect();
    let all = runtime.spawn(async {
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await);
        }
        Handle::current().stop();
        results
    });
    runtime.run_forever();
    // The task is done: this only takes its output.
    runtime.block_on(all)
}

async fn one_task(id: usize, read: Read) -> io::Result<u32> {
    let started = Instant::now();
    let result = big_step(read).await;
    let took = started.elapsed().as_secs_f64();
    match &result {
        Ok(number) => say(&format!("task {id}: {number} after {took:.2} s")),
        Err(error) => say(&format!("task {id}: failed after {took:.2} s: {error}")),
    }
    result
}

async fn big_step(read: Read) -> io::Result<u32> {
    Ok(small_step(read).await? * 1000)
}

async fn small_step(read: Read) -> io::Result<u32> {
    // The second error is that of a promise whose thread panicked.
    Ok(fake_io_read(read)?.await?)
}

/// Starts a thread that completes the promise later.
fn fake_io_read(read: Read) -> io::Result<Promised<u32>> {
    let (promise, promised) = promise();
    thread::Builder::new().spawn(move || {
        thread::sleep(read.takes);
        // The error, that the task is gone, does not matter.
        let _ = promise.set(read.number);
    })?;
    Ok(promised)
}
