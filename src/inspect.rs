//! What is the runtime doing? Its counts.

use crate::context;
pub use crate::info::Metrics;

/// The counts of the runtime that runs on this thread. From outside of it there is
/// [`Runtime::metrics`](crate::Runtime::metrics).
///
/// # Panics
///
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, inspect};
///
/// block_on(async {
///     assert_eq!(inspect::metrics().polls, 1);
/// });
/// ```
#[track_caller]
pub fn metrics() -> Metrics {
    crate::info::metrics(&context::current("`inspect::metrics`"))
}
