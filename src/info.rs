//! What a runtime tells of itself and its tasks. Users find it in [`crate::inspect`].

use crate::context::Context;

/// What a runtime has counted since it was made: [`Runtime::metrics`](crate::Runtime::metrics).
///
/// To read it costs no more than to copy it, and to count costs next to nothing: plain
/// numbers of the runtime's own thread. What happens between two readings is their
/// difference.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{Runtime, spawn, task::yield_now, time::sleep};
///
/// let runtime = Runtime::new();
/// runtime.block_on(async {
///     let task = spawn(async {
///         yield_now().await;
///         sleep(Duration::from_millis(1)).await;
///     });
///     task.await;
/// });
/// let metrics = runtime.metrics();
/// // The future of `block_on` is no task, but it is polled and woken like one.
/// assert_eq!((metrics.spawned, metrics.live), (1, 0));
/// // Main: to spawn and wait, and when the task is done. The task: at its start, after its
/// // yield, when its time has come.
/// assert_eq!(metrics.polls, 2 + 3);
/// // The yield, the timer, and the end of the task, which wakes main.
/// assert_eq!((metrics.wakes_local, metrics.wakes_remote), (3, 0));
/// assert_eq!((metrics.timers_fired, metrics.timers_pending), (1, 0));
/// // Nothing was ready while it slept.
/// assert!(metrics.waits >= 1);
/// assert_eq!(metrics.events, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Tasks that were spawned.
    pub spawned: u64,
    /// Tasks that are there now: not done, not cancelled.
    pub live: usize,
    /// Polls, of tasks and of the future of `block_on`.
    pub polls: u64,
    /// Wakes on the runtime's own thread that made a task ready: by its sockets and timers,
    /// and by other tasks.
    pub wakes_local: u64,
    /// Wakes from other threads that made a task ready.
    pub wakes_remote: u64,
    /// Wakes of a task that was ready already, and of one that was over. Not counted are
    /// those from other threads for which another such wake was still under way: that would
    /// cost them more than the wake.
    pub wakes_redundant: u64,
    /// Generations: times in which all that was ready was polled, each once.
    pub turns: u64,
    /// Times when nothing was ready, and the thread waited for something to happen.
    pub waits: u64,
    /// What the system has reported of sockets and other file descriptors.
    pub events: u64,
    /// Timers that are set now.
    pub timers_pending: usize,
    /// Timers whose time has come.
    pub timers_fired: u64,
    /// The most that was ready at the start of a turn.
    pub longest_queue: usize,
}

pub(crate) fn metrics(context: &Context) -> Metrics {
    let counts = context.owner.counts();
    Metrics {
        spawned: context.owner.spawned(),
        live: context.owner.live(),
        polls: counts.polls.get(),
        wakes_local: counts.wakes_local.get(),
        wakes_remote: counts.wakes_remote.get(),
        wakes_redundant: counts.wakes_redundant.get(),
        turns: counts.turns.get(),
        waits: counts.waits.get(),
        events: counts.events.get(),
        timers_pending: context.timers_pending(),
        timers_fired: counts.fired.get(),
        longest_queue: counts.longest_queue.get() as usize,
    }
}
