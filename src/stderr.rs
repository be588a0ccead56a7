//! What the crate reports on standard error. That may be closed, or a pipe that nobody
//! reads: then the report is lost, and nothing else is.

use std::fmt;
use std::io::{self, Write};

/// Writes in one piece, so that what other processes write is not mixed in. Not by
/// `eprintln!`, which panics if it fails.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(text.to_string().as_bytes());
}
