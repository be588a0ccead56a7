//! The current time: that of the system's clock, or the virtual time of a simulated run.

#[cfg(feature = "testing")]
mod host;

use std::cell::Cell;
use std::time::Instant;

#[cfg(feature = "testing")]
pub(crate) use self::host::HostClock;

thread_local! {
    /// The time of the runtime that is entered on this thread, if its clock is virtual.
    static VIRTUAL: Cell<Option<Instant>> = const { Cell::new(None) };
}

#[cfg(feature = "testing")]
thread_local! {
    /// The clock of the simulated host whose task runs, if it differs from that of the runtime.
    static HOST: Cell<Option<HostClock>> = const { Cell::new(None) };
}

/// Returns the current time of the runtime that is entered on this thread, by the clock of the
/// simulated host whose task runs. Outside of a runtime it is the time of the system's clock.
#[inline]
pub(crate) fn now() -> Instant {
    to_host(runtime_now())
}

/// As [`now`], by the clock of the runtime.
#[inline]
pub(crate) fn runtime_now() -> Instant {
    let virtual_now = if cfg!(feature = "testing") {
        VIRTUAL.get()
    } else {
        None
    };
    virtual_now.unwrap_or_else(Instant::now)
}

/// Sets the virtual time that [`now`] returns, or `None` for the system's clock. Returns the
/// previous value.
#[inline]
pub(crate) fn replace(virtual_now: Option<Instant>) -> Option<Instant> {
    // The usual case avoids the write: reading it back in parts of another size would stall the
    // processor.
    if !cfg!(feature = "testing") || (virtual_now.is_none() && VIRTUAL.get().is_none()) {
        return None;
    }
    VIRTUAL.replace(virtual_now)
}

/// Converts a time of the runtime into one of the host whose task runs.
#[inline]
pub(crate) fn to_host(time: Instant) -> Instant {
    #[cfg(feature = "testing")]
    if let Some(clock) = HOST.get() {
        return clock.local(time);
    }
    time
}

/// Converts a time of the host whose task runs into one of the runtime.
#[inline]
pub(crate) fn to_runtime(time: Instant) -> Instant {
    #[cfg(feature = "testing")]
    if let Some(clock) = HOST.get() {
        return clock.global(time);
    }
    time
}

/// Sets the clock of the host whose task runs. Returns the previous one.
#[cfg(feature = "testing")]
pub(crate) fn replace_host(clock: Option<HostClock>) -> Option<HostClock> {
    HOST.replace(clock)
}
