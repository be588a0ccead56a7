//! How the end of a child is noticed: through its pidfd, or `SIGCHLD`.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::task::{Context as TaskContext, Poll, ready};

use super::sigchld::Listener;
use crate::socket::Socket;
use crate::source::Direction;

/// A child process without its pipes. Reaping it is std's `try_wait`, which remembers
/// the status.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    notice: Notice,
}

/// What tells that the child has ended. Made when somebody first waits for that.
#[derive(Debug)]
enum Notice {
    None,
    /// Readable from the end of the process on.
    Pidfd(Socket<OwnedFd>),
    Sigchld(Listener),
}

impl Process {
    pub(super) fn new(child: Child) -> Process {
        let notice = Notice::None;
        Process { child, notice }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Whether it has to be waited for: its status is not known, and not lost.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.try_wait(), Ok(None))
    }

    /// From now on nobody waits for it but who reaps it.
    pub(super) fn set_background(&self) {
        if let Notice::Pidfd(socket) = &self.notice {
            socket.set_background();
        }
    }

    /// Its status, or the task is woken when it ends.
    pub(super) fn poll_wait(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<ExitStatus>> {
        let status = ready!(self.poll_status(cx));
        self.notice = Notice::None;
        Poll::Ready(status)
    }

    fn poll_status(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<ExitStatus>> {
        let child = &mut self.child;
        loop {
            match &self.notice {
                Notice::None => {
                    if let Some(status) = child.try_wait()? {
                        return Poll::Ready(Ok(status));
                    }
                    self.notice = match pidfd(child) {
                        Some(socket) => Notice::Pidfd(socket),
                        None => Notice::Sigchld(Listener::new(child.id())),
                    };
                }
                // A wait is to this fd what a read is to others.
                Notice::Pidfd(socket) => {
                    return socket.poll_io(Direction::Read, cx, true, |_| {
                        let status = child.try_wait()?;
                        status.ok_or_else(|| io::ErrorKind::WouldBlock.into())
                    });
                }
                Notice::Sigchld(listener) => {
                    if let Some(status) = child.try_wait()? {
                        return Poll::Ready(Ok(status));
                    }
                    ready!(listener.poll_changed(cx))?;
                }
            }
        }
    }
}

/// `None` where the system gives none: before Linux 5.3, in some sandboxes, and when
/// there are no fds left. Nobody else reaps the child, so the number is its own.
#[cfg(all(target_os = "linux", not(soloist_sigchld)))]
fn pidfd(child: &Child) -> Option<Socket<OwnedFd>> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    let fd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok()?;
    let socket = Socket::new(fd, "`Child::wait`").ok()?;
    socket.add().ok()?;
    Some(socket)
}

/// There are none.
#[cfg(not(all(target_os = "linux", not(soloist_sigchld))))]
fn pidfd(_: &Child) -> Option<Socket<OwnedFd>> {
    None
}
