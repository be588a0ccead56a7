//! Unix sockets: [`UnixStream`], [`UnixListener`], [`UnixDatagram`].
//!
//! They connect programs of one machine. An address is a path in the file system or, on Linux, an
//! abstract name (std's [`SocketAddr`], and the methods that end in `_addr`). Methods have the
//! names of std, and are async where those of std block.
//!
//! Binding a socket to a path creates a file there, and fails if there is one already. The file
//! is never removed. Remove it before binding, or when the socket is dropped.
//!
//! A path may have about 100 bytes, whatever the file system supports: 107 on Linux, 103 on
//! macOS.

mod datagram;
mod listener;
mod stream;

use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use self::datagram::UnixDatagram;
pub use self::listener::{Incoming, UnixListener};
pub use self::stream::UnixStream;
use super::ErrorContext;
use crate::time::sleep;

/// The address of a path. An error says what it was for.
fn address_of(what: &str, path: &Path) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(path).context(what, path.display())
}

/// An address, for the text of an error.
fn display(address: &SocketAddr) -> String {
    match address.as_pathname() {
        Some(path) => path.display().to_string(),
        None => format!("{address:?}"),
    }
}

/// Pauses between attempts, where the system does not report when to try again: 1 ms, and twice
/// as long each time, up to 64 ms.
#[derive(Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    async fn wait(&mut self) {
        sleep(Duration::from_millis(1 << self.attempts.min(6))).await;
        self.attempts += 1;
    }
}
