//! What a socket that moves to another thread leaves behind: wakers of polls that are over,
//! reports that come after it has gone.

use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use soloist::block_on;
use soloist::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use soloist::net::TcpStream;
use soloist::time::sleep;

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

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

/// Writes until a write waits.
fn fill(stream: &mut (impl AsyncWrite + Unpin), waker: &Waker) {
    let mut cx = Context::from_waker(waker);
    let chunk = vec![0; 1 << 20];
    while let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(&mut cx, &chunk) {
        written.unwrap();
    }
}

/// The first poll leaves its waker, and a later one goes through.
#[test]
fn a_poll_that_is_over_does_not_keep_its_socket_on_the_thread() {
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

/// The waker that is left behind is the same as that of the next wait.
#[test]
fn a_wait_after_a_poll_that_is_over_keeps_its_socket_on_the_thread() {
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

/// Two sockets are reported at once, each with somebody who waits to write. Who is woken
/// for one of them takes the other to another thread before its own report is looked at:
/// that is no news about its life there.
#[test]
fn a_report_that_comes_after_a_move_says_nothing_about_the_new_life() {
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
                    let other = thread::spawn(read).join().unwrap();
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
