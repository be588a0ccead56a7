//! The order in which tasks run: first come, first served. With the feature `testing` it may be
//! shuffled by a seed, and is recorded (`schedule/seeded.rs`). Without it the same functions are
//! empty (`schedule/fifo.rs`).

#[cfg(not(feature = "testing"))]
mod fifo;
#[cfg(feature = "testing")]
mod seeded;

#[cfg(not(feature = "testing"))]
pub(crate) use self::fifo::*;
#[cfg(feature = "testing")]
pub use self::seeded::*;
