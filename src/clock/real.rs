//! `simulated.rs` without the feature `testing`: the system's clock only.

use std::time::{Duration, Instant};

use super::budget_clock::BudgetClock;
use crate::schedule::SharedOrder;

/// The time by the system's clock.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// There is no other clock to be set.
#[inline]
pub(crate) fn replace(_: Option<Instant>) -> Option<Instant> {
    None
}

/// A virtual clock: a type without values.
#[derive(Debug)]
pub(crate) enum OwnedClock {}

/// How a run is to be simulated: not at all.
#[derive(Debug, Default)]
pub(crate) struct Simulation;

impl Simulation {
    pub(crate) fn patience(&self) -> Option<Duration> {
        None
    }

    pub(crate) fn budget_clock(&self) -> Option<BudgetClock> {
        None
    }

    pub(crate) fn clock(&self) -> Option<OwnedClock> {
        None
    }

    pub(crate) fn order(&self) -> Option<SharedOrder> {
        None
    }
}
