// The picture, for where the README finds no file: the first definition of a link counts.
#![doc = include_str!("../docs/wake-up.link")]
#![doc = include_str!("../README.md")]

mod cell;
mod context;
pub mod guide;
pub mod io;
pub mod net;
mod panics;
mod park;
pub mod promise;
mod reactor;
mod ready;
pub mod runtime;
mod socket;
mod source;
mod sync;
pub mod task;
pub mod time;
mod timers;

pub use runtime::{Handle, Runtime, block_on};
pub use task::{Task, spawn};
