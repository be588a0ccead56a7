//! Stand-in.
use super::faults::Faults;
use super::transcript::Transcript;
use std::sync::Arc;

/// A world.
#[derive(Clone, Debug)]
pub struct World {
    seed: u64,
    pub(crate) faults: Arc<Faults>,
    transcript: Arc<Transcript>,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Arc<Faults>, transcript: Arc<Transcript>) -> World {
        World {
            seed,
            faults,
            transcript,
        }
    }
    /// Seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }
    /// Transcript.
    pub fn transcript(&self) -> String {
        self.transcript.text()
    }
    /// Stand-in for tests.
    #[doc(hidden)]
    pub fn fake(&self, message: u64) -> bool {
        use super::faults::*;
        let place = Place {
            from: [10, 0, 0, 1].into(),
            to: [10, 0, 0, 2].into(),
            connection: 1,
            message,
        };
        let lost = self.faults.happens(FaultKind::Loss, place, 0.3);
        let event = super::transcript::Event {
            kind: if lost { "lost" } else { "data" },
            from: ([10, 0, 0, 1], 80).into(),
            to: ([10, 0, 0, 2], 80).into(),
            len: 3,
        };
        self.transcript.record(std::time::Duration::ZERO, event);
        lost
    }
    /// Stand-in for tests.
    #[doc(hidden)]
    pub fn fake_jitter(&self, message: u64) -> u64 {
        use super::faults::*;
        let place = Place {
            from: [10, 0, 0, 1].into(),
            to: [10, 0, 0, 2].into(),
            connection: 1,
            message,
        };
        self.faults.amount(FaultKind::Jitter, place, 1000)
    }
}
