//! Sockets that move to another thread: wakers of finished polls, and events that arrive
//! after the move.

use std::io::Write;
use std::sync::atomic::AtomicBool;

use soloist::io::{Async, AsyncRead, AsyncReadExt, AsyncWrite};
use soloist::net::TcpStream;

use crate::support::*;

/// Reads a byte by shared reference, on a thread of its own.
fn reads_elsewhere(stream: &TcpStream) -> std::io::Result<u8> {
    let read = || {
        block_on(async {
            let mut byte = [0];
            let mut reader = stream;
            reader.read_exact(&mut byte).await?;
            Ok(byte[0])
        })
    };
    thread::scope(|scope| scope.spawn(read).join().unwrap())
}

fn poll_read(stream: &mut (impl AsyncRead + Unpin), waker: &Waker) -> Poll<()> {
    let mut cx = Context::from_waker(waker);
    let read = Pin::new(stream).poll_read(&mut cx, &mut [0]);
    read.map(|read| assert_eq!(read.unwrap(), 1))
}

/// Writes until a write is pending.
fn fill(stream: &mut (impl AsyncWrite + Unpin), waker: &Waker) {
    let mut cx = Context::from_waker(waker);
    let chunk = vec![0; 1 << 20];
    while let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(&mut cx, &chunk) {
        written.unwrap();
    }
}

/// The first poll leaves its waker behind, and a later one succeeds.
#[test]
fn a_waker_of_a_finished_poll_does_not_keep_a_socket_on_its_thread() {
    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        let stream = block_on(async {
            let mut stream = TcpStream::try_from(ours).unwrap();
            let (_, waker) = CountWakes::new();
            assert!(poll_read(&mut stream, &waker).is_pending());
            theirs.write_all(b"x").unwrap();
            while poll_read(&mut stream, &waker).is_pending() {
                sleep(MS).await;
            }
            stream
        });
        theirs.write_all(b"y").unwrap();
        assert_eq!(reads_elsewhere(&stream).unwrap(), b'y');
    });
}

/// The next wait has the same waker as the one that was left behind.
#[test]
fn a_pending_poll_keeps_a_socket_on_its_thread() {
    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        block_on(async {
            let mut stream = TcpStream::try_from(ours).unwrap();
            let (wakes, waker) = CountWakes::new();
            assert!(poll_read(&mut stream, &waker).is_pending());
            theirs.write_all(b"x").unwrap();
            while poll_read(&mut stream, &waker).is_pending() {
                sleep(MS).await;
            }
            assert!(poll_read(&mut &stream, &waker).is_pending());
            assert!(reads_elsewhere(&stream).is_err());
            theirs.write_all(b"y").unwrap();
            while wakes.get() == 0 {
                sleep(MS).await;
            }
            while poll_read(&mut &stream, &waker).is_pending() {
                sleep(MS).await;
            }
        });
    });
}

/// Two sockets are ready at once. The waker of the first moves the second to another thread, before
/// the event of the second is delivered. That event must not affect the socket on the new thread.
#[test]
fn an_event_that_arrives_after_a_move_to_another_thread_is_ignored() {
    watchdog(|| {
        let here: Arc<[Mutex<Option<TcpStream>>; 2]> = Arc::default();
        let there: Arc<Mutex<Option<(usize, TcpStream)>>> = Arc::default();
        let mut peers = block_on(async {
            let moved = Arc::new(AtomicBool::new(false));
            let mut peers = Vec::new();
            for n in 0..2 {
                let (ours, theirs) = tcp_pair();
                let mut stream = TcpStream::try_from(ours).unwrap();
                let (here, there, moved) = (here.clone(), there.clone(), moved.clone());
                let slots = here.clone();
                let waker = waker_fn(move || {
                    if moved.swap(true, Ordering::SeqCst) {
                        return;
                    }
                    let mut other = here[1 - n].lock().unwrap().take().unwrap();
                    let read = move || {
                        block_on(async {
                            other.read_exact(&mut [0]).await.unwrap();
                            other
                        })
                    };
                    let other = elsewhere(read);
                    *there.lock().unwrap() = Some((1 - n, other));
                });
                fill(&mut stream, Waker::noop());
                assert!(poll_read(&mut stream, &waker).is_pending());
                *slots[n].lock().unwrap() = Some(stream);
                peers.push(theirs);
            }
            for peer in &mut peers {
                peer.write_all(b"x").unwrap();
            }
            while there.lock().unwrap().is_none() {
                sleep(MS).await;
            }
            peers
        });
        let (n, stream) = there.lock().unwrap().take().unwrap();
        peers[n].write_all(b"y").unwrap();
        assert_eq!(reads_elsewhere(&stream).unwrap(), b'y');
    });
}

/// Two sources are ready at once. The waker of the first drops the second, and makes another
/// one with the same file descriptor, which the event of the dropped one must not wake.
#[cfg(unix)]
#[test]
fn b104_a_late_event_of_a_dropped_source_wakes_no_other() {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream as Pipe;

    type Shared<T> = Arc<Mutex<Option<T>>>;

    async_test(async || {
        let sources: [Shared<Async<Pipe>>; 2] = Default::default();
        let heir: Shared<(Async<Pipe>, Pipe)> = Arc::default();
        let done = Arc::new(AtomicBool::new(false));
        let (wakes, heirs_waker) = CountWakes::new();
        let mut peers = Vec::new();
        for n in 0..2 {
            let (ours, theirs) = Pipe::pair().unwrap();
            peers.push(theirs);
            let ours = Async::new(ours).unwrap();
            let (other, heir) = (sources[1 - n].clone(), heir.clone());
            let heirs_waker = heirs_waker.clone();
            let done = done.clone();
            let waker = waker_fn(move || {
                if done.swap(true, Ordering::SeqCst) {
                    return;
                }
                let gone = other.lock().unwrap().take().unwrap();
                let number = gone.get_ref().as_raw_fd();
                drop(gone);
                let (a, b) = Pipe::pair().unwrap();
                let (ours, theirs) = if a.as_raw_fd() == number {
                    (a, b)
                } else {
                    (b, a)
                };
                // Another test may have taken the number. The slot is the same in either case.
                let ours = Async::new(ours).unwrap();
                let mut cx = Context::from_waker(&heirs_waker);
                assert!(ours.poll_readable(&mut cx).is_pending());
                *heir.lock().unwrap() = Some((ours, theirs));
            });
            let mut cx = Context::from_waker(&waker);
            assert!(ours.poll_readable(&mut cx).is_pending());
            *sources[n].lock().unwrap() = Some(ours);
        }
        for mut peer in peers.iter() {
            peer.write_all(b"x").unwrap();
        }
        sleep(5 * MS).await;
        let (_heir, mut theirs) = heir.lock().unwrap().take().expect("one was woken");
        assert_eq!(wakes.get(), 0, "woken by the event of another source");
        theirs.write_all(b"x").unwrap();
        while wakes.get() == 0 {
            sleep(MS).await;
        }
        assert_eq!(wakes.get(), 1);
    });
}

/// A socket that calls back when a read finds nothing.
#[cfg(unix)]
mod hooked {
    use std::io::{ErrorKind, Read, Result};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;

    pub(super) struct Hooked {
        pub(super) stream: UnixStream,
        pub(super) when_empty: Box<dyn Fn() + Send + Sync>,
    }

    impl AsFd for Hooked {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.stream.as_fd()
        }
    }

    impl Read for &Hooked {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
            let result = (&self.stream).read(buf);
            if matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock) {
                (self.when_empty)();
            }
            result
        }
    }
}

/// One thread is in the middle of a read when another one takes over the source. In the reactors of
/// both threads another source has the same key.
#[cfg(unix)]
#[test]
fn b107_a_source_that_moves_to_another_thread_while_it_is_read_loses_no_wake_up() {
    use std::os::unix::net::UnixStream as Pipe;
    use std::sync::mpsc;

    use self::hooked::Hooked;

    // The numbers of sources that each thread has registered before.
    for (here, there) in [(0, 0), (1, 0), (0, 1), (2, 1)] {
        // On a new thread, so that its keys start at zero.
        watchdog(move || {
            let owner = thread::current().id();
            let (asked, ask) = mpsc::channel();
            let (taken, wait) = mpsc::channel();
            let wait = Mutex::new(wait);
            let (ours, mut theirs) = Pipe::pair().unwrap();
            block_on(async {
                // Tasks wait for these, so that a waiter in a wrong slot is not alone there.
                let mut others = Vec::new();
                for _ in 0..here {
                    let (a, b) = Pipe::pair().unwrap();
                    let a = Async::new(a).unwrap();
                    let reader = spawn(async move { (&a).read(&mut [0]).await });
                    others.push((b, reader));
                }
                yield_now().await;
                let hooked = Hooked {
                    stream: ours,
                    when_empty: Box::new(move || {
                        if thread::current().id() == owner && asked.send(()).is_ok() {
                            let _ = wait.lock().unwrap().recv();
                        }
                    }),
                };
                let source = Arc::new(Async::new(hooked).unwrap());
                let elsewhere = source.clone();
                let thread = thread::spawn(move || {
                    block_on(async move {
                        let mut others = Vec::new();
                        for _ in 0..there {
                            let (a, b) = Pipe::pair().unwrap();
                            let a = Async::new(a).unwrap();
                            let reader = spawn(async move { (&a).read(&mut [0]).await });
                            others.push((b, reader));
                        }
                        yield_now().await;
                        ask.recv().unwrap();
                        // The first thread is in its read now, which will find nothing.
                        let mut reader = &*elsewhere;
                        let mut byte = [0];
                        let mut read = std::pin::pin!(reader.read(&mut byte));
                        let first = soloist::future::poll_once(&mut read).await;
                        drop(ask);
                        taken.send(()).unwrap();
                        drop(taken);
                        let result = match first {
                            Some(result) => result,
                            None => read.await,
                        };
                        (result, byte)
                    })
                });
                let mut byte = [0];
                let mut reader = &*source;
                let reading = async {
                    let result = reader.read(&mut byte).await;
                    (result, byte)
                };
                // A task of its own, so that its waits do not poll the read again.
                let writing = spawn(async move {
                    for _ in 0..50 {
                        sleep(MS).await;
                    }
                    // One byte for each thread.
                    theirs.write_all(b"yy").unwrap();
                    theirs
                });
                let (result, byte) = reading.await;
                let _theirs = writing.await;
                let mut read = 0;
                for (result, byte) in [(result, byte), thread.join().unwrap()] {
                    match result {
                        Ok(n) => {
                            assert_eq!((n, byte), (1, *b"y"));
                            read += 1;
                        }
                        Err(error) => {
                            let text = error.to_string();
                            assert!(text.contains("belongs to another thread"), "{text}");
                        }
                    }
                }
                assert!(read > 0, "both were refused");
            });
        });
    }
}
