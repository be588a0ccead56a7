//! The suite `mixed`: clients that wait for replies, beside work that takes the thread.

use std::process::{Command, Stdio};

use crate::cores;
use crate::options::Options;
use crate::results::Results;
use crate::rows::Against::{self, Among};
use crate::runtimes::{Outcome, Runtime};
use crate::sockets::{Server, load};

/// What a server has to do.
pub struct Load {
    /// As the command line calls it. Several may have one letter.
    letter: &'static str,
    what: &'static str,
    clients: usize,
    /// Connections that send nothing.
    idle: usize,
    /// What each reply takes, in microseconds.
    work: u32,
    /// Beside the connections, on the server.
    server: &'static str,
    /// Beside the clients, at their end.
    client: &'static str,
    /// What "done beside" counts, in which unit, and how many of what is reported are one.
    done: Option<(&'static str, &'static str, f64)>,
}

const fn replies(what: &'static str, clients: usize, work: u32) -> Load {
    Load {
        letter: "a",
        what,
        clients,
        idle: 0,
        work,
        server: "nothing",
        client: "nothing",
        done: None,
    }
}

const fn beside(letter: &'static str, what: &'static str, clients: usize) -> Load {
    Load {
        letter,
        ..replies(what, clients, 0)
    }
}

pub const LOADS: &[Load] = &[
    replies("10 clients, 0.3 ms per reply", 10, 300),
    replies("40 clients, 0.3 ms per reply", 40, 300),
    replies("100 clients, 0.3 ms per reply", 100, 300),
    replies("10 clients, 1.2 ms per reply", 10, 1_200),
    replies("40 clients, 1.2 ms per reply", 40, 1_200),
    replies("100 clients, 1.2 ms per reply", 100, 1_200),
    replies("10 clients, 3 ms per reply", 10, 3_000),
    replies("40 clients, 3 ms per reply", 40, 3_000),
    replies("100 clients, 3 ms per reply", 100, 3_000),
    Load {
        client: "in",
        done: Some(("received", "MiB/s", 1_048_576.0)),
        ..beside("b", "63 clients beside a stream to the server", 63)
    },
    Load {
        client: "out",
        done: Some(("sent", "MiB/s", 1_048_576.0)),
        ..beside("b", "63 clients beside a stream from the server", 63)
    },
    Load {
        server: "compute",
        done: Some(("steps", "/s", 1.0)),
        ..beside("c", "100 clients beside steps of 5 ms", 100)
    },
    Load {
        server: "yield",
        done: Some(("polls", "/s", 1.0)),
        ..beside("d", "1 client beside 100,000 tasks that yield", 1)
    },
    Load {
        idle: 990,
        ..beside("e", "10 clients beside 990 idle connections", 10)
    },
    Load {
        server: "flood",
        client: "flood",
        done: Some(("accepted", "/s", 1.0)),
        ..beside("f", "100 clients beside a flood of connects", 100)
    },
    Load {
        server: "spawn",
        done: Some(("tasks", "/s", 1.0)),
        ..beside("g", "1 client beside 4 threads that spawn", 1)
    },
];

/// Whether a load has this letter.
pub fn knows(letter: &str) -> bool {
    LOADS.iter().any(|load| load.letter == letter)
}

type Targets = &'static [(f64, Against)];

const BOTH: &[&str] = &["tokio", "smol"];
const PEERS: &[&str] = &["tokio", "smol", "monoio"];

impl Load {
    pub fn name(&self) -> String {
        format!("{}, {}", self.letter, self.what)
    }

    /// What is reported of it, in which unit, and what it should reach.
    pub fn figures(&self) -> Vec<(&'static str, &'static str, Targets)> {
        let (fewest, tail, worst): (Targets, Targets, Targets) = match self.letter {
            "a" => (&[(0.9, Among(BOTH))], &[], &[(1.2, Among(BOTH))]),
            _ => (&[], &[(1.1, Among(PEERS))], &[]),
        };
        let mut figures: Vec<(&'static str, &'static str, Targets)> = vec![
            ("fewest replies", "replies", fewest),
            ("most replies", "replies", &[]),
            ("p50", "us", &[]),
            ("p99", "us", tail),
            ("p99.9", "us", &[]),
            ("worst", "us", worst),
            ("CPU per reply", "us", &[]),
        ];
        if let Some((what, unit, _)) = self.done {
            figures.push((what, unit, &[]));
        }
        if self.server == "yield" {
            figures.extend([
                ("timer late p50", "us", &[] as Targets),
                ("timer late p99", "us", tail),
                ("timer late p99.9", "us", &[]),
                ("timer late worst", "us", &[]),
            ]);
        }
        figures
    }
}

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
