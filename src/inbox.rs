//! The inbox of an executor: messages of other threads.
//!
//! It is generic and knows no task. One mutex guards what other threads have sent *and* whether
//! the owner is parked. So a push is either seen by the owner before it parks, or finds it
//! parked and notifies it. There is no third case.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, Unparker, lock};

/// Ends the wait of an owner that is parked.
pub(crate) trait Unpark: Clone {
    /// Ends the wait of the thread that parked with this.
    fn unpark(&self);
}

/// How the thread of an executor is notified while it is parked.
#[derive(Clone)]
pub(crate) enum Notifier {
    Thread(Unparker),
    Reactor(Arc<dyn Notify>),
}

/// Ends the wait of a reactor, from any thread. Implemented by the reactor, which stands above
/// this module.
pub(crate) trait Notify: Send + Sync {
    fn notify(&self) -> io::Result<()>;
}

impl Unpark for Notifier {
    fn unpark(&self) {
        match self {
            Notifier::Thread(unparker) => {
                unparker.unpark();
            }
            Notifier::Reactor(reactor) => {
                if let Err(error) = reactor.notify() {
                    // Ignored, the runtime would hang without a message.
                    panic!("soloist: the thread of a runtime could not be notified: {error}");
                }
            }
        }
    }
}

/// The messages of other threads for the owner.
pub(crate) struct Inbox<T, N> {
    /// Whether there are items. Changed under the lock. The owner reads it without the lock, in
    /// every generation: at worst it sees a push one generation late, since parking reads
    /// `items` under the lock.
    filled: AtomicBool,
    state: Mutex<InboxState<T, N>>,
}

struct InboxState<T, N> {
    items: VecDeque<T>,
    /// Set by the owner, only while `items` is empty. Cleared by the first push after that,
    /// which is the one that notifies, or by the owner when it is awake again. Set again if the
    /// notification has failed.
    parked: bool,
    /// How to notify the owner when it is parked. Set by the owner before it parks, and dropped
    /// when the inbox closes.
    notifier: Option<N>,
    /// The id of the owner, or 0. Messages for another one are refused.
    id: u64,
}

impl<T, N: Unpark> Inbox<T, N> {
    /// An inbox without an owner.
    pub(crate) fn new() -> Self {
        Inbox {
            filled: AtomicBool::new(false),
            state: Mutex::new(InboxState {
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

    /// Sends an item to the owner, and notifies it if it is parked. From any thread. If the
    /// owner is not `id`, returns the item.
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
            let guard = NotifyAgain { inbox: self, id };
            notifier.unpark();
            std::mem::forget(guard);
        }
        Ok(())
    }

    /// Whether there are items.
    #[inline]
    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Moves the oldest items to the end of `into`, until that has `most`. The owner is awake.
    pub(crate) fn take(&self, most: usize, into: &mut Vec<T>) {
        let mut state = lock(&self.state);
        state.parked = false;
        while into.len() < most {
            let Some(item) = state.items.pop_front() else {
                break;
            };
            into.push(item);
        }
        self.filled
            .store(!state.items.is_empty(), Ordering::Relaxed);
    }

    /// The owner is about to wait. Returns false if there are items: then it must not.
    pub(crate) fn park(&self) -> bool {
        let mut state = lock(&self.state);
        state.parked = state.items.is_empty();
        state.parked
    }

    /// The owner is awake again.
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

    /// From now on pushes are refused. Returns the items that are left.
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

/// Dropped when a notification has panicked. The owner may still be waiting, so the next push
/// notifies again.
struct NotifyAgain<'a, T, N> {
    inbox: &'a Inbox<T, N>,
    id: u64,
}

impl<T, N> Drop for NotifyAgain<'_, T, N> {
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
    struct ModelParker(Arc<(Mutex<usize>, Condvar)>);

    impl ModelParker {
        fn new() -> ModelParker {
            ModelParker(Arc::new((Mutex::new(0), Condvar::new())))
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

    impl Unpark for ModelParker {
        fn unpark(&self) {
            *self.0.0.lock().unwrap() += 1;
            self.0.1.notify_one();
        }
    }

    const ID: u64 = 1;

    type TestInbox = Inbox<u32, ModelParker>;

    fn inbox() -> (Arc<TestInbox>, ModelParker) {
        let parker = ModelParker::new();
        let inbox = Inbox::new();
        inbox.open(ID);
        inbox.set_notifier(parker.clone());
        (Arc::new(inbox), parker)
    }

    /// Parks until `count` items have come. A lost notification is a deadlock, which
    /// loom reports.
    fn receive(inbox: &TestInbox, parker: &ModelParker, count: usize) -> Vec<u32> {
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
            let second = ModelParker::new();
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
