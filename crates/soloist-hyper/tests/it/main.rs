//! Servers and clients of this crate, over real sockets and over the network in memory.

mod client;
mod io;
mod readme;
mod serve;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod world;
