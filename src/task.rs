//! Tasks: futures that run beside each other on one thread.
//!
//! [`spawn`] puts a future on the runtime's queue and returns a [`Task`], the handle
//! to its output. Await it to get the output, [`detach`](Task::detach) it to let it
//! run on by itself, drop it to cancel it.
//!
//! # Ways to end a task
//!
//! | | when its future is dropped | from where | what one hears of it |
//! |---|---|---|---|
//! | dropping the [`Task`] | at once; at the end of its poll if it is running | its thread | nothing |
//! | [`cancel().await`](Task::cancel) | the same | its thread | resolves after the drop, with the output if it had finished |
//! | [`AbortHandle::abort`] | when the runtime next turns | anywhere | [`join`](Task::join) returns an error, `.await` panics |
//!
//! In each case the future's destructors run, at the `.await` where it waits. They run inside
//! of the task's runtime, also if the handle is dropped outside of it, so they may spawn and
//! use sockets and timers.
//!
//! If a destructor panics, that is the task's panic: [`join`](Task::join) returns it as an
//! error, `.await` and `cancel().await` resume it. If nobody can await the task any more, the
//! panic is reported as that of a [detached](Task::detach) task.

mod group;
mod local;

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context as TaskContext, Poll};

pub use self::group::{Spawner, TaskGroup};
pub use self::local::LocalKey;
use crate::executor;
pub use crate::hooks::TaskId;
use crate::panics::{Panics, Payload, discard};
use crate::task_cell::{Failure, JoinRef, Name, SharedTask, TaskLabel};

/// Runs a future beside the one that calls this, on the same thread.
///
/// It is put at the end of the queue, and never polled in here. Nothing needs to be
/// `Send`. Dropping the [`Task`] cancels it.
///
/// # Panics
///
/// Outside of a runtime. Use [`Runtime::spawn`](crate::Runtime::spawn) there.
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

/// Gives a task a name before it is spawned.
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
    /// A task without a name of its own: it goes by its number, as `task-1`.
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

    /// The name under which the task appears in errors.
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

    /// Spawns as [`spawn`] does.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
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

/// The handle to a spawned task: a future of its output.
///
/// If the task panicked, `.await` goes on with that panic; [`join`](Task::join) returns
/// it as an error instead.
///
/// Dropping it drops the task's future, inside of the task's runtime. A panic of the future's
/// destructor does not go through to the code that drops the handle: it is reported as that of a
/// [detached](Task::detach) task.
///
/// # Panics
///
/// Awaiting it panics if the task was aborted, or its runtime is gone.
///
/// # Cancel safety
///
/// Dropping the handle cancels the task. To keep the task, await `&mut task`: then
/// nothing is lost.
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
#[must_use = "dropping a task cancels it: await it, or call `detach`"]
pub struct Task<T> {
    /// Until it is detached.
    raw: Option<JoinRef<T>>,
}

impl<T> Task<T> {
    pub(crate) fn new(raw: JoinRef<T>) -> Task<T> {
        Task { raw: Some(raw) }
    }

    #[inline]
    fn raw(&self) -> &JoinRef<T> {
        self.raw.as_ref().expect("`detach` takes the task")
    }

    /// Lets the task run on with nobody to await it.
    ///
    /// If it panics, the panic hook reports it, a line on standard error names the
    /// task, and the others run on; see
    /// [`propagate_panics`](crate::runtime::Builder::propagate_panics). So it is also if a
    /// destructor of its future panics when the task is aborted.
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
            orphaned(&raw, payload);
        }
    }

    /// Cancels the task: its future is dropped now, or at the end of its poll if it is
    /// the one running. The future that this returns resolves after the drop, with the
    /// output if the task had finished.
    ///
    /// The future is dropped inside of the task's runtime, also if this is called outside of
    /// it.
    ///
    /// # Panics
    ///
    /// Awaiting it panics with the panic of the task, if the task panicked, or if a destructor
    /// of its future did. If it is not awaited, the panic of the destructor is reported as for
    /// a [detached](Task::detach) task.
    ///
    /// # Cancel safety
    ///
    /// The task is cancelled in any case; dropping the future only means not to wait
    /// for the end.
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

    /// The output, or why there is none.
    ///
    /// # Errors
    ///
    /// If the task panicked, was aborted, or its runtime is gone.
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

    /// Whether the task is over: finished, panicked or cancelled.
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

    /// The task's number: 1 for the first that a runtime spawns.
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

    /// A handle that can end the task from anywhere.
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
        AbortHandle {
            raw: self.raw().remote(),
        }
    }

    /// Drops the future, or has it dropped.
    fn cancel_now(&self) {
        let raw = self.raw();
        if let Some(payload) = executor::cancel(&raw.task()) {
            orphaned(raw, payload);
        }
    }

    fn poll_join(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<T, JoinError>> {
        self.raw().poll(cx).map(|result| {
            result.map_err(|failure| match failure {
                Failure::Cancelled => JoinError::cancelled(self.raw().label()),
                Failure::Panicked(payload) => JoinError::panicked(self.raw().label(), payload),
            })
        })
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<T> {
        self.raw().poll(cx).map(|result| match result {
            Ok(output) => output,
            Err(Failure::Panicked(payload)) => resume_unwind(payload),
            Err(Failure::Cancelled) => panic!(
                "{} was cancelled, or awaited twice: `join().await` returns an error instead",
                self.raw().label()
            ),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // The usual case first: its output has been taken.
        if let Some(raw) = self.raw.as_ref().filter(|raw| !raw.is_spent()) {
            let mut panics = Panics::default();
            // The output first: a cancelled task must find that nobody wants it. A waker
            // that panics does not save the task.
            panics.catch(|| match raw.release() {
                // Nobody could hear of this before: it has ended with its future.
                Some(payload) if raw.was_cancelled() => orphaned(raw, payload),
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

/// The task has panicked, and its handle goes.
#[cold]
fn orphaned<T>(raw: &JoinRef<T>, payload: Payload) {
    executor::orphaned(
        raw.task().remote_executor(),
        raw.label().to_string(),
        payload,
    );
}

/// Ends a task from anywhere: it marks the task and wakes it, no more.
///
/// # Examples
///
/// ```
/// soloist::block_on(async {
///     let task = soloist::spawn(std::future::pending::<()>());
///     task.abort_handle().abort();
///     let error = task.join().await.unwrap_err();
///     assert!(error.is_cancelled());
/// });
/// ```
#[derive(Clone)]
pub struct AbortHandle {
    raw: SharedTask,
}

impl AbortHandle {
    /// Has the task's future dropped, on its own thread, when the runtime next turns.
    /// A task that is over stays as it is.
    ///
    /// If a destructor of the future panics, the task has panicked: [`Task::join`] returns
    /// an error that [is a panic](JoinError::is_panic).
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let task = soloist::spawn(async { 1 });
    ///     let handle = task.abort_handle();
    ///     assert_eq!(task.await, 1);
    ///     handle.abort();
    /// });
    /// ```
    pub fn abort(&self) {
        self.raw.abort();
    }

    /// The number of the task.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let task = soloist::spawn(async {});
    ///     assert_eq!(task.abort_handle().id(), task.id());
    /// });
    /// ```
    pub fn id(&self) -> TaskId {
        TaskId::new(self.raw.label().number)
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Why a task has no output: it panicked, or it was cancelled.
///
/// Its text names the task and where it was spawned.
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
    about: TaskLabel,
    kind: Kind,
}

enum Kind {
    Cancelled,
    /// In a mutex only to be `Sync`: payloads need not be.
    Panicked(Mutex<Payload>),
}

impl JoinError {
    pub(crate) fn cancelled(about: TaskLabel) -> JoinError {
        JoinError {
            about,
            kind: Kind::Cancelled,
        }
    }

    pub(crate) fn who(&self) -> &TaskLabel {
        &self.about
    }

    pub(crate) fn panicked(about: TaskLabel, payload: Payload) -> JoinError {
        JoinError {
            about,
            kind: Kind::Panicked(Mutex::new(payload)),
        }
    }

    /// Whether the task was cancelled, aborted, or lost its runtime, and its destructors did
    /// not panic.
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
        matches!(self.kind, Kind::Cancelled)
    }

    /// Whether the task panicked: in a poll, or in a destructor of its future.
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
        matches!(self.kind, Kind::Panicked(_))
    }

    /// What the task panicked with, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If the task did not panic: ask [`is_panic`](JoinError::is_panic) first, or use
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

    /// What the task panicked with.
    ///
    /// # Errors
    ///
    /// The error itself, if the task did not panic.
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
        match self.kind {
            Kind::Panicked(payload) => Ok(payload
                .into_inner()
                .unwrap_or_else(|poisoned| poisoned.into_inner())),
            Kind::Cancelled => Err(self),
        }
    }

    /// The number of the task; `None` if it was cancelled before it started.
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
        (self.about.number > 0).then_some(TaskId::new(self.about.number))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = match &self.kind {
            Kind::Cancelled => return write!(f, "{} was cancelled", self.about),
            Kind::Panicked(payload) => payload,
        };
        let payload = payload
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        match message {
            Some(message) => write!(f, "{} panicked: {message}", self.about),
            None => write!(f, "{} panicked", self.about),
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

/// Lets the other tasks run first: those that are ready, and those whose sockets and timers the
/// runtime finds ready when these have run.
///
/// A task that computes for long can call this from time to time. The sockets are looked at if
/// a millisecond has passed, or 128 polls; see [`runtime`](crate::runtime).
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        if !executor::yield_polled(cx.waker()) {
            // A combinator's waker, which wakes its task in its own way.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
