//! What the thread-crossing parts are built from: std's atomics and mutexes,
//! or loom's under `cfg(soloist_loom)`, so that a model checks the same code.

#[cfg(soloist_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(soloist_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

/// Locks, whether or not a thread has panicked with the lock held: no code of
/// ours leaves a half-made change behind a lock, and no user code runs under one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
