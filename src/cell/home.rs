//! A runtime, as its tasks see it, and the proof of being on its thread.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use super::registry::Registry;
use super::{
    About, Header, LocalRef, Main, MainCell, Name, NotSend, Remote, RemoteRef, Stage, State,
    TaskCell, TaskRef, send,
};
use crate::counts::Counts;
use crate::panics::{Panics, Payload, discard};
use crate::ready::{Inbox, Notifier, ReadyQueue};
use crate::record;
use crate::schedule::Order;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread_local;
use crate::watch::Watch;

thread_local! {
    /// The runtime that is entered on this thread. Const and without a destructor: wakers
    /// work inside TLS destructors.
    static CURRENT: Cell<Current> = const { Cell::new(Current::NOBODY) };
}

/// What is entered. Not an `Option<Home>`: that would be written in other pieces than it is
/// read in, for which the processor waits.
#[derive(Clone, Copy)]
struct Current {
    shared: Option<&'static Shared>,
    /// 0 for none.
    id: u64,
}

impl Current {
    const NOBODY: Current = Current {
        shared: None,
        id: 0,
    };
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

/// What the parts of a runtime share. When the runtime is gone it is kept for the next one, by
/// the thread or in `SPARE`: so a `Home` needs no count.
pub(super) struct Shared {
    /// Open to one id at a time.
    inbox: Inbox<Message, Notifier>,
    /// [LOCAL]
    local: Local,
}

/// What gone runtimes have left: closed, and empty, but for a main cell that nobody else has.
static SPARE: std::sync::Mutex<Vec<&'static Shared>> = std::sync::Mutex::new(Vec::new());

std::thread_local! {
    static RESERVE: Reserve = const { Reserve::new() };
}

/// What a thread has for its next runtime, so that one after the other need no lock.
struct Reserve {
    /// What the last one has left. When the thread ends, this goes to `SPARE`.
    shared: Cell<Option<&'static Shared>>,
    next_id: Cell<u64>,
    /// How many there are from there on that nobody else has.
    ids: Cell<u64>,
}

/// Ids that a thread takes at once.
const IDS: u64 = 256;

impl Reserve {
    const fn new() -> Reserve {
        Reserve {
            shared: Cell::new(None),
            next_id: Cell::new(0),
            ids: Cell::new(0),
        }
    }

    #[inline]
    fn id(&self) -> u64 {
        if self.ids.get() == 0 {
            self.next_id.set(new_ids(IDS));
            self.ids.set(IDS);
        }
        self.ids.set(self.ids.get() - 1);
        self.next_id.replace(self.next_id.get() + 1)
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        spare().extend(self.shared.take());
    }
}

/// Returns the first of so many.
fn new_ids(count: u64) -> u64 {
    NEXT_ID.fetch_add(count, std::sync::atomic::Ordering::Relaxed)
}

/// The half of a runtime that only its own thread touches.
pub(super) struct Local {
    pub(super) ready: ReadyQueue<Entry>,
    pub(super) tasks: RefCell<Registry>,
    spawned: Cell<u64>,
    /// The number of the `block_on` that is under way. An entry of an earlier one is
    /// stale.
    pub(super) main: Cell<u64>,
    /// The cell of the `block_on` that is under way, or of the last one. The next one uses
    /// it again, if it can, also that of the next runtime.
    pub(super) main_cell: RefCell<Option<LocalRef<MainCell>>>,
    /// Set when the runtime starts to go: what is spawned then is dropped at once.
    closing: Cell<bool>,
    pub(super) counts: Counts,
    /// The slot of a task that somebody outside could wake when last looked.
    pub(super) witness: Cell<usize>,
    /// Cells whose future is being dropped right now.
    pub(super) busy: Cell<usize>,
    /// If it is asked to measure.
    watch: RefCell<Option<Rc<Watch>>>,
}

impl Shared {
    #[cold]
    fn spare_or_new() -> &'static Shared {
        let spare = spare().pop();
        spare.unwrap_or_else(Shared::leaked)
    }

    fn leaked() -> &'static Shared {
        Box::leak(Box::new(Shared {
            inbox: Inbox::new(),
            local: Local {
                ready: ReadyQueue::new(),
                tasks: RefCell::new(Registry::new()),
                spawned: Cell::new(0),
                main: Cell::new(0),
                main_cell: RefCell::new(None),
                closing: Cell::new(false),
                counts: Counts::default(),
                witness: Cell::new(0),
                busy: Cell::new(0),
                watch: RefCell::new(None),
            },
        }))
    }
}

/// An entry of the ready queue: nothing but numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(super) slot: u32,
    /// The low half of the task's number. Should an entry ever hit the task that came 2^32
    /// tasks later, that one is polled once for nothing.
    pub(super) number: u32,
}

impl Entry {
    /// The place in the registry. Main has none.
    pub(crate) fn place(self) -> Option<u32> {
        (self.slot != NO_SLOT).then_some(self.slot)
    }

    /// The low half.
    pub(crate) fn number(self) -> u32 {
        self.number
    }
}

/// Room for so many tasks stays for the next runtime.
const KEPT: usize = 64;

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
        CURRENT.with(Cell::get).id == self.id
    }

    /// Wakes the task (or main) at this place, if it has a number with this low half. On
    /// the owner's thread only.
    #[inline]
    pub(super) fn wake_at(&self, slot: u32, number: u32) {
        let local = self.local();
        // It may be that its runtime is not entered: then word is left after the borrow.
        let remote = if slot == NO_SLOT {
            let main = local.main_cell.borrow();
            let main = main.as_ref();
            wake(main.filter(|main| main.header().number as u32 == number))
        } else {
            wake(local.tasks.borrow().get(slot, number))
        };
        if let Some(remote) = remote {
            send(remote);
        }
    }

    /// As [`Owner::spawn`]. On the owner's thread only.
    fn spawn<F>(
        &self,
        future: F,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> TaskRef<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let local = self.local();
        let number = local.spawned.get() + 1;
        local.spawned.set(number);
        let new = |slot| {
            let cell = LocalRef::new(|| TaskCell {
                header: Header::new::<TaskCell<F>>(*self, slot, number, name, spawned_at),
                stage: UnsafeCell::new(Stage {
                    future: ManuallyDrop::new(future),
                }),
            });
            cell.halves()
        };
        if local.closing.get() {
            let (task, handle) = new(NO_SLOT);
            discard(task.cancel_now());
            return TaskRef::new(handle);
        }
        let (slot, handle) = local.tasks.borrow_mut().insert(new);
        local.ready.push_new(Entry {
            slot,
            number: number as u32,
        });
        record::spawned(|| handle.header().subject());
        if let Some(watch) = &*local.watch.borrow() {
            watch.born(Some(slot), number);
        }
        TaskRef::new(handle)
    }

    /// On the owner's thread only, by [LOCAL].
    #[inline]
    pub(super) fn local(&self) -> &'static Local {
        &self.shared.local
    }
}

/// Returns what is to be left in the inbox, if anything is.
#[inline]
fn wake<C: ?Sized>(cell: Option<&LocalRef<C>>) -> Option<Remote> {
    let cell = cell?;
    cell.header().wake().then(|| cell.remote())
}

/// Spawns into the runtime that is entered on this thread, if one is.
#[inline]
pub(crate) fn spawn_here<F>(
    future: F,
    name: Name,
    spawned_at: &'static Location<'static>,
) -> Option<TaskRef<F::Output>>
where
    F: Future + 'static,
    F::Output: 'static,
{
    // Entered is entered on its own thread [THREAD].
    let Current { shared, id } = CURRENT.with(Cell::get);
    let home = Home {
        shared: shared?,
        id,
    };
    Some(home.spawn(future, name, spawned_at))
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
    /// The same as in `Local`, without a look at a borrow.
    watch: Option<Rc<Watch>>,
    _not_send: NotSend,
}

impl Owner {
    pub(crate) fn new(watch: Option<Rc<Watch>>) -> Owner {
        // A thread that is ending has no reserve any more.
        let reserve = RESERVE.try_with(|reserve| (reserve.id(), reserve.shared.take()));
        let (id, shared) = reserve.unwrap_or_else(|_| (new_ids(1), None));
        let shared = shared.unwrap_or_else(Shared::spare_or_new);
        shared.local.spawned.set(0);
        shared.local.counts.reset();
        shared.local.closing.set(false);
        if watch.is_some() {
            shared.local.watch.replace(watch.clone());
        }
        shared.inbox.open(id);
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
        CURRENT.with(Cell::get).id != 0
    }

    /// Runs `f` with this runtime as the one that is entered on this thread. A
    /// closure, not a guard: what is entered last is left first, also by a panic. Always
    /// inline, as its callers are: to hand the closure on costs more than what is done here.
    #[inline(always)]
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave(Current);
        impl Drop for Leave {
            #[inline]
            fn drop(&mut self) {
                record::left(CURRENT.with(|current| current.replace(self.0)).id);
            }
        }
        let inner = Current {
            shared: Some(self.home.shared),
            id: self.home.id,
        };
        let outer = CURRENT.with(|current| current.replace(inner));
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
        let task = tasks.get(entry.place()?, entry.number)?;
        Some(task.header().about())
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
                order.note(if is_main { 0 } else { entry.number.into() });
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
        self.home.spawn(future, name, spawned_at)
    }

    /// A cell without a future, for the future that a `block_on` keeps on its
    /// stack: its wakes go the way of all wakes. It counts as queued from the start.
    #[inline]
    pub(crate) fn main(&self, called_at: &'static Location<'static>) -> Main<'_> {
        let local = self.home.local();
        let number = local.main.get() + 1;
        local.main.set(number);
        let mut last = local.main_cell.borrow_mut();
        match last.as_mut().and_then(LocalRef::get_mut) {
            Some(cell) => {
                cell.header.home = self.home;
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
            let current = entry.number == local.main.get() as u32;
            return if current { Ran::Main } else { Ran::Stale };
        }
        let Some(task) = local.tasks.borrow().get(entry.slot, entry.number).cloned() else {
            return Ran::Stale;
        };
        let ran = task.run();
        record::poll_ends(task.header().is_over());
        ran
    }

    /// Queues a task that was woken from elsewhere. Returns which one that was, if it waited
    /// for nothing of ours, or for a timer: then somebody else woke it.
    pub(crate) fn admit(&self, task: RemoteRef) -> Option<Entry> {
        let header = task.cell.header();
        // The cell's local half is touched only on its own runtime's thread [THREAD].
        assert!(header.home.id == self.home.id, "a task of another runtime");
        let counts = &self.home.local().counts;
        if header.is_over() {
            counts.wakes_redundant.add(1);
            return None;
        }
        // After the entry was taken out of the inbox, before the poll.
        header.sent.swap(false, Ordering::AcqRel);
        if header.queue() {
            counts.wakes_remote.add(1);
        } else {
            counts.wakes_redundant.add(1);
        }
        let waits = header.waits.get();
        waits.are_for_others().then(|| header.entry())
    }

    /// From now on what is sent is refused, and what is spawned is dropped at once.
    /// Returns what was sent before.
    pub(crate) fn shut(&self) -> Vec<Message> {
        self.home.local().closing.set(true);
        self.inbox().close()
    }

    /// Drops every future in place, and the messages. Each panic is caught, so that all are
    /// dropped here, on their own thread, and not by whoever holds the last waker.
    pub(crate) fn close(&self, messages: Vec<Message>, panics: &mut Panics) {
        let local = self.home.local();
        for message in messages {
            panics.catch(|| drop(message));
        }
        let tasks = local.tasks.borrow_mut().take();
        for task in tasks {
            let mut payload = None;
            // It wakes who awaits the task: that waker may panic, too.
            panics.catch(|| payload = task.cancel_now());
            if let Some(payload) = payload {
                panics.keep(payload);
            }
            // Its join waker goes with it, if this is the last reference.
            panics.catch(|| drop(task));
        }
        self.close_empty();
    }

    /// As `close`, where there is no task and no message.
    pub(crate) fn close_empty(&self) {
        let local = self.home.local();
        let mut tasks = local.tasks.borrow_mut();
        tasks.clear();
        if tasks.capacity() > KEPT {
            *tasks = Registry::new();
        }
        local.ready.clear(KEPT);
        let mut main = local.main_cell.borrow_mut();
        let is_reusable = main.as_mut().is_some_and(|main| main.get_mut().is_some());
        if !is_reusable || cfg!(soloist_loom) {
            // It has neither name nor joiner: to drop it is no user code.
            *main = None;
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        let local = self.home.local();
        if !local.closing.get() {
            self.close(self.shut(), &mut panics);
        }
        if self.watch.is_some() {
            local.watch.take();
        }
        // What loom has made is of use in one run of a model only.
        if local.busy.get() == 0 && !cfg!(soloist_loom) {
            let mut shared = Some(self.home.shared);
            let _ = RESERVE.try_with(|reserve| shared = reserve.shared.replace(shared));
            if let Some(shared) = shared {
                spare().push(shared);
            }
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
