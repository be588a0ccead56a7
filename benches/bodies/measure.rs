//! Measuring, and the output of a run.
//!
//! Each run of a binary prints one line per result: `name <TAB> value`. The runner
//! collects them over many runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::Future;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::place;
use crate::rt::Ctx;

/// Measurements of one operation in one run: their median is the result.
const BATCHES: usize = 15;
/// A batch repeats its operation for about as long.
const BATCH: Duration = Duration::from_millis(4);

/// One result. Times are in nanoseconds, sizes in bytes, unless the name says otherwise.
pub fn report(name: &str, value: f64) {
    println!("{name}\t{value}");
}

/// The arguments after the name of the suite.
pub fn arguments() -> (String, Vec<String>) {
    place::first();
    place::on_core(0);
    let mut arguments = std::env::args().skip(1);
    let suite = arguments.next().expect("the name of a suite");
    (suite, arguments.collect())
}

/// Ends the run of a runtime that the system does not support.
#[allow(dead_code)] // Some can always run.
pub fn refused(error: impl std::fmt::Display) -> ! {
    println!("refused\t{error}");
    std::process::exit(0);
}

// ---- time ------------------------------------------------------------------------

/// The time that this thread has spent on a core, so that others on the machine count as
/// little as possible. All that is measured with it never waits.
pub fn thread_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The CPU time of all threads, for runtimes that start other threads.
pub fn process_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes to `time`.
    let result = unsafe { libc::clock_gettime(id, &mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Reports the time of one of the `n` operations of `operations`, which chooses `n`
/// itself if `fixed` does not.
pub async fn measure<F, Fut>(name: &'static str, ctx: Ctx, operations: F, fixed: Option<u64>)
where
    F: Fn(Ctx, u64) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut n = fixed.unwrap_or(1_000);
    // One more than is measured, to warm up.
    loop {
        let start = thread_time();
        operations(ctx, n).await;
        if fixed.is_some() || thread_time() - start > BATCH {
            break;
        }
        n *= 2;
    }
    let mut batches = Vec::new();
    for _ in 0..BATCHES {
        let start = thread_time();
        operations(ctx, n).await;
        batches.push((thread_time() - start).as_nanos() as f64 / n as f64);
    }
    report(name, median(batches));
}

/// The same for functions that are not async.
pub fn measure_call(name: &str, mut call: impl FnMut()) {
    let mut n = 1;
    loop {
        let start = thread_time();
        (0..n).for_each(|_| call());
        if thread_time() - start > BATCH {
            break;
        }
        n *= 2;
    }
    let batch = |_| {
        let start = thread_time();
        (0..n).for_each(|_| call());
        (thread_time() - start).as_nanos() as f64 / n as f64
    };
    report(name, median((0..BATCHES).map(batch).collect()));
}

pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

pub fn quantile(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * quantile).round() as usize]
}

/// Numbers between 0 and 1 in no order, the same in each run.
pub fn random(n: usize) -> impl Iterator<Item = f64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..n).map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    })
}

// ---- memory ----------------------------------------------------------------------

/// The system's allocator, with a counter that is off while time is measured: then it
/// is one load and one branch, the same for all.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: it is the system's allocator.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ON.load(Relaxed) {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if ON.load(Relaxed) {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if ON.load(Relaxed) {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often memory was allocated while `work` ran.
pub async fn allocations(work: impl Future<Output = ()>) -> u64 {
    ALLOCATIONS.store(0, Relaxed);
    ON.store(true, Relaxed);
    work.await;
    ON.store(false, Relaxed);
    ALLOCATIONS.load(Relaxed)
}

/// The memory of this process that is in RAM, in bytes.
pub fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0
}

/// A value that the compiler knows nothing about.
pub fn unknown<T>(value: T) -> T {
    black_box(value)
}
