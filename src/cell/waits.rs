//! For what tasks wait: every wait point of the crate says so here, once in each poll
//! that ends there.
//!
//! It costs a store: the task that is being polled keeps one bit per kind of wait, set
//! anew by each poll. What goes beyond that (which socket, which timer) is looked up when
//! somebody asks.

use std::task::Waker;

use super::count::is_waker_of;
use super::{Header, with_polled};
use crate::record;
pub(crate) use crate::record::Wait;

impl Wait {
    fn bit(self) -> u8 {
        match self {
            Wait::Read(_) => Waits::READ,
            Wait::Write(_) => Waits::WRITE,
            Wait::Timer(_) => Waits::TIMER,
            Wait::Task(_) => Waits::TASK,
            Wait::Group => Waits::GROUP,
            Wait::Remote => Waits::REMOTE,
            Wait::Promise => Waits::PROMISE,
            Wait::Job => Waits::JOB,
        }
    }
}

/// The kinds of waits that a poll has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits(u8);

impl Waits {
    pub(crate) const READ: u8 = 1;
    pub(crate) const WRITE: u8 = 1 << 1;
    pub(crate) const TIMER: u8 = 1 << 2;
    pub(crate) const TASK: u8 = 1 << 3;
    pub(crate) const GROUP: u8 = 1 << 4;
    pub(crate) const REMOTE: u8 = 1 << 5;
    pub(crate) const PROMISE: u8 = 1 << 6;
    pub(crate) const JOB: u8 = 1 << 7;

    pub(crate) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Whether it waits for something that is not of this crate, if it has kept its waker. It
    /// may have a timer beside it: a timeout.
    pub(super) fn are_for_others(self) -> bool {
        self.0 & !Waits::TIMER == 0
    }
}

/// Tells tasks apart where it is written down for what they wait; 0 for nobody. Sources
/// belong to a thread, and it may have several runtimes: both numbers are in it. It serves
/// to tell people, and nothing depends on it.
pub(crate) type Who = u32;

/// The task that is being polled on this thread, if one is.
#[inline]
pub(crate) fn polled() -> Who {
    with_polled(|header| header.who()).unwrap_or_default()
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
pub(crate) fn note(wait: Wait) -> Who {
    with_polled(|header| header.note(wait)).unwrap_or_default()
}

impl Header {
    /// As the function of this name. It is the one that is being polled.
    #[inline]
    pub(super) fn note(&self, wait: Wait) -> Who {
        let waits = self.waits.get();
        self.waits.set(Waits(waits.0 | wait.bit()));
        record::will_wait(wait);
        self.who()
    }
}
