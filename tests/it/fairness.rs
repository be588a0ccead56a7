//! First come, first served: no task waits for long, however busy the others are. The tests count
//! polls.

use std::io::{self, Read, Write};
use std::sync::atomic::AtomicU64;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use soloist::io::Async;
use soloist::net::{TcpListener, TcpStream};
use soloist::time::{interval, now, sleep_until, timeout};

use crate::support::*;

#[cfg(unix)]
type Pipe = std::os::unix::net::UnixStream;
#[cfg(not(unix))]
type Pipe = std::net::TcpStream;

/// Two connected sockets: the first in a runtime, the second nonblocking.
fn pipe() -> (Async<Pipe>, Pipe) {
    #[cfg(unix)]
    let (ours, theirs) = Pipe::pair().unwrap();
    #[cfg(not(unix))]
    let (ours, theirs) = tcp_pair();
    theirs.set_nonblocking(true).unwrap();
    (Async::new(ours).unwrap(), theirs)
}

/// Counts the bytes that arrive.
fn spawn_reader(mut from: impl AsyncRead + Unpin + 'static) -> (&'static Cell<usize>, Task<()>) {
    let got = leak(Cell::new(0));
    let task = spawn(async move {
        loop {
            match from.read(&mut [0]).await.unwrap() {
                0 => break,
                n => got.set(got.get() + n),
            }
        }
    });
    (got, task)
}

#[test]
fn b76_tasks_that_yield_do_not_starve_the_reactor() {
    async_test(async || {
        let (ours, mut theirs) = pipe();
        let (got, _reader) = spawn_reader(ours);
        let yielding = leak(Cell::new(0));
        for others in [0, 1, 10] {
            let _others: Vec<Task<()>> =
                (0..others).map(|_| spawn(count_yields(yielding))).collect();
            for _ in 0..50 {
                let (before, wanted) = (yielding.get(), got.get() + 1);
                theirs.write_all(b"x").unwrap();
                while got.get() < wanted {
                    yielding.set(yielding.get() + 1);
                    yield_now().await;
                }
                let polls = yielding.get() - before;
                assert!(polls <= 256, "{polls} polls between two visits");
            }
        }
    });
}

/// The number of polls after `due`, until `fired` is set.
async fn polls_too_late(due: Instant, fired: &Cell<bool>) -> usize {
    let mut late = 0;
    while !fired.get() {
        if Instant::now() >= due {
            late += 1;
        }
        yield_now().await;
    }
    late
}

#[test]
fn b77_tasks_that_wake_themselves_do_not_delay_timers() {
    async_test(async || {
        for self_waking in [1, 2, 50] {
            let due = now() + 10 * MS;
            let fired = leak(Cell::new(false));
            let timer = {
                spawn(async move {
                    sleep_until(due).await;
                    fired.set(true);
                })
            };
            let others: Vec<_> = (1..self_waking)
                .map(|_| spawn(async move { polls_too_late(due, fired).await }))
                .collect();
            // Main, too.
            let mut late = polls_too_late(due, fired).await;
            for other in others {
                late += other.await;
            }
            assert!(late <= 256, "{late} polls after it was due");
            timer.await;
        }
        // Also in the task that has the timer.
        let polls = Cell::new(0);
        let due = now() + 5 * MS;
        let endless = async {
            loop {
                if Instant::now() >= due {
                    polls.set(polls.get() + 1);
                }
                yield_now().await;
            }
        };
        assert!(timeout(5 * MS, endless).await.is_err());
        assert!(polls.get() <= 256, "{} polls", polls.get());
    });
}

#[test]
fn b78_two_tasks_that_wake_each_other_do_not_starve_a_third() {
    async_test(async || {
        let wakers: Rc<[RefCell<Option<Waker>>; 2]> = Rc::default();
        let polls = leak(Cell::new(0));
        let _pair = [0, 1].map(|n| {
            let wakers = wakers.clone();
            spawn(poll_fn(move |cx| {
                polls.set(polls.get() + 1);
                *wakers[n].borrow_mut() = Some(cx.waker().clone());
                if let Some(other) = &*wakers[1 - n].borrow() {
                    other.wake_by_ref();
                }
                Poll::<()>::Pending
            }))
        });
        for round in 1..=1000 {
            yield_now().await;
            assert!(polls.get() <= 2 * round, "{} polls", polls.get());
        }
        assert!(polls.get() >= 1000);
    });
}

#[test]
fn b79_many_ready_tasks_do_not_delay_timers() {
    async_test(async || {
        let ticks = leak(Cell::new(0));
        let _ticker = spawn(async move {
            let mut interval = interval(2 * MS);
            loop {
                interval.tick().await;
                ticks.set(ticks.get() + 1);
            }
        });
        // At least 50 ms of work, all of it ready at once, twice.
        let tasks: Vec<_> = (0..5_000)
            .map(|_| {
                spawn(async {
                    compute_for(Duration::from_micros(10));
                    yield_now().await;
                    compute_for(Duration::from_micros(10));
                })
            })
            .collect();
        join_all(tasks).await;
        // At least between the two.
        assert!(ticks.get() >= 2, "{} ticks", ticks.get());
    });
}

/// A clock for the budget of a runtime, which only `advance` moves.
#[derive(Clone, Default)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn runtime(&self) -> Runtime {
        let (start, nanos) = (Instant::now(), self.0.clone());
        let clock = move || start + Duration::from_nanos(nanos.load(Ordering::Relaxed));
        Runtime::builder().budget_clock(clock).build()
    }

    fn advance(&self, by: Duration) {
        let nanos = by.as_nanos() as u64;
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// The number of polls of yielding tasks before the poll of a reader whose byte was
/// written in the first of them. Each poll takes `each`.
fn polls_before_a_read(tasks: usize, each: Duration) -> usize {
    let clock = TestClock::default();
    clock.runtime().block_on(async {
        let (ours, theirs) = tcp_pair();
        let mut ours = TcpStream::try_from(ours).unwrap();
        let polls = leak(Cell::new(0));
        let reader = spawn(async move {
            ours.read_exact(&mut [0]).await.unwrap();
            polls.get()
        });
        // The reader waits, and the next visit is as late as possible.
        sleep(MS).await;
        let mut theirs = Some(theirs);
        let _tasks: Vec<Task<()>> = (0..tasks)
            .map(|_| {
                let (clock, theirs) = (clock.clone(), theirs.take());
                spawn(async move {
                    if let Some(mut theirs) = theirs {
                        theirs.write_all(b"x").unwrap();
                    }
                    loop {
                        polls.set(polls.get() + 1);
                        clock.advance(each);
                        yield_now().await;
                    }
                })
            })
            .collect();
        reader.await
    })
}

#[test]
fn the_reactor_is_visited_after_128_polls_a_millisecond_or_within_a_generation_after_10() {
    watchdog(|| {
        let micros = Duration::from_micros;
        // These include two polls before, of main and of the first reader.
        for (tasks, each, expected) in [
            // After 128 polls. They end a generation.
            (1, micros(0), 120..=130),
            (2, micros(0), 120..=130),
            (100, micros(0), 200..=200),
            (1000, micros(0), 1000..=1000),
            // After a millisecond, at the end of a generation.
            (1, micros(100), 10..=11),
            (2, micros(100), 10..=12),
            (2, micros(600), 2..=4),
            (2, micros(1200), 2..=4),
            // After 10 ms, within a generation. The reader runs after all that were ready before,
            // and before those that have yielded.
            (100, micros(1200), 100..=100),
            (1000, micros(100), 1000..=1000),
        ] {
            let polls = polls_before_a_read(tasks, each);
            assert!(
                expected.contains(&polls),
                "{tasks} tasks, {each:?}: {polls} polls"
            );
        }
    });
}

/// A timer becomes due and a socket ready in the middle of a long generation: their tasks
/// run after those that were ready before, and before those that have yielded.
#[test]
fn b79_a_task_woken_in_a_long_generation_runs_before_those_that_yielded() {
    watchdog(|| {
        let clock = TestClock::default();
        clock.runtime().block_on(async {
            let (ours, mut theirs) = tcp_pair();
            let mut ours = TcpStream::try_from(ours).unwrap();
            let log = Log::new();
            let _reader = spawn(async move {
                ours.read_exact(&mut [0]).await.unwrap();
                log.push("read".to_string());
            });
            sleep(MS).await;
            let due = now() + MS;
            let _sleeper = spawn(async move {
                sleep_until(due).await;
                log.push("timer".to_string());
            });
            yield_now().await;
            theirs.write_all(b"x").unwrap();
            thread::sleep(2 * MS);
            let tasks: Vec<Task<()>> = (0..40)
                .map(|n| {
                    let clock = clock.clone();
                    spawn(async move {
                        for round in 0..2 {
                            log.push(format!("{round}.{n}"));
                            clock.advance(3 * MS);
                            yield_now().await;
                        }
                    })
                })
                .collect();
            join_all(tasks).await;
            let first = (0..40).map(|n| format!("0.{n}"));
            let between = ["timer", "read"].map(String::from);
            let second = (0..40).map(|n| format!("1.{n}"));
            let expected: Vec<_> = first.chain(between).chain(second).collect();
            assert_eq!(log.take(), expected);
        });
    });
}

/// Sockets that are ready again at each visit are served equally often.
#[test]
fn b110_no_client_is_served_twice_before_another_is_served_once() {
    watchdog(|| {
        for (clients, work) in [(10, 300), (40, 1200), (100, 1200), (100, 3000)] {
            let work = Duration::from_micros(work);
            let clock = TestClock::default();
            let served = Rc::new(RefCell::new(vec![0; clients]));
            let most_apart = leak(Cell::new(0));
            clock.runtime().block_on(async {
                let tasks: Vec<Task<()>> = (0..clients)
                    .map(|n| {
                        let (ours, mut theirs) = tcp_pair();
                        let mut ours = TcpStream::try_from(ours).unwrap();
                        theirs.write_all(b"x").unwrap();
                        let (clock, served) = (clock.clone(), served.clone());
                        spawn(async move {
                            loop {
                                let mut request = [0; 16];
                                assert_eq!(ours.read(&mut request).await.unwrap(), 1);
                                clock.advance(work);
                                // The next request of the client arrives at once.
                                theirs.write_all(b"x").unwrap();
                                let mut served = served.borrow_mut();
                                served[n] += 1;
                                let (least, most) = (served.iter().min(), served.iter().max());
                                let apart = most.unwrap() - least.unwrap();
                                most_apart.set(apart.max(most_apart.get()));
                            }
                        })
                    })
                    .collect();
                while served.borrow().iter().sum::<usize>() < 20 * clients {
                    yield_now().await;
                }
                drop(tasks);
            });
            let apart = most_apart.get();
            assert!(apart <= 1, "{clients} clients, {work:?}: {apart} apart");
        }
    });
}

/// Typical loads of servers, on the clock of the system. Asserts orders and counts.
mod mixed {
    use super::*;

    /// A stream whose peer echoes, and the task of the peer.
    fn echo() -> (TcpStream, Task<()>) {
        let (ours, theirs) = tcp_pair();
        let theirs = TcpStream::try_from(theirs).unwrap();
        let server = spawn(async move {
            let mut buf = [0; 64];
            loop {
                match (&theirs).read(&mut buf).await.unwrap() {
                    0 => break,
                    n => (&theirs).write_all(&buf[..n]).await.unwrap(),
                }
            }
        });
        (TcpStream::try_from(ours).unwrap(), server)
    }

    async fn ping(stream: &TcpStream) {
        let mut stream = stream;
        stream.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
    }

    /// The most that `count` grows during one of so many pings.
    async fn most_during_a_ping(pings: usize, count: impl Fn() -> usize) -> usize {
        let (client, _server) = echo();
        let step = async || {
            ping(&client).await;
            true
        };
        most_growth(count, pings, step).await
    }

    /// The polls of all tasks.
    fn polls() -> usize {
        soloist::inspect::metrics().polls as usize
    }

    #[test]
    fn a_bulk_transfer_does_not_delay_pings() {
        async_test(async || {
            for writes in [false, true] {
                let (ours, theirs) = tcp_pair();
                let (from, to) = match writes {
                    true => (theirs, ours),
                    false => (ours, theirs),
                };
                // The peer is a thread that is always ready.
                let other = thread::spawn(move || {
                    let mut block = vec![7; 64 << 10];
                    let mut other = from;
                    loop {
                        let result = match writes {
                            true => other.read(&mut block),
                            false => other.write(&block),
                        };
                        if !matches!(result, Ok(1..)) {
                            break;
                        }
                    }
                });
                let bytes = leak(Cell::new(0));
                let stream = TcpStream::try_from(to).unwrap();
                let streaming = spawn(async move {
                    let mut block = vec![7; 64 << 10];
                    loop {
                        let n = match writes {
                            true => (&stream).write(&block).await.unwrap(),
                            false => (&stream).read(&mut block).await.unwrap(),
                        };
                        bytes.set(bytes.get() + n);
                    }
                });
                let step = async || {
                    yield_now().await;
                    true
                };
                let most = most_growth(|| bytes.get(), 500, step).await;
                // An operation on 8 KiB counts once.
                assert!(most <= (1 << 20) + (64 << 10), "{most} bytes in a poll");
                let most = most_during_a_ping(200, polls).await;
                assert!(most <= 2 * 128 + 20, "{most} polls during a ping");
                drop(streaming);
                other.join().unwrap();
            }
        });
    }

    #[test]
    fn a_computing_task_does_not_delay_echoes() {
        async_test(async || {
            let computed = leak(Cell::new(0));
            let _computing = spawn(async move {
                loop {
                    compute_for(5 * MS);
                    computed.set(computed.get() + 1);
                    yield_now().await;
                }
            });
            let clients: Vec<Task<()>> = (0..20)
                .map(|_| {
                    spawn(async move {
                        let most = most_during_a_ping(5, || computed.get()).await;
                        // The request is read after one computation, the reply after another.
                        assert!(most <= 4, "{most} computations");
                    })
                })
                .collect();
            join_all(clients).await;
        });
    }

    #[test]
    fn many_yielding_tasks_do_not_delay_a_timer_or_an_echo() {
        async_test(async || {
            const CROWD: usize = 20_000;
            let polls = leak(Cell::new(0));
            let _crowd: Vec<Task<()>> = (0..CROWD).map(|_| spawn(count_yields(polls))).collect();
            let most = most_during_a_ping(5, || polls.get()).await;
            assert!(most <= 6 * CROWD, "{most} polls during a ping");
            for _ in 0..5 {
                // It is due at the next visit.
                let due = sleep_until(now());
                let before = polls.get();
                due.await;
                sleep(Duration::from_nanos(1)).await;
                let most = polls.get() - before;
                assert!(most <= 3 * CROWD, "{most} polls before a timer");
            }
        });
    }

    #[test]
    fn idle_connections_cost_no_polls() {
        async_test(async || {
            let idle: Vec<_> = (0..200).map(|_| echo()).collect();
            let busy: Vec<_> = (0..10).map(|_| echo()).collect();
            for (client, _) in idle.iter().chain(&busy) {
                ping(client).await;
            }
            let before = polls();
            for _ in 0..50 {
                for (client, _) in &busy {
                    ping(client).await;
                }
            }
            let polls = polls() - before;
            // Two polls for each ping, of the server and of main: idle connections cost nothing.
            assert!(polls <= 2 * 500 + 20, "{polls} polls");
        });
    }

    #[test]
    fn a_flood_of_connects_does_not_delay_echoes() {
        async_test(async || {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let accepted = leak(Cell::new(0));
            let _accepting = spawn(async move {
                loop {
                    drop(listener.accept().await);
                    accepted.set(accepted.get() + 1);
                }
            });
            let flood = thread::spawn(move || {
                for _ in 0..500 {
                    let stream = std::net::TcpStream::connect(address).unwrap();
                    let linger = Some(Duration::ZERO);
                    let _ = socket2::SockRef::from(&stream).set_linger(linger);
                }
            });
            let (client, _server) = echo();
            let mut is_over = false;
            while !is_over {
                let before = (accepted.get(), polls());
                ping(&client).await;
                let accepts = accepted.get() - before.0;
                let polls = polls() - before.1;
                // At most two visits, and 32 accepts in a poll.
                assert!(polls <= 2 * 128 + 20, "{polls} polls during a ping");
                let most = 32 * polls;
                assert!(accepts <= most, "{accepts} accepts in {polls} polls");
                // Other systems than Linux may drop a connection that is reset while it waits.
                let is_done = !cfg!(target_os = "linux") && accepts == 0 && flood.is_finished();
                is_over = is_done || accepted.get() == 500;
            }
            flood.join().unwrap();
        });
    }

    #[cfg(feature = "blocking")]
    #[test]
    fn threads_that_spawn_without_pause_do_not_delay_an_echo() {
        async_test(async || {
            let handle = Handle::current();
            let (ran, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (handle, ran, stop) = (handle.clone(), ran.clone(), stop.clone());
                    thread::spawn(move || {
                        let mut sent = 0;
                        while stop.load(Ordering::Relaxed) == 0 {
                            // Limits the number of pending tasks, and so the memory.
                            if sent > ran.load(Ordering::Relaxed) + 10_000 {
                                thread::yield_now();
                                continue;
                            }
                            sent += 1;
                            let ran = ran.clone();
                            handle
                                .spawn(move || async move {
                                    ran.fetch_add(1, Ordering::Relaxed);
                                })
                                .detach();
                        }
                    })
                })
                .collect();
            let most = most_during_a_ping(200, || ran.load(Ordering::Relaxed) as usize).await;
            stop.store(1, Ordering::Relaxed);
            for thread in threads {
                soloist::unblock(move || thread.join().unwrap()).await;
            }
            // Two visits, each at the end of a generation, and the tasks that were ready before.
            assert!(most <= 6 * 128, "{most} tasks during a ping");
        });
    }
}

/// An interval whose ticks take longer than its period, and deadlines in the past.
#[test]
fn b111_timers_that_are_always_due_do_not_starve_other_tasks() {
    async_test(async || {
        check_in_a_row(64, "ticks", async |count| {
            let mut interval = interval(Duration::from_micros(1));
            for _ in 0..1000 {
                interval.tick().await;
                compute_for(Duration::from_micros(2));
                count.set(count.get() + 1);
            }
        })
        .await;

        check_in_a_row(64, "timers", async |count| {
            let past = now();
            for _ in 0..1000 {
                sleep_until(past).await;
                count.set(count.get() + 1);
            }
        })
        .await;
    });
}

/// The `block_on` of another executor inside a task never gets the wake after the poll. It
/// must wait without spinning.
#[test]
fn b119_operations_beyond_the_budget_wake_their_task_after_the_poll() {
    async_test(async || {
        let (ours, theirs) = tcp_pair();
        theirs.set_nonblocking(true).unwrap();
        let ours = TcpStream::try_from(ours).unwrap();
        let (wakes, waker) = CountWakes::new();
        let write = || {
            let cx = &mut Context::from_waker(&waker);
            Pin::new(&mut &ours).poll_write(cx, b"x")
        };
        let written = (0..1000).take_while(|_| write().is_ready()).count();
        assert_eq!(written, 128);
        for _ in 0..100 {
            assert!(write().is_pending());
        }
        assert_eq!(wakes.get(), 0, "not in the poll");
        yield_now().await;
        assert_eq!(wakes.get(), 1, "after it, once");
        assert!(write().is_ready());
    });
}

/// A destructor that runs after the poll may use a socket, too.
#[test]
fn b119_a_socket_used_in_a_destructor_loses_no_wake_up() {
    async_test(async || {
        struct D(Rc<TcpStream>);
        impl Drop for D {
            fn drop(&mut self) {
                let cx = &mut Context::from_waker(Waker::noop());
                let _ = Pin::new(&mut &*self.0).poll_write(cx, b"x");
            }
        }
        let (ours, theirs) = tcp_pair();
        theirs.set_nonblocking(true).unwrap();
        let ours = Rc::new(TcpStream::try_from(ours).unwrap());
        let (wakes, waker) = CountWakes::new();
        let d = D(ours);
        let task = spawn(poll_fn(move |_| {
            let write = || {
                let cx = &mut Context::from_waker(&waker);
                Pin::new(&mut &*d.0).poll_write(cx, b"x")
            };
            let written = (0..1000).take_while(|_| write().is_ready()).count();
            assert_eq!(written, 128);
            Poll::Ready(())
        }));
        task.await;
        yields(5).await;
        assert_eq!(wakes.get(), 1, "after the generation, once");
    });
}

/// The socket is ready again at each visit in the middle of a generation.
#[test]
fn b79_a_busy_socket_with_long_polls_does_not_starve_the_interrupted_tasks() {
    async_test(async || {
        let (ours, theirs) = pipe();
        (&theirs).write_all(b"x").unwrap();
        let reads = leak(Cell::new(0));
        let busy = spawn(async move {
            let mut ours = ours;
            for _ in 0..50 {
                ours.read_exact(&mut [0]).await.unwrap();
                reads.set(reads.get() + 1);
                compute_for(2 * MS);
                (&theirs).write_all(b"x").unwrap();
                // Until the reactor reports it.
                ours.readable().await.unwrap();
            }
        });
        let step = async || {
            yield_now().await;
            !busy.is_finished()
        };
        let most = most_growth(|| reads.get(), usize::MAX, step).await;
        assert!(most <= 3, "{most} polls in a row");
    });
}

/// Checks that `busy`, which counts its operations itself, does no more than `limit` of them
/// between two polls of another task.
async fn check_in_a_row<F: Future<Output = ()> + 'static>(
    limit: usize,
    what: &str,
    busy: impl FnOnce(&'static Cell<usize>) -> F,
) {
    let done = leak(Cell::new(0));
    let busy = spawn(busy(done));
    let most = most_growth(
        || done.get(),
        10_000_000,
        async || {
            yield_now().await;
            !busy.is_finished()
        },
    );
    let most = most.await;
    busy.await;
    assert!(done.get() >= 1000, "{}", done.get());
    assert!(most <= limit, "{most} {what} in a row");
}

/// The most that `count` grows during one step. There are so many steps, or fewer if one of them
/// returns false.
async fn most_growth(
    count: impl Fn() -> usize,
    steps: usize,
    mut step: impl AsyncFnMut() -> bool,
) -> usize {
    let mut most = 0;
    for _ in 0..steps {
        let before = count();
        let goes_on = step().await;
        most = most.max(count() - before);
        if !goes_on {
            break;
        }
    }
    most
}

#[test]
fn b80_a_socket_that_is_always_readable_does_not_starve_other_tasks() {
    async_test(async || {
        fn tcp() -> (TcpStream, std::net::TcpStream) {
            let (ours, theirs) = tcp_pair();
            theirs.set_nonblocking(true).unwrap();
            (TcpStream::try_from(ours).unwrap(), theirs)
        }
        /// Makes the socket readable again.
        fn note(count: &Cell<usize>, mut refill: impl Write) {
            count.set(count.get() + 1);
            refill.write_all(b"x").unwrap();
        }

        check_in_a_row(128, "reads", async |count| {
            let (mut ours, mut theirs) = tcp();
            theirs.write_all(b"xxxx").unwrap();
            for _ in 0..1000 {
                ours.read_exact(&mut [0]).await.unwrap();
                note(count, &theirs);
            }
        })
        .await;

        check_in_a_row(128, "peeks", async |count| {
            let (ours, mut theirs) = tcp();
            theirs.write_all(b"xxxx").unwrap();
            for _ in 0..1000 {
                ours.peek(&mut [0]).await.unwrap();
                note(count, io::sink());
            }
        })
        .await;

        check_in_a_row(128, "reads", async |count| {
            let (ours, mut theirs) = pipe();
            theirs.write_all(b"xxxx").unwrap();
            for _ in 0..1000 {
                let read = |mut io: &Pipe| io.read(&mut [0]);
                assert_eq!(ours.read_with(read).await.unwrap(), 1);
                note(count, &theirs);
            }
        })
        .await;

        check_in_a_row(128, "reads of the end", async |count| {
            let (ours, theirs) = tcp();
            drop(theirs);
            for _ in 0..1000 {
                assert_eq!((&ours).read(&mut [0]).await.unwrap(), 0);
                note(count, io::sink());
            }
        })
        .await;
    });
}

#[test]
fn b80_a_socket_that_is_always_writable_does_not_starve_other_tasks() {
    async_test(async || {
        /// Makes the socket writable again.
        fn drain(count: &Cell<usize>, mut from: impl Read) {
            count.set(count.get() + 1);
            let _ = from.read(&mut [0; 64]);
        }

        check_in_a_row(128, "writes", async |count| {
            let (ours, theirs) = tcp_pair();
            theirs.set_nonblocking(true).unwrap();
            let mut ours = TcpStream::try_from(ours).unwrap();
            for _ in 0..2000 {
                ours.write_all(b"x").await.unwrap();
                drain(count, &theirs);
            }
        })
        .await;

        check_in_a_row(128, "writes", async |count| {
            let (ours, theirs) = pipe();
            for _ in 0..2000 {
                let write = |mut io: &Pipe| io.write(b"x");
                assert_eq!(ours.write_with(write).await.unwrap(), 1);
                drain(count, &theirs);
            }
        })
        .await;
    });
}

#[test]
fn b80_a_listener_that_is_always_busy_does_not_starve_other_tasks() {
    async_test(async || {
        for incoming in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let _clients: Vec<_> = (0..100)
                .map(|_| std::net::TcpStream::connect(address).unwrap())
                .collect();
            let accepted = leak(Cell::new(0));
            let server = spawn(async move {
                let mut stream = listener.incoming();
                for _ in 0..100 {
                    if incoming {
                        stream.next().await.unwrap().unwrap();
                    } else {
                        listener.accept().await.unwrap();
                    }
                    accepted.set(accepted.get() + 1);
                }
            });
            while !server.is_finished() {
                let before = accepted.get();
                yield_now().await;
                let most = accepted.get() - before;
                assert!(most <= 32, "{most} in a row");
            }
            server.await;
        }
    });
}

#[test]
fn b80_a_busy_socket_does_not_delay_a_timer_of_its_task() {
    async_test(async || {
        let (ours, theirs) = tcp_pair();
        theirs.set_nonblocking(true).unwrap();
        let mut ours = TcpStream::try_from(ours).unwrap();
        (&theirs).write_all(b"x").unwrap();
        let due = now() + 5 * MS;
        let mut late = 0;
        let endless = async {
            loop {
                ours.read_exact(&mut [0]).await.unwrap();
                (&theirs).write_all(b"x").unwrap();
                if Instant::now() >= due {
                    late += 1;
                }
            }
        };
        assert!(timeout(5 * MS, endless).await.is_err());
        // The rest of one poll, and one more if that was the first, whose `Sleep` goes by the time
        // of the last visit.
        assert!(late <= 256, "{late} reads");
        // Another sleep is not affected.
        let start = now();
        sleep(MS).await;
        assert!(now() - start >= MS);
    });
}
