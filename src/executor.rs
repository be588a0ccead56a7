//! The executor of one thread: its tasks, its ready queue, its timers.
//!
//! [`Runtime`](crate::Runtime) runs the loop; this room holds what the loop works on, and
//! everything that a task needs of the runtime in which it runs.
//!
//! # Files
//!
//! * `current.rs`: the executor that is entered on this thread, [`Executor::enter`].
//! * `external.rs`: counts what can act on the executor from outside: handles and jobs.
//! * `park.rs`: going idle, on the thread or in the reactor.
//! * `timers.rs`: the deadline heap.
//! * `budget.rs`: how much a poll may complete, and how long tasks run between two visits.
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
mod external;
#[cfg(feature = "testing")]
mod foreign;
#[cfg(not(feature = "testing"))]
mod foreign_off;
mod park;
mod registry;
pub(crate) mod timers;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

#[cfg(feature = "testing")]
pub(crate) use self::current::current_or_error;
pub(crate) use self::current::{
    cancel, check_inside, current, inside_or_error, is_inside, try_current,
};
pub(crate) use self::external::ExternalRef;
#[cfg(feature = "testing")]
pub(crate) use self::foreign::Foreign;
#[cfg(not(feature = "testing"))]
pub(crate) use self::foreign_off::Foreign;
use self::park::Park;
use self::registry::Registry;
use self::timers::{TimerKey, Timers};
use crate::clock::{self, OwnedClock, Simulation};
use crate::counts::Counts;
use crate::hooks::{self, WakeSource};
use crate::inbox::{Inbox, Notifier};
use crate::panics::{Panics, Payload, discard};
use crate::schedule::{Order, SharedOrder};
use crate::stderr;
use crate::sync::atomic::{Ordering, fence};
use crate::task_cell::{
    JoinRef, LocalTask, MainTask, Message, Name, Owner, Ran, Remote, Schedule, SharedTask,
    TaskSnapshot, WaiterId, WakeTarget, is_polling, polled_task,
};
use crate::watch::{Short, Watch, warn};

/// The most messages of other threads that are taken per generation, so that threads that send
/// without pause do not starve the sockets.
const MESSAGES: usize = 128;

/// The settings of a runtime.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) propagate_panics: bool,
    pub(crate) simulation: Simulation,
    pub(crate) inspect: bool,
    pub(crate) warn_slow: Option<Duration>,
}

/// Everything of a runtime that its own thread uses.
pub(crate) struct Executor {
    owner: Owner,
    remote: Remote,
    ready: RefCell<VecDeque<LocalTask>>,
    /// Tasks that have yielded in this generation. They count as queued.
    yielded: RefCell<Vec<LocalTask>>,
    /// What waits for operations that were not tried because the budget of the poll was spent.
    deferred: RefCell<Vec<WakeTarget>>,
    /// The registry: the tasks that have a future in place.
    tasks: RefCell<Registry>,
    /// The cell of the `block_on` that is under way, or of the last one.
    main: RefCell<Option<MainTask<Executor>>>,
    spawned: Cell<u64>,
    main_calls: Cell<u64>,
    /// Set when the runtime is dropped: what is spawned from then on is dropped at once.
    is_closed: Cell<bool>,
    timers: RefCell<Timers<WakeTarget>>,
    /// The time of the last visit. The first poll of a `Sleep` goes by it. If the clock is
    /// virtual, this is the time.
    now: Cell<Instant>,
    park: Park,
    /// Set by `Handle::stop`, cleared by the `run` that sees it.
    stopped: Cell<bool>,
    propagate_panics: bool,
    /// Set while the rest of a batch of messages is handled after one of them has panicked:
    /// that panic is resumed at the end, and no other can be.
    is_panicking: Cell<bool>,
    /// Reused by each look at the timers, and at the inbox.
    due: Cell<Vec<WakeTarget>>,
    messages: Cell<Vec<Message>>,
    /// How many messages may still be taken in this generation.
    messages_left: Cell<usize>,
    counts: Counts,
    /// If times are measured.
    watch: Option<Box<Watch>>,
    /// Handles and jobs: made for the first.
    external: OnceCell<Arc<external::Count>>,
    /// Where in the registry the last search for a task that can still be woken ended.
    external_waker_hint: Cell<usize>,
    pub(crate) virtual_clock: Option<OwnedClock>,
    /// With a virtual clock only.
    pub(crate) foreign: Option<Box<Foreign>>,
    /// If runs are to be repeated.
    pub(crate) order: Option<SharedOrder>,
    /// What `testing::net` keeps for this runtime.
    #[cfg(feature = "testing")]
    pub(crate) network: OnceCell<Box<dyn std::any::Any>>,
}

/// What came of one entry of the ready queue.
pub(crate) enum Step {
    Polled,
    /// The task was over before.
    Stale,
    MainIsDone,
}

impl Schedule for Executor {
    #[inline]
    fn schedule(task: &SharedTask) -> bool {
        current::with(|executor| {
            let is_own = executor.id() == task.executor();
            if is_own {
                executor.wake(task);
            }
            is_own
        })
        .unwrap_or(false)
    }
}

impl Executor {
    pub(crate) fn new(settings: Settings) -> Rc<Executor> {
        let patience = settings.simulation.patience();
        let now = Instant::now();
        let owner = Owner::new(take_inbox());
        let executor = Rc::new(Executor {
            remote: owner.remote(),
            owner,
            ready: RefCell::default(),
            yielded: RefCell::default(),
            deferred: RefCell::default(),
            tasks: RefCell::default(),
            main: RefCell::new(None),
            spawned: Cell::new(0),
            main_calls: Cell::new(0),
            is_closed: Cell::new(false),
            timers: RefCell::new(Timers::new(now)),
            now: Cell::new(now),
            park: Park::new(),
            stopped: Cell::new(false),
            propagate_panics: settings.propagate_panics,
            is_panicking: Cell::new(false),
            due: Cell::default(),
            messages: Cell::default(),
            messages_left: Cell::new(MESSAGES),
            counts: Counts::default(),
            watch: Watch::new(settings.inspect, settings.warn_slow),
            external: OnceCell::new(),
            external_waker_hint: Cell::new(0),
            virtual_clock: settings.simulation.clock(),
            foreign: patience.map(|patience| Box::new(Foreign::new(patience))),
            order: settings.simulation.order(),
            #[cfg(feature = "testing")]
            network: OnceCell::new(),
        });
        current::register(&executor);
        executor
    }

    /// Never 0, never reused.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.remote.id()
    }

    /// Whether it is the one that is entered on this thread.
    pub(crate) fn is_current(&self) -> bool {
        current::is_current(self.id())
    }

    #[inline]
    pub(crate) fn remote(&self) -> Remote {
        self.remote
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    #[inline]
    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_deref()
    }

    // ---- Tasks ---------------------------------------------------------------------------

    /// Puts the future into a cell and on the ready queue. It is never polled in here.
    pub(crate) fn spawn<F>(
        &self,
        future: F,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> JoinRef<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let number = self.spawned.get() + 1;
        self.spawned.set(number);
        let slot = self.tasks.borrow().vacant_slot();
        let (task, handle) = self
            .owner
            .new_task::<F, Executor>(slot, number, future, name, spawned_at);
        self.register(task);
        handle
    }

    fn register(&self, task: LocalTask) {
        if self.is_closed.get() {
            // There is a handle, which keeps what the destructor panics with.
            let panic = task.cancel();
            debug_assert!(panic.is_none());
            return;
        }
        hooks::task_spawned(|| task.meta());
        if let Some(watch) = &self.watch {
            watch.born(task.slot(), task.number());
        }
        self.tasks.borrow_mut().insert(task.clone());
        self.ready.borrow_mut().push_back(task);
    }

    /// The cell of a `block_on`. It counts as queued.
    #[inline]
    pub(crate) fn begin_main(&self, called_at: &'static Location<'static>) -> MainTask<Executor> {
        let number = self.main_calls.get() + 1;
        self.main_calls.set(number);
        if let Some(watch) = &self.watch {
            watch.born(None, number);
        }
        let mut main = self.main.borrow_mut();
        if let Some(main) = &mut *main {
            if main.reuse(number, called_at) {
                return main.clone();
            }
        }
        main.insert(self.owner.new_main(number, called_at)).clone()
    }

    /// Puts main on the ready queue before its first poll.
    pub(crate) fn queue_main(&self, main: &MainTask<Executor>) {
        self.ready.borrow_mut().push_back(main.task());
    }

    /// A task of this executor was woken on its thread.
    #[inline]
    fn wake(&self, task: &SharedTask) {
        match self.owner.queue(task) {
            Some(task) => {
                self.counts.wakes_local.add(1);
                hooks::task_woken(|| task.meta());
                self.ready.borrow_mut().push_back(task);
            }
            None => self.counts.wakes_redundant.add(1),
        }
    }

    /// A task of this executor was woken on another thread, or while it was not entered. Returns
    /// the task if nothing of this crate was to wake it: then another crate has.
    fn wake_remote(&self, task: SharedTask) -> Option<LocalTask> {
        match self.owner.queue_remote(&task) {
            Some(task) => {
                self.counts.wakes_remote.add(1);
                hooks::task_woken(|| task.meta());
                self.ready.borrow_mut().push_back(task.clone());
                task.waits().are_external().then_some(task)
            }
            None => {
                self.counts.wakes_redundant.add(1);
                None
            }
        }
    }

    /// Runs the next task of the ready queue. `main` polls the future of a `block_on`, and
    /// returns whether it is done.
    #[inline(always)]
    pub(crate) fn poll_next(&self, main: &mut dyn FnMut() -> bool) -> Step {
        let Some(task) = self.pop_ready() else {
            return Step::Stale;
        };
        budget::begin_poll();
        match &self.watch {
            None => self.run(&task, main),
            Some(watch) => self.run_timed(watch, &task, main),
        }
    }

    #[inline]
    fn pop_ready(&self) -> Option<LocalTask> {
        self.ready.borrow_mut().pop_front()
    }

    #[inline(always)]
    fn run(&self, task: &LocalTask, main: &mut dyn FnMut() -> bool) -> Step {
        let (panic, was_polled) = match task.run() {
            Ran::Pending => {
                self.counts.polls.add(1);
                hooks::poll_ended(false);
                return Step::Polled;
            }
            Ran::Main => {
                let is_done = main();
                return if is_done {
                    Step::MainIsDone
                } else {
                    Step::Polled
                };
            }
            Ran::Stale => return Step::Stale,
            Ran::Over(panic) => (panic, true),
            Ran::Cancelled(panic) => (panic, false),
        };
        self.counts.polls.add(usize::from(was_polled));
        self.retire(task);
        hooks::poll_ended(true);
        if let Some(payload) = panic {
            self.report_panic(&task.label(), payload);
        }
        Step::Polled
    }

    /// The task is over: removes it from the registry, and wakes what awaits its end.
    fn retire(&self, task: &LocalTask) {
        let registered = task
            .slot()
            .and_then(|slot| self.tasks.borrow_mut().remove(slot));
        debug_assert!(registered.as_ref().is_none_or(|other| other.is_same(task)));
        drop(registered);
        task.wake_joiner();
    }

    /// Drops the future of a task of this executor, which is entered and idle. Returns a panic
    /// that no handle can receive.
    fn cancel(&self, task: &LocalTask) -> Option<Payload> {
        let panic = task.cancel();
        self.retire(task);
        panic
    }

    #[cold]
    fn run_timed(&self, watch: &Watch, task: &LocalTask, main: &mut dyn FnMut() -> bool) -> Step {
        let start = Instant::now();
        let step = self.run(task, main);
        let took = start.elapsed();
        if matches!(step, Step::Stale) {
            return step;
        }
        watch.polled(task.slot(), task.number(), took);
        if watch.slow.is_some_and(|slow| took >= slow) {
            watch.has_warned.set(true);
            let took = Short(took);
            match task.slot() {
                Some(_) => warn(format_args!(
                    "slow poll: {} has kept the thread for {took}",
                    task.label()
                )),
                None => warn(format_args!(
                    "slow poll: the future of `block_on` has kept the thread for {took}"
                )),
            }
        }
        step
    }

    /// How many tasks were spawned.
    pub(crate) fn spawned(&self) -> u64 {
        self.spawned.get()
    }

    /// How many tasks are not over.
    pub(crate) fn live(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// The tasks that are not over, in the order of the registry.
    pub(crate) fn snapshot(&self) -> Vec<TaskSnapshot> {
        let tasks = self.tasks.borrow();
        tasks.iter().filter_map(LocalTask::snapshot).collect()
    }

    /// The future of the `block_on` that is under way.
    pub(crate) fn snapshot_main(&self) -> Option<TaskSnapshot> {
        self.main.borrow().as_ref()?.task().snapshot()
    }

    // ---- The ready queue -----------------------------------------------------------------

    /// Whether a task is ready, or will be at the end of the generation.
    #[inline]
    pub(crate) fn is_anything_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
            || !self.yielded.borrow().is_empty()
            || !self.deferred.borrow().is_empty()
    }

    /// How many tasks are ready, or will be at the end of the generation.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.borrow().len() + self.yielded.borrow().len() + self.deferred.borrow().len()
    }

    /// How many tasks are in the ready queue.
    #[inline]
    pub(crate) fn queue_len(&self) -> usize {
        self.ready.borrow().len()
    }

    /// A generation begins: all tasks that are ready now. Returns how many there are.
    #[inline]
    pub(crate) fn begin_generation(&self) -> usize {
        let ready = self.queue_len();
        self.count_generation(ready);
        if ready > 0 {
            if let Some(order) = &self.order {
                self.shuffle_ready(ready, order);
            }
        }
        ready
    }

    /// A generation of so many tasks begins.
    #[inline]
    pub(crate) fn count_generation(&self, ready: usize) {
        self.messages_left.set(MESSAGES);
        if ready > 0 {
            self.counts.turns.add(1);
            self.counts.longest_queue.raise_to(ready);
        }
    }

    #[cold]
    fn shuffle_ready(&self, count: usize, order: &Order) {
        let mut ready = self.ready.borrow_mut();
        let generation = &mut ready.make_contiguous()[..count];
        order.shuffle(generation);
        for task in generation {
            order.note(task.number());
        }
    }

    /// The generation has ended: appends the tasks that have yielded in it, and wakes what was
    /// deferred because the budget of a poll was spent.
    #[inline]
    pub(crate) fn append_deferred(&self) {
        let mut yielded = self.yielded.borrow_mut();
        if !yielded.is_empty() {
            self.ready.borrow_mut().extend(yielded.drain(..));
        }
        drop(yielded);
        if !self.deferred.borrow().is_empty() {
            self.wake_deferred();
        }
    }

    #[cold]
    fn wake_deferred(&self) {
        let mut panics = Panics::default();
        for target in self.deferred.take() {
            panics.catch(|| target.wake());
        }
        panics.resume();
    }

    #[cold]
    fn defer(&self, waker: &Waker) {
        let will_wake = |last: &WakeTarget| last.will_wake(waker);
        if self.deferred.borrow().last().is_some_and(will_wake) {
            return;
        }
        // While nothing is borrowed: it may clone the waker.
        let target = WakeTarget::new(waker);
        self.deferred.borrow_mut().push(target);
    }

    // ---- Other threads -------------------------------------------------------------------

    /// Whether other threads have sent something.
    #[inline]
    pub(crate) fn has_messages(&self) -> bool {
        self.remote.inbox().is_filled()
    }

    /// Handles what other threads have sent, in order, as far as this generation may.
    #[inline]
    pub(crate) fn read_inbox(&self) {
        if self.has_messages() {
            self.read_filled_inbox();
        }
    }

    #[cold]
    fn read_filled_inbox(&self) {
        let mut messages = self.messages.take();
        let most = self.messages_left.get();
        self.remote.inbox().take(most, &mut messages);
        self.messages_left.set(most.saturating_sub(messages.len()));
        let foreign = self.foreign.as_ref();
        let foreign = foreign.filter(|foreign| !foreign.take_unknown());
        let mut panics = Panics::default();
        hooks::attribute_wakes(WakeSource::Inbox, || {
            for message in messages.drain(..) {
                match message {
                    Message::Wake(task) => {
                        let task = self.wake_remote(task);
                        if let (Some(foreign), Some(task)) = (foreign, task) {
                            foreign.woken(task);
                        }
                    }
                    // User code: it may drop a waker, for example.
                    Message::Call(call) => {
                        panics.catch(call);
                        self.is_panicking.set(!panics.is_empty());
                    }
                    Message::Stop => self.stopped.set(true),
                }
            }
        });
        self.messages.set(messages);
        self.is_panicking.set(false);
        panics.resume();
    }

    /// Whether `stop` was called.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Whether `stop` was called. The call counts no more after this.
    pub(crate) fn take_stopped(&self) -> bool {
        self.stopped.take()
    }

    /// Counts something that can act on this runtime from outside, as long as it lives.
    pub(crate) fn external(&self) -> ExternalRef {
        let count = self.external.get_or_init(external::Count::new);
        ExternalRef::new(self.remote, count)
    }

    /// Whether a handle is alive, or a job runs.
    pub(crate) fn has_external(&self) -> bool {
        self.external.get().is_some_and(|count| !count.is_zero())
    }

    /// Whether no task can ever run again, as far as that depends on wakers: nothing is ready,
    /// and no timer is set. Counted, not guessed: a task runs again only if it is woken, and to
    /// wake it takes a reference to its cell. Local references are held by other tasks, timers
    /// and sources, which the caller looks at.
    pub(crate) fn has_no_external_waker(&self) -> bool {
        let can_be_woken = |task: &LocalTask| task.remote_count() > 0;
        let main = self.main.borrow();
        let main = main.as_ref().map(MainTask::task);
        if main.is_some_and(|main| main.is_idle() && can_be_woken(&main)) {
            return false;
        }
        // If there is such a task, it is nearly always the one that was found the last time.
        let tasks = self.tasks.borrow();
        let hint = self.external_waker_hint.get();
        let found = (hint..tasks.slots())
            .chain(0..hint)
            .find(|slot| tasks.get(*slot).is_some_and(can_be_woken));
        self.external_waker_hint.set(found.unwrap_or_default());
        // What was sent through a reference was sent before the reference was dropped.
        fence(Ordering::Acquire);
        found.is_none() && !self.has_messages()
    }

    // ---- Time ----------------------------------------------------------------------------

    /// The time of the last visit: cheap, and a little old.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Reads the clock.
    pub(crate) fn update_now(&self) -> Instant {
        let now = clock::now();
        self.now.set(now);
        now
    }

    /// Moves a virtual clock on, inside of the runtime. It never goes back.
    #[cfg(feature = "testing")]
    pub(crate) fn advance_to(&self, now: Instant) {
        debug_assert!(self.virtual_clock.is_some());
        if now > self.now.get() {
            self.now.set(now);
            clock::replace(Some(now));
        }
    }

    /// When the next timer fires.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.borrow_mut().next_deadline()
    }

    /// How many timers have still to fire.
    pub(crate) fn timers_pending(&self) -> usize {
        self.timers.borrow().len()
    }

    /// Whether there is a timer that is too far off to fire. Its owner may set it anew.
    pub(crate) fn has_unset_timer(&self) -> bool {
        self.timers.borrow().has_unset()
    }

    /// Calls `f` for each task that waits for a timer.
    pub(crate) fn for_each_timer(&self, f: &mut dyn FnMut(WaiterId, Option<Instant>)) {
        self.timers.borrow().for_each_wait(f);
    }

    /// Has `waker` woken at `deadline`.
    pub(crate) fn add_timer(&self, deadline: Instant, id: WaiterId, waker: &Waker) -> TimerKey {
        // Before the timers are borrowed: it may be user code.
        let target = WakeTarget::new(waker);
        self.timers.borrow_mut().insert(deadline, id, target)
    }

    pub(crate) fn remove_timer(&self, key: TimerKey) {
        let target = self.timers.borrow_mut().remove(key);
        drop(target);
    }

    /// Removes a timer, and wakes what waits for it.
    pub(crate) fn wake_timer(&self, key: TimerKey) {
        let target = self.timers.borrow_mut().remove(key);
        if let Some(target) = target {
            target.wake();
        }
    }

    /// Sets another deadline, in the last place among equals. A timer that has fired is
    /// removed.
    pub(crate) fn reset_timer(&self, key: TimerKey, deadline: Instant) -> Option<TimerKey> {
        let mut timers = self.timers.borrow_mut();
        let (id, target) = (timers.waiter_id(key), timers.remove(key)?);
        Some(timers.insert(deadline, id, target))
    }

    pub(crate) fn timer_has_fired(&self, key: TimerKey) -> bool {
        self.timers.borrow().has_fired(key)
    }

    pub(crate) fn set_timer_waker(&self, key: TimerKey, id: WaiterId, waker: &Waker) {
        let will_wake = |target: &WakeTarget| target.will_wake(waker);
        if self.timers.borrow().target(key).is_some_and(will_wake) {
            return;
        }
        let target = WakeTarget::new(waker);
        let old = self.timers.borrow_mut().set_target(key, id, target);
        drop(old);
    }

    /// Wakes what waits for timers that are due, by the last reading of the clock.
    #[inline]
    pub(crate) fn expire_timers(&self) {
        // Every visit asks, and many programs have none.
        if !self.timers.borrow().is_empty() {
            self.expire_some();
        }
    }

    fn expire_some(&self) {
        let mut due = self.due.take();
        match self.order.as_deref().filter(|order| order.is_shuffled()) {
            None => self.timers.borrow_mut().expire(self.now.get(), &mut due),
            Some(order) => self.expire_shuffled(order, &mut due),
        }
        let mut panics = Panics::default();
        if !due.is_empty() {
            self.counts.fired.add(due.len());
            hooks::attribute_wakes(WakeSource::Timers, || {
                for target in due.drain(..) {
                    panics.catch(|| target.wake());
                }
            });
        }
        self.due.set(due);
        panics.resume();
    }

    /// Timers that are due at the same instant fire in any order.
    #[cold]
    fn expire_shuffled(&self, order: &Order, due: &mut Vec<WakeTarget>) {
        let mut timers = self.timers.borrow_mut();
        while let Some(next) = timers
            .next_deadline()
            .filter(|next| *next <= self.now.get())
        {
            let before = due.len();
            timers.expire(next, due);
            order.shuffle(&mut due[before..]);
        }
    }

    // ---- Waiting -------------------------------------------------------------------------

    /// Waits until something happens, but not longer than `wait`. The events of the reactor are
    /// kept for [`Executor::deliver_events`].
    pub(crate) fn wait(&self, wait: Option<Duration>) -> io::Result<()> {
        if wait != Some(Duration::ZERO) {
            self.counts.waits.add(1);
        }
        let start = self.watch.as_ref().map(|watch| (watch, Instant::now()));
        let result = self.park.wait(self.remote.inbox(), wait);
        if let Some((watch, start)) = start {
            watch.waited(start.elapsed());
        }
        result
    }

    /// Wakes the tasks that wait for what the reactor has reported.
    pub(crate) fn deliver_events(&self) {
        let events = self.park.deliver(self.order.as_deref());
        self.counts.events.add(events);
    }

    /// For a guest: whatever comes into the inbox between two turns notifies.
    #[cfg(unix)]
    pub(crate) fn stay_parked(&self) {
        self.park.stay_parked(self.remote.inbox());
    }

    // ---- Panics, and the end -------------------------------------------------------------

    /// Handles the panic of a task without a handle: resumes it if that was asked for, or
    /// reports it. The second panic of a batch is always reported.
    fn report_panic(&self, task: &dyn fmt::Display, payload: Payload) {
        if self.propagate_panics && !self.is_panicking.get() {
            std::panic::resume_unwind(payload);
        }
        report_panic(task, payload);
    }

    /// The runtime is dropped: drops all tasks, inside of it.
    pub(crate) fn close(self: &Rc<Self>, panics: &mut Panics) {
        self.is_closed.set(true);
        let messages = self.remote.inbox().close();
        let is_empty = messages.is_empty()
            && self.live() == 0
            && self.timers.borrow().is_empty()
            && self.deferred.borrow().is_empty();
        if !is_empty {
            self.enter(|| self.drop_all(messages, panics));
        }
        // No user code: tasks that are over have neither future nor joiner.
        self.ready.take();
        self.yielded.take();
        self.main.take();
        current::unregister(self);
        keep_inbox(self.remote.inbox());
    }

    /// Each panic is caught, so that all futures are dropped here, on their own thread.
    #[inline(never)]
    fn drop_all(&self, messages: VecDeque<Message>, panics: &mut Panics) {
        for message in messages {
            panics.catch(|| drop(message));
        }
        let tasks = self.tasks.take();
        for task in tasks.into_tasks() {
            let mut panic = None;
            // It wakes what awaits the task: that waker may panic, too.
            panics.catch(|| panic = self.cancel(&task));
            if let Some(payload) = panic {
                // The first panic is resumed, the others are reported.
                if panics.is_empty() && !std::thread::panicking() {
                    panics.keep(payload);
                } else {
                    report_panic(&task.label(), payload);
                }
            }
        }
        let timers = self.timers.borrow_mut().disarm();
        for target in timers.into_iter().chain(self.deferred.take()) {
            panics.catch(|| drop(target));
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remote.fmt(f)
    }
}

/// The inboxes of runtimes that are gone: closed, and empty. An inbox is never freed, so that
/// tasks and wakers can refer to it without a count.
static INBOXES: std::sync::Mutex<Vec<&'static Inbox<Message, Notifier>>> =
    std::sync::Mutex::new(Vec::new());

fn take_inbox() -> &'static Inbox<Message, Notifier> {
    let inbox = lock_inboxes().pop();
    inbox.unwrap_or_else(|| Box::leak(Box::new(Inbox::new())))
}

fn keep_inbox(inbox: &'static Inbox<Message, Notifier>) {
    // An inbox of loom's parts is of use in one run of a model only.
    if !cfg!(soloist_loom) {
        lock_inboxes().push(inbox);
    }
}

fn lock_inboxes() -> std::sync::MutexGuard<'static, Vec<&'static Inbox<Message, Notifier>>> {
    INBOXES
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// If the task that is being polled on this thread has this waker, queues it at the end of the
/// generation. Returns whether it has.
#[inline]
pub(crate) fn yield_polled(waker: &Waker) -> bool {
    let Some(task) = polled_task(waker) else {
        return false;
    };
    let yielded = current::with(|executor| {
        if executor.id() == task.executor() && task.mark_queued() {
            executor.counts.wakes_local.add(1);
            hooks::task_woken(|| task.meta());
            executor.yielded.borrow_mut().push(task);
        }
    });
    yielded.is_some()
}

/// Ready if the current poll may use a socket once more. If its budget is spent, the waker is
/// woken at the end of the generation.
///
/// Not within the poll: a combinator that polls again whatever was woken would never return.
#[inline]
pub(crate) fn poll_socket_budget(cx: &mut Context<'_>) -> Poll<()> {
    if budget::is_spent_for_sockets() {
        return defer(cx.waker());
    }
    Poll::Ready(())
}

/// As [`poll_socket_budget`], for a timer that is due.
#[inline]
pub(crate) fn poll_timer_budget(cx: &mut Context<'_>) -> Poll<()> {
    if budget::is_spent_for_timers() {
        return defer(cx.waker());
    }
    budget::charge_timer();
    Poll::Ready(())
}

#[cold]
fn defer(waker: &Waker) -> Poll<()> {
    match try_current().filter(|_| is_polling()) {
        Some(executor) => {
            executor.defer(waker);
            Poll::Pending
        }
        // A destructor or a waker runs between two polls. What is spent is not its budget.
        None => Poll::Ready(()),
    }
}

/// The task of the runtime `remote` has panicked, and no handle can receive that any more: it
/// was detached, or its handle was dropped.
pub(crate) fn orphaned(remote: Remote, task: String, payload: Payload) {
    let panic = OrphanedPanic {
        task,
        payload: Some(payload),
    };
    let executor = try_current().filter(|executor| executor.id() == remote.id());
    match executor {
        Some(executor) if !executor.propagate_panics => drop(panic),
        // Resumed here it would be a panic of the code that detaches: the runtime receives it.
        _ => remote.send(Message::Call(Box::new(move || panic.arrive()))),
    }
}

/// A panic on its way to its runtime. It is reported if it does not arrive there.
struct OrphanedPanic {
    task: String,
    payload: Option<Payload>,
}

impl OrphanedPanic {
    fn arrive(mut self) {
        // On a thread that is ending there is no current runtime: then it is reported.
        let Some(executor) = try_current() else {
            return;
        };
        if let Some(payload) = self.payload.take() {
            executor.report_panic(&self.task, payload);
        }
    }
}

impl Drop for OrphanedPanic {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            report_panic(&self.task, payload);
        }
    }
}

/// Reports the panic of a task without a handle on standard error.
pub(crate) fn report_panic(task: &dyn fmt::Display, payload: Payload) {
    stderr::write(format_args!(
        "soloist: {task} has panicked, and nobody awaits it\n"
    ));
    discard(payload);
}
