//! The header of a cell, and everything that refers to a cell: [`LocalTask`] on the executor's
//! thread, and [`SharedTask`] and wakers on any.

#![expect(unsafe_code, reason = "counted pointers to cells, and their waker")]

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::counts::RefCounts;
use super::label::{Name, TaskLabel};
use super::state::{Ran, State};
use super::wait_kinds::WaitKinds;
use crate::hooks::{self, TaskId, TaskMeta, TaskRef, WaitReason};
use crate::inbox::{Inbox, Notifier};
use crate::panics::Payload;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread_local;

/// Identifies a task in the wait lists of timers and sources, for the task dump; 0 for none. It is
/// computed from the task's number and the id of its runtime, since a thread may have several
/// runtimes. Nothing but the dump depends on it.
pub(crate) type WaiterId = u32;

/// What other threads send to an executor.
pub(crate) enum Message {
    /// The task (or main) is to be polled.
    Wake(SharedTask),
    /// A closure to call on the executor's thread, inside the executor.
    Call(Box<dyn FnOnce() + Send>),
    /// `run` is to return.
    Stop,
}

/// Reaches an executor from any thread, through its inbox, also after the executor is gone.
///
/// Inboxes are reused and never freed, so this is a reference without a count: an `Arc` would
/// cost two locked instructions per task. Messages for an earlier owner of the inbox are
/// refused.
#[derive(Clone, Copy)]
pub(crate) struct Remote {
    inbox: &'static Inbox<Message, Notifier>,
    /// The id of the executor. Never 0, never reused.
    id: u64,
}

impl Remote {
    /// For the executor `id`, which has opened the inbox.
    pub(crate) fn new(inbox: &'static Inbox<Message, Notifier>, id: u64) -> Remote {
        Remote { inbox, id }
    }

    #[inline]
    pub(crate) fn id(self) -> u64 {
        self.id
    }

    pub(crate) fn inbox(self) -> &'static Inbox<Message, Notifier> {
        self.inbox
    }

    /// Sends a message. If the executor is gone, the message is dropped.
    pub(crate) fn send(self, message: Message) {
        let refused = self.inbox.push(self.id, message);
        drop(refused);
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("id", &self.id).finish()
    }
}

/// How a cell reaches the ready queue. Implemented by the executor.
pub(crate) trait TaskScheduler: 'static {
    /// Puts the task on the ready queue, if its executor is entered on this thread. Returns
    /// false if it is not.
    fn schedule(task: &SharedTask) -> bool;
}

/// What can be done with a cell of a certain type through its header. As a `dyn` trait, but a
/// reference to a cell stays one word.
pub(super) struct Vtable {
    // SAFETY: callers keep what the function `free` in `cell.rs` asks for.
    pub(super) free: unsafe fn(NonNull<Header>),
    // SAFETY: callers keep what the function `run` in `cell.rs` asks for.
    pub(super) run: unsafe fn(NonNull<Header>, &Waker) -> Ran,
    // SAFETY: callers keep what the function `run` in `cell.rs` asks for.
    pub(super) cancel: unsafe fn(NonNull<Header>) -> Option<Payload>,
    pub(super) schedule: fn(&SharedTask) -> bool,
}

/// The part of a cell that does not depend on the type of its future.
pub(super) struct Header {
    pub(super) vtable: &'static Vtable,
    pub(super) remote: Remote,
    pub(super) number: u64,
    pub(super) name: Name,
    pub(super) spawned_at: &'static Location<'static>,
    /// What awaits the end of the task. Empty when the cell is DONE or GONE [JOINER]. [THREAD]
    pub(super) joiner: Cell<Joiner>,
    /// How often it was polled. [THREAD]
    pub(super) polls: Cell<u32>,
    /// Its key in the registry. Main has none.
    pub(super) slot: u32,
    pub(super) refs: RefCounts,
    /// [THREAD]
    pub(super) state: Cell<State>,
    /// Set while the task is queued or has yielded, and for ever once it is over. [THREAD]
    pub(super) queued: Cell<bool>,
    /// Cleared when the handle detaches or is dropped: nothing will take the output. [THREAD]
    pub(super) held: Cell<bool>,
    /// Set when the task is cancelled or aborted: its future is being dropped, or will be at
    /// the end of the poll that is under way. [THREAD]
    pub(super) cancelled: Cell<bool>,
    /// The kinds of waits that its last poll came to. [THREAD]
    pub(super) waits: Cell<WaitKinds>,
    /// Set while the task is in the inbox, and for ever once it is over.
    pub(super) sent: AtomicBool,
    /// Set once by an abort handle.
    pub(super) aborted: AtomicBool,
}

/// The slot of a cell that is not in the registry.
pub(super) const NO_SLOT: u32 = u32::MAX;

impl Header {
    #[inline]
    pub(super) fn is_main(&self) -> bool {
        self.slot == NO_SLOT
    }

    /// Whether the task has finished, panicked or been cancelled.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state.get(), State::Done | State::Gone)
    }

    pub(super) fn label(&self) -> TaskLabel {
        TaskLabel {
            number: self.number,
            name: self.name.clone(),
            spawned_at: self.spawned_at,
        }
    }

    #[inline]
    pub(super) fn waiter_id(&self) -> WaiterId {
        let number = if self.is_main() {
            u64::from(u32::MAX)
        } else {
            self.number
        };
        // The upper half tells the tasks of handles apart.
        number as u32 ^ (number >> 32) as u32 ^ (self.remote.id as u32).rotate_left(20)
    }

    #[inline]
    pub(super) fn task_ref(&self) -> TaskRef {
        TaskRef {
            runtime: self.remote.id,
            id: (!self.is_main()).then_some(TaskId::new(self.number)),
        }
    }

    /// For the hooks.
    #[inline]
    pub(super) fn meta(&self) -> TaskMeta<'_> {
        TaskMeta {
            task: self.task_ref(),
            name: self.name.as_deref().map(|name| &**name),
            spawned_at: self.spawned_at,
        }
    }

    /// A poll begins. The caller holds a reference until it has dropped the guard.
    #[inline]
    pub(super) fn begin_poll(&self) -> Polling {
        self.polls.set(self.polls.get().wrapping_add(1));
        self.waits.set(WaitKinds::default());
        POLLED.with(|polled| polled.set(Some(NonNull::from(self))));
        hooks::poll_started(|| self.meta());
        Polling
    }

    /// Notes why the poll that is under way will return `Pending`.
    #[inline]
    pub(super) fn note(&self, reason: WaitReason) -> WaiterId {
        self.waits.set(self.waits.get().with(reason));
        hooks::will_wait(reason);
        self.waiter_id()
    }

    /// From now on nothing queues this cell.
    #[inline]
    pub(super) fn disable_wakes(&self) {
        self.queued.set(true);
        // A wake that has set it before this leaves a message that is ignored.
        self.sent.store(true, Ordering::Release);
    }

    /// Has `waker` woken when the task is over. Returns false if it is over already.
    #[inline]
    pub(super) fn join(&self, waker: &Waker) -> bool {
        // The slot is empty meanwhile, and the state is read again: to clone or drop a waker
        // may call user code.
        let old = self.joiner.take();
        let mut new = if old.will_wake(waker) {
            old
        } else {
            drop(old);
            Joiner::new(waker)
        };
        if self.is_over() {
            return false;
        }
        let id = note(WaitReason::Task(self.task_ref()));
        if let Joiner::Other(other) = &mut new {
            other.1 = id;
        }
        drop(self.joiner.replace(new));
        !self.is_over()
    }
}

/// What awaits the end of a task.
pub(super) enum Joiner {
    /// A task that waits with its own waker, or nothing.
    Task(Option<LocalTask>),
    /// Another waker, and the task that was polled when it came, for people to read.
    Other(Box<(Waker, WaiterId)>),
}

impl Default for Joiner {
    #[inline]
    fn default() -> Joiner {
        Joiner::Task(None)
    }
}

impl Joiner {
    /// It may clone the waker, which is user code.
    #[inline]
    fn new(waker: &Waker) -> Joiner {
        match polled_task(waker) {
            Some(task) => Joiner::Task(Some(task)),
            None => Joiner::Other(Box::new((waker.clone(), 0))),
        }
    }

    #[inline]
    fn will_wake(&self, waker: &Waker) -> bool {
        match self {
            Joiner::Task(task) => task.as_ref().is_some_and(|task| task.will_wake(waker)),
            Joiner::Other(other) => other.0.will_wake(waker),
        }
    }

    pub(super) fn waiter_id(&self) -> Option<WaiterId> {
        match self {
            Joiner::Task(task) => task.as_ref().map(LocalTask::waiter_id),
            Joiner::Other(other) => Some(other.1),
        }
    }
}

thread_local! {
    /// The cell that is being polled on this thread [POLLED]. Const and without a destructor.
    static POLLED: Cell<Option<NonNull<Header>>> = const { Cell::new(None) };
}

/// Ends what [`Header::begin_poll`] has begun.
pub(super) struct Polling;

impl Drop for Polling {
    #[inline]
    fn drop(&mut self) {
        POLLED.with(|polled| polled.set(None));
    }
}

/// Calls `f` with the cell that is being polled on this thread, if one is.
#[inline]
pub(super) fn with_polled<R>(f: impl FnOnce(&Header) -> R) -> Option<R> {
    let polled = POLLED.with(Cell::get)?;
    // SAFETY: the poll is under way, and its caller holds a reference [POLLED] [COUNT].
    Some(f(unsafe { polled.as_ref() }))
}

/// The task that is being polled on this thread, or 0.
#[inline]
pub(crate) fn polled_id() -> WaiterId {
    with_polled(Header::waiter_id).unwrap_or_default()
}

/// Whether a task, or main, is being polled on this thread.
pub(crate) fn is_polling() -> bool {
    with_polled(|_| ()).is_some()
}

/// Notes that the task that is being polled on this thread, if one is, will return `Pending`
/// for this reason. Returns the id of that task.
#[inline]
pub(crate) fn note(reason: WaitReason) -> WaiterId {
    with_polled(|polled| polled.note(reason)).unwrap_or_default()
}

/// A counted reference that stays on the executor's thread (`!Send`).
pub(super) struct LocalRef<C: ?Sized> {
    cell: NonNull<C>,
}

/// A task on its executor's thread: it can be run.
pub(crate) struct LocalTask(LocalRef<Header>);

impl<C: ?Sized> LocalRef<C> {
    /// # Safety
    ///
    /// It stands for a local reference that was counted [COUNT], to a cell of this thread's
    /// executor [THREAD], which begins with its header [LAYOUT].
    pub(super) unsafe fn from_raw(cell: NonNull<C>) -> LocalRef<C> {
        LocalRef { cell }
    }

    /// Another reference, as `cell`, a pointer to the same cell.
    ///
    /// # Safety
    ///
    /// `cell` comes from a pointer to the whole cell [LAYOUT].
    pub(super) unsafe fn clone_as<D: ?Sized>(&self, cell: NonNull<D>) -> LocalRef<D> {
        self.header().refs.add_local();
        LocalRef { cell }
    }

    pub(super) fn as_ptr(&self) -> NonNull<C> {
        self.cell
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the cell exists [COUNT], and begins with its header [LAYOUT].
        unsafe { self.cell.cast::<Header>().as_ref() }
    }

    /// The cell, if this is the only reference to it.
    pub(super) fn get_mut(&mut self) -> Option<&mut C> {
        if !self.header().refs.is_unique() {
            return None;
        }
        // SAFETY: it exists, this is the only reference, and it is borrowed mutably [COUNT]. A
        // cell that is being polled has another reference [POLLED].
        Some(unsafe { self.cell.as_mut() })
    }

    /// The task as other threads know it, without a count of its own.
    #[inline]
    pub(super) fn borrow_remote(&self) -> Borrowed<'_> {
        Borrowed {
            task: ManuallyDrop::new(SharedTask(self.cell.cast())),
            _cell: PhantomData,
        }
    }

    /// A waker for as long as the reference is borrowed. No count is touched.
    #[inline]
    pub(super) fn waker(&self) -> BorrowedWaker<'_> {
        BorrowedWaker {
            waker: ManuallyDrop::new(SharedTask(self.cell.cast()).into_waker()),
            _cell: PhantomData,
        }
    }

    /// Another reference, without the type of the cell.
    pub(super) fn task(&self) -> LocalTask {
        self.clone().into_task()
    }

    pub(super) fn into_task(self) -> LocalTask {
        let cell = ManuallyDrop::new(self).cell.cast();
        LocalTask(LocalRef { cell })
    }
}

impl<C: ?Sized> Deref for LocalRef<C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        // SAFETY: the cell exists [COUNT]. `get_mut` lends it mutably only while there is no
        // other reference than the one that is borrowed.
        unsafe { self.cell.as_ref() }
    }
}

impl<C: ?Sized> Clone for LocalRef<C> {
    #[inline]
    fn clone(&self) -> Self {
        self.header().refs.add_local();
        LocalRef { cell: self.cell }
    }
}

impl<C: ?Sized> Drop for LocalRef<C> {
    #[inline]
    fn drop(&mut self) {
        if self.header().refs.remove_local() {
            // SAFETY: it was the last reference [COUNT].
            unsafe { free(self.cell.cast()) };
        }
    }
}

/// Frees a cell of any type.
///
/// # Safety
///
/// `header` stood for the last reference to a cell, which is gone.
#[cold]
unsafe fn free(header: NonNull<Header>) {
    // SAFETY: the cell exists, since nothing else frees it [COUNT].
    let vtable = unsafe { header.as_ref().vtable };
    // SAFETY: `vtable` was made for the type of the cell [COUNT]; the pointer stood for a
    // reference, so it comes from a pointer to the whole cell [LAYOUT].
    unsafe { (vtable.free)(header) }
}

impl Clone for LocalTask {
    #[inline]
    fn clone(&self) -> Self {
        LocalTask(self.0.clone())
    }
}

impl LocalTask {
    #[inline]
    pub(super) fn header(&self) -> &Header {
        self.0.header()
    }

    pub(crate) fn waiter_id(&self) -> WaiterId {
        self.header().waiter_id()
    }

    /// Whether `waker` is the cell's own.
    #[inline]
    pub(crate) fn will_wake(&self, waker: &Waker) -> bool {
        is_waker_of(waker, self.header())
    }

    /// Polls the future with the cell's own waker, unless the task is over.
    #[inline]
    pub(crate) fn run(&self) -> Ran {
        // SAFETY: `vtable` was made for the type of the cell, which exists as long as `self`
        // [COUNT]; the pointer comes from a pointer to the whole cell [LAYOUT]; a `LocalTask`
        // is on the executor's thread [THREAD].
        unsafe { (self.header().vtable.run)(self.0.cell, &self.0.waker()) }
    }

    /// Drops the future if the task is idle, and marks it if it is running. A panic of its
    /// destructor becomes the task's, for the handle; if there is no handle it is returned.
    ///
    /// The caller then removes the task from the registry, and calls
    /// [`LocalTask::wake_joiner`].
    #[must_use = "no handle has received that panic"]
    pub(crate) fn cancel(&self) -> Option<Payload> {
        // SAFETY: as in `run`.
        unsafe { (self.header().vtable.cancel)(self.0.cell) }
    }

    /// Wakes what awaits the end of the task. It may be user code.
    #[inline]
    pub(crate) fn wake_joiner(&self) {
        match self.header().joiner.take() {
            Joiner::Task(None) => {}
            Joiner::Task(Some(task)) => task.wake(),
            Joiner::Other(other) => other.0.wake(),
        }
    }

    /// Wakes it. That may be user code.
    #[inline]
    pub(crate) fn wake(self) {
        self.0.borrow_remote().wake_by_ref();
    }

    /// Marks the task as queued. Returns false if it was before, or is over: then it must not
    /// be put on the ready queue.
    #[inline]
    pub(crate) fn mark_queued(&self) -> bool {
        !self.header().queued.replace(true)
    }

    /// The id of its executor.
    #[inline]
    pub(crate) fn executor(&self) -> u64 {
        self.header().remote.id
    }

    pub(crate) fn remote_executor(&self) -> Remote {
        self.header().remote
    }

    /// Its key in the registry. Main has none.
    #[inline]
    pub(crate) fn slot(&self) -> Option<usize> {
        (!self.header().is_main()).then_some(self.header().slot as usize)
    }

    /// 0 for main.
    pub(crate) fn number(&self) -> u64 {
        if self.header().is_main() {
            return 0;
        }
        self.header().number
    }

    pub(crate) fn label(&self) -> TaskLabel {
        self.header().label()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn is_over(&self) -> bool {
        self.header().is_over()
    }

    #[inline]
    pub(crate) fn meta(&self) -> TaskMeta<'_> {
        self.header().meta()
    }

    /// How many references may be on other threads: mostly wakers.
    pub(crate) fn remote_count(&self) -> usize {
        self.header().refs.remote_count()
    }

    /// The kinds of waits that its last poll came to.
    pub(crate) fn waits(&self) -> WaitKinds {
        self.header().waits.get()
    }

    /// Whether it waits to be woken.
    pub(crate) fn is_idle(&self) -> bool {
        self.header().state.get() == State::Idle
    }

    pub(crate) fn is_same(&self, other: &LocalTask) -> bool {
        self.0.cell == other.0.cell
    }
}

/// A counted reference for any thread: it can wake the task, and mark it as aborted. The data of
/// a waker is one.
pub(crate) struct SharedTask(NonNull<Header>);

// SAFETY: what other threads read in the header is Sync (asserted below) and does not change
// while there is a `SharedTask`; the rest is touched on the executor's thread only [THREAD]. The
// last reference frees the cell: that drops no future and no output [STAGE], no joiner
// [JOINER], and a name, which is Send (asserted below).
unsafe impl Send for SharedTask {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedTask {}

/// What the claims about threads take for granted.
const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_sync<T: Sync>() {}
    is_sync::<(&'static Vtable, Remote, Name, &'static Location<'static>)>();
    is_sync::<AtomicBool>();
    is_send::<(&'static Vtable, Remote, Name, Waker)>();
};

impl SharedTask {
    #[inline]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the cell exists [COUNT].
        unsafe { self.0.as_ref() }
    }

    /// Another reference, for the executor's thread.
    ///
    /// # Safety
    ///
    /// This is the thread of the cell's executor [THREAD].
    #[inline(always)]
    pub(super) unsafe fn to_local(&self) -> LocalTask {
        self.header().refs.add_local();
        LocalTask(LocalRef { cell: self.0 })
    }

    /// Wakes the task: puts it on the ready queue, or sends it to the inbox.
    #[inline]
    fn wake_by_ref(&self) {
        if !(self.header().vtable.schedule)(self) && self.mark_sent() {
            self.clone().send();
        }
    }

    /// As `wake_by_ref`. The message takes the reference along: dropped after it was sent, the
    /// reference would look to the executor as if something could still wake the task.
    #[inline]
    fn wake(self) {
        if !(self.header().vtable.schedule)(&self) && self.mark_sent() {
            self.send();
        }
    }

    /// The executor is not entered on this thread. Returns whether a message is to be sent.
    ///
    /// Always a swap: skipped after a plain load, the poll could miss what the caller wrote
    /// before this wake.
    #[inline]
    fn mark_sent(&self) -> bool {
        !self.header().sent.swap(true, Ordering::AcqRel)
    }

    #[cold]
    fn send(self) {
        let remote = self.header().remote;
        remote.send(Message::Wake(self));
    }

    /// Marks the task and wakes it; its own thread drops the future.
    pub(crate) fn abort(&self) {
        self.header().aborted.store(true, Ordering::Release);
        self.wake_by_ref();
    }

    pub(crate) fn label(&self) -> TaskLabel {
        self.header().label()
    }

    pub(crate) fn number(&self) -> u64 {
        self.header().number
    }

    /// The id of its executor.
    #[inline]
    pub(crate) fn executor(&self) -> u64 {
        self.header().remote.id
    }

    #[inline]
    fn into_waker(self) -> Waker {
        let data = ManuallyDrop::new(self).0.as_ptr().cast_const().cast();
        // SAFETY: the functions of the table keep the contract of `RawWakerVTable`: a
        // `SharedTask`, for which the data stands, is `Send`, `Sync` and counted.
        unsafe { Waker::new(data, &WAKER) }
    }

    /// # Safety
    ///
    /// `data` comes from `into_waker`, and its reference is not used in another way.
    #[inline]
    unsafe fn from_data(data: *const ()) -> SharedTask {
        // SAFETY: `into_waker` made it from a `NonNull`.
        SharedTask(unsafe { NonNull::new_unchecked(data.cast_mut().cast()) })
    }
}

impl Clone for SharedTask {
    #[inline]
    fn clone(&self) -> SharedTask {
        self.header().refs.add_remote();
        SharedTask(self.0)
    }
}

impl Drop for SharedTask {
    #[inline]
    fn drop(&mut self) {
        if self.header().refs.remove_remote() {
            // SAFETY: it was the last reference [COUNT].
            unsafe { free(self.0) };
        }
    }
}

/// A [`SharedTask`] without a count of its own: it cannot be moved out.
pub(super) struct Borrowed<'a> {
    task: ManuallyDrop<SharedTask>,
    _cell: PhantomData<&'a Header>,
}

impl Deref for Borrowed<'_> {
    type Target = SharedTask;

    #[inline]
    fn deref(&self) -> &SharedTask {
        &self.task
    }
}

/// A waker without a count of its own: it cannot be moved out.
pub(super) struct BorrowedWaker<'a> {
    waker: ManuallyDrop<Waker>,
    _cell: PhantomData<&'a Header>,
}

impl Deref for BorrowedWaker<'_> {
    type Target = Waker;

    #[inline]
    fn deref(&self) -> &Waker {
        &self.waker
    }
}

/// One table for the cells of all types, so that a cell knows its own waker.
static WAKER: RawWakerVTable = RawWakerVTable::new(clone_waker, wake, wake_by_ref, drop_waker);

/// Whether `waker` is the cell's own, and not wrapped into another.
#[inline]
fn is_waker_of(waker: &Waker, header: &Header) -> bool {
    let header: *const Header = header;
    waker.data() == header.cast() && std::ptr::eq(waker.vtable(), &WAKER)
}

/// # Safety
///
/// As of all four functions: a `Waker` that `into_waker` has made calls it, with its data.
unsafe fn clone_waker(data: *const ()) -> RawWaker {
    // SAFETY: `data` is that of a waker of ours, which keeps its reference.
    let task = ManuallyDrop::new(unsafe { SharedTask::from_data(data) });
    std::mem::forget(SharedTask::clone(&task));
    RawWaker::new(data, &WAKER)
}

/// # Safety
///
/// As of `clone_waker`.
unsafe fn wake(data: *const ()) {
    // SAFETY: `data` is that of a waker of ours, which gives its reference away.
    unsafe { SharedTask::from_data(data) }.wake();
}

/// # Safety
///
/// As of `clone_waker`.
unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: `data` is that of a waker of ours, which keeps its reference.
    ManuallyDrop::new(unsafe { SharedTask::from_data(data) }).wake_by_ref();
}

/// # Safety
///
/// As of `clone_waker`.
unsafe fn drop_waker(data: *const ()) {
    // SAFETY: `data` is that of a waker of ours, which gives its reference away.
    drop(unsafe { SharedTask::from_data(data) });
}

/// A reference to the cell that is being polled on this thread, if `waker` is its own.
#[inline]
pub(crate) fn polled_task(waker: &Waker) -> Option<LocalTask> {
    with_polled(|polled| is_waker_of(waker, polled)).filter(|is_own| *is_own)?;
    // SAFETY: its vtable is ours, and only `into_waker` makes wakers with that. It keeps its
    // reference.
    let task = ManuallyDrop::new(unsafe { SharedTask::from_data(waker.data()) });
    // SAFETY: it is being polled on this thread, so this is its executor's [THREAD].
    Some(unsafe { task.to_local() })
}
