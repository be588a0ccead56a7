//! The verbs of an event loop, under the names they have here: a turn is `run_once`, `spawn` is
//! `call_soon`, `spawn` and `sleep` are `call_later`, `Handle::spawn` is `call_soon_threadsafe`,
//! `Async` is what a selector registers.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use soloist::io::Async;
use soloist::runtime::{RemoteTask, Turn};
use soloist::task::{Builder, yield_now};
use soloist::time::{sleep, sleep_until};
use soloist::{Handle, Runtime, block_on, spawn};

use crate::echo::example;
use crate::support::{poll_once, tcp_pair, watchdog};

const LONG: Duration = Duration::from_secs(3600);

/// What happened, in order.
struct Trace<T>(Rc<RefCell<Vec<T>>>);

impl<T> Trace<T> {
    fn new() -> Trace<T> {
        Trace(Rc::default())
    }

    fn push(&self, what: T) {
        self.0.borrow_mut().push(what);
    }

    fn take(&self) -> Vec<T> {
        self.0.take()
    }
}

impl<T> Clone for Trace<T> {
    fn clone(&self) -> Trace<T> {
        Trace(self.0.clone())
    }
}

/// Makes a turn that does not wait.
#[track_caller]
fn turn(runtime: &Runtime) -> Turn {
    runtime.turn(Some(Duration::ZERO)).unwrap()
}

// run_once

#[test]
fn a_turn_polls_each_that_is_ready_once() {
    watchdog(|| {
        let runtime = Runtime::new();
        let trace = Trace::new();
        for name in ["a", "b", "c"] {
            let trace = trace.clone();
            let task = runtime.spawn(async move {
                trace.push((name, 1));
                yield_now().await;
                trace.push((name, 2));
                if name == "b" {
                    spawn(async move { trace.push(("a child of b", 1)) }).detach();
                }
            });
            task.detach();
        }
        let expected = [
            (3, 3, vec![("a", 1), ("b", 1), ("c", 1)]),
            (3, 1, vec![("a", 2), ("b", 2), ("c", 2)]),
            (1, 0, vec![("a child of b", 1)]),
            (0, 0, vec![]),
        ];
        for (polled, ready, happened) in expected {
            let turn = turn(&runtime);
            assert_eq!((turn.polled, turn.ready), (polled, ready));
            assert_eq!(trace.take(), happened);
        }
    });
}

#[test]
fn a_turn_waits_until_something_happens_and_no_longer() {
    watchdog(|| {
        let runtime = Runtime::new();
        let start = Instant::now();
        let deadline = start + Duration::from_millis(30);
        let task = runtime.spawn(async move { sleep_until(deadline).await });
        let first = turn(&runtime);
        assert_eq!((first.polled, first.next_deadline), (1, Some(deadline)));
        assert_eq!(runtime.next_deadline(), Some(deadline));
        // Also with an end that is far off.
        let turn = runtime.turn(Some(LONG)).unwrap();
        assert!(Instant::now() >= deadline);
        assert_eq!((turn.polled, turn.ready, turn.next_deadline), (1, 0, None));
        assert!(task.is_finished());
    });
}

#[test]
fn a_turn_in_which_nothing_happens_ends_in_time() {
    watchdog(|| {
        let runtime = Runtime::new();
        let task = runtime.spawn(async { sleep(LONG).await });
        assert_eq!(turn(&runtime).polled, 1);
        let start = Instant::now();
        let turn = runtime.turn(Some(Duration::from_millis(20))).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!((turn.polled, turn.ready), (0, 0));
        assert!(turn.next_deadline.is_some_and(|deadline| deadline > start));
        assert!(!task.is_finished());
    });
}

#[test]
fn another_thread_ends_the_wait_of_a_turn() {
    watchdog(|| {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            handle.spawn(|| async { 5 }).wait()
        });
        assert_eq!(runtime.turn(None).unwrap().polled, 1);
        assert_eq!(thread.join().unwrap().unwrap(), 5);
    });
}

// run_until_all_done

#[test]
fn run_returns_when_every_task_is_done() {
    watchdog(|| {
        let runtime = Runtime::new();
        let trace = Trace::new();
        for n in 0..3_u64 {
            let trace = trace.clone();
            let task = runtime.spawn(async move {
                sleep(Duration::from_millis(20 * (3 - n))).await;
                trace.push(format!("task {n}"));
                // Whoever comes meanwhile counts, too.
                let child = spawn(async move {
                    yield_now().await;
                    sleep(Duration::from_millis(50)).await;
                    trace.push(format!("child of {n}"));
                });
                child.detach();
            });
            task.detach();
        }
        // It is cancelled, so nobody waits for it.
        drop(runtime.spawn(async { sleep(LONG).await }));
        runtime.run();
        let happened = trace.take();
        let mut sorted = happened.clone();
        sorted.sort();
        let all = [
            "child of 0",
            "child of 1",
            "child of 2",
            "task 0",
            "task 1",
            "task 2",
        ];
        assert_eq!(sorted, all);
        assert_eq!(happened.last().unwrap(), "child of 0");
        // With nothing to do it returns at once.
        runtime.run();
        assert_eq!(trace.take(), [""; 0]);
    });
}

#[test]
fn run_waits_for_tasks_whose_handles_are_held() {
    watchdog(|| {
        let runtime = Runtime::new();
        let task = runtime.spawn(async {
            sleep(Duration::from_millis(5)).await;
            "held"
        });
        runtime.run();
        assert!(task.is_finished());
        assert_eq!(runtime.block_on(task), "held");
    });
}

#[test]
fn a_task_that_ends_the_others_ends_run() {
    watchdog(|| {
        let runtime = Runtime::new();
        let endless: Vec<_> = (0..3)
            .map(|_| runtime.spawn(async { sleep(LONG).await }))
            .collect();
        let task = runtime.spawn(async move {
            yield_now().await;
            drop(endless);
        });
        runtime.run();
        assert!(task.is_finished());
    });
}

// run_forever, stop

#[test]
fn run_forever_goes_on_without_tasks_until_it_is_stopped() {
    watchdog(|| {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            // Each finds the loop without a task.
            for n in 0..3 {
                thread::sleep(Duration::from_millis(10));
                let tell = tell.clone();
                let task = handle.spawn(move || async move { tell.send(n).unwrap() });
                task.wait().unwrap();
            }
            handle.stop();
        });
        runtime.run_forever();
        assert_eq!(told.iter().collect::<Vec<_>>(), [0, 1, 2]);
        thread.join().unwrap();
    });
}

#[test]
fn stop_lets_the_others_that_are_ready_have_their_turn() {
    watchdog(|| {
        let runtime = Runtime::new();
        let trace = Trace::new();
        for n in 0..4 {
            let trace = trace.clone();
            let task = runtime.spawn(async move {
                trace.push((n, 1));
                if n == 1 {
                    Handle::current().stop();
                }
                yield_now().await;
                trace.push((n, 2));
            });
            task.detach();
        }
        runtime.run_forever();
        assert_eq!(trace.take(), [(0, 1), (1, 1), (2, 1), (3, 1)]);
        // What is left is there for the next call.
        runtime.run();
        assert_eq!(trace.take(), [(0, 2), (1, 2), (2, 2), (3, 2)]);
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
                thread::sleep(Duration::from_millis(3));
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
            thread::sleep(Duration::from_millis(3));
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
                thread::sleep(Duration::from_millis(3));
            });
            task.detach();
        }
        runtime.run_forever();
        let told: Vec<i32> = told.try_iter().collect();
        assert_eq!(told, [0, 1, 2, 10, 11, 12]);
    });
}

#[test]
fn a_stop_is_remembered_until_a_run_sees_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        let ran = Rc::new(Cell::new(0));
        let counted = ran.clone();
        let task = runtime.spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        // Two count as one.
        runtime.handle().stop();
        runtime.handle().stop();
        // `block_on` neither ends by it nor sees it.
        runtime.block_on(async {
            for _ in 0..10 {
                yield_now().await;
            }
        });
        let before = ran.get();
        assert!(before >= 10);
        // What is ready has its turn once.
        runtime.run_forever();
        assert_eq!(ran.get(), before + 1);
        drop(task);

        // Now it is forgotten: this one ends by another.
        let task = runtime.spawn(async {
            sleep(Duration::from_millis(10)).await;
            Handle::current().stop();
        });
        runtime.run_forever();
        assert!(task.is_finished());
    });
}

#[test]
fn a_run_without_tasks_sees_the_stop_too() {
    watchdog(|| {
        let runtime = Runtime::new();
        runtime.handle().stop();
        runtime.run();
        // Now it is forgotten.
        let task = runtime.spawn(async {
            yield_now().await;
            yield_now().await;
        });
        runtime.run();
        assert!(task.is_finished());
    });
}

#[test]
fn run_is_stopped_with_tasks_left_and_goes_on_with_them() {
    watchdog(|| {
        let runtime = Runtime::new();
        let stopper = runtime.handle();
        let task = runtime.spawn(async move {
            stopper.stop();
            sleep(Duration::from_millis(10)).await;
            "done"
        });
        runtime.run();
        assert!(!task.is_finished());
        runtime.run();
        assert!(task.is_finished());
    });
}

// call_soon_threadsafe

#[test]
fn handle_spawn_runs_on_the_loops_thread_first_in_first_out() {
    const CALLS: usize = 200;
    watchdog(|| {
        let here = thread::current().id();
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            for n in 0..CALLS {
                // Some find the loop running, some parked.
                if n % 50 == 0 {
                    thread::sleep(Duration::from_millis(5));
                }
                let tell = tell.clone();
                let task = handle.spawn(move || {
                    // What need not be `Send` is made here.
                    let local = Rc::new(n);
                    async move {
                        tell.send((*local, thread::current().id())).unwrap();
                    }
                });
                task.detach();
            }
            handle.stop();
        });
        runtime.run_forever();
        thread.join().unwrap();
        let expected: Vec<_> = (0..CALLS).map(|n| (n, here)).collect();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
    });
}

#[test]
fn handle_spawn_on_the_loops_own_thread_waits_for_its_turn() {
    watchdog(|| {
        block_on(async {
            let (tell, told) = mpsc::channel();
            let task = Handle::current().spawn(move || {
                tell.send("made").unwrap();
                async move { tell.send("polled").unwrap() }
            });
            assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
            task.await.unwrap();
            assert_eq!(told.iter().collect::<Vec<_>>(), ["made", "polled"]);
        });
    });
}

// call_soon

#[test]
fn spawn_is_first_in_first_out() {
    watchdog(|| {
        let runtime = Runtime::new();
        let trace = Trace::new();
        for n in 0..500 {
            let trace = trace.clone();
            runtime.spawn(async move { trace.push(n) }).detach();
        }
        assert_eq!(trace.take(), [0; 0], "nothing is polled inside of `spawn`");
        runtime.run();
        assert_eq!(trace.take(), (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn what_a_task_spawns_goes_to_the_end_of_the_queue() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::new();
            let tasks: Vec<_> = (0..3)
                .map(|n| {
                    let trace = trace.clone();
                    spawn(async move {
                        let children = ["a", "b"].map(|name| {
                            let trace = trace.clone();
                            spawn(async move { trace.push(format!("{n}{name}")) })
                        });
                        trace.push(n.to_string());
                        for child in children {
                            child.await;
                        }
                        trace.push(format!("{n} ends"));
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            let expected = [
                "0", "1", "2", "0a", "0b", "1a", "1b", "2a", "2b", "0 ends", "1 ends", "2 ends",
            ];
            assert_eq!(trace.take(), expected);
        });
    });
}

#[test]
fn who_is_woken_first_runs_first() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::new();
            let (promises, tasks): (Vec<_>, Vec<_>) = (0..5)
                .map(|n| {
                    let (promise, promised) = soloist::promise::promise::<()>();
                    let trace = trace.clone();
                    let task = spawn(async move {
                        promised.await.unwrap();
                        trace.push(n);
                    });
                    (promise, task)
                })
                .unzip();
            yield_now().await;
            let mut promises: Vec<_> = promises.into_iter().map(Some).collect();
            for n in [3, 0, 4, 1, 2] {
                promises[n].take().unwrap().set(()).unwrap();
            }
            for task in tasks {
                task.await;
            }
            assert_eq!(trace.take(), [3, 0, 4, 1, 2]);
        });
    });
}

// call_later

/// Calls `f` when the deadline has come. Dropping the task is cancelling the call.
fn call_at(deadline: Instant, f: impl FnOnce() + 'static) -> soloist::Task<()> {
    spawn(async move {
        sleep_until(deadline).await;
        f();
    })
}

/// Sets timers that are so many milliseconds apart from each other. Returns the order in which
/// they fire.
async fn firing_order(millis: &[u64]) -> Vec<usize> {
    for attempt in 1.. {
        let trace = Trace::new();
        let base = soloist::time::now() + Duration::from_millis(20 * attempt);
        let call = |(n, millis): (usize, &u64)| {
            let deadline = base + Duration::from_millis(*millis);
            let trace = trace.clone();
            call_at(deadline, move || {
                assert!(Instant::now() >= deadline, "early");
                trace.push(n);
            })
        };
        let calls: Vec<_> = millis.iter().enumerate().map(call).collect();
        yield_now().await;
        // If the machine was busy, some may have been due before the others were set.
        if Instant::now() < base {
            for call in calls {
                call.await;
            }
            return trace.take();
        }
    }
    unreachable!()
}

#[test]
fn timers_fire_by_deadline_whatever_the_order_of_the_calls() {
    watchdog(|| {
        let millis = [60, 10, 40, 0, 50, 20, 30];
        assert_eq!(block_on(firing_order(&millis)), [3, 1, 5, 6, 2, 4, 0]);
    });
}

#[test]
fn timers_of_one_deadline_fire_in_the_order_of_the_calls() {
    watchdog(|| {
        // Two deadlines, so that it is not only the order in which the tasks run.
        let millis: Vec<_> = (0..100).map(|n| if n % 3 == 0 { 5 } else { 0 }).collect();
        let (late, early): (Vec<_>, Vec<_>) = (0..100).partition(|n| n % 3 == 0);
        assert_eq!(block_on(firing_order(&millis)), [early, late].concat());
    });
}

#[test]
fn a_call_that_is_cancelled_leaves_no_timer() {
    watchdog(|| {
        let runtime = Runtime::new();
        runtime.block_on(async {
            let start = soloist::time::now();
            let calls = [2, 1, 3].map(|n| call_at(start + n * LONG, || panic!("a call")));
            yield_now().await;
            let [second, first, third] = calls;
            assert_eq!(runtime.next_deadline(), Some(start + LONG));
            drop(first);
            assert_eq!(runtime.next_deadline(), Some(start + 2 * LONG));
            drop(third);
            assert_eq!(runtime.next_deadline(), Some(start + 2 * LONG));
            drop(second);
            assert_eq!(runtime.next_deadline(), None);
        });
    });
}

// ids and names

#[test]
fn ids_are_counted_from_1_in_each_runtime() {
    watchdog(|| {
        for _ in 0..2 {
            let runtime = Runtime::new();
            let mut ids = vec![runtime.spawn(async {}).id()];
            ids.push(runtime.block_on(async { spawn(async {}).id() }));
            // A name makes no difference.
            let named = async { Builder::new().name("named").spawn(async {}).id() };
            ids.push(runtime.block_on(named));
            let remote: RemoteTask<()> = runtime.handle().spawn(|| async { panic!("no") });
            let error = runtime.block_on(remote).unwrap_err();
            ids.push(error.id().unwrap());
            ids.push(runtime.spawn(async {}).id());
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            assert_eq!(ids, ["1", "2", "3", "4", "5"]);
        }
    });
}

#[test]
fn a_task_is_called_by_its_number_unless_it_has_a_name() {
    watchdog(|| {
        block_on(async {
            let unnamed = spawn(async { panic!("no") });
            let named = Builder::new().name("fetch /").spawn(async { panic!("no") });
            let third = spawn(async { panic!("no") });
            let names = [unnamed, named, third].map(|task: soloist::Task<()>| async {
                let id = task.id();
                let error = task.join().await.unwrap_err();
                assert_eq!(error.id(), Some(id));
                error.to_string()
            });
            let mut texts = Vec::new();
            for name in names {
                texts.push(name.await);
            }
            assert!(
                texts[0].starts_with("task `task-1` (spawned at "),
                "{}",
                texts[0]
            );
            assert!(
                texts[1].starts_with("task `fetch /` (spawned at "),
                "{}",
                texts[1]
            );
            assert!(
                texts[2].starts_with("task `task-3` (spawned at "),
                "{}",
                texts[2]
            );
        });
    });
}

// register, modify, unregister

#[test]
fn a_source_waits_for_one_direction_then_the_other_then_both() {
    watchdog(|| {
        block_on(async {
            let (here, mut there) = tcp_pair();
            let here = Async::new(here).unwrap();
            let trace = Trace::new();

            // For reading, while it is writable all the time.
            let mut readable = Box::pin(here.readable());
            assert!(poll_once(&mut readable).await.is_pending());
            here.writable().await.unwrap();
            sleep(Duration::from_millis(5)).await;
            assert!(poll_once(&mut readable).await.is_pending());
            there.write_all(b"one").unwrap();
            readable.await.unwrap();
            assert_eq!(here.get_ref().read(&mut [0; 8]).unwrap(), 3);

            // For writing, while it is readable all the time.
            there.write_all(b"two").unwrap();
            let written = fill(&here);
            let mut writable = Box::pin(here.writable());
            assert!(poll_once(&mut writable).await.is_pending());
            here.readable().await.unwrap();
            sleep(Duration::from_millis(5)).await;
            assert!(poll_once(&mut writable).await.is_pending());
            drain(&mut there, written);
            writable.await.unwrap();
            assert_eq!(here.get_ref().read(&mut [0; 8]).unwrap(), 3);

            // For both at once.
            let written = fill(&here);
            let here = Rc::new(here);
            let (reader, writer) = (here.clone(), here.clone());
            let (read, wrote) = (trace.clone(), trace.clone());
            let reader = spawn(async move {
                reader.readable().await.unwrap();
                read.push("readable");
            });
            let writer = spawn(async move {
                writer.writable().await.unwrap();
                wrote.push("writable");
            });
            sleep(Duration::from_millis(5)).await;
            assert_eq!(trace.take(), [""; 0]);
            there.write_all(b"three").unwrap();
            reader.await;
            assert_eq!(trace.take(), ["readable"]);
            drain(&mut there, written);
            writer.await;
            assert_eq!(trace.take(), ["writable"]);
        });
    });
}

/// Writes until there is no room left. Returns how much that was.
fn fill(stream: &Async<std::net::TcpStream>) -> usize {
    let mut written = 0;
    let mut refusals = 0;
    // The other end's buffer takes more for a while.
    while refusals < 5 {
        match stream.get_ref().write(&[0; 65536]) {
            Ok(n) => {
                written += n;
                refusals = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                refusals += 1;
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
    written
}

fn drain(from: &mut std::net::TcpStream, bytes: usize) {
    let drained = io::copy(&mut from.take(bytes as u64), &mut io::sink());
    assert_eq!(drained.unwrap(), bytes as u64);
}

#[test]
fn a_source_that_is_unregistered_is_as_it_was() {
    watchdog(|| {
        block_on(async {
            let (here, mut there) = tcp_pair();
            let mut here = here;
            // Again and again: nothing is left of the last time.
            for _ in 0..3 {
                let source = Async::new(here).unwrap();
                there.write_all(b"x").unwrap();
                source.readable().await.unwrap();
                here = source.into_inner();
                // Still in nonblocking mode, and with its bytes.
                assert_eq!(here.read(&mut [0; 2]).unwrap(), 1);
                let error = here.read(&mut [0; 2]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            }
        });
    });
}

/// What the selector itself knows, as the kernel tells it.
#[cfg(target_os = "linux")]
mod selector {
    use std::os::fd::{AsRawFd, RawFd};

    use crate::support::passes_in_child;

    use super::*;

    const READABLE: u32 = 1;
    const WRITABLE: u32 = 4;

    /// The events for which this process' epolls have registered the fd.
    fn registered(fd: RawFd) -> Option<u32> {
        let mut found = None;
        for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap() {
            // That of the directory is gone by now.
            let Ok(info) = std::fs::read_to_string(entry.unwrap().path()) else {
                continue;
            };
            for line in info.lines() {
                let mut words = line.split_whitespace();
                if words.next() == Some("tfd:") && words.next() == Some(&fd.to_string()) {
                    assert_eq!((found, words.next()), (None, Some("events:")));
                    let events = u32::from_str_radix(words.next().unwrap(), 16).unwrap();
                    found = Some(events & (READABLE | WRITABLE));
                }
            }
        }
        found
    }

    fn test() {
        block_on(async {
            let (here, mut there) = tcp_pair();
            let fd = here.as_raw_fd();
            assert_eq!(registered(fd), None);
            // register
            let here = Async::new(here).unwrap();
            assert!(registered(fd).is_some());
            let mut readable = Box::pin(here.readable());
            assert!(poll_once(&mut readable).await.is_pending());
            assert_eq!(registered(fd), Some(READABLE));
            // modify
            let written = fill(&here);
            let mut writable = Box::pin(here.writable());
            assert!(poll_once(&mut writable).await.is_pending());
            assert_eq!(registered(fd), Some(READABLE | WRITABLE));
            drain(&mut there, written);
            writable.await.unwrap();
            there.write_all(b"x").unwrap();
            readable.await.unwrap();
            // unregister
            let here = here.into_inner();
            assert_eq!(registered(fd), None);
            let here = Async::new(here).unwrap();
            assert!(registered(fd).is_some());
            drop(here);
            assert_eq!(registered(fd), None);
            assert_eq!(there.read(&mut [0]).unwrap_or(0), 0, "it is closed");
        });
    }

    #[test]
    fn a_source_is_registered_modified_and_unregistered() {
        let name = "verbs::selector::a_source_is_registered_modified_and_unregistered";
        passes_in_child(name, || watchdog(test));
    }
}

// all of them

#[test]
fn the_last_lesson_comes_out_the_same_each_time() {
    let run = || {
        let mut child = Command::new(example("event_loop"));
        let child = child.args(["--seed", "7", "--tasks", "10"]);
        child.stdout(Stdio::piped()).spawn().unwrap()
    };
    watchdog(move || {
        let outputs = [run(), run()].map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        });
        let results = outputs.each_ref().map(|text| {
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines.len(), 12, "{text}");
            // In the order of the tasks, whatever the order in which they end.
            let results = lines[10].strip_prefix("results: [").unwrap();
            let results: Vec<&str> = results.trim_end_matches(']').split(", ").collect();
            for (index, number) in results.iter().enumerate() {
                let line = format!("task {} has {number} after ", index + 1);
                let ended = lines[..10].iter().filter(|text| text.starts_with(&line));
                assert_eq!(ended.count(), 1, "{text}");
            }
            assert!(lines[11].starts_with("10 tasks have waited "), "{text}");
            results
        });
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0].len(), 10);
    });
}
