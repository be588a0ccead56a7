//! Guest mode: the runtime inside of a foreign event loop.
//!
//! That loop watches one fd, and calls [`Runtime::turn`] when it is readable. Between
//! two turns no thread waits in the reactor, so the runtime stays "parked" there: whatever
//! wakes it makes the fd readable.
//!
//! # Level and edge
//!
//! The fd is that of the reactor's poller. A loop that is level-triggered calls until it is no
//! longer readable. An edge-triggered loop calls once whenever something *new* happens
//! in the poller. What a turn leaves there is not new: a ready socket that no turn has fetched,
//! for example. So at the end of each turn the fd is
//! polled, and if it is still readable, the runtime notifies itself, which is a new event. What
//! happens after that check makes a new event by itself.
//!
//! A notification is new only if the last one was taken. So a guest looks at the reactor in
//! every turn, also while tasks are ready, when a runtime with a loop of its own does not.

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Runtime;
use crate::executor::Executor;
use crate::reactor::Reactor;

/// The reactor that a foreign loop watches, if one does.
#[derive(Default)]
pub(super) struct Guest {
    reactor: OnceCell<Rc<Reactor>>,
    /// In the child of a fork: what replaces the parent's. The parent's is kept, since its fd may
    /// still be borrowed.
    in_child: OnceCell<Box<Guest>>,
}

impl Guest {
    /// The one that belongs to this process.
    fn reactor(&self) -> Option<&Rc<Reactor>> {
        self.place().get()
    }

    fn place(&self) -> &OnceCell<Rc<Reactor>> {
        match self.reactor.get() {
            Some(reactor) if !reactor.is_ours() => self.in_child.get_or_init(Box::default).place(),
            _ => &self.reactor,
        }
    }

    /// Called when the runtime has run, or something was spawned from outside: what is
    /// left to do makes the fd readable, as an edge, and what comes will.
    pub(super) fn rearm(&self, executor: &Executor) {
        match self.reactor() {
            Some(reactor) => {
                executor.stay_parked();
                let wait = executor.next_deadline().map(|deadline| {
                    // The system's clock, also where a runtime with a virtual one spawns.
                    let wait = deadline.saturating_duration_since(Instant::now());
                    // Zero would disarm it.
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
    // If the poll fails, a turn finds out.
    poll(&mut fds, Some(&NOW)).map_or(true, |readable| readable > 0)
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("is_guest", &self.is_guest())
            .finish()
    }
}

impl Runtime {
    /// What a turn of a guest does first: it takes what made the foreign loop call. If
    /// nothing is ready, the pass that comes does so.
    pub(super) fn visit_as_guest(&self) -> io::Result<()> {
        if self.guest.is_guest() && self.executor.is_anything_ready() {
            return self.visit(false, None);
        }
        Ok(())
    }

    /// A file descriptor for a foreign event loop: readable when `turn(Some(ZERO))`
    /// has something to do.
    ///
    /// That is when a socket is ready, another thread or this one has woken a task,
    /// something was spawned or left over from the last turn, and, on Linux, when a
    /// timer is due. Elsewhere watch [`next_deadline`](Runtime::next_deadline), too. No
    /// thread is started. Do not read from it; poll it for readability.
    ///
    /// One `turn(Some(ZERO))` per event is enough, whether the loop is level-triggered (as
    /// `poll`, `calloop` or a `GSource` are) or edge-triggered (as `mio` is): a turn that leaves
    /// something to do makes a new event. There may be events for which a turn finds nothing.
    ///
    /// In the child process of a fork the runtime is no longer a guest: what was
    /// watched there is the parent's. Ask for another fd, and watch that.
    ///
    /// # Errors
    ///
    /// If the system refuses a poller, or another runtime of this thread is a guest
    /// already: they would share one reactor. If the clock is virtual, which no other loop
    /// can wait for.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use polling::{Event, Events, Poller};
    /// use soloist::{Runtime, time::sleep};
    ///
    /// let runtime = Runtime::new();
    /// let task = runtime.spawn(async { sleep(Duration::from_millis(5)).await });
    /// // The foreign loop:
    /// let poller = Poller::new()?;
    /// # #[expect(unsafe_code, reason = "polling asks for it")]
    /// // SAFETY: it is deleted below, while the runtime is there.
    /// unsafe { poller.add(&runtime.poll_fd()?, Event::readable(1))? };
    /// let mut events = Events::new();
    /// while !task.is_finished() {
    ///     let timeout = runtime.next_deadline().map(|at| at.saturating_duration_since(std::time::Instant::now()));
    ///     poller.wait(&mut events, timeout)?;
    ///     events.clear();
    ///     runtime.turn(Some(Duration::ZERO))?;
    ///     poller.modify(runtime.poll_fd()?, Event::readable(1))?;
    /// }
    /// poller.delete(runtime.poll_fd()?)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn poll_fd(&self) -> io::Result<BorrowedFd<'_>> {
        if self.executor.virtual_clock.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no other loop can wait for a virtual clock: give the runtime the real one",
            ));
        }
        Reactor::check_fork();
        let place = self.guest.place();
        let reactor = match place.get() {
            Some(reactor) => reactor,
            None => {
                let reactor = Reactor::get_or_new()?;
                if reactor.has_guest() {
                    return Err(io::Error::other(
                        "another runtime of this thread is a guest already: use one runtime, or \
                         another thread",
                    ));
                }
                reactor.set_guest(true);
                let reactor = place.get_or_init(|| reactor);
                self.guest.rearm(&self.executor);
                reactor
            }
        };
        Ok(reactor.poll_fd())
    }
}
