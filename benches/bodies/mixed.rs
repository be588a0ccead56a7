//! The suite `mixed`: connections that wait for replies while other work occupies the thread.
//!
//! `mixed WORK BESIDE`: a server whose replies take `WORK` microseconds each, beside
//! `nothing`, a task that `compute`s, tasks that `yield`, threads that `spawn`, or a `flood`
//! of connections. It runs until its standard input is closed. Then it reports how much was
//! done beside the replies.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::measure::{quantile, report};
use super::place;
use super::sockets::listen;
use crate::rt::{self, Ctx};

const BLOCK: usize = 64 << 10;
const YIELDING: usize = 100_000;
/// How many tasks of the threads may be in flight.
const IN_FLIGHT: usize = 1_000;

pub fn main(arguments: &[String]) {
    let work = arguments[0].parse().expect("a number of microseconds");
    let work = Duration::from_micros(work);
    let beside = arguments[1].clone();
    // Ends this process in any case.
    // SAFETY: a system call that only starts a timer.
    unsafe { libc::alarm(120) };
    thread::spawn(report_at_end);
    rt::run(|ctx| async move {
        match &*beside {
            "nothing" | "flood" => {}
            "compute" => rt::detach(ctx.spawn(compute())),
            "yield" => {
                for _ in 0..YIELDING {
                    rt::detach(ctx.spawn(yield_for_ever()));
                }
                // The task may never start.
                TICKS.lock().unwrap().due = Some(Instant::now());
                rt::detach(ctx.spawn(tick()));
            }
            "spawn" => spawn_from_threads(ctx),
            other => panic!("what is {other}?"),
        }
        let listener = rt::listener(listen());
        loop {
            let stream = rt::accept(&listener).await;
            if beside == "flood" {
                one_more();
            }
            rt::detach(ctx.spawn(serve(stream, work)));
        }
    });
}

/// The first byte says what a connection is: `i` sends blocks in, `o` gets blocks out, and
/// all others get back what they send.
async fn serve(mut stream: rt::Stream, work: Duration) {
    let mut buffer = vec![0; 1024];
    loop {
        let n;
        (n, buffer) = rt::try_read(&mut stream, buffer).await;
        if n == 0 {
            return;
        }
        match buffer[0] {
            b'i' => buffer.resize(BLOCK, 0),
            b'o' => {
                buffer.resize(BLOCK, 0);
                while let Some(same) = rt::try_write_all(&mut stream, buffer, BLOCK).await {
                    buffer = same;
                }
                return;
            }
            _ => {
                spin(work);
                let Some(same) = rt::try_write_all(&mut stream, buffer, n).await else {
                    return;
                };
                buffer = same;
            }
        }
    }
}

/// Computes for this long.
fn spin(work: Duration) {
    if work.is_zero() {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < work {
        std::hint::spin_loop();
    }
}

// ---- other work --------------------------------------------------------------------

/// The number of steps of the other work.
static DONE: AtomicU64 = AtomicU64::new(0);

/// Only on the runtime's thread.
fn one_more() {
    DONE.store(DONE.load(Relaxed) + 1, Relaxed);
}

async fn compute() {
    loop {
        spin(Duration::from_millis(5));
        one_more();
        rt::yield_now().await;
    }
}

async fn yield_for_ever() {
    loop {
        one_more();
        rt::yield_now().await;
    }
}

struct Ticks {
    /// When the current sleep should end.
    due: Option<Instant>,
    /// In microseconds.
    late: Vec<f64>,
}

static TICKS: Mutex<Ticks> = Mutex::new(Ticks {
    due: None,
    late: Vec::new(),
});

/// Repeats a timer of 1 ms.
async fn tick() {
    let period = Duration::from_millis(1);
    loop {
        let due = Instant::now() + period;
        TICKS.lock().unwrap().due = Some(due);
        rt::sleep(period).await;
        let late = due.elapsed().as_nanos() as f64 / 1000.0;
        TICKS.lock().unwrap().late.push(late);
    }
}

/// Four threads that spawn tasks up to the limit.
fn spawn_from_threads(ctx: Ctx) {
    static FLYING: AtomicUsize = AtomicUsize::new(0);
    let Some(spawner) = rt::spawner(ctx) else {
        super::measure::refused("other threads cannot spawn on it");
    };
    for _ in 0..4 {
        let spawner = spawner.clone();
        thread::spawn(move || {
            place::on_core(1);
            // The client runs on the same core.
            place::policy(libc::SCHED_IDLE, 0);
            loop {
                if FLYING.fetch_add(1, Relaxed) >= IN_FLIGHT {
                    FLYING.fetch_sub(1, Relaxed);
                    thread::yield_now();
                    continue;
                }
                rt::spawn_from_thread(&spawner, async {
                    FLYING.fetch_sub(1, Relaxed);
                    one_more();
                });
            }
        });
    }
}

/// On a separate thread, since the runtime may be too busy.
fn report_at_end() {
    place::on_core(1);
    let start = Instant::now();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let seconds = start.elapsed().as_secs_f64();
    let done = DONE.load(Relaxed) as f64;
    if done > 0.0 {
        report("done beside", done / seconds);
    }
    let ticks = TICKS.lock().unwrap();
    if let Some(due) = ticks.due {
        let mut late = ticks.late.clone();
        // The sleep may never have ended.
        if let Some(late_now) = Instant::now().checked_duration_since(due) {
            late.push(late_now.as_nanos() as f64 / 1000.0);
        }
        for (name, part) in [
            ("p50", 0.5),
            ("p99", 0.99),
            ("p99.9", 0.999),
            ("worst", 1.0),
        ] {
            report(&format!("timer late {name}"), quantile(late.clone(), part));
        }
    }
    std::process::exit(0);
}
