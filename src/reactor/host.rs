//! What a loop that is not ours, and the guest in it, need of the reactor.

use std::time::Duration;

use super::Reactor;
use crate::ready::Rouse;
use crate::sync::atomic::Ordering;

impl Reactor {
    /// The poller's own fd.
    pub(crate) fn poll_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self.poller().poller())
    }

    /// False in the child of a fork.
    pub(crate) fn is_ours(&self) -> bool {
        self.poller().is_ours()
    }

    pub(crate) fn set_guest(&self, guest: bool) {
        self.notifier.guest.store(guest, Ordering::Relaxed);
    }

    /// Whether what makes the poller's own fd readable, or will, may have been taken by a
    /// visit since the last call of this.
    pub(crate) fn take_word(&self) -> bool {
        self.took_word.take()
    }

    /// Makes the poller's own fd readable, for the loop that watches it.
    pub(crate) fn tell_guest(&self) {
        if let Err(error) = self.notifier.rouse() {
            panic!("soloist: the loop around the runtime cannot be told: {error}");
        }
    }

    /// Makes the poller's own fd readable when this has passed, where that is possible.
    pub(crate) fn arm_timer(&self, after: Option<Duration>) {
        if let Some(wait) = self.wait.take() {
            // Without it the foreign loop comes late, by the next deadline at most.
            let _ = wait.arm_timer(after);
            self.wait.set(Some(wait));
        }
    }
}
