//! What a task waits for, as one bit per kind of [`WaitReason`].
//!
//! Every place of the crate where a future returns `Pending` notes the reason. That costs a
//! store: the task that is being polled keeps the kinds of its last poll. The details (which
//! socket, which timer) are looked up when `inspect` asks.

use crate::hooks::WaitReason;

/// The kinds of waits that a poll has come to.
#[derive(Clone, Copy, Default)]
pub(crate) struct WaitKinds(u8);

const TIMER: u8 = 1 << 2;

#[inline]
const fn kind(reason: WaitReason) -> u8 {
    match reason {
        WaitReason::Read { .. } => 1,
        WaitReason::Write { .. } => 1 << 1,
        WaitReason::Timer { .. } => TIMER,
        WaitReason::Task(_) => 1 << 3,
        WaitReason::Group => 1 << 4,
        WaitReason::RemoteTask => 1 << 5,
        WaitReason::Promise => 1 << 6,
        WaitReason::Job => 1 << 7,
        // The absence of all others.
        WaitReason::Other => 0,
    }
}

impl WaitKinds {
    #[inline]
    pub(super) fn with(self, reason: WaitReason) -> WaitKinds {
        WaitKinds(self.0 | kind(reason))
    }

    /// Whether a wait of the kind of `reason` is among them.
    pub(crate) fn has(self, reason: WaitReason) -> bool {
        self.0 & kind(reason) != 0
    }

    /// Whether a task with these waits for something that is not of this crate, if it has left
    /// its waker anywhere. It may have a timer beside it: a timeout.
    pub(crate) fn are_external(self) -> bool {
        self.0 & !TIMER == 0
    }
}
