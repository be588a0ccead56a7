//! The task cell: one allocation for header, future and output, which is at the
//! same time the task's waker. Unsafe room 1 of 2.
//!
//! # Who holds what
//!
//! A cell is an `Arc<TaskCell<F>>`. It is referred to by
//!
//! * the registry of its runtime, while a future is in place;
//! * the task's handle ([`TaskRef`], `!Send`);
//! * entries of the ready queue ([`LocalRef`], `!Send`: can run);
//! * entries of the inbox and abort handles ([`RemoteRef`], `Send`: can only wake
//!   and mark);
//! * wakers, anywhere, for as long as they like.
//!
//! All of these know the runtime through its [`Home`], an `Arc` whose local half
//! only the runtime's own thread touches.
//!
//! # States
//!
//! ```text
//!   spawn --> IDLE --run--> RUNNING --Pending--> IDLE
//!              |               |
//!              |               +--Ready, panic--> DROPPING --> DONE --taken--> GONE
//!              +--cancel, abort, runtime gone---> DROPPING ------------------> GONE
//! ```
//!
//! `run` makes IDLE -> RUNNING -> IDLE, `finish` makes RUNNING -> DROPPING -> DONE
//! (or GONE, when nobody wants the output), `cancel_now` makes IDLE -> DROPPING ->
//! GONE, `take_output` makes DONE -> GONE. The state changes *before* user code
//! runs, so that whatever that code does finds a cell that says what is going on.
//!
//! # Invariants
//!
//! * **\[THREAD\]** The stage (future, output), the `Cell`s of the header and
//!   `Home::local` are touched only on the thread of the `Owner`. It is proven by
//!   one of: an `&Owner`, a `LocalRef` or a `TaskRef` (all `!Send`, made only
//!   there), or `CURRENT == home.id` (set only by [`Owner::enter`]).
//! * **\[STAGE\]** `stage.future` is initialised exactly in IDLE, RUNNING and
//!   DROPPING; `stage.output` exactly in DONE; nothing in GONE. Drop glue never
//!   touches either: a mistake elsewhere leaks, and drops nothing on a foreign
//!   thread.
//! * **\[PINNED\]** The future is in its `Arc` from the start, is never moved out,
//!   and is dropped in place. No reference to the stage lives across user code but
//!   the pinned one of the poll, or of the drop, itself: both happen in states
//!   (RUNNING, DROPPING) in which nobody else touches it.
//! * **\[ID\]** The ids of runtimes come from a counter and are never reused.
//!
//! # Wake-ups
//!
//! On the runtime's thread while it is entered: the flag `queued`, and a push on
//! the ready queue. Anywhere else: always a `swap(true, AcqRel)` of `sent`, and a
//! push into the inbox if it was false. The owner takes the entry out of the
//! inbox, *then* clears `sent` with a `swap(false, AcqRel)`, then queues the task
//! through `queued`, which `run` clears *before* the poll. So a wake after the
//! poll began always leads to another poll, and what the waker wrote before the
//! wake is seen by it. An entry in both queues costs one spurious poll at most.
//! Both flags stay set for ever on completion.

#![expect(
    unsafe_code,
    reason = "room 1: the stage of the cell, and the claim that it may cross threads"
)]

mod refs;

use std::cell::{Cell, RefCell, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;

use slab::Slab;

pub(crate) use self::refs::{About, Failure, RemoteRef, TaskRef};
use crate::panics::{Panics, Payload, discard};
use crate::park::Notifier;
use crate::ready::{Inbox, ReadyQueue};
use crate::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// The id of the runtime that is entered on this thread, 0 for none. Const
    /// and without a destructor: wakers work inside TLS destructors.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// [ID]
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Makes a type `!Send` and `!Sync`.
type NotSend = PhantomData<*const ()>;

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
pub(crate) struct Home {
    id: u64,
    thread: ThreadId,
    inbox: Inbox<Message, Notifier>,
    /// [THREAD]
    local: Local,
}

/// The half of a runtime that only its own thread touches.
struct Local {
    ready: ReadyQueue<LocalRef>,
    /// One strong reference for each cell with a future in place.
    tasks: RefCell<Slab<LocalRef>>,
    spawned: Cell<u64>,
    /// Set when the runtime starts to go: what is spawned then is dropped at once.
    closing: Cell<bool>,
}

// SAFETY: `id`, `thread` and `inbox` are Sync. `local` is touched only on the
// owner's thread [THREAD]. When the last reference goes elsewhere, dropping
// `local` drops `LocalRef`s, which drops counts, never a future or output [STAGE].
unsafe impl Sync for Home {}
// SAFETY: as above.
unsafe impl Send for Home {}

impl Home {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn thread(&self) -> ThreadId {
        self.thread
    }

    pub(crate) fn inbox(&self) -> &Inbox<Message, Notifier> {
        &self.inbox
    }

    /// Whether this is the runtime that is entered on this thread.
    pub(crate) fn is_current(&self) -> bool {
        CURRENT.get() == self.id
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
    home: Arc<Home>,
    _not_send: NotSend,
}

impl Owner {
    pub(crate) fn new(notifier: Notifier) -> Owner {
        let home = Home {
            id: NEXT_ID.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            thread: std::thread::current().id(),
            inbox: Inbox::new(notifier),
            local: Local {
                ready: ReadyQueue::new(),
                tasks: RefCell::new(Slab::new()),
                spawned: Cell::new(0),
                closing: Cell::new(false),
            },
        };
        Owner {
            home: Arc::new(home),
            _not_send: PhantomData,
        }
    }

    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// Runs `f` with this runtime as the one that is entered on this thread. A
    /// closure, not a guard: what is entered last is left first, also by a panic.
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave(u64);
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _leave = Leave(CURRENT.replace(self.home.id));
        f()
    }

    pub(crate) fn ready(&self) -> &ReadyQueue<LocalRef> {
        &self.home.local.ready
    }

    /// How many tasks have a future in place.
    pub(crate) fn live(&self) -> usize {
        self.home.local.tasks.borrow().len()
    }

    /// Puts `future` into a cell of its own and queues it: never polled here.
    pub(crate) fn spawn<F>(
        &self,
        future: F,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
    ) -> TaskRef<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let local = &self.home.local;
        let number = local.spawned.get() + 1;
        local.spawned.set(number);
        let mut header = Header::new(self.home.clone(), number, name, spawned_at);
        let cell = if local.closing.get() {
            let cell = Arc::new(TaskCell::new(header, future));
            discard(cell.cancel_now());
            cell
        } else {
            let mut tasks = local.tasks.borrow_mut();
            let entry = tasks.vacant_entry();
            header.slot = entry.key();
            let cell = Arc::new(TaskCell::new(header, future));
            entry.insert(LocalRef::new(cell.clone()));
            drop(tasks);
            local.ready.push(LocalRef::new(cell.clone()));
            cell
        };
        TaskRef::new(cell)
    }

    /// A cell without a future, for the future that a `block_on` keeps on its
    /// stack: its wakes go the way of all wakes. It is queued at once.
    pub(crate) fn main(&self) -> Main {
        let header = Header::new(self.home.clone(), 0, None, Location::caller());
        let cell = Arc::new(MainCell { header });
        self.home.local.ready.push(LocalRef::new(cell.clone()));
        Main {
            waker: Waker::from(cell.clone()),
            cell,
            _not_send: PhantomData,
        }
    }

    /// Polls the task, unless it is over.
    pub(crate) fn run(&self, task: LocalRef) -> Ran {
        task.cell.run()
    }

    /// Queues a task that was woken from elsewhere.
    pub(crate) fn admit(&self, task: RemoteRef) {
        let header = task.cell.header();
        // A LocalRef is made only on the thread of the cell's own runtime [THREAD].
        assert!(header.home.id == self.home.id, "a task of another runtime");
        if header.is_over() {
            return;
        }
        // After the entry was taken out of the inbox, before the poll.
        header.sent.swap(false, Ordering::AcqRel);
        if !header.queued.replace(true) {
            self.home.local.ready.push(LocalRef {
                cell: task.cell,
                _not_send: PhantomData,
            });
        }
    }

    /// Drops every future in place. Each panic is caught, so that all are dropped
    /// here, on their own thread, and not by whoever holds the last waker.
    pub(crate) fn close(&self, panics: &mut Panics) {
        let local = &self.home.local;
        local.closing.set(true);
        // Out of the lock before it is dropped: it may hold things of the user's.
        for message in self.home.inbox.close() {
            panics.catch(|| drop(message));
        }
        let tasks = std::mem::take(&mut *local.tasks.borrow_mut());
        for (_, task) in tasks {
            if let Some(payload) = task.cell.cancel_now() {
                panics.keep(payload);
            }
        }
        while let Some(entry) = local.ready.pop() {
            panics.catch(|| drop(entry));
        }
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
    Orphan(Payload, About),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Running,
    Dropping,
    Done,
    Gone,
}

/// What does not depend on the type of the future.
struct Header {
    home: Arc<Home>,
    number: u64,
    name: Option<Box<str>>,
    spawned_at: &'static Location<'static>,
    /// Who awaits the end. Cleared when it is woken, and when the handle goes.
    /// [THREAD]
    joiner: Cell<Option<Waker>>,
    /// Its place in the registry while a future is in place.
    slot: usize,
    /// [THREAD]
    state: Cell<State>,
    /// Set while an entry is in the ready queue, and for ever on completion. [THREAD]
    queued: Cell<bool>,
    /// Cleared when the handle detaches or is dropped: nobody will take the
    /// output. [THREAD]
    held: Cell<bool>,
    /// Set when the task is to be dropped at the end of the poll (or drop) that
    /// is under way. [THREAD]
    cancel: Cell<bool>,
    /// Set while an entry is in the inbox, and for ever on completion.
    sent: AtomicBool,
    /// Set once by an abort handle.
    aborted: AtomicBool,
}

impl Header {
    fn new(
        home: Arc<Home>,
        number: u64,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
    ) -> Header {
        Header {
            home,
            number,
            name,
            spawned_at,
            joiner: Cell::new(None),
            slot: usize::MAX,
            state: Cell::new(State::Idle),
            queued: Cell::new(true),
            held: Cell::new(true),
            cancel: Cell::new(false),
            sent: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
        }
    }

    fn about(&self) -> About {
        About {
            number: self.number,
            name: self.name.clone(),
            spawned_at: self.spawned_at,
        }
    }

    /// On the owner's thread only.
    fn is_over(&self) -> bool {
        matches!(self.state.get(), State::Done | State::Gone)
    }

    /// From now on nobody queues this cell.
    fn silence(&self) {
        self.queued.set(true);
        self.sent.swap(true, Ordering::AcqRel);
    }

    /// Takes the cell out of the registry.
    fn unregister(&self) {
        let entry = {
            let mut tasks = self.home.local.tasks.borrow_mut();
            tasks.try_remove(self.slot)
        };
        // After the borrow: it may be the last reference.
        drop(entry);
    }

    fn wake_joiner(&self) {
        if let Some(joiner) = self.joiner.take() {
            joiner.wake();
        }
    }
}

/// What a cell can do whatever its future is.
trait Raw: Send + Sync {
    fn header(&self) -> &Header;
    /// Polls. Called on the owner's thread only [THREAD].
    fn run(self: Arc<Self>) -> Ran;
    /// Drops the future if it is at rest; marks it if it is running. Returns what
    /// its destructor panicked with. Called on the owner's thread only [THREAD].
    fn cancel_now(&self) -> Option<Payload>;
    fn wake(self: Arc<Self>);
}

/// What a handle can do with the output.
trait Joinable<T>: Raw {
    /// The output, if it is in place. Called on the owner's thread only [THREAD].
    fn take_output(&self) -> Option<Result<T, Payload>>;
    fn erase(self: Arc<Self>) -> Arc<dyn Raw>;
}

/// The future, then its output, in one place. Neither has drop glue [STAGE].
union Stage<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, Payload>>,
}

struct TaskCell<F: Future> {
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

// SAFETY: the header's atomics, `home` and the fields that never change are Sync;
// its `Cell`s and the stage are touched only on the owner's thread [THREAD].
// Dropping the cell elsewhere drops no future and no output [STAGE]; the name and
// a left-over join waker are Send.
unsafe impl<F: Future> Sync for TaskCell<F> {}
// SAFETY: as above.
unsafe impl<F: Future> Send for TaskCell<F> {}

impl<F: Future> TaskCell<F> {
    fn new(header: Header, future: F) -> TaskCell<F> {
        TaskCell {
            header,
            stage: UnsafeCell::new(Stage {
                future: ManuallyDrop::new(future),
            }),
        }
    }

    /// Drops the future. Returns what its destructor panicked with.
    fn drop_future(&self) -> Option<Payload> {
        debug_assert_eq!(self.header.state.get(), State::Dropping);
        catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: DROPPING, so the future is in place [STAGE] and nobody else
            // touches it [PINNED]. The caller leaves DROPPING right after this,
            // for a state without a future, also if the destructor panics.
            unsafe { ManuallyDrop::drop(&mut (*self.stage.get()).future) }
        }))
        .err()
    }

    /// The poll is over for good: drops the future, keeps the output for the
    /// handle if there is one, and wakes who awaits it.
    fn finish(&self, result: Result<F::Output, Payload>) -> Ran {
        let header = &self.header;
        header.state.set(State::Dropping);
        header.silence();
        let result = match (result, self.drop_future()) {
            (result, None) => result,
            // The destructor has panicked: that is the task's panic then.
            (Ok(output), Some(payload)) => {
                discard(output);
                Err(payload)
            }
            (Err(first), Some(payload)) => {
                discard(payload);
                Err(first)
            }
        };
        if header.held.get() {
            let output = Stage {
                output: ManuallyDrop::new(result),
            };
            // SAFETY: on the owner's thread [THREAD]; the future has been dropped,
            // so nothing is overwritten, and DONE says what is in place [STAGE].
            unsafe { *self.stage.get() = output };
            header.state.set(State::Done);
            header.unregister();
            header.wake_joiner();
            return Ran::Task;
        }
        header.state.set(State::Gone);
        header.unregister();
        match result {
            Err(payload) if !header.cancel.get() => Ran::Orphan(payload, header.about()),
            unwanted => {
                discard(unwanted);
                Ran::Task
            }
        }
    }
}

impl<F: Future + 'static> Raw for TaskCell<F>
where
    F::Output: 'static,
{
    fn header(&self) -> &Header {
        &self.header
    }

    fn run(self: Arc<Self>) -> Ran {
        let this = Arc::as_ptr(&self);
        // The entry's own reference becomes the waker: no count is touched.
        let waker = Waker::from(self);
        // SAFETY: `waker` holds a reference to the cell until the end of this
        // function, and nothing hands out `&mut` to the cell.
        let this = unsafe { &*this };
        let header = &this.header;
        if header.state.get() != State::Idle {
            return Ran::Stale;
        }
        // Before the poll: a wake from now on leads to another one.
        header.queued.set(false);
        if header.aborted.load(Ordering::Acquire) {
            discard(this.cancel_now());
            return Ran::Task;
        }
        header.state.set(State::Running);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: it was IDLE, so the future is in place [STAGE]; it is pinned
            // by its cell, and RUNNING keeps everyone else away [PINNED].
            let future = unsafe { Pin::new_unchecked(&mut *(*this.stage.get()).future) };
            future.poll(&mut Context::from_waker(&waker))
        }));
        match polled {
            Ok(Poll::Pending) => {
                header.state.set(State::Idle);
                if header.cancel.get() || header.aborted.load(Ordering::Acquire) {
                    discard(this.cancel_now());
                }
                Ran::Task
            }
            Ok(Poll::Ready(output)) => this.finish(Ok(output)),
            Err(payload) => this.finish(Err(payload)),
        }
    }

    fn cancel_now(&self) -> Option<Payload> {
        let header = &self.header;
        match header.state.get() {
            State::Idle => {}
            State::Running | State::Dropping => {
                header.cancel.set(true);
                return None;
            }
            State::Done | State::Gone => return None,
        }
        header.state.set(State::Dropping);
        header.silence();
        let payload = self.drop_future();
        header.state.set(State::Gone);
        header.unregister();
        header.wake_joiner();
        payload
    }

    fn wake(self: Arc<Self>) {
        Wake::wake(self);
    }
}

impl<F: Future + 'static> Joinable<F::Output> for TaskCell<F>
where
    F::Output: 'static,
{
    fn take_output(&self) -> Option<Result<F::Output, Payload>> {
        if self.header.state.get() != State::Done {
            return None;
        }
        self.header.state.set(State::Gone);
        // SAFETY: it was DONE, so the output is in place [STAGE]; GONE says that it
        // has been moved out. On the owner's thread [THREAD].
        Some(unsafe { ManuallyDrop::take(&mut (*self.stage.get()).output) })
    }

    fn erase(self: Arc<Self>) -> Arc<dyn Raw> {
        self
    }
}

impl<F: Future + 'static> Wake for TaskCell<F>
where
    F::Output: 'static,
{
    fn wake(self: Arc<Self>) {
        let header = &self.header;
        if header.home.is_current() {
            // The owner's thread, by [THREAD].
            if !header.queued.replace(true) {
                let home: *const Home = &*header.home;
                // SAFETY: the cell that is pushed keeps its home alive.
                let home = unsafe { &*home };
                home.local.ready.push(LocalRef::new(self));
            }
        } else if !header.sent.swap(true, Ordering::AcqRel) {
            send(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let header = &self.header;
        if header.home.is_current() {
            if !header.queued.replace(true) {
                header.home.local.ready.push(LocalRef::new(self.clone()));
            }
        } else if !header.sent.swap(true, Ordering::AcqRel) {
            send(self.clone());
        }
    }
}

/// Leaves word in the inbox of the cell's runtime. A closed inbox gives it back.
fn send(cell: Arc<dyn Raw>) {
    let home = cell.header().home.clone();
    let refused = home.inbox.push(Message::Wake(RemoteRef { cell }));
    drop(refused);
}

/// The cell that stands for the future of a `block_on`. Its state is IDLE while
/// that call lasts, and GONE after it: entries and wakers that are left over do
/// nothing then.
struct MainCell {
    header: Header,
}

// SAFETY: as for `TaskCell`: its `Cell`s are touched on the owner's thread only
// [THREAD].
unsafe impl Sync for MainCell {}
// SAFETY: as above.
unsafe impl Send for MainCell {}

impl Raw for MainCell {
    fn header(&self) -> &Header {
        &self.header
    }

    fn run(self: Arc<Self>) -> Ran {
        if self.header.state.get() != State::Idle {
            return Ran::Stale;
        }
        self.header.queued.set(false);
        Ran::Main
    }

    fn cancel_now(&self) -> Option<Payload> {
        None
    }

    fn wake(self: Arc<Self>) {
        Wake::wake(self);
    }
}

impl Wake for MainCell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let header = &self.header;
        if header.home.is_current() {
            if !header.queued.replace(true) {
                header.home.local.ready.push(LocalRef::new(self.clone()));
            }
        } else if !header.sent.swap(true, Ordering::AcqRel) {
            send(self.clone());
        }
    }
}

/// The main cell of one `block_on`, for the length of that call.
pub(crate) struct Main {
    waker: Waker,
    cell: Arc<MainCell>,
    _not_send: NotSend,
}

impl Main {
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        self.cell.header.state.set(State::Gone);
        self.cell.header.silence();
    }
}

/// An entry of the ready queue or the registry: can run.
pub(crate) struct LocalRef {
    cell: Arc<dyn Raw>,
    _not_send: NotSend,
}

impl LocalRef {
    /// On the owner's thread only.
    fn new(cell: Arc<dyn Raw>) -> LocalRef {
        LocalRef {
            cell,
            _not_send: PhantomData,
        }
    }
}
