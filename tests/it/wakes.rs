//! Wake-ups: none is lost, and none is spurious.

use std::future::ready;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::pin::pin;
use std::thread::Thread;

use futures_lite::future::or;
use soloist::io::{Async, AsyncReadExt, AsyncWriteExt};
use soloist::net::TcpStream;

use crate::support::*;

/// The state that a thread shares with the future that it wakes.
#[derive(Default)]
struct Line {
    sent: AtomicUsize,
    seen: AtomicUsize,
}

impl Line {
    /// Waits until a poll has seen this round. It spins at first, so that
    /// the next wake often comes during that poll.
    fn wait(&self, round: usize) {
        let mut spins = 0;
        while self.seen.load(Ordering::Relaxed) < round {
            if spins < 200 {
                spins += 1;
                std::hint::spin_loop();
            } else {
                thread::park();
            }
        }
    }
}

/// A future that each of `threads` threads wakes `rounds` times. A thread wakes it as soon as a poll
/// has seen its last round, often during that poll, and continues after another poll has seen that.
fn woken_by(threads: usize, rounds: usize, polls: &'static Cell<usize>) -> impl Future + use<> {
    let mut lines: Vec<(Arc<Line>, Thread)> = Vec::new();
    poll_fn(move |cx| {
        polls.set(polls.get() + 1);
        if lines.is_empty() {
            for _ in 0..threads {
                let line = Arc::new(Line::default());
                let (there, waker) = (line.clone(), cx.waker().clone());
                let thread = thread::spawn(move || {
                    for round in 1..=rounds {
                        there.sent.store(round, Ordering::Relaxed);
                        waker.wake_by_ref();
                        there.wait(round);
                    }
                });
                lines.push((line, thread.thread().clone()));
            }
            return Poll::Pending;
        }
        let mut over = true;
        for (line, thread) in &lines {
            let sent = line.sent.load(Ordering::Relaxed);
            line.seen.store(sent, Ordering::Relaxed);
            thread.unpark();
            over &= sent == rounds;
        }
        if over { Poll::Ready(()) } else { Poll::Pending }
    })
}

#[test]
fn b01_each_wake_after_the_start_of_a_poll_leads_to_another_poll() {
    with_both_waits(|| {
        let rounds = 2_000;
        let polls = leak(Cell::new(0));
        block_on(async {
            spawn(woken_by(2, rounds, polls)).await;
        });
        let as_task = polls.take();
        assert!((1 + rounds..=1 + 2 * rounds).contains(&as_task));
        block_on(woken_by(2, rounds, polls));
        let as_main = polls.take();
        assert!((1 + rounds..=1 + 2 * rounds).contains(&as_main));
    });
}

#[test]
fn many_wakes_before_a_poll_lead_to_one_poll() {
    with_both_waits(|| {
        let runtime = Runtime::new();
        let seen = Seen::new();
        runtime.spawn(seen.probe()).detach();
        assert_eq!(turn(&runtime).polled, 1);

        // On this thread, outside the runtime.
        for _ in 0..100 {
            seen.waker().wake();
        }
        assert_eq!(turn(&runtime).polled, 1);
        assert_eq!(turn(&runtime).polled, 0);
        assert_eq!(seen.polls.get(), 2);

        // On another thread.
        let waker = seen.waker();
        elsewhere(move || (0..100).for_each(|_| waker.wake_by_ref()));
        assert_eq!(turn(&runtime).polled, 1);
        assert_eq!(turn(&runtime).polled, 0);
        assert_eq!(seen.polls.get(), 3);

        // Inside the runtime.
        runtime.block_on(async {
            (0..100).for_each(|_| seen.waker().wake());
            yield_now().await;
        });
        assert_eq!(seen.polls.get(), 4);

        // On both threads, within one poll of main.
        runtime.block_on(async {
            for _ in 0..10 {
                seen.waker().wake();
                let waker = seen.waker();
                elsewhere(move || waker.wake());
            }
            yields(3).await;
        });
        assert_eq!(seen.polls.get(), 5);
    });
}

#[test]
fn b02_a_wake_inside_another_runtime_is_kept_for_its_own_runtime() {
    with_both_waits(|| {
        let seen = Seen::new();
        let one = Runtime::new();
        one.spawn(seen.probe()).detach();
        one.block_on(yield_now());
        assert_eq!(seen.polls.get(), 1);

        let other = Runtime::new();
        other.block_on(async {
            seen.waker().wake();
            yields(3).await;
        });
        assert_eq!(seen.polls.get(), 1);

        one.block_on(yield_now());
        assert_eq!(seen.polls.get(), 2);
    });
}

#[test]
fn b02_tasks_that_one_block_on_leaves_ready_run_in_the_next() {
    with_both_waits(|| {
        let runtime = Runtime::new();
        let all: Vec<_> = (0..5).map(|_| Seen::new()).collect();
        runtime.block_on(async {
            for seen in &all {
                spawn(seen.probe()).detach();
            }
        });
        assert!(all.iter().all(|seen| seen.polls.get() == 0));
        runtime.block_on(yield_now());
        assert!(all.iter().all(|seen| seen.polls.get() == 1));

        // Woken, but main is done before they are polled.
        runtime.block_on(async { all.iter().for_each(|seen| seen.waker().wake()) });
        assert!(all.iter().all(|seen| seen.polls.get() == 1));
        run_until_idle(&runtime);
        assert!(all.iter().all(|seen| seen.polls.get() == 2));

        // A task that is queued behind main in the last generation of main.
        let last = Seen::new();
        runtime.block_on(pending_once(|waker| {
            waker.wake_by_ref();
            spawn(last.probe()).detach();
        }));
        assert_eq!(last.polls.get(), 0);
        run_until_idle(&runtime);
        assert_eq!(last.polls.get(), 1);
    });
}

#[test]
fn b03_a_main_that_is_woken_in_its_own_poll_is_polled_again() {
    /// A way to wake.
    type Wake = fn(&Waker);
    let ways: [Wake; 5] = [
        |waker| waker.wake_by_ref(),
        |waker| {
            let [one, two] = [waker.clone(), waker.clone()];
            one.wake();
            two.wake();
        },
        |waker| {
            waker.wake_by_ref();
            waker.wake_by_ref();
        },
        |waker| {
            let waker = waker.clone();
            elsewhere(move || waker.wake());
        },
        |waker| {
            waker.wake_by_ref();
            let waker = waker.clone();
            elsewhere(move || waker.wake());
        },
    ];
    with_both_waits(move || {
        for wake in ways {
            // As main, and as a task. A lost wake-up would hang.
            block_on(pending_once(wake));
            block_on(async { spawn(pending_once(wake)).await });
        }
    });
}

#[test]
fn b04_a_spawn_in_another_branch_of_main_runs_without_another_event() {
    with_both_waits(|| {
        let done = leak(Cell::new(false));
        let waiting: Rc<Cell<Option<Waker>>> = Rc::default();
        let waits = poll_fn(|cx| {
            waiting.set(Some(cx.waker().clone()));
            if done.get() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let spawns = async {
            let waiting = waiting.clone();
            spawn(async move {
                done.set(true);
                waiting.take().expect("the first branch waits").wake();
            })
            .detach();
            pending().await
        };
        let polls = Cell::new(0);
        block_on(count_polls(&polls, or(waits, spawns)));
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn b04_a_spawn_through_a_handle_wakes_an_idle_runtime() {
    with_both_waits(|| {
        let runtime = Runtime::new();
        for pause in [0, 1, 20] {
            let handle = runtime.handle();
            let thread = thread::spawn(move || {
                thread::sleep(Duration::from_millis(pause));
                let answer = handle.spawn(|| async { 42 }).wait();
                handle.stop();
                answer.unwrap()
            });
            // The runtime has nothing else to do.
            runtime.run_forever();
            assert_eq!(thread.join().unwrap(), 42);
        }
    });
}

#[test]
fn b05_timers_fire_over_many_tiny_block_ons() {
    with_both_waits(|| {
        let runtime = Runtime::new();
        let task = runtime.spawn(async {
            let sleep = sleep(5 * MS);
            let deadline = sleep.deadline();
            sleep.await;
            deadline
        });
        let mut spun = 0;
        while spun < 10_000 {
            runtime.block_on(ready(()));
            spun += 1;
        }
        // It is due now: a visit comes at the latest after so many polls.
        thread::sleep(10 * MS);
        let mut extra = 0;
        while !task.is_finished() {
            runtime.block_on(ready(()));
            extra += 1;
            assert!(extra < 300, "the timers are never looked at");
        }
        assert!(runtime.block_on(task) <= Instant::now());
    });
}

#[test]
fn b05_sockets_are_polled_over_many_tiny_block_ons() {
    runtime_test(|runtime| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let task = runtime.spawn(async move {
            let socket = Async::new(socket).unwrap();
            socket
                .read_with(|socket| socket.recv(&mut [0; 8]))
                .await
                .unwrap()
        });
        run_until_idle(&runtime);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"now", to).unwrap();
        let mut spun = 0;
        while !task.is_finished() {
            runtime.block_on(ready(()));
            spun += 1;
            assert!(spun < 300, "the reactor is never visited");
        }
        assert_eq!(runtime.block_on(task), 3);
    });
}

#[test]
fn b06_main_is_polled_only_at_the_start_and_when_woken() {
    with_both_waits(|| {
        let rung = leak(Cell::new(0));
        let listening: Rc<Cell<Option<Waker>>> = Rc::default();
        let main = async {
            let busy: Vec<_> = (0..1_000)
                .map(|_| {
                    spawn(async {
                        yields(10).await;
                    })
                })
                .collect();
            let bell = (rung, listening.clone());
            spawn(async move {
                for _ in 0..3 {
                    yield_now().await;
                    yield_now().await;
                    bell.0.set(bell.0.get() + 1);
                    bell.1.take().expect("main listens").wake();
                }
            })
            .detach();
            poll_fn(|cx| {
                listening.set(Some(cx.waker().clone()));
                if rung.get() == 3 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            assert!(!busy[0].is_finished());
        };
        let polls = Cell::new(0);
        block_on(count_polls(&polls, main));
        assert_eq!(polls.get(), 1 + 3);
    });
}

#[test]
fn b07_a_store_before_a_second_wake_is_seen_by_the_poll() {
    watchdog(|| {
        // The models cover more; this is for ThreadSanitizer, and for other processors.
        for _ in 0..2000 {
            let data = leak(AtomicUsize::new(0));
            let mut thread = None;
            let wait = poll_fn(|cx| {
                let waker = cx.waker().clone();
                thread.get_or_insert_with(|| {
                    thread::spawn(move || {
                        data.store(1, Ordering::Relaxed);
                        waker.wake_by_ref();
                        // It may be woken already.
                        data.store(2, Ordering::Relaxed);
                        waker.wake_by_ref();
                    })
                });
                match data.load(Ordering::Relaxed) {
                    2 => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            });
            // A lost wake-up would hang.
            block_on(wait);
            thread.unwrap().join().unwrap();
        }
    });
}

#[test]
fn b08_a_poll_that_consumes_the_park_token_of_its_thread_is_still_woken() {
    with_both_waits(|| {
        fn consume_tokens(waker: &Waker) {
            let (waker, this_thread) = (waker.clone(), thread::current());
            elsewhere(move || {
                waker.wake();
                this_thread.unpark();
            });
            thread::park_timeout(MS);
            // The parker of another executor, on this thread.
            futures_lite::future::block_on(pending_once(|waker| {
                let waker = waker.clone();
                elsewhere(move || waker.wake());
            }));
        }
        block_on(pending_once(consume_tokens));
        block_on(async { spawn(pending_once(consume_tokens)).await });
    });
}

#[test]
fn b09_each_wait_for_a_socket_that_is_always_writable_takes_two_polls() {
    async_test(async || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = Async::new(socket).unwrap();
        let polls = Cell::new(0);
        for _ in 0..1_000 {
            let writable = poll_fn(|cx| socket.poll_writable(cx));
            count_polls(&polls, writable).await.unwrap();
        }
        // One poll that waits, and one that is woken.
        assert_eq!(polls.get(), 2 * 1_000);
    });
}

#[test]
fn b10_bytes_that_arrive_right_after_a_blocked_read_are_reported() {
    watchdog(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            for round in 0..5_000_u32 {
                let sent = round.to_le_bytes();
                let mut back = [0; 4];
                stream.write_all(&sent).unwrap();
                stream.read_exact(&mut back).unwrap();
                assert_eq!(sent, back);
            }
        });
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let echoed = block_on(async {
            let mut stream = TcpStream::try_from(stream).unwrap();
            // Short reads, and more bytes during the loop.
            let mut buf = [0; 64];
            let mut echoed = 0;
            loop {
                let n = stream.read(&mut buf).await.unwrap();
                if n == 0 {
                    return echoed;
                }
                stream.write_all(&buf[..n]).await.unwrap();
                echoed += n;
            }
        });
        peer.join().unwrap();
        assert_eq!(echoed, 4 * 5_000);
    });
}

/// Fills the counters of all eventfds, so that every later notification fails.
#[cfg(all(target_os = "linux", not(soloist_portable)))]
fn break_notifications() -> usize {
    let mut filled = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let path = entry.unwrap().path();
        let Ok(kind) = std::fs::read_link(&path) else {
            continue;
        };
        if kind.to_string_lossy() != "anon_inode:[eventfd]" {
            continue;
        }
        let number = path.file_name().unwrap().to_str().unwrap();
        let number = number.parse().unwrap();
        #[expect(unsafe_code, reason = "the fd is private to the reactor")]
        // SAFETY: the list has just named it, and the reactor lives until the process
        // ends: it is open.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let most = u64::MAX - 1;
        assert_eq!(rustix::io::write(fd, &most.to_ne_bytes()), Ok(8));
        filled += 1;
    }
    filled
}

#[test]
#[cfg(all(target_os = "linux", not(soloist_portable)))]
fn b11_a_notification_that_fails_panics() {
    let test = || {
        block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let _socket = Async::new(socket).unwrap();
            sleep(MS).await;
            assert!(break_notifications() >= 1);
            let handle = soloist::Handle::current();
            let thread = thread::spawn(move || {
                panic_of(|| {
                    // Only a push that finds the runtime parked notifies it.
                    for _ in 0..1_000 {
                        handle.spawn(|| async {}).detach();
                        thread::sleep(MS);
                    }
                })
            });
            while !thread.is_finished() {
                sleep(5 * MS).await;
            }
            let said = thread.join().expect("the notification must fail loudly");
            assert!(said.contains("could not be notified"), "{said}");
        });
    };
    in_own_process(test);
}

#[test]
fn wakers_of_finished_and_cancelled_tasks_have_no_effect() {
    with_both_waits(|| {
        let runtime = Runtime::new();
        let (finished, cancelled) = (Seen::new(), Seen::new());
        let task = runtime.spawn(cancelled.probe());
        runtime.spawn(finished.probe()).detach();
        run_until_idle(&runtime);
        let wakers = [finished.waker(), cancelled.waker()];
        drop(task);
        finished.finish();
        run_until_idle(&runtime);
        assert_eq!((finished.polls.get(), cancelled.polls.get()), (2, 1));

        for waker in &wakers {
            waker.wake_by_ref();
        }
        let done = turn(&runtime);
        assert_eq!((done.polled, done.ready), (0, 0));
        runtime.block_on(async {
            wakers.iter().for_each(Waker::wake_by_ref);
            yield_now().await;
        });
        let thread = thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
        thread.join().unwrap();
        assert_eq!(turn(&runtime).polled, 0);
        assert_eq!((finished.polls.get(), cancelled.polls.get()), (2, 1));
        assert_eq!((finished.drops.get(), cancelled.drops.get()), (1, 1));
    });
}

#[test]
fn the_waker_of_an_earlier_main_does_not_wake_a_later_one() {
    with_both_waits(|| {
        let runtime = Runtime::new();
        let old = runtime.block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
        let polls = Cell::new(0);
        runtime.block_on(count_polls(&polls, async {
            old.wake_by_ref();
            let old = old.clone();
            elsewhere(move || old.wake());
            spawn(async {
                yields(3).await;
            })
            .await;
        }));
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn a_queue_entry_of_an_earlier_main_is_not_a_poll() {
    with_both_waits(|| {
        let runtime = Runtime::new();
        let woken_and_done = || {
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                let waker = cx.waker().clone();
                elsewhere(move || waker.wake());
                Poll::Ready(())
            })
        };
        runtime.block_on(woken_and_done());
        assert_eq!(turn(&runtime).polled, 0);
        runtime.block_on(woken_and_done());
        let polls = Cell::new(0);
        runtime.block_on(count_polls(&polls, yield_now()));
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn foreign_wakes_arrive_before_and_after_the_reactor_is_created() {
    watchdog(|| {
        let polls = leak(Cell::new(0));
        let mut socket = None;
        let mut woken = pin!(woken_by(1, 500, polls));
        block_on(poll_fn(|cx| {
            if polls.get() == 250 {
                // It has waited in the parker until now.
                let bound = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket = Some(Async::new(bound).unwrap());
            }
            woken.as_mut().poll(cx).map(drop)
        }));
        assert!(socket.is_some());
        assert_eq!(polls.get(), 1 + 500);
    });
}
