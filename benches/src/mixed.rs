//! The suite `mixed`: clients that wait for replies while other work occupies the thread.

use std::process::{Command, Stdio};

use crate::loads::{LOADS, Load};
use crate::options::Options;
use crate::place::cores;
use crate::results::Results;
use crate::runtimes::{Outcome, Runtime};
use crate::server::{Server, load};

pub fn run(runtimes: &[Runtime], options: &Options) -> Results {
    let wanted = |load: &&Load| {
        options.loads.is_empty() || options.loads.iter().any(|letter| letter == load.letter)
    };
    let mut results = Results::default();
    for round in 1..=options.rounds {
        eprintln!("mixed: round {round} of {}", options.rounds);
        // The runtimes take turns with each load, so that they are measured close together.
        for load in LOADS.iter().filter(wanted) {
            for runtime in runtimes {
                let outcome = once(runtime, load, options.seconds);
                for (name, value) in outcome.values {
                    results.add(&format!("{}: {name}", load.name()), runtime.name, value);
                }
                if let Some(why) = outcome.refused {
                    eprintln!("{}, {}: {why}", runtime.name, load.name());
                    let what = format!("{}, {}", runtime.name, load.name());
                    results.refused.insert(what, why);
                }
            }
        }
    }
    results
}

fn once(runtime: &Runtime, one: &Load, seconds: f64) -> Outcome {
    let mut command: Command = runtime.command(cores());
    command
        .args(["mixed", &one.work.to_string(), one.server])
        .stdin(Stdio::piped());
    let server = match Server::start(command) {
        Ok(server) => server,
        Err(why) => return Outcome::failed(why),
    };
    let milliseconds = (seconds * 1000.0) as u64;
    let numbers = [milliseconds, one.clients as u64, one.idle as u64].map(|n| n.to_string());
    let [milliseconds, clients, idle] = &numbers;
    let mut outcome = load(&[
        "mixed",
        &server.address,
        &server.pid(),
        milliseconds,
        clients,
        idle,
        one.client,
    ]);
    let rest = Outcome::parse(&server.rest());
    outcome.values.extend(rest.values);
    outcome.refused = outcome.refused.or(rest.refused);
    for (name, value) in &mut outcome.values {
        match (&**name, one.done) {
            ("CPU", _) => *name = "CPU per reply".into(),
            ("done beside", Some((what, _, each))) => {
                *name = what.into();
                *value /= each;
            }
            _ => {}
        }
    }
    outcome
}
