//! The signals of Unix, each as a stream.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_lite::Stream;
use signal_hook::SigId;
use signal_hook::consts::{self, FORBIDDEN};
use signal_hook::low_level::{pipe, signal_name, unregister};

use crate::io::{Async, AsyncRead};

/// Listens to a signal until the [`Signal`] is dropped.
///
/// There may be any number of listeners, on any threads. Each of them receives every signal. The
/// first one disables the default action of the signal for the rest of the process: a signal
/// without listeners is ignored after that.
///
/// # Errors
///
/// Returns an error for signals that cannot be handled (`SIGKILL`, `SIGSTOP`), and for those that
/// report a fault of the program itself (`SIGSEGV`, `SIGILL`, `SIGFPE`). Returns an error if the
/// handler cannot be installed, if there are no file descriptors left (a listener takes two), and
/// outside of a runtime.
///
/// # Examples
///
/// ```
/// use soloist::stream::StreamExt;
/// use soloist::{block_on, signal::unix::{SignalKind, signal}};
///
/// block_on(async {
///     let mut reloads = signal(SignalKind::hangup())?;
/// #   rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP)?;
///     while let Some(reload) = reloads.next().await {
///         reload?;
///         println!("reading the configuration anew");
/// #       break;
///     }
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    if FORBIDDEN.contains(&kind.0) {
        let text = format!("{kind} cannot be listened to");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let (reader, writer) = UnixStream::pair()?;
    let reader = Async::new(reader)?;
    let id = pipe::register(kind.0, writer).map_err(|error| {
        let text = format!("{kind} cannot be listened to: {error}");
        io::Error::new(error.kind(), text)
    })?;
    Ok(Signal { id, kind, reader })
}

/// A listener to one signal: a [`Stream`] without an end. [`signal`] makes it.
///
/// Signals of a kind coalesce, here as in the kernel: those that have come since the
/// listener last reported one are reported as one. The last of them is never lost: one
/// that comes after a report leads to another.
///
/// # Examples
///
/// ```
/// # use rustix::process::{getpid, kill_process};
/// use soloist::{block_on, signal::unix::{SignalKind, signal}};
///
/// block_on(async {
///     let mut signals = signal(SignalKind::user_defined1())?;
///     for _ in 0..3 {
///         // Something like `kill -USR1`, three times.
/// #       kill_process(getpid(), rustix::process::Signal::USR1)?;
///     }
///     signals.recv().await?;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Signal {
    id: SigId,
    kind: SignalKind,
    /// The handler writes a byte into its other end, unless that is full.
    reader: Async<UnixStream>,
}

impl Signal {
    /// It is listened to by the crate itself, and no task goes on when it comes.
    pub(crate) fn set_background(&self) {
        self.reader.set_background();
    }

    /// Waits for the signal. One that has come since the last report counts.
    ///
    /// # Errors
    ///
    /// Returns an error outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// No signal is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, signal::unix::{SignalKind, signal}};
    /// # block_on(async {
    /// let mut terminate = signal(SignalKind::terminate())?;
    /// # rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
    /// terminate.recv().await?;
    /// println!("ending in order");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn recv(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Ready once for all signals that have come since it last was. If it is pending,
    /// the task is woken by the next.
    ///
    /// # Errors
    ///
    /// Returns an error outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{block_on, signal::unix::{SignalKind, signal}};
    /// # block_on(async {
    /// let mut signals = signal(SignalKind::window_change())?;
    /// # rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::WINCH)?;
    /// std::future::poll_fn(|cx| signals.poll_recv(cx)).await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn poll_recv(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 128];
        let mut read = ready!(Pin::new(&mut self.reader).poll_read(cx, &mut bytes))?;
        if read == 0 {
            // The registration holds the other end: somebody has closed a foreign fd.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        // A full buffer: the rest stands for signals that have come, too.
        while read == bytes.len() {
            read = self.reader.get_ref().read(&mut bytes).unwrap_or(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for Signal {
    type Item = io::Result<()>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<io::Result<()>>> {
        self.poll_recv(cx).map(Some)
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        // Before the reader is closed: a handler that writes after that would raise
        // SIGPIPE.
        unregister(self.id);
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.kind).finish()
    }
}

/// Which signal: one of those with a name here, or any by its number.
///
/// # Examples
///
/// ```
/// use soloist::signal::unix::SignalKind;
///
/// assert_eq!(SignalKind::terminate().to_string(), "SIGTERM");
/// assert_eq!(SignalKind::from_raw(15), SignalKind::terminate());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SignalKind(i32);

impl SignalKind {
    /// The signal with this number.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::signal::unix::SignalKind;
    /// assert_eq!(SignalKind::from_raw(2), SignalKind::interrupt());
    /// ```
    pub const fn from_raw(number: i32) -> SignalKind {
        SignalKind(number)
    }

    /// Its number.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::signal::unix::SignalKind;
    /// assert_eq!(SignalKind::hangup().as_raw(), 1);
    /// ```
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

/// A constructor for each of the usual signals.
macro_rules! kinds {
    ($($name:ident: $signal:ident, $what:literal;)*) => {
        impl SignalKind {
            $(
                #[doc = concat!("`", stringify!($signal), "`: ", $what, ".")]
                #[doc = ""]
                #[doc = "# Examples"]
                #[doc = ""]
                #[doc = "```"]
                #[doc = "# use soloist::signal::unix::SignalKind;"]
                #[doc = concat!("let kind = SignalKind::", stringify!($name), "();")]
                #[doc = concat!(
                    "assert_eq!(kind.to_string(), \"", stringify!($signal), "\");"
                )]
                #[doc = "```"]
                pub const fn $name() -> SignalKind {
                    SignalKind(consts::$signal)
                }
            )*
        }
    };
}

kinds! {
    alarm: SIGALRM, "the timer of `alarm` has expired";
    child: SIGCHLD, "a child process has changed its state";
    hangup: SIGHUP, "the terminal is gone; for a daemon, by custom, to read its configuration anew";
    interrupt: SIGINT, "Ctrl-C";
    pipe: SIGPIPE, "a write to a pipe that nobody reads";
    quit: SIGQUIT, "Ctrl-\\\\";
    terminate: SIGTERM, "asks the process to end, as `kill` does";
    user_defined1: SIGUSR1, "what the program makes of it";
    user_defined2: SIGUSR2, "what the program makes of it";
    window_change: SIGWINCH, "the terminal has another size";
}

/// Its name, where it has one.
impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignalKind({self})")
    }
}
