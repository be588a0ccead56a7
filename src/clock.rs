//! The clock of a runtime. With the feature `testing` it is the system's clock or a virtual one
//! (`clock/simulated.rs`). Without the feature, the same functions only support the system's clock
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
