//! Handles, through which other threads spawn tasks on a runtime and stop it.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context as TaskContext, Poll, Waker};

use pin_project_lite::pin_project;

use crate::executor::{self, Executor, ExternalRef, OrphanedPanic, ProcessId};
use crate::hooks::{TaskId, WaitReason};
use crate::panics::{Panics, Payload, discard};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Mutex, block_on, lock};
use crate::task::{AbortHandle, JoinError, RemoteControl};
use crate::task_cell::{Message, Remote, TaskLabel, note};

/// A handle to a [`Runtime`](crate::Runtime), for use on any thread.
///
/// It does not keep the runtime alive. When the runtime has been dropped, tasks spawned through the
/// handle are cancelled, and `stop` does nothing.
///
/// # Examples
///
/// ```
/// use soloist::{Handle, block_on};
///
/// let answer = block_on(async {
///     let handle = Handle::current();
///     let thread = std::thread::spawn(move || handle.spawn(|| async { 42 }));
///     thread.join().unwrap().await
/// });
/// assert_eq!(answer.unwrap(), 42);
/// ```
#[derive(Clone)]
pub struct Handle {
    remote: Remote,
    /// The thread of the runtime.
    thread: ThreadId,
    external: ExternalRef,
    process: ProcessId,
}

impl Handle {
    /// Called on the runtime's own thread.
    pub(super) fn new(executor: &Executor) -> Handle {
        Handle {
            remote: executor.remote(),
            thread: thread::current().id(),
            external: executor.external(),
            process: executor.process(None),
        }
    }

    /// Returns a handle to the runtime that runs on this thread.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime, unlike [`try_current`](Handle::try_current).
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::block_on(async {
    ///     let handle = soloist::Handle::current();
    ///     handle.spawn(|| async { println!("hello") }).detach();
    /// });
    /// ```
    #[track_caller]
    pub fn current() -> Handle {
        Handle::new(&executor::current("`Handle::current`"))
    }

    /// Returns a handle to the runtime that runs on this thread, or `None` outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(soloist::Handle::try_current().is_none());
    /// ```
    pub fn try_current() -> Option<Handle> {
        Some(Handle::new(&*executor::try_current()?))
    }

    /// Spawns a task on the runtime's thread: it calls `make`, and runs the future that `make`
    /// returns.
    ///
    /// The future does not have to be `Send`: it is created, polled and dropped on that thread.
    /// If the runtime has been dropped, the task is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::rc::Rc;
    /// use soloist::Runtime;
    ///
    /// let runtime = Runtime::new();
    /// let task = runtime.handle().spawn(|| async {
    ///     let local = Rc::new(5);
    ///     soloist::task::yield_now().await;
    ///     *local
    /// });
    /// assert_eq!(runtime.block_on(task).unwrap(), 5);
    /// ```
    #[track_caller]
    pub fn spawn<F, Fut, T>(&self, make: F) -> RemoteTask<T>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let spawned_at = Location::caller();
        let shared = Arc::new(Mutex::new(RemoteTaskState {
            result: None,
            over: false,
            cancelled: false,
            wanted: true,
            waker: None,
        }));
        let control = Arc::new(RemoteControl::new(self.external.next_task_id()));
        let completion = Completion {
            shared: Some(shared.clone()),
            control: Arc::downgrade(&control),
            spawned_at,
        };
        let there = control.clone();
        let process = self.process;
        let start = move || completion.start(&there, make, process);
        // A closed inbox returns the message, and dropping it cancels the task.
        self.remote.send(Message::Call(Box::new(start)));
        RemoteTask {
            shared,
            control,
            remote: self.remote,
            thread: self.thread,
            _external: self.external.clone(),
        }
    }

    /// Makes [`Runtime::run`](crate::Runtime::run) or
    /// [`run_forever`](crate::Runtime::run_forever) return at the end of the current turn. Tasks
    /// that other threads spawned or woke before this call are polled first.
    ///
    /// If neither function is running, the next call of one of them returns. `block_on` is not
    /// stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// runtime.handle().stop();
    /// runtime.run_forever();
    /// ```
    pub fn stop(&self) {
        // Fails if the runtime has been dropped, which is as good as stopped.
        self.remote.send(Message::Stop);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.remote).finish()
    }
}

/// A handle to a task that was spawned through a [`Handle`]. It can be awaited on any executor,
/// and a thread can block on it with [`wait`](RemoteTask::wait).
///
/// Dropping it cancels the task in the next turn of the task's runtime. To let the task run in the
/// background, call [`detach`](RemoteTask::detach). The output is an error if the task panicked or
/// was aborted, or if its runtime has been dropped.
///
/// A panic of the future's destructor counts as a panic of the task. If the handle has been
/// dropped, the panic is reported on standard error, like that of a detached task.
///
/// # Cancel safety
///
/// Dropping the future cancels the task. To keep the task running, await `&mut task`.
///
/// # Examples
///
/// ```
/// let runtime = soloist::Runtime::new();
/// let task = runtime.handle().spawn(|| async { "hello" });
/// assert_eq!(runtime.block_on(task).unwrap(), "hello");
/// ```
#[must_use = "dropping a task cancels it, and so does `let _ =`: call `.detach()` to let it run in \
              the background, or await it"]
pub struct RemoteTask<T> {
    shared: Arc<Mutex<RemoteTaskState<T>>>,
    control: Arc<RemoteControl>,
    remote: Remote,
    /// The thread of the runtime.
    thread: ThreadId,
    _external: ExternalRef,
}

struct RemoteTaskState<T> {
    /// Set when the future has been dropped, if `wanted` is set. Taken by the handle.
    result: Option<Result<T, JoinError>>,
    /// Set when the future has been dropped, under the same lock in which `wanted` is read. So
    /// either the task or the handle has the result, and reports a panic.
    over: bool,
    /// Whether `result` is a panic of the destructor of a cancelled task.
    cancelled: bool,
    /// Cleared when the handle is detached or dropped. After that the result is not stored, and a
    /// panic is reported to the runtime.
    wanted: bool,
    waker: Option<Waker>,
}

impl<T> RemoteTask<T> {
    /// Drops the handle without cancelling the task, which runs in the background. If the task
    /// panics, the panic is reported on standard error.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// runtime.handle().spawn(|| async { println!("in the background") }).detach();
    /// runtime.run();
    /// ```
    pub fn detach(self) {
        let result = {
            let mut state = lock(&self.shared);
            state.wanted = false;
            state.result.take()
        };
        match result {
            Some(Err(error)) => self.orphaned(error),
            unwanted => discard(unwanted),
        }
    }

    /// Reports the panic of a task whose handle is gone.
    fn orphaned(&self, error: JoinError) {
        if let Some(panic) = error.into_orphan() {
            panic.send(self.remote);
        }
    }

    /// Aborts the task: its future is dropped in the next turn of the runtime. If the task finishes
    /// before that, this does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// let task = runtime.handle().spawn(std::future::pending::<()>);
    /// task.abort();
    /// assert!(runtime.block_on(task).unwrap_err().is_cancelled());
    /// ```
    pub fn abort(&self) {
        self.control.abort();
    }

    /// Returns a handle that can abort the task from any thread, also when this handle has been
    /// detached.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// let task = runtime.handle().spawn(std::future::pending::<()>);
    /// let handle = task.abort_handle();
    /// task.detach();
    /// handle.abort();
    /// runtime.run();
    /// ```
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle::of_remote(self.control.clone())
    }

    /// Returns the number of the task, which it has even before it starts.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// let task = runtime.handle().spawn(|| async { panic!("no") });
    /// let id = task.id();
    /// assert_eq!(id.to_string(), "r1");
    /// let error = runtime.block_on(task).map(|()| {}).unwrap_err();
    /// assert_eq!(error.id(), Some(id));
    /// ```
    pub fn id(&self) -> TaskId {
        self.control.id()
    }

    /// Returns whether the task has finished, panicked or been cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// let mut task = runtime.handle().spawn(|| async {});
    /// assert!(!task.is_finished());
    /// runtime.block_on(&mut task).unwrap();
    /// assert!(task.is_finished());
    /// ```
    pub fn is_finished(&self) -> bool {
        lock(&self.shared).over
    }

    /// Blocks this thread until the task has ended, and returns its output.
    ///
    /// # Errors
    ///
    /// Returns an error if the task panicked or was aborted, or if its runtime has been dropped.
    ///
    /// # Panics
    ///
    /// Panics on the runtime's own thread, which would wait for itself. Use `.await` there.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// let handle = runtime.handle();
    /// let thread = std::thread::spawn(move || handle.spawn(|| async { 3 }).wait());
    /// while !thread.is_finished() {
    ///     runtime.turn(Some(std::time::Duration::from_millis(1)))?;
    /// }
    /// assert_eq!(thread.join().unwrap().unwrap(), 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn wait(self) -> Result<T, JoinError> {
        assert!(
            self.is_finished() || thread::current().id() != self.thread,
            "`RemoteTask::wait` on the runtime's own thread would wait for itself: `.await` it"
        );
        block_on(self)
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        // The waker is cloned and dropped without the lock, since that is user code.
        let mut waker = Some(cx.waker().clone());
        let result = {
            let mut state = lock(&self.shared);
            let result = state.result.take();
            if result.is_none() {
                assert!(
                    !state.over,
                    "a `RemoteTask` was polled after it had completed"
                );
                std::mem::swap(&mut state.waker, &mut waker);
            }
            result
        };
        drop(waker);
        match result {
            Some(result) => Poll::Ready(result),
            None => {
                note(WaitReason::RemoteTask);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for RemoteTask<T> {
    fn drop(&mut self) {
        let (result, waker, abort, cancelled) = {
            let mut state = lock(&self.shared);
            // A detached task keeps running.
            let abort = !state.over && state.wanted;
            state.wanted = false;
            let result = state.result.take();
            (result, state.waker.take(), abort, state.cancelled)
        };
        let mut panics = Panics::default();
        panics.catch(|| drop(waker));
        match result {
            // The destructor of a cancelled task panicked, which has not been reported yet.
            Some(Err(error)) if cancelled => panics.catch(|| self.orphaned(error)),
            // A panic of the output's destructor is only reported by the panic hook.
            unwanted => discard(unwanted),
        }
        if abort {
            panics.catch(|| self.abort());
        }
        panics.resume();
    }
}

impl<T> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTask")
            .field("id", &self.id())
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// Completes the `RemoteTask`. If it is dropped before that, the task counts as cancelled.
struct Completion<T> {
    shared: Option<Arc<Mutex<RemoteTaskState<T>>>>,
    control: Weak<RemoteControl>,
    spawned_at: &'static Location<'static>,
}

impl<T: Send + 'static> Completion<T> {
    /// Spawns the task. Called on the runtime's thread, inside the runtime. `make` is called by
    /// the task, so that a panic of `make` is a panic of the task.
    fn start<F, Fut>(self, control: &RemoteControl, make: F, process: ProcessId)
    where
        F: FnOnce() -> Fut + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let spawned_at = self.spawned_at;
        let executor = executor::current("`Handle::spawn`");
        let future = Started {
            future: Some(async move { make().await }),
            completion: Some(self),
        };
        let entered = executor.enter_process(process);
        let task = executor.spawn_numbered(control.id().number(), future, None, spawned_at);
        drop(entered);
        let is_aborted = control.begin(task.to_shared());
        let mut panic = task.release();
        if is_aborted {
            panic = executor::cancel(&task.task());
        }
        if let Some(payload) = panic {
            OrphanedPanic::new(task.label(), payload).send(executor.remote());
        }
    }
}

impl<T> Completion<T> {
    fn label(&self) -> TaskLabel {
        let task = self.control.upgrade().and_then(|control| control.task());
        task.map_or(TaskLabel::not_started(self.spawned_at), |task| task.label())
    }

    fn end(&self) {
        if let Some(control) = self.control.upgrade() {
            control.end();
        }
    }

    /// Called when the future has been dropped, after its completion or by a cancellation.
    fn finish(mut self, result: Result<T, Payload>, cancelled: bool) {
        let Some(shared) = self.shared.take() else {
            return;
        };
        let result = result.map_err(|payload| JoinError::new(self.label(), Some(payload)));
        self.end();
        match complete(&shared, result, cancelled) {
            // No handle is left: the runtime reports the panic.
            Some(Err(error)) => {
                if let Ok(payload) = error.try_into_panic() {
                    resume_unwind(payload);
                }
            }
            // A panic of the output's destructor is not a panic of the task.
            unwanted => discard(unwanted),
        }
    }
}

pin_project! {
    /// The future of a task that was spawned through a handle.
    struct Started<F, T> {
        // `None` once it is dropped.
        #[pin]
        future: Option<F>,
        completion: Option<Completion<T>>,
    }

    impl<F, T> PinnedDrop for Started<F, T> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
            if let (Err(payload), Some(completion)) = (dropped, this.completion.take()) {
                completion.finish(Err(payload), true);
            }
        }
    }
}

impl<F: Future<Output = T>, T> Future for Started<F, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(payload),
        };
        // A completed `async` block holds no values, so dropping it cannot panic.
        this.future.set(None);
        if let Some(completion) = this.completion.take() {
            completion.finish(result, false);
        }
        Poll::Ready(())
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let label = self.label();
            self.end();
            let unwanted = complete(&shared, Err(JoinError::new(label, None)), false);
            drop(unwanted);
        }
    }
}

/// Stores the result for the handle, and wakes the task that awaits it. Returns the result if the
/// handle is gone.
fn complete<T>(
    shared: &Mutex<RemoteTaskState<T>>,
    result: Result<T, JoinError>,
    cancelled: bool,
) -> Option<Result<T, JoinError>> {
    let (unwanted, waker) = {
        let mut state = lock(shared);
        state.over = true;
        let unwanted = if state.wanted {
            state.result = Some(result);
            state.cancelled = cancelled;
            None
        } else {
            Some(result)
        };
        (unwanted, state.waker.take())
    };
    if let Some(waker) = waker {
        waker.wake();
    }
    unwanted
}
