// The README is included below. Its own link definitions are for the repository's page; those
// here are for the documentation. The first definition of a link counts.
//! [`block_on`]: crate::block_on
//! [`spawn`]: crate::spawn
//! [`Task`]: crate::Task
//! [`AbortHandle`]: crate::task::AbortHandle
//! [`Runtime`]: crate::Runtime
//! [`Handle`]: crate::Handle
//! [`unblock`]: crate::unblock
//! [runtime-module]: mod@runtime
//! [task-module]: mod@task
//! [`time`]: mod@time
//! [`blocking`]: mod@blocking
//! [`promise`]: mod@promise
//! [`net`]: mod@net
//! [`io`]: mod@io
//! [`testing`]: https://docs.rs/soloist/latest/soloist/testing/
//! [`inspect`]: mod@inspect
//! [`future`]: mod@future
//! [`stream`]: mod@stream
//! [`signal`]: https://docs.rs/soloist/latest/soloist/signal/
//! [`trace`]: https://docs.rs/soloist/latest/soloist/trace/
//! [`process`]: https://docs.rs/soloist/latest/soloist/process/
//! [guide]: mod@guide
//! [when one thread is not enough]: guide::when_one_thread_is_not_enough
//! [other crates]: guide::ecosystem
//! [from-tokio]: guide::from_tokio
//! [from-smol]: guide::from_smol
//! [come from Python's asyncio]: guide::coming_from_asyncio
//! [a wake-up]: guide::a_wake_up
//! [`select!`]: guide::select
//! [docs/benchmarks.md]: https://docs.rs/crate/soloist/latest/source/docs/benchmarks.md
//! [docs/reliability.md]: https://docs.rs/crate/soloist/latest/source/docs/reliability.md
//! [docs/api.txt]: https://docs.rs/crate/soloist/latest/source/docs/api.txt
//! [ARCHITECTURE.md]: https://docs.rs/crate/soloist/latest/source/ARCHITECTURE.md
//! [CONTRIBUTING.md]: https://docs.rs/crate/soloist/latest/source/CONTRIBUTING.md
//! [SECURITY.md]: https://docs.rs/crate/soloist/latest/source/SECURITY.md
//!
#![doc = include_str!("../docs/wake-up.link")]
#![doc = include_str!("../docs/ten-pages.link")]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "blocking")]
pub mod blocking;
mod clock;
mod executor;
pub mod future;
pub mod guide;
mod hooks;
mod inbox;
pub mod inspect;
pub mod io;
pub mod net;
mod panics;
#[cfg(all(unix, feature = "process"))]
#[cfg_attr(docsrs, doc(cfg(all(unix, feature = "process"))))]
pub mod process;
pub mod promise;
mod reactor;
pub mod runtime;
mod schedule;
#[cfg(feature = "signal")]
#[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
pub mod signal;
mod slab;
mod socket;
mod stderr;
pub mod stream;
mod sync;
pub mod task;
mod task_cell;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
pub mod time;
#[cfg(feature = "trace")]
#[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
pub mod trace;

#[cfg(feature = "blocking")]
pub use blocking::unblock;
#[cfg(soloist_liar)]
#[doc(hidden)]
pub use reactor::lies as liar;
pub use runtime::{Handle, Runtime, block_on};
pub use task::{Task, spawn};
