//! What connected streams do, of TCP and of Unix sockets alike.

use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;

use fastrand::Rng;
use futures_lite::future;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use soloist::io::Async;
use soloist::net;

use crate::support::*;

/// A kind of streams.
trait Kind: Copy + 'static {
    type Stream: AsyncRead + AsyncWrite + Clone + Debug + Unpin + 'static;
    type ReadHalf: AsyncRead + Unpin + 'static;
    type WriteHalf: AsyncWrite + Unpin + 'static;
    type Std: Read + Write;
    fn std_pair(self) -> (Self::Std, Self::Std);
    fn wrap(self, stream: Self::Std) -> Self::Stream;
    fn into_std(self, stream: Self::Stream) -> Result<Self::Std, Self::Stream>;
    fn split(self, stream: Self::Stream) -> (Self::ReadHalf, Self::WriteHalf);
    fn reunite(self, halves: (Self::ReadHalf, Self::WriteHalf)) -> Self::Stream;
    fn shutdown(self, stream: &Self::Stream, how: Shutdown);
    /// Closes the stream such that the next read of its peer fails.
    async fn reset(self, stream: Self::Stream, peer: &mut Self::Stream);

    fn pair(self) -> (Self::Stream, Self::Stream) {
        let (one, other) = self.std_pair();
        (self.wrap(one), self.wrap(other))
    }
}

macro_rules! kind {
    ($kind:ident, $stream:ty, $std:ty, $pair:expr, $reset:expr) => {
        #[derive(Clone, Copy)]
        struct $kind;

        impl Kind for $kind {
            type Stream = $stream;
            type ReadHalf = net::OwnedReadHalf<$stream>;
            type WriteHalf = net::OwnedWriteHalf<$stream>;
            type Std = $std;
            fn std_pair(self) -> ($std, $std) {
                $pair
            }
            fn wrap(self, stream: $std) -> $stream {
                stream.try_into().unwrap()
            }
            fn into_std(self, stream: $stream) -> Result<$std, $stream> {
                stream.into_std().map_err(|error| {
                    assert!(error.to_string().contains("clones"), "{error}");
                    assert!(!format!("{error:?}").is_empty());
                    error.into_socket()
                })
            }
            fn split(self, stream: $stream) -> (Self::ReadHalf, Self::WriteHalf) {
                stream.into_split()
            }
            fn reunite(self, (read, write): (Self::ReadHalf, Self::WriteHalf)) -> $stream {
                read.reunite(write).unwrap()
            }
            fn shutdown(self, stream: &$stream, how: Shutdown) {
                stream.shutdown(how).unwrap();
            }
            async fn reset(self, stream: $stream, peer: &mut $stream) {
                let reset: fn(&$stream) = $reset;
                reset(&stream);
                peer.write_all(b"unread").await.unwrap();
                drop(stream);
            }
        }
    };
}

kind!(
    Tcp,
    net::TcpStream,
    std::net::TcpStream,
    tcp_pair(),
    |stream| {
        stream.set_linger(Some(Duration::ZERO)).unwrap();
    }
);
// One that is closed with bytes unread resets the connection.
#[cfg(unix)]
kind!(
    Unix,
    net::unix::UnixStream,
    std::os::unix::net::UnixStream,
    std::os::unix::net::UnixStream::pair().unwrap(),
    |_| ()
);

/// Each of these is a test of either kind.
macro_rules! of_both_kinds {
    ($($test:ident,)*) => {
        mod tcp {
            $(#[test] fn $test() {
                crate::support::async_test(async || super::$test(super::Tcp).await);
            })*
        }
        #[cfg(unix)]
        mod unix {
            $(#[test] fn $test() {
                crate::support::async_test(async || super::$test(super::Unix).await);
            })*
        }
    };
}

of_both_kinds!(
    streams_come_from_std_and_go_back,
    into_std_gives_the_stream_back_while_it_has_clones,
    clones_and_halves_read_and_write_at_the_same_time,
    several_buffers_are_read_and_written_at_once,
    any_number_of_buffers_is_written,
    a_read_that_is_dropped_loses_nothing,
    b75_after_half_a_close_the_other_half_is_read_to_its_end,
    b75_closing_after_a_reset_is_no_error_and_no_hang,
    a_stream_whose_buffer_is_full_is_flushed_and_closed_at_once,
);

async fn streams_come_from_std_and_go_back(kind: impl Kind) {
    let (ours, mut theirs) = kind.std_pair();
    let mut stream = kind.wrap(ours);
    fails_soon(stream.read(&mut [0])).await;
    theirs.write_all(b"x").unwrap();
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap(), 1);
    let mut std = kind.into_std(stream).unwrap();
    // Still in nonblocking mode.
    let error = std.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    theirs.write_all(b"x").unwrap();
    let mut stream = kind.wrap(std);
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap(), 1);
}

async fn into_std_gives_the_stream_back_while_it_has_clones(kind: impl Kind) {
    let (ours, mut theirs) = kind.std_pair();
    let stream = kind.wrap(ours);
    let clone = stream.clone();
    let mut stream = kind.into_std(stream).err().expect("it has a clone");
    theirs.write_all(b"x").unwrap();
    assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 1);
    drop(stream);
    // Halves that are one stream again are no clones.
    let clone = kind.reunite(kind.split(clone));
    assert!(kind.into_std(clone).is_ok());
}

async fn clones_and_halves_read_and_write_at_the_same_time(kind: impl Kind) {
    const SIZE: usize = 4 << 20;

    async fn send(mut to: impl AsyncWrite + Unpin, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..SIZE).map(|n| (n as u64 * 31 + seed) as u8).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let size = random.usize(1..=100_000).min(rest.len());
            to.write_all(&rest[..size]).await.unwrap();
            rest = &rest[size..];
        }
        to.close().await.unwrap();
    }

    async fn receive(mut from: impl AsyncRead + Unpin, seed: u64) {
        let mut random = Rng::with_seed(!seed);
        let mut buf = vec![0; 100_000];
        let mut got = 0;
        loop {
            let size = random.usize(1..=buf.len());
            match from.read(&mut buf[..size]).await.unwrap() {
                0 => break,
                n => {
                    let expected = (got..got + n).map(|n| (n as u64 * 31 + seed) as u8);
                    assert!(expected.eq(buf[..n].iter().copied()));
                    got += n;
                }
            }
        }
        assert_eq!(got, SIZE);
    }

    let (clones, halves) = kind.pair();
    let (read_half, write_half) = kind.split(halves);
    let tasks = [
        spawn(send(clones.clone(), 1)),
        spawn(receive(read_half, 1)),
        spawn(send(write_half, 2)),
        spawn(receive(clones, 2)),
    ];
    for task in tasks {
        task.await;
    }
}

async fn several_buffers_are_read_and_written_at_once(kind: impl Kind) {
    let (mut ours, mut theirs) = kind.pair();
    let parts = [&b"one"[..], b"", b"two"].map(IoSlice::new);
    assert_eq!(ours.write_vectored(&parts).await.unwrap(), 6);
    let (mut a, mut b) = ([0; 2], [0; 10]);
    let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    assert_eq!(soon(theirs.read_vectored(&mut bufs)).await.unwrap(), 6);
    assert_eq!((&a, &b[..4]), (b"on", &b"etwo"[..]));
    // A short read of several shows that there is no more.
    fails_soon(theirs.read(&mut b)).await;
    ours.write_all(b"more").await.unwrap();
    assert_eq!(soon(theirs.read(&mut b)).await.unwrap(), 4);
}

/// More than the system takes in one call.
async fn any_number_of_buffers_is_written(kind: impl Kind) {
    let (mut ours, mut theirs) = kind.pair();
    let bytes: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
    let read = spawn(async move {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        all
    });
    let mut written = 0;
    while written < bytes.len() {
        let bufs: Vec<_> = bytes[written..].chunks(1).map(IoSlice::new).collect();
        let n = soon(ours.write_vectored(&bufs)).await.unwrap();
        assert!(n >= 1000 || written + n == bytes.len(), "{n}");
        written += n;
    }
    ours.close().await.unwrap();
    assert_eq!(soon(read).await, bytes);
}

async fn a_read_that_is_dropped_loses_nothing(kind: impl Kind) {
    async fn check(mut to: impl AsyncWrite + Unpin, mut from: impl AsyncRead + Unpin) {
        let mut buf = [0; 8];
        for n in 0..100 {
            let mut read = Box::pin(from.read(&mut buf));
            assert!(poll_once(&mut read).await.is_pending());
            to.write_all(&[n]).await.unwrap();
            // Dropped before the reactor has reported the byte, or after it, or not at all.
            for _ in 0..n % 3 {
                yield_now().await;
            }
            let is_read = n % 4 == 0 && poll_once(&mut read).await.is_ready();
            drop(read);
            if !is_read {
                assert_eq!(soon(from.read(&mut buf)).await.unwrap(), 1);
            }
            assert_eq!(buf[0], n);
        }
    }

    let (one, other) = kind.pair();
    check(one.clone(), other.clone()).await;
    let (read, _write) = kind.split(other);
    check(one, read).await;
}

async fn b75_after_half_a_close_the_other_half_is_read_to_its_end(kind: impl Kind) {
    let (mut ours, mut theirs) = kind.pair();
    ours.write_all(b"question").await.unwrap();
    kind.shutdown(&ours, Shutdown::Write);
    let mut text = String::new();
    soon(theirs.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "question");
    let error = ours.write(b"x").await.unwrap_err();
    // Windows has an error of its own for it, to which std gives no kind.
    let broken = error.kind() == io::ErrorKind::BrokenPipe;
    assert!(broken || cfg!(windows), "{error}");
    theirs.write_all(b"answer").await.unwrap();
    theirs.close().await.unwrap();
    text.clear();
    soon(ours.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "answer");
    // Twice, and after the end.
    for stream in [&mut ours, &mut theirs] {
        stream.close().await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0);
    }
}

async fn b75_closing_after_a_reset_is_no_error_and_no_hang(kind: impl Kind) {
    for read_first in [false, true] {
        let (mut ours, theirs) = kind.pair();
        fails_soon(ours.read(&mut [0])).await;
        kind.reset(theirs, &mut ours).await;
        if read_first {
            let error = soon(ours.read(&mut [0])).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(soon(ours.read(&mut [0])).await.unwrap(), 0);
        }
        for _ in 0..2 {
            soon(ours.close()).await.unwrap();
        }
    }
}

async fn a_stream_whose_buffer_is_full_is_flushed_and_closed_at_once(kind: impl Kind) {
    let (ours, theirs) = kind.std_pair();
    flushes_and_closes(kind.wrap(ours), theirs).await;
}

#[test]
fn a_source_whose_buffer_is_full_is_flushed_and_closed_at_once() {
    async_test(async || {
        let (ours, theirs) = tcp_pair();
        flushes_and_closes(Async::new(ours).unwrap(), theirs).await;
    });
}

/// Fills the stream until a write waits. The peer does not read yet: neither a flush nor a close
/// waits for that.
async fn flushes_and_closes(mut stream: impl AsyncWrite + Unpin, mut peer: impl Read) {
    let chunk = vec![0; 1 << 20];
    let mut sent = 0;
    // Twice: the first time it may be the budget of the poll that is used up.
    for _ in 0..2 {
        while let Some(written) = future::poll_once(stream.write(&chunk)).await {
            sent += written.unwrap();
        }
        yield_now().await;
    }
    for _ in 0..2 {
        let flushed = future::poll_once(stream.flush()).await;
        flushed.expect("a flush does not wait").unwrap();
        // It has made no room, but the system may have.
        if let Some(written) = future::poll_once(stream.write(&chunk)).await {
            sent += written.unwrap();
        }
        yield_now().await;
    }
    let closed = future::poll_once(stream.close()).await;
    closed.expect("a close does not wait").unwrap();
    drop(stream);
    let mut received = Vec::new();
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), sent);
}

#[cfg(unix)]
#[test]
fn b74_a_write_to_a_closed_peer_is_an_error_and_no_signal() {
    async fn check(kind: impl Kind) {
        let (mut stream, other) = kind.pair();
        kind.reset(other, &mut stream).await;
        soon(stream.read(&mut [0])).await.unwrap_err();
        assert_broken(&mut stream).await;
        let (_read, mut write) = kind.split(stream);
        assert_broken(&mut write).await;
    }

    async fn assert_broken(stream: &mut (impl AsyncWrite + Unpin)) {
        let error = stream.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let two = [IoSlice::new(b"x"), IoSlice::new(b"y")];
        let error = stream.write_vectored(&two).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    in_own_process(|| {
        crate::sys::restore_sigpipe();
        block_on(async {
            check(Tcp).await;
            check(Unix).await;
        });
    });
}

#[test]
fn b75_a_drop_delivers_the_last_bytes_and_a_linger_of_zero_resets() {
    async_test(async || {
        let (mut stream, other) = Tcp.pair();
        stream.write_all(b"hello").await.unwrap();
        drop(stream);
        assert_eq!(read_all(other).await.unwrap(), "hello");

        let (mut stream, other) = Tcp.pair();
        stream.write_all(b"hello").await.unwrap();
        stream.set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        let error = read_all(other).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_stream_ends_when_its_write_half_is_dropped() {
    async_test(async || {
        let (stream, mut other) = Tcp.pair();
        let (read, write) = stream.into_split();
        drop(read);
        fails_soon(other.read(&mut [0])).await;
        drop(write);
        assert_eq!(soon(other.read(&mut [0])).await.unwrap(), 0);

        // Closed, and then dropped.
        let (stream, mut other) = Tcp.pair();
        let (mut read, mut write) = stream.into_split();
        write.close().await.unwrap();
        assert_eq!(soon(other.read(&mut [0])).await.unwrap(), 0);
        drop(write);
        other.write_all(b"x").await.unwrap();
        assert_eq!(soon(read.read(&mut [0])).await.unwrap(), 1);

        // Forgotten: when both are gone.
        let (stream, mut other) = Tcp.pair();
        let (read, write) = stream.into_split();
        write.forget();
        fails_soon(other.read(&mut [0])).await;
        drop(read);
        assert_eq!(soon(other.read(&mut [0])).await.unwrap(), 0);

        // After a reset.
        let (stream, other) = Tcp.pair();
        let (mut read, write) = stream.into_split();
        other.set_linger(Some(Duration::ZERO)).unwrap();
        drop(other);
        soon(read.read(&mut [0])).await.unwrap_err();
        drop(write);
    });
}

#[test]
fn halves_of_one_stream_are_reunited() {
    async_test(async || {
        let (stream, mut other) = Tcp.pair();
        let address = stream.local_addr().unwrap();
        let (read, write) = stream.into_split();
        assert_eq!(read.as_ref().local_addr().unwrap(), address);
        assert_eq!(write.as_ref().local_addr().unwrap(), address);
        let stream = read.reunite(write).unwrap();
        let (read, write) = stream.into_split();
        let mut stream = write.reunite(read).unwrap();
        // Nothing was shut down.
        stream.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        soon(other.read_exact(&mut buf)).await.unwrap();
        assert_eq!(&buf, b"hello");
        // And nothing is left behind.
        stream.into_std().unwrap();
    });
}

#[test]
fn halves_of_two_streams_are_given_back() {
    async_test(async || {
        let ((a, mut other_a), (b, other_b)) = (Tcp.pair(), Tcp.pair());
        let ((read_a, write_a), (read_b, write_b)) = (a.into_split(), b.into_split());
        let error = read_a.reunite(write_b).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the halves belong to different streams",
            "{error:?}"
        );
        let net::ReuniteError(read_a, write_b) = error;
        let net::ReuniteError(read_b, write_a) = write_a.reunite(read_b).unwrap_err();
        let mut a = read_a.reunite(write_a).unwrap();
        read_b.reunite(write_b).unwrap().close().await.unwrap();
        a.write_all(b"a").await.unwrap();
        assert_eq!(soon(other_a.read(&mut [0; 8])).await.unwrap(), 1);
        assert_eq!(read_all(other_b).await.unwrap(), "");
    });
}

async fn read_all(mut from: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut text = String::new();
    soon(from.read_to_string(&mut text)).await?;
    Ok(text)
}
