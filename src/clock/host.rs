//! The clock of a simulated host.

use std::time::{Duration, Instant};

/// A clock that runs at a rate of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    /// A time of the runtime, and that of the host at that time.
    global: Instant,
    local: Instant,
    /// In units of 2^-32, so that conversions are exact.
    rate: u64,
}

impl HostClock {
    pub(crate) fn new(global: Instant, local: Instant, rate: f64) -> HostClock {
        let rate = (rate * (1_u64 << 32) as f64) as u64;
        HostClock {
            global,
            local,
            rate: rate.max(1),
        }
    }

    pub(crate) fn local(self, global: Instant) -> Instant {
        let nanos = global.saturating_duration_since(self.global).as_nanos();
        let nanos = nanos.saturating_mul(self.rate.into()) >> 32;
        later(self.local, nanos).unwrap_or(global)
    }

    /// The first time at which the host's is `local`.
    pub(crate) fn global(self, local: Instant) -> Instant {
        let nanos = local.saturating_duration_since(self.local).as_nanos();
        let nanos = (nanos << 32).div_ceil(self.rate.into());
        later(self.global, nanos).unwrap_or(local)
    }
}

fn later(time: Instant, nanos: u128) -> Option<Instant> {
    time.checked_add(Duration::from_nanos(nanos.try_into().ok()?))
}
