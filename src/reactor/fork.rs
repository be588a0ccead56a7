//! Tells a process from its parent, by the number of forks since the program started. To compare
//! it is one load. `getpid` would be a system call.
//!
//! The C library counts the forks (`pthread_atfork`). A child that was made by the system call
//! itself is not noticed. In such a child not even malloc has to work.

#![cfg_attr(
    unix,
    expect(
        unsafe_code,
        reason = "the drop of a source must know the process that made it"
    )
)]

use std::io;

/// The number of forks before a process, which differs from that of its ancestors and descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ForkCount(u32);

#[cfg(unix)]
mod forks {
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    static FORKS: AtomicU32 = AtomicU32::new(0);
    static COUNTED: AtomicBool = AtomicBool::new(false);

    extern "C" fn count_one() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts to count forks. There is no lock, since it could stay locked in the child of a fork.
    /// If two threads call this at once, each fork counts twice, which is harmless.
    pub(super) fn count() -> io::Result<()> {
        if COUNTED.load(Ordering::Acquire) {
            return Ok(());
        }
        // SAFETY: the function may run at any time: it is one atomic addition, and does not
        // unwind.
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

impl ForkCount {
    /// The current process. Forks are counted from now on.
    pub(super) fn current() -> io::Result<ForkCount> {
        #[cfg(unix)]
        forks::count()?;
        Ok(ForkCount::now())
    }

    /// Whether this is the current process.
    #[inline]
    pub(super) fn is_current(self) -> bool {
        self == ForkCount::now()
    }

    #[cfg(unix)]
    fn now() -> ForkCount {
        ForkCount(forks::counted())
    }

    /// This system has no forks.
    #[cfg(not(unix))]
    fn now() -> ForkCount {
        ForkCount(0)
    }
}
