//! How many forks lie between the process that the program began in and this one. It costs a
//! load, where the process id costs a system call.
//!
//! The C library tells of them. A child that was made past it, by the system call itself, is
//! not noticed: in such a child not even malloc need work.

#![cfg_attr(
    unix,
    expect(
        unsafe_code,
        reason = "room 2: who drops a source must know whose it is"
    )
)]

use std::io;

/// A process, as distinct from its ancestors and descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process(u32);

#[cfg(unix)]
mod forks {
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    static FORKS: AtomicU32 = AtomicU32::new(0);
    static COUNTED: AtomicBool = AtomicBool::new(false);

    extern "C" fn count_one() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on they are counted. Not under a lock: the child of a fork would find it
    /// locked. Two threads that come at once have each fork counted twice, which does no harm.
    pub(super) fn count() -> io::Result<()> {
        if COUNTED.load(Ordering::Acquire) {
            return Ok(());
        }
        // SAFETY: the function can be called at any time: it does no more than an atomic
        // addition, and it does not unwind.
        let error = unsafe { libc::pthread_atfork(None, None, Some(count_one)) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        COUNTED.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn counted() -> u32 {
        FORKS.load(Ordering::Relaxed)
    }
}

impl Process {
    /// This one. From now on its children are told apart from it.
    pub(super) fn current() -> io::Result<Process> {
        #[cfg(unix)]
        forks::count()?;
        Ok(Process::now())
    }

    /// Whether it is the one that asks.
    #[inline]
    pub(super) fn is_current(self) -> bool {
        self == Process::now()
    }

    #[cfg(unix)]
    fn now() -> Process {
        Process(forks::counted())
    }

    /// There are no forks.
    #[cfg(not(unix))]
    fn now() -> Process {
        Process(0)
    }
}
