//! Panics of user code that runs in a batch: each is caught, the batch goes on,
//! and the first one is resumed at its end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// The first panic of a batch.
#[derive(Default)]
pub(crate) struct Panics {
    first: Option<Payload>,
}

impl Panics {
    /// Runs `f`. A panic in it is kept if it is the first.
    pub(crate) fn catch(&mut self, f: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            self.keep(payload);
        }
    }

    /// Keeps `payload` if it is the first.
    pub(crate) fn keep(&mut self, payload: Payload) {
        if self.first.is_none() {
            self.first = Some(payload);
        } else {
            discard(payload);
        }
    }

    /// Whether there was none.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Goes on with the first panic, if there was one. While the thread unwinds
    /// already, a second panic would abort the process: then it is dropped.
    pub(crate) fn resume(self) {
        match self.first {
            Some(payload) if std::thread::panicking() => discard(payload),
            Some(payload) => resume_unwind(payload),
            None => {}
        }
    }
}

/// Drops something of the user's whose destructor may panic, and swallows that
/// panic: the panic hook has reported it.
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // A payload whose own destructor panics would go on for ever.
        std::mem::forget(payload);
    }
}
