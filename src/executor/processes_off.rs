//! `processes.rs` without the feature `testing`: no task belongs to a simulated host.

use super::state::Executor;
use crate::task_cell::LocalTask;

/// The process of a simulated host, of which there are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ProcessId;

pub(crate) struct ProcessGuard;

impl Executor {
    #[cfg(feature = "blocking")]
    pub(super) fn has_world(&self) -> bool {
        false
    }

    pub(crate) fn current_process(&self) -> ProcessId {
        ProcessId
    }

    pub(crate) fn in_process<R>(&self, _: ProcessId, f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline(always)]
    pub(super) fn join_process(&self, _: Option<usize>) -> bool {
        true
    }

    #[inline(always)]
    pub(super) fn begin_run(&self, _: &LocalTask) -> Option<ProcessGuard> {
        Some(ProcessGuard)
    }

    #[inline(always)]
    pub(super) fn begin_drop(&self, _: &LocalTask) -> ProcessGuard {
        ProcessGuard
    }
}
