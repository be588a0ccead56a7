//! `block_on`, `run`, `turn`, handles, and the order in which tasks run.

use std::future::ready;
use std::net::UdpSocket;
use std::panic::panic_any;

use soloist::io::{Async, AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::task::Builder;
use soloist::time::{interval, now, sleep_until, timeout};

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
fn block_on_polls_a_ready_future_once() {
    runtime_test(|runtime| {
        let seen = Seen::new();
        let _task = runtime.spawn(seen.probe());
        let polls = Cell::new(0);
        assert_eq!(runtime.block_on(count_polls(&polls, async { 3 })), 3);
        // The task was spawned first, and is polled before main.
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
            join_all(tasks).await;
            let remote = Handle::current().spawn(|| async { 1 });
            remote.await.unwrap();
            _ = timeout(MS, pending::<()>()).await;
            assert_eq!((threads(), open_fds()), before);
        });
        // Now the poller of the thread is created, and still no thread.
        runtime.block_on(async {
            let _listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            assert_eq!(threads(), before.0);
            assert!(open_fds() > before.1);
        });
    };
    in_own_process(test);
}

#[test]
fn tasks_stay_from_one_block_on_to_the_next() {
    runtime_test(|runtime| {
        let seen = Seen::new();
        runtime.block_on(async {
            spawn(seen.probe()).detach();
            yield_now().await;
        });
        assert_eq!(seen.counts(), (1, 0));
        runtime.block_on(async {
            seen.finish();
            yield_now().await;
        });
        assert_eq!(seen.counts(), (2, 1));
    });
}

#[test]
fn the_future_of_block_on_is_dropped_inside_the_runtime() {
    watchdog(|| {
        let dropped = leak(Cell::new(false));
        let guard = OnDrop(move || {
            assert!(Handle::try_current().is_some());
            dropped.set(true);
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
fn a_socket_can_be_used_in_several_runtimes_of_its_thread() {
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
fn woken_tasks_run_in_the_order_of_their_wakes() {
    runtime_test(|runtime| {
        let log = Log::new();
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        for number in 0..6 {
            let wakers = wakers.clone();
            let mut started = false;
            spawn_detached(
                &runtime,
                poll_fn(move |cx| {
                    if std::mem::replace(&mut started, true) {
                        log.push(number);
                    } else {
                        wakers.borrow_mut().push(cx.waker().clone());
                    }
                    Poll::<()>::Pending
                }),
            );
        }
        let order = [4, 0, 5, 2, 2, 4, 1, 3];
        let expected = [4, 0, 5, 2, 1, 3];
        turn(&runtime);
        runtime.block_on(async {
            order.iter().for_each(|&n| wakers.borrow()[n].wake_by_ref());
            yield_now().await;
        });
        assert_eq!(log.take(), expected);
        // From another thread.
        let there = wakers.borrow().clone();
        elsewhere(move || order.iter().for_each(|&n| there[n].wake_by_ref()));
        turn(&runtime);
        assert_eq!(log.take(), expected);
    });
}

#[test]
fn spawn_does_not_poll_the_future() {
    runtime_test(|runtime| {
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
fn a_turn_polls_each_task_that_was_ready_when_it_began_once() {
    runtime_test(|runtime| {
        let log = Log::new();
        spawn_detached(&runtime, async move {
            log.push("parent");
            for _ in 0..10 {
                spawn(async move { log.push("child") }).detach();
            }
            yield_now().await;
            log.push("parent");
        });
        spawn_detached(&runtime, async move {
            for _ in 0..2 {
                log.push("other");
                yield_now().await;
            }
        });
        let done = turn(&runtime);
        // Ten children, the parent, which yielded after spawning them, and the other.
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
fn spawned_tasks_go_to_the_end_of_the_queue() {
    async_test(async || {
        let log = Log::new();
        let parents = [0, 1, 2].map(|n| {
            spawn(async move {
                let children =
                    ["a", "b"].map(|name| spawn(async move { log.push(format!("{n}{name}")) }));
                log.push(n.to_string());
                join_all(children).await;
                log.push(format!("{n} ends"));
            })
        });
        join_all(parents).await;
        log.assert(&[
            "0", "1", "2", "0a", "0b", "1a", "1b", "2a", "2b", "0 ends", "1 ends", "2 ends",
        ]);
    });
}

#[test]
fn run_returns_when_no_task_is_left() {
    runtime_test(|runtime| {
        runtime.run();
        let done = leak(Cell::new(0));
        spawn_detached(&runtime, async move {
            sleep(MS).await;
            // Tasks that are spawned meanwhile.
            spawn(async move {
                sleep(MS).await;
                done.set(done.get() + 1);
            })
            .detach();
            done.set(done.get() + 1);
        });
        // A task whose handle is held.
        let kept = runtime.spawn(async {
            sleep(5 * MS).await;
            5
        });
        // Tasks that another thread has sent before.
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
    runtime_test(|runtime| {
        let aborted = runtime.spawn(pending::<()>());
        let cancelled = runtime.spawn(pending::<()>());
        let abort = aborted.abort_handle();
        spawn_detached(&runtime, async move {
            sleep(MS).await;
            drop(cancelled);
            thread::spawn(move || {
                thread::sleep(5 * MS);
                abort.abort();
            });
        });
        runtime.run();
        assert!(aborted.is_finished());
    });
}

#[test]
fn a_stop_takes_effect_after_the_generation_and_the_next_call_continues() {
    watchdog(|| {
        for run in [Runtime::run, Runtime::run_forever] {
            let runtime = Runtime::new();
            let log = Log::new();
            for n in 0..4 {
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
fn tasks_sent_before_a_stop_run_before_the_stop_takes_effect() {
    runtime_test(|runtime| {
        let (tell, told) = mpsc::channel();
        let task = runtime.spawn(async move {
            let handle = Handle::current();
            // All of it is in the inbox when this poll ends. The poll may take so long that
            // the runtime reads the inbox before the next generation, and stops after this one.
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
fn tasks_that_a_block_on_received_before_a_stop_run_once_in_the_next_run() {
    runtime_test(|runtime| {
        let (handle, turns) = (runtime.handle(), Arc::new(AtomicUsize::new(0)));
        let counted = turns.clone();
        runtime.block_on(async move {
            // The polls take so long that the inbox is read after each.
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
        // In the next run it is a ready task like any other.
        let before = turns.load(Ordering::SeqCst);
        runtime.run_forever();
        assert_eq!(turns.load(Ordering::SeqCst), before + 1);
    });
}

#[test]
fn tasks_sent_during_a_long_generation_run_after_it() {
    runtime_test(|runtime| {
        let (tell, told) = mpsc::channel();
        let handle = runtime.handle();
        let sender = tell.clone();
        // The polls take so long that the inbox is read before the next one.
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
    runtime_test(|runtime| {
        let handle = runtime.handle();
        let stopped = leak(AtomicUsize::new(0));
        let thread = thread::spawn(move || {
            // The runtime has no task, and waits for more.
            for number in 0..3 {
                thread::sleep(Duration::from_millis(number));
                assert!(handle.spawn(|| async {}).wait().is_ok());
            }
            stopped.store(1, Ordering::SeqCst);
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
    runtime_test(|runtime| {
        let polls = leak(Cell::new(0));
        let spins = runtime.spawn(count_yields(polls));
        for forever in [false, true] {
            let before = polls.get();
            // Two stops count as one.
            runtime.handle().stop();
            runtime.handle().stop();
            if forever {
                runtime.run_forever();
            } else {
                runtime.run();
            }
            // The ready task was polled once.
            assert_eq!(polls.get(), before + 1);
        }
        drop(spins);

        // `block_on` ignores the stop, and the next run sees it.
        runtime.block_on(async {
            Handle::current().stop();
            sleep(MS).await;
        });
        runtime.run_forever();

        // A run without tasks sees it, too.
        runtime.handle().stop();
        runtime.run();
        let (done, there) = (Rc::new(Cell::new(false)), Handle::clone(&runtime.handle()));
        let inside = done.clone();
        spawn_detached(&runtime, async move {
            sleep(3 * MS).await;
            inside.set(true);
            there.stop();
        });
        runtime.run_forever();
        assert!(done.get());
    });
}

#[test]
fn a_handle_to_a_dropped_runtime_does_nothing() {
    watchdog(|| {
        let handle = Runtime::new().handle();
        handle.stop();
        let token = Arc::new(());
        let there = token.clone();
        let task = handle.spawn(move || async move { drop(there) });
        assert_eq!(Arc::strong_count(&token), 1);
        // Also on the thread of the runtime: it does not wait.
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

/// Found by the fuzzer: a turn counted entries of finished tasks as work, and did
/// nothing.
#[test]
fn a_turn_with_only_entries_of_finished_tasks_visits_the_reactor() {
    runtime_test(|runtime| {
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
fn a_turn_does_not_wait_if_the_limit_is_zero_or_a_task_is_ready() {
    runtime_test(|runtime| {
        let done = turn(&runtime);
        assert_eq!((done.polled, done.ready, done.next_deadline), (0, 0, None));
        runtime.spawn(pending::<()>()).detach();
        // With a task that is ready it does not wait, even without a limit.
        assert_eq!(runtime.turn(None).unwrap().polled, 1);
        let done = turn(&runtime);
        assert_eq!((done.polled, done.ready), (0, 0));
    });
}

#[test]
fn a_turn_waits_for_timers_sockets_and_other_threads() {
    runtime_test(|runtime| {
        let task = runtime.spawn(async {
            let deadline = now() + 3 * MS;
            sleep_until(deadline).await;
            deadline
        });
        // One turn starts it; another one, usually, ends it.
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
fn a_turn_continues_to_wait_after_a_spurious_notification() {
    runtime_test(|runtime| {
        let timer = runtime.block_on(async {
            let mut timer = sleep(HOUR);
            assert!(poll_once(&mut timer).await.is_pending());
            [timer]
        });
        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            thread::sleep(5 * MS);
            // The runtime removes the timer, and has nothing else to do.
            drop(timer);
            thread::sleep(5 * MS);
            handle.spawn(|| async {}).wait().unwrap();
        });
        assert_eq!(runtime.turn(None).unwrap().polled, 1);
        thread.join().unwrap();
    });
}

#[test]
fn a_turn_without_events_waits_for_the_whole_limit() {
    runtime_test(|runtime| {
        for millis in [1, 7] {
            let wait = Duration::from_millis(millis);
            let start = Instant::now();
            assert_eq!(runtime.turn(Some(wait)).unwrap().polled, 0);
            assert!(start.elapsed() >= wait);
        }
        // With a timer that is far off.
        runtime.spawn(sleep_for(HOUR)).detach();
        let started = runtime.turn(Some(MS)).unwrap();
        assert_eq!(started.polled, 1);
        let done = runtime.turn(Some(MS)).unwrap();
        assert_eq!(done.polled, 0);
        // A limit beyond the clock is no limit.
        let task = runtime.spawn(sleep_for(MS));
        while !task.is_finished() {
            assert!(runtime.turn(Some(Duration::MAX)).unwrap().polled > 0);
        }
    });
}

#[test]
fn a_turn_does_not_wait_after_a_stop_until_a_run_has_seen_it() {
    runtime_test(|runtime| {
        let handle = runtime.handle();
        runtime.handle().stop();
        // Without a limit, but after a stop.
        assert_eq!(runtime.turn(None).unwrap().polled, 0);
        assert_eq!(runtime.turn(None).unwrap().polled, 0);
        runtime.run();
        // A stop during the wait.
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
    runtime_test(|runtime| {
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
        // A timer that is dropped inside the runtime is removed at once,
        runtime.block_on(async { drop(ten) });
        assert_eq!(runtime.next_deadline(), Some(at(20)));
        runtime.block_on(async { drop(tasks) });
        assert_eq!(runtime.next_deadline(), Some(at(30)));
        // and outside of it in the next turn.
        drop(thirty);
        assert_eq!(turn(&runtime).next_deadline, None);
        assert_eq!(runtime.next_deadline(), None);
    });
}

#[test]
fn turns_fire_timers_beside_tasks_that_are_always_ready() {
    runtime_test(|runtime| {
        spawn_detached(&runtime, async {
            loop {
                yield_now().await;
            }
        });
        let task = runtime.spawn(sleep_for(MS));
        turn(&runtime);
        thread::sleep(3 * MS);
        // It is due now: the timers are checked at the latest after so many polls.
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
        // Other threads have no current handle.
        one.block_on(async { assert!(elsewhere(|| Handle::try_current().is_none())) });
    });
}

#[test]
fn a_remote_task_is_created_polled_and_dropped_on_the_runtimes_thread() {
    runtime_test(|runtime| {
        let handle = runtime.handle();
        let here = thread::current().id();
        let thread = thread::spawn(move || {
            let task = handle.spawn(move || {
                assert_eq!(thread::current().id(), here);
                // Neither of these is `Send`.
                let local = leak(Cell::new(1));
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
fn a_remote_task_can_be_awaited_in_any_executor() {
    runtime_test(|runtime| {
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
            // Awaited by reference.
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
fn the_closure_of_a_remote_task_aborted_before_it_starts_is_not_called() {
    runtime_test(|runtime| {
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
fn a_remote_task_is_cancelled_by_abort_and_drop_but_not_by_detach() {
    runtime_test(|runtime| {
        let spawn_counted = || {
            let token = Arc::new(());
            let there = token.clone();
            let task = runtime.handle().spawn(move || hold(there));
            (task, token)
        };
        let [(aborted, a), (dropped, b), (detached, c)] = [(); 3].map(|()| spawn_counted());
        turn(&runtime);
        elsewhere(move || {
            aborted.abort();
            drop(dropped);
            detached.detach();
            // Nothing changes before the next turn of the runtime.
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
fn a_remote_task_has_its_number_before_it_starts() {
    runtime_test(|runtime| {
        let handle = runtime.handle();
        let (first, second) = elsewhere(move || {
            let first = handle.spawn(|| async { panic!("no") });
            (first, handle.clone().spawn(|| async {}))
        });
        let ids = [first.id(), second.id()];
        assert_eq!(ids.map(|id| id.to_string()), ["r1", "r2"]);
        assert_eq!(format!("{:?}", ids[0]), "TaskId(r1)");
        assert_eq!(second.abort_handle().id(), ids[1]);
        turn(&runtime);
        let error = runtime.block_on(first).map(|()| {}).unwrap_err();
        assert_eq!(error.id(), Some(ids[0]));
        let text = error.to_string();
        assert!(text.starts_with("task `task-r1` (spawned at "), "{text}");
        // They are counted with the others.
        assert_eq!(runtime.metrics().spawned, 2);
    });
}

#[test]
fn a_remote_task_is_finished_when_its_future_has_been_dropped() {
    runtime_test(|runtime| {
        let task = runtime.handle().spawn(|| yields(1));
        for expected in [false, false, true, true] {
            assert_eq!(task.is_finished(), expected);
            turn(&runtime);
        }
        let aborted = runtime.handle().spawn(pending::<()>);
        turn(&runtime);
        aborted.abort();
        assert!(!aborted.is_finished());
        turn(&runtime);
        assert!(aborted.is_finished());
        let late = runtime.handle();
        drop(runtime);
        assert!(late.spawn(pending::<()>).is_finished());
    });
}

#[test]
fn an_abort_handle_aborts_a_remote_task_before_and_after_its_start() {
    for started in [false, true] {
        for detached in [false, true] {
            runtime_test(move |runtime| {
                let polls = Arc::new(AtomicUsize::new(0));
                let counter = polls.clone();
                let task = runtime.handle().spawn(move || async move {
                    counter.fetch_add(1, Ordering::SeqCst);
                    pending::<()>().await;
                });
                if started {
                    turn(&runtime);
                }
                let handle = task.abort_handle();
                let task = if detached {
                    task.detach();
                    None
                } else {
                    Some(task)
                };
                elsewhere(move || handle.abort());
                match task {
                    Some(task) => assert!(runtime.block_on(task).unwrap_err().is_cancelled()),
                    None => runtime.run(),
                }
                assert_eq!(polls.load(Ordering::SeqCst), usize::from(started));
            });
        }
    }
}

#[test]
fn an_abort_handle_of_a_detached_remote_task_lets_run_wait_for_it() {
    runtime_test(|runtime| {
        let task = runtime.handle().spawn(pending::<()>);
        let handle = task.abort_handle();
        task.detach();
        turn(&runtime);
        // Without the handle this would be a deadlock, since nothing could wake the task.
        let thread = thread::spawn(move || {
            thread::sleep(MS);
            handle.abort();
        });
        runtime.run();
        thread.join().unwrap();
    });
}

#[test]
fn an_abort_does_not_change_a_finished_remote_task() {
    runtime_test(|runtime| {
        let task = runtime.handle().spawn(|| async { String::from("kept") });
        runtime.run();
        task.abort();
        turn(&runtime);
        // On the thread of the runtime, but it is finished, so `wait` returns at once.
        assert_eq!(task.wait().unwrap(), "kept");
        let task = runtime.handle().spawn(|| async { "dropped" });
        runtime.run();
        drop(runtime);
        assert_eq!(task.wait().unwrap(), "dropped");
    });
}

#[test]
fn wait_panics_on_the_runtimes_own_thread_and_cancels_the_task() {
    runtime_test(|runtime| {
        let expected = "`RemoteTask::wait` on the runtime's own thread would wait for itself: \
                        `.await` it";
        let seen = leak(AtomicUsize::new(0));
        let make = move || async move { _ = seen.fetch_add(1, Ordering::SeqCst) };
        let task = runtime.handle().spawn(make);
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
fn wait_returns_an_error_when_the_runtime_is_dropped() {
    runtime_test(|runtime| {
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
        assert!(error.to_string().starts_with("task `task-r1` (spawned at "));
    });
}

#[test]
fn the_panic_of_a_remote_task_is_returned_to_its_handle() {
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
            let start = format!(
                "task `task-r{}` (spawned at {}:{line}:",
                number + 1,
                file!()
            );
            assert!(said.starts_with(&start), "{said}: not {start}");
            assert!(said.ends_with(&format!(") panicked: {text}")), "{said}");
            assert_eq!(error.into_panic().downcast_ref(), Some(&text));
        }
    });
}

/// Calls that the panic of a detached task ends.
fn calls() -> [fn(&Runtime); 4] {
    [
        |runtime| runtime.run(),
        |runtime| runtime.run_forever(),
        |runtime| runtime.block_on(pending()),
        |runtime| drop(runtime.turn(None)),
    ]
}

#[test]
fn b30_propagated_panics_end_the_call_and_leave_the_other_tasks_intact() {
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
                    spawn_detached(&runtime, async { panic_any(String::from("loud")) });
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
fn only_panics_of_tasks_without_a_handle_are_propagated() {
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
            // The panic of a detached task, without the setting.
            if !propagate {
                runtime.spawn(async { panic!("detached") }).detach();
                runtime.run();
            }
        }
    });
}

#[test]
fn panics_about_misuse_name_the_place_of_the_call() {
    let test = || {
        /// Calls `f`, and prints the place of the call.
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
fn sockets_return_an_error_outside_a_runtime() {
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
        // Operations on a socket that was created inside a runtime.
        let listener = block_on(async { TcpListener::bind("127.0.0.1:0").await.unwrap() });
        let text = now_or_never(listener.accept()).unwrap_err().to_string();
        assert!(text.contains("outside of a soloist runtime"), "{text}");
    });
}
