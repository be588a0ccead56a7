//! What listeners have in common: how they accept, and that they leave themselves alone
//! for a while when they could not.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockRef};

use crate::executor::budget;
use crate::executor;
use crate::socket::Socket;
use crate::source::{AsRaw, Direction};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};
use crate::time::{Sleep, now, sleep_until};

/// The first pause after an accept that failed: each one is twice as long.
const FIRST: Duration = Duration::from_millis(10);
/// The longest.
const LONGEST: Duration = Duration::from_secs(1);

/// For the error outside of a runtime.
pub(super) const WHAT: &str = "accepting a connection";

/// A std listener.
pub(super) trait Accept: AsRaw + 'static {
    /// A connection in nonblocking mode, and where it comes from.
    type Accepted;

    fn accept(&self) -> io::Result<Self::Accepted>;
}

/// Accepts a connection in nonblocking mode.
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
        let (stream, from) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok((stream, from))
    }
}

/// A listener, which its clones share.
#[derive(Debug)]
pub(super) struct Listening<L> {
    socket: Socket<L>,
    starved: Arc<Starved>,
}

/// Accepts in a row that failed for want of file descriptors or memory.
#[derive(Debug)]
struct Starved {
    /// Whether there was one: what `pause` says counts only then. Relaxed: who does not
    /// see it yet tries once too often.
    is: AtomicBool,
    pause: Mutex<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    /// How long the next one is.
    next: Duration,
    /// When this one ends. Who gives up before that and comes again begins no new one.
    until: Option<Instant>,
}

/// How far a `poll_accept` has got.
#[derive(Debug, Default)]
pub(super) enum Turn {
    /// It has not looked yet whether it has to wait.
    #[default]
    New,
    Pausing(Sleep),
    Accepting,
}

impl<L> Clone for Listening<L> {
    fn clone(&self) -> Self {
        Listening {
            socket: self.socket.clone(),
            starved: self.starved.clone(),
        }
    }
}

impl<L: Accept> Listening<L> {
    /// Takes over a listener that is in nonblocking mode already. `what` is for the
    /// error outside of a runtime.
    pub(super) fn new(listener: L, what: &str) -> io::Result<Listening<L>> {
        let starved = Starved {
            is: AtomicBool::new(false),
            pause: Mutex::new(Pause {
                next: FIRST,
                until: None,
            }),
        };
        Ok(Listening {
            socket: Socket::new(listener, what)?,
            starved: Arc::new(starved),
        })
    }

    pub(super) fn get_ref(&self) -> &L {
        self.socket.get_ref()
    }

    /// The listener itself, if this is the only clone.
    pub(super) fn into_inner(self) -> Result<L, Listening<L>> {
        let starved = self.starved;
        let listener = self.socket.into_inner();
        listener.map_err(|socket| Listening { socket, starved })
    }

    pub(super) async fn accept(&self) -> io::Result<L::Accepted> {
        if let Some(pause) = self.pause()? {
            pause.await;
        }
        let accepted = self.socket.read_with(|io| self.try_accept(io)).await;
        budget::charge(budget::ACCEPT - 1);
        accepted
    }

    /// As `accept`. `turn` is kept by the caller.
    pub(super) fn poll_accept(
        &self,
        cx: &mut TaskContext<'_>,
        turn: &mut Turn,
    ) -> Poll<io::Result<L::Accepted>> {
        if let Turn::New = turn {
            *turn = match self.pause()? {
                Some(pause) => Turn::Pausing(pause),
                None => Turn::Accepting,
            };
        }
        if let Turn::Pausing(pause) = turn {
            ready!(Pin::new(pause).poll(cx));
            *turn = Turn::Accepting;
        }
        let accept = |io: &L| self.try_accept(io);
        let accepted = ready!(self.socket.poll_io(Direction::Read, cx, false, accept));
        budget::charge(budget::ACCEPT);
        *turn = Turn::New;
        Poll::Ready(accepted)
    }

    /// How long to leave it alone.
    fn pause(&self) -> io::Result<Option<Sleep>> {
        if !self.starved.is.load(Ordering::Relaxed) {
            return Ok(None);
        }
        executor::current_or_error(WHAT)?;
        let until = lock(&self.starved.pause).until;
        Ok(until.map(sleep_until))
    }

    /// A connection that went while it waited is no error of the listener's.
    fn try_accept(&self, listener: &L) -> io::Result<L::Accepted> {
        // What cannot be registered would be lost.
        executor::current_or_error(WHAT)?;
        loop {
            match listener.accept() {
                Err(error) => match error.kind() {
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Err(error),
                    _ => {
                        self.starved.begin();
                        return Err(error);
                    }
                },
                Ok(accepted) => {
                    self.starved.end();
                    return Ok(accepted);
                }
            }
        }
    }
}

impl Starved {
    fn begin(&self) {
        let mut pause = lock(&self.pause);
        pause.until = now().checked_add(pause.next);
        pause.next = (pause.next * 2).min(LONGEST);
        self.is.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        if self.is.swap(false, Ordering::Relaxed) {
            *lock(&self.pause) = Pause {
                next: FIRST,
                until: None,
            };
        }
    }
}
