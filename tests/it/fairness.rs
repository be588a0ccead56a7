//! Nobody waits for long, whoever else is busy: counted in polls.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWriteExt, StreamExt};
use soloist::io::Async;
use soloist::net::{TcpListener, TcpStream};
use soloist::task::yield_now;
use soloist::time::{interval, now, sleep, sleep_until, timeout};
use soloist::{Task, block_on, spawn};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

#[cfg(unix)]
type Pipe = std::os::unix::net::UnixStream;
#[cfg(not(unix))]
type Pipe = std::net::TcpStream;

/// Two ends, the first in a runtime, the other one never blocking.
fn pipe() -> (Async<Pipe>, Pipe) {
    #[cfg(unix)]
    let (ours, theirs) = Pipe::pair().unwrap();
    #[cfg(not(unix))]
    let (ours, theirs) = tcp_pair();
    theirs.set_nonblocking(true).unwrap();
    (Async::new(ours).unwrap(), theirs)
}

/// Counts the bytes that come, as they come.
fn spawn_reader(mut from: impl AsyncRead + Unpin + 'static) -> (Rc<Cell<usize>>, Task<()>) {
    let got = Rc::new(Cell::new(0));
    let count = got.clone();
    let task = spawn(async move {
        loop {
            match from.read(&mut [0]).await.unwrap() {
                0 => break,
                n => count.set(count.get() + n),
            }
        }
    });
    (got, task)
}

#[test]
fn b76_a_task_that_yields_lets_the_reactor_have_its_turn() {
    watchdog(|| {
        block_on(async {
            let (ours, mut theirs) = pipe();
            let (got, _reader) = spawn_reader(ours);
            let yielding = Rc::new(Cell::new(0));
            for others in [0, 1, 10] {
                let _others: Vec<Task<()>> = (0..others)
                    .map(|_| {
                        let count = yielding.clone();
                        spawn(async move {
                            loop {
                                count.set(count.get() + 1);
                                yield_now().await;
                            }
                        })
                    })
                    .collect();
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
    });
}

/// How often `poll` is called after `due`, until `fired` is set.
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
fn b77_who_wakes_himself_does_not_hold_up_the_timers() {
    watchdog(|| {
        block_on(async {
            for self_waking in [1, 2, 50] {
                let due = now() + 10 * MS;
                let fired = Rc::new(Cell::new(false));
                let timer = {
                    let fired = fired.clone();
                    spawn(async move {
                        sleep_until(due).await;
                        fired.set(true);
                    })
                };
                let others: Vec<_> = (1..self_waking)
                    .map(|_| {
                        let fired = fired.clone();
                        spawn(async move { polls_too_late(due, &fired).await })
                    })
                    .collect();
                // Main, too.
                let mut late = polls_too_late(due, &fired).await;
                for other in others {
                    late += other.await;
                }
                assert!(late <= 256, "{late} polls after it was due");
                timer.await;
            }
            // And in the very task that has the timer.
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
    });
}

#[test]
fn b78_two_tasks_that_wake_each_other_leave_room_for_a_third() {
    watchdog(|| {
        block_on(async {
            let wakers: Rc<[RefCell<Option<Waker>>; 2]> = Rc::default();
            let polls = Rc::new(Cell::new(0));
            let _pair = [0, 1].map(|n| {
                let (wakers, polls) = (wakers.clone(), polls.clone());
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
    });
}

#[test]
fn b79_many_ready_tasks_do_not_hold_up_the_timers() {
    watchdog(|| {
        block_on(async {
            let ticks = Rc::new(Cell::new(0));
            let count = ticks.clone();
            let _ticker = spawn(async move {
                let mut interval = interval(2 * MS);
                loop {
                    interval.tick().await;
                    count.set(count.get() + 1);
                }
            });
            // 100 ms of work at least, all of it ready at once.
            let tasks: Vec<_> = (0..10_000)
                .map(|_| spawn(async { compute_for(Duration::from_micros(10)) }))
                .collect();
            for task in tasks {
                task.await;
            }
            assert!(ticks.get() >= 5, "{} ticks", ticks.get());
        });
    });
}

/// How many of the tasks of a generation are polled before a byte arrives that was
/// written at its beginning.
async fn polls_before_the_byte(tasks: usize, each: Duration) -> usize {
    let (ours, theirs) = pipe();
    let (got, _reader) = spawn_reader(ours);
    yield_now().await;
    yield_now().await;
    let before = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..tasks)
        .map(|n| {
            let (got, before) = (got.clone(), before.clone());
            let theirs = (n == 0).then(|| theirs.try_clone().unwrap());
            spawn(async move {
                if let Some(mut theirs) = theirs {
                    theirs.write_all(b"x").unwrap();
                }
                if got.get() == 0 {
                    before.set(before.get() + 1);
                }
                compute_for(each);
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    before.get()
}

#[test]
fn b79_a_long_generation_is_interrupted_for_the_reactor() {
    watchdog(|| {
        block_on(async {
            // A millisecond, and a poll; at first it is not known how long they take.
            for (tasks, micros, most) in [
                (400, 300, 80),
                (100, 1000, 70),
                (10_000, 10, 2000),
                (400, 300, 80),
            ] {
                let each = Duration::from_micros(micros);
                let polls = polls_before_the_byte(tasks, each).await;
                assert!(polls <= most, "{polls} polls of {each:?}");
            }
        });
    });
}

/// Each visit in the middle of a generation finds the socket ready again.
#[test]
fn b79_a_busy_socket_with_long_polls_does_not_starve_the_interrupted_tasks() {
    watchdog(|| {
        block_on(async {
            let (ours, theirs) = pipe();
            (&theirs).write_all(b"x").unwrap();
            let reads = Rc::new(Cell::new(0));
            let count = reads.clone();
            let busy = spawn(async move {
                let mut ours = ours;
                for _ in 0..50 {
                    ours.read_exact(&mut [0]).await.unwrap();
                    count.set(count.get() + 1);
                    compute_for(2 * MS);
                    (&theirs).write_all(b"x").unwrap();
                    // Until the reactor says so.
                    ours.readable().await.unwrap();
                }
            });
            let mut most = 0;
            while !busy.is_finished() {
                let before = reads.get();
                yield_now().await;
                most = most.max(reads.get() - before);
            }
            assert!(most <= 3, "{most} polls in a row");
        });
    });
}

/// The most that `busy` does between two polls of another task. It counts on its own.
async fn most_in_a_row<F: Future<Output = ()> + 'static>(
    busy: impl FnOnce(Rc<Cell<usize>>) -> F,
) -> usize {
    let done = Rc::new(Cell::new(0));
    let busy = spawn(busy(done.clone()));
    let (mut most, mut rounds) = (0, 0);
    while !busy.is_finished() {
        let before = done.get();
        yield_now().await;
        most = most.max(done.get() - before);
        rounds += 1;
        assert!(rounds < 10_000_000);
    }
    busy.await;
    assert!(done.get() >= 1000, "{}", done.get());
    most
}

#[test]
fn b80_a_socket_that_is_always_readable_starves_nobody() {
    watchdog(|| {
        block_on(async {
            fn tcp() -> (TcpStream, std::net::TcpStream) {
                let (ours, theirs) = tcp_pair();
                theirs.set_nonblocking(true).unwrap();
                (TcpStream::try_from(ours).unwrap(), theirs)
            }
            /// Keeps it so.
            fn note(count: &Cell<usize>, mut refill: impl Write) {
                count.set(count.get() + 1);
                refill.write_all(b"x").unwrap();
            }

            let most = most_in_a_row(async |count| {
                let (mut ours, mut theirs) = tcp();
                theirs.write_all(b"xxxx").unwrap();
                for _ in 0..1000 {
                    ours.read_exact(&mut [0]).await.unwrap();
                    note(&count, &theirs);
                }
            });
            let most = most.await;
            assert!(most <= 64, "{most} reads in a row");

            let most = most_in_a_row(async |count| {
                let (ours, mut theirs) = tcp();
                theirs.write_all(b"xxxx").unwrap();
                for _ in 0..1000 {
                    ours.peek(&mut [0]).await.unwrap();
                    note(&count, io::sink());
                }
            });
            let most = most.await;
            assert!(most <= 64, "{most} peeks in a row");

            let most = most_in_a_row(async |count| {
                let (ours, mut theirs) = pipe();
                theirs.write_all(b"xxxx").unwrap();
                for _ in 0..1000 {
                    let read = |mut io: &Pipe| io.read(&mut [0]);
                    assert_eq!(ours.read_with(read).await.unwrap(), 1);
                    note(&count, &theirs);
                }
            });
            let most = most.await;
            assert!(most <= 64, "{most} reads in a row");

            let most = most_in_a_row(async |count| {
                let (ours, theirs) = tcp();
                drop(theirs);
                for _ in 0..1000 {
                    assert_eq!((&ours).read(&mut [0]).await.unwrap(), 0);
                    note(&count, io::sink());
                }
            });
            let most = most.await;
            assert!(most <= 64, "{most} reads of the end in a row");
        });
    });
}

#[test]
fn b80_a_socket_that_is_always_writable_starves_nobody() {
    watchdog(|| {
        block_on(async {
            /// Makes room again.
            fn drain(count: &Cell<usize>, mut from: impl Read) {
                count.set(count.get() + 1);
                let _ = from.read(&mut [0; 64]);
            }

            let most = most_in_a_row(async |count| {
                let (ours, theirs) = tcp_pair();
                theirs.set_nonblocking(true).unwrap();
                let mut ours = TcpStream::try_from(ours).unwrap();
                for _ in 0..2000 {
                    ours.write_all(b"x").await.unwrap();
                    drain(&count, &theirs);
                }
            });
            let most = most.await;
            assert!(most <= 256, "{most} writes in a row");

            let most = most_in_a_row(async |count| {
                let (ours, theirs) = pipe();
                for _ in 0..2000 {
                    let write = |mut io: &Pipe| io.write(b"x");
                    assert_eq!(ours.write_with(write).await.unwrap(), 1);
                    drain(&count, &theirs);
                }
            });
            let most = most.await;
            assert!(most <= 256, "{most} writes in a row");
        });
    });
}

#[test]
fn b80_a_listener_that_is_always_busy_starves_nobody() {
    watchdog(|| {
        block_on(async {
            for incoming in [false, true] {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let _clients: Vec<_> = (0..100)
                    .map(|_| std::net::TcpStream::connect(address).unwrap())
                    .collect();
                let accepted = Rc::new(Cell::new(0));
                let count = accepted.clone();
                let server = spawn(async move {
                    let mut stream = listener.incoming();
                    for _ in 0..100 {
                        if incoming {
                            stream.next().await.unwrap().unwrap();
                        } else {
                            listener.accept().await.unwrap();
                        }
                        count.set(count.get() + 1);
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
    });
}

#[test]
fn b80_a_busy_socket_and_a_timer_in_one_task() {
    watchdog(|| {
        block_on(async {
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
            assert!(late <= 64, "{late} reads");
            // A bystander sleeps as long as it wants to.
            let start = now();
            sleep(MS).await;
            assert!(now() - start >= MS);
        });
    });
}
