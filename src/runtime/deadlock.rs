//! The panic of `block_on` and `run` in a runtime that would hang for ever.

use super::Runtime;
use crate::inspect::info::{Dump, dump_without_events};
use crate::reactor::Reactor;

/// The number of tasks that the message lists. Further tasks are counted.
const SHOWN: usize = 20;

impl Runtime {
    /// Panics if it is certain that no task will ever run again. Called before a turn that may wait
    /// without a limit.
    #[inline]
    pub(super) fn check_not_deadlocked(&self) {
        let executor = &self.executor;
        if !executor.is_anything_ready()
            && executor.timers_pending() == 0
            && !executor.has_messages()
        {
            self.check_idle();
        }
    }

    #[cold]
    fn check_idle(&self) {
        // The foreign loop around a guest can wake any task.
        #[cfg(unix)]
        if self.guest.is_guest() {
            return;
        }
        let executor = &self.executor;
        // The owner of a timer that is too far in the future to fire may still reset it. The wakers
        // are checked last, since that also checks the inbox: a handle or waker may have sent a
        // message before it was dropped.
        if !executor.has_external()
            && !executor.has_unset_timer()
            && !Reactor::get().is_some_and(|reactor| reactor.is_awaited())
            && executor.has_no_external_waker()
        {
            panic!("{}", self.report());
        }
    }

    fn report(&self) -> String {
        let Dump { main, tasks } = dump_without_events(&self.executor);
        let mut text = String::from(
            "the runtime is stuck for certain: no task is ready, no timer is set, no task waits for \
             a socket or a job, no `Handle` is alive, and nothing holds a waker of the tasks that \
             are left",
        );
        let shown = &tasks[..tasks.len().min(SHOWN)];
        for task in main.iter().chain(shown) {
            text += &format!("\n  {task}");
        }
        if tasks.len() > SHOWN {
            text += &format!("\n  and {} more", tasks.len() - SHOWN);
        }
        text
    }
}
