//! Signals of the system: [`ctrl_c`] everywhere, the others in [`unix`]. Needs the
//! feature `signal`.
//!
//! The handler of a signal does nothing but write a byte into a socket, on which the
//! runtime waits as on any other: what a program does about a signal runs in a task. No
//! flood of wakes keeps it from that, for the reactor is visited all the same.

use std::io;

#[cfg(unix)]
#[cfg_attr(docsrs, doc(cfg(unix)))]
pub mod unix;

/// Waits for the user to press Ctrl-C.
///
/// From the first poll on, Ctrl-C (`SIGINT`) no longer ends the process: see
/// [`unix::signal`], which this calls. It hears of those that come while it waits; a loop
/// that must not miss one between two waits keeps a [`unix::Signal`].
///
/// # Errors
///
/// If the handler cannot be installed, or outside of a runtime. On Windows always, with
/// [`Unsupported`](io::ErrorKind::Unsupported): there Ctrl-C ends the process, as ever.
///
/// # Cancel safety
///
/// Nothing is lost but a Ctrl-C that comes when nobody waits for it.
///
/// # Examples
///
/// A server that ends its work in order:
///
/// ```
/// use soloist::future::or;
/// use soloist::{block_on, signal::ctrl_c};
///
/// async fn serve() -> std::io::Result<()> {
///     // Ctrl-C drops it here.
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
