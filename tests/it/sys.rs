//! What the tests need of the system and std does not have: fork, limits, signals.

#![expect(unsafe_code, reason = "calls into libc")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn check(result: libc::c_int) -> libc::c_int {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    result
}

/// A child of [`fork`].
#[derive(Debug)]
pub(crate) struct Forked(libc::pid_t);

/// Forks. The child runs `child` and exits: with 0, or with 101 if it panics. Only in a
/// process that runs nothing else, see `in_child`.
pub(crate) fn fork(child: impl FnOnce()) -> Forked {
    // SAFETY: the child goes on with this thread alone; glibc keeps its allocator usable
    // there, and `_exit` runs no destructor of what belongs to the parent.
    unsafe {
        match check(libc::fork()) {
            0 => {
                // There is no watchdog in here.
                libc::alarm(30);
                let result = catch_unwind(AssertUnwindSafe(child));
                libc::_exit(if result.is_ok() { 0 } else { 101 })
            }
            pid => Forked(pid),
        }
    }
}

/// Forks. Returns `None` in the child, which must end with [`exit`].
pub(crate) fn fork_here() -> Option<Forked> {
    // SAFETY: as in `fork`.
    unsafe {
        match check(libc::fork()) {
            0 => {
                libc::alarm(30);
                None
            }
            pid => Some(Forked(pid)),
        }
    }
}

/// Ends a child at once.
pub(crate) fn exit() -> ! {
    // SAFETY: nothing of it is used any more.
    unsafe { libc::_exit(0) }
}

impl Forked {
    /// Its exit code, or minus the signal that ended it.
    pub(crate) fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: the pointer is to a local.
        let pid = check(unsafe { libc::waitpid(self.0, &mut status, 0) });
        assert_eq!(pid, self.0);
        if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            -libc::WTERMSIG(status)
        }
    }
}

/// Lets this process have file descriptors below this number only.
pub(crate) fn limit_fds(below: usize) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointers are to a local.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit));
        limit.rlim_cur = below as libc::rlim_t;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit));
    }
}

/// Lets SIGPIPE end the process, as it does in programs that are not of Rust.
pub(crate) fn restore_sigpipe() {
    // SAFETY: no handler is involved.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_ne!(old, libc::SIG_ERR);
}

/// Interrupts this thread every millisecond, until it is dropped.
pub(crate) struct Interrupts {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<usize>>,
}

impl Interrupts {
    pub(crate) fn start() -> Interrupts {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: the handler does nothing. Without SA_RESTART calls are interrupted.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
            check(libc::sigaction(
                libc::SIGALRM,
                &action,
                std::ptr::null_mut(),
            ));
        }
        // SAFETY: it cannot fail.
        let target = unsafe { libc::pthread_self() } as usize;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
                // SAFETY: the target lives: it waits for this thread in `stop`.
                unsafe { libc::pthread_kill(target as libc::pthread_t, libc::SIGALRM) };
                sent += 1;
            }
            sent
        });
        Interrupts {
            stop,
            thread: Some(thread),
        }
    }

    /// Returns how many there were.
    pub(crate) fn stop(mut self) -> usize {
        self.end()
    }

    fn end(&mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.thread
            .take()
            .map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.end();
    }
}

fn files([a, b]: [libc::c_int; 2]) -> (File, File) {
    // SAFETY: the caller has just got them from the system.
    unsafe { (File::from_raw_fd(a), File::from_raw_fd(b)) }
}

/// The reading and the writing end of a pipe.
pub(crate) fn pipe() -> (File, File) {
    let mut fds = [0; 2];
    // SAFETY: there is room for two.
    check(unsafe { libc::pipe(fds.as_mut_ptr()) });
    files(fds)
}

/// A pseudoterminal: the program's side, and the one of who sits before it.
pub(crate) fn pty() -> (File, File) {
    let mut fds = [0; 2];
    let none = std::ptr::null_mut::<libc::c_void>();
    let [program, user] = &mut fds;
    // SAFETY: the pointers are to locals, or null where that is allowed.
    check(unsafe { libc::openpty(user, program, none.cast(), none.cast(), none.cast()) });
    // Bytes as they are.
    // SAFETY: the pointers are to a local, the fd is open.
    unsafe {
        let mut modes: libc::termios = std::mem::zeroed();
        check(libc::tcgetattr(fds[0], &mut modes));
        libc::cfmakeraw(&mut modes);
        check(libc::tcsetattr(fds[0], libc::TCSANOW, &modes));
    }
    files(fds)
}

/// Puts a duplicate of `from` in the place of `to`. Returns what was there.
pub(crate) fn replace_fd(to: RawFd, from: &impl AsRawFd) -> OwnedFd {
    // SAFETY: the numbers are of open files. Whoever owns `to` is cheated: that is what
    // it is for.
    unsafe {
        let old = check(libc::dup(to));
        check(libc::dup2(from.as_raw_fd(), to));
        OwnedFd::from_raw_fd(old)
    }
}

/// Gives up root's rights, which limits do not bind, in all threads.
#[cfg(target_os = "linux")]
pub(crate) fn become_nobody() {
    const NOBODY: libc::uid_t = 65534;
    // SAFETY: plain numbers.
    unsafe {
        if libc::geteuid() == 0 {
            check(libc::setuid(NOBODY));
        }
    }
}

/// Lets this user have so many threads; `None` is as many as ever.
#[cfg(target_os = "linux")]
pub(crate) fn limit_threads(threads: Option<libc::rlim_t>) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointers are to a local.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NPROC, &mut limit));
        limit.rlim_cur = threads.unwrap_or(limit.rlim_max);
        check(libc::setrlimit(libc::RLIMIT_NPROC, &limit));
    }
}
