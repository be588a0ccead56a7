//! Whether an operation of a source is worth a system call.
//!
//! Both directions are taken to be ready at first. An operation that would block clears its
//! direction, and so does a read that shows that a stream is empty. An event of the poller sets it
//! again, as *reported*. All accesses are relaxed, since a source belongs to one thread.
//!
//! An operation is tried without a report, and a wait for readiness needs one. If a direction is
//! not reported, then the poller reports it as soon as it is armed and ready.

use super::event::Direction;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

#[derive(Debug)]
pub(crate) struct Readiness {
    /// The directions that are ready, `ENDED`, and the directions that were reported.
    bits: AtomicU8,
    /// Set if other code may use the source, too. Then the bits prove nothing: an operation is
    /// always tried, and each wait arms its direction anew. Never cleared. It is not one of the
    /// bits, since a thread that takes the source over sets it while the old thread may still
    /// change those.
    shared: AtomicBool,
}

/// Set when the end of a stream, an error or urgent data was reported. From then on a short
/// read does not show that the stream is empty. Cleared only when the source moves.
const ENDED: u8 = 1 << 2;

const BOTH: u8 = Direction::Read.bit() | Direction::Write.bit();

/// The bit of a direction that was reported, and is still ready.
const fn reported(direction: Direction) -> u8 {
    direction.bit() << 3
}

impl Readiness {
    pub(super) fn new() -> Readiness {
        Readiness {
            bits: AtomicU8::new(BOTH),
            shared: AtomicBool::new(false),
        }
    }

    /// The source moves to another reactor, which has not reported anything yet.
    pub(super) fn reset(&self) {
        self.bits.store(BOTH, Relaxed);
    }

    /// From now on other code may use the source, too.
    pub(crate) fn set_shared(&self) {
        self.shared.store(true, Relaxed);
    }

    /// Whether other code may use the source, too.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Relaxed)
    }

    /// Whether an operation is worth a try.
    #[inline]
    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        self.bits.load(Relaxed) & direction.bit() != 0 || self.is_shared()
    }

    /// Whether the poller has reported the direction, and nothing has shown since that it is not
    /// ready. Never if other code may use the source, too.
    #[inline]
    pub(crate) fn is_reported(&self, direction: Direction) -> bool {
        self.bits.load(Relaxed) & reported(direction) != 0 && !self.is_shared()
    }

    /// The next operation is to be tried.
    #[inline]
    pub(crate) fn assume(&self, direction: Direction) {
        self.bits
            .store(self.bits.load(Relaxed) | direction.bit(), Relaxed);
    }

    /// The poller has reported these directions. `ended`: with the end of the stream, an error,
    /// or urgent data.
    #[inline]
    pub(crate) fn report(&self, readable: bool, writable: bool, ended: bool) {
        let mut bits = self.bits.load(Relaxed);
        if readable {
            bits |= Direction::Read.bit() | reported(Direction::Read);
        }
        if writable {
            bits |= Direction::Write.bit() | reported(Direction::Write);
        }
        if ended {
            bits |= ENDED;
        }
        self.bits.store(bits, Relaxed);
    }

    /// An operation would have blocked.
    #[inline]
    pub(crate) fn clear(&self, direction: Direction) {
        let cleared = direction.bit() | reported(direction);
        self.bits.store(self.bits.load(Relaxed) & !cleared, Relaxed);
    }

    /// A read of a stream has returned `n` bytes into a buffer of `room` bytes. If `n` is less,
    /// the stream is empty.
    ///
    /// Data that arrives later causes an event. Once the end was reported, a short read proves
    /// nothing, since the end is not reported again.
    #[inline]
    pub(crate) fn note_read(&self, n: usize, room: usize) {
        if n > 0 && n < room && self.bits.load(Relaxed) & ENDED == 0 {
            self.clear(Direction::Read);
        }
    }
}

#[cfg(all(test, not(soloist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_direction_is_ready_until_it_would_block_and_again_when_it_is_reported() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready(Direction::Read) && readiness.is_ready(Direction::Write));
        readiness.clear(Direction::Read);
        assert!(!readiness.is_ready(Direction::Read) && readiness.is_ready(Direction::Write));
        readiness.report(false, true, false);
        assert!(!readiness.is_ready(Direction::Read));
        readiness.report(true, false, false);
        assert!(readiness.is_ready(Direction::Read));
    }

    #[test]
    fn a_short_read_empties_a_stream_unless_its_end_was_reported() {
        let is_ready_after = |n, ended| {
            let readiness = Readiness::new();
            readiness.report(true, true, ended);
            readiness.note_read(n, 64);
            readiness.is_ready(Direction::Read)
        };
        assert!(!is_ready_after(63, false));
        assert!(is_ready_after(63, true));
        // The buffer is full, so there may be more. The end of the stream stays.
        assert!(is_ready_after(64, false));
        assert!(is_ready_after(0, false));
    }

    #[test]
    fn what_is_shared_is_always_worth_a_try() {
        let readiness = Readiness::new();
        readiness.set_shared();
        readiness.clear(Direction::Read);
        readiness.reset();
        readiness.clear(Direction::Write);
        assert!(readiness.is_ready(Direction::Read) && readiness.is_ready(Direction::Write));
        readiness.report(true, true, false);
        assert!(!readiness.is_reported(Direction::Read));
    }

    #[test]
    fn what_is_assumed_is_not_reported() {
        let readiness = Readiness::new();
        assert!(!readiness.is_reported(Direction::Read));
        readiness.report(true, true, false);
        assert!(readiness.is_reported(Direction::Read) && readiness.is_reported(Direction::Write));
        readiness.clear(Direction::Write);
        assert!(readiness.is_reported(Direction::Read) && !readiness.is_reported(Direction::Write));
        readiness.assume(Direction::Write);
        assert!(readiness.is_ready(Direction::Write) && !readiness.is_reported(Direction::Write));
        readiness.reset();
        assert!(readiness.is_ready(Direction::Read) && !readiness.is_reported(Direction::Read));
    }
}
