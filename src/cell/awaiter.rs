//! Who waits for the end of a task, for a timer, or for a socket.

use std::task::Waker;

use super::home::{Home, Local, NOBODY};
use super::{Header, LocalRef, Owner, WaiterId, count, send, with_polled};
use crate::panics::Panics;

/// Who is to be woken.
///
/// Mostly that is a task of the same runtime, or its main, with its own waker. Then its
/// place is enough: to keep the waker would be two locked instructions.
#[derive(Debug)]
pub(crate) struct Awaiter(Kind);

#[derive(Debug)]
enum Kind {
    /// A place, and the low half of the number of who has it: so an awaiter is as large as a
    /// waker. Should it ever hit the task that came 2^32 tasks later, that one is polled once
    /// for nothing.
    Task {
        slot: u32,
        number: u32,
    },
    Waker(Waker),
}

/// The task (or main) that is being polled now, if it is one of `home`, and this is its own
/// waker.
#[inline]
fn polled(home: Home, waker: &Waker) -> Option<(u32, u32)> {
    with_polled(|header| {
        let is_it = header.is_place_of(home, waker);
        is_it.then_some((header.slot, header.number as u32))
    })
    .flatten()
}

impl Awaiter {
    /// A task of the same runtime, or its main.
    #[inline]
    pub(super) fn at(header: &Header) -> Awaiter {
        Awaiter(Kind::Task {
            slot: header.slot,
            number: header.number as u32,
        })
    }

    /// Who waits with `waker` for something of `home`. This may clone the waker, which is
    /// user code.
    #[inline]
    pub(crate) fn new(home: Home, waker: &Waker) -> Awaiter {
        Awaiter(match polled(home, waker) {
            Some((slot, number)) => Kind::Task { slot, number },
            None => Kind::Waker(waker.clone()),
        })
    }

    pub(super) fn is_somebody(&self) -> bool {
        !matches!(self.0, Kind::Task { slot: NOBODY, .. })
    }

    /// The waker, if it keeps one.
    #[inline]
    pub(super) fn waker(&self) -> Option<&Waker> {
        match &self.0 {
            Kind::Task { .. } => None,
            Kind::Waker(waker) => Some(waker),
        }
    }

    /// As `new`, when this is who waited last.
    #[inline]
    pub(super) fn renew(self, home: Home, waker: &Waker) -> Awaiter {
        match &self.0 {
            Kind::Waker(own) if own.will_wake(waker) => self,
            Kind::Waker(_) | Kind::Task { .. } => Awaiter::new(home, waker),
        }
    }

    /// Whether it is who waits with `waker`.
    #[inline]
    pub(crate) fn is(&self, home: Home, waker: &Waker) -> bool {
        match &self.0 {
            Kind::Task { slot, number } => polled(home, waker) == Some((*slot, *number)),
            Kind::Waker(own) => own.will_wake(waker),
        }
    }

    /// Wakes who waits for something of the runtime of this owner.
    #[inline]
    pub(crate) fn wake(self, owner: &Owner) {
        self.wake_in(owner.local());
    }

    /// As `wake`.
    #[inline]
    pub(super) fn wake_in(self, local: &Local) {
        match self.0 {
            Kind::Task { slot: NOBODY, .. } => {}
            Kind::Task { slot, number } => local.wake_at(slot, number),
            Kind::Waker(waker) => waker.wake(),
        }
    }
}

impl Default for Awaiter {
    /// Nobody.
    #[inline]
    fn default() -> Awaiter {
        Awaiter(Kind::Task {
            slot: NOBODY,
            number: 0,
        })
    }
}

/// A task (or main) that waits with its own waker for something of its thread: a reference
/// that stays here, where a waker would take two locked instructions. It stays valid when
/// the runtime is gone.
pub(crate) struct OwnTask(LocalRef<Header>);

impl OwnTask {
    /// What is being polled on this thread, if this is its own waker.
    #[inline]
    pub(crate) fn polled(waker: &Waker) -> Option<OwnTask> {
        count::polled(waker).map(OwnTask)
    }

    /// Whether this is its waker.
    #[inline]
    pub(crate) fn is(&self, waker: &Waker) -> bool {
        count::is_waker_of(waker, self.0.header())
    }

    pub(crate) fn waiter_id(&self) -> WaiterId {
        self.0.header().waiter_id()
    }

    /// What may panic is caught: to tell another thread, and to drop what is left of a task
    /// that is over.
    #[inline]
    pub(crate) fn wake(self, panics: &mut Panics) {
        let header = self.0.header();
        if header.is_over() {
            self.wake_over(panics);
        } else if header.wake() {
            self.send(panics);
        }
        // If it is not over, the registry has a reference, too: this one is not the last.
    }

    #[cold]
    fn wake_over(self, panics: &mut Panics) {
        self.0.header().wake();
        panics.catch(move || drop(self));
    }

    /// Its runtime is not entered.
    #[cold]
    fn send(self, panics: &mut Panics) {
        panics.catch(|| send(self.0.remote()));
    }
}
