//! The runtime that is running on this thread: its tasks, timers and clock.

mod orphan;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

pub(crate) use self::orphan::{orphaned, report};
use crate::budget;
use crate::cell::{About, Awaiter, Enter, Entry, Message, Owner, Ran, WaiterId, is_polling};
use crate::clock::{self, OwnedClock, Simulation};
use crate::hooks::{WakeSource, attribute_wakes};
use crate::outside::{self, Foreign, Outside};
use crate::panics::{Panics, Payload};
use crate::park::Park;
use crate::reactor::Reactor;
use crate::schedule::{Order, SharedOrder};
use crate::sync::thread_local;
use crate::timers::{TimerKey, Timers};
use crate::watch::{Short, Watch, warn};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };
}

/// At most so many messages of other threads are taken per generation.
const MESSAGES: usize = 128;

/// What a runtime is built with.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) propagate_panics: bool,
    pub(crate) simulation: Simulation,
    pub(crate) inspect: bool,
    pub(crate) warn_slow: Option<Duration>,
}

/// What holds a waker on the runtime's thread that only its own tasks wake.
pub(crate) trait HoldsWaker {
    fn waker(&self) -> &Cell<Option<Waker>>;
}

/// Everything of a runtime that its own thread uses.
pub(crate) struct Context {
    pub(crate) owner: Owner,
    pub(crate) park: Park,
    timers: RefCell<Timers<Awaiter>>,
    /// The time of the last visit. The first poll of a `Sleep` goes by it. If the clock is
    /// virtual, this is the time.
    now: Cell<Instant>,
    pub(crate) virtual_clock: Option<OwnedClock>,
    /// With a virtual clock only.
    pub(crate) foreign: Option<Box<Foreign>>,
    /// For runs that are to be repeated.
    pub(crate) order: Option<SharedOrder>,
    /// Handles and jobs: made for the first.
    outside: OnceCell<Arc<outside::Count>>,
    /// Set by `Handle::stop`, cleared by the `run` that sees it.
    stopped: Cell<bool>,
    propagate_panics: bool,
    /// Set while the rest of a batch of messages is read after one of them has panicked: that
    /// panic goes on at the end, and no other can.
    is_panicking: Cell<bool>,
    /// What `testing::net` keeps for this runtime.
    #[cfg(feature = "testing")]
    pub(crate) network: OnceCell<Box<dyn std::any::Any>>,
    /// Reused by every look at the timers, and at the inbox.
    due: Cell<Vec<Awaiter>>,
    messages: Cell<Vec<Message>>,
    /// How many messages of other threads may still be taken until the next generation begins.
    messages_left: Cell<usize>,
    /// Wakers of operations that were not tried because the budget of their poll was spent.
    /// They are woken at the end of the generation.
    deferred: RefCell<Vec<Waker>>,
    /// Pruned when it is full.
    parked: RefCell<Vec<Weak<dyn HoldsWaker>>>,
}

/// What came of one entry of the ready queue.
pub(crate) enum Step {
    Polled,
    /// It was left over from a task that is over.
    Nothing,
    MainIsDone,
}

/// The runtime that is entered on this thread.
#[inline]
pub(crate) fn try_current() -> Option<Rc<Context>> {
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// As [`try_current`], for what cannot be done without one.
#[track_caller]
#[inline]
pub(crate) fn current(what: &str) -> Rc<Context> {
    match try_current() {
        Some(context) => context,
        None => panic_outside(what),
    }
}

/// Panics outside of a runtime.
#[track_caller]
pub(crate) fn check_inside(what: &str) {
    if !Owner::is_any_entered() {
        panic_outside(what);
    }
}

/// Whether a runtime is entered on this thread.
#[inline]
pub(crate) fn is_inside() -> bool {
    Owner::is_any_entered()
}

/// As [`try_current`], where there is an `io::Result` to return.
pub(crate) fn current_or_error(what: &str) -> io::Result<Rc<Context>> {
    try_current().ok_or_else(|| error_outside(what))
}

/// As [`check_inside`], where there is an `io::Result` to return.
#[inline]
pub(crate) fn inside_or_error(what: &str) -> io::Result<()> {
    if Owner::is_any_entered() {
        return Ok(());
    }
    Err(error_outside(what))
}

/// Ready if the current poll may use a socket once more. If its budget is spent, the waker is
/// woken at the end of the generation.
///
/// Not within the poll: a combinator that polls again whatever was woken would never return.
#[inline]
pub(crate) fn poll_socket_budget(cx: &mut TaskContext<'_>) -> Poll<()> {
    if budget::is_spent_for_sockets() {
        return defer(cx.waker());
    }
    Poll::Ready(())
}

/// As [`poll_socket_budget`], for a timer that is due.
#[inline]
pub(crate) fn poll_timer_budget(cx: &mut TaskContext<'_>) -> Poll<()> {
    if budget::is_spent_for_timers() {
        return defer(cx.waker());
    }
    budget::charge_timer();
    Poll::Ready(())
}

#[cold]
fn defer(waker: &Waker) -> Poll<()> {
    let context = try_current().filter(|_| is_polling());
    let Some(context) = context else {
        // A destructor or a waker runs between two polls. What is spent is not its own budget.
        return Poll::Ready(());
    };
    let last = context.deferred.take();
    if last.last().is_some_and(|last| last.will_wake(waker)) {
        context.deferred.replace(last);
        return Poll::Pending;
    }
    // Cloned while nothing is borrowed: the clone is user code, which may call this function.
    let waker = waker.clone();
    let mut deferred = context.deferred.borrow_mut();
    let new = std::mem::replace(&mut *deferred, last);
    deferred.extend(new);
    deferred.push(waker);
    Poll::Pending
}

#[cold]
fn error_outside(what: &str) -> io::Error {
    io::Error::other(outside(what))
}

#[track_caller]
#[cold]
pub(crate) fn panic_outside(what: &str) -> ! {
    panic!("{}", outside(what))
}

fn outside(what: &str) -> String {
    format!(
        "{what} outside of a soloist runtime: call it inside of a future that \
         `soloist::block_on` runs"
    )
}

impl Context {
    pub(crate) fn new(settings: Settings) -> Rc<Context> {
        let order = settings.simulation.order();
        let patience = settings.simulation.patience();
        let foreign = patience.map(|patience| Box::new(Foreign::new(patience)));
        let park = Park::new(order.clone());
        let watch = Watch::new(settings.inspect, settings.warn_slow);
        let now = Instant::now();
        let context = Rc::new(Context {
            owner: Owner::new(watch),
            park,
            timers: RefCell::new(Timers::new(now)),
            now: Cell::new(now),
            outside: OnceCell::new(),
            virtual_clock: settings.simulation.clock(),
            foreign,
            order,
            stopped: Cell::new(false),
            propagate_panics: settings.propagate_panics,
            #[cfg(feature = "testing")]
            network: OnceCell::new(),
            due: Cell::new(Vec::new()),
            messages: Cell::new(Vec::new()),
            messages_left: Cell::new(MESSAGES),
            is_panicking: Cell::new(false),
            deferred: RefCell::new(Vec::new()),
            parked: RefCell::new(Vec::new()),
        });
        let own: Weak<Context> = Rc::downgrade(&context);
        context.owner.set_context(own);
        context
    }

    /// Runs `f` inside this runtime.
    #[inline(always)]
    pub(crate) fn enter<R>(self: &Rc<Self>, f: impl FnOnce() -> R) -> R {
        struct Leave(Option<Rc<Context>>, Option<Instant>);
        impl Drop for Leave {
            #[inline]
            fn drop(&mut self) {
                clock::replace(self.1);
                let outer = self.0.take();
                // The thread may be ending: then there is nothing to restore.
                let left = CURRENT.try_with(|current| current.replace(outer));
                if let Ok(Some(left)) = left {
                    left.set_entered(false);
                }
            }
        }
        self.set_entered(true);
        let inner = Some(self.clone());
        let outer = CURRENT.try_with(|current| current.replace(inner));
        let time = self.virtual_clock.as_ref().map(|_| self.now.get());
        let _leave = Leave(outer.ok().flatten(), clock::replace(time));
        if let Some(foreign) = &self.foreign {
            foreign.run_begins(self.owner.inbox().is_filled());
        }
        self.owner.enter(f)
    }

    #[inline]
    fn set_entered(&self, entered: bool) {
        if let Some(watch) = self.owner.watch() {
            watch.set_entered(entered);
        }
    }

    /// Waits until something happens, but not longer than `wait`. The events of the reactor are
    /// kept for [`Context::deliver_events`].
    pub(crate) fn wait(&self, wait: Option<Duration>) -> io::Result<()> {
        if wait != Some(Duration::ZERO) {
            self.owner.counts().waits.add(1);
        }
        let start = self.owner.watch().map(|watch| (watch, Instant::now()));
        let result = self.park.wait(self.owner.inbox(), wait);
        if let Some((watch, start)) = start {
            watch.waited(start.elapsed());
        }
        result
    }

    /// Wakes the tasks that wait for what the reactor has reported.
    pub(crate) fn deliver_events(&self) {
        let events = self.park.deliver();
        self.owner.counts().events.add(events);
    }

    /// The time of the last visit: cheap, and a little old.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Looks at the clock.
    pub(crate) fn look(&self) -> Instant {
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

    /// For what can act on this runtime from outside, as long as it can.
    pub(crate) fn outside(&self) -> Outside {
        let count = self.outside.get_or_init(outside::Count::new);
        Outside::new(self.owner.home(), count)
    }

    /// Whether a handle is alive, or a job runs.
    pub(crate) fn has_outside(&self) -> bool {
        self.outside.get().is_some_and(|count| !count.is_zero())
    }

    /// When the next timer fires.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.borrow_mut().next()
    }

    /// How many timers have still to fire.
    pub(crate) fn timers_pending(&self) -> usize {
        self.timers.borrow().len()
    }

    /// Calls `f` for each task that waits for a timer.
    pub(crate) fn each_timer(&self, f: &mut dyn FnMut(WaiterId, Option<Instant>)) {
        self.timers.borrow().each_wait(f);
    }

    /// Has `waker` woken at `deadline`.
    pub(crate) fn add_timer(&self, deadline: Instant, who: WaiterId, waker: &Waker) -> TimerKey {
        // Before the timers are borrowed: it may be user code.
        let awaiter = Awaiter::new(self.owner.home(), waker);
        self.timers.borrow_mut().insert(deadline, who, awaiter)
    }

    pub(crate) fn remove_timer(&self, key: TimerKey) {
        let awaiter = self.timers.borrow_mut().remove(key);
        drop(awaiter);
    }

    /// Removes a timer, and wakes what waits for it.
    pub(crate) fn wake_timer(&self, key: TimerKey) {
        let awaiter = self.timers.borrow_mut().remove(key);
        if let Some(awaiter) = awaiter {
            awaiter.wake(&self.owner);
        }
    }

    /// Sets another deadline, in the last place among equals. A timer that has fired
    /// leaves.
    pub(crate) fn reset_timer(&self, key: TimerKey, deadline: Instant) -> Option<TimerKey> {
        let mut timers = self.timers.borrow_mut();
        let (who, awaiter) = (timers.who(key), timers.remove(key)?);
        Some(timers.insert(deadline, who, awaiter))
    }

    pub(crate) fn timer_has_fired(&self, key: TimerKey) -> bool {
        self.timers.borrow().has_fired(key)
    }

    pub(crate) fn set_timer_waker(&self, key: TimerKey, who: WaiterId, waker: &Waker) {
        let home = self.owner.home();
        let own =
            |timers: &Timers<Awaiter>| timers.waker(key).is_some_and(|own| own.is(home, waker));
        if own(&self.timers.borrow()) {
            return;
        }
        let awaiter = Awaiter::new(home, waker);
        let old = self.timers.borrow_mut().set_waker(key, who, awaiter);
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
        if due.is_empty() {
            self.due.set(due);
            return;
        }
        self.owner.counts().fired.add(due.len());
        let mut panics = Panics::default();
        attribute_wakes(WakeSource::Timers, || {
            for awaiter in due.drain(..) {
                panics.catch(|| awaiter.wake(&self.owner));
            }
        });
        self.due.set(due);
        panics.resume();
    }

    /// Those that are due at the same instant in any order.
    #[cold]
    fn expire_shuffled(&self, order: &Order, due: &mut Vec<Awaiter>) {
        let mut timers = self.timers.borrow_mut();
        while let Some(next) = timers.next().filter(|next| *next <= self.now.get()) {
            let before = due.len();
            timers.expire(next, due);
            order.shuffle(&mut due[before..]);
        }
    }

    /// Shuffles the next `count` entries of the ready queue, if they are to be, and writes
    /// down their order.
    #[inline]
    pub(crate) fn arrange(&self, count: usize) {
        if let Some(order) = &self.order {
            self.owner.arrange(count, order);
        }
    }

    /// Handles what other threads have sent, in order. Between two generations it takes no
    /// more than [`MESSAGES`]: threads that send without pause must not starve the sockets.
    #[inline]
    pub(crate) fn read_inbox(&self) {
        if self.owner.inbox().is_filled() {
            self.read_filled_inbox();
        }
    }

    #[cold]
    fn read_filled_inbox(&self) {
        let mut messages = self.messages.take();
        self.owner
            .inbox()
            .take(self.messages_left.get(), &mut messages);
        let left = self.messages_left.get().saturating_sub(messages.len());
        self.messages_left.set(left);
        let foreign = self.foreign.as_ref();
        let foreign = foreign.filter(|foreign| !foreign.take_unknown());
        let mut panics = Panics::default();
        attribute_wakes(WakeSource::Inbox, || {
            for message in messages.drain(..) {
                match message {
                    Message::Wake(task) => {
                        let task = self.owner.admit(task);
                        if let (Some(foreign), Some(task)) = (foreign, task) {
                            foreign.woken(task);
                        }
                    }
                    // It may drop a waker, which is user code.
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

    /// Whether `stop` was called; it counts no more.
    pub(crate) fn take_stopped(&self) -> bool {
        self.stopped.take()
    }

    /// A generation of so many tasks begins.
    #[inline]
    pub(crate) fn begin_generation(&self, ready: usize) {
        self.messages_left.set(MESSAGES);
        if ready == 0 {
            return;
        }
        let counts = self.owner.counts();
        counts.turns.add(1);
        counts.longest_queue.raise_to(ready);
    }

    /// Whether a task is ready, or will be at the end of the generation.
    #[inline]
    pub(crate) fn is_anything_ready(&self) -> bool {
        let ready = self.owner.ready();
        !ready.is_empty() || ready.has_deferred() || !self.deferred.borrow().is_empty()
    }

    /// How many tasks are ready, or will be at the end of the generation.
    pub(crate) fn ready_count(&self) -> usize {
        self.owner.ready().count() + self.deferred.borrow().len()
    }

    /// The generation has ended: appends the tasks that have yielded in it, and wakes what was
    /// put off because the budget of a poll was spent.
    #[inline]
    pub(crate) fn append_deferred(&self) {
        self.owner.ready().append_deferred();
        if !self.deferred.borrow().is_empty() {
            self.wake_deferred();
        }
    }

    #[cold]
    fn wake_deferred(&self) {
        let mut panics = Panics::default();
        for waker in self.deferred.take() {
            panics.catch(|| waker.wake());
        }
        panics.resume();
    }

    /// Runs one entry of the ready queue. `main` polls the future of a `block_on`, and
    /// says whether it is done.
    #[inline(always)]
    pub(crate) fn run_one(&self, main: &mut dyn FnMut() -> bool) -> Step {
        let Some(task) = self.owner.ready().pop() else {
            return Step::Nothing;
        };
        budget::begin_poll();
        match self.owner.watch() {
            None => self.run(task, main),
            Some(watch) => self.run_watched(watch, task, main),
        }
    }

    #[inline(always)]
    fn run(&self, task: Entry, main: &mut dyn FnMut() -> bool) -> Step {
        match self.owner.run(task) {
            Ran::Task => Step::Polled,
            Ran::Stale => Step::Nothing,
            Ran::Main if main() => Step::MainIsDone,
            Ran::Main => Step::Polled,
            Ran::Orphan(orphan) => {
                let (payload, who) = *orphan;
                self.bury(&who, payload);
                Step::Polled
            }
        }
    }

    #[cold]
    fn run_watched(&self, watch: &Watch, task: Entry, main: &mut dyn FnMut() -> bool) -> Step {
        // Before it is over, and gone.
        let who = watch.slow.and_then(|_| self.owner.about(task));
        let start = Instant::now();
        let step = self.run(task, main);
        let took = start.elapsed();
        if matches!(step, Step::Nothing) {
            return step;
        }
        watch.polled(task.place(), task.number(), took);
        if watch.slow.is_some_and(|slow| took >= slow) {
            watch.has_warned.set(true);
            let took = Short(took);
            match who {
                Some(who) => warn(format_args!(
                    "slow poll: {who} has kept the thread for {took}"
                )),
                None => warn(format_args!(
                    "slow poll: the future of `block_on` has kept the thread for {took}"
                )),
            }
        }
        step
    }

    /// Handles the panic of a task without a handle: it ends the current call, if that was asked
    /// for, or is reported. So is the second one of a batch.
    fn bury(&self, who: &dyn fmt::Display, payload: Payload) {
        if self.propagate_panics && !self.is_panicking.get() {
            std::panic::resume_unwind(payload);
        }
        report(who, payload);
    }

    pub(crate) fn add_parked(&self, holder: Weak<dyn HoldsWaker>) {
        let mut parked = self.parked.borrow_mut();
        if parked.len() == parked.capacity() {
            parked.retain(|holder| holder.strong_count() > 0);
        }
        parked.push(holder);
    }

    /// Nothing is ready, and no timer is set: whether it is certain that nothing will ever
    /// happen again.
    pub(crate) fn is_deadlocked(&self) -> bool {
        // The cheap checks first: as a rule one of them says that it is not. Whatever a dropped
        // handle or waker sent is already in the inbox, which is checked last.
        if self.has_outside()
            || self.owner.external_waker_hint()
            || Reactor::get().is_some_and(|reactor| reactor.is_awaited())
        {
            return false;
        }
        // A timer that never fires may be set anew by its owner.
        if self.timers.borrow().has_unset() {
            return false;
        }
        let parked = self.parked.borrow();
        let holders: Vec<_> = parked.iter().filter_map(Weak::upgrade).collect();
        // Out and back: no user code runs in between.
        let wakers: Vec<_> = holders.iter().map(|holder| holder.waker().take()).collect();
        let is_deadlocked = self.owner.is_deadlocked(&wakers);
        for (holder, waker) in holders.iter().zip(wakers) {
            holder.waker().set(waker);
        }
        is_deadlocked
    }

    /// The runtime goes: drops all tasks, inside of it.
    pub(crate) fn close(self: &Rc<Self>, panics: &mut Panics) {
        let closing = self.owner.shut();
        // The first panic is resumed, the others are reported.
        let orphan = |panics: &mut Panics, payload, about: About| {
            if panics.is_empty() && !std::thread::panicking() {
                panics.keep(payload);
            } else {
                report(&about, payload);
            }
        };
        if closing.is_empty() && self.timers.borrow().is_empty() {
            // No user code is called, so the runtime need not be entered.
            return closing.finish(panics, &orphan);
        }
        self.enter(|| {
            closing.finish(panics, &orphan);
            let awaiters = self.timers.borrow_mut().disarm();
            for awaiter in awaiters {
                panics.catch(|| drop(awaiter));
            }
        });
    }
}

impl Enter for Context {
    fn enter_for(self: Rc<Self>, f: &mut dyn FnMut()) {
        let before = (self.owner.ready().len(), self.timers_pending());
        self.enter(f);
        if before != (self.owner.ready().len(), self.timers_pending()) {
            // An empty message notifies whatever waits for the runtime, such as a foreign loop.
            // A runtime that is gone refuses it.
            let look = Message::Call(Box::new(|| {}));
            let _ = self.owner.home().push(look);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.owner.fmt(f)
    }
}
