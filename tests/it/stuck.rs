//! `block_on` and `run` panic when it is certain that no task can ever run again, and only
//! then.

use futures_lite::future::{or, zip};
use soloist::io::AsyncReadExt;
use soloist::net::{TcpListener, TcpStream};
use soloist::promise::promise;
use soloist::task::{Builder, TaskGroup};
use soloist::time::timeout;

use crate::support::*;

/// The message with which `block_on` panics.
fn stuck<F: Future>(future: F) -> String {
    let text = panic_of(|| block_on(future));
    assert!(
        text.starts_with("the runtime is stuck for certain: "),
        "{text}"
    );
    text
}

/// The lines of the message after the first.
fn lines(text: &str) -> Vec<String> {
    let place = |line: &str| {
        // The places differ between the lines of this file.
        let (before, rest) = line.split_once(" at ").expect("a place");
        let (place, after) = rest.split_once(')').expect("its end");
        assert!(place.contains("stuck.rs:"), "{line}");
        let (waits, polls) = after.rsplit_once(", ").expect("the number of polls");
        assert!(polls.ends_with(" polls"), "{line}");
        format!("{}){waits}", before.trim())
    };
    text.lines().skip(1).map(place).collect()
}

#[test]
fn a_wait_without_a_waker_is_reported_with_the_waits_that_lead_to_it() {
    watchdog(|| {
        let text = stuck(pending::<()>());
        let main = "the future of `block_on` (called)";
        let nothing = ": waiting for nothing: its waker was dropped";
        assert_eq!(lines(&text), [format!("{main}{nothing}")]);

        let text = stuck(async {
            let task = Builder::new().name("x").spawn(pending::<()>());
            sleep(MS).await;
            task.await;
        });
        let expected = [
            format!("{main}: waiting for task `x`"),
            format!("task `x` (spawned){nothing}"),
        ];
        assert_eq!(lines(&text), expected);

        let text = stuck(async {
            let mut group = TaskGroup::<(), ()>::new();
            group.spawn(async { Ok(()) });
            group.spawn(pending());
            while group.next().await.is_some() {}
        });
        assert_eq!(
            lines(&text)[0],
            format!("{main}: waiting for a task of its group")
        );
    });
}

#[test]
fn tasks_that_wait_for_themselves_or_each_other_are_stuck() {
    watchdog(|| {
        type Slot<T> = Rc<Cell<Option<T>>>;
        let text = stuck(async {
            let own: Slot<Task<()>> = Rc::default();
            let inside = own.clone();
            let task = Builder::new().name("ouroboros").spawn(async move {
                yield_now().await;
                inside.take().unwrap().await;
            });
            own.set(Some(task));
            pending::<()>().await;
        });
        let expected = "task `ouroboros` (spawned): waiting for task `ouroboros`";
        assert_eq!(lines(&text)[1], expected);

        let text = stuck(async {
            let handle: Slot<Task<()>> = Rc::default();
            let inside = handle.clone();
            let first = async move { inside.take().unwrap().await };
            let first = Builder::new().name("first").spawn(first);
            handle.set(Some(Builder::new().name("second").spawn(first)));
            pending::<()>().await;
        });
        let lines_of_both = lines(&text);
        assert_eq!(
            lines_of_both[1],
            "task `first` (spawned): waiting for task `second`"
        );
        assert_eq!(
            lines_of_both[2],
            "task `second` (spawned): waiting for task `first`"
        );

        let text = stuck(async {
            let group = TaskGroup::<(), ()>::new();
            let slot: Slot<TaskGroup<(), ()>> = Rc::default();
            let inside = slot.clone();
            group.spawn(async move {
                yield_now().await;
                inside.take().unwrap().next().await;
                Ok(())
            });
            slot.set(Some(group));
            pending::<()>().await;
        });
        let expected = "task `task-1` (spawned): waiting for a task of its group";
        assert_eq!(lines(&text)[1], expected);
    });
}

#[test]
fn run_panics_when_it_is_stuck() {
    runtime_test(|runtime| {
        let task = runtime.spawn(pending::<()>());
        let text = panic_of(|| runtime.run());
        assert!(
            text.starts_with("the runtime is stuck for certain: "),
            "{text}"
        );
        assert_eq!(lines(&text).len(), 1);
        // The runtime still works.
        assert_eq!(runtime.block_on(async { 5 }), 5);
        drop(task);
        runtime.run();
    });
}

#[test]
fn a_runtime_that_becomes_stuck_later_is_reported() {
    watchdog(|| {
        let text = stuck(async {
            let (ours, theirs) = tcp_pair();
            let mut stream = TcpStream::try_from(ours).unwrap();
            let reader = spawn(async move {
                stream.read(&mut [0; 8]).await.unwrap();
                pending::<()>().await;
            });
            spawn(async move {
                sleep(MS).await;
                drop(theirs);
            })
            .detach();
            _ = zip(reader, timeout(MS, pending::<()>())).await;
        });
        assert_eq!(lines(&text).len(), 2);
    });
}

#[test]
fn a_runtime_is_stuck_after_a_thread_dropped_the_last_waker() {
    watchdog(|| {
        let text = stuck(async {
            let kept = Arc::new(Mutex::new(None::<Waker>));
            let there = kept.clone();
            let thread = thread::spawn(move || {
                thread::sleep(20 * MS);
                // The drop of a waker wakes nothing: `wake` does.
                let waker = there.lock().unwrap().take();
                waker.unwrap().wake();
            });
            let mut thread = Some(thread);
            poll_fn(move |cx| match thread.take() {
                Some(thread) => {
                    *kept.lock().unwrap() = Some(cx.waker().clone());
                    drop(thread);
                    Poll::<()>::Pending
                }
                None => Poll::Pending,
            })
            .await;
        });
        assert_eq!(lines(&text).len(), 1);
    });
}

#[test]
fn more_than_twenty_tasks_are_counted_but_not_listed() {
    watchdog(|| {
        let text = stuck(async {
            for _ in 0..1000 {
                spawn(pending::<()>()).detach();
            }
            pending::<()>().await;
        });
        assert_eq!(text.lines().count(), 1 + 1 + 20 + 1);
        assert!(text.ends_with("  and 980 more"), "{text}");
    });
}

#[test]
fn a_detached_remote_task_does_not_keep_itself_alive() {
    watchdog(|| {
        let text = stuck(async {
            Handle::current().spawn(pending::<()>).detach();
            pending::<()>().await;
        });
        assert_eq!(lines(&text).len(), 2);
    });
}

// Runtimes that are not stuck.

/// Runs a future that starts a thread, which holds `guard` for a while and drops it: main is stuck
/// after that, and not before.
fn stuck_after<G: Send + 'static>(guard: impl FnOnce() -> G + 'static) {
    let dropped = Arc::new(Mutex::new(false));
    let there = dropped.clone();
    let future = async move {
        let guard = guard();
        // The end of the thread wakes main.
        on_thread(move || {
            thread::sleep(30 * MS);
            *there.lock().unwrap() = true;
            drop(guard);
        })
        .await;
        pending::<()>().await;
    };
    stuck(future);
    assert!(*dropped.lock().unwrap());
}

#[test]
fn what_another_thread_holds_keeps_a_runtime_from_being_stuck() {
    watchdog(|| {
        stuck_after(|| ());
        // An abort handle.
        let result = block_on(async {
            let task = spawn(pending::<()>());
            let abort = task.abort_handle();
            thread::spawn(move || {
                thread::sleep(30 * MS);
                abort.abort();
            });
            task.join().await
        });
        assert!(result.unwrap_err().is_cancelled());
        // A promise.
        let (promise, promised) = promise();
        thread::spawn(move || {
            thread::sleep(30 * MS);
            promise.set(1).unwrap();
        });
        assert_eq!(block_on(promised), Ok(1));
    });
}

#[test]
fn a_task_that_also_waits_for_a_thread_is_not_stuck() {
    watchdog(|| {
        let either = || async {
            let stuck = spawn(pending::<()>());
            or(stuck, on_thread(|| thread::sleep(30 * MS))).await;
        };
        block_on(either());
        // A task that main waits for.
        block_on(async move { spawn(either()).await });
    });
}

#[test]
fn a_handle_on_another_thread_keeps_a_runtime_from_being_stuck() {
    runtime_test(|runtime| {
        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            thread::sleep(30 * MS);
            handle.spawn(|| async { 5 }).wait().unwrap()
        });
        let (promise, promised) = promise();
        let mut promise = Some(promise);
        // The thread has no waker, only the handle, and spawns a new task.
        runtime.spawn(pending::<()>()).detach();
        let joined = leak(Cell::new(0));
        spawn_detached(&runtime, async move {
            joined.set(promised.await.unwrap());
        });
        let text = panic_of(|| {
            runtime.block_on(poll_fn(|_| {
                if let Some(promise) = promise.take() {
                    promise.set(7).unwrap();
                }
                Poll::<()>::Pending
            }))
        });
        assert!(
            text.starts_with("the runtime is stuck for certain: "),
            "{text}"
        );
        assert_eq!(joined.get(), 7);
        assert_eq!(thread.join().unwrap(), 5);
    });
}

#[test]
fn a_remote_task_on_another_thread_keeps_a_runtime_from_being_stuck() {
    watchdog(|| {
        let text = stuck(async {
            let remote = Handle::current().spawn(pending::<()>);
            let thread = thread::spawn(move || {
                thread::sleep(30 * MS);
                drop(remote);
            });
            // Without `join`: only the remote task keeps the runtime from being stuck.
            drop(thread);
            pending::<()>().await;
        });
        // Its task was cancelled.
        assert_eq!(lines(&text).len(), 1);
    });
}

#[test]
#[cfg(feature = "blocking")]
fn a_job_of_the_pool() {
    async_test(async || {
        let task = spawn(soloist::unblock(|| thread::sleep(30 * MS)));
        task.await;
    });
}

#[test]
fn sockets_and_timers_keep_a_runtime_from_being_stuck() {
    watchdog(|| {
        // A server, while main never ends by itself.
        let (done, wait) = mpsc::channel();
        thread::spawn(move || {
            let result = panic_of(|| {
                block_on(async {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    let address = listener.local_addr().unwrap();
                    spawn(async move {
                        let (stream, _) = listener.accept().await.unwrap();
                        drop(stream);
                        sleep(20 * MS).await;
                        panic!("it was stuck before");
                    })
                    .detach();
                    thread::spawn(move || {
                        thread::sleep(30 * MS);
                        std::net::TcpStream::connect(address).unwrap();
                    });
                    pending::<()>().await;
                })
            });
            done.send(result).unwrap();
        });
        let text = wait.recv().unwrap();
        // After the end of the server.
        assert!(
            text.starts_with("the runtime is stuck for certain: "),
            "{text}"
        );
        assert_eq!(lines(&text).len(), 1);
    });
}

#[test]
#[cfg(all(unix, feature = "signal"))]
fn a_signal_keeps_a_runtime_from_being_stuck() {
    use soloist::signal::unix::{SignalKind, signal};

    async_test(async || {
        let mut signals = signal(SignalKind::user_defined2()).unwrap();
        thread::spawn(|| {
            thread::sleep(30 * MS);
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::USR2).unwrap();
        });
        or(pending(), signals.recv()).await.unwrap();
    });
}

#[test]
fn an_endless_sleep_that_another_thread_can_reset_is_not_stuck() {
    watchdog(|| {
        let mut endless = None;
        block_on(poll_fn(|cx| {
            if endless.is_some() {
                return Poll::Ready(());
            }
            let mut sleep = Box::pin(sleep(Duration::MAX));
            assert!(sleep.as_mut().poll(cx).is_pending());
            endless = Some(thread::spawn(move || {
                thread::sleep(30 * MS);
                sleep.reset(Instant::now());
            }));
            Poll::Pending
        }));
        endless.unwrap().join().unwrap();
    });
}

#[test]
fn turn_and_run_forever_do_not_check_for_stuck_tasks() {
    runtime_test(|runtime| {
        runtime.spawn(pending::<()>()).detach();
        // `turn` waits for its limit.
        let turn = runtime.turn(Some(20 * MS)).unwrap();
        assert_eq!(turn.polled, 1);
        let turn = runtime.turn(Some(20 * MS)).unwrap();
        assert_eq!(turn.polled, 0);
        let handle = runtime.handle();
        thread::spawn(move || {
            thread::sleep(20 * MS);
            handle.stop();
        });
        runtime.run_forever();
    });
}

#[test]
fn threads_that_wake_and_drop_their_handle_at_once_cause_no_false_alarm() {
    // A thread that wakes, and drops its handle at the same moment.
    watchdog(|| {
        for round in 0..300_u64 {
            let (promise, promised) = promise();
            let thread = thread::spawn(move || {
                thread::sleep(Duration::from_micros(round % 50));
                promise.set(round).unwrap();
            });
            assert_eq!(block_on(promised), Ok(round));
            thread.join().unwrap();

            let runtime = Runtime::new();
            let handle = runtime.handle();
            let thread = thread::spawn(move || {
                thread::sleep(Duration::from_micros(round % 50));
                handle.spawn(move || async move { round }).detach();
                handle.stop();
            });
            runtime.spawn(pending::<()>()).detach();
            runtime.run();
            thread.join().unwrap();
        }
    });
}
