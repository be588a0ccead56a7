//! The wait on Linux: one system call on the poller's epoll instance. `Poller::wait` makes five.
//!
//! `epoll_wait` takes whole milliseconds. A timerfd ends the wait for less than one. It is
//! edge-triggered and never read.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::event::{MAX_KEY, SourceEvent};
use super::platform::add_own;
use super::registration::PollerHandle;
#[cfg(not(soloist_liar))]
use crate::schedule::Order;

/// The key of the timer. The two larger ones are those of the notification and of the poller.
const TIMER: usize = usize::MAX - 2;

/// How many events one wait fetches. The next wait fetches the others.
const CAPACITY: usize = 1024;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Rounds down to whole milliseconds.
fn millis(timeout: Duration) -> Timespec {
    let millis = timeout.as_millis().min(i32::MAX as u128) as i64;
    Timespec {
        tv_sec: millis / 1000,
        tv_nsec: millis % 1000 * 1_000_000,
    }
}

pub(super) struct Wait {
    events: Vec<epoll::Event>,
    /// Made in advance: later there may be no free fd.
    timer: OwnedFd,
    /// Whether a wait has set the timer.
    used_timer: bool,
}

impl Wait {
    pub(super) fn new(poller: &Arc<PollerHandle>) -> io::Result<Wait> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        add_own(poller.poller(), &timer, TIMER)?;
        Ok(Wait {
            events: Vec::with_capacity(CAPACITY),
            timer,
            used_timer: false,
        })
    }

    pub(super) fn wait(
        &mut self,
        poller: &Arc<PollerHandle>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.events.clear();
        let timeout = match timeout {
            None => None,
            // Rounded down. The next wait waits for the rest, with the timer.
            Some(timeout) if timeout.is_zero() || timeout >= MILLISECOND => Some(millis(timeout)),
            Some(timeout) => {
                self.arm_timer(Some(timeout))?;
                self.used_timer = true;
                None
            }
        };
        let epoll = poller.poller().as_fd();
        match epoll::wait(epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            // A signal: the caller checks the clock and calls again.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the timer; `None` disarms it.
    pub(super) fn arm_timer(&self, after: Option<Duration>) -> io::Result<()> {
        let after = after.unwrap_or_default();
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: after.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: after.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Whether the last wait has consumed the notification or the timer. They may have been meant
    /// for the host loop of a guest runtime.
    pub(super) fn consumed_wakeup(&mut self) -> bool {
        let own = |event: &epoll::Event| event.data.u64() as usize > MAX_KEY;
        std::mem::take(&mut self.used_timer) || self.events.iter().any(own)
    }

    /// Changes the order of the events of the last wait.
    #[cfg(not(soloist_liar))]
    pub(super) fn shuffle(&mut self, order: &dyn Order) {
        order.shuffle(&mut self.events);
    }

    /// The events of sources in the last wait.
    pub(super) fn events(&self) -> impl Iterator<Item = SourceEvent> + '_ {
        self.events.iter().filter_map(|event| {
            let key = event.data.u64() as usize;
            let flags = event.flags;
            use epoll::EventFlags as Flags;
            let failed = flags.intersects(Flags::HUP | Flags::ERR);
            let ended = failed || flags.intersects(Flags::RDHUP | Flags::PRI);
            (key <= MAX_KEY).then_some(SourceEvent {
                key,
                readable: ended || flags.contains(Flags::IN),
                writable: failed || flags.contains(Flags::OUT),
                ended,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::reactor::event::Interest;
    use crate::reactor::registration::RawSource;
    use crate::sync::atomic::Ordering;

    /// This file and `platform.rs` rely on two things: polling stores its keys in the
    /// epoll data, and it deletes what was added without it.
    #[test]
    fn a_source_is_reported_under_its_key_once_until_it_changes() {
        let poller = Arc::new(PollerHandle::new(1).unwrap());
        let mut wait = Wait::new(&poller).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = RawSource::new(ours, 1);
        let key = MAX_KEY - 12_345;
        let interest = Interest {
            readable: true,
            writable: false,
        };
        ours.registration().reactor.store(1, Ordering::Relaxed);
        ours.registration().add(&poller, key, interest).unwrap();
        theirs.write_all(b"x").unwrap();
        let mut reported = |timeout| {
            wait.wait(&poller, timeout).unwrap();
            let events = wait.events().map(|e| (e.key, e.readable, e.ended));
            (events.collect::<Vec<_>>(), wait.events.len())
        };
        let (now, long) = (Some(Duration::ZERO), None);
        assert_eq!(reported(long), (vec![(key, true, false)], 1));
        assert_eq!(reported(now), (vec![], 0));
        // Modified: reported again.
        ours.registration().modify(&poller, key, interest).unwrap();
        assert_eq!(reported(now).0, [(key, true, false)]);
        drop(theirs);
        assert_eq!(reported(long).0, [(key, true, true)]);

        // The notification is not a source's event. It is never read, and reported once.
        poller.notify().unwrap();
        assert_eq!(reported(long), (vec![], 1));
        assert_eq!(reported(now), (vec![], 0));
        poller.notify().unwrap();
        assert_eq!(reported(long), (vec![], 1));

        ours.registration().modify(&poller, key, interest).unwrap();
        drop(ours);
        assert_eq!(reported(now), (vec![], 0));
    }

    #[test]
    fn the_last_millisecond_is_waited_for_and_not_spun_through() {
        let poller = Arc::new(PollerHandle::new(2).unwrap());
        let mut wait = Wait::new(&poller).unwrap();
        let start = std::time::Instant::now();
        wait.wait(&poller, Some(Duration::from_micros(700)))
            .unwrap();
        assert!(start.elapsed() >= Duration::from_micros(700));
        assert_eq!(wait.events.len(), 1, "the timer");
        assert_eq!(wait.events().count(), 0);
    }
}
