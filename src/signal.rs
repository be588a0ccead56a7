//! Signals: [`ctrl_c`], and all signals of Unix in [`unix`]. Needs the feature `signal`.
//!
//! The signal handler only writes a byte into a socket, which the runtime polls like any other.
//! The program's reaction to a signal runs in a task. It runs even if other tasks are always
//! ready, because the reactor is polled regularly.

use std::io;

#[cfg(unix)]
#[cfg_attr(docsrs, doc(cfg(unix)))]
pub mod unix;

/// Waits for the user to press Ctrl-C.
///
/// From the first poll on, Ctrl-C (`SIGINT`) no longer ends the process, as described for
/// [`unix::signal`]. The function only sees a Ctrl-C that arrives while it waits. A loop that
/// must not miss one between two waits keeps a [`unix::Signal`].
///
/// # Errors
///
/// Returns an error if the handler cannot be installed, and outside of a runtime. On Windows it
/// always returns [`Unsupported`](io::ErrorKind::Unsupported), and Ctrl-C ends the process.
///
/// # Cancel safety
///
/// A Ctrl-C that arrives after the future has been dropped is lost.
///
/// # Examples
///
/// A server that shuts down gracefully:
///
/// ```
/// use soloist::future::or;
/// use soloist::{block_on, signal::ctrl_c};
///
/// async fn serve() -> std::io::Result<()> {
///     // On Ctrl-C the future is dropped here.
/// #   #[cfg(unix)]
/// #   rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT)?;
///     std::future::pending().await
/// }
///
/// # #[cfg(unix)]
/// block_on(async {
///     or(ctrl_c(), serve()).await?;
///     println!("good bye");
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn ctrl_c() -> io::Result<()> {
    #[cfg(unix)]
    return unix::signal(unix::SignalKind::interrupt())?.recv().await;
    #[cfg(not(unix))]
    return Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "waiting for Ctrl-C is not supported on this system",
    ));
}
