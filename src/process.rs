//! Child processes: [`Command`] starts them, and [`Child`] gives access to their pipes and waits
//! for their exit. Needs the feature `process`, and Unix: on Windows this module does not exist.
//!
//! It is std's `process` module, async where that blocks. On Linux the runtime waits for a child
//! through its pidfd. Elsewhere, and where there are no pidfds (Linux before 5.3, some
//! sandboxes), it listens to `SIGCHLD`.
//!
//! # No zombies
//!
//! A child whose handle is dropped continues to run, unless [`Command::kill_on_drop`] is set.
//! When it exits, it is a zombie until its parent reaps it. The runtime does that on its own
//! thread, as soon as the child exits. If no runtime runs there any more, the child is reaped by
//! the next runtime, by the next [`Command::spawn`] on any thread, or at the end of the thread.
//! No thread is started for it.
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

/// Setters that call the method of the same name of std's command.
macro_rules! set_on_std {
    ($($(#[$doc:meta])* pub fn $name:ident(&mut self $(, $arg:ident: $type:ty)*) -> &mut Command;)*) => {$(
        $(#[$doc])*
        pub fn $name(&mut self $(, $arg: $type)*) -> &mut Command {
            self.std.$name($($arg),*);
            self
        }
    )*};
}

/// A builder for a child process. It wraps std's [`Command`](std::process::Command), and has its
/// methods.
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
    /// Whether standard input, output and error have been set.
    set: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// Will run this program, which is searched for in `PATH`, with no arguments, this
    /// process's environment and directory, and its standard streams.
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
        /// Adds an argument. No shell looks at it.
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

        /// Sets the first word of its command line, in the place of the program's name.
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

        /// Sets a variable of its environment.
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

        /// Takes a variable out of its environment.
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

        /// Starts it with an empty environment, but for what is set after this.
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

        /// Sets the directory that it starts in.
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

        /// Sets the user that it runs as.
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

        /// Sets the group that it runs as.
        ///
        /// # Examples
        ///
        /// See [`uid`](Command::uid).
        pub fn gid(&mut self, id: u32) -> &mut Command;

        /// Sets its process group, 0 for one of its own: signals of the terminal, as that of
        /// Ctrl-C, go to a group.
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

    /// Adds arguments.
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

    /// Sets variables of its environment.
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

    /// Sets its standard input: [`Stdio::piped`] to write into it, [`Stdio::null`] for
    /// none, [`Stdio::inherit`] for that of this process, or a file.
    ///
    /// By default it is inherited; for [`output`](Command::output) there is none.
    ///
    /// # Examples
    ///
    /// See [`ChildStdin`].
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Command {
        self.std.stdin(stdin);
        self.set[0] = true;
        self
    }

    /// Sets its standard output: [`Stdio::piped`] to read it, [`Stdio::null`] to lose it,
    /// [`Stdio::inherit`] for that of this process, or a file.
    ///
    /// By default it is inherited; for [`output`](Command::output) it is piped.
    ///
    /// # Examples
    ///
    /// See [`ChildStdout`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Command {
        self.std.stdout(stdout);
        self.set[1] = true;
        self
    }

    /// Sets its standard error: as for [`stdout`](Command::stdout).
    ///
    /// # Examples
    ///
    /// See [`ChildStderr`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Command {
        self.std.stderr(stderr);
        self.set[2] = true;
        self
    }

    /// Sets whether a child is killed when its [`Child`], or the future of
    /// [`output`](Command::output) or [`status`](Command::status), is dropped before it has
    /// exited. By default it continues to run.
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
    /// Like std, it blocks until the program has been found and started, which takes about a
    /// millisecond.
    ///
    /// # Errors
    ///
    /// Returns an error, which names the program and the directory, if the program cannot be
    /// started. Returns an error outside of a runtime.
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

    /// Starts a child process, and waits for its exit and for its output. The [`Output`] contains
    /// what it writes, unless [`stdout`](Command::stdout) and [`stderr`](Command::stderr) have
    /// been set to something else.
    ///
    /// The child is started at once, not when the future is first polled.
    ///
    /// # Errors
    ///
    /// The same as for [`spawn`](Command::spawn). The exit of a child with a failure is not an
    /// error: check the status.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the output is lost, and the child continues to run unless
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

    /// Starts a child process, and waits for its exit. Pipes to it are closed.
    ///
    /// The child is started at once, not when the future is first polled.
    ///
    /// # Errors
    ///
    /// The same as for [`spawn`](Command::spawn). The exit of a child with a failure is not an
    /// error: check the status.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child continues to run unless
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

    /// The program.
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

    /// The arguments.
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

    /// What has been set in the environment, and, as `None`, what has been removed.
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

    /// The directory that it starts in, if one has been set.
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

    /// Whether a child is killed when its handle is dropped.
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

    /// The std command inside.
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

    /// The std command inside, for what it can do and this cannot, as `pre_exec`. Set the
    /// standard streams here, not there: [`output`](Command::output) would not know.
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

    /// Adds the program and the directory to an error. Either of them may be what was not found,
    /// and the error of the system names neither.
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

/// What has been set on the std command's standard streams is not known here:
/// [`output`](Command::output) sets them anew.
impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Command {
        Command {
            std,
            set: [false; 3],
            kill_on_drop: false,
        }
    }
}
