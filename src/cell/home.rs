//! A runtime, as its tasks see it, and the proof of being on its thread.

#![expect(
    unsafe_code,
    reason = "room 1: who may touch the local half of a runtime"
)]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::rc::{Rc, Weak};

use super::registry::Registry;
use super::reserve::{RESERVE, new_ids, spare};
use super::{
    About, Header, LocalRef, Main, MainCell, Name, NotSend, Remote, RemoteRef, Stage, State,
    TaskCell, TaskRef, send,
};
use crate::counts::Counts;
use crate::hooks;
use crate::panics::{Panics, Payload};
use crate::ready::{Inbox, Notifier, ReadyQueue};
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
    pub(super) phase: Cell<Phase>,
    pub(super) counts: Counts,
    /// The slot of a task that somebody outside could wake when last looked.
    pub(super) witness: Cell<usize>,
    /// How many cells are being cancelled right now. [LOCAL]
    pub(super) cancelling: Cell<usize>,
    /// If it is asked to measure.
    watch: RefCell<Option<Rc<Watch>>>,
    /// What is to be entered for what is called from outside.
    pub(super) context: RefCell<Weak<dyn Enter>>,
}

/// All of a runtime that makes up its inside.
pub(crate) trait Enter {
    /// Runs `f` inside of the runtime. Called from outside of it, on its own thread.
    fn enter_for(self: Rc<Self>, f: &mut dyn FnMut());
}

/// The context of no runtime.
struct Nothing;

impl Enter for Nothing {
    fn enter_for(self: Rc<Self>, f: &mut dyn FnMut()) {
        f();
    }
}

/// How far the end of a runtime has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// What is spawned is dropped at once.
    Closing,
    /// No task is left in the registry, and none will come.
    Closed,
    /// The `Owner` is gone. The last of the cells that are being cancelled gives the `Shared`
    /// back.
    Ownerless,
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
                phase: Cell::new(Phase::Closed),
                counts: Counts::default(),
                witness: Cell::new(0),
                cancelling: Cell::new(0),
                watch: RefCell::new(None),
                context: RefCell::new(Weak::<Nothing>::new()),
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

    /// Sends a message to the runtime's thread. If the runtime is gone, it is returned.
    pub(crate) fn push(&self, message: Message) -> Result<(), Message> {
        self.shared.inbox.push(self.id, message)
    }

    /// Whether this is the runtime that is entered on this thread.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        CURRENT.with(Cell::get).id == self.id
    }

    /// The half that only the runtime's own thread touches.
    ///
    /// # Safety
    ///
    /// This is the owner's thread [THREAD], and the `Shared` has not been given back: the
    /// `Owner` lives, or this runtime is entered, or one of its cells is being cancelled
    /// [LOCAL]. The reference is not used for longer than that.
    #[inline]
    pub(super) unsafe fn local(&self) -> &'static Local {
        &self.shared.local
    }

    /// Keeps the `Shared` for the next runtime.
    ///
    /// # Safety
    ///
    /// As of `local`; the `Owner` is gone or going, it has been closed, this runtime is not
    /// entered, and no cell is being cancelled. So nobody touches the local half after this.
    #[inline]
    pub(super) unsafe fn give_back(&self) {
        // What loom has made is of use in one run of a model only.
        if cfg!(soloist_loom) {
            return;
        }
        self.shared.local.empty();
        let mut shared = Some(self.shared);
        let _ = RESERVE.try_with(|reserve| shared = reserve.shared.replace(shared));
        if let Some(shared) = shared {
            spare().push(shared);
        }
    }
}

/// A reference to one, which is `!Send`, proves to be on the runtime's thread.
impl Local {
    /// Wakes the task (or main) at this place, if it has a number with this low half.
    #[inline]
    pub(super) fn wake_at(&self, slot: u32, number: u32) {
        // If its runtime is not entered, the message is sent after the borrow.
        let remote = if slot == NO_SLOT {
            let main = self.main_cell.borrow();
            let main = main.as_ref();
            wake(main.filter(|main| main.header().number as u32 == number))
        } else {
            wake(self.tasks.borrow().get(slot, number))
        };
        if let Some(remote) = remote {
            send(remote);
        }
    }

    /// As [`Owner::spawn`].
    fn spawn<F>(
        &self,
        home: Home,
        future: F,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> TaskRef<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let number = self.spawned.get() + 1;
        self.spawned.set(number);
        let new = |slot| {
            let cell = LocalRef::new(|| TaskCell {
                header: Header::new::<TaskCell<F>>(home, slot, number, name, spawned_at),
                stage: UnsafeCell::new(Stage {
                    future: ManuallyDrop::new(future),
                }),
            });
            cell.halves()
        };
        if self.phase.get() != Phase::Open {
            let (task, handle) = new(NO_SLOT);
            // There is a handle, which keeps what the destructor panics with.
            let panic = task.cancel_now();
            debug_assert!(panic.is_none());
            return TaskRef::new(handle);
        }
        let (slot, handle) = self.tasks.borrow_mut().insert(new);
        self.ready.push(Entry {
            slot,
            number: number as u32,
        });
        hooks::task_spawned(|| handle.header().meta());
        if let Some(watch) = &*self.watch.borrow() {
            watch.born(Some(slot), number);
        }
        TaskRef::new(handle)
    }

    /// Leaves no task, no entry and no main that anybody refers to, and not much memory. It
    /// calls no user code: there are no tasks any more.
    #[inline]
    fn empty(&self) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.clear();
        if tasks.capacity() > KEPT {
            *tasks = Registry::new();
        }
        self.ready.clear(KEPT);
        let mut main = self.main_cell.borrow_mut();
        let is_reusable = main.as_mut().is_some_and(|main| main.get_mut().is_some());
        if !is_reusable {
            // It has neither name nor joiner: to drop it is no user code.
            *main = None;
        }
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
    let Current { shared, id } = CURRENT.with(Cell::get);
    let home = Home {
        shared: shared?,
        id,
    };
    // SAFETY: it is entered, so this is its thread [THREAD], and it is not given back [LOCAL].
    let local = unsafe { home.local() };
    Some(local.spawn(home, future, name, spawned_at))
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
        shared.local.phase.set(Phase::Open);
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

    /// The half that only this thread touches.
    #[inline]
    pub(super) fn local(&self) -> &Local {
        // SAFETY: `self` proves the thread [THREAD], and lives [LOCAL].
        unsafe { self.home.local() }
    }

    /// What is to be entered for destructors that are called from outside of the runtime.
    pub(crate) fn set_context(&self, context: Weak<dyn Enter>) {
        self.local().context.replace(context);
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
        struct Leave {
            outer: Current,
            id: u64,
        }
        impl Drop for Leave {
            #[inline]
            fn drop(&mut self) {
                let left = CURRENT.with(|current| current.replace(self.outer));
                if left.id != self.id {
                    // Only a coroutine that has been suspended in here can do that. What is
                    // entered would be one that may be gone [LOCAL].
                    std::process::abort();
                }
                // Inside of another runtime no main is polled.
                if self.outer.id == 0 {
                    hooks::runtime_left(left.id);
                }
            }
        }
        let inner = Current {
            shared: Some(self.home.shared),
            id: self.home.id,
        };
        let outer = CURRENT.with(|current| current.replace(inner));
        let _leave = Leave {
            outer,
            id: self.home.id,
        };
        f()
    }

    #[inline]
    pub(crate) fn ready(&self) -> &ReadyQueue<Entry> {
        &self.local().ready
    }

    #[inline]
    pub(crate) fn counts(&self) -> &Counts {
        &self.local().counts
    }

    #[inline]
    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_deref()
    }

    /// Who the task is, unless it is over, or main.
    pub(crate) fn about(&self, entry: Entry) -> Option<About> {
        let tasks = self.local().tasks.borrow();
        let task = tasks.get(entry.place()?, entry.number)?;
        Some(task.header().about())
    }

    /// How many tasks were spawned.
    pub(crate) fn spawned(&self) -> u64 {
        self.local().spawned.get()
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
        self.local().tasks.borrow().len()
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
        self.local().spawn(self.home, future, name, spawned_at)
    }

    /// A cell without a future, for the future that a `block_on` keeps on its
    /// stack: its wakes go the way of all wakes. It counts as queued from the start.
    #[inline]
    pub(crate) fn main(&self, called_at: &'static Location<'static>) -> Main<'_> {
        let local = self.local();
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
        let local = self.local();
        if entry.slot == NO_SLOT {
            let current = entry.number == local.main.get() as u32;
            return if current { Ran::Main } else { Ran::Stale };
        }
        let Some(task) = local.tasks.borrow().get(entry.slot, entry.number).cloned() else {
            return Ran::Stale;
        };
        let ran = task.run();
        hooks::poll_ended(task.header().is_over());
        ran
    }

    /// Queues a task that was woken from elsewhere. Returns which one that was, if it waited
    /// for nothing of ours, or for a timer: then somebody else woke it.
    pub(crate) fn admit(&self, task: RemoteRef) -> Option<Entry> {
        let header = task.cell.header();
        // The `Cell`s of the header are touched only on its own runtime's thread [THREAD].
        assert!(header.home.id == self.home.id, "a task of another runtime");
        let local = self.local();
        let counts = &local.counts;
        if header.is_silent() {
            counts.wakes_redundant.add(1);
            return None;
        }
        // After the entry was taken out of the inbox, before the poll.
        header.sent.swap(false, Ordering::AcqRel);
        if header.queue(local) {
            counts.wakes_remote.add(1);
        } else {
            counts.wakes_redundant.add(1);
        }
        let waits = header.waits.get();
        waits.are_for_others().then(|| header.entry())
    }

    /// From now on what is sent is refused, and what is spawned is dropped at once. What is
    /// there already is left to the caller, or to the end of the `Owner`.
    pub(crate) fn shut(&self) -> Closing<'_> {
        self.local().phase.set(Phase::Closing);
        Closing {
            owner: self,
            messages: self.inbox().close(),
        }
    }
}

/// The end of a runtime: nothing comes in any more.
#[must_use = "the tasks have to be dropped"]
pub(crate) struct Closing<'a> {
    owner: &'a Owner,
    messages: VecDeque<Message>,
}

impl Closing<'_> {
    /// Whether there is no task and no message: then `finish` calls no user code.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.owner.live() == 0
    }

    /// Drops every future in place, and the messages. Each panic is caught, so that all are
    /// dropped here, on their own thread, and not by the thread that holds the last waker. Those of
    /// tasks that nobody can await go to `orphan`.
    #[inline]
    pub(crate) fn finish(self, panics: &mut Panics, orphan: &dyn Fn(&mut Panics, Payload, About)) {
        let local = self.owner.local();
        if !self.is_empty() {
            Closing::drop_all(self.messages, local, panics, orphan);
        }
        local.phase.set(Phase::Closed);
    }

    #[inline(never)]
    fn drop_all(
        messages: VecDeque<Message>,
        local: &Local,
        panics: &mut Panics,
        orphan: &dyn Fn(&mut Panics, Payload, About),
    ) {
        for message in messages {
            panics.catch(|| drop(message));
        }
        let tasks = local.tasks.borrow_mut().take();
        for task in tasks {
            let mut payload = None;
            // It wakes who awaits the task: that waker may panic, too.
            panics.catch(|| payload = task.cancel_now());
            if let Some(payload) = payload {
                orphan(panics, payload, task.header().about());
            }
            // Its join waker goes with it, if this is the last reference.
            panics.catch(|| drop(task));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        let local = self.local();
        if local.phase.get() != Phase::Closed {
            let keep = |panics: &mut Panics, payload, _| panics.keep(payload);
            self.shut().finish(&mut panics, &keep);
        }
        if self.watch.is_some() {
            local.watch.take();
        }
        local.context.replace(Weak::<Nothing>::new());
        if self.home.is_current() {
            // The process exits, or the thread ends, inside of it: the destructor of a
            // thread-local has brought us here. What is called later on this thread still
            // finds it entered, so the `Shared` is never given back [LOCAL].
        } else if local.cancelling.get() > 0 {
            local.phase.set(Phase::Ownerless);
        } else {
            // SAFETY: this is the owner's thread [THREAD]. It is closed, not entered (below
            // in the stack, either: no frame goes on under the destructor of a thread-local,
            // and all others have borrowed the `Owner`), and no cell is being cancelled.
            unsafe { self.home.give_back() };
        }
        panics.resume();
    }
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
