//! The task cell: one allocation for header, future and output, which is at the
//! same time the task's waker. Unsafe room 1 of 2.
//!
//! # Who holds what
//!
//! A cell is an `Arc<TaskCell<F>>`. It is referred to by
//!
//! * the registry of its runtime, while a future is in place ([`LocalRef`], `!Send`:
//!   can run); for the length of a poll it is taken out of there;
//! * the task's handle ([`TaskRef`], `!Send`);
//! * entries of the inbox and abort handles ([`RemoteRef`], `Send`: can only wake
//!   and mark);
//! * wakers, anywhere, for as long as they like.
//!
//! The ready queue holds no references, but [`Entry`]s: the task's place in the
//! registry, and its number, which is never used again. So to wake and to run a task on
//! its own thread touches no count.
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
//! ```
//!
//! `run` makes IDLE -> RUNNING -> IDLE, `finish` makes RUNNING -> DROPPING -> DONE
//! (or GONE, when nobody wants the output), `cancel_now` makes IDLE -> DROPPING ->
//! GONE, `take_output` makes DONE -> GONE. The state changes *before* user code
//! runs, so that whatever that code does finds a cell that says what is going on.
//!
//! # Invariants
//!
//! * **\[THREAD\]** The stage (future, output) and the `Cell`s of the header are touched
//!   only on the thread of the `Owner`. It is proven by one of: an `&Owner`, a `LocalRef`
//!   or a `TaskRef` (all `!Send`, made only there), or `CURRENT == home.id` (set only by
//!   [`Owner::enter`]).
//! * **\[LOCAL\]** `Shared::local` is touched only on that thread, and only while the
//!   `Owner` lives, or a cell of its runtime is RUNNING or DROPPING: those are counted in
//!   `Local::busy`, and an `Owner` that goes while one is busy does not give its `Shared`
//!   back. After that all cells are DONE or GONE, and touch it no more.
//! * **\[STAGE\]** `stage.future` is initialised exactly in IDLE, RUNNING and
//!   DROPPING; `stage.output` exactly in DONE; nothing in GONE. Drop glue never
//!   touches either: a mistake elsewhere leaks, and drops nothing on a foreign
//!   thread.
//! * **\[PINNED\]** The future is in its `Arc` from the start, is never moved out,
//!   and is dropped in place. No reference to the stage lives across user code but
//!   the pinned one of the poll, or of the drop, itself: both happen in states
//!   (RUNNING, DROPPING) in which nobody else touches it.
//! * **\[POLLED\]** The thread's `POLLED` points to the header of the cell that is being
//!   polled there, if one is. `Header::begin_poll` sets it and its guard resets it, while the
//!   caller holds a reference. Polls do not nest: a runtime runs in no other.
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

mod census;
mod home;
mod refs;
mod stuck;
mod waits;

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

pub(crate) use self::census::Seen;
use self::home::{Entry, Polled, Shared};
pub(crate) use self::home::{Home, Message, Owner, Ran};
pub(crate) use self::refs::{About, Failure, Name, RemoteRef, TaskRef};
pub(crate) use self::waits::Waits;
pub(crate) use self::waits::{Wait, Who, note, polled};
use crate::panics::{Payload, discard};
use crate::record;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread_local;

/// Makes a type `!Send` and `!Sync`.
type NotSend = PhantomData<*const ()>;

// SAFETY: `inbox` is Sync. `local` is touched by one thread at a time [LOCAL]: it goes
// from one to the next through the mutex of `SPARE`, without tasks.
unsafe impl Sync for Shared {}

thread_local! {
    /// [POLLED]
    static POLLED: Cell<Option<NonNull<Header>>> = const { Cell::new(None) };
}

/// Shows the cell that is being polled on this thread, if one is.
#[inline]
fn with_polled<R>(f: impl FnOnce(&Header) -> R) -> Option<R> {
    // SAFETY: while it is set, the cell is there [POLLED]: we are called by its poll.
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
    home: Home,
    number: u64,
    name: Name,
    spawned_at: &'static Location<'static>,
    /// Who awaits the end. Cleared when it is woken, and when the handle goes.
    /// [THREAD]
    joiner: Cell<Option<Waker>>,
    /// Which task has left that waker. [THREAD]
    joined_by: Cell<Who>,
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
    /// Set when the task is to be dropped at the end of the poll (or drop) that
    /// is under way. [THREAD]
    cancel: Cell<bool>,
    /// For what it waits, as of its last poll. [THREAD]
    waits: Cell<Waits>,
    /// Set while an entry is in the inbox, and for ever on completion.
    sent: AtomicBool,
    /// Set once by an abort handle.
    aborted: AtomicBool,
}

impl Header {
    #[inline(always)]
    fn new(
        home: Home,
        slot: u32,
        number: u64,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> Header {
        Header {
            home,
            number,
            name,
            spawned_at,
            joiner: Cell::new(None),
            joined_by: Cell::new(0),
            polls: Cell::new(0),
            slot,
            state: Cell::new(State::Idle),
            queued: Cell::new(true),
            held: Cell::new(true),
            cancel: Cell::new(false),
            waits: Cell::new(Waits::default()),
            sent: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
        }
    }

    #[inline]
    fn entry(&self) -> Entry {
        Entry {
            slot: self.slot,
            number: self.number,
        }
    }

    /// Wakes on the cell's own thread. Elsewhere: whether a reference to it is to be
    /// left in the inbox.
    #[inline]
    fn wake(&self) -> bool {
        if self.home.is_current() {
            // The owner's thread, by [THREAD].
            let local = self.home.local();
            if self.queued.replace(true) {
                local.counts.wakes_redundant.add(1);
            } else {
                local.counts.wakes_local.add(1);
                local.ready.push(self.entry());
                record::woken(|| self.subject());
            }
            return false;
        }
        !self.sent.swap(true, Ordering::AcqRel)
    }

    fn about(&self) -> About {
        About {
            number: self.number,
            name: self.name.clone(),
            spawned_at: self.spawned_at,
        }
    }

    #[inline]
    fn who(&self) -> Who {
        let number = match self.slot {
            home::NO_SLOT => !self.number,
            _ => self.number,
        };
        number as u32 ^ (self.home.id() as u32).rotate_left(20)
    }

    #[inline]
    fn subject(&self) -> record::Subject<'_> {
        let is_main = self.slot == home::NO_SLOT;
        record::Subject {
            runtime: self.home.id(),
            number: if is_main { 0 } else { self.number },
            name: self.name.as_deref().map(|name| &**name),
            spawned_at: self.spawned_at,
        }
    }

    /// On the owner's thread only.
    #[inline]
    fn is_over(&self) -> bool {
        matches!(self.state.get(), State::Done | State::Gone)
    }

    /// For the length of a poll, or of a drop. [LOCAL]
    #[inline]
    fn busy(&self) -> Busy {
        let local = self.home.local();
        local.busy.set(local.busy.get() + 1);
        Busy(&local.busy)
    }

    /// A poll begins. The caller holds a reference, and drops `Polling` before it lets go.
    #[inline]
    fn begin_poll(&self) -> Polling {
        self.home.local().counts.polls.add(1);
        self.polls.set(self.polls.get().saturating_add(1));
        self.waits.set(Waits::default());
        POLLED.with(|polled| polled.set(Some(NonNull::from(self))));
        record::poll_begins(|| self.subject());
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
    #[inline]
    fn unregister(&self) {
        let place = {
            let mut tasks = self.home.local().tasks.borrow_mut();
            match tasks.get(self.slot as usize) {
                Some(place) if place.number == self.number => {
                    Some(tasks.remove(self.slot as usize))
                }
                _ => None,
            }
        };
        // After the borrow: it may be the last reference.
        drop(place);
    }

    #[inline]
    fn wake_joiner(&self) {
        if let Some(joiner) = self.joiner.take() {
            joiner.wake();
        }
    }
}

struct Busy(&'static Cell<usize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
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

/// What everybody can do with a cell.
trait Wakeable: Send + Sync {
    fn header(&self) -> &Header;
}

/// What a cell with a future can do, whatever that is.
trait Raw: Wakeable {
    /// Polls. Called on the owner's thread only [THREAD], with the reference that was
    /// taken out of the registry.
    fn run(self: Arc<Self>) -> Polled;
    /// Drops the future if it is at rest; marks it if it is running. Returns what
    /// its destructor panicked with. Called on the owner's thread only [THREAD].
    fn cancel_now(&self) -> Option<Payload>;
    fn waker(self: Arc<Self>) -> Waker;
}

/// What a handle can do with the output.
trait Joinable<T>: Raw {
    /// The output, if it is in place. Called on the owner's thread only [THREAD].
    fn take_output(&self) -> Option<Result<T, Payload>>;
    fn erase(self: Arc<Self>) -> Arc<dyn Wakeable>;
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
    /// Drops the future. Returns what its destructor panicked with.
    fn drop_future(&self) -> Option<Payload> {
        debug_assert_eq!(self.header.state.get(), State::Dropping);
        let _busy = self.header.busy();
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
                record::panicked();
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
            Err(payload) if !header.cancel.get() => {
                Ran::Orphan(Box::new((payload, header.about())))
            }
            unwanted => {
                discard(unwanted);
                Ran::Task
            }
        }
    }
}

impl<F: Future> Wakeable for TaskCell<F> {
    fn header(&self) -> &Header {
        &self.header
    }
}

impl<F: Future + 'static> Raw for TaskCell<F>
where
    F::Output: 'static,
{
    fn run(self: Arc<Self>) -> Polled {
        let header = &self.header;
        debug_assert_eq!(header.state.get(), State::Idle);
        // SAFETY: the pointer comes from an `Arc`. The waker takes over a count that is
        // not its own, but is never dropped, and `self` outlives it: no count is touched.
        let waker = ManuallyDrop::new(Waker::from(unsafe { Arc::from_raw(Arc::as_ptr(&self)) }));
        // Before the poll: a wake from now on leads to another one.
        header.queued.set(false);
        if header.aborted.load(Ordering::Acquire) {
            discard(self.cancel_now());
            return Polled::Over(Ran::Task);
        }
        header.state.set(State::Running);
        let _busy = header.busy();
        let polling = header.begin_poll();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: it was IDLE, so the future is in place [STAGE]; it is pinned
            // by its cell, and RUNNING keeps everyone else away [PINNED].
            let future = unsafe { Pin::new_unchecked(&mut *(*self.stage.get()).future) };
            future.poll(&mut Context::from_waker(&waker))
        }));
        drop(polling);
        match polled {
            Ok(Poll::Pending) => {
                header.state.set(State::Idle);
                if header.cancel.get() || header.aborted.load(Ordering::Acquire) {
                    discard(self.cancel_now());
                    return Polled::Over(Ran::Task);
                }
                Polled::Pending(self)
            }
            Ok(Poll::Ready(output)) => Polled::Over(self.finish(Ok(output))),
            Err(payload) => {
                record::panicked();
                Polled::Over(self.finish(Err(payload)))
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
        header.state.set(State::Dropping);
        header.silence();
        record::cancelled(|| header.subject());
        let payload = self.drop_future();
        header.state.set(State::Gone);
        header.unregister();
        header.wake_joiner();
        payload
    }

    fn waker(self: Arc<Self>) -> Waker {
        self.into()
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

    fn erase(self: Arc<Self>) -> Arc<dyn Wakeable> {
        self
    }
}

impl<F: Future + 'static> Wake for TaskCell<F> {
    fn wake(self: Arc<Self>) {
        if self.header.wake() {
            send(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.header.wake() {
            send(self.clone());
        }
    }
}

/// Leaves word in the inbox of the cell's runtime. A closed inbox gives it back.
fn send(cell: Arc<dyn Wakeable>) {
    let home = cell.header().home;
    let refused = home.push(Message::Wake(RemoteRef { cell }));
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

impl Wakeable for MainCell {
    fn header(&self) -> &Header {
        &self.header
    }
}

impl Wake for MainCell {
    fn wake(self: Arc<Self>) {
        if self.header.wake() {
            send(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.header.wake() {
            send(self.clone());
        }
    }
}

/// The main cell of one `block_on`, for the length of that call. The runtime holds it, but
/// for the length of a poll: as a task's.
pub(crate) struct Main<'a> {
    owner: &'a Owner,
}

impl Main<'_> {
    /// Polls the future that main stands for.
    pub(crate) fn poll<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        /// Also when the future panics.
        struct PutBack<'a>(&'a Owner, Option<Arc<MainCell>>);
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                self.0.home.local().main_cell.set(self.1.take());
            }
        }
        let cell = self.owner.home.local().main_cell.take();
        let taken = PutBack(self.owner, cell);
        let cell = taken.1.as_ref().expect("no other poll is under way");
        // Before the poll: a wake from now on leads to another one.
        cell.header.queued.set(false);
        // SAFETY: as in `TaskCell::run`: `taken` outlives the waker, which is never
        // dropped.
        let waker = unsafe { Arc::from_raw(Arc::as_ptr(cell)) };
        let waker = ManuallyDrop::new(Waker::from(waker));
        let _polling = cell.header.begin_poll();
        let polled = future.poll(&mut Context::from_waker(&waker));
        record::poll_ends(polled.is_ready());
        polled
    }
}

impl Drop for Main<'_> {
    fn drop(&mut self) {
        let local = self.owner.home.local();
        if let Some(cell) = local.main_cell.take() {
            cell.header.state.set(State::Gone);
            cell.header.silence();
            local.main_cell.set(Some(cell));
        }
        // An entry that is left in the queue is nobody's now.
        local.main.set(local.main.get() + 1);
    }
}

/// The registry's reference: can run.
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
