//! Panics of tasks without a handle.

use super::current::try_current;
use super::tasks::report_panic;
use crate::panics::Payload;
use crate::task_cell::{Message, Remote};

/// The task of the runtime `remote` has panicked, and no handle can receive that any more: it
/// was detached, or its handle was dropped.
pub(crate) fn orphaned(remote: Remote, task: String, payload: Payload) {
    let panic = OrphanedPanic {
        task,
        payload: Some(payload),
    };
    let executor = try_current().filter(|executor| executor.id() == remote.id());
    match executor {
        Some(executor) if !executor.propagate_panics => drop(panic),
        // Resumed here it would be a panic of the code that detaches: the runtime receives it.
        _ => remote.send(Message::Call(Box::new(move || panic.arrive()))),
    }
}

/// A panic on its way to its runtime. It is reported if it does not arrive there.
struct OrphanedPanic {
    task: String,
    payload: Option<Payload>,
}

impl OrphanedPanic {
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
