//! Pipes to the standard streams of a child.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context as TaskContext, Poll};

use socket2::SockRef;

use crate::io::{AsyncWrite, futures_io};
use crate::socket::{self, Socket, set_nonblocking};

/// The pipe to a child's standard input. Dropping or closing it ends the input.
///
/// After the child has closed its end, writing fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe). As with std, this requires that the process ignores
/// `SIGPIPE`, as Rust programs do by default.
///
/// # Cancel safety
///
/// A write that is dropped before it completes has written nothing. Helpers such as `write_all`
/// make several writes: those that have completed are not undone.
///
/// # Examples
///
/// ```
/// use soloist::io::AsyncWriteExt;
/// use soloist::{block_on, process::{Command, Stdio}};
///
/// block_on(async {
///     let mut sort = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
///     let mut stdin = sort.stdin.take().unwrap();
///     stdin.write_all(b"b\na\n").await?;
///     stdin.close().await?;
///     assert_eq!(sort.wait_with_output().await?.stdout, b"a\nb\n");
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ChildStdin {
    /// `None` after it has been closed.
    socket: Option<Socket<File>>,
}

impl ChildStdin {
    pub(super) fn new(pipe: std::process::ChildStdin) -> io::Result<ChildStdin> {
        let socket = Some(nonblocking(pipe.into())?);
        Ok(ChildStdin { socket })
    }

    fn socket(&self) -> io::Result<&Socket<File>> {
        self.socket.as_ref().ok_or_else(closed)
    }

    /// Returns the std pipe, back in blocking mode.
    ///
    /// # Errors
    ///
    /// Returns an error if the pipe has been closed, or if the mode cannot be changed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::{Command, Stdio}};
    /// # use std::io::Write;
    /// # block_on(async {
    /// # let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    /// let mut stdin: std::process::ChildStdin = child.stdin.take().unwrap().into_std()?;
    /// stdin.write_all(b"hello")?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn into_std(self) -> io::Result<std::process::ChildStdin> {
        Ok(blocking(self.socket.ok_or_else(closed)?)?.into())
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket()?;
        let write = || socket.get_ref().write(buf);
        socket.as_any().poll_write(cx, true, buf.len(), write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket()?;
        let write = || socket.get_ref().write_vectored(bufs);
        let len = socket::len(bufs);
        socket.as_any().poll_write(cx, true, len, write)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.socket = None;
        Poll::Ready(Ok(()))
    }
}

/// Lets another child write to the standard input of this one.
impl TryFrom<ChildStdin> for Stdio {
    type Error = io::Error;

    fn try_from(pipe: ChildStdin) -> io::Result<Stdio> {
        pipe.into_std().map(Stdio::from)
    }
}

/// Defines a pipe that this process reads.
macro_rules! output_pipe {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            socket: Socket<File>,
        }

        impl $name {
            pub(super) fn new(pipe: std::process::$name) -> io::Result<$name> {
                let socket = nonblocking(pipe.into())?;
                Ok($name { socket })
            }

            /// Returns the std pipe, back in blocking mode.
            ///
            /// # Errors
            ///
            /// Returns an error if the mode cannot be changed.
            ///
            /// # Examples
            ///
            /// ```
            /// # use soloist::{block_on, process::{Command, Stdio}};
            /// # use std::io::Read;
            /// # block_on(async {
            /// # let mut child = Command::new("true")
            /// #     .stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            /// let stdout: std::process::ChildStdout = child.stdout.take().unwrap().into_std()?;
            /// let stderr: std::process::ChildStderr = child.stderr.take().unwrap().into_std()?;
            /// # Ok::<(), std::io::Error>(()) }).unwrap();
            /// ```
            pub fn into_std(self) -> io::Result<std::process::$name> {
                Ok(blocking(self.socket)?.into())
            }
        }

        futures_io!(@read [] $name, true, Stream);

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.socket.get_ref().as_fd()
            }
        }

        /// Lets another child read the output of this one.
        impl TryFrom<$name> for Stdio {
            type Error = io::Error;

            fn try_from(pipe: $name) -> io::Result<Stdio> {
                pipe.into_std().map(Stdio::from)
            }
        }
    };
}

output_pipe! {
    /// The pipe from a child's standard output. It ends when the child, and all processes that
    /// have inherited its output, have closed it.
    ///
    /// # Cancel safety
    ///
    /// A read that is dropped before it completes has read nothing. Helpers such as `read_exact`
    /// make several reads: those that have completed are not undone.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::stream::StreamExt;
    /// use soloist::io::{AsyncBufReadExt, BufReader};
    /// use soloist::{block_on, process::{Command, Stdio}};
    ///
    /// block_on(async {
    ///     let mut seq = Command::new("seq").arg("3").stdout(Stdio::piped()).spawn()?;
    ///     let mut lines = BufReader::new(seq.stdout.take().unwrap()).lines();
    ///     while let Some(line) = lines.next().await {
    ///         println!("{}", line?);
    ///     }
    ///     assert!(seq.wait().await?.success());
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// A pipeline that connects two children directly:
    ///
    /// ```
    /// # use soloist::{block_on, process::{Command, Stdio}};
    /// # block_on(async {
    /// let mut seq = Command::new("seq").arg("100").stdout(Stdio::piped()).spawn()?;
    /// let numbers = Stdio::try_from(seq.stdout.take().unwrap())?;
    /// let count = Command::new("grep").args(["-c", "7"]).stdin(numbers).output().await?;
    /// assert_eq!(count.stdout, b"19\n");
    /// # seq.wait().await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    ChildStdout
}

output_pipe! {
    /// The pipe from a child's standard error. It ends when the child, and all processes that
    /// have inherited it, have closed it.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`ChildStdout`].
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::io::AsyncReadExt;
    /// use soloist::{block_on, process::{Command, Stdio}};
    ///
    /// block_on(async {
    ///     let mut child = Command::new("ls").arg("/no/such/file").stderr(Stdio::piped()).spawn()?;
    ///     let mut text = String::new();
    ///     child.stderr.take().unwrap().read_to_string(&mut text).await?;
    ///     assert!(text.contains("/no/such/file"));
    ///     assert!(!child.wait().await?.success());
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ChildStderr
}

fn nonblocking(pipe: OwnedFd) -> io::Result<Socket<File>> {
    set_nonblocking(&pipe)?;
    // A `File`, since that implements `Read` and `Write` for `&File`.
    Socket::new(pipe.into(), "`Command::spawn`")
}

fn blocking(socket: Socket<File>) -> io::Result<OwnedFd> {
    let Ok(pipe) = socket.into_inner() else {
        unreachable!("pipes have no clones");
    };
    SockRef::from(&pipe).set_nonblocking(false)?;
    Ok(pipe.into())
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "this pipe has been closed")
}
