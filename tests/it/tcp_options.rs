//! Options of TCP sockets, what a listener can be built with, and streams in halves.

use std::io::{self};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use soloist::net::{OwnedReadHalf, OwnedWriteHalf, ReuniteError, TcpListener, TcpStream};
use soloist::spawn;
use soloist::task::yield_now;

use crate::support::*;

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let (ours, theirs) = tcp_pair();
    (ours.try_into().unwrap(), theirs.try_into().unwrap())
}

async fn read_all(mut from: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut text = String::new();
    soon(from.read_to_string(&mut text)).await?;
    Ok(text)
}

// Options.

#[test]
fn options_are_what_they_were_set_to() {
    async_test(async || {
        let (stream, _other) = pair();
        for on in [true, false] {
            stream.set_nodelay(on).unwrap();
            assert_eq!(stream.nodelay().unwrap(), on);
        }
        stream.set_ttl(77).unwrap();
        assert_eq!(stream.ttl().unwrap(), 77);

        assert_eq!(stream.linger().unwrap(), None);
        for linger in [Some(3 * SECOND), Some(Duration::ZERO), None] {
            stream.set_linger(linger).unwrap();
            assert_eq!(stream.linger().unwrap(), linger);
        }
        assert!(stream.take_error().unwrap().is_none());
    });
}

#[test]
fn b75_a_drop_delivers_the_last_bytes_and_a_linger_of_zero_resets() {
    async_test(async || {
        let (mut stream, other) = pair();
        stream.write_all(b"hello").await.unwrap();
        drop(stream);
        assert_eq!(read_all(other).await.unwrap(), "hello");

        let (mut stream, other) = pair();
        stream.write_all(b"hello").await.unwrap();
        stream.set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        let error = read_all(other).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

// Listeners.

#[cfg(unix)]
#[test]
fn listeners_share_a_port_if_all_of_them_say_so() {
    async_test(async || {
        let shared = || TcpListener::builder().reuse_port(true);
        let one = shared().bind("127.0.0.1:0").await.unwrap();
        let address = one.local_addr().unwrap();
        let other = shared().bind(address).await.unwrap();
        assert_eq!(other.local_addr().unwrap(), address);
        for builder in [TcpListener::builder(), shared().reuse_port(false)] {
            let error = builder.bind(address).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            let text = format!("listening at {address} failed: ");
            assert!(error.to_string().starts_with(&text), "{error}");
        }
        drop((one, other));
        let alone = TcpListener::bind(address).await.unwrap();
        let error = shared().bind(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(alone);

        // Each connection is one listener's.
        let listeners = [
            shared().bind(address).await.unwrap(),
            shared().bind(address).await.unwrap(),
        ];
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let (done, accepted) = std::sync::mpsc::channel();
        let servers = listeners.map(|listener| {
            let done = done.clone();
            spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    done.send(stream).unwrap();
                }
            })
        });
        let mut streams = Vec::new();
        while streams.len() < clients.len() {
            yield_now().await;
            streams.extend(accepted.try_iter());
        }
        yield_now().await;
        assert!(accepted.try_recv().is_err(), "one too many");
        drop(servers);
    });
}

#[cfg(not(unix))]
#[test]
fn a_port_that_cannot_be_shared_is_an_error() {
    async_test(async || {
        let builder = TcpListener::builder().reuse_port(true);
        let error = builder.bind("127.0.0.1:0").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("SO_REUSEPORT"), "{error}");
    });
}

#[test]
fn only_v6_decides_whether_an_ipv6_listener_takes_ipv4() {
    async_test(async || {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        for only in [true, false] {
            let builder = TcpListener::builder().only_v6(only);
            // It says nothing to a listener of IPv4.
            builder.clone().bind("127.0.0.1:0").await.unwrap();
            let Ok(listener) = builder.bind(any).await else {
                return eprintln!("no IPv6 here");
            };
            let port = listener.local_addr().unwrap().port();
            TcpStream::connect(("::1", port)).await.unwrap();
            let connect = TcpStream::connect(("127.0.0.1", port)).await;
            assert_eq!(connect.is_ok(), !only, "{connect:?}");
        }
    });
}

// Halves.

#[test]
fn the_stream_ends_when_its_write_half_is_dropped() {
    async_test(async || {
        let (stream, mut other) = pair();
        let (read, write) = stream.into_split();
        drop(read);
        fails_soon(other.read(&mut [0])).await;
        drop(write);
        assert_eq!(soon(other.read(&mut [0])).await.unwrap(), 0);

        // Closed, and then dropped.
        let (stream, mut other) = pair();
        let (mut read, mut write) = stream.into_split();
        write.close().await.unwrap();
        assert_eq!(soon(other.read(&mut [0])).await.unwrap(), 0);
        drop(write);
        other.write_all(b"x").await.unwrap();
        assert_eq!(soon(read.read(&mut [0])).await.unwrap(), 1);

        // Forgotten: when both are gone.
        let (stream, mut other) = pair();
        let (read, write) = stream.into_split();
        write.forget();
        fails_soon(other.read(&mut [0])).await;
        drop(read);
        assert_eq!(soon(other.read(&mut [0])).await.unwrap(), 0);

        // After a reset.
        let (stream, other) = pair();
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
        let (stream, mut other) = pair();
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
        let ((a, mut other_a), (b, other_b)) = (pair(), pair());
        let ((read_a, write_a), (read_b, write_b)) = (a.into_split(), b.into_split());
        let error = read_a.reunite(write_b).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the halves are not of the same stream",
            "{error:?}"
        );
        let ReuniteError(read_a, write_b) = error;
        let ReuniteError(read_b, write_a) = write_a.reunite(read_b).unwrap_err();
        let mut a = read_a.reunite(write_a).unwrap();
        read_b.reunite(write_b).unwrap().close().await.unwrap();
        a.write_all(b"a").await.unwrap();
        assert_eq!(soon(other_a.read(&mut [0; 8])).await.unwrap(), 1);
        assert_eq!(read_all(other_b).await.unwrap(), "");
    });
}

#[test]
fn halves_are_send_and_sync() {
    fn read<T: AsyncRead + Unpin + Send + Sync + 'static>() {}
    fn write<T: AsyncWrite + Unpin + Send + Sync + 'static>() {}
    fn error<T: std::error::Error + Send + Sync>() {}

    read::<OwnedReadHalf>();
    write::<OwnedWriteHalf>();
    error::<ReuniteError>();
}
