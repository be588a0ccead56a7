//! [`Owner`]: the proof of being on the executor's thread.

#![expect(unsafe_code, reason = "the proof of the thread gives access to cells")]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::header::{LocalTask, Message, Remote, SharedTask};
use super::state::State;
use crate::inbox::{Inbox, Notifier};
use crate::sync::atomic::Ordering;

/// [ID]
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Proves that its thread is that of the executor with its id: one per id, `!Send`, not `Clone`.
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
