//! Going idle: on the thread itself, or in the reactor once it exists.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::inbox::{Inbox, Notifier};
use crate::reactor::Reactor;
use crate::schedule::Order;
use crate::sync::Parker;

/// Where a runtime waits.
pub(super) struct Park {
    /// Made for the first wait.
    parker: OnceCell<Parker>,
    /// The id of the reactor that the inbox notifies, 0 for the thread, `UNKNOWN` at first.
    known: Cell<u64>,
}

/// Neither a reactor nor the thread.
const UNKNOWN: u64 = u64::MAX;

impl Park {
    pub(super) fn new() -> Park {
        Park {
            parker: OnceCell::new(),
            known: Cell::new(UNKNOWN),
        }
    }

    fn parker(&self) -> &Parker {
        self.parker.get_or_init(Parker::new)
    }

    /// Waits until something happens or `timeout` has passed (or a little less).
    /// Does not wait if something has come into the inbox.
    pub(super) fn wait<T>(
        &self,
        inbox: &Inbox<T, Notifier>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        // A task may have forked.
        Reactor::check_fork();
        if timeout == Some(Duration::ZERO) {
            return self.wait_for_reactor(timeout);
        }
        let reactor = self.reactor_for(inbox);
        if !inbox.park() {
            return self.wait_for_reactor(Some(Duration::ZERO));
        }
        let result = match (reactor, timeout) {
            (Some(reactor), timeout) => reactor.wait(timeout),
            (None, Some(timeout)) => {
                self.parker().park_timeout(compensate_slack(timeout));
                Ok(())
            }
            (None, None) => {
                self.parker().park();
                Ok(())
            }
        };
        inbox.unpark();
        result
    }

    /// Fetches the events of the reactor, if there can be any.
    fn wait_for_reactor(&self, timeout: Option<Duration>) -> io::Result<()> {
        match Reactor::get() {
            Some(reactor) if reactor.is_worth_a_visit() => reactor.wait(timeout),
            _ => Ok(()),
        }
    }

    /// Wakes the tasks that wait for what the last wait has reported. Returns how many events
    /// there were.
    pub(super) fn deliver(&self, order: Option<&dyn Order>) -> usize {
        match Reactor::get() {
            Some(reactor) => reactor.deliver(order),
            None => 0,
        }
    }
}

/// Linux wakes a thread up to this much late, so as to wake more than one at once, unless
/// the thread is set otherwise.
const SLACK: Duration = Duration::from_micros(if cfg!(target_os = "linux") { 50 } else { 0 });

/// How long to park so that the thread wakes after `timeout`. If it wakes too early after all,
/// it waits again for the rest.
fn compensate_slack(timeout: Duration) -> Duration {
    match timeout.checked_sub(SLACK) {
        Some(shorter) if !shorter.is_zero() => shorter,
        _ => timeout,
    }
}

impl Park {
    /// The thread's reactor, if there is one. From now on the inbox notifies it, or else
    /// the thread.
    fn reactor_for<T>(&self, inbox: &Inbox<T, Notifier>) -> Option<Rc<Reactor>> {
        let reactor = Reactor::get();
        let id = reactor.as_ref().map_or(0, |reactor| reactor.id());
        if id != self.known.replace(id) {
            inbox.set_notifier(match &reactor {
                Some(reactor) => Notifier::Reactor(reactor.notifier().clone()),
                None => Notifier::Thread(self.parker().unparker()),
            });
        }
        reactor
    }

    /// For a guest: whatever comes into the inbox between two turns notifies.
    #[cfg(unix)]
    pub(super) fn stay_parked<T>(&self, inbox: &Inbox<T, Notifier>) {
        self.reactor_for(inbox);
        inbox.park();
    }
}

impl fmt::Debug for Park {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Park").finish_non_exhaustive()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_asked_for_as_much_sooner_as_it_ends_later() {
        let asked = |us| compensate_slack(Duration::from_micros(us)).as_micros();
        assert_eq!([1000, 51, 50, 49, 1].map(asked), [950, 1, 50, 49, 1]);
    }
}
