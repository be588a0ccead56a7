//! The loads of the suites `sockets`, `mixed` and `scale`: which connections, how much work.

use crate::target::Against::{Among, AmongOrEdge, Best, Limit, One};
use crate::target::Targets;

// ---- sockets ---------------------------------------------------------------------

/// One way to echo.
pub struct Echo {
    pub connections: usize,
    pub bytes: usize,
    /// The size of the read buffer of the server.
    pub room: usize,
    pub requests: usize,
    pub targets: Targets,
    /// The targets for the 99th percentile of the round trips.
    pub tail: Targets,
}

pub const fn echo(connections: usize, room: usize, requests: usize, targets: Targets) -> Echo {
    Echo {
        connections,
        bytes: 64,
        room,
        requests,
        targets,
        tail: if connections > 1 { TAIL } else { &[] },
    }
}

const TAIL: Targets = &[(1.1, AmongOrEdge(&["tokio", "smol", "monoio"]))];

/// A read fills a buffer that is as large as the message. Runtimes handle a full read differently.
pub const ECHOES: &[Echo] = &[
    echo(1, 64, 10_000, &[]),
    echo(64, 64, 50_000, &[(1.0, One("tokio")), (1.05, Limit)]),
    echo(
        1_000,
        64,
        50_000,
        &[(1.0, One("tokio")), (1.0, Best), (1.08, Limit)],
    ),
    echo(
        9_000,
        64,
        45_000,
        &[(1.0, One("tokio")), (1.0, Best), (1.08, Limit)],
    ),
    echo(1, 1024, 10_000, &[]),
    echo(64, 1024, 50_000, &[(1.05, Limit)]),
    echo(1_000, 1024, 50_000, &[(1.0, Best), (1.08, Limit)]),
    echo(9_000, 1024, 45_000, &[(1.0, Best), (1.08, Limit)]),
    Echo {
        connections: 8,
        bytes: 64 << 10,
        room: 64 << 10,
        requests: 4_000,
        targets: &[(1.0, One("tokio"))],
        tail: &[],
    },
];

/// An echo with a buffer of 1 KiB.
pub fn echo_of(connections: usize) -> Echo {
    echo(connections, 1024, 0, &[])
}

impl Echo {
    pub fn name(&self) -> String {
        if self.bytes > 64 {
            return format!("echo of 64 KiB, {} connections", self.connections);
        }
        let connections = match self.connections {
            1 => "1 connection".into(),
            n if n >= 1000 => format!("{},000 connections", n / 1000),
            n => format!("{n} connections"),
        };
        let room = if self.room == 64 { "64 B" } else { "1 KiB" };
        format!("echo, {connections}, buffer {room}")
    }
}

// ---- mixed -----------------------------------------------------------------------

/// A load of the suite `mixed`.
pub struct Load {
    /// The name on the command line. Several loads may share it.
    pub letter: &'static str,
    pub what: &'static str,
    pub clients: usize,
    /// Connections that send nothing.
    pub idle: usize,
    /// The time to compute a reply, in microseconds.
    pub work: u32,
    /// The other work of the server.
    pub server: &'static str,
    /// The other connections of the load program.
    pub client: &'static str,
    /// What "done beside" counts, the unit, and the divisor of the reported number.
    pub done: Option<(&'static str, &'static str, f64)>,
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

const BOTH: &[&str] = &["tokio", "smol"];
const PEERS: &[&str] = &["tokio", "smol", "monoio"];

impl Load {
    pub fn name(&self) -> String {
        format!("{}, {}", self.letter, self.what)
    }

    /// The figures that are reported: name, unit and targets.
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

// ---- scale -----------------------------------------------------------------------

pub const TASKS: &[usize] = &[10, 100, 1_000, 10_000, 100_000, 1_000_000];
pub const TIMERS: &[usize] = &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
/// Up to the limit of open files of a process. The last is three servers with 9,000 each.
pub const CONNECTIONS: &[usize] = &[1, 10, 100, 1_000, 9_000, 27_000];
