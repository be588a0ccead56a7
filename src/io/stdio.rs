//! Standard input, output and error, without blocking the thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use super::{AsyncRead, AsyncWrite};
use crate::executor::{self, budget};
use crate::reactor::Direction;
use crate::socket::Socket;

/// Returns a handle to standard input.
///
/// A terminal, a pipe or a socket is polled. No thread blocks in a read, so the program can exit
/// without waiting for input. A regular file is read directly.
///
/// Standard input is not put into nonblocking mode, which would also apply to the shell and to the other
/// standard streams. Instead, it is read once each time it is reported readable. If another
/// process reads from the same terminal or pipe at the same time, a read can block.
///
/// Do not use it together with [`std::io::stdin`], which reads ahead.
///
/// # Errors
///
/// Returns an error outside of a runtime.
///
/// # Examples
///
/// ```no_run
/// use soloist::stream::StreamExt;
/// use soloist::{block_on, io::{self, AsyncBufReadExt, BufReader}};
///
/// block_on(async {
///     let mut lines = BufReader::new(io::stdin()?).lines();
///     while let Some(line) = lines.next().await {
///         println!("you typed {}", line?);
///     }
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdin() -> io::Result<Stdin> {
    StdStream::new(std::io::stdin(), "`io::stdin`").map(Stdin)
}

/// A handle to standard input, made by [`stdin`].
///
/// # Cancel safety
///
/// A read that is dropped before it completes has read nothing.
///
/// # Examples
///
/// See [`stdin`].
#[derive(Debug)]
pub struct Stdin(StdStream);

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut file = ready!(self.0.poll_ready(Direction::Read, cx))?;
        Poll::Ready(file.read(buf))
    }
}

/// Returns a handle to standard output.
///
/// A terminal, a pipe or a socket is polled, so a slow reader does not stop the other tasks. A
/// regular file is written directly.
///
/// The stream is not put into nonblocking mode, which would also apply to the shell and to the other
/// standard streams. Instead, at most `PIPE_BUF` bytes (4 KiB on Linux) are written each time it
/// is reported writable. A write can block if the terminal has less room than that, or if another
/// process writes to the same terminal or pipe at the same time.
///
/// The handle has no buffer: what a write has returned has been written. Text that `print!` has
/// left in the buffer of [`std::io::stdout`] is written later. Wrap the handle in a
/// [`BufWriter`](super::BufWriter) to write many small pieces, and flush it at the end.
///
/// # Errors
///
/// Returns an error outside of a runtime, and if standard output has been closed.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, io::{self, AsyncWriteExt}};
///
/// block_on(async {
///     let mut out = io::stdout()?;
///     out.write_all(b"hello\n").await?;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdout() -> io::Result<Stdout> {
    StdStream::new(std::io::stdout(), "`io::stdout`").map(Stdout)
}

/// Returns a handle to standard error. It works like that to standard output: see [`stdout`].
///
/// # Errors
///
/// The same as for [`stdout`].
///
/// # Examples
///
/// ```
/// use soloist::{block_on, io::{self, AsyncWriteExt}};
///
/// block_on(async { io::stderr()?.write_all(b"warning: low on ink\n").await })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stderr() -> io::Result<Stderr> {
    StdStream::new(crate::stderr::stream(), "`io::stderr`").map(Stderr)
}

/// A handle to standard output, made by [`stdout`]. Closing or dropping it leaves standard output
/// open.
///
/// # Cancel safety
///
/// A write that is dropped before it completes has written nothing. `write_all` may have written a
/// part.
///
/// # Examples
///
/// See [`stdout`].
#[derive(Debug)]
pub struct Stdout(StdStream);

/// A handle to standard error, made by [`stderr`]. Closing or dropping it leaves standard error
/// open.
///
/// # Cancel safety
///
/// The same as that of [`Stdout`].
///
/// # Examples
///
/// See [`stderr`].
#[derive(Debug)]
pub struct Stderr(StdStream);

macro_rules! async_write {
    ($($type:ty),*) => {$(
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut TaskContext<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, buf)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
    )*};
}

async_write!(Stdout, Stderr);

/// A duplicate of the descriptor of a standard stream.
#[derive(Debug)]
enum StdStream {
    Polled(Socket<File>),
    /// A regular file: it cannot be polled, and is always ready.
    File(File),
}

impl StdStream {
    fn new(stream: impl AsFd, what: &str) -> io::Result<StdStream> {
        // A duplicate, so that closing it leaves the stream open.
        let fd = stream.as_fd().try_clone_to_owned()?;
        let socket = Socket::new(File::from(fd), what)?;
        // Other processes may use the same terminal or pipe.
        socket.set_shared();
        match socket.add() {
            Ok(()) => Ok(StdStream::Polled(socket)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let Ok(file) = socket.into_inner() else {
                    unreachable!("a standard stream has no clones");
                };
                Ok(StdStream::File(file))
            }
            Err(error) => Err(error),
        }
    }

    /// The file, once after each event for which a call of this has waited.
    fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<&File>> {
        match self {
            StdStream::Polled(socket) => {
                ready!(socket.as_any().poll_ready(direction, cx))?;
                Poll::Ready(Ok(socket.get_ref()))
            }
            StdStream::File(file) => {
                ready!(executor::poll_socket_budget(cx));
                budget::charge(1);
                Poll::Ready(Ok(file))
            }
        }
    }

    fn poll_write(&self, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // A pipe that is writable has room for so many bytes.
        let buf = match self {
            StdStream::Polled(_) => &buf[..buf.len().min(libc::PIPE_BUF)],
            StdStream::File(_) => buf,
        };
        loop {
            let mut file = ready!(self.poll_ready(Direction::Write, cx))?;
            match file.write(buf) {
                // Another process has set nonblocking mode.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }
}
