//! The clock of a runtime: the system's. With the feature `testing`, it may be a virtual one
//! (`clock/simulated.rs`). Without it the same functions know only the system's
//! (`clock/real.rs`).

mod budget_clock;
#[cfg(not(feature = "testing"))]
mod real;
#[cfg(feature = "testing")]
mod simulated;

pub(crate) use self::budget_clock::BudgetClock;
#[cfg(not(feature = "testing"))]
pub(crate) use self::real::*;
#[cfg(feature = "testing")]
pub use self::simulated::*;
