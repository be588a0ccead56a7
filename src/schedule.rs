//! The order in which tasks run: first in, first out. With the feature `testing` it can be shuffled
//! by a seed and recorded (`schedule/seeded.rs`). Without the feature, the same functions are empty
//! (`schedule/fifo.rs`).

#[cfg(not(feature = "testing"))]
mod fifo;
#[cfg(feature = "testing")]
mod seeded;

#[cfg(not(feature = "testing"))]
pub(crate) use self::fifo::*;
#[cfg(feature = "testing")]
pub use self::seeded::*;
