//! Going idle: on the thread itself, or in the reactor once it exists.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::state::Executor;
use crate::inbox::Notifier;
use crate::reactor::Reactor;
use crate::sync::Parker;

impl Executor {
    /// Waits until something happens, but not longer than `timeout`, and maybe a little less. Does
    /// not wait if there are messages. The events of the reactor are kept for
    /// [`Executor::deliver_events`].
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        // A task may have forked.
        Reactor::check_fork();
        if timeout != Some(Duration::ZERO) {
            self.counts.waits.add(1);
        }
        let start = self.watch.as_ref().map(|watch| (watch, Instant::now()));
        let result = match timeout {
            Some(Duration::ZERO) => fetch_events(),
            _ => self.park(timeout),
        };
        if let Some((watch, start)) = start {
            watch.waited(start.elapsed());
        }
        result
    }

    fn park(&self, timeout: Option<Duration>) -> io::Result<()> {
        let inbox = self.remote.inbox();
        let reactor = self.reactor_to_wait_in();
        if !inbox.park() {
            return fetch_events();
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

    /// Wakes the tasks that wait for what the last wait has reported.
    pub(crate) fn deliver_events(&self) {
        if let Some(reactor) = Reactor::get() {
            self.counts.events.add(reactor.deliver(self.order()));
        }
    }

    fn parker(&self) -> &Parker {
        self.parker.get_or_init(Parker::new)
    }

    /// The thread's reactor, if there is one. From now on the inbox notifies it, or else the
    /// thread.
    fn reactor_to_wait_in(&self) -> Option<Rc<Reactor>> {
        let reactor = Reactor::get();
        let id = reactor.as_ref().map_or(0, |reactor| reactor.id());
        if Some(id) != self.notified_reactor.replace(Some(id)) {
            self.remote.inbox().set_notifier(match &reactor {
                Some(reactor) => Notifier::Reactor(reactor.notifier().clone()),
                None => Notifier::Thread(self.parker().unparker()),
            });
        }
        reactor
    }

    /// For a guest: a message that arrives between two turns notifies.
    #[cfg(unix)]
    pub(crate) fn stay_parked(&self) {
        self.reactor_to_wait_in();
        self.remote.inbox().park();
    }
}

/// Fetches the events of the reactor, if there can be any.
fn fetch_events() -> io::Result<()> {
    match Reactor::get() {
        Some(reactor) if reactor.is_worth_a_visit() => reactor.wait(Some(Duration::ZERO)),
        _ => Ok(()),
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_asked_for_as_much_sooner_as_it_ends_later() {
        let asked = |us| compensate_slack(Duration::from_micros(us)).as_micros();
        assert_eq!([1000, 51, 50, 49, 1].map(asked), [950, 1, 50, 49, 1]);
    }
}
