//! Bytes from one stream to the other, and back.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use super::{AsyncRead, AsyncWrite};

/// Room for what has been read and not been written yet, for each way.
const BUFFER: usize = 16 * 1024;

/// Copies what comes from `a` to `b`, and what comes from `b` to `a`, until both have
/// come to their ends. Returns how many bytes went from `a` to `b`, and from `b` to `a`.
///
/// When one of them ends, the other is closed for writing after the last byte, as
/// [`close`](super::AsyncWriteExt::close) does, and the other way goes on: a half-closed
/// connection stays one. A slow writer holds its reader back.
///
/// The streams can be passed by value, by `&mut`, or, where they are streams by shared
/// reference as all sockets of this crate are, by `&`.
///
/// # Errors
///
/// The first error of either way. The other way ends there, too.
///
/// # Cancel safety
///
/// What has been read and not been written yet is lost, up to 16 KiB for each way.
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
    let (mut there, mut back) = (Way::new(), Way::new());
    poll_fn(|cx| {
        let one = there.poll_copy(cx, &mut a, &mut b)?;
        let other = back.poll_copy(cx, &mut b, &mut a)?;
        match (one, other) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok((there.copied, back.copied))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// One of the two ways.
struct Way {
    buffer: Box<[u8]>,
    /// What of the buffer has been read and not been written yet.
    start: usize,
    end: usize,
    copied: u64,
    /// Set by a write, cleared by a flush: a writer may keep bytes to itself.
    unflushed: bool,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Copying,
    /// The reader has ended; the writer has still to be told.
    Closing,
    Done,
}

impl Way {
    fn new() -> Way {
        Way {
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            copied: 0,
            unflushed: false,
            state: State::Copying,
        }
    }

    /// Ready when the end of `from` has been passed on to `to`.
    fn poll_copy(
        &mut self,
        cx: &mut TaskContext<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            match self.state {
                State::Copying if self.start < self.end => ready!(self.poll_write(cx, to))?,
                State::Copying => match Pin::new(&mut *from).poll_read(cx, &mut self.buffer)? {
                    Poll::Ready(0) => self.state = State::Closing,
                    Poll::Ready(n) => (self.start, self.end) = (0, n),
                    Poll::Pending => {
                        // It may be the answer to these bytes that is waited for.
                        if self.unflushed {
                            ready!(Pin::new(to).poll_flush(cx))?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
                State::Closing => {
                    ready!(Pin::new(&mut *to).poll_close(cx))?;
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
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
