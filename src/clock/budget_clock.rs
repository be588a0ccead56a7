//! The clock of the budget between two visits.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Replaces the clock that tells how long tasks have run since the last visit, for tests that
/// count polls.
#[derive(Clone)]
pub(crate) struct BudgetClock(pub(crate) Arc<dyn Fn() -> Instant + Send + Sync>);

impl fmt::Debug for BudgetClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BudgetClock")
    }
}
