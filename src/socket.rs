//! [`Socket`]: an I/O object and where it waits. What does not depend on the type of the object is
//! in [`AnySocket`].

mod any;

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use socket2::SockRef;

#[cfg(feature = "testing")]
pub(crate) use self::any::Simulated;
pub(crate) use self::any::{AnySocket, Bytes};
use self::any::{Operation, Place, ReadinessWait};
use crate::executor;
use crate::reactor::{AsRaw, Direction, Source};

/// A registered I/O object. Clones share it.
pub(crate) struct Socket<T> {
    backend: Arc<Backend<T>>,
}

/// Where an object waits until it is ready.
enum Backend<T> {
    /// In the reactor.
    System(Source<T>),
    /// In the simulated network that it belongs to.
    #[cfg(feature = "testing")]
    World(T, fn(&T) -> &dyn Simulated),
}

impl<T> Clone for Socket<T> {
    fn clone(&self) -> Self {
        Socket {
            backend: self.backend.clone(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Socket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(self.get_ref()).finish()
    }
}

impl<T: AsRaw + 'static> Socket<T> {
    /// Registers an object that is in nonblocking mode already. `what` names the operation in the
    /// error that is returned outside of a runtime.
    pub(crate) fn new(io: T, what: &str) -> io::Result<Socket<T>> {
        executor::inside_or_error(what)?;
        Ok(Socket {
            backend: Arc::new(Backend::System(Source::new(io)?)),
        })
    }

    /// Adds it to the poller now instead of at the first wait.
    pub(crate) fn add(&self) -> io::Result<()> {
        match self.as_any().place {
            Place::System(registration) => registration.add_now(),
            #[cfg(feature = "testing")]
            Place::World(_) => Ok(()),
        }
    }
}

/// The largest number of buffers that the system takes in one call. It refuses a longer list as a
/// whole.
pub(crate) const MAX_BUFFERS: usize = 1024;

/// How many bytes one read into these buffers can return.
pub(crate) fn room(bufs: &[IoSliceMut<'_>]) -> usize {
    bufs.iter().take(MAX_BUFFERS).map(|buf| buf.len()).sum()
}

/// How many bytes are in these buffers.
pub(crate) fn len(bufs: &[IoSlice<'_>]) -> usize {
    bufs.iter().map(|buf| buf.len()).sum()
}

/// Sets nonblocking mode.
#[cfg(unix)]
pub(crate) fn set_nonblocking(io: &impl std::os::fd::AsFd) -> io::Result<()> {
    SockRef::from(io).set_nonblocking(true)
}

/// Sets nonblocking mode.
#[cfg(windows)]
pub(crate) fn set_nonblocking(io: &impl std::os::windows::io::AsSocket) -> io::Result<()> {
    SockRef::from(io).set_nonblocking(true)
}

impl<T> Socket<T> {
    /// An object of a simulated network. It needs no runtime.
    #[cfg(feature = "testing")]
    pub(crate) fn simulated(io: T, as_simulated: fn(&T) -> &dyn Simulated) -> Socket<T> {
        Socket {
            backend: Arc::new(Backend::World(io, as_simulated)),
        }
    }

    /// The socket without its object. To be called for each poll, since clones can be made between
    /// two of them.
    #[inline]
    pub(crate) fn as_any(&self) -> AnySocket<'_> {
        AnySocket {
            place: match &*self.backend {
                Backend::System(source) => Place::System(source.registration()),
                #[cfg(feature = "testing")]
                Backend::World(io, as_simulated) => Place::World(as_simulated(io)),
            },
            is_unique: Arc::strong_count(&self.backend) == 1,
        }
    }

    /// Marks it as internal: waits for it do not count when deadlocks are detected.
    #[cfg(all(unix, feature = "signal"))]
    pub(crate) fn set_background(&self) {
        if let Some(registration) = self.as_any().registration() {
            registration.set_background();
        }
    }

    /// Marks it as shared: other code may use the object, so its readiness is not known.
    pub(crate) fn set_shared(&self) {
        if let Some(readiness) = self.as_any().readiness() {
            readiness.set_shared();
        }
    }

    #[inline]
    pub(crate) fn get_ref(&self) -> &T {
        match &*self.backend {
            Backend::System(source) => source.get_ref(),
            #[cfg(feature = "testing")]
            Backend::World(io, _) => io,
        }
    }

    /// Whether both are clones of the same socket.
    pub(crate) fn is_same(&self, other: &Socket<T>) -> bool {
        Arc::ptr_eq(&self.backend, &other.backend)
    }

    /// The object itself, if it is one of the system and this is the only clone.
    pub(crate) fn into_inner(self) -> Result<T, Socket<T>> {
        if self.as_any().registration().is_none() {
            return Err(self);
        }
        match Arc::try_unwrap(self.backend) {
            Ok(Backend::System(source)) => Ok(source.into_inner()),
            #[cfg(feature = "testing")]
            Ok(Backend::World(io, _)) => Ok(io),
            Err(backend) => Err(Socket { backend }),
        }
    }

    /// Tries an operation that is not a read or write of a stream. If it would block, the task is
    /// woken when the direction is ready.
    pub(crate) fn poll_operate<R>(
        &self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
        exclusive: bool,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_with(operation, |socket, operation| {
            socket.poll_operate(direction, cx, exclusive, operation)
        })
    }

    /// Like `poll_operate`, but returns `WouldBlock` instead of waiting.
    pub(crate) fn try_operate<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut value = None;
        self.as_any().try_operate(direction, &mut || {
            value = Some(operation(self.get_ref())?);
            Ok(0)
        })?;
        Ok(value.expect("the operation has set it"))
    }

    /// Waits until the direction is known to be ready. For a shared source: until it is reported.
    pub(crate) async fn wait_ready(&self, direction: Direction) -> io::Result<()> {
        let mut wait = ReadinessWait::new(direction);
        poll_fn(|cx| wait.poll_known(self.as_any(), cx)).await
    }

    /// Waits until the poller reports the direction.
    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<()> {
        let mut wait = ReadinessWait::new(direction);
        poll_fn(|cx| wait.poll_reported(self.as_any(), cx)).await
    }

    /// Reads or accepts, as soon as that does not block.
    pub(crate) async fn read_with<R>(
        &self,
        read: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(Direction::Read, read).await
    }

    /// Writes, as soon as that does not block.
    pub(crate) async fn write_with<R>(
        &self,
        write: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(Direction::Write, write).await
    }

    /// Calls an operation as soon as the direction is ready, and again if it would block.
    pub(crate) async fn operate<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut wait = ReadinessWait::new(direction);
        poll_fn(|cx| {
            self.poll_with(&mut operation, |socket, operation| {
                wait.poll_operate(socket, cx, operation)
            })
        })
        .await
    }

    /// Calls `f` with an operation that returns a number, and keeps what `operation` returns.
    fn poll_with<R>(
        &self,
        mut operation: impl FnMut(&T) -> io::Result<R>,
        f: impl FnOnce(AnySocket<'_>, Operation<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<R>> {
        let mut value = None;
        let polled = f(self.as_any(), &mut || {
            value = Some(operation(self.get_ref())?);
            Ok(0)
        });
        polled.map_ok(|_| value.expect("the operation has set it"))
    }
}
