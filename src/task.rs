//! Tasks: futures that run concurrently on one thread.
//!
//! [`spawn`] adds a future to the runtime's queue and returns a [`Task`], a handle to it. Await the
//! handle to get the output, [`detach`](Task::detach) it to let the task run in the background, or
//! drop it to cancel the task.
//!
//! # Ways to end a task
//!
//! | | when its future is dropped | from which thread | result |
//! |---|---|---|---|
//! | dropping the [`Task`] | at once; at the end of its poll if it is running | its own | none |
//! | [`cancel().await`](Task::cancel) | the same | its own | completes after the drop, with the output if the task had finished |
//! | [`abort`](Task::abort) | in the next turn of the runtime | its own; through an [`AbortHandle`] any | [`join`](Task::join) returns an error, `.await` panics |
//!
//! In each case the future is dropped at the `.await` at which it is suspended, and its destructors
//! run. They run inside the task's runtime, even if the handle is dropped outside of it. So they
//! can spawn, and use sockets and timers.
//!
//! A panic of a destructor counts as a panic of the task: [`join`](Task::join) returns it as an
//! error, `.await` and `cancel().await` resume it. If no handle is left, the panic is reported like
//! that of a [detached](Task::detach) task.
//!
//! # Spans
//!
//! With the feature `tracing`, each task has a span of the [`tracing`](https://docs.rs/tracing) crate:
//! `task`, at level `INFO` and with the target `soloist`. Its fields are the `id` of the task, its
//! `name` if it has one, and `spawned_at`, the place in the source. It is entered in each poll and
//! while the future is dropped, and closed after that. It has no parent: to keep the span of the
//! task that spawns, spawn `future.in_current_span()`. Without the feature this costs nothing.

mod abort;
mod group;
mod join_set;
mod local;
mod members;
mod tracker;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context as TaskContext, Poll};

pub use self::abort::AbortHandle;
pub(crate) use self::abort::RemoteControl;
pub use self::group::{Spawner, TaskGroup};
pub use self::join_set::JoinSet;
pub use self::local::{AccessError, LocalKey};
pub use self::tracker::{TaskTracker, TrackerSpawner};
use crate::executor::{self, OrphanedPanic};
pub use crate::hooks::TaskId;
use crate::panics::{Panics, Payload, discard};
use crate::task_cell::{JoinRef, LocalTask, Name, TaskLabel};

/// Spawns a task: a future that runs concurrently with the current one, on the same thread.
///
/// The task is added at the end of the queue, and is not polled before `spawn` returns. Neither the
/// future nor its output has to be `Send`. Dropping the [`Task`] cancels it.
///
/// # Panics
///
/// Panics outside of a runtime. Use [`Runtime::spawn`](crate::Runtime::spawn) there.
///
/// # Forgotten handles
///
/// A task whose handle is not used never runs, also not with `let _ = spawn(..)`, which drops the
/// handle at once. [`detach`](Task::detach) lets it run in the background.
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// soloist::block_on(async {
///     soloist::spawn(async { println!("never printed") });
/// });
/// ```
///
/// # Examples
///
/// ```
/// use soloist::{block_on, spawn};
///
/// block_on(async {
///     let a = spawn(async { 1 });
///     let b = spawn(async { 2 });
///     assert_eq!(a.await + b.await, 3);
/// });
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Builder::new().spawn(future)
}

/// A builder for a task, to give it a name.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, task};
///
/// block_on(async {
///     let task = task::Builder::new().name("fetch /index").spawn(async { panic!("no") });
///     let error = task.join().await.unwrap_err();
///     assert!(error.to_string().starts_with("task `fetch /index`"));
/// });
/// ```
#[derive(Debug, Default)]
#[must_use = "call `spawn` to run a future"]
pub struct Builder {
    name: Name,
}

impl Builder {
    /// Returns a builder for a task without a name. Errors call it by its number, such as
    /// `task-1`.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     assert_eq!(soloist::task::Builder::new().spawn(async { 1 }).await, 1);
    /// });
    /// ```
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Sets the name by which errors and reports call the task.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let task = soloist::task::Builder::new().name("sum").spawn(async { 1 + 1 });
    ///     assert_eq!(task.await, 2);
    /// });
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(Box::new(name.into().into_boxed_str()));
        self
    }

    /// Spawns the task, like the function [`spawn`].
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     soloist::task::Builder::new().name("log").spawn(async {}).detach();
    /// });
    /// ```
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let executor = executor::current("`spawn`");
        Task::new(executor.spawn(future, self.name, Location::caller()))
    }
}

/// A handle to a spawned task: a future of its output.
///
/// If the task panicked, `.await` resumes that panic. [`join`](Task::join) returns it as an error
/// instead.
///
/// Dropping the handle drops the task's future, inside the task's runtime. If the future's
/// destructor panics, the panic does not reach the code that drops the handle. It is reported like
/// that of a [detached](Task::detach) task.
///
/// # The output is not a `Result`
///
/// Unlike tokio's `JoinHandle`, the handle returns the output itself, so there is nothing to unwrap:
/// write `spawn(future).await`, not `spawn(future).await.unwrap()`. The counterpart of tokio's
/// `.await` is `.join().await`, whose error is a [`JoinError`].
///
/// # Other threads
///
/// The handle is not `Send`, because its task runs and is dropped on its own thread. If the compiler
/// says that `TaskStaysOnItsThread` cannot be sent between threads, a `Task` is held by something
/// that has to be `Send`. To spawn from another thread, or to wait there, use
/// [`Handle::spawn`](crate::Handle::spawn), whose [`RemoteTask`](crate::runtime::RemoteTask) is
/// `Send`.
///
/// ```compile_fail,E0277
/// soloist::block_on(async {
///     let task = soloist::spawn(async {});
///     std::thread::spawn(move || task.detach());
/// });
/// ```
///
/// # Panics
///
/// Awaiting it panics if the task was aborted, or if its runtime has been dropped. To receive an
/// error instead, use [`join`](Task::join) or [`join_mut`](Task::join_mut).
///
/// # Cancel safety
///
/// Dropping the handle cancels the task. To keep the task running, await `&mut task` or
/// [`task.join_mut()`](Task::join_mut): then nothing is lost.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, spawn};
///
/// let total: u32 = block_on(async {
///     let tasks: Vec<_> = (1..=4).map(|n| spawn(async move { n * n })).collect();
///     let mut total = 0;
///     for task in tasks {
///         total += task.await;
///     }
///     total
/// });
/// assert_eq!(total, 30);
/// ```
#[doc(alias = "JoinHandle")]
#[must_use = "dropping a task cancels it, and so does `let _ =`: call `.detach()` to let it run in \
              the background, or await it"]
pub struct Task<T> {
    /// Checked for `Send` before the other field, so that the compiler's message names this type.
    _not_send: PhantomData<*const TaskStaysOnItsThread>,
    /// `None` after `detach`.
    raw: Option<JoinRef<T>>,
}

/// Named by the compiler when a [`Task`] is sent to another thread.
struct TaskStaysOnItsThread;

impl<T> Task<T> {
    pub(crate) fn new(raw: JoinRef<T>) -> Task<T> {
        Task {
            _not_send: PhantomData,
            raw: Some(raw),
        }
    }

    #[inline]
    fn raw(&self) -> &JoinRef<T> {
        self.raw.as_ref().expect("`detach` takes the task")
    }

    /// Drops the handle without cancelling the task, which runs in the background.
    ///
    /// If the task panics, the panic hook reports it, and a line on standard error names the task.
    /// The other tasks continue; to change that, see
    /// [`propagate_panics`](crate::runtime::Builder::propagate_panics). The same holds for a panic
    /// of the future's destructor when the task is aborted.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, spawn, task::yield_now};
    ///
    /// block_on(async {
    ///     spawn(async { println!("in the background") }).detach();
    ///     yield_now().await;
    /// });
    /// ```
    pub fn detach(mut self) {
        let Some(raw) = self.raw.take() else { return };
        if let Some(payload) = raw.release() {
            orphaned(&raw.task(), payload);
        }
    }

    /// Cancels the task: its future is dropped now, or at the end of its poll if it is running.
    /// The returned future completes after the drop, with the output if the task had finished.
    ///
    /// The task's future is dropped inside the task's runtime, even if `cancel` is called
    /// outside of it.
    ///
    /// # Panics
    ///
    /// Awaiting the returned future resumes the panic of the task or of its future's destructor,
    /// if there was one. If it is not awaited, a panic of the destructor is reported like that of
    /// a [detached](Task::detach) task.
    ///
    /// # Cancel safety
    ///
    /// The task is cancelled in any case, even if the returned future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, spawn, task::yield_now};
    ///
    /// block_on(async {
    ///     let endless = spawn(std::future::pending::<()>());
    ///     assert_eq!(endless.cancel().await, None);
    ///
    ///     let quick = spawn(async { 5 });
    ///     yield_now().await;
    ///     assert_eq!(quick.cancel().await, Some(5));
    /// });
    /// ```
    pub fn cancel(self) -> impl Future<Output = Option<T>> {
        self.cancel_now();
        Cancel { task: self }
    }

    /// Waits for the task, and returns its output.
    ///
    /// # Errors
    ///
    /// Returns an error if the task panicked or was aborted, or if its runtime has been dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the task.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, spawn};
    ///
    /// let error = block_on(spawn_and_join()).unwrap_err();
    /// assert!(error.is_panic());
    ///
    /// async fn spawn_and_join() -> Result<(), soloist::task::JoinError> {
    ///     spawn(async { panic!("oh no") }).join().await
    /// }
    /// ```
    pub fn join(self) -> impl Future<Output = Result<T, JoinError>> {
        Join { task: self }
    }

    /// Waits for the task, and returns its output. Unlike [`join`](Task::join), it keeps the handle.
    ///
    /// Once the result has been returned, further joins say that the task was cancelled.
    ///
    /// # Errors
    ///
    /// The same as for [`join`](Task::join).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not cancel the task, and no result is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{future::pending, time::Duration};
    /// use soloist::{block_on, spawn, time::timeout};
    ///
    /// block_on(async {
    ///     let mut task = spawn(pending::<()>());
    ///     if timeout(Duration::from_millis(1), task.join_mut()).await.is_err() {
    ///         task.abort();
    ///     }
    ///     assert!(task.join_mut().await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn join_mut(&mut self) -> impl Future<Output = Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join(cx))
    }

    /// Aborts the task: its future is dropped in the next turn of the runtime, and
    /// [`join`](Task::join) returns an error. If the task has already finished, this does nothing.
    ///
    /// Awaiting a task that was aborted panics. Use `join` or [`join_mut`](Task::join_mut).
    ///
    /// # Examples
    ///
    /// See [`join_mut`](Task::join_mut).
    pub fn abort(&self) {
        self.raw().abort();
    }

    /// Returns whether the task has finished, panicked or been cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{block_on, spawn, task::yield_now};
    ///
    /// block_on(async {
    ///     let task = spawn(async { 1 });
    ///     assert!(!task.is_finished());
    ///     yield_now().await;
    ///     assert!(task.is_finished());
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.raw().is_over()
    }

    /// Returns the number of the task. The first task that a runtime spawns has number 1.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let task = soloist::spawn(async {});
    ///     assert_eq!(task.id().to_string(), "1");
    /// });
    /// ```
    pub fn id(&self) -> TaskId {
        TaskId::new(self.raw().number())
    }

    /// Returns a handle that can abort the task from any thread.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let task = soloist::spawn(std::future::pending::<()>());
    ///     let handle = task.abort_handle();
    ///     std::thread::spawn(move || handle.abort());
    ///     assert!(task.join().await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle::of_task(self.raw().to_shared())
    }

    /// Drops the future now, or at the end of its poll if it is running.
    fn cancel_now(&self) {
        let task = self.raw().task();
        if let Some(payload) = executor::cancel(&task) {
            orphaned(&task, payload);
        }
    }

    fn poll_join(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<T, JoinError>> {
        let polled = self.raw().poll(cx);
        polled.map_err(|payload| JoinError::new(self.raw().label(), payload))
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<T> {
        self.raw().poll(cx).map(|result| match result {
            Ok(output) => output,
            Err(Some(payload)) => resume_unwind(payload),
            Err(None) => panic_without_output(&self.raw().label(), self.raw().was_cancelled()),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // Usually the output has been taken, and nothing is left to do.
        if let Some(raw) = self.raw.as_ref().filter(|raw| !raw.is_spent()) {
            let mut panics = Panics::default();
            // The output is released first, so that the task knows that it is no longer needed.
            // The task is cancelled even if dropping the waker panics.
            panics.catch(|| match raw.release() {
                // The destructor of a cancelled task panicked, which has not been reported yet.
                Some(payload) if raw.was_cancelled() => orphaned(&raw.task(), payload),
                unwanted => discard(unwanted),
            });
            panics.catch(|| self.cancel_now());
            panics.resume();
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.raw().number())
            .field("is_finished", &self.raw().is_over())
            .finish_non_exhaustive()
    }
}

struct Join<T> {
    task: Task<T>,
}

impl<T> Future for Join<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.task.poll_join(cx)
    }
}

struct Cancel<T> {
    task: Task<T>,
}

impl<T> Future for Cancel<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<T>> {
        self.task.poll_join(cx).map(|result| match result {
            Ok(output) => Some(output),
            Err(error) => match error.try_into_panic() {
                Ok(payload) => resume_unwind(payload),
                Err(_) => None,
            },
        })
    }
}

/// Reports the panic of a task that no handle is left to.
#[cold]
fn orphaned(task: &LocalTask, payload: Payload) {
    OrphanedPanic::new(task.label(), payload).send(task.remote_executor());
}

#[cold]
fn panic_without_output(task: &TaskLabel, was_cancelled: bool) -> ! {
    let how = if was_cancelled {
        "cancelled"
    } else {
        "awaited twice"
    };
    panic!("{task} was {how}: `join().await` and `join_mut().await` return an error instead");
}

/// The error of a task without an output: it panicked, or it was cancelled.
///
/// The text names the task and the place where it was spawned.
///
/// # Examples
///
/// ```
/// soloist::block_on(async {
///     let error = soloist::spawn(async { panic!("out of ink") }).join().await.unwrap_err();
///     assert!(error.to_string().ends_with("panicked: out of ink"));
/// });
/// ```
pub struct JoinError {
    label: TaskLabel,
    /// `None` if the task was cancelled. The mutex makes it `Sync`, which payloads do not have to be.
    payload: Option<Mutex<Payload>>,
}

impl JoinError {
    /// The task has panicked with `payload`, or was cancelled.
    pub(crate) fn new(label: TaskLabel, payload: Option<Payload>) -> JoinError {
        let payload = payload.map(Mutex::new);
        JoinError { label, payload }
    }

    pub(crate) fn label(&self) -> &TaskLabel {
        &self.label
    }

    /// The panic, if the task has panicked.
    pub(crate) fn into_orphan(self) -> Option<OrphanedPanic> {
        let label = self.label.clone();
        let payload = self.try_into_panic().ok()?;
        Some(OrphanedPanic::new(label, payload))
    }

    /// Returns whether the task was cancelled or aborted, or its runtime was dropped, without a
    /// panic of its destructors.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// let task = runtime.spawn(async {});
    /// drop(runtime);
    /// assert!(soloist::block_on(task.join()).unwrap_err().is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.payload.is_none()
    }

    /// Returns whether the task panicked, in a poll or in a destructor of its future.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let error = soloist::spawn(async { panic!("no") }).join().await.unwrap_err();
    ///     assert!(error.is_panic());
    /// });
    /// ```
    pub fn is_panic(&self) -> bool {
        self.payload.is_some()
    }

    /// Returns the payload of the task's panic, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// Panics if the task did not panic. Check [`is_panic`](JoinError::is_panic) first, or use
    /// [`try_into_panic`](JoinError::try_into_panic).
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let error = soloist::spawn(async { panic!("no") }).join().await.unwrap_err();
    ///     assert_eq!(error.into_panic().downcast_ref(), Some(&"no"));
    /// });
    /// ```
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn std::any::Any + Send + 'static> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("`into_panic` on another error: {error}"),
        }
    }

    /// Returns the payload of the task's panic.
    ///
    /// # Errors
    ///
    /// Returns the error itself if the task did not panic.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let task = soloist::spawn(std::future::pending::<()>());
    ///     task.abort_handle().abort();
    ///     let error = task.join().await.unwrap_err();
    ///     assert!(error.try_into_panic().is_err());
    /// });
    /// ```
    pub fn try_into_panic(self) -> Result<Box<dyn std::any::Any + Send + 'static>, JoinError> {
        match self.payload {
            Some(payload) => Ok(payload
                .into_inner()
                .unwrap_or_else(|poisoned| poisoned.into_inner())),
            None => Err(self),
        }
    }

    /// Returns the number of the task, or `None` if it was cancelled before it started.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let task = soloist::spawn(async { panic!("no") });
    ///     let id = task.id();
    ///     assert_eq!(task.join().await.map_err(|error| error.id()), Err::<(), _>(Some(id)));
    /// });
    /// ```
    pub fn id(&self) -> Option<TaskId> {
        (self.label.number > 0).then_some(TaskId::new(self.label.number))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.label.fmt(f)?;
        let Some(payload) = &self.payload else {
            return f.write_str(" was cancelled");
        };
        f.write_str(" panicked")?;
        let payload = payload
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        match message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error)
    }
}

/// Yields to the other tasks: those that are ready, and those whose sockets and timers the runtime
/// finds ready after them.
///
/// A long computation can call this from time to time. The runtime polls the sockets after one
/// millisecond or 128 polls of tasks, as described in [`runtime`](crate::runtime).
///
/// # Cancel safety
///
/// Nothing is lost.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, spawn, task::yield_now};
///
/// block_on(async {
///     let task = spawn(async {});
///     yield_now().await;
///     assert!(task.is_finished());
/// });
/// ```
pub fn yield_now() -> impl Future<Output = ()> {
    YieldNow { yielded: false }
}

struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        if !executor::yield_polled(cx.waker()) {
            // A waker of a combinator, which wakes its task in its own way.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
