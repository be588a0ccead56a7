//! Sources and the tasks that wait for them: which tasks are woken, and what waiting costs.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
#[cfg(all(target_os = "linux", not(soloist_portable)))]
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;

use futures_lite::future::{or, zip};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use soloist::io::Async;
use soloist::net;
use soloist::time::{now, sleep_until, timeout};

use crate::support::*;

/// A peer whose data arrives at once.
#[cfg(unix)]
type Pipe = std::os::unix::net::UnixStream;
#[cfg(not(unix))]
type Pipe = TcpStream;

/// Both ends of a pipe; the first is registered.
fn pipe() -> (Async<Pipe>, Pipe) {
    #[cfg(unix)]
    let (ours, theirs) = Pipe::pair().unwrap();
    #[cfg(not(unix))]
    let (ours, theirs) = tcp_pair();
    (Async::new(ours).unwrap(), theirs)
}

/// More than fits between a writer and a reader.
const MORE: usize = if cfg!(unix) { 1 << 20 } else { 1 << 25 };

// The life of a reactor.

#[cfg(target_os = "linux")]
#[test]
fn before_the_first_socket_there_is_no_reactor() {
    in_own_process(|| {
        let before = open_fds();
        block_on(async {});
        assert_eq!(open_fds(), before, "a future that is ready");
        block_on(async {
            sleep(2 * MS).await;
            fails_soon(pending::<()>()).await;
            let task = spawn(async { yield_now().await });
            task.await;
            assert_eq!(open_fds(), before, "timers and tasks");
            let handle = Handle::current();
            let remote = on_thread(move || {
                thread::sleep(5 * MS);
                handle.spawn(|| async { open_fds() }).wait().unwrap()
            });
            assert_eq!(remote.await, before, "wakes from other threads");
        });
        let runtime = Runtime::new();
        runtime.turn(Some(MS)).unwrap();
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr();
        let address = address.unwrap();
        assert_eq!(open_fds(), before);

        // A failed call opens none.
        drop(net::TcpListener::try_from(
            TcpListener::bind("127.0.0.1:0").unwrap(),
        ));
        assert_eq!(open_fds(), before, "outside of a runtime");

        runtime.block_on(async {
            net::TcpListener::bind(SocketAddr::new(address.ip(), 0))
                .await
                .unwrap();
        });
        let with_reactor = open_fds();
        assert!(with_reactor > before);
        for _ in 0..100 {
            block_on(async {
                let listener = net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                assert_pending(listener.accept()).await;
                sleep(Duration::from_micros(100)).await;
            });
        }
        // One more is the timer for the last millisecond of a sleep.
        assert!(open_fds() <= with_reactor + 1, "one reactor per thread");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_reactor_is_closed_when_its_thread_ends() {
    in_own_process(|| {
        let before = open_fds();
        // Handles, wakers and tasks do not keep it.
        let left: Vec<_> = (0..20)
            .map(|_| {
                let thread = thread::spawn(|| {
                    block_on(async {
                        let (ours, mut theirs) = pipe();
                        theirs.write_all(b"x").unwrap();
                        ours.readable().await.unwrap();
                        sleep(Duration::from_micros(1300)).await;
                        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                        let remote = Handle::current().spawn(pending::<()>);
                        let sleep = sleep(SECOND);
                        (Handle::current(), waker, remote, sleep)
                    })
                });
                thread.join().unwrap()
            })
            .collect();
        assert_eq!(open_fds(), before);
        for (handle, waker, remote, _) in left {
            handle.stop();
            waker.wake();
            remote.abort();
        }
    });
}

// File descriptors and slots that are reused.

#[cfg(unix)]
#[test]
fn b55_an_event_of_a_closed_source_does_not_wake_the_next_with_its_fd() {
    use std::os::fd::AsRawFd;

    watchdog(|| {
        // In a child process, where no other test takes the number of the closed fd.
        let name = "reactor::b55_an_event_of_a_closed_source_does_not_wake_the_next_with_its_fd";
        passes_in_child(name, || {
            block_on(async {
                for _ in 0..100 {
                    let (a, mut a_peer) = pipe();
                    let (b, mut b_peer) = pipe();
                    let b = Rc::new(RefCell::new(b));
                    let waiting = {
                        let b = b.clone();
                        let polls = leak(Cell::new(0));
                        let wait = poll_fn(move |cx| b.borrow().poll_readable(cx));
                        let task = spawn(async move { count_polls(polls, wait).await });
                        yield_now().await;
                        assert_eq!(polls.get(), 1);
                        task
                    };
                    let swap = {
                        let b = b.clone();
                        spawn(async move {
                            a.readable().await.unwrap();
                            // Perhaps it was reported in the same batch.
                            let number = b.borrow().get_ref().as_raw_fd();
                            let (other, keep) = Pipe::pair().unwrap();
                            let old = b.replace(Async::new(other).unwrap());
                            drop(old);
                            let (c, c_peer) = Pipe::pair().unwrap();
                            assert!([&c, &c_peer].iter().any(|c| c.as_raw_fd() == number));
                            (Async::new(c).unwrap(), c_peer, keep)
                        })
                    };
                    yield_now().await;
                    b_peer.write_all(b"x").unwrap();
                    a_peer.write_all(b"x").unwrap();
                    let (c, mut c_peer, mut keep) = soon(swap).await;
                    assert_pending(c.readable()).await;
                    sleep(Duration::from_micros(200)).await;
                    let mut readable = pin!(c.readable());
                    assert_pending(readable.as_mut()).await;
                    c_peer.write_all(b"x").unwrap();
                    soon(readable).await.unwrap();
                    keep.write_all(b"x").unwrap();
                    soon(waiting).await.unwrap();
                }
            });
        });
    });
}

#[test]
fn b55_b64_refused_connects_never_succeed() {
    async_test(async || {
        let (_socket, address) = refusing();
        for _ in 0..100 {
            let connects: Vec<_> = (0..10)
                .map(|_| spawn(net::TcpStream::connect(address)))
                .collect();
            for connect in connects {
                let error = soon(connect).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
                assert!(error.to_string().contains(&address.to_string()), "{error}");
            }
        }
    });
}

#[test]
fn b56_a_duplicate_keeps_no_registration_alive() {
    async_test(async || {
        for waited in [false, true] {
            let (ours, mut theirs) = pipe();
            let duplicate = ours.get_ref().try_clone().unwrap();
            if waited {
                fails_soon(ours.readable()).await;
            }
            drop(ours);
            theirs.write_all(b"x").unwrap();
            assert_idle(50 * MS).await;
            // The duplicate can be registered.
            let duplicate = Async::new(duplicate).unwrap();
            soon(duplicate.readable()).await.unwrap();
        }
    });
}

#[test]
fn b57_an_object_can_be_registered_again() {
    async_test(async || {
        let (mut ours, mut theirs) = pipe();
        for round in 0..1000 {
            if round % 2 == 0 {
                ours = Async::new(ours.into_inner()).unwrap();
            } else {
                // Another fd of the same socket.
                let duplicate = ours.get_ref().try_clone().unwrap();
                drop(ours);
                ours = Async::new(duplicate).unwrap();
            }
            if round % 3 == 0 {
                assert_pending(ours.readable()).await;
            }
            if round % 5 == 0 {
                theirs.write_all(b"x").unwrap();
                let n = soon(ours.read_with(|mut io| io.read(&mut [0; 8]))).await;
                assert_eq!(n.unwrap(), 1);
            }
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b58_a_second_registration_fails_and_leaves_the_first_intact() {
    async_test(async || {
        let (ours, mut theirs) = Pipe::pair().unwrap();
        let ours = std::sync::Arc::new(ours);
        let first = Async::new(ours.clone()).unwrap();
        let waiting = async { first.readable().await };
        let disturb = async {
            for _ in 0..3 {
                let error = Async::new(ours.clone()).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
                yield_now().await;
            }
            sleep(2 * MS).await;
            theirs.write_all(b"x").unwrap();
        };
        soon(zip(waiting, disturb)).await.0.unwrap();
        // When the first is dropped, a second one can be registered.
        drop(first);
        let second = Async::new(ours.clone()).unwrap();
        soon(second.readable()).await.unwrap();
    });
}

/// A `TcpListener` is registered when it is first waited for, and fails then if its fd is
/// registered already.
#[test]
fn b121_a_second_registration_of_an_fd_says_so() {
    async_test(async || {
        let listener = soloist::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = std::sync::Arc::new(listener.unwrap());
        let first = Async::new(listener.clone()).unwrap();
        for error in [
            soon(listener.accept()).await.unwrap_err(),
            Async::new(listener.clone()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            let text = error.to_string();
            assert!(text.contains("has already registered"), "{text}");
            assert!(text.contains("try_clone"), "{text}");
        }
        drop(first);
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        soon(listener.accept()).await.unwrap();
    });
}

// Events without a waiter.

fn tcp() -> (Async<TcpStream>, TcpStream) {
    let (ours, theirs) = tcp_pair();
    (Async::new(ours).unwrap(), theirs)
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

#[test]
fn b59_b102_a_peer_that_closes_while_no_task_waits_costs_no_cpu_time() {
    async fn read_to_its_end(stream: &Async<TcpStream>) {
        let read = stream.read_with(|mut io| io.read(&mut [0; 8]));
        match soon(read).await {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    watchdog(|| {
        let close: [fn(TcpStream); 4] = [
            drop,
            reset,
            |stream| drop((&stream).write_all(b"x")),
            |stream| {
                (&stream).write_all(b"x").unwrap();
                reset(stream);
            },
        ];
        block_on(async {
            let mut streams = Vec::new();
            for close in close {
                // It was waited for in this direction, in the other, in both, or never.
                for wait in 0..4 {
                    let (ours, theirs) = tcp();
                    if wait & 1 != 0 {
                        fails_soon(ours.readable()).await;
                    }
                    if wait & 2 != 0 {
                        soon(ours.writable()).await.unwrap();
                    }
                    close(theirs);
                    streams.push(ours);
                }
            }
            // A socket beside them that is waited for.
            let (mut idle, _peer) = tcp();
            let reading = spawn(async move { idle.read(&mut [0]).await });
            assert_idle(50 * MS).await;
            assert!(!reading.is_finished());
            for stream in &streams[..8] {
                read_to_its_end(stream).await;
            }
            // Streams that are known to be at their end.
            assert_idle(50 * MS).await;
            for stream in &streams {
                soon(stream.readable()).await.unwrap();
                soon(stream.writable()).await.unwrap();
            }
            assert_idle(50 * MS).await;
        });
    });
}

#[test]
fn unread_data_costs_no_cpu_time() {
    async_test(async || {
        let (ours, mut theirs) = pipe();
        for _ in 0..3 {
            theirs.write_all(b"x").unwrap();
            soon(ours.readable()).await.unwrap();
            soon(ours.writable()).await.unwrap();
            soon(poll_fn(|cx| ours.poll_readable(cx))).await.unwrap();
            soon(poll_fn(|cx| ours.poll_writable(cx))).await.unwrap();
            assert_idle(50 * MS).await;
        }
        let (udp, address) = udp();
        udp.get_ref().send_to(b"x", address).unwrap();
        assert_idle(50 * MS).await;
        soon(udp.readable()).await.unwrap();
        assert_idle(50 * MS).await;
    });
}

fn udp() -> (Async<UdpSocket>, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (Async::new(socket).unwrap(), address)
}

#[cfg(unix)]
#[test]
fn b60_the_end_of_a_pipe_wakes_the_other_end() {
    use crate::sys;

    async_test(async || {
        for waits in [false, true] {
            let (ours, theirs) = sys::pipe();
            let mut ours = Async::new(ours).unwrap();
            let read = spawn(async move { ours.read(&mut [0; 8]).await });
            if waits {
                sleep(MS).await;
            }
            drop(theirs);
            assert_eq!(soon(read).await.unwrap(), 0);

            let (theirs, ours) = sys::pipe();
            let mut ours = Async::new(ours).unwrap();
            let write = spawn(async move {
                loop {
                    match ours.write(&[0; 4096]).await {
                        Ok(_) => {}
                        Err(error) => return error,
                    }
                }
            });
            if waits {
                sleep(2 * MS).await;
                assert!(!write.is_finished(), "the pipe is full");
            }
            drop(theirs);
            assert_eq!(soon(write).await.kind(), io::ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn b61_an_unconnected_socket_is_no_busy_loop() {
    async_test(async || {
        let domain = socket2::Domain::IPV4;
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        let socket = Async::new(TcpStream::from(socket)).unwrap();
        assert_idle(50 * MS).await;
        let polls = Cell::new(0);
        let _ = timeout(20 * MS, count_polls(&polls, socket.readable())).await;
        assert!(polls.get() <= 3, "{} polls", polls.get());
        assert_idle(50 * MS).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b62_data_that_a_terminal_sent_before_it_hung_up_is_read() {
    watchdog(|| {
        let (mut program, user) = crate::sys::pty();
        let output: Vec<u8> = (0..64 * 1024).map(|n: u32| n as u8).collect();
        let expected = output.clone();
        let thread = thread::spawn(move || program.write_all(&output).unwrap());
        block_on(async {
            let mut user = Async::new(user).unwrap();
            let mut got = Vec::new();
            let mut buf = [0; 1000];
            loop {
                match soon(user.read(&mut buf)).await {
                    Ok(0) => break,
                    Ok(n) => got.extend_from_slice(&buf[..n]),
                    // The error of a terminal that has hung up.
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EIO));
                        break;
                    }
                }
            }
            assert!(got == expected, "{} bytes", got.len());
        });
        thread.join().unwrap();
    });
}

#[test]
fn b63_data_left_after_a_small_read_is_reported_again() {
    async_test(async || {
        const SIZE: usize = 10_000;
        let (ours, mut theirs) = pipe();
        theirs.write_all(&[7; SIZE]).unwrap();
        let polls = Cell::new(0);
        for _ in 0..SIZE {
            let readable = count_polls(&polls, ours.readable());
            soon(readable).await.unwrap();
            assert_eq!(ours.get_ref().read(&mut [0]).unwrap(), 1);
        }
        assert_eq!(polls.get(), 2 * SIZE);
        fails_soon(ours.readable()).await;
    });
}

#[test]
fn a_short_read_does_not_hide_what_comes_after_it() {
    async_test(async || {
        let (ours, mut theirs) = tcp_pair();
        let mut ours = net::TcpStream::try_from(ours).unwrap();
        let mut buf = [0; 64];
        for round in 1..=50 {
            theirs.write_all(&buf[..round]).unwrap();
            let mut got = 0;
            while got < round {
                got += soon(ours.read(&mut buf)).await.unwrap();
            }
            if round % 7 == 0 {
                fails_soon(ours.read(&mut buf)).await;
            }
            if round % 3 == 0 {
                // It arrives while no task waits.
                theirs.write_all(b"x").unwrap();
                sleep(MS).await;
                assert_eq!(soon(ours.peek(&mut buf)).await.unwrap(), 1);
                assert_eq!(soon(ours.read(&mut buf)).await.unwrap(), 1);
            }
        }
        theirs.write_all(b"last").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert_eq!(soon(ours.read(&mut buf)).await.unwrap(), 4);
        for _ in 0..100 {
            assert_eq!(soon(ours.read(&mut buf)).await.unwrap(), 0);
        }
    });
}

// Connecting and accepting.

#[cfg(target_os = "linux")]
#[test]
fn b65_a_connect_polled_without_an_event_is_still_pending() {
    watchdog(|| {
        let (listener, address) = refusing();
        listener.listen(0).unwrap();
        block_on(async {
            let mut connected = Vec::new();
            // Until the backlog is full: the next one gets no answer.
            let mut stuck = loop {
                let mut connect = Box::pin(net::TcpStream::connect(address));
                match timeout(20 * MS, &mut connect).await {
                    Ok(stream) => connected.push(stream.unwrap()),
                    Err(_) => break connect,
                }
                assert!(connected.len() < 100);
            };
            for _ in 0..100 {
                assert!(poll_once(&mut stuck).await.is_pending());
                sleep(Duration::from_micros(10)).await;
            }
            drop(stuck);
            let mut other = Box::pin(net::TcpStream::connect(address));
            assert!(poll_once(&mut other).await.is_pending());
            assert_idle(50 * MS).await;
        });
    });
}

// Waiting.

#[cfg(unix)]
#[test]
fn b67_signals_neither_end_nor_prolong_a_wait() {
    in_own_process(|| {
        let interrupts = crate::sys::Interrupts::start();
        let wait = || {
            block_on(async {
                let start = Instant::now();
                for micros in [100_000, 20_500, 700] {
                    sleep(Duration::from_micros(micros)).await;
                }
                assert!(start.elapsed() >= Duration::from_micros(121_200));
                on_thread(|| thread::sleep(30 * MS)).await;
            });
        };
        // In the parker, and in the reactor.
        wait();
        block_on(async {
            let (mut ours, mut theirs) = pipe();
            let writer = on_thread(move || {
                thread::sleep(30 * MS);
                theirs.write_all(b"x").unwrap();
                theirs
            });
            let (read, _theirs) = zip(ours.read(&mut [0; 8]), writer).await;
            assert_eq!(read.unwrap(), 1);
        });
        wait();
        let runtime = Runtime::new();
        let start = Instant::now();
        let turn = runtime.turn(Some(30 * MS)).unwrap();
        assert_eq!(turn.polled, 0);
        assert!(start.elapsed() >= 30 * MS);
        assert!(interrupts.stop() > 20);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b73_a_wait_that_fails_loses_nothing() {
    use std::os::fd::RawFd;

    in_own_process(|| {
        let runtime = Runtime::new();
        let readers: Vec<_> = runtime.block_on(async {
            (0..3)
                .map(|_| {
                    let (mut ours, theirs) = pipe();
                    (spawn(async move { ours.read(&mut [0; 8]).await }), theirs)
                })
                .collect()
        });
        let timer = runtime.spawn(async { sleep(MS).await });
        runtime.block_on(async { sleep(2 * MS).await });
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let numbers: Vec<RawFd> = fds
            .map(|entry| entry.unwrap())
            .filter(|entry| {
                let target = std::fs::read_link(entry.path());
                target.is_ok_and(|target| target.ends_with("anon_inode:[eventpoll]"))
            })
            .map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
            .collect();
        let [epoll] = numbers[..] else {
            panic!("{numbers:?}")
        };
        for (_, theirs) in &readers {
            (&*theirs).write_all(b"x").unwrap();
        }
        let other = std::fs::File::open("/dev/null").unwrap();
        let keep = crate::sys::replace_fd(epoll, &other);
        for _ in 0..3 {
            runtime.turn(Some(10 * MS)).unwrap_err();
        }
        drop(crate::sys::replace_fd(epoll, &keep));
        let more = runtime.spawn(async { 5 });
        runtime.block_on(async {
            for (reader, _) in readers {
                assert_eq!(soon(reader).await.unwrap(), 1);
            }
            assert_eq!(soon(more).await, 5);
            soon(timer).await;
        });
    });
}

#[cfg(unix)]
#[test]
fn more_ready_sources_than_a_wait_returns_are_all_served() {
    in_own_process(|| {
        crate::sys::limit_fds(2500);
        block_on(async {
            let pipes: Vec<_> = (0..1100).map(|_| pipe()).collect();
            let (sources, peers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
            let tasks: Vec<_> = sources
                .into_iter()
                .map(|mut source| spawn(async move { source.read(&mut [0; 8]).await.unwrap() }))
                .collect();
            yield_now().await;
            for mut peer in &peers {
                peer.write_all(b"x").unwrap();
            }
            for task in tasks {
                assert_eq!(soon(task).await, 1);
            }
        });
    });
}

// Several waiters.

/// Is done when `poll` has been ready. Each call gets another waker.
async fn with_changing_wakers(mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>) {
    struct Another(Waker);
    impl std::task::Wake for Another {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.wake_by_ref();
        }
    }
    poll_fn(|cx| {
        let waker = Waker::from(std::sync::Arc::new(Another(cx.waker().clone())));
        poll(&mut Context::from_waker(&waker)).map(Result::unwrap)
    })
    .await;
}

/// Lets tasks wait for the same source: they use no CPU time, and all are woken.
fn wait_together(count: usize, wait: impl AsyncFn(Rc<Async<Pipe>>, usize) + 'static) {
    block_on(async {
        let (ours, mut theirs) = pipe();
        let (ours, wait) = (Rc::new(ours), Rc::new(wait));
        let polls = leak(Cell::new(0));
        let tasks: Vec<_> = (0..count)
            .map(|n| {
                let (ours, wait) = (ours.clone(), wait.clone());
                spawn(async move { count_polls(polls, wait(ours, n)).await })
            })
            .collect();
        assert_idle(50 * MS).await;
        assert!(polls.get() <= 2 * count, "{} polls", polls.get());
        theirs.write_all(b"x").unwrap();
        for task in tasks {
            soon(task).await;
        }
    });
}

#[test]
fn b68_tasks_that_poll_for_readiness_do_not_wake_each_other() {
    // Each with a reactor of its own: when the first waiters of many are woken depends on it.
    for count in [2, 40] {
        watchdog(move || {
            wait_together(count, async |ours, _| {
                poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
            });
        });
    }
}

#[test]
fn b68_changing_wakers_do_not_wake_each_other() {
    watchdog(|| {
        wait_together(2, async |ours, _| {
            with_changing_wakers(|cx| ours.poll_readable(cx)).await;
        });
        // One task that is polled repeatedly for another reason.
        block_on(async {
            let (ours, mut theirs) = pipe();
            let mut wait = Box::pin(with_changing_wakers(|cx| ours.poll_readable(cx)));
            for _ in 0..1000 {
                assert!(poll_once(&mut wait).await.is_pending());
            }
            assert_idle(50 * MS).await;
            assert!(poll_once(&mut wait).await.is_pending());
            theirs.write_all(b"x").unwrap();
            soon(wait).await;
        });
    });
}

#[test]
fn b68_a_waker_that_is_replaced_is_not_woken() {
    async_test(async || {
        let [(a, waker_a), (b, waker_b)] = [CountWakes::new(), CountWakes::new()];
        let (ours, mut theirs) = pipe();
        let mut readable = pin!(ours.readable());
        let mut poll = |waker: &Waker| {
            let poll = readable.as_mut().poll(&mut Context::from_waker(waker));
            assert!(poll.is_pending());
        };
        for _ in 0..10 {
            poll(&waker_a);
            poll(&waker_b);
        }
        theirs.write_all(b"x").unwrap();
        sleep(2 * MS).await;
        assert_eq!((a.get(), b.get()), (0, 1));
        assert_eq!(std::sync::Arc::strong_count(&a), 2, "no waker is kept");
        assert_eq!(std::sync::Arc::strong_count(&b), 2, "no waker is kept");
    });
}

#[test]
fn b69_all_waiters_of_a_source_are_woken() {
    watchdog(|| {
        for count in [1, 3, 100] {
            wait_together(count, async |ours, n| match n % 3 {
                0 => ours.readable().await.unwrap(),
                1 => {
                    ours.writable().await.unwrap();
                    ours.readable().await.unwrap();
                }
                _ => {
                    zip(async { ours.readable().await.unwrap() }, async {
                        ours.writable().await.unwrap()
                    })
                    .await
                    .0
                }
            });
        }
        // Waiters of all kinds.
        wait_together(9, async |ours, n| match n % 3 {
            0 => ours.readable().await.unwrap(),
            1 => poll_fn(|cx| ours.poll_readable(cx)).await.unwrap(),
            _ => {
                let mut buf = [std::mem::MaybeUninit::uninit()];
                let peek = |io: &Pipe| socket2::SockRef::from(io).peek(&mut buf);
                ours.read_with(peek).await.unwrap();
            }
        });
    });
}

#[test]
fn b69_readers_and_a_writer_of_one_source_each_get_their_turn() {
    async_test(async || {
        let (ours, theirs) = pipe();
        let ours = Rc::new(ours);
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let ours = ours.clone();
                spawn(async move { (&*ours).read(&mut [0; 1]).await.unwrap() })
            })
            .collect();
        let writer = {
            let ours = ours.clone();
            // More than fits, so it waits, too.
            spawn(async move { (&*ours).write_all(&vec![0; MORE]).await.unwrap() })
        };
        sleep(2 * MS).await;
        assert!(!writer.is_finished());
        let echo = on_thread(move || {
            (&theirs).read_exact(&mut vec![0; MORE]).unwrap();
            for _ in 0..5 {
                (&theirs).write_all(b"x").unwrap();
                thread::sleep(MS);
            }
            theirs
        });
        let _theirs = soon(echo).await;
        soon(writer).await;
        for reader in readers {
            assert_eq!(soon(reader).await, 1);
        }
    });
}

#[test]
fn b70_a_reader_is_woken_once_per_event() {
    async fn read(
        count: usize,
        polls: &Cell<usize>,
        done: &Cell<usize>,
        mut from: impl AsyncRead + Unpin,
    ) {
        let reading = async {
            for _ in 0..count {
                from.read_exact(&mut [0]).await.unwrap();
                done.set(done.get() + 1);
            }
        };
        count_polls(polls, reading).await;
    }

    async_test(async || {
        const COUNT: usize = 3000;
        let (ours, theirs) = tcp_pair();
        let tcp = net::TcpStream::try_from(ours).unwrap();
        let (unix, other) = pipe();
        let (polls, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let spawn_read = |from: Box<dyn AsyncRead + Unpin>| {
            let (polls, done) = (polls.clone(), done.clone());
            polls.set(0);
            done.set(0);
            spawn(async move { read(COUNT, &polls, &done, from).await })
        };
        for (from, mut to) in [
            (
                Box::new(tcp) as Box<dyn AsyncRead + Unpin>,
                Box::new(theirs) as Box<dyn Write>,
            ),
            (Box::new(unix), Box::new(other)),
        ] {
            let task = spawn_read(from);
            yield_now().await;
            for n in 0..COUNT {
                assert_eq!(done.get(), n);
                to.write_all(b"x").unwrap();
                while done.get() == n {
                    yield_now().await;
                }
            }
            task.await;
            assert_eq!(polls.get(), COUNT + 1);
        }
    });
}

#[test]
fn b09_readiness_is_reported_each_time_it_is_awaited() {
    async_test(async || {
        let (udp, _) = udp();
        let polls = Cell::new(0);
        for _ in 0..1000 {
            let writable = poll_fn(|cx| udp.poll_writable(cx));
            soon(count_polls(&polls, writable)).await.unwrap();
            soon(count_polls(&polls, udp.writable())).await.unwrap();
        }
        assert_eq!(polls.get(), 4000);
    });
}

#[test]
fn b39_a_reader_may_drop_the_source_in_an_event_for_both_directions() {
    async_test(async || {
        let (ours, mut theirs) = pipe();
        let ours = leak(RefCell::new(Some(ours)));
        let polls = Rc::new(Cell::new(0));
        let wait = |direction: fn(&Async<Pipe>, &mut Context<'_>) -> Poll<io::Result<()>>| {
            let polls = polls.clone();
            spawn(async move {
                let wait = poll_fn(|cx| match &*ours.borrow() {
                    Some(source) => direction(source, cx).map(|ready| ready.is_ok()),
                    None => Poll::Ready(false),
                });
                let ready = count_polls(&polls, wait).await;
                drop(ours.take());
                ready
            })
        };
        theirs.write_all(b"x").unwrap();
        let reader = wait(Async::poll_readable);
        let writer = wait(Async::poll_writable);
        assert!(soon(reader).await);
        assert!(!soon(writer).await, "it finds that the source is gone");
        assert!(polls.get() <= 4);
        drop(theirs);
    });
}

#[test]
fn dropping_a_source_wakes_the_tasks_that_polled_it() {
    async_test(async || {
        let (ours, _theirs) = pipe();
        let ours = Rc::new(RefCell::new(Some(ours)));
        let waiting = {
            let ours = ours.clone();
            spawn(poll_fn(move |cx| match &*ours.borrow() {
                Some(source) => source.poll_readable(cx).map(|_| ()),
                None => Poll::Ready(()),
            }))
        };
        sleep(MS).await;
        drop(ours.take());
        soon(waiting).await;
    });
}

// Objects that cannot be polled, or block.

#[cfg(unix)]
#[test]
fn b71_a_regular_file_is_refused_each_time() {
    in_own_process(|| {
        let open = || std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        block_on(async {
            let (ours, mut theirs) = pipe();
            #[cfg(target_os = "linux")]
            let before = open_fds();
            for _ in 0..1000 {
                let error = Async::new(open()).unwrap_err();
                assert!(error.to_string().contains("cannot be polled"), "{error}");
            }
            #[cfg(target_os = "linux")]
            assert_eq!(open_fds(), before);
            theirs.write_all(b"x").unwrap();
            soon(ours.readable()).await.unwrap();
        });
    });
}

#[test]
fn b72_a_blocking_socket_does_not_block_the_others() {
    async_test(async || {
        let (ours, _theirs) = tcp_pair();
        let mut stream = net::TcpStream::try_from(ours).unwrap();
        fails_soon(stream.read(&mut [0; 8])).await;
        let (ours, _theirs) = tcp_pair();
        let mut stream = Async::new(ours).unwrap();
        fails_soon(stream.read(&mut [0; 8])).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = net::TcpListener::try_from(listener).unwrap();
        fails_soon(listener.accept()).await;
        // An accepted one: whether it inherits the mode depends on the system.
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        fails_soon(stream.read(&mut [0; 8])).await;
    });
}

// Reports without a waiter.

/// Lets a timer and the source fire in the same visit of the reactor.
async fn fire_together(due: Instant, peer: &mut Pipe) {
    yield_now().await;
    peer.write_all(b"x").unwrap();
    while Instant::now() < due {
        compute_for(Duration::from_micros(10));
    }
}

#[test]
fn b100_a_reader_dropped_after_its_wake_leaves_no_busy_loop() {
    async_test(async || {
        type Race = fn(Rc<Async<Pipe>>) -> Pin<Box<dyn Future<Output = ()>>>;
        let races: [Race; 3] = [
            |source| Box::pin(async move { source.readable().await.unwrap() }),
            |source| Box::pin(async move { poll_fn(|cx| source.poll_readable(cx)).await.unwrap() }),
            |source| {
                Box::pin(async move {
                    (&*source).read(&mut [0; 8]).await.unwrap();
                })
            },
        ];
        for race in races {
            let (ours, mut theirs) = pipe();
            let ours = Rc::new(ours);
            let due = now() + 2 * MS;
            let read = race(ours.clone());
            let task = spawn(async move {
                let timer = async {
                    sleep_until(due).await;
                    true
                };
                let read = async {
                    read.await;
                    false
                };
                or(timer, read).await
            });
            fire_together(due, &mut theirs).await;
            assert!(soon(task).await, "the timer is polled first");
            assert_idle(50 * MS).await;
            // The byte can still be read.
            soon(ours.readable()).await.unwrap();
            assert_eq!(soon((&*ours).read(&mut [0; 8])).await.unwrap(), 1);
        }
    });
}

#[test]
fn b100_a_woken_task_that_awaits_something_else_leaves_no_busy_loop() {
    async_test(async || {
        let (ours, mut theirs) = pipe();
        let ours = Rc::new(ours);
        let release = leak(Cell::new(false));
        let task = {
            let ours = ours.clone();
            spawn(async move {
                let mut readable = pin!(ours.readable());
                // Polled once, and then not for a while.
                assert_pending(readable.as_mut()).await;
                while !release.get() {
                    sleep(20 * MS).await;
                }
                readable.await.unwrap();
            })
        };
        yield_now().await;
        theirs.write_all(b"x").unwrap();
        assert_idle(50 * MS).await;
        // Another waiter comes meanwhile.
        soon(ours.readable()).await.unwrap();
        assert_idle(50 * MS).await;
        release.set(true);
        soon(task).await;
        assert_eq!(soon((&*ours).read(&mut [0; 8])).await.unwrap(), 1);
    });
}

#[test]
fn b100_a_reported_direction_can_be_waited_for_again() {
    async_test(async || {
        let (ours, mut theirs) = pipe();
        for _ in 0..50 {
            assert_pending(ours.readable()).await;
            theirs.write_all(b"x").unwrap();
            // Reported, while no task waits for it.
            sleep(Duration::from_micros(300)).await;
            soon(ours.writable()).await.unwrap();
            soon(ours.readable()).await.unwrap();
            sleep(Duration::from_micros(300)).await;
            assert_eq!(soon((&ours).read(&mut [0; 8])).await.unwrap(), 1);
            assert_pending(ours.writable()).await;
            sleep(Duration::from_micros(300)).await;
        }
        drop(theirs);
        sleep(MS).await;
        soon(ours.readable()).await.unwrap();
        assert_eq!(soon((&ours).read(&mut [0; 8])).await.unwrap(), 0);
    });
}

/// The events for which this fd is registered with the poller of the system: a mask of `EPOLLIN` etc.
#[cfg(all(target_os = "linux", not(soloist_portable)))]
fn interest_in(fd: &impl AsFd) -> u32 {
    let tfd = fd.as_fd().as_raw_fd().to_string();
    for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        // It may be closed by now: other tests have fds as well.
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            if words.len() > 3 && words[0] == "tfd:" && words[1] == tfd {
                return u32::from_str_radix(words[3], 16).unwrap();
            }
        }
    }
    panic!("no poller watches {tfd}")
}

/// A one-shot registration would end with each report.
#[test]
#[cfg(all(target_os = "linux", not(soloist_portable)))]
fn a_report_leaves_the_interest_in_other_sources_unchanged() {
    const IN: u32 = 1;
    async_test(async || {
        let (one, mut theirs) = pipe();
        let other = one.get_ref().try_clone().unwrap();
        let ends = leak([one, Async::new(other).unwrap()]);
        let tasks = [0, 1].map(|n| {
            spawn(async move {
                ends[n].readable().await.unwrap();
                // The first has been polled, and the reactor visited. The byte for the second is
                // still there.
                assert_eq!(ends.each_ref().map(|end| interest_in(end) & IN), [IN; 2]);
                assert_eq!((&ends[n]).read(&mut [0]).await.unwrap(), 1);
                // So long that the reactor is visited before the other one is polled.
                thread::sleep(3 * MS);
            })
        });
        yield_now().await;
        // One write makes both readable at once.
        theirs.write_all(b"xy").unwrap();
        for task in tasks {
            soon(task).await;
        }
    });
}

/// Polls all sources with the waker of the task, until each has returned a byte.
async fn read_all(sources: Rc<Vec<Async<Pipe>>>) -> usize {
    let mut left: Vec<usize> = (0..sources.len()).collect();
    let mut polls = 0;
    poll_fn(move |cx| {
        polls += 1;
        left.retain(|n| {
            let read = Pin::new(&mut &sources[*n]).poll_read(cx, &mut [0; 8]);
            !read.is_ready()
        });
        match left.is_empty() {
            true => Poll::Ready(polls),
            false => Poll::Pending,
        }
    })
    .await
}

#[test]
fn one_task_waits_for_hundreds_of_sockets() {
    async_test(async || {
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..300).map(|_| pipe()).unzip();
        let ours = Rc::new(ours);
        for main in [false, true] {
            let (reading, writing) = (read_all(ours.clone()), async {
                for mut theirs in &theirs {
                    yield_now().await;
                    theirs.write_all(b"x").unwrap();
                }
            });
            let polls = match main {
                false => zip(spawn(reading), writing).await.0,
                true => zip(reading, writing).await.0,
            };
            assert!(polls > 1);
        }
        // Many waits that are dropped.
        let task = spawn(read_all(ours.clone()));
        yield_now().await;
        drop(task);
        let polls = zip(read_all(ours), async {
            for mut theirs in &theirs {
                theirs.write_all(b"x").unwrap();
            }
        });
        polls.await;
    });
}

/// Sources belong to the thread: an event that one runtime finds may be for a task of another, also
/// of one that has been dropped.
#[test]
fn a_runtime_delivers_the_events_of_other_runtimes_on_its_thread() {
    watchdog(|| {
        let (one, other) = (Runtime::new(), Runtime::new());
        let polls = leak(Cell::new(0));
        let (ours, mut theirs) = one.block_on(async { pipe() });
        let ours = Rc::new(ours);
        let wait = |reads: usize| {
            let ours = ours.clone();
            async move {
                let reading = async {
                    for _ in 0..reads {
                        assert_eq!((&*ours).read(&mut [0; 8]).await.unwrap(), 1);
                    }
                };
                count_polls(polls, reading).await;
            }
        };
        let mut send = || {
            other.block_on(async {
                theirs.write_all(b"x").unwrap();
                sleep(MS).await;
            });
        };
        let task = one.spawn(wait(2));
        one.block_on(yield_now());
        assert_eq!(polls.get(), 1);
        send();
        assert_eq!(polls.get(), 1, "its runtime does not run");
        one.block_on(yield_now());
        assert_eq!(polls.get(), 2);
        send();
        one.block_on(task);
        assert_eq!(polls.get(), 3);

        let left = one.spawn(wait(1));
        one.block_on(yield_now());
        assert_eq!(polls.get(), 4);
        drop(one);
        send();
        drop(left);
        assert_eq!(polls.get(), 4);
        other.block_on(wait(1));
    });
}
