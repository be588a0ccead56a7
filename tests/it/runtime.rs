//! `block_on`, `run`, `turn`, handles, and the order in which tasks run.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use soloist::io::{Async, AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::task::{Builder, yield_now};
use soloist::time::{interval, now, sleep, sleep_until, timeout};
use soloist::{Handle, Runtime, block_on, spawn};

use crate::support::*;

#[test]
fn block_on_returns_the_output_of_a_future_that_borrows() {
    watchdog(|| {
        let words = [String::from("on"), String::from("loan")];
        let mut count = 0;
        let longest = block_on(async {
            yield_now().await;
            count += words.len();
            words.iter().max_by_key(|word| word.len()).unwrap()
        });
        assert_eq!((longest.as_str(), count), ("loan", 2));
    });
}

#[test]
fn block_on_polls_a_ready_future_once_and_no_task_beside_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        let seen = Seen::new();
        let _task = runtime.spawn(seen.probe());
        let polls = Cell::new(0);
        assert_eq!(runtime.block_on(count_polls(&polls, async { 3 })), 3);
        // The task was there first, and main has had its turn right after it.
        assert_eq!((polls.get(), seen.polls.get()), (1, 1));
        assert_eq!(runtime.block_on(count_polls(&polls, async { 4 })), 4);
        assert_eq!((polls.get(), seen.polls.get()), (2, 1));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn block_on_starts_no_thread_and_opens_no_fd_before_the_first_socket() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let test = move || {
        let before = (threads(), open_fds());
        let runtime = Runtime::new();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..10)
                .map(|millis| spawn(sleep(Duration::from_millis(millis % 3))))
                .collect();
            for task in tasks {
                task.await;
            }
            let remote = Handle::current().spawn(|| async { 1 });
            remote.await.unwrap();
            _ = timeout(MS, pending::<()>()).await;
            assert_eq!((threads(), open_fds()), before);
        });
        // Then the thread's poller is made, and still no thread.
        runtime.block_on(async {
            let _listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            assert_eq!(threads(), before.0);
            assert!(open_fds() > before.1);
        });
    };
    in_own_process(test);
}

#[test]
fn a_runtime_keeps_its_tasks_from_one_block_on_to_the_next() {
    watchdog(|| {
        let runtime = Runtime::new();
        let seen = Seen::new();
        runtime.block_on(async {
            spawn(seen.probe()).detach();
            yield_now().await;
        });
        assert_eq!((seen.polls.get(), seen.drops.get()), (1, 0));
        runtime.block_on(async {
            seen.finish();
            yield_now().await;
        });
        assert_eq!((seen.polls.get(), seen.drops.get()), (2, 1));
    });
}

#[test]
fn mains_future_is_dropped_inside_of_the_runtime_and_before_block_on_returns() {
    watchdog(|| {
        let dropped = Rc::new(Cell::new(false));
        let there = dropped.clone();
        let guard = OnDrop(move || {
            assert!(Handle::try_current().is_some());
            there.set(true);
        });
        let runtime = Runtime::new();
        runtime.block_on(poll_fn(move |_| {
            let _guard = &guard;
            Poll::Ready(())
        }));
        assert!(dropped.get());
    });
}

#[test]
fn sockets_belong_to_the_thread_and_not_to_one_block_on() {
    watchdog(|| {
        let (listener, mut client) = block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            (listener, client)
        });
        let runtime = Runtime::new();
        let mut server = runtime.block_on(async { listener.accept().await.unwrap().0 });
        block_on(async { client.write_all(b"carried over").await.unwrap() });
        let mut buf = [0; 12];
        runtime.block_on(async { server.read_exact(&mut buf).await.unwrap() });
        assert_eq!(&buf, b"carried over");
    });
}

#[test]
fn tasks_run_first_in_first_out() {
    watchdog(|| {
        let runtime = Runtime::new();
        let log = Log::new();
        for number in 0..1_000 {
            let log = log.clone();
            runtime.spawn(async move { log.push(number) }).detach();
        }
        runtime.run();
        assert_eq!(log.take(), Vec::from_iter(0..1_000));
    });
}

#[test]
fn woken_tasks_run_in_the_order_of_their_wakes() {
    watchdog(|| {
        let runtime = Runtime::new();
        let log = Log::new();
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        for number in 0..6 {
            let (log, wakers) = (log.clone(), wakers.clone());
            let mut started = false;
            runtime
                .spawn(poll_fn(move |cx| {
                    if std::mem::replace(&mut started, true) {
                        log.push(number);
                    } else {
                        wakers.borrow_mut().push(cx.waker().clone());
                    }
                    Poll::<()>::Pending
                }))
                .detach();
        }
        let order = [4, 0, 5, 2, 2, 4, 1, 3];
        let expected = [4, 0, 5, 2, 1, 3];
        turn(&runtime);
        runtime.block_on(async {
            order.iter().for_each(|&n| wakers.borrow()[n].wake_by_ref());
            yield_now().await;
        });
        assert_eq!(log.take(), expected);
        // From elsewhere.
        let there = wakers.borrow().clone();
        elsewhere(move || order.iter().for_each(|&n| there[n].wake_by_ref()));
        turn(&runtime);
        assert_eq!(log.take(), expected);
    });
}

#[test]
fn spawn_polls_nothing() {
    watchdog(|| {
        let runtime = Runtime::new();
        let (one, two, three) = (Seen::new(), Seen::new(), Seen::new());
        let polls = || [&one, &two, &three].map(|seen| seen.polls.get());
        let _one = runtime.spawn(one.probe());
        assert_eq!(polls(), [0, 0, 0]);
        runtime.block_on(async {
            let _two = spawn(two.probe());
            let handle = Handle::current();
            let there = three.clone();
            PROBE.set(Some(there));
            let _three = handle.spawn(|| PROBE.take().unwrap().probe());
            let probe = PROBE.take();
            assert!(probe.is_some(), "the closure was called inside of `spawn`");
            PROBE.set(probe);
            assert_eq!(polls(), [1, 0, 0]);
            yield_now().await;
            yield_now().await;
            assert_eq!(polls(), [1, 1, 1]);
        });
    });
    thread_local! {
        static PROBE: Cell<Option<Rc<Seen>>> = const { Cell::new(None) };
    }
}

#[test]
fn a_turn_runs_what_was_ready_when_it_began_each_once() {
    watchdog(|| {
        let runtime = Runtime::new();
        let log = Log::new();
        let (inner, outer) = (log.clone(), log.clone());
        runtime
            .spawn(async move {
                outer.push("parent");
                for _ in 0..10 {
                    let inner = inner.clone();
                    spawn(async move { inner.push("child") }).detach();
                }
                yield_now().await;
                outer.push("parent");
            })
            .detach();
        let other = log.clone();
        runtime
            .spawn(async move {
                for _ in 0..2 {
                    other.push("other");
                    yield_now().await;
                }
            })
            .detach();
        let done = turn(&runtime);
        // Ten children, the parent, which yielded after them, and the other.
        assert_eq!((done.polled, done.ready), (2, 12));
        assert_eq!(log.take(), ["parent", "other"]);
        let done = turn(&runtime);
        assert_eq!((done.polled, done.ready), (12, 1));
        let log = log.take();
        assert!(log[..10].iter().all(|&name| name == "child"));
        assert_eq!(log[10..], ["parent", "other"]);
        assert_eq!(turn(&runtime).polled, 1);
    });
}

#[test]
fn what_a_task_spawns_goes_to_the_end_of_the_queue() {
    async_test(async || {
        let log = Log::new();
        let parents = [0, 1, 2].map(|n| {
            let log = log.clone();
            spawn(async move {
                let children = ["a", "b"].map(|name| {
                    let log = log.clone();
                    spawn(async move { log.push(format!("{n}{name}")) })
                });
                log.push(n.to_string());
                for child in children {
                    child.await;
                }
                log.push(format!("{n} ends"));
            })
        });
        for parent in parents {
            parent.await;
        }
        log.assert(&[
            "0", "1", "2", "0a", "0b", "1a", "1b", "2a", "2b", "0 ends", "1 ends", "2 ends",
        ]);
    });
}

#[test]
fn a_task_that_wakes_itself_for_ever_keeps_no_one_from_running() {
    watchdog(|| {
        let runtime = Runtime::new();
        let polls = Rc::new(Cell::new(0));
        let count = polls.clone();
        runtime
            .spawn(poll_fn(move |cx| {
                count.set(count.get() + 1);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }))
            .detach();
        let task = runtime.spawn(async {
            for _ in 0..10 {
                yield_now().await;
            }
        });
        runtime.block_on(task);
        // Turn and turn about.
        assert!((10..=13).contains(&polls.get()), "{}", polls.get());
    });
}

#[test]
fn run_returns_when_no_task_is_left() {
    watchdog(|| {
        let runtime = Runtime::new();
        runtime.run();
        let done = Rc::new(Cell::new(0));
        let (outer, inner) = (done.clone(), done.clone());
        runtime
            .spawn(async move {
                sleep(MS).await;
                // Also what is spawned meanwhile.
                spawn(async move {
                    sleep(MS).await;
                    inner.set(inner.get() + 1);
                })
                .detach();
                outer.set(outer.get() + 1);
            })
            .detach();
        // Also a task whose handle is held.
        let kept = runtime.spawn(async {
            sleep(5 * MS).await;
            5
        });
        // What other threads have sent before it began.
        let handle = runtime.handle();
        let remote = elsewhere(move || handle.spawn(|| async { 6 }));
        runtime.run();
        assert_eq!(done.get(), 2);
        assert!(kept.is_finished());
        assert_eq!(
            runtime.block_on(async { (kept.await, remote.await.unwrap()) }),
            (5, 6)
        );
    });
}

#[test]
fn run_returns_when_the_last_task_is_cancelled_or_aborted() {
    watchdog(|| {
        let runtime = Runtime::new();
        let aborted = runtime.spawn(pending::<()>());
        let cancelled = runtime.spawn(pending::<()>());
        let abort = aborted.abort_handle();
        runtime
            .spawn(async move {
                sleep(MS).await;
                drop(cancelled);
                thread::spawn(move || {
                    thread::sleep(5 * MS);
                    abort.abort();
                });
            })
            .detach();
        runtime.run();
        assert!(aborted.is_finished());
    });
}

#[test]
fn a_stop_ends_the_call_after_the_tasks_that_are_ready_and_the_next_call_goes_on() {
    watchdog(|| {
        for run in [Runtime::run, Runtime::run_forever] {
            let runtime = Runtime::new();
            let log = Log::new();
            for n in 0..4 {
                let log = log.clone();
                let task = runtime.spawn(async move {
                    log.push((n, 1));
                    if n == 1 {
                        Handle::current().stop();
                    }
                    yield_now().await;
                    log.push((n, 2));
                    sleep(MS).await;
                    log.push((n, 3));
                });
                task.detach();
            }
            run(&runtime);
            log.assert(&[(0, 1), (1, 1), (2, 1), (3, 1)]);
            runtime.run();
            assert_eq!(log.take().len(), 8);
        }
    });
}

#[test]
fn what_another_thread_sent_before_its_stop_has_its_turn_before_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        let (tell, told) = mpsc::channel();
        let task = runtime.spawn(async move {
            let handle = Handle::current();
            // All of it is in the inbox when this poll ends. That may take so long that the
            // runtime looks there before the next generation, and stops after this one.
            let sender = thread::spawn(move || {
                for n in 0..3 {
                    let tell = tell.clone();
                    let task = handle.spawn(move || async move { tell.send(n).unwrap() });
                    task.detach();
                }
                handle.stop();
            });
            sender.join().unwrap();
            yield_now().await;
        });
        runtime.run_forever();
        assert_eq!(told.try_iter().collect::<Vec<i32>>(), [0, 1, 2]);
        runtime.block_on(task);
    });
}

#[test]
fn what_a_block_on_has_seen_before_a_stop_has_one_turn_in_the_next_run() {
    watchdog(|| {
        let runtime = Runtime::new();
        let (handle, turns) = (runtime.handle(), Arc::new(AtomicUsize::new(0)));
        let counted = turns.clone();
        runtime.block_on(async move {
            // All polls take so long that the inbox is looked at after each.
            for _ in 0..3 {
                thread::sleep(3 * MS);
                yield_now().await;
            }
            let sender = thread::spawn(move || {
                let task = handle.spawn(move || async move {
                    loop {
                        counted.fetch_add(1, Ordering::SeqCst);
                        yield_now().await;
                    }
                });
                task.detach();
                handle.stop();
            });
            sender.join().unwrap();
            thread::sleep(3 * MS);
            yield_now().await;
        });
        // That this task was new is of no interest any more.
        let before = turns.load(Ordering::SeqCst);
        runtime.run_forever();
        assert_eq!(turns.load(Ordering::SeqCst), before + 1);
    });
}

#[test]
fn what_is_spawned_from_elsewhere_during_a_long_generation_comes_last() {
    watchdog(|| {
        let runtime = Runtime::new();
        let (tell, told) = mpsc::channel();
        let handle = runtime.handle();
        let sender = tell.clone();
        // Each of these takes so long that the inbox is looked at before the next.
        for n in 0..3 {
            let (tell, handle, sender) = (tell.clone(), handle.clone(), sender.clone());
            let task = runtime.spawn(async move {
                tell.send(n).unwrap();
                let thread = thread::spawn(move || {
                    let task = handle.spawn(move || async move { sender.send(10 + n).unwrap() });
                    task.detach();
                    if n == 2 {
                        handle.stop();
                    }
                });
                thread.join().unwrap();
                thread::sleep(3 * MS);
            });
            task.detach();
        }
        runtime.run_forever();
        let told: Vec<i32> = told.try_iter().collect();
        assert_eq!(told, [0, 1, 2, 10, 11, 12]);
    });
}

#[test]
fn run_forever_returns_on_stop_only() {
    watchdog(|| {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let stopped = Arc::new(AtomicUsize::new(0));
        let there = stopped.clone();
        let thread = thread::spawn(move || {
            // It has no task, or has had some: it waits for more.
            for number in 0..3 {
                thread::sleep(Duration::from_millis(number));
                assert!(handle.spawn(|| async {}).wait().is_ok());
            }
            there.store(1, Ordering::SeqCst);
            handle.stop();
        });
        runtime.run_forever();
        assert_eq!(stopped.load(Ordering::SeqCst), 1);
        thread.join().unwrap();

        runtime.spawn(async { Handle::current().stop() }).detach();
        let endless = runtime.spawn(pending::<()>());
        runtime.run_forever();
        assert!(!endless.is_finished());
    });
}

#[test]
fn a_stop_is_remembered_until_a_run_sees_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        let polls = Rc::new(Cell::new(0));
        let count = polls.clone();
        let spins = runtime.spawn(async move {
            loop {
                count.set(count.get() + 1);
                yield_now().await;
            }
        });
        for forever in [false, true] {
            let before = polls.get();
            // More than one is one.
            runtime.handle().stop();
            runtime.handle().stop();
            if forever {
                runtime.run_forever();
            } else {
                runtime.run();
            }
            // What was ready had its turn, once.
            assert_eq!(polls.get(), before + 1);
        }
        drop(spins);

        // `block_on` ignores it, and leaves it to a run.
        runtime.block_on(async {
            Handle::current().stop();
            sleep(MS).await;
        });
        runtime.run_forever();

        // It has been used up, also by a run without tasks.
        runtime.handle().stop();
        runtime.run();
        let (done, there) = (Rc::new(Cell::new(false)), Handle::clone(&runtime.handle()));
        let inside = done.clone();
        runtime
            .spawn(async move {
                sleep(3 * MS).await;
                inside.set(true);
                there.stop();
            })
            .detach();
        runtime.run_forever();
        assert!(done.get());
    });
}

#[test]
fn stop_and_spawn_on_a_runtime_that_is_gone_do_nothing() {
    watchdog(|| {
        let handle = Runtime::new().handle();
        handle.stop();
        let token = Arc::new(());
        let there = token.clone();
        let task = handle.spawn(move || async move { drop(there) });
        assert_eq!(Arc::strong_count(&token), 1);
        // Also here, where its thread was: nobody is waited for.
        let error = task.wait().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.id(), None);
        let text = error.to_string();
        assert!(
            text.starts_with("a task that has not started (spawned at "),
            "{text}"
        );
        assert!(text.ends_with(") was cancelled"), "{text}");
        let task = handle.spawn(|| async { 5 });
        assert!(block_on(task).unwrap_err().is_cancelled());
        handle.spawn(|| async {}).detach();
    });
}

/// Found by the fuzzer: entries of tasks that are over passed for work, and the turn did
/// nothing at all.
#[test]
fn a_turn_that_finds_only_what_is_over_looks_at_the_sockets() {
    watchdog(|| {
        let runtime = Runtime::new();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let reads = runtime.spawn(async move { Async::new(socket).unwrap().readable().await });
        assert_eq!(turn(&runtime).polled, 1);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", address).unwrap();
        drop(runtime.spawn(async {}));
        assert_eq!(turn(&runtime).polled, 1);
        assert!(reads.is_finished());
    });
}

#[test]
fn a_turn_does_not_wait_when_it_must_not_or_when_there_is_work() {
    watchdog(|| {
        let runtime = Runtime::new();
        let done = turn(&runtime);
        assert_eq!((done.polled, done.ready, done.next_deadline), (0, 0, None));
        runtime.spawn(pending::<()>()).detach();
        // For ever, if it waited.
        assert_eq!(runtime.turn(None).unwrap().polled, 1);
        let done = turn(&runtime);
        assert_eq!((done.polled, done.ready), (0, 0));
    });
}

#[test]
fn a_turn_waits_for_timers_sockets_and_other_threads() {
    watchdog(|| {
        let runtime = Runtime::new();
        let task = runtime.spawn(async {
            let deadline = now() + 3 * MS;
            sleep_until(deadline).await;
            deadline
        });
        // One turn starts it; another one, as a rule, ends it.
        while !task.is_finished() {
            assert!(runtime.turn(Some(HOUR)).unwrap().polled > 0);
        }
        assert_eq!(runtime.next_deadline(), None);
        assert!(runtime.block_on(task) <= Instant::now());

        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            thread::sleep(3 * MS);
            handle.spawn(|| async { 1 }).wait().unwrap()
        });
        assert_eq!(runtime.turn(None).unwrap().polled, 1);
        assert_eq!(thread.join().unwrap(), 1);

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let task = runtime.spawn(async move {
            let socket = Async::new(socket).unwrap();
            socket
                .read_with(|socket| socket.recv(&mut [0; 8]))
                .await
                .unwrap()
        });
        assert_eq!(runtime.turn(None).unwrap().polled, 1);
        let thread = thread::spawn(move || {
            thread::sleep(3 * MS);
            UdpSocket::bind("127.0.0.1:0")
                .unwrap()
                .send_to(b"hello", to)
                .unwrap()
        });
        assert_eq!(runtime.turn(None).unwrap().polled, 1);
        assert_eq!(runtime.block_on(task), 5);
        thread.join().unwrap();
    });
}

#[test]
fn a_turn_waits_on_when_it_was_notified_for_nothing() {
    watchdog(|| {
        let runtime = Runtime::new();
        let timer = runtime.block_on(async {
            let mut timer = sleep(HOUR);
            assert!(poll_once(&mut timer).await.is_pending());
            [timer]
        });
        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            thread::sleep(5 * MS);
            // The runtime takes it out, and that is all.
            drop(timer);
            thread::sleep(5 * MS);
            handle.spawn(|| async {}).wait().unwrap();
        });
        assert_eq!(runtime.turn(None).unwrap().polled, 1);
        thread.join().unwrap();
    });
}

#[test]
fn a_turn_waits_for_as_long_as_it_may_and_no_shorter() {
    watchdog(|| {
        let runtime = Runtime::new();
        for millis in [1, 7] {
            let wait = Duration::from_millis(millis);
            let start = Instant::now();
            assert_eq!(runtime.turn(Some(wait)).unwrap().polled, 0);
            assert!(start.elapsed() >= wait);
        }
        // Beside a timer that is far off.
        runtime.spawn(sleep_for(HOUR)).detach();
        let started = runtime.turn(Some(MS)).unwrap();
        assert_eq!(started.polled, 1);
        let done = runtime.turn(Some(MS)).unwrap();
        assert_eq!(done.polled, 0);
        // Too long for the clock is for ever.
        let task = runtime.spawn(sleep_for(MS));
        while !task.is_finished() {
            assert!(runtime.turn(Some(Duration::MAX)).unwrap().polled > 0);
        }
    });
}

#[test]
fn a_turn_does_not_wait_after_a_stop_until_a_run_has_seen_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        runtime.handle().stop();
        // For ever, if it waited.
        assert_eq!(runtime.turn(None).unwrap().polled, 0);
        assert_eq!(runtime.turn(None).unwrap().polled, 0);
        runtime.run();
        // One that comes while it waits.
        let thread = thread::spawn(move || {
            thread::sleep(5 * MS);
            handle.stop();
        });
        assert_eq!(runtime.turn(None).unwrap().polled, 0);
        thread.join().unwrap();
        runtime.run_forever();
    });
}

#[test]
fn the_next_deadline_is_that_of_the_first_timer() {
    watchdog(|| {
        let runtime = Runtime::new();
        assert_eq!(runtime.next_deadline(), None);
        let start = Instant::now() + 100 * SECOND;
        let at = move |seconds| start + Duration::from_secs(seconds);
        let tasks: Vec<_> = [30, 10, 20]
            .into_iter()
            .map(|seconds| runtime.spawn(async move { sleep_until(at(seconds)).await }))
            .collect();
        assert_eq!(runtime.next_deadline(), None);
        let done = turn(&runtime);
        assert_eq!(done.next_deadline, Some(at(10)));
        assert_eq!(runtime.next_deadline(), Some(at(10)));
        let mut tasks = tasks.into_iter();
        let (thirty, ten) = (tasks.next(), tasks.next());
        // Inside of the runtime: a timer that is given up leaves at once.
        runtime.block_on(async { drop(ten) });
        assert_eq!(runtime.next_deadline(), Some(at(20)));
        runtime.block_on(async { drop(tasks) });
        assert_eq!(runtime.next_deadline(), Some(at(30)));
        // Outside of it: when it next turns.
        drop(thirty);
        assert_eq!(turn(&runtime).next_deadline, None);
        assert_eq!(runtime.next_deadline(), None);
    });
}

#[test]
fn turns_fire_timers_beside_tasks_that_are_always_ready() {
    watchdog(|| {
        let runtime = Runtime::new();
        runtime
            .spawn(async {
                loop {
                    yield_now().await;
                }
            })
            .detach();
        let task = runtime.spawn(sleep_for(MS));
        turn(&runtime);
        thread::sleep(3 * MS);
        // Due for certain: after so many polls at the latest the timers are looked at.
        let mut turns = 0;
        while !task.is_finished() {
            assert_eq!(runtime.turn(None).unwrap().ready, 1);
            turns += 1;
            assert!(turns < 300, "the timers are never looked at");
        }
    });
}

#[test]
fn the_current_handle_is_that_of_the_runtime_that_runs() {
    watchdog(|| {
        let name = |handle: &Handle| format!("{handle:?}");
        assert!(Handle::try_current().is_none());
        let (one, two) = (Runtime::new(), Runtime::new());
        assert_ne!(name(&one.handle()), name(&two.handle()));
        for runtime in [&one, &two, &one] {
            let expected = name(&runtime.handle());
            runtime.block_on(async {
                assert_eq!(name(&Handle::current()), expected);
                assert_eq!(name(&Handle::try_current().unwrap()), expected);
                spawn(async move { assert_eq!(name(&Handle::current()), expected) }).await;
            });
        }
        assert!(Handle::try_current().is_none());
        // Not on other threads: they are outside.
        one.block_on(async { assert!(elsewhere(|| Handle::try_current().is_none())) });
    });
}

#[test]
fn a_remote_task_is_made_polled_and_dropped_on_the_runtimes_thread() {
    watchdog(|| {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let here = thread::current().id();
        let thread = thread::spawn(move || {
            let task = handle.spawn(move || {
                assert_eq!(thread::current().id(), here);
                // Nothing of this is Send.
                let local = Rc::new(Cell::new(1));
                let dropped = OnDrop(move || assert_eq!(thread::current().id(), here));
                async move {
                    let _dropped = dropped;
                    yield_now().await;
                    spawn(async move { local.set(local.get() + 1) }).await;
                    assert_eq!(thread::current().id(), here);
                    "made here"
                }
            });
            let output = task.wait();
            handle.stop();
            output
        });
        runtime.run_forever();
        assert_eq!(thread.join().unwrap().unwrap(), "made here");
    });
}

#[test]
fn a_remote_task_is_awaited_by_its_own_runtime_another_or_another_executor() {
    watchdog(|| {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            let sum = |a, b| {
                handle.spawn(move || async move {
                    yield_now().await;
                    a + b
                })
            };
            let one = sum(1, 2).wait().unwrap();
            let two = block_on(sum(3, 4)).unwrap();
            let three = futures_lite::future::block_on(sum(5, 6)).unwrap();
            // By reference: it is kept.
            let mut task = sum(7, 8);
            let four = block_on(async { (&mut task).await }).unwrap();
            handle.stop();
            [one, two, three, four]
        });
        runtime.run_forever();
        assert_eq!(thread.join().unwrap(), [3, 7, 11, 15]);

        let own = runtime.block_on(async { Handle::current().spawn(|| async { 9 }).await });
        assert_eq!(own.unwrap(), 9);
    });
}

#[test]
fn a_remote_task_that_is_aborted_before_it_starts_is_never_made() {
    watchdog(|| {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let aborted = elsewhere(move || {
            let make = || {
                let count = count.clone();
                move || async move { _ = count.fetch_add(1, Ordering::SeqCst) }
            };
            let aborted = handle.spawn(make());
            aborted.abort();
            aborted.abort();
            drop(handle.spawn(make()));
            aborted
        });
        runtime.run();
        assert_eq!(made.load(Ordering::SeqCst), 0);
        assert_eq!(Arc::strong_count(&made), 1);
        let error = runtime.block_on(aborted).unwrap_err();
        assert!(error.is_cancelled());
    });
}

#[test]
fn a_remote_task_is_cancelled_by_abort_and_by_its_drop_but_not_by_detach() {
    watchdog(|| {
        let runtime = Runtime::new();
        let spawn_counted = || {
            let token = Arc::new(());
            let there = token.clone();
            let task = runtime.handle().spawn(move || async move {
                let _there = there;
                pending::<()>().await;
            });
            (task, token)
        };
        let [(aborted, a), (dropped, b), (detached, c)] = [(); 3].map(|()| spawn_counted());
        turn(&runtime);
        elsewhere(move || {
            aborted.abort();
            drop(dropped);
            detached.detach();
            // Nothing has happened yet: their runtime has not turned.
        });
        let counts = || [&a, &b, &c].map(Arc::strong_count);
        assert_eq!(counts(), [2, 2, 2]);
        turn(&runtime);
        assert_eq!(counts(), [1, 1, 2]);
        drop(runtime);
        assert_eq!(counts(), [1, 1, 1]);
    });
}

#[test]
fn a_remote_task_that_is_over_stays_so() {
    watchdog(|| {
        let runtime = Runtime::new();
        let task = runtime.handle().spawn(|| async { String::from("kept") });
        runtime.run();
        task.abort();
        turn(&runtime);
        // Here, where it could wait for ever; but it need not wait.
        assert_eq!(task.wait().unwrap(), "kept");
        let task = runtime.handle().spawn(|| async { "dropped" });
        runtime.run();
        drop(runtime);
        assert_eq!(task.wait().unwrap(), "dropped");
    });
}

#[test]
fn to_wait_for_a_remote_task_on_its_own_thread_panics_and_cancels_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        let expected = "`RemoteTask::wait` on the runtime's own thread would wait for itself: \
                        `.await` it";
        let seen = Arc::new(AtomicUsize::new(0));
        let there = seen.clone();
        let make = move || async move { _ = there.fetch_add(1, Ordering::SeqCst) };
        let task = runtime.handle().spawn(make.clone());
        assert_eq!(panic_of(|| task.wait()), expected);
        runtime.block_on(async {
            let task = Handle::current().spawn(make);
            assert_eq!(panic_of(|| task.wait()), expected);
            yield_now().await;
            yield_now().await;
        });
        assert_eq!(seen.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_thread_that_waits_when_the_runtime_goes_is_told_that_its_task_is_cancelled() {
    watchdog(|| {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            let task = handle.spawn(pending::<()>);
            send.send(()).unwrap();
            task.wait()
        });
        receive.recv().unwrap();
        turn(&runtime);
        drop(runtime);
        let error = thread.join().unwrap().unwrap_err();
        assert!(error.is_cancelled());
        assert!(error.to_string().starts_with("task `task-1` (spawned at "));
    });
}

#[test]
fn the_panic_of_a_remote_task_is_kept_for_who_awaits_it() {
    watchdog(|| {
        let runtime = Runtime::builder().propagate_panics(true).build();
        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            let line = line!() + 1;
            let task = handle.spawn(|| async { panic!("in the future") });
            let in_future = (task.wait().unwrap_err(), line);
            let line = line!() + 1;
            let task = handle.spawn(|| -> std::future::Ready<()> { panic!("in the making") });
            let in_making = (task.wait().unwrap_err(), line);
            handle.stop();
            [(in_future, "in the future"), (in_making, "in the making")]
        });
        runtime.run_forever();
        for (number, ((error, line), text)) in thread.join().unwrap().into_iter().enumerate() {
            assert!(error.is_panic());
            let said = error.to_string();
            let start = format!("task `task-{}` (spawned at {}:{line}:", number + 1, file!());
            assert!(said.starts_with(&start), "{said}: not {start}");
            assert!(said.ends_with(&format!(") panicked: {text}")), "{said}");
            assert_eq!(error.into_panic().downcast_ref(), Some(&text));
        }
    });
}

/// What ends with the panic of a detached task.
fn calls() -> [fn(&Runtime); 4] {
    [
        |runtime| runtime.run(),
        |runtime| runtime.run_forever(),
        |runtime| runtime.block_on(pending()),
        |runtime| drop(runtime.turn(None)),
    ]
}

#[test]
fn propagated_panics_end_whatever_runs_and_leave_the_other_tasks_intact() {
    watchdog(|| {
        for call in calls() {
            for remote in [false, true] {
                let runtime = Runtime::builder().propagate_panics(true).build();
                let (before, after) = (Seen::new(), Seen::new());
                runtime.spawn(before.probe()).detach();
                if remote {
                    runtime
                        .handle()
                        .spawn(|| async { panic_any(String::from("loud")) })
                        .detach();
                } else {
                    runtime
                        .spawn(async { panic_any(String::from("loud")) })
                        .detach();
                }
                runtime.spawn(after.probe()).detach();
                let outcome = catch_unwind(AssertUnwindSafe(|| call(&runtime)));
                let payload = outcome.unwrap_err().downcast::<String>().unwrap();
                assert_eq!(*payload, "loud");
                assert!(Handle::try_current().is_none());
                before.finish();
                after.finish();
                runtime.run();
                let drops = (before.drops.get(), after.drops.get());
                assert_eq!(drops, (1, 1));
                assert_eq!(before.polls.get(), 2);
                assert!(after.polls.get() <= 2);
            }
        }
    });
}

#[test]
fn only_panics_that_nobody_can_await_are_propagated() {
    watchdog(|| {
        for propagate in [false, true] {
            let runtime = Runtime::builder().propagate_panics(propagate).build();
            let held = runtime.spawn(async { panic!("held") });
            let joined = runtime.spawn(async { panic!("joined") });
            let remote = runtime.handle().spawn(|| async { panic!("remote") });
            runtime.run();
            runtime.block_on(async {
                assert!(joined.join().await.unwrap_err().is_panic());
                assert!(remote.await.unwrap_err().is_panic());
            });
            drop(held);
            runtime.run();
            // And a detached one without the setting.
            if !propagate {
                runtime.spawn(async { panic!("detached") }).detach();
                runtime.run();
            }
        }
    });
}

#[test]
fn misuse_is_blamed_on_its_caller() {
    let test = || {
        /// Calls `f`, and notes where that is.
        #[track_caller]
        fn blame<R>(f: impl FnOnce() -> R) {
            let place = std::panic::Location::caller();
            eprintln!("expected {}:{}:", place.file(), place.line());
            panic_of(f);
        }
        let runtime = Runtime::new();
        block_on(async {
            blame(|| block_on(async {}));
            blame(|| runtime.block_on(async {}));
            blame(|| runtime.run());
            blame(|| runtime.run_forever());
            blame(|| runtime.turn(Some(Duration::ZERO)));
        });
        blame(|| drop(spawn(ready(()))));
        blame(|| drop(Builder::new().spawn(ready(()))));
        blame(|| sleep(Duration::ZERO));
        blame(|| sleep_until(Instant::now()));
        blame(|| timeout(Duration::ZERO, ready(())));
        blame(|| interval(SECOND));
        blame(|| now());
        blame(|| Handle::current());
        blame(|| runtime.handle().spawn(|| async {}).wait());
    };
    let stderr = in_own_process(test);
    let mut lines = stderr.lines();
    let mut checked = 0;
    while let Some(line) = lines.next() {
        let Some(place) = line.strip_prefix("expected ") else {
            continue;
        };
        // `thread '...' panicked at src/main.rs:1:2:`
        let said = lines.find(|line| line.contains(" panicked at ")).unwrap();
        assert!(said.contains(place), "{said}: not {place}");
        checked += 1;
    }
    assert_eq!(checked, 14);
}

#[test]
fn what_needs_a_runtime_and_can_return_an_error_does_so_outside_of_one() {
    watchdog(|| {
        fn now_or_never<F: Future>(future: F) -> F::Output {
            let mut future = std::pin::pin!(future);
            match future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                Poll::Ready(output) => output,
                Poll::Pending => panic!("it waits"),
            }
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let errors = [
            now_or_never(TcpListener::bind("127.0.0.1:0")).unwrap_err(),
            now_or_never(TcpStream::connect(address)).unwrap_err(),
            TcpListener::try_from(listener).unwrap_err(),
            TcpStream::try_from(client).unwrap_err(),
            Async::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains("outside of a soloist runtime"), "{text}");
            assert!(text.contains("`soloist::block_on`"), "{text}");
        }
        // And the use of one that was made inside.
        let listener = block_on(async { TcpListener::bind("127.0.0.1:0").await.unwrap() });
        let text = now_or_never(listener.accept()).unwrap_err().to_string();
        assert!(text.contains("outside of a soloist runtime"), "{text}");
    });
}
