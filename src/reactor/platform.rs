//! What depends on the system: how a source is registered with the poller, and how another thread
//! ends the wait.
//!
//! On Linux sources are edge-triggered: an event leaves the registration as it is, so the steady
//! state makes no system call. polling does not ask for `RDHUP`, and without that a short read
//! cannot be distinguished from the end of the stream. So sources are added with rustix, on the
//! poller's own fd, and deleted by polling. The wait is that of rustix, too. The notifier of
//! polling would work only once, since only the wait of polling resets it. So there is an eventfd.
//!
//! On other systems sources are one-shot: an event ends the registration's interest.

#![expect(
    unsafe_code,
    reason = "polling asks for a promise that a source is deleted before it is closed"
)]

use std::io;

use polling::Poller;

use super::event::Interest;

#[cfg(unix)]
mod raw {
    pub(crate) use std::os::fd::{AsFd as AsRaw, BorrowedFd as Borrowed, RawFd as Raw};

    pub(in super::super) fn number(io: &impl AsRaw) -> Raw {
        std::os::fd::AsRawFd::as_raw_fd(&io.as_fd())
    }
}

#[cfg(windows)]
mod raw {
    pub(crate) use std::os::windows::io::{
        AsSocket as AsRaw, BorrowedSocket as Borrowed, RawSocket as Raw,
    };

    pub(in super::super) fn number(io: &impl AsRaw) -> Raw {
        std::os::windows::io::AsRawSocket::as_raw_socket(&io.as_socket())
    }
}

pub(crate) use self::raw::{AsRaw, Borrowed};
pub(super) use self::raw::{Raw, number};

#[cfg(all(target_os = "linux", not(soloist_portable)))]
mod edge {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::event::epoll::{self, EventData, EventFlags};
    use rustix::event::{EventfdFlags, eventfd};

    use super::{Interest, Poller, io};

    /// Whether an event ends the interest of a registration.
    pub(in super::super) const ONE_SHOT: bool = false;

    /// The key of the eventfd. `usize::MAX` is the poller's own.
    const NOTIFICATION: usize = usize::MAX - 1;

    fn flags(interest: Interest) -> EventFlags {
        let mut flags = EventFlags::ET;
        if interest.readable {
            flags |= EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP;
        }
        if interest.writable {
            flags |= EventFlags::OUT;
        }
        flags
    }

    /// # Safety
    ///
    /// The fd must be deleted from the poller before it is closed.
    pub(in super::super) unsafe fn add(
        poller: &Poller,
        fd: BorrowedFd<'_>,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let data = EventData::new_u64(key as u64);
        epoll::add(poller.as_fd(), fd, data, flags(interest))?;
        Ok(())
    }

    pub(in super::super) fn modify(
        poller: &Poller,
        fd: BorrowedFd<'_>,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let data = EventData::new_u64(key as u64);
        epoll::modify(poller.as_fd(), fd, data, flags(interest))?;
        Ok(())
    }

    /// Adds an fd of the reactor itself. It reports each change once, and is never read.
    pub(in super::super) fn add_own(poller: &Poller, fd: &OwnedFd, key: usize) -> io::Result<()> {
        let data = EventData::new_u64(key as u64);
        epoll::add(poller.as_fd(), fd, data, EventFlags::IN | EventFlags::ET)?;
        Ok(())
    }

    /// Ends the wait of the poller. It works on any thread.
    #[derive(Debug)]
    pub(in super::super) struct Notification(OwnedFd);

    impl Notification {
        pub(in super::super) fn new(poller: &Poller) -> io::Result<Notification> {
            let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            add_own(poller, &eventfd, NOTIFICATION)?;
            Ok(Notification(eventfd))
        }

        pub(in super::super) fn notify(&self, _: &Poller) -> io::Result<()> {
            rustix::io::write(&self.0, &1_u64.to_ne_bytes())?;
            Ok(())
        }
    }
}

#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
mod one_shot {
    use polling::{Event, PollMode};

    use super::{Borrowed, Interest, Poller, io};

    /// Whether an event ends the interest of a registration.
    pub(in super::super) const ONE_SHOT: bool = true;

    /// # Safety
    ///
    /// The fd must be deleted from the poller before it is closed.
    pub(in super::super) unsafe fn add(
        poller: &Poller,
        fd: Borrowed<'_>,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let event = Event::new(key, interest.readable, interest.writable);
        // SAFETY: the caller promises that the fd is deleted before it is closed.
        unsafe { poller.add_with_mode(&fd, event, PollMode::Oneshot) }
    }

    pub(in super::super) fn modify(
        poller: &Poller,
        fd: Borrowed<'_>,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let event = Event::new(key, interest.readable, interest.writable);
        poller.modify_with_mode(fd, event, PollMode::Oneshot)
    }

    /// Ends the wait of the poller. It works on any thread.
    #[derive(Debug)]
    pub(in super::super) struct Notification;

    impl Notification {
        pub(in super::super) fn new(_: &Poller) -> io::Result<Notification> {
            Ok(Notification)
        }

        pub(in super::super) fn notify(&self, poller: &Poller) -> io::Result<()> {
            poller.notify()
        }
    }
}

#[cfg(all(target_os = "linux", not(soloist_portable)))]
pub(super) use self::edge::{Notification, ONE_SHOT, add, add_own, modify};
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
pub(super) use self::one_shot::{Notification, ONE_SHOT, add, modify};
