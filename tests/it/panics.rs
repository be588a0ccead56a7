//! Panics of tasks, destructors, outputs and wakers: each reaches its owner, and the
//! others continue.

use std::net::UdpSocket;
use std::panic::panic_any;
use std::task::Wake;

use futures_lite::FutureExt;
use soloist::io::Async;
use soloist::promise::promise;
use soloist::runtime::RemoteTask;
use soloist::task::Builder;
use soloist::time::{Sleep, sleep_until};

use crate::support::*;

/// A payload with an identity.
#[derive(Debug, PartialEq)]
struct Payload(u32);

/// Panics when it is dropped, as an output or as a payload.
struct PanicsOnDrop(&'static Cell<usize>);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        panic!("the destructor of a value");
    }
}

/// As [`PanicsOnDrop`], for what goes to other threads.
struct PanicsOnDropThere(&'static AtomicUsize);

impl Drop for PanicsOnDropThere {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("the destructor of a value");
    }
}

/// Panics in `wake`.
fn panics_on_wake() -> Waker {
    waker_fn(|| panic!("the wake of a waker"))
}

/// Panics when its last clone is dropped.
fn panics_on_drop() -> Waker {
    struct Fragile;
    impl Wake for Fragile {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("the drop of a waker");
        }
    }
    Waker::from(Arc::new(Fragile))
}

/// Panics in `clone`.
#[expect(unsafe_code, reason = "the clone of a safe waker cannot panic")]
fn panics_on_clone() -> Waker {
    use std::task::RawWakerVTable;
    static VTABLE: RawWakerVTable =
        RawWakerVTable::new(|_| panic!("the clone of a waker"), |_| (), |_| (), |_| ());
    // SAFETY: the functions do not use the pointer.
    unsafe { Waker::new(std::ptr::null(), &VTABLE) }
}

#[test]
fn b23_the_panic_of_a_detached_task_ends_only_that_task() {
    watchdog(|| {
        let finished = leak(Cell::new(0));
        let dropped = leak(Cell::new(0));
        let runtime = Runtime::new();
        for number in 0..10 {
            spawn_detached(&runtime, async move {
                let _guard = OnDrop(move || dropped.set(dropped.get() + 1));
                yield_now().await;
                assert!(number % 2 == 0, "an odd one");
                yield_now().await;
                finished.set(finished.get() + 1);
            });
        }
        runtime.run();
        assert_eq!((finished.get(), dropped.get()), (5, 10));
    });
}

#[test]
fn b23_awaiting_a_task_that_panicked_resumes_its_payload() {
    watchdog(|| {
        block_on(async {
            let task = spawn(async { panic_any(Payload(1)) });
            let payload = AssertUnwindSafe(task).catch_unwind().await.unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&Payload(1)));

            let task = spawn(async { panic_any(Payload(2)) });
            let error = task.join().await.unwrap_err();
            assert_eq!(error.into_panic().downcast_ref(), Some(&Payload(2)));

            // A task that has panicked before it is awaited.
            let task = spawn(async { panic_any(Payload(3)) });
            yield_now().await;
            assert!(task.is_finished());
            let payload = AssertUnwindSafe(task).catch_unwind().await.unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&Payload(3)));
        });

        // Through `block_on`, to its caller.
        let outcome = catch_unwind(|| {
            block_on(async { spawn(async { panic_any(Payload(4)) }).await });
        });
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&Payload(4)));
    });
}

#[test]
fn b23_the_panic_of_a_detached_task_is_reported_with_its_name() {
    let test = || {
        block_on(async {
            let line = line!() + 1;
            let task = Builder::new().name("ink").spawn(async { panic!("no ink") });
            eprintln!("expected {line} ink");
            task.detach();

            let line = line!() + 1;
            let task = spawn(async { panic!("no paper") });
            eprintln!("expected {line} task-2");
            task.detach();

            let handle = Handle::current();
            let line = line!() + 1;
            let task = handle.spawn(|| async { panic!("far away") });
            eprintln!("expected {line} task-r1");
            task.detach();
            yield_now().await;
            yield_now().await;

            let line = line!() + 1;
            let task = spawn(async { panic!("before its handle goes") });
            eprintln!("expected {line} task-4");
            yield_now().await;
            task.detach();

            // Not these: one is joined, and one is dropped.
            let task = spawn(async { panic!("joined") });
            assert!(task.join().await.is_err());
            let task = spawn(async { panic!("dropped") });
            yield_now().await;
            drop(task);
        });
    };
    let stderr = in_own_process(test);
    let expected = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("expected "));
    for expected in expected {
        let (line, name) = expected.split_once(' ').unwrap();
        let start = format!("soloist: task `{name}` (spawned at {}:{line}:", file!());
        let mut reported = stderr.lines().filter(|line| line.starts_with(&start));
        let reported = reported
            .next()
            .unwrap_or_else(|| panic!("{start}: {stderr}"));
        assert!(reported.contains(" has panicked"), "{reported}");
    }
    assert_eq!(stderr.matches("\nsoloist: ").count(), 4, "{stderr}");
    // The panic hook has reported each of them, once.
    let texts = [
        "no ink",
        "no paper",
        "far away",
        "before its handle goes",
        "joined",
        "dropped",
    ];
    for text in texts {
        let count = stderr.lines().filter(|&line| line == text).count();
        assert_eq!(count, 1, "{text}: {stderr}");
    }
}

#[test]
fn b23_a_panic_before_the_detach_is_reported_or_propagated() {
    let test = || {
        for propagate in [true, false] {
            let runtime = Runtime::builder().propagate_panics(propagate).build();
            let other = Runtime::new();
            let handle = runtime.handle();
            let ends = |run: &dyn Fn()| match propagate {
                true => assert_eq!(panic_of(run), "unheard"),
                false => run(),
            };
            let make = || {
                let task = runtime.spawn(async { panic_any("unheard") });
                run_until_idle(&runtime);
                task
            };
            // Detached in its own runtime, between two runs, and in another runtime.
            let task = Cell::new(Some(make()));
            ends(&|| {
                let task = task.take();
                runtime.block_on(async {
                    task.unwrap().detach();
                    yield_now().await;
                });
            });
            make().detach();
            ends(&|| runtime.run());
            let task = make();
            other.block_on(async { task.detach() });
            ends(&|| runtime.run());
            // On another thread.
            let task = handle.spawn(|| async { panic_any("unheard") });
            runtime.run();
            elsewhere(move || task.detach());
            ends(&|| runtime.run());
            // The runtime is gone: it is reported.
            let task = make();
            drop(runtime);
            task.detach();
        }
    };
    let stderr = in_own_process(test);
    let reports = stderr.lines().filter(|line| line.starts_with("soloist: "));
    let reports: Vec<_> = reports.collect();
    assert_eq!(reports.len(), 1 + 5, "{stderr}");
    assert!(
        reports
            .iter()
            .all(|line| line.ends_with(") has panicked, and no handle receives the panic")),
        "{stderr}"
    );
}

#[test]
fn b24_an_outputs_destructor_that_panics_does_not_panic_in_the_task_handle() {
    watchdog(|| {
        let dropped = leak(Cell::new(0));
        let runtime = Runtime::new();
        let make = || runtime.spawn(async move { PanicsOnDrop(dropped) });
        let idle = || run_until_idle(&runtime);

        // Finished, then dropped or detached.
        let (one, two) = (make(), make());
        idle();
        drop(one);
        two.detach();
        assert_eq!(dropped.get(), 2);
        // Detached, then finished.
        make().detach();
        idle();
        assert_eq!(dropped.get(), 3);
        // The futures that would have returned it.
        let (one, two) = (make(), make());
        idle();
        drop(one.join());
        drop(two.cancel());
        assert_eq!(dropped.get(), 5);
        // The handle is dropped in the poll that returns the output.
        let own = Rc::new(RefCell::new(None));
        let handle = own.clone();
        let task = runtime.spawn(async move {
            drop(handle.take());
            PanicsOnDrop(dropped)
        });
        *own.borrow_mut() = Some(task);
        idle();
        assert_eq!(dropped.get(), 6);
        // A payload with such a destructor.
        let count = leak(AtomicUsize::new(0));
        let payload = PanicsOnDropThere(count);
        let task = runtime.spawn(async { panic_any(payload) });
        idle();
        drop(task);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        // During unwinding a second panic would abort the process.
        let task = make();
        idle();
        let text = panic_of(|| {
            let _task = task;
            panic!("the first");
        });
        assert_eq!((text.as_str(), dropped.get()), ("the first", 7));
    });
}

#[test]
fn b24_an_outputs_destructor_that_panics_does_not_panic_in_the_remote_handle() {
    watchdog(|| {
        let dropped = leak(AtomicUsize::new(0));
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let make = || handle.spawn(move || async { PanicsOnDropThere(dropped) });
        let idle = || run_until_idle(&runtime);
        let quietly = |f: &dyn Fn()| catch_unwind(AssertUnwindSafe(f)).is_ok();
        let task = Cell::new(Some(make()));
        idle();
        assert!(quietly(&|| drop(task.take())));
        task.set(Some(make()));
        idle();
        assert!(quietly(&|| task.take().unwrap().detach()));
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
        make().detach();
        idle();
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn b24_the_panic_of_an_unwanted_output_is_not_the_panic_of_its_task() {
    let test = || {
        let count = leak(AtomicUsize::new(0));
        let runtime = Runtime::builder().propagate_panics(true).build();
        for detach in [true, false] {
            let (own, handle) = promise::<RemoteTask<PanicsOnDropThere>>();
            let output = PanicsOnDropThere(count);
            let task = runtime.handle().spawn(move || async move {
                // In its last poll.
                let own = handle.await.unwrap();
                if detach {
                    own.detach()
                } else {
                    drop(own)
                }
                output
            });
            assert!(own.set(task).is_ok());
            runtime.run();
        }
        assert_eq!(count.load(Ordering::SeqCst), 2);
    };
    let stderr = in_own_process(test);
    assert!(!stderr.contains("soloist: "), "{stderr}");
}

#[test]
fn b24_a_payload_that_panics_in_its_destructor_ends_only_its_task() {
    watchdog(|| {
        let count = leak(AtomicUsize::new(0));
        let finished = block_on(async {
            let payload = PanicsOnDropThere(count);
            spawn(async { panic_any(payload) }).detach();
            let sibling = spawn(async {
                yield_now().await;
                "finished"
            });
            sibling.await
        });
        assert_eq!((finished, count.load(Ordering::SeqCst)), ("finished", 1));
    });
}

#[test]
fn b25_a_panic_in_block_on_drops_all_tasks_and_unwinds() {
    let test = || {
        block_on(async {
            for number in 0..3 {
                let guard = OnDrop(move || {
                    eprintln!(
                        "dropped {number}, inside: {}",
                        Handle::try_current().is_some()
                    );
                    // Typical destructors, while the runtime is dropped by a panic.
                    if Handle::try_current().is_some() {
                        spawn(async {}).detach();
                        drop(sleep(SECOND));
                    }
                });
                spawn(async move {
                    let _guard = guard;
                    sleep(HOUR).await;
                })
                .detach();
            }
            // A second panic must not abort.
            spawn(async {
                let _guard = OnDrop(|| panic!("the destructor of a task"));
                pending::<()>().await;
            })
            .detach();
            let _guard = OnDrop(|| eprintln!("dropped main"));
            yield_now().await;
            yield_now().await;
            panic!("main has had enough");
        });
    };
    watchdog(move || {
        let name = "panics::b25_a_panic_in_block_on_drops_all_tasks_and_unwinds";
        let child = in_child(name, test).unwrap();
        let stderr = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(101), "{stderr}");
        for text in [
            "main has had enough",
            "dropped main",
            "the destructor of a task",
            "dropped 0, inside: true",
            "dropped 1, inside: true",
            "dropped 2, inside: true",
        ] {
            let count = stderr.lines().filter(|&line| line == text).count();
            assert_eq!(count, 1, "{text}: {stderr}");
        }
    });
}

#[test]
fn b26_sleeps_that_outlive_their_runtime_hold_no_waker() {
    watchdog(|| {
        let token = Rc::new(());
        let (wakes, waker) = CountWakes::new();
        let runtime = Runtime::new();
        let sleeps: Vec<Sleep> = runtime.block_on(async {
            for millis in [0, 1, 3_600_000] {
                let token = token.clone();
                spawn(async move {
                    sleep(Duration::from_millis(millis)).await;
                    pending::<()>().await;
                    drop(token);
                })
                .detach();
            }
            yield_now().await;
            (0..3)
                .map(|_| {
                    let mut sleep = sleep(MS);
                    assert!(poll_with(&mut sleep, &waker).is_pending());
                    sleep
                })
                .collect()
        });
        drop(runtime);
        assert_eq!(Rc::strong_count(&token), 1);
        drop(waker);
        // The timers and their wakers have been dropped.
        assert_eq!(Arc::strong_count(&wakes), 1);
        thread::sleep(2 * MS);
        assert_eq!(wakes.get(), 0);
        // The sleeps can be dropped on any thread, and awaited in another runtime.
        let mut sleeps = sleeps.into_iter();
        drop(sleeps.next());
        let there = sleeps.next();
        elsewhere(move || drop(there));
        let mut last = sleeps.next().unwrap();
        block_on(async {
            (&mut last).await;
            last.reset(Instant::now() + MS);
            (&mut last).await;
        });
        drop(last);
    });
}

/// Starts five waits, the second with a waker that panics, and completes all of them in one
/// batch: the panic is resumed after the others were woken.
fn rest_of_the_batch<S: 'static>(
    start: impl Fn(&Waker) -> S + Send + 'static,
    happen: impl Fn(&[S]) + Send + 'static,
) {
    runtime_test(move |runtime| {
        let (wakes, waker) = CountWakes::new();
        let waiting = runtime.block_on(async {
            let mut waiting = vec![start(&waker), start(&panics_on_wake())];
            waiting.extend((0..3).map(|_| start(&waker)));
            happen(&waiting);
            waiting
        });
        let text = panic_of(|| {
            while wakes.get() == 0 {
                turn(&runtime);
            }
        });
        assert_eq!((text.as_str(), wakes.get()), ("the wake of a waker", 4));
        // The runtime still works.
        runtime.block_on(async { sleep(MS).await });
        drop(waiting);
    });
}

#[test]
fn b27_a_waker_that_panics_does_not_stop_the_other_timers_of_its_batch() {
    rest_of_the_batch(
        |waker| {
            let mut sleep = sleep_until(Instant::now() + 2 * MS);
            assert!(poll_with(&mut sleep, waker).is_pending());
            sleep
        },
        |_| thread::sleep(5 * MS),
    );
}

#[test]
fn b27_a_waker_that_panics_does_not_stop_the_other_sockets_of_its_batch() {
    rest_of_the_batch(
        |waker| {
            let socket = Async::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            let mut cx = Context::from_waker(waker);
            assert!(socket.poll_readable(&mut cx).is_pending());
            socket
        },
        |sockets: &[Async<UdpSocket>]| {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for socket in sockets {
                let to = socket.get_ref().local_addr().unwrap();
                sender.send_to(b"to all", to).unwrap();
            }
        },
    );
}

#[test]
fn b27_a_waker_that_panics_when_a_task_ends_leaves_the_tasks_behind_it_ready() {
    runtime_test(|runtime| {
        let (wakes, waker) = CountWakes::new();
        let mut tasks: Vec<_> = (0..5).map(|n| runtime.spawn(async move { n })).collect();
        for (number, task) in tasks.iter_mut().enumerate() {
            let waker = if number == 1 {
                panics_on_wake()
            } else {
                waker.clone()
            };
            assert!(poll_with(task, &waker).is_pending());
        }
        let text = panic_of(|| runtime.turn(Some(Duration::ZERO)));
        assert_eq!((text.as_str(), wakes.get()), ("the wake of a waker", 1));
        // Also the task whose joiner has panicked.
        assert!(tasks[1].is_finished());
        assert_eq!(turn(&runtime).polled, 3);
        assert_eq!(wakes.get(), 4);
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(runtime.block_on(task), number);
        }
    });
}

#[test]
fn b27_wakers_that_panic_do_not_stop_the_drop_of_a_runtime() {
    watchdog(|| {
        for fragile in [panics_on_wake, panics_on_drop] {
            let runtime = Runtime::new();
            let all: Vec<_> = (0..4).map(|_| Seen::new()).collect();
            let mut tasks: Vec<_> = all.iter().map(|seen| runtime.spawn(seen.probe())).collect();
            let (wakes, waker) = CountWakes::new();
            let sleep = runtime.block_on(async {
                assert!(poll_with(&mut tasks[0], &fragile()).is_pending());
                assert!(poll_with(&mut tasks[1], &waker).is_pending());
                let mut one = sleep(SECOND);
                assert!(poll_with(&mut one, &fragile()).is_pending());
                let mut two = sleep(SECOND);
                assert!(poll_with(&mut two, &waker).is_pending());
                (one, two)
            });
            let text = panic_of(|| drop(runtime));
            assert!(text.ends_with("of a waker"), "{text}");
            for seen in &all {
                assert_eq!(seen.drops.get(), 1);
            }
            // The joiner of a task was woken, and no timer is left.
            assert_eq!(wakes.get(), 1);
            drop((sleep, tasks, waker));
            assert_eq!(Arc::strong_count(&wakes), 1);
        }
    });
}

#[test]
fn b27_a_waker_that_panics_when_dropped_does_not_stop_a_cancel() {
    runtime_test(|runtime| {
        let local = Seen::new();
        let mut task = runtime.spawn(local.probe());
        assert!(poll_with(&mut task, &panics_on_drop()).is_pending());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
        assert_eq!(local.drops.get(), 1);

        let token = Arc::new(());
        let there = token.clone();
        let mut task = runtime.handle().spawn(|| async move {
            pending::<()>().await;
            drop(there);
        });
        assert!(poll_with(&mut task, &panics_on_drop()).is_pending());
        turn(&runtime);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
        turn(&runtime);
        assert_eq!(Arc::strong_count(&token), 1);
    });
}

#[test]
fn b27_a_waker_that_panics_when_dropped_leaves_no_timer_behind() {
    runtime_test(|runtime| {
        runtime.block_on(async {
            let mut one = sleep(HOUR);
            assert!(poll_with(&mut one, &panics_on_drop()).is_pending());
            let _ = catch_unwind(AssertUnwindSafe(|| drop(one)));
            assert_eq!(runtime.next_deadline(), None);

            // Replaced by another waker, when the sleep is polled again.
            let (wakes, waker) = CountWakes::new();
            let mut two = sleep(HOUR);
            assert!(poll_with(&mut two, &panics_on_drop()).is_pending());
            let _ = catch_unwind(AssertUnwindSafe(|| poll_with(&mut two, &waker)));
            two.reset(Instant::now());
            sleep(MS).await;
            assert_eq!(wakes.get(), 1);
            two.await;
        });
    });
}

#[test]
fn b27_a_waker_that_panics_in_a_message_does_not_stop_the_next_message() {
    runtime_test(|runtime| {
        let seen = Seen::new();
        runtime.spawn(seen.probe()).detach();
        let sleep = runtime.block_on(async {
            yield_now().await;
            let mut sleep = sleep(HOUR);
            assert!(poll_with(&mut sleep, &panics_on_drop()).is_pending());
            [sleep]
        });
        let waker = seen.waker();
        elsewhere(move || {
            // The timer and its waker are dropped in the next turn of the runtime.
            drop(sleep);
            waker.wake();
        });
        let text = panic_of(|| runtime.turn(Some(Duration::ZERO)));
        assert_eq!(text, "the drop of a waker");
        assert_eq!(runtime.next_deadline(), None);
        assert_eq!(turn(&runtime).polled, 1);
        assert_eq!(seen.polls.get(), 2);
    });
}

#[test]
fn b27_a_waker_that_panics_when_cloned_changes_nothing() {
    runtime_test(|runtime| {
        let (_, waker) = CountWakes::new();
        let text = "the clone of a waker";
        runtime.block_on(async {
            let mut task = spawn(yield_now());
            assert_eq!(panic_of(|| poll_with(&mut task, &panics_on_clone())), text);
            assert!(poll_with(&mut task, &waker).is_pending());
            assert_eq!(panic_of(|| poll_with(&mut task, &panics_on_clone())), text);
            assert!(poll_with(&mut task, &waker).is_pending());
            task.await;

            let mut task = Handle::current().spawn(yield_now);
            assert_eq!(panic_of(|| poll_with(&mut task, &panics_on_clone())), text);
            assert!(poll_with(&mut task, &waker).is_pending());
            task.await.unwrap();

            let mut sleep = sleep(HOUR);
            assert_eq!(panic_of(|| poll_with(&mut sleep, &panics_on_clone())), text);
            assert!(poll_with(&mut sleep, &waker).is_pending());
            assert_eq!(panic_of(|| poll_with(&mut sleep, &panics_on_clone())), text);
            sleep.reset(Instant::now() + MS);
            sleep.await;

            let socket = Async::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            let mut fragile = Box::pin(socket.writable());
            assert_eq!(
                panic_of(|| poll_with(&mut fragile, &panics_on_clone())),
                text
            );
            let mut polled = poll_fn(|cx| socket.poll_writable(cx));
            assert_eq!(
                panic_of(|| poll_with(&mut polled, &panics_on_clone())),
                text
            );
            polled.await.unwrap();
            socket.writable().await.unwrap();
        });
    });
}

#[test]
fn b28_a_runtime_works_after_the_panic_of_a_destructor_was_caught() {
    watchdog(|| {
        let dropped = leak(Cell::new(0));
        let runtime = Runtime::new();
        let works = || {
            assert!(Handle::try_current().is_none());
            let task = runtime.spawn(async { sleep(Duration::from_micros(10)).await });
            let remote = runtime.handle().spawn(|| async { 7 });
            runtime.block_on(async {
                task.await;
                assert_eq!(remote.await.unwrap(), 7);
            });
        };
        // The future of `block_on`.
        let guard = PanicsOnDrop(dropped);
        let text = panic_of(|| {
            runtime.block_on(poll_fn(move |_| {
                let _guard = &guard;
                Poll::Ready(())
            }))
        });
        assert_eq!(
            (text.as_str(), dropped.get()),
            ("the destructor of a value", 1)
        );
        works();

        // What the closure of a remote task has captured, which is not called.
        let there = leak(AtomicUsize::new(0));
        let taken = PanicsOnDropThere(there);
        let remote = runtime.handle().spawn(move || async move { drop(taken) });
        drop(remote);
        works();
        assert_eq!(there.load(Ordering::SeqCst), 1);

        // The waker of a socket, when the socket is dropped.
        runtime.block_on(async {
            let socket = Async::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            let waker = panics_on_drop();
            let mut cx = Context::from_waker(&waker);
            assert!(socket.poll_readable(&mut cx).is_pending());
            std::mem::forget(waker.clone());
            let _ = catch_unwind(AssertUnwindSafe(|| drop(socket)));
        });
        works();
    });
}

#[test]
fn b28_closures_that_were_not_started_are_all_dropped_with_the_runtime() {
    watchdog(|| {
        let dropped = leak(AtomicUsize::new(0));
        let runtime = Runtime::new();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let taken = PanicsOnDropThere(dropped);
                runtime.handle().spawn(move || async move { drop(taken) })
            })
            .collect();
        let text = panic_of(|| drop(runtime));
        assert_eq!(text, "the destructor of a value");
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        for task in tasks {
            assert!(task.wait().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn b30_tasks_queued_behind_a_panic_of_main_run_in_the_next_call() {
    runtime_test(|runtime| {
        let order = Log::new();
        let add = |number| {
            spawn_detached(&runtime, async move { order.push(number) });
        };
        (0..3).for_each(add);
        let text = panic_of(|| {
            runtime.block_on(async {
                // In the middle of the second generation.
                yield_now().await;
                (3..6).for_each(add);
                spawn(yield_now()).detach();
                panic!("main");
            })
        });
        assert_eq!((text.as_str(), order.len()), ("main", 3));
        runtime.block_on(yield_now());
        assert_eq!(order.take(), [0, 1, 2, 3, 4, 5]);
        runtime.run();
    });
}
