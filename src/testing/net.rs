//! An in-memory network, for deterministic tests of clients and servers.
//!
//! [`TcpListener`] and [`TcpStream`] have the methods of those in [`net`](crate::net), and implement
//! the same traits. They are connected through the [`Network`] of the runtime. Its links have a
//! latency and a bandwidth, can split reads and writes, reset connections, and be cut. All of this
//! is controlled by a seed and by the clock of the runtime. No system call is made. With
//! [`testing::block_on`](super::block_on) and [`testing::explore`](super::explore), communication
//! takes no time, and every run is the same.
//!
//! The code under test is generic over `impl AsyncRead + AsyncWrite`, or imports one of the two
//! implementations:
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
//! A host is an IP address, and does not have to be set up. A listener at `10.0.0.1:80` is on the
//! host `10.0.0.1`. A connecting task is on `127.0.0.1` (or `::1`), unless it runs in [`on_host`].
//! Each pair of hosts has a [`Link`], in both directions.
//!
//! # Compared with the system's TCP
//!
//! Streams and listeners behave like those of Linux on the loopback device. This includes the kinds
//! and the order of errors, the bytes that can be read after a shutdown, the bytes that a reset
//! discards, and the addresses that are known after an error. The same tests run against both
//! networks. Other systems differ from Linux in details, for example in the error of a write after
//! the peer has closed.
//!
//! There are these differences:
//!
//! * The system's buffers hold megabytes. Here, the window of the [`Link`] limits the bytes that are
//!   not yet read, to 64 KiB by default.
//! * Small writes are sent at once, independently of `nodelay`. Dropping a stream with a linger time
//!   does not block.
//! * If the backlog is full, connecting is retried every second, until it succeeds or is dropped.
//!   Linux doubles the pauses, and gives up after about two minutes.
//!
//! # Limitations
//!
//! Streams have no file descriptor, so there is no `into_std`. Bytes are never lost, since TCP would
//! send them again: bytes that a cut link holds back arrive when it is healed. The window opens as
//! soon as the reader reads. There are no datagrams.

// All functions in these modules are `#[inline]`, so that they are only compiled in the crates that
// use them, which are tests. Otherwise the build of this crate would take a sixth longer.
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

/// The host of the current task.
static HOST: LocalKey<IpAddr> = {
    thread_local! {
        static VALUE: RefCell<Option<IpAddr>> = const { RefCell::new(None) };
    }
    LocalKey::__new(&VALUE)
};

/// Runs `future` on a host: connections that it opens come from this host. Tasks that it spawns do
/// not inherit the host.
///
/// # Panics
///
/// Panics if `host` is neither an IP address nor a [name](Network::add_name) of one, and outside of
/// a runtime.
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

/// Returns the host from which the current task connects to this address.
fn here(to: IpAddr) -> IpAddr {
    let local: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    HOST.try_with(|host| *host).unwrap_or(local)
}
