//! `tokio::select!` and `futures::select!` in tasks of soloist.

use std::io::ErrorKind;
use std::net::Shutdown;

use futures::FutureExt;
use futures::stream::{FusedStream, StreamExt};
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::TcpStream;
use soloist::time::interval;

use crate::support::*;

/// A connection, and the other end on a thread: it sends "hello", ends its stream after it has
/// received `most` bytes, and returns these.
fn connection(most: u64) -> (TcpStream, thread::JoinHandle<Vec<u8>>) {
    let (ours, mut theirs) = tcp_pair();
    let peer = thread::spawn(move || {
        use std::io::{Read, Write};
        theirs.write_all(b"hello").unwrap();
        let mut received = Vec::new();
        (&theirs).take(most).read_to_end(&mut received).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        // Closed with bytes that nothing has read, the connection would be reset.
        std::io::copy(&mut theirs, &mut std::io::sink()).unwrap();
        received
    });
    (TcpStream::try_from(ours).unwrap(), peer)
}

/// The loop of the guide: `docs/select.md`.
async fn client(stream: TcpStream, limit: Duration) -> std::io::Result<usize> {
    let (mut reader, mut writer) = (&stream, &stream);
    let mut pings = interval(MS);
    let mut buf = [0; 1024];
    let mut total = 0;
    let limit = sleep(limit);
    tokio::pin!(limit);
    loop {
        tokio::select! {
            n = reader.read(&mut buf) => match n? {
                0 => return Ok(total),
                n => total += n,
            },
            _ = pings.tick() => writer.write_all(b"ping\n").await?,
            () = &mut limit => return Err(ErrorKind::TimedOut.into()),
        }
    }
}

#[test]
fn a_loop_with_tokio_select_reads_pings_and_ends() {
    async_test(async || {
        let (stream, peer) = connection(15);
        assert_eq!(client(stream, 60 * SECOND).await.unwrap(), 5);
        assert_eq!(peer.join().unwrap(), b"ping\nping\nping\n");
    });
}

#[test]
fn a_branch_with_a_deadline_ends_the_loop() {
    async_test(async || {
        let (stream, peer) = connection(u64::MAX);
        let error = client(stream, 20 * MS).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let received = peer.join().unwrap();
        assert_eq!(received, b"ping\n".repeat(received.len() / 5));
        assert!(!received.is_empty());
    });
}

#[test]
fn a_biased_tokio_select_takes_the_first_branch_that_is_ready() {
    async_test(async || {
        let mut task = spawn(async { 7 });
        let mut log = Vec::new();
        let mut yields = 0;
        loop {
            tokio::select! {
                biased;
                output = task.join_mut() => {
                    log.push(output.unwrap());
                    break;
                }
                () = yield_now() => yields += 1,
            }
        }
        assert_eq!((log, yields), (vec![7], 0));
    });
}

#[test]
fn tokio_select_drops_the_branch_that_loses() {
    async_test(async || {
        let seen = Seen::new();
        let task = spawn(seen.probe());
        yield_now().await;
        tokio::select! {
            () = task => panic!("it never ends"),
            () = sleep(MS) => {}
        }
        assert_eq!(seen.counts(), (1, 1));
    });
}

#[test]
fn futures_select_waits_for_streams_and_futures() {
    async_test(async || {
        let mut ticks = StreamExt::take(interval(MS), 3).fuse();
        let mut done = Box::pin(sleep(5 * MS)).fuse();
        let mut log = Vec::new();
        loop {
            futures::select! {
                tick = ticks.next() => log.extend(tick.map(|_| "tick")),
                () = done => log.push("done"),
                complete => break,
            }
        }
        assert!(ticks.is_terminated());
        log.sort_unstable();
        assert_eq!(log, ["done", "tick", "tick", "tick"]);
    });
}
