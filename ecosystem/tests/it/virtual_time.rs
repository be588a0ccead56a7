//! A virtual clock together with wakes by other threads and by the reactor of another crate.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::runtime::{Clock, Runtime};
use soloist::task::yield_now;
use soloist::time::{self, sleep, timeout};
use soloist::{Handle, inspect, spawn, testing};

use crate::support::{on_thread, passes_in_child, show_warnings, warnings, watchdog};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Real time that an event outside the runtime takes.
const A_WHILE: Duration = Duration::from_millis(30);

/// A client that waits for the reactor of another crate.
async fn ask_elsewhere(stream: &mut smol::net::TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"pong");
}

/// A server on another thread that answers each request after a while.
fn slow_echo() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.read_exact(&mut [0; 4]).is_ok() {
            thread::sleep(A_WHILE);
            stream.write_all(b"pong").unwrap();
        }
    });
    address
}

#[test]
fn b118_a_wait_in_the_reactor_of_another_crate_holds_the_clock() {
    watchdog(|| {
        testing::block_on(async {
            let mut stream = smol::net::TcpStream::connect(slow_echo()).await.unwrap();
            // No timer is set, so the clock cannot jump. Afterwards the runtime knows that another thread
            // wakes this task.
            while inspect::metrics().wakes_remote == 0 {
                ask_elsewhere(&mut stream).await;
            }
            let start = time::now();
            for _ in 0..3 {
                timeout(HOUR, ask_elsewhere(&mut stream)).await.unwrap();
            }
            let took = time::now() - start;
            assert!(took < HOUR, "{took:?}");
            // In another task, with the timeout around that task.
            let task = spawn(async move {
                for _ in 0..3 {
                    ask_elsewhere(&mut stream).await;
                }
            });
            // The first wait of the task looks like a wait for another task, during which the clock
            // could jump. The handle prevents that.
            while inspect::dump().tasks[0].polls < 2 {
                let handle = Handle::current();
                on_thread(|| thread::sleep(Duration::from_millis(1))).await;
                drop(handle);
            }
            timeout(HOUR, task).await.unwrap();
            let took = time::now() - start;
            assert!(took < HOUR, "{took:?}");
            // Without such a wait the clock jumps, although this task was woken by another thread.
            let start = time::now();
            sleep(DAY).await;
            assert_eq!(time::now() - start, DAY);
        });
    });
}

/// Waits until another thread wakes the task.
async fn woken_by_a_thread() {
    let (go, wait) = mpsc::channel();
    let mut woken = std::pin::pin!(on_thread(move || wait.recv().unwrap()));
    assert!(soloist::future::poll_once(woken.as_mut()).await.is_none());
    go.send(()).unwrap();
    woken.await;
}

#[test]
fn b118_a_wait_for_a_thread_that_has_woken_the_task_before_holds_the_clock() {
    watchdog(|| {
        testing::block_on(async {
            let start = time::now();
            woken_by_a_thread().await;
            for _ in 0..3 {
                let answer = on_thread(|| thread::sleep(A_WHILE));
                assert_eq!(timeout(HOUR, answer).await, Ok(()));
            }
            let took = time::now() - start;
            assert!(took < HOUR, "{took:?}");
            // Waits for its own timer, a task or a promise do not hold the clock.
            let (start, waits) = (time::now(), inspect::metrics().waits);
            sleep(HOUR).await;
            spawn(sleep(HOUR)).await;
            let (promise, promised) = soloist::promise::promise();
            spawn(async move {
                sleep(HOUR).await;
                promise.set(()).unwrap();
            })
            .detach();
            promised.await.unwrap();
            assert_eq!(time::now() - start, 3 * HOUR);
            assert_eq!(inspect::metrics().waits, waits);
        });
    });
}

#[test]
fn b118_a_wait_for_a_message_of_another_task_does_not_hold_the_clock() {
    watchdog(|| {
        testing::block_on(async {
            let (send, receive) = async_channel::unbounded();
            let task = spawn(async move {
                let mut messages = 0;
                while receive.recv().await.is_ok() {
                    messages += 1;
                }
                messages
            });
            for _ in 0..10 {
                // Also while the thread pool is in use.
                soloist::unblock(|| ()).await;
                send.send(()).await.unwrap();
                yield_now().await;
            }
            let (start, waits) = (time::now(), inspect::metrics().waits);
            for _ in 0..10 {
                send.send(()).await.unwrap();
                sleep(DAY).await;
            }
            assert_eq!(time::now() - start, 10 * DAY);
            assert_eq!(
                inspect::metrics().waits,
                waits,
                "the runtime waited in real time"
            );
            drop(send);
            assert_eq!(task.await, 20);
        });
    });
}

#[test]
fn b118_a_wake_by_its_own_thread_between_two_runs_does_not_hold_the_clock() {
    watchdog(|| {
        let runtime = Runtime::builder().clock(Clock::Virtual).build();
        let (send, receive) = async_channel::unbounded();
        let task = runtime.spawn(async move { while receive.recv().await.is_ok() {} });
        runtime.block_on(yield_now());
        for _ in 0..3 {
            // The runtime is not running, so this is handled like a wake by another thread.
            send.try_send(()).unwrap();
            let waits = runtime.metrics().waits;
            runtime.block_on(async { sleep(DAY).await });
            assert_eq!(
                runtime.metrics().waits,
                waits,
                "the runtime waited in real time"
            );
        }
        drop(send);
        runtime.block_on(task);
    });
}

#[test]
fn b118_the_clock_is_held_for_a_limited_time_and_with_one_warning() {
    let name = "virtual_time::b118_the_clock_is_held_for_a_limited_time_and_with_one_warning";
    let stderr = watchdog(move || {
        passes_in_child(name, || {
            show_warnings();
            testing::block_on(async {
                let (send, receive) = async_channel::unbounded::<()>();
                let task = soloist::task::Builder::new()
                    .name("forever")
                    .spawn(async move {
                        woken_by_a_thread().await;
                        // From now on the runtime assumes that a thread may wake this wait.
                        let _ = receive.recv().await;
                    });
                let (start, real) = (time::now(), Instant::now());
                while inspect::metrics().wakes_remote == 0 {
                    yield_now().await;
                }
                yield_now().await;
                sleep(DAY).await;
                assert_eq!(time::now() - start, DAY);
                assert!(real.elapsed() >= Duration::from_secs(3));
                // The limit has been reached, and also applies to later waits.
                let waits = inspect::metrics().waits;
                for _ in 0..10 {
                    sleep(DAY).await;
                }
                assert_eq!(inspect::metrics().waits, waits);
                // Another wake holds the clock again, without a second warning.
                woken_by_a_thread().await;
                timeout(HOUR, on_thread(|| thread::sleep(A_WHILE)))
                    .await
                    .unwrap();
                drop(send);
                task.await;
            });
        })
    });
    let warnings = warnings(&stderr);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let warning = &warnings[0];
    assert!(
        warning.starts_with("task `forever` (spawned at "),
        "{warning}"
    );
    assert!(warning.contains("another thread has woken it"), "{warning}");
    assert!(warning.contains("keep a `Handle`"), "{warning}");
}
