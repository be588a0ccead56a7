//! Task-local values, like the context variables of asyncio.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::thread;

use pin_project_lite::pin_project;

/// Declares task-local values. A value is set for a future, and is only visible while that future
/// is polled or dropped.
///
/// A spawned task does not inherit the value. To pass it on, write
/// `spawn(KEY.scope(KEY.get(), future))`.
///
/// # Examples
///
/// ```
/// use soloist::{block_on, spawn, task::yield_now, task_local};
///
/// task_local! {
///     /// The number of the current request.
///     static REQUEST: u32;
/// }
///
/// async fn log(text: &str) -> String {
///     yield_now().await;
///     REQUEST.with(|request| format!("request {request}: {text}"))
/// }
///
/// block_on(async {
///     let a = spawn(REQUEST.scope(1, log("started")));
///     let b = spawn(REQUEST.scope(2, log("started")));
///     assert_eq!(a.await, "request 1: started");
///     assert_eq!(b.await, "request 2: started");
/// });
/// ```
#[macro_export]
macro_rules! task_local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty);+ $(;)?) => {$(
        $(#[$attribute])*
        $visibility static $name: $crate::task::LocalKey<$type> = {
            ::std::thread_local! {
                static VALUE: ::std::cell::RefCell<::std::option::Option<$type>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }
            $crate::task::LocalKey::__new(&VALUE)
        };
    )+};
}

/// The key of a task-local value, declared with [`task_local!`](crate::task_local).
///
/// # Examples
///
/// ```
/// soloist::task_local! {
///     static USER: String;
/// }
///
/// soloist::block_on(USER.scope("ada".to_string(), async {
///     assert_eq!(USER.get(), "ada");
/// }));
/// ```
pub struct LocalKey<T: 'static> {
    /// Holds the value while a future of its scope is polled or dropped.
    value: &'static thread::LocalKey<RefCell<Option<T>>>,
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(value: &'static thread::LocalKey<RefCell<Option<T>>>) -> LocalKey<T> {
        LocalKey { value }
    }

    /// Runs `future` with this value. A nested scope hides the value of the outer one.
    ///
    /// The future is also dropped with this value, so its destructors can read it.
    ///
    /// # Cancel safety
    ///
    /// The same as that of the future.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::task_local! {
    ///     static DEPTH: u32;
    /// }
    ///
    /// soloist::block_on(DEPTH.scope(1, async {
    ///     DEPTH.scope(2, async { assert_eq!(DEPTH.get(), 2) }).await;
    ///     assert_eq!(DEPTH.get(), 1);
    /// }));
    /// ```
    pub fn scope<F: Future>(&'static self, value: T, future: F) -> impl Future<Output = F::Output> {
        Scope {
            key: self,
            value: Some(value),
            future: Some(future),
        }
    }

    /// Calls `f` with the value. If a scope of the same key is dropped inside of `f`, its
    /// destructors see this value instead of their own.
    ///
    /// # Panics
    ///
    /// Panics outside of a scope, unlike [`try_with`](LocalKey::try_with). Polling a scope of the
    /// same key inside of `f` panics, too.
    ///
    /// # Examples
    ///
    /// See [`task_local!`](crate::task_local).
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// Calls `f` with the value.
    ///
    /// # Errors
    ///
    /// Returns an error outside of a scope.
    ///
    /// # Examples
    ///
    /// ```
    /// soloist::task_local! {
    ///     static USER: String;
    /// }
    ///
    /// let error = USER.try_with(|user| user.len()).unwrap_err();
    /// assert!(error.to_string().contains("outside of its scope"));
    /// ```
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let call = |value: &RefCell<Option<T>>| value.borrow().as_ref().map(f);
        let result = self.value.try_with(call).ok().flatten();
        result.ok_or(AccessError(()))
    }

    /// Returns a clone of the value.
    ///
    /// # Panics
    ///
    /// Panics outside of a scope.
    ///
    /// # Examples
    ///
    /// See [`LocalKey`].
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// Runs `f` with `value` set, and restores the previous value after that. Inside of `with` the
    /// value cannot be replaced, so `f` runs with the current one.
    fn enter<R>(&'static self, value: &mut Option<T>, f: impl FnOnce() -> R) -> R {
        struct Restore<'a, T: 'static> {
            key: &'static LocalKey<T>,
            value: &'a mut Option<T>,
        }
        impl<T> Drop for Restore<'_, T> {
            fn drop(&mut self) {
                self.key.swap(self.value);
            }
        }
        let _restore = self.swap(value).then(|| Restore { key: self, value });
        f()
    }

    /// Swaps the current value with `value`. Returns false if it cannot: inside of `with`, and when
    /// the thread is ending.
    fn swap(&'static self, value: &mut Option<T>) -> bool {
        let swap = |held: &RefCell<Option<T>>| {
            let held = held.try_borrow_mut();
            held.map(|mut held| std::mem::swap(&mut *held, value))
        };
        matches!(self.value.try_with(swap), Ok(Ok(())))
    }
}

/// The error of [`LocalKey::try_with`]: there is no value, since the code does not run in a scope of
/// the key.
///
/// # Examples
///
/// ```
/// soloist::task_local! {
///     static USER: String;
/// }
///
/// fn user_len() -> Result<usize, soloist::task::AccessError> {
///     USER.try_with(|user| user.len())
/// }
/// assert!(user_len().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessError(());

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task-local value outside of its scope: run the future in `scope`")
    }
}

impl std::error::Error for AccessError {}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

pin_project! {
    struct Scope<T, F>
    where
        T: 'static,
    {
        key: &'static LocalKey<T>,
        // The value while the future is not being polled.
        value: Option<T>,
        #[pin]
        future: Option<F>,
    }

    impl<T, F> PinnedDrop for Scope<T, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.key.enter(this.value, || this.future.set(None));
        }
    }
}

impl<T: 'static, F: Future> Future for Scope<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let is_free = |held: &RefCell<Option<T>>| held.try_borrow_mut().is_ok();
        assert!(
            this.key.value.try_with(is_free).unwrap_or(true),
            "a scope was polled inside `with` of the same key: return from `with` first"
        );
        this.key.enter(this.value, || {
            let future = this.future.as_mut().as_pin_mut();
            let output = future
                .expect("a scope was polled after it had completed")
                .poll(cx);
            if output.is_ready() {
                this.future.set(None);
            }
            output
        })
    }
}
