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
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
mod portable;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

#[cfg(all(target_os = "linux", not(soloist_portable)))]
use self::epoll::{Alarm, Wait};
#[cfg(not(all(target_os = "linux", not(soloist_portable))))]
use self::portable::{Alarm, Wait};
use crate::panics::Panics;
use crate::source::{AsRaw, Polling, RawSource, Registration, elsewhere};
use crate::sync::atomic::Ordering;

thread_local! {
    /// The id of this thread's reactor, 0 for none. Const and without a destructor.
    static ID: Cell<u64> = const { Cell::new(0) };
    static REACTOR: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Reads and accepts in a row without a word from the reactor: then the task waits
/// for it, so that a socket that is always ready starves nobody. In level mode the
/// word comes at the next visit if there is more.
const SPREE: u8 = 16;

/// Wakers that `poll_*` calls leave behind: beyond this all are woken.
const POLLED: usize = 32;

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
}

impl Shared {
    pub(crate) fn notify(&self) -> io::Result<()> {
        self.alarm.notify(&self.polling)
    }
}

/// The reactor of one thread.
pub(crate) struct Reactor {
    shared: Arc<Shared>,
    /// Taken out for the length of a visit.
    wait: Cell<Option<Wait>>,
    slots: RefCell<Slab<Slot>>,
    /// Counts the visits at the end of a generation.
    generation: Cell<u32>,
    next_owner: Cell<usize>,
}

#[derive(Debug)]
struct Slot {
    key: usize,
    registration: Arc<Registration>,
    sides: [Side; 2],
    next_waiter: u32,
}

#[derive(Debug, Default)]
struct Side {
    waiters: Waiters,
    /// The generation in which tasks were last woken.
    delivered: u32,
    /// Whether the poller reports this direction.
    armed: bool,
    /// Set when a `poll_*` waiter has been woken, until one of them is told.
    fired: bool,
}

/// Who waits for one direction of a source.
#[derive(Debug, Default)]
struct Waiters {
    /// Costs no allocation.
    first: Option<Waiter>,
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    list: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// 0 for a `poll_*` call: nobody takes that one back.
    id: u32,
    waker: Waker,
}

impl Waiters {
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(|rest| rest.list.is_empty())
    }

    fn iter(&self) -> impl Iterator<Item = &Waiter> {
        let rest = self.rest.as_ref().map(|rest| rest.list.iter());
        self.first.iter().chain(rest.into_iter().flatten())
    }

    /// What `poll_*` calls have left.
    fn polled(&self) -> impl Iterator<Item = &Waiter> {
        self.iter().filter(|waiter| waiter.id == 0)
    }

    fn push(&mut self, waiter: Waiter) {
        if self.first.is_none() {
            self.first = Some(waiter);
        } else {
            self.rest.get_or_insert_default().list.push(waiter);
        }
    }

    fn remove(&mut self, id: u32) -> Option<Waker> {
        if self.first.as_ref().is_some_and(|first| first.id == id) {
            return self.first.take().map(|first| first.waker);
        }
        let list = &mut self.rest.as_mut()?.list;
        let index = list.iter().position(|waiter| waiter.id == id)?;
        Some(list.swap_remove(index).waker)
    }

    fn wake(self, panics: &mut Panics) {
        let rest = self.rest.map(|rest| rest.list);
        for waiter in self.first.into_iter().chain(rest.into_iter().flatten()) {
            panics.catch(|| waiter.waker.wake());
        }
    }
}

impl Reactor {
    /// The reactor of this thread, if it has one.
    pub(crate) fn get() -> Option<Rc<Reactor>> {
        REACTOR
            .try_with(|reactor| reactor.borrow().clone())
            .ok()
            .flatten()
    }

    /// The reactor of this thread, made now if need be.
    pub(crate) fn get_or_new() -> io::Result<Rc<Reactor>> {
        if let Some(reactor) = Reactor::get() {
            return Ok(reactor);
        }
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
    pub(crate) fn check_fork() {
        if ID.get() == 0 {
            return;
        }
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
            shared: Arc::new(Shared { polling, alarm }),
            wait: Cell::new(Some(wait)),
            slots: RefCell::new(Slab::new()),
            generation: Cell::new(1),
            next_owner: Cell::new(1),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.shared.polling.id
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether anything can be reported.
    pub(crate) fn has_sources(&self) -> bool {
        !self.slots.borrow().is_empty()
    }

    /// Waits until something is reported, or the thread is notified, or `timeout`
    /// has passed (it may return a little early: the caller looks at the clock),
    /// and wakes who waited for it. Returns how much was reported.
    ///
    /// `between` says that this is a visit in the middle of a generation.
    pub(crate) fn visit(&self, timeout: Option<Duration>, between: bool) -> io::Result<usize> {
        let mut panics = Panics::default();
        self.free_orphans(&mut panics);
        if !between {
            self.generation.set(self.generation.get().wrapping_add(1));
        }
        let Some(mut wait) = self.wait.take() else {
            return Err(io::Error::other("the reactor is being visited already"));
        };
        let result = wait.wait(&self.shared.polling, timeout);
        let mut reported = 0;
        if result.is_ok() {
            for event in wait.events() {
                reported += 1;
                self.deliver(event, &mut panics);
            }
        }
        self.wait.set(Some(wait));
        panics.resume();
        result.map(|()| reported)
    }

    fn deliver(&self, event: Event, panics: &mut Panics) {
        let generation = self.generation.get();
        let mut woken: [Waiters; 2] = Default::default();
        {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slot(&mut slots, event.key) else {
                return;
            };
            if !self.shared.polling.is_level() {
                // One-shot: the report has disarmed both.
                slot.sides[0].armed = false;
                slot.sides[1].armed = false;
            }
            let mut disarm = false;
            for (direction, reported) in [
                (Direction::Read, event.readable),
                (Direction::Write, event.writable),
            ] {
                if !reported {
                    continue;
                }
                if direction == Direction::Read {
                    slot.registration.spree.store(0, Ordering::Relaxed);
                    slot.registration.drained.store(false, Ordering::Relaxed);
                }
                let side = &mut slot.sides[direction as usize];
                if !side.waiters.is_empty() {
                    side.fired = side.waiters.polled().next().is_some();
                    side.delivered = generation;
                    woken[direction as usize] = std::mem::take(&mut side.waiters);
                } else if side.armed && side.delivered != generation {
                    side.armed = false;
                    disarm = true;
                }
            }
            slot.note_waiting();
            let [read, write] = [slot.sides[0].armed, slot.sides[1].armed];
            if disarm {
                // It fails only for an fd that was closed behind our back; then
                // nothing is reported any more.
                let polling = &self.shared.polling;
                let _ = slot.registration.disarm(polling, slot.key, read, write);
            } else if !self.shared.polling.is_level() {
                let _ = self.arm(slot, None);
            }
        }
        for waiters in woken {
            waiters.wake(panics);
        }
    }

    /// Arms `direction`, and whatever else is waited for.
    fn arm(&self, slot: &mut Slot, direction: Option<Direction>) -> io::Result<()> {
        let is = |d| direction == Some(d);
        let [read, write] = &slot.sides;
        // A reader comes back: it stays armed. A socket is nearly always writable:
        // that direction would be reported at once.
        let level = self.shared.polling.is_level();
        let reads = (read.armed && level) || !read.waiters.is_empty() || is(Direction::Read);
        let writes = !write.waiters.is_empty() || is(Direction::Write);
        if reads || writes {
            let polling = &self.shared.polling;
            slot.registration.arm(polling, slot.key, reads, writes)?;
        }
        slot.sides[0].armed = reads;
        slot.sides[1].armed = writes;
        Ok(())
    }

    /// The slot of a source of this reactor, made now if it has none.
    fn with_slot<R>(&self, registration: &Arc<Registration>, f: impl FnOnce(&mut Slot) -> R) -> R {
        let mut slots = self.slots.borrow_mut();
        let key = registration.key.load(Ordering::Relaxed);
        if slot(&mut slots, key).is_none_or(|slot| !Arc::ptr_eq(&slot.registration, registration)) {
            let entry = slots.vacant_entry();
            let owner = self.next_owner.get();
            self.next_owner
                .set(if owner < OWNERS { owner + 1 } else { 1 });
            let key = (owner << INDEX_BITS) | entry.key();
            registration.key.store(key, Ordering::Relaxed);
            return f(entry.insert(Slot {
                key,
                registration: registration.clone(),
                sides: Default::default(),
                next_waiter: 1,
            }));
        }
        let index = key & ((1 << INDEX_BITS) - 1);
        f(&mut slots[index])
    }

    /// Leaves `waker` behind for a `poll_*` call.
    pub(crate) fn wait_polled(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        waker: &Waker,
    ) -> io::Result<()> {
        let known = self.with_slot(registration, |slot| {
            let side = &mut slot.sides[direction as usize];
            side.fired = false;
            side.armed
                && side
                    .waiters
                    .polled()
                    .any(|waiter| waiter.waker.will_wake(waker))
        });
        if known {
            return Ok(());
        }
        // Woken and dropped outside of the borrow.
        let mut crowd = Waiters::default();
        let mut spare = None;
        let waker = waker.clone();
        let result = self.with_slot(registration, |slot| {
            let side = &mut slot.sides[direction as usize];
            if side.waiters.polled().count() >= POLLED {
                crowd = side.waiters.split_polled();
            }
            let waiter = Waiter { id: 0, waker };
            let known = side
                .waiters
                .polled()
                .any(|known| known.waker.will_wake(&waiter.waker));
            if known {
                spare = Some(waiter);
            } else {
                side.waiters.push(waiter);
            }
            slot.note_waiting();
            self.ensure_armed(slot, direction)
        });
        drop(spare);
        let mut panics = Panics::default();
        crowd.wake(&mut panics);
        panics.resume();
        result
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
        waker: &Waker,
    ) -> io::Result<bool> {
        if let Some(known) = *id {
            let same = self.with_slot(registration, |slot| {
                let waiters = slot.sides[direction as usize].waiters.iter();
                let mut same = waiters.filter(|waiter| waiter.id == known);
                same.next().map(|waiter| waiter.waker.will_wake(waker))
            });
            match same {
                Some(true) => return Ok(true),
                Some(false) => {}
                None => return Ok(false),
            }
        }
        // Cloned before the borrow, and what it replaces is dropped after it. The old
        // waker is not woken.
        let new = waker.clone();
        let mut old = None;
        let result = self.with_slot(registration, |slot| {
            let waiters = &mut slot.sides[direction as usize].waiters;
            if let Some(known) = *id {
                old = waiters.remove(known);
            } else {
                *id = Some(slot.next_waiter);
                // 0 stands for `poll_*` calls.
                slot.next_waiter = slot.next_waiter.checked_add(1).unwrap_or(1);
            }
            waiters.push(Waiter {
                id: id.expect("it was set above"),
                waker: new,
            });
            slot.note_waiting();
            self.ensure_armed(slot, direction).map(|()| true)
        });
        drop(old);
        result
    }

    /// Takes an entry back.
    pub(crate) fn leave_entry(&self, key: usize, direction: Direction, id: u32) {
        let waker = {
            let mut slots = self.slots.borrow_mut();
            slot(&mut slots, key).and_then(|slot| {
                let waker = slot.sides[direction as usize].waiters.remove(id);
                slot.note_waiting();
                waker
            })
        };
        drop(waker);
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
                Some(_) => slots.remove(key & ((1 << INDEX_BITS) - 1)),
                None => return,
            }
        };
        for side in slot.sides {
            side.waiters.wake(panics);
        }
    }
}

/// The slot with this key, if its owner is still the same.
fn slot(slots: &mut Slab<Slot>, key: usize) -> Option<&mut Slot> {
    let slot = slots.get_mut(key & ((1 << INDEX_BITS) - 1))?;
    (slot.key == key).then_some(slot)
}

impl Slot {
    fn note_waiting(&self) {
        let waiting = self.sides.iter().any(|side| !side.waiters.is_empty());
        self.registration.waiting.store(waiting, Ordering::Relaxed);
    }
}

impl Waiters {
    /// Takes out what `poll_*` calls have left.
    fn split_polled(&mut self) -> Waiters {
        let mut polled = Waiters::default();
        let rest = self.rest.take().map(|rest| rest.list);
        let all = self.first.take().into_iter();
        for waiter in all.chain(rest.into_iter().flatten()) {
            if waiter.id == 0 {
                polled.push(waiter);
            } else {
                self.push(waiter);
            }
        }
        polled
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

/// A registered I/O object: what sockets and `Async` are made of.
#[derive(Debug)]
pub(crate) struct Source<T> {
    // Dropped first: the slot goes before the registration that tells where it is.
    slot: SlotGuard,
    raw: RawSource<T>,
}

#[derive(Debug)]
struct SlotGuard(Arc<Registration>);

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let key = self.0.key.load(Ordering::Relaxed);
        if key == 0 {
            return;
        }
        match Reactor::get() {
            Some(here) if here.id() == self.0.reactor.load(Ordering::Relaxed) => {
                let mut panics = Panics::default();
                here.free(key, &mut panics);
                panics.resume();
            }
            _ => self.0.orphan(),
        }
    }
}

impl<T: AsRaw> Source<T> {
    /// A source of this thread's reactor, which is made now if need be. The fd is
    /// added to the poller when somebody first waits for it.
    pub(crate) fn new(io: T) -> io::Result<Source<T>> {
        let reactor = Reactor::get_or_new()?;
        let raw = RawSource::new(io);
        let registration = raw.registration().clone();
        registration.reactor.store(reactor.id(), Ordering::Relaxed);
        Ok(Source {
            slot: SlotGuard(registration),
            raw,
        })
    }

    /// Adds the fd to the poller now, so that one which cannot be polled is refused.
    pub(crate) fn add(&self) -> io::Result<()> {
        let reactor = Reactor::get_or_new()?;
        reactor.with_slot(&self.slot.0, |slot| {
            reactor.ensure_armed(slot, Direction::Read)
        })
    }
}

impl<T> Source<T> {
    pub(crate) fn get_ref(&self) -> &T {
        self.raw.get_ref()
    }

    pub(crate) fn registration(&self) -> &Arc<Registration> {
        &self.slot.0
    }

    pub(crate) fn into_inner(self) -> T {
        let Source { slot, raw } = self;
        drop(slot);
        raw.into_inner()
    }

    /// Makes sure that the source belongs to this thread: a look-up and a compare
    /// in the usual case. One that does not, and that nobody else uses, moves here;
    /// `exclusive` says that the caller has proven that by a `&mut`.
    pub(crate) fn claim(&self, unique: bool, exclusive: bool) -> io::Result<()> {
        if self.slot.0.reactor.load(Ordering::Relaxed) == ID.get() && ID.get() != 0 {
            return Ok(());
        }
        self.adopt(unique, exclusive)
    }

    #[cold]
    fn adopt(&self, unique: bool, exclusive: bool) -> io::Result<()> {
        let registration = &self.slot.0;
        if !unique || (!exclusive && registration.waiting.load(Ordering::Relaxed)) {
            return Err(elsewhere());
        }
        let here = Reactor::get_or_new()?;
        registration.leave()?;
        registration.key.store(0, Ordering::Relaxed);
        registration.waiting.store(false, Ordering::Relaxed);
        registration.spree.store(0, Ordering::Relaxed);
        registration.drained.store(false, Ordering::Relaxed);
        registration.reactor.store(here.id(), Ordering::Relaxed);
        Ok(())
    }

    /// Whether a read is worth a try: something may be there, and its turn is not over.
    pub(crate) fn may_read(&self, trusting: bool) -> bool {
        let registration = &self.slot.0;
        registration.spree.load(Ordering::Relaxed) < SPREE
            && !(trusting && registration.drained.load(Ordering::Relaxed))
    }

    /// Notes a read or accept that went through.
    pub(crate) fn note_read(&self) {
        let spree = &self.slot.0.spree;
        spree.store(
            spree.load(Ordering::Relaxed).saturating_add(1),
            Ordering::Relaxed,
        );
    }

    /// Notes that a stream gave less than there was room for.
    pub(crate) fn note_drained(&self) {
        self.slot.0.drained.store(true, Ordering::Relaxed);
    }
}
