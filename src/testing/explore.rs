//! One test under many seeds; and the seed that fails, again.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::builder;
use crate::panics::Payload;
use crate::runtime::Schedule;
use crate::stderr;

/// Names the seed to run alone: `17`, or `17@` and the schedule's hash.
const VARIABLE: &str = "SOLOIST_SEED";

/// What a test returns that [`explore`] runs: nothing, or a `Result`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{testing, time::timeout};
///
/// testing::explore(0..10, || async {
///     timeout(Duration::from_secs(1), async {}).await?;
///     Ok::<(), soloist::time::Elapsed>(())
/// });
/// ```
pub trait Outcome {
    /// What has failed, if something has.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<T: Outcome, E: fmt::Debug> Outcome for Result<T, E> {
    fn failure(self) -> Option<String> {
        match self {
            Ok(outcome) => outcome.failure(),
            Err(error) => Some(format!("the test returned an error: {error:?}")),
        }
    }
}

/// What [`explore`] has seen.
///
/// # Examples
///
/// ```
/// use soloist::{spawn, testing};
///
/// let explored = testing::explore(0..100, || async {
///     let tasks = [spawn(async {}), spawn(async {}), spawn(async {})];
///     for task in tasks {
///         task.await;
///     }
/// });
/// assert_eq!(explored.seeds, 100);
/// // Three tasks can run in six orders; and main may be woken by each of them.
/// assert!(explored.schedules >= 6);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Explored {
    /// How many seeds were run.
    pub seeds: usize,
    /// How many different orders of polls they have led to. If that is one, the test has
    /// nothing that could come in another order.
    pub schedules: usize,
}

/// Runs a test under many seeds, each on a runtime of its own with a virtual clock and
/// [`Schedule::Shuffled`], and stops at the first that fails.
///
/// A test fails by a panic, also one of a task that is detached, by returning an error, and
/// by a deadlock, as in [`testing::block_on`](super::block_on). Then the seed is printed on
/// standard error, with the command that runs it alone.
///
/// **`SOLOIST_SEED=17`** in the environment runs only this seed, whatever `seeds` says: the
/// same polls in the same order. `SOLOIST_SEED=17@6b1d...`, with the hash that was printed,
/// also checks that they are the same. They are, if nothing else decides what the test does:
/// the order of a `HashMap`, other threads, real sockets, the system's clock.
/// [`testing::net`](super::net) is a network that does not.
/// [`testing::net`](super::net) is a network that does not.
///
/// # Panics
///
/// As the test that has failed. If `SOLOIST_SEED` is no seed. Inside of a running runtime.
///
/// # Examples
///
/// Two customers want the last seat. Each looks whether there is one, pays, and takes it.
/// The second comes while the first pays, and first come, first served hides what that can
/// lead to. Another order shows it:
///
/// ```should_panic
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use soloist::{spawn, testing, task::yield_now};
///
/// async fn book(seats: &Cell<i32>) {
///     if seats.get() > 0 {
///         yield_now().await; // Pays.
///         seats.set(seats.get() - 1);
///     }
/// }
///
/// testing::explore(0..1000, || async {
///     let seats = Rc::new(Cell::new(1));
///     let (first, second) = (seats.clone(), seats.clone());
///     let first = spawn(async move { book(&first).await });
///     let second = spawn(async move {
///         yield_now().await; // Comes a little later.
///         book(&second).await;
///     });
///     first.await;
///     second.await;
///     assert_eq!(seats.get(), 0, "the seat was sold twice");
/// });
/// ```
#[track_caller]
pub fn explore<F, Fut>(seeds: impl IntoIterator<Item = u64>, mut test: F) -> Explored
where
    F: FnMut() -> Fut,
    Fut: Future,
    Fut::Output: Outcome,
{
    if let Some(text) = std::env::var_os(VARIABLE) {
        replay(Wanted::parse(&text.to_string_lossy()), &mut test);
        return Explored {
            seeds: 1,
            schedules: 1,
        };
    }
    let mut passed = 0;
    let mut schedules = HashSet::new();
    for seed in seeds {
        let (result, hash) = run(seed, &mut test);
        if let Err(payload) = result {
            stderr::write(format_args!("{}\n", failed(seed, hash, passed)));
            resume_unwind(payload);
        }
        passed += 1;
        schedules.insert(hash);
    }
    Explored {
        seeds: passed,
        schedules: schedules.len(),
    }
}

/// Runs the test once. Returns what it panicked with, and the hash of its schedule.
fn run<F, Fut>(seed: u64, test: &mut F) -> (Result<(), Payload>, u64)
where
    F: FnMut() -> Fut,
    Fut: Future,
    Fut::Output: Outcome,
{
    let runtime = builder().schedule(Schedule::Shuffled(seed)).build();
    let mut hash = 0;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            // Made inside of the runtime: it may spawn already.
            runtime.block_on(async { test().await.failure() })
        }));
        hash = runtime.schedule_hash();
        // Its tasks are dropped: that may panic, too.
        drop(runtime);
        match outcome {
            Ok(None) => {}
            Ok(Some(failure)) => panic!("{failure}"),
            Err(payload) => resume_unwind(payload),
        }
    }));
    (result, hash)
}

/// What to run alone.
struct Wanted {
    seed: u64,
    hash: Option<u64>,
}

impl Wanted {
    #[track_caller]
    fn parse(text: &str) -> Wanted {
        let (seed, hash) = match text.split_once('@') {
            Some((seed, hash)) => (
                seed.parse().ok(),
                u64::from_str_radix(hash, 16).ok().map(Some),
            ),
            None => (text.parse().ok(), Some(None)),
        };
        match (seed, hash) {
            (Some(seed), Some(hash)) => Wanted { seed, hash },
            _ => panic!(
                "`{VARIABLE}={text}` is no seed: write a number, or the number, `@` and the hash \
                 that were printed"
            ),
        }
    }
}

#[track_caller]
fn replay<F, Fut>(wanted: Wanted, test: &mut F)
where
    F: FnMut() -> Fut,
    Fut: Future,
    Fut::Output: Outcome,
{
    let seed = wanted.seed;
    let (result, hash) = run(seed, test);
    let expected = wanted.hash.unwrap_or(hash);
    let other_path = (hash != expected).then(|| {
        format!(
            "seed {seed} has taken another path this time (its schedule is {hash:016x}, and not \
             {expected:016x}): something besides the seed decides what the test does, such as \
             the order of a `HashMap`, another thread, a real socket, the system's clock; or \
             the program is another one"
        )
    });
    match (result, other_path) {
        (Ok(()), None) => stderr::write(format_args!(
            "soloist: seed {seed} passes: {VARIABLE}={seed}@{hash:016x}\n"
        )),
        (Ok(()), Some(text)) => panic!("{text}"),
        (Err(payload), text) => {
            match text {
                Some(text) => stderr::write(format_args!("soloist: {text}\n")),
                None => stderr::write(format_args!(
                    "soloist: seed {seed} fails: {VARIABLE}={seed}@{hash:016x}\n"
                )),
            }
            resume_unwind(payload);
        }
    }
}

/// What is said of a seed that fails.
fn failed(seed: u64, hash: u64, passed: usize) -> String {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main");
    let test = test.map_or(String::new(), |name| {
        format!(" cargo test {name} -- --exact")
    });
    format!(
        "soloist: seed {seed} fails, after {passed} that passed. It alone, and the same polls \
         in the same order:\n\n    {VARIABLE}={seed}{test}\n\n{VARIABLE}={seed}@{hash:016x} \
         also checks that they are the same."
    )
}
