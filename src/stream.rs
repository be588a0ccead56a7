//! Streams and helpers for them, of `futures-lite`: `StreamExt`, `iter`, and more.
//!
//! [`block_on`] is not that of `futures-lite`: inside of a task, where that would wait for ever,
//! this one panics.
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

/// Turns a stream into an iterator, which waits on this thread for each item.
///
/// It has a [`Runtime`] of its own: what the stream spawns runs while an item is waited for,
/// and is cancelled with the iterator.
///
/// # Panics
///
/// The iterator panics inside of a running runtime: a thread that waits there could not go on
/// with the tasks that it waits for. Use `.next().await` there. And if it is certain that no
/// item will ever come, as for [`block_on`](crate::block_on).
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

/// The iterator over a stream that [`block_on`] returns.
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
    /// Until it is dropped.
    stream: Option<S>,
    runtime: Runtime,
}

impl<S: Stream + Unpin> Iterator for BlockOn<S> {
    type Item = S::Item;

    #[track_caller]
    fn next(&mut self) -> Option<S::Item> {
        assert!(
            !executor::is_inside(),
            "`stream::block_on` inside of a running soloist runtime would stop the thread that \
             runs it: use `.next().await` there, or another thread"
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
        // Inside of its runtime.
        self.runtime.enter_for(|| drop(self.stream.take()));
    }
}

impl<S: fmt::Debug> fmt::Debug for BlockOn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockOn").field(&self.stream).finish()
    }
}
