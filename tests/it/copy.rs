//! `io::copy_bidirectional` and `io::split`.

use std::io::{self, ErrorKind};
use std::pin::pin;

use soloist::future::{try_zip, zip};
use soloist::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, CopyBidirectional, Cursor,
    copy_bidirectional, split,
};
use soloist::net::TcpStream;
use soloist::stream::{self, StreamExt};
use soloist::task::Task;

use crate::support::*;

const MIB: usize = 1 << 20;

fn pair() -> (TcpStream, TcpStream) {
    let (one, other) = tcp_pair();
    (one.try_into().unwrap(), other.try_into().unwrap())
}

/// A client, a server, and a task that copies between them.
fn proxied() -> (TcpStream, TcpStream, Task<io::Result<(u64, u64)>>) {
    let (client, a) = pair();
    let (b, server) = pair();
    (
        client,
        server,
        spawn(async move { copy_bidirectional(&a, &b).await }),
    )
}

fn bytes(seed: usize) -> Vec<u8> {
    (0..MIB).map(|n| (n * seed % 251) as u8).collect()
}

#[test]
fn both_directions_are_copied_at_once() {
    async_test(async || {
        let (client, server, proxy) = proxied();
        let send = async |mut to: &TcpStream, bytes: &[u8]| {
            to.write_all(bytes).await?;
            to.close().await
        };
        let receive = async |mut from: &TcpStream| {
            let mut all = Vec::new();
            from.read_to_end(&mut all).await?;
            io::Result::Ok(all)
        };
        let (there, back) = (bytes(3), bytes(7));
        let sent = try_zip(send(&client, &there), send(&server, &back));
        let received = try_zip(receive(&server), receive(&client));
        let (_, (got_there, got_back)) = try_zip(sent, received).await.unwrap();
        assert!(got_there == there && got_back == back);
        assert_eq!(proxy.await.unwrap(), (MIB as u64, MIB as u64));
    });
}

#[test]
fn a_half_closed_connection_still_copies_the_other_direction() {
    async_test(async || {
        for client_first in [true, false] {
            let (a, b, proxy) = proxied();
            let (mut first, mut second) = if client_first { (a, b) } else { (b, a) };
            first.write_all(b"a question").await.unwrap();
            first.close().await.unwrap();
            let mut text = String::new();
            second.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "a question");
            // The answer arrives after the direction of the question was closed.
            assert!(!proxy.is_finished());
            for _ in 0..3 {
                second.write_all(b"an answer").await.unwrap();
                let mut buf = [0; 9];
                first.read_exact(&mut buf).await.unwrap();
                assert_eq!(&buf, b"an answer");
            }
            second.close().await.unwrap();
            assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
            let expected = if client_first { (10, 27) } else { (27, 10) };
            assert_eq!(proxy.await.unwrap(), expected);
        }
    });
}

#[test]
fn a_slow_reader_holds_the_writer_back() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 512;
    async_test(async || {
        let (mut client, server, proxy) = proxied();
        let sent = leak(RefCell::new(0));
        let writer = spawn(async move {
            let chunk = vec![1; CHUNK];
            // More than fits into all buffers between them.
            for _ in 0..CHUNKS {
                client.write_all(&chunk).await.unwrap();
                *sent.borrow_mut() += chunk.len();
            }
            client.close().await.unwrap();
            client
        });
        // Until the writer makes no progress.
        let mut last = usize::MAX;
        while *sent.borrow() != last {
            last = *sent.borrow();
            soloist::time::sleep(50 * MS).await;
        }
        assert!(!writer.is_finished());
        let (mut buf, mut all) = (vec![0; CHUNK], 0);
        loop {
            match (&server).read(&mut buf).await.unwrap() {
                0 => break,
                n => all += n,
            }
        }
        assert_eq!(all, CHUNK * CHUNKS);
        drop(server);
        drop(writer.await);
        assert_eq!(proxy.await.unwrap().0, (CHUNK * CHUNKS) as u64);
    });
}

/// A stream whose reads return given parts, and whose writes are logged.
struct Scripted {
    reads: Vec<io::Result<&'static [u8]>>,
    /// Whether the last read is followed by the end. If not, reads are pending.
    ends: bool,
    /// How many bytes a write takes at most.
    write: usize,
    log: Rc<RefCell<Vec<String>>>,
}

impl Scripted {
    fn new(reads: &[&'static str]) -> (Scripted, Rc<RefCell<Vec<String>>>) {
        let log = Rc::default();
        let scripted = Scripted {
            reads: reads.iter().rev().map(|text| Ok(text.as_bytes())).collect(),
            ends: true,
            write: usize::MAX,
            log: Rc::clone(&log),
        };
        (scripted, log)
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.reads.pop() {
            Some(Ok(bytes)) => {
                buf[..bytes.len()].copy_from_slice(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None if self.ends => Poll::Ready(Ok(0)),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = buf.len().min(self.write);
        let text = String::from_utf8_lossy(&buf[..n]).into_owned();
        self.log.borrow_mut().push(text);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.log.borrow_mut().push("<flush>".into());
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.log.borrow_mut().push("<close>".into());
        Poll::Ready(Ok(()))
    }
}

#[test]
fn parts_are_written_flushed_and_closed_once() {
    async_test(async || {
        let (a, at_a) = Scripted::new(&["to b", "!"]);
        let (mut b, at_b) = Scripted::new(&[]);
        b.write = 3;
        assert_eq!(copy_bidirectional(a, b).await.unwrap(), (5, 0));
        assert_eq!(*at_b.borrow(), ["to ", "b", "!", "<close>"]);
        assert_eq!(*at_a.borrow(), ["<close>"]);
        // It flushes the writer once before it waits for more.
        let (mut a, at_a) = Scripted::new(&["ping"]);
        a.ends = false;
        let (mut b, at_b) = Scripted::new(&[]);
        b.ends = false;
        let mut copy = pin!(copy_bidirectional(a, b));
        for _ in 0..3 {
            assert!(poll_once(&mut copy).await.is_pending());
        }
        assert_eq!(*at_b.borrow(), ["ping", "<flush>"]);
        assert!(at_a.borrow().is_empty());
    });
}

#[test]
fn the_first_error_ends_the_copy() {
    async_test(async || {
        let (mut a, _) = Scripted::new(&["never read"]);
        a.reads.push(Err(ErrorKind::ConnectionReset.into()));
        let (mut b, at_b) = Scripted::new(&[]);
        b.ends = false;
        let error = copy_bidirectional(a, b).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(at_b.borrow().is_empty());
        // A writer that takes nothing, in the other direction.
        let (b, _) = Scripted::new(&["x"]);
        let (mut a, _) = Scripted::new(&[]);
        a.write = 0;
        let error = copy_bidirectional(a, b).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
    });
}

#[test]
fn a_reset_of_the_client_is_an_error() {
    async_test(async || {
        let (client, server, proxy) = proxied();
        client.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        (&client).write_all(b"x").await.unwrap();
        (&server).read_exact(&mut [0]).await.unwrap();
        drop(client);
        let error = proxy.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn streams_are_usable_after_a_copy_is_dropped() {
    async_test(async || {
        let (mut client, a) = pair();
        let (b, mut server) = pair();
        client.write_all(b"one").await.unwrap();
        {
            let mut copy = pin!(copy_bidirectional(&a, &b));
            let mut buf = [0; 3];
            let mut read = pin!(server.read_exact(&mut buf));
            while poll_once(&mut read).await.is_pending() {
                assert!(poll_once(&mut copy).await.is_pending());
                yield_now().await;
            }
        }
        client.write_all(b"two").await.unwrap();
        let copy = spawn(async move { copy_bidirectional(a, b).await });
        let mut buf = [0; 3];
        server.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"two");
        drop((client, server));
        assert_eq!(copy.await.unwrap(), (3, 0));
    });
}

#[test]
fn split_makes_two_halves() {
    async_test(async || {
        let (ours, mut theirs) = pair();
        let (mut read, mut write) = split(ours);
        let writer = spawn(async move {
            write.write_all(b"from one half").await.unwrap();
            write
        });
        let mut buf = [0; 13];
        let mut text = [0; 5];
        let (a, b) = zip(theirs.read_exact(&mut buf), async {
            yield_now().await;
            Ok::<(), io::Error>(())
        })
        .await;
        a.and(b).unwrap();
        assert_eq!(&buf, b"from one half");
        theirs.write_all(b"other").await.unwrap();
        read.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"other");
        let mut write = writer.await;
        write.close().await.unwrap();
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    });
}

#[test]
fn helpers_of_futures_lite_are_reexported() {
    async_test(async || {
        let sum = stream::iter(1..=4).fold(0, |sum, n| sum + n).await;
        assert_eq!(sum, 10);
        let first = soloist::future::or(std::future::pending(), async { 1 }).await;
        assert_eq!(first, 1);
        let mut to = Cursor::new(Vec::new());
        soloist::io::copy(&b"bytes"[..], &mut to).await.unwrap();
        assert_eq!(to.into_inner(), b"bytes");
        fn is_future(_: &impl Future) {}
        is_future(&soloist::future::ready(()));
    });
}

/// Bytes at certain times, by a virtual clock, and a timeout.
#[cfg(feature = "testing")]
mod idle {
    use soloist::time::{Interval, interval_at, now};

    use super::*;
    use crate::virtual_time::virtual_test;

    /// A stream from which `left` bytes come, one with each tick. What is written to it is accepted,
    /// unless it is `stuck`.
    struct Trickle {
        ticks: Interval,
        left: usize,
        stuck: bool,
    }

    fn trickle(seconds: u32, left: usize) -> Trickle {
        let period = seconds * SECOND;
        Trickle {
            ticks: interval_at(now() + period, period),
            left,
            stuck: false,
        }
    }

    impl AsyncRead for Trickle {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.left == 0 || self.ticks.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            self.left -= 1;
            buf[0] = b'x';
            Poll::Ready(Ok(1))
        }
    }

    impl AsyncWrite for Trickle {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.stuck {
                return Poll::Pending;
            }
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The counts when a copy with a timeout of 10 s gave up, and after how many seconds.
    async fn until_idle(a: Trickle, b: Trickle) -> ((u64, u64), u64) {
        let mut copy = CopyBidirectional::new(a, b).idle_timeout(10 * SECOND);
        let start = now();
        let error = (&mut copy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "nothing was copied for 10s");
        (copy.copied(), (now() - start).as_secs())
    }

    #[test]
    fn bytes_in_either_direction_put_the_timeout_off() {
        virtual_test(async || {
            assert_eq!(until_idle(trickle(1, 0), trickle(1, 0)).await, ((0, 0), 10));
            assert_eq!(until_idle(trickle(6, 5), trickle(1, 0)).await, ((5, 0), 40));
            assert_eq!(until_idle(trickle(1, 0), trickle(9, 5)).await, ((0, 5), 55));
            // The longest gap is from 18 s to 27 s.
            assert_eq!(until_idle(trickle(6, 3), trickle(9, 4)).await, ((3, 4), 46));
            // The byte that comes after 11 s is too late.
            assert_eq!(
                until_idle(trickle(11, 9), trickle(1, 0)).await,
                ((0, 0), 10)
            );
        });
    }

    #[test]
    fn bytes_that_cannot_be_written_do_not_put_it_off() {
        virtual_test(async || {
            let mut stuck = trickle(1, 0);
            stuck.stuck = true;
            assert_eq!(until_idle(trickle(1, 100), stuck).await, ((0, 0), 10));
        });
    }

    #[test]
    fn a_copy_that_ends_in_time_returns_the_counts() {
        virtual_test(async || {
            let (a, b) = (Cursor::new(vec![1; 5]), Cursor::new(Vec::new()));
            let copy = CopyBidirectional::new(a, b).idle_timeout(Duration::MAX);
            assert_eq!(copy.await.unwrap(), (5, 0));
        });
    }
}

#[test]
fn the_counts_are_known_after_an_error_and_the_streams_are_returned() {
    async_test(async || {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Pending
            }
        }
        impl AsyncWrite for Broken {
            fn poll_write(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Ok(buf.len()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Err(ErrorKind::BrokenPipe.into()))
            }
        }
        let mut copy = CopyBidirectional::new(Cursor::new(b"hello".to_vec()), Broken);
        let error = (&mut copy).await.unwrap_err();
        assert_eq!(
            (error.kind(), copy.copied()),
            (ErrorKind::BrokenPipe, (5, 0))
        );
        let (a, Broken) = copy.into_inner();
        assert_eq!(a.position(), 5);
    });
}
