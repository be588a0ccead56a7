//! What the engine reports while it runs: which tasks are spawned, polled and woken, what wakes
//! them, and what they wait for. The feature `trace` keeps that in a ring (`record/ring.rs`);
//! without it the same functions are empty (`record/off.rs`).
//!
//! All of it is per thread, as a runtime is: no lock, no atomic. No user code runs in here.

#[cfg(not(feature = "trace"))]
mod off;
#[cfg(feature = "trace")]
mod ring;

use std::panic::Location;
use std::time::Instant;

#[cfg(not(feature = "trace"))]
pub(crate) use self::off::*;
#[cfg(feature = "trace")]
pub(crate) use self::ring::*;

/// The task that something is said of. Its number is 0 for the future of a `block_on`.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "trace"), expect(dead_code, reason = "nobody listens"))]
pub(crate) struct Subject<'a> {
    pub(crate) runtime: u64,
    pub(crate) number: u64,
    pub(crate) name: Option<&'a str>,
    pub(crate) spawned_at: &'static Location<'static>,
}

/// For what the task that is being polled waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Something to read, or to accept, on the source with this fd.
    Read(i64),
    /// Room to write to the source with this fd.
    Write(i64),
    Timer(Instant),
    /// The end of the task with this number, of the same runtime.
    Task(u64),
    /// The end of a task of a group.
    Group,
    /// What another thread's runtime does for a `RemoteTask`.
    Remote,
    Promise,
    /// A closure on the pool of threads.
    #[cfg_attr(
        not(feature = "blocking"),
        expect(dead_code, reason = "there is no pool")
    )]
    Job,
}

/// Who wakes tasks while none is polled.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Timers,
    Reactor,
    Inbox,
}
