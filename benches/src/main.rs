//! Compares soloist with other runtimes: builds a binary for each, and runs them in turns. See
//! `benches/README.md`.

use std::collections::BTreeSet;

mod document;
mod footprint;
mod loads;
mod mixed;
mod notes;
mod options;
mod place;
mod results;
mod rows;
mod runtimes;
mod scale;
mod server;
mod sockets;
mod svg;
mod table;
mod target;

use options::Options;
use place::cores;
use results::Results;
use runtimes::{RUNTIMES, Runtime};

fn main() {
    let options = Options::of_command_line().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(2);
    });
    let wanted = |runtime: &&Runtime| {
        let has = options.suites.iter().any(|suite| runtime.has(suite));
        has && options.wants(runtime.name)
    };
    let mut runtimes: Vec<Runtime> = RUNTIMES.iter().filter(wanted).copied().collect();
    if options.build {
        runtimes.retain(|runtime| {
            eprintln!("building {}", runtime.name);
            let built = runtime.build();
            built
                .map_err(|error| eprintln!("left out: {error}"))
                .is_ok()
        });
        if options
            .suites
            .iter()
            .any(|suite| NEED_LOAD.contains(&&**suite))
        {
            runtimes::build("bench-load").unwrap_or_else(|error| panic!("{error}"));
        }
    }
    for suite in &options.suites {
        let runtimes: Vec<Runtime> = runtimes
            .iter()
            .filter(|it| it.has(suite))
            .copied()
            .collect();
        let results = match &**suite {
            "sockets" => sockets::run(&runtimes, options.rounds, options.counts),
            "mixed" => mixed::run(&runtimes, &options),
            "footprint" => footprint::run(&runtimes, options.rounds),
            "scale" => scale::run(&runtimes, options.rounds),
            _ => compute(suite, &runtimes, options.rounds),
        };
        results.save(suite);
        table::print(suite, &results);
    }
    if options.markdown {
        document::markdown();
    }
    if options.svg {
        document::charts();
    }
}

/// Runs a suite in which the programs measure their own time.
fn compute(suite: &str, runtimes: &[Runtime], rounds: usize) -> Results {
    // Parts that may fail separately, or need separate processes.
    let parts: &[&str] = match suite {
        "tasks" => &["tasks", "memory"],
        "timers" => &["timers", "timers-among", "timers-firing"],
        _ => &[suite],
    };
    let mut results = Results::default();
    let mut broken = BTreeSet::new();
    for round in 1..=rounds {
        eprintln!("{suite}: round {round} of {rounds}");
        for runtime in runtimes {
            for &part in parts {
                if broken.contains(&(runtime.name, part)) {
                    continue;
                }
                let outcome = runtime.run(&[part], cores());
                for (row, value) in outcome.values {
                    results.add(&row, runtime.name, value);
                }
                if let Some(why) = outcome.refused {
                    broken.insert((runtime.name, part));
                    let what = format!("{}, {part}", runtime.name);
                    results.refused.insert(what, why);
                }
            }
        }
    }
    results
}

/// The suites that need the program `bench-load`.
const NEED_LOAD: [&str; 4] = ["sockets", "mixed", "footprint", "scale"];
