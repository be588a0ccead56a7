//! What holds a cell from outside: the handle's reference, other threads' references,
//! and who the task is. Nothing here is unsafe: the cell decides what may be touched.

use std::fmt;
use std::panic::Location;
use std::task::{Context, Poll};

use super::{Home, Joinable, LocalRef, Remote, State, send};
use crate::panics::{Payload, discard};
use crate::sync::atomic::Ordering;

/// A task's name, if it was given one. Boxed twice, so that it is one word in every task
/// that has none.
pub(crate) type Name = Option<Box<Box<str>>>;

/// Who a task is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) number: u64,
    pub(crate) name: Name,
    pub(crate) spawned_at: &'static Location<'static>,
}

impl About {
    /// A task that never came as far as its runtime.
    pub(crate) fn not_started(spawned_at: &'static Location<'static>) -> About {
        About {
            number: 0,
            name: None,
            spawned_at,
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "task `{name}`")?,
            None if self.number == 0 => write!(f, "a task that has not started")?,
            None => write!(f, "task `task-{}`", self.number)?,
        }
        write!(f, " (spawned at {})", self.spawned_at)
    }
}

/// A task as other threads know it: they can wake it, and mark it.
#[derive(Clone)]
pub(crate) struct RemoteRef {
    pub(super) cell: Remote,
}

impl RemoteRef {
    /// Marks the task and wakes it; its own thread drops the future.
    pub(crate) fn abort(&self) {
        self.cell.header().aborted.store(true, Ordering::Release);
        if self.cell.header().wake() {
            send(self.cell.clone());
        }
    }

    pub(crate) fn about(&self) -> About {
        self.cell.header().about()
    }
}

/// Why there is no output.
pub(crate) enum Failure {
    Cancelled,
    Panicked(Payload),
}

/// The handle's reference. Its owner decides what becomes of the task: exactly
/// one of `cancel` and `detach` ends its interest, or the output is taken.
pub(crate) struct TaskRef<T> {
    cell: LocalRef<dyn Joinable<T>>,
}

impl<T> TaskRef<T> {
    pub(super) fn new(cell: LocalRef<dyn Joinable<T>>) -> TaskRef<T> {
        TaskRef { cell }
    }

    pub(crate) fn about(&self) -> About {
        self.cell.header().about()
    }

    pub(crate) fn home(&self) -> Home {
        self.cell.header().home
    }

    pub(crate) fn number(&self) -> u64 {
        self.cell.header().number
    }

    pub(crate) fn is_over(&self) -> bool {
        self.cell.header().is_over()
    }

    /// Whether nothing is left, of the task or of who awaits it.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        // Whoever awaited it was woken, and taken out, before it was gone.
        self.cell.header().state.get() == State::Gone
    }

    /// Drops the future now, inside of its runtime, or at the end of the poll that is under
    /// way. Returns what its destructor panicked with if that was now, and nobody will take
    /// the output.
    #[must_use = "nobody has been told of that panic"]
    pub(crate) fn cancel(&self) -> Option<Payload> {
        let header = self.cell.header();
        if header.home.is_current() || header.state.get() != State::Idle {
            return self.cell.cancel_now();
        }
        let mut payload = None;
        self.cell.enter(&mut || payload = self.cell.cancel_now());
        payload
    }

    /// Whether the task was cancelled or aborted, before it was over by itself.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.cell.header().cancel.get()
    }

    /// Nobody will take the output: drops it if it is there. Returns what the
    /// task panicked with, if it did and nobody has been told.
    #[inline]
    pub(crate) fn release(&self) -> Option<Payload> {
        let header = self.cell.header();
        header.held.set(false);
        // Out of the cell before it is dropped: that runs user code.
        let joiner = header.joiner.take();
        drop(joiner);
        if header.state.get() != State::Done {
            return None;
        }
        match self.cell.take_output() {
            Some(Err(payload)) => Some(payload),
            Some(Ok(output)) => {
                discard(output);
                None
            }
            None => None,
        }
    }

    /// The output, or why there is none, or who is to be woken when that is known.
    #[inline]
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, Failure>> {
        let header = self.cell.header();
        if !header.is_over() && header.join(cx.waker()) {
            return Poll::Pending;
        }
        match self.cell.take_output() {
            Some(Ok(output)) => Poll::Ready(Ok(output)),
            Some(Err(payload)) => Poll::Ready(Err(Failure::Panicked(payload))),
            None => Poll::Ready(Err(Failure::Cancelled)),
        }
    }
}

impl<T> TaskRef<T> {
    pub(crate) fn remote(&self) -> RemoteRef {
        RemoteRef {
            cell: self.cell.remote(),
        }
    }
}
