//! Promises: futures that a callback, a thread or another task completes.

use std::collections::HashMap;
use std::io;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::task::Wake;

use fastrand::Rng;
use soloist::io::Async;
use soloist::promise::{Cancelled, Promise, Promised, promise};

use crate::support::*;

/// A value that counts its clones and its instances.
#[derive(Default)]
struct Counts {
    clones: AtomicUsize,
    alive: AtomicUsize,
}

struct Counted(Arc<Counts>);

impl Counted {
    fn new() -> (Counted, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        counts.alive.fetch_add(1, Ordering::SeqCst);
        (Counted(counts.clone()), counts)
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        self.0.clones.fetch_add(1, Ordering::SeqCst);
        self.0.alive.fetch_add(1, Ordering::SeqCst);
        Counted(self.0.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Counts {
    fn clones(&self) -> usize {
        self.clones.load(Ordering::SeqCst)
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

/// Calls its closure whenever it is cloned.
struct OnClone(Arc<dyn Fn() + Send + Sync>);

impl OnClone {
    fn new(f: impl Fn() + Send + Sync + 'static) -> OnClone {
        OnClone(Arc::new(f))
    }
}

impl Clone for OnClone {
    fn clone(&self) -> OnClone {
        (self.0)();
        OnClone(self.0.clone())
    }
}

#[test]
fn waiters_get_clones_of_the_result_in_the_order_of_their_waits() {
    async_test(async || {
        let (promise, promised) = promise();
        let log = Log::new();
        let polls: &[Cell<usize>; 3] = leak(Default::default());
        let waiters = [0, 1, 2].map(|n| {
            let promised = promised.clone();
            spawn(async move {
                let result = count_polls(&polls[n], promised).await;
                log.push((n, result));
            })
        });
        drop(promised);
        yield_now().await;
        assert_eq!(polls.each_ref().map(Cell::get), [1, 1, 1]);
        promise.set("the result".to_string()).unwrap();
        assert_eq!(log.len(), 0, "`set` polls nothing");
        join_all(waiters).await;
        assert_eq!(polls.each_ref().map(Cell::get), [2, 2, 2]);
        log.assert(&[0, 1, 2].map(|n| (n, Ok("the result".to_string()))));
    });
}

#[test]
fn a_promise_that_another_thread_sets_or_drops_wakes_a_parked_runtime() {
    with_both_waits(|| {
        for panics in [false, true] {
            let (promise, promised) = promise();
            let (tell, told) = mpsc::channel();
            let thread = thread::spawn(move || {
                told.recv().unwrap();
                // Until the runtime is parked.
                thread::sleep(30 * MS);
                assert!(!panics, "the thread has failed");
                promise.set(42)
            });
            let (silent, _other_end) = tcp_pair();
            let polls = Cell::new(0);
            let result = block_on(count_polls(&polls, async {
                // Another task waits for a socket.
                let silent = Async::new(silent).unwrap();
                let _reader = spawn(async move { silent.readable().await });
                tell.send(()).unwrap();
                promised.await
            }));
            assert_eq!((result.ok(), polls.get()), ((!panics).then_some(42), 2));
            assert_eq!(thread.join().is_err(), panics);
        }
    });
}

#[test]
fn a_promise_is_abandoned_when_nothing_can_receive_its_result() {
    async_test(async || {
        let (promise, promised) = soloist::promise::promise();
        let clone = promised.clone();
        drop(promised);
        assert!(!promise.is_abandoned(), "there is a clone");
        let waiter = spawn(clone);
        yield_now().await;
        assert!(!promise.is_abandoned());
        drop(waiter);
        assert!(promise.is_abandoned());
        let value = Box::new(7);
        let address: *const i32 = &*value;
        let back = promise.set(value).unwrap_err();
        assert!(std::ptr::eq(&*back, address), "not the value itself");

        let (promise, promised) = soloist::promise::promise();
        promised.on_done(|result| assert_eq!(result, Ok(1)));
        assert!(!promise.is_abandoned(), "there is a callback");
        assert_eq!(promise.set(1), Ok(()));
    });
}

#[test]
fn dropping_the_promise_cancels_waits_and_callbacks() {
    async_test(async || {
        let (promise, promised) = promise::<u32>();
        let waiters: Vec<_> = (0..3).map(|_| spawn(promised.clone())).collect();
        let taker = promised.clone();
        let (tell, told) = mpsc::channel();
        promised
            .clone()
            .on_done(move |result| tell.send(result).unwrap());
        yield_now().await;
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));

        drop(promise);
        let cancelled = told.try_recv().unwrap();
        let error = cancelled.unwrap_err();
        for waiter in waiters {
            assert_eq!(waiter.await, Err(error));
        }
        assert_eq!(taker.try_take(), Some(Err(error)));
        assert_eq!(taker.try_take(), None);
        // So does a clone that is made later.
        assert_eq!(promised.clone().await, Err(error));
        assert_eq!(promised.await, Err(error));

        let text = "the promise was dropped before it was set";
        assert_eq!(error.to_string(), text);
        assert_eq!(io::Error::from(error).to_string(), text);
    });
}

#[test]
fn a_callback_runs_on_the_completing_thread_before_set_returns() {
    watchdog(|| {
        let here = thread::current().id();
        let (promise, promised) = promise();
        let calls = leak(Mutex::new(Vec::new()));
        for _ in 0..2 {
            promised.clone().on_done(move |result| {
                calls.lock().unwrap().push((thread::current().id(), result));
            });
        }
        drop(promised);
        assert!(calls.lock().unwrap().is_empty());

        let thread = thread::spawn(move || {
            promise.set("read").unwrap();
            assert_eq!(calls.lock().unwrap().len(), 2);
        });
        let there = thread.thread().id();
        thread.join().unwrap();
        assert_ne!(here, there);
        assert_eq!(*calls.lock().unwrap(), [(there, Ok("read")); 2]);
    });
}

#[test]
fn a_callback_of_a_complete_promise_runs_at_once_on_this_thread() {
    watchdog(|| {
        let here = thread::current().id();
        for set in [true, false] {
            let (promise, promised) = promise();
            elsewhere(move || if set { promise.set(5) } else { Err(0) })
                .unwrap_or_else(|_| assert!(!set));
            let (tell, told) = mpsc::channel();
            let _other = promised.clone();
            promised.on_done(move |result| {
                tell.send((thread::current().id(), result.ok())).unwrap();
            });
            assert_eq!(told.try_recv(), Ok((here, set.then_some(5))));
            assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        }
    });
}

#[test]
fn a_callback_needs_no_runtime_and_can_spawn_through_a_handle() {
    watchdog(|| {
        let runtime = soloist::Runtime::new();
        let handle = runtime.handle();
        let (promise, promised) = promise();
        promised.on_done(move |result| {
            handle
                .spawn(move || async move { assert_eq!(result, Ok(3)) })
                .detach();
            handle.stop();
        });
        let thread = thread::spawn(move || promise.set(3));
        runtime.run_forever();
        assert_eq!(thread.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_callback_that_panics_does_not_stop_the_other_receivers() {
    async_test(async || {
        let (promise, promised) = promise();
        let (tell, told) = mpsc::channel();
        let waiter = spawn(promised.clone());
        yield_now().await;
        for n in 0..4 {
            let tell = tell.clone();
            promised.clone().on_done(move |result| {
                tell.send((n, result)).unwrap();
                assert!(n % 2 == 0, "callback {n} has failed");
            });
        }
        let late = spawn(promised);
        yield_now().await;

        let text = panic_of(|| promise.set(1));
        assert_eq!(text, "callback 1 has failed", "the first panic goes on");
        let called: Vec<_> = told.try_iter().collect();
        assert_eq!(called, [(0, Ok(1)), (1, Ok(1)), (2, Ok(1)), (3, Ok(1))]);
        assert_eq!((waiter.await, late.await), (Ok(1), Ok(1)));
    });
}

#[test]
fn a_callback_that_panics_during_a_panic_does_not_abort() {
    watchdog(|| {
        let (promise, promised) = promise::<u32>();
        let (tell, told) = mpsc::channel();
        promised
            .clone()
            .on_done(|_| panic!("the callback has failed, too"));
        promised.on_done(move |result| tell.send(result).unwrap());
        let thread = thread::spawn(move || {
            let _promise = promise;
            panic!("the thread has failed");
        });
        let payload = thread.join().unwrap_err();
        assert_eq!(panic_text(&*payload), "the thread has failed");
        assert!(told.try_recv().unwrap().is_err());
    });
}

#[test]
fn a_clone_that_panics_leaves_the_result_to_the_other_receivers() {
    watchdog(|| {
        // For each position of the clone that panics.
        for unlucky in 0..3 {
            let (promise, promised) = promise();
            let clones = leak(AtomicUsize::new(0));
            let value = OnClone::new(move || {
                let n = clones.fetch_add(1, Ordering::SeqCst);
                assert_ne!(n, unlucky, "no clone");
            });
            let receivers: Vec<_> = (0..4).map(|_| promised.clone()).collect();
            drop(promised);
            assert!(promise.set(value).is_ok());
            let mut got = Vec::new();
            for receiver in receivers {
                got.push(catch_unwind(AssertUnwindSafe(|| block_on(receiver).is_ok())).ok());
            }
            let mut expected = [Some(true); 4];
            expected[unlucky] = None;
            assert_eq!(got, expected);
            // The last receiver gets the value itself.
            assert_eq!(clones.load(Ordering::SeqCst), 3);
        }
    });
}

#[test]
fn a_clone_that_panics_in_set_leaves_the_result_to_tasks_and_callbacks() {
    async_test(async || {
        let (promise, promised) = promise();
        let first = leak(AtomicBool::new(true));
        let value = OnClone::new(move || {
            assert!(!first.swap(false, Ordering::SeqCst), "no clone");
        });
        let (tell, told) = mpsc::channel();
        for n in 0..3 {
            let tell = tell.clone();
            promised
                .clone()
                .on_done(move |result| tell.send((n, result.is_ok())).unwrap());
        }
        let tasks = [0, 1].map(|_| spawn(promised.clone()));
        drop(promised);
        yield_now().await;
        let text = panic_of(|| promise.set(value).is_ok());
        assert_eq!(text, "no clone");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(1, true), (2, true)]);
        for task in tasks {
            assert!(task.await.is_ok());
        }
    });
}

#[test]
fn clone_can_use_the_promise() {
    watchdog(|| {
        let slot: Arc<Mutex<Vec<Promised<OnClone>>>> = Arc::default();
        let (promise, promised) = promise();
        *slot.lock().unwrap() = (0..4).map(|_| promised.clone()).collect();
        let (tell, told) = mpsc::channel();
        let (count, wakes) = CountWakes::new();
        let used = slot.clone();
        let first = AtomicBool::new(true);
        let value = OnClone::new(move || {
            if !first.swap(false, Ordering::SeqCst) {
                return;
            }
            let mut handles = std::mem::take(&mut *used.lock().unwrap());
            // While it is cloned, no other receiver can take it.
            let mut polled = handles.pop().unwrap();
            assert!(poll_with(&mut polled, &wakes).is_pending());
            let kept = polled.clone();
            assert!(kept.try_take().is_none());
            let tell = tell.clone();
            handles
                .pop()
                .unwrap()
                .on_done(move |result| tell.send(result.is_ok()).unwrap());
            drop(handles.pop());
            assert!(format!("{:?}", handles[0]).contains("set"));
            used.lock().unwrap().extend([polled, kept]);
        });
        assert!(promise.set(value).is_ok());
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
        assert!(block_on(promised).is_ok());
        assert_eq!(told.try_recv(), Ok(true));
        assert_eq!(count.get(), 1, "it is put back, and that is told");
        let left = std::mem::take(&mut *slot.lock().unwrap());
        assert_eq!(left.len(), 2);
        for promised in left {
            assert!(promised.try_take().is_some_and(|result| result.is_ok()));
        }
    });
}

#[test]
fn a_callback_added_while_another_thread_clones_the_result_is_called() {
    watchdog(|| {
        let (promise, mut original) = promise();
        let callback = original.clone();
        let mut other = original.clone();

        // The other thread clones the result until it may continue.
        let (cloning, is_cloning) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let (cloning, may_go) = (Mutex::new(cloning), Mutex::new(may_go));
        let value = OnClone::new(move || {
            if cloning.lock().unwrap().send(()).is_ok() {
                let _ = may_go.lock().unwrap().recv();
            }
        });
        let is_cloning = Mutex::new(is_cloning);
        let (woken, is_woken) = mpsc::channel();
        let woken = Mutex::new(woken);
        let waker = waker_fn(move || {
            woken.lock().unwrap().send(()).unwrap();
            is_cloning.lock().unwrap().recv().unwrap();
        });
        assert!(poll_with(&mut other, &waker).is_pending());
        let thread = thread::spawn(move || {
            is_woken.recv().unwrap();
            other.try_take().is_some_and(|result| result.is_ok())
        });
        let (tell, told) = mpsc::channel();
        callback.on_done(move |result| tell.send(result.is_ok()).unwrap());

        // The waker is woken first, so the callback finds the result taken.
        assert!(promise.set(value).is_ok());
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
        let (count, waker) = CountWakes::new();
        assert!(poll_with(&mut original, &waker).is_pending());
        drop(go);
        assert!(thread.join().unwrap());
        assert_eq!(told.try_recv(), Ok(true));
        assert_eq!(count.get(), 1);
        assert!(poll_with(&mut original, &waker).is_ready());
    });
}

#[test]
fn try_take_returns_the_result_once_for_each_clone() {
    watchdog(|| {
        let (promise, promised) = promise();
        let clone = promised.clone();
        assert_eq!(promised.try_take(), None);
        promise.set("it").unwrap();
        assert_eq!(promised.try_take(), Some(Ok("it")));
        assert_eq!(promised.try_take(), None);
        // A clone of a receiver that had the result has had it, too.
        assert_eq!(promised.clone().try_take(), None);
        assert_eq!(clone.try_take(), Some(Ok("it")));
        assert_eq!(clone.try_take(), None);
        // Its callback is not called.
        clone.on_done(|_| panic!("a second result"));

        let (promise, promised) = soloist::promise::promise::<u32>();
        let clone = promised.clone();
        drop(promise);
        assert!(promised.try_take().is_some_and(|result| result.is_err()));
        assert_eq!(promised.clone().try_take(), None);
        promised.on_done(|_| panic!("a second result"));
        assert!(clone.try_take().is_some_and(|result| result.is_err()));
    });
}

#[test]
fn polling_after_the_result_was_taken_panics() {
    watchdog(|| {
        let (promise, mut promised) = promise();
        promise.set(1).unwrap();
        assert_eq!(poll_with(&mut promised, Waker::noop()), Poll::Ready(Ok(1)));
        let text = panic_of(|| poll_with(&mut promised, Waker::noop()));
        assert_eq!(
            text,
            "a `Promised` was polled after it had returned its result"
        );
    });
}

#[test]
fn a_wait_that_is_dropped_does_not_lose_the_result() {
    async_test(async || {
        let (promise, mut promised) = promise();
        let waited = futures_lite::future::or(async { Some((&mut promised).await) }, async {
            sleep(MS).await;
            None
        })
        .await;
        assert_eq!(waited, None);
        promise.set(8).unwrap();
        assert_eq!(promised.await, Ok(8));
    });
}

#[test]
fn a_waker_is_replaced_dropped_and_woken_exactly_once() {
    watchdog(|| {
        let (promise, mut promised) = promise();
        let mut clone = promised.clone();
        let (first, first_waker) = CountWakes::new();
        let (second, second_waker) = CountWakes::new();
        let (third, third_waker) = CountWakes::new();
        // One reference is ours, one is that of the `Waker`.
        let held = |count: &Arc<CountWakes>| Arc::strong_count(count) - 2;

        assert!(poll_with(&mut promised, &first_waker).is_pending());
        assert!(poll_with(&mut promised, &first_waker).is_pending());
        assert_eq!((held(&first), first.get()), (1, 0), "kept once");
        assert!(poll_with(&mut promised, &second_waker).is_pending());
        assert_eq!((held(&first), first.get()), (0, 0), "replaced, not woken");
        assert_eq!(held(&second), 1);

        assert!(poll_with(&mut clone, &third_waker).is_pending());
        assert_eq!(
            (held(&second), held(&third)),
            (1, 1),
            "each clone has its own"
        );
        let gone = {
            let mut gone = clone.clone();
            assert!(poll_with(&mut gone, &first_waker).is_pending());
            assert_eq!(held(&first), 1);
            gone
        };
        drop(gone);
        assert_eq!(
            (held(&first), first.get()),
            (0, 0),
            "it goes with its `Promised`"
        );
        // A callback replaces the waker.
        let mut called = clone.clone();
        assert!(poll_with(&mut called, &first_waker).is_pending());
        called.on_done(|result| assert_eq!(result, Ok(6)));
        assert_eq!((held(&first), first.get()), (0, 0));

        promise.set(6).unwrap();
        assert_eq!((first.get(), second.get(), third.get()), (0, 1, 1));
        assert_eq!((held(&second), held(&third)), (0, 0));
        assert_eq!(poll_with(&mut promised, &second_waker), Poll::Ready(Ok(6)));
        assert_eq!(poll_with(&mut clone, &third_waker), Poll::Ready(Ok(6)));
        assert_eq!((second.get(), third.get()), (1, 1));
        assert_eq!((held(&second), held(&third)), (0, 0));
    });
}

/// A waker that uses the promise when it is woken, and when it is dropped.
struct Meddler {
    promised: Mutex<Promised<u32>>,
    woken: Mutex<Vec<Option<Result<u32, Cancelled>>>>,
    dropped: &'static AtomicUsize,
}

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        let result = self.promised.lock().unwrap().clone().try_take();
        self.woken.lock().unwrap().push(result);
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        drop(self.promised.get_mut().unwrap().clone());
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn wakers_can_use_the_promise_when_woken_and_when_dropped() {
    watchdog(|| {
        let (promise, mut promised) = promise();
        let dropped = leak(AtomicUsize::new(0));
        let meddler = || {
            Arc::new(Meddler {
                promised: Mutex::new(promised.clone()),
                woken: Mutex::default(),
                dropped,
            })
        };
        let wakers = [(); 3].map(|()| Waker::from(meddler()));
        let last = meddler();
        let mut clone = promised.clone();
        assert!(poll_with(&mut clone, &wakers[0]).is_pending());
        let [first, second, third] = wakers;
        drop(first);
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        // Replaced by a waker; replaced by a callback; dropped with its `Promised`.
        assert!(poll_with(&mut clone, &second).is_pending());
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        drop(second);
        clone.on_done(|result| assert_eq!(result, Ok(9)));
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
        let mut clone = promised.clone();
        assert!(poll_with(&mut clone, &third).is_pending());
        drop(third);
        drop(clone);
        assert_eq!(dropped.load(Ordering::SeqCst), 3);

        assert!(poll_with(&mut promised, &Waker::from(last.clone())).is_pending());
        promise.set(9).unwrap();
        assert_eq!(*last.woken.lock().unwrap(), [Some(Ok(9))]);
        drop(last);
        assert_eq!(dropped.load(Ordering::SeqCst), 4);
    });
}

#[test]
fn a_waker_that_panics_does_not_stop_the_other_wakes() {
    watchdog(|| {
        let (promise, mut promised) = promise();
        let mut clone = promised.clone();
        let (count, waker) = CountWakes::new();
        assert!(poll_with(&mut promised, &waker_fn(|| panic!("a bad waker"))).is_pending());
        assert!(poll_with(&mut clone, &waker).is_pending());
        assert_eq!(panic_of(|| promise.set(2)), "a bad waker");
        assert_eq!(count.get(), 1);
        assert_eq!((block_on(promised), block_on(clone)), (Ok(2), Ok(2)));
    });
}

#[test]
fn the_result_is_cloned_for_each_receiver_but_the_last() {
    // Not `Clone`.
    struct Unique(Counted);
    watchdog(|| {
        let (value, counts) = Counted::new();
        let (promise, promised) = soloist::promise::promise();
        assert!(promise.set(Unique(value)).is_ok());
        let result = block_on(promised);
        assert!(result.is_ok_and(|value| value.0.0.alive() == 1));
        assert_eq!((counts.clones(), counts.alive()), (0, 0));

        let (value, counts) = Counted::new();
        let (promise, promised) = soloist::promise::promise();
        let clones = [promised.clone(), promised.clone(), promised.clone()];
        drop(promised);
        assert!(promise.set(value).is_ok());
        assert_eq!((counts.clones(), counts.alive()), (0, 1));
        let results = clones.map(block_on);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!((counts.clones(), counts.alive()), (2, 3));
        drop(results);
        assert_eq!(counts.alive(), 0);

        // A receiver that has had the result, or was dropped, does not count.
        let (value, counts) = Counted::new();
        let (promise, first) = soloist::promise::promise();
        let (second, third) = (first.clone(), first.clone());
        assert!(promise.set(value).is_ok());
        let taken = first.try_take();
        let late = first.clone();
        assert_eq!((counts.clones(), counts.alive()), (1, 2));
        let result = block_on(second);
        assert_eq!((counts.clones(), counts.alive()), (2, 3));
        drop(third);
        assert_eq!((counts.clones(), counts.alive()), (2, 2));
        drop((taken, result));
        assert_eq!(counts.alive(), 0);
        assert!(late.try_take().is_none());
    });
}

#[test]
fn a_results_destructor_can_use_the_promise() {
    watchdog(|| {
        type Slot = Rc<RefCell<Option<Promised<OnDrop<Box<dyn FnMut()>>>>>>;
        let slot = Slot::default();
        let (promise, promised) = promise();
        let drops = leak(Cell::new(0));
        let held = slot.clone();
        let value: Box<dyn FnMut()> = Box::new(move || {
            drops.set(drops.get() + 1);
            assert!(
                held.take().is_none(),
                "it is this one that is being dropped"
            );
        });
        assert!(promise.set(OnDrop(value)).is_ok());
        *slot.borrow_mut() = Some(promised);
        let promised = slot.take();
        drop(promised);
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn a_value_that_is_not_send_can_be_passed_between_tasks() {
    async_test(async || {
        let (promise, promised) = promise();
        let waiters = [promised.clone(), promised].map(spawn);
        let value = Rc::new(Cell::new(1));
        let setter = spawn({
            let value = value.clone();
            async move {
                yield_now().await;
                promise.set(value).unwrap();
            }
        });
        for waiter in waiters {
            let got = waiter.await.unwrap();
            assert!(Rc::ptr_eq(&got, &value));
        }
        setter.await;
    });
}

/// The two halves meet in every order that the threads produce.
#[test]
fn set_drop_and_receive_race_on_three_threads() {
    const ROUNDS: u64 = if cfg!(miri) { 50 } else { 4_000 };
    const THREADS: usize = 3;

    /// The part of one receiver. Returns whether it got a value; `None` if it was dropped without a
    /// look, or left the result to a callback.
    fn receive(mut promised: Promised<Counted>, how: u64, results: &Tally) -> Option<bool> {
        match how % 6 {
            0 => Some(block_on(promised).is_ok()),
            1 => {
                drop(promised);
                None
            }
            2 => loop {
                if let Some(result) = promised.try_take() {
                    return Some(result.is_ok());
                }
                thread::yield_now();
            },
            3 => {
                let results = results.clone();
                promised.on_done(move |result| results.add(Some(result.is_ok())));
                None
            }
            4 => {
                // Is dropped after one poll.
                match poll_with(&mut promised, Waker::noop()) {
                    Poll::Ready(result) => Some(result.is_ok()),
                    Poll::Pending => None,
                }
            }
            _ => {
                // Is polled with another waker first, and waits with a clone in the end.
                if let Poll::Ready(result) = poll_with(&mut promised, Waker::noop()) {
                    return Some(result.is_ok());
                }
                let clone = promised.clone();
                drop(promised);
                Some(block_on(clone).is_ok())
            }
        }
    }

    #[derive(Clone, Default)]
    struct Tally(Arc<(AtomicUsize, AtomicUsize)>);

    impl Tally {
        fn add(&self, result: Option<bool>) {
            match result {
                Some(true) => self.0.0.fetch_add(1, Ordering::SeqCst),
                Some(false) => self.0.1.fetch_add(1, Ordering::SeqCst),
                None => 0,
            };
        }

        fn get(&self) -> (usize, usize) {
            (
                self.0.0.load(Ordering::SeqCst),
                self.0.1.load(Ordering::SeqCst),
            )
        }
    }

    type Job = Box<dyn FnOnce() + Send>;

    watchdog(|| {
        let start = Arc::new(Barrier::new(THREADS));
        let (done, all_done) = mpsc::channel();
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                let (give, jobs) = mpsc::channel::<Job>();
                let (start, done) = (start.clone(), done.clone());
                let thread = thread::spawn(move || {
                    for job in jobs {
                        start.wait();
                        job();
                        done.send(()).unwrap();
                    }
                });
                (give, thread)
            })
            .collect();

        let mut random = Rng::with_seed(1);
        // The number of each outcome, to check that all of them occur.
        let mut seen = HashMap::new();
        for round in 0..ROUNDS {
            let (promise, promised) = promise();
            let (value, counts) = Counted::new();
            let tally = Tally::default();
            let refused = leak(AtomicBool::new(false));
            let set = random.u64(..4) > 0;
            let mut delays = [(); THREADS].map(|()| random.u64(..200));
            if random.u64(..8) == 0 {
                delays[random.u64(..3) as usize] = 50_000;
            }
            let rotate = random.u64(..3) as usize;
            let hows = [random.u64(..6), random.u64(..6)];

            let completer: Job = Box::new(move || {
                if set {
                    refused.store(promise.set(value).is_err(), Ordering::SeqCst);
                } else {
                    drop((promise, value));
                }
            });
            let receivers = [promised.clone(), promised].into_iter().zip(hows);
            let receivers = receivers.map(|(promised, how)| {
                let tally = tally.clone();
                Box::new(move || tally.add(receive(promised, how, &tally))) as Job
            });
            let jobs = std::iter::once(completer).chain(receivers);
            // The last that gets its job is the first to run.
            let turns = workers.iter().cycle().skip(rotate);
            for (((give, _), job), delay) in turns.zip(jobs).zip(delays) {
                let delayed = move || {
                    for _ in 0..delay {
                        std::hint::spin_loop();
                    }
                    job();
                };
                give.send(Box::new(delayed)).unwrap();
            }
            for _ in 0..THREADS {
                all_done.recv().unwrap();
            }

            let about = format!("round {round}: set {set}, receivers {hows:?}");
            let (got, cancelled) = tally.get();
            let refused = refused.load(Ordering::SeqCst);
            // 0, 2, 3 and 5 wait until they have it; 1 never looks; 4 may look too early.
            let sure = hows.iter().filter(|how| ![1, 4].contains(how)).count();
            let may = hows.iter().filter(|how| **how != 1).count();
            let told = got + cancelled;
            assert!((sure..=may).contains(&told), "{about}: {told} were told");
            assert!(if set { cancelled == 0 } else { got == 0 }, "{about}");
            if refused {
                assert_eq!(told, 0, "{about}: it was received");
            }
            assert_eq!(counts.alive(), 0, "{about}: each value is dropped once");
            assert!(counts.clones() < 2, "{about}");
            *seen.entry((set, refused, told)).or_insert(0) += 1;
        }
        for (give, thread) in workers {
            drop(give);
            thread.join().unwrap();
        }
        if cfg!(miri) {
            return;
        }
        for told in 0..=2 {
            assert!(seen.contains_key(&(true, false, told)), "{seen:?}");
            assert!(seen.contains_key(&(false, false, told)), "{seen:?}");
        }
        assert!(seen.contains_key(&(true, true, 0)), "{seen:?}");
    });
}

/// A reference that is used while the result is being taken, by a waker here or on another thread,
/// belongs to the same receiver.
#[test]
fn a_receiver_gets_one_result_even_while_it_is_being_taken() {
    watchdog(|| {
        let (promise, shared) = promise();
        let (shared, other) = (Arc::new(shared.clone()), shared);
        let waiting = Arc::new(Mutex::new(other));
        let (tell, told) = mpsc::channel();
        let (taken, tell) = (shared.clone(), Mutex::new(tell));
        let waker = waker_fn(move || {
            let again = (taken.try_take(), Promised::clone(&taken).try_take());
            let again = (again.0.is_some(), again.1.is_some());
            tell.lock().unwrap().send(again).unwrap();
        });
        let (first, polled) = (AtomicBool::new(true), waiting.clone());
        let value = OnClone::new(move || {
            if first.swap(false, Ordering::SeqCst) {
                assert!(poll_with(&mut *polled.lock().unwrap(), &waker).is_pending());
            }
        });
        assert!(promise.set(value).is_ok());
        assert!(shared.try_take().is_some());
        // The waker was called after the result was put back, and before `try_take` returned.
        assert_eq!(told.try_recv(), Ok((false, false)));
        assert!(shared.try_take().is_none());
        assert!(waiting.lock().unwrap().try_take().is_some());
    });
}

#[test]
fn a_clone_made_while_another_thread_calls_try_take_gets_the_result() {
    const ROUNDS: usize = if cfg!(miri) { 10 } else { 200 };
    watchdog(|| {
        for round in 0..ROUNDS {
            let (promise, shared) = promise();
            let (looks, done) = (AtomicBool::new(false), AtomicBool::new(false));
            let clones = thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        assert_eq!(shared.try_take(), None);
                        looks.store(true, Ordering::SeqCst);
                    }
                });
                while !looks.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                let clones: Vec<_> = (0..100).map(|_| shared.clone()).collect();
                done.store(true, Ordering::SeqCst);
                clones
            });
            promise.set(round).unwrap();
            for clone in clones {
                assert_eq!(clone.try_take(), Some(Ok(round)));
            }
        }
    });
}

mod auto_traits {
    use super::*;

    macro_rules! assert_not_impl {
        ($type:ty: $trait:path) => {
            // Ambiguous, and so a compile error, if the type implements the trait.
            const _: fn() = || {
                trait Ambiguous<A> {
                    fn name() {}
                }
                impl<T> Ambiguous<()> for T {}
                struct Other;
                impl<T: $trait> Ambiguous<Other> for T {}
                let _ = <$type as Ambiguous<_>>::name;
            };
        };
    }

    const fn assert_impl<T: Send + Sync + Unpin>() {}

    const _: () = assert_impl::<Promise<String>>();
    const _: () = assert_impl::<Promised<String>>();
    // The value is moved, not shared.
    const _: () = assert_impl::<Promise<Cell<u32>>>();
    const _: () = assert_impl::<Promised<Cell<u32>>>();
    const _: () = assert_impl::<Cancelled>();
    assert_not_impl!(Promise<Rc<u32>>: Send);
    assert_not_impl!(Promise<Rc<u32>>: Sync);
    assert_not_impl!(Promised<Rc<u32>>: Send);
    assert_not_impl!(Promised<Rc<u32>>: Sync);
    // It cannot be completed twice.
    assert_not_impl!(Promise<u32>: Clone);
    // Cloning a receiver requires a result that can be cloned.
    assert_not_impl!(Promised<Mutex<u32>>: Clone);
}
