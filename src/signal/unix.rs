//! Unix signals as streams.

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

/// Listens to a signal, until the [`Signal`] is dropped.
///
/// There can be any number of listeners, on any threads, and each receives every signal. The
/// first listener disables the signal's default action for the rest of the process: a signal
/// that arrives when there are no listeners any more is ignored.
///
/// # Errors
///
/// Returns an error
///
/// * for signals that cannot be handled (`SIGKILL`, `SIGSTOP`);
/// * for signals that must not be handled, because they report a fault of the program itself
///   (`SIGSEGV`, `SIGILL`, `SIGFPE`);
/// * if the handler cannot be installed, or if there are no file descriptors left (a listener
///   uses two);
/// * outside of a runtime.
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

/// A listener to one kind of signal, made by [`signal`]. It is a [`Stream`] that never ends.
///
/// Signals of a kind coalesce, as they do in the kernel: all that have arrived since the last
/// report are reported as one. A signal that arrives after a report is always reported.
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
///         // Like `kill -USR1`.
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
    /// The signal handler writes a byte into the other end, unless the buffer is full.
    reader: Async<UnixStream>,
}

impl Signal {
    /// Marks a listener of the crate itself: no task waits for it.
    pub(crate) fn set_background(&self) {
        self.reader.set_background();
    }

    /// Waits for the signal. Returns at once if it has arrived since the last report.
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
    /// println!("shutting down");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub async fn recv(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the signal. All signals that have arrived since the last report are reported as
    /// one. If it is pending, the next signal wakes the task.
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
            // The registration keeps the other end open, so other code has closed its fd.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        // The buffer was full. The remaining bytes are signals that have arrived, too.
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
        // Before the reader is closed: writing after that would raise SIGPIPE in the handler.
        unregister(self.id);
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.kind).finish()
    }
}

/// A kind of signal: one of those with a constructor here, or any other by its number.
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
    /// Returns the kind with this number.
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

    /// Returns the number of the signal.
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
    alarm: SIGALRM, "the timer set by `alarm` has expired";
    child: SIGCHLD, "the state of a child process has changed";
    hangup: SIGHUP, "the terminal was closed. A daemon usually reloads its configuration";
    interrupt: SIGINT, "Ctrl-C";
    pipe: SIGPIPE, "a write to a pipe without a reader";
    quit: SIGQUIT, "Ctrl-\\\\";
    terminate: SIGTERM, "a request to terminate, sent by `kill` by default";
    user_defined1: SIGUSR1, "for use by the program";
    user_defined2: SIGUSR2, "for use by the program";
    window_change: SIGWINCH, "the size of the terminal has changed";
}

/// Writes the name of the signal, or its number if it has no name.
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
