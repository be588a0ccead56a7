//! Unix sockets: [`UnixStream`], [`UnixListener`], [`UnixDatagram`].
//!
//! They are between programs of one machine, at a path of the file system or, on Linux,
//! at an abstract name (the methods with `_addr`, and std's [`SocketAddr`]). Methods have
//! std's names, and are async where std's block.
//!
//! Binding a socket to a path makes a file there, and fails if there is one already.
//! Nothing removes the file: do so before binding, or when the socket is gone.
//!
//! A path has room for about 100 bytes, whatever the file system takes: 107 on Linux, 103
//! on macOS.

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
