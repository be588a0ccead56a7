//! Standard input without a blocking read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use super::AsyncRead;
use crate::reactor::Direction;
use crate::socket::Socket;

/// Returns a handle to standard input.
///
/// A terminal, a pipe or a socket is polled. No thread blocks in a read, so the program can exit
/// without waiting for input. A regular file is read directly.
///
/// Standard input is not put into nonblocking mode, which would also apply to the shell and to the
/// other standard streams. Instead, it is read once each time it is reported readable. If another
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
    // A duplicate, so that closing it leaves standard input open.
    let fd = std::io::stdin().as_fd().try_clone_to_owned()?;
    Stdin::new(fd)
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
pub struct Stdin {
    input: Input,
}

#[derive(Debug)]
enum Input {
    Polled(Socket<File>),
    /// A regular file: it cannot be polled, and is always ready.
    File(File),
}

impl Stdin {
    fn new(fd: OwnedFd) -> io::Result<Stdin> {
        let socket = Socket::new(File::from(fd), "`io::stdin`")?;
        // Other processes may read from the same terminal or pipe.
        socket.set_shared();
        let input = match socket.add() {
            Ok(()) => Input::Polled(socket),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let Ok(file) = socket.into_inner() else {
                    unreachable!("a `Stdin` has no clones");
                };
                Input::File(file)
            }
            Err(error) => return Err(error),
        };
        Ok(Stdin { input })
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut file = match &self.input {
            Input::Polled(socket) => {
                ready!(socket.poll_ready(Direction::Read, cx))?;
                socket.get_ref()
            }
            Input::File(file) => file,
        };
        Poll::Ready(file.read(buf))
    }
}
