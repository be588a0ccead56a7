//! The current time: that of the system's clock, or the virtual time of a simulated run.

use std::cell::Cell;
use std::time::Instant;

thread_local! {
    /// The time of the runtime that is entered on this thread, if its clock is virtual.
    static VIRTUAL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Returns the current time of the runtime that is entered on this thread. Outside of a runtime it
/// is the time of the system's clock.
#[inline]
pub(crate) fn now() -> Instant {
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
