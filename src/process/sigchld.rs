//! Waiting for children where there are no pidfds: by `SIGCHLD`, which says that some child has
//! changed its state.
//!
//! All waits of a thread share one [`Signal`], since each takes two file descriptors. Its waker is
//! [`ChildWaiters`], which wakes every wait of the thread. Each of them then looks at its own child.
//!
//! No exit is missed. A wait is in the list before it looks at its child for the last time, so the
//! signal of a later exit finds it there. The first wait that is polled consumes the signal, and
//! wakes all others in the list.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use crate::panics;
use crate::signal::unix::{Signal, SignalKind, signal};

thread_local! {
    static SHARED: RefCell<Option<Rc<SharedSignal>>> = const { RefCell::new(None) };
}

/// What the waits of a thread share. It stays for as long as the thread, as does the reactor with
/// which it is registered.
struct SharedSignal {
    signal: RefCell<Signal>,
    waiters: Arc<ChildWaiters>,
}

/// The wakers of the waits, by the pid of the child.
#[derive(Default)]
struct ChildWaiters(Mutex<BTreeMap<u32, Waker>>);

impl ChildWaiters {
    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<u32, Waker>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for ChildWaiters {
    fn wake(self: Arc<Self>) {
        let waiters = self.with(std::mem::take);
        panics::for_each(waiters.into_values(), Waker::wake);
    }
}

impl SharedSignal {
    fn get_or_new() -> io::Result<Rc<SharedSignal>> {
        if let Some(shared) = SharedSignal::get() {
            return Ok(shared);
        }
        let shared = Rc::new(SharedSignal {
            signal: RefCell::new(signal(SignalKind::child())?),
            waiters: Arc::default(),
        });
        // This fails while the thread ends.
        let _ = SHARED.try_with(|slot| *slot.borrow_mut() = Some(shared.clone()));
        Ok(shared)
    }

    fn get() -> Option<Rc<SharedSignal>> {
        SHARED.try_with(|slot| slot.borrow().clone()).ok().flatten()
    }

    /// Consumes the signals that have arrived, and registers the waiters for the next one. Returns
    /// whether there were any.
    fn consume(&self) -> io::Result<bool> {
        let waker = Waker::from(self.waiters.clone());
        let mut cx = TaskContext::from_waker(&waker);
        let mut any = false;
        while let Poll::Ready(result) = self.signal.borrow_mut().poll_recv(&mut cx) {
            result?;
            any = true;
        }
        Ok(any)
    }
}

/// A wait for one child.
#[derive(Debug)]
pub(super) struct SigchldWait {
    pid: u32,
}

impl SigchldWait {
    pub(super) fn new(pid: u32) -> SigchldWait {
        SigchldWait { pid }
    }

    /// Ready if the child may have exited since the caller last looked at it.
    pub(super) fn poll_changed(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let shared = SharedSignal::get_or_new()?;
        if shared.consume()? {
            shared.waiters.clone().wake();
            return Poll::Ready(Ok(()));
        }
        // Wakers are user code: they are cloned and dropped outside of the lock.
        let waker = cx.waker().clone();
        let old = (shared.waiters).with(|waiters| waiters.insert(self.pid, waker));
        if old.is_none() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl Drop for SigchldWait {
    fn drop(&mut self) {
        // If it is dropped on another thread, the entry stays until the next signal.
        if let Some(shared) = SharedSignal::get() {
            let waker = shared.waiters.with(|waiters| waiters.remove(&self.pid));
            drop(waker);
        }
    }
}
