//! What can act on an executor from outside: handles and jobs, which are counted (wakers are
//! not, since they do not say on which thread they are).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::current::is_current;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::task_cell::{Message, Remote};

/// How many [`ExternalRef`]s exist.
#[derive(Debug)]
pub(super) struct Count {
    alive: AtomicUsize,
}

impl Count {
    pub(super) fn new() -> Arc<Count> {
        Arc::new(Count {
            alive: AtomicUsize::new(0),
        })
    }

    pub(super) fn is_zero(&self) -> bool {
        self.alive.load(Ordering::Acquire) == 0
    }
}

/// Held by what can act on an executor from outside, for as long as it can.
#[derive(Debug)]
pub(crate) struct ExternalRef {
    remote: Remote,
    count: Arc<Count>,
}

impl ExternalRef {
    pub(super) fn new(remote: Remote, count: &Arc<Count>) -> ExternalRef {
        // Relaxed: this is the executor's thread, or the caller is counted itself.
        count.alive.fetch_add(1, Ordering::Relaxed);
        ExternalRef {
            remote,
            count: count.clone(),
        }
    }
}

impl Clone for ExternalRef {
    fn clone(&self) -> ExternalRef {
        ExternalRef::new(self.remote, &self.count)
    }
}

impl Drop for ExternalRef {
    fn drop(&mut self) {
        // Release: the executor that reads the count sees what was done before.
        let is_last = self.count.alive.fetch_sub(1, Ordering::Release) == 1;
        if is_last && !is_current(self.remote.id()) {
            // The executor may be parked because of this reference: an empty message makes it
            // look again. A drop does not panic, not even if the executor cannot be notified:
            // the panic hook has reported that.
            let notify = || self.remote.send(Message::Call(Box::new(|| {})));
            let _ = catch_unwind(AssertUnwindSafe(notify));
        }
    }
}
