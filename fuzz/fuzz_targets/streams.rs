//! Connected sockets: whatever tasks and threads do with their ends, what arrives is a prefix of
//! what was sent, and all of it if the end of the stream is reached in order.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use soloist::io::{AsyncRead, AsyncWrite};
use soloist::net::TcpStream;
use soloist::net::unix::UnixStream;
use soloist::task::yield_now;

use crate::process::fail;
use crate::world::World;

#[derive(Clone)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// The bytes in one direction.
struct Way {
    /// How many were sent, and received. Locked during each operation.
    counts: Mutex<(u64, u64)>,
    /// Whether the connection was reset on purpose, which may lose bytes.
    is_cut: AtomicBool,
}

/// The `n`th byte.
fn byte(n: u64) -> u8 {
    (n.wrapping_mul(0x9E37_79B9) >> 7) as u8
}

#[derive(Clone)]
pub(crate) struct End {
    stream: Arc<Stream>,
    way: Arc<Way>,
    pub(crate) writes: bool,
}

/// What all connections over TCP are made with.
fn listener() -> &'static std::net::TcpListener {
    static LISTENER: std::sync::OnceLock<std::net::TcpListener> = std::sync::OnceLock::new();
    LISTENER.get_or_init(|| std::net::TcpListener::bind("127.0.0.1:0").expect("a listener"))
}

/// Called before the open descriptors are recorded.
pub(crate) fn set_up() {
    listener();
}

/// Both ends of a connection: one writes, the other one reads. Inside of a runtime.
pub(crate) fn connect(tcp: bool) -> [End; 2] {
    let (one, other) = if tcp {
        let address = listener().local_addr().expect("its address");
        let one = std::net::TcpStream::connect(address).expect("a connection");
        let (other, _) = listener().accept().expect("a connection");
        let stream = |stream| Stream::Tcp(TcpStream::try_from(stream).expect("it is registered"));
        (stream(one), stream(other))
    } else {
        let (one, other) = UnixStream::pair().expect("a pair");
        (Stream::Unix(one), Stream::Unix(other))
    };
    let way = Arc::new(Way {
        counts: Mutex::new((0, 0)),
        is_cut: AtomicBool::new(false),
    });
    let end = |stream, writes| End {
        stream: Arc::new(stream),
        way: way.clone(),
        writes,
    };
    [end(one, true), end(other, false)]
}

impl End {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match Arc::get_mut(&mut self.stream) {
            Some(Stream::Unix(stream)) => Pin::new(stream).poll_read(cx, buf),
            Some(Stream::Tcp(stream)) => Pin::new(stream).poll_read(cx, buf),
            None => match &*self.stream {
                Stream::Unix(stream) => Pin::new(&mut &*stream).poll_read(cx, buf),
                Stream::Tcp(stream) => Pin::new(&mut &*stream).poll_read(cx, buf),
            },
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Arc::get_mut(&mut self.stream) {
            Some(Stream::Unix(stream)) => Pin::new(stream).poll_write(cx, buf),
            Some(Stream::Tcp(stream)) => Pin::new(stream).poll_write(cx, buf),
            None => match &*self.stream {
                Stream::Unix(stream) => Pin::new(&mut &*stream).poll_write(cx, buf),
                Stream::Tcp(stream) => Pin::new(&mut &*stream).poll_write(cx, buf),
            },
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.stream {
            Stream::Unix(stream) => Pin::new(&mut &*stream).poll_close(cx),
            Stream::Tcp(stream) => Pin::new(&mut &*stream).poll_close(cx),
        }
    }

    /// One read or write of at most `len` bytes. At the end of the stream 0.
    fn poll_once(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<io::Result<usize>> {
        let way = self.way.clone();
        let mut counts = way.counts.lock().unwrap();
        let cut = |error: &io::Error| {
            use io::ErrorKind::{ConnectionAborted, ConnectionReset, TimedOut};
            if [ConnectionReset, ConnectionAborted, TimedOut].contains(&error.kind()) {
                way.is_cut.store(true, Ordering::SeqCst);
            }
        };
        if self.writes {
            let buf: Vec<u8> = (0..len as u64).map(|n| byte(counts.0 + n)).collect();
            let result = std::task::ready!(self.poll_write(cx, &buf));
            match &result {
                Ok(0) => fail("a write of nothing"),
                Ok(n) => counts.0 += *n as u64,
                Err(error) => cut(error),
            }
            return Poll::Ready(result);
        }
        let mut buf = vec![0; len];
        let result = std::task::ready!(self.poll_read(cx, &mut buf));
        match &result {
            Ok(0) if !way.is_cut.load(Ordering::SeqCst) && counts.0 != counts.1 => {
                fail("the end of a stream before all has arrived");
            }
            Ok(n) => {
                if *n > len || (0..*n).any(|i| buf[i] != byte(counts.1 + i as u64)) {
                    fail("what arrives is not what was sent");
                }
                counts.1 += *n as u64;
                if counts.1 > counts.0 {
                    fail("more arrives than was sent");
                }
            }
            Err(error) => cut(error),
        }
        Poll::Ready(result)
    }

    /// Whether the system would let it go on, whatever the reactor knows of that.
    fn is_ready(&self) -> bool {
        let fd = match &*self.stream {
            Stream::Unix(stream) => stream.as_fd().as_raw_fd(),
            Stream::Tcp(stream) => stream.as_fd().as_raw_fd(),
        };
        let wanted = if self.writes {
            libc::POLLOUT
        } else {
            libc::POLLIN
        };
        let mut poll = libc::pollfd {
            fd,
            events: wanted,
            revents: 0,
        };
        // SAFETY: a system call; the pointer is to one live entry.
        unsafe { libc::poll(&raw mut poll, 1, 0) > 0 && poll.revents & wanted != 0 }
    }

    /// The operations that need no `Context`.
    pub(crate) fn act(self, world: &World, op: u8) {
        let shutdown = |how| match &*self.stream {
            Stream::Unix(stream) => stream.shutdown(how),
            Stream::Tcp(stream) => stream.shutdown(how),
        };
        match op % 8 {
            0 => return,
            1 => {
                // A clone of the stream, which shares the registration.
                let clone = End {
                    stream: Arc::new((*self.stream).clone()),
                    ..self.clone()
                };
                world.keep_end(clone);
            }
            2 => world.keep_end(self.clone()),
            3 => drop(shutdown(Shutdown::Write)),
            4 => {
                self.way.is_cut.store(true, Ordering::SeqCst);
                let _ = shutdown(Shutdown::Both);
            }
            5 => {
                self.way.is_cut.store(true, Ordering::SeqCst);
                if let Stream::Tcp(stream) = &*self.stream {
                    let _ = stream.set_linger(Some(Duration::ZERO));
                }
                return;
            }
            // To the foreign thread, by value or by reference.
            6 => {
                let mut end = self;
                crate::world::elsewhere(op & 0x80 != 0, move || end.use_here(op));
                return;
            }
            _ => {
                let mut end = self.clone();
                crate::world::elsewhere(op & 0x80 != 0, move || end.use_here(op));
            }
        }
        world.keep_end(self);
    }

    /// Uses it in a runtime of this thread, for a few polls.
    fn use_here(&mut self, op: u8) {
        soloist::block_on(async {
            for _ in 0..op >> 4 & 3 {
                let once = poll_fn(|cx| Poll::Ready(self.poll_once(cx, 1 + usize::from(op & 0xf))));
                let _ = once.await;
                yield_now().await;
            }
        });
    }
}

/// Reads or writes until the end, an error, or a number of bytes.
pub(crate) struct Transfer {
    world: Rc<World>,
    end: Option<End>,
    len: usize,
    left: usize,
    /// What comes after that: it is closed, dropped, or kept for others.
    after: u8,
}

impl Transfer {
    pub(crate) fn new(world: &Rc<World>, end: End, how: u8) -> Transfer {
        let len = [1, 3, 100, 4096, 70_000][usize::from(how & 7) % 5];
        let left = [1, 150, 300, 5][usize::from(how >> 3 & 3)] * len;
        Transfer {
            world: world.clone(),
            end: Some(end),
            len,
            left,
            after: how >> 5,
        }
    }
}

impl Future for Transfer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        while this.left > 0 {
            let Some(end) = &mut this.end else {
                return Poll::Ready(());
            };
            // A socket that is shared is always tried, and a write may find room before the system
            // reports any.
            let was_ready = this.world.is_auditing() && end.is_ready();
            let Poll::Ready(result) = end.poll_once(cx, this.len.min(this.left)) else {
                if this.world.is_auditing() && end.is_ready() {
                    this.world.suspects.set(true);
                }
                return Poll::Pending;
            };
            // An error costs nothing.
            if result.is_ok() {
                let operations = &this.world.operations;
                operations.count(128, "more than 128 operations of sockets in one poll");
            }
            if was_ready {
                fail("a socket is ready, and nobody has told the task that waits for it");
            }
            match result {
                Ok(n) if n > 0 => this.left -= n,
                // A reset, a broken pipe, the end; or it belongs to another thread.
                _ => {
                    this.end = None;
                    return Poll::Ready(());
                }
            }
        }
        match (&mut this.end, this.after) {
            (Some(end), 0..=2) if end.writes => {
                let _ = std::task::ready!(end.poll_close(cx));
            }
            (Some(end), 3..=5) => this.world.keep_end(end.clone()),
            _ => {}
        }
        this.end = None;
        Poll::Ready(())
    }
}

/// How many operations were completed in the poll that is under way.
#[derive(Default)]
pub(crate) struct Operations(Cell<usize>);

impl Operations {
    pub(crate) fn reset(&self) {
        self.0.set(0);
    }

    pub(crate) fn count(&self, most: usize, what: &str) {
        self.0.set(self.0.get() + 1);
        if self.0.get() > most {
            fail(what);
        }
    }
}
