//! What guest mode needs of the reactor.

use std::time::Duration;

use super::Reactor;
use crate::inbox::Notify;
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

    /// Whether a visit since the last call of this may have consumed the wakeup of the foreign
    /// loop: the notification or the timer that makes the poller's own fd readable.
    pub(crate) fn take_word(&self) -> bool {
        self.took_word.take()
    }

    /// Makes the poller's own fd readable, for the loop that watches it.
    pub(crate) fn tell_guest(&self) {
        if let Err(error) = self.notifier.notify() {
            panic!("soloist: the loop around the runtime cannot be told: {error}");
        }
    }

    /// Makes the poller's own fd readable when this has passed, where that is possible.
    pub(crate) fn arm_timer(&self, after: Option<Duration>) {
        if let Some(wait) = self.wait.take() {
            // If it fails, the foreign loop turns late, at the next deadline that it knows of.
            let _ = wait.arm_timer(after);
            self.wait.set(Some(wait));
        }
    }
}
