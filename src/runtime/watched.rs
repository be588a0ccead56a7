//! The settings of a runtime that is to measure.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// Whether the runtime keeps times: how old a task is, how long its polls have taken, how
    /// long the thread was busy and idle. They are in [`Runtime::tasks`](crate::Runtime::tasks), in
    /// [`inspect::dump`](crate::inspect::dump) and in [`Runtime::metrics`](crate::Runtime::metrics), which are there
    /// without this, too, but have no times then.
    ///
    /// It costs two looks at the clock per poll, which is more than a poll.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = soloist::Runtime::builder().inspect(true).build();
    /// let task = runtime.spawn(async {
    ///     std::thread::sleep(Duration::from_millis(2));
    ///     soloist::task::yield_now().await;
    /// });
    /// runtime.turn(Some(Duration::ZERO))?;
    /// let info = &runtime.tasks()[0];
    /// assert!(info.longest_poll >= Some(Duration::from_millis(2)));
    /// assert!(info.age >= info.total_poll);
    /// assert!(runtime.metrics().busy >= info.total_poll);
    /// # drop(task);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn inspect(mut self, inspect: bool) -> Builder {
        self.settings.inspect = inspect;
        self
    }

    /// Warns of polls that take this long or longer, with the task and where it was spawned:
    /// all others wait meanwhile. And of turns in which many short polls come to as much.
    ///
    /// The warnings go to the [`log`](https://docs.rs/log) crate with the feature `log`, are events
    /// of the [`tracing`](https://docs.rs/tracing) crate with the feature `tracing`, and go to
    /// standard error without both. It costs two looks at the clock per poll. What asyncio
    /// calls its debug mode warns from 100 ms on.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = soloist::Runtime::builder()
    ///     .warn_slow(Duration::from_millis(5))
    ///     .build();
    /// runtime.block_on(async {
    ///     let task = soloist::task::Builder::new().name("blocks");
    ///     // soloist: slow poll: task `blocks` (spawned at src/main.rs:9:20) has kept the
    ///     // thread for 6.1ms
    ///     task.spawn(async { std::thread::sleep(Duration::from_millis(6)) }).await;
    /// });
    /// ```
    pub fn warn_slow(mut self, from: Duration) -> Builder {
        self.settings.warn_slow = Some(from);
        self
    }
}
