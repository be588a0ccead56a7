//! Guest mode: the runtime inside of a loop that is not ours.
//!
//! That loop watches one fd, and calls [`Runtime::turn`] when it is readable. Between
//! two turns nobody waits in the reactor, so the runtime stays "parked" there: whatever
//! wakes it makes the fd readable.

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use super::Runtime;
use crate::context::Context;
use crate::reactor::Reactor;

/// The reactor that a foreign loop watches, if one does.
#[derive(Default)]
pub(super) struct Guest {
    reactor: OnceCell<Rc<Reactor>>,
}

impl Guest {
    /// Called when the runtime has run, or something was spawned from outside: what is
    /// left to do makes the fd readable, and what comes will.
    pub(super) fn rearm(&self, context: &Context) {
        match self.reactor.get() {
            Some(reactor) => {
                context.park.stay_parked(context.owner.inbox());
                let wait = context.next_deadline().map(|deadline| {
                    let wait = deadline.saturating_duration_since(context.look());
                    // Zero would disarm it.
                    wait.max(std::time::Duration::from_nanos(1))
                });
                reactor.take_word();
                reactor.arm_timer(wait);
                if !context.owner.ready().is_empty() || context.owner.inbox().is_filled() {
                    reactor.tell_guest();
                }
            }
            None => {
                // Ours was the last wait: what came for the guest meanwhile is passed on.
                let host = Reactor::get().filter(|reactor| reactor.has_guest());
                if let Some(reactor) = host.filter(|reactor| reactor.take_word()) {
                    reactor.tell_guest();
                }
            }
        }
    }

    pub(super) fn is_guest(&self) -> bool {
        self.reactor.get().is_some()
    }

    pub(super) fn leave(&self) {
        if let Some(reactor) = self.reactor.get() {
            reactor.set_guest(false);
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("is_guest", &self.is_guest())
            .finish()
    }
}

impl Runtime {
    /// A file descriptor for a loop that is not ours: readable when `turn(Some(ZERO))`
    /// has something to do.
    ///
    /// That is when a socket is ready, another thread or this one has woken a task,
    /// something was spawned or left over from the last turn, and, on Linux, when a
    /// timer is due. Elsewhere watch [`next_deadline`](Runtime::next_deadline), too. No
    /// thread is started. Do not read from it; poll it for readability.
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
        if self.context.virtual_clock.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no other loop can wait for a virtual clock: give the runtime the real one",
            ));
        }
        let reactor = match self.guest.reactor.get() {
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
                let reactor = self.guest.reactor.get_or_init(|| reactor);
                self.guest.rearm(&self.context);
                reactor
            }
        };
        Ok(reactor.poll_fd())
    }
}
