//! A network in memory: a client and a server in one test, deterministic to the byte.
//!
//! [`TcpListener`] and [`TcpStream`] have the methods of those in [`net`](crate::net), and
//! are read and written through the same traits. What they send goes over the [`Network`] of
//! the runtime, whose links have a latency and a bandwidth, split writes and reads, break,
//! and are cut, all by a seed and by the clock of the runtime. No system call is made: with
//! [`testing::block_on`](super::block_on) and [`testing::explore`](super::explore) it takes
//! no time, and every run is the same.
//!
//! Code that is to be tested with it takes its streams as `impl AsyncRead + AsyncWrite`, or
//! imports one of the two:
//!
//! ```
//! #[cfg(not(test))]
//! use soloist::net::{TcpListener, TcpStream};
//! #[cfg(test)]
//! use soloist::testing::net::{TcpListener, TcpStream};
//! # fn main() {
//! # let _: Option<(TcpListener, TcpStream)> = None;
//! # }
//! ```
//!
//! # Hosts
//!
//! A host is an IP address, and needs no setting up: whoever listens at `10.0.0.1:80` is on
//! the host `10.0.0.1`. Whoever connects is on `127.0.0.1` (or `::1`), unless it runs in
//! [`on_host`]. Each pair of hosts has a [`Link`], in both directions.
//!
//! # Compared with the system's TCP
//!
//! Streams and listeners behave as those of Linux on its loopback device: the kinds of
//! errors and their order, what a shutdown leaves to be read, what a reset discards, which
//! addresses are still known. One table of tests is run against both networks. Other systems
//! differ from Linux in details, for example in the error of a write to a peer that has
//! closed.
//!
//! These differ:
//!
//! * The buffers of the system hold megabytes. Here the window of the [`Link`] does, 64 KiB by
//!   default.
//! * Small writes are sent at once, whatever `nodelay` says, and a drop with a linger time does
//!   not block.
//! * A connection attempt that finds the backlog full is repeated every second, until it
//!   succeeds or is dropped. Linux doubles the time, and gives up after about two minutes.
//!
//! # What is left out
//!
//! Streams have no file descriptor, so there is no `into_std`. Bytes are not lost, for TCP
//! would send them again: what a cut link holds back arrives when it is healed. The window
//! opens as soon as the reader reads. There are no datagrams.

// All functions in these are `#[inline]`, which says that they are compiled where they are
// used: in tests. Else every program that builds this crate would wait for them, by a sixth
// of the crate's time.
mod connection;
mod listener;
mod network;
mod stream;

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use self::listener::{Incoming, TcpListener, TcpListenerBuilder};
pub use self::network::{Link, Network};
pub use self::stream::TcpStream;
pub use crate::net::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
use crate::task::LocalKey;

/// On which host this task is.
static HOST: LocalKey<IpAddr> = {
    thread_local! {
        static VALUE: RefCell<Option<IpAddr>> = const { RefCell::new(None) };
    }
    LocalKey::__new(&VALUE)
};

/// Runs `future` on this host: connections that it opens come from there. A task that it
/// spawns is not there, unless that is said again.
///
/// # Panics
///
/// If `host` is neither an IP address nor a [name](Network::add_name) of one. Outside of a
/// runtime.
///
/// # Examples
///
/// ```
/// use soloist::{spawn, testing};
/// use soloist::testing::net::{TcpListener, TcpStream, on_host};
///
/// testing::block_on(async {
///     let listener = TcpListener::bind("10.0.0.1:80").await?;
///     let client = on_host("10.0.0.2", TcpStream::connect("10.0.0.1:80"));
///     let client = spawn(client);
///     let (_stream, from) = listener.accept().await?;
///     assert_eq!(from.ip().to_string(), "10.0.0.2");
///     client.await?;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn on_host<F: Future>(host: &str, future: F) -> impl Future<Output = F::Output> {
    let host = Network::current().host(host);
    HOST.scope(host, future)
}

/// From where a connection to this address comes.
fn here(to: IpAddr) -> IpAddr {
    let local: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    HOST.try_with(|host| *host).unwrap_or(local)
}
