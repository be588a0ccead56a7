//! What the reads of a source tell about the next one: whether it is worth a try.
//!
//! To try in vain costs a system call. Not to try, and to wait for the reactor's word,
//! costs a turn if there is more after all, and nothing else: in level mode the word comes
//! at the next visit. All of this is relaxed: a source belongs to one thread.

use crate::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Reads and accepts in a row without a word from the reactor: then the task waits
/// for it, so that a socket that is always ready starves nobody. In level mode the
/// word comes at the next visit if there is more. One bit of the count.
const SPREE: u8 = 16;

#[derive(Debug)]
pub(crate) struct Reads {
    /// Reads in a row without a word from the reactor, and the two marks.
    state: AtomicU8,
    /// What comes after a read that has filled its buffer: if it was the first since the
    /// reactor's word, or a later one. Where a body follows a header, one is always
    /// followed by more, and the other one hardly ever.
    first: Guess,
    later: Guess,
}

/// The mark of a stream that is taken to be empty: nothing is left to be read until the
/// reactor says so.
const DRAINED: u8 = 1 << 6;
/// The mark of a read that has filled its buffer: the next one is to be tried.
const FILLED: u8 = 1 << 7;

impl Reads {
    pub(super) fn new() -> Reads {
        Reads {
            state: AtomicU8::new(0),
            first: Guess::new(),
            later: Guess::new(),
        }
    }

    /// The reactor says that there is something.
    #[inline]
    pub(crate) fn restart(&self) {
        self.state.store(0, Relaxed);
    }

    /// Whether a read is worth a try: something may be there, and its turn is not over.
    /// `trusting`: it goes by what the earlier ones have told, too.
    #[inline]
    pub(crate) fn may_try(&self, trusting: bool) -> bool {
        let against = if trusting { SPREE | DRAINED } else { SPREE };
        self.state.load(Relaxed) & against == 0
    }

    /// A read or accept would have blocked.
    pub(crate) fn note_blocked(&self) {
        if self.state.load(Relaxed) & FILLED != 0 {
            self.note_after_filled(false);
        }
    }

    /// A read or accept that was worth a try has gone through.
    #[inline]
    pub(crate) fn note_done(&self) {
        if self.state.load(Relaxed) & FILLED != 0 {
            self.note_after_filled(true);
        }
        self.state.store(self.state.load(Relaxed) + 1, Relaxed);
    }

    /// How much the last read of a stream gave: bytes without boundaries, so that less than
    /// there was `room` for has emptied it.
    #[inline]
    pub(crate) fn note_length(&self, n: usize, room: usize) {
        let mark = match n {
            // The end of the stream: it stays there to be read.
            0 => return,
            _ if n < room => DRAINED,
            _ if self.guess().says_more() => FILLED,
            _ => DRAINED,
        };
        self.state.store(self.state.load(Relaxed) | mark, Relaxed);
    }

    #[cold]
    fn note_after_filled(&self, more: bool) {
        self.guess().learn(more);
        self.state
            .store(self.state.load(Relaxed) & !FILLED, Relaxed);
    }

    /// For what comes after the last read.
    fn guess(&self) -> &Guess {
        if self.state.load(Relaxed) & !(DRAINED | FILLED) <= 1 {
            &self.first
        } else {
            &self.later
        }
    }
}

/// Is there more? Two bits say what the last tries have found, as in the processor's guess
/// at a branch. The others count how often in a row it was not tried.
#[derive(Debug)]
struct Guess(AtomicU8);

impl Guess {
    const BITS: u8 = 0b11;
    /// From here on it says that there is.
    const MORE: u8 = 2;
    /// What one time without a try adds. The 32nd time it is tried all the same: else
    /// nobody would notice that there is more now.
    const UNTRIED: u8 = 8;

    fn new() -> Guess {
        Guess(AtomicU8::new(Self::MORE))
    }

    fn says_more(&self) -> bool {
        let known = self.0.load(Relaxed);
        if known & Self::BITS >= Self::MORE {
            return true;
        }
        let (next, is_time) = known.overflowing_add(Self::UNTRIED);
        self.0.store(next, Relaxed);
        is_time
    }

    /// What a try has found. One hit is enough to try again: a try in vain costs less than
    /// a turn.
    fn learn(&self, more: bool) {
        let known = self.0.load(Relaxed) & Self::BITS;
        let next = match more {
            true => (known + 1).clamp(Self::MORE, Self::BITS),
            false => known.saturating_sub(1),
        };
        self.0.store(next, Relaxed);
    }
}

#[cfg(all(test, not(soloist_loom)))]
mod tests {
    use super::*;

    /// Messages of so many reads that fill their buffers, one message per word. How many
    /// reads were tried in vain, and how many words came in the middle of a message.
    fn reads(reads: &Reads, message: usize, messages: usize) -> (usize, usize) {
        let (mut in_vain, mut words) = (0, 0);
        for _ in 0..messages {
            reads.restart();
            for n in 0..message {
                if !reads.may_try(true) {
                    words += 1;
                    reads.restart();
                }
                reads.note_done();
                reads.note_length(64, 64);
                assert!(n < 16);
            }
            if reads.may_try(true) {
                in_vain += 1;
                reads.note_blocked();
            }
        }
        (in_vain, words)
    }

    #[test]
    fn requests_that_fill_the_buffer_are_tried_in_vain_now_and_then_only() {
        // The first, and each 32nd after it.
        assert_eq!(reads(&Reads::new(), 1, 1), (1, 0));
        assert_eq!(reads(&Reads::new(), 1, 32), (1, 0));
        assert_eq!(reads(&Reads::new(), 1, 33), (2, 0));
        assert_eq!(reads(&Reads::new(), 1, 321), (11, 0));
    }

    #[test]
    fn a_body_is_read_with_its_header_and_nothing_is_tried_after_it() {
        assert_eq!(reads(&Reads::new(), 2, 1), (1, 0));
        assert_eq!(reads(&Reads::new(), 2, 321), (11, 0));
    }

    #[test]
    fn what_comes_in_many_pieces_is_read_at_once() {
        for pieces in 3..=15 {
            assert_eq!(reads(&Reads::new(), pieces, 100), (100, 0));
        }
    }

    #[test]
    fn bulk_after_requests_is_noticed() {
        let one = Reads::new();
        reads(&one, 1, 1000);
        let (_, words) = reads(&one, 10, 100);
        assert!((1..=32).contains(&words), "{words} turns too many");
        assert_eq!(reads(&one, 10, 100), (100, 0));
    }

    #[test]
    fn a_short_read_empties_a_stream_and_its_end_does_not() {
        let reads = Reads::new();
        reads.note_done();
        reads.note_length(63, 64);
        assert!(!reads.may_try(true));
        assert!(reads.may_try(false));
        reads.restart();
        reads.note_done();
        reads.note_length(0, 64);
        assert!(reads.may_try(true));
    }

    #[test]
    fn the_sixteenth_in_a_row_is_the_last() {
        let reads = Reads::new();
        for _ in 0..16 {
            assert!(reads.may_try(false));
            reads.note_done();
        }
        assert!(!reads.may_try(false));
        reads.restart();
        assert!(reads.may_try(false));
    }
}
