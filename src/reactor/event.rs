//! Directions, the interest in them, and the events that the poller reports.

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    pub(super) const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The directions that the poller is to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// An event of a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceEvent {
    pub(super) key: usize,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The end of the stream, an error, or urgent data.
    pub(super) ended: bool,
}

/// The largest key of a source. The reactor's own fds have larger ones.
pub(super) const MAX_KEY: usize = usize::MAX >> 1;

/// A key holds the index of a slot in its low bits, and the generation of the slot above them.
pub(super) const INDEX_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };
