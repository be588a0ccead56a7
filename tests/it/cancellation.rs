//! Tasks and operations that are dropped before they are done: by dropping the handle, by `cancel`,
//! by an abort, by a timeout.

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};

use fastrand::Rng;
use futures_lite::future::{or, zip};
use futures_lite::{AsyncReadExt, AsyncWriteExt, StreamExt};
use soloist::io::Async;
use soloist::net::{TcpListener, TcpStream};
use soloist::task::JoinError;
use soloist::time::timeout;

use crate::support::*;

// Tasks.

/// In which state a task is when it is ended.
#[derive(Clone, Copy, PartialEq, Debug)]
enum When {
    NotStarted,
    Waiting,
    Woken,
    InItsPoll,
    InItsLastPoll,
    Done,
    /// The runtime is dropped right after it.
    BeforeItsRuntimeIsDropped,
    AfterItsRuntimeWasDropped,
}

/// How a task is ended.
#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    DropTask,
    DropJoin,
    DropPolledJoin,
    DropCancel,
    Cancel,
    CancelAborted,
    Abort,
    AbortTwice,
    AbortOnAnotherThread,
    AbortDetached,
}

type Output = Rc<()>;

/// Ends a task. The returned future waits for the end; it is `None` if there is no handle left.
fn end(task: Task<Output>, how: How) -> Option<Pin<Box<dyn Future<Output = Option<Output>>>>> {
    let handle = task.abort_handle();
    assert_eq!(handle.id(), task.id());
    match how {
        How::DropTask => drop(task),
        How::DropJoin => drop(task.join()),
        How::DropPolledJoin => drop(poll_with(&mut Box::pin(task.join()), Waker::noop())),
        How::DropCancel => drop(task.cancel()),
        How::Cancel | How::CancelAborted => {
            (how == How::CancelAborted).then(|| handle.abort());
            return Some(Box::pin(task.cancel()));
        }
        How::AbortDetached => {
            task.detach();
            handle.abort();
        }
        How::Abort | How::AbortTwice | How::AbortOnAnotherThread => {
            if how == How::AbortOnAnotherThread {
                elsewhere(move || handle.abort());
            } else {
                handle.abort();
                (how == How::AbortTwice).then(|| handle.abort());
            }
            return Some(Box::pin(async {
                let result = task.join().await;
                result.map_err(|error| assert!(error.is_cancelled())).ok()
            }));
        }
    }
    None
}

/// Ends a task in this state and way, inside or outside of its runtime, and checks when its future
/// and its output are dropped.
fn check_end(when: When, how: How, inside: bool) {
    eprintln!("{when:?}, {how:?}, inside: {inside}");
    let runtime = Runtime::new();
    let (seen, output) = (Seen::new(), Output::default());
    let own: Rc<Cell<Option<Task<Output>>>> = Rc::default();
    let left = Rc::new(Cell::new(None));
    let task = runtime.spawn({
        let (own, left, output) = (own.clone(), left.clone(), output.clone());
        let (mut probe, seen) = (seen.probe(), seen.clone());
        let guard = OnDrop(|| assert!(Handle::try_current().is_some()));
        poll_fn(move |cx| {
            _ = &guard;
            if let Some(task) = own.take() {
                left.set(end(task, how));
                assert_eq!(seen.drops.get(), 0, "dropped while it is polled");
            }
            Pin::new(&mut probe).poll(cx).map(|()| output.clone())
        })
    });
    let is_done = matches!(when, When::InItsLastPoll | When::Done);
    seen.ready.set(is_done);
    own.set(Some(task));
    let mut task = match when {
        When::InItsPoll | When::InItsLastPoll => None,
        _ => own.take(),
    };
    if when != When::NotStarted {
        turn(&runtime);
    }
    if matches!(when, When::InItsPoll | When::InItsLastPoll) {
        assert_eq!(
            seen.drops.get(),
            1,
            "dropped after its poll, in the same turn"
        );
    }
    let mut runtime = Some(runtime);
    if when == When::AfterItsRuntimeWasDropped {
        runtime = None;
    }
    if let Some(task) = task.take() {
        let end = || {
            if when == When::Woken {
                seen.waker().wake();
            }
            left.set(end(task, how));
        };
        match &runtime {
            Some(runtime) if inside => runtime.block_on(async { end() }),
            _ => end(),
        }
        // An abort only marks the task, and wakes it.
        let is_aborted = format!("{how:?}").starts_with("Abort");
        let is_over = is_done || runtime.is_none() || !is_aborted;
        assert_eq!(seen.drops.get(), usize::from(is_over));
    }
    if when == When::BeforeItsRuntimeIsDropped {
        runtime = None;
    }
    if let Some(runtime) = &runtime {
        run_until_idle(runtime);
    }
    let polls = usize::from(when != When::NotStarted);
    assert_eq!(seen.counts(), (polls, 1));
    assert_eq!(seen.dropped_on.get(), Some(thread::current().id()));
    if let Some(left) = left.take() {
        assert_eq!(block_on(left).is_some(), is_done);
    }
    assert_eq!(Rc::strong_count(&output), 1);
}

fn check_ends(hows: &[How]) {
    for when in [
        When::NotStarted,
        When::Waiting,
        When::Woken,
        When::InItsPoll,
        When::InItsLastPoll,
        When::Done,
        When::BeforeItsRuntimeIsDropped,
        When::AfterItsRuntimeWasDropped,
    ] {
        for how in hows {
            check_end(when, *how, false);
            // A `block_on` would run a task that has not started.
            if when != When::NotStarted {
                check_end(when, *how, true);
            }
        }
    }
}

#[test]
fn b90_an_abort_at_any_time_drops_the_future_once_on_its_thread() {
    watchdog(|| {
        use How::*;
        check_ends(&[Abort, AbortTwice, AbortOnAnotherThread, AbortDetached]);
    });
}

#[test]
fn b91_after_a_drop_or_a_cancel_at_any_time_the_future_has_been_dropped() {
    watchdog(|| {
        use How::*;
        check_ends(&[
            DropTask,
            DropJoin,
            DropPolledJoin,
            DropCancel,
            Cancel,
            CancelAborted,
        ]);
    });
}

#[test]
fn b91_a_cancel_waits_for_what_is_dropped_with_the_future() {
    async_test(async || {
        let log = Log::new();
        let hold = |guard| hold(guard);
        let child = spawn(hold(log.on_drop("child")));
        let detached = spawn(hold(log.on_drop("detached child")));
        let guard = log.on_drop("parent");
        let parent = spawn(async move {
            let _guard = guard;
            detached.detach();
            child.await;
        });
        yield_now().await;
        assert_eq!(soon(parent.cancel()).await, None);
        log.assert(&["child", "parent"]);
    });
}

#[test]
fn a_cancel_from_within_resolves_when_the_poll_has_ended() {
    async_test(async || {
        for is_last_poll in [false, true] {
            let own: Rc<Cell<Option<Task<&str>>>> = Rc::default();
            let cancel = Rc::new(Cell::new(None));
            let task = {
                let (own, cancel) = (own.clone(), cancel.clone());
                spawn(async move {
                    cancel.set(Some(Box::pin(own.take().unwrap().cancel())));
                    if !is_last_poll {
                        pending::<()>().await;
                    }
                    "in time"
                })
            };
            own.set(Some(task));
            yield_now().await;
            let output = cancel.take().unwrap().await;
            assert_eq!(output, is_last_poll.then_some("in time"));
        }
    });
}

#[test]
fn destructors_run_from_the_innermost_await_outwards() {
    async fn outer(log: Log<&'static str>) {
        let _first = log.on_drop("outer: first");
        let _second = log.on_drop("outer: second");
        inner(&log, log.on_drop("inner: argument")).await;
        log.push("outer: after");
    }
    async fn inner(log: &Log<&'static str>, _argument: OnDrop<impl FnMut()>) {
        let _variable = log.on_drop("inner: variable");
        drop(log.on_drop("inner: dropped before"));
        let awaited = log.on_drop("awaited future");
        poll_fn(move |_| {
            _ = &awaited;
            Poll::<()>::Pending
        })
        .await;
        log.push("inner: after");
    }
    async_test(async || {
        let log = Log::new();
        let task = spawn(outer(log));
        yield_now().await;
        log.assert(&["inner: dropped before"]);
        drop(task);
        log.assert(&[
            "awaited future",
            "inner: variable",
            "inner: argument",
            "outer: second",
            "outer: first",
        ]);
    });
}

#[test]
fn errors_of_tasks_and_promises_are_sources_of_other_errors() {
    #[derive(Debug)]
    struct Failure(Box<dyn Error>);
    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it has failed")
        }
    }
    impl Error for Failure {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }
    async_test(async || {
        let (promise, promised) = soloist::promise::promise::<()>();
        let task = spawn(async { promised.await.map_err(|error| Failure(error.into())) });
        drop(promise);
        let error = task.await.unwrap_err();
        let source = error.source().unwrap().to_string();
        assert_eq!(source, "the promise was dropped before it was set");

        let task: Task<()> = spawn(async { std::panic::resume_unwind(Box::new("out of ink")) });
        let error = Failure(task.join().await.unwrap_err().into());
        let source = error.source().unwrap().downcast_ref::<JoinError>();
        assert!(source.unwrap().is_panic());
    });
}

#[test]
fn a_task_that_is_cancelled_takes_its_sockets_and_timers_with_it() {
    runtime_test(|runtime| {
        let (ours, theirs) = tcp_pair();
        let task = runtime.spawn(async move {
            let mut ours = TcpStream::try_from(ours).unwrap();
            let _ = timeout(HOUR, ours.read(&mut [0])).await;
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
fn b92_a_wait_for_a_socket_that_is_dropped_leaves_no_waker() {
    async_test(async || {
        let (ours, mut theirs) = tcp_pair();
        let source = Rc::new(Async::new(ours).unwrap());
        let polls = leak(Cell::new(0));
        let other = {
            let source = source.clone();
            spawn(async move { count_polls(polls, source.readable()).await })
        };
        yield_now().await;
        let (count, waker) = CountWakes::new();
        for _ in 0..20_000 {
            let mut readable = Box::pin(source.readable());
            let poll = readable.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending());
        }
        assert_eq!(Arc::strong_count(&count), 2);
        assert_eq!(polls.get(), 1);
        theirs.write_all(b"x").unwrap();
        soon(other).await.unwrap();
        assert_eq!((polls.get(), count.get()), (2, 0));
    });
}

/// Drops the future after a random time, which may be too short for one poll.
async fn impatient<F: Future>(random: &mut Rng, future: F) -> Option<F::Output> {
    let patience = Duration::from_nanos(random.u64(..60_000));
    timeout(patience, future).await.ok()
}

/// Accepts connections while accepts are dropped all the time.
fn accept_impatiently(connections: usize, incoming: bool) {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients = thread::spawn(move || {
            let mut random = Rng::with_seed(1);
            for n in 0..connections as u32 {
                let mut client = std::net::TcpStream::connect(address).unwrap();
                // Leaves no connection in TIME_WAIT.
                let linger = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                linger.unwrap();
                client.write_all(&n.to_ne_bytes()).unwrap();
                // Waits until it is accepted, because closing it earlier would reset it.
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
        // A small buffer, so that it often waits.
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
fn b93_dropping_one_of_two_accepts_loses_no_connection() {
    async_test(async || {
        // Two connections at once, and one of two accepts is dropped.
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
}

#[cfg(target_os = "linux")]
#[test]
fn b94_operations_that_are_dropped_close_their_fds() {
    in_own_process(|| {
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
                // This one is never answered.
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
                // The connection was made nevertheless.
                let _ = soon(listener.accept()).await;
            }
            assert_eq!(open_fds(), before);
            drop(stuck);
        });
    });
}

#[test]
fn futures_that_were_never_polled_do_nothing() {
    async_test(async || {
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
        // A task that is dropped before its first poll does nothing either.
        let seen = Seen::new();
        drop(spawn(seen.probe()));
        yield_now().await;
        assert_eq!(seen.counts(), (0, 1));
    });
}
