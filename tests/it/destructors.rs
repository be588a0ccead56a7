//! Destructors of futures that are dropped before they are done: where they run, and where
//! their panics go.

use std::net::UdpSocket;

use soloist::io::Async;
use soloist::task::{Builder, JoinError, TaskGroup};
use soloist::time::now;

use crate::support::*;

/// Never done. Its destructor counts, and panics.
fn fragile(dropped: &'static Cell<usize>) -> impl Future<Output = u32> + use<> {
    let guard = OnDrop(move || {
        dropped.set(dropped.get() + 1);
        panic!("the destructor of a future");
    });
    async move {
        let _guard = guard;
        pending().await
    }
}

/// As `fragile`, without a counter, so that it can be called on another thread.
fn fragile_there() -> impl Future<Output = u32> + use<> {
    fragile(leak(Cell::new(0)))
}

#[track_caller]
fn assert_panicked<T>(result: Result<T, JoinError>) {
    let Err(error) = result else {
        panic!("there is no output");
    };
    assert!(error.is_panic() && !error.is_cancelled(), "{error}");
    assert_eq!(
        panic_text(&*error.into_panic()),
        "the destructor of a future"
    );
}

/// The reports of the panics of tasks.
fn reports(stderr: &str) -> Vec<&str> {
    let lines = stderr.lines();
    let lines: Vec<_> = lines.filter(|line| line.starts_with("soloist: ")).collect();
    for line in &lines {
        assert!(line.starts_with("soloist: task `"), "{stderr}");
        assert!(
            line.ends_with(") has panicked, and no handle receives the panic"),
            "{stderr}"
        );
    }
    lines
}

#[test]
fn b112_join_returns_the_panic_of_a_destructor_after_an_abort() {
    watchdog(|| {
        let dropped = leak(Cell::new(0));
        // Waiting or not started; aborted on this thread or on another one.
        for (polls, foreign) in [(0, false), (0, true), (1, false), (1, true)] {
            let runtime = Runtime::new();
            let task = runtime.spawn(fragile(dropped));
            turns(&runtime, polls);
            let abort = task.abort_handle();
            if foreign {
                elsewhere(move || abort.abort());
            } else {
                abort.abort();
            }
            assert_panicked(runtime.block_on(task.join()));
            assert_eq!(dropped.take(), 1);
            // `.await` resumes it.
            let task = runtime.spawn(fragile(dropped));
            task.abort_handle().abort();
            let text = panic_of(|| runtime.block_on(task));
            assert_eq!(text, "the destructor of a future");
            assert_eq!(dropped.take(), 1);
        }
        // At the end of its own poll.
        block_on(async {
            let abort = Rc::new(RefCell::new(None));
            let own = abort.clone();
            let rest = fragile(dropped);
            let task = spawn(async move {
                let abort: soloist::task::AbortHandle = own.take().unwrap();
                abort.abort();
                rest.await
            });
            *abort.borrow_mut() = Some(task.abort_handle());
            assert_panicked(task.join().await);
        });
        assert_eq!(dropped.take(), 1);
    });
}

#[test]
fn b112_cancel_resumes_the_panic_of_a_destructor() {
    watchdog(|| {
        let dropped = leak(Cell::new(0));
        block_on(async {
            for polls in 0..2 {
                let task = spawn(fragile(dropped));
                yields(polls).await;
                let text = panic_of_async(task.cancel()).await;
                assert_eq!(text, "the destructor of a future");
                assert_eq!(dropped.take(), 1);
            }
            // The task cancels itself, and main awaits the cancel.
            let own: Rc<RefCell<Option<Task<u32>>>> = Rc::default();
            let ends = Rc::new(RefCell::new(None));
            let (task, end) = (own.clone(), ends.clone());
            let rest = fragile(dropped);
            let task = spawn(async move {
                let task = task.take().unwrap();
                *end.borrow_mut() = Some(Box::pin(task.cancel()));
                rest.await
            });
            *own.borrow_mut() = Some(task);
            yield_now().await;
            assert_eq!(dropped.take(), 1);
            let text = panic_of_async(ends.take().unwrap()).await;
            assert_eq!(text, "the destructor of a future");
            // So does the panic of a poll.
            let task = spawn(async { panic!("in a poll") });
            yield_now().await;
            assert_eq!(panic_of_async(task.cancel()).await, "in a poll");
        });
    });
}

/// All ways to lose the handle of a task whose destructor panics. Each makes such a task, and
/// makes turns until the panic is reported.
type Lose = fn(&Runtime, &'static Cell<usize>);

const WAYS: [(&str, Lose); 9] = [
    ("dropped inside", |runtime, dropped| {
        let task = runtime.spawn(fragile(dropped));
        runtime.block_on(async {
            yield_now().await;
            drop(task);
            yield_now().await;
        });
    }),
    ("dropped outside", |runtime, dropped| {
        let task = runtime.spawn(fragile(dropped));
        turn(runtime);
        drop(task);
        turn(runtime);
    }),
    ("dropped in its own poll", |runtime, dropped| {
        let own: Rc<RefCell<Option<Task<u32>>>> = Rc::default();
        let (task, rest) = (own.clone(), fragile(dropped));
        *own.borrow_mut() = Some(runtime.spawn(async move {
            drop(task.take());
            rest.await
        }));
        turn(runtime);
        turn(runtime);
    }),
    ("detached and aborted", |runtime, dropped| {
        let task = runtime.spawn(fragile(dropped));
        let abort = task.abort_handle();
        task.detach();
        turn(runtime);
        abort.abort();
        runtime.run();
    }),
    ("a cancel that is not awaited", |runtime, dropped| {
        let task = runtime.spawn(fragile(dropped));
        drop(task.cancel());
        turn(runtime);
    }),
    ("aborted, and dropped after it", |runtime, dropped| {
        let task = runtime.spawn(fragile(dropped));
        task.abort_handle().abort();
        turn(runtime);
        drop(task);
        turn(runtime);
    }),
    ("a remote task that is dropped", |runtime, dropped| {
        let task = runtime.handle().spawn(fragile_there);
        turn(runtime);
        dropped.set(1);
        drop(task);
        runtime.run();
    }),
    (
        "a remote task that is dropped elsewhere, done",
        |runtime, dropped| {
            let task = runtime.handle().spawn(fragile_there);
            turn(runtime);
            task.abort();
            turn(runtime);
            dropped.set(1);
            elsewhere(|| drop(task));
            turn(runtime);
        },
    ),
    ("a group that is dropped", |runtime, dropped| {
        runtime.block_on(async move {
            let group = TaskGroup::<u32, ()>::new();
            let rest = fragile(dropped);
            group.spawn(async { Ok(rest.await) });
            yield_now().await;
            drop(group);
            yield_now().await;
        });
    }),
];

#[test]
fn b112_a_destructors_panic_without_a_handle_is_reported() {
    let stderr = in_own_process(|| {
        for (way, lose) in WAYS {
            let dropped = leak(Cell::new(0));
            let runtime = Runtime::new();
            lose(&runtime, dropped);
            assert_eq!(dropped.get(), 1, "{way}");
            runtime.run();
            eprintln!("after {way}");
        }
    });
    let mut from = 0;
    for (way, _) in WAYS {
        let end = from + stderr[from..].find(&format!("after {way}\n")).unwrap();
        assert_eq!(reports(&stderr[from..end]).len(), 1, "{way}: {stderr}");
        from = end;
    }
}

#[test]
fn b112_a_destructors_panic_without_a_handle_ends_the_call_if_propagated() {
    watchdog(|| {
        for (way, lose) in WAYS {
            let dropped = leak(Cell::new(0));
            let runtime = Runtime::builder().propagate_panics(true).build();
            let lost = catch_unwind(AssertUnwindSafe(|| lose(&runtime, dropped)));
            let payload = lost.expect_err(way);
            assert_eq!(panic_text(&*payload), "the destructor of a future", "{way}");
            assert_eq!(dropped.get(), 1, "{way}");
            runtime.run();
        }
    });
}

#[test]
fn b112_of_two_panics_in_one_poll_one_is_propagated_and_one_reported() {
    let stderr = in_own_process(|| {
        let dropped = leak(Cell::new(0));
        let runtime = Runtime::builder().propagate_panics(true).build();
        let tasks: Vec<_> = (0..2).map(|_| runtime.spawn(fragile(dropped))).collect();
        turn(&runtime);
        runtime.spawn(async move { drop(tasks) }).detach();
        let text = panic_of(|| {
            turn(&runtime);
            turn(&runtime);
        });
        assert_eq!(text, "the destructor of a future");
        assert_eq!(dropped.get(), 2);
        runtime.run();
    });
    assert_eq!(reports(&stderr).len(), 1, "{stderr}");
}

#[test]
fn b112_a_panic_in_the_poll_in_which_a_task_drops_its_own_handle_is_reported() {
    let stderr = in_own_process(|| {
        block_on(async {
            let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
            let task = own.clone();
            *own.borrow_mut() = Some(Builder::new().name("the last").spawn(async move {
                drop(task.take());
                panic!("after its handle has gone");
            }));
            yield_now().await;
        });
    });
    let reports = reports(&stderr);
    assert_eq!(reports.len(), 1, "{stderr}");
    assert!(reports[0].starts_with("soloist: task `the last` (spawned at "));
}

#[test]
fn b112_a_remote_task_returns_the_panic_of_a_destructor() {
    runtime_test(|runtime| {
        // Awaited by its own runtime.
        let task = runtime.handle().spawn(fragile_there);
        turn(&runtime);
        task.abort();
        assert_panicked(runtime.block_on(task));
        // Waited for on another thread.
        let task = runtime.handle().spawn(fragile_there);
        turn(&runtime);
        task.abort();
        let thread = thread::spawn(move || task.wait());
        runtime.run();
        assert_panicked(thread.join().unwrap());
        // Aborted before it starts: the destructor of what its closure has captured.
        let guard = OnDrop(|| panic!("the destructor of a future"));
        let task = runtime.handle().spawn(move || {
            let _guard = &guard;
            async { 1 }
        });
        task.abort();
        assert_panicked(runtime.block_on(task));
        // Its runtime is dropped.
        let task = runtime.handle().spawn(fragile_there);
        turn(&runtime);
        drop(runtime);
        assert_panicked(task.wait());
    });
}

#[test]
fn b112_a_dropped_runtime_leaves_each_panic_to_the_handle_of_the_task() {
    let stderr = in_own_process(|| {
        let dropped = leak(Cell::new(0));
        let runtime = Runtime::new();
        let held: Vec<_> = (0..3).map(|_| runtime.spawn(fragile(dropped))).collect();
        for _ in 0..3 {
            runtime.spawn(fragile(dropped)).detach();
        }
        turn(&runtime);
        // These have no handle: the first panic is resumed, the others are reported.
        let text = panic_of(|| drop(runtime));
        assert_eq!((&*text, dropped.get()), ("the destructor of a future", 6));
        eprintln!("the runtime is gone");
        let mut held = held.into_iter();
        assert_panicked(block_on(held.next().unwrap().join()));
        let text = panic_of(|| block_on(held.next().unwrap()));
        assert_eq!(text, "the destructor of a future");
        // A handle that is dropped: its panic is reported now.
        drop(held);
    });
    let gone = stderr.find("the runtime is gone").unwrap();
    assert_eq!(reports(&stderr[..gone]).len(), 2, "{stderr}");
    assert_eq!(reports(&stderr[gone..]).len(), 1, "{stderr}");
}

#[test]
fn b112_panics_of_children_that_a_failure_cancels_are_reported() {
    let stderr = in_own_process(|| {
        block_on(async {
            let group = TaskGroup::<u32, &str>::new();
            let dropped = leak(Cell::new(0));
            for _ in 0..2 {
                let rest = fragile(dropped);
                group.spawn(async { Ok(rest.await) });
            }
            group.spawn(async {
                yield_now().await;
                Err("it fails")
            });
            assert_eq!(group.join_all().await, Err("it fails"));
            assert_eq!(dropped.get(), 2);
        });
    });
    assert_eq!(reports(&stderr).len(), 2, "{stderr}");
}

#[test]
fn b112_cancel_of_a_group_resumes_one_panic_after_all_children_are_dropped() {
    let stderr = in_own_process(|| {
        let dropped = leak(Cell::new(0));
        let text = panic_of(|| {
            block_on(async {
                let group = TaskGroup::<u32, &str>::new();
                for n in 0..4 {
                    let rest = fragile(dropped);
                    group.spawn(async move {
                        match n % 2 {
                            0 => Ok(rest.await),
                            _ => pending().await,
                        }
                    });
                }
                yield_now().await;
                group.cancel().await;
            })
        });
        assert_eq!((&*text, dropped.get()), ("the destructor of a future", 4));
    });
    // Of the four futures that panic, one is resumed.
    assert_eq!(reports(&stderr).len(), 3, "{stderr}");
}

#[test]
fn b112_a_child_that_panics_in_its_destructor_cancels_the_rest() {
    /// Done at its first poll. Panics when it is dropped.
    struct Done(OnDrop<fn()>);
    impl Future for Done {
        type Output = Result<u32, ()>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<u32, ()>> {
            let _ = &self.0;
            Poll::Ready(Ok(1))
        }
    }
    watchdog(|| {
        let dropped = leak(Cell::new(0));
        block_on(async {
            let mut group = TaskGroup::new();
            group.spawn(async move {
                let _guard = OnDrop(move || dropped.set(dropped.get() + 1));
                pending().await
            });
            group.spawn(Done(OnDrop(|| panic!("the destructor of a future"))));
            yield_now().await;
            // At once, while the group is not awaited.
            assert_eq!(dropped.get(), 1);
            let text = panic_of_async(group.next()).await;
            assert_eq!(text, "the destructor of a future");
            assert_eq!(group.next().await, None);
        });
    });
}

#[test]
fn b113_join_all_panics_if_a_child_was_cancelled_with_its_runtime() {
    watchdog(|| {
        let make = || {
            let runtime = Runtime::new();
            let group = runtime.block_on(async {
                let group = TaskGroup::<u32, ()>::new();
                group.spawn(async { Ok(1) });
                group.spawn(async { pending().await });
                group.spawn(async { Ok(3) });
                yield_now().await;
                group
            });
            assert_eq!(group.len(), 3);
            group
        };
        let text = panic_of(|| block_on(make().join_all()));
        assert!(text.starts_with("task `task-2` (spawned at "), "{text}");
        assert!(text.contains("of a `TaskGroup` was cancelled"), "{text}");
        // With `next`, the outputs of the two finished children are returned.
        let mut group = make();
        let (mut done, mut cancelled) = (Vec::new(), 0);
        while !group.is_empty() {
            let next = catch_unwind(AssertUnwindSafe(|| block_on(group.next())));
            match next {
                Ok(next) => done.push(next.unwrap().unwrap()),
                Err(payload) => {
                    let text = panic_text(&*payload);
                    assert!(text.contains("was cancelled"), "{text}");
                    cancelled += 1;
                }
            }
        }
        done.sort();
        assert_eq!((done, cancelled), (vec![1, 3], 1));
        // `cancel` does not panic.
        block_on(make().cancel());
        // The panic of a child takes precedence.
        let runtime = Runtime::new();
        let group = runtime.block_on(async {
            let group = TaskGroup::<u32, ()>::new();
            let rest = fragile(leak(Cell::new(0)));
            group.spawn(async { Ok(rest.await) });
            yield_now().await;
            group
        });
        drop(runtime);
        let text = panic_of(|| block_on(group.join_all()));
        assert_eq!(text, "the destructor of a future");
    });
}

#[test]
fn b108_run_turn_and_block_on_panic_in_a_destructor() {
    type Run = fn(&Runtime);
    const RUNS: [(&str, Run); 4] = [
        ("`run` inside a running", Runtime::run),
        ("`run_forever` inside a running", Runtime::run_forever),
        ("`turn` inside a running", |runtime| {
            let _ = runtime.turn(None);
        }),
        ("`block_on` inside a running", |runtime| {
            runtime.block_on(pending::<()>())
        }),
    ];
    watchdog(|| {
        for (says, run) in RUNS {
            let texts = leak(RefCell::new(Vec::new()));
            let runtime = Rc::new(Runtime::new());
            // While it lives, the runtime is not stuck for certain.
            let _handle = runtime.handle();
            let make = || {
                let own = runtime.clone();
                let guard = OnDrop(move || {
                    let text = panic_of(|| run(&own));
                    texts.borrow_mut().push(text);
                });
                let task = runtime.spawn(hold(guard));
                turn(&runtime);
                task
            };
            // Dropped outside and inside another runtime, cancelled, and dropped inside its own.
            drop(make());
            let task = make();
            block_on(async { drop(task) });
            drop(make().cancel());
            let task = make();
            runtime.block_on(async { drop(task) });
            assert_eq!(texts.borrow().len(), 4);
            for text in &*texts.borrow() {
                assert!(text.starts_with(says), "{text}");
            }
            runtime.run();
        }
    });
}

/// Uses the current runtime: spawns, sleeps, and waits for a socket.
fn use_runtime(log: Log<&'static str>) {
    assert!(Handle::try_current().is_some());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = Async::new(socket).unwrap();
    let deadline = now() + MS;
    spawn(async move {
        sleep(MS).await;
        assert!(now() >= deadline);
        let to = socket.get_ref().local_addr().unwrap();
        socket.writable().await.unwrap();
        socket.get_ref().send_to(b"x", to).unwrap();
        socket.readable().await.unwrap();
        log.push("spawned in a destructor");
    })
    .detach();
    Handle::current().spawn(|| async {}).detach();
}

fn uses_runtime(log: Log<&'static str>) -> impl Future<Output = ()> {
    hold(OnDrop(move || {
        use_runtime(log);
        log.push("dropped");
    }))
}

#[test]
fn a_destructor_runs_inside_its_runtime_wherever_the_handle_is_dropped() {
    watchdog(|| {
        let log = Log::new();
        let runtime = Runtime::new();
        let make = || {
            let task = runtime.spawn(uses_runtime(log));
            turn(&runtime);
            task
        };
        // Outside.
        drop(make());
        assert!(Handle::try_current().is_none());
        log.assert(&["dropped"]);
        runtime.run();
        log.assert(&["spawned in a destructor"]);
        // A task that was never polled.
        drop(runtime.spawn(uses_runtime(log)));
        runtime.run();
        log.assert(&["dropped", "spawned in a destructor"]);
        // By `cancel`.
        let end = make().cancel();
        log.assert(&["dropped"]);
        assert_eq!(runtime.block_on(end), None);
        runtime.run();
        log.assert(&["spawned in a destructor"]);
        // Inside another runtime, which is current again afterwards.
        let task = make();
        block_on(async {
            let before = format!("{:?}", Handle::current());
            drop(task);
            assert_eq!(format!("{:?}", Handle::current()), before);
            yields(3).await;
        });
        log.assert(&["dropped"]);
        runtime.run();
        log.assert(&["spawned in a destructor"]);
        // In a destructor of another runtime that is dropped inside this one.
        let task = make();
        let other = Runtime::new();
        spawn_detached(&other, hold(task));
        turn(&other);
        runtime.block_on(async {
            let before = format!("{:?}", Handle::current());
            drop(other);
            assert_eq!(format!("{:?}", Handle::current()), before);
        });
        log.assert(&["dropped"]);
        runtime.run();
        log.assert(&["spawned in a destructor"]);
        // A future whose runtime was dropped has been dropped inside it.
        let task = runtime.spawn(async { OnDrop(|| ()) });
        drop(runtime);
        drop(task);
    });
}

#[cfg(feature = "testing")]
#[test]
fn a_destructor_of_a_task_on_a_virtual_clock_sees_its_time() {
    watchdog(|| {
        let runtime = Runtime::builder()
            .clock(soloist::runtime::Clock::Virtual)
            .build();
        let day = Duration::from_secs(24 * 3600);
        let start = runtime.block_on(async { now() });
        let seen = Rc::new(Cell::new(None));
        let told = seen.clone();
        let guard = OnDrop(move || told.set(Some(now())));
        let task = runtime.spawn(hold(guard));
        runtime.block_on(async { sleep(day).await });
        drop(task);
        assert_eq!(seen.get(), Some(start + day));
    });
}

#[cfg(unix)]
#[test]
fn a_spawn_in_a_destructor_between_turns_makes_the_poll_fd_readable() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    runtime_test(|runtime| {
        let is_readable = |wait: i64| {
            let fd = runtime.poll_fd().unwrap();
            let wait = Timespec {
                tv_sec: wait,
                tv_nsec: 0,
            };
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            poll(&mut fds, Some(&wait)).unwrap() == 1
        };
        is_readable(0);
        let ran = leak(Cell::new(false));
        let guard = OnDrop(move || {
            spawn(async move { ran.set(true) }).detach();
        });
        let task = runtime.spawn(hold(guard));
        run_until_idle(&runtime);
        while is_readable(0) {
            turn(&runtime);
        }
        drop(task);
        while !ran.get() {
            assert!(is_readable(20), "the fd does not become readable");
            turn(&runtime);
        }
    });
}

#[test]
fn b36_a_destructor_can_drop_its_own_runtime() {
    watchdog(|| {
        let runtime = Rc::new(RefCell::new(Some(Runtime::new())));
        let log = Log::new();
        let owned = runtime.clone();
        let guard = OnDrop(move || {
            let runtime = owned.take();
            log.push("goes");
            drop(runtime);
            // A task that is spawned now is dropped at once.
            spawn(hold(log.on_drop("dropped at once"))).detach();
            log.push("gone");
        });
        let (task, handle) = {
            let runtime = runtime.borrow();
            let runtime = runtime.as_ref().unwrap();
            spawn_detached(runtime, hold(log.on_drop("another task")));
            (runtime.spawn(hold(guard)), runtime.handle())
        };
        drop(task);
        log.assert(&["goes", "another task", "dropped at once", "gone"]);
        assert!(handle.spawn(|| async {}).wait().unwrap_err().is_cancelled());
        assert_eq!(block_on(async { spawn(async { 4 }).await }), 4);
    });
}

#[test]
fn each_payload_of_a_destructors_panic_is_dropped_once() {
    /// A payload that counts its drops.
    struct Counted(&'static AtomicUsize);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    watchdog(|| {
        let (made, gone) = (leak(AtomicUsize::new(0)), leak(AtomicUsize::new(0)));
        let fragile = || {
            hold(OnDrop(|| {
                made.fetch_add(1, Ordering::SeqCst);
                std::panic::resume_unwind(Box::new(Counted(gone)));
            }))
        };
        let runtime = Runtime::new();
        let abort = leak(Mutex::new(Vec::new()));
        runtime.block_on(async {
            for n in 0..24 {
                let task = spawn(fragile());
                if n % 2 == 0 {
                    yield_now().await;
                }
                match n % 6 {
                    0 => drop(task),
                    1 => drop(task.cancel()),
                    2 => task.abort_handle().abort(),
                    3 => {
                        abort.lock().unwrap().push(task.abort_handle());
                        task.detach();
                    }
                    4 => task.detach(),
                    _ => {
                        task.abort_handle().abort();
                        assert!(task.join().await.unwrap_err().is_panic());
                    }
                }
            }
        });
        elsewhere(move || {
            for abort in abort.lock().unwrap().drain(..) {
                abort.abort();
            }
        });
        turn(&runtime);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
        assert_eq!(made.load(Ordering::SeqCst), 24);
        assert_eq!(gone.load(Ordering::SeqCst), 24);
    });
}

/// Calls `after` inside `runtime`, after it was entered a second time from inside another one.
fn enter_again(runtime: &Runtime, after: impl FnOnce()) {
    let task = runtime.spawn(pending::<()>());
    turn(runtime);
    let other = Runtime::new();
    spawn_detached(&other, hold(task));
    turn(&other);
    runtime.block_on(async {
        drop(other);
        after();
    });
}

#[test]
fn a_runtime_that_is_entered_again_still_measures_how_long_it_is_busy() {
    watchdog(|| {
        let runtime = Runtime::builder().inspect(true).build();
        let time = 20 * MS;
        enter_again(&runtime, || compute_for(time));
        assert!(runtime.metrics().busy.unwrap() >= time);
    });
}

#[cfg(feature = "trace")]
#[test]
fn a_poll_goes_on_in_a_trace_when_its_runtime_is_entered_again() {
    use soloist::trace::{self, Outcome};
    watchdog(|| {
        trace::start(1000);
        enter_again(&Runtime::new(), || ());
        let totals = trace::stop().unwrap().totals();
        let ends: Vec<_> = totals.iter().filter_map(|of| of.ended).collect();
        let panicked = ends.iter().filter(|(_, how)| *how == Outcome::Panicked);
        assert_eq!((panicked.count(), ends.len() > 1), (0, true), "{ends:?}");
    });
}
