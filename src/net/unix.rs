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
use super::failed;
use crate::time::sleep;

/// The address of a path. `what` it is for is said in the error.
fn at(what: &str, path: &Path) -> io::Result<SocketAddr> {
    let address = SocketAddr::from_pathname(path);
    address.map_err(|error| failed(what, &path.display(), &error))
}

/// An address for the text of an error.
fn text(address: &SocketAddr) -> String {
    match address.as_pathname() {
        Some(path) => path.display().to_string(),
        None => format!("{address:?}"),
    }
}

/// The pauses of who has to ask again, for the system does not say when: a millisecond,
/// and twice as long each time, up to 64.
#[derive(Default)]
struct Pauses(u32);

impl Pauses {
    async fn next(&mut self) {
        sleep(Duration::from_millis(1 << self.0)).await;
        self.0 = (self.0 + 1).min(6);
    }
}
