//! Reaps children whose handle was dropped before they exited.
//!
//! The whole process has one list of them. Each is watched by a waker, not by a task, since a task
//! would keep [`Runtime::run`](crate::Runtime::run) from returning. The waker belongs to the
//! reactor of the thread that dropped the handle, which calls it when the child exits.
//!
//! If the handle was dropped outside of a runtime, or if its thread runs no runtime any more, no
//! reactor watches the child. So the whole list is checked by each spawn, and at the end of each
//! thread that has added a child. A check asks the system about each child, without waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Wake, Waker};

use super::exit::Process;
use crate::executor;

static ORPHANS: Mutex<BTreeMap<u32, Orphan>> = Mutex::new(BTreeMap::new());

thread_local! {
    static REAP_AT_THREAD_EXIT: ReapOnDrop = const { ReapOnDrop };
}

struct Orphan {
    process: Process,
    /// Whether a reactor will wake its [`Reaper`].
    is_watched: bool,
}

/// The children by pid. No process may be dropped under this lock: that may deregister its pidfd
/// from a reactor, which calls wakers.
fn orphans() -> MutexGuard<'static, BTreeMap<u32, Orphan>> {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps a child, now or when it exits.
pub(super) fn adopt(mut process: Process) {
    let pid = process.child.id();
    let mut is_watched = false;
    // Outside of a runtime no reactor would be polled.
    if executor::is_inside() {
        let waker = Waker::from(Arc::new(Reaper { pid }));
        let exit = process.poll_wait(&mut TaskContext::from_waker(&waker));
        is_watched = exit.is_pending();
        process.set_background();
    }
    if process.is_alive() {
        // The first access makes the value, which is dropped at the end of the thread.
        let _ = REAP_AT_THREAD_EXIT.try_with(|_| ());
        let orphan = Orphan {
            process,
            is_watched,
        };
        let old = orphans().insert(pid, orphan);
        drop(old);
    }
}

/// Reaps the children that have exited, and adopts the others that no reactor watches.
pub(super) fn reap_all() {
    let to_adopt: Vec<Orphan> = {
        let mut orphans = orphans();
        let needs_care = |orphan: &mut Orphan| !orphan.is_watched || !orphan.process.is_alive();
        let pids: Vec<u32> = orphans
            .iter_mut()
            .filter_map(|(&pid, orphan)| needs_care(orphan).then_some(pid))
            .collect();
        pids.iter().filter_map(|pid| orphans.remove(pid)).collect()
    };
    for orphan in to_adopt {
        adopt(orphan.process);
    }
}

/// Reaps one child when it is woken.
struct Reaper {
    pid: u32,
}

impl Wake for Reaper {
    fn wake(self: Arc<Self>) {
        // The child may be gone, and the pid that of another orphan. Checking that one is harmless.
        let orphan = orphans().remove(&self.pid);
        if let Some(orphan) = orphan {
            adopt(orphan.process);
        }
    }
}

struct ReapOnDrop;

impl Drop for ReapOnDrop {
    fn drop(&mut self) {
        reap_all();
    }
}
