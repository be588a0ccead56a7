//! The turn loop: [`Runtime`], its [`Builder`], and the [`Handle`] through which
//! other threads reach it.
//!
//! Most programs need only [`block_on`]. A [`Runtime`] keeps its tasks from one call to the next. It
//! runs until no task is left ([`Runtime::run`]), or turn by turn from another event loop
//! ([`Runtime::turn`]).
//!
//! # A turn
//!
//! Tasks run in the order in which they become ready. A *generation* is the set of tasks that are
//! ready when it begins. Each of them is polled once. A task that becomes ready meanwhile belongs
//! to the next generation.
//!
//! In a *visit* the runtime reads the clock and handles the messages of other threads. It then
//! wakes the tasks whose timers are due and the tasks whose sockets are ready. Woken tasks go to
//! the end of the queue. The runtime makes a visit
//!
//! * when no task is ready. This visit waits until the next deadline or the next event;
//! * at the end of a generation, if 128 polls have been made or 1 ms has passed since the last
//!   visit;
//! * within a generation, if 10 ms have passed since the last visit.
//!
//! At most 128 messages of other threads are handled per generation.
//!
//! # Fairness
//!
//! One poll of a task can complete at most 128 socket operations and 64 timers. A read or write
//! counts as one operation, plus one for each full 8 KiB. An accept counts as four. Further
//! operations return `Pending`, and the task is woken at the end of the generation. So a task lets
//! others run even if it reads from a socket that always has data, or awaits timers that are always
//! due. Joins, promises and channels are not limited, and neither is computation: use
//! [`yield_now`](crate::task::yield_now) or [`unblock`](crate::unblock) there.
//!
//! A task that yields, or whose budget is spent, runs after the tasks that a visit at the end of
//! the generation finds ready.
//!
//! The wake never happens within the poll. So a `block_on` of another crate blocks for ever inside
//! a task as soon as an operation returns `Pending`, for whatever reason, because the poll in which
//! it blocks never ends. The `block_on` functions of soloist panic instead.

mod deadlock;
#[cfg(unix)]
mod guest;
mod handle;
#[cfg(all(test, soloist_loom))]
mod models;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

pub use self::handle::{Handle, RemoteTask};
use crate::executor::budget::{self, VisitBudget};
use crate::executor::{self, Entered, Executor, Settings, Step};
use crate::inspect::info::{Metrics, TaskInfo};
use crate::panics::Panics;
use crate::reactor::Reactor;
use crate::task::Task;
use crate::task_cell::MainTask;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use crate::testing::schedule::Schedule;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use crate::testing::virtual_clock::{AutoAdvance, Clock};

/// Runs a future and the tasks that it spawns on the current thread until the future completes.
///
/// A `main` function calls this. It creates a runtime, starts no thread, and returns the output of
/// the future. Before it returns, it cancels the tasks that are left, which drops their futures.
///
/// # Panics
///
/// * If it is called inside a running runtime, since that would block the thread that runs the
///   tasks. Use `.await` instead. (The `block_on` of another crate does not panic there, but
///   blocks for ever. See [Fairness](crate::runtime#fairness).)
/// * If the future panics.
/// * If the runtime is **stuck for certain** and would hang for ever. This is so if the future and
///   all tasks wait, no timer is set, no task waits for a socket or a job, no [`Handle`] or
///   [`RemoteTask`] is alive, and nothing holds a waker or an
///   [`AbortHandle`](crate::task::AbortHandle) of a task. The message lists the tasks.
///
/// The last check counts references, so it raises no false alarm. But it does not detect every
/// deadlock. A waker that is stored and never used still counts, for example in a channel whose
/// sender is never used, or in a [`promise`](crate::promise) that the waiting task itself should
/// set. The check runs before the thread waits, and when the last `Handle` is dropped. If another
/// thread drops the last waker later without waking, that is not detected. To wait for ever on
/// purpose, keep a `Handle`, or park the thread.
///
/// # Examples
///
/// ```
/// let sum = soloist::block_on(async {
///     let task = soloist::spawn(async { 40 });
///     task.await + 2
/// });
/// assert_eq!(sum, 42);
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    check_not_inside("block_on");
    Runtime::new().block_on(future)
}

/// A runtime on one thread: its tasks, its timers and its ready queue.
///
/// A runtime stays on its thread (`!Send`). Other threads reach it through a [`Handle`].
///
/// Dropping a runtime drops all its tasks inside the runtime. Their destructors can use the
/// runtime, but tasks that they spawn are dropped at once. If a destructor panics, the handle of
/// the task receives the panic. If tasks without a handle panic, the first panic is resumed when
/// all tasks have been dropped, and the others are reported on standard error.
///
/// # Examples
///
/// ```
/// use soloist::Runtime;
///
/// let runtime = Runtime::new();
/// // Tasks stay from one call to the next.
/// let task = runtime.spawn(async { 1 + 1 });
/// assert_eq!(runtime.block_on(task), 2);
/// ```
pub struct Runtime {
    pub(crate) executor: Rc<Executor>,
    budget: VisitBudget,
    /// Set when a stop was read within a generation, after wakes that must run before it.
    owes_generation: Cell<bool>,
    #[cfg(unix)]
    guest: guest::Guest,
}

impl Runtime {
    /// Creates a runtime. The first socket opens the file descriptors that the runtime needs.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// assert_eq!(runtime.block_on(async { 7 }), 7);
    /// ```
    pub fn new() -> Runtime {
        Runtime::builder().build()
    }

    /// Returns a builder, for a runtime with other settings than the default ones.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::builder().propagate_panics(true).build();
    /// # drop(runtime);
    /// ```
    pub fn builder() -> Builder {
        Builder {
            settings: Settings::default(),
        }
    }

    /// Returns a handle to this runtime, for other threads.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// let handle = runtime.handle();
    /// let thread = std::thread::spawn(move || {
    ///     let task = handle.spawn(|| async { 6 * 7 });
    ///     let answer = task.wait();
    ///     handle.stop();
    ///     answer
    /// });
    /// runtime.run_forever();
    /// assert_eq!(thread.join().unwrap().unwrap(), 42);
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::new(&self.executor)
    }

    /// Runs a future and the tasks of this runtime on the current thread until the future
    /// completes. The tasks that are left continue in the next call.
    ///
    /// # Panics
    ///
    /// * If it is called inside a running runtime. Use `.await` there.
    /// * If the future panics.
    /// * If the runtime is stuck for certain, as described for the function [`block_on`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{Runtime, time::sleep};
    ///
    /// let runtime = Runtime::new();
    /// let task = runtime.spawn(async {
    ///     sleep(Duration::from_millis(2)).await;
    ///     "done"
    /// });
    /// runtime.block_on(async { sleep(Duration::from_millis(1)).await });
    /// // The task has not completed yet. It continues now.
    /// assert_eq!(runtime.block_on(task), "done");
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        check_not_inside("block_on");
        let called_at = Location::caller();
        let _inside = self.enter();
        // After this, so that it is dropped inside the runtime, even if it panics.
        let mut future = pin!(future);
        let main = EndMain(self.executor.begin_main(called_at));
        let mut output = None;
        let mut poll_main = || {
            self.executor.counts().polls.add(1);
            match main.0.poll(future.as_mut()) {
                Poll::Ready(value) => output = Some(value),
                Poll::Pending => return false,
            }
            true
        };
        let is_done = if self.is_quiet() {
            self.poll_main_at_once(&mut poll_main)
        } else {
            self.executor.queue_main(&main.0);
            false
        };
        if !is_done {
            self.run_until_done(&mut poll_main);
        }
        output.expect("the loop ends when main is done")
    }

    /// Spawns a future as a task of this runtime. The task is first polled when the runtime runs,
    /// never within this call. Tasks are polled in the order in which they were spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// runtime.spawn(async { println!("hello") }).detach();
    /// runtime.run();
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let task = self.executor.spawn(future, None, Location::caller());
        if !self.executor.is_current() {
            self.notify_host();
        }
        Task::new(task)
    }

    /// Runs until no task is left, or until [`Handle::stop`] is called.
    ///
    /// If the runtime is not running when `stop` is called, the next `run` polls each task that is
    /// ready once, does not wait, and returns.
    ///
    /// # Panics
    ///
    /// * If it is called inside a running runtime. Await the tasks there.
    /// * If the runtime is stuck for certain, as described for the function [`block_on`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// let runtime = soloist::Runtime::new();
    /// let sum = Rc::new(Cell::new(0));
    /// for n in 1..=10 {
    ///     let sum = sum.clone();
    ///     runtime.spawn(async move { sum.set(sum.get() + n) }).detach();
    /// }
    /// runtime.run();
    /// assert_eq!(sum.get(), 55);
    /// ```
    #[track_caller]
    pub fn run(&self) {
        check_not_inside("run");
        self.run_until_stopped(true);
    }

    /// Runs until [`Handle::stop`] is called, even while there is no task.
    ///
    /// # Panics
    ///
    /// If it is called inside a running runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{Handle, Runtime, time::sleep};
    ///
    /// let runtime = Runtime::new();
    /// runtime.spawn(async {
    ///     sleep(Duration::from_millis(1)).await;
    ///     Handle::current().stop();
    /// }).detach();
    /// runtime.run_forever();
    /// ```
    #[track_caller]
    pub fn run_forever(&self) {
        check_not_inside("run_forever");
        self.run_until_stopped(false);
    }

    /// Makes one turn: polls each task that is ready once, in order. If no task is ready, it first
    /// waits until one is, but not longer than `max_wait`. `None` is no limit, and
    /// `Some(Duration::ZERO)` does not wait.
    ///
    /// This is for programs with an event loop of their own. After [`Handle::stop`], turns do not
    /// wait until a `run` has returned because of the stop.
    ///
    /// A turn first handles the messages of other threads. Before it polls the tasks, it checks
    /// sockets and timers if no task is ready, or if 128 polls have been made or 1 ms has passed
    /// since the last check. Between two polls it checks them if 10 ms have passed. (If another
    /// loop watches the runtime through its `poll_fd`, every turn checks them.) A task that becomes
    /// ready during the polls is polled in the next turn, after the tasks that were ready before
    /// it.
    ///
    /// # Errors
    ///
    /// Returns an error if the system cannot wait for events. Tasks that are ready stay ready, and
    /// the next call polls them.
    ///
    /// # Panics
    ///
    /// If it is called inside a running runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = soloist::Runtime::new();
    /// let task = runtime.spawn(soloist::task::yield_now());
    /// let turn = runtime.turn(Some(Duration::ZERO))?;
    /// assert_eq!((turn.polled, turn.ready), (1, 1));
    /// let turn = runtime.turn(Some(Duration::ZERO))?;
    /// assert_eq!((turn.polled, turn.ready), (1, 0));
    /// assert!(task.is_finished());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn turn(&self, max_wait: Option<Duration>) -> io::Result<Turn> {
        check_not_inside("turn");
        let end = max_wait.and_then(|wait| Instant::now().checked_add(wait));
        let mut wait = max_wait;
        let _inside = self.enter();
        loop {
            self.executor.read_inbox();
            #[cfg(unix)]
            if self.guest.is_guest() && self.executor.is_anything_ready() {
                // Fetches the events that made the foreign loop call. If no task is ready, the turn
                // itself does this.
                self.visit(false, None)?;
            }
            if self.executor.is_stopped() {
                wait = Some(Duration::ZERO);
            }
            let polled = self.turn_once(wait, &mut || false)?.polled;
            // A wait may end early, or without an event.
            wait = end.map(|end| end.saturating_duration_since(Instant::now()));
            if polled > 0 || wait == Some(Duration::ZERO) || self.executor.is_stopped() {
                return Ok(Turn {
                    polled,
                    ready: self.executor.ready_count(),
                    next_deadline: self.executor.next_deadline(),
                });
            }
        }
    }

    /// Returns a file descriptor for a foreign event loop. It is readable when `turn(Some(ZERO))`
    /// has work to do:
    ///
    /// * a socket is ready;
    /// * a task has been woken, by this thread or another one;
    /// * a task has been spawned, or is left over from the last turn;
    /// * on Linux, a timer is due. On other systems, take account of
    ///   [`next_deadline`](Runtime::next_deadline), too.
    ///
    /// No thread is started. Do not read from the fd, only poll it for readability.
    ///
    /// One `turn(Some(ZERO))` per event is enough, whether the loop is level-triggered (like
    /// `poll`, `calloop` or a `GSource`) or edge-triggered (like `mio`): a turn that leaves work to
    /// do makes a new event. There can be events for which a turn finds no work.
    ///
    /// In the child process of a fork the runtime is no longer a guest, because the fd is that of
    /// the parent. Call this again, and watch the new fd.
    ///
    /// # Errors
    ///
    /// Returns an error
    ///
    /// * if the system cannot create a poller;
    /// * if another runtime of this thread is already a guest: they would share one reactor;
    /// * if the clock is virtual: no other loop can wait for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use polling::{Event, Events, Poller};
    /// use soloist::{Runtime, time::sleep};
    ///
    /// let runtime = Runtime::new();
    /// let task = runtime.spawn(async { sleep(Duration::from_millis(5)).await });
    /// // The foreign event loop:
    /// let poller = Poller::new()?;
    /// # #[expect(unsafe_code, reason = "required by polling")]
    /// // SAFETY: the fd is deleted from the poller below, before the runtime is dropped.
    /// unsafe { poller.add(&runtime.poll_fd()?, Event::readable(1))? };
    /// let mut events = Events::new();
    /// while !task.is_finished() {
    ///     let timeout = runtime.next_deadline().map(|at| at.saturating_duration_since(std::time::Instant::now()));
    ///     poller.wait(&mut events, timeout)?;
    ///     events.clear();
    ///     runtime.turn(Some(Duration::ZERO))?;
    ///     poller.modify(runtime.poll_fd()?, Event::readable(1))?;
    /// }
    /// poller.delete(runtime.poll_fd()?)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn poll_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.guest.poll_fd(&self.executor)
    }

    /// Returns the deadline of the next timer, or `None` if no timer is set.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// assert_eq!(runtime.next_deadline(), None);
    /// ```
    pub fn next_deadline(&self) -> Option<Instant> {
        self.executor.next_deadline()
    }

    /// Returns the counters of this runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// runtime.spawn(async {}).detach();
    /// assert_eq!((runtime.metrics().spawned, runtime.metrics().live), (1, 1));
    /// runtime.run();
    /// assert_eq!((runtime.metrics().polls, runtime.metrics().live), (1, 0));
    /// ```
    pub fn metrics(&self) -> Metrics {
        crate::inspect::info::metrics(&self.executor)
    }

    /// Returns the state of each task of this runtime, in the order in which they were spawned.
    ///
    /// A task of the runtime calls [`inspect::dump`](crate::inspect::dump) instead.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::new();
    /// let task = soloist::task::Builder::new().name("to come");
    /// let task = runtime.block_on(async { task.spawn(async {}) });
    /// let tasks = runtime.tasks();
    /// assert_eq!(tasks[0].name.as_deref(), Some("to come"));
    /// # drop(task);
    /// ```
    pub fn tasks(&self) -> Vec<TaskInfo> {
        crate::inspect::info::dump(&self.executor).tasks
    }

    /// Enters this runtime until the guard is dropped. All methods that poll tasks use this.
    #[inline(always)]
    fn enter(&self) -> Inside<'_> {
        Reactor::check_fork();
        Inside {
            _entered: self.executor.enter(),
            _notify: NotifyHost(self),
        }
    }

    /// Runs `f`, a destructor, inside this runtime, even if another one is entered.
    pub(crate) fn enter_for<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = self.executor.enter();
        f()
    }

    /// Notifies the foreign loop, if there is one and there is work left.
    #[inline]
    fn notify_host(&self) {
        // The foreign loop watches the thread's reactor.
        #[cfg(unix)]
        if Reactor::is_made() {
            self.guest.rearm(&self.executor);
        }
    }

    // ---- The loop ------------------------------------------------------------------------

    /// Makes one turn: a visit if one is due, then one poll of each task that is ready. A task that
    /// becomes ready meanwhile is polled in the next turn. `main` polls the future of a `block_on`,
    /// and returns whether it has completed.
    ///
    /// The caller has read the inbox. Reading it here, before the wait, could consume a stop
    /// request that the caller must see, and then block for ever.
    #[inline(always)]
    fn turn_once(
        &self,
        wait: Option<Duration>,
        main: &mut dyn FnMut() -> bool,
    ) -> io::Result<Pass> {
        let executor = &*self.executor;
        let mut pass = Pass::default();
        loop {
            let is_idle = !executor.is_anything_ready();
            if is_idle || self.budget.is_due_after_generation() {
                self.visit(is_idle, wait)?;
            }
            // After the visit: tasks that an event wakes run before tasks that have yielded.
            executor.append_deferred();
            if let Some(watch) = executor.watch() {
                watch.begin_turn();
            }
            for _ in 0..executor.begin_generation() {
                match executor.poll_next(main) {
                    Step::Polled => pass.polled += 1,
                    Step::Stale => continue,
                    // The other tasks are polled in the next call.
                    Step::MainIsDone => {
                        // Counted, so that many short calls lead to a visit as well.
                        self.budget.count_poll();
                        pass.polled += 1;
                        pass.main_is_done = true;
                        break;
                    }
                }
                if self.budget.is_interrupted_after_poll() {
                    self.interrupt()?;
                }
            }
            if let Some(watch) = executor.watch() {
                watch.end_turn(pass.polled);
            }
            // If all entries were of tasks that have ended, nothing was ready.
            if is_idle || pass.polled > 0 {
                return Ok(pass);
            }
        }
    }

    /// Handles the messages of other threads, then wakes the tasks whose timers are due, then the
    /// tasks whose sockets are ready. An idle runtime first waits for any of them, but not longer
    /// than `wait`.
    fn visit(&self, is_idle: bool, wait: Option<Duration>) -> io::Result<()> {
        let executor = &self.executor;
        if let Some(clock) = executor.simulated_clock().filter(|_| is_idle) {
            clock.visit(executor, wait)?;
            self.budget.visited(Instant::now());
            return Ok(());
        }
        executor.wait(if is_idle {
            self.until_next_timer(wait)
        } else {
            Some(Duration::ZERO)
        })?;
        executor.read_inbox();
        executor.update_now();
        executor.expire_timers();
        executor.deliver_events();
        self.budget.visited(self.real_now());
        Ok(())
    }

    /// Makes a visit within a generation.
    #[cold]
    fn interrupt(&self) -> io::Result<()> {
        let executor = &self.executor;
        let (ready, was_stopped) = (executor.queue_len(), executor.is_stopped());
        self.visit(false, None)?;
        if executor.is_stopped() && !was_stopped && executor.queue_len() > ready {
            self.owes_generation.set(true);
        }
        Ok(())
    }

    /// Makes turns until `main` has completed.
    fn run_until_done(&self, main: &mut dyn FnMut() -> bool) {
        let executor = &*self.executor;
        loop {
            executor.read_inbox();
            self.check_not_deadlocked();
            let pass = self.turn_once(None, main);
            if pass.unwrap_or_else(|error| lost(&error)).main_is_done {
                return;
            }
        }
    }

    fn run_until_stopped(&self, or_empty: bool) {
        let _inside = self.enter();
        let executor = &self.executor;
        // Tasks that a `block_on` or a turn has left ready run in this call.
        self.owes_generation.set(false);
        loop {
            executor.read_inbox();
            if or_empty && executor.live() == 0 {
                executor.take_stopped();
                return;
            }
            let wait = executor.is_stopped().then_some(Duration::ZERO);
            if or_empty && wait.is_none() {
                self.check_not_deadlocked();
            }
            let pass = self.turn_once(wait, &mut || false);
            pass.unwrap_or_else(|error| lost(&error));
            let ready = executor.queue_len();
            executor.read_inbox();
            if executor.take_stopped() {
                if self.owes_generation.take() || executor.queue_len() > ready {
                    // Tasks that were woken before the stop run before it.
                    let pass = self.turn_once(Some(Duration::ZERO), &mut || false);
                    pass.unwrap_or_else(|error| lost(&error));
                }
                return;
            }
        }
    }

    /// Whether a turn would consist of the first poll of a new main.
    #[inline]
    fn is_quiet(&self) -> bool {
        !self.executor.is_anything_ready()
            && !self.executor.has_messages()
            && !self.budget.is_due()
            && self.executor.watch().is_none()
            && self.executor.simulation().is_none()
    }

    /// Makes such a turn, without the queue.
    #[inline]
    fn poll_main_at_once(&self, main: &mut impl FnMut() -> bool) -> bool {
        self.executor.count_generation(1);
        budget::begin_poll();
        let is_done = main();
        if is_done {
            self.budget.count_poll();
        } else if self.budget.is_interrupted_after_poll() {
            self.interrupt().unwrap_or_else(|error| lost(&error));
        }
        is_done
    }

    /// The time of the last visit by the system's clock, since tasks take real time.
    fn real_now(&self) -> Instant {
        if self.executor.has_virtual_clock() {
            Instant::now()
        } else {
            self.executor.now()
        }
    }

    /// The time until the next deadline, but not more than `wait`.
    fn until_next_timer(&self, wait: Option<Duration>) -> Option<Duration> {
        let Some(deadline) = self.executor.next_deadline() else {
            return wait;
        };
        let timer = deadline.saturating_duration_since(self.executor.update_now());
        Some(wait.map_or(timer, |wait| wait.min(timer)))
    }
}

/// The result of `turn_once`.
#[derive(Default)]
struct Pass {
    polled: usize,
    main_is_done: bool,
}

/// Ends a `block_on`. Its wakers do nothing from then on.
struct EndMain(MainTask);

impl Drop for EndMain {
    #[inline]
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Leaves the runtime, and then notifies the foreign loop.
struct Inside<'a> {
    _entered: Entered,
    _notify: NotifyHost<'a>,
}

/// Notifies the foreign loop when the runtime is left.
struct NotifyHost<'a>(&'a Runtime);

impl Drop for NotifyHost<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.notify_host();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.executor.remote().fmt(f)
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Runtime::new()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        #[cfg(unix)]
        self.guest.leave();
        let mut panics = Panics::default();
        self.executor.close(&mut panics);
        panics.resume();
    }
}

/// The result of a [`Runtime::turn`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let turn = soloist::Runtime::new().turn(Some(Duration::ZERO))?;
/// assert_eq!((turn.polled, turn.ready, turn.next_deadline), (0, 0, None));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// The number of polls.
    pub polled: usize,
    /// The number of tasks that are ready for the next turn.
    pub ready: usize,
    /// The deadline of the next timer, or `None` if no timer is set.
    pub next_deadline: Option<Instant>,
}

/// Creates a [`Runtime`] with settings.
///
/// # Examples
///
/// ```
/// let runtime = soloist::Runtime::builder().propagate_panics(true).build();
/// assert_eq!(runtime.block_on(async { 1 }), 1);
/// ```
#[derive(Debug)]
#[must_use = "call `build` to make the runtime"]
pub struct Builder {
    pub(crate) settings: Settings,
}

impl Builder {
    /// Sets whether the panic of a detached task is resumed by the `block_on` or `run` that polls
    /// it. By default the panic hook reports the panic, and the other tasks continue, as with a
    /// detached thread.
    ///
    /// This also applies to a task that had panicked before it was detached, and to a destructor
    /// that panics because the handle of its task is dropped.
    ///
    /// # Examples
    ///
    /// ```should_panic
    /// let runtime = soloist::Runtime::builder().propagate_panics(true).build();
    /// runtime.spawn(async { panic!("this must be noticed") }).detach();
    /// runtime.run();
    /// ```
    pub fn propagate_panics(mut self, propagate: bool) -> Builder {
        self.settings.propagate_panics = propagate;
        self
    }

    /// Sets whether the runtime measures times: the age of each task, the duration of its polls, and
    /// how long the thread was busy and idle. [`Runtime::tasks`],
    /// [`inspect::dump`](crate::inspect::dump) and [`Runtime::metrics`] return them. Otherwise their
    /// fields for times are `None`.
    ///
    /// Measuring reads the clock twice per poll, which costs more than a short poll.
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

    /// Warns about polls that take at least as long as `from`, since all other tasks wait meanwhile.
    /// The warning names the task, and where it was spawned. It also warns about turns in which
    /// many short polls take that long together.
    ///
    /// With the feature `log`, the warnings go to the [`log`](https://docs.rs/log) crate. With the
    /// feature `tracing`, they are events of the [`tracing`](https://docs.rs/tracing) crate. Without
    /// both, they go to standard error. Measuring reads the clock twice per poll. (The debug mode of
    /// asyncio warns from 100 ms on.)
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
    ///     // soloist: slow poll: task `blocks` (spawned at src/main.rs:9:20) has blocked the
    ///     // thread for 6.1ms
    ///     task.spawn(async { std::thread::sleep(Duration::from_millis(6)) }).await;
    /// });
    /// ```
    pub fn warn_slow(mut self, from: Duration) -> Builder {
        self.settings.warn_slow = Some(from);
        self
    }

    /// Creates the runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::builder().build();
    /// assert_eq!(runtime.block_on(async { 1 }), 1);
    /// ```
    pub fn build(mut self) -> Runtime {
        let budget_clock = self.settings.budget_clock.take();
        let executor = Executor::new(self.settings);
        let budget = VisitBudget::new(executor.now(), budget_clock);
        Runtime {
            executor,
            budget,
            owes_generation: Cell::new(false),
            #[cfg(unix)]
            guest: guest::Guest::default(),
        }
    }
}

#[track_caller]
#[inline]
fn check_not_inside(what: &str) {
    assert!(
        !executor::is_inside(),
        "`{what}` inside a running soloist runtime would block the thread that runs it: use \
         `.await` there, or another thread"
    );
}

/// Without the reactor nothing would wake the tasks again.
fn lost(error: &io::Error) -> ! {
    panic!("soloist: waiting for events has failed: {error}")
}
