//! The event loop's last lesson: ten tasks, each three calls deep, each waiting for a thread that
//! sleeps for a random time and then brings a number. The loop is stopped when all have theirs.
//!
//! cargo run --release --example event_loop
//! cargo run --release --example event_loop -- --seed 7 --tasks 100

use soloist::promise::{Promised, promise};
use soloist::{Handle, Runtime};
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: event_loop [--seed N] [--tasks N]

Runs so many tasks at once (10), prints each as it ends, and all results when the last one has.
With the same seed it all comes out the same.";

fn main() -> ExitCode {
    let (seed, tasks) = match arguments(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("event_loop: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let results = run(seed, tasks);
    let took = started.elapsed().as_secs_f64();

    let failed = results.iter().filter(|result| result.is_err()).count();
    let numbers: Vec<u32> = results.into_iter().flatten().collect();
    say(&format!("results: {numbers:?}"));
    if failed > 0 {
        eprintln!("event_loop: {failed} of {tasks} tasks have failed");
        return ExitCode::FAILURE;
    }
    let waited = plan(seed, tasks).map(|read| read.takes).sum::<Duration>();
    let waited = waited.as_secs_f64();
    say(&format!(
        "{tasks} tasks have waited {waited:.2} s, all together in {took:.2} s"
    ));
    ExitCode::SUCCESS
}

/// What a thread is to do for a task.
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
    // It is done, so this only fetches what it has collected.
    runtime.block_on(all)
}

async fn one_task(id: usize, read: Read) -> io::Result<u32> {
    let started = Instant::now();
    let result = big_step(read).await;
    let took = started.elapsed().as_secs_f64();
    match &result {
        Ok(number) => say(&format!("task {id} has {number} after {took:.2} s")),
        Err(error) => say(&format!("task {id} has failed after {took:.2} s: {error}")),
    }
    result
}

async fn big_step(read: Read) -> io::Result<u32> {
    Ok(small_step(read).await? * 1000)
}

async fn small_step(read: Read) -> io::Result<u32> {
    // Had the thread died, the promise would say so here.
    Ok(fake_io_read(read)?.await?)
}

/// Starts something that takes its time, and calls back when it is there.
fn fake_io_read(read: Read) -> io::Result<Promised<u32>> {
    let (promise, promised) = promise();
    thread::Builder::new().spawn(move || {
        thread::sleep(read.takes);
        // Nobody may be waiting for it any more.
        let _ = promise.set(read.number);
    })?;
    Ok(promised)
}

/// `None` is a request for help.
fn arguments(mut args: impl Iterator<Item = String>) -> Result<Option<(u64, usize)>, String> {
    let (mut seed, mut tasks) = (None, 10);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or(format!("{arg} needs a number"))?;
            let number = value.parse::<u32>();
            number.map_err(|_| format!("{arg}: {value:?} is not a number"))
        };
        match arg.as_str() {
            "-h" | "--help" => return Ok(None),
            "--seed" => seed = Some(number()?.into()),
            "--tasks" => tasks = number()? as usize,
            _ => return Err(format!("what is {arg:?}?")),
        }
    }
    Ok(Some((seed.unwrap_or_else(|| fastrand::u64(..)), tasks)))
}

/// The tasks go on when nobody reads their lines any more.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
