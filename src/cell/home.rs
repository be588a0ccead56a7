//! A runtime, as its tasks see it, and the proof of being on its thread.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use slab::Slab;

use super::{
    About, Header, LocalRef, Main, MainCell, Name, NotSend, Raw, RemoteRef, Stage, State, TaskCell,
    TaskRef, send,
};
use crate::counts::Counts;
use crate::panics::{Panics, Payload, discard};
use crate::park::Notifier;
use crate::ready::{Inbox, ReadyQueue};
use crate::record;
use crate::schedule::Order;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread_local;
use crate::watch::Watch;

thread_local! {
    /// The id of the runtime that is entered on this thread, 0 for none. Const
    /// and without a destructor: wakers work inside TLS destructors.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// [ID]
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What other threads send to a runtime.
pub(crate) enum Message {
    /// A task (or main) is to be polled.
    Wake(RemoteRef),
    /// To be called on the runtime's thread, inside the runtime. Where it is about
    /// something of the user's, it spawns that.
    Call(Box<dyn FnOnce() + Send>),
    /// `run` is to return.
    Stop,
}

/// A runtime, as its tasks and handles see it.
#[derive(Clone, Copy)]
pub(crate) struct Home {
    shared: &'static Shared,
    id: u64,
}

/// What the parts of a runtime share. When the runtime is gone it goes to `SPARE`, for
/// the next one: so a `Home` needs no count.
pub(super) struct Shared {
    /// Open to one id at a time.
    inbox: Inbox<Message, Notifier>,
    /// [LOCAL]
    local: Local,
}

/// What gone runtimes have left: empty, and closed.
static SPARE: std::sync::Mutex<Vec<&'static Shared>> = std::sync::Mutex::new(Vec::new());

/// The half of a runtime that only its own thread touches.
pub(super) struct Local {
    pub(super) ready: ReadyQueue<Entry>,
    pub(super) tasks: RefCell<Slab<Place>>,
    spawned: Cell<u64>,
    /// The number of the `block_on` that is under way. An entry of an earlier one is
    /// stale.
    pub(super) main: Cell<u64>,
    /// The cell of the `block_on` that is under way, or of the last one. The next one uses
    /// it again, if it can.
    pub(super) main_cell: RefCell<Option<LocalRef<MainCell>>>,
    /// Set when the runtime starts to go: what is spawned then is dropped at once.
    closing: Cell<bool>,
    pub(super) counts: Counts,
    /// The slot of a task that somebody outside could wake when last looked.
    pub(super) witness: Cell<usize>,
    /// Cells whose future is being polled or dropped right now.
    pub(super) busy: Cell<usize>,
}

/// A task's place in the registry.
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) task: LocalRef<dyn Raw>,
}

/// An entry of the ready queue: nothing but numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(super) slot: u32,
    pub(super) number: u64,
}

impl Entry {
    /// The place in the registry. Main has none.
    pub(crate) fn place(self) -> Option<u32> {
        (self.slot != NO_SLOT).then_some(self.slot)
    }

    pub(crate) fn number(self) -> u64 {
        self.number
    }
}

/// The slot of what is not in the registry: main, and what was never put there.
pub(super) const NO_SLOT: u32 = u32::MAX;
/// The slot of nobody at all.
pub(super) const NOBODY: u32 = u32::MAX - 1;

impl Home {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Leaves word for the runtime's thread. One that is gone gives it back.
    pub(crate) fn push(&self, message: Message) -> Result<(), Message> {
        self.shared.inbox.push(self.id, message)
    }

    /// Whether this is the runtime that is entered on this thread.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        CURRENT.with(Cell::get) == self.id
    }

    /// Wakes the task (or main) at this place, if it has a number with this low half. On
    /// the owner's thread only.
    #[inline]
    pub(super) fn wake_at(&self, slot: u32, number: u32) {
        let local = self.local();
        if slot == NO_SLOT {
            let main = local.main_cell.borrow().clone();
            wake(main.filter(|main| main.header().number as u32 == number));
        } else {
            let tasks = local.tasks.borrow();
            let place = tasks.get(slot as usize);
            let place = place.filter(|place| place.number as u32 == number);
            let task = place.map(|place| place.task.clone());
            drop(tasks);
            wake(task);
        }
    }

    /// On the owner's thread only, by [LOCAL].
    #[inline]
    pub(super) fn local(&self) -> &'static Local {
        &self.shared.local
    }
}

#[inline]
fn wake<C: ?Sized>(cell: Option<LocalRef<C>>) {
    if let Some(cell) = cell {
        // It may be that its runtime is not entered.
        if cell.header().wake() {
            send(cell.remote());
        }
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("id", &self.id).finish()
    }
}

/// The proof of being on the runtime's thread: one per runtime, `!Send`, not
/// `Clone`.
pub(crate) struct Owner {
    pub(super) home: Home,
    /// If it is asked to measure.
    watch: Option<Rc<Watch>>,
    _not_send: NotSend,
}

impl Owner {
    pub(crate) fn new(notifier: Notifier, watch: Option<Rc<Watch>>) -> Owner {
        let id = NEXT_ID.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let spare = spare().pop();
        let shared = spare.unwrap_or_else(|| {
            Box::leak(Box::new(Shared {
                inbox: Inbox::new(),
                local: Local {
                    ready: ReadyQueue::new(),
                    tasks: RefCell::new(Slab::new()),
                    spawned: Cell::new(0),
                    main: Cell::new(0),
                    main_cell: RefCell::new(None),
                    closing: Cell::new(false),
                    counts: Counts::default(),
                    witness: Cell::new(0),
                    busy: Cell::new(0),
                },
            }))
        });
        shared.local.spawned.set(0);
        shared.local.counts.reset();
        shared.local.closing.set(false);
        shared.inbox.open(id, notifier);
        Owner {
            home: Home { shared, id },
            watch,
            _not_send: PhantomData,
        }
    }

    pub(crate) fn home(&self) -> Home {
        self.home
    }

    pub(crate) fn inbox(&self) -> &Inbox<Message, Notifier> {
        &self.home.shared.inbox
    }

    /// Whether a runtime is entered on this thread.
    pub(crate) fn is_any_entered() -> bool {
        CURRENT.with(Cell::get) != 0
    }

    /// Runs `f` with this runtime as the one that is entered on this thread. A
    /// closure, not a guard: what is entered last is left first, also by a panic.
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave(u64);
        impl Drop for Leave {
            fn drop(&mut self) {
                record::left(CURRENT.with(|current| current.replace(self.0)));
            }
        }
        let outer = CURRENT.with(|current| current.replace(self.home.id));
        let _leave = Leave(outer);
        f()
    }

    #[inline]
    pub(crate) fn ready(&self) -> &ReadyQueue<Entry> {
        &self.home.local().ready
    }

    #[inline]
    pub(crate) fn counts(&self) -> &Counts {
        &self.home.local().counts
    }

    #[inline]
    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_deref()
    }

    /// Who the task is, unless it is over, or main.
    pub(crate) fn about(&self, entry: Entry) -> Option<About> {
        let tasks = self.home.local().tasks.borrow();
        let place = tasks.get(entry.place()? as usize);
        let place = place.filter(|place| place.number == entry.number)?;
        Some(place.task.header().about())
    }

    /// How many tasks were spawned.
    pub(crate) fn spawned(&self) -> u64 {
        self.home.local().spawned.get()
    }

    /// Shuffles the next `count` entries, if they are to be, and writes down their order.
    #[cold]
    pub(crate) fn arrange(&self, count: usize, order: &Order) {
        self.ready().arrange(count, |entries| {
            order.shuffle(entries);
            for entry in entries {
                // 0 for main, whose number is another one on each run.
                let is_main = entry.slot == NO_SLOT;
                order.note(if is_main { 0 } else { entry.number });
            }
        });
    }

    /// How many tasks have a future in place.
    pub(crate) fn live(&self) -> usize {
        self.home.local().tasks.borrow().len()
    }

    /// Puts `future` into a cell of its own and queues it: never polled here.
    pub(crate) fn spawn<F>(
        &self,
        future: F,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> TaskRef<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let local = self.home.local();
        let number = local.spawned.get() + 1;
        local.spawned.set(number);
        let closing = local.closing.get();
        let slot = if closing {
            NO_SLOT
        } else {
            let slot = u32::try_from(local.tasks.borrow().vacant_key());
            slot.ok()
                .filter(|slot| *slot < NOBODY)
                .expect("fewer than 4,294,967,294 tasks")
        };
        let cell = LocalRef::new(|| TaskCell {
            header: Header::new::<TaskCell<F>>(self.home, slot, number, name, spawned_at),
            stage: UnsafeCell::new(Stage {
                future: ManuallyDrop::new(future),
            }),
        });
        let (task, handle) = cell.halves();
        if closing {
            discard(task.cancel_now());
        } else {
            local.tasks.borrow_mut().insert(Place { number, task });
            local.ready.push_new(Entry { slot, number });
            record::spawned(|| handle.header().subject());
            if let Some(watch) = &self.watch {
                watch.born(Some(slot), number);
            }
        }
        TaskRef::new(handle)
    }

    /// A cell without a future, for the future that a `block_on` keeps on its
    /// stack: its wakes go the way of all wakes. It is queued at once.
    pub(crate) fn main(&self, called_at: &'static Location<'static>) -> Main<'_> {
        let local = self.home.local();
        let number = local.main.get() + 1;
        local.main.set(number);
        let mut last = local.main_cell.borrow_mut();
        match last.as_mut().and_then(LocalRef::get_mut) {
            Some(cell) => {
                cell.header.number = number;
                cell.header.spawned_at = called_at;
                cell.header.state.set(State::Idle);
                cell.header.polls.set(0);
                cell.header.sent = AtomicBool::new(false);
            }
            None => {
                let header = Header::new::<MainCell>(self.home, NO_SLOT, number, None, called_at);
                // An old one has neither name nor joiner: to drop it is no user code.
                *last = Some(LocalRef::new(|| MainCell { header }));
            }
        }
        let cell = last.clone().expect("it is there now");
        local.ready.push(cell.header.entry());
        if let Some(watch) = &self.watch {
            watch.born(None, number);
        }
        Main { owner: self, cell }
    }

    /// Polls the task, unless it is over.
    #[inline]
    pub(crate) fn run(&self, entry: Entry) -> Ran {
        let local = self.home.local();
        if entry.slot == NO_SLOT {
            let current = entry.number == local.main.get();
            return if current { Ran::Main } else { Ran::Stale };
        }
        let tasks = local.tasks.borrow();
        let place = tasks.get(entry.slot as usize);
        let place = place.filter(|place| place.number == entry.number);
        let Some(task) = place.map(|place| place.task.clone()) else {
            return Ran::Stale;
        };
        drop(tasks);
        let ran = task.run(&task.waker());
        record::poll_ends(task.header().is_over());
        ran
    }

    /// Queues a task that was woken from elsewhere.
    pub(crate) fn admit(&self, task: RemoteRef) {
        let header = task.cell.header();
        // The cell's local half is touched only on its own runtime's thread [THREAD].
        assert!(header.home.id == self.home.id, "a task of another runtime");
        let counts = &self.home.local().counts;
        if header.is_over() {
            counts.wakes_redundant.add(1);
            return;
        }
        // After the entry was taken out of the inbox, before the poll.
        header.sent.swap(false, Ordering::AcqRel);
        if header.queue() {
            counts.wakes_remote.add(1);
        } else {
            counts.wakes_redundant.add(1);
        }
    }

    /// Drops every future in place. Each panic is caught, so that all are dropped
    /// here, on their own thread, and not by whoever holds the last waker.
    pub(crate) fn close(&self, panics: &mut Panics) {
        let local = self.home.local();
        local.closing.set(true);
        // Out of the lock before it is dropped: it may hold things of the user's.
        for message in self.inbox().close() {
            panics.catch(|| drop(message));
        }
        let tasks = std::mem::take(&mut *local.tasks.borrow_mut());
        for (_, Place { task, .. }) in tasks {
            let mut payload = None;
            // It wakes who awaits the task: that waker may panic, too.
            panics.catch(|| payload = task.cancel_now());
            if let Some(payload) = payload {
                panics.keep(payload);
            }
            // Its join waker goes with it, if this is the last reference.
            panics.catch(|| drop(task));
        }
        local.ready.clear();
        let main = local.main_cell.take();
        drop(main);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        // For a runtime that was not closed; else there is nothing left to do.
        self.close(&mut panics);
        // What loom has made is of use in one run of a model only.
        if self.home.local().busy.get() == 0 && !cfg!(soloist_loom) {
            spare().push(self.home.shared);
        }
        panics.resume();
    }
}

fn spare() -> std::sync::MutexGuard<'static, Vec<&'static Shared>> {
    SPARE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.home.fmt(f)
    }
}

/// What came of running an entry of the ready queue.
pub(crate) enum Ran {
    /// A task was polled, or dropped.
    Task,
    /// Nothing: the task was over already.
    Stale,
    /// It is the main cell of the `block_on` that is under way (an earlier one's is
    /// stale): its future is to be polled.
    Main,
    /// A task panicked that nobody can await.
    Orphan(Box<(Payload, About)>),
}
