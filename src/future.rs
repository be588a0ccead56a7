//! Helpers for futures, of `futures-lite`: `zip`, `or`, `poll_once`, and more.
//!
//! [`block_on`] is not that of `futures-lite`: inside of a task, where that would wait for ever,
//! this one panics. Those of other crates do wait for ever there, even for a socket that is ready
//! (see [Fairness](crate::runtime#fairness)).
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

// Named, so that it takes the place of the one above.
#[doc(inline)]
pub use crate::runtime::block_on;
