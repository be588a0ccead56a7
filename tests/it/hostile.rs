//! Safe programs that try to break what the unsafe code of the task cell relies on: they end
//! the process, the thread, or the runtime at unusual moments.

use std::io::Write;
use std::task::Wake;

use crate::support::*;

// The process exits while a runtime in a thread-local is entered.

/// The place where the process exits.
#[derive(Clone, Copy, PartialEq)]
enum Exit {
    Main,
    Task,
    Turn,
    Run,
    RemoteTask,
    Destructor,
    DestructorOutside,
    DestructorOfAnotherRuntime,
    DestructorAtTheEnd,
    DropOfWaker,
    Wake,
}

/// Polls and drops on a thread that did not create the future.
static POLLED_ELSEWHERE: AtomicUsize = AtomicUsize::new(0);
static DROPPED_ELSEWHERE: AtomicUsize = AtomicUsize::new(0);
const CLEAN: &str = "nothing has run on another thread";

fn exit() -> ! {
    std::process::exit(0)
}

/// Counts polls and drops on threads that did not create it.
fn stays_here() -> impl Future<Output = ()> {
    let home = thread::current().id();
    let guard = OnDrop(move || {
        if thread::current().id() != home {
            DROPPED_ELSEWHERE.fetch_add(1, Ordering::SeqCst);
        }
    });
    let not_send = leak(Cell::new(0));
    async move {
        let _guard = guard;
        loop {
            if thread::current().id() != home {
                POLLED_ELSEWHERE.fetch_add(1, Ordering::SeqCst);
            }
            not_send.set(not_send.get() + 1);
            yield_now().await;
        }
    }
}

/// Dropped after the runtimes of its thread: another thread makes runtimes, and a task is spawned
/// on this one, where the old runtime is still entered.
struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        let go = Arc::new(std::sync::Barrier::new(2));
        let there = go.clone();
        let thread = thread::spawn(move || {
            // Enough to reuse all memory that was released.
            let runtimes: Vec<_> = (0..8).map(|_| Runtime::new()).collect();
            there.wait();
            there.wait();
            for runtime in &runtimes {
                turns(runtime, 10);
            }
            drop(runtimes);
        });
        go.wait();
        let spawned = catch_unwind(|| {
            for _ in 0..20 {
                spawn(stays_here()).detach();
            }
        });
        // It is correct, too, if no runtime is entered any more.
        drop(spawned);
        go.wait();
        thread.join().unwrap();
        let counts =
            [&POLLED_ELSEWHERE, &DROPPED_ELSEWHERE].map(|count| count.load(Ordering::SeqCst));
        let mut stderr = std::io::stderr();
        let _ = match counts {
            [0, 0] => writeln!(stderr, "{CLEAN}"),
            counts => writeln!(stderr, "polls and drops on another thread: {counts:?}"),
        };
    }
}

thread_local! {
    static LAST: Last = const { Last };
    static RUNTIME: Runtime = Runtime::new();
}

fn exit_inside(at: Exit) {
    // Thread-locals are destroyed in the opposite order.
    LAST.with(|_| {});
    RUNTIME.with(|runtime| {
        runtime.spawn(stays_here()).detach();
        match at {
            Exit::Main => runtime.block_on(async {
                yield_now().await;
                exit();
            }),
            Exit::Task => runtime.block_on(async {
                spawn(async { exit() }).detach();
                pending().await
            }),
            Exit::Turn => {
                runtime.spawn(async { exit() }).detach();
                runtime.turn(None).unwrap();
            }
            Exit::Run => {
                runtime.spawn(async { exit() }).detach();
                runtime.run();
            }
            Exit::RemoteTask => {
                let handle = runtime.handle();
                thread::spawn(move || handle.spawn(|| async { exit() }).detach());
                runtime.run_forever();
            }
            Exit::Destructor => runtime.block_on(async {
                let guard = OnDrop(|| exit());
                drop(spawn(async move { drop(guard) }));
            }),
            Exit::DestructorOutside => {
                let guard = OnDrop(|| exit());
                drop(runtime.spawn(async move { drop(guard) }));
            }
            Exit::DestructorOfAnotherRuntime => runtime.block_on(async {
                let other = Runtime::new();
                let guard = OnDrop(|| exit());
                other.spawn(async move { drop(guard) }).detach();
                drop(other);
            }),
            Exit::DestructorAtTheEnd => {
                let other = Runtime::new();
                let guard = OnDrop(|| exit());
                other.spawn(async move { drop(guard) }).detach();
                drop(other);
            }
            Exit::DropOfWaker => runtime.block_on(async {
                struct ExitsOnDrop;
                impl Drop for ExitsOnDrop {
                    fn drop(&mut self) {
                        exit();
                    }
                }
                impl Wake for ExitsOnDrop {
                    fn wake(self: Arc<Self>) {}
                }
                let task = spawn(pending::<()>());
                let waker = Waker::from(Arc::new(ExitsOnDrop));
                let mut task = std::pin::pin!(task);
                let _ = task.as_mut().poll(&mut Context::from_waker(&waker));
                drop(waker);
                // The waker of the task replaces that one.
                task.await;
            }),
            Exit::Wake => runtime.block_on(async {
                let waker = waker_fn(|| exit());
                let mut task = std::pin::pin!(spawn(async {}));
                let _ = task.as_mut().poll(&mut Context::from_waker(&waker));
                pending().await
            }),
        }
        unreachable!("the process has exited");
    });
}

/// glibc calls the destructors of the exiting thread while the other threads run. Elsewhere there
/// is nothing to check.
#[track_caller]
fn check_exit<F: Fn() -> Exit>(at: F) {
    let child = in_child(test_name::<F>(), || exit_inside(at())).expect("the child exits");
    let stderr = String::from_utf8_lossy(&child.stderr);
    let has_looked = stderr.contains(CLEAN) || cfg!(not(target_os = "linux"));
    assert!(
        child.status.success() && has_looked,
        "{}: {stderr}",
        child.status
    );
}

#[test]
fn b105_an_exit_in_main_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::Main);
}

#[test]
fn b105_an_exit_in_a_task_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::Task);
}

#[test]
fn b105_an_exit_in_a_turn_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::Turn);
}

#[test]
fn b105_an_exit_in_a_run_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::Run);
}

#[test]
fn b105_an_exit_in_a_remote_task_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::RemoteTask);
}

#[test]
fn b105_an_exit_in_a_destructor_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::Destructor);
}

#[test]
fn b105_an_exit_in_a_destructor_outside_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::DestructorOutside);
}

#[test]
fn b105_an_exit_while_an_inner_runtime_is_dropped_leaves_neither_to_another_thread() {
    check_exit(|| Exit::DestructorOfAnotherRuntime);
}

#[test]
fn b105_an_exit_while_a_runtime_is_dropped_leaves_none_to_another_thread() {
    check_exit(|| Exit::DestructorAtTheEnd);
}

#[test]
fn b105_an_exit_in_the_drop_of_a_waker_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::DropOfWaker);
}

#[test]
fn b105_an_exit_in_a_wake_leaves_no_runtime_to_another_thread() {
    check_exit(|| Exit::Wake);
}

// A runtime is dropped while one of its own futures is being dropped.

/// A runtime that only a task of its own refers to, and the handle of that task.
/// `after` is dropped after the runtime, still in the destructor of the future.
fn owned_by_its_task<G: 'static>(after: G) -> (Rc<Seen>, Task<()>, std::rc::Weak<Runtime>) {
    let runtime = Rc::new(Runtime::new());
    let seen = Seen::new();
    runtime.spawn(seen.probe()).detach();
    // Dropped in the order of the fields.
    let owns = (runtime.clone(), after);
    let task = runtime.spawn(hold(owns));
    turn(&runtime);
    let weak = Rc::downgrade(&runtime);
    (seen, task, weak)
}

/// Runtimes that reuse the memory of dropped ones, each with one task.
struct Takers(Vec<(Runtime, Rc<Seen>)>);

impl Takers {
    fn new() -> Takers {
        let takers = Takers::inside();
        for (runtime, _) in &takers.0 {
            turn(runtime);
        }
        takers
    }

    /// Inside another runtime, where they cannot make a turn yet.
    fn inside() -> Takers {
        let takers = (0..4).map(|_| {
            let (runtime, seen) = (Runtime::new(), Seen::new());
            runtime.spawn(seen.probe()).detach();
            (runtime, seen)
        });
        Takers(takers.collect())
    }

    #[track_caller]
    fn assert_untouched(&self) {
        for (runtime, seen) in &self.0 {
            let first = usize::from(seen.polls.get() == 0);
            assert_eq!(turn(runtime).polled, first);
            assert_eq!(seen.counts(), (1, 0));
            assert_eq!(runtime.metrics().wakes_local, 0);
            seen.finish();
            runtime.run();
            assert_eq!(seen.counts(), (2, 1));
        }
    }
}

#[test]
fn b36_b109_wakers_of_a_runtime_dropped_by_its_own_future_touch_no_other_runtime() {
    watchdog(|| {
        let takers = Rc::new(RefCell::new(None));
        let early = takers.clone();
        let (seen, task, weak) = owned_by_its_task(OnDrop(move || {
            early.replace(Some(Takers::inside()));
        }));
        let (waker, abort) = (seen.waker(), task.abort_handle());
        drop(task);
        assert!(weak.upgrade().is_none());
        assert_eq!(seen.counts(), (1, 1));
        let late = Takers::new();
        // Both belong to the dropped runtime.
        abort.abort();
        waker.wake_by_ref();
        let foreign = waker.clone();
        elsewhere(move || foreign.wake());
        drop((waker, abort));
        takers.take().unwrap().assert_untouched();
        late.assert_untouched();
    });
}

#[test]
fn b109_a_future_that_drops_its_runtime_is_dropped_by_another_future() {
    watchdog(|| {
        let (_, inner, weak) = owned_by_its_task(());
        let runtime = weak.upgrade().unwrap();
        let outer = runtime.spawn(hold(inner));
        turn(&runtime);
        drop(runtime);
        // The destructors of both futures are running when the runtime is dropped.
        drop(outer);
        assert!(weak.upgrade().is_none());
        Takers::new().assert_untouched();
    });
}

#[test]
fn b109_a_future_that_drops_its_runtime_panics_in_its_destructor() {
    watchdog(|| {
        let (seen, task, weak) = owned_by_its_task(OnDrop(|| panic!("in a destructor")));
        let result = catch_unwind(AssertUnwindSafe(|| drop(task)));
        drop(result);
        assert!(weak.upgrade().is_none());
        assert_eq!(seen.drops.get(), 1);
        Takers::new().assert_untouched();
    });
}

#[test]
fn b109_the_join_waker_of_a_future_that_dropped_its_runtime_makes_another() {
    watchdog(|| {
        thread_local! {
            static MADE: RefCell<Option<Takers>> = const { RefCell::new(None) };
        }
        let (_, task, weak) = owned_by_its_task(());
        let waker = waker_fn(|| {
            MADE.with(|made| made.replace(Some(Takers::new())));
        });
        // Aborted from outside: the handle, and the task that awaits it, live to the end.
        let mut task = Box::pin(task.cancel());
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_ready());
        assert!(weak.upgrade().is_none());

        // Here it is woken while a future is cancelled whose runtime has been dropped.
        let (_, task, weak) = owned_by_its_task(());
        let task = Rc::new(RefCell::new(task));
        let polled = Pin::new(&mut *task.borrow_mut()).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let runtime = weak.upgrade().unwrap();
        drop(runtime);
        drop(task);
        assert!(weak.upgrade().is_none());
        Takers::new().assert_untouched();
        if let Some(made) = MADE.with(|made| made.take()) {
            made.assert_untouched();
        }
    });
}

#[test]
fn b109_a_future_drops_its_runtime_inside_another_runtime() {
    watchdog(|| {
        let outer = Runtime::new();
        let polls = leak(Cell::new(0));
        outer.block_on(async move {
            let (_, task, weak) = owned_outside(polls);
            drop(task);
            assert!(weak.upgrade().is_none());
            spawn(async move { polls.set(polls.get() + 1) }).await;
        });
        assert_eq!(polls.get(), 1);
        Takers::new().assert_untouched();

        /// As `owned_by_its_task`, where a turn is not possible.
        fn owned_outside(_: &'static Cell<i32>) -> (Rc<Seen>, Task<()>, std::rc::Weak<Runtime>) {
            let runtime = Rc::new(Runtime::new());
            let (seen, own) = (Seen::new(), runtime.clone());
            runtime.spawn(seen.probe()).detach();
            let task = runtime.spawn(hold(own));
            let weak = Rc::downgrade(&runtime);
            (seen, task, weak)
        }
    });
}

// What a thread leaves behind when it ends.

#[test]
#[cfg_attr(
    windows,
    ignore = "Windows cannot start a thread in the destructor of a thread-local and wait for it"
)]
fn handles_and_wakers_that_outlive_their_runtime_touch_no_other() {
    // Destroyed after the runtime, when another thread may have reused its memory.
    struct Left(RefCell<Vec<(Task<()>, Waker)>>);
    impl Drop for Left {
        fn drop(&mut self) {
            let tasks = self.0.take();
            let go = Arc::new(std::sync::Barrier::new(2));
            let there = go.clone();
            let thread = thread::spawn(move || {
                let takers = Takers::new();
                there.wait();
                takers.assert_untouched();
            });
            go.wait();
            for (task, waker) in tasks {
                waker.wake();
                let _ = task.is_finished();
                drop(task);
            }
            thread.join().unwrap();
            DONE.fetch_add(1, Ordering::SeqCst);
        }
    }
    static DONE: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LEFT: Left = const { Left(RefCell::new(Vec::new())) };
        static OWN: Runtime = Runtime::new();
    }
    watchdog(|| {
        for _ in 0..10 {
            elsewhere(|| {
                LEFT.with(|_| {});
                OWN.with(|runtime| {
                    let tasks = (0..3).map(|_| {
                        let seen = Seen::new();
                        let task = runtime.spawn(seen.probe());
                        turn(runtime);
                        (task, seen.waker())
                    });
                    let tasks = tasks.collect();
                    LEFT.with(|left| left.0.replace(tasks));
                });
            });
        }
        assert_eq!(DONE.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn forgotten_runtimes_and_tasks_do_not_disturb_others() {
    watchdog(|| {
        let waker = thread::spawn(|| {
            let runtime = Runtime::new();
            let seen = Seen::new();
            std::mem::forget(runtime.spawn(seen.probe()));
            runtime.block_on(async {
                std::mem::forget(spawn(async { 5 }));
                yield_now().await;
            });
            let waker = seen.waker();
            std::mem::forget(runtime);
            waker
        });
        let waker = waker.join().unwrap();
        // Its thread has ended, and its inbox is not read any more.
        waker.wake_by_ref();
        waker.wake();
        Takers::new().assert_untouched();
    });
}

#[test]
fn a_future_that_is_polled_by_a_foreign_executor_in_a_task_keeps_its_own_waker() {
    watchdog(|| {
        // The wakers of both are the task's own, and the polled future is not the one that waits.
        let (outer, inner) = (Runtime::new(), Runtime::new());
        let seen = Seen::new();
        inner.spawn(seen.probe()).detach();
        turn(&inner);
        let foreign = seen.waker();
        let task = outer.spawn(async { yield_now().await });
        let mut task = Box::pin(task);
        outer.block_on(async {
            let polled = task.as_mut().poll(&mut Context::from_waker(&foreign));
            assert!(polled.is_pending());
            yields(3).await;
        });
        assert_eq!(turn(&inner).polled, 1);
        drop(outer);
        assert_eq!(seen.polls.get(), 2);
    });
}

// Messages for a task that is being dropped.

#[test]
fn a_task_that_is_being_dropped_cannot_be_queued() {
    watchdog(|| {
        let runtime = Rc::new(Runtime::new());
        let seen = Seen::new();
        let there = runtime.clone();
        let again = Rc::new(RefCell::new(None::<Waker>));
        let waker = again.clone();
        // The message of an earlier wake is read while its future is being dropped.
        let guard = OnDrop(move || {
            turn(&there);
            let waker = waker.take().unwrap();
            elsewhere(move || waker.wake());
        });
        let probe = seen.probe();
        let task = runtime.spawn(async move {
            let _guard = guard;
            probe.await;
        });
        turn(&runtime);
        let waker = seen.waker();
        again.replace(Some(waker.clone()));
        elsewhere(move || waker.wake());
        let before = runtime.metrics();
        drop(task);
        turn(&runtime);
        let after = runtime.metrics();
        // The first message had no effect, and there was no second one.
        assert_eq!(after.wakes_redundant - before.wakes_redundant, 1);
        assert_eq!(after.wakes_remote, before.wakes_remote);
        assert_eq!(seen.counts(), (1, 1));
    });
}

#[test]
fn messages_lead_to_at_most_one_poll_in_each_state_of_the_task() {
    watchdog(|| {
        let wake_elsewhere = |waker: Waker| {
            elsewhere(move || waker.wake());
        };
        let runtime = Runtime::new();
        let seen = Seen::new();
        let task = runtime.spawn(seen.probe());
        turn(&runtime);
        // Waiting.
        wake_elsewhere(seen.waker());
        assert_eq!(turn(&runtime).polled, 1);
        // Running: it is polled again, once.
        let polls = leak(Cell::new(0));
        let running = runtime.spawn(poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            if polls.get() == 1 {
                let waker = cx.waker().clone();
                elsewhere(move || waker.wake());
            }
            Poll::<()>::Pending
        }));
        turns(&runtime, 4);
        assert_eq!(polls.get(), 2);
        // Done, and then dropped.
        let waker = seen.waker();
        seen.ready.set(true);
        waker.wake_by_ref();
        turn(&runtime);
        assert!(task.is_finished());
        wake_elsewhere(waker.clone());
        turn(&runtime);
        drop((task, running));
        wake_elsewhere(waker);
        turn(&runtime);
        assert_eq!((seen.polls.get(), seen.drops.get(), polls.get()), (3, 1, 2));
    });
}
