//! A future that is completed by hand: what asyncio calls a `Future`.
//!
//! [`promise`] makes two halves. The [`Promise`] is set, once, from any thread: by a
//! callback, by a thread that has read something, by another task. The [`Promised`] is
//! awaited. Setting it twice is impossible, for that takes the `Promise` away; dropping
//! it unset cancels; errors travel as a `Result` inside.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};

use crate::cell::note;
use crate::hooks::WaitReason;
use crate::panics::Panics;
use crate::sync::{Mutex, lock};

/// Makes a promise, and the future that waits for it.
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
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            value: Value::Awaited,
            receivers: 1,
            clone: None,
            waiters: Vec::new(),
            next_id: 2,
        }),
    });
    let promise = Promise {
        shared: Some(shared.clone()),
    };
    let promised = Promised {
        shared,
        id: 1,
        taken: AtomicBool::new(false),
    };
    (promise, promised)
}

/// The half that is set. Dropping it unset cancels: whoever waits gets [`Cancelled`].
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
    /// Taken when it is set.
    shared: Option<Arc<Shared<T>>>,
}

/// The half that waits.
///
/// If `T` is `Clone`, so is this: every clone gets the result.
///
/// # Panics
///
/// Polled again after it was ready.
///
/// # Cancel safety
///
/// Nothing is lost: await `&mut promised`, and the result is still there for the next
/// time. Dropping all clones abandons the promise: setting it gives the value back.
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
    shared: Arc<Shared<T>>,
    /// Tells its waker from those of its clones.
    id: u64,
    /// Set, under the lock, when the result has been taken; the clones count without it
    /// then.
    taken: AtomicBool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Value<T>,
    /// The `Promised`s, and callbacks, that have not had the result.
    receivers: usize,
    /// How to clone the result. Set by the first clone of a `Promised`, where it is
    /// known that this is possible.
    clone: Option<fn(&T) -> T>,
    /// By the id of the `Promised`; 0 for a callback, whose `Promised` is gone.
    waiters: Vec<(u64, Waiter<T>)>,
    next_id: u64,
}

enum Value<T> {
    Awaited,
    Set(T),
    /// A receiver is cloning it, outside of the lock; the others wait.
    Out,
    Cancelled,
}

type Callback<T> = Box<dyn FnOnce(Result<T, Cancelled>) + Send>;

enum Waiter<T> {
    Task(Waker),
    Callback(Callback<T>),
}

impl<T> Promise<T> {
    /// Completes the promise, and wakes whoever waits. Callbacks run before it returns,
    /// on this thread.
    ///
    /// # Errors
    ///
    /// The value, if nobody can receive it any more.
    ///
    /// # Panics
    ///
    /// With what a callback panics with, when all have been called.
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
    pub fn set(mut self, value: T) -> Result<(), T> {
        let Some(shared) = self.shared.take() else {
            return Err(value);
        };
        let waiters = {
            let mut state = lock(&shared.state);
            if state.receivers == 0 {
                return Err(value);
            }
            state.value = Value::Set(value);
            std::mem::take(&mut state.waiters)
        };
        shared.tell(waiters);
        Ok(())
    }

    /// Whether nobody can receive the result any more: the work for it can be left.
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
        match &self.shared {
            Some(shared) => lock(&shared.state).receivers == 0,
            None => true,
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else {
            return;
        };
        let waiters = {
            let mut state = lock(&shared.state);
            state.value = Value::Cancelled;
            std::mem::take(&mut state.waiters)
        };
        shared.tell(waiters);
    }
}

impl<T> Promised<T> {
    /// The result, if it is there. It is taken: another call, or an `.await`, does not
    /// get it again.
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
        match self.shared.receive(Some(&self.taken), None) {
            Received::Result(result) => Some(result),
            Received::NotYet => None,
        }
    }

    /// Calls `f` with the result: on the thread that completes the promise, or here and
    /// now if it is complete. In between nobody waits, and no runtime is needed.
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
    pub fn on_done(self, f: impl FnOnce(Result<T, Cancelled>) + Send + 'static) {
        if self.taken.swap(true, Ordering::Relaxed) {
            // It had the result, and has no other.
            return;
        }
        let mut callback: Option<Callback<T>> = Some(Box::new(f));
        let old = {
            let mut state = lock(&self.shared.state);
            if matches!(state.value, Value::Awaited | Value::Out) {
                let old = state.take_waiter(self.id);
                let waiter = callback.take().map(Waiter::Callback);
                state.waiters.extend(waiter.map(|waiter| (0, waiter)));
                old
            } else {
                None
            }
        };
        // Outside of the lock: dropping a waker is user code.
        drop(old);
        if let Some(callback) = callback {
            self.shared.call(callback);
        }
    }
}

impl<T> State<T> {
    /// What a `Promised` has left here: for the caller to drop outside of the lock.
    fn take_waiter(&mut self, id: u64) -> Option<Waiter<T>> {
        let index = self.waiters.iter().position(|(known, _)| *known == id)?;
        Some(self.waiters.remove(index).1)
    }
}

impl<T> Shared<T> {
    /// Wakes and calls whoever waited.
    fn tell(&self, waiters: Vec<(u64, Waiter<T>)>) {
        let mut panics = Panics::default();
        for (_, waiter) in waiters {
            match waiter {
                Waiter::Task(waker) => panics.catch(|| waker.wake()),
                Waiter::Callback(callback) => panics.catch(|| self.call(callback)),
            }
        }
        panics.resume();
    }

    fn call(&self, callback: Callback<T>) {
        match self.receive(None, None) {
            Received::Result(result) => callback(result),
            Received::NotYet => {
                // Another receiver is cloning it, and will tell.
                let mut callback = Some(callback);
                {
                    let mut state = lock(&self.state);
                    if matches!(state.value, Value::Out) {
                        let waiter = callback.take().map(Waiter::Callback);
                        state.waiters.extend(waiter.map(|waiter| (0, waiter)));
                    }
                }
                if let Some(callback) = callback {
                    self.call(callback);
                }
            }
        }
    }

    /// The result for one receiver, or `waiter` is left behind under its id. `taken` is
    /// the receiver's, and set before the result is cloned: that may use the receiver
    /// again, or panic.
    fn receive(&self, taken: Option<&AtomicBool>, mut waiter: Option<(u64, Waker)>) -> Received<T> {
        let (value, clone) = {
            let mut state = lock(&self.state);
            let is_complete = matches!(state.value, Value::Set(_) | Value::Cancelled);
            if let Some(taken) = taken {
                if taken.load(Ordering::Relaxed) {
                    return Received::NotYet;
                }
                taken.store(is_complete, Ordering::Relaxed);
            }
            match std::mem::replace(&mut state.value, Value::Out) {
                Value::Set(value) => {
                    state.receivers -= 1;
                    match state.clone {
                        Some(clone) if state.receivers > 0 => (value, clone),
                        // The last one gets the value itself.
                        _ => return Received::Result(Ok(value)),
                    }
                }
                Value::Cancelled => {
                    state.value = Value::Cancelled;
                    state.receivers -= 1;
                    return Received::Result(Err(Cancelled(())));
                }
                waiting @ (Value::Awaited | Value::Out) => {
                    state.value = waiting;
                    let Some((id, waker)) = waiter.take() else {
                        return Received::NotYet;
                    };
                    let old = state.take_waiter(id);
                    state.waiters.push((id, Waiter::Task(waker)));
                    drop(state);
                    drop(old);
                    return Received::NotYet;
                }
            }
        };
        // Cloning is user code, too: it may panic, and use this very promise.
        let back = PutBack {
            shared: self,
            value: Some(value),
        };
        let result = back.value.as_ref().map(clone);
        drop(back);
        match result {
            Some(value) => Received::Result(Ok(value)),
            None => Received::NotYet,
        }
    }
}

/// Puts the value back after it has been cloned, also by a panic.
struct PutBack<'a, T> {
    shared: &'a Shared<T>,
    value: Option<T>,
}

impl<T> Drop for PutBack<'_, T> {
    fn drop(&mut self) {
        let waiters = {
            let mut state = lock(&self.shared.state);
            if let Some(value) = self.value.take() {
                // If the others have gone meanwhile, it stays here and goes with them.
                state.value = Value::Set(value);
            }
            std::mem::take(&mut state.waiters)
        };
        self.shared.tell(waiters);
    }
}

enum Received<T> {
    Result(Result<T, Cancelled>),
    NotYet,
}

impl<T> Future for Promised<T> {
    type Output = Result<T, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let waiter = (self.id, cx.waker().clone());
        assert!(
            !self.taken.load(Ordering::Relaxed),
            "a `Promised` was polled after its result was taken"
        );
        match self.shared.receive(Some(&self.taken), Some(waiter)) {
            Received::Result(result) => Poll::Ready(result),
            Received::NotYet => {
                note(WaitReason::Promise);
                Poll::Pending
            }
        }
    }
}

impl<T: Clone> Clone for Promised<T> {
    fn clone(&self) -> Self {
        let mut state = lock(&self.shared.state);
        let taken = self.taken.load(Ordering::Relaxed);
        state.clone = Some(T::clone);
        let id = state.next_id;
        state.next_id += 1;
        if !taken {
            state.receivers += 1;
        }
        drop(state);
        Promised {
            shared: self.shared.clone(),
            id,
            taken: AtomicBool::new(taken),
        }
    }
}

impl<T> Drop for Promised<T> {
    fn drop(&mut self) {
        if self.taken.load(Ordering::Relaxed) {
            return;
        }
        let (waiter, value) = {
            let mut state = lock(&self.shared.state);
            state.receivers -= 1;
            let waiter = state.take_waiter(self.id);
            let value = if state.receivers == 0 && matches!(state.value, Value::Set(_)) {
                std::mem::replace(&mut state.value, Value::Out)
            } else {
                Value::Out
            };
            (waiter, value)
        };
        drop(waiter);
        drop(value);
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
        let state = match lock(&self.shared.state).value {
            Value::Awaited => "awaited",
            Value::Set(_) | Value::Out => "set",
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
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

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
            // The value is dropped once, whoever has it in the end.
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
            let polled = wakers.clone().map(|waker| {
                let waker = Waker::from(waker);
                let mut cx = TaskContext::from_waker(&waker);
                !promised.taken.load(Ordering::Relaxed)
                    && Pin::new(&mut promised).poll(&mut cx).is_pending()
            });
            thread.join().unwrap().unwrap();
            // Whoever was told last to wait has been woken, exactly once.
            if polled == [true, true] {
                assert_eq!(wakers[1].0.load(Ordering::SeqCst), 1);
            }
        });
    }
}
