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
use super::header::{Header, LocalRef, LocalTask, NO_SLOT, Remote, TaskScheduler, Vtable};
use super::label::Name;
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

/// [LAYOUT]
#[repr(C)]
struct TaskCell<F: Future, S> {
    header: Header,
    stage: UnsafeCell<Stage<F>>,
    _scheduler: PhantomData<S>,
}

/// The cell that stands for the future of a `block_on`, which stays on the stack. Its state is
/// IDLE while that call lasts, and GONE after it: wakers that are left over do nothing then.
/// [LAYOUT]
#[repr(C)]
struct MainCell<S> {
    header: Header,
    _scheduler: PhantomData<S>,
}

/// What the vtable calls. All functions are called on the executor's thread only [THREAD].
trait Run {
    /// As [`LocalTask::run`].
    fn run(&self, waker: &Waker) -> Ran;
    /// As [`LocalTask::cancel`].
    fn cancel(&self) -> Option<Payload>;
}

/// What a handle does with the output.
pub(super) trait Joinable<T> {
    /// The output, if it is in place. Called on the executor's thread only [THREAD].
    fn take_output(&self) -> Option<Result<T, Payload>>;
}

/// A cell: it begins with its header.
///
/// # Safety
///
/// The type is `repr(C)`, and its first field is the `Header` [LAYOUT].
unsafe trait Headed: Run + Sized {
    type Scheduler: TaskScheduler;

    const VTABLE: &'static Vtable = &Vtable {
        free: free::<Self>,
        run: run::<Self>,
        cancel: cancel::<Self>,
        schedule: Self::Scheduler::schedule,
    };
}

// SAFETY: `TaskCell` is `repr(C)`, and `header` is its first field [LAYOUT].
unsafe impl<F: Future + 'static, S: TaskScheduler> Headed for TaskCell<F, S>
where
    F::Output: 'static,
{
    type Scheduler = S;
}

// SAFETY: `MainCell` is `repr(C)`, and `header` is its first field [LAYOUT].
unsafe impl<S: TaskScheduler> Headed for MainCell<S> {
    type Scheduler = S;
}

/// # Safety
///
/// The header is that of a `C`, the pointer comes from a pointer to the whole cell, and this is
/// the executor's thread. The caller holds a reference meanwhile.
unsafe fn run<C: Headed>(header: NonNull<Header>, waker: &Waker) -> Ran {
    // SAFETY: a `C` begins with its header, so this points to it [LAYOUT]; it exists as long
    // as the caller's reference [COUNT].
    unsafe { header.cast::<C>().as_ref() }.run(waker)
}

/// # Safety
///
/// As of `run`.
unsafe fn cancel<C: Headed>(header: NonNull<Header>) -> Option<Payload> {
    // SAFETY: as in `run`.
    unsafe { header.cast::<C>().as_ref() }.cancel()
}

/// # Safety
///
/// The header is that of a `C` that [`allocate`] has made, the pointer comes from a pointer to
/// the whole cell, and the last reference to it is gone.
unsafe fn free<C: Headed>(header: NonNull<Header>) {
    // SAFETY: `allocate` has made it from a `Box<C>`, `C` begins with its header [LAYOUT], and
    // no reference is left [COUNT]. It may be any thread: what the header drops is Send, and its
    // joiner is empty [JOINER]; the stage has no drop glue [STAGE].
    drop(unsafe { Box::from_raw(header.cast::<C>().as_ptr()) });
}

/// Builds the cell where it stays: built on the stack, it would be read back at once in other
/// pieces than it was written in, and the processor waits for that.
#[inline(always)]
fn allocate<C: Headed>(cell: impl FnOnce() -> C) -> LocalRef<C> {
    let mut place = Box::<C>::new_uninit();
    place.write(cell());
    // SAFETY: it has just been written.
    let cell = NonNull::from(Box::leak(unsafe { place.assume_init() }));
    // SAFETY: a new header counts one local reference [COUNT]. A `C` begins with its header
    // [LAYOUT]. The callers ask for a proof of the thread [THREAD].
    unsafe { LocalRef::from_raw(cell) }
}

#[inline(always)]
fn header<C: Headed>(
    remote: Remote,
    slot: u32,
    number: u64,
    name: Name,
    spawned_at: &'static Location<'static>,
) -> Header {
    Header {
        vtable: C::VTABLE,
        remote,
        number,
        name,
        spawned_at,
        joiner: Cell::default(),
        joined_by: Cell::new(0),
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
    }
}

/// Makes a cell that counts as queued. Returns the executor's reference, and the handle's.
///
/// # Safety
///
/// This is the thread of the executor `remote` [THREAD].
#[inline(always)]
pub(super) unsafe fn new_task<F, S: TaskScheduler>(
    remote: Remote,
    slot: u32,
    number: u64,
    future: F,
    name: Name,
    spawned_at: &'static Location<'static>,
) -> (LocalTask, LocalRef<dyn Joinable<F::Output>>)
where
    F: Future + 'static,
    F::Output: 'static,
{
    let cell = allocate(|| TaskCell::<F, S> {
        header: header::<TaskCell<F, S>>(remote, slot, number, name, spawned_at),
        stage: UnsafeCell::new(Stage {
            future: ManuallyDrop::new(future),
        }),
        _scheduler: PhantomData,
    });
    let joinable: NonNull<dyn Joinable<F::Output>> = cell.as_ptr();
    // SAFETY: it is a pointer to the whole cell [LAYOUT].
    let joinable = unsafe { cell.clone_as(joinable) };
    (cell.into_task(), joinable)
}

impl<F: Future, S> TaskCell<F, S> {
    /// Drops the future. Returns what its destructor panicked with.
    fn drop_future(&self) -> Option<Payload> {
        debug_assert_eq!(self.header.state.get(), State::Dropping);
        catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: on the executor's thread, since a cell is reached only through a
            // `LocalRef` [THREAD]; DROPPING, so the future is in place [STAGE] and nothing else
            // touches it [PINNED]. Both callers have just set DROPPING, and set a state without
            // a future right after this, even if the destructor panics. So the drop happens once.
            unsafe { ManuallyDrop::drop(&mut (*self.stage.get()).future) }
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
        unsafe { *self.stage.get() = output };
        self.header.state.set(State::Done);
    }
}

impl<F: Future, S> Run for TaskCell<F, S> {
    fn run(&self, waker: &Waker) -> Ran {
        let header = &self.header;
        if header.state.get() != State::Idle {
            return Ran::Stale;
        }
        // Before the poll: a wake from now on leads to another one.
        header.queued.set(false);
        if header.aborted.load(Ordering::Acquire) {
            return Ran::Cancelled(self.cancel());
        }
        header.state.set(State::Running);
        let polling = header.begin_poll();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: on the executor's thread, since a cell is reached only through a
            // `LocalRef` [THREAD]; it was IDLE, so the future is in place [STAGE]; it stays in
            // its cell until it is dropped there, and RUNNING keeps all others away [PINNED].
            let future = unsafe { Pin::new_unchecked(&mut *(*self.stage.get()).future) };
            future.poll(&mut Context::from_waker(waker))
        }));
        drop(polling);
        match polled {
            Ok(Poll::Pending) => {
                header.state.set(State::Idle);
                if header.cancelled.get() || header.aborted.load(Ordering::Acquire) {
                    return Ran::Over(self.cancel());
                }
                Ran::Pending
            }
            Ok(Poll::Ready(output)) => Ran::Over(self.finish(Ok(output))),
            Err(payload) => {
                hooks::poll_panicked();
                Ran::Over(self.finish(Err(payload)))
            }
        }
    }

    fn cancel(&self) -> Option<Payload> {
        let header = &self.header;
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
        let mut panic = self.drop_future();
        match panic.take_if(|_| header.held.get()) {
            Some(payload) => self.keep(Err(payload)),
            None => header.state.set(State::Gone),
        }
        panic
    }
}

impl<F: Future, S> Joinable<F::Output> for TaskCell<F, S> {
    fn take_output(&self) -> Option<Result<F::Output, Payload>> {
        if self.header.state.get() != State::Done {
            return None;
        }
        self.header.state.set(State::Gone);
        // SAFETY: on the executor's thread, since a cell is reached only through a `LocalRef`
        // [THREAD]; it was DONE, so the output is in place, and GONE says that it has been
        // moved out [STAGE].
        Some(unsafe { ManuallyDrop::take(&mut (*self.stage.get()).output) })
    }
}

impl<S> Run for MainCell<S> {
    fn run(&self, _: &Waker) -> Ran {
        match self.header.state.get() {
            State::Idle => Ran::Main,
            _ => Ran::Stale,
        }
    }

    fn cancel(&self) -> Option<Payload> {
        None
    }
}

/// The cell that stands for the future of a `block_on`.
pub(crate) struct MainTask<S>(LocalRef<MainCell<S>>);

impl<S: TaskScheduler> MainTask<S> {
    /// Makes a cell that counts as queued.
    ///
    /// # Safety
    ///
    /// This is the thread of the executor `remote` [THREAD].
    pub(super) unsafe fn new(
        remote: Remote,
        number: u64,
        called_at: &'static Location<'static>,
    ) -> MainTask<S> {
        MainTask(allocate(|| MainCell {
            header: header::<MainCell<S>>(remote, NO_SLOT, number, None, called_at),
            _scheduler: PhantomData,
        }))
    }

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

impl<S> Clone for MainTask<S> {
    #[inline]
    fn clone(&self) -> Self {
        MainTask(self.0.clone())
    }
}
