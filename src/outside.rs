//! What can still act on a runtime from outside of it: handles and jobs, which are counted
//! (wakers are not); and, for a virtual clock, the tasks that other threads have woken.

#[cfg(feature = "testing")]
mod foreign;
#[cfg(not(feature = "testing"))]
mod none;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

#[cfg(feature = "testing")]
pub(crate) use self::foreign::Foreign;
#[cfg(not(feature = "testing"))]
pub(crate) use self::none::Foreign;
use crate::cell::{Home, Message};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is [`Outside`].
#[derive(Debug)]
pub(crate) struct Count {
    alive: AtomicUsize,
}

impl Count {
    pub(crate) fn new() -> Arc<Count> {
        Arc::new(Count {
            alive: AtomicUsize::new(0),
        })
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.alive.load(Ordering::Acquire) == 0
    }
}

/// Held by what can act on a runtime from outside, for as long as it can.
#[derive(Debug)]
pub(crate) struct Outside {
    home: Home,
    count: Arc<Count>,
}

impl Outside {
    pub(crate) fn new(home: Home, count: &Arc<Count>) -> Outside {
        // Relaxed: it is counted by one that is counted, or on the runtime's own thread.
        count.alive.fetch_add(1, Ordering::Relaxed);
        Outside {
            home,
            count: count.clone(),
        }
    }
}

impl Clone for Outside {
    fn clone(&self) -> Outside {
        Outside::new(self.home, &self.count)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Release: what it has done before is seen by the runtime that counts.
        let last = self.count.alive.fetch_sub(1, Ordering::Release) == 1;
        if last && !self.home.is_current() {
            // It may be parked because of this one: with a message without contents it
            // looks around once more. On its own thread it runs, and does so anyway.
            // A drop does not panic, not even if the runtime cannot be notified: the panic
            // hook reports that.
            let word = || self.home.push(Message::Call(Box::new(|| {})));
            let refused = catch_unwind(AssertUnwindSafe(word));
            drop(refused);
        }
    }
}
