//! The clock that limits the time between two polls of the reactor.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Replaces the clock that measures how long tasks have run since the last poll of the reactor, for
/// tests that count polls.
#[derive(Clone)]
pub(crate) struct BudgetClock(pub(crate) Arc<dyn Fn() -> Instant + Send + Sync>);

impl fmt::Debug for BudgetClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BudgetClock")
    }
}
