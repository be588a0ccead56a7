//! The task cell: one allocation for header, future and output, which is at the same time the
//! task's waker. All `unsafe` code for tasks is in this room.
//!
//! # Files
//!
//! * `header.rs`: the header, and the references to a cell: [`LocalTask`], [`SharedTask`],
//!   wakers.
//! * `wake_target.rs`: [`WakeTarget`], what waits for a timer or a source.
//! * `counts.rs`: the two reference counts.
//! * `cell.rs`: the stage with the future or the output, how a cell is made, and the transitions
//!   below.
//! * `handle.rs`: [`JoinRef`], what a task's handle holds.
//! * `owner.rs`: [`Owner`], the proof of being on the executor's thread.
//! * `state.rs`, `label.rs`, `wait_kinds.rs`: the states, a task's name, what a task waits for.
//! * `snapshot.rs`: what a task is doing at this moment.
//!
//! The room knows no executor. A cell reaches one through [`TaskScheduler`] and [`Remote`].
//!
//! # References
//!
//! A cell is referred to by
//!
//! * the registry of its executor while a future is in place, the ready queue while the task is
//!   in it, and the loop during a poll ([`LocalTask`], `!Send`: can run the task);
//! * the task's handle ([`JoinRef`], local, too);
//! * what the task waits for: a timer, a source, another task ([`WakeTarget`], mostly local);
//! * messages in the inbox and abort handles ([`SharedTask`], `Send`: can only wake and mark);
//! * wakers, anywhere, for as long as they like.
//!
//! # States
//!
//! ```text
//!   new --> IDLE --run--> RUNNING --Pending--> IDLE
//!             |               |
//!             |               +--Ready, panic--> DROPPING --> DONE --take_output--> GONE
//!             +--cancel------------------------> DROPPING -------------------------> GONE
//!                                                    +--panic--> DONE --take_output--> GONE
//! ```
//!
//! * `run` makes IDLE -> RUNNING -> IDLE. Only the executor's loop calls it.
//! * `finish` makes RUNNING -> DROPPING -> DONE, or GONE if no handle wants the output.
//! * `cancel` makes IDLE -> DROPPING -> GONE, or DONE if the destructor has panicked and there
//!   is a handle to receive the panic. In RUNNING and DROPPING it only sets `cancelled`, which
//!   `run` reads after the poll.
//! * `take_output` makes DONE -> GONE.
//!
//! The state changes *before* user code runs, so whatever that code does finds a cell that says
//! what is going on.
//!
//! # Wakes
//!
//! * On the executor's thread while it is entered: `queued` is set, and the task goes on the
//!   ready queue if it was not set before.
//! * Anywhere else: always `swap(true, AcqRel)` of `sent`, and a message into the inbox if it
//!   was false. The executor takes the message out, *then* clears `sent` with
//!   `swap(false, AcqRel)`, then queues the task through `queued`.
//! * `run` clears `queued` *before* the poll. So a wake after the poll began always leads to
//!   another poll, and the poll sees what was written before the wake.
//! * Both flags stay set for ever once the task is over. A task that was woken both ways may be
//!   polled once more than needed.
//!
//! # Invariants
//!
//! * **\[THREAD\]** The stage and the `Cell`s of the header are touched only on the executor's
//!   thread. The proof is an [`Owner`] with the cell's executor id, or a local reference: both
//!   are `!Send`, and made only there.
//! * **\[STAGE\]** `stage.future` is initialised exactly in IDLE, RUNNING and DROPPING,
//!   `stage.output` exactly in DONE, nothing in GONE. Drop glue never touches either: a mistake
//!   elsewhere leaks, and drops nothing on a foreign thread.
//! * **\[JOINER\]** A cell that is DONE or GONE and has no `wake_joiner` pending has an empty
//!   joiner: `join` stores none once the task is over, the executor calls `wake_joiner` after
//!   each transition to DONE or GONE, and `release` empties it. Until then the executor holds
//!   the local reference from which it made the transition. So a cell that is freed drops no
//!   joiner.
//! * **\[COUNT\]** A cell exists as long as there is a reference: local ones, which together
//!   hold one of the remote ones, and remote ones. What takes the last one away frees the cell,
//!   through the vtable that was made for its type. Nothing else does.
//! * **\[LAYOUT\]** A cell is `repr(C)` and begins with its header. A pointer to a header that
//!   stands for a reference comes from a pointer to the whole cell.
//! * **\[PINNED\]** The future is in its cell from the start, is never moved out, and is
//!   dropped in place. No reference to the stage exists while user code runs, except the pinned
//!   one of the poll or of the drop itself: both happen in states in which nothing else touches
//!   it (RUNNING, DROPPING).
//! * **\[POLLED\]** The thread's `POLLED` points to the header of the cell that is being polled
//!   there, or is empty. `begin_poll` sets it and its guard empties it, while the caller holds a
//!   reference to the cell. (If polls were nested, the end of the inner one would empty it, too:
//!   that is harmless.)
//! * **\[ID\]** The ids of executors come from a counter and are never reused.

mod cell;
mod counts;
mod handle;
mod header;
mod label;
mod owner;
mod snapshot;
mod state;
mod wait_kinds;
mod wake_target;

pub(crate) use self::cell::MainTask;
pub(crate) use self::handle::JoinRef;
pub(crate) use self::header::{
    LocalTask, Message, Remote, SharedTask, TaskScheduler, WaiterId, is_polling, note, polled_id,
    polled_task,
};
pub(crate) use self::label::{Name, TaskLabel, write_name};
pub(crate) use self::owner::Owner;
pub(crate) use self::state::Ran;
pub(crate) use self::wake_target::WakeTarget;
