//! [`Owner`]: the proof of being on the executor's thread.

#![expect(unsafe_code, reason = "the proof of the thread gives access to cells")]

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::cell::{self, MainTask};
use super::handle::JoinRef;
use super::header::Message;
use super::header::{LocalTask, Remote, SharedTask, TaskScheduler};
use super::label::Name;
use super::state::State;
use crate::inbox::{Inbox, Notifier};
use crate::sync::atomic::Ordering;

/// [ID]
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Proves that its thread is that of the executor with its id: one per id, `!Send`, not `Clone`.
#[derive(Debug)]
pub(crate) struct Owner {
    remote: Remote,
    _not_send: PhantomData<*const ()>,
}

impl Owner {
    /// The owner of a new id, with an inbox that nothing else uses.
    pub(crate) fn new(inbox: &'static Inbox<Message, Notifier>) -> Owner {
        let id = NEXT_ID.fetch_add(1, Relaxed);
        inbox.open(id);
        Owner {
            remote: Remote::new(inbox, id),
            _not_send: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn remote(&self) -> Remote {
        self.remote
    }

    /// Makes a task that counts as queued: the executor puts it into its registry, under the
    /// key `slot`, and on its ready queue.
    #[inline(always)]
    pub(crate) fn new_task<F, S: TaskScheduler>(
        &self,
        slot: usize,
        number: u64,
        future: F,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> (LocalTask, JoinRef<F::Output>)
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        // The last value stands for main.
        assert!(slot < u32::MAX as usize, "more than 4,294,967,294 tasks");
        let slot = slot as u32;
        // SAFETY: `self` proves the thread [THREAD].
        let (task, handle) =
            unsafe { cell::new_task::<F, S>(self.remote, slot, number, future, name, spawned_at) };
        (task, JoinRef::new(handle))
    }

    /// Makes the cell of a `block_on`, which counts as queued.
    pub(crate) fn new_main<S: TaskScheduler>(
        &self,
        number: u64,
        called_at: &'static Location<'static>,
    ) -> MainTask<S> {
        // SAFETY: `self` proves the thread [THREAD].
        unsafe { MainTask::new(self.remote, number, called_at) }
    }

    /// A wake on the executor's thread: marks the task as queued. Returns what to put on the
    /// ready queue; `None` if it is there already, or over, or another executor's.
    #[inline]
    pub(crate) fn queue(&self, task: &SharedTask) -> Option<LocalTask> {
        let header = task.header();
        if header.remote.id() != self.remote.id() || header.queued.replace(true) {
            return None;
        }
        // SAFETY: it is a task of this executor, for which `self` proves the thread [THREAD].
        Some(unsafe { task.to_local() })
    }

    /// A wake from the inbox. As [`Owner::queue`].
    pub(crate) fn queue_remote(&self, task: &SharedTask) -> Option<LocalTask> {
        let header = task.header();
        if header.remote.id() != self.remote.id()
            || !matches!(header.state.get(), State::Idle | State::Running)
        {
            return None;
        }
        // After the message was taken out of the inbox, before the poll.
        header.sent.swap(false, Ordering::AcqRel);
        self.queue(task)
    }
}
