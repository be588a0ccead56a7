//! The span of a task, with the feature `tracing`. Without the feature, nothing.

use std::future::Future;
use std::panic::Location;

use super::TaskId;

/// Puts the future of a new task into its span, which is entered in each poll and in the future's
/// destructors, and closed when the future has been dropped.
///
/// The span has no parent. A chain of tasks that spawn each other would keep all their spans open.
#[cfg(feature = "tracing")]
pub(crate) fn in_span<F: Future + 'static>(
    future: F,
    id: TaskId,
    name: Option<&str>,
    spawned_at: &'static Location<'static>,
) -> impl Future<Output = F::Output> + use<F> {
    let span = tracing::info_span!(
        target: "soloist",
        parent: None,
        "task",
        %id,
        name,
        %spawned_at
    );
    tracing::Instrument::instrument(future, span)
}

#[cfg(not(feature = "tracing"))]
#[inline(always)]
pub(crate) fn in_span<F: Future + 'static>(
    future: F,
    _: TaskId,
    _: Option<&str>,
    _: &'static Location<'static>,
) -> impl Future<Output = F::Output> + use<F> {
    future
}
