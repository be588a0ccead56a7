//! The Linux wait: one system call on the poller's own epoll, where
//! `Poller::wait` makes five.
//!
//! The two ways must not be mixed: the poller's notifier is re-armed only by its
//! own wait. So other threads wake us through an eventfd of ours, and the last
//! millisecond of a timeout, which rustix's wait cannot express, is a timerfd's.
//! Both are edge-triggered and never read.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::{Event, SLOT_KEYS};
use crate::source::{Polling, RawSource, watch_edges};

/// `usize::MAX` is the poller's own.
const ALARM: usize = usize::MAX - 1;
const TIMER: usize = usize::MAX - 2;

/// As many as are fetched at once; more wait for the next visit.
const CAPACITY: usize = 1024;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Whole milliseconds, which is what the wait can express.
fn millis(timeout: Duration) -> Timespec {
    let millis = timeout.as_millis().min(i32::MAX as u128) as i64;
    Timespec {
        tv_sec: millis / 1000,
        tv_nsec: millis % 1000 * 1_000_000,
    }
}

/// Ends the wait, from any thread.
#[derive(Debug)]
pub(super) struct Alarm {
    eventfd: RawSource<OwnedFd>,
}

impl Alarm {
    pub(super) fn notify(&self, _: &Polling) -> io::Result<()> {
        rustix::io::write(self.eventfd.get_ref(), &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

pub(super) struct Wait {
    events: Vec<epoll::Event>,
    /// Made at once: when it is needed, no fd may be free.
    timer: RawSource<OwnedFd>,
    /// Whether a wait has set the timer.
    took_timer: bool,
}

impl Wait {
    pub(super) fn new(polling: &Arc<Polling>) -> io::Result<(Wait, Alarm)> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let eventfd = RawSource::new(eventfd);
        watch_edges(&eventfd, polling, ALARM)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = RawSource::new(timerfd_create(TimerfdClockId::Monotonic, flags)?);
        watch_edges(&timer, polling, TIMER)?;
        let wait = Wait {
            events: Vec::with_capacity(CAPACITY),
            timer,
            took_timer: false,
        };
        Ok((wait, Alarm { eventfd }))
    }

    pub(super) fn wait(
        &mut self,
        polling: &Arc<Polling>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.events.clear();
        let timeout = match timeout {
            None => None,
            // Rounded down: what is left is waited for the next time, with the timer.
            Some(timeout) if timeout.is_zero() || timeout >= MILLISECOND => Some(millis(timeout)),
            Some(timeout) => {
                self.arm_timer(Some(timeout))?;
                self.took_timer = true;
                None
            }
        };
        let epoll = polling.poller().as_fd();
        match epoll::wait(epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            // A signal: the caller looks at the clock and comes back.
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
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Whether the last wait has taken the alarm or the timer, which may have been meant
    /// for somebody else.
    pub(super) fn took_word(&mut self) -> bool {
        let own = |event: &epoll::Event| event.data.u64() as usize > SLOT_KEYS;
        std::mem::take(&mut self.took_timer) || self.events.iter().any(own)
    }

    /// What the last wait has reported of sources.
    pub(super) fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.events.iter().filter_map(|event| {
            let key = event.data.u64() as usize;
            let flags = event.flags;
            use epoll::EventFlags as Flags;
            (key <= SLOT_KEYS).then_some(Event {
                key,
                readable: flags.intersects(Flags::IN | Flags::PRI | Flags::HUP | Flags::ERR),
                writable: flags.intersects(Flags::OUT | Flags::HUP | Flags::ERR),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sync::atomic::Ordering;

    /// What this file leans on: polling keeps the key in the epoll data as it is.
    #[test]
    fn polling_stores_the_key_in_the_epoll_data() {
        let polling = Arc::new(Polling::new(1).unwrap());
        let (mut wait, alarm) = Wait::new(&polling).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = RawSource::new(ours);
        let key = SLOT_KEYS - 12_345;
        ours.registration().key.store(key, Ordering::Relaxed);
        ours.registration().arm(&polling, key, true, false).unwrap();
        theirs.write_all(b"x").unwrap();
        wait.wait(&polling, None).unwrap();
        let events: Vec<_> = wait.events().map(|e| (e.key, e.readable)).collect();
        assert_eq!(events, [(key, true)]);

        ours.registration()
            .disarm(&polling, key, false, false)
            .unwrap();
        alarm.notify(&polling).unwrap();
        wait.wait(&polling, None).unwrap();
        assert_eq!(
            wait.events().count(),
            0,
            "the alarm is not a source's event"
        );
        assert_eq!(wait.events.len(), 1);
        // Edge-triggered: reported once, though nobody reads it.
        wait.wait(&polling, Some(Duration::ZERO)).unwrap();
        assert_eq!(wait.events.len(), 0);
        alarm.notify(&polling).unwrap();
        wait.wait(&polling, None).unwrap();
        assert_eq!(wait.events.len(), 1);
    }

    #[test]
    fn the_last_millisecond_is_waited_for_and_not_spun_through() {
        let polling = Arc::new(Polling::new(2).unwrap());
        let (mut wait, _alarm) = Wait::new(&polling).unwrap();
        let start = std::time::Instant::now();
        wait.wait(&polling, Some(Duration::from_micros(700)))
            .unwrap();
        assert!(start.elapsed() >= Duration::from_micros(700));
        assert_eq!(wait.events.len(), 1, "the timer");
        assert_eq!(wait.events().count(), 0);
    }
}
