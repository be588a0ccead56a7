//! Panics of tasks without a handle.

use super::current::try_current;
use super::tasks::report_panic;
use crate::panics::Payload;
use crate::task_cell::{Message, Remote, TaskLabel};

/// The panic of a task that no handle can receive any more: the task was detached, or its handle
/// was dropped. Reported when this is dropped.
pub(crate) struct OrphanedPanic {
    task: TaskLabel,
    payload: Option<Payload>,
}

impl OrphanedPanic {
    pub(crate) fn new(task: TaskLabel, payload: Payload) -> OrphanedPanic {
        let payload = Some(payload);
        OrphanedPanic { task, payload }
    }

    /// Returns the payload, and reports nothing.
    pub(crate) fn take(mut self) -> Option<Payload> {
        self.payload.take()
    }

    /// Reports the panic here, or sends it to the runtime `remote` of the task, which may have to
    /// resume it.
    pub(crate) fn send(self, remote: Remote) {
        match try_current() {
            Some(executor) if executor.id() == remote.id() && !executor.propagate_panics => {}
            // Resumed here it would be a panic of the code that detaches: the runtime receives it.
            _ => remote.send(Message::Call(Box::new(move || self.arrive()))),
        }
    }

    fn arrive(mut self) {
        // On a thread that is ending there is no current runtime: then it is reported.
        let Some(executor) = try_current() else {
            return;
        };
        if let Some(payload) = self.payload.take() {
            executor.report_panic(&self.task, payload);
        }
    }
}

impl Drop for OrphanedPanic {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            report_panic(&self.task, payload);
        }
    }
}
