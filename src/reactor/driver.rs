//! The reactor of a thread: waits in the poller, and wakes the tasks that wait for its sources.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use super::event::{Direction, SourceEvent};
#[cfg(soloist_liar)]
use super::liar::{Notifications, Wait};
use super::platform::ONE_SHOT;
#[cfg(not(soloist_liar))]
use super::real::Wait;
use super::registration::{PollerHandle, Registration};
use super::slots::{Slot, Waiter, index, slot, wake};
use crate::hooks::{self, attribute_wakes};
use crate::inbox::Notify;
use crate::panics::Panics;
use crate::schedule::Order;
use crate::slab::Slab;
use crate::sync::atomic::Ordering;
use crate::task_cell::WaiterId;

thread_local! {
    /// The id of this thread's reactor, 0 for none. Const and without a destructor.
    pub(super) static ID: Cell<u64> = const { Cell::new(0) };
    pub(super) static REACTOR: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Ends the wait of a reactor. It works on any thread.
#[derive(Debug)]
pub(crate) struct ReactorNotifier {
    poller: Arc<PollerHandle>,
    #[cfg(soloist_liar)]
    lies: Notifications,
    /// Whether a runtime of this thread is a guest in a host loop.
    guest: AtomicBool,
}

impl Notify for ReactorNotifier {
    fn notify(&self) -> io::Result<()> {
        // A guest runtime is parked while it does not run, also in the child of a fork. The
        // child must not wake the parent.
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
    pub(super) id: u64,
    notifier: Arc<ReactorNotifier>,
    /// `None` while it is in use.
    wait: Cell<Option<Wait>>,
    /// Whether the events of the last wait have not been delivered yet.
    has_events: Cell<bool>,
    pub(super) slots: RefCell<Slab<Slot>>,
    /// How many waits there have been.
    pub(super) wait_count: Cell<u32>,
    pub(super) next_generation: Cell<usize>,
    /// Of the next waiter that is not of a `poll_*` call.
    pub(super) next_entry_id: Cell<u32>,
    /// Whether a wait has consumed the wakeup of the host loop since
    /// [`Reactor::take_consumed_wakeup`].
    #[cfg(unix)]
    consumed_wakeup: Cell<bool>,
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

    /// The reactor of this thread. Makes one if there is none.
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
                "sockets cannot be used while the thread exits",
            ));
        }
        ID.set(reactor.id());
        Ok(reactor)
    }

    /// In the child of a fork: forgets the parent's reactor, and wakes the tasks that wait in it.
    /// When they are polled, they get an error: their sockets cannot be waited for in the child.
    /// Called when a runtime starts to run, and before it waits.
    #[inline]
    pub(crate) fn check_fork() {
        if Reactor::is_made() {
            Reactor::forget_parents();
        }
    }

    fn forget_parents() {
        if let Some(parents) = Reactor::get().filter(|reactor| !reactor.poller().is_ours()) {
            parents.forget();
        }
    }

    #[cold]
    fn forget(&self) {
        let _ = REACTOR.try_with(|slot| slot.borrow_mut().take());
        ID.set(0);
        let slots = self.slots.take();
        let mut panics = Panics::default();
        for slot in slots.into_values() {
            for direction in slot.directions {
                direction.wake_all(&mut panics);
            }
        }
        panics.resume();
    }

    /// Whether this thread has a reactor.
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
            slots: RefCell::new(Slab::default()),
            wait_count: Cell::new(1),
            next_generation: Cell::new(1),
            next_entry_id: Cell::new(1),
            #[cfg(unix)]
            consumed_wakeup: Cell::new(false),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn notifier(&self) -> &Arc<ReactorNotifier> {
        &self.notifier
    }

    pub(super) fn poller(&self) -> &Arc<PollerHandle> {
        &self.notifier.poller
    }

    /// Whether a visit can find anything. In guest mode a visit must also consume the wakeup that
    /// made the host loop call.
    pub(crate) fn is_worth_a_visit(&self) -> bool {
        self.has_guest() || !self.slots.borrow().is_empty()
    }

    /// Whether a task waits for a source.
    pub(crate) fn is_awaited(&self) -> bool {
        let slots = self.slots.borrow();
        let slots = slots.iter();
        let slots = slots.filter(|slot| !slot.is_background());
        let mut directions = slots.flat_map(|slot| &slot.directions);
        directions.any(|direction| !direction.is_empty())
    }

    pub(crate) fn has_guest(&self) -> bool {
        self.notifier.guest.load(Ordering::Relaxed)
    }

    /// Waits until there is an event or a notification, or until `timeout` has passed. It may
    /// return a little early, so the caller checks the clock. [`Reactor::deliver`] handles the
    /// events.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut panics = Panics::default();
        self.free_orphans(&mut panics);
        panics.resume();
        if self.has_events.get() {
            // User code has panicked after the last wait, so its events were not delivered.
            return Ok(());
        }
        let Some(mut wait) = self.wait.take() else {
            return Err(io::Error::other(
                "the reactor is already waiting for events",
            ));
        };
        self.wait_count.set(self.wait_count.get().wrapping_add(1));
        let result = wait.wait(self.poller(), timeout);
        #[cfg(unix)]
        if wait.consumed_wakeup() {
            self.consumed_wakeup.set(true);
        }
        self.has_events.set(result.is_ok());
        self.wait.set(Some(wait));
        result
    }

    /// Wakes the tasks that wait for the events of the last wait. Returns how many events there
    /// were.
    pub(crate) fn deliver(&self, order: Option<&dyn Order>) -> usize {
        if !self.has_events.take() {
            return 0;
        }
        let Some(wait) = self.wait.take() else {
            return 0;
        };
        let mut panics = Panics::default();
        let mut reported = 0;
        let mut others = Vec::new();
        attribute_wakes(hooks::WakeSource::Reactor, || {
            if let Some(order) = order.filter(|order| order.is_shuffled()) {
                let mut events: Vec<SourceEvent> = wait.events().collect();
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
        self.wait.set(Some(wait));
        panics.resume();
        reported
    }

    #[inline(always)]
    fn deliver_event(&self, event: SourceEvent, others: &mut Vec<Waiter>, panics: &mut Panics) {
        let (mut reader, mut writer) = (None, None);
        {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slot(&mut slots, event.key) else {
                return;
            };
            let registration = &*slot.registration;
            // If the source has moved to another thread, its readiness belongs to the reactor of
            // that thread. A move right after this check is harmless: it costs one operation that
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
                // The event has ended the interest in both directions.
                read.armed = false;
                write.armed = false;
                for direction in Direction::BOTH {
                    if !slot.directions[direction as usize].is_empty() {
                        // It fails only if other code has closed the fd. Then there are no
                        // more events.
                        let _ = slot.arm(self.poller(), direction);
                    }
                }
            }
            if is_ours {
                slot.update_waiting();
            }
        }
        // Before the next event, so that tasks are woken in the order of the events.
        if let Some(reader) = reader {
            panics.catch(|| reader.wake());
        }
        wake(writer, others, panics);
    }

    /// Calls `f` for each task that waits, with what it waits for.
    pub(crate) fn for_each_wait(&self, f: &mut dyn FnMut(WaiterId, Direction, &Registration)) {
        let slots = self.slots.borrow();
        let slots = slots.iter();
        for slot in slots.filter(|slot| !slot.is_background()) {
            for direction in Direction::BOTH {
                let state = &slot.directions[direction as usize];
                state.for_each(&mut |waiter| f(waiter, direction, &slot.registration));
            }
        }
    }

    /// Frees the slots that other threads have left.
    pub(super) fn free_orphans(&self, panics: &mut Panics) {
        for key in self.poller().take_orphans() {
            self.free(key, panics);
        }
    }

    /// Frees a slot, and wakes the tasks that still wait for the source. The caller may not borrow
    /// anything.
    pub(super) fn free(&self, key: usize, panics: &mut Panics) {
        let slot = {
            let mut slots = self.slots.borrow_mut();
            match slot(&mut slots, key) {
                Some(_) => slots.remove(index(key)),
                None => None,
            }
        };
        let Some(slot) = slot else { return };
        for direction in slot.directions {
            direction.wake_all(panics);
        }
    }
}

/// Guest mode.
#[cfg(unix)]
impl Reactor {
    /// The poller's own fd.
    pub(crate) fn poll_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self.poller().poller())
    }

    /// False in the child of a fork.
    pub(crate) fn is_ours(&self) -> bool {
        self.poller().is_ours()
    }

    pub(crate) fn set_guest(&self, guest: bool) {
        self.notifier.guest.store(guest, Ordering::Relaxed);
    }

    /// Whether a wait since the last call may have consumed the wakeup of the host loop: the
    /// notification or the timer that makes the poller's own fd readable.
    pub(crate) fn take_consumed_wakeup(&self) -> bool {
        self.consumed_wakeup.take()
    }

    /// Makes the poller's own fd readable, which wakes the host loop.
    pub(crate) fn notify_host(&self) {
        if let Err(error) = self.notifier.notify() {
            panic!("soloist: the foreign event loop could not be notified: {error}");
        }
    }

    /// Makes the poller's own fd readable after a time, on systems where that is possible.
    pub(crate) fn arm_timer(&self, after: Option<Duration>) {
        if let Some(wait) = self.wait.take() {
            // If it fails, the host loop is late: it turns at the next deadline that it knows.
            let _ = wait.arm_timer(after);
            self.wait.set(Some(wait));
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        if ID.get() == self.id() {
            ID.set(0);
        }
    }
}

/// The number of slots of this thread's reactor.
#[cfg(soloist_liar)]
pub fn slots() -> usize {
    Reactor::get().map_or(0, |reactor| reactor.slots.borrow().len())
}
