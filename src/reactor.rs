//! The sources of a thread, and the tasks that wait for them.
//!
//! There is one reactor per thread, made for its first source. Sources belong to the thread, not
//! to one runtime. A source is added to the poller when a task first waits for it, and stays there
//! until it is closed.
//!
//! # Files
//!
//! * `source.rs`: [`Source`], an I/O object with its registration. It moves between threads. Also
//!   how a task begins and ends to wait for it.
//! * `driver.rs`: [`Reactor`], which waits in the poller and wakes tasks.
//! * `slots.rs`: the reactor's data about a source and its two directions.
//! * `epoll.rs`, `portable.rs`: the wait, on Linux and elsewhere. `liar.rs` injects faults into it.
//! * `registration.rs`, `platform.rs`, `fork.rs`: fds and the poller. All `unsafe` code is there.
//! * `readiness.rs`: whether an operation is worth a system call.
//! * `event.rs`: the types that the others share.
//!
//! # From a read that would block to the wake
//!
//! 1. `AnySocket::poll_read` tries the read if the source counts as ready. The read would block,
//!    which clears the readiness.
//! 2. [`Reactor::wait_polled`] adds the task to the source's slot. The general case is a function
//!    of its own: there is no slot yet, the direction is not armed, another task waits, too, or the
//!    waker is not the task's own. It makes the slot and adds the fd to the poller.
//! 3. [`Reactor::wait`] waits in the poller.
//! 4. [`Reactor::deliver`] finds the slot of each event by its key, sets the readiness, takes the
//!    waiters out, and wakes them.
//!
//! # Readiness
//!
//! On Linux sources are edge-triggered, elsewhere one-shot. A source remembers which of its
//! directions are ready. An operation that would block clears that, and so does a short read of a
//! TCP stream. An event sets it again. So the steady state makes no system call but the wait.
//!
//! A direction that an event has set is *reported*, which is what `readable` waits for. A new source
//! is ready without a report: its operations are tried, and `readable` waits for the first event.
//!
//! A direction is *armed* if the poller reports it as soon as it is, or becomes, ready. The first
//! wait arms it. An event leaves it armed, with two exceptions: a one-shot registration, and a
//! shared source. Other code may leave some data of a shared source unread, which an armed
//! direction would not report again. So each wait arms it anew.
//!
//! # Waiters
//!
//! All `poll_*` calls share one entry id of a direction, since they cannot take a waiter back. Each
//! `ReadinessWait` has an id of its own, and removes its waiter when it is dropped. An event
//! wakes and removes all waiters of its directions.
//!
//! # Threads
//!
//! Other threads use a reactor only through its `PollerHandle`: they notify it, and they leave the
//! keys of sources that they have dropped or taken over. A `Registration` is shared, too: the lock
//! of its state decides where the source is registered. A source moves to the thread that uses it
//! if it has no clones and no task waits for it. In the child of a fork, the parent's reactor is
//! forgotten (`Reactor::check_fork`).
//!
//! # Invariants
//!
//! * No user code runs while `REACTOR`, the slots or the wait are borrowed. Wakers are user code:
//!   they are cloned before a borrow, and woken and dropped after it.
//! * A direction for which a task waits is armed.
//! * The key of a slot contains its generation. An event for an earlier source with the same index
//!   has no effect. Keys of different reactors can be equal, so `slot_of` compares the
//!   registration, too.
//! * `Registration::waiting` is true while a task waits for the source in the reactor that it
//!   belongs to.
//! * What `unsafe` code relies on is at the top of `registration.rs`.

#[cfg(all(target_os = "linux", not(soloist_portable)))]
mod epoll;
#[cfg(all(target_os = "linux", not(soloist_portable)))]
use self::epoll as real;
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
mod portable;
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
use self::portable as real;

mod driver;
mod event;
mod fork;
#[cfg(soloist_liar)]
mod liar;
mod platform;
mod readiness;
mod registration;
mod slots;
mod source;

pub(crate) use self::driver::Reactor;
pub(crate) use self::event::Direction;
pub(crate) use self::platform::AsRaw;
pub(crate) use self::readiness::Readiness;
pub(crate) use self::registration::Registration;
pub(crate) use self::source::Source;

/// For the tests.
#[cfg(soloist_liar)]
pub mod lies {
    pub use super::driver::slots;
    pub use super::liar::{Lie, lie, lies};
}
