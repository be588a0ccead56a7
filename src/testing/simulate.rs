//! Runs a test in a simulated world under many seeds, and shrinks the faults of one that fails.

use std::cell::RefCell;
use std::future::Future;
use std::panic;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use super::builder;
use super::explore::{CAUSES, Explored, Outcome, Run, SEED, Wanted, command, each, run};
use super::faults::{Allowed, Faults};
use super::shrink::{Plan, Shrink};
use super::transcript::Transcript;
use super::virtual_clock::PATIENCE;
use super::world::World;
use crate::panics::Payload;
use crate::runtime::{Runtime, Schedule};
use crate::stderr;

/// The environment variable with the schedule and the only faults that may happen.
const FAULTS: &str = "SOLOIST_FAULTS";

/// The number of events that a report shows at most.
const SHOWN: usize = 300;

/// Runs a test in a simulated world with many seeds, and stops at the first seed that fails.
///
/// The test makes hosts, and spawns tasks on them. [`soloist::net`](crate::net) inside of these
/// tasks is the network of the world, so the code under test does not change. Each seed has its own
/// world, and its own runtime with a virtual clock and [`Schedule::Shuffled`]. The seed decides the
/// order of the tasks, and which faults of a [`Link`](super::Link) happen. The future of the test
/// has no host, so it cannot use the network itself.
///
/// A test fails if it or a detached task panics, if it returns an error, and on a deadlock, as
/// described for [`testing::block_on`](super::block_on). Then the seed is
///
/// 1. run again. If the two runs differ, the first event that differs is reported. The reason is
///    something besides the seed, such as the order of a `HashMap`, the system's clock or random
///    numbers, a real socket, or another thread.
/// 2. **shrunk**: it is run first in, first out, and with fewer and smaller faults, as long as it
///    fails at the same place. This takes up to a minute. The output of the test is that of its last
///    run, with the fewest faults. The report has the end of its transcript, up to the panic.
///
/// # Environment
///
/// * `SOLOIST_SEED=17` replaces `seeds` by this one seed, which runs once.
/// * `SOLOIST_FAULTS=...` together with `SOLOIST_SEED` allows only the faults in this list. It also
///   sets the schedule. The report of a failure prints such a list.
/// * `SOLOIST_TRACE=page.html` draws what the tasks do in the last run of a seed that fails, or in
///   the run of `SOLOIST_SEED`. This needs the feature `trace`, whose page is described in
///   [`trace`](https://docs.rs/soloist/latest/soloist/trace/).
///
/// # Panics
///
/// Panics with the panic of the test that has failed. Also panics if one of the variables has an
/// invalid value, and inside of a running runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{testing, time};
///
/// testing::simulate(0..100, |world| async move {
///     time::sleep(Duration::from_secs(1)).await;
///     assert!(world.seed() < 100);
/// });
/// ```
#[track_caller]
pub fn simulate<F, Fut>(seeds: impl IntoIterator<Item = u64>, mut test: F) -> Explored
where
    F: FnMut(World) -> Fut,
    Fut: Future,
    Fut::Output: Outcome,
{
    watch_panics();
    let mut simulate = |plan: &Plan, patience, is_quiet| {
        let faults = Arc::new(Faults::new(plan.seed, plan.allowed.as_ref()));
        let transcript = Arc::<Transcript>::default();
        WATCH.set(Some(Watch {
            transcript: transcript.clone(),
            is_quiet,
            place: String::new(),
        }));
        let run = run(plan.runtime(patience), async {
            let world = World::new(plan.seed, faults.clone(), transcript.clone());
            test(world).await.failure()
        });
        Simulation {
            run,
            place: WATCH.take().map_or(String::new(), |watch| watch.place),
            happened: faults.happened(),
            transcript,
        }
    };
    if let Some((wanted, plan)) = wanted() {
        let simulation = drawn(|| simulate(&plan, PATIENCE, false));
        if simulation.run.result.is_err() {
            stderr::write(format_args!("{}", simulation.transcript.end(SHOWN)));
        }
        return wanted.replayed(simulation.run);
    }
    each(seeds, |seed, passed| {
        let plan = Plan::new(seed);
        let first = simulate(&plan, PATIENCE, false);
        match first.run.result {
            Ok(()) => Ok(first.run.hash),
            Err(_) => Err(investigate(&plan, first, passed, &mut |plan, is_quiet| {
                simulate(plan, Duration::ZERO, is_quiet)
            })),
        }
    })
}

/// A run of a world.
struct Simulation {
    run: Run,
    /// Where the last panic was.
    place: String,
    happened: Allowed,
    transcript: Arc<Transcript>,
}

impl Plan {
    fn runtime(&self, patience: Duration) -> Runtime {
        let now = Instant::now();
        let schedule = match self.fifo {
            true => Schedule::Fifo,
            false => Schedule::Shuffled(self.seed),
        };
        let builder = builder().schedule(schedule).world(self.seed);
        // The real time that tasks take must not decide when timers are looked at.
        builder.budget_clock(move || now).patience(patience).build()
    }
}

/// Returns the only plan to run, if the environment has one.
#[track_caller]
fn wanted() -> Option<(Wanted, Plan)> {
    let faults = std::env::var_os(FAULTS);
    let Some(wanted) = Wanted::from_environment() else {
        assert!(faults.is_none(), "`{FAULTS}` is only used with `{SEED}`");
        return None;
    };
    let seed = wanted.seed;
    let plan = faults.map_or(Plan::new(seed), |faults| {
        let faults = faults.to_string_lossy();
        Plan::parse(seed, &faults).unwrap_or_else(|| {
            panic!("`{FAULTS}={faults}` is no list of faults: copy it from the report of a failure")
        })
    });
    Some((wanted, plan))
}

/// Runs a plan that has failed again, and shrinks it. Returns the panic of the last run.
fn investigate(
    plan: &Plan,
    first: Simulation,
    passed: usize,
    simulate: &mut dyn FnMut(&Plan, bool) -> Simulation,
) -> Payload {
    let seed = plan.seed;
    stderr::write(format_args!(
        "soloist: seed {seed} fails, after {passed} that passed:\n\n    {}\n\n",
        command(seed, "")
    ));
    let second = simulate(plan, true);
    if let Some(difference) = difference(&first, &second) {
        stderr::write(format_args!(
            "soloist: two runs of seed {seed} differ: {CAUSES}. {difference}\n"
        ));
        return first.run.result.unwrap_err();
    }
    let mut fails = |plan: &Plan| {
        let simulation = simulate(plan, true);
        let fails = simulation.run.result.is_err() && simulation.place == second.place;
        fails.then_some(simulation.happened)
    };
    let all = second.happened.0.len();
    let mut shrink = Shrink::new(plan, second.happened.clone(), &mut fails);
    shrink.run();
    let is_whole = !shrink.is_out_of_time();
    let (plan, runs) = (shrink.plan, shrink.runs);
    let last = drawn(|| simulate(&plan, false));
    let needed = plan.allowed.as_ref().map_or(0, |faults| faults.0.len());
    let order = plan.fifo.then_some(", first in, first out");
    let order = order.unwrap_or_default();
    let unfinished = if is_whole { "" } else { " in the time for it" };
    stderr::write(format_args!(
        "soloist: seed {seed} fails with {needed} of its {all} faults{order} ({runs} runs{unfinished}):\n\n\
         {}\n    {}\n\n",
        last.transcript.end(SHOWN),
        command(seed, &format!(" {FAULTS}={plan}"))
    ));
    match last.run.result {
        Err(payload) => payload,
        // It depends on something besides the seed after all.
        Ok(()) => first.run.result.unwrap_err(),
    }
}

/// Runs a world. If the environment names a file, what the tasks do is written to it as a page.
fn drawn(simulate: impl FnOnce() -> Simulation) -> Simulation {
    #[cfg(feature = "trace")]
    if let Some(page) = std::env::var_os("SOLOIST_TRACE") {
        use crate::trace;
        trace::start(100_000);
        let simulation = simulate();
        trace::stop();
        let written = trace::save_html(&page);
        let page = page.to_string_lossy();
        let text = match written {
            Ok(()) => format!("{page} shows the tasks of this run"),
            Err(error) => format!("cannot write {page}: {error}"),
        };
        stderr::write(format_args!("soloist: {text}\n"));
        return simulation;
    }
    simulate()
}

/// Describes the first difference of two runs.
fn difference(first: &Simulation, second: &Simulation) -> Option<String> {
    if let Some(index) = first.transcript.first_difference(&second.transcript) {
        let [one, other] = [first, second].map(|run| {
            let line = run.transcript.line(index);
            line.unwrap_or_else(|| "nothing more".to_string())
        });
        return Some(format!(
            "The first event that differs is number {}:\n\n    {one}\n    {other}\n",
            index + 1
        ));
    }
    let what = if first.run.hash != second.run.hash {
        "but their tasks have run in different orders"
    } else if second.run.result.is_ok() {
        "but the second one has passed"
    } else {
        return None;
    };
    Some(format!("Their events on the network are the same, {what}."))
}

thread_local! {
    /// The world that runs on this thread.
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

struct Watch {
    transcript: Arc<Transcript>,
    /// Whether panics are not reported.
    is_quiet: bool,
    place: String,
}

/// From now on each panic in a world is recorded.
fn watch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_quiet = WATCH.try_with(|watch| {
                let mut watch = watch.try_borrow_mut().ok()?;
                let watch = watch.as_mut()?;
                watch.transcript.panics();
                watch.place = info.location().map_or(String::new(), ToString::to_string);
                Some(watch.is_quiet)
            });
            if !matches!(is_quiet, Ok(Some(true))) {
                previous(info);
            }
        }));
    });
}
