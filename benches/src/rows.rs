//! The rows of all tables: what is measured, the unit, and the targets.

use std::sync::LazyLock;

use crate::loads;
use crate::target::Against;

pub struct Row {
    pub suite: &'static str,
    pub name: String,
    pub unit: &'static str,
    /// Whether more is better.
    pub more: bool,
    /// The ratio to each is at most this, or at least this if more is better.
    pub targets: Vec<(f64, Against)>,
}

impl Row {
    /// Whether a ratio is within a target.
    pub fn reaches(&self, ratio: f64, bound: f64) -> bool {
        if self.more {
            ratio >= bound
        } else {
            ratio <= bound
        }
    }
}

use Against::{Absolute, Best, One};

pub static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let row = |suite, name: &str, unit, targets: &[(f64, Against)]| Row {
        suite,
        name: name.into(),
        unit,
        more: matches!(unit, "/s" | "replies" | "MiB/s"),
        targets: targets.into(),
    };
    #[rustfmt::skip]
    let mut rows = vec![
        row("tasks", "block_on of a ready future", "ns", &[(1.3, One("compio"))]),
        row("tasks", "new runtime, block_on, drop", "ns", &[(0.2, One("smol"))]),
        row("tasks", "spawn + await, in a task", "ns", &[(1.0, One("glommio"))]),
        row("tasks", "spawn + await, from main", "ns", &[(1.2, One("glommio"))]),
        row("tasks", "100,000 spawned, then awaited", "ns", &[(1.0, One("monoio"))]),
        row("tasks", "1,000,000 tasks, detached", "ns", &[(1.0, One("monoio"))]),
        row("tasks", "bytes per waiting task", "B", &[]),
        row("tasks", "allocations per task", "", &[(1.0, Absolute)]),
        row("wakes", "yield, 1 task", "ns", &[(0.6, Best)]),
        row("wakes", "yield, 1,000 tasks", "ns", &[(0.8, Best)]),
        row("wakes", "the runtime's own yield, 1 task", "ns", &[]),
        row("wakes", "ping-pong, local channel", "ns", &[(0.6, Best)]),
        row("wakes", "ping-pong, async-channel", "ns", &[]),
        row("wakes", "a wake from another thread, and back", "ns", &[(1.0, Best)]),
        row("timers", "unfired sleep, 0 others", "ns", &[(0.9, One("monoio"))]),
        row("timers", "unfired sleep, 100,000 others", "ns", &[(0.9, One("monoio"))]),
        row("timers", "yield beside 10,000 timers", "ns", &[]),
        row("timers", "100,000 firing: CPU", "ns", &[(0.7, One("tokio"))]),
        row("timers", "100,000 firing: late, p50", "us", &[]),
        row("timers", "100,000 firing: late, p99", "us", &[(1.2, One("smol"))]),
    ];
    for echo in loads::ECHOES {
        let name = echo.name();
        rows.push(row("sockets", &format!("{name}: CPU"), "us", echo.targets));
        rows.push(row(
            "sockets",
            &format!("{name}: requests per second"),
            "/s",
            &[],
        ));
        rows.push(row("sockets", &format!("{name}: RTT p50"), "us", &[]));
        rows.push(row("sockets", &format!("{name}: RTT p99"), "us", echo.tail));
        rows.push(row("sockets", &format!("{name}: RTT p99.9"), "us", &[]));
        rows.push(row("sockets", &format!("{name}: system calls"), "", &[]));
    }
    #[rustfmt::skip]
    rows.extend([
        row("sockets", "connect, request, close: CPU", "us", &[(1.0, One("tokio"))]),
        row("sockets", "connect, request, close: requests per second", "/s", &[]),
        row("sockets", "fetch of 1,000 pages: CPU", "us", &[(1.0, One("monoio-uring"))]),
        row("sockets", "instructions per echo in user space", "", &[(0.5, One("tokio"))]),
    ]);
    #[rustfmt::skip]
    rows.extend([
        row("footprint", "hello: crates in the tree", "", &[]),
        row("footprint", "hello: cold build", "s", &[(1.1, One("tokio"))]),
        row("footprint", "hello: cold build, CPU", "s", &[]),
        row("footprint", "hello: incremental build", "s", &[(1.0, One("tokio"))]),
        row("footprint", "hello: stripped size", "KiB", &[]),
        row("footprint", "hello, no default features: crates in the tree", "", &[(14.0, Absolute)]),
        row("footprint", "hello, no default features: cold build", "s", &[(0.95, One("tokio"))]),
        row("footprint", "hello, no default features: cold build, CPU", "s", &[]),
        row("footprint", "hello, no default features: incremental build", "s", &[(1.0, One("tokio"))]),
        row("footprint", "hello, no default features: stripped size", "KiB", &[(540.0, Absolute)]),
        row("footprint", "bytes per idle connection", "B", &[(400.0, Absolute)]),
        row("footprint", "empty runtime: memory", "KiB", &[]),
        row("footprint", "empty runtime: file descriptors", "", &[]),
        row("footprint", "empty runtime: threads", "", &[]),
    ]);
    for load in loads::LOADS {
        for (figure, unit, targets) in load.figures() {
            let name = format!("{}: {figure}", load.name());
            rows.push(row("mixed", &name, unit, targets));
        }
    }
    #[rustfmt::skip]
    rows.extend([
        row("worlds", "empty world", "ns", &[(1_000_000.0, Absolute)]),
        row("worlds", "message, 2 hosts", "ns", &[(10_000.0, Absolute)]),
        row("worlds", "message, 1,000 hosts", "ns", &[(10_000.0, Absolute)]),
    ]);
    let curves = [
        ("tasks", loads::TASKS),
        ("timers", loads::TIMERS),
        ("connections", loads::CONNECTIONS),
    ];
    for (what, steps) in curves {
        rows.extend(
            steps
                .iter()
                .map(|n| row("scale", &format!("{what}: {n}"), "ns", &[])),
        );
    }
    rows
});

pub const SUITES: &[(&str, &str)] = &[
    (
        "tasks",
        "to start a runtime, to spawn tasks and to await them",
    ),
    (
        "wakes",
        "tasks that wake themselves, each other, and that other threads wake",
    ),
    (
        "timers",
        "sleeps that are given up, sleeps that end, and tasks beside them",
    ),
    ("sockets", "a server that echoes, and a client that fetches"),
    (
        "mixed",
        "clients that wait for replies, beside work that takes the thread",
    ),
    (
        "footprint",
        "what it costs to have a runtime: crates, build, size, memory",
    ),
    (
        "scale",
        "what one item costs when there are more of them, beside tokio",
    ),
    ("worlds", "simulated networks, beside turmoil and madsim"),
];

pub fn of(suite: &str) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.suite == suite)
}
