//! Operations and tasks that are given up half way.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use futures_lite::future::{or, zip};
use futures_lite::{AsyncReadExt, AsyncWriteExt, StreamExt};
use soloist::io::Async;
use soloist::net::{TcpListener, TcpStream};
use soloist::task::yield_now;
use soloist::time::{sleep, timeout};
use soloist::{Runtime, Task, block_on, spawn};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

async fn soon<F: Future>(future: F) -> F::Output {
    match timeout(Duration::from_secs(20), future).await {
        Ok(output) => output,
        Err(_) => panic!("it does not happen"),
    }
}

// Tasks.

#[test]
fn a_destructor_that_makes_a_turn_does_not_run_its_own_future() {
    /// Tries to make a turn of its runtime when it is dropped, and must not be polled in it.
    struct Turns(Rc<Runtime>, Rc<Cell<usize>>, Cell<bool>);
    impl Future for Turns {
        type Output = ();

        fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
            assert!(!self.2.get(), "polled while it is dropped");
            Poll::Pending
        }
    }
    impl Drop for Turns {
        fn drop(&mut self) {
            self.2.set(true);
            let text = panic_of(|| self.0.turn(Some(Duration::ZERO)));
            assert!(text.starts_with("`turn` inside of a running"), "{text}");
            self.1.set(self.1.get() + 1);
        }
    }

    watchdog(|| {
        let runtime = Rc::new(Runtime::new());
        let dropped = Rc::new(Cell::new(0));
        let turns = Turns(runtime.clone(), dropped.clone(), Cell::new(false));
        let task = runtime.spawn(turns);
        let other = runtime.spawn(async {});
        // From outside of the runtime, while the task is queued.
        drop(task);
        assert_eq!(dropped.get(), 1);
        assert!(!other.is_finished());
        runtime.block_on(other);
    });
}

#[test]
fn b90_a_task_is_aborted_from_wherever_and_whenever() {
    watchdog(|| {
        block_on(async {
            let here = thread::current().id();

            // By another thread, at rest, twice.
            let seen = Seen::new();
            let task = spawn(seen.probe());
            yield_now().await;
            let handle = task.abort_handle();
            on_thread(move || {
                handle.abort();
                handle.abort();
            })
            .await;
            assert!(soon(task.join()).await.unwrap_err().is_cancelled());
            assert_eq!((seen.polls.get(), seen.drops.get()), (1, 1));
            assert_eq!(seen.dropped_on.get(), Some(here));

            // Before its first poll.
            let seen = Seen::new();
            let task = spawn(seen.probe());
            task.abort_handle().abort();
            assert_eq!(seen.drops.get(), 0, "it only marks and wakes");
            assert!(soon(task.join()).await.unwrap_err().is_cancelled());
            assert_eq!((seen.polls.get(), seen.drops.get()), (0, 1));

            // By itself, in its poll: that goes on to its end.
            let seen = Seen::new();
            let own = Rc::new(RefCell::new(None::<soloist::task::AbortHandle>));
            let task = {
                let (probe, own, seen) = (seen.probe(), own.clone(), seen.clone());
                spawn(async move {
                    own.borrow().as_ref().unwrap().abort();
                    assert_eq!(seen.drops.get(), 0);
                    probe.await;
                })
            };
            *own.borrow_mut() = Some(task.abort_handle());
            assert!(soon(task.join()).await.unwrap_err().is_cancelled());
            assert_eq!((seen.polls.get(), seen.drops.get()), (1, 1));

            // By itself, in its last poll: it has finished.
            let own = Rc::new(RefCell::new(None::<soloist::task::AbortHandle>));
            let task = {
                let own = own.clone();
                spawn(async move {
                    own.borrow().as_ref().unwrap().abort();
                    5
                })
            };
            *own.borrow_mut() = Some(task.abort_handle());
            assert_eq!(soon(task.join()).await.unwrap(), 5);

            // Afterwards, and when nobody is left to hear of it.
            let task = spawn(async { 6 });
            let handle = task.abort_handle();
            yield_now().await;
            handle.abort();
            on_thread({
                let handle = handle.clone();
                move || handle.abort()
            })
            .await;
            assert_eq!(soon(task).await, 6);
            handle.abort();

            // One that is detached.
            let seen = Seen::new();
            let task = spawn(seen.probe());
            let handle = task.abort_handle();
            task.detach();
            yield_now().await;
            handle.abort();
            yield_now().await;
            assert_eq!((seen.polls.get(), seen.drops.get()), (1, 1));
        });
    });
}

#[test]
fn b90_an_abort_of_every_kind_ends_the_future_once_on_its_own_thread() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum When {
        BeforeTheFirstPoll,
        AtRest,
        InItsPoll,
        InItsLastPoll,
        Done,
        RuntimeGone,
    }
    use When::*;
    fn abort(handle: &soloist::task::AbortHandle, foreign: bool, times: usize) {
        let handle = handle.clone();
        let all = move || (0..times).for_each(|_| handle.abort());
        if foreign {
            thread::spawn(all).join().unwrap();
        } else {
            all();
        }
    }
    fn case(when: When, foreign: bool, times: usize, held: bool) {
        let runtime = Runtime::new();
        let seen = Seen::new();
        let own = Rc::new(RefCell::new(None::<soloist::task::AbortHandle>));
        let mut probe = seen.probe();
        let task = runtime.spawn({
            let own = own.clone();
            std::future::poll_fn(move |cx| {
                if matches!(when, InItsPoll | InItsLastPoll) {
                    abort(own.borrow().as_ref().unwrap(), foreign, times);
                }
                std::pin::Pin::new(&mut probe).poll(cx)
            })
        });
        let handle = task.abort_handle();
        *own.borrow_mut() = Some(handle.clone());
        let turns = |runtime: &Runtime| {
            for _ in 0..4 {
                runtime.turn(Some(Duration::ZERO)).unwrap();
            }
        };
        let mut task = Some(task);
        if !held {
            task.take().unwrap().detach();
        }
        seen.ready.set(matches!(when, InItsLastPoll | Done));
        if when != BeforeTheFirstPoll {
            turns(&runtime);
        }
        if when == RuntimeGone {
            drop(runtime);
            abort(&handle, foreign, times);
        } else {
            abort(&handle, foreign, times);
            turns(&runtime);
        }
        let polls = usize::from(when != BeforeTheFirstPoll);
        assert_eq!((seen.polls.get(), seen.drops.get()), (polls, 1));
        assert_eq!(seen.dropped_on.get(), Some(thread::current().id()));
        if let Some(task) = task {
            match block_on(task.join()) {
                Ok(()) => assert!(matches!(when, InItsLastPoll | Done)),
                Err(error) => {
                    assert!(error.is_cancelled());
                    assert!(!matches!(when, InItsLastPoll | Done));
                }
            }
        }
        assert_eq!(seen.drops.get(), 1);
    }
    watchdog(|| {
        let whens = [
            BeforeTheFirstPoll,
            AtRest,
            InItsPoll,
            InItsLastPoll,
            Done,
            RuntimeGone,
        ];
        for when in whens {
            for foreign in [false, true] {
                for times in [1, 2] {
                    for held in [false, true] {
                        eprintln!("{when:?}, foreign: {foreign}, {times} times, held: {held}");
                        case(when, foreign, times, held);
                    }
                }
            }
        }
    });
}

#[test]
fn b90_an_abort_outlives_its_runtime() {
    watchdog(|| {
        let seen = Seen::new();
        let runtime = Runtime::new();
        let task = runtime.spawn(seen.probe());
        let handle = task.abort_handle();
        handle.abort();
        drop(runtime);
        assert_eq!(seen.drops.get(), 1);
        handle.abort();
        thread::spawn(move || handle.abort()).join().unwrap();
        assert!(block_on(task.join()).unwrap_err().is_cancelled());
    });
}

#[test]
fn b91_after_a_cancel_the_future_has_been_dropped() {
    watchdog(|| {
        block_on(async {
            // At rest, and before its first poll: at once.
            for polls in [0, 1] {
                let seen = Seen::new();
                let task = spawn(seen.probe());
                for _ in 0..polls {
                    yield_now().await;
                }
                let cancelled = task.cancel();
                assert_eq!((seen.polls.get(), seen.drops.get()), (polls, 1));
                soon(cancelled).await;
                assert_eq!(seen.drops.get(), 1);
            }
            // It is dropped by dropping the handle or its `join`, too.
            for join in [false, true] {
                let seen = Seen::new();
                let task = spawn(seen.probe());
                yield_now().await;
                if join {
                    let mut join = Box::pin(task.join());
                    assert!(poll_once(&mut join).await.is_pending());
                    drop(join);
                } else {
                    drop(task);
                }
                assert_eq!(seen.drops.get(), 1);
            }
            // The one that runs: at the end of its poll, and not before.
            let seen = Seen::new();
            let own = Rc::new(RefCell::new(None::<Task<()>>));
            let after = Rc::new(Cell::new(None));
            let task = {
                let (probe, own) = (seen.probe(), own.clone());
                let (seen, after) = (seen.clone(), after.clone());
                spawn(async move {
                    drop(own.borrow_mut().take());
                    after.set(Some(seen.drops.get()));
                    probe.await;
                })
            };
            *own.borrow_mut() = Some(task);
            yield_now().await;
            assert_eq!(after.get(), Some(0));
            assert_eq!((seen.polls.get(), seen.drops.get()), (1, 1));
        });
    });
}

#[test]
fn b91_a_cancel_waits_for_what_is_dropped_with_the_future() {
    watchdog(|| {
        block_on(async {
            // A task that is cancelled by the end of another one's.
            let inner = Seen::new();
            let probe = inner.probe();
            let outer = spawn(async move {
                let child = spawn(probe);
                child.await;
            });
            yield_now().await;
            yield_now().await;
            assert_eq!(inner.polls.get(), 1);
            soon(outer.cancel()).await;
            assert_eq!(inner.drops.get(), 1);

            // One whose output nobody has taken yet.
            let output = Rc::new(());
            let task = spawn({
                let output = output.clone();
                async move { output }
            });
            yield_now().await;
            assert_eq!(soon(task.cancel()).await, Some(output));
        });
    });
}

#[test]
fn a_task_that_is_cancelled_takes_its_sockets_and_timers_with_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        let (ours, theirs) = tcp_pair();
        let task = runtime.spawn(async move {
            let mut ours = TcpStream::try_from(ours).unwrap();
            let _ = timeout(Duration::from_secs(3600), ours.read(&mut [0])).await;
        });
        runtime.block_on(async { sleep(MS).await });
        assert!(runtime.next_deadline().is_some());
        runtime.block_on(async {
            let mut theirs = TcpStream::try_from(theirs).unwrap();
            let waiting = timeout(MS, theirs.read(&mut [0])).await;
            assert!(waiting.is_err());
            drop(task);
            assert_eq!(soon(theirs.read(&mut [0])).await.unwrap(), 0);
        });
        assert_eq!(runtime.next_deadline(), None);
    });
}

// Waits.

#[test]
fn b92_a_wait_that_is_given_up_leaves_nothing_behind() {
    watchdog(|| {
        block_on(async {
            let (ours, mut theirs) = tcp_pair();
            let source = Rc::new(Async::new(ours).unwrap());
            let polls = Rc::new(Cell::new(0));
            let other = {
                let (source, polls) = (source.clone(), polls.clone());
                spawn(async move { count_polls(&polls, source.readable()).await })
            };
            yield_now().await;
            let (count, waker) = CountWakes::new();
            for _ in 0..20_000 {
                let mut readable = Box::pin(source.readable());
                let poll = readable
                    .as_mut()
                    .poll(&mut std::task::Context::from_waker(&waker));
                assert!(poll.is_pending());
            }
            assert_eq!(std::sync::Arc::strong_count(&count), 2);
            assert_eq!(polls.get(), 1);
            theirs.write_all(b"x").unwrap();
            soon(other).await.unwrap();
            assert_eq!((polls.get(), count.get()), (2, 0));
        });
    });
}

/// As long as `future` may take: now and then not even long enough for one look.
async fn impatient<F: Future>(random: &mut Rng, future: F) -> Option<F::Output> {
    let patience = Duration::from_nanos(random.u64(..60_000));
    timeout(patience, future).await.ok()
}

/// Connections come while accepts are given up all the time.
fn accept_impatiently(connections: usize, incoming: bool) {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients = thread::spawn(move || {
            let mut random = Rng::with_seed(1);
            for n in 0..connections as u32 {
                let mut client = std::net::TcpStream::connect(address).unwrap();
                // No connection stays behind in TIME_WAIT.
                let linger = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                linger.unwrap();
                client.write_all(&n.to_ne_bytes()).unwrap();
                // It is accepted, or it would be a reset before that.
                assert_eq!(client.read(&mut [0]).unwrap(), 1);
                thread::sleep(Duration::from_nanos(random.u64(..20_000)));
            }
        });
        let mut random = Rng::with_seed(2);
        let (mut accepted, mut given_up) = (0, 0);
        while accepted < connections as u32 {
            let stream = if incoming {
                let mut stream = listener.incoming();
                let next = impatient(&mut random, stream.next()).await;
                next.map(|next| next.unwrap())
            } else {
                let accept = impatient(&mut random, listener.accept()).await;
                accept.map(|accept| accept.map(|(stream, _)| stream))
            };
            let Some(stream) = stream else {
                given_up += 1;
                continue;
            };
            let mut stream = stream.unwrap();
            let mut number = [0; 4];
            soon(stream.read_exact(&mut number)).await.unwrap();
            assert_eq!(u32::from_ne_bytes(number), accepted);
            stream.write_all(b"x").await.unwrap();
            accepted += 1;
        }
        clients.join().unwrap();
        assert!(given_up > 0);
        let more = timeout(5 * MS, listener.accept()).await;
        assert!(more.is_err());
    });
}

#[test]
fn b93_no_connection_is_lost_to_a_timeout() {
    watchdog(|| {
        accept_impatiently(700, false);
        accept_impatiently(700, true);
    });
}

#[test]
#[ignore = "takes half a minute: a hundred thousand connections"]
fn b93_none_of_a_hundred_thousand_connections_is_lost_to_a_timeout() {
    watchdog(|| accept_impatiently(100_000, false));
}

#[test]
fn b93_no_byte_is_lost_to_a_timeout_of_a_read() {
    const SIZE: usize = 300_000;

    watchdog(|| {
        let bytes = || (0..SIZE).map(|n| (n * 7 + n / 251) as u8);
        let (ours, mut theirs) = tcp_pair();
        let sent: Vec<u8> = bytes().collect();
        let writer = thread::spawn(move || {
            let mut random = Rng::with_seed(3);
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let size = (1 + random.u64(..1000) as usize).min(rest.len());
                theirs.write_all(&rest[..size]).unwrap();
                rest = &rest[size..];
                thread::sleep(Duration::from_nanos(random.u64(..50_000)));
            }
        });
        block_on(async {
            let mut ours = TcpStream::try_from(ours).unwrap();
            let mut random = Rng::with_seed(4);
            let (mut got, mut given_up) = (Vec::new(), 0);
            let mut buf = [0; 700];
            loop {
                let size = 1 + random.u64(..buf.len() as u64) as usize;
                let read = ours.read(&mut buf[..size]);
                match impatient(&mut random, read).await {
                    Some(Ok(0)) => break,
                    Some(n) => got.extend_from_slice(&buf[..n.unwrap()]),
                    None => given_up += 1,
                }
            }
            assert!(given_up > 0);
            assert!(bytes().eq(got.iter().copied()), "{} bytes", got.len());
        });
        writer.join().unwrap();
    });
}

#[test]
fn b93_a_write_that_is_given_up_has_written_nothing() {
    const SIZE: usize = 2 << 20;

    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        // Little room, so that it waits often.
        socket2::SockRef::from(&ours)
            .set_send_buffer_size(16 << 10)
            .unwrap();
        let reader = thread::spawn(move || {
            let mut random = Rng::with_seed(5);
            let mut buf = vec![0; 50_000];
            let mut got = 0;
            loop {
                let size = 1 + random.u64(..buf.len() as u64) as usize;
                let n = theirs.read(&mut buf[..size]).unwrap();
                if n == 0 {
                    break got;
                }
                let expected = (got..got + n).map(|n| (n * 7 + n / 251) as u8);
                assert!(expected.eq(buf[..n].iter().copied()), "after {got} bytes");
                got += n;
                thread::sleep(Duration::from_nanos(random.u64(..300_000)));
            }
        });
        block_on(async {
            let mut ours = TcpStream::try_from(ours).unwrap();
            let bytes: Vec<u8> = (0..SIZE).map(|n| (n * 7 + n / 251) as u8).collect();
            let mut random = Rng::with_seed(6);
            let (mut written, mut given_up) = (0, 0);
            while written < SIZE {
                let size = (1 + random.u64(..50_000) as usize).min(SIZE - written);
                let write = ours.write(&bytes[written..written + size]);
                match impatient(&mut random, write).await {
                    Some(n) => written += n.unwrap(),
                    None => given_up += 1,
                }
            }
            assert!(given_up > 0);
            ours.close().await.unwrap();
        });
        assert_eq!(reader.join().unwrap(), SIZE);
    });
}

#[test]
fn b93_whoever_is_ready_first_is_not_lost_with_the_other() {
    watchdog(|| {
        block_on(async {
            // Two connections at once, and one accept of the two is given up.
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let accept = || async { listener.accept().await.unwrap().1 };
            for _ in 0..100 {
                let clients = [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap());
                let [first, second] = clients.each_ref().map(|c| c.local_addr().unwrap());
                assert_eq!(soon(or(accept(), accept())).await, first);
                assert_eq!(soon(accept()).await, second);
            }
            // Both wait, both are woken, one is dropped.
            for _ in 0..100 {
                let both = or(accept(), accept());
                let clients = async {
                    yield_now().await;
                    [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap())
                };
                let (from, clients) = soon(zip(both, clients)).await;
                let [first, second] = clients.each_ref().map(|c| c.local_addr().unwrap());
                assert_eq!(from, first);
                assert_eq!(soon(accept()).await, second);
            }
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b94_what_is_given_up_closes_its_fds() {
    watchdog(|| {
        passes_in_child("cancel::b94_what_is_given_up_closes_its_fds", || {
            block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let domain = socket2::Domain::IPV4;
                let full = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
                full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
                    .unwrap();
                full.listen(0).unwrap();
                let busy = full.local_addr().unwrap().as_socket().unwrap();
                let mut stuck = Vec::new();
                for _ in 0..3 {
                    stuck.push(timeout(MS, TcpStream::connect(busy)).await);
                }
                let before = open_fds();
                for round in 0..1000 {
                    let mut accept = Box::pin(listener.accept());
                    assert!(poll_once(&mut accept).await.is_pending());
                    // Nobody answers this one, whatever comes.
                    let mut connect = Box::pin(TcpStream::connect(busy));
                    assert!(poll_once(&mut connect).await.is_pending());
                    if round % 10 == 0 {
                        let cut_short = timeout(Duration::from_micros(50), connect).await;
                        assert!(cut_short.is_err());
                    }
                }
                assert_eq!(open_fds(), before);
                for _ in 0..300 {
                    let mut connect = Box::pin(TcpStream::connect(address));
                    let poll = poll_once(&mut connect).await;
                    assert!(matches!(poll, Poll::Pending | Poll::Ready(Ok(_))));
                    drop((connect, poll));
                    // It was made nevertheless.
                    let _ = soon(listener.accept()).await;
                }
                assert_eq!(open_fds(), before);
                drop(stuck);
            });
        });
    });
}

#[test]
fn futures_that_were_never_polled_do_nothing() {
    watchdog(|| {
        block_on(async {
            let (ours, mut theirs) = tcp_pair();
            let mut ours = TcpStream::try_from(ours).unwrap();
            drop(ours.write(b"x"));
            drop(ours.read(&mut [0]));
            drop(ours.peek(&mut [0]));
            drop(ours.close());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            drop(TcpStream::connect(listener.local_addr().unwrap()));
            drop(listener.accept());
            theirs.set_nonblocking(true).unwrap();
            let error = theirs.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            let accept = timeout(2 * MS, listener.accept()).await;
            assert!(accept.is_err());
            // Nor does a task that was dropped before it ran.
            let seen = Seen::new();
            drop(spawn(seen.probe()));
            yield_now().await;
            assert_eq!((seen.polls.get(), seen.drops.get()), (0, 1));
        });
    });
}
