//! Other threads against a whole runtime, in every interleaving that loom finds: the crate's own
//! code, from the atomics in `task_cell/` and the mutex in `inbox.rs` up to `block_on`. A wake-up
//! that is lost is a deadlock, which loom reports.
//!
//! loom does not see the counts of std's `Arc`, and time does not pass.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::task::{Context as TaskContext, Poll, Waker};

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{Handle, Runtime};
use crate::task::yield_now;

/// As many switches between two threads as this where they could have gone on. The more,
/// the longer: exponentially.
fn model(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(test);
}

/// What threads have done for a future that waits for it.
struct Shared {
    done: AtomicUsize,
    /// After that the future is ready.
    wanted: usize,
    // Not loom's: only the runtime's thread uses them, or the model has ended.
    polls: Count,
    drops: Count,
}

impl Shared {
    fn new(wanted: usize) -> Arc<Shared> {
        Arc::new(Shared {
            done: AtomicUsize::new(0),
            wanted,
            polls: Count::new(0),
            drops: Count::new(0),
        })
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    fn drops(&self) -> usize {
        self.drops.load(Ordering::SeqCst)
    }
}

/// Waits for what threads do, and checks how it is treated itself.
struct Waits {
    shared: Arc<Shared>,
    /// Where it is made, and has to be polled and dropped.
    thread: thread::ThreadId,
    ready: bool,
    /// Has the waker of the first poll.
    tell: Option<Box<dyn FnOnce(Waker)>>,
}

impl Waits {
    /// `tell` gets the waker, in the first poll.
    fn new(shared: &Arc<Shared>, tell: impl FnOnce(Waker) + 'static) -> Waits {
        Waits {
            shared: shared.clone(),
            thread: thread::current().id(),
            ready: false,
            tell: Some(Box::new(tell)),
        }
    }
}

impl Future for Waits {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<usize> {
        assert!(!self.ready, "polled after it was ready");
        assert_eq!(thread::current().id(), self.thread);
        self.shared.polls.fetch_add(1, Ordering::SeqCst);
        if let Some(tell) = self.tell.take() {
            tell(cx.waker().clone());
        }
        // Relaxed: what a wake publishes has to do without help from here.
        let done = self.shared.done.load(Ordering::Relaxed);
        self.ready = done >= self.shared.wanted;
        if self.ready {
            Poll::Ready(done)
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        assert_eq!(thread::current().id(), self.thread);
        self.shared.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// One thing done, and a wake.
fn does(shared: &Arc<Shared>, waker: Waker) -> thread::JoinHandle<()> {
    let shared = shared.clone();
    thread::spawn(move || {
        shared.done.fetch_add(1, Ordering::Relaxed);
        waker.wake();
    })
}

#[test]
fn model_a_wake_against_going_idle() {
    model(4, || {
        let shared = Shared::new(1);
        let there = shared.clone();
        let waits = Waits::new(&shared, move |waker| drop(does(&there, waker)));
        assert_eq!(Runtime::new().block_on(waits), 1);
        assert!(shared.polls() <= 2);
        assert_eq!(shared.drops(), 1);
    });
}

#[test]
fn model_two_wakers_against_one_poll() {
    model(3, || {
        let shared = Shared::new(2);
        let there = shared.clone();
        let waits = Waits::new(&shared, move |waker| {
            drop(does(&there, waker.clone()));
            drop(does(&there, waker));
        });
        let runtime = Runtime::new();
        let task = runtime.spawn(waits);
        assert_eq!(runtime.block_on(task), 2);
        // One for the spawn, and one for each wake at most.
        assert!(shared.polls() <= 3);
        assert_eq!(shared.drops(), 1);
    });
}

#[test]
fn b07_model_what_was_stored_before_a_second_wake_is_seen_by_the_poll() {
    model(4, || {
        let shared = Shared::new(2);
        let there = shared.clone();
        let waits = Waits::new(&shared, move |waker| {
            thread::spawn(move || {
                there.done.store(1, Ordering::Relaxed);
                waker.wake_by_ref();
                // It may be known as woken already: the poll has to see this all the same.
                there.done.store(2, Ordering::Relaxed);
                waker.wake();
            });
        });
        let runtime = Runtime::new();
        let task = runtime.spawn(waits);
        assert_eq!(runtime.block_on(task), 2);
        assert!(shared.polls() <= 3);
    });
}

#[test]
fn model_a_wake_from_here_and_one_from_elsewhere() {
    model(4, || {
        let shared = Shared::new(1);
        let there = shared.clone();
        let waits = Waits::new(&shared, move |waker| {
            drop(does(&there, waker.clone()));
            // On the runtime's thread, in the poll: the other flag, the other queue.
            waker.wake();
        });
        let runtime = Runtime::new();
        let task = runtime.spawn(waits);
        assert_eq!(runtime.block_on(task), 1);
        assert!(shared.polls() <= 3);
        assert_eq!(shared.drops(), 1);
    });
}

#[test]
fn model_a_wake_against_completion() {
    model(4, || {
        let shared = Shared::new(0);
        let there = shared.clone();
        let waits = Waits::new(&shared, move |waker| drop(does(&there, waker)));
        let runtime = Runtime::new();
        let task = runtime.spawn(waits);
        runtime.block_on(task);
        // A wake that is left over wakes no task.
        runtime.block_on(yield_now());
        assert_eq!((shared.polls(), shared.drops()), (1, 1));
    });
}

#[test]
fn model_a_wake_against_closing() {
    model(4, || {
        let shared = Shared::new(2);
        let there = shared.clone();
        let waits = Waits::new(&shared, move |waker| drop(does(&there, waker)));
        let runtime = Runtime::new();
        let task = runtime.spawn(waits);
        // A wake that comes before main has yielded is another poll.
        runtime.block_on(yield_now());
        let polls = shared.polls();
        assert!((1..=2).contains(&polls), "{polls} polls");
        drop(runtime);
        assert_eq!((shared.polls(), shared.drops()), (polls, 1));
        assert!(task.is_finished());
    });
}

#[test]
fn model_spawning_through_a_handle_against_going_idle() {
    model(3, || {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            handle.spawn(|| async { Handle::current().stop() }).detach();
        });
        // Until the task stops it.
        runtime.run_forever();
        thread.join().unwrap();
    });
}

#[test]
fn model_spawning_through_a_handle_against_closing() {
    model(4, || {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let thread = thread::spawn(move || handle.spawn(|| async { 1 }).wait());
        drop(runtime);
        // It is told, wherever its message was.
        assert!(thread.join().unwrap().unwrap_err().is_cancelled());
    });
}

#[test]
fn model_stopping_against_going_idle() {
    model(4, || {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        thread::spawn(move || handle.stop());
        runtime.run_forever();
    });
}

#[test]
fn model_stopping_against_a_turn() {
    model(4, || {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        thread::spawn(move || handle.stop());
        // It would wait for ever.
        runtime.turn(None).unwrap();
    });
}

#[test]
fn model_abort_against_polls() {
    model(3, || {
        let shared = Shared::new(1);
        let there = shared.clone();
        let waits = Waits::new(&shared, move |waker| drop(does(&there, waker)));
        let runtime = Runtime::new();
        let task = runtime.spawn(waits);
        let abort = task.abort_handle();
        thread::spawn(move || abort.abort());
        match runtime.block_on(task.join()) {
            Ok(done) => assert_eq!(done, 1),
            Err(error) => assert!(error.is_cancelled()),
        }
        assert!(shared.polls() <= 2);
        assert_eq!(shared.drops(), 1);
    });
}

#[test]
fn model_abort_against_going_idle() {
    model(3, || {
        let shared = Shared::new(1);
        let runtime = Runtime::new();
        let task = runtime.spawn(Waits::new(&shared, drop));
        let abort = task.abort_handle();
        thread::spawn(move || abort.abort());
        // Nothing else wakes it.
        assert!(runtime.block_on(task.join()).unwrap_err().is_cancelled());
        assert!(shared.polls() <= 1);
        assert_eq!(shared.drops(), 1);
    });
}

#[test]
fn model_join_against_completion() {
    model(4, || {
        // The task and who awaits it are on two runtimes.
        let runtime = Runtime::new();
        let task = runtime.handle().spawn(|| async { 5 });
        let thread = thread::spawn(move || Runtime::new().block_on(task).unwrap());
        runtime.block_on(yield_now());
        runtime.block_on(yield_now());
        drop(runtime);
        assert_eq!(thread.join().unwrap(), 5);
    });
}

#[test]
fn model_waiting_against_completion() {
    model(4, || {
        let runtime = Runtime::new();
        let task = runtime.handle().spawn(|| async { 5 });
        let thread = thread::spawn(move || task.wait().unwrap());
        runtime.block_on(yield_now());
        runtime.block_on(yield_now());
        assert_eq!(thread.join().unwrap(), 5);
    });
}

#[test]
fn model_dropping_a_remote_task_against_completion() {
    model(4, || {
        let output = Arc::new(());
        let runtime = Runtime::new();
        let sent = output.clone();
        let task = runtime.handle().spawn(move || async { sent });
        let thread = thread::spawn(move || drop(task));
        runtime.block_on(yield_now());
        runtime.block_on(yield_now());
        thread.join().unwrap();
        drop(runtime);
        assert_eq!(Arc::strong_count(&output), 1);
    });
}

#[test]
fn model_detaching_a_remote_task_against_its_panic() {
    model(4, || {
        let runtime = Runtime::builder().propagate_panics(true).build();
        // Without the hook, which would write it down each time.
        let task = runtime
            .handle()
            .spawn(|| async { resume_unwind(Box::new(7)) });
        let thread = thread::spawn(move || task.detach());
        let run = || catch_unwind(AssertUnwindSafe(|| runtime.block_on(yield_now())));
        let mut told: Vec<_> = (0..3).filter_map(|_| run().err()).collect();
        thread.join().unwrap();
        told.extend(run().err());
        // Once, whoever had it first.
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].downcast_ref(), Some(&7));
    });
}

#[test]
fn model_two_wakers_of_a_main_future() {
    model(3, || {
        let shared = Shared::new(2);
        let there = shared.clone();
        let waits = Waits::new(&shared, move |waker| {
            drop(does(&there, waker.clone()));
            drop(does(&there, waker));
        });
        assert_eq!(Runtime::new().block_on(waits), 2);
        assert!(shared.polls() <= 3);
    });
}

#[test]
fn model_closing_against_an_abort() {
    model(4, || {
        let shared = Shared::new(1);
        let runtime = Runtime::new();
        let task = runtime.spawn(Waits::new(&shared, drop));
        let abort = task.abort_handle();
        let thread = thread::spawn(move || abort.abort());
        drop(runtime);
        thread.join().unwrap();
        assert_eq!((shared.polls(), shared.drops()), (0, 1));
        drop(task);
    });
}
