#[cfg(all(target_os = "linux", not(soloist_portable)))]
mod epoll;
#[cfg(all(target_os = "linux", not(soloist_portable)))]
use self::epoll as real;
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
mod portable;
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
use self::portable as real;

mod driver;
mod event;
mod fork;
#[cfg(soloist_liar)]
mod liar;
mod object;
mod platform;
mod readiness;
mod registration;
mod slots;
mod waiters;
mod waits;

pub(crate) use self::driver::Reactor;
pub(crate) use self::event::Direction;
pub(crate) use self::object::Source;
pub(crate) use self::platform::AsRaw;
pub(crate) use self::registration::Registration;

/// For the tests.
#[cfg(soloist_liar)]
pub mod lies {
    pub use super::driver::slots;
    pub use super::liar::{Lie, lie, lies};
}
