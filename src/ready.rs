//! What is ready to run: the queue of this thread, and the inbox for messages of other
//! threads.
//!
//! Both are generic: they know no task. [`ReadyQueue`] is plain data of one
//! thread. [`Inbox`] holds, under one mutex, what other threads have sent *and*
//! whether the owner is parked, so that a push either is seen by the owner
//! before it parks, or finds it parked and notifies it. There is no third case.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, Unparker, lock};

/// First in, first out.
pub(crate) struct ReadyQueue<T> {
    /// A ring: its length is a power of two, or 0. Borrowed mutably only to be replaced.
    ring: RefCell<Box<[Cell<T>]>>,
    /// How many items were popped, and how many were pushed, since the ring was made. Modulo
    /// the ring's length they are the places of the first item and of the next one. They may
    /// wrap around.
    head: Cell<usize>,
    tail: Cell<usize>,
    /// Items that are appended at the end of the generation.
    deferred: RefCell<Vec<T>>,
}

impl<T: Copy> ReadyQueue<T> {
    pub(crate) fn new() -> Self {
        ReadyQueue {
            ring: RefCell::default(),
            head: Cell::new(0),
            tail: Cell::new(0),
            deferred: RefCell::new(Vec::new()),
        }
    }

    /// Keeps an item until [`ReadyQueue::append_deferred`].
    #[inline]
    pub(crate) fn defer(&self, item: T) {
        self.deferred.borrow_mut().push(item);
    }

    /// How many items there are, with the deferred ones.
    pub(crate) fn count(&self) -> usize {
        self.len() + self.deferred.borrow().len()
    }

    /// Whether there are deferred items.
    #[inline]
    pub(crate) fn has_deferred(&self) -> bool {
        !self.deferred.borrow().is_empty()
    }

    /// Appends the deferred items.
    #[inline]
    pub(crate) fn append_deferred(&self) {
        for item in self.deferred.borrow_mut().drain(..) {
            self.push(item);
        }
    }

    /// Appends an item.
    #[inline]
    pub(crate) fn push(&self, item: T) {
        let ring = self.ring.borrow();
        if self.len() == ring.len() {
            drop(ring);
            return self.push_grown(item);
        }
        let tail = self.tail.get();
        // The place always exists. Indexing would add code for a panic to each push.
        if let Some(place) = ring.get(tail & ring.len().wrapping_sub(1)) {
            place.set(item);
            self.tail.set(tail.wrapping_add(1));
        }
    }

    #[cold]
    fn push_grown(&self, item: T) {
        self.grow(item);
        self.push(item);
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

    /// Doubles the ring. `any` fills the free places; it is never read.
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

    /// The first `count` items.
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

    /// Passes the first `count` items to `f`, which may put them into another order.
    pub(crate) fn arrange(&self, count: usize, f: impl FnOnce(&mut [T])) {
        let mut items = self.items(count);
        f(&mut items);
        let (ring, head) = (self.ring.borrow(), self.head.get());
        for (n, item) in items.into_iter().enumerate() {
            ring[head.wrapping_add(n) & ring.len().wrapping_sub(1)].set(item);
        }
    }

    /// Empties the queue. It keeps its memory if that has room for at most `kept` items.
    pub(crate) fn clear(&self, kept: usize) {
        self.head.set(self.tail.get());
        if self.ring.borrow().len() > kept {
            self.ring.take();
        }
        self.deferred.take();
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
    /// Implemented by the reactor, which is above this module.
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

/// The messages of other threads for the owner.
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
    items: VecDeque<T>,
    /// Set by the owner, only while `items` is empty; cleared by the first push
    /// after that (which is the one that notifies), or by the owner when it is
    /// awake again. Set again when that notification has failed.
    parked: bool,
    /// How to notify the owner when it is parked: it says so before it parks. Replaced only by
    /// the owner, which is not parked then, and dropped when the inbox closes.
    notifier: Option<N>,
    /// The id of the runtime that owns it, or 0. Messages for another one are refused.
    id: u64,
}

impl<T, N: Notify> Inbox<T, N> {
    /// An inbox without an owner.
    pub(crate) fn new() -> Self {
        Inbox {
            filled: AtomicBool::new(false),
            state: Mutex::new(State {
                items: VecDeque::new(),
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
            state.items.push_back(item);
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

    /// Moves up to `most` items to the end of `into`, the oldest first. The owner is no
    /// longer parked.
    pub(crate) fn take(&self, most: usize, into: &mut Vec<T>) {
        let mut state = lock(&self.state);
        state.parked = false;
        let count = most.min(state.items.len());
        into.extend(state.items.drain(..count));
        self.filled
            .store(!state.items.is_empty(), Ordering::Relaxed);
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
    pub(crate) fn close(&self) -> VecDeque<T> {
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
            inbox.take(usize::MAX, &mut items);
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
