//! A future that is completed by other code, like asyncio's `Future`.
//!
//! [`promise`] returns two halves. The [`Promise`] is set once, from any thread: by a callback,
//! by a thread that has read something, or by another task. The [`Promised`] is awaited. Setting
//! the `Promise` consumes it, so it cannot be set twice. Dropping it without setting it cancels
//! the promise. To pass errors on, use a `Result` as the value.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use crate::hooks::WaitReason;
use crate::panics::Panics;
use crate::sync::{Mutex, lock};
use crate::task_cell::note;

/// Returns a promise, and the future that waits for it.
///
/// # Examples
///
/// A thread reads something, and a task waits for it:
///
/// ```
/// use soloist::{block_on, promise::promise};
///
/// let (promise, promised) = promise();
/// let thread = std::thread::spawn(move || promise.set("the bytes"));
/// assert_eq!(block_on(promised), Ok("the bytes"));
/// thread.join().unwrap().unwrap();
/// ```
///
/// Several tasks wait for one result:
///
/// ```
/// use soloist::{block_on, promise::promise, spawn};
///
/// block_on(async {
///     let (promise, promised) = promise();
///     let waiters: Vec<_> = (0..3).map(|_| spawn(promised.clone())).collect();
///     promise.set(42).unwrap();
///     for waiter in waiters {
///         assert_eq!(waiter.await, Ok(42));
///     }
/// });
/// ```
pub fn promise<T>() -> (Promise<T>, Promised<T>) {
    let first = Receiver {
        id: 1,
        waiter: None,
    };
    let shared = Arc::new(Mutex::new(PromiseState {
        value: Value::Awaited,
        receivers: vec![first],
        clone: None,
        next_id: 2,
    }));
    let promise = Promise {
        shared: shared.clone(),
    };
    (promise, Promised { shared, id: 1 })
}

/// The half that is set. If it is dropped without being set, the receivers get [`Cancelled`].
///
/// # Examples
///
/// ```
/// use soloist::{block_on, promise::promise};
///
/// let (promise, promised) = promise::<u32>();
/// drop(promise);
/// assert!(block_on(promised).is_err());
/// ```
#[must_use = "dropping a promise cancels it"]
pub struct Promise<T> {
    shared: Arc<Mutex<PromiseState<T>>>,
}

/// The half that waits.
///
/// It is `Clone` if `T` is. Each clone receives the result.
///
/// # Panics
///
/// Panics if it is polled after it has returned the result.
///
/// # Cancel safety
///
/// Nothing is lost: await `&mut promised`, and the next await still gets the result. If all
/// clones are dropped, the promise is abandoned, and [`Promise::set`] returns the value as an
/// error.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, promise::promise};
///
/// let (promise, promised) = promise();
/// promise.set(1).unwrap();
/// assert_eq!(block_on(promised), Ok(1));
/// ```
#[must_use = "dropping it abandons the promise: await it, or call `on_done`"]
pub struct Promised<T> {
    shared: Arc<Mutex<PromiseState<T>>>,
    /// Finds its entry in `PromiseState::receivers`.
    id: u64,
}

struct PromiseState<T> {
    value: Value<T>,
    /// The `Promised`s and callbacks that have not received the result.
    receivers: Vec<Receiver<T>>,
    /// Set by the first clone of a `Promised`, which is where `T: Clone` is known.
    clone: Option<fn(&T) -> T>,
    next_id: u64,
}

enum Value<T> {
    Awaited,
    Set(T),
    /// A receiver is cloning the value, without holding the lock; the others wait. Or the last
    /// receiver has taken it.
    Taken,
    Cancelled,
}

struct Receiver<T> {
    id: u64,
    /// `None` until it waits.
    waiter: Option<PromiseWaiter<T>>,
}

enum PromiseWaiter<T> {
    Task(Waker),
    Callback(Callback<T>),
}

type PromiseWaiters<T> = Vec<(u64, PromiseWaiter<T>)>;

type Callback<T> = Box<dyn FnOnce(Result<T, Cancelled>) + Send>;

impl<T> PromiseState<T> {
    fn position(&self, id: u64) -> Option<usize> {
        self.receivers.iter().position(|receiver| receiver.id == id)
    }

    /// Sets the value. Returns the waiters, to be passed to [`notify`] without the lock.
    fn complete(&mut self, value: Value<T>) -> PromiseWaiters<T> {
        // The old value is `Awaited` or `Taken`: no user code is dropped here.
        self.value = value;
        let receivers = self.receivers.iter_mut();
        receivers
            .filter_map(|receiver| Some((receiver.id, receiver.waiter.take()?)))
            .collect()
    }
}

/// Returns the result for the receiver with this id, or `Ready(None)` if it has received the result
/// before. If it is pending, `waiter` is stored and will be notified. The previous waiter is put
/// into `waiter`, and the caller drops it.
///
/// Cloning the value, and dropping a value or waiter, is user code, which may use this promise. So
/// it happens without the lock.
fn receive<T>(
    shared: &Mutex<PromiseState<T>>,
    id: u64,
    waiter: &mut Option<PromiseWaiter<T>>,
) -> Poll<Option<Result<T, Cancelled>>> {
    let receiver;
    let mut state = lock(shared);
    let Some(index) = state.position(id) else {
        return Poll::Ready(None);
    };
    if matches!(state.value, Value::Awaited | Value::Taken) {
        if waiter.is_some() {
            // Moved to the end, since receivers are notified in the order in which they began to
            // wait.
            let mut receiver = state.receivers.remove(index);
            std::mem::swap(&mut receiver.waiter, waiter);
            state.receivers.push(receiver);
        }
        return Poll::Pending;
    }
    receiver = state.receivers.remove(index);
    let Value::Set(value) = std::mem::replace(&mut state.value, Value::Taken) else {
        state.value = Value::Cancelled;
        return Poll::Ready(Some(Err(Cancelled(()))));
    };
    let clone = match state.clone {
        Some(clone) if !state.receivers.is_empty() => clone,
        _ => return Poll::Ready(Some(Ok(value))),
    };
    drop(state);
    drop(receiver);
    let mut panics = Panics::default();
    let mut cloned = None;
    panics.catch(|| cloned = Some(Ok(clone(&value))));
    // If the other receivers have been dropped meanwhile, the value stays until `shared` is dropped.
    let waiters = lock(shared).complete(Value::Set(value));
    notify(shared, waiters, panics);
    Poll::Ready(cloned)
}

/// Notifies receivers of the result. Resumes the first of `panics` and of their panics.
fn notify<T>(shared: &Mutex<PromiseState<T>>, waiters: PromiseWaiters<T>, mut panics: Panics) {
    for (id, waiter) in waiters {
        panics.catch(|| match waiter {
            PromiseWaiter::Task(waker) => waker.wake(),
            PromiseWaiter::Callback(callback) => call(shared, id, callback),
        });
    }
    panics.resume();
}

/// Calls `callback` with the result, now or when the promise is completed.
fn call<T>(shared: &Mutex<PromiseState<T>>, id: u64, callback: Callback<T>) {
    let mut waiter = Some(PromiseWaiter::Callback(callback));
    let received = receive(shared, id, &mut waiter);
    if let (Poll::Ready(Some(result)), Some(PromiseWaiter::Callback(callback))) = (received, waiter)
    {
        callback(result);
    }
}

impl<T> Promise<T> {
    /// Sets the value, and wakes the tasks that wait. Callbacks run on this thread, before the
    /// method returns.
    ///
    /// # Errors
    ///
    /// Returns the value if all receivers have been dropped.
    ///
    /// # Panics
    ///
    /// Calls all callbacks, and then panics with the first panic among them.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::promise::promise;
    ///
    /// let (promise, promised) = promise();
    /// drop(promised);
    /// assert_eq!(promise.set("unwanted"), Err("unwanted"));
    /// ```
    pub fn set(self, value: T) -> Result<(), T> {
        let waiters = {
            let mut state = lock(&self.shared);
            if state.receivers.is_empty() {
                return Err(value);
            }
            state.complete(Value::Set(value))
        };
        notify(&self.shared, waiters, Panics::default());
        Ok(())
    }

    /// Returns whether all receivers have been dropped, so that the result is no longer needed.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::promise::promise;
    ///
    /// let (promise, promised) = promise::<()>();
    /// assert!(!promise.is_abandoned());
    /// drop(promised);
    /// assert!(promise.is_abandoned());
    /// ```
    pub fn is_abandoned(&self) -> bool {
        lock(&self.shared).receivers.is_empty()
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waiters = {
            let mut state = lock(&self.shared);
            if !matches!(state.value, Value::Awaited) {
                return;
            }
            state.complete(Value::Cancelled)
        };
        notify(&self.shared, waiters, Panics::default());
    }
}

impl<T> Promised<T> {
    /// Returns the result if there is one, and consumes it: neither another call nor an `.await`
    /// gets it again.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::promise::promise;
    ///
    /// let (promise, promised) = promise();
    /// assert_eq!(promised.try_take(), None);
    /// promise.set(3).unwrap();
    /// assert_eq!(promised.try_take(), Some(Ok(3)));
    /// assert_eq!(promised.try_take(), None);
    /// ```
    pub fn try_take(&self) -> Option<Result<T, Cancelled>> {
        match receive(&self.shared, self.id, &mut None) {
            Poll::Ready(result) => result,
            Poll::Pending => None,
        }
    }

    /// Calls `f` with the result: on the thread that completes the promise, or at once if it is
    /// complete. No task waits, and no runtime is needed.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::promise::promise;
    ///
    /// let (promise, promised) = promise();
    /// promised.on_done(|result| assert_eq!(result, Ok(5)));
    /// promise.set(5).unwrap();
    /// ```
    pub fn on_done(mut self, f: impl FnOnce(Result<T, Cancelled>) + Send + 'static) {
        // The callback takes over the entry, so the drop of `self` does not remove it.
        let id = std::mem::take(&mut self.id);
        call(&self.shared, id, Box::new(f));
    }
}

impl<T> Future for Promised<T> {
    type Output = Result<T, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut waiter = Some(PromiseWaiter::Task(cx.waker().clone()));
        let received = receive(&self.shared, self.id, &mut waiter);
        if received.is_pending() {
            note(WaitReason::Promise);
        }
        let result = ready!(received);
        Poll::Ready(result.expect("a `Promised` was polled after it had returned its result"))
    }
}

impl<T: Clone> Clone for Promised<T> {
    fn clone(&self) -> Self {
        let mut state = lock(&self.shared);
        state.clone = Some(T::clone);
        let id = state.next_id;
        state.next_id += 1;
        // A clone of a `Promised` that has received the result does not receive it, either.
        if state.position(self.id).is_some() {
            state.receivers.push(Receiver { id, waiter: None });
        }
        Promised {
            shared: self.shared.clone(),
            id,
        }
    }
}

impl<T> Drop for Promised<T> {
    fn drop(&mut self) {
        // Dropped after the lock is released: wakers and values are user code.
        let (_receiver, _value);
        let mut state = lock(&self.shared);
        let Some(index) = state.position(self.id) else {
            return;
        };
        _receiver = state.receivers.remove(index);
        if state.receivers.is_empty() && matches!(state.value, Value::Set(_)) {
            _value = std::mem::replace(&mut state.value, Value::Taken);
        }
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise")
            .field("is_abandoned", &self.is_abandoned())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Promised<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match lock(&self.shared).value {
            Value::Awaited => "awaited",
            Value::Set(_) | Value::Taken => "set",
            Value::Cancelled => "cancelled",
        };
        f.debug_struct("Promised")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// The [`Promise`] was dropped before it was set.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, promise::promise};
///
/// let (promise, promised) = promise::<()>();
/// drop(promise);
/// let error = block_on(promised).unwrap_err();
/// assert_eq!(error.to_string(), "the promise was dropped before it was set");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cancelled(());

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the promise was dropped before it was set")
    }
}

impl std::error::Error for Cancelled {}

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> io::Error {
        io::Error::other(cancelled)
    }
}

/// Every interleaving of the two halves, under loom.
#[cfg(all(test, soloist_loom))]
mod models {
    use std::task::Wake;

    use loom::future::block_on;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread::{self, ThreadId};

    use super::*;
    use crate::runtime::Runtime;

    #[test]
    fn model_set_against_poll() {
        loom::model(|| {
            let (promise, promised) = promise();
            let thread = thread::spawn(move || promise.set(1));
            assert_eq!(block_on(promised), Ok(1));
            assert_eq!(thread.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn model_set_in_one_runtime_against_poll_in_another() {
        loom::model(|| {
            let (promise, promised) = promise();
            let set = || Runtime::new().block_on(async { promise.set(3).unwrap() });
            let thread = thread::spawn(set);
            assert_eq!(Runtime::new().block_on(promised), Ok(3));
            thread.join().unwrap();
        });
    }

    #[test]
    fn model_drop_of_the_promise_against_poll() {
        loom::model(|| {
            let (promise, promised) = promise::<u32>();
            let thread = thread::spawn(move || drop(promise));
            assert_eq!(block_on(promised), Err(Cancelled(())));
            thread.join().unwrap();
        });
    }

    #[test]
    fn model_set_against_drop_of_the_promised() {
        loom::model(|| {
            // The value is dropped exactly once, by one of the threads.
            let value = Arc::new(());
            let (promise, promised) = promise();
            let sent = value.clone();
            let thread = thread::spawn(move || drop(promise.set(sent)));
            drop(promised);
            thread.join().unwrap();
            assert_eq!(Arc::strong_count(&value), 1);
        });
    }

    #[test]
    fn model_set_returns_the_value_or_leaves_it_to_the_promised() {
        /// Records the thread that drops it.
        struct OnDrop(Arc<Mutex<Option<ThreadId>>>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                *lock(&self.0) = Some(thread::current().id());
            }
        }
        loom::model(|| {
            let dropped_by = Arc::new(Mutex::new(None));
            let (promise, promised) = promise();
            let value = OnDrop(dropped_by.clone());
            let thread = thread::spawn(move || promise.set(value).map_err(std::mem::forget));
            drop(promised);
            if thread.join().unwrap().is_ok() {
                assert_eq!(*lock(&dropped_by), Some(thread::current().id()));
            }
        });
    }

    #[test]
    fn model_set_against_two_waiters() {
        loom::model(|| {
            let (promise, first) = promise();
            let second = first.clone();
            let thread = thread::spawn(move || block_on(second));
            promise.set(5).unwrap();
            assert_eq!(block_on(first), Ok(5));
            assert_eq!(thread.join().unwrap(), Ok(5));
        });
    }

    #[test]
    fn model_set_against_a_callback() {
        loom::model(|| {
            let (promise, promised) = promise();
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = calls.clone();
            let thread = thread::spawn(move || promise.set(3));
            promised.on_done(move |result| {
                assert_eq!(result, Ok(3));
                counted.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(thread.join().unwrap(), Ok(()));
            assert_eq!(calls.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn model_a_waker_that_is_replaced_is_not_the_one_that_is_woken() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        loom::model(|| {
            let (promise, mut promised) = promise();
            let wakers = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
            let thread = thread::spawn(move || promise.set(1));
            let mut is_pending = true;
            let polled = wakers.clone().map(|waker| {
                let waker = Waker::from(waker);
                let mut cx = TaskContext::from_waker(&waker);
                is_pending = is_pending && Pin::new(&mut promised).poll(&mut cx).is_pending();
                is_pending
            });
            thread.join().unwrap().unwrap();
            // The waker of the last poll has been woken, exactly once.
            if polled == [true, true] {
                assert_eq!(wakers[1].0.load(Ordering::SeqCst), 1);
            }
        });
    }
}
