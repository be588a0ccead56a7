//! The task cell: one allocation for header, future and output, which is at the
//! same time the task's waker. Unsafe room 1 of 2.
//!
//! # Who holds what
//!
//! A cell is referred to by
//!
//! * the registry of its runtime, while a future is in place, and by the loop for the
//!   length of a poll ([`LocalRef`], `!Send`: can run);
//! * the task's handle ([`TaskRef`], a `LocalRef`, too);
//! * entries of the inbox and abort handles ([`RemoteRef`], `Send`: can only wake
//!   and mark);
//! * wakers, anywhere, for as long as they like.
//!
//! The ready queue holds no references, but [`Entry`]s: the task's place in the
//! registry, and its number, which is never used again. So to wake a task on its own
//! thread touches no count. Who awaits a task is kept in the same way ([`Awaiter`]).
//!
//! All of these know the runtime through its [`Home`]: a pointer that needs no count,
//! and the runtime's id. What it points to is never freed, but used again by a later
//! runtime, under another id; its local half only the runtime's own thread touches.
//!
//! # States
//!
//! ```text
//!   spawn --> IDLE --run--> RUNNING --Pending--> IDLE
//!              |               |
//!              |               +--Ready, panic--> DROPPING --> DONE --taken--> GONE
//!              +--cancel, abort, runtime gone---> DROPPING ------------------> GONE
//!                                                    +------panic---> DONE --taken--> GONE
//! ```
//!
//! `run` makes IDLE -> RUNNING -> IDLE, `finish` makes RUNNING -> DROPPING -> DONE
//! (or GONE, when nobody wants the output), `cancel_now` makes IDLE -> DROPPING ->
//! GONE (or DONE, when the destructor has panicked and there is a handle to tell),
//! `take_output` makes DONE -> GONE. The state changes *before* user code
//! runs, so that whatever that code does finds a cell that says what is going on.
//!
//! # Invariants
//!
//! * **\[THREAD\]** The stage (future, output) and the `Cell`s of the header are touched
//!   only on the thread of the `Owner`. It is proven by one of: an `&Owner`, a `LocalRef`
//!   (both `!Send`, made only there), or `CURRENT == home.id` (set only by
//!   [`Owner::enter`]).
//! * **\[LOCAL\]** `Shared::local` is touched only on that thread, and only until the `Shared`
//!   is given back, after which another thread may take it. It is given back once, empty: when
//!   the `Owner` goes, or, if a cell of its runtime is being cancelled then (those are counted in
//!   `Local::cancelling`), at the end of the last of these. All cells are DONE or GONE then, and
//!   touch it no more. An `Owner` that goes while its runtime is *entered* never gives it back:
//!   `CURRENT` leads to it for ever. `Owner::enter` and `Owner::run` borrow the `Owner`, so this
//!   happens only when the destructors of thread-locals run with these frames on the stack: in
//!   `process::exit`. None of those frames runs again. What is entered last is left first, or
//!   the process is aborted.
//! * **\[STAGE\]** `stage.future` is initialised exactly in IDLE, RUNNING and
//!   DROPPING; `stage.output` exactly in DONE; nothing in GONE. Drop glue never
//!   touches either: a mistake elsewhere leaks, and drops nothing on a foreign
//!   thread.
//! * **\[COUNT\]** A cell is made by `LocalRef::new`, and is there as long as there is a
//!   reference: a `LocalRef`, which `Header::local` counts, or a `Remote`, counted in
//!   `Header::anywhere`, as all the `LocalRef`s together are. Whoever takes the last one away
//!   frees it, with the `Header::kind` that was made for its type. Nothing else does.
//! * **\[LAYOUT\]** Cells are `repr(C)` and begin with their header. A pointer to a header
//!   that stands for a reference comes from a pointer to the whole cell.
//! * **\[PINNED\]** The future is in its cell from the start, is never moved out,
//!   and is dropped in place. No reference to the stage lives across user code but
//!   the pinned one of the poll, or of the drop, itself: both happen in states
//!   (RUNNING, DROPPING) in which nobody else touches it.
//! * **\[POLLED\]** The thread's `POLLED` points to the header of the cell that is being
//!   polled there, or is empty. `Header::begin_poll` sets it and its guard empties it, while the
//!   caller holds a reference to the cell. (If polls were nested, the end of the inner one would
//!   empty it, too: that is no harm.)
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

mod awaiter;
mod census;
mod count;
mod home;
mod refs;
mod registry;
mod reserve;
mod stuck;
mod waits;

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

pub(crate) use self::awaiter::{Awaiter, OwnTask};
pub(crate) use self::census::{TaskSnapshot, sorted};
use self::count::{Headed, Kind, LocalRef, ONE, RefCounts, Remote};
pub(crate) use self::home::{Enter, Entry, Home, Message, Owner, Ran, spawn_here};
use self::home::{Local, Phase, Shared};
pub(crate) use self::refs::{About, Failure, Name, RemoteRef, TaskRef};
pub(crate) use self::waits::WaitKinds;
pub(crate) use self::waits::{WaiterId, is_polling, note, polled, requeue_polled};
use crate::counts::Counts;
use crate::hooks::{self, TaskId, TaskMeta, WaitReason};
use crate::panics::{Payload, discard};
use crate::ready::{Inbox, Notifier, ReadyQueue};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::thread_local;

/// Makes a type `!Send` and `!Sync`.
type NotSend = PhantomData<*const ()>;

// SAFETY: `inbox` is Sync (asserted below). `local` is touched by one thread at a time [LOCAL],
// and goes from one to the next through the mutex of `SPARE`. What it holds then may change
// threads: numbers and flags, the queue and the counts (asserted below), an empty registry, no
// `Watch`, no context, and at most a main cell with one reference, which is this one (`Local::empty`): so its
// counts and `Cell`s go along.
unsafe impl Sync for Shared {}

/// What the claims of this room about threads take for granted.
const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_sync<T: Sync>() {}
    // Of `Shared`.
    is_sync::<Inbox<Message, Notifier>>();
    is_send::<ReadyQueue<Entry>>();
    is_send::<Counts>();
    // Of `Remote`: what other threads read in a header,
    is_sync::<(&'static Kind, Home, Name, &'static Location<'static>)>();
    is_sync::<(AtomicBool, AtomicU32)>();
    // and what the last reference drops with it, wherever it goes.
    is_send::<(&'static Kind, Home, Name, Awaiter)>();
};

thread_local! {
    /// [POLLED]
    static POLLED: Cell<Option<NonNull<Header>>> = const { Cell::new(None) };
}

/// Shows the cell that is being polled on this thread, if one is.
#[inline]
fn with_polled<R>(f: impl FnOnce(&Header) -> R) -> Option<R> {
    // SAFETY: while it is set, the cell is there: its poll is under way, and the caller of that
    // holds a reference [POLLED] [COUNT].
    POLLED
        .with(Cell::get)
        .map(|header| f(unsafe { header.as_ref() }))
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
    /// [COUNT]
    kind: &'static Kind,
    home: Home,
    number: u64,
    name: Name,
    spawned_at: &'static Location<'static>,
    /// Who awaits the end. Cleared when it is woken, and when the handle goes.
    /// [THREAD]
    joiner: Cell<Awaiter>,
    /// Which task has left that. [THREAD]
    joined_by: Cell<WaiterId>,
    /// How often it was polled. [THREAD]
    polls: Cell<u32>,
    /// Its place in the registry while a future is in place.
    slot: u32,
    /// [THREAD]
    state: Cell<State>,
    /// Set while an entry is in the ready queue, and for ever on completion. [THREAD]
    queued: Cell<bool>,
    /// Cleared when the handle detaches or is dropped: nobody will take the
    /// output. [THREAD]
    held: Cell<bool>,
    /// Set when the task is cancelled or aborted: its future is being dropped, or will be at
    /// the end of the poll that is under way. [THREAD]
    cancel: Cell<bool>,
    /// For what it waits, as of its last poll. [THREAD]
    waits: Cell<WaitKinds>,
    /// Set while an entry is in the inbox, and for ever on completion.
    sent: AtomicBool,
    /// Set once by an abort handle.
    aborted: AtomicBool,
    /// Of the [`RefCounts`]. [COUNT]
    local: Cell<u8>,
    /// Of the [`RefCounts`]. [COUNT]
    anywhere: AtomicU32,
}

impl Header {
    /// For a cell of the type `C`.
    #[inline(always)]
    fn new<C: Headed>(
        home: Home,
        slot: u32,
        number: u64,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> Header {
        Header {
            kind: C::KIND,
            home,
            number,
            name,
            spawned_at,
            joiner: Cell::default(),
            joined_by: Cell::new(0),
            polls: Cell::new(0),
            slot,
            state: Cell::new(State::Idle),
            queued: Cell::new(true),
            held: Cell::new(true),
            cancel: Cell::new(false),
            waits: Cell::new(WaitKinds::default()),
            sent: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            local: Cell::new(ONE),
            anywhere: AtomicU32::new(ONE.into()),
        }
    }

    #[inline(always)]
    fn refs(&self) -> RefCounts<'_> {
        RefCounts {
            anywhere: &self.anywhere,
            local: &self.local,
        }
    }

    #[inline]
    fn entry(&self) -> Entry {
        Entry {
            slot: self.slot,
            number: self.number as u32,
        }
    }

    /// Wakes on the cell's own thread. Elsewhere: whether a reference to it is to be
    /// left in the inbox.
    #[inline]
    fn wake(&self) -> bool {
        if self.home.is_current() {
            // SAFETY: it is entered, so this is its thread [THREAD], and it is not given back
            // [LOCAL].
            let local = unsafe { self.home.local() };
            let counts = &local.counts;
            if self.queued.get() {
                counts.wakes_redundant.add(1);
            } else {
                counts.wakes_local.add(1);
                self.queue(local);
            }
            return false;
        }
        !self.sent.swap(true, Ordering::AcqRel)
    }

    /// Queues the cell at the end of the generation. It is being polled.
    #[inline]
    fn requeue(&self) {
        // SAFETY: being polled, it is on its thread [THREAD], and its `Owner` lives [LOCAL].
        let local = unsafe { self.home.local() };
        if !self.queued.replace(true) {
            local.counts.wakes_local.add(1);
            local.ready.defer(self.entry());
            hooks::task_woken(|| self.meta());
        }
    }

    /// Returns whether it was not queued yet. `local` is that of its runtime.
    #[inline]
    fn queue(&self, local: &Local) -> bool {
        let is_new = !self.queued.replace(true);
        if is_new {
            local.ready.push(self.entry());
            hooks::task_woken(|| self.meta());
        }
        is_new
    }

    /// Whether `waker` is this cell's own, and its place stands for it, for who wakes in
    /// `home`.
    #[inline]
    fn is_place_of(&self, home: Home, waker: &Waker) -> bool {
        self.home.id() == home.id() && count::is_waker_of(waker, self)
    }

    fn about(&self) -> About {
        About {
            number: self.number,
            name: self.name.clone(),
            spawned_at: self.spawned_at,
        }
    }

    #[inline]
    fn waiter_id(&self) -> WaiterId {
        let number = match self.slot {
            home::NO_SLOT => !self.number,
            _ => self.number,
        };
        number as u32 ^ (self.home.id() as u32).rotate_left(20)
    }

    #[inline]
    fn task_ref(&self) -> hooks::TaskRef {
        let is_task = self.slot != home::NO_SLOT;
        hooks::TaskRef {
            runtime: self.home.id(),
            id: is_task.then(|| TaskId::new(self.number)),
        }
    }

    #[inline]
    fn meta(&self) -> TaskMeta<'_> {
        TaskMeta {
            task: self.task_ref(),
            name: self.name.as_deref().map(|name| &**name),
            spawned_at: self.spawned_at,
        }
    }

    /// On the owner's thread only.
    #[inline]
    fn is_over(&self) -> bool {
        matches!(self.state.get(), State::Done | State::Gone)
    }

    /// Whether nothing can be queued any more: the future is being dropped, or gone. On the
    /// owner's thread only.
    #[inline]
    fn is_silent(&self) -> bool {
        !matches!(self.state.get(), State::Idle | State::Running)
    }

    /// A poll begins. The caller holds a reference, and drops `Polling` before it lets go.
    #[inline]
    fn begin_poll(&self, local: &Local) -> Polling {
        local.counts.polls.add(1);
        self.polls.set(self.polls.get().saturating_add(1));
        self.waits.set(WaitKinds::default());
        POLLED.with(|polled| polled.set(Some(NonNull::from(self))));
        hooks::poll_started(|| self.meta());
        Polling
    }

    /// From now on nobody queues this cell.
    #[inline]
    fn silence(&self) {
        self.queued.set(true);
        // Whoever has swapped it before this leaves an entry that `admit` throws away.
        self.sent.store(true, Ordering::Release);
    }

    /// Takes the cell out of the registry.
    #[inline(always)]
    fn unregister(&self, local: &Local) {
        let place = {
            let mut tasks = local.tasks.borrow_mut();
            tasks.remove(self.slot, self.number as u32)
        };
        // After the borrow, as a rule: it is not the last reference, the caller has one.
        drop(place);
    }

    /// Has `waker` woken at the end. Returns false if that has come already.
    #[inline]
    fn join(&self, waker: &Waker) -> bool {
        let wait = WaitReason::Task(self.task_ref());
        let own = with_polled(|polled| {
            polled
                .is_place_of(self.home, waker)
                .then(|| (Awaiter::at(polled), polled.note(wait)))
        });
        let Some((new, who)) = own.flatten() else {
            return self.join_other(waker);
        };
        let old = self.joiner.replace(new);
        self.joined_by.set(who);
        if old.waker().is_none() {
            return true;
        }
        drop(old);
        !self.is_over()
    }

    /// As `join`, with a waker that is not that of the task that is being polled.
    #[inline(never)]
    fn join_other(&self, waker: &Waker) -> bool {
        // Cloning and dropping wakers is user code: the slot is empty meanwhile, and the state
        // is looked at again after it.
        let new = self.joiner.take().renew(self.home, waker);
        if self.is_over() {
            return false;
        }
        self.joined_by.set(note(WaitReason::Task(self.task_ref())));
        self.joiner.set(new);
        true
    }

    #[inline]
    fn wake_joiner(&self, local: &Local) {
        self.joiner.take().wake_in(local);
    }
}

/// A cell is being cancelled: meanwhile its runtime's `Local` may be touched, also if the
/// `Owner` goes. [LOCAL]
struct Cancelling {
    home: Home,
    local: &'static Local,
}

impl Cancelling {
    /// # Safety
    ///
    /// As of [`Home::local`].
    unsafe fn begin(home: Home) -> Cancelling {
        // SAFETY: by the caller's promise now, and by the count until `self` is dropped
        // [LOCAL].
        let local = unsafe { home.local() };
        local.cancelling.set(local.cancelling.get() + 1);
        Cancelling { home, local }
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        let left = self.local.cancelling.get() - 1;
        self.local.cancelling.set(left);
        if left == 0 && self.local.phase.get() == Phase::Ownerless {
            // SAFETY: its thread, for `self` is `!Send`. The `Owner` went, closed and not
            // entered, while this was counted, and so left it to the last that is.
            unsafe { self.home.give_back() };
        }
    }
}

/// [POLLED]
struct Polling;

impl Drop for Polling {
    #[inline]
    fn drop(&mut self) {
        POLLED.with(|polled| polled.set(None));
    }
}

impl<C: ?Sized> LocalRef<C> {
    /// Runs `f` inside of the cell's runtime, which is not entered, or not the last that was.
    #[cold]
    fn enter(&self, f: &mut dyn FnMut()) {
        let header = self.header();
        if header.state.get() != State::Idle {
            return f();
        }
        // SAFETY: a `LocalRef` is on the owner's thread [THREAD]. It is IDLE, so the `Owner`
        // lives [LOCAL].
        let local = unsafe { header.home.local() };
        // Out of the borrow, as what `f` does is the user's.
        let context = local.context.borrow().upgrade();
        match context {
            Some(context) => context.enter_for(f),
            None => f(),
        }
    }
}

/// What a cell with a future can do, whatever that is.
trait Raw {
    /// Polls, with the cell's own waker. Called on the owner's thread only [THREAD].
    fn run(&self, waker: &Waker) -> Ran;
    /// Drops the future if it is at rest; marks it if it is running. What its destructor
    /// panics with becomes the task's panic, for the handle; if there is none, it is
    /// returned. Called on the owner's thread only [THREAD].
    fn cancel_now(&self) -> Option<Payload>;
}

/// What a handle can do with the output.
trait Joinable<T>: Raw {
    /// The output, if it is in place. Called on the owner's thread only [THREAD].
    fn take_output(&self) -> Option<Result<T, Payload>>;
}

/// The future, then its output, in one place. Neither has drop glue [STAGE].
union Stage<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, Payload>>,
}

/// [LAYOUT]
#[repr(C)]
struct TaskCell<F: Future> {
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

impl<F: Future> TaskCell<F> {
    /// Drops the future. Returns what its destructor panicked with.
    fn drop_future(&self) -> Option<Payload> {
        debug_assert_eq!(self.header.state.get(), State::Dropping);
        catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: on the owner's thread, for a cell is reached only through a `LocalRef`
            // [THREAD]; DROPPING, so the future is in place [STAGE] and nobody else touches
            // it [PINNED]. Both callers have just set DROPPING, and leave it right after
            // this for a state without a future, also if the destructor panics: so it is
            // dropped once.
            unsafe { ManuallyDrop::drop(&mut (*self.stage.get()).future) }
        }))
        .err()
    }

    /// The poll is over for good: drops the future, keeps the output for the
    /// handle if there is one, and wakes who awaits it.
    fn finish(&self, local: &Local, result: Result<F::Output, Payload>) -> Ran {
        let header = &self.header;
        header.state.set(State::Dropping);
        header.silence();
        let result = match (result, self.drop_future()) {
            (result, None) => result,
            // The destructor has panicked: that is the task's panic then.
            (Ok(output), Some(payload)) => {
                hooks::poll_panicked();
                discard(output);
                Err(payload)
            }
            (Err(first), Some(payload)) => {
                discard(payload);
                Err(first)
            }
        };
        if header.held.get() {
            self.keep(result);
            header.unregister(local);
            header.wake_joiner(local);
            return Ran::Task;
        }
        header.state.set(State::Gone);
        header.unregister(local);
        match result {
            Err(payload) => self.orphan(payload),
            unwanted => {
                discard(unwanted);
                Ran::Task
            }
        }
    }

    /// Keeps the output for the handle. The future has been dropped: DROPPING -> DONE.
    fn keep(&self, result: Result<F::Output, Payload>) {
        debug_assert_eq!(self.header.state.get(), State::Dropping);
        let output = Stage {
            output: ManuallyDrop::new(result),
        };
        // SAFETY: on the owner's thread [THREAD]; the future has been dropped,
        // so nothing is overwritten, and DONE says what is in place [STAGE].
        unsafe { *self.stage.get() = output };
        self.header.state.set(State::Done);
    }

    /// There is no handle to tell of this panic.
    #[cold]
    fn orphan(&self, payload: Payload) -> Ran {
        Ran::Orphan(Box::new((payload, self.header.about())))
    }

    /// As [`Raw::cancel_now`], in a turn.
    #[cold]
    fn run_cancelled(&self) -> Ran
    where
        Self: Raw,
    {
        match self.cancel_now() {
            Some(payload) => self.orphan(payload),
            None => Ran::Task,
        }
    }
}

impl<F: Future + 'static> Raw for TaskCell<F>
where
    F::Output: 'static,
{
    fn run(&self, waker: &Waker) -> Ran {
        let header = &self.header;
        if header.state.get() != State::Idle {
            // It is over, or its future is being dropped.
            return Ran::Stale;
        }
        // Before the poll: a wake from now on leads to another one.
        header.queued.set(false);
        if header.aborted.load(Ordering::Acquire) {
            return self.run_cancelled();
        }
        header.state.set(State::Running);
        // SAFETY: a cell is reached only through a `LocalRef`, so this is the owner's thread
        // [THREAD]. It was IDLE, so the `Owner` lives [LOCAL].
        let polling = header.begin_poll(unsafe { header.home.local() });
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: on the owner's thread, as above [THREAD]; it was IDLE, so the future
            // is in place [STAGE]; it stays in its cell until it is dropped there, and
            // RUNNING keeps all others away [PINNED].
            let future = unsafe { Pin::new_unchecked(&mut *(*self.stage.get()).future) };
            future.poll(&mut Context::from_waker(waker))
        }));
        drop(polling);
        // SAFETY: as above. `Owner::run` has borrowed the `Owner` meanwhile [LOCAL].
        let local = || unsafe { header.home.local() };
        match polled {
            Ok(Poll::Pending) => {
                header.state.set(State::Idle);
                if header.cancel.get() || header.aborted.load(Ordering::Acquire) {
                    return self.run_cancelled();
                }
                Ran::Task
            }
            Ok(Poll::Ready(output)) => self.finish(local(), Ok(output)),
            Err(payload) => {
                hooks::poll_panicked();
                self.finish(local(), Err(payload))
            }
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
        // SAFETY: a cell is reached only through a `LocalRef`, so this is the owner's thread
        // [THREAD]. It was IDLE, so the `Owner` lives [LOCAL].
        let cancelling = unsafe { Cancelling::begin(header.home) };
        header.cancel.set(true);
        header.state.set(State::Dropping);
        header.silence();
        hooks::task_cancelled(|| header.meta());
        let mut panic = self.drop_future();
        match panic.take_if(|_| header.held.get()) {
            Some(payload) => self.keep(Err(payload)),
            None => header.state.set(State::Gone),
        }
        header.unregister(cancelling.local);
        // If there is a panic left there is no handle, and so nobody to wake.
        header.wake_joiner(cancelling.local);
        panic
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
        // SAFETY: on the owner's thread, for a cell is reached only through a `LocalRef`
        // [THREAD]; it was DONE, so the output is in place, and GONE says that it has been
        // moved out [STAGE].
        Some(unsafe { ManuallyDrop::take(&mut (*self.stage.get()).output) })
    }
}

/// Sends the wake to the inbox of the cell's runtime. A closed inbox refuses it.
fn send(cell: Remote) {
    let home = cell.header().home;
    let refused = home.push(Message::Wake(RemoteRef { cell }));
    drop(refused);
}

/// The cell that stands for the future of a `block_on`. Its state is IDLE while
/// that call lasts, and GONE after it: entries and wakers that are left over do
/// nothing then.
/// [LAYOUT]
#[repr(C)]
struct MainCell {
    header: Header,
}

/// The main cell of one `block_on`, for the length of that call.
pub(crate) struct Main<'a> {
    owner: &'a Owner,
    cell: LocalRef<MainCell>,
}

impl Raw for MainCell {
    fn run(&self, _: &Waker) -> Ran {
        unreachable!("the loop polls the future that main stands for")
    }

    fn cancel_now(&self) -> Option<Payload> {
        None
    }
}

impl Main<'_> {
    /// Has it polled when its turn comes. Called once, before its first poll.
    pub(crate) fn queue(&self) {
        self.owner.ready().push(self.cell.header.entry());
    }

    /// Polls the future that main stands for.
    #[inline]
    pub(crate) fn poll<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        // Before the poll: a wake from now on leads to another one.
        self.cell.header.queued.set(false);
        let waker = self.cell.waker();
        let _polling = self.cell.header.begin_poll(self.owner.local());
        let polled = future.poll(&mut Context::from_waker(&waker));
        hooks::poll_ended(polled.is_ready());
        polled
    }
}

impl Drop for Main<'_> {
    #[inline]
    fn drop(&mut self) {
        self.cell.header.state.set(State::Gone);
        self.cell.header.silence();
        // An entry that is left in the queue is nobody's now.
        let main = &self.owner.local().main;
        main.set(main.get() + 1);
    }
}
