//! Futures: `zip`, `or`, `poll_once`, and the other helpers of `futures-lite`.
//!
//! [`block_on`] replaces that of `futures-lite`. Inside a task it panics, instead of waiting
//! forever. The `block_on` of other crates waits forever inside a task, even for a socket that
//! is ready (see [Fairness](crate::runtime#fairness)).
//!
//! # Examples
//!
//! ```
//! use soloist::future::{block_on, zip};
//! use soloist::spawn;
//!
//! let both = block_on(async { zip(spawn(async { 1 }), async { 2 }).await });
//! assert_eq!(both, (1, 2));
//! ```

#[doc(inline)]
pub use futures_lite::future::*;

// An explicit import takes precedence over the glob.
#[doc(inline)]
pub use crate::runtime::block_on;
