//! The executor that is entered on this thread, and the others of the thread.

use std::cell::RefCell;
use std::io;
use std::mem::ManuallyDrop;
use std::rc::{Rc, Weak};
use std::time::Instant;

use super::state::Executor;
use crate::clock;
use crate::hooks;
use crate::panics::Payload;
use crate::sync::thread_local;
use crate::task_cell::{LocalTask, Message, SharedTask, TaskScheduler};

/// The executor that is entered on a thread.
type Current = RefCell<ManuallyDrop<Option<Rc<Executor>>>>;

thread_local! {
    /// It has no destructor, so the destructors of other thread-locals can use it, and an access is
    /// cheap. An executor that is entered when the thread ends, in `process::exit`, is leaked.
    static CURRENT: Current = const { RefCell::new(ManuallyDrop::new(None)) };
}

thread_local! {
    /// The executors of the thread that have not been closed, for [`cancel`].
    static ALL: RefCell<Vec<Weak<Executor>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with the executor that is entered on this thread, if one is. `f` must call no user
/// code, since `CURRENT` is borrowed meanwhile.
#[inline(always)]
pub(super) fn with<R>(f: impl FnOnce(&Executor) -> R) -> Option<R> {
    // `LocalKey::with` would not be inlined. Access never fails, since there is no destructor.
    let with = |current: &Current| current.borrow().as_deref().map(f);
    CURRENT.try_with(with).ok().flatten()
}

/// The executor that is entered on this thread.
#[inline]
pub(crate) fn try_current() -> Option<Rc<Executor>> {
    CURRENT.with(|current| Option::clone(&current.borrow()))
}

/// As [`try_current`]. Panics outside of a runtime.
#[track_caller]
#[inline]
pub(crate) fn current(what: &str) -> Rc<Executor> {
    match try_current() {
        Some(executor) => executor,
        None => panic_outside(what),
    }
}

/// Whether an executor is entered on this thread.
#[inline]
pub(crate) fn is_inside() -> bool {
    with(Executor::id).is_some()
}

/// Panics outside of a runtime.
#[track_caller]
pub(crate) fn check_inside(what: &str) {
    if !is_inside() {
        panic_outside(what);
    }
}

/// As [`check_inside`], where there is an `io::Result` to return.
#[inline]
pub(crate) fn inside_or_error(what: &str) -> io::Result<()> {
    if is_inside() {
        return Ok(());
    }
    Err(error_outside(what))
}

#[cold]
fn error_outside(what: &str) -> io::Error {
    io::Error::other(outside(what))
}

#[track_caller]
#[cold]
pub(crate) fn panic_outside(what: &str) -> ! {
    panic!("{}", outside(what))
}

fn outside(what: &str) -> String {
    format!(
        "{what} outside of a soloist runtime: call it inside a future that `soloist::block_on` \
         runs"
    )
}

/// From now on [`cancel`] finds the executor, unless the thread is ending.
pub(super) fn add(executor: &Rc<Executor>) {
    let executor = Rc::downgrade(executor);
    let _ = ALL.try_with(|all| all.borrow_mut().push(executor));
}

pub(super) fn remove(executor: &Rc<Executor>) {
    let is_other = |other: &Weak<Executor>| other.as_ptr() != Rc::as_ptr(executor);
    let _ = ALL.try_with(|all| all.borrow_mut().retain(is_other));
}

/// The executor of this thread with this id, unless it is closed.
fn find(id: u64) -> Option<Rc<Executor>> {
    if is_current(id) {
        return try_current();
    }
    let find = |all: &RefCell<Vec<Weak<Executor>>>| {
        for executor in &*all.borrow() {
            match executor.upgrade() {
                Some(executor) if executor.id() == id => return Some(executor),
                _ => {}
            }
        }
        None
    };
    ALL.try_with(find).ok().flatten()
}

/// Drops the future of a task of this thread now, inside of its executor, or at the end of the
/// poll that is under way. Returns what its destructor panicked with if that was now and no
/// handle can receive it.
#[must_use = "no handle has received that panic"]
pub(crate) fn cancel(task: &LocalTask) -> Option<Payload> {
    if !task.is_idle() {
        return task.cancel();
    }
    match find(task.executor()) {
        Some(executor) if executor.is_current() => executor.cancel(task),
        Some(executor) => executor.cancel_from_outside(task),
        // It is closed, or the thread is ending.
        None => {
            let panic = task.cancel();
            task.wake_joiner();
            panic
        }
    }
}

#[inline]
pub(super) fn is_current(id: u64) -> bool {
    with(Executor::id) == Some(id)
}

impl TaskScheduler for Executor {
    #[inline]
    fn schedule(task: &SharedTask) -> bool {
        with(|executor| executor.wake(task)) == Some(true)
    }
}

impl Executor {
    /// Whether it is the one that is entered on this thread.
    pub(crate) fn is_current(&self) -> bool {
        is_current(self.id())
    }

    /// Makes this executor the one that is entered on this thread, until the guard is dropped. What
    /// is entered last is left first.
    #[must_use]
    #[inline(always)]
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        let outer = replace(Some(self.clone()));
        if let Some(watch) = &self.watch {
            watch.set_entered(true);
        }
        let time = self.has_virtual_clock().then(|| self.now.get());
        let entered = Entered {
            outer,
            outer_time: clock::replace(time),
        };
        if let Some(clock) = self.simulated_clock() {
            clock.run_begins(self.has_messages());
        }
        entered
    }

    /// The handle of a task was dropped outside of its executor.
    #[cold]
    fn cancel_from_outside(self: &Rc<Self>, task: &LocalTask) -> Option<Payload> {
        let before = (self.ready_count(), self.timers_pending());
        let entered = self.enter();
        let panic = self.cancel(task);
        drop(entered);
        if before != (self.ready_count(), self.timers_pending()) {
            // An empty message notifies whatever waits for the runtime, such as a foreign loop.
            self.remote.send(Message::Call(Box::new(|| {})));
        }
        panic
    }
}

/// Whether the executor that is entered on this thread runs a simulated world.
#[cfg(feature = "blocking")]
pub(crate) fn is_simulated() -> bool {
    with(|executor| executor.hosts().is_some()) == Some(true)
}

/// Calls `f` as if no executor were entered on this thread.
#[cfg(feature = "blocking")]
pub(crate) fn leave<R>(f: impl FnOnce() -> R) -> R {
    let _back = Entered {
        outer: replace(None),
        outer_time: clock::replace(None),
    };
    f()
}

/// Restores what was entered before.
pub(crate) struct Entered {
    outer: Option<Rc<Executor>>,
    outer_time: Option<Instant>,
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        clock::replace(self.outer_time);
        let is_outermost = self.outer.is_none();
        let Some(left) = replace(self.outer.take()) else {
            return;
        };
        if let Some(watch) = &left.watch {
            watch.set_entered(false);
        }
        // Inside another runtime no main is polled.
        if is_outermost {
            hooks::runtime_left(left.id());
        }
    }
}

/// Returns what was entered before.
#[inline]
fn replace(executor: Option<Rc<Executor>>) -> Option<Rc<Executor>> {
    let executor = ManuallyDrop::new(executor);
    let outer = CURRENT.with(|current| current.replace(executor));
    ManuallyDrop::into_inner(outer)
}
