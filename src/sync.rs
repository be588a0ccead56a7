//! Atomics, mutexes and threads of std, or of loom under `cfg(soloist_loom)`. So the models check
//! the same code as the program runs.

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

/// Locks a mutex, and ignores poisoning. The crate never panics between two changes that belong
/// together, and runs no user code while it holds a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// `thread_local!` with a `const` initializer, which loom's does not support.
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

/// The part of the `parking` crate that this crate uses, built on loom.
#[cfg(soloist_loom)]
mod parker {
    use std::sync::Arc;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    /// Whether `unpark` was called since the last `park`.
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
            unreachable!("loom has no clock, so models set no timers")
        }
    }

    impl Unparker {
        pub(crate) fn unpark(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_one();
        }
    }
}
