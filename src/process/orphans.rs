//! Children whose handles were dropped before they ended: somebody has to reap them.
//!
//! They are in one list of the process. What watches each is a waker, not a task: the
//! reactor of the thread that dropped the handle calls it when the child ends, and it
//! reaps. (A task would keep [`Runtime::run`](crate::Runtime::run) from returning.) A
//! handle that is dropped outside of a runtime is watched by nobody, and so it is in
//! effect when its thread runs no runtime any more; so each spawn, and the end of each
//! thread that has left something here, looks through the list. That asks the system
//! about each child in it, without waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Wake, Waker};

use super::exit::Process;
use crate::executor;

static ORPHANS: Mutex<BTreeMap<u32, Orphan>> = Mutex::new(BTreeMap::new());

thread_local! {
    static AT_THE_END: SweepOnDrop = const { SweepOnDrop };
}

struct Orphan {
    process: Process,
    /// Whether a reactor was told to wake its [`Reaper`].
    is_watched: bool,
}

/// No process is dropped under this lock: its fd may be a reactor's, which then calls
/// wakers.
fn orphans() -> MutexGuard<'static, BTreeMap<u32, Orphan>> {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes care of a child from now on.
pub(super) fn adopt(mut process: Process) {
    let pid = process.id();
    let mut is_watched = false;
    // Elsewhere there is no reactor that would be visited.
    if executor::try_current().is_some() {
        let waker = Waker::from(Arc::new(Reaper { pid }));
        let watch = process.poll_wait(&mut TaskContext::from_waker(&waker));
        is_watched = watch.is_pending();
        process.set_background();
    }
    if process.is_alive() {
        // So that it is made, and dropped with the thread.
        let _ = AT_THE_END.try_with(|_| ());
        let orphan = Orphan {
            process,
            is_watched,
        };
        let old = orphans().insert(pid, orphan);
        drop(old);
    }
}

/// Reaps those that have ended, and has the others watched if nobody does.
pub(super) fn sweep() {
    let to_see_to: Vec<Orphan> = {
        let mut orphans = orphans();
        let ended = |orphan: &mut Orphan| !orphan.is_watched || !orphan.process.is_alive();
        let pids: Vec<u32> = orphans
            .iter_mut()
            .filter_map(|(&pid, orphan)| ended(orphan).then_some(pid))
            .collect();
        pids.iter().filter_map(|pid| orphans.remove(pid)).collect()
    };
    for orphan in to_see_to {
        adopt(orphan.process);
    }
}

/// Looks after one child when it is woken.
struct Reaper {
    pid: u32,
}

impl Wake for Reaper {
    fn wake(self: Arc<Self>) {
        // It may be gone, and the number another's: that one is looked at for nothing.
        let orphan = orphans().remove(&self.pid);
        if let Some(orphan) = orphan {
            adopt(orphan.process);
        }
    }
}

struct SweepOnDrop;

impl Drop for SweepOnDrop {
    fn drop(&mut self) {
        sweep();
    }
}
