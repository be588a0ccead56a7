//! The thread's poller, and the tasks that wait for its sources.
//!
//! There is one reactor per thread, made for its first source; sources belong to
//! the thread, not to one runtime. A source is added to the poller when a task
//! first waits for it, and stays there until it is closed.
//!
//! # Readiness
//!
//! On Linux sources are edge-triggered, elsewhere one-shot (`source/platform.rs`). A source
//! remembers which of its directions are ready (`source/readiness.rs`): an operation that
//! would block, or a short read of a stream, clears that, and a report sets it. So in the
//! steady state nothing is said to the kernel but the wait.
//!
//! A direction is *armed* if the poller will report it as soon as it is, or becomes, ready. The
//! first wait arms it. A report leaves it armed, with two exceptions: a one-shot registration,
//! and a shared source. Of a shared source, other code may leave some data unread, which an
//! armed direction would not report again. So each wait arms it anew.
//!
//! # Re-entrancy
//!
//! Wakers are cloned, woken and dropped only while neither `slots` nor `wait` is
//! borrowed: they are user code.

#[cfg(all(target_os = "linux", not(soloist_portable)))]
mod epoll;
mod fork;
#[cfg(unix)]
mod host;
#[cfg(soloist_liar)]
pub mod liar;
mod object;
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
mod portable;
mod slots;
mod waiters;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

#[cfg(all(target_os = "linux", not(soloist_portable)))]
use self::epoll as real;
#[cfg(soloist_liar)]
use self::liar::{Notifications, Wait};
pub(crate) use self::object::Source;
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
use self::portable as real;
#[cfg(not(soloist_liar))]
use self::real::Wait;
use self::slots::{INDEX_BITS, OWNERS, Slot, index, slot, slot_of};
use self::waiters::{By, Waiter};
use crate::hooks::{WakeSource, attribute_wakes};
use crate::panics::Panics;
use crate::ready::Rouse;
use crate::schedule::Order;
pub(crate) use crate::source::Direction;
use crate::source::{Interest, ONE_SHOT, PollerHandle, Registration};
use crate::sync::atomic::Ordering;

thread_local! {
    /// The id of this thread's reactor, 0 for none. Const and without a destructor.
    static ID: Cell<u64> = const { Cell::new(0) };
    static REACTOR: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Something that the poller has reported.
#[derive(Clone, Copy, Debug)]
struct Event {
    key: usize,
    readable: bool,
    writable: bool,
    /// The end of the stream, an error, or urgent data.
    ended: bool,
}

/// Ends the wait of a reactor, from any thread.
#[derive(Debug)]
pub(crate) struct ReactorNotifier {
    poller: Arc<PollerHandle>,
    #[cfg(soloist_liar)]
    lies: Notifications,
    /// Whether a runtime of this thread is a guest in a foreign loop.
    guest: AtomicBool,
}

impl Rouse for ReactorNotifier {
    fn rouse(&self) -> io::Result<()> {
        // A guest is parked while it does not run, also in the child of a fork: it must not
        // wake the parent.
        if self.guest.load(Ordering::Relaxed) && !self.poller.is_ours() {
            return Ok(());
        }
        #[cfg(soloist_liar)]
        self.lies.may_notify()?;
        self.poller.notify()
    }
}

/// The reactor of one thread.
pub(crate) struct Reactor {
    /// Never 0, never reused.
    id: u64,
    notifier: Arc<ReactorNotifier>,
    /// Taken out while it is used.
    wait: Cell<Option<Wait>>,
    /// Whether the last wait has reported something that is still to be delivered.
    has_events: Cell<bool>,
    slots: RefCell<Slab<Slot>>,
    /// Counts the waits.
    waits: Cell<u32>,
    next_owner: Cell<usize>,
    /// Names an entry of a waiter. 0 stands for `poll_*` calls.
    next_entry: Cell<u32>,
    /// Used again by every report.
    woken: Cell<Vec<Waiter>>,
    /// Whether a visit has consumed the wakeup of a foreign loop since [`Reactor::take_word`].
    #[cfg(unix)]
    took_word: Cell<bool>,
}

impl Reactor {
    /// The reactor of this thread, if it has one.
    #[inline]
    pub(crate) fn get() -> Option<Rc<Reactor>> {
        REACTOR
            .try_with(|reactor| reactor.borrow().clone())
            .ok()
            .flatten()
    }

    /// The reactor of this thread, made now if need be.
    #[inline]
    pub(crate) fn get_or_new() -> io::Result<Rc<Reactor>> {
        match Reactor::get() {
            Some(reactor) => Ok(reactor),
            None => Reactor::make(),
        }
    }

    #[cold]
    fn make() -> io::Result<Rc<Reactor>> {
        let reactor = Rc::new(Reactor::new()?);
        let made = REACTOR.try_with(|slot| *slot.borrow_mut() = Some(reactor.clone()));
        if made.is_err() {
            return Err(io::Error::other(
                "no socket can be used any more: this thread is ending",
            ));
        }
        ID.set(reactor.id());
        Ok(reactor)
    }

    /// In the child of a fork: forgets the parent's reactor, and wakes the tasks that wait
    /// there. They find out that their sockets cannot be waited for in the child. Called
    /// where a runtime starts to run, and before it waits.
    #[inline]
    pub(crate) fn check_fork() {
        if Reactor::is_made() {
            Reactor::forget_parents();
        }
    }

    /// Whether this thread has ever made one.
    #[inline]
    pub(crate) fn is_made() -> bool {
        ID.get() != 0
    }

    fn new() -> io::Result<Reactor> {
        let id = NEXT_ID.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let poller = Arc::new(PollerHandle::new(id)?);
        let wait = Wait::new(&poller)?;
        Ok(Reactor {
            id,
            notifier: Arc::new(ReactorNotifier {
                poller,
                #[cfg(soloist_liar)]
                lies: Notifications::new(),
                guest: AtomicBool::new(false),
            }),
            wait: Cell::new(Some(wait)),
            has_events: Cell::new(false),
            slots: RefCell::new(Slab::new()),
            waits: Cell::new(1),
            next_owner: Cell::new(1),
            next_entry: Cell::new(1),
            woken: Cell::new(Vec::new()),
            #[cfg(unix)]
            took_word: Cell::new(false),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn notifier(&self) -> &Arc<ReactorNotifier> {
        &self.notifier
    }

    fn poller(&self) -> &Arc<PollerHandle> {
        &self.notifier.poller
    }

    /// Whether a visit can find anything. A guest's visit must also consume the wakeup that made
    /// the foreign loop call.
    pub(crate) fn is_worth_a_visit(&self) -> bool {
        self.has_guest() || !self.slots.borrow().is_empty()
    }

    /// Whether a task waits for a source.
    pub(crate) fn is_awaited(&self) -> bool {
        let slots = self.slots.borrow();
        let slots = slots.iter().map(|(_, slot)| slot);
        let slots = slots.filter(|slot| !slot.is_background());
        let mut directions = slots.flat_map(|slot| &slot.directions);
        directions.any(|direction| !direction.is_empty())
    }

    pub(crate) fn has_guest(&self) -> bool {
        self.notifier.guest.load(Ordering::Relaxed)
    }

    /// Waits until something is reported, or the thread is notified, or `timeout`
    /// has passed (it may return a little early: the caller looks at the clock). What is
    /// reported is there for [`Reactor::deliver`].
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut panics = Panics::default();
        self.free_orphans(&mut panics);
        panics.resume();
        if self.has_events.get() {
            // User code has panicked between the last wait and the delivery.
            return Ok(());
        }
        let Some(mut wait) = self.wait.take() else {
            return Err(io::Error::other("the reactor is being visited already"));
        };
        self.waits.set(self.waits.get().wrapping_add(1));
        let result = wait.wait(self.poller(), timeout);
        #[cfg(unix)]
        if wait.took_word() {
            self.took_word.set(true);
        }
        self.has_events.set(result.is_ok());
        self.wait.set(Some(wait));
        result
    }

    /// Wakes the tasks that wait for what the last wait has reported. Returns how many events
    /// there were.
    pub(crate) fn deliver(&self, order: Option<&Order>) -> usize {
        if !self.has_events.take() {
            return 0;
        }
        let Some(wait) = self.wait.take() else {
            return 0;
        };
        let mut panics = Panics::default();
        let mut reported = 0;
        let mut others = self.woken.take();
        attribute_wakes(WakeSource::Reactor, || {
            if let Some(order) = order.filter(|order| order.is_shuffled()) {
                let mut events: Vec<Event> = wait.events().collect();
                order.shuffle(&mut events);
                for event in events {
                    reported += 1;
                    self.deliver_event(event, &mut others, &mut panics);
                }
                return;
            }
            for event in wait.events() {
                reported += 1;
                self.deliver_event(event, &mut others, &mut panics);
            }
        });
        self.woken.set(others);
        self.wait.set(Some(wait));
        panics.resume();
        reported
    }

    #[inline(always)]
    fn deliver_event(&self, event: Event, others: &mut Vec<Waiter>, panics: &mut Panics) {
        let (mut reader, mut writer) = (None, None);
        {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slot(&mut slots, event.key) else {
                return;
            };
            let registration = &*slot.registration;
            // If the source has moved to another thread, its readiness belongs to the reactor
            // there. A move right after this check does no harm: it costs one operation that
            // would block.
            let is_ours = registration.reactor.load(Ordering::Relaxed) == self.id;
            if is_ours {
                let readiness = &registration.readiness;
                readiness.report(event.readable, event.writable, event.ended);
            }
            let is_disarmed = ONE_SHOT || registration.readiness.is_shared();
            let [read, write] = &mut slot.directions;
            if event.readable {
                reader = read.report(others);
                read.armed &= !is_disarmed;
            }
            if event.writable {
                writer = write.report(others);
                write.armed &= !is_disarmed;
            }
            if ONE_SHOT {
                // The report has ended the interest in both directions.
                read.armed = false;
                write.armed = false;
                for direction in [Direction::Read, Direction::Write] {
                    if !slot.directions[direction as usize].is_empty() {
                        // It fails only if the fd was closed by other code; then nothing is
                        // reported any more.
                        let _ = self.arm(slot, direction);
                    }
                }
            }
            if is_ours {
                slot.note_waiting();
            }
        }
        if let Some(task) = reader {
            task.wake(panics);
        }
        if let Some(task) = writer {
            task.wake(panics);
        }
        // Before the next event: in the order of the reports.
        if !others.is_empty() {
            wake_others(others, panics);
        }
    }

    /// Has the poller report `direction`, beside what it reports already.
    fn arm(&self, slot: &mut Slot, direction: Direction) -> io::Result<()> {
        if slot.directions[direction as usize].armed {
            return Ok(());
        }
        #[cfg(soloist_liar)]
        liar::may_register()?;
        let interest = Interest {
            readable: slot.directions[0].armed || direction == Direction::Read,
            writable: slot.directions[1].armed || direction == Direction::Write,
        };
        slot.registration
            .modify(self.poller(), slot.key, interest)?;
        slot.directions[direction as usize].armed = true;
        Ok(())
    }

    /// Calls `f` with the slot of a source of this reactor, if it has one.
    #[inline]
    fn with_slot<R>(
        &self,
        registration: &Registration,
        f: impl FnOnce(&mut Slot) -> R,
    ) -> Option<R> {
        let mut slots = self.slots.borrow_mut();
        slot_of(&mut slots, registration).map(f)
    }

    /// Arms `direction` of a source of this reactor, and calls `f` with its slot. The first time
    /// it adds the source to the poller. Wakers may be called before that, but nothing is
    /// borrowed then.
    fn with_armed_slot<R>(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        f: impl FnOnce(&mut Slot) -> R,
    ) -> io::Result<R> {
        {
            let mut slots = self.slots.borrow_mut();
            if let Some(slot) = slot_of(&mut slots, registration) {
                self.arm(slot, direction)?;
                return Ok(f(slot));
            }
        }
        // A thread that never waits in its reactor frees here what others have left to it.
        let mut panics = Panics::default();
        self.free_orphans(&mut panics);
        panics.resume();
        let mut slots = self.slots.borrow_mut();
        // A waker that was woken may have come first.
        if let Some(slot) = slot_of(&mut slots, registration) {
            self.arm(slot, direction)?;
            return Ok(f(slot));
        }
        let slot = self.add_slot(&mut slots, registration, direction)?;
        Ok(f(slot))
    }

    /// Adds a source to the poller, and makes a slot for it.
    #[cold]
    fn add_slot<'a>(
        &self,
        slots: &'a mut Slab<Slot>,
        registration: &Arc<Registration>,
        direction: Direction,
    ) -> io::Result<&'a mut Slot> {
        #[cfg(soloist_liar)]
        liar::may_register()?;
        let entry = slots.vacant_entry();
        let owner = self.next_owner.get();
        let key = (owner << INDEX_BITS) | entry.key();
        let mut slot = Slot {
            key,
            registration: registration.clone(),
            directions: Default::default(),
        };
        slot.directions[direction as usize].armed = true;
        let interest = Interest {
            readable: direction == Direction::Read,
            writable: direction == Direction::Write,
        };
        registration.add(self.poller(), key, interest)?;
        self.next_owner
            .set(if owner < OWNERS { owner + 1 } else { 1 });
        Ok(entry.insert(slot))
    }

    /// The usual case of [`Reactor::wait_polled`]: a task waits with its own waker, nothing else
    /// waits, and the direction is armed. Returns whether that was so. No user code
    /// runs in here, so the thread-local may be borrowed. The source belongs to this thread.
    #[inline]
    pub(crate) fn wait_alone(
        registration: &Registration,
        direction: Direction,
        waker: &Waker,
    ) -> bool {
        let waits = REACTOR.try_with(|reactor| {
            let reactor = reactor.borrow();
            let mut slots = reactor.as_ref()?.slots.borrow_mut();
            let slot = slot_of(&mut slots, registration)?;
            let state = &mut slot.directions[direction as usize];
            if !state.armed || !state.push_alone(waker) {
                return None;
            }
            state.fired = false;
            registration.waiting.store(true, Ordering::Relaxed);
            Some(())
        });
        waits.is_ok_and(|waits| waits.is_some())
    }

    /// Leaves `waker` behind for a `poll_*` call.
    pub(crate) fn wait_polled(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        who: u32,
        waker: &Waker,
    ) -> io::Result<()> {
        // If this waker waits already, it need not be cloned.
        if registration.waiting.load(Ordering::Relaxed)
            && self.waits_again(registration, direction, waker)
        {
            return Ok(());
        }
        // Cloned before the borrow; woken and dropped after it.
        let mut new = Some(By::new(who, waker));
        let mut crowd = Vec::new();
        let result = self.with_armed_slot(registration, direction, |slot| {
            let state = &mut slot.directions[direction as usize];
            state.fired = false;
            // An equal waker may be there already, left by an earlier wait.
            if !state.knows(waker) {
                crowd = state.split_crowd(self.waits.get());
                state.push(0, new.take().expect("it was made above"));
            }
            slot.note_waiting();
        });
        drop(new);
        let mut panics = Panics::default();
        for waiter in crowd {
            waiter.by.wake(&mut panics);
        }
        panics.resume();
        result
    }

    /// Whether `waker` waits already, and need not be left again.
    fn waits_again(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        waker: &Waker,
    ) -> bool {
        let waits = self.with_slot(registration, |slot| {
            let state = &mut slot.directions[direction as usize];
            state.fired = false;
            state.armed && state.knows(waker)
        });
        waits.unwrap_or(false)
    }

    /// Whether a `poll_*` waiter was woken since the last one was told so.
    pub(crate) fn take_fired(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
    ) -> bool {
        let fired = self.with_slot(registration, |slot| {
            std::mem::take(&mut slot.directions[direction as usize].fired)
        });
        fired.unwrap_or(false)
    }

    /// Waits with an entry of its own: `id` names it, and is set by the first call.
    /// Returns false once the direction has been reported.
    pub(crate) fn wait_entry(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        id: &mut Option<u32>,
        who: u32,
        waker: &Waker,
    ) -> io::Result<bool> {
        if let Some(known) = *id {
            let same = self.with_slot(registration, |slot| {
                slot.directions[direction as usize].waits_as(known, waker)
            });
            match same.flatten() {
                Some(true) => return Ok(true),
                Some(false) => {}
                None => return Ok(false),
            }
        }
        // Cloned before the borrow, and what it replaces is dropped after it. The old
        // waker is not woken.
        let mut new = Some(By::new(who, waker));
        let mut old = None;
        let result = self.with_armed_slot(registration, direction, |slot| {
            let state = &mut slot.directions[direction as usize];
            old = id.and_then(|known| state.remove(known));
            let id = *id.get_or_insert_with(|| self.new_entry());
            state.push(id, new.take().expect("it was made above"));
            slot.note_waiting();
        });
        drop((old, new));
        result.map(|()| true)
    }

    fn new_entry(&self) -> u32 {
        let id = self.next_entry.get();
        self.next_entry.set(id.checked_add(1).unwrap_or(1));
        id
    }

    /// Takes an entry back.
    pub(crate) fn leave_entry(&self, key: usize, direction: Direction, id: u32) {
        let by = {
            let mut slots = self.slots.borrow_mut();
            slot(&mut slots, key).and_then(|slot| {
                let by = slot.directions[direction as usize].remove(id);
                if slot.registration.reactor.load(Ordering::Relaxed) == self.id {
                    slot.note_waiting();
                }
                by
            })
        };
        drop(by);
    }

    /// Calls `f` for each task that waits, with what it waits for.
    pub(crate) fn each_wait(&self, f: &mut dyn FnMut(u32, Direction, &Registration)) {
        let slots = self.slots.borrow();
        let slots = slots.iter().map(|(_, slot)| slot);
        for slot in slots.filter(|slot| !slot.is_background()) {
            for direction in [Direction::Read, Direction::Write] {
                let state = &slot.directions[direction as usize];
                state.each(&mut |who| f(who, direction, &slot.registration));
            }
        }
    }

    fn free_orphans(&self, panics: &mut Panics) {
        for key in self.poller().take_orphans() {
            self.free(key, panics);
        }
    }

    /// Frees a slot. Tasks that still wait there are woken, and find that the source is gone.
    fn free(&self, key: usize, panics: &mut Panics) {
        let slot = {
            let mut slots = self.slots.borrow_mut();
            match slot(&mut slots, key) {
                Some(_) => slots.remove(index(key)),
                None => return,
            }
        };
        for direction in slot.directions {
            direction.wake_all(panics);
        }
    }
}

#[cold]
fn wake_others(others: &mut Vec<Waiter>, panics: &mut Panics) {
    for waiter in others.drain(..) {
        waiter.by.wake(panics);
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        if ID.get() == self.id() {
            ID.set(0);
        }
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
