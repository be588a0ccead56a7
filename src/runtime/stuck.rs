//! What `block_on` and `run` say instead of hanging for ever.

use std::fmt::Write;

use super::Runtime;
use crate::info::{TaskInfo, WaitsFor, dump, write_list};

/// More tasks than this are only counted.
const SHOWN: usize = 20;

impl Runtime {
    /// Panics if it is certain that nothing will ever happen again. Called before a turn
    /// that may have to wait without an end.
    #[inline]
    pub(super) fn check_deadlock(&self) {
        let context = &self.context;
        if !context.is_anything_ready()
            && context.timers_pending() == 0
            && !context.owner.inbox().is_filled()
        {
            self.check_idle();
        }
    }

    #[cold]
    fn check_idle(&self) {
        // A guest has a loop around it, from which anything can come.
        #[cfg(unix)]
        if self.guest.is_guest() {
            return;
        }
        if self.context.is_deadlocked() {
            panic!("{}", self.report());
        }
    }

    fn report(&self) -> String {
        let dump = dump(&self.context);
        let mut text = String::from(
            "stuck for certain, nothing can happen any more: nothing is ready, no timer is set, \
             nobody waits for a socket or a job, no `Handle` is alive, and nobody has a waker of \
             what is left",
        );
        if let Some(main) = &dump.main {
            let place = main.spawned_at;
            let what = format!("the future of `block_on`, called at {place},");
            line(&mut text, &what, main);
        }
        for task in dump.tasks.iter().take(SHOWN) {
            let place = task.spawned_at;
            let what = match &task.name {
                Some(name) => format!("task `{name}`, spawned at {place},"),
                None => format!("task `task-{}`, spawned at {place},", task.id),
            };
            line(&mut text, &what, task);
        }
        if let Some(more @ 1..) = dump.tasks.len().checked_sub(SHOWN) {
            let _ = write!(text, "\n  and {more} more");
        }
        text
    }
}

fn line(text: &mut String, what: &str, info: &TaskInfo) {
    let _ = match &info.waits_for[..] {
        [] | [WaitsFor::Nothing] => {
            write!(
                text,
                "\n  {what} returned Pending without keeping its waker"
            )
        }
        waits => {
            write!(text, "\n  {what} waits for ").and_then(|()| write_list(text, waits, " and "))
        }
    };
}
