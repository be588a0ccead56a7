//! What was found out about rows by looking closer: by profiles, system call traces and
//! counts. Written by hand.

/// Why a row has not reached its goal.
pub fn of(row: &str) -> &'static str {
    let found = WHY.iter().find(|(name, _)| row.starts_with(name));
    found.map_or("the reason is not known yet.", |(_, why)| why)
}

/// What there is to know about a suite.
pub fn about(suite: &str) -> &'static str {
    let found = ABOUT.iter().find(|(name, _)| *name == suite);
    found.map_or("", |(_, what)| what)
}

const ABOUT: &[(&str, &str)] = &[
    (
        "tasks",
        "glommio polls a new task inside of `spawn`, which is cheap, and another order. smol's \
         tables of tasks and `LocalPool`'s list are made with the runtime; the others start \
         their reactor with it.\n\n",
    ),
    (
        "wakes",
        "In monoio a task that wakes itself is the next to run, so a thousand of them run one \
         after the other to their ends: its row for 1,000 tasks is really that of one. tokio's \
         own `yield_now` and compio's loop visit the system in between.\n\n",
    ),
    (
        "timers",
        "\"100,000 firing\" is 100,000 tasks that sleep, all due within 100 ms; its CPU time \
         has the spawning and the awaiting in it. In glommio a task's waker can be cloned \
         32,767 times, so that one task cannot have 100,000 sleeps.\n\n",
    ),
    (
        "sockets",
        "Messages of 64 bytes. A buffer of 64 bytes is filled by each read, so that a \
         runtime has to guess whether there is more; one of 1 KiB is not. `limit` is an epoll \
         loop written for nothing but this. Requests per second and round trips are time on \
         the clock, at full load of both cores. Instructions are counted by callgrind.\n\n",
    ),
    (
        "footprint",
        "\"hello\" is a program that listens, accepts, connects, spawns and sleeps, in release \
         mode with its symbols stripped, and with the default features of each runtime or what \
         it needs. Build times are CPU seconds of cargo and its compilers.\n\n",
    ),
    (
        "scale",
        "Tasks are spawned and awaited; timers are made, polled and dropped; connections \
         echo 64 bytes. 27,000 connections are three servers of 9,000 at once on one core. The \
         rise on the right is memory that no longer fits the processor's caches.\n\n",
    ),
];

const WHY: &[(&str, &str)] = &[];
