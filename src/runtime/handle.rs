//! How other threads reach a runtime.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use pin_project_lite::pin_project;

use crate::executor::{self, Executor, ExternalRef};
use crate::hooks::WaitReason;
use crate::panics::{Panics, Payload, discard};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Mutex, block_on, lock};
use crate::task::JoinError;
use crate::task_cell::{Message, Remote, SharedTask, TaskLabel, note};

/// Reaches a [`Runtime`](crate::Runtime) from any thread.
///
/// It keeps nothing alive: when the runtime is gone, what it spawns is cancelled, and
/// `stop` does nothing.
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
    /// The runtime's own.
    thread: ThreadId,
    external: ExternalRef,
}

impl Handle {
    /// On the runtime's own thread.
    pub(super) fn new(executor: &Executor) -> Handle {
        Handle {
            remote: executor.remote(),
            thread: thread::current().id(),
            external: executor.external(),
        }
    }

    /// The handle of the runtime that runs on this thread.
    ///
    /// # Panics
    ///
    /// ExternalRef of a runtime; [`try_current`](Handle::try_current) does not.
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

    /// The handle of the runtime that runs on this thread, if one does.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(soloist::Handle::try_current().is_none());
    /// ```
    pub fn try_current() -> Option<Handle> {
        Some(Handle::new(&*executor::try_current()?))
    }

    /// Has the runtime's thread call `make`, and run the future that it returns.
    ///
    /// The future need not be `Send`: it is made, polled and dropped on that thread.
    /// On a runtime that is gone the task is cancelled.
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
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                result: None,
                over: false,
                cancelled: false,
                wanted: true,
                abandoned: false,
                waker: None,
                task: None,
            }),
        });
        let completion = Completion {
            shared: Some(shared.clone()),
            spawned_at,
        };
        let start = move || completion.start(make);
        // A closed inbox gives it back, and dropping it cancels the task.
        self.remote.send(Message::Call(Box::new(start)));
        RemoteTask {
            shared,
            remote: self.remote,
            thread: self.thread,
            _external: self.external.clone(),
        }
    }

    /// Makes [`Runtime::run`](crate::Runtime::run) or
    /// [`run_forever`](crate::Runtime::run_forever) return at the end of its turn. What
    /// was spawned or woken from other threads before it has its turn first. If
    /// neither runs, the next one sees it; `block_on` does not.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// runtime.handle().stop();
    /// runtime.run_forever();
    /// ```
    pub fn stop(&self) {
        // A runtime that is gone has stopped.
        self.remote.send(Message::Stop);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.remote).finish()
    }
}

/// A task that was spawned through a [`Handle`]. It can be awaited anywhere, also on
/// another executor, or waited for by a thread.
///
/// Dropping it cancels the task when its runtime next turns;
/// [`detach`](RemoteTask::detach) lets it run on. The output is an error if the task
/// panicked, was aborted, or its runtime is gone.
///
/// If a destructor of its future panics, that is the task's panic; if the handle is dropped, it
/// is reported on standard error, as for a detached task.
///
/// # Cancel safety
///
/// Dropping the future cancels the task. To keep the task, await `&mut task`.
///
/// # Examples
///
/// ```
/// let runtime = soloist::Runtime::new();
/// let task = runtime.handle().spawn(|| async { "hello" });
/// assert_eq!(runtime.block_on(task).unwrap(), "hello");
/// ```
#[must_use = "dropping a task cancels it: await it, or call `detach`"]
pub struct RemoteTask<T> {
    shared: Arc<Shared<T>>,
    remote: Remote,
    /// The runtime's own.
    thread: ThreadId,
    _external: ExternalRef,
}

struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Set once, when the future has been dropped, if it is wanted; taken by the handle.
    result: Option<Result<T, JoinError>>,
    /// Set when the future has been dropped, and stays. Under the lock that looks at
    /// `wanted`: so either the task or the handle has the result, and tells of a panic.
    over: bool,
    /// Set with a result that is the panic of a destructor, when the task was cancelled.
    cancelled: bool,
    /// Cleared when the handle detaches or goes. Then only a panic is told, to the runtime.
    wanted: bool,
    /// Set when the handle aborts or goes: a task that has not started never does.
    abandoned: bool,
    waker: Option<Waker>,
    /// Set when the task starts.
    task: Option<SharedTask>,
}

impl<T> RemoteTask<T> {
    /// Lets the task run on with nobody to await it. If it panics, that is reported
    /// on standard error.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// runtime.handle().spawn(|| async { println!("on my own") }).detach();
    /// runtime.run();
    /// ```
    pub fn detach(self) {
        let (result, task) = {
            let mut state = lock(&self.shared.state);
            state.wanted = false;
            (state.result.take(), state.task.take())
        };
        drop(task);
        match result {
            Some(Err(error)) => self.orphaned(error),
            unwanted => discard(unwanted),
        }
    }

    /// The task has panicked, and its handle goes.
    fn orphaned(&self, error: JoinError) {
        let who = error.who().to_string();
        if let Ok(payload) = error.try_into_panic() {
            executor::orphaned(self.remote, who, payload);
        }
    }

    /// Has the task's future dropped when its runtime next turns. What has finished by
    /// then has finished.
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
        let task = {
            let mut state = lock(&self.shared.state);
            state.abandoned = true;
            state.task.clone()
        };
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Waits on this thread until the task is over.
    ///
    /// # Errors
    ///
    /// If the task panicked, was aborted, or its runtime is gone.
    ///
    /// # Panics
    ///
    /// On the runtime's own thread, which would wait for itself: use `.await` there.
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
        let over = lock(&self.shared.state).over;
        assert!(
            over || thread::current().id() != self.thread,
            "`RemoteTask::wait` on the runtime's own thread would wait for itself: `.await` it"
        );
        block_on(self)
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        // Cloned and dropped outside of the lock: it is user code.
        let mut waker = Some(cx.waker().clone());
        let result = {
            let mut state = lock(&self.shared.state);
            let result = state.result.take();
            if result.is_none() {
                assert!(!state.over, "a `RemoteTask` was polled after it was done");
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
            let mut state = lock(&self.shared.state);
            // A detached task runs on.
            let abort = !state.over && state.wanted;
            state.wanted = false;
            let result = state.result.take();
            (result, state.waker.take(), abort, state.cancelled)
        };
        let mut panics = Panics::default();
        panics.catch(|| drop(waker));
        match result {
            // Nobody could hear of this before: it has ended with its future.
            Some(Err(error)) if cancelled => panics.catch(|| self.orphaned(error)),
            // Its destructor's panic has been reported by the panic hook.
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
        let over = lock(&self.shared.state).over;
        f.debug_struct("RemoteTask")
            .field("is_finished", &over)
            .finish_non_exhaustive()
    }
}

/// The task's end of the line. Dropped on the way, it says that the task is cancelled.
struct Completion<T> {
    shared: Option<Arc<Shared<T>>>,
    spawned_at: &'static Location<'static>,
}

impl<T: Send + 'static> Completion<T> {
    /// On the runtime's thread, inside of it. It calls nothing of the user's: that is
    /// for the task, whose panics are its own.
    fn start<F, Fut>(self, make: F)
    where
        F: FnOnce() -> Fut + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let spawned_at = self.spawned_at;
        let executor = executor::current("`Handle::spawn`");
        let future = Started {
            future: Some(async move { make().await }),
            completion: Some(self),
        };
        let task = executor.spawn(future, None, spawned_at);
        let abandoned = {
            let mut state = lock(&shared.state);
            // A detached one is nobody's to abort, and must not refer to itself: that would
            // look as if somebody could still wake it.
            if state.wanted {
                state.task = Some(task.remote());
            }
            state.abandoned
        };
        let mut panic = task.release();
        if abandoned {
            panic = executor::cancel(&task.task());
        }
        if let Some(payload) = panic {
            executor::orphaned(executor.remote(), task.label().to_string(), payload);
        }
    }
}

impl<T> Completion<T> {
    /// The future has been dropped: when it was done, or because the task is cancelled.
    fn finish(mut self, result: Result<T, Payload>, cancelled: bool) {
        let Some(shared) = self.shared.take() else {
            return;
        };
        let result = result.map_err(|payload| {
            let who = shared.about(self.spawned_at);
            JoinError::panicked(who, payload)
        });
        match shared.complete(result, cancelled) {
            // Nobody can await it: it is the runtime that is told.
            Some(Err(error)) => {
                if let Ok(payload) = error.try_into_panic() {
                    resume_unwind(payload);
                }
            }
            // Its destructor's panic is not the task's.
            unwanted => discard(unwanted),
        }
    }
}

pin_project! {
    /// The future of a task that was spawned through a handle.
    struct Started<F, T> {
        // Until it is dropped.
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
        // It is an `async` block that is over: nothing is left in it that could panic.
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
            let who = shared.about(self.spawned_at);
            let unwanted = shared.complete(Err(JoinError::cancelled(who)), false);
            drop(unwanted);
        }
    }
}

impl<T> Shared<T> {
    fn about(&self, spawned_at: &'static Location<'static>) -> TaskLabel {
        let task = lock(&self.state).task.clone();
        task.map_or(TaskLabel::not_started(spawned_at), |task| task.label())
    }

    /// Leaves the result for the handle, and wakes who awaits it. What the handle does
    /// not want comes back.
    fn complete(
        &self,
        result: Result<T, JoinError>,
        cancelled: bool,
    ) -> Option<Result<T, JoinError>> {
        let (unwanted, waker, task) = {
            let mut state = lock(&self.state);
            state.over = true;
            let unwanted = if state.wanted {
                state.result = Some(result);
                state.cancelled = cancelled;
                None
            } else {
                Some(result)
            };
            (unwanted, state.waker.take(), state.task.take())
        };
        drop(task);
        if let Some(waker) = waker {
            waker.wake();
        }
        unwanted
    }
}
