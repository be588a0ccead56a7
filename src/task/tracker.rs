//! Trackers of tasks whose results do not matter.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context as TaskContext, Poll};

use super::Task;
use super::members::Members;
use crate::hooks::WaitReason;
use crate::panics::Panics;
use crate::slab::Slab;
use crate::task_cell::{WakeTarget, note};

/// Keeps track of running tasks, such as the connections of a server, until they have finished.
///
/// A task that has finished leaves nothing behind. If it panicked, that is reported as for a
/// [detached](Task::detach) task. To receive results, use a [`JoinSet`](super::JoinSet).
///
/// Dropping the tracker cancels all its tasks. Tasks can spawn siblings through a
/// [`TrackerSpawner`].
///
/// # Examples
///
/// A server that stops accepting, and then waits for its connections for up to 10 seconds:
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, task::TaskTracker, time::{sleep, timeout}};
///
/// block_on(async {
///     let connections = TaskTracker::new();
///     for _ in 0..3 {
///         connections.spawn(async {
///             sleep(Duration::from_millis(1)).await;
///         });
///     }
///     if timeout(Duration::from_secs(10), connections.wait_idle()).await.is_err() {
///         println!("{} connections are cut off", connections.len());
///     }
/// });
/// ```
#[derive(Default)]
pub struct TaskTracker {
    tracker: Rc<Tracker>,
}

/// Spawns tasks into a [`TaskTracker`], from any task on its thread. It keeps neither the tracker
/// nor a task alive.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task::TaskTracker};
///
/// block_on(async {
///     let tracker = TaskTracker::new();
///     let siblings = tracker.spawner();
///     tracker.spawn(async move {
///         siblings.spawn(async { println!("hello") });
///     });
///     tracker.wait_idle().await;
/// });
/// ```
#[derive(Clone)]
pub struct TrackerSpawner {
    tracker: Weak<Tracker>,
}

#[derive(Default)]
struct Tracker {
    running: Members<()>,
    /// An entry for each `wait_idle`, which is empty once it has been woken.
    waiters: RefCell<Slab<WakeTarget>>,
}

impl TaskTracker {
    /// Returns a tracker without tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// let tracker = soloist::task::TaskTracker::new();
    /// assert!(tracker.is_empty());
    /// ```
    pub fn new() -> TaskTracker {
        TaskTracker::default()
    }

    /// Spawns a task.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`TaskTracker`].
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.tracker.spawn(future);
    }

    /// Returns a handle with which tasks can spawn siblings.
    ///
    /// # Examples
    ///
    /// See [`TrackerSpawner`].
    pub fn spawner(&self) -> TrackerSpawner {
        TrackerSpawner {
            tracker: Rc::downgrade(&self.tracker),
        }
    }

    /// Returns the number of tasks that have not finished.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, task::TaskTracker};
    ///
    /// block_on(async {
    ///     let tracker = TaskTracker::new();
    ///     tracker.spawn(async {});
    ///     assert_eq!(tracker.len(), 1);
    ///     tracker.wait_idle().await;
    ///     assert_eq!(tracker.len(), 0);
    /// });
    /// ```
    pub fn len(&self) -> usize {
        self.tracker.running.len()
    }

    /// Returns whether all tasks have finished.
    ///
    /// # Examples
    ///
    /// See [`new`](TaskTracker::new).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until no task is left. The futures of all tasks have been dropped by then. Tasks that
    /// are spawned meanwhile are waited for, too.
    ///
    /// A task of the tracker that calls this waits for itself, for ever.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    ///
    /// # Examples
    ///
    /// See [`TaskTracker`].
    pub async fn wait_idle(&self) {
        let tracker = &*self.tracker;
        WaitIdle { tracker, key: None }.await;
    }

    /// Aborts all tasks: their futures are dropped in the next turn of the runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use soloist::{block_on, task::TaskTracker};
    ///
    /// block_on(async {
    ///     let tracker = TaskTracker::new();
    ///     tracker.spawn(pending());
    ///     tracker.abort_all();
    ///     tracker.wait_idle().await;
    /// });
    /// ```
    pub fn abort_all(&self) {
        self.tracker.running.abort_all();
    }
}

impl TrackerSpawner {
    /// Spawns a task into the tracker. If the tracker has been dropped, the future is dropped at
    /// once.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`TrackerSpawner`].
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        if let Some(tracker) = self.tracker.upgrade() {
            tracker.spawn(future);
        }
    }
}

impl Tracker {
    #[track_caller]
    fn spawn(self: &Rc<Self>, future: impl Future<Output = ()> + 'static) {
        let forget = |number| ForgetOnDrop {
            tracker: Rc::downgrade(self),
            number,
        };
        let number = self.running.spawn("`TaskTracker::spawn`", future, forget);
        // A runtime that is being dropped has cancelled the task before it was in the tracker.
        if self.running.get(number, Task::is_finished) == Some(true) {
            self.forget(number);
        }
    }

    /// The future of the task has been dropped.
    fn forget(&self, number: u64) {
        // What it panicked with is reported.
        if let Some(task) = self.running.remove(number) {
            task.detach();
        }
        if self.running.len() > 0 {
            return;
        }
        let mut waiters = Vec::new();
        for waiter in self.waiters.borrow_mut().iter_mut() {
            waiters.push(std::mem::take(waiter));
        }
        let mut panics = Panics::default();
        WakeTarget::wake_all(&mut waiters, &mut panics);
        panics.resume();
    }
}

/// Removes a task that has finished from its tracker.
struct ForgetOnDrop {
    tracker: Weak<Tracker>,
    number: u64,
}

impl Drop for ForgetOnDrop {
    fn drop(&mut self) {
        if let Some(tracker) = self.tracker.upgrade() {
            tracker.forget(self.number);
        }
    }
}

struct WaitIdle<'a> {
    tracker: &'a Tracker,
    /// Its entry in `waiters`.
    key: Option<usize>,
}

impl Future for WaitIdle<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        if self.tracker.running.len() == 0 {
            return Poll::Ready(());
        }
        let waiter = WakeTarget::new(cx.waker());
        let waiters = &self.tracker.waiters;
        let old = match self.key {
            Some(key) => std::mem::replace(&mut waiters.borrow_mut()[key], waiter),
            None => {
                self.key = Some(waiters.borrow_mut().insert(waiter));
                WakeTarget::default()
            }
        };
        drop(old);
        note(WaitReason::Group);
        Poll::Pending
    }
}

impl Drop for WaitIdle<'_> {
    fn drop(&mut self) {
        let waiter = self
            .key
            .and_then(|key| self.tracker.waiters.borrow_mut().remove(key));
        drop(waiter);
    }
}

impl fmt::Debug for TaskTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskTracker")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TrackerSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackerSpawner").finish_non_exhaustive()
    }
}
