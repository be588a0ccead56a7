//! How the exit of a child is noticed: by its pidfd, or by `SIGCHLD`.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::task::{Context as TaskContext, Poll, ready};

use super::sigchld::SigchldWait;
use crate::reactor::Direction;
use crate::socket::Socket;

/// A child process without its pipes. `Child::try_wait` reaps it, and remembers the status.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    watch: ExitWatch,
}

/// What reports the exit of a child. Made by the first wait.
#[derive(Debug)]
enum ExitWatch {
    None,
    /// Readable once the process has exited.
    Pidfd(Socket<OwnedFd>),
    Sigchld(SigchldWait),
}

impl Process {
    pub(super) fn new(child: Child) -> Process {
        let watch = ExitWatch::None;
        Process { child, watch }
    }

    /// Whether it has to be reaped: it runs, or its status has not been fetched. After an error
    /// the status is lost.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Marks its watch as one for which no task waits.
    pub(super) fn set_background(&self) {
        if let ExitWatch::Pidfd(socket) = &self.watch {
            socket.set_background();
        }
    }

    /// Ready with the status. If it is pending, the task is woken when the child exits.
    pub(super) fn poll_wait(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<ExitStatus>> {
        let status = ready!(self.poll_status(cx));
        self.watch = ExitWatch::None;
        Poll::Ready(status)
    }

    fn poll_status(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<ExitStatus>> {
        let child = &mut self.child;
        loop {
            match &self.watch {
                ExitWatch::None => {
                    if let Some(status) = child.try_wait()? {
                        return Poll::Ready(Ok(status));
                    }
                    self.watch = match pidfd(child) {
                        Some(socket) => ExitWatch::Pidfd(socket),
                        None => ExitWatch::Sigchld(SigchldWait::new(child.id())),
                    };
                }
                // A child that has not exited is like a read that would block.
                ExitWatch::Pidfd(socket) => {
                    return socket.poll_operate(Direction::Read, cx, true, |_| {
                        let status = child.try_wait()?;
                        status.ok_or_else(|| io::ErrorKind::WouldBlock.into())
                    });
                }
                ExitWatch::Sigchld(wait) => {
                    if let Some(status) = child.try_wait()? {
                        return Poll::Ready(Ok(status));
                    }
                    ready!(wait.poll_changed(cx))?;
                }
            }
        }
    }
}

/// `None` where the system has none: before Linux 5.3, in some sandboxes, and when there are no
/// file descriptors left. Only this process reaps the child, so the pid is still that of the child.
#[cfg(all(target_os = "linux", not(soloist_sigchld)))]
fn pidfd(child: &Child) -> Option<Socket<OwnedFd>> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    let fd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok()?;
    let socket = Socket::new(fd, "`Child::wait`").ok()?;
    socket.add().ok()?;
    Some(socket)
}

/// This system has no pidfds.
#[cfg(not(all(target_os = "linux", not(soloist_sigchld))))]
fn pidfd(_: &Child) -> Option<Socket<OwnedFd>> {
    None
}
