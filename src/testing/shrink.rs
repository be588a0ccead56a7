//! Looks for the fewest faults with which a seed still fails.

use std::fmt;
use std::time::{Duration, Instant};

use super::faults::{Allowed, Fault, FaultKind, KINDS};

/// After this much real time the best plan so far is returned.
const TIME: Duration = Duration::from_secs(60);

/// How a world is run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Whether tasks run first in, first out. Otherwise the seed shuffles them.
    pub(super) fifo: bool,
    /// `None` for all faults.
    pub(super) allowed: Option<Allowed>,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Plan {
        Plan {
            seed,
            fifo: false,
            allowed: None,
        }
    }

    /// Parses the text of a plan.
    pub(super) fn parse(seed: u64, text: &str) -> Option<Plan> {
        let (schedule, faults) = text.split_once(',').unwrap_or((text, ""));
        let fifo = match schedule {
            "fifo" => true,
            "shuffled" => false,
            _ => return None,
        };
        let allowed = Some(Allowed::parse(faults)?);
        Some(Plan {
            seed,
            fifo,
            allowed,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.fifo { "fifo" } else { "shuffled" })?;
        match &self.allowed {
            Some(faults) if !faults.0.is_empty() => write!(f, ",{faults}"),
            _ => Ok(()),
        }
    }
}

/// The search for a smaller plan.
pub(super) struct Shrink<'a> {
    /// Runs a plan. Returns the faults that have happened if the test fails in the same way.
    pub(super) fails: &'a mut dyn FnMut(&Plan) -> Option<Allowed>,
    /// The smallest plan so far.
    pub(super) plan: Plan,
    pub(super) runs: usize,
    started: Instant,
}

impl<'a> Shrink<'a> {
    /// `happened` are the faults of the plan's run.
    pub(super) fn new(
        plan: &Plan,
        happened: Allowed,
        fails: &'a mut dyn FnMut(&Plan) -> Option<Allowed>,
    ) -> Shrink<'a> {
        let plan = Plan {
            allowed: Some(happened),
            ..plan.clone()
        };
        Shrink {
            fails,
            plan,
            runs: 0,
            started: Instant::now(),
        }
    }

    pub(super) fn is_out_of_time(&self) -> bool {
        self.started.elapsed() > TIME
    }

    pub(super) fn run(&mut self) {
        let all = Plan {
            fifo: true,
            allowed: None,
            ..self.plan
        };
        self.accept(all);
        self.drop_kinds();
        self.drop_faults();
        self.halve_amounts();
    }

    fn try_faults(&mut self, faults: Vec<(Fault, u32)>) -> bool {
        let allowed = Some(Allowed(faults));
        let plan = Plan {
            allowed,
            ..self.plan
        };
        self.accept(plan)
    }

    /// Replaces the plan by another one if that fails, too.
    fn accept(&mut self, plan: Plan) -> bool {
        if self.is_out_of_time() {
            return false;
        }
        self.runs += 1;
        let Some(happened) = (self.fails)(&plan) else {
            return false;
        };
        self.plan = plan;
        // What has not happened is not needed.
        self.plan.allowed = Some(happened);
        true
    }

    fn faults(&self) -> &[(Fault, u32)] {
        self.plan.allowed.as_ref().map_or(&[], |faults| &faults.0)
    }

    fn drop_kinds(&mut self) {
        for (kind, _) in KINDS {
            let mut others = self.faults().to_vec();
            others.retain(|(fault, _)| fault.kind != kind);
            if others.len() < self.faults().len() {
                self.try_faults(others);
            }
        }
    }

    /// Drops all, then halves, and so on, down to one by one, until none can be dropped.
    fn drop_faults(&mut self) {
        let mut size = self.faults().len();
        while size > 0 {
            let mut dropped = false;
            let mut start = 0;
            while start < self.faults().len() {
                let mut faults = self.faults().to_vec();
                faults.drain(start..(start + size).min(faults.len()));
                if self.try_faults(faults) {
                    dropped = true;
                } else {
                    start += size;
                }
            }
            if size > 1 || !dropped {
                size /= 2;
            }
        }
    }

    fn halve_amounts(&mut self) {
        for index in 0..self.faults().len() {
            while self.halve(index) {}
        }
    }

    fn halve(&mut self, index: usize) -> bool {
        let mut faults = self.faults().to_vec();
        match faults.get_mut(index) {
            Some((fault, halvings)) if fault.kind == FaultKind::Jitter => *halvings += 1,
            _ => return false,
        }
        self.try_faults(faults)
    }
}
