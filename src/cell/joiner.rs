//! Who awaits the end of a task.

use std::task::Waker;

use super::home::{Home, NOBODY};
use super::{count, with_polled};

/// Who is to be woken.
///
/// Mostly that is a task of the same runtime, or its main, with its own waker. Then its
/// place is enough: to keep the waker would be two locked instructions.
pub(super) struct Joiner(Kind);

enum Kind {
    /// A place, and the low half of the number of who has it: so a joiner is as large as a
    /// waker. Should it ever hit the task that came 2^32 tasks later, that one is polled once
    /// for nothing.
    Task {
        slot: u32,
        number: u32,
    },
    Waker(Waker),
}

impl Kind {
    /// The task (or main) that is being polled now, if it is one of `home`, and this is its
    /// waker.
    #[inline]
    fn polled(home: Home, waker: &Waker) -> Option<Kind> {
        with_polled(|header| {
            let is_it = header.home.id() == home.id() && count::is_waker_of(waker, header);
            is_it.then_some(Kind::Task {
                slot: header.slot,
                number: header.number as u32,
            })
        })
        .flatten()
    }
}

impl Joiner {
    /// Who waits with `waker`, for a task of `home`. This may clone the waker, which is user
    /// code.
    #[inline]
    pub(super) fn new(home: Home, waker: &Waker) -> Joiner {
        Joiner(Kind::polled(home, waker).unwrap_or_else(|| Kind::Waker(waker.clone())))
    }

    pub(super) fn is_somebody(&self) -> bool {
        !matches!(self.0, Kind::Task { slot: NOBODY, .. })
    }

    /// The waker, if it keeps one.
    pub(super) fn waker(&self) -> Option<&Waker> {
        match &self.0 {
            Kind::Task { .. } => None,
            Kind::Waker(waker) => Some(waker),
        }
    }

    /// Whether it would wake the same as `waker`.
    #[inline]
    pub(super) fn will_wake(&self, waker: &Waker) -> bool {
        matches!(&self.0, Kind::Waker(own) if own.will_wake(waker))
    }

    /// On the owner's thread only.
    #[inline]
    pub(super) fn wake(self, home: Home) {
        match self.0 {
            Kind::Task { slot: NOBODY, .. } => {}
            Kind::Task { slot, number } => home.wake_at(slot, number),
            Kind::Waker(waker) => waker.wake(),
        }
    }
}

impl Default for Joiner {
    /// Nobody.
    #[inline]
    fn default() -> Joiner {
        Joiner(Kind::Task {
            slot: NOBODY,
            number: 0,
        })
    }
}
