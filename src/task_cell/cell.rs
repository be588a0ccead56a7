//! The cell: header, and a place for the future and then for its output.

#![expect(
    unsafe_code,
    reason = "the stage of a cell, and the functions of its vtable"
)]

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::counts::RefCounts;
use super::handle::{JoinRef, Joinable};
use super::header::{Header, LocalRef, LocalTask, NO_SLOT, TaskScheduler, Vtable};
use super::label::Name;
use super::owner::Owner;
use super::state::{Ran, State};
use super::wait_kinds::WaitKinds;
use crate::hooks;
use crate::panics::{Payload, discard};
use crate::sync::atomic::{AtomicBool, Ordering};

/// The future, then its output, in one place. Neither has drop glue [STAGE].
union Stage<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, Payload>>,
}

/// A header, and what the cell is for. [LAYOUT]
#[repr(C)]
struct TaskCell<B> {
    header: Header,
    body: B,
}

/// What a cell is for: a task, or the future of a `block_on`.
///
/// What the vtable calls. All functions are called on the executor's thread only [THREAD].
trait Body: Sized {
    /// As [`LocalTask::run`].
    fn run(cell: &TaskCell<Self>, waker: &Waker) -> Ran;
    /// As [`LocalTask::cancel`].
    fn cancel(cell: &TaskCell<Self>) -> Option<Payload>;
}

/// The body of a task.
struct Spawned<F: Future>(UnsafeCell<Stage<F>>);

/// The body of the cell that stands for the future of a `block_on`, which stays on the stack. Its
/// state is IDLE while that call lasts, and GONE after it: wakers that are left over do nothing
/// then.
pub(super) struct Main;

/// The vtable of the cells with the body `B` and the scheduler `S`.
struct VtableOf<B, S>(PhantomData<(B, S)>);

impl<B: Body, S: TaskScheduler> VtableOf<B, S> {
    const VTABLE: &'static Vtable = &Vtable {
        free: free::<B>,
        run: run::<B>,
        cancel: cancel::<B>,
        schedule: S::schedule,
    };
}

/// # Safety
///
/// The header is that of a `TaskCell<B>`, the pointer comes from a pointer to the whole cell, and
/// this is the executor's thread. The caller holds a reference meanwhile.
unsafe fn run<B: Body>(header: NonNull<Header>, waker: &Waker) -> Ran {
    // SAFETY: a cell begins with its header, so this points to it [LAYOUT]; it exists as long as
    // the caller's reference [COUNT].
    B::run(unsafe { header.cast().as_ref() }, waker)
}

/// # Safety
///
/// As of `run`.
unsafe fn cancel<B: Body>(header: NonNull<Header>) -> Option<Payload> {
    // SAFETY: as in `run`.
    B::cancel(unsafe { header.cast().as_ref() })
}

/// # Safety
///
/// The header is that of a `TaskCell<B>` that [`allocate`] has made, the pointer comes from a
/// pointer to the whole cell, and the last reference to it is gone.
unsafe fn free<B>(header: NonNull<Header>) {
    // SAFETY: `allocate` has made it from a `Box<TaskCell<B>>`, which begins with its header
    // [LAYOUT], and no reference is left [COUNT]. It may be any thread: what the header drops is
    // Send, and its joiner is empty [JOINER]; the body has no drop glue [STAGE].
    drop(unsafe { Box::from_raw(header.cast::<TaskCell<B>>().as_ptr()) });
}

/// Makes a cell that counts as queued. The owner proves the thread.
///
/// Builds the cell where it stays: built on the stack, it would be read back at once in other
/// pieces than it was written in, and the processor waits for that.
#[inline(always)]
fn allocate<B: Body, S: TaskScheduler>(
    owner: &Owner,
    slot: u32,
    number: u64,
    name: Name,
    spawned_at: &'static Location<'static>,
    body: impl FnOnce() -> B,
) -> LocalRef<TaskCell<B>> {
    let mut place = Box::<TaskCell<B>>::new_uninit();
    place.write(TaskCell {
        header: Header {
            vtable: VtableOf::<B, S>::VTABLE,
            remote: owner.remote(),
            number,
            name,
            spawned_at,
            joiner: Cell::default(),
            polls: Cell::new(0),
            slot,
            refs: RefCounts::new(),
            state: Cell::new(State::Idle),
            queued: Cell::new(true),
            held: Cell::new(true),
            cancelled: Cell::new(false),
            waits: Cell::new(WaitKinds::default()),
            sent: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
        },
        body: body(),
    });
    // SAFETY: it has just been written.
    let cell = NonNull::from(Box::leak(unsafe { place.assume_init() }));
    // SAFETY: a new header counts one local reference [COUNT]. A cell begins with its header
    // [LAYOUT]. `owner` proves the thread of the executor in the header [THREAD].
    unsafe { LocalRef::from_raw(cell) }
}

impl Owner {
    /// Makes a task that counts as queued: the executor puts it into its registry, under the
    /// key `slot`, and on its ready queue.
    #[inline(always)]
    pub(crate) fn new_task<F, S: TaskScheduler>(
        &self,
        slot: usize,
        number: u64,
        future: F,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> (LocalTask, JoinRef<F::Output>)
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        // The last value stands for main.
        assert!(slot < u32::MAX as usize, "more than 4,294,967,294 tasks");
        let body = || {
            let future = ManuallyDrop::new(future);
            Spawned(UnsafeCell::new(Stage { future }))
        };
        let cell = allocate::<_, S>(self, slot as u32, number, name, spawned_at, body);
        let joinable: NonNull<dyn Joinable<F::Output>> = cell.as_ptr();
        // SAFETY: it is a pointer to the whole cell [LAYOUT].
        let joinable = unsafe { cell.clone_as(joinable) };
        (cell.into_task(), JoinRef::new(joinable))
    }

    /// Makes the cell of a `block_on`, which counts as queued.
    pub(crate) fn new_main<S: TaskScheduler>(
        &self,
        number: u64,
        called_at: &'static Location<'static>,
    ) -> MainTask {
        MainTask(allocate::<_, S>(
            self,
            NO_SLOT,
            number,
            None,
            called_at,
            || Main,
        ))
    }
}

impl<F: Future> TaskCell<Spawned<F>> {
    /// Drops the future. Returns what its destructor panicked with.
    fn drop_future(&self) -> Option<Payload> {
        debug_assert_eq!(self.header.state.get(), State::Dropping);
        catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: on the executor's thread, since a cell is reached only through a
            // `LocalRef` [THREAD]; DROPPING, so the future is in place [STAGE] and nothing else
            // touches it [PINNED]. Both callers have just set DROPPING, and set a state without
            // a future right after this, even if the destructor panics. So the drop happens once.
            unsafe { ManuallyDrop::drop(&mut (*self.body.0.get()).future) }
        }))
        .err()
    }

    /// The future has returned or panicked: drops it, and keeps the result for the handle if
    /// there is one. Returns a panic that no handle can receive.
    fn finish(&self, result: Result<F::Output, Payload>) -> Option<Payload> {
        let header = &self.header;
        header.state.set(State::Dropping);
        header.disable_wakes();
        let result = match (result, self.drop_future()) {
            (result, None) => result,
            // A panic of the destructor is the task's panic.
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
            return None;
        }
        header.state.set(State::Gone);
        match result {
            Err(payload) => Some(payload),
            Ok(output) => {
                discard(output);
                None
            }
        }
    }

    /// Keeps the result for the handle. The future has been dropped: DROPPING -> DONE.
    fn keep(&self, result: Result<F::Output, Payload>) {
        debug_assert_eq!(self.header.state.get(), State::Dropping);
        let output = Stage {
            output: ManuallyDrop::new(result),
        };
        // SAFETY: on the executor's thread [THREAD]; the future has been dropped, so nothing is
        // overwritten, and DONE says what is in place [STAGE].
        unsafe { *self.body.0.get() = output };
        self.header.state.set(State::Done);
    }
}

impl<F: Future> Body for Spawned<F> {
    fn run(cell: &TaskCell<Self>, waker: &Waker) -> Ran {
        let header = &cell.header;
        if header.state.get() != State::Idle {
            return Ran::Stale;
        }
        // Before the poll: a wake from now on leads to another one.
        header.queued.set(false);
        if header.aborted.load(Ordering::Acquire) {
            return Ran::Cancelled(Self::cancel(cell));
        }
        header.state.set(State::Running);
        let polling = header.begin_poll();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: on the executor's thread, since a cell is reached only through a
            // `LocalRef` [THREAD]; it was IDLE, so the future is in place [STAGE]; it stays in
            // its cell until it is dropped there, and RUNNING keeps all others away [PINNED].
            let future = unsafe { Pin::new_unchecked(&mut *(*cell.body.0.get()).future) };
            future.poll(&mut Context::from_waker(waker))
        }));
        drop(polling);
        match polled {
            Ok(Poll::Pending) => {
                header.state.set(State::Idle);
                if header.cancelled.get() || header.aborted.load(Ordering::Acquire) {
                    return Ran::Over(Self::cancel(cell));
                }
                Ran::Pending
            }
            Ok(Poll::Ready(output)) => Ran::Over(cell.finish(Ok(output))),
            Err(payload) => {
                hooks::poll_panicked();
                Ran::Over(cell.finish(Err(payload)))
            }
        }
    }

    fn cancel(cell: &TaskCell<Self>) -> Option<Payload> {
        let header = &cell.header;
        match header.state.get() {
            State::Idle => {}
            State::Running | State::Dropping => {
                header.cancelled.set(true);
                return None;
            }
            State::Done | State::Gone => return None,
        }
        header.cancelled.set(true);
        header.state.set(State::Dropping);
        header.disable_wakes();
        hooks::task_cancelled(|| header.meta());
        let mut panic = cell.drop_future();
        match panic.take_if(|_| header.held.get()) {
            Some(payload) => cell.keep(Err(payload)),
            None => header.state.set(State::Gone),
        }
        panic
    }
}

impl<F: Future> Joinable<F::Output> for TaskCell<Spawned<F>> {
    fn take_output(&self) -> Option<Result<F::Output, Payload>> {
        if self.header.state.get() != State::Done {
            return None;
        }
        self.header.state.set(State::Gone);
        // SAFETY: on the executor's thread, since a cell is reached only through a `LocalRef`
        // [THREAD]; it was DONE, so the output is in place, and GONE says that it has been
        // moved out [STAGE].
        Some(unsafe { ManuallyDrop::take(&mut (*self.body.0.get()).output) })
    }
}

impl Body for Main {
    fn run(cell: &TaskCell<Self>, _: &Waker) -> Ran {
        match cell.header.state.get() {
            State::Idle => Ran::Main,
            _ => Ran::Stale,
        }
    }

    fn cancel(_: &TaskCell<Self>) -> Option<Payload> {
        None
    }
}

/// The cell that stands for the future of a `block_on`.
#[derive(Clone)]
pub(crate) struct MainTask(LocalRef<TaskCell<Main>>);

impl MainTask {
    /// Makes it the cell of another call, as if it were new. Returns false if something still
    /// refers to it.
    #[inline]
    pub(crate) fn reuse(&mut self, number: u64, called_at: &'static Location<'static>) -> bool {
        let Some(cell) = self.0.get_mut() else {
            return false;
        };
        cell.header.number = number;
        cell.header.spawned_at = called_at;
        cell.header.state.set(State::Idle);
        cell.header.polls.set(0);
        cell.header.sent = AtomicBool::new(false);
        true
    }

    /// Polls the future of the call.
    #[inline]
    pub(crate) fn poll<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        // Before the poll: a wake from now on leads to another one.
        self.0.header.queued.set(false);
        let waker = self.0.waker();
        let _polling = self.0.header.begin_poll();
        let polled = future.poll(&mut Context::from_waker(&waker));
        hooks::poll_ended(polled.is_ready());
        polled
    }

    /// The call is over: wakers that are left over do nothing from now on.
    #[inline]
    pub(crate) fn finish(&self) {
        self.0.header.state.set(State::Gone);
        self.0.header.disable_wakes();
    }

    pub(crate) fn task(&self) -> LocalTask {
        self.0.task()
    }
}
