//! The virtual clock: when it jumps, when it waits, and what moves it.

use std::io::{Read, Write};

use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpStream, UdpSocket};
use soloist::runtime::{AutoAdvance, Clock, Runtime};
use soloist::stream::StreamExt;
use soloist::testing;
use soloist::time::{
    self, MissedTickBehavior, interval, interval_at, sleep_until, timeout, timeout_at,
};

use crate::support::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Real time that another thread takes.
const A_WHILE: Duration = Duration::from_millis(30);

/// As [`async_test`], under a virtual clock.
#[track_caller]
pub(crate) fn virtual_test<R: Send + 'static>(test: impl AsyncFnOnce() -> R + Send + 'static) -> R {
    watchdog(|| {
        let test: Pin<Box<dyn Future<Output = R>>> = Box::pin(async { test().await });
        testing::block_on(test)
    })
}

fn runtime(auto_advance: AutoAdvance) -> Runtime {
    let builder = Runtime::builder().clock(Clock::Virtual);
    builder.auto_advance(auto_advance).build()
}

fn test_with(auto_advance: AutoAdvance, test: impl AsyncFnOnce() + Send + 'static) {
    watchdog(move || runtime(auto_advance).block_on(test()));
}

#[test]
fn a_day_takes_no_time_and_is_exact() {
    virtual_test(async || {
        let start = time::now();
        sleep(DAY).await;
        assert_eq!(time::now() - start, DAY);
        assert!(timeout(DAY, pending::<()>()).await.is_err());
        assert_eq!(time::now() - start, 2 * DAY);
        assert!(timeout_at(start + 3 * DAY, pending::<()>()).await.is_err());
        assert_eq!(time::now() - start, 3 * DAY);
        assert_eq!(timeout(DAY, sleep(HOUR)).await, Ok(()));
        assert_eq!(time::now() - start, 3 * DAY + HOUR);
        let mut sleep = sleep(DAY);
        sleep.reset(time::now() + HOUR);
        sleep.await;
        assert_eq!(time::now() - start, 3 * DAY + 2 * HOUR);
    });
}

#[test]
fn an_interval_that_is_reset_goes_on_from_there() {
    virtual_test(async || {
        let start = time::now();
        let mut interval = interval(10 * SECOND);
        let mut next = async || interval.tick().await - start;
        assert_eq!([next().await, next().await], [Duration::ZERO, 10 * SECOND]);
        sleep(3 * SECOND).await;
        // From 13 s.
        interval.reset();
        let mut next = async || interval.tick().await - start;
        assert_eq!([next().await, next().await], [23 * SECOND, 33 * SECOND]);
        interval.reset_at(start + 34 * SECOND);
        let mut next = async || interval.tick().await - start;
        assert_eq!([next().await, next().await], [34 * SECOND, 44 * SECOND]);
        // A time that is over: the tick is due at once, and the rest as after a late tick.
        interval.reset_at(start + 44 * SECOND);
        sleep(3 * SECOND).await;
        let mut next = async || interval.tick().await - start;
        assert_eq!([next().await, next().await], [44 * SECOND, 57 * SECOND]);
        assert_eq!(time::now() - start, 57 * SECOND);
    });
}

#[test]
fn a_reset_moves_the_tick_that_a_task_waits_for() {
    virtual_test(async || {
        let start = time::now();
        let mut interval = interval_at(start + DAY, DAY);
        assert_pending(interval.tick()).await;
        interval.reset_at(start + HOUR);
        assert_eq!(interval.tick().await, start + HOUR);
        assert_eq!(time::now(), start + HOUR);
    });
}

#[test]
fn the_clock_stands_still_while_tasks_run() {
    virtual_test(async || {
        let start = time::now();
        let due = leak(Cell::new(false));
        let _task = spawn(async move {
            sleep(Duration::from_nanos(1)).await;
            due.set(true);
        });
        thread::sleep(5 * MS);
        // More polls than there are between two visits.
        for _ in 0..1000 {
            yield_now().await;
        }
        assert_eq!(time::now(), start);
        assert!(!due.get());
        sleep(Duration::from_nanos(1)).await;
        assert!(due.get());
        assert_eq!(time::now() - start, Duration::from_nanos(1));
    });
}

#[test]
fn intervals_tick_at_their_own_instants() {
    virtual_test(async || {
        let start = time::now();
        let mut ticks = interval(HOUR);
        assert_eq!(ticks.period(), HOUR);
        let polls = Cell::new(0);
        assert_eq!(count_polls(&polls, ticks.tick()).await, start);
        assert_eq!(polls.get(), 1, "the first tick is due at once");
        for n in 1..24 {
            assert_eq!(ticks.tick().await, start + n * HOUR);
            assert_eq!(time::now(), start + n * HOUR);
        }
        // As a stream.
        let next: Vec<_> = (&mut ticks).take(2).collect().await;
        assert_eq!(next, [start + 24 * HOUR, start + 25 * HOUR]);
        // A tick whose wait is dropped is not lost.
        assert!(timeout(HOUR / 2, ticks.tick()).await.is_err());
        assert_eq!(ticks.tick().await, start + 26 * HOUR);
        sleep(HOUR / 2).await;
        ticks.reset();
        assert_eq!(ticks.tick().await, start + 27 * HOUR + HOUR / 2);
    });
}

#[test]
fn interval_at_starts_at_its_instant() {
    virtual_test(async || {
        let start = time::now() + HOUR;
        let mut ticks = interval_at(start, DAY);
        assert!(timeout(HOUR / 2, ticks.tick()).await.is_err());
        assert_eq!(ticks.tick().await, start);
        assert_eq!(time::now(), start);
        // In the past: due at once. (An hour, since the clock of a system may start at its boot.)
        assert_eq!(interval_at(start - HOUR, DAY).tick().await, start - HOUR);
        // A reset before the first tick.
        let mut ticks = interval_at(start + DAY, HOUR);
        ticks.reset();
        assert_eq!(ticks.tick().await, start + HOUR);
    });
}

#[test]
fn missed_ticks_follow_the_behavior_that_was_set() {
    /// When the ticks after the first are due, and when they are taken: the second one is late.
    async fn ticks(late: Duration, behavior: Option<MissedTickBehavior>) -> Vec<(u128, u128)> {
        let start = time::now();
        let mut ticks = interval(10 * MS);
        if let Some(behavior) = behavior {
            ticks.set_missed_tick_behavior(behavior);
        }
        ticks.tick().await;
        sleep(10 * MS + late).await;
        let mut taken = Vec::new();
        for _ in 0..5 {
            let due = ticks.tick().await - start;
            taken.push((due.as_millis(), (time::now() - start).as_millis()));
        }
        taken
    }

    virtual_test(async || {
        let burst = [(10, 45), (20, 45), (30, 45), (40, 45), (50, 50)];
        let skip = [(10, 45), (50, 50), (60, 60), (70, 70), (80, 80)];
        let delay = [(10, 45), (55, 55), (65, 65), (75, 75), (85, 85)];
        let late = 35 * MS;
        assert_eq!(ticks(late, Some(MissedTickBehavior::Burst)).await, burst);
        assert_eq!(ticks(late, Some(MissedTickBehavior::Skip)).await, skip);
        assert_eq!(ticks(late, Some(MissedTickBehavior::Delay)).await, delay);
        assert_eq!(ticks(late, None).await, delay);
        // Such a short delay does not change the schedule.
        let tolerated = [(10, 15), (20, 20), (30, 30), (40, 40), (50, 50)];
        assert_eq!(ticks(5 * MS, None).await, tolerated);
    });
}

#[test]
fn a_time_that_has_passed_is_due_at_once() {
    watchdog(|| {
        for auto_advance in [AutoAdvance::WhenNoIo, AutoAdvance::Manual] {
            runtime(auto_advance).block_on(async {
                let start = time::now();
                sleep(Duration::ZERO).await;
                sleep_until(start).await;
                let mut sleep = std::pin::pin!(sleep(DAY));
                assert!(soloist::future::poll_once(sleep.as_mut()).await.is_none());
                sleep.as_mut().reset(start);
                sleep.await;
                // Reset by another task than the one that waits: only the timer wakes that.
                let shared = leak(RefCell::new(Box::pin(time::sleep(DAY))));
                let task = spawn(poll_fn(move |cx| shared.borrow_mut().as_mut().poll(cx)));
                yield_now().await;
                shared.borrow_mut().reset(start);
                task.await;
                assert_eq!(time::now(), start);
            });
        }
    });
}

/// A server that calls `wait` before it answers.
fn slow_server(wait: impl FnOnce() + Send + 'static) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4];
        stream.read_exact(&mut request).unwrap();
        wait();
        // The client may have closed the connection.
        let _ = stream.write_all(b"pong");
    });
    address
}

async fn ask(address: std::net::SocketAddr) -> std::io::Result<[u8; 4]> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[test]
fn a_timeout_does_not_fire_before_an_answer_that_arrives_in_time() {
    watchdog(|| {
        runtime(AutoAdvance::WhenNoIo).block_on(async {
            let start = time::now();
            let server = slow_server(|| thread::sleep(A_WHILE));
            let answer = timeout(HOUR, ask(server)).await;
            assert_eq!(&answer.unwrap().unwrap(), b"pong");
            // The clock has advanced in real time.
            let took = time::now() - start;
            // By less than the pause if this thread was busy: the clock stands still while tasks run.
            assert!(took < HOUR, "{took:?}");
        });
        // With this setting it does.
        runtime(AutoAdvance::WhenIdle).block_on(async {
            let start = time::now();
            let (answers, wait) = mpsc::channel::<()>();
            let server = slow_server(move || wait.recv().unwrap());
            let answer = timeout(HOUR, ask(server)).await;
            answers.send(()).unwrap();
            assert!(answer.is_err());
            assert_eq!(time::now() - start, HOUR);
        });
    });
}

#[test]
fn a_timeout_around_a_dead_socket_takes_its_time_and_fires() {
    test_with(AutoAdvance::WhenNoIo, async || {
        let (ours, _theirs) = tcp_pair();
        let (start, real) = (time::now(), Instant::now());
        let mut stream = TcpStream::try_from(ours).unwrap();
        let read = timeout(A_WHILE, stream.read(&mut [0; 8])).await;
        assert!(read.is_err());
        assert!(real.elapsed() >= A_WHILE);
        assert_eq!(time::now() - start, A_WHILE, "timers are never late");
        // Without the socket nothing holds the clock.
        drop(stream);
        sleep(DAY).await;
    });
}

#[test]
fn reported_socket_events_are_delivered_before_a_jump() {
    test_with(AutoAdvance::WhenIdle, async || {
        let (ours, mut theirs) = tcp_pair();
        theirs.write_all(b"x").unwrap();
        let start = time::now();
        let mut stream = TcpStream::try_from(ours).unwrap();
        // On the loopback interface it has arrived by now.
        stream.peek(&mut [0]).await.unwrap();
        let first = leak(Cell::new(None));
        let mut reader = stream.clone();
        let reader = spawn(async move {
            reader.read_exact(&mut [0; 2]).await.unwrap();
            first.set(Some(time::now()));
        });
        yield_now().await;
        theirs.write_all(b"y").unwrap();
        sleep(HOUR).await;
        assert_eq!(first.get(), Some(start));
        reader.await;
        let _ = stream.close().await;
    });
}

#[cfg(feature = "blocking")]
#[test]
fn a_job_that_runs_holds_the_clock_and_one_that_has_run_does_not() {
    virtual_test(async || {
        let start = time::now();
        let job = soloist::unblock(|| thread::sleep(A_WHILE));
        assert_eq!(timeout(HOUR, job).await, Ok(()));
        let took = time::now() - start;
        assert!(took < HOUR, "{took:?}");
        // No task awaits this one: its end releases the clock.
        let job = soloist::unblock(|| thread::sleep(A_WHILE));
        sleep(DAY).await;
        job.await;
        assert!(time::now() - start >= DAY);
    });
}

#[test]
fn a_handle_on_another_thread_holds_the_clock() {
    virtual_test(async || {
        let start = time::now();
        let handle = Handle::current();
        let thread = thread::spawn(move || {
            thread::sleep(A_WHILE);
            handle.spawn(|| async { time::now() }).wait().unwrap()
        });
        sleep(DAY).await;
        let at = thread.join().unwrap();
        // The call arrived before the clock jumped, which it did when the handle was dropped.
        assert!(at < start + HOUR);
        assert_eq!(time::now() - start, DAY);
    });
}

#[test]
fn a_held_remote_task_holds_the_clock() {
    virtual_test(async || {
        let start = time::now();
        let task = Handle::current().spawn(pending::<()>);
        let thread = thread::spawn(move || {
            thread::sleep(A_WHILE);
            task.abort();
            // Dropped at the end of the thread.
            soloist::future::block_on(task).unwrap_err().is_cancelled()
        });
        sleep(DAY).await;
        assert!(thread.join().unwrap());
        assert_eq!(time::now() - start, DAY);
    });
}

#[test]
fn a_manual_clock_moves_only_by_advance() {
    test_with(AutoAdvance::Manual, async || {
        let start = time::now();
        let log = leak(RefCell::new(Vec::new()));
        let _ticks = spawn(async move {
            let mut ticks = interval(10 * SECOND);
            loop {
                let at = ticks.tick().await - start;
                assert_eq!(time::now() - start, at);
                // Idle only after a few more polls.
                for _ in 0..5 {
                    yield_now().await;
                }
                log.borrow_mut().push(at.as_secs());
            }
        });
        testing::advance(Duration::ZERO).await;
        assert_eq!(*log.borrow(), [0]);
        testing::advance(9 * SECOND).await;
        assert_eq!(*log.borrow(), [0]);
        testing::advance(SECOND).await;
        assert_eq!(*log.borrow(), [0, 10]);
        testing::advance(35 * SECOND).await;
        assert_eq!(*log.borrow(), [0, 10, 20, 30, 40]);
        assert_eq!(time::now() - start, 45 * SECOND);
        // Waiting in real time does not count.
        let handle = Handle::current();
        let thread = thread::spawn(move || {
            thread::sleep(A_WHILE);
            handle.spawn(|| async {}).wait().unwrap();
        });
        let woken = soloist::promise::promise::<()>();
        let (promise, promised) = woken;
        thread::spawn(move || {
            thread.join().unwrap();
            promise.set(()).unwrap();
        });
        promised.await.unwrap();
        assert_eq!(time::now() - start, 45 * SECOND);
    });
}

#[test]
fn concurrent_and_dropped_advances_move_the_clock_as_far_as_asked() {
    test_with(AutoAdvance::Manual, async || {
        let start = time::now();
        let short = spawn(async move {
            testing::advance(HOUR).await;
            time::now() - start
        });
        let long = spawn(async move {
            testing::advance(2 * HOUR).await;
            time::now() - start
        });
        // The clock goes no further than the other advances.
        drop(testing::advance(DAY));
        assert_eq!((short.await, long.await), (HOUR, 2 * HOUR));
        assert_eq!(time::now() - start, 2 * HOUR);
    });
}

#[test]
fn an_advance_does_not_wait_for_sockets() {
    virtual_test(async || {
        let (ours, _theirs) = tcp_pair();
        let start = time::now();
        let mut stream = TcpStream::try_from(ours).unwrap();
        let read = spawn(async move {
            let read = timeout(HOUR, stream.read(&mut [0; 8])).await;
            (read.is_err(), time::now() - start)
        });
        testing::advance(DAY).await;
        assert_eq!(read.await, (true, HOUR));
        assert_eq!(time::now() - start, DAY);
    });
}

#[test]
fn turns_that_may_not_wait_do_not_move_the_clock() {
    watchdog(|| {
        let runtime = runtime(AutoAdvance::WhenNoIo);
        // A pending stop does not affect a `block_on`.
        runtime.handle().stop();
        assert_eq!(runtime.block_on(sleep_an_hour()), HOUR);
        runtime.run();
        let task = runtime.spawn(sleep_an_hour());
        let turn = runtime.turn(Some(Duration::ZERO)).unwrap();
        let due = turn.next_deadline.unwrap();
        for _ in 0..3 {
            let turn = runtime.turn(Some(Duration::ZERO)).unwrap();
            assert_eq!((turn.polled, turn.next_deadline), (0, Some(due)));
        }
        let turn = runtime.turn(None).unwrap();
        assert_eq!((turn.polled, turn.next_deadline), (1, None));
        assert_eq!(runtime.block_on(async { time::now() }), due);
        assert_eq!(runtime.block_on(task), HOUR);
        // A stop lets no time pass, either.
        let task = runtime.spawn(sleep_an_hour());
        runtime.handle().stop();
        runtime.run();
        assert_eq!(runtime.block_on(async { time::now() }), due);
        runtime.run();
        assert!(task.is_finished());
    });
}

async fn sleep_an_hour() -> Duration {
    let start = time::now();
    sleep(HOUR).await;
    time::now() - start
}

#[test]
fn nested_runtimes_have_clocks_of_their_own() {
    struct Check(Instant);
    impl Drop for Check {
        fn drop(&mut self) {
            // Inside of its own runtime.
            assert_eq!(time::now(), self.0);
        }
    }
    watchdog(|| {
        let inner = runtime(AutoAdvance::WhenNoIo);
        let real = Runtime::new();
        let before = inner.block_on(async {
            sleep(DAY).await;
            time::now()
        });
        inner
            .spawn(async move {
                let _check = Check(before);
                pending::<()>().await;
            })
            .detach();
        real.spawn(pending::<()>()).detach();
        let _ = inner.turn(Some(Duration::ZERO)).unwrap();
        testing::block_on(async {
            let start = time::now();
            drop(real);
            assert_eq!(time::now(), start);
            drop(inner);
            assert_eq!(time::now(), start);
        });
        // The system's clock again.
        soloist::block_on(async {
            let start = time::now();
            thread::sleep(MS);
            assert!(time::now() - start >= MS);
        });
    });
}

#[test]
fn a_certain_deadlock_is_a_failure_at_once() {
    let text = watchdog(|| panic_of(|| testing::block_on(pending::<()>())));
    assert!(text.contains("the runtime is stuck"), "{text}");
}

/// A runtime in which nothing can happen waits for three seconds of real time. These waits are at
/// the same time.
#[test]
fn a_deadlock_is_a_failure_unless_a_thread_holds_a_handle() {
    let a_promise = || {
        let text = panic_of(|| {
            testing::block_on(async {
                // Its waker is kept, so the deadlock is not certain.
                let (_promise, promised) = soloist::promise::promise::<()>();
                promised.await
            })
        });
        assert!(text.contains("the runtime is stuck"), "{text}");
        assert!(text.contains("must hold a `Handle`"), "{text}");
    };
    let a_world = || {
        let text = panic_of(|| {
            testing::simulate(0..9, |world| async move {
                let host = world.host("host");
                let receive = host.spawn(async {
                    // It keeps a handle, and nothing is ever sent.
                    let _handle = Handle::current();
                    let socket = UdpSocket::bind("0.0.0.0:9").await?;
                    socket.recv(&mut [0; 9]).await
                });
                receive.await.map(drop)
            })
        });
        assert!(text.contains("the runtime is stuck"), "{text}");
    };
    let no_deadlock = || {
        testing::block_on(async {
            let (promise, promised) = soloist::promise::promise();
            let handle = Handle::current();
            let (go, wait) = mpsc::channel();
            let thread = thread::spawn(move || {
                let _handle = handle;
                wait.recv().unwrap();
                thread::sleep(3300 * MS);
                promise.set(7).unwrap();
            });
            go.send(()).unwrap();
            assert_eq!(promised.await, Ok(7));
            thread.join().unwrap();
        });
    };
    watchdog(move || {
        thread::scope(|scope| {
            scope.spawn(a_promise);
            scope.spawn(a_world);
            scope.spawn(no_deadlock);
        });
    });
}

#[test]
fn the_time_left_of_a_timer_is_virtual() {
    use soloist::inspect::WaitsFor;
    watchdog(|| {
        let runtime = runtime(AutoAdvance::Manual);
        let _task = runtime.spawn(async { sleep(HOUR).await });
        runtime.block_on(async { testing::advance(HOUR / 4).await });
        let waits = runtime.tasks().remove(0).waits_for;
        let [WaitsFor::Timer { left, .. }] = waits[..] else {
            panic!("{waits:?}");
        };
        assert_eq!(left, Some(HOUR * 3 / 4));
    });
}

#[test]
fn misuse_says_what_to_do() {
    watchdog(|| {
        let text = panic_of(|| soloist::block_on(async { testing::advance(HOUR).await }));
        assert!(text.contains("Clock::Virtual"), "{text}");
        let text = panic_of(|| soloist::block_on(async { testing::schedule_hash() }));
        assert!(text.contains("testing::block_on"), "{text}");
        let text = panic_of(|| drop(testing::advance(HOUR)));
        assert!(text.contains("outside of a soloist runtime"), "{text}");
    });
    #[cfg(unix)]
    watchdog(|| {
        let runtime = runtime(AutoAdvance::WhenNoIo);
        let error = runtime.poll_fd().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("Clock::Real"), "{error}");
    });
}

#[test]
fn a_detached_tasks_panic_fails_the_test() {
    let text = watchdog(|| {
        panic_of(|| {
            testing::block_on(async {
                spawn(async { panic!("on my own") }).detach();
                sleep(HOUR).await;
            })
        })
    });
    assert_eq!(text, "on my own");
}
