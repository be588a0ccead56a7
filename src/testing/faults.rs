//! The faults of a simulated network: which happen, and to which message.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::Ipv4Addr;

use crate::sync::{Mutex, lock};
use crate::testing::schedule::Random;

/// What can happen to a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum FaultKind {
    Jitter,
    Loss,
    Duplicate,
    Reorder,
    Reset,
    PartialRead,
    PartialWrite,
}

use FaultKind::*;

/// The kinds in their order, with the names that they have in `SOLOIST_FAULTS`.
pub(super) const KINDS: [(FaultKind, &str); 7] = [
    (Jitter, "jitter"),
    (Loss, "loss"),
    (Duplicate, "duplicate"),
    (Reorder, "reorder"),
    (Reset, "reset"),
    (PartialRead, "partial-read"),
    (PartialWrite, "partial-write"),
];

/// Where a fault can happen. Two decisions of one kind in a run have different places.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    /// The number of the connection between the two hosts, from 1 on. 0 for datagrams.
    pub(crate) connection: u64,
    /// The number of the message from `from` to `to`.
    pub(crate) message: u64,
}

/// A fault that has happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) place: Place,
}

/// The faults that may happen, each with the number of times that its amount is halved. Their text
/// is `kind/from/to/connection/message/halvings`, and so on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Allowed(pub(crate) Vec<(Fault, u32)>);

impl Allowed {
    /// Parses what [`Display`](fmt::Display) has written.
    pub(crate) fn parse(text: &str) -> Option<Allowed> {
        let items = text.split(',').filter(|item| !item.is_empty());
        items.map(parse_fault).collect::<Option<_>>().map(Allowed)
    }
}

fn parse_fault(text: &str) -> Option<(Fault, u32)> {
    let mut parts = text.split('/');
    let name = parts.next()?;
    let (kind, _) = *KINDS.iter().find(|(_, known)| *known == name)?;
    let place = Place {
        from: parts.next()?.parse().ok()?,
        to: parts.next()?.parse().ok()?,
        connection: parts.next()?.parse().ok()?,
        message: parts.next()?.parse().ok()?,
    };
    let halvings = parts.next().map_or(Some(0), |part| part.parse().ok())?;
    let is_whole = parts.next().is_none();
    is_whole.then_some((Fault { kind, place }, halvings))
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (Fault { kind, place }, halvings)) in self.0.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            let (_, kind) = KINDS[*kind as usize];
            let (from, to) = (place.from, place.to);
            let (connection, message) = (place.connection, place.message);
            write!(f, "{separator}{kind}/{from}/{to}/{connection}/{message}")?;
            if *halvings > 0 {
                write!(f, "/{halvings}")?;
            }
        }
        Ok(())
    }
}

/// Decides which faults happen, and records them.
///
/// Each decision is a hash of the seed, the kind and the place. So a fault that is not allowed
/// leaves the others as they were.
#[derive(Debug)]
pub(crate) struct Faults {
    seed: u64,
    /// `None` if all faults are allowed.
    allowed: Option<HashMap<Fault, u32>>,
    happened: Mutex<Vec<Fault>>,
}

impl Faults {
    /// Allows only these faults, or all of them.
    pub(crate) fn new(seed: u64, allowed: Option<&Allowed>) -> Faults {
        Faults {
            seed,
            allowed: allowed.map(|allowed| allowed.0.iter().copied().collect()),
            happened: Mutex::default(),
        }
    }

    /// Returns whether a fault happens, and records it if it does.
    pub(crate) fn happens(&self, kind: FaultKind, place: Place, probability: f64) -> bool {
        if probability == 0.0 {
            return false;
        }
        let fault = Fault { kind, place };
        // The upper 53 bits: a number from 0 to 1, without 1.
        let number = (self.hash(fault) >> 11) as f64 / (1_u64 << 53) as f64;
        let happens = number < probability && self.halvings(fault).is_some();
        if happens {
            lock(&self.happened).push(fault);
        }
        happens
    }

    /// Returns a number from 0 to `most`: the nanoseconds of a [`Jitter`], or the bytes of a
    /// [`PartialRead`] or [`PartialWrite`]. If the fault is not allowed, this is 0 for a jitter, and
    /// `most` for the others.
    pub(crate) fn amount(&self, kind: FaultKind, place: Place, most: u64) -> u64 {
        let fault = Fault { kind, place };
        let without = if kind == Jitter { 0 } else { most };
        let Some(halvings) = self.halvings(fault) else {
            return without;
        };
        // The upper half of the product: as uniform as 64 bits allow.
        let limit = u128::from(most) + 1;
        let amount = ((u128::from(self.hash(fault)) * limit) >> 64) as u64;
        let amount = amount.checked_shr(halvings).unwrap_or(0);
        if amount != without {
            lock(&self.happened).push(fault);
        }
        amount
    }

    /// Returns the faults that have happened so far, in order.
    pub(crate) fn happened(&self) -> Allowed {
        let (happened, mut known) = (lock(&self.happened), HashSet::new());
        let first = happened.iter().filter(|fault| known.insert(**fault));
        let halvings = |fault: &Fault| (*fault, self.halvings(*fault).unwrap_or(0));
        Allowed(first.map(halvings).collect())
    }

    /// Returns how often the amount of a fault is halved, or `None` if it is not allowed.
    fn halvings(&self, fault: Fault) -> Option<u32> {
        match &self.allowed {
            None => Some(0),
            Some(allowed) => allowed.get(&fault).copied(),
        }
    }

    fn hash(&self, fault: Fault) -> u64 {
        let Fault { kind, place } = fault;
        let [from, to] = [place.from, place.to].map(|address| address.to_bits().into());
        let parts = [kind as u64, from, to, place.connection, place.message];
        let first = Random::new(self.seed).next();
        let mix = |hash: u64, part: u64| Random::new(hash ^ part).next();
        parts.into_iter().fold(first, mix)
    }
}
