//! The executor of one runtime: its tasks, its ready queue, its timers. A thread may have several.
//!
//! [`Runtime`](crate::Runtime) runs the loop; this room holds what the loop works on, and
//! everything that a task needs of the runtime in which it runs.
//!
//! # Files
//!
//! * `lifecycle.rs`: how an executor is made, and how it ends.
//! * `orphan.rs`: panics of tasks without a handle.
//! * `external.rs`: counts what can act on the executor from outside: handles and jobs.
//! * `current.rs`: the executor that is entered on this thread, [`Executor::enter`].
//! * `tasks.rs`: the tasks, from the spawn to the end.
//! * `queue.rs`: the ready queue, and what other threads have sent.
//! * `deadlines.rs`: timers, and the clock.
//! * `state.rs`: [`Executor`], what all of these work on, and `Simulation`, what a simulated run changes.
//! * `park.rs`: going idle, on the thread or in the reactor.
//! * `timers.rs`: the deadline heap.
//! * `budget.rs`: how much a poll may complete, and how long tasks run between two visits; yields.
//!
//! # Order
//!
//! Everything that becomes ready goes to the end of one queue: what is spawned, woken, due or
//! ready to read. Tasks that yield, and those whose budget is spent, are kept apart until the
//! generation ends, and are then appended.
//!
//! # User code
//!
//! No cell is borrowed while user code runs: a poll, the drop of a future, the clone, wake or
//! drop of a waker, a message's closure.

pub(crate) mod budget;
mod current;
mod deadlines;
mod external;
mod lifecycle;
mod orphan;
mod park;
mod queue;
mod state;
mod tasks;
pub(crate) mod timers;

pub(crate) use self::budget::{poll_socket_budget, poll_timer_budget, yield_polled};
pub(crate) use self::current::{
    Entered, cancel, check_inside, current, inside_or_error, is_inside, try_current,
};
#[cfg(feature = "blocking")]
pub(crate) use self::current::{is_simulated, leave};
pub(crate) use self::external::ExternalRef;
pub(crate) use self::orphan::OrphanedPanic;
#[cfg(feature = "testing")]
pub(crate) use self::state::{BudgetClock, Hosts, SimulatedClock, Simulation, SimulationSettings};
pub(crate) use self::state::{Executor, ProcessId, Settings};
pub(crate) use self::tasks::Step;
