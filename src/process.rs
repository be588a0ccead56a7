//! Child processes: [`Command`] starts them, and [`Child`] communicates with them and waits for
//! their exit. Needs the feature `process`, and Unix: on Windows this module does not exist.
//!
//! It is an async version of [`std::process`]: the pipes to a child are streams, and other tasks
//! run while a task waits for a child. On Linux the runtime waits for a child through its pidfd.
//! On other systems, and where there are no pidfds (Linux before 5.3, some sandboxes), it listens
//! to `SIGCHLD`.
//!
//! # No zombies
//!
//! A child whose handle is dropped continues to run, unless
//! [`kill_on_drop`](Command::kill_on_drop) is set. When it exits, it is a zombie until its exit
//! status is collected. The runtime collects it on its own thread, as soon as the child exits.
//! If no runtime runs on that thread any more, the child is collected by the next runtime there,
//! by the next [`Command::spawn`] on any thread, or at the end of the thread. No thread is
//! started for this.
//!
//! # Examples
//!
//! ```
//! use soloist::{block_on, process::Command};
//!
//! block_on(async {
//!     let output = Command::new("echo").arg("hello").output().await?;
//!     assert!(output.status.success());
//!     assert_eq!(output.stdout, b"hello\n");
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod child;
mod exit;
mod orphans;
mod pipe;
mod sigchld;

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{CommandArgs, CommandEnvs};

pub use std::process::{ExitStatus, Output, Stdio};

pub use self::child::Child;
pub use self::pipe::{ChildStderr, ChildStdin, ChildStdout};
use crate::executor;

/// Defines setters that call the method of the same name of std's command.
macro_rules! set_on_std {
    ($($(#[$doc:meta])* pub fn $name:ident(&mut self $(, $arg:ident: $type:ty)*) -> &mut Command;)*) => {$(
        $(#[$doc])*
        pub fn $name(&mut self $(, $arg: $type)*) -> &mut Command {
            self.std.$name($($arg),*);
            self
        }
    )*};
}

/// A builder for a child process, with the methods of std's
/// [`Command`](std::process::Command).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, process::Command, time::timeout};
///
/// block_on(async {
///     let mut make = Command::new("sh");
///     make.args(["-c", "exit 3"]).env("LANG", "C").kill_on_drop(true);
///     let status = timeout(Duration::from_secs(60), make.status()).await??;
///     assert_eq!(status.code(), Some(3));
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Command {
    std: std::process::Command,
    /// Whether standard input, output and error have been set here.
    set: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// Returns a builder for a program, which is searched for in `PATH`. It has no arguments, and
    /// inherits the environment, the current directory and the standard streams.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// # block_on(async {
    /// assert!(Command::new("true").status().await?.success());
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        std::process::Command::new(program).into()
    }

    set_on_std! {
        /// Adds an argument. It is passed as it is, without a shell.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, process::Command};
        /// # block_on(async {
        /// let output = Command::new("echo").arg("-n").arg("a  *").output().await?;
        /// assert_eq!(output.stdout, b"a  *");
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command;

        /// Sets the first word of the command line, which is the name of the program by default.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, process::Command};
        /// # block_on(async {
        /// let output = Command::new("sh").arg0("a shell").args(["-c", "echo $0"]).output().await?;
        /// assert_eq!(output.stdout, b"a shell\n");
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Command;

        /// Sets an environment variable.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, process::Command};
        /// # block_on(async {
        /// let mut echo = Command::new("sh");
        /// echo.args(["-c", "echo $A$B"]).env("A", "1").envs([("A", "2"), ("B", "3")]);
        /// assert_eq!(echo.output().await?.stdout, b"23\n");
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command;

        /// Removes an environment variable.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, process::Command};
        /// # block_on(async {
        /// let mut echo = Command::new("sh");
        /// echo.args(["-c", "echo ${HOME-homeless}"]).env_remove("HOME");
        /// assert_eq!(echo.output().await?.stdout, b"homeless\n");
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command;

        /// Clears the environment. Variables can be set after this.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, process::Command};
        /// # block_on(async {
        /// let output = Command::new("/usr/bin/env").env_clear().env("A", "1").output().await?;
        /// assert_eq!(output.stdout, b"A=1\n");
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn env_clear(&mut self) -> &mut Command;

        /// Sets the current directory of the child.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, process::Command};
        /// # block_on(async {
        /// let output = Command::new("pwd").current_dir("/").output().await?;
        /// assert_eq!(output.stdout, b"/\n");
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Command;

        /// Sets the user ID of the child.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # use soloist::{block_on, process::Command};
        /// # block_on(async {
        /// Command::new("id").uid(65534).gid(65534).status().await?;
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn uid(&mut self, id: u32) -> &mut Command;

        /// Sets the group ID of the child.
        ///
        /// # Examples
        ///
        /// See [`uid`](Command::uid).
        pub fn gid(&mut self, id: u32) -> &mut Command;

        /// Sets the process group of the child, or 0 for a new group. The terminal sends its
        /// signals, such as that of Ctrl-C, to a whole process group.
        ///
        /// # Examples
        ///
        /// ```
        /// # use soloist::{block_on, process::Command};
        /// # block_on(async {
        /// let status = Command::new("true").process_group(0).status().await?;
        /// assert!(status.success());
        /// # Ok::<(), std::io::Error>(()) }).unwrap();
        /// ```
        pub fn process_group(&mut self, group: i32) -> &mut Command;
    }

    /// Adds several arguments.
    ///
    /// # Examples
    ///
    /// See [`Command`].
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(args);
        self
    }

    /// Sets several environment variables.
    ///
    /// # Examples
    ///
    /// See [`env`](Command::env).
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(vars);
        self
    }

    /// Sets the standard input of the child: [`Stdio::piped`] to write to it, [`Stdio::null`] for
    /// empty input, [`Stdio::inherit`] for the input of this process, or a file.
    ///
    /// By default it is inherited. With [`output`](Command::output) it is empty.
    ///
    /// # Examples
    ///
    /// See [`ChildStdin`].
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Command {
        self.std.stdin(stdin);
        self.set[0] = true;
        self
    }

    /// Sets the standard output of the child: [`Stdio::piped`] to read it, [`Stdio::null`] to
    /// discard it, [`Stdio::inherit`] for the output of this process, or a file.
    ///
    /// By default it is inherited. With [`output`](Command::output) it is piped.
    ///
    /// # Examples
    ///
    /// See [`ChildStdout`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Command {
        self.std.stdout(stdout);
        self.set[1] = true;
        self
    }

    /// Sets the standard error of the child, as [`stdout`](Command::stdout) sets its output.
    ///
    /// # Examples
    ///
    /// See [`ChildStderr`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Command {
        self.std.stderr(stderr);
        self.set[2] = true;
        self
    }

    /// Sets whether the child is killed if its [`Child`], or the future of
    /// [`output`](Command::output) or [`status`](Command::status), is dropped before the child
    /// has exited. By default it continues to run.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// # block_on(async {
    /// let child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn()?;
    /// drop(child);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Starts a child process.
    ///
    /// Like std, it blocks until the program has been started, for about a millisecond.
    ///
    /// # Errors
    ///
    /// Returns an error if the program cannot be started, and outside of a runtime. The text names
    /// the program and its directory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// # block_on(async {
    /// let mut child = Command::new("true").spawn()?;
    /// assert!(child.wait().await?.success());
    ///
    /// let error = Command::new("/no/such/program").spawn().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// assert!(error.to_string().starts_with("starting `/no/such/program` failed"));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn spawn(&mut self) -> io::Result<Child> {
        executor::inside_or_error("`Command::spawn`")?;
        orphans::reap_all();
        let child = self.std.spawn().map_err(|error| self.explain(&error))?;
        Child::new(child, self.kill_on_drop)
    }

    /// Starts a child process, waits for its exit, and collects its output. Output that has been
    /// redirected with [`stdout`](Command::stdout) or [`stderr`](Command::stderr) is not
    /// collected.
    ///
    /// The child is started at once, not when the future is first polled.
    ///
    /// # Errors
    ///
    /// The same as for [`spawn`](Command::spawn). It is not an error if the child fails: check the
    /// status.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the output is lost. The child continues to run, unless
    /// [`kill_on_drop`](Command::kill_on_drop) is set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// # block_on(async {
    /// let output = Command::new("sh").args(["-c", "echo out; echo err >&2"]).output().await?;
    /// assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + use<> {
        self.set_defaults(Stdio::null(), Stdio::piped(), Stdio::piped());
        let child = self.spawn();
        self.set_defaults(Stdio::inherit(), Stdio::inherit(), Stdio::inherit());
        async move { child?.wait_with_output().await }
    }

    /// Starts a child process, and waits for its exit. Pipes to the child are closed first.
    ///
    /// The child is started at once, not when the future is first polled.
    ///
    /// # Errors
    ///
    /// The same as for [`spawn`](Command::spawn). It is not an error if the child fails: check the
    /// status.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child continues to run, unless
    /// [`kill_on_drop`](Command::kill_on_drop) is set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, process::Command};
    /// # block_on(async {
    /// let status = Command::new("false").status().await?;
    /// assert_eq!(status.code(), Some(1));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + use<> {
        let child = self.spawn();
        async move {
            let mut child = child?;
            drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
            child.wait().await
        }
    }

    /// Returns the program.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::process::Command;
    /// assert_eq!(Command::new("ls").get_program(), "ls");
    /// ```
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// Returns the arguments.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::process::Command;
    /// let mut ls = Command::new("ls");
    /// ls.arg("-l").arg("/");
    /// assert_eq!(ls.get_args().collect::<Vec<_>>(), ["-l", "/"]);
    /// ```
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// Returns the environment variables that have been set, and, with the value `None`, those
    /// that have been removed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::process::Command;
    /// let mut ls = Command::new("ls");
    /// ls.env("LANG", "C").env_remove("HOME");
    /// assert_eq!(ls.get_envs().filter(|(_, value)| value.is_none()).count(), 1);
    /// ```
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// Returns the current directory of the child, if one has been set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::process::Command;
    /// assert_eq!(Command::new("ls").get_current_dir(), None);
    /// ```
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    /// Returns whether the child is killed when its handle is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::process::Command;
    /// assert!(!Command::new("ls").get_kill_on_drop());
    /// ```
    pub fn get_kill_on_drop(&self) -> bool {
        self.kill_on_drop
    }

    /// Returns the inner std command.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::process::Command;
    /// assert_eq!(Command::new("ls").as_std().get_program(), "ls");
    /// ```
    pub fn as_std(&self) -> &std::process::Command {
        &self.std
    }

    /// Returns the inner std command, for methods that are missing here, such as `pre_exec`.
    ///
    /// Do not set standard streams there: [`output`](Command::output) and
    /// [`status`](Command::status) would not take account of them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::process::Command;
    /// let mut ls = Command::new("ls");
    /// ls.as_std_mut().arg("-l");
    /// assert_eq!(ls.get_args().count(), 1);
    /// ```
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.std
    }

    /// Sets the standard streams that have not been set.
    fn set_defaults(&mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) {
        let [has_stdin, has_stdout, has_stderr] = self.set;
        if !has_stdin {
            self.std.stdin(stdin);
        }
        if !has_stdout {
            self.std.stdout(stdout);
        }
        if !has_stderr {
            self.std.stderr(stderr);
        }
    }

    /// Adds the program and the directory to an error: either of them may be what was not found,
    /// and the system's error names neither.
    fn explain(&self, error: &io::Error) -> io::Error {
        let program = Path::new(self.get_program()).display();
        let text = match self.get_current_dir() {
            None => format!("starting `{program}` failed: {error}"),
            Some(dir) => {
                let dir = dir.display();
                format!("starting `{program}` in the directory `{dir}` failed: {error}")
            }
        };
        io::Error::new(error.kind(), text)
    }
}

/// Standard streams that have been set on the std command are not taken into account:
/// [`output`](Command::output) replaces them.
impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Command {
        Command {
            std,
            set: [false; 3],
            kill_on_drop: false,
        }
    }
}
