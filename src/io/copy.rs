//! Copying between two streams in both directions.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use super::{AsyncRead, AsyncWrite};

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
pub async fn copy_bidirectional<A, B>(mut a: A, mut b: B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut a_to_b, mut b_to_a) = (Transfer::new(), Transfer::new());
    poll_fn(|cx| {
        let forward = a_to_b.poll_copy(cx, &mut a, &mut b)?;
        let backward = b_to_a.poll_copy(cx, &mut b, &mut a)?;
        match (forward, backward) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok((a_to_b.copied, b_to_a.copied))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// The copying in one direction.
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

#[derive(Clone, Copy)]
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
