//! The suite `scale`: the cost per item for a growing number of items, compared with tokio.

use std::thread;

use crate::loads::{CONNECTIONS, echo_of};
use crate::place::cores;
use crate::results::Results;
use crate::runtimes::{Outcome, Runtime};
use crate::server::{Server, load_echo};

pub fn run(runtimes: &[Runtime], rounds: usize) -> Results {
    let mut results = Results::default();
    for round in 1..=rounds {
        eprintln!("scale: round {round} of {rounds}");
        for runtime in runtimes {
            for part in ["scale-tasks", "scale-timers"] {
                keep(&mut results, runtime, runtime.run(&[part], cores()));
            }
            for &n in CONNECTIONS {
                let servers = n.div_ceil(9_000);
                let mut outcome = connections(runtime, n / servers, servers);
                for (name, _) in &mut outcome.values {
                    *name = format!("connections: {n}");
                }
                keep(&mut results, runtime, outcome);
            }
        }
    }
    results
}

fn keep(results: &mut Results, runtime: &Runtime, outcome: Outcome) {
    for (row, value) in outcome.values {
        results.add(&row, runtime.name, value);
    }
    if let Some(why) = outcome.refused {
        eprintln!("{}: {why}", runtime.name);
        results.refused.insert(runtime.name.into(), why);
    }
}

/// `n` connections to each of the servers at once. Returns the mean CPU time per request.
fn connections(runtime: &Runtime, n: usize, servers: usize) -> Outcome {
    let one = || match Server::of(runtime, &["echo", "1024"]) {
        Ok(server) => load_echo(&server, &echo_of(n), (5 * n).max(10_000)),
        Err(why) => Outcome::failed(why),
    };
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let all: Vec<_> = (0..servers).map(|_| scope.spawn(one)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("a run");
        all.into_iter().map(join).collect()
    });
    let mut cpu = Vec::new();
    for outcome in outcomes {
        if outcome.refused.is_some() {
            return outcome;
        }
        cpu.extend(
            outcome
                .values
                .iter()
                .find(|(name, _)| name == "CPU")
                .map(|(_, cpu)| cpu * 1000.0),
        );
    }
    let mean = cpu.iter().sum::<f64>() / cpu.len() as f64;
    Outcome {
        values: vec![("CPU".into(), mean)],
        refused: None,
    }
}
