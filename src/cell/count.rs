//! The references to a cell, and how they are counted: what an `Arc` does elsewhere.
//!
//! Each change of an `Arc`'s count is a locked instruction, and a task that was spawned
//! and awaited made six of them: a third of its cost. Most references never leave the
//! runtime's thread. They have a count of their own that needs no lock, and hold one of
//! the others together. A task that no other thread hears of makes none at all.

#![expect(unsafe_code, reason = "room 1: pointers to cells, and their counts")]

use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::{Header, Joinable, MainCell, Payload, Ran, Raw, TaskCell, send, with_polled};
use crate::sync::atomic::{AtomicU32, Ordering};

/// How many references there are. Each of the functions that take one away says whether
/// it was the last of all.
/// They are two fields of the header, so that the rest of a word is of use there.
#[derive(Clone, Copy)]
pub(super) struct RefCounts<'a> {
    /// Those that may be anywhere, and one more while there are local ones.
    pub(super) anywhere: &'a AtomicU32,
    /// Those that stay on the owner's thread. [THREAD]
    pub(super) local: &'a std::cell::Cell<u8>,
}

/// What both counts begin with: one local reference.
pub(super) const ONE: u8 = 1;

impl RefCounts<'_> {
    fn add(self) {
        // It is made from one that is there: nothing has to be seen in an order.
        if self.anywhere.fetch_add(1, Ordering::Relaxed) > u32::MAX / 2 {
            // Somebody leaks wakers. One more turn of the counter would free the cell.
            std::process::abort();
        }
    }

    fn remove(self) -> bool {
        // What was done through this reference happens before the cell is freed.
        if self.anywhere.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // What was done through the others, too. Not a fence: ThreadSanitizer knows none.
        self.anywhere.load(Ordering::Acquire);
        true
    }

    #[inline]
    fn add_local(self) {
        // Few: the registry's, the handle's, that of the poll, and what `polled` makes.
        self.local.set(self.local.get() + 1);
    }

    #[inline]
    fn remove_local(self) -> bool {
        let left = self.local.get() - 1;
        self.local.set(left);
        // If the local ones' is the only one that is left, nobody can make another one.
        left == 0 && (self.anywhere.load(Ordering::Acquire) == 1 || self.remove())
    }

    /// Whether there is one reference, a local one.
    fn is_one_local(self) -> bool {
        self.local.get() == 1 && self.anywhere.load(Ordering::Acquire) == 1
    }
}

/// A cell: it begins with its header.
///
/// # Safety
///
/// The type is `repr(C)`, and its first field is the `Header`. [LAYOUT]
pub(super) unsafe trait Headed: Raw + Sized {
    /// What the header is to know of its cell. [COUNT]
    const KIND: &'static Kind = &Kind {
        free: free::<Self>,
        run: run::<Self>,
        cancel_now: cancel_now::<Self>,
    };
}

// SAFETY: `TaskCell` is `repr(C)`, and `header` is its first field [LAYOUT].
unsafe impl<F: Future + 'static> Headed for TaskCell<F> where F::Output: 'static {}
// SAFETY: `MainCell` is `repr(C)`, and `header` is its first field [LAYOUT].
unsafe impl Headed for MainCell {}

/// What can be done with a cell of a certain type by who has its header. As a `dyn Raw`, but
/// the reference is one word: there is one of these in the registry for each task.
pub(super) struct Kind {
    // SAFETY: callers keep what the function `free` asks for.
    free: unsafe fn(NonNull<Header>),
    // SAFETY: callers keep what the function `run` asks for.
    run: unsafe fn(NonNull<Header>, &Waker) -> Ran,
    // SAFETY: callers keep what the function `run` asks for.
    cancel_now: unsafe fn(NonNull<Header>) -> Option<Payload>,
}

/// # Safety
///
/// The header is that of a `C`, the pointer comes from one to the whole cell, and this is the
/// owner's thread. The caller holds a reference meanwhile.
unsafe fn run<C: Headed>(header: NonNull<Header>, waker: &Waker) -> Ran {
    // SAFETY: a `C` begins with its header, so this is a pointer to it [LAYOUT]; it is there as
    // long as the caller's reference [COUNT].
    unsafe { header.cast::<C>().as_ref() }.run(waker)
}

/// # Safety
///
/// As of `run`.
unsafe fn cancel_now<C: Headed>(header: NonNull<Header>) -> Option<Payload> {
    // SAFETY: as in `run` [LAYOUT] [COUNT].
    unsafe { header.cast::<C>().as_ref() }.cancel_now()
}

/// # Safety
///
/// The header is that of a `C` that [`LocalRef::new`] has made, the pointer comes from one to the
/// whole cell, and the last reference to it is gone.
unsafe fn free<C: Headed>(header: NonNull<Header>) {
    // SAFETY: `LocalRef::new` has made it from a `Box<C>`, `C` begins with its header
    // [LAYOUT], and no reference is left [COUNT]. It may be any thread: what is dropped with
    // the header is Send (asserted in cell.rs), and the stage has no drop glue [STAGE].
    drop(unsafe { Box::from_raw(header.cast::<C>().as_ptr()) });
}

/// Frees a cell of any type.
///
/// # Safety
///
/// It stands for the last reference to a cell, which is gone.
unsafe fn free_any(header: NonNull<Header>) {
    // SAFETY: the cell is there, for nobody else frees it [COUNT].
    let kind = unsafe { header.as_ref().kind };
    // SAFETY: `kind` was made for the type of the cell [COUNT]; the pointer stood for a
    // reference, so it comes from one to the whole cell [LAYOUT].
    unsafe { (kind.free)(header) }
}

/// A reference that stays on the owner's thread (`!Send`).
pub(super) struct LocalRef<C: ?Sized> {
    cell: NonNull<C>,
}

impl<C: Headed> LocalRef<C> {
    /// Builds the cell where it stays: built on the stack, it would be read back at once in
    /// other pieces than it was written in, and the processor waits for that.
    #[inline(always)]
    pub(super) fn new(cell: impl FnOnce() -> C) -> LocalRef<C> {
        let mut place = Box::<C>::new_uninit();
        place.write(cell());
        // SAFETY: it has just been written.
        let cell = unsafe { place.assume_init() };
        LocalRef {
            cell: NonNull::from(Box::leak(cell)),
        }
    }

    /// The cell, if this is the only reference to it.
    pub(super) fn get_mut(&mut self) -> Option<&mut C> {
        if !self.header().refs().is_one_local() {
            return None;
        }
        // SAFETY: it is there, this is the only reference, and it is borrowed mutably [COUNT].
        // What is being polled has another one, that of its `Main` [POLLED].
        Some(unsafe { self.cell.as_mut() })
    }
}

impl<C: ?Sized> LocalRef<C> {
    #[inline]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the cell is there [COUNT], and begins with its header [LAYOUT].
        unsafe { self.cell.cast::<Header>().as_ref() }
    }

    /// How many references there are that may be anywhere: wakers, for the most part.
    pub(super) fn others(&self) -> usize {
        // One of them stands for the local ones.
        self.header().anywhere.load(Ordering::Acquire) as usize - 1
    }

    /// A reference for anywhere.
    #[inline]
    pub(super) fn remote(&self) -> Remote {
        self.header().refs().add();
        Remote(self.cell.cast())
    }

    /// A waker for as long as the reference is borrowed. No count is touched.
    #[inline]
    pub(super) fn waker(&self) -> BorrowedWaker<'_> {
        BorrowedWaker {
            waker: ManuallyDrop::new(Remote(self.cell.cast()).into_waker()),
            _cell: PhantomData,
        }
    }
}

/// A waker without a reference of its own: it cannot be taken out, and is never dropped.
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

impl<F: Future + 'static> LocalRef<TaskCell<F>>
where
    F::Output: 'static,
{
    /// The registry's reference, and the handle's.
    #[inline(always)]
    pub(super) fn halves(self) -> (LocalRef<Header>, LocalRef<dyn Joinable<F::Output>>) {
        self.header().refs().add_local();
        let cell = ManuallyDrop::new(self).cell;
        let joinable: NonNull<dyn Joinable<F::Output>> = cell;
        let raw = LocalRef { cell: cell.cast() };
        let joinable = LocalRef { cell: joinable };
        (raw, joinable)
    }
}

/// What is a `Raw`, whatever else it is.
impl LocalRef<Header> {
    /// Polls, with the cell's own waker.
    #[inline]
    pub(super) fn run(&self) -> Ran {
        // SAFETY: `kind` was made for the type of the cell, which is there as long as `self`
        // [COUNT]; the pointer comes from one to the whole cell [LAYOUT]; a `LocalRef` is on
        // the owner's thread [THREAD].
        unsafe { (self.header().kind.run)(self.cell, &self.waker()) }
    }

    /// As [`Raw::cancel_now`].
    pub(super) fn cancel_now(&self) -> Option<Payload> {
        // SAFETY: as above.
        unsafe { (self.header().kind.cancel_now)(self.cell) }
    }
}

impl<C: ?Sized> Deref for LocalRef<C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        // SAFETY: the cell is there [COUNT]. `get_mut` lends it mutably only while there
        // is no other reference than the one that is borrowed.
        unsafe { self.cell.as_ref() }
    }
}

impl<C: ?Sized> Clone for LocalRef<C> {
    #[inline]
    fn clone(&self) -> Self {
        self.header().refs().add_local();
        LocalRef { cell: self.cell }
    }
}

impl<C: ?Sized> Drop for LocalRef<C> {
    #[inline]
    fn drop(&mut self) {
        if self.header().refs().remove_local() {
            // SAFETY: it was the last [COUNT].
            unsafe { free_any(self.cell.cast()) };
        }
    }
}

/// A reference that may be anywhere: it can only wake and mark. The data of a waker is one.
pub(super) struct Remote(NonNull<Header>);

// SAFETY: what other threads read in the header is Sync (asserted in cell.rs) and does not change
// while there is a `Remote`; the rest is touched on the owner's thread only [THREAD]. If it is the
// last, the cell is freed here: that drops no future and no output [STAGE], and what else it
// holds, a name and a left-over joiner, is Send (asserted there, too).
unsafe impl Send for Remote {}
// SAFETY: as above.
unsafe impl Sync for Remote {}

impl Remote {
    #[inline]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the cell is there [COUNT].
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn into_waker(self) -> Waker {
        let data = ManuallyDrop::new(self).0.as_ptr().cast_const().cast();
        // SAFETY: the functions of the table keep the contract of `RawWakerVTable`: a `Remote`,
        // for which the data stands, is `Send`, `Sync` and counted.
        unsafe { Waker::new(data, &WAKER) }
    }

    /// # Safety
    ///
    /// `data` comes from `into_waker`, and its reference is not used in another way.
    #[inline]
    unsafe fn from_data(data: *const ()) -> Remote {
        // SAFETY: `into_waker` made it from a `NonNull`.
        Remote(unsafe { NonNull::new_unchecked(data.cast_mut().cast()) })
    }
}

impl Clone for Remote {
    #[inline]
    fn clone(&self) -> Remote {
        self.header().refs().add();
        Remote(self.0)
    }
}

impl Drop for Remote {
    #[inline]
    fn drop(&mut self) {
        if self.header().refs().remove() {
            // SAFETY: it was the last [COUNT].
            unsafe { free_any(self.0) };
        }
    }
}

/// One for the cells of all types, so that a task knows its own waker.
static WAKER: RawWakerVTable = RawWakerVTable::new(clone_waker, wake, wake_by_ref, drop_waker);

/// Whether it is a waker of this cell, and not wrapped into another.
#[inline]
pub(super) fn is_waker_of(waker: &Waker, header: &Header) -> bool {
    let header: *const Header = header;
    waker.data() == header.cast() && std::ptr::eq(waker.vtable(), &WAKER)
}

/// Beyond this no further references are made where a waker does as well.
const MOST_LOCAL: u8 = 64;

/// A reference to the cell that is being polled on this thread, if this is its waker, and
/// there are not too many already.
#[inline]
pub(super) fn polled(waker: &Waker) -> Option<LocalRef<Header>> {
    // Being polled here, it belongs to this thread [THREAD].
    with_polled(|header| is_waker_of(waker, header) && header.local.get() < MOST_LOCAL)
        .filter(|is_it| *is_it)?;
    // SAFETY: its vtable is ours, and only `into_waker` makes wakers with that; it keeps its
    // reference.
    let cell = ManuallyDrop::new(unsafe { Remote::from_data(waker.data()) });
    cell.header().refs().add_local();
    Some(LocalRef { cell: cell.0 })
}

/// # Safety
///
/// As of all four: it is called by a `Waker` that `into_waker` has made, with its data.
unsafe fn clone_waker(data: *const ()) -> RawWaker {
    // SAFETY: `data` is that of a waker of ours, which keeps its reference.
    let cell = ManuallyDrop::new(unsafe { Remote::from_data(data) });
    std::mem::forget(Remote::clone(&cell));
    RawWaker::new(data, &WAKER)
}

/// # Safety
///
/// As of `clone_waker`.
unsafe fn wake(data: *const ()) {
    // SAFETY: `data` is that of a waker of ours, which gives its reference away.
    let cell = unsafe { Remote::from_data(data) };
    if cell.header().wake() {
        send(cell);
    }
}

/// # Safety
///
/// As of `clone_waker`.
unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: `data` is that of a waker of ours, which keeps its reference.
    let cell = ManuallyDrop::new(unsafe { Remote::from_data(data) });
    if cell.header().wake() {
        send(Remote::clone(&cell));
    }
}

/// # Safety
///
/// As of `clone_waker`.
unsafe fn drop_waker(data: *const ()) {
    // SAFETY: `data` is that of a waker of ours, which gives its reference away.
    drop(unsafe { Remote::from_data(data) });
}

/// Every interleaving of the last references' end, under loom.
#[cfg(all(test, soloist_loom))]
mod models {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;

    /// What the counts guard. loom reports a write that is not after all other accesses.
    struct Guarded {
        anywhere: AtomicU32,
        local: std::cell::Cell<u8>,
        cell: UnsafeCell<u32>,
    }

    // SAFETY: as a cell: `local` is touched by one thread, `cell` is checked by loom.
    unsafe impl Sync for Guarded {}
    // SAFETY: as above.
    unsafe impl Send for Guarded {}

    impl Guarded {
        fn counts(&self) -> RefCounts<'_> {
            RefCounts {
                anywhere: &self.anywhere,
                local: &self.local,
            }
        }

        fn read(&self) {
            // SAFETY: loom checks it.
            self.cell.with(|cell| assert_eq!(unsafe { *cell }, 0));
        }

        /// If it was the last reference: frees.
        fn free_if(&self, last: bool) -> usize {
            if last {
                // SAFETY: loom checks it.
                self.cell.with_mut(|cell| unsafe { *cell += 1 });
            }
            usize::from(last)
        }
    }

    #[test]
    fn model_the_last_reference_frees_once_and_after_all_else() {
        loom::model(|| {
            let guarded = Arc::new(Guarded {
                anywhere: AtomicU32::new(ONE.into()),
                local: std::cell::Cell::new(ONE),
                cell: UnsafeCell::new(0),
            });
            guarded.counts().add_local();
            guarded.counts().add();
            let other = guarded.clone();
            // A waker that is cloned there, and both dropped.
            let thread = thread::spawn(move || {
                other.counts().add();
                other.read();
                let first = other.counts().remove();
                let first = other.free_if(first);
                if first == 0 {
                    other.read();
                }
                let second = other.counts().remove();
                first + other.free_if(second)
            });
            let mut freed = 0;
            for _ in 0..2 {
                guarded.read();
                let last = guarded.counts().remove_local();
                freed += guarded.free_if(last);
            }
            assert_eq!(freed + thread.join().unwrap(), 1);
        });
    }
}
