//! Destructors of futures that are dropped before they are done: where they run, and where
//! their panics go.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use soloist::io::Async;
use soloist::task::{Builder, JoinError, TaskGroup, yield_now};
use soloist::time::{now, sleep};
use soloist::{Handle, Runtime, Task, block_on, spawn};

use crate::support::{OnDrop, compute_for, panic_of, panic_text, passes_in_child, watchdog};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// Never done. Panics when it is dropped, and counts that.
fn fragile(dropped: &Rc<Cell<usize>>) -> impl Future<Output = u32> + use<> {
    let dropped = dropped.clone();
    let guard = OnDrop(move || {
        dropped.set(dropped.get() + 1);
        panic!("the destructor of a future");
    });
    async move {
        let _guard = guard;
        pending().await
    }
}

/// As `fragile`, for what is made on another thread.
fn fragile_there() -> impl Future<Output = u32> + use<> {
    fragile(&Rc::default())
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

/// How many reports name a task, each of a destructor.
fn reports(stderr: &str) -> Vec<&str> {
    let lines = stderr.lines();
    let lines: Vec<_> = lines.filter(|line| line.starts_with("soloist: ")).collect();
    for line in &lines {
        assert!(line.starts_with("soloist: task `"), "{stderr}");
        assert!(
            line.ends_with(") has panicked, and nobody awaits it"),
            "{stderr}"
        );
    }
    lines
}

#[test]
fn b112_join_tells_of_a_destructor_that_panics_at_an_abort() {
    watchdog(|| {
        let dropped = Rc::new(Cell::new(0));
        // Idle, queued, never polled; from here and from another thread.
        for (turns, foreign) in [(0, false), (0, true), (1, false), (1, true)] {
            let runtime = Runtime::new();
            let task = runtime.spawn(fragile(&dropped));
            for _ in 0..turns {
                runtime.turn(ZERO).unwrap();
            }
            let abort = task.abort_handle();
            if foreign {
                thread::spawn(move || abort.abort()).join().unwrap();
            } else {
                abort.abort();
            }
            assert_panicked(runtime.block_on(task.join()));
            assert_eq!(dropped.take(), 1);
            // `.await` goes on with it.
            let task = runtime.spawn(fragile(&dropped));
            task.abort_handle().abort();
            let text = panic_of(|| runtime.block_on(task));
            assert_eq!(text, "the destructor of a future");
            assert_eq!(dropped.take(), 1);
        }
        // At the end of its own poll.
        block_on(async {
            let abort = Rc::new(RefCell::new(None));
            let own = abort.clone();
            let rest = fragile(&dropped);
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
        let dropped = Rc::new(Cell::new(0));
        block_on(async {
            for polls in 0..2 {
                let task = spawn(fragile(&dropped));
                for _ in 0..polls {
                    yield_now().await;
                }
                let cancelled = AssertUnwindSafe(task.cancel());
                let payload = futures_lite::FutureExt::catch_unwind(cancelled).await;
                let text = panic_text(&*payload.unwrap_err());
                assert_eq!(text, "the destructor of a future");
                assert_eq!(dropped.take(), 1);
            }
            // Who waits is somebody else than who cancels, and the task the running one.
            let own: Rc<RefCell<Option<Task<u32>>>> = Rc::default();
            let ends = Rc::new(RefCell::new(None));
            let (task, end) = (own.clone(), ends.clone());
            let rest = fragile(&dropped);
            let task = spawn(async move {
                let task = task.take().unwrap();
                *end.borrow_mut() = Some(Box::pin(task.cancel()));
                rest.await
            });
            *own.borrow_mut() = Some(task);
            yield_now().await;
            assert_eq!(dropped.take(), 1);
            let end = AssertUnwindSafe(ends.take().unwrap());
            let payload = futures_lite::FutureExt::catch_unwind(end).await;
            let text = panic_text(&*payload.unwrap_err());
            assert_eq!(text, "the destructor of a future");
            // One that had panicked by itself, too.
            let task = spawn(async { panic!("in a poll") });
            yield_now().await;
            let cancelled = AssertUnwindSafe(task.cancel());
            let payload = futures_lite::FutureExt::catch_unwind(cancelled).await;
            assert_eq!(panic_text(&*payload.unwrap_err()), "in a poll");
        });
    });
}

/// All ways to lose a task that panics in its destructor then. Each is given the future, and
/// whether the runtime is to be entered.
type Lose = fn(&Runtime, &Rc<Cell<usize>>);

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
        runtime.turn(ZERO).unwrap();
        drop(task);
        runtime.turn(ZERO).unwrap();
    }),
    ("dropped in its own poll", |runtime, dropped| {
        let own: Rc<RefCell<Option<Task<u32>>>> = Rc::default();
        let (task, rest) = (own.clone(), fragile(dropped));
        *own.borrow_mut() = Some(runtime.spawn(async move {
            drop(task.take());
            rest.await
        }));
        runtime.turn(ZERO).unwrap();
        runtime.turn(ZERO).unwrap();
    }),
    ("detached and aborted", |runtime, dropped| {
        let task = runtime.spawn(fragile(dropped));
        let abort = task.abort_handle();
        task.detach();
        runtime.turn(ZERO).unwrap();
        abort.abort();
        runtime.run();
    }),
    ("a cancel that nobody awaits", |runtime, dropped| {
        let task = runtime.spawn(fragile(dropped));
        drop(task.cancel());
        runtime.turn(ZERO).unwrap();
    }),
    ("aborted, and dropped after it", |runtime, dropped| {
        let task = runtime.spawn(fragile(dropped));
        task.abort_handle().abort();
        runtime.turn(ZERO).unwrap();
        drop(task);
        runtime.turn(ZERO).unwrap();
    }),
    ("a remote task that is dropped", |runtime, dropped| {
        let task = runtime.handle().spawn(fragile_there);
        runtime.turn(ZERO).unwrap();
        dropped.set(1);
        drop(task);
        runtime.run();
    }),
    (
        "a remote task that is dropped elsewhere, done",
        |runtime, dropped| {
            let task = runtime.handle().spawn(fragile_there);
            runtime.turn(ZERO).unwrap();
            task.abort();
            runtime.turn(ZERO).unwrap();
            dropped.set(1);
            thread::spawn(|| drop(task)).join().unwrap();
            runtime.turn(ZERO).unwrap();
        },
    ),
    ("a group that is dropped", |runtime, dropped| {
        let dropped = dropped.clone();
        runtime.block_on(async move {
            let group = TaskGroup::<u32, ()>::new();
            let rest = fragile(&dropped);
            group.spawn(async { Ok(rest.await) });
            yield_now().await;
            drop(group);
            yield_now().await;
        });
    }),
];

#[test]
fn b112_what_nobody_can_await_is_reported() {
    watchdog(|| {
        let name = "destructors::b112_what_nobody_can_await_is_reported";
        let stderr = passes_in_child(name, || {
            for (way, lose) in WAYS {
                let dropped = Rc::new(Cell::new(0));
                let runtime = Runtime::new();
                lose(&runtime, &dropped);
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
    });
}

#[test]
fn b112_what_nobody_can_await_ends_the_call_if_that_is_asked_for() {
    watchdog(|| {
        for (way, lose) in WAYS {
            let dropped = Rc::new(Cell::new(0));
            let runtime = Runtime::builder().propagate_panics(true).build();
            let lost = catch_unwind(AssertUnwindSafe(|| lose(&runtime, &dropped)));
            let payload = lost.expect_err(way);
            assert_eq!(panic_text(&*payload), "the destructor of a future", "{way}");
            assert_eq!(dropped.get(), 1, "{way}");
            runtime.run();
        }
    });
}

#[test]
fn b112_of_two_panics_at_once_one_ends_the_call_and_the_other_is_reported() {
    watchdog(|| {
        let name = "destructors::\
                    b112_of_two_panics_at_once_one_ends_the_call_and_the_other_is_reported";
        let stderr = passes_in_child(name, || {
            let dropped = Rc::new(Cell::new(0));
            let runtime = Runtime::builder().propagate_panics(true).build();
            let tasks: Vec<_> = (0..2).map(|_| runtime.spawn(fragile(&dropped))).collect();
            runtime.turn(ZERO).unwrap();
            runtime.spawn(async move { drop(tasks) }).detach();
            let text = panic_of(|| {
                runtime.turn(ZERO).unwrap();
                runtime.turn(ZERO).unwrap();
            });
            assert_eq!(text, "the destructor of a future");
            assert_eq!(dropped.get(), 2);
            runtime.run();
        });
        assert_eq!(reports(&stderr).len(), 1, "{stderr}");
    });
}

#[test]
fn b112_a_panic_in_the_poll_in_which_a_task_drops_its_own_handle_is_reported() {
    watchdog(|| {
        let name = "destructors::\
                    b112_a_panic_in_the_poll_in_which_a_task_drops_its_own_handle_is_reported";
        let stderr = passes_in_child(name, || {
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
    });
}

#[test]
fn b112_a_remote_task_tells_of_a_destructor_that_panics() {
    watchdog(|| {
        let runtime = Runtime::new();
        // Awaited here.
        let task = runtime.handle().spawn(fragile_there);
        runtime.turn(ZERO).unwrap();
        task.abort();
        assert_panicked(runtime.block_on(task));
        // Waited for elsewhere.
        let task = runtime.handle().spawn(fragile_there);
        runtime.turn(ZERO).unwrap();
        task.abort();
        let thread = thread::spawn(move || task.wait());
        runtime.run();
        assert_panicked(thread.join().unwrap());
        // Aborted before it has started: what its closure has taken along.
        let guard = OnDrop(|| panic!("the destructor of a future"));
        let task = runtime.handle().spawn(move || {
            let _guard = &guard;
            async { 1 }
        });
        task.abort();
        assert_panicked(runtime.block_on(task));
        // Its runtime goes.
        let task = runtime.handle().spawn(fragile_there);
        runtime.turn(ZERO).unwrap();
        drop(runtime);
        assert_panicked(task.wait());
    });
}

#[test]
fn b112_the_end_of_a_runtime_leaves_each_panic_to_who_awaits_the_task() {
    watchdog(|| {
        let name =
            "destructors::b112_the_end_of_a_runtime_leaves_each_panic_to_who_awaits_the_task";
        let stderr = passes_in_child(name, || {
            let dropped = Rc::new(Cell::new(0));
            let runtime = Runtime::new();
            let held: Vec<_> = (0..3).map(|_| runtime.spawn(fragile(&dropped))).collect();
            for _ in 0..3 {
                runtime.spawn(fragile(&dropped)).detach();
            }
            runtime.turn(ZERO).unwrap();
            // Nobody awaits these: the first goes on, the others are reported.
            let text = panic_of(|| drop(runtime));
            assert_eq!((&*text, dropped.get()), ("the destructor of a future", 6));
            eprintln!("the runtime is gone");
            let mut held = held.into_iter();
            assert_panicked(block_on(held.next().unwrap().join()));
            let text = panic_of(|| block_on(held.next().unwrap()));
            assert_eq!(text, "the destructor of a future");
            // Given up: it is reported now.
            drop(held);
        });
        let gone = stderr.find("the runtime is gone").unwrap();
        assert_eq!(reports(&stderr[..gone]).len(), 2, "{stderr}");
        assert_eq!(reports(&stderr[gone..]).len(), 1, "{stderr}");
    });
}

#[test]
fn b112_children_that_the_first_failure_cancels_tell_of_their_destructors() {
    watchdog(|| {
        let name =
            "destructors::b112_children_that_the_first_failure_cancels_tell_of_their_destructors";
        let stderr = passes_in_child(name, || {
            block_on(async {
                let group = TaskGroup::<u32, &str>::new();
                let dropped = Rc::new(Cell::new(0));
                for _ in 0..2 {
                    let rest = fragile(&dropped);
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
    });
}

#[test]
fn b112_cancel_of_a_group_resumes_one_panic_when_all_are_gone() {
    watchdog(|| {
        let name = "destructors::b112_cancel_of_a_group_resumes_one_panic_when_all_are_gone";
        let stderr = passes_in_child(name, || {
            let dropped = Rc::new(Cell::new(0));
            let text = panic_of(|| {
                block_on(async {
                    let group = TaskGroup::<u32, &str>::new();
                    for n in 0..4 {
                        let rest = fragile(&dropped);
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
    });
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
        let dropped = Rc::new(Cell::new(0));
        block_on(async {
            let mut group = TaskGroup::new();
            let count = dropped.clone();
            group.spawn(async move {
                let _guard = OnDrop(move || count.set(count.get() + 1));
                pending().await
            });
            group.spawn(Done(OnDrop(|| panic!("the destructor of a future"))));
            yield_now().await;
            // At once, while nobody waits for the group.
            assert_eq!(dropped.get(), 1);
            let next = AssertUnwindSafe(group.next());
            let payload = futures_lite::FutureExt::catch_unwind(next).await;
            let text = panic_text(&*payload.unwrap_err());
            assert_eq!(text, "the destructor of a future");
            assert_eq!(group.next().await, None);
        });
    });
}

#[test]
fn b113_a_child_that_its_runtime_has_cancelled_is_not_left_out() {
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
        // One after the other: the two that were done are still to be had.
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
        // To cancel it is no error.
        block_on(make().cancel());
        // A panic of a child comes before that.
        let runtime = Runtime::new();
        let group = runtime.block_on(async {
            let group = TaskGroup::<u32, ()>::new();
            let rest = fragile(&Rc::default());
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
fn b108_a_run_in_a_destructor_panics_with_the_reason() {
    type Run = fn(&Runtime);
    const RUNS: [(&str, Run); 4] = [
        ("`run` inside of a running", Runtime::run),
        ("`run_forever` inside of a running", Runtime::run_forever),
        ("`turn` inside of a running", |runtime| {
            let _ = runtime.turn(None);
        }),
        ("`block_on` inside of a running", |runtime| {
            runtime.block_on(pending::<()>())
        }),
    ];
    watchdog(|| {
        for (says, run) in RUNS {
            let texts: Rc<RefCell<Vec<String>>> = Rc::default();
            let runtime = Rc::new(Runtime::new());
            // With it nobody can say that nothing will ever happen.
            let _handle = runtime.handle();
            let make = || {
                let (own, texts) = (runtime.clone(), texts.clone());
                let guard = OnDrop(move || {
                    let text = panic_of(|| run(&own));
                    texts.borrow_mut().push(text);
                });
                let task = runtime.spawn(async move {
                    let _guard = guard;
                    pending::<()>().await;
                });
                runtime.turn(ZERO).unwrap();
                task
            };
            // Outside of the runtime, in another one, cancelled; inside of it.
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

/// Uses the runtime that is entered, which must be the one that `number` belongs to.
fn use_runtime(log: &Rc<RefCell<Vec<&'static str>>>) {
    assert!(Handle::try_current().is_some());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = Async::new(socket).unwrap();
    let log = log.clone();
    let deadline = now() + Duration::from_millis(1);
    spawn(async move {
        sleep(Duration::from_millis(1)).await;
        assert!(now() >= deadline);
        let to = socket.get_ref().local_addr().unwrap();
        socket.writable().await.unwrap();
        socket.get_ref().send_to(b"x", to).unwrap();
        socket.readable().await.unwrap();
        log.borrow_mut().push("spawned in a destructor");
    })
    .detach();
    Handle::current().spawn(|| async {}).detach();
}

fn uses_runtime(log: &Rc<RefCell<Vec<&'static str>>>) -> impl Future<Output = ()> + use<> {
    let log = log.clone();
    let guard = OnDrop(move || {
        use_runtime(&log);
        log.borrow_mut().push("dropped");
    });
    async move {
        let _guard = guard;
        pending().await
    }
}

#[test]
fn a_destructor_runs_inside_of_its_runtime_wherever_the_handle_is_dropped() {
    watchdog(|| {
        let log = Rc::default();
        let expect = |expected: &[&str]| {
            let log: &Rc<RefCell<Vec<_>>> = &log;
            assert_eq!(*log.take(), *expected);
        };
        let runtime = Runtime::new();
        let make = || {
            let task = runtime.spawn(uses_runtime(&log));
            runtime.turn(ZERO).unwrap();
            task
        };
        // Outside.
        drop(make());
        assert!(Handle::try_current().is_none());
        expect(&["dropped"]);
        runtime.run();
        expect(&["spawned in a destructor"]);
        // One that was never polled.
        drop(runtime.spawn(uses_runtime(&log)));
        runtime.run();
        expect(&["dropped", "spawned in a destructor"]);
        // By `cancel`.
        let end = make().cancel();
        expect(&["dropped"]);
        assert_eq!(runtime.block_on(end), None);
        runtime.run();
        expect(&["spawned in a destructor"]);
        // Inside of another runtime, which is current again after it.
        let task = make();
        block_on(async {
            let before = format!("{:?}", Handle::current());
            drop(task);
            assert_eq!(format!("{:?}", Handle::current()), before);
            for _ in 0..3 {
                yield_now().await;
            }
        });
        expect(&["dropped"]);
        runtime.run();
        expect(&["spawned in a destructor"]);
        // In a destructor of another runtime that goes inside of this one.
        let task = make();
        let other = Runtime::new();
        other
            .spawn(async move {
                let _task = task;
                pending::<()>().await;
            })
            .detach();
        other.turn(ZERO).unwrap();
        runtime.block_on(async {
            let before = format!("{:?}", Handle::current());
            drop(other);
            assert_eq!(format!("{:?}", Handle::current()), before);
        });
        expect(&["dropped"]);
        runtime.run();
        expect(&["spawned in a destructor"]);
        // Its runtime is gone: then it has been dropped in there.
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
        let task = runtime.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        runtime.block_on(async { sleep(day).await });
        drop(task);
        assert_eq!(seen.get(), Some(start + day));
    });
}

#[cfg(unix)]
#[test]
fn what_a_destructor_spawns_between_turns_makes_the_fd_of_a_guest_readable() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    watchdog(|| {
        let runtime = Runtime::new();
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
        let ran = Rc::new(Cell::new(false));
        let there = ran.clone();
        let guard = OnDrop(move || {
            let ran = there.clone();
            spawn(async move { ran.set(true) }).detach();
        });
        let task = runtime.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        while runtime.turn(ZERO).unwrap().polled > 0 {}
        while is_readable(0) {
            runtime.turn(ZERO).unwrap();
        }
        drop(task);
        while !ran.get() {
            assert!(is_readable(20), "nobody says that there is something to do");
            runtime.turn(ZERO).unwrap();
        }
    });
}

#[test]
fn a_runtime_that_goes_in_a_destructor_that_is_called_from_outside() {
    watchdog(|| {
        let runtime = Rc::new(RefCell::new(Some(Runtime::new())));
        let log: Rc<RefCell<Vec<&str>>> = Rc::default();
        let (owned, told) = (runtime.clone(), log.clone());
        let guard = OnDrop(move || {
            let runtime = owned.take();
            told.borrow_mut().push("goes");
            drop(runtime);
            // What is spawned now is dropped at once.
            let late = OnDrop({
                let told = told.clone();
                move || told.borrow_mut().push("dropped at once")
            });
            spawn(async move {
                let _late = late;
            })
            .detach();
            told.borrow_mut().push("gone");
        });
        let spawn_into = |future: Pin<Box<dyn Future<Output = ()>>>| {
            let runtime = runtime.borrow();
            runtime.as_ref().unwrap().spawn(future)
        };
        let told = log.clone();
        let other = OnDrop(move || told.borrow_mut().push("another task"));
        spawn_into(Box::pin(async move {
            let _other = other;
        }))
        .detach();
        let task = spawn_into(Box::pin(async move {
            let _guard = guard;
            pending().await
        }));
        drop(task);
        assert_eq!(
            *log.take(),
            ["goes", "another task", "dropped at once", "gone"]
        );
        assert_eq!(block_on(async { spawn(async { 4 }).await }), 4);
    });
}

#[test]
fn panics_of_destructors_in_every_place_are_told_exactly_once() {
    /// Counts how often it is dropped: a payload that nobody has lost.
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    watchdog(|| {
        let (made, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let fragile = || {
            let (made, gone) = (made.clone(), gone.clone());
            let guard = OnDrop(move || {
                made.fetch_add(1, Ordering::SeqCst);
                std::panic::resume_unwind(Box::new(Counted(gone.clone())));
            });
            async move {
                let _guard = guard;
                poll_fn(|_| Poll::<()>::Pending).await
            }
        };
        let runtime = Runtime::new();
        let abort = Arc::new(Mutex::new(Vec::new()));
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
        let there = abort.clone();
        thread::spawn(move || {
            for abort in there.lock().unwrap().drain(..) {
                abort.abort();
            }
        })
        .join()
        .unwrap();
        runtime.turn(ZERO).unwrap();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
        assert_eq!(made.load(Ordering::SeqCst), 24);
        assert_eq!(gone.load(Ordering::SeqCst), 24);
    });
}

/// Runs `after` in a task of `runtime` that has had it entered again, from inside of another.
fn enter_again(runtime: &Runtime, after: impl FnOnce()) {
    let task = runtime.spawn(pending::<()>());
    runtime.turn(ZERO).unwrap();
    let other = Runtime::new();
    other
        .spawn(async move {
            let _task = task;
            pending::<()>().await;
        })
        .detach();
    other.turn(ZERO).unwrap();
    runtime.block_on(async {
        drop(other);
        after();
    });
}

#[test]
fn a_runtime_that_is_entered_again_still_measures_how_long_it_is_busy() {
    watchdog(|| {
        let runtime = Runtime::builder().inspect(true).build();
        let time = Duration::from_millis(20);
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
