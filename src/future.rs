//! Futures: [`either`], and `zip`, `or`, `poll_once` and the other helpers of `futures-lite`.
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

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

#[doc(inline)]
pub use futures_lite::future::*;
use pin_project_lite::pin_project;

// An explicit import takes precedence over the glob.
#[doc(inline)]
pub use crate::runtime::block_on;

/// Waits for the first of two futures to complete, and drops the other one. `a` is polled first, so
/// it wins if both are ready.
///
/// With more futures, or branches with code of their own, use a `select!`: see
/// [the guide](crate::guide::select). If both outputs have the same type, [`or`] returns it as it is.
///
/// # Cancel safety
///
/// The same as that of both futures: what the future that loses has done so far is lost with it. To
/// keep a future, pass it as `&mut`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::future::{Either, either};
/// use soloist::{block_on, time::sleep};
///
/// block_on(async {
///     let slow = async {
///         sleep(Duration::from_secs(60)).await;
///         "done"
///     };
///     match either(slow, sleep(Duration::from_millis(1))).await {
///         Either::Left(text) => println!("{text}"),
///         Either::Right(()) => println!("too slow"),
///     }
/// });
/// ```
pub fn either<A: Future, B: Future>(
    a: A,
    b: B,
) -> impl Future<Output = Either<A::Output, B::Output>> {
    EitherFuture {
        a: Some(a),
        b: Some(b),
    }
}

/// The output of [`either`]: that of its first future, or of its second.
///
/// # Examples
///
/// ```
/// use std::future::{pending, ready};
/// use soloist::future::{Either, either};
///
/// let output = soloist::block_on(either(pending::<()>(), ready("b")));
/// assert_eq!(output, Either::Right("b"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Either<A, B> {
    /// The output of the first future.
    Left(A),
    /// The output of the second future.
    Right(B),
}

pin_project! {
    /// Both futures are `None` once one of them is done.
    struct EitherFuture<A, B> {
        #[pin]
        a: Option<A>,
        #[pin]
        b: Option<B>,
    }
}

impl<A: Future, B: Future> Future for EitherFuture<A, B> {
    type Output = Either<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        const DONE: &str = "`either` was polled after it was done";
        let mut this = self.project();
        let a = this.a.as_mut().as_pin_mut().expect(DONE).poll(cx);
        let output = match a.map(Either::Left) {
            Poll::Pending => {
                let b = this.b.as_mut().as_pin_mut().expect(DONE).poll(cx);
                b.map(Either::Right)
            }
            left => left,
        };
        if output.is_ready() {
            this.a.set(None);
            this.b.set(None);
        }
        output
    }
}
