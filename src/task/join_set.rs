//! Sets of independent tasks. `TaskGroup` is built on them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};

use futures_lite::Stream;

use super::members::Members;
use super::{AbortHandle, JoinError, Task};
use crate::hooks::WaitReason;
use crate::panics::Panics;
use crate::task_cell::{WakeTarget, note};

/// A set of independent tasks, whose results are received in the order in which the tasks finish.
///
/// The set is a [`Stream`] of results. A task that fails, panics or is aborted does not affect the
/// others. For tasks that succeed or fail together, see [`TaskGroup`](super::TaskGroup).
///
/// The results of finished tasks are kept until they are received. A server that does not need
/// them uses a [`TaskTracker`](super::TaskTracker).
///
/// Dropping the set cancels all its tasks. If the destructor of a cancelled task panics, the panic
/// is reported like that of a [detached](Task::detach) task.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task::JoinSet};
///
/// block_on(async {
///     let mut set = JoinSet::new();
///     for n in 1..=3 {
///         set.spawn(async move {
///             assert_ne!(n, 2, "an odd number");
///             n
///         });
///     }
///     let mut sum = 0;
///     while let Some(result) = set.join_next().await {
///         match result {
///             Ok(n) => sum += n,
///             Err(error) => println!("{error}"),
///         }
///     }
///     assert_eq!(sum, 4);
/// });
/// ```
pub struct JoinSet<T> {
    /// The tasks whose result has not been taken.
    members: Members<T>,
    finished: Rc<Finished>,
}

/// The numbers of tasks that have finished.
#[derive(Default)]
struct Finished {
    numbers: RefCell<VecDeque<u64>>,
    /// Waits for the next one.
    waiter: Cell<WakeTarget>,
}

impl<T: 'static> JoinSet<T> {
    /// Returns a set without tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// let set = soloist::task::JoinSet::<()>::new();
    /// assert!(set.is_empty());
    /// ```
    pub fn new() -> JoinSet<T> {
        JoinSet {
            members: Members::default(),
            finished: Rc::default(),
        }
    }

    /// Spawns a task into the set. The returned handle can abort it.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use soloist::{block_on, task::JoinSet};
    ///
    /// block_on(async {
    ///     let mut set = JoinSet::<()>::new();
    ///     let handle = set.spawn(pending());
    ///     handle.abort();
    ///     let error = set.join_next().await.unwrap().unwrap_err();
    ///     assert!(error.is_cancelled());
    ///     assert_eq!(error.id(), Some(handle.id()));
    /// });
    /// ```
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = T> + 'static) -> AbortHandle {
        let number = self.spawn_numbered("`JoinSet::spawn`", future);
        let handle = self.members.get(number, Task::abort_handle);
        handle.expect("it has just been spawned")
    }

    /// As [`spawn`](JoinSet::spawn), and returns the number of the task in the set. `what` names the
    /// function for panics.
    #[track_caller]
    pub(super) fn spawn_numbered(
        &self,
        what: &str,
        future: impl Future<Output = T> + 'static,
    ) -> u64 {
        let notify = |number| NotifyOnDrop {
            finished: self.finished.clone(),
            number,
        };
        self.members.spawn(what, future, notify)
    }

    /// Waits for the next task to finish, and returns its result. Returns `None` if the set has no
    /// tasks.
    ///
    /// # Errors
    ///
    /// Returns an error for a task that panicked or was aborted, or whose runtime was dropped.
    ///
    /// # Cancel safety
    ///
    /// No result is lost.
    ///
    /// # Examples
    ///
    /// See [`JoinSet`].
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        let next = poll_fn(|cx| self.poll_join_next(cx)).await;
        next.map(|(_, result)| result)
    }

    /// Returns the result of the next task that has finished, or `None` if none has. It does not
    /// wait.
    ///
    /// # Errors
    ///
    /// The same as for [`join_next`](JoinSet::join_next).
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, task::{JoinSet, yield_now}};
    ///
    /// block_on(async {
    ///     let mut set = JoinSet::new();
    ///     set.spawn(async { 1 });
    ///     assert!(set.try_join_next().is_none());
    ///     yield_now().await;
    ///     assert_eq!(set.try_join_next().unwrap().unwrap(), 1);
    /// });
    /// ```
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let (number, mut task) = self.pop_finished()?;
        // Its future may be in the middle of being dropped. It is not polled then, which would
        // replace the waker of an earlier poll.
        if task.is_finished() {
            if let Poll::Ready(result) = task.poll_join(&mut TaskContext::from_waker(Waker::noop()))
            {
                return Some(result);
            }
        }
        self.put_back(number, task);
        None
    }

    /// Aborts all tasks: their futures are dropped in the next turn of the runtime. Their results
    /// are errors for which [`is_cancelled`](JoinError::is_cancelled) is true. Tasks that have
    /// finished keep their results.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use soloist::{block_on, task::JoinSet};
    ///
    /// block_on(async {
    ///     let mut set = JoinSet::<()>::new();
    ///     set.spawn(pending());
    ///     set.abort_all();
    ///     assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn abort_all(&self) {
        self.members.abort_all();
    }

    /// Aborts all tasks, and waits until they have been dropped. All results are dropped, too.
    ///
    /// # Cancel safety
    ///
    /// The first poll aborts the tasks. They stay in the set until they have been waited for.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use soloist::{block_on, task::JoinSet};
    ///
    /// block_on(async {
    ///     let mut set = JoinSet::<()>::new();
    ///     set.spawn(pending());
    ///     set.shutdown().await;
    ///     assert!(set.is_empty());
    /// });
    /// ```
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    /// Removes all tasks from the set without cancelling them, as [`Task::detach`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, task::JoinSet};
    ///
    /// block_on(async {
    ///     let mut set = JoinSet::new();
    ///     set.spawn(async { println!("in the background") });
    ///     set.detach_all();
    ///     assert!(set.is_empty());
    /// });
    /// ```
    pub fn detach_all(&mut self) {
        // What is detached now does not report its end to this set any more.
        let waiter = self.finished.waiter.take();
        self.finished = Rc::default();
        self.finished.waiter.set(waiter);
        for (_, task) in self.members.take() {
            task.detach();
        }
    }
}

impl<T> JoinSet<T> {
    /// Returns the number of tasks in the set: those whose result has not been received.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, task::JoinSet};
    ///
    /// block_on(async {
    ///     let mut set = JoinSet::new();
    ///     set.spawn(async {});
    ///     assert_eq!(set.len(), 1);
    ///     set.join_next().await;
    ///     assert_eq!(set.len(), 0);
    /// });
    /// ```
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether the set has no tasks.
    ///
    /// # Examples
    ///
    /// See [`new`](JoinSet::new).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn members(&self) -> &Members<T> {
        &self.members
    }

    /// As [`join_next`](JoinSet::join_next), with the number of the task.
    pub(super) fn poll_join_next(
        &self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<(u64, Result<T, JoinError>)>> {
        if let Some((number, mut task)) = self.pop_finished() {
            if let Poll::Ready(result) = task.poll_join(cx) {
                return Poll::Ready(Some((number, result)));
            }
            // Its future is being dropped now. `poll_join` has registered the waker.
            self.put_back(number, task);
            return Poll::Pending;
        }
        if self.is_empty() {
            return Poll::Ready(None);
        }
        // The old waker is dropped while the cell is empty, since its destructor may be user code.
        drop(self.finished.waiter.take());
        let waiter = WakeTarget::new(cx.waker());
        drop(self.finished.waiter.replace(waiter));
        note(WaitReason::Group);
        Poll::Pending
    }

    fn pop_finished(&self) -> Option<(u64, Task<T>)> {
        loop {
            let number = self.finished.numbers.borrow_mut().pop_front()?;
            // A task that was cancelled by the set itself is not in it any more.
            if let Some(task) = self.members.remove(number) {
                return Some((number, task));
            }
        }
    }

    fn put_back(&self, number: u64, task: Task<T>) {
        self.members.insert(number, task);
        self.finished.numbers.borrow_mut().push_back(number);
    }
}

impl<T: 'static> Default for JoinSet<T> {
    fn default() -> Self {
        JoinSet::new()
    }
}

impl<T> Stream for JoinSet<T> {
    type Item = Result<T, JoinError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let next = self.poll_join_next(cx);
        next.map(|next| next.map(|(_, result)| result))
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Reports that a task has finished.
struct NotifyOnDrop {
    finished: Rc<Finished>,
    number: u64,
}

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.finished.numbers.borrow_mut().push_back(self.number);
        let waiter = self.finished.waiter.take();
        // The thread may be unwinding from the destructor of the future.
        let mut panics = Panics::default();
        panics.catch(|| waiter.wake());
        panics.resume();
    }
}
