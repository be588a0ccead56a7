//! What is ready to run: the queue of this thread, and the inbox where other
//! threads leave word for it.
//!
//! Both are generic: they know no task. [`ReadyQueue`] is plain data of one
//! thread. [`Inbox`] holds, under one mutex, what other threads have sent *and*
//! whether the owner is parked, so that a push either is seen by the owner
//! before it parks, or finds it parked and notifies it. There is no third case.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, Unparker, lock};

/// First in, first out, with a way to let what a visit in the middle of a
/// generation wakes go before the rest of that generation.
pub(crate) struct ReadyQueue<T> {
    /// A ring: its length is a power of two, or 0. Borrowed mutably only to be replaced.
    ring: RefCell<Box<[Cell<T>]>>,
    /// What was popped, and what was pushed, since the ring was made: the places of the first
    /// and of the next, but for the turns of the ring. They may wrap around.
    head: Cell<usize>,
    tail: Cell<usize>,
    /// What is pushed while `diverted` is set.
    urgent: RefCell<Vec<T>>,
    /// Set only for the length of [`ReadyQueue::ahead`].
    diverted: Cell<bool>,
}

impl<T: Copy> ReadyQueue<T> {
    pub(crate) fn new() -> Self {
        ReadyQueue {
            ring: RefCell::default(),
            head: Cell::new(0),
            tail: Cell::new(0),
            urgent: RefCell::new(Vec::new()),
            diverted: Cell::new(false),
        }
    }

    #[inline]
    pub(crate) fn push(&self, item: T) {
        if self.diverted.get() {
            self.urgent.borrow_mut().push(item);
        } else {
            self.push_new(item);
        }
    }

    /// What is new goes to the end, whenever that is: first in, first out.
    #[inline]
    pub(crate) fn push_new(&self, item: T) {
        let ring = self.ring.borrow();
        if self.len() == ring.len() {
            drop(ring);
            return self.push_grown(item);
        }
        let tail = self.tail.get();
        // It is always there; to say so by an index would be code for a panic, at each push.
        if let Some(place) = ring.get(tail & ring.len().wrapping_sub(1)) {
            place.set(item);
            self.tail.set(tail.wrapping_add(1));
        }
    }

    #[cold]
    fn push_grown(&self, item: T) {
        self.grow(item);
        self.push_new(item);
    }

    fn push_first(&self, item: T) {
        if self.len() == self.ring.borrow().len() {
            self.grow(item);
        }
        let (ring, head) = (self.ring.borrow(), self.head.get().wrapping_sub(1));
        ring[head & ring.len().wrapping_sub(1)].set(item);
        self.head.set(head);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let (ring, head) = (self.ring.borrow(), self.head.get());
        let item = ring.get(head & ring.len().wrapping_sub(1))?.get();
        self.head.set(head.wrapping_add(1));
        Some(item)
    }

    /// Twice as many places. What is in those that are free does not matter.
    #[cold]
    fn grow(&self, any: T) {
        let items = self.items(self.len());
        let room = (2 * items.len()).max(16);
        let free = std::iter::repeat_n(any, room - items.len());
        self.head.set(0);
        self.tail.set(items.len());
        let ring = items.into_iter().chain(free).map(Cell::new).collect();
        drop(self.ring.replace(ring));
    }

    /// The first of those that are queued.
    fn items(&self, count: usize) -> Vec<T> {
        let (ring, head) = (self.ring.borrow(), self.head.get());
        let place = |n: usize| head.wrapping_add(n) & ring.len().wrapping_sub(1);
        (0..count).map(|n| ring[place(n)].get()).collect()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows the first `count` items, to be put into another order.
    pub(crate) fn arrange(&self, count: usize, f: impl FnOnce(&mut [T])) {
        let mut items = self.items(count);
        f(&mut items);
        self.head.set(self.head.get().wrapping_add(count));
        for item in items.into_iter().rev() {
            self.push_first(item);
        }
    }

    /// Empties the queue, and gives its memory back, unless it is for no more than `kept`
    /// items.
    pub(crate) fn clear(&self, kept: usize) {
        self.head.set(self.tail.get());
        if self.ring.borrow().len() > kept {
            self.ring.take();
        }
        self.urgent.take();
    }

    /// Runs `f`; what it pushes goes to the front of the queue, in the order of
    /// the pushes. Returns how many there were, beside what `f` returned.
    pub(crate) fn ahead<R>(&self, f: impl FnOnce() -> R) -> (R, usize) {
        /// Also when a waker panics: what has been woken must not get stuck.
        struct Merge<'a, T: Copy>(&'a ReadyQueue<T>);
        impl<T: Copy> Merge<'_, T> {
            fn merge(&self) -> usize {
                self.0.diverted.set(false);
                let mut urgent = self.0.urgent.borrow_mut();
                let count = urgent.len();
                for item in urgent.drain(..).rev() {
                    self.0.push_first(item);
                }
                count
            }
        }
        impl<T: Copy> Drop for Merge<'_, T> {
            fn drop(&mut self) {
                self.merge();
            }
        }
        self.diverted.set(true);
        let merge = Merge(self);
        let result = f();
        (result, merge.merge())
    }
}

/// How a parked thread is notified.
pub(crate) trait Notify: Clone {
    /// Ends the wait of the thread that parked with this.
    fn notify(&self);
}

/// How a runtime that is parked is notified.
#[derive(Clone, Debug)]
pub(crate) enum Notifier {
    Thread(Unparker),
    /// The reactor stands above: it knows who waits.
    Reactor(Arc<dyn Rouse>),
}

/// Ends the wait of a reactor, from any thread.
pub(crate) trait Rouse: fmt::Debug + Send + Sync {
    fn rouse(&self) -> io::Result<()>;
}

impl Notify for Notifier {
    fn notify(&self) {
        match self {
            Notifier::Thread(unparker) => {
                unparker.unpark();
            }
            Notifier::Reactor(reactor) => {
                if let Err(error) = reactor.rouse() {
                    // Swallowed, it would be a silent hang.
                    panic!("soloist: the thread of a runtime cannot be woken: {error}");
                }
            }
        }
    }
}

/// Where other threads leave word for the owner.
#[derive(Debug)]
pub(crate) struct Inbox<T, N> {
    /// Set under the lock by a push, cleared under it when all is taken. The
    /// owner reads it without the lock, in every generation: at worst it sees a
    /// push one generation late, for parking looks under the lock.
    filled: AtomicBool,
    state: Mutex<State<T, N>>,
}

#[derive(Debug)]
struct State<T, N> {
    items: Vec<T>,
    /// Set by the owner, only while `items` is empty; cleared by the first push
    /// after that (which is the one that notifies), or by the owner when it is
    /// awake again. Set again when that notification has failed.
    parked: bool,
    /// How to notify the owner when it is parked: it says so before it parks. Replaced only by
    /// the owner, which is not parked then, and dropped when the inbox closes.
    notifier: Option<N>,
    /// Whose inbox it is, 0 while it is nobody's: what is for somebody else is refused.
    id: u64,
}

impl<T, N: Notify> Inbox<T, N> {
    /// An inbox that is nobody's.
    pub(crate) fn new() -> Self {
        Inbox {
            filled: AtomicBool::new(false),
            state: Mutex::new(State {
                items: Vec::new(),
                parked: false,
                notifier: None,
                id: 0,
            }),
        }
    }

    /// From now on it is the inbox of `id`, which has not been used before.
    pub(crate) fn open(&self, id: u64) {
        lock(&self.state).id = id;
    }

    /// Leaves `item` for the owner, if that is `id`, and notifies it if it is parked.
    /// From any thread. Else it gives the item back.
    pub(crate) fn push(&self, id: u64, item: T) -> Result<(), T> {
        let notifier = {
            let mut state = lock(&self.state);
            if state.id != id {
                // The lock is dropped before the caller drops the item.
                return Err(item);
            }
            state.items.push(item);
            self.filled.store(true, Ordering::Release);
            std::mem::take(&mut state.parked)
                .then(|| state.notifier.clone())
                .flatten()
        };
        if let Some(notifier) = notifier {
            let again = Again { inbox: self, id };
            notifier.notify();
            std::mem::forget(again);
        }
        Ok(())
    }

    /// Whether something has come. The owner asks in every generation.
    #[inline]
    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Moves what has come to the end of `into`, and is no longer parked.
    pub(crate) fn take(&self, into: &mut Vec<T>) {
        let mut state = lock(&self.state);
        state.parked = false;
        self.filled.store(false, Ordering::Relaxed);
        if into.is_empty() {
            // The usual case: the two vectors change places, nothing moves.
            std::mem::swap(&mut state.items, into);
        } else {
            into.append(&mut state.items);
        }
    }

    /// Says that the owner is about to wait. False if something has come: then
    /// it must not.
    pub(crate) fn park(&self) -> bool {
        let mut state = lock(&self.state);
        state.parked = state.items.is_empty();
        state.parked
    }

    /// Says that the owner is awake again.
    pub(crate) fn unpark(&self) {
        lock(&self.state).parked = false;
    }

    /// From now on the owner is notified this way.
    pub(crate) fn set_notifier(&self, notifier: N) {
        let old = {
            let mut state = lock(&self.state);
            state.notifier.replace(notifier)
        };
        drop(old);
    }

    /// Takes nothing in any more. Returns what was left.
    pub(crate) fn close(&self) -> Vec<T> {
        let (items, notifier) = {
            let mut state = lock(&self.state);
            state.id = 0;
            state.parked = false;
            self.filled.store(false, Ordering::Relaxed);
            (std::mem::take(&mut state.items), state.notifier.take())
        };
        drop(notifier);
        items
    }
}

/// Dropped when a notification has panicked: the owner may still be waiting, so the next
/// push is to notify, too. If it is not, that costs one notification for nothing.
struct Again<'a, T, N> {
    inbox: &'a Inbox<T, N>,
    id: u64,
}

impl<T, N> Drop for Again<'_, T, N> {
    fn drop(&mut self) {
        let mut state = lock(&self.inbox.state);
        if state.id == self.id {
            state.parked = true;
        }
    }
}

/// Every interleaving of a push and a park, under loom.
#[cfg(all(test, soloist_loom))]
mod models {
    use std::sync::Arc;

    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    use super::*;

    /// Stands for the parked thread's parker: a token, and a wait for it.
    #[derive(Clone)]
    struct Parker(Arc<(Mutex<usize>, Condvar)>);

    impl Parker {
        fn new() -> Parker {
            Parker(Arc::new((Mutex::new(0), Condvar::new())))
        }

        fn park(&self) {
            let mut tokens = self.0.0.lock().unwrap();
            while *tokens == 0 {
                tokens = self.0.1.wait(tokens).unwrap();
            }
            *tokens -= 1;
        }

        fn tokens(&self) -> usize {
            *self.0.0.lock().unwrap()
        }
    }

    impl Notify for Parker {
        fn notify(&self) {
            *self.0.0.lock().unwrap() += 1;
            self.0.1.notify_one();
        }
    }

    const ID: u64 = 1;

    type TestInbox = Inbox<u32, Parker>;

    fn inbox() -> (Arc<TestInbox>, Parker) {
        let parker = Parker::new();
        let inbox = Inbox::new();
        inbox.open(ID);
        inbox.set_notifier(parker.clone());
        (Arc::new(inbox), parker)
    }

    /// Parks until `count` items have come. A lost notification is a deadlock, which
    /// loom reports.
    fn receive(inbox: &TestInbox, parker: &Parker, count: usize) -> Vec<u32> {
        let mut items = Vec::new();
        while items.len() < count {
            if inbox.park() {
                parker.park();
                inbox.unpark();
            }
            inbox.take(&mut items);
        }
        items
    }

    #[test]
    fn model_a_push_against_parking_is_never_lost() {
        loom::model(|| {
            let (inbox, parker) = inbox();
            let other = inbox.clone();
            let thread = thread::spawn(move || other.push(ID, 1).unwrap());
            assert_eq!(receive(&inbox, &parker, 1), [1]);
            thread.join().unwrap();
        });
    }

    #[test]
    fn model_two_pushes_notify_once_per_park() {
        loom::model(|| {
            let (inbox, parker) = inbox();
            let threads = [1, 2].map(|n| {
                let inbox = inbox.clone();
                thread::spawn(move || inbox.push(ID, n).unwrap())
            });
            let mut items = receive(&inbox, &parker, 2);
            for thread in threads {
                thread.join().unwrap();
            }
            items.sort();
            assert_eq!(items, [1, 2]);
            assert!(parker.tokens() <= 1);
        });
    }

    #[test]
    fn model_the_notifier_changes_against_a_push() {
        loom::model(|| {
            let (inbox, _first) = inbox();
            let other = inbox.clone();
            let thread = thread::spawn(move || other.push(ID, 1).unwrap());
            // As when the reactor is made: from now on the thread parks there.
            let second = Parker::new();
            inbox.set_notifier(second.clone());
            assert_eq!(receive(&inbox, &second, 1), [1]);
            thread.join().unwrap();
        });
    }

    #[test]
    fn model_closing_against_a_push_loses_nothing() {
        loom::model(|| {
            let (inbox, _parker) = inbox();
            let other = inbox.clone();
            let thread = thread::spawn(move || other.push(ID, 1));
            let left = inbox.close();
            match thread.join().unwrap() {
                Ok(()) => assert_eq!(left, [1]),
                Err(refused) => assert_eq!((refused, left.len()), (1, 0)),
            }
        });
    }

    #[test]
    fn model_what_was_stored_before_the_push_is_seen_after_the_take() {
        use loom::sync::atomic::AtomicU32;

        loom::model(|| {
            let (inbox, parker) = inbox();
            let data = Arc::new(AtomicU32::new(0));
            let (other, written) = (inbox.clone(), data.clone());
            let thread = thread::spawn(move || {
                written.store(7, Ordering::Relaxed);
                other.push(ID, 1).unwrap();
            });
            receive(&inbox, &parker, 1);
            assert_eq!(data.load(Ordering::Relaxed), 7);
            thread.join().unwrap();
        });
    }
}
