//! Reports on standard error. If it is closed, or a pipe without a reader, the report is lost
//! silently.

use std::fmt;
use std::io::{self, Write};

/// Writes with one system call, so that the output of other processes is not mixed in. `eprintln!`
/// would panic if the write failed.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(text.to_string().as_bytes());
}

/// Sends a warning to the logger (feature `log`), to the subscriber (feature `tracing`), or else to
/// standard error.
pub(crate) fn warn(what: fmt::Arguments<'_>) {
    // Not without a subscriber: `tracing` can be built to pass events on to `log` then.
    #[cfg(feature = "tracing")]
    if tracing::enabled!(target: "soloist", tracing::Level::WARN) {
        tracing::warn!(target: "soloist", "{what}");
    }
    #[cfg(feature = "log")]
    log::warn!(target: "soloist", "{what}");
    #[cfg(not(any(feature = "log", feature = "tracing")))]
    write(format_args!("soloist: {what}\n"));
}

/// The stream, for its descriptor.
#[cfg(unix)]
pub(crate) fn stream() -> io::Stderr {
    io::stderr()
}
