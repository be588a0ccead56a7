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
pub(crate) enum WaitReason {
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
pub(crate) enum WakeSource {
    Timers,
    Reactor,
    Inbox,
}

/// The kinds of waits that a poll has come to, a bit for each kind of [`WaitReason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitKinds(u8);

impl WaitReason {
    fn bit(self) -> u8 {
        match self {
            WaitReason::Read(_) => 1,
            WaitReason::Write(_) => 1 << 1,
            WaitReason::Timer(_) => WaitKinds::TIMER,
            WaitReason::Task(_) => 1 << 3,
            WaitReason::Group => WaitKinds::GROUP,
            WaitReason::Remote => WaitKinds::REMOTE,
            WaitReason::Promise => WaitKinds::PROMISE,
            WaitReason::Job => WaitKinds::JOB,
        }
    }
}

impl WaitKinds {
    const TIMER: u8 = 1 << 2;
    pub(crate) const GROUP: u8 = 1 << 4;
    pub(crate) const REMOTE: u8 = 1 << 5;
    pub(crate) const PROMISE: u8 = 1 << 6;
    pub(crate) const JOB: u8 = 1 << 7;

    #[inline]
    pub(crate) fn with(self, reason: WaitReason) -> WaitKinds {
        WaitKinds(self.0 | reason.bit())
    }

    pub(crate) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Whether a task with these waits for something that is not of this crate, if it has left
    /// its waker anywhere. It may have a timer beside it: a timeout.
    pub(crate) fn are_external(self) -> bool {
        self.0 & !WaitKinds::TIMER == 0
    }
}
