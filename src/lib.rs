// The pictures, for where the README finds no file: the first definition of a link counts.
#![doc = include_str!("../docs/wake-up.link")]
#![doc = include_str!("../docs/ten-pages.link")]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "blocking")]
pub mod blocking;
mod budget;
mod cell;
mod clock;
mod context;
mod counts;
pub mod future;
pub mod guide;
mod info;
pub mod inspect;
pub mod io;
pub mod net;
mod outside;
mod panics;
mod park;
#[cfg(all(unix, feature = "process"))]
#[cfg_attr(docsrs, doc(cfg(all(unix, feature = "process"))))]
pub mod process;
pub mod promise;
mod reactor;
mod ready;
mod record;
pub mod runtime;
mod schedule;
#[cfg(feature = "signal")]
#[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
pub mod signal;
mod socket;
mod source;
mod stderr;
pub mod stream;
mod sync;
pub mod task;
pub mod testing;
pub mod time;
mod timers;
#[cfg(feature = "trace")]
#[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
pub mod trace;
mod watch;

#[cfg(feature = "blocking")]
pub use blocking::unblock;
#[cfg(soloist_liar)]
#[doc(hidden)]
pub use reactor::liar;
pub use runtime::{Handle, Runtime, block_on};
pub use task::{Task, spawn};
