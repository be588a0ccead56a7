//! Groups of tasks, in which the first failure cancels the rest.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context as TaskContext, Poll, ready};

use pin_project_lite::pin_project;

use super::members::cancel;
use super::{JoinError, JoinSet};
use crate::executor::OrphanedPanic;
use crate::panics::Panics;

/// A group of tasks that succeed or fail together.
///
/// When a task returns an error or panics, all other tasks of the group are cancelled at once,
/// even if no task waits for the group. Results of tasks that had finished before can still be
/// received with [`next`](TaskGroup::next). If the destructor of a cancelled task panics, the panic
/// is reported like that of a [detached](super::Task::detach) task.
///
/// Dropping the group cancels all its tasks, so no task outlives the group.
///
/// The results of finished tasks are kept until they are received. For tasks that come and go as
/// long as a server runs, use a [`TaskTracker`](super::TaskTracker), which keeps none, and for tasks
/// that do not depend on each other, a [`JoinSet`].
///
/// A task can spawn siblings through a [`Spawner`].
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task::TaskGroup};
///
/// let sum: Result<u32, std::num::ParseIntError> = block_on(async {
///     let group = TaskGroup::new();
///     for text in ["1", "2", "3"] {
///         group.spawn(async move { text.parse::<u32>() });
///     }
///     Ok(group.join_all().await?.into_iter().sum())
/// });
/// assert_eq!(sum, Ok(6));
/// ```
pub struct TaskGroup<T, E> {
    group: Rc<Group<T, E>>,
}

/// Spawns tasks into a [`TaskGroup`], from any task on its thread.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task::TaskGroup};
///
/// block_on(async {
///     let group = TaskGroup::<u32, ()>::new();
///     let siblings = group.spawner();
///     group.spawn(async move {
///         siblings.spawn(async { Ok(2) });
///         Ok(1)
///     });
///     assert_eq!(group.join_all().await, Ok(vec![1, 2]));
/// });
/// ```
pub struct Spawner<T, E> {
    group: Rc<Group<T, E>>,
}

struct Group<T, E> {
    set: JoinSet<Result<T, E>>,
    /// Set by the first failure, and when the group is dropped. No task is spawned after that.
    is_closed: Cell<bool>,
}

impl<T: 'static, E: 'static> TaskGroup<T, E> {
    /// Returns a group without tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// let group = soloist::task::TaskGroup::<(), ()>::new();
    /// assert!(group.is_empty());
    /// ```
    pub fn new() -> TaskGroup<T, E> {
        TaskGroup {
            group: Rc::new(Group {
                set: JoinSet::new(),
                is_closed: Cell::new(false),
            }),
        }
    }

    /// Spawns a task into the group. After a failure of the group, the future is dropped at once.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`TaskGroup`].
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = Result<T, E>> + 'static) {
        self.group.spawn(future);
    }

    /// Returns a handle with which tasks can spawn siblings.
    ///
    /// # Examples
    ///
    /// See [`Spawner`].
    pub fn spawner(&self) -> Spawner<T, E> {
        let group = self.group.clone();
        Spawner { group }
    }

    /// Returns the number of tasks in the group: those whose result has not been received.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, task::TaskGroup};
    ///
    /// block_on(async {
    ///     let mut group = TaskGroup::<u32, ()>::new();
    ///     group.spawn(async { Ok(1) });
    ///     assert_eq!(group.len(), 1);
    ///     assert_eq!(group.next().await, Some(Ok(1)));
    ///     assert_eq!(group.len(), 0);
    /// });
    /// ```
    pub fn len(&self) -> usize {
        self.group.set.len()
    }

    /// Returns whether the group has no tasks.
    ///
    /// # Examples
    ///
    /// See [`new`](TaskGroup::new).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the next task to finish, and returns its result. Returns `None` if the group has
    /// no tasks.
    ///
    /// Results are returned in the order in which the tasks finish. Before the first error is
    /// returned, all other tasks have been cancelled and dropped.
    ///
    /// # Panics
    ///
    /// Resumes the panic of a task, which has cancelled the others. Also panics if a task was
    /// cancelled because its runtime was dropped. The results of the other tasks are left for the
    /// next call.
    ///
    /// # Cancel safety
    ///
    /// No result is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{block_on, task::TaskGroup, time::sleep};
    ///
    /// block_on(async {
    ///     let mut group = TaskGroup::<&str, ()>::new();
    ///     group.spawn(async {
    ///         sleep(Duration::from_millis(5)).await;
    ///         Ok("slow")
    ///     });
    ///     group.spawn(async { Ok("quick") });
    ///     assert_eq!(group.next().await, Some(Ok("quick")));
    ///     assert_eq!(group.next().await, Some(Ok("slow")));
    ///     assert_eq!(group.next().await, None);
    /// });
    /// ```
    pub async fn next(&mut self) -> Option<Result<T, E>> {
        let next = poll_fn(|cx| self.group.poll_next(cx)).await;
        next.map(|(_, result)| result)
    }

    /// Waits for all tasks, and returns their outputs in the order in which the tasks were spawned.
    ///
    /// # Errors
    ///
    /// Returns the first error of a task. All other tasks have been cancelled and dropped before.
    ///
    /// # Panics
    ///
    /// Resumes the panic of a task, which has cancelled the others. Also panics if a task was
    /// cancelled because its runtime was dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels all tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use soloist::{block_on, task::TaskGroup};
    ///
    /// block_on(async {
    ///     let group = TaskGroup::<(), &str>::new();
    ///     group.spawn(pending());
    ///     group.spawn(async { Err("no such page") });
    ///     assert_eq!(group.join_all().await, Err("no such page"));
    /// });
    /// ```
    pub async fn join_all(self) -> Result<Vec<T>, E> {
        let group = &self.group;
        let mut outputs = BTreeMap::new();
        while let Some((number, result)) = poll_fn(|cx| group.poll_next(cx)).await {
            outputs.insert(number, result?);
        }
        Ok(outputs.into_values().collect())
    }

    /// Cancels all tasks, and waits until they have been dropped.
    ///
    /// # Panics
    ///
    /// Resumes the first panic of a task or its destructor, after all tasks have been dropped.
    /// Further panics are reported like those of [detached](super::Task::detach) tasks.
    ///
    /// # Cancel safety
    ///
    /// The tasks are cancelled by the first poll. If the future is dropped before that, the group
    /// is dropped with it, which also cancels them.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use soloist::{block_on, task::TaskGroup};
    ///
    /// block_on(async {
    ///     let group = TaskGroup::<(), ()>::new();
    ///     group.spawn(pending());
    ///     group.cancel().await;
    /// });
    /// ```
    pub async fn cancel(self) {
        self.group.is_closed.set(true);
        let tasks: Vec<_> = self.group.set.members().take().collect();
        // All are cancelled before the first wait, since the caller may be one of the tasks.
        for (_, task) in &tasks {
            task.cancel_now();
        }
        let mut first = None;
        for (_, mut task) in tasks {
            let Err(error) = poll_fn(|cx| task.poll_join(cx)).await else {
                continue;
            };
            // All panics but the first are reported.
            let panic = error.into_orphan();
            if first.is_none() {
                first = panic;
            }
        }
        if let Some(payload) = first.and_then(OrphanedPanic::take) {
            resume_unwind(payload);
        }
    }
}

impl<T: 'static, E: 'static> Default for TaskGroup<T, E> {
    fn default() -> Self {
        TaskGroup::new()
    }
}

impl<T, E> Drop for TaskGroup<T, E> {
    fn drop(&mut self) {
        self.group.is_closed.set(true);
        let mut panics = Panics::default();
        self.group.set.members().cancel_all(&mut panics);
        panics.resume();
    }
}

impl<T: 'static, E: 'static> Spawner<T, E> {
    /// Spawns a task into the group. After a failure of the group, or when it has been dropped, the
    /// future is dropped at once.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`Spawner`].
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = Result<T, E>> + 'static) {
        self.group.spawn(future);
    }
}

impl<T, E> Clone for Spawner<T, E> {
    fn clone(&self) -> Self {
        Spawner {
            group: self.group.clone(),
        }
    }
}

impl<T: 'static, E: 'static> Group<T, E> {
    #[track_caller]
    fn spawn(self: &Rc<Self>, future: impl Future<Output = Result<T, E>> + 'static) {
        if self.is_closed.get() {
            drop(future);
            return;
        }
        let child = Member {
            future: Some(future),
            group: Rc::downgrade(self),
            number: self.set.members().next_number(),
        };
        self.set.spawn_numbered("`TaskGroup::spawn`", child);
    }
}

impl<T, E> Group<T, E> {
    fn poll_next(&self, cx: &mut TaskContext<'_>) -> Poll<Option<(u64, Result<T, E>)>> {
        let Some((number, result)) = ready!(self.set.poll_join_next(cx)) else {
            return Poll::Ready(None);
        };
        match result.map_err(JoinError::try_into_panic) {
            Ok(result) => Poll::Ready(Some((number, result))),
            Err(Ok(payload)) => resume_unwind(payload),
            // A task that is cancelled for another reason is not in the group.
            Err(Err(error)) => panic!(
                "{} of a `TaskGroup` was cancelled, because its runtime is gone: take the results \
                 while it runs",
                error.label()
            ),
        }
    }

    /// Cancels the tasks that have not finished, except for the one that has failed, which is in
    /// its last poll.
    fn fail(&self, failed: u64, panics: &mut Panics) {
        if self.is_closed.replace(true) {
            // The task is being cancelled itself.
            return;
        }
        let mut cancelled = Vec::new();
        for (number, task) in self.set.members().take() {
            if number == failed || task.is_finished() {
                self.set.members().insert(number, task);
            } else {
                cancelled.push(task);
            }
        }
        cancel(cancelled.into_iter(), panics);
    }
}

pin_project! {
    /// The future of a task of the group. Its failure cancels the others.
    struct Member<F, T, E> {
        // `None` once it is dropped.
        #[pin]
        future: Option<F>,
        // Weak, since the group owns the task, and with it this future.
        group: Weak<Group<T, E>>,
        number: u64,
    }

    impl<F, T, E> PinnedDrop for Member<F, T, E> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let mut panics = Panics::default();
            panics.catch(|| this.future.set(None));
            if !panics.is_empty() {
                fail(this.group, *this.number, &mut panics);
            }
            panics.resume();
        }
    }
}

fn fail<T, E>(group: &Weak<Group<T, E>>, failed: u64, panics: &mut Panics) {
    if let Some(group) = group.upgrade() {
        group.fail(failed, panics);
    }
}

impl<F, T, E> Future for Member<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("it is not dropped yet");
        let mut panics = Panics::default();
        let mut polled = None;
        panics.catch(|| polled = Some(future.poll(cx)));
        if !matches!(polled, Some(Poll::Pending | Poll::Ready(Ok(_)))) {
            fail(this.group, *this.number, &mut panics);
            panics.resume();
        }
        polled.expect("a panic has been resumed")
    }
}

impl<T, E> fmt::Debug for TaskGroup<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("len", &self.group.set.len())
            .finish_non_exhaustive()
    }
}

impl<T, E> fmt::Debug for Spawner<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").finish_non_exhaustive()
    }
}
