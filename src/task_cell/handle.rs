//! [`JoinRef`]: what a task's handle holds.

use std::task::{Context, Poll};

use super::header::{LocalRef, LocalTask, SharedTask};
use super::label::TaskLabel;
use super::state::State;
use crate::panics::{Payload, discard};

/// What a handle does with the output.
pub(super) trait Joinable<T> {
    /// The output, if it is in place. Called on the executor's thread only [THREAD].
    fn take_output(&self) -> Option<Result<T, Payload>>;
}

/// The handle's reference to a task. Its owner ends its interest in the output once: by
/// [`release`](JoinRef::release), or by taking the output.
pub(crate) struct JoinRef<T> {
    cell: LocalRef<dyn Joinable<T>>,
}

impl<T> JoinRef<T> {
    pub(super) fn new(cell: LocalRef<dyn Joinable<T>>) -> JoinRef<T> {
        JoinRef { cell }
    }

    pub(crate) fn label(&self) -> TaskLabel {
        self.cell.header().label()
    }

    pub(crate) fn number(&self) -> u64 {
        self.cell.header().number
    }

    pub(crate) fn is_over(&self) -> bool {
        self.cell.header().is_over()
    }

    /// Whether it is over, and its output taken or dropped.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.cell.header().state.get() == State::Gone
    }

    /// Whether the task was cancelled or aborted before it finished by itself.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.cell.header().cancelled.get()
    }

    pub(crate) fn task(&self) -> LocalTask {
        self.cell.task()
    }

    pub(crate) fn to_shared(&self) -> SharedTask {
        SharedTask::clone(&self.cell.borrow_remote())
    }

    /// As [`SharedTask::abort`].
    pub(crate) fn abort(&self) {
        self.cell.borrow_remote().abort();
    }

    /// Nothing will take the output: drops it if it is there. Returns what the task panicked
    /// with, if it did and nothing has received that.
    #[inline]
    pub(crate) fn release(&self) -> Option<Payload> {
        let header = self.cell.header();
        header.held.set(false);
        // Out of the cell before it is dropped: that may be user code.
        let joiner = header.joiner.take();
        drop(joiner);
        match self.cell.take_output()? {
            Ok(output) => {
                discard(output);
                None
            }
            Err(payload) => Some(payload),
        }
    }

    /// The output, or what the task panicked with, or `None` if it was cancelled. If the task is
    /// not over, has the waker woken at its end.
    #[inline]
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, Option<Payload>>> {
        let header = self.cell.header();
        if !header.is_over() && header.join(cx.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(match self.cell.take_output() {
            Some(result) => result.map_err(Some),
            None => Err(None),
        })
    }
}
