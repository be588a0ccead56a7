//! `foreign.rs` without the feature `testing`: there is no virtual clock to hold.

use std::time::Duration;

use crate::task_cell::LocalTask;

#[derive(Debug)]
pub(crate) struct Foreign;

impl Foreign {
    pub(crate) fn new(_: Duration) -> Foreign {
        Foreign
    }

    pub(crate) fn run_begins(&self, _: bool) {}

    pub(crate) fn take_unknown(&self) -> bool {
        true
    }

    pub(crate) fn woken(&self, _: LocalTask) {}
}
