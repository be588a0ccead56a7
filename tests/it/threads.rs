//! Threads that end, threads that call handles, and forks.

use std::any::Any;
use std::io::{Read, Write};
use std::sync::atomic::AtomicBool;

use fastrand::Rng;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::time::timeout;

use crate::support::*;

// Destructors of thread-locals.

thread_local! {
    /// Dropped when the thread ends, before or after the thread-locals of soloist.
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// All that a thread can leave behind.
fn leave_behind(ends: &'static AtomicUsize) -> Vec<Box<dyn Any>> {
    let ended = || {
        OnDrop(move || {
            ends.fetch_add(1, Ordering::SeqCst);
        })
    };
    let runtime = Runtime::new();
    // A task that waits for a timer and a socket, and spawns and wakes in its destructor.
    let (guard, second) = (ended(), ended());
    let task = runtime.spawn(async move {
        let (ours, _theirs) = tcp_pair();
        let mut stream = TcpStream::try_from(ours).unwrap();
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let _last = OnDrop(move || {
            waker.wake_by_ref();
            if let Some(handle) = Handle::try_current() {
                handle.spawn(pending::<()>).detach();
                spawn(async {}).detach();
                drop(sleep(MS));
            }
        });
        let _guard = guard;
        futures_lite::future::or(sleep(60 * SECOND), async {
            stream.read(&mut [0]).await.unwrap();
        })
        .await;
    });
    spawn_detached(&runtime, hold(second));
    let done = runtime.spawn(async { Rc::new(5) });
    let (ours, theirs) = tcp_pair();
    let (waker, remote, timer, stream, listener) = runtime.block_on(async {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let remote = Handle::current().spawn(pending::<()>);
        let mut timer = sleep(60 * SECOND);
        assert!(poll_once(&mut timer).await.is_pending());
        let mut stream = TcpStream::try_from(ours).unwrap();
        let read = timeout(MS, stream.read(&mut [0])).await;
        assert!(read.is_err());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (waker, remote, timer, stream, listener)
    });
    let ready = done.is_finished();
    assert!(ready);
    let abort = task.abort_handle();
    let wake = {
        let (waker, handle) = (waker.clone(), runtime.handle());
        OnDrop(move || {
            waker.wake_by_ref();
            handle.spawn(async || {}).detach();
            handle.stop();
            abort.abort();
        })
    };
    let new_one = OnDrop(|| {
        let runtime = Runtime::new();
        let task = runtime.spawn(async { 2 });
        drop(task);
        // With the rest of the thread it works, or panics.
        let _ = catch_unwind(|| {
            block_on(async {
                spawn(async {}).await;
                sleep(MS).await;
                drop(TcpListener::bind("127.0.0.1:0").await);
            });
        });
        assert_eq!(block_on(async { 3 }), 3);
    });
    let mut left: Vec<Box<dyn Any>> = vec![
        Box::new(wake),
        Box::new(timer),
        Box::new(waker),
        Box::new(theirs),
        Box::new(stream),
        Box::new(remote),
        Box::new(task),
        Box::new(runtime),
        Box::new(listener),
        Box::new(done),
        Box::new(new_one),
    ];
    left.push(Box::new(ended()));
    left
}

#[test]
fn b81_everything_can_be_dropped_in_destructors_of_thread_locals() {
    in_own_process(|| {
        for first in [true, false] {
            for reversed in [true, false] {
                let ends = leak(AtomicUsize::new(0));
                let thread = thread::spawn(move || {
                    if first {
                        KEPT.with(|_| {});
                    }
                    let mut left = leave_behind(ends);
                    if reversed {
                        left.reverse();
                    }
                    KEPT.with(|kept| {
                        for one in left {
                            kept.borrow_mut().push(one);
                        }
                    });
                });
                thread.join().unwrap();
                assert_eq!(ends.load(Ordering::SeqCst), 3, "all of it is dropped");
            }
        }
    });
}

#[test]
fn b81_a_runtime_in_a_thread_local_is_dropped_with_its_thread() {
    thread_local! {
        static RUNTIME: Runtime = Runtime::new();
    }
    in_own_process(|| {
        for _ in 0..3 {
            let dropped = leak(AtomicUsize::new(0));
            let thread = thread::spawn(move || {
                let guard = OnDrop(move || {
                    dropped.fetch_add(1, Ordering::SeqCst);
                });
                RUNTIME.with(|runtime| {
                    spawn_detached(runtime, hold(guard));
                    runtime.block_on(async {
                        yield_now().await;
                        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                        let waiting = async move { listener.accept().await.map(drop) };
                        spawn(waiting).detach();
                        sleep(MS).await;
                    });
                });
            });
            thread.join().unwrap();
            assert_eq!(dropped.load(Ordering::SeqCst), 1);
        }
    });
}

// Calls of other threads while the runtime goes idle.

/// Makes so many calls, or as many as fit into half a minute: if the two threads share a core,
/// each call may take a time slice.
fn call_while_it_goes_idle(calls: usize) {
    with_both_waits(move || {
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let caller = thread::spawn(move || {
            let start = Instant::now();
            let mut random = Rng::with_seed(82);
            let served = leak(AtomicUsize::new(0));
            for n in 1..=calls {
                if start.elapsed() > (30 * SECOND) {
                    break;
                }
                handle
                    .spawn(async move || {
                        served.fetch_add(1, Ordering::SeqCst);
                    })
                    .detach();
                // As soon as the call is served: the runtime is about to go idle.
                while served.load(Ordering::SeqCst) < n {
                    std::hint::spin_loop();
                    if random.u64(..10_000) == 0 {
                        thread::yield_now();
                    }
                }
                for _ in 0..random.u64(..200) {
                    std::hint::spin_loop();
                }
            }
            handle.stop();
        });
        runtime.run_forever();
        caller.join().unwrap();
    });
}

#[test]
fn b82_a_call_that_races_with_going_idle_is_not_lost() {
    call_while_it_goes_idle(10_000);
}

#[test]
#[ignore = "takes up to a minute: a million calls"]
fn b82_none_of_a_million_calls_is_lost() {
    call_while_it_goes_idle(500_000);
}

#[test]
fn b82_floods_of_calls_are_all_served() {
    const CALLS: usize = 20_000;

    with_both_waits(|| {
        let runtime = Runtime::new();
        let served = leak(AtomicUsize::new(0));
        let callers: Vec<_> = (0..3)
            .map(|seed| {
                let handle = runtime.handle();
                thread::spawn(move || {
                    let mut random = Rng::with_seed(seed);
                    for _ in 0..CALLS {
                        handle
                            .spawn(async move || {
                                served.fetch_add(1, Ordering::SeqCst);
                            })
                            .detach();
                        if random.u64(..100) == 0 {
                            thread::sleep(Duration::from_micros(random.u64(..100)));
                        }
                    }
                })
            })
            .collect();
        let stop = runtime.handle();
        let end = thread::spawn(move || {
            for caller in callers {
                caller.join().unwrap();
            }
            stop.spawn(async || {}).wait().unwrap();
            stop.stop();
        });
        runtime.run_forever();
        end.join().unwrap();
        assert_eq!(served.load(Ordering::SeqCst), 3 * CALLS);
    });
}

#[test]
fn b82_wakes_of_one_task_from_several_threads_are_not_lost() {
    with_both_waits(|| {
        const WAKES: usize = 5000;
        block_on(async {
            let turn = leak(AtomicUsize::new(0));
            // As many as fit into half a minute, if the threads share a core.
            let start = Instant::now();
            let is_over = leak(AtomicBool::new(false));
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            let threads: Vec<_> = (0..2)
                .map(|n| {
                    let waker = waker.clone();
                    thread::spawn(move || {
                        for round in 0..WAKES {
                            // Until the last one was seen.
                            while turn.load(Ordering::Acquire) != 4 * round + 2 * n {
                                if is_over.load(Ordering::Relaxed) {
                                    return;
                                }
                                thread::yield_now();
                            }
                            turn.fetch_add(1, Ordering::Release);
                            waker.wake_by_ref();
                        }
                    })
                })
                .collect();
            let mut seen = 0;
            poll_fn(|_| {
                let now = turn.load(Ordering::Acquire);
                if now % 2 == 1 {
                    turn.fetch_add(1, Ordering::Release);
                    seen += 1;
                }
                if seen == 2 * WAKES || start.elapsed() > (30 * SECOND) {
                    is_over.store(true, Ordering::Relaxed);
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
            for thread in threads {
                thread.join().unwrap();
            }
        });
    });
}

// Forks.

#[cfg(unix)]
mod forks {
    use super::*;
    use crate::sys;

    /// Echoes, on a thread of the parent, which a fork does not copy.
    fn echo(theirs: std::net::TcpStream) {
        thread::spawn(move || {
            let mut buf = [0; 64];
            while let Ok(n @ 1..) = (&theirs).read(&mut buf) {
                (&theirs).write_all(&buf[..n]).unwrap();
            }
        });
    }

    async fn assert_echoes(stream: &mut TcpStream) {
        for round in 0..10 {
            stream.write_all(&[round]).await.unwrap();
            let mut buf = [0];
            let answer = timeout(10 * SECOND, stream.read_exact(&mut buf));
            answer.await.expect("no answer").unwrap();
            assert_eq!(buf, [round]);
        }
    }

    /// A stream that has been waited for, and so is registered.
    async fn echoing_stream() -> TcpStream {
        let (ours, theirs) = tcp_pair();
        echo(theirs);
        let mut stream = TcpStream::try_from(ours).unwrap();
        assert!(timeout(MS, stream.read(&mut [0])).await.is_err());
        assert_echoes(&mut stream).await;
        stream
    }

    async fn fresh_sockets_work() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        sleep(2 * MS).await;
        stream.write_all(b"fresh").await.unwrap();
        drop(stream);
        assert_eq!(client.await, "fresh");
    }

    #[test]
    fn b84_a_child_that_drops_its_copies_does_not_affect_the_parent() {
        in_own_process(|| {
            let runtime = Runtime::new();
            let mut other = runtime.block_on(echoing_stream());
            // A task of the parent that waits meanwhile.
            let (ours, mut theirs) = tcp_pair();
            let waiting = runtime.spawn(async move {
                let mut stream = TcpStream::try_from(ours).unwrap();
                stream.read(&mut [0]).await.unwrap()
            });
            runtime.block_on(async { sleep(MS).await });
            let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let mut kept = Some((runtime, waiting, listener));
            let child = sys::fork(|| {
                // The copies are closed, but not removed from the epoll of the parent.
                drop(kept.take());
                block_on(fresh_sockets_work());
                let error = block_on(other.read(&mut [0])).unwrap_err();
                assert!(error.to_string().contains("fork"), "{error}");
                block_on(fresh_sockets_work());
            });
            assert_eq!(child.wait(), 0);
            let (runtime, waiting, listener) = kept.unwrap();
            runtime.block_on(async {
                assert!(!waiting.is_finished());
                theirs.write_all(b"x").unwrap();
                let read = timeout(10 * SECOND, waiting);
                assert_eq!(read.await.expect("it is still registered"), 1);
                assert_echoes(&mut other).await;
                let mut stream = echoing_stream().await;
                assert_echoes(&mut stream).await;
                let client = std::net::TcpStream::connect(listener.local_addr().unwrap());
                timeout(10 * SECOND, listener.accept())
                    .await
                    .unwrap()
                    .unwrap();
                drop(client);
            });
        });
    }

    #[test]
    fn b84_a_child_forked_in_a_task_can_drop_its_sockets() {
        in_own_process(|| {
            block_on(async {
                let mut stream = echoing_stream().await;
                let waiting = {
                    let (ours, theirs) = tcp_pair();
                    let mut ours = TcpStream::try_from(ours).unwrap();
                    let task = spawn(async move { ours.read(&mut [0]).await.unwrap() });
                    yield_now().await;
                    (task, theirs)
                };
                let mut kept = Some((waiting, echoing_stream().await));
                let child = sys::fork(|| drop(kept.take()));
                assert_eq!(child.wait(), 0);
                let ((task, mut theirs), mut other) = kept.unwrap();
                assert_echoes(&mut stream).await;
                assert_echoes(&mut other).await;
                theirs.write_all(b"x").unwrap();
                let read = timeout(10 * SECOND, task);
                assert_eq!(read.await.expect("it is still registered"), 1);
            });
        });
    }

    /// The child continues without the reactor of the parent: its timers work.
    #[cfg(feature = "blocking")]
    #[test]
    fn b84_a_child_that_continues_in_a_task_does_not_affect_the_parent() {
        in_own_process(|| {
            let parent = std::process::id();
            let result = catch_unwind(|| {
                block_on(async {
                    let (ours, theirs) = tcp_pair();
                    let mut stream = TcpStream::try_from(ours).unwrap();
                    let read = timeout(MS, stream.read(&mut [0])).await;
                    assert!(read.is_err(), "it is registered now");
                    let Some(child) = sys::fork_here() else {
                        // No event is for the child. A thread wakes it.
                        for _ in 0..20 {
                            sleep(5 * MS).await;
                            soloist::unblock(|| ()).await;
                        }
                        let error = stream.read(&mut [0]).await.unwrap_err();
                        assert!(error.to_string().contains("fork"), "{error}");
                        fresh_sockets_work().await;
                        return;
                    };
                    thread::sleep(20 * MS);
                    (&theirs).write_all(b"x").unwrap();
                    assert_eq!(child.wait(), 0);
                    assert_eq!(stream.read(&mut [0]).await.unwrap(), 1);
                    // The next byte arrives during the wait. Nothing else wakes it.
                    let read = spawn(async move { stream.read(&mut [0]).await });
                    let writer = thread::spawn(move || {
                        thread::sleep(5 * MS);
                        (&theirs).write_all(b"y").unwrap();
                        theirs
                    });
                    let read = timeout(3 * SECOND, read).await;
                    assert_eq!(read.expect("it is still registered").unwrap(), 1);
                    drop(writer);
                });
            });
            if std::process::id() != parent {
                sys::exit();
            }
            if let Err(payload) = result {
                std::panic::resume_unwind(payload);
            }
        });
    }
}
