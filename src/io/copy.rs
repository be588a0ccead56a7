//! Copying between two streams in both directions.

use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use super::{AsyncRead, AsyncWrite};
use crate::time::{Sleep, now, sleep};

/// The size of the buffer for each direction.
const BUFFER: usize = 16 * 1024;

/// Copies from `a` to `b` and from `b` to `a` at the same time, until both streams have ended.
/// Returns the number of bytes copied from `a` to `b`, and from `b` to `a`.
///
/// When one stream ends, the other is closed for writing after the last byte, as by
/// [`close`](super::AsyncWriteExt::close). Copying in the opposite direction continues, so a
/// half-closed connection works. Nothing more is read while the writer is not ready.
///
/// The streams can be passed by value or by `&mut`. The sockets of this crate can also be
/// passed by `&`, because they are read and written by shared reference.
///
/// For an idle timeout, or to know how many bytes had been copied before an error, use
/// [`CopyBidirectional`].
///
/// # Errors
///
/// Returns the first error of either direction, and stops copying in both.
///
/// # Cancel safety
///
/// Bytes that have been read but not yet written are lost: up to 16 KiB in each direction.
///
/// # Examples
///
/// A proxy:
///
/// ```no_run
/// use soloist::net::{TcpListener, TcpStream};
/// use soloist::{block_on, io, spawn, stream::StreamExt};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
///     let mut incoming = listener.incoming();
///     while let Some(client) = incoming.next().await {
///         let client = client?;
///         spawn(async move {
///             let server = TcpStream::connect("example.org:80").await?;
///             io::copy_bidirectional(&client, &server).await
///         })
///         .detach();
///     }
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn copy_bidirectional<A, B>(a: A, b: B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    CopyBidirectional::new(a, b).await
}

/// Copies in both directions like [`copy_bidirectional`], with an idle timeout, and with counts of
/// the bytes that can be read at any time. It is a future with the same output.
///
/// # Errors
///
/// Returns the first error of either direction, and stops copying in both. The error of the idle
/// timeout is [`TimedOut`](io::ErrorKind::TimedOut).
///
/// # Cancel safety
///
/// Nothing is lost while the value itself is kept: await `&mut copy`. With it up to 16 KiB are dropped
/// in each direction.
///
/// # Examples
///
/// ```
/// use std::{io::ErrorKind, time::Duration};
/// use soloist::io::{AsyncWriteExt, CopyBidirectional};
/// use soloist::net::{TcpListener, TcpStream};
///
/// soloist::block_on(async {
///     # async fn pair() -> std::io::Result<(TcpStream, TcpStream)> {
///     #     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     #     let client = TcpStream::connect(listener.local_addr()?).await?;
///     #     Ok((client, listener.accept().await?.0))
///     # }
///     # let ((mut client, accepted), (connected, _server)) = (pair().await?, pair().await?);
///     let mut copy = CopyBidirectional::new(accepted, connected)
///         .idle_timeout(Duration::from_millis(20));
///     client.write_all(b"hello").await?;
///     let error = (&mut copy).await.unwrap_err();
///     assert_eq!(error.kind(), ErrorKind::TimedOut);
///     assert_eq!(copy.copied(), (5, 0));
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` them"]
pub struct CopyBidirectional<A, B> {
    a: A,
    b: B,
    a_to_b: Transfer,
    b_to_a: Transfer,
    idle: Option<Idle>,
}

/// The idle timeout.
#[derive(Debug)]
struct Idle {
    timeout: Duration,
    /// Started by the first poll. Bytes that are copied do not move it: when it is due, it is set
    /// anew if some were copied meanwhile.
    timer: Option<Sleep>,
    last_copied: Instant,
}

impl<A, B> CopyBidirectional<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    /// Returns a future that copies from `a` to `b` and from `b` to `a`, without a timeout.
    ///
    /// # Examples
    ///
    /// See [`CopyBidirectional`].
    pub fn new(a: A, b: B) -> CopyBidirectional<A, B> {
        CopyBidirectional {
            a,
            b,
            a_to_b: Transfer::new(),
            b_to_a: Transfer::new(),
            idle: None,
        }
    }

    /// Stops copying with an error when no byte has been copied in either direction for this long.
    ///
    /// # Examples
    ///
    /// See [`CopyBidirectional`].
    pub fn idle_timeout(mut self, timeout: Duration) -> CopyBidirectional<A, B> {
        self.idle = Some(Idle {
            timeout,
            timer: None,
            last_copied: now(),
        });
        self
    }

    /// Returns how many bytes have been copied from `a` to `b`, and from `b` to `a`.
    ///
    /// # Examples
    ///
    /// See [`CopyBidirectional`].
    pub fn copied(&self) -> (u64, u64) {
        (self.a_to_b.copied, self.b_to_a.copied)
    }

    /// Returns the two streams.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::io::{CopyBidirectional, Cursor};
    ///
    /// let (a, b) = (Cursor::new(vec![1]), Cursor::new(vec![2]));
    /// let copy = CopyBidirectional::new(a, b);
    /// let (a, b) = copy.into_inner();
    /// assert_eq!((a.into_inner(), b.into_inner()), (vec![1], vec![2]));
    /// ```
    pub fn into_inner(self) -> (A, B) {
        (self.a, self.b)
    }
}

impl<A, B> Future for CopyBidirectional<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    type Output = io::Result<(u64, u64)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let before = this.copied();
        let forward = this.a_to_b.poll_copy(cx, &mut this.a, &mut this.b)?;
        let backward = this.b_to_a.poll_copy(cx, &mut this.b, &mut this.a)?;
        let copied = this.copied();
        if forward.is_ready() && backward.is_ready() {
            return Poll::Ready(Ok(copied));
        }
        match &mut this.idle {
            Some(idle) => idle.poll_elapsed(cx, copied != before).map(Err),
            None => Poll::Pending,
        }
    }
}

impl Idle {
    fn poll_elapsed(&mut self, cx: &mut TaskContext<'_>, has_copied: bool) -> Poll<io::Error> {
        if has_copied || self.timer.is_none() {
            self.last_copied = now();
        }
        let timer = self.timer.get_or_insert_with(|| sleep(self.timeout));
        loop {
            ready!(Pin::new(&mut *timer).poll(cx));
            let idle = now().saturating_duration_since(self.last_copied);
            if idle >= self.timeout {
                let text = format!("nothing was copied for {:?}", self.timeout);
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            *timer = sleep(self.timeout - idle);
        }
    }
}

/// The copying in one direction.
#[derive(Debug)]
struct Transfer {
    buffer: Box<[u8]>,
    /// `start..end` of the buffer has been read but not yet written.
    start: usize,
    end: usize,
    copied: u64,
    /// Whether `to` may still buffer bytes: set by a write, cleared by a flush.
    unflushed: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Copying,
    /// The reader has ended, and the writer is being closed.
    Closing,
    Done,
}

impl Transfer {
    fn new() -> Transfer {
        Transfer {
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            copied: 0,
            unflushed: false,
            phase: Phase::Copying,
        }
    }

    /// Ready when `from` has ended and `to` is closed.
    fn poll_copy(
        &mut self,
        cx: &mut TaskContext<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            match self.phase {
                Phase::Copying if self.start < self.end => ready!(self.poll_write(cx, to))?,
                Phase::Copying => match Pin::new(&mut *from).poll_read(cx, &mut self.buffer)? {
                    Poll::Ready(0) => self.phase = Phase::Closing,
                    Poll::Ready(n) => (self.start, self.end) = (0, n),
                    Poll::Pending => {
                        // The peer may wait for the buffered bytes before it sends more.
                        if self.unflushed {
                            ready!(Pin::new(to).poll_flush(cx))?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
                Phase::Closing => {
                    ready!(Pin::new(&mut *to).poll_close(cx))?;
                    self.phase = Phase::Done;
                }
                Phase::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut TaskContext<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        let bytes = &self.buffer[self.start..self.end];
        let n = ready!(Pin::new(to).poll_write(cx, bytes))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.start += n;
        self.copied += n as u64;
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }
}
