//! The handle to a child process.

use std::future::poll_fn;
use std::io;
use std::process::{ExitStatus, Output};

use futures_lite::future::try_zip;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::exit::Process;
use super::orphans;
use super::pipe::{ChildStderr, ChildStdin, ChildStdout};
use crate::io::{AsyncRead, AsyncReadExt};
use crate::signal::unix::SignalKind;

/// A child process, started by [`Command::spawn`](super::Command::spawn).
///
/// If it is dropped before the child has exited, the child continues to run, unless
/// [`kill_on_drop`](super::Command::kill_on_drop) is set. It does not become a zombie.
///
/// # Examples
///
/// ```
/// use soloist::io::{AsyncReadExt, AsyncWriteExt};
/// use soloist::{block_on, process::{Command, Stdio}};
///
/// block_on(async {
///     let mut child = Command::new("tr").args(["a-z", "A-Z"])
///         .stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
///     let mut stdin = child.stdin.take().unwrap();
///     stdin.write_all(b"hello").await?;
///     drop(stdin);
///     let mut text = String::new();
///     child.stdout.take().unwrap().read_to_string(&mut text).await?;
///     assert_eq!(text, "HELLO");
///     assert!(child.wait().await?.success());
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Child {
    /// Its standard input, if that is piped.
    pub stdin: Option<ChildStdin>,
    /// Its standard output, if that is piped.
    pub stdout: Option<ChildStdout>,
    /// Its standard error, if that is piped.
    pub stderr: Option<ChildStderr>,
    kill_on_drop: bool,
    /// `None` only while the handle is being dropped.
    process: Option<Process>,
}

impl Child {
    pub(super) fn new(mut child: std::process::Child, kill_on_drop: bool) -> io::Result<Child> {
        let stdin = child.stdin.take().map(ChildStdin::new);
        let stdout = child.stdout.take().map(ChildStdout::new);
        let stderr = child.stderr.take().map(ChildStderr::new);
        let mut child = Child {
            stdin: None,
            stdout: None,
            stderr: None,
            // If a pipe could not be registered, the child is killed and reaped.
            kill_on_drop: true,
            process: Some(Process::new(child)),
        };
        child.stdin = stdin.transpose()?;
        child.stdout = stdout.transpose()?;
        child.stderr = stderr.transpose()?;
        child.kill_on_drop = kill_on_drop;
        Ok(child)
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("only the drop takes it")
    }

    /// Returns the pid. Once a wait has returned the status, the system may give the pid to
    /// another process.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// # block_on(async {
    /// let child = Command::new("true").spawn()?;
    /// println!("process {} runs", child.id());
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn id(&self) -> u32 {
        let process = self.process.as_ref();
        process.expect("only the drop takes it").child.id()
    }

    /// Kills the child (`SIGKILL`). [`wait`](Child::wait) returns when it has exited. If the
    /// status has been returned already, nothing happens.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses, as for a program that runs as another user.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// use std::os::unix::process::ExitStatusExt;
    /// # block_on(async {
    /// let mut child = Command::new("sleep").arg("1000").spawn()?;
    /// child.kill()?;
    /// assert_eq!(child.wait().await?.signal(), Some(9));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn kill(&mut self) -> io::Result<()> {
        self.process().child.kill()
    }

    /// Sends a signal to the child, such as [`SignalKind::terminate`] to ask it to end. If the child
    /// has exited already, nothing happens.
    ///
    /// # Errors
    ///
    /// Returns an error for a number that is not that of a signal with a name (a real-time signal,
    /// for example), if the system refuses, and in the cases that [`wait`](Child::wait) describes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// use std::os::unix::process::ExitStatusExt;
    /// use soloist::signal::unix::SignalKind;
    /// # block_on(async {
    /// let mut child = Command::new("sleep").arg("1000").spawn()?;
    /// child.signal(SignalKind::terminate())?;
    /// assert_eq!(child.wait().await?.signal(), Some(15));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn signal(&mut self, signal: SignalKind) -> io::Result<()> {
        let signal = to_rustix(signal)?;
        let child = &mut self.process().child;
        // Until this has returned a status, no other process can have the pid.
        if child.try_wait()?.is_none() {
            kill_process(Pid::from_child(child), signal)?;
        }
        Ok(())
    }

    /// Sends a signal to the process group that the child leads: to the child, and to all that it
    /// has started and that have not left the group. The child has to be started with
    /// [`process_group(0)`](super::Command::process_group).
    ///
    /// It also reaches processes that are left in the group when the child itself has exited. Once
    /// the group is empty and [`wait`](Child::wait) has returned, the system may give its number to
    /// another group. So do not send signals to a group for longer than needed.
    ///
    /// # Errors
    ///
    /// Returns an error if the child leads no group, or if no process is left in it; and for the
    /// numbers of signals without a name.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// use std::os::unix::process::ExitStatusExt;
    /// use soloist::signal::unix::SignalKind;
    /// # block_on(async {
    /// let mut shell = Command::new("sh").args(["-c", "sleep 1000; true"]).process_group(0).spawn()?;
    /// shell.signal_group(SignalKind::terminate())?;
    /// assert_eq!(shell.wait().await?.signal(), Some(15));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn signal_group(&mut self, signal: SignalKind) -> io::Result<()> {
        let signal = to_rustix(signal)?;
        let group = Pid::from_child(&self.process().child);
        kill_process_group(group, signal).map_err(|error| match error {
            Errno::SRCH => io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "process {group} leads no process group (start it with `process_group(0)`), \
                     or no process of the group is left"
                ),
            ),
            error => error.into(),
        })
    }

    /// Closes the pipe to the standard input of the child, for which it may wait, and waits for
    /// its exit. Further waits return the same status.
    ///
    /// The output is not read meanwhile. If it is piped and fills the pipe, the child never
    /// exits. Read it first, or use [`wait_with_output`](Child::wait_with_output).
    ///
    /// # Errors
    ///
    /// Returns an error if the status is lost: the process ignores `SIGCHLD`, or other code in it
    /// waits for all children. Returns an error outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost, but standard input has been closed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// # block_on(async {
    /// let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn()?;
    /// assert_eq!(child.wait().await?.code(), Some(7));
    /// assert_eq!(child.wait().await?.code(), Some(7));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        let process = self.process();
        poll_fn(|cx| process.poll_wait(cx)).await
    }

    /// Returns the status if the child has exited.
    ///
    /// # Errors
    ///
    /// The same as for [`wait`](Child::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// # block_on(async {
    /// let mut child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn()?;
    /// assert_eq!(child.try_wait()?, None);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process().child.try_wait()
    }

    /// Closes the standard input, reads all output that is piped, and then waits for the exit.
    /// The output ends when the child, and every process that has inherited it, has closed it.
    ///
    /// # Errors
    ///
    /// The same as for [`wait`](Child::wait). Returns an error if reading fails.
    ///
    /// # Cancel safety
    ///
    /// The output that has been read is lost. The child is dropped; see [`Child`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::{Command, Stdio}};
    /// # block_on(async {
    /// let child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// assert_eq!(child.wait_with_output().await?.stdout, b"hello\n");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = try_zip(read_all(stdout), read_all(stderr)).await?;
        let status = self.wait().await?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

fn to_rustix(signal: SignalKind) -> io::Result<Signal> {
    Signal::from_named_raw(signal.as_raw()).ok_or_else(|| {
        let text = format!("{signal} cannot be sent: it is not a signal with a name");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        if self.kill_on_drop {
            // This fails if the child has exited, or runs as another user.
            let _ = process.child.kill();
        }
        orphans::adopt(process);
    }
}
