//! The thread's poller: who waits for which source.
//!
//! There is one reactor per thread, made for its first source; sources belong to
//! the thread, not to one runtime. A source is added to the poller when somebody
//! first waits for it, and stays there until it is closed.
//!
//! # Lazy disarm
//!
//! Interest is level-triggered and stays armed while tasks come and go, so that
//! the steady state makes no call into the kernel but the wait. When a direction
//! is reported for which nobody waits, it is switched off. One such report is
//! excused: as long as the tasks that were woken by the last one have still to be
//! polled, the kernel reports the same thing again, and it means nothing. Each
//! direction remembers in `delivered` the generation in which that was.
//!
//! # Re-entrancy
//!
//! Wakers are cloned, woken and dropped only while neither `slots` nor `wait` is
//! borrowed: they are user code.

#[cfg(all(target_os = "linux", not(soloist_portable)))]
mod epoll;
#[cfg(unix)]
mod host;
#[cfg(soloist_liar)]
pub mod liar;
mod object;
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
mod portable;
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
use self::liar::{Alarm, Wait};
pub(crate) use self::object::Source;
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
use self::portable as real;
#[cfg(not(soloist_liar))]
use self::real::{Alarm, Wait};
use self::waiters::{By, Side, Waiter};
use crate::panics::Panics;
use crate::ready::Rouse;
use crate::record::{self, wakes_by};
use crate::schedule::Order;
use crate::source::{Polling, Registration};
use crate::sync::atomic::Ordering;

thread_local! {
    /// The id of this thread's reactor, 0 for none. Const and without a destructor.
    static ID: Cell<u64> = const { Cell::new(0) };
    static REACTOR: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A key holds the index of a slot, and a number that tells its owners apart.
const INDEX_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };
/// Keys beyond this are for the reactor's own fds.
const SLOT_KEYS: usize = usize::MAX >> 1;
const OWNERS: usize = SLOT_KEYS >> INDEX_BITS;

/// Something that the poller has reported.
#[derive(Clone, Copy, Debug)]
struct Event {
    key: usize,
    readable: bool,
    writable: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The half of a reactor that other threads know: how to end its wait.
#[derive(Debug)]
pub(crate) struct Shared {
    polling: Arc<Polling>,
    alarm: Alarm,
    /// Whether a runtime of this thread is a guest in a foreign loop.
    guest: AtomicBool,
}

impl Rouse for Shared {
    fn rouse(&self) -> io::Result<()> {
        // A guest is parked while it does not run, also in the child of a fork: it must not
        // wake the parent.
        if self.guest.load(Ordering::Relaxed) && !self.polling.is_ours() {
            return Ok(());
        }
        self.alarm.notify(&self.polling)
    }
}

/// The reactor of one thread.
pub(crate) struct Reactor {
    /// Never 0, never reused.
    id: u64,
    shared: Arc<Shared>,
    /// Taken out for the length of a visit.
    wait: Cell<Option<Wait>>,
    slots: RefCell<Slab<Slot>>,
    /// Counts the visits at the end of a generation.
    generation: Cell<u32>,
    next_owner: Cell<usize>,
    /// Names an entry of a waiter. 0 stands for `poll_*` calls.
    next_entry: Cell<u32>,
    /// Used again by every report.
    woken: Cell<Vec<Waiter>>,
    /// Whether a visit has taken the guest's word since [`Reactor::take_word`].
    #[cfg(unix)]
    took_word: Cell<bool>,
}

struct Slot {
    key: usize,
    registration: Arc<Registration>,
    sides: [Side; 2],
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

    /// Forgets a reactor that belongs to the parent of a fork. Called where a
    /// runtime starts to run.
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

    fn forget_parents() {
        if Reactor::get().is_some_and(|reactor| !reactor.shared.polling.is_ours()) {
            let old = REACTOR.try_with(|slot| slot.borrow_mut().take());
            drop(old);
        }
    }

    fn new() -> io::Result<Reactor> {
        let id = NEXT_ID.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let polling = Arc::new(Polling::new(id)?);
        let (wait, alarm) = Wait::new(&polling)?;
        Ok(Reactor {
            id,
            shared: Arc::new(Shared {
                polling,
                alarm,
                guest: AtomicBool::new(false),
            }),
            wait: Cell::new(Some(wait)),
            slots: RefCell::new(Slab::new()),
            generation: Cell::new(1),
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

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether a visit can find anything. A guest's must also take the word that made
    /// the foreign loop call.
    pub(crate) fn is_worth_a_visit(&self) -> bool {
        self.has_guest() || !self.slots.borrow().is_empty()
    }

    /// Whether somebody waits for a source.
    pub(crate) fn is_awaited(&self) -> bool {
        let slots = self.slots.borrow();
        let slots = slots.iter().map(|(_, slot)| slot);
        let slots = slots.filter(|slot| !slot.is_background());
        let mut sides = slots.flat_map(|slot| &slot.sides);
        sides.any(|side| !side.is_empty())
    }

    pub(crate) fn has_guest(&self) -> bool {
        self.shared.guest.load(Ordering::Relaxed)
    }

    /// Waits until something is reported, or the thread is notified, or `timeout`
    /// has passed (it may return a little early: the caller looks at the clock),
    /// and wakes who waited for it. Returns how much was reported.
    ///
    /// `between` says that this is a visit in the middle of a generation.
    pub(crate) fn visit(
        &self,
        timeout: Option<Duration>,
        between: bool,
        order: Option<&Order>,
    ) -> io::Result<usize> {
        let mut panics = Panics::default();
        self.free_orphans(&mut panics);
        if !between {
            self.generation.set(self.generation.get().wrapping_add(1));
        }
        let Some(mut wait) = self.wait.take() else {
            return Err(io::Error::other("the reactor is being visited already"));
        };
        let result = wait.wait(&self.shared.polling, timeout);
        #[cfg(unix)]
        if wait.took_word() {
            self.took_word.set(true);
        }
        let mut reported = 0;
        if result.is_ok() {
            let mut others = self.woken.take();
            wakes_by(record::Source::Reactor, || {
                if let Some(order) = order.filter(|order| order.is_shuffled()) {
                    let mut events: Vec<Event> = wait.events().collect();
                    order.shuffle(&mut events);
                    for event in events {
                        reported += 1;
                        self.deliver(event, &mut others, &mut panics);
                    }
                    return;
                }
                for event in wait.events() {
                    reported += 1;
                    self.deliver(event, &mut others, &mut panics);
                }
            });
            self.woken.set(others);
        }
        self.wait.set(Some(wait));
        panics.resume();
        result.map(|()| reported)
    }

    #[inline(always)]
    fn deliver(&self, event: Event, others: &mut Vec<Waiter>, panics: &mut Panics) {
        let generation = self.generation.get();
        let (mut reader, mut writer) = (None, None);
        {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slot(&mut slots, event.key) else {
                return;
            };
            let is_level = self.shared.polling.is_level();
            if !is_level {
                // One-shot: the report has disarmed both.
                slot.sides[0].armed = false;
                slot.sides[1].armed = false;
            }
            let is_ours = slot.is_of(self);
            let mut disarm = false;
            if event.readable {
                if is_ours {
                    slot.registration.reads.restart();
                }
                reader = slot.sides[0].report(generation, others, &mut disarm);
            }
            if event.writable {
                writer = slot.sides[1].report(generation, others, &mut disarm);
            }
            if is_ours {
                slot.note_waiting();
            }
            if disarm {
                // It fails only for an fd that was closed behind our back; then
                // nothing is reported any more.
                let polling = &self.shared.polling;
                let [read, write] = [slot.sides[0].armed, slot.sides[1].armed];
                let _ = slot.registration.disarm(polling, slot.key, read, write);
            } else if !is_level {
                let _ = self.arm(slot, None);
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

    /// Arms `direction`, and whatever else is waited for.
    fn arm(&self, slot: &mut Slot, direction: Option<Direction>) -> io::Result<()> {
        let is = |d| direction == Some(d);
        let [read, write] = &slot.sides;
        // A reader comes back: it stays armed. A socket is nearly always writable:
        // that direction would be reported at once.
        let level = self.shared.polling.is_level();
        let reads = (read.armed && level) || !read.is_empty() || is(Direction::Read);
        let writes = !write.is_empty() || is(Direction::Write);
        if reads || writes {
            #[cfg(soloist_liar)]
            liar::may_register()?;
            let polling = &self.shared.polling;
            slot.registration.arm(polling, slot.key, reads, writes)?;
        }
        slot.sides[0].armed = reads;
        slot.sides[1].armed = writes;
        Ok(())
    }

    /// The slot of a source of this reactor, made now if it has none.
    #[inline]
    fn with_slot<R>(&self, registration: &Arc<Registration>, f: impl FnOnce(&mut Slot) -> R) -> R {
        let mut slots = self.slots.borrow_mut();
        let mut key = registration.key.load(Ordering::Relaxed);
        let slot = slot(&mut slots, key);
        if slot.is_none_or(|slot| !Arc::ptr_eq(&slot.registration, registration)) {
            key = self.add_slot(&mut slots, registration);
        }
        f(&mut slots[index(key)])
    }

    /// Makes a slot. Returns its key.
    #[cold]
    fn add_slot(&self, slots: &mut Slab<Slot>, registration: &Arc<Registration>) -> usize {
        let entry = slots.vacant_entry();
        let owner = self.next_owner.get();
        self.next_owner
            .set(if owner < OWNERS { owner + 1 } else { 1 });
        let key = (owner << INDEX_BITS) | entry.key();
        registration.key.store(key, Ordering::Relaxed);
        entry.insert(Slot {
            key,
            registration: registration.clone(),
            sides: Default::default(),
        });
        key
    }

    /// The usual case of [`Reactor::wait_polled`]: a task with its own waker, nobody else
    /// waits, and the kernel has been told before. Returns whether that was so. No user code
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
            let key = registration.key.load(Ordering::Relaxed);
            let slot = slot(&mut slots, key)?;
            let side = &mut slot.sides[direction as usize];
            if !side.armed || !side.push_alone(waker) {
                return None;
            }
            side.fired = false;
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
        // Somebody waits. One who waits with this waker already needs no clone of it.
        if registration.waiting.load(Ordering::Relaxed)
            && self.waits_again(registration, direction, waker)
        {
            return Ok(());
        }
        // Cloned before the borrow; woken and dropped after it.
        let by = By::new(who, waker);
        let mut spare = None;
        let mut crowd = Vec::new();
        let result = self.with_slot(registration, |slot| {
            let side = &mut slot.sides[direction as usize];
            side.fired = false;
            if side.knows(waker) {
                // It may be what is left of a wait that is over.
                spare = Some(by);
            } else {
                crowd = side.split_crowd(self.generation.get());
                side.push(0, by);
            }
            slot.note_waiting();
            self.ensure_armed(slot, direction)
        });
        drop(spare);
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
        self.with_slot(registration, |slot| {
            let side = &mut slot.sides[direction as usize];
            side.fired = false;
            side.armed && side.knows(waker)
        })
    }

    /// Whether a `poll_*` waiter was woken since the last one was told so.
    pub(crate) fn take_fired(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
    ) -> bool {
        self.with_slot(registration, |slot| {
            std::mem::take(&mut slot.sides[direction as usize].fired)
        })
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
                slot.sides[direction as usize].waits_as(known, waker)
            });
            match same {
                Some(true) => return Ok(true),
                Some(false) => {}
                None => return Ok(false),
            }
        }
        // Cloned before the borrow, and what it replaces is dropped after it. The old
        // waker is not woken.
        let new = By::new(who, waker);
        let mut old = None;
        let result = self.with_slot(registration, |slot| {
            let side = &mut slot.sides[direction as usize];
            old = id.and_then(|known| side.remove(known));
            side.push(*id.get_or_insert_with(|| self.new_entry()), new);
            slot.note_waiting();
            self.ensure_armed(slot, direction).map(|()| true)
        });
        drop(old);
        result
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
                let by = slot.sides[direction as usize].remove(id);
                if slot.is_of(self) {
                    slot.note_waiting();
                }
                by
            })
        };
        drop(by);
    }

    /// Shows who waits for what.
    pub(crate) fn each_wait(&self, f: &mut dyn FnMut(u32, Direction, &Registration)) {
        let slots = self.slots.borrow();
        let slots = slots.iter().map(|(_, slot)| slot);
        for slot in slots.filter(|slot| !slot.is_background()) {
            for direction in [Direction::Read, Direction::Write] {
                let side = &slot.sides[direction as usize];
                side.each(&mut |who| f(who, direction, &slot.registration));
            }
        }
    }

    fn ensure_armed(&self, slot: &mut Slot, direction: Direction) -> io::Result<()> {
        if slot.sides[direction as usize].armed {
            return Ok(());
        }
        self.arm(slot, Some(direction))
    }

    fn free_orphans(&self, panics: &mut Panics) {
        for key in self.shared.polling.take_orphans() {
            self.free(key, panics);
        }
    }

    /// Gives a slot up. Who still waits there is woken, to find out.
    fn free(&self, key: usize, panics: &mut Panics) {
        let slot = {
            let mut slots = self.slots.borrow_mut();
            match slot(&mut slots, key) {
                Some(_) => slots.remove(index(key)),
                None => return,
            }
        };
        for side in slot.sides {
            side.wake_all(panics);
        }
    }
}

#[cold]
fn wake_others(others: &mut Vec<Waiter>, panics: &mut Panics) {
    for waiter in others.drain(..) {
        waiter.by.wake(panics);
    }
}

fn index(key: usize) -> usize {
    key & ((1 << INDEX_BITS) - 1)
}

/// The slot with this key, if its owner is still the same.
#[inline]
fn slot(slots: &mut Slab<Slot>, key: usize) -> Option<&mut Slot> {
    let slot = slots.get_mut(index(key))?;
    (slot.key == key).then_some(slot)
}

impl Slot {
    fn is_background(&self) -> bool {
        self.registration.background.load(Ordering::Relaxed)
    }

    /// Whether the source still belongs to this reactor. If it has moved to another
    /// thread, the slot is waiting to be freed, and what the registration says is about
    /// the source's life there. A move right after this look does no harm: it costs a
    /// read that would block, or a refusal to move by `&` that the next report ends.
    fn is_of(&self, reactor: &Reactor) -> bool {
        self.registration.reactor.load(Ordering::Relaxed) == reactor.id()
    }

    /// For a source that is still of this reactor.
    #[inline]
    fn note_waiting(&self) {
        let waiting = self.sides.iter().any(|side| !side.is_empty());
        self.registration.waiting.store(waiting, Ordering::Relaxed);
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
