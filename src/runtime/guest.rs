//! Guest mode: the runtime inside a foreign event loop.
//!
//! The foreign loop watches one fd, and calls `Runtime::turn` when it is readable. Between
//! two turns no thread waits in the reactor, but the runtime stays marked as parked. So everything
//! that wakes the runtime makes the fd readable.
//!
//! # Level-triggered and edge-triggered loops
//!
//! The fd is that of the reactor's poller. A level-triggered loop calls `turn` until the fd is no
//! longer readable. An edge-triggered loop calls it once for each *new* event in the poller. An
//! event that a turn leaves there, such as a ready socket that it has not fetched, is not new.
//!
//! So the fd is polled at the end of each turn. If it is still readable, the runtime notifies
//! itself, which is a new event. Anything that happens after this check is a new event by itself.
//!
//! A notification is a new event only if the previous one was consumed. So a guest polls the
//! reactor in every turn, even while tasks are ready. A runtime with its own loop does not.

use std::cell::OnceCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::executor::Executor;
use crate::reactor::Reactor;

/// The reactor that a foreign loop watches, if one does.
#[derive(Default)]
pub(super) struct Guest {
    reactor: OnceCell<Rc<Reactor>>,
    /// Replaces this in the child process of a fork. The parent's reactor is kept, since its fd may
    /// still be borrowed.
    in_child: OnceCell<Box<Guest>>,
}

impl Guest {
    /// Returns the reactor that belongs to this process.
    fn reactor(&self) -> Option<&Rc<Reactor>> {
        self.place().get()
    }

    fn place(&self) -> &OnceCell<Rc<Reactor>> {
        match self.reactor.get() {
            Some(reactor) if !reactor.is_ours() => self.in_child.get_or_init(Box::default).place(),
            _ => &self.reactor,
        }
    }

    /// Called when the runtime has run, or when a task was spawned from outside. If there is work
    /// left, it makes the fd readable by a new event. Later events will make it readable, too.
    pub(super) fn rearm(&self, executor: &Executor) {
        match self.reactor() {
            Some(reactor) => {
                executor.stay_parked();
                let wait = executor.next_deadline().map(|deadline| {
                    // The system's clock, even if this is called inside a runtime with a
                    // virtual one.
                    let wait = deadline.saturating_duration_since(Instant::now());
                    // Zero would disarm the timer.
                    wait.max(Duration::from_nanos(1))
                });
                reactor.take_consumed_wakeup();
                reactor.arm_timer(wait);
                if executor.is_anything_ready() || executor.has_messages() || is_readable(reactor) {
                    reactor.notify_host();
                }
            }
            None => {
                // This runtime's wait may have consumed the guest's wakeup: forward it.
                let host = Reactor::get().filter(|reactor| reactor.has_guest());
                if let Some(reactor) = host.filter(|reactor| reactor.take_consumed_wakeup()) {
                    reactor.notify_host();
                }
            }
        }
    }

    /// Returns the fd of the reactor that belongs to this process, and makes the runtime a guest.
    pub(super) fn poll_fd(&self, executor: &Executor) -> io::Result<BorrowedFd<'_>> {
        if executor.has_virtual_clock() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a foreign event loop cannot wait for a virtual clock: use `Clock::Real`",
            ));
        }
        Reactor::check_fork();
        let place = self.place();
        let reactor = match place.get() {
            Some(reactor) => reactor,
            None => {
                let reactor = Reactor::get_or_new()?;
                if reactor.has_guest() {
                    return Err(io::Error::other(
                        "another runtime of this thread is already a guest: use one runtime, or \
                         another thread",
                    ));
                }
                reactor.set_guest(true);
                let reactor = place.get_or_init(|| reactor);
                self.rearm(executor);
                reactor
            }
        };
        Ok(reactor.poll_fd())
    }

    pub(super) fn is_guest(&self) -> bool {
        self.reactor().is_some()
    }

    pub(super) fn leave(&self) {
        if let Some(reactor) = self.reactor() {
            reactor.set_guest(false);
        }
    }
}

/// Whether the fd that the foreign loop watches is readable now.
fn is_readable(reactor: &Reactor) -> bool {
    const NOW: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(reactor.poll_fd(), PollFlags::IN)];
    // If the poll fails, the next turn reports the error.
    poll(&mut fds, Some(&NOW)).map_or(true, |readable| readable > 0)
}
