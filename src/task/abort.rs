//! Abort handles, of tasks on this thread and of those that a `Handle` spawns.

use std::fmt;
use std::sync::Arc;

use crate::hooks::TaskId;
use crate::sync::{Mutex, lock};
use crate::task_cell::SharedTask;

/// Aborts a task from any thread. Aborting only marks the task and wakes it.
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
    target: Target,
}

#[derive(Clone)]
enum Target {
    Task(SharedTask),
    Remote(Arc<RemoteControl>),
}

/// How the handles of a task that was spawned through a `Handle` reach it. The task itself refers
/// to this weakly: otherwise it would seem that something could still wake a detached task.
pub(crate) struct RemoteControl {
    id: TaskId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    aborted: bool,
    /// Set while the task runs.
    task: Option<SharedTask>,
}

impl AbortHandle {
    pub(super) fn of_task(task: SharedTask) -> AbortHandle {
        let target = Target::Task(task);
        AbortHandle { target }
    }

    pub(crate) fn of_remote(control: Arc<RemoteControl>) -> AbortHandle {
        let target = Target::Remote(control);
        AbortHandle { target }
    }

    /// Aborts the task: its future is dropped on its own thread, in the next turn of the runtime.
    /// If the task has already ended, this does nothing.
    ///
    /// If a destructor of the future panics, the task counts as panicked: [`Task::join`] returns
    /// an error for which [`is_panic`](super::JoinError::is_panic) is true.
    ///
    /// [`Task::join`]: super::Task::join
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
        match &self.target {
            Target::Task(task) => task.abort(),
            Target::Remote(control) => control.abort(),
        }
    }

    /// Returns the number of the task.
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
        match &self.target {
            Target::Task(task) => TaskId::new(task.number()),
            Target::Remote(control) => control.id,
        }
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl RemoteControl {
    pub(crate) fn new(id: TaskId) -> RemoteControl {
        RemoteControl {
            id,
            state: Mutex::new(State::default()),
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    /// The task, while it runs.
    pub(crate) fn task(&self) -> Option<SharedTask> {
        lock(&self.state).task.clone()
    }

    /// The task has started. Returns whether it has been aborted before.
    pub(crate) fn begin(&self, task: SharedTask) -> bool {
        let mut state = lock(&self.state);
        state.task = Some(task);
        state.aborted
    }

    /// The task is over.
    pub(crate) fn end(&self) {
        let task = lock(&self.state).task.take();
        drop(task);
    }

    pub(crate) fn abort(&self) {
        let task = {
            let mut state = lock(&self.state);
            state.aborted = true;
            state.task.clone()
        };
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Drop for RemoteControl {
    fn drop(&mut self) {
        // Under the lock: the models do not know that std's `Arc` orders this after all other uses.
        self.end();
    }
}
