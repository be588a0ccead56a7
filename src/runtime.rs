//! The turn loop: [`Runtime`], its [`Builder`], and the [`Handle`] through which
//! other threads reach it.
//!
//! Most programs need only [`block_on`]. A [`Runtime`]
//! keeps its tasks from one call to the next. It can be run until no task is left
//! ([`Runtime::run`]), or turn by turn from another event loop ([`Runtime::turn`]).
//!
//! # A turn
//!
//! Tasks run first come, first served, in the order in which the runtime learns that they
//! are ready. They run in generations: all that are ready now, each once. In a visit the
//! runtime reads the clock, takes what other threads have sent, and wakes the tasks whose
//! timers are due and whose sockets are ready; all of them go to the end of the queue.
//! A visit comes
//!
//! * when no task is ready: it waits until the next deadline, or until something happens;
//! * at the end of a generation, when 128 polls have been made or a millisecond has passed
//!   since the last visit;
//! * within a generation, when 10 ms have passed.
//!
//! At most 128 messages of other threads are taken per generation.
//!
//! # Fairness
//!
//! One poll of a task completes at most 128 operations of sockets and 64 timers. (A read or
//! write counts once, and once more for each full 8 KiB; an accept counts four times.) What is
//! beyond that returns `Pending`, and the task is woken at the end of the generation. So a task that
//! reads from a socket which always has data, or awaits timers that are always due, lets the
//! others run. The end of a task, a promise or a channel is not limited, nor is what a task
//! computes: use [`yield_now`](crate::task::yield_now) or [`unblock`](crate::unblock) for that.
//!
//! A task that yields, and one whose budget is spent, run again after those that a visit at the
//! end of the generation finds ready.
//!
//! No such wake comes within the poll. So another crate's `block_on` inside of a task waits for
//! ever as soon as an operation returns `Pending`, for that or any other reason: the poll in
//! which it waits never ends. Those of this crate panic instead.

mod deadlock;
#[cfg(unix)]
mod guest;
mod handle;
#[cfg(all(test, soloist_loom))]
mod models;
mod watched;

use std::cell::Cell;
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
use crate::executor::{self, Executor, Settings, Step};
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

/// Runs a future, and all that it spawns, on this thread until it is done.
///
/// This is what a `main` function calls. It makes a runtime, starts no thread, and
/// returns the future's output. Tasks that are still alive then are cancelled (their
/// futures dropped) before it returns.
///
/// # Panics
///
/// Inside of a running runtime: a thread that waits here could not go on with the
/// tasks that it waits for. Use `.await` instead. (The `block_on` of another crate does not
/// panic there: it waits for ever, even for a socket that is ready, see
/// [Fairness](crate::runtime#fairness).) A panic of the future itself goes through to the caller.
///
/// If it is **stuck for certain**, instead of hanging for ever: the future and all tasks
/// wait, no timer is set, no task waits for a socket or a job, no [`Handle`] or
/// [`RemoteTask`] is alive, and there is no waker or
/// [`AbortHandle`](crate::task::AbortHandle) of any of them. The message lists them. The
/// count of references proves it, so there are no false alarms; a waker that is kept
/// somewhere and never used (in a channel whose sender is not used any more, or a
/// [`promise`](crate::promise) that its own task should set) is no proof, and hangs. To wait
/// for ever while other threads work, keep a `Handle`, or park the thread. It is looked at
/// when the thread is about to wait, and when the last `Handle` goes: a waker that another
/// thread drops later, without waking, is not noticed.
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

/// A runtime: tasks, a clock, and a ready queue, on one thread.
///
/// It stays on its thread (`!Send`); a [`Handle`] reaches it from others. Dropping it
/// drops all its tasks, inside of it: their destructors may use it, but what they
/// spawn is dropped at once. If a destructor panics, that can still be awaited through the
/// handle of the task. The first panic of a task without a handle is resumed when all tasks are
/// gone; the others are reported on standard error.
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
#[derive(Debug)]
pub struct Runtime {
    pub(crate) executor: Rc<Executor>,
    budget: VisitBudget,
    /// Set when a stop was read within a generation, after wakes that must run before it.
    owes_generation: Cell<bool>,
    #[cfg(unix)]
    guest: guest::Guest,
}

impl Runtime {
    /// Makes a runtime. It opens no file descriptor: that waits for the first socket.
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

    /// A runtime with settings.
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

    /// A handle to this runtime, for other threads.
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

    /// Runs a future on this thread until it is done, and all tasks of this runtime
    /// beside it. The tasks that are left are there for the next call.
    ///
    /// # Panics
    ///
    /// Inside of a running runtime: use `.await` there. And if it is certain that the future
    /// will never be done, as for the function [`block_on`].
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
    /// // The task has been left half way: it goes on now.
    /// assert_eq!(runtime.block_on(task), "done");
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        check_not_inside("block_on");
        let called_at = Location::caller();
        self.run_inside(|| {
            // In here, so that it is dropped inside of the runtime, also by a panic.
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
        })
    }

    /// Puts a future on the queue of this runtime. It is polled when the runtime next
    /// runs, never in here; what is spawned first is polled first.
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

    /// Runs until no task is left, or until [`Handle::stop`].
    ///
    /// A stop that comes while nothing runs is remembered: the next `run` lets
    /// everything that is ready have its turn once, without waiting, and returns.
    ///
    /// # Panics
    ///
    /// Inside of a running runtime: await the tasks there. And if it is certain that none of
    /// the tasks will ever run again, as for [`block_on`].
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

    /// Runs until [`Handle::stop`], also while there is no task.
    ///
    /// # Panics
    ///
    /// Inside of a running runtime.
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

    /// Makes one turn: polls the tasks that are ready, each once, first come, first served. If
    /// none is ready, it first waits for up to `max_wait` (`None`: without a limit) until one is.
    ///
    /// For programs that have a loop of their own. `Some(Duration::ZERO)` never waits. After
    /// [`Handle::stop`] no turn waits, until a `run` has seen the stop.
    ///
    /// Messages of other threads are taken first. Sockets and timers are looked at before the
    /// polls, if no task is ready, or if 128 polls have been made or 1 ms has passed since the
    /// last time; and between two polls, if 10 ms have passed. (If another loop watches the
    /// runtime by its `poll_fd`, every turn looks at them.) A task that becomes ready during the
    /// polls is for the next turn, after those that were ready before it.
    ///
    /// # Errors
    ///
    /// If the system refuses to wait for events. What is ready stays so, and the next
    /// call goes on with it.
    ///
    /// # Panics
    ///
    /// Inside of a running runtime.
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
        self.run_inside(|| {
            loop {
                self.executor.read_inbox();
                #[cfg(unix)]
                if self.guest.is_guest() && self.executor.is_anything_ready() {
                    // Fetches the events that made the foreign loop call. If no task is ready, the
                    // turn itself does this.
                    self.visit(false, None)?;
                }
                if self.executor.is_stopped() {
                    wait = Some(Duration::ZERO);
                }
                let polled = self.turn_once(wait, &mut || false)?.polled;
                // A wait may end early, or without a reason.
                wait = end.map(|end| end.saturating_duration_since(Instant::now()));
                if polled > 0 || wait == Some(Duration::ZERO) || self.executor.is_stopped() {
                    return Ok(Turn {
                        polled,
                        ready: self.executor.ready_count(),
                        next_deadline: self.executor.next_deadline(),
                    });
                }
            }
        })
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

    /// When the next timer is due, if any is set.
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

    /// What it has counted since it was made.
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

    /// What its tasks are doing, in the order in which they were spawned.
    ///
    /// From the inside there is [`inspect::dump`](crate::inspect::dump).
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

    /// Runs `f` inside of this runtime. All calls that run tasks go through here.
    #[inline(always)]
    fn run_inside<R>(&self, f: impl FnOnce() -> R) -> R {
        Reactor::check_fork();
        let _notify = NotifyHost(self);
        self.executor.enter(f)
    }

    /// Runs `f`, a destructor, inside of this runtime, also if another one is entered.
    pub(crate) fn enter_for<R>(&self, f: impl FnOnce() -> R) -> R {
        self.executor.enter(f)
    }

    /// Notifies a foreign loop, if there is one, that something is left to do.
    #[inline]
    fn notify_host(&self) {
        // The foreign loop watches the thread's reactor.
        #[cfg(unix)]
        if Reactor::is_made() {
            self.guest.rearm(&self.executor);
        }
    }

    // ---- The loop ------------------------------------------------------------------------

    /// One turn of the loop: a visit if one is due, then every task that is ready now, once.
    /// What becomes ready meanwhile is for the next turn. `main` polls the future of a
    /// `block_on`, and returns whether it is done.
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
            // After the visit: what a task waits for comes before a task that has yielded.
            executor.append_deferred();
            executor.watch().inspect(|watch| watch.begin_turn());
            for _ in 0..executor.begin_generation() {
                match executor.poll_next(main) {
                    Step::Polled => pass.polled += 1,
                    Step::Stale => continue,
                    // The others are there for the next call.
                    Step::MainIsDone => {
                        // Counted, so that many short calls lead to a visit, too.
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
            executor
                .watch()
                .inspect(|watch| watch.end_turn(pass.polled));
            // If all entries were those of tasks that are over, nothing was ready.
            if is_idle || pass.polled > 0 {
                return Ok(pass);
            }
        }
    }

    /// Appends to the ready queue what has become ready: what other threads have sent, then the
    /// tasks whose timers are due, then those whose sockets are ready. An idle runtime waits for
    /// that, but not longer than `wait`.
    fn visit(&self, is_idle: bool, wait: Option<Duration>) -> io::Result<()> {
        let executor = &self.executor;
        if let Some(simulation) = executor.simulation() {
            if is_idle && simulation.has_virtual_clock() {
                simulation.visit(executor, wait)?;
                self.budget.visited(Instant::now());
                return Ok(());
            }
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

    /// A visit within a generation.
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

    /// Turns until `main` returns that it is done.
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
        self.run_inside(|| {
            let executor = &self.executor;
            // What a `block_on` or a turn has left behind runs in this call.
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
                        // What was sent before the stop runs before it.
                        let pass = self.turn_once(Some(Duration::ZERO), &mut || false);
                        pass.unwrap_or_else(|error| lost(&error));
                    }
                    return;
                }
            }
        });
    }

    /// Whether a turn would be nothing but the first poll of a new main.
    #[inline]
    fn is_quiet(&self) -> bool {
        !self.executor.is_anything_ready()
            && !self.executor.has_messages()
            && !self.budget.is_due()
            && self.executor.watch().is_none()
            && self.executor.simulation().is_none()
    }

    /// What a turn does when there is nothing else: main need not go through the queue.
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

    /// The time of the last visit, by the system's clock: tasks take real time.
    fn real_now(&self) -> Instant {
        if self.executor.has_virtual_clock() {
            Instant::now()
        } else {
            self.executor.now()
        }
    }

    /// How long to wait: not past the next deadline, and not past `wait`.
    fn until_next_timer(&self, wait: Option<Duration>) -> Option<Duration> {
        let Some(deadline) = self.executor.next_deadline() else {
            return wait;
        };
        let timer = deadline.saturating_duration_since(self.executor.update_now());
        Some(wait.map_or(timer, |wait| wait.min(timer)))
    }
}

/// What a turn has done.
#[derive(Default)]
struct Pass {
    polled: usize,
    main_is_done: bool,
}

/// Ends the call of a `block_on`: wakers that are left over do nothing from then on.
struct EndMain(MainTask);

impl Drop for EndMain {
    #[inline]
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The runtime has run: notifies a foreign loop.
struct NotifyHost<'a>(&'a Runtime);

impl Drop for NotifyHost<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.notify_host();
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

/// What came of a [`Runtime::turn`].
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
    /// How many polls there were.
    pub polled: usize,
    /// How many tasks are ready for the next turn.
    pub ready: usize,
    /// When the next timer is due, if any is set.
    pub next_deadline: Option<Instant>,
}

/// Settings of a [`Runtime`].
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
    /// Whether a detached task's panic ends the running `block_on` or `run` with the
    /// same panic, also if the task had panicked before it was detached. By default it is
    /// as for a detached thread: the panic hook reports it, and the others run on. The same is
    /// true of the panic of a destructor when the handle of a task is dropped.
    ///
    /// # Examples
    ///
    /// ```should_panic
    /// let runtime = soloist::Runtime::builder().propagate_panics(true).build();
    /// runtime.spawn(async { panic!("this must not go unnoticed") }).detach();
    /// runtime.run();
    /// ```
    pub fn propagate_panics(mut self, propagate: bool) -> Builder {
        self.settings.propagate_panics = propagate;
        self
    }

    /// Makes the runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = soloist::Runtime::builder().build();
    /// assert_eq!(runtime.block_on(async { 1 }), 1);
    /// ```
    pub fn build(self) -> Runtime {
        let budget_clock = self.settings.budget_clock.clone();
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
        "`{what}` inside of a running soloist runtime would stop the thread that runs it: \
         use `.await` there, or another thread"
    );
}

/// Without the reactor nothing would ever wake the tasks again.
fn lost(error: &io::Error) -> ! {
    panic!("soloist: waiting for events has failed: {error}")
}
