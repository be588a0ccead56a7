//! For what tasks wait: every wait point of the crate says so here, once in each poll
//! that ends there.
//!
//! It costs a store: the task that is being polled keeps one bit per kind of wait, set
//! anew by each poll. What goes beyond that (which socket, which timer) is looked up when
//! somebody asks.

use std::task::Waker;

use super::count::is_waker_of;
use super::{Header, with_polled};
use crate::hooks::{self, WaitReason};

impl WaitReason {
    /// One bit per kind of wait, without the details.
    const fn kind(self) -> u8 {
        match self {
            WaitReason::Read { .. } => 1,
            WaitReason::Write { .. } => 1 << 1,
            WaitReason::Timer { .. } => WaitKinds::TIMER,
            WaitReason::Task(_) => WaitKinds::TASK,
            WaitReason::Group => WaitKinds::GROUP,
            WaitReason::RemoteTask => 1 << 5,
            WaitReason::Promise => 1 << 6,
            WaitReason::Job => 1 << 7,
            // The absence of all others.
            WaitReason::Other => 0,
        }
    }
}

/// The kinds of waits that a poll has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitKinds(u8);

impl WaitKinds {
    const TIMER: u8 = 1 << 2;
    const TASK: u8 = 1 << 3;
    const GROUP: u8 = 1 << 4;

    /// Whether a wait of the kind of `reason` is among them.
    pub(crate) fn has(self, reason: WaitReason) -> bool {
        self.0 & reason.kind() != 0
    }

    /// Whether the task waits for other tasks, among other things.
    pub(super) fn include_tasks(self) -> bool {
        self.0 & (WaitKinds::TASK | WaitKinds::GROUP) != 0
    }

    /// Whether it waits for something that is not of this crate, if it has kept its waker. It
    /// may have a timer beside it: a timeout.
    pub(super) fn are_for_others(self) -> bool {
        self.0 & !WaitKinds::TIMER == 0
    }
}

/// Tells tasks apart where it is written down for what they wait; 0 for nobody. Sources
/// belong to a thread, and it may have several runtimes: both numbers are in it. It serves
/// to tell people, and nothing depends on it.
pub(crate) type WaiterId = u32;

/// The task that is being polled on this thread, if one is.
#[inline]
pub(crate) fn polled() -> WaiterId {
    with_polled(|header| header.waiter_id()).unwrap_or_default()
}

/// If the task that is being polled on this thread has this waker, queues it at the end of the
/// generation. Returns whether it has.
#[inline]
pub(crate) fn requeue_polled(waker: &Waker) -> bool {
    let requeued = with_polled(|header| {
        let is_it = is_waker_of(waker, header);
        if is_it {
            header.requeue();
        }
        is_it
    });
    requeued.unwrap_or(false)
}

/// Whether a task, or main, is being polled on this thread.
pub(crate) fn is_polling() -> bool {
    with_polled(|_| ()).is_some()
}

/// Says that the task that is being polled on this thread, if one is, will return
/// `Pending` because of this. Returns who that is.
#[inline]
pub(crate) fn note(reason: WaitReason) -> WaiterId {
    with_polled(|header| header.note(reason)).unwrap_or_default()
}

impl Header {
    /// As the function of this name. It is the one that is being polled.
    #[inline]
    pub(super) fn note(&self, reason: WaitReason) -> WaiterId {
        let waits = self.waits.get();
        self.waits.set(WaitKinds(waits.0 | reason.kind()));
        hooks::will_wait(reason);
        self.waiter_id()
    }
}
