//! Replaces `simulated.rs` without the feature `testing`: only the system's clock.

use std::time::{Duration, Instant};

use super::budget_clock::BudgetClock;
use crate::schedule::SharedOrder;

/// Returns the current time of the system's clock.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The same: no host has a clock of its own.
#[inline]
pub(crate) fn runtime_now() -> Instant {
    Instant::now()
}

/// Does nothing: no host has a clock of its own.
#[inline]
pub(crate) fn to_host(time: Instant) -> Instant {
    time
}

/// Does nothing: no host has a clock of its own.
#[inline]
pub(crate) fn to_runtime(time: Instant) -> Instant {
    time
}

/// Does nothing: there is no virtual clock.
#[inline]
pub(crate) fn replace(_: Option<Instant>) -> Option<Instant> {
    None
}

/// A virtual clock, as a type without values.
#[derive(Debug)]
pub(crate) enum OwnedClock {}

/// The settings of a simulation, of which there are none.
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
