//! The states of a cell, and what comes of running it. The transitions are in the room's
//! documentation.

use crate::panics::Payload;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Idle,
    Running,
    Dropping,
    Done,
    Gone,
}

/// What came of running a task from the ready queue.
pub(crate) enum Ran {
    /// It was polled, and is not over.
    Pending,
    /// It was polled, and is over now. Carries a panic that no handle can receive.
    Over(Option<Payload>),
    /// Its future was dropped without a poll. Carries a panic that no handle can receive.
    Cancelled(Option<Payload>),
    /// It was over before, or is being dropped: nothing was polled.
    Stale,
    /// It is the cell that stands for the future of a `block_on`, which is to be polled.
    Main,
}
