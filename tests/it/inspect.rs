//! `Runtime::tasks` and `inspect::dump`: the tasks, and what they wait for.

use futures_lite::future::{or, zip};
use soloist::inspect;
use soloist::inspect::{TaskInfo, TaskState, WaitsFor, dump};
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::promise::promise;
use soloist::task::{Builder, TaskGroup};

use crate::support::*;

const MINUTE: Duration = Duration::from_secs(60);

/// What the tasks of the running runtime wait for, in the order in which they were spawned,
/// as text.
fn waits() -> Vec<Vec<String>> {
    let tasks = dump().tasks;
    let of = |info: &TaskInfo| info.waits_for.iter().map(WaitsFor::to_string).collect();
    tasks.iter().map(of).collect()
}

/// As [`waits`], if there is only one task.
fn wait_of_one() -> String {
    let waits = waits();
    assert_eq!(waits.len(), 1, "{waits:?}");
    waits[0].join(" + ")
}

#[test]
fn tasks_lists_the_id_name_place_and_state() {
    runtime_test(|runtime| {
        assert_eq!(runtime.tasks(), []);
        let first = runtime.spawn(pending::<()>());
        let line = line!() - 1;
        let spawn_second = || Builder::new().name("the second").spawn(async {});
        let second = runtime.block_on(poll_fn(|_| Poll::Ready(spawn_second())));
        let tasks = runtime.tasks();
        assert_eq!(tasks.len(), 2);
        assert_eq!(tasks[0].id, first.id());
        assert_eq!(tasks[0].name, None);
        assert!(tasks[0].spawned_at.file().ends_with("inspect.rs"));
        assert_eq!(tasks[0].spawned_at.line(), line);
        assert_eq!(tasks[1].id, second.id());
        assert_eq!(tasks[1].name.as_deref(), Some("the second"));
        // The first was polled beside main; the second was spawned after that.
        assert_eq!((tasks[0].polls, tasks[1].polls), (1, 0));
        assert_eq!(tasks[0].state, TaskState::Waiting);
        assert_eq!(tasks[1].state, TaskState::Ready);
        assert_eq!(tasks[1].waits_for, []);
        let text = tasks[0].to_string();
        assert!(text.starts_with("task `task-1` (spawned at "), "{text}");
        assert!(
            text.ends_with("): waiting for nothing: its waker was dropped, 1 polls"),
            "{text}"
        );
        drop(first);
        assert_eq!(runtime.tasks().len(), 1);
        runtime.block_on(second);
        assert_eq!(runtime.tasks(), []);
    });
}

#[test]
fn the_task_that_calls_dump_is_running() {
    // The place of the `block_on` is in the dump.
    watchdog(|| {
        block_on(async {
            let task = Builder::new().name("asks").spawn(async {
                yield_now().await;
                dump()
            });
            let dump = task.await;
            let main = dump.main.expect("a `block_on` is under way");
            assert_eq!(dump.tasks.len(), 1);
            assert_eq!(dump.tasks[0].state, TaskState::Running);
            assert_eq!(dump.tasks[0].polls, 2);
            assert_eq!(main.state, TaskState::Waiting);
            assert_eq!(main.waits_for[0].to_string(), "task `asks`");
            assert_eq!(main.waits_for.len(), 1);
            assert!(main.spawned_at.file().ends_with("inspect.rs"));
            // Now main calls it.
            let dump = inspect::dump();
            let main = dump.main.expect("a `block_on` is under way");
            assert_eq!((main.state, main.polls), (TaskState::Running, 2));
            assert_eq!(dump.tasks, []);
        })
    });
}

#[test]
fn dump_has_no_main_without_a_block_on() {
    runtime_test(|runtime| {
        runtime.block_on(async {});
        let task = runtime.spawn(async { dump() });
        runtime.run();
        let dump = runtime.block_on(task);
        assert_eq!((dump.main, dump.tasks.len()), (None, 1));
    });
}

#[test]
fn a_future_is_not_listed_while_it_is_dropped() {
    watchdog(|| {
        let seen = leak(RefCell::new(Vec::new()));
        block_on(async {
            let guard = |what| OnDrop(move || seen.borrow_mut().push((what, dump().tasks.len())));
            let done = guard("done");
            spawn(async move { drop(done) }).await;
            let other = spawn(pending::<()>());
            // It owns the guard to its end.
            let inside = guard("after its poll");
            let mut inside = Some(inside);
            spawn(poll_fn(move |_| {
                _ = &mut inside;
                Poll::Ready(())
            }))
            .await;
            drop(other);
        });
        let seen = seen.borrow().clone();
        assert_eq!(seen, [("done", 1), ("after its poll", 1)]);
    });
}

#[test]
fn a_wait_for_a_socket_names_its_peer() {
    async_test(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let accepting = spawn(async move { listener.accept().await.unwrap() });
        yield_now().await;
        let wait = wait_of_one();
        assert!(wait.starts_with("to read fd "), "{wait}");
        assert!(wait.ends_with(&format!(" (at {at})")), "{wait}");

        let mut client = TcpStream::connect(at).await.unwrap();
        let (mut server, from) = accepting.await;
        let reading = spawn(async move {
            client.read(&mut [0; 8]).await.unwrap();
            client
        });
        yield_now().await;
        match &dump().tasks[0].waits_for[..] {
            [
                WaitsFor::Read {
                    peer, local, fd, ..
                },
            ] => {
                assert_eq!((*peer, *local), (Some(at), Some(from)));
                assert!(*fd > 0);
            }
            other => panic!("{other:?}"),
        }
        assert!(wait_of_one().ends_with(&format!(" ({at})")));
        server.write_all(b"x").await.unwrap();
        let mut client = reading.await;

        // Until the buffers are full.
        let writing = spawn(async move {
            loop {
                client.write_all(&[0; 1 << 16]).await.unwrap();
            }
        });
        let is_full = || {
            let tasks = dump().tasks;
            let [info] = &tasks[..] else { panic!() };
            matches!(info.waits_for[..], [WaitsFor::Write { .. }])
        };
        while !is_full() {
            sleep(MS).await;
        }
        assert!(wait_of_one().starts_with("to write fd "));
        drop(writing);
        drop(server);
    });
}

#[test]
fn a_wait_for_a_timer_has_the_time_left() {
    async_test(async || {
        let task = spawn(async { sleep(2 * MINUTE).await });
        yield_now().await;
        let tasks = dump().tasks;
        let [
            WaitsFor::Timer {
                left: Some(left), ..
            },
        ] = tasks[0].waits_for[..]
        else {
            panic!("{tasks:?}");
        };
        assert!(left <= 2 * MINUTE && left > MINUTE);
        assert!(
            wait_of_one().starts_with("a timer, in 1"),
            "{}",
            wait_of_one()
        );
        drop(task);
        let never = spawn(async { sleep(Duration::MAX).await });
        yield_now().await;
        assert_eq!(wait_of_one(), "a timer that never fires");
        drop(never);
    });
}

#[test]
fn waits_for_tasks_promises_groups_and_other_wakers() {
    async_test(async || {
        let (promise, promised) = promise::<()>();
        let outside = Seen::new();
        let first = Builder::new().name("first").spawn(async move {
            _ = promised.await;
        });
        let second = spawn(first.join());
        let third = spawn(second);
        let fourth = spawn(outside.probe());
        let fifth = spawn(async {
            let mut group = TaskGroup::<(), ()>::new();
            group.spawn(pending());
            group.next().await;
        });
        yield_now().await;
        yield_now().await;
        let expected = [
            "a promise",
            "task `first`",
            "task `task-2`",
            "something outside",
            "a task of its group",
            "nothing: its waker was dropped",
        ];
        assert_eq!(waits(), expected.map(|wait| vec![wait.to_string()]));
        promise.set(()).unwrap();
        assert!(third.await.is_ok());
        drop((fourth, fifth, outside));

        let other = Handle::current().spawn(pending::<()>);
        let waits_for_it = spawn(async { _ = other.await });
        yield_now().await;
        yield_now().await;
        assert_eq!(waits()[0], ["a remote task"]);
        drop(waits_for_it);
    });
}

#[test]
#[cfg(feature = "blocking")]
fn a_job_of_the_pool() {
    async_test(async || {
        let (go, wait) = mpsc::channel::<()>();
        let job = spawn(soloist::unblock(move || wait.recv()));
        yield_now().await;
        assert_eq!(wait_of_one(), "a job of `unblock`");
        go.send(()).unwrap();
        job.await.unwrap();
    });
}

#[test]
fn several_waits_of_one_task_are_all_listed() {
    async_test(async || {
        let (ours, theirs) = tcp_pair();
        let mut ours = TcpStream::try_from(ours).unwrap();
        let other = Builder::new().name("other").spawn(pending::<()>());
        let task = spawn(async move {
            let read = async { _ = ours.read(&mut [0; 8]).await };
            zip(or(read, sleep(MINUTE)), other).await;
        });
        // The same with other wakers.
        let (ours, theirs_too) = tcp_pair();
        let mut ours = TcpStream::try_from(ours).unwrap();
        let other = Builder::new().name("other").spawn(pending::<()>());
        let with_wakers = spawn(async move {
            let read = with_own_waker(async { _ = ours.read(&mut [0; 8]).await });
            let timer = with_own_waker(sleep(MINUTE));
            zip(or(read, timer), with_own_waker(other)).await;
        });
        yield_now().await;
        let all = waits();
        for waits in [&all[1], &all[3]] {
            assert_eq!(waits.len(), 3, "{waits:?}");
            assert!(waits[0].starts_with("to read fd "));
            assert!(waits[1].starts_with("a timer, in "));
            assert_eq!(waits[2], "task `other`");
        }
        drop((task, with_wakers, theirs, theirs_too));
    });
}

/// Polls a future with another waker, as `FuturesUnordered` does.
fn with_own_waker<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    poll_fn(move |cx| {
        let outer = cx.waker().clone();
        let inner = waker_fn(move || outer.wake_by_ref());
        future.as_mut().poll(&mut Context::from_waker(&inner))
    })
}

#[test]
fn a_wait_that_is_over_is_not_listed() {
    async_test(async || {
        let task = spawn(async {
            let mut first = Box::pin(sleep(MINUTE));
            assert!(poll_once(&mut first).await.is_pending());
            drop(first);
            let (_promise, promised) = promise::<()>();
            let mut promised = Box::pin(promised);
            assert!(poll_once(&mut promised).await.is_pending());
            yield_now().await;
            sleep(Duration::MAX).await;
        });
        yield_now().await;
        yield_now().await;
        // The timer was removed, and the promise was awaited in an earlier poll.
        assert_eq!(wait_of_one(), "a timer that never fires");
        drop(task);
    });
}

#[test]
fn two_runtimes_of_a_thread_list_their_own_waits() {
    watchdog(|| {
        let (first, second) = (Runtime::new(), Runtime::new());
        let (ours, _theirs) = tcp_pair();
        let reader = first.spawn(async move {
            let mut ours = TcpStream::try_from(ours).unwrap();
            _ = ours.read(&mut [0; 8]).await;
        });
        let stuck = second.spawn(pending::<()>());
        for runtime in [&first, &second] {
            turn(runtime);
        }
        assert!(matches!(
            first.tasks()[0].waits_for[..],
            [WaitsFor::Read { .. }]
        ));
        assert_eq!(second.tasks()[0].waits_for, [WaitsFor::Nothing]);
        drop((reader, stuck));
    });
}

#[test]
fn a_dump_is_displayed_as_a_table() {
    // The place of the `block_on` is in the dump.
    watchdog(|| {
        block_on(async {
            let long = Builder::new()
                .name("a longer name")
                .spawn(sleep(Duration::MAX));
            let short = spawn(long.join());
            sleep(MS).await;
            let table = dump().to_string();
            let lines: Vec<_> = table.lines().collect();
            let columns = |line: &str| line.split("  ").filter(|cell| !cell.is_empty()).count();
            assert_eq!(lines.len(), 4, "{table}");
            assert_eq!(lines[0].trim_end(), lines[0]);
            assert_eq!(columns(lines[0]), 5, "{table}");
            // Aligned with the titles.
            let places: Vec<_> = ["state", "waits for", "spawned at"]
                .map(|title| lines[0].find(title).unwrap())
                .into();
            assert_eq!(lines[2].find("waiting"), Some(places[0]), "{table}");
            assert_eq!(
                lines[2].find("a timer that never"),
                Some(places[1]),
                "{table}"
            );
            assert_eq!(
                lines[3].find("task `a longer name`"),
                Some(places[1]),
                "{table}"
            );
            assert!(lines[1][places[2]..].contains("inspect.rs:"), "{table}");
            drop(short);
        })
    });
}

#[test]
fn listing_the_tasks_changes_nothing() {
    runtime_test(|runtime| {
        let probe = Seen::new();
        let task = runtime.spawn(probe.probe());
        let joins = runtime.spawn(task);
        turn(&runtime);
        for _ in 0..3 {
            assert_eq!(runtime.tasks()[0].waits_for, [WaitsFor::Outside]);
        }
        assert_eq!(probe.polls.get(), 1);
        probe.finish();
        runtime.block_on(joins);
        assert_eq!(probe.polls.get(), 2);
    });
}

#[test]
fn dump_panics_outside_a_runtime() {
    assert!(panic_of(dump).contains("`inspect::dump` outside of a soloist runtime"));
    assert!(panic_of(inspect::metrics).contains("`inspect::metrics` outside"));
}

#[cfg(all(unix, feature = "signal"))]
mod on_signal {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpStream;
    use std::process::Stdio;

    use rustix::process::{Pid, Signal, kill_process};
    use soloist::inspect::dump_on_signal;
    use soloist::signal::unix::SignalKind;

    use super::{Builder, MINUTE, Poll, Runtime, block_on, pending, poll_fn, sleep};
    use crate::programs::{KillOnDrop, example};
    use crate::support::*;

    const USR1: SignalKind = SignalKind::user_defined1();

    /// The signal handler has run when this returns.
    fn raise() {
        signal_hook::low_level::raise(signal_hook::consts::SIGUSR1).unwrap();
    }

    #[test]
    fn a_signal_prints_the_table() {
        let said = in_own_process(|| {
            block_on(async {
                for _ in 0..2 {
                    dump_on_signal(USR1).unwrap();
                }
                let task = Builder::new().name("a sleeper").spawn(sleep(MINUTE));
                for _ in 0..2 {
                    raise();
                    sleep(20 * MS).await;
                }
                drop(task);
            });
            // It belongs to the thread: later runtimes have it, too, even without a `block_on`.
            let runtime = Runtime::new();
            let task = Builder::new().name("the next");
            runtime.block_on(poll_fn(|_| Poll::Ready(())));
            spawn_detached(&runtime, async {
                raise();
                task.spawn(sleep(20 * MS)).await;
            });
            // The listener does not keep the runtime running.
            runtime.run();
        });
        let heads = said
            .lines()
            .filter(|line| line.starts_with("soloist: SIGUSR1: "));
        assert_eq!(heads.count(), 3, "{said}");
        assert_eq!(said.matches("\n1 a sleeper").count(), 2, "{said}");
        assert_eq!(said.matches("\nmain ").count(), 2, "{said}");
        assert_eq!(said.matches("\n2 the next").count(), 1, "{said}");
        // Main waits for the timer, not for the signal.
        assert!(!said.contains("to read fd"), "{said}");
    }

    #[test]
    fn dump_on_signal_is_not_something_a_runtime_waits_for() {
        in_own_process(|| {
            let text = panic_of(|| {
                block_on(async {
                    dump_on_signal(USR1).unwrap();
                    pending::<()>().await;
                })
            });
            assert!(
                text.starts_with("the runtime is stuck for certain"),
                "{text}"
            );
        });
    }

    #[test]
    fn a_signal_that_cannot_be_handled_is_an_error() {
        watchdog(|| {
            let error = dump_on_signal(USR1).unwrap_err().to_string();
            assert!(error.starts_with("`dump_on_signal` outside of"), "{error}");
            block_on(async {
                let error = dump_on_signal(SignalKind::from_raw(9)).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            });
        });
    }

    #[test]
    fn the_example_inspect_lists_its_clients() {
        let mut command = example("inspect");
        command.arg("127.0.0.1:0").stderr(Stdio::piped());
        let mut server = KillOnDrop(command.spawn().unwrap());
        let mut out = BufReader::new(server.0.stdout.take().unwrap()).lines();
        let mut err = BufReader::new(server.0.stderr.take().unwrap()).lines();
        let first = out.next().unwrap().unwrap();
        let address = first.strip_prefix("listening on ").unwrap();
        let address = address.split(';').next().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
        (&client).write_all(b"hello\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "HELLO");

        kill_process(Pid::from_child(&server.0), Signal::USR1).unwrap();
        let mut next = || err.next().unwrap().unwrap();
        let head = next();
        assert!(head.ends_with(": 2 tasks on the thread main"), "{head}");
        let table: String = (0..4).map(|_| next() + "\n").collect();
        let has = |line: &str, text: &str| {
            table
                .lines()
                .any(|l| l.starts_with(line) && l.contains(text))
        };
        assert!(has("main ", &format!("(at {address})")), "{table}");
        assert!(has("1 report ", "a timer, in "), "{table}");
        let peer = client.local_addr().unwrap();
        assert!(
            has(&format!("2 client {peer}"), &format!("({peer})")),
            "{table}"
        );

        (&client).write_all(b"slow\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "SLOW");
        // With the feature `log` the warning goes to a logger, which is not installed.
        if !cfg!(feature = "log") {
            let warning = next();
            let what = format!("slow poll: task `client {peer}`");
            assert!(warning.contains(&what), "{warning}");
        }
    }
}
