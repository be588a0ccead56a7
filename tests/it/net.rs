//! TCP sockets, and the threads that they are used on.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use futures_lite::future::zip;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWriteExt, StreamExt};
use soloist::io::Async;
use soloist::net::{TcpListener, TcpStream};
use soloist::time::timeout;

use crate::support::*;

async fn read_one(mut from: impl AsyncRead + Unpin) {
    assert_eq!(from.read(&mut [0]).await.unwrap(), 1);
}

/// Runs `test` in a runtime on another thread.
fn on_other_thread<R: Send + 'static>(test: impl AsyncFnOnce() -> R + Send + 'static) -> R {
    elsewhere(|| block_on(test()))
}

fn from_std(stream: std::net::TcpStream) -> TcpStream {
    TcpStream::try_from(stream).unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

// Sockets and runtimes.

#[test]
fn sockets_outlive_the_block_on_that_made_them() {
    watchdog(|| {
        let (listener, address) = block_on(listener());
        let mut client = block_on(TcpStream::connect(address)).unwrap();
        // Each has waited in a runtime that has been dropped.
        block_on(fails_soon(client.read(&mut [0])));
        let (mut server, _) = block_on(listener.accept()).unwrap();
        block_on(fails_soon(listener.accept()));
        for round in 0..20 {
            block_on(async { soon(server.write_all(&[round])).await.unwrap() });
            let mut buf = [0];
            if round % 3 == 0 {
                thread::sleep(MS);
            }
            assert_eq!(block_on(soon(client.read(&mut buf))).unwrap(), 1);
            assert_eq!(buf, [round]);
        }
        // In two runtimes by turns.
        let (a, b) = (Runtime::new(), Runtime::new());
        let reading = {
            let mut client = client.clone();
            a.spawn(async move { client.read(&mut [0]).await })
        };
        a.block_on(yield_now());
        b.block_on(async { server.write_all(b"x").await.unwrap() });
        assert_eq!(a.block_on(soon(reading)).unwrap(), 1);
    });
}

#[track_caller]
fn assert_names_the_fix<T>(what: &str, result: io::Result<T>) {
    match result {
        Ok(_) => panic!("{what} works outside of a runtime"),
        Err(error) => {
            let text = error.to_string();
            for part in ["outside of a soloist runtime", "soloist::block_on"] {
                assert!(text.contains(part), "{what}: {text}");
            }
        }
    }
}

#[test]
fn sockets_outside_of_a_runtime_are_errors_that_name_the_fix() {
    use futures_lite::future::block_on as plain;

    watchdog(|| {
        let (listener, address) = block_on(listener());
        let (ours, theirs) = tcp_pair();
        let mut stream = block_on(async { from_std(ours) });
        let (ours, _theirs) = tcp_pair();
        let source = block_on(async { Async::new(ours).unwrap() });
        let bound = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // Twice.
        for _ in 0..2 {
            let (a, b) = tcp_pair();
            assert_names_the_fix("bind", plain(TcpListener::bind("127.0.0.1:0")));
            assert_names_the_fix("connect", plain(TcpStream::connect(address)));
            assert_names_the_fix("TcpListener", TcpListener::try_from(bound()));
            assert_names_the_fix("TcpStream", TcpStream::try_from(a));
            assert_names_the_fix("Async", Async::new(b));
            assert_names_the_fix("read", plain(stream.read(&mut [0])));
            assert_names_the_fix("read by reference", plain((&stream).read(&mut [0])));
            assert_names_the_fix("peek", plain(stream.peek(&mut [0])));
            assert_names_the_fix("write", plain(stream.write(b"x")));
            assert_names_the_fix("readable", plain(source.readable()));
            assert_names_the_fix("writable", plain(source.writable()));
            assert_names_the_fix(
                "poll_readable",
                plain(poll_fn(|cx| source.poll_readable(cx))),
            );
            let read = |mut io: &std::net::TcpStream| io.read(&mut [0]);
            assert_names_the_fix("read_with", plain(source.read_with(read)));
        }
        // The sockets still work.
        drop(theirs);
        assert_eq!(block_on(soon(stream.read(&mut [0]))).unwrap(), 0);
        drop(listener);
    });
}

#[test]
fn connecting_outside_of_a_runtime_makes_no_connection() {
    watchdog(|| {
        let (listener, address) = block_on(listener());
        let connect = TcpStream::connect(address);
        assert_names_the_fix("connect", futures_lite::future::block_on(connect));
        block_on(fails_soon(listener.accept()));
    });
}

#[test]
fn accepting_outside_of_a_runtime_is_an_error_and_loses_no_connection() {
    use futures_lite::future::block_on as plain;

    watchdog(|| {
        let (listener, address) = block_on(listener());
        let accept = || {
            for _ in 0..2 {
                assert_names_the_fix("accept", plain(listener.accept()));
                let mut incoming = listener.incoming();
                assert_names_the_fix("incoming", plain(incoming.next()).unwrap());
                assert_names_the_fix("incoming", plain(incoming.next()).unwrap());
            }
        };
        accept();
        let client = std::net::TcpStream::connect(address).unwrap();
        accept();
        let (_, from) = block_on(soon(listener.accept())).unwrap();
        assert_eq!(from, client.local_addr().unwrap());
    });
}

#[cfg(unix)]
#[test]
fn sockets_implement_as_fd() {
    use std::os::fd::AsFd;

    async_test(async || {
        let (ours, _theirs) = tcp_pair();
        let stream = from_std(ours);
        let copy = stream.as_fd().try_clone_to_owned().unwrap();
        let copy = std::net::TcpStream::from(copy);
        assert_eq!(copy.peer_addr().unwrap(), stream.peer_addr().unwrap());
        let (listener, address) = listener().await;
        let listener = socket2::SockRef::from(&listener);
        assert_eq!(listener.local_addr().unwrap().as_socket(), Some(address));
    });
}

// Addresses.

#[test]
fn a_listener_takes_the_first_address_that_is_free() {
    async_test(async || {
        let (_listener, address) = listener().await;
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let other = TcpListener::bind(&[address, free][..]).await.unwrap();
        assert_ne!(other.local_addr().unwrap(), address);
    });
}

// Other threads.

/// Sends bytes in both directions, with waits.
async fn assert_echoes(ours: &mut TcpStream, mut theirs: std::net::TcpStream) {
    let peer = on_thread(move || {
        theirs.set_nonblocking(false).unwrap();
        for round in 0..5 {
            thread::sleep(MS);
            theirs.write_all(&[round]).unwrap();
            let mut buf = [0];
            theirs.read_exact(&mut buf).unwrap();
            assert_eq!(buf, [round]);
        }
    });
    let echo = async {
        let mut buf = [0];
        for _ in 0..5 {
            soon(ours.read_exact(&mut buf)).await.unwrap();
            ours.write_all(&buf).await.unwrap();
        }
    };
    zip(peer, echo).await;
}

#[test]
fn a_stream_is_used_on_another_thread_than_accepted_it() {
    async_test(async || {
        let (listener, address) = listener().await;
        for _ in 0..3 {
            let client = std::net::TcpStream::connect(address).unwrap();
            let (stream, _) = soon(listener.accept()).await.unwrap();
            on_other_thread(async move || {
                let mut stream = stream;
                assert_echoes(&mut stream, client).await;
            });
        }
    });
}

#[test]
fn a_stream_that_has_waited_moves_between_threads() {
    watchdog(|| {
        let (ours, theirs) = tcp_pair();
        let mut stream = block_on(async {
            let mut stream = from_std(ours);
            // The waiter has been woken.
            let wait = zip(read_one(&mut stream), async {
                sleep(MS).await;
                (&theirs).write_all(b"x").unwrap();
            });
            soon(wait).await;
            stream
        });
        for n in 0..4 {
            let peer = theirs.try_clone().unwrap();
            stream = on_other_thread(async move || {
                let mut stream = stream;
                match n {
                    // The wait is left behind in the reactor.
                    0 => fails_soon(stream.read(&mut [0])).await,
                    1 => fails_soon(stream.peek(&mut [0])).await,
                    _ => {}
                }
                assert_echoes(&mut stream, peer).await;
                stream
            });
        }
        // Back on its first thread.
        block_on(assert_echoes(&mut stream, theirs));
    });
}

#[test]
fn a_shared_stream_is_used_on_two_threads_by_turns() {
    watchdog(|| {
        let (ours, theirs) = tcp_pair();
        let stream = block_on(async {
            let stream = from_std(ours);
            let wait = zip(read_one(&stream), async {
                sleep(MS).await;
                (&theirs).write_all(b"x").unwrap();
            });
            soon(wait).await;
            fails_soon(stream.peek(&mut [0])).await;
            stream
        });
        let use_it = || {
            block_on(async {
                (&theirs).write_all(b"ab").unwrap();
                assert_eq!(soon((&stream).read(&mut [0])).await.unwrap(), 1);
                assert_eq!(soon(stream.peek(&mut [0])).await.unwrap(), 1);
                assert_eq!(soon((&stream).read(&mut [0])).await.unwrap(), 1);
                (&stream).write_all(b"c").await.unwrap();
                let mut buf = [0];
                (&theirs).read_exact(&mut buf).unwrap();
                assert_eq!(&buf, b"c");
            });
        };
        for _ in 0..3 {
            thread::scope(|scope| scope.spawn(use_it).join().unwrap());
            use_it();
        }
    });
}

#[test]
fn a_listener_moves_to_another_thread() {
    watchdog(|| {
        let (mut listener, address) = block_on(listener());
        for _ in 0..3 {
            block_on(fails_soon(listener.accept()));
            listener = on_other_thread(async move || {
                let accept = async { soon(listener.accept()).await.unwrap().1 };
                let connect = on_thread(move || {
                    thread::sleep(MS);
                    std::net::TcpStream::connect(address).unwrap()
                });
                let (from, client) = zip(accept, connect).await;
                assert_eq!(from, client.local_addr().unwrap());
                fails_soon(listener.accept()).await;
                fails_soon(listener.accept()).await;
                listener
            });
        }
    });
}

#[test]
fn any_source_moves_to_another_thread() {
    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        let source = block_on(async {
            let source = Async::new(ours).unwrap();
            fails_soon(source.readable()).await;
            source
        });
        let source = on_other_thread(async move || {
            fails_soon(source.readable()).await;
            theirs.write_all(b"x").unwrap();
            soon(source.readable()).await.unwrap();
            soon(poll_fn(|cx| source.poll_writable(cx))).await.unwrap();
            source
        });
        block_on(soon(source.readable())).unwrap();
    });
}

#[track_caller]
fn assert_says_whose_it_is<T>(result: io::Result<T>) {
    let error = result.err().expect("it is another thread's");
    let text = error.to_string();
    assert!(text.contains("belongs to another thread"), "{text}");
    assert!(text.contains("clones"), "{text}");
}

#[test]
fn a_socket_with_clones_stays_on_its_thread() {
    async_test(async || {
        let (ours, mut theirs) = tcp_pair();
        let mut stream = from_std(ours);
        let clone = stream.clone();
        let (listener, address) = listener().await;
        let other_listener = listener.clone();
        on_other_thread(async move || {
            let mut clone = clone;
            assert_says_whose_it_is(clone.read(&mut [0]).await);
            assert_says_whose_it_is((&clone).read(&mut [0]).await);
            assert_says_whose_it_is(clone.peek(&mut [0]).await);
            assert_says_whose_it_is(clone.write(b"x").await);
            for _ in 0..3 {
                assert_says_whose_it_is(other_listener.accept().await);
                assert_says_whose_it_is(other_listener.incoming().next().await.unwrap());
            }
        });
        // They still work here, without a pause.
        theirs.write_all(b"x").unwrap();
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 1);
        let _client = std::net::TcpStream::connect(address).unwrap();
        timeout(Duration::ZERO, listener.accept())
            .await
            .expect("there is no pause")
            .unwrap();
    });
}

#[test]
fn a_socket_with_a_waiter_stays_on_its_thread() {
    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        let stream = block_on(async { from_std(ours) });
        let (stream, theirs) = (&stream, &mut theirs);
        let (waits, is_waiting) = mpsc::channel();
        thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                // The read is polled once, and again when it is woken.
                let wait = zip(read_one(stream), async { waits.send(()).unwrap() });
                block_on(wait);
            });
            is_waiting.recv().unwrap();
            block_on(async {
                let mut reader = stream;
                assert_says_whose_it_is(reader.read(&mut [0]).await);
                assert_says_whose_it_is(stream.peek(&mut [0]).await);
            });
            theirs.write_all(b"x").unwrap();
            waiting.join().unwrap();
            // It may move now.
            block_on(fails_soon(stream.peek(&mut [0])));
        });
    });
}

#[test]
fn a_socket_dropped_on_another_thread_is_closed() {
    async_test(async || {
        for waited in [false, true] {
            let (ours, theirs) = tcp_pair();
            let (mut ours, mut theirs) = (from_std(ours), from_std(theirs));
            if waited {
                fails_soon(ours.read(&mut [0])).await;
            }
            on_thread(move || {
                thread::sleep(2 * MS);
                drop(ours);
            })
            .await;
            assert_eq!(soon(theirs.read(&mut [0])).await.unwrap(), 0);
            assert_idle(50 * MS).await;
        }
    });
}

#[test]
fn a_socket_that_moved_away_does_not_wake_its_first_thread() {
    async_test(async || {
        let (ours, mut theirs) = tcp_pair();
        let mut ours = from_std(ours);
        fails_soon(ours.read(&mut [0])).await;
        let (go, gone) = mpsc::channel();
        let (came, comes) = mpsc::channel();
        let there = on_thread(move || {
            block_on(async {
                fails_soon(ours.read(&mut [0])).await;
                came.send(()).unwrap();
                gone.recv().unwrap();
                soon(ours.read(&mut [0])).await.unwrap()
            })
        });
        comes.recv().unwrap();
        // The byte stays unread for a while.
        theirs.write_all(b"x").unwrap();
        assert_idle(50 * MS).await;
        go.send(()).unwrap();
        assert_eq!(soon(there).await, 1);
    });
}

#[test]
fn a_socket_outlives_its_thread() {
    watchdog(|| {
        for drop_it in [false, true] {
            let (ours, mut theirs) = tcp_pair();
            let mut ours = on_other_thread(async move || {
                let mut ours = from_std(ours);
                fails_soon(ours.read(&mut [0])).await;
                ours
            });
            if drop_it {
                drop(ours);
                assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
            } else {
                theirs.write_all(b"x").unwrap();
                assert_eq!(block_on(soon(ours.read(&mut [0]))).unwrap(), 1);
                block_on(assert_echoes(&mut ours, theirs));
            }
        }
    });
}

#[test]
#[expect(clippy::async_yields_async, reason = "the wait goes elsewhere")]
fn a_wait_dropped_on_another_thread_does_not_affect_the_next_wait() {
    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        let source = block_on(async { Async::new(ours).unwrap() });
        let source = &source;
        let mut cx = Context::from_waker(Waker::noop());
        let runtime = Runtime::new();
        thread::scope(|scope| {
            let wait = runtime.block_on(async {
                let mut wait = Box::pin(source.readable());
                assert!(poll_once(&mut wait).await.is_pending());
                wait
            });
            scope.spawn(move || drop(wait)).join().unwrap();
            let mut wait = pin!(source.readable());
            runtime.block_on(async {
                assert!(wait.as_mut().poll(&mut cx).is_pending());
                theirs.write_all(b"x").unwrap();
                soon(wait).await.unwrap();
            });
        });
    });
}

/// A wait for `source` that was woken, and not polled since; its byte has been read.
async fn woken_wait<'a>(
    source: &'a Async<std::net::TcpStream>,
    mut peer: &std::net::TcpStream,
) -> Pin<Box<impl Future<Output = io::Result<()>> + use<'a>>> {
    let mut wait = Box::pin(source.readable());
    assert!(poll_once(&mut wait).await.is_pending());
    peer.write_all(b"x").unwrap();
    sleep(2 * MS).await;
    source.read_with(|mut io| io.read(&mut [0])).await.unwrap();
    wait
}

/// Spawns a task that waits for a new socket, calls `disturb`, and checks that the task is woken.
async fn assert_woken_after(disturb: impl AsyncFnOnce()) {
    let (other, mut peer) = tcp_pair();
    let other = Async::new(other).unwrap();
    let waiting = spawn(async move { other.readable().await.unwrap() });
    yield_now().await;
    disturb().await;
    peer.write_all(b"x").unwrap();
    let woken = timeout(3 * SECOND, waiting).await;
    woken.expect("the other task waits for ever");
}

/// A future that waited on one thread is dropped or polled on the thread to which the socket has
/// moved, whose reactor does not know the wait.
#[test]
fn a_wait_that_moves_with_its_socket_does_not_end_another_wait() {
    for drop_it in [true, false] {
        watchdog(move || {
            let (ours, theirs) = tcp_pair();
            let source = block_on(async { Async::new(ours).unwrap() });
            let mut wait = block_on(woken_wait(&source, &theirs));
            let there = || {
                // The first wait of this thread, as the other one was the first of its thread.
                block_on(assert_woken_after(async || {
                    // The socket moves to this thread.
                    let mut here = Box::pin(source.readable());
                    assert!(poll_once(&mut here).await.is_pending());
                    drop(here);
                    if drop_it {
                        drop(wait);
                    } else {
                        let _ = poll_once(&mut wait).await;
                    }
                }));
            };
            thread::scope(|scope| scope.spawn(there).join().unwrap());
        });
    }
}

/// The slot of a socket that has moved away belongs to another source when a wait for the socket
/// is dropped.
#[test]
fn b21_a_wait_dropped_late_does_not_end_a_wait_for_the_next_source_in_the_slot() {
    watchdog(|| {
        let (ours, theirs) = tcp_pair();
        let source = block_on(async { Async::new(ours).unwrap() });
        let wait = block_on(woken_wait(&source, &theirs));
        let take = || block_on(fails_soon(source.readable()));
        thread::scope(|scope| scope.spawn(take).join().unwrap());
        block_on(async {
            // The reactor learns that the socket has moved.
            sleep(MS).await;
            assert_woken_after(async || drop(wait)).await;
        });
    });
}
