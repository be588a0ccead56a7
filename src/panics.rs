//! Panics of user code that is called several times in a row: each panic is caught, so that all
//! calls are made, and the first one is resumed at the end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The payload of a panic.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Holds the first panic of several calls.
#[derive(Default)]
pub(crate) struct Panics {
    first: Option<Payload>,
}

impl Panics {
    /// Calls `f`, and catches a panic in it. The panic is kept if it is the first.
    pub(crate) fn catch(&mut self, f: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            self.keep(payload);
        }
    }

    /// Keeps `payload` if it is the first.
    #[cold]
    pub(crate) fn keep(&mut self, payload: Payload) {
        if self.first.is_none() {
            self.first = Some(payload);
        } else {
            discard(payload);
        }
    }

    /// Returns whether there was no panic.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Resumes the first panic, if there was one. If the thread is already unwinding, the panic is
    /// discarded instead: a second one would abort the process.
    pub(crate) fn resume(self) {
        match self.first {
            Some(payload) if std::thread::panicking() => discard(payload),
            Some(payload) => resume_unwind(payload),
            None => {}
        }
    }
}

/// Calls `f` with each item, also after a panic. The first panic is resumed at the end.
#[cfg(any(all(unix, feature = "process"), feature = "testing"))]
pub(crate) fn for_each<T>(items: impl IntoIterator<Item = T>, f: impl Fn(T)) {
    let mut panics = Panics::default();
    for item in items {
        panics.catch(|| f(item));
    }
    panics.resume();
}

/// Drops a value of the user, and ignores a panic of its destructor: the panic hook has already
/// reported it.
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // The payload's own destructor could panic, too.
        std::mem::forget(payload);
    }
}
