//! What the thread-crossing parts are built from: std's atomics, mutexes and threads,
//! or loom's under `cfg(soloist_loom)`, so that a model checks the same code.

#[cfg(not(soloist_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(soloist_loom))]
pub(crate) use std::{thread, thread_local};

#[cfg(not(soloist_loom))]
pub(crate) use futures_lite::future::block_on;
#[cfg(soloist_loom)]
pub(crate) use loom::future::block_on;
#[cfg(soloist_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(soloist_loom)]
pub(crate) use loom::thread;
#[cfg(not(soloist_loom))]
pub(crate) use parking::{Parker, Unparker};

#[cfg(soloist_loom)]
pub(crate) use self::{
    local::local_key as thread_local,
    parker::{Parker, Unparker},
};

/// Locks, whether or not a thread has panicked with the lock held: no code of
/// ours leaves a half-made change behind a lock, and no user code runs under one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// loom's does not know the constant ones.
#[cfg(soloist_loom)]
mod local {
    macro_rules! local_key {
        ($(#[$attribute:meta])* static $name:ident: $type:ty = const $init:block;) => {
            loom::thread_local! {
                $(#[$attribute])*
                static $name: $type = $init;
            }
        };
    }
    pub(crate) use local_key;
}

/// `parking`, as far as the crate uses it, of loom's parts.
#[cfg(soloist_loom)]
mod parker {
    use std::sync::Arc;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    /// Whether there is a token.
    #[derive(Debug, Default)]
    struct Token(Mutex<bool>, Condvar);

    #[derive(Debug)]
    pub(crate) struct Parker(Arc<Token>);

    #[derive(Clone, Debug)]
    pub(crate) struct Unparker(Arc<Token>);

    impl Parker {
        pub(crate) fn new() -> Parker {
            Parker(Arc::default())
        }

        pub(crate) fn unparker(&self) -> Unparker {
            Unparker(self.0.clone())
        }

        pub(crate) fn park(&self) {
            let mut token = self.0.0.lock().unwrap();
            while !std::mem::take(&mut *token) {
                token = self.0.1.wait(token).unwrap();
            }
        }

        pub(crate) fn park_timeout(&self, _: Duration) -> bool {
            unreachable!("loom knows no time: a model sets no timers")
        }
    }

    impl Unparker {
        pub(crate) fn unpark(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_one();
        }
    }
}
