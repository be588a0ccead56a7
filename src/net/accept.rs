//! What the listeners have in common: accepting connections, and backing off after a failed
//! accept.

use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockRef};

use crate::executor;
use crate::executor::budget;
use crate::reactor::{AsRaw, Direction};
use crate::socket::Socket;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Mutex, lock};
use crate::time::{Sleep, now, sleep_until};

/// The pause after the first failure. It doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Named in the error outside of a runtime.
pub(super) const ACCEPTING: &str = "accepting a connection";

/// A listener, shared by its clones.
#[derive(Debug)]
pub(super) struct Acceptor<L> {
    socket: Socket<L>,
    backoff: Arc<AcceptBackoff>,
}

impl<L> Clone for Acceptor<L> {
    fn clone(&self) -> Self {
        Acceptor {
            socket: self.socket.clone(),
            backoff: self.backoff.clone(),
        }
    }
}

/// What does not depend on accepting, such as waiting for readiness.
impl<L> Deref for Acceptor<L> {
    type Target = Socket<L>;

    fn deref(&self) -> &Socket<L> {
        &self.socket
    }
}

/// `convert` makes the result of an accept from the connection, which is in nonblocking mode, and
/// the address of the peer.
impl<L: AsRaw + 'static> Acceptor<L> {
    /// Takes over a listener that is in nonblocking mode. `what` is named in the error outside
    /// of a runtime.
    pub(super) fn new(socket: Socket<L>) -> Acceptor<L> {
        Acceptor {
            socket,
            backoff: Arc::default(),
        }
    }

    /// The listener itself, if there are no clones.
    pub(super) fn into_inner(self) -> Result<L, Acceptor<L>> {
        let backoff = self.backoff;
        let listener = self.socket.into_inner();
        listener.map_err(|socket| Acceptor { socket, backoff })
    }

    pub(super) async fn accept<R>(&self, accept: impl Fn(&L) -> io::Result<R>) -> io::Result<R> {
        if let Some(pause) = self.backoff.pause()? {
            pause.await;
        }
        let accepted = self
            .socket
            .read_with(|io| self.call_accept(io, &accept))
            .await;
        budget::charge(budget::ACCEPT - 1);
        accepted
    }

    /// Like `accept`, but does not wait.
    pub(super) fn try_accept<R>(&self, accept: impl Fn(&L) -> io::Result<R>) -> io::Result<R> {
        let accept = |io: &L| self.call_accept(io, &accept);
        let accepted = self.socket.try_operate(Direction::Read, accept)?;
        budget::charge(budget::ACCEPT - 1);
        Ok(accepted)
    }

    /// Like `accept`, but does not pause.
    pub(super) fn poll_accept<R>(
        &self,
        cx: &mut TaskContext<'_>,
        accept: impl Fn(&L) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let accept = |io: &L| self.call_accept(io, &accept);
        let accepted = self.socket.poll_operate(Direction::Read, cx, false, accept);
        let accepted = ready!(accepted);
        budget::charge(budget::ACCEPT - 1);
        Poll::Ready(accepted)
    }

    /// Like `accept`. The caller keeps `pause` between the polls.
    pub(super) fn poll_next<R>(
        &self,
        cx: &mut TaskContext<'_>,
        pause: &mut Option<Sleep>,
        accept: impl Fn(&L) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        if pause.is_none() {
            *pause = self.backoff.pause()?;
        }
        if let Some(sleep) = pause {
            ready!(Pin::new(sleep).poll(cx));
            *pause = None;
        }
        self.poll_accept(cx, accept)
    }

    fn call_accept<R>(&self, listener: &L, accept: impl Fn(&L) -> io::Result<R>) -> io::Result<R> {
        // Checked first: a connection that cannot be registered would be lost.
        executor::inside_or_error(ACCEPTING)?;
        loop {
            match accept(listener) {
                Ok(accepted) => {
                    self.backoff.succeeded();
                    return Ok(accepted);
                }
                Err(error) => match error.kind() {
                    // The peer is gone already. The listener is as good as before.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Err(error),
                    _ => {
                        self.backoff.failed();
                        return Err(error);
                    }
                },
            }
        }
    }
}

/// Counts accepts in a row that failed, as for a lack of file descriptors or memory.
#[derive(Debug, Default)]
struct AcceptBackoff {
    /// 0 after a success; `until` has no meaning then. Relaxed: a task that reads an old value
    /// makes one attempt too early.
    failures: AtomicU32,
    until: Mutex<Option<Instant>>,
}

impl AcceptBackoff {
    /// The rest of the pause after a failure.
    fn pause(&self) -> io::Result<Option<Sleep>> {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        executor::inside_or_error(ACCEPTING)?;
        let until = *lock(&self.until);
        Ok(until.filter(|until| *until > now()).map(sleep_until))
    }

    fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(failures);
        *lock(&self.until) = Some(now() + pause.min(LONGEST_PAUSE));
    }

    fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }
}

/// Accepts a connection in nonblocking mode, in one system call where there is one for that.
pub(super) fn accept_nonblocking(listener: &impl AsRaw) -> io::Result<(socket2::Socket, SockAddr)> {
    let listener = SockRef::from(listener);
    #[cfg(any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "illumos",
        target_os = "linux",
        target_os = "netbsd",
        target_os = "openbsd",
    ))]
    return listener.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    #[cfg(not(any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "illumos",
        target_os = "linux",
        target_os = "netbsd",
        target_os = "openbsd",
    )))]
    {
        let (stream, peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok((stream, peer))
    }
}
