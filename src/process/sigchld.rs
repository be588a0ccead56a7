//! Where there is no pidfd: `SIGCHLD`, which says that some child has changed.
//!
//! A thread listens to it once, for all its waits: a [`Signal`] takes two fds. The
//! reactor knows one waker for that, the [`Waiters`], which wakes everyone who waits on
//! this thread; each then looks at its own child, and comes back.
//!
//! No end is missed. Who waits is in the list before it looks at its child a last time:
//! an end after that look is followed by a signal that finds it in the list. A signal is
//! taken out by whoever polls first, and then everyone in the list is woken.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use crate::panics::Panics;
use crate::signal::unix::{Signal, SignalKind, signal};

thread_local! {
    static HUB: RefCell<Option<Rc<Hub>>> = const { RefCell::new(None) };
}

/// The listening of one thread. It stays: the reactor that it is registered with does.
struct Hub {
    signal: RefCell<Signal>,
    waiters: Arc<Waiters>,
}

/// Who waits, by the number of the child.
#[derive(Default)]
struct Waiters(Mutex<BTreeMap<u32, Waker>>);

impl Waiters {
    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<u32, Waker>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake_all(&self) {
        let waiters = self.with(std::mem::take);
        let mut panics = Panics::default();
        for waker in waiters.into_values() {
            panics.catch(|| waker.wake());
        }
        panics.resume();
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

impl Hub {
    fn get_or_new() -> io::Result<Rc<Hub>> {
        if let Some(hub) = Hub::get() {
            return Ok(hub);
        }
        let hub = Rc::new(Hub {
            signal: RefCell::new(signal(SignalKind::child())?),
            waiters: Arc::default(),
        });
        // A thread that is ending keeps none.
        let _ = HUB.try_with(|slot| *slot.borrow_mut() = Some(hub.clone()));
        Ok(hub)
    }

    fn get() -> Option<Rc<Hub>> {
        HUB.try_with(|hub| hub.borrow().clone()).ok().flatten()
    }

    /// Takes the signals that have come, and has the waiters woken by the next. Returns
    /// whether there were any.
    fn hear(&self) -> io::Result<bool> {
        let waker = Waker::from(self.waiters.clone());
        let mut cx = TaskContext::from_waker(&waker);
        let mut heard = false;
        while let Poll::Ready(result) = self.signal.borrow_mut().poll_recv(&mut cx) {
            result?;
            heard = true;
        }
        Ok(heard)
    }
}

/// Waits for a child.
pub(super) struct Listener {
    pid: u32,
}

impl Listener {
    pub(super) fn new(pid: u32) -> Listener {
        Listener { pid }
    }

    /// Ready if the child may have ended since it was last looked at: look again.
    pub(super) fn poll_changed(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let hub = Hub::get_or_new()?;
        if hub.hear()? {
            hub.waiters.wake_all();
            return Poll::Ready(Ok(()));
        }
        // Cloned and dropped outside of the lock: that is user code.
        let waker = cx.waker().clone();
        let old = hub.waiters.with(|waiters| waiters.insert(self.pid, waker));
        if old.is_none() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // On another thread than the wait the entry stays until the next signal.
        if let Some(hub) = Hub::get() {
            let waker = hub.waiters.with(|waiters| waiters.remove(&self.pid));
            drop(waker);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("pid", &self.pid).finish()
    }
}
