//! Runs a test with many seeds, and repeats the run of a seed that fails.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::builder;
use super::simulation::Simulated;
use crate::panics::Payload;
use crate::runtime::{Runtime, Schedule};
use crate::stderr;

/// The environment variable with the only seed to run: `17`, or `17@` and the schedule's hash.
pub(super) const SEED: &str = "SOLOIST_SEED";

/// Why two runs of a seed can differ.
pub(super) const CAUSES: &str = "something besides the seed decides what the test does, such as \
     the order of a `HashMap`, another thread, a real socket, the system's clock";

/// The return type of a test that [`explore`] runs: `()` or a `Result`.
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
    /// Returns a description of the failure, or `None` if the test has passed.
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

/// The statistics of [`explore`].
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
/// // Three tasks can run in six orders, and each of them may wake the test itself.
/// assert!(explored.schedules >= 6);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Explored {
    /// The number of seeds that were run.
    pub seeds: usize,
    /// The number of different orders of polls. If it is 1, the test has only one possible order.
    pub schedules: usize,
}

/// Runs a test with many seeds, and stops at the first seed that fails. Each run has its own runtime
/// with a virtual clock and [`Schedule::Shuffled`].
///
/// A test fails if it or a detached task panics, if it returns an error, and on a deadlock, as
/// described for [`testing::block_on`](super::block_on). Then the seed is printed on standard error,
/// with a command that runs only this seed.
///
/// **`SOLOIST_SEED=17`** in the environment replaces `seeds` by this one seed, and repeats its run:
/// the same polls in the same order. `SOLOIST_SEED=17@6b1d...`, with the hash that was printed, also
/// checks that the order is the same. It is the same if the test depends only on the seed, and not
/// on the order of a `HashMap`, other threads, real sockets or the system's clock. Use
/// [`simulate`](super::simulate()) instead of real sockets.
///
/// # Panics
///
/// Panics with the panic of the test that has failed. Also panics if `SOLOIST_SEED` is not a seed,
/// and inside a running runtime.
///
/// # Examples
///
/// Two customers want the last seat. Each checks that there is one, pays, and takes it. The second
/// customer starts while the first one pays. In the default order this works, but not in another:
///
/// ```should_panic
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use soloist::{spawn, testing, task::yield_now};
///
/// async fn book(seats: &Cell<i32>) {
///     if seats.get() > 0 {
///         yield_now().await; // The customer pays.
///         seats.set(seats.get() - 1);
///     }
/// }
///
/// testing::explore(0..1000, || async {
///     let seats = Rc::new(Cell::new(1));
///     let (first, second) = (seats.clone(), seats.clone());
///     let first = spawn(async move { book(&first).await });
///     let second = spawn(async move {
///         yield_now().await; // Starts a little later.
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
    let mut run = |seed| {
        let runtime = builder().schedule(Schedule::Shuffled(seed)).build();
        // `test` is called inside of the runtime, since it may spawn tasks.
        run(runtime, async { test().await.failure() })
    };
    if let Some(wanted) = Wanted::from_environment() {
        return wanted.replayed(run(wanted.seed));
    }
    each(seeds, |seed, passed| {
        let run = run(seed);
        let hash = run.hash;
        run.result.inspect_err(|_| {
            stderr::write(format_args!(
                "soloist: seed {seed} fails, after {passed} that passed. It alone, and the same polls \
                 in the same order:\n\n    {}\n\n{SEED}={seed}@{hash:016x} also checks that they are \
                 the same.\n",
                command(seed, "")
            ));
        })?;
        Ok(hash)
    })
}

/// Calls `run` with each seed and the number of seeds that have passed. Stops at the first that
/// fails. `run` returns the hash of the schedule.
pub(super) fn each(
    seeds: impl IntoIterator<Item = u64>,
    mut run: impl FnMut(u64, usize) -> Result<u64, Payload>,
) -> Explored {
    let mut passed = 0;
    let mut schedules = HashSet::new();
    for seed in seeds {
        let hash = run(seed, passed).unwrap_or_else(|payload| resume_unwind(payload));
        passed += 1;
        schedules.insert(hash);
    }
    Explored {
        seeds: passed,
        schedules: schedules.len(),
    }
}

/// A run of a test.
pub(super) struct Run {
    /// The panic of the test if it has failed.
    pub(super) result: Result<(), Payload>,
    /// The hash of its schedule.
    pub(super) hash: u64,
}

/// Runs a test once. Its output is a description of the failure.
pub(super) fn run(runtime: Runtime, test: impl Future<Output = Option<String>>) -> Run {
    let mut hash = 0;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test)));
        hash = Simulated::hash(&runtime.executor).unwrap_or_default();
        // This drops the tasks, which may panic, too.
        drop(runtime);
        match outcome {
            Ok(None) => {}
            Ok(Some(failure)) => panic!("{failure}"),
            Err(payload) => resume_unwind(payload),
        }
    }));
    Run { result, hash }
}

/// The only seed to run.
pub(super) struct Wanted {
    pub(super) seed: u64,
    hash: Option<u64>,
}

impl Wanted {
    #[track_caller]
    pub(super) fn from_environment() -> Option<Wanted> {
        let text = std::env::var_os(SEED)?;
        let text = text.to_string_lossy();
        let parse = || {
            let (seed, hash) = match text.split_once('@') {
                Some((seed, hash)) => (seed, Some(u64::from_str_radix(hash, 16).ok()?)),
                None => (&*text, None),
            };
            let seed = seed.parse().ok()?;
            Some(Wanted { seed, hash })
        };
        let wanted = parse();
        assert!(
            wanted.is_some(),
            "`{SEED}={text}` is not a seed: set it to a number, or to the `number@hash` that was \
             printed"
        );
        wanted
    }

    /// Reports the run of this seed, and resumes its panic.
    #[track_caller]
    pub(super) fn replayed(&self, run: Run) -> Explored {
        let Run { result, hash } = run;
        let seed = self.seed;
        let expected = self.hash.unwrap_or(hash);
        if hash != expected {
            let text = format!(
                "seed {seed} has taken another path this time (its schedule is {hash:016x}, and \
                 not {expected:016x}): {CAUSES}; or the program is another one"
            );
            match result {
                Ok(()) => panic!("{text}"),
                Err(_) => stderr::write(format_args!("soloist: {text}\n")),
            }
        } else {
            let what = if result.is_ok() { "passes" } else { "fails" };
            stderr::write(format_args!(
                "soloist: seed {seed} {what}: {SEED}={seed}@{hash:016x}\n"
            ));
        }
        result.unwrap_or_else(|payload| resume_unwind(payload));
        Explored {
            seeds: 1,
            schedules: 1,
        }
    }
}

/// Returns the command that runs only this seed. `more` are other variables.
pub(super) fn command(seed: u64, more: &str) -> String {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main");
    let test = test.map_or(String::new(), |name| {
        format!(" cargo test {name} -- --exact")
    });
    format!("{SEED}={seed}{more}{test}")
}
