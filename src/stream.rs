//! Streams: `StreamExt`, `iter`, and the other helpers of `futures-lite`.
//!
//! [`block_on`] replaces that of `futures-lite`. Inside a task it panics, instead of waiting
//! forever.
//!
//! # Examples
//!
//! ```
//! use soloist::block_on;
//! use soloist::stream::{self, StreamExt};
//!
//! let sum = block_on(stream::iter(1..=4).fold(0, |sum, n| sum + n));
//! assert_eq!(sum, 10);
//! ```

use std::fmt;

#[doc(inline)]
pub use futures_lite::stream::*;

use crate::executor;
use crate::runtime::Runtime;

/// Turns a stream into an iterator that blocks this thread for each item.
///
/// The iterator has its own [`Runtime`]. Tasks that the stream spawns run while the iterator waits
/// for an item, and are cancelled when the iterator is dropped.
///
/// # Panics
///
/// The iterator panics
///
/// * inside a running runtime: it would block the thread that has to run the runtime's tasks.
///   Use `.next().await` there;
/// * if no item can ever arrive, as described for [`block_on`](crate::block_on).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::stream;
/// use soloist::time::sleep;
///
/// let numbers = stream::unfold(0, |n| async move {
///     sleep(Duration::from_millis(1)).await;
///     Some((n, n + 1))
/// });
/// let numbers = stream::block_on(Box::pin(numbers));
/// assert_eq!(numbers.take(3).collect::<Vec<i32>>(), [0, 1, 2]);
/// ```
pub fn block_on<S: Stream + Unpin>(stream: S) -> BlockOn<S> {
    BlockOn {
        stream: Some(stream),
        runtime: Runtime::new(),
    }
}

/// A blocking iterator over a stream, made by [`block_on`].
///
/// # Examples
///
/// ```
/// use soloist::stream::{self, BlockOn};
///
/// let mut items: BlockOn<_> = stream::block_on(stream::once(7));
/// assert_eq!(items.next(), Some(7));
/// assert_eq!(items.next(), None);
/// ```
#[must_use = "iterators do nothing unless they are used"]
pub struct BlockOn<S> {
    /// `None` only while the iterator is being dropped.
    stream: Option<S>,
    runtime: Runtime,
}

impl<S: Stream + Unpin> Iterator for BlockOn<S> {
    type Item = S::Item;

    #[track_caller]
    fn next(&mut self) -> Option<S::Item> {
        assert!(
            !executor::is_inside(),
            "`stream::block_on` inside a running soloist runtime would block the thread that runs \
             it: use `.next().await` there, or another thread"
        );
        let stream = self.stream.as_mut()?;
        self.runtime.block_on(stream.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.as_ref().map_or((0, Some(0)), S::size_hint)
    }
}

impl<S> Drop for BlockOn<S> {
    fn drop(&mut self) {
        // Inside the runtime, since the stream's destructor may use it.
        self.runtime.enter_for(|| drop(self.stream.take()));
    }
}

impl<S: fmt::Debug> fmt::Debug for BlockOn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockOn").field(&self.stream).finish()
    }
}
