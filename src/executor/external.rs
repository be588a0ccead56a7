//! What can act on an executor from outside: handles and jobs, which are counted (wakers are
//! not, since they do not say on which thread they are).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::current::is_current;
use super::state::{Executor, ExternalCounts};
use crate::hooks::TaskId;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::task_cell::{Message, Remote};

/// Held by what can act on an executor from outside, for as long as it can.
pub(crate) struct ExternalRef {
    remote: Remote,
    counts: Arc<ExternalCounts>,
}

impl ExternalRef {
    fn new(remote: Remote, counts: &Arc<ExternalCounts>) -> ExternalRef {
        // Relaxed: this is the executor's thread, or the caller is counted itself.
        counts.refs.fetch_add(1, Ordering::Relaxed);
        ExternalRef {
            remote,
            counts: counts.clone(),
        }
    }

    /// The id of the next task that a handle spawns.
    pub(crate) fn next_task_id(&self) -> TaskId {
        TaskId::remote(self.counts.spawned.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Clone for ExternalRef {
    fn clone(&self) -> ExternalRef {
        ExternalRef::new(self.remote, &self.counts)
    }
}

impl Drop for ExternalRef {
    fn drop(&mut self) {
        // Release: the executor that reads the count sees what was done before.
        let is_last = self.counts.refs.fetch_sub(1, Ordering::Release) == 1;
        if is_last && !is_current(self.remote.id()) {
            // The executor may be parked because of this reference: an empty message makes it
            // look again. A drop does not panic, not even if the executor cannot be notified:
            // the panic hook has reported that.
            let notify = || self.remote.send(Message::Call(Box::new(|| {})));
            let _ = catch_unwind(AssertUnwindSafe(notify));
        }
    }
}

impl Executor {
    /// Counts something that can act on this runtime from outside, as long as it lives.
    pub(crate) fn external(&self) -> ExternalRef {
        let new = || ExternalCounts {
            refs: AtomicUsize::new(0),
            spawned: AtomicU64::new(0),
        };
        let counts = self.external.get_or_init(|| Arc::new(new()));
        ExternalRef::new(self.remote, counts)
    }

    /// Whether a handle is alive, or a job runs.
    pub(crate) fn has_external(&self) -> bool {
        self.external
            .get()
            .is_some_and(|counts| counts.refs.load(Ordering::Acquire) != 0)
    }
}
