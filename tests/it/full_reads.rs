//! Reads that fill their buffer: the next read is tried, since more data may be available.

use std::io::Write;
use std::pin::pin;

use futures_lite::future::zip;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::TcpStream;

use crate::support::*;

/// Each read of this size fills its buffer.
const SIZE: usize = 8;

fn pair() -> (TcpStream, std::net::TcpStream) {
    let (ours, theirs) = tcp_pair();
    (TcpStream::try_from(ours).unwrap(), theirs)
}

/// Reads `count` times so many bytes. It waits first, then all of them come at once.
/// Returns the number of polls.
async fn receive(ours: &TcpStream, theirs: &std::net::TcpStream, count: usize) -> usize {
    let polls = Cell::new(0);
    let sent: Vec<u8> = (0..count * SIZE).map(|n| n as u8).collect();
    let mut received = vec![0; sent.len()];
    let chunks = received.chunks_exact_mut(SIZE);
    let reading = count_polls(&polls, async {
        let mut ours = ours;
        for chunk in chunks {
            ours.read_exact(chunk).await.unwrap();
        }
    });
    zip(reading, async { (&*theirs).write_all(&sent).unwrap() }).await;
    assert_eq!(received, sent);
    polls.get()
}

#[test]
fn available_data_is_read_in_one_poll_up_to_the_budget() {
    async_test(async || {
        let (ours, theirs) = pair();
        // The first poll waits.
        for count in [1, 2, 50, 1, 128, 1, 2] {
            assert_eq!(receive(&ours, &theirs, count).await, 1 + 1, "{count} reads");
        }
        assert_eq!(receive(&ours, &theirs, 129).await, 1 + 2);
        assert_eq!(receive(&ours, &theirs, 2 * 128 + 1).await, 1 + 3);
    });
}

#[test]
fn nothing_is_lost_between_reads_that_fill_their_buffers_and_others() {
    async_test(async || {
        let (ours, mut theirs) = pair();
        let mut buf = [0; SIZE];

        // A read that is dropped instead of waiting.
        theirs.write_all(&[1; 3 * SIZE]).unwrap();
        (&ours).read_exact(&mut buf).await.unwrap();
        for _ in 0..3 {
            let mut more = [0; 1];
            let _ = poll_once(&mut pin!((&ours).read_exact(&mut more))).await;
        }
        let mut rest = [0; 2 * SIZE];
        let n = (&ours).read(&mut rest).await.unwrap();
        assert_eq!(n, 2 * SIZE - 3);

        // A peek takes nothing.
        theirs.write_all(&[2; 2 * SIZE]).unwrap();
        (&ours).read_exact(&mut buf).await.unwrap();
        let peeked = poll_once(&mut pin!(ours.peek(&mut [0; SIZE]))).await;
        assert!(matches!(peeked, std::task::Poll::Ready(Ok(SIZE))));
        (&ours).read_exact(&mut buf).await.unwrap();

        // A short read, the rest, and the end.
        theirs.write_all(&[3; SIZE]).unwrap();
        assert_eq!((&ours).read(&mut [0; 2 * SIZE]).await.unwrap(), SIZE);
        theirs.write_all(&[3; SIZE]).unwrap();
        drop(theirs);
        (&ours).read_exact(&mut buf).await.unwrap();
        assert_eq!((&ours).read(&mut buf).await.unwrap(), 0);
        assert_eq!((&ours).read(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn clones_readers_side_by_side_and_halves_lose_nothing() {
    async_test(async || {
        let (ours, mut theirs) = pair();
        let clone = ours.clone();
        for _ in 0..40 {
            let (mut a, mut b) = ([0; SIZE], [0; SIZE]);
            let (mut one, mut other) = (&ours, &clone);
            let reading = zip(one.read_exact(&mut a), other.read_exact(&mut b));
            theirs.write_all(&[4; 2 * SIZE]).unwrap();
            let (a, b) = reading.await;
            a.and(b).unwrap();
        }
        drop(clone);
        let (mut read, mut write) = ours.into_split();
        let reader = spawn(async move {
            let mut all = Vec::new();
            let mut buf = [0; SIZE];
            loop {
                match read.read(&mut buf).await.unwrap() {
                    0 => return all,
                    n => all.extend_from_slice(&buf[..n]),
                }
            }
        });
        for n in 0..100 {
            theirs.write_all(&vec![5; n % 5 * SIZE]).unwrap();
            write.write_all(b"between").await.unwrap();
        }
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(reader.await.len(), 2 * 100 * SIZE);
    });
}

/// On Linux a thread's reads of pipes are counted.
#[cfg(all(target_os = "linux", feature = "process"))]
#[test]
fn a_read_is_tried_only_if_data_may_be_available() {
    use soloist::process::{Command, Stdio};

    fn reads() -> usize {
        let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("syscr: "));
        count.expect("the count").parse().unwrap()
    }

    watchdog(|| {
        if !std::path::Path::new("/proc/thread-self/io").exists() {
            return;
        }
        // To look makes reads, too.
        let (first, second) = (reads(), reads());
        let looking = second - first;
        block_on(async {
            let mut cat = Command::new("cat");
            cat.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut cat = cat.kill_on_drop(true).spawn().unwrap();
            let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
            let before = reads();
            for n in 0..97 {
                to.write_all(&[n; SIZE]).await.unwrap();
                let mut buf = [0; SIZE];
                from.read_exact(&mut buf).await.unwrap();
                assert_eq!(buf, [n; SIZE]);
            }
            let made = reads() - before - looking;
            // One that finds something, and one that does not, unless the answer comes at
            // once.
            assert!((97..=2 * 97).contains(&made), "{made} reads");
        });
    });
}
