//! The clock of a runtime: the system's. With the feature `testing`, it may be a virtual one
//! (`clock/simulated.rs`). Without it the same functions know only the system's
//! (`clock/real.rs`).

#[cfg(not(feature = "testing"))]
mod real;
#[cfg(feature = "testing")]
mod simulated;

#[cfg(not(feature = "testing"))]
pub(crate) use self::real::*;
#[cfg(feature = "testing")]
pub use self::simulated::*;
