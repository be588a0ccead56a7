//! TCP sockets, and the threads that they are used on.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use futures_lite::future::{self, zip};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use soloist::io::Async;
use soloist::net::{Incoming, TcpListener, TcpStream, ToSocketAddrs};
use soloist::task::yield_now;
use soloist::time::{sleep, timeout};
use soloist::{Runtime, block_on, spawn};

use crate::support::*;

async fn read_one(mut from: impl AsyncRead + Unpin) {
    assert_eq!(from.read(&mut [0]).await.unwrap(), 1);
}

/// Runs `test` in a runtime on a thread of its own.
fn elsewhere<F: Future<Output: Send + 'static>>(
    test: impl FnOnce() -> F + Send + 'static,
) -> F::Output {
    thread::spawn(|| block_on(test())).join().unwrap()
}

fn from_std(stream: std::net::TcpStream) -> TcpStream {
    TcpStream::try_from(stream).unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

// In and out of a runtime.

#[test]
fn sockets_are_usable_from_one_block_on_to_the_next() {
    watchdog(|| {
        let (listener, address) = block_on(listener());
        let mut client = block_on(TcpStream::connect(address)).unwrap();
        // Each has waited in a runtime that is gone.
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
        // And in two runtimes by turns.
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
        // A second time, too.
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
        // That broke nothing.
        drop(theirs);
        assert_eq!(block_on(soon(stream.read(&mut [0]))).unwrap(), 0);
        drop(listener);
    });
}

#[test]
fn connecting_outside_of_a_runtime_connects_to_nobody() {
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

// To and from std.

#[test]
fn streams_come_from_std_and_go_back() {
    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        let std = block_on(async {
            let mut stream = TcpStream::try_from(ours).unwrap();
            fails_soon(stream.read(&mut [0])).await;
            stream.into_std().unwrap()
        });
        // Still in nonblocking mode.
        let error = (&std).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        std.set_nonblocking(false).unwrap();
        theirs.write_all(b"x").unwrap();
        assert_eq!((&std).read(&mut [0]).unwrap(), 1);

        let listener = block_on(async {
            let (listener, _) = listener().await;
            fails_soon(listener.accept()).await;
            listener.into_std().unwrap()
        });
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        block_on(async {
            let listener = TcpListener::try_from(listener).unwrap();
            fails_soon(listener.accept()).await;
        });
    });
}

#[test]
fn into_std_gives_the_socket_back_while_it_has_clones() {
    async_test(async || {
        let (ours, mut theirs) = tcp_pair();
        let stream = from_std(ours);
        let clone = stream.clone();
        let error = stream.into_std().unwrap_err();
        assert!(error.to_string().contains("clones"), "{error}");
        assert!(!format!("{error:?}").is_empty());
        let mut stream = error.into_socket();
        theirs.write_all(b"x").unwrap();
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 1);
        drop(stream);
        clone.into_std().unwrap();

        let (listener, address) = listener().await;
        let clone = listener.clone();
        let error = listener.into_std().unwrap_err();
        let listener = error.into_socket();
        let _client = std::net::TcpStream::connect(address).unwrap();
        soon(listener.accept()).await.unwrap();
        let error: io::Error = listener.into_std().unwrap_err().into();
        assert!(error.to_string().contains("clones"), "{error}");
        clone.into_std().unwrap();
    });
}

#[cfg(unix)]
#[test]
fn sockets_lend_their_fds() {
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

// Clones, and the two directions.

#[test]
fn clones_are_the_same_connection_until_the_last_one_goes() {
    async_test(async || {
        let (ours, theirs) = tcp_pair();
        let mut peer = from_std(theirs);
        let first = from_std(ours);
        let mut second = first.clone();
        (&first).write_all(b"a").await.unwrap();
        drop(first);
        second.write_all(b"b").await.unwrap();
        let mut buf = [0; 2];
        soon(peer.read_exact(&mut buf)).await.unwrap();
        assert_eq!(&buf, b"ab");
        fails_soon(peer.read(&mut buf)).await;
        drop(second);
        assert_eq!(soon(peer.read(&mut buf)).await.unwrap(), 0);
    });
}

#[test]
fn clones_read_and_write_at_the_same_time() {
    const SIZE: usize = 4 << 20;

    async fn send(mut to: TcpStream, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..SIZE).map(|n| (n as u64 * 31 + seed) as u8).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let size = (1 + random.u64(..100_000) as usize).min(rest.len());
            to.write_all(&rest[..size]).await.unwrap();
            rest = &rest[size..];
        }
        to.close().await.unwrap();
    }

    async fn receive(mut from: TcpStream, seed: u64) {
        let mut random = Rng::with_seed(!seed);
        let mut buf = vec![0; 100_000];
        let mut got = 0;
        loop {
            let size = 1 + random.u64(..buf.len() as u64) as usize;
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

    async_test(async || {
        let (a, b) = tcp_pair();
        let (a, b) = (from_std(a), from_std(b));
        let tasks = [
            spawn(send(a.clone(), 1)),
            spawn(receive(b.clone(), 1)),
            spawn(send(b, 2)),
            spawn(receive(a, 2)),
        ];
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn clones_of_a_listener_accept_side_by_side() {
    async_test(async || {
        let (listener, address) = listener().await;
        let tasks: Vec<_> = (0..5)
            .map(|n| {
                let listener = listener.clone();
                spawn(async move {
                    if n % 2 == 0 {
                        listener.accept().await.unwrap().1
                    } else {
                        let stream = listener.incoming().next().await.unwrap();
                        stream.unwrap().peer_addr().unwrap()
                    }
                })
            })
            .collect();
        sleep(MS).await;
        let clients: Vec<_> = (0..5)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let mut expected: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
        let mut got = Vec::new();
        for task in tasks {
            got.push(soon(task).await);
        }
        expected.sort();
        got.sort();
        assert_eq!(got, expected);
    });
}

#[test]
fn connections_are_accepted_in_their_order_and_without_an_end() {
    async_test(async || {
        let (listener, address) = listener().await;
        // More than a short queue holds.
        let clients: Vec<_> = (0..200)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let mut incoming = listener.incoming();
        for client in &clients {
            let stream = soon(incoming.next()).await.unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
        }
        fails_soon(incoming.next()).await;
        let client = std::net::TcpStream::connect(address).unwrap();
        let stream = soon(incoming.next()).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
    });
}

#[test]
fn b75_after_half_a_close_the_other_half_is_read_to_its_end() {
    async_test(async || {
        let (ours, theirs) = tcp_pair();
        let (mut ours, mut theirs) = (from_std(ours), from_std(theirs));
        ours.write_all(b"question").await.unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
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
    });
}

#[test]
fn b75_closing_after_a_reset_is_no_error_and_no_hang() {
    async_test(async || {
        for read_first in [false, true] {
            let (ours, theirs) = tcp_pair();
            let mut ours = from_std(ours);
            fails_soon(ours.read(&mut [0])).await;
            let linger = Some(Duration::ZERO);
            socket2::SockRef::from(&theirs).set_linger(linger).unwrap();
            drop(theirs);
            if read_first {
                let error = soon(ours.read(&mut [0])).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                assert_eq!(soon(ours.read(&mut [0])).await.unwrap(), 0);
            }
            for _ in 0..2 {
                soon(ours.close()).await.unwrap();
            }
        }
    });
}

#[test]
fn a_shutdown_ends_the_read_of_a_clone() {
    async_test(async || {
        let (ours, _theirs) = tcp_pair();
        let ours = from_std(ours);
        let reading = {
            let mut clone = ours.clone();
            spawn(async move { clone.read(&mut [0]).await })
        };
        sleep(MS).await;
        ours.shutdown(Shutdown::Both).unwrap();
        assert_eq!(soon(reading).await.unwrap(), 0);
    });
}

#[test]
fn several_buffers_are_read_and_written_at_once() {
    async_test(async || {
        let (ours, theirs) = tcp_pair();
        let (mut ours, mut theirs) = (from_std(ours), from_std(theirs));
        let parts = [
            IoSlice::new(b"one"),
            IoSlice::new(b""),
            IoSlice::new(b"two"),
        ];
        assert_eq!(ours.write_vectored(&parts).await.unwrap(), 6);
        let (mut a, mut b) = ([0; 2], [0; 10]);
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(soon(theirs.read_vectored(&mut bufs)).await.unwrap(), 6);
        assert_eq!((&a, &b[..4]), (b"on", &b"etwo"[..]));
        // A short read of several says that there is no more.
        fails_soon(theirs.read(&mut b)).await;
        (&ours).write_all(b"more").await.unwrap();
        assert_eq!(soon((&theirs).read(&mut b)).await.unwrap(), 4);
    });
}

#[test]
fn sockets_and_their_futures_are_send_and_sync() {
    fn both<T: Send + Sync>() {}
    fn stream<T: AsyncRead + AsyncWrite + Clone + Unpin + Send + Sync>() {}
    fn send(_: impl Send) {}

    both::<TcpListener>();
    both::<Incoming<'_>>();
    both::<Async<std::net::TcpStream>>();
    stream::<TcpStream>();
    fn by_reference<'a>()
    where
        &'a TcpStream: AsyncRead + AsyncWrite,
        &'a Async<std::net::TcpStream>: AsyncRead + AsyncWrite,
    {
    }
    by_reference();

    async_test(async || {
        let (listener, address) = listener().await;
        send(TcpListener::bind(address));
        send(TcpStream::connect(address));
        send(listener.accept());
        let (ours, theirs) = tcp_pair();
        let mut stream = from_std(ours);
        send(stream.read(&mut [0]));
        send(stream.write_all(&[0]));
        send(stream.peek(&mut [0]));
        let source = Async::new(theirs).unwrap();
        send(source.readable());
        send(source.read_with(|_| Ok(())));
        send(source.write_with(|_| Ok(())));
    });
}

// Addresses.

#[test]
fn good_addresses() {
    async fn assert_good(address: impl ToSocketAddrs) {
        let listener = soon(TcpListener::bind(address)).await.unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }

    watchdog(|| {
        let v4 = Ipv4Addr::LOCALHOST;
        let any = SocketAddr::from((v4, 0));
        block_on(async {
            assert_good("127.0.0.1:0").await;
            assert_good(String::from("127.0.0.1:0")).await;
            assert_good(&String::from("127.0.0.1:0")).await;
            assert_good(&&"127.0.0.1:0").await;
            assert_good("localhost:0").await;
            assert_good(("127.0.0.1", 0)).await;
            assert_good((String::from("127.0.0.1"), 0)).await;
            assert_good(("localhost", 0)).await;
            assert_good((v4, 0)).await;
            assert_good((IpAddr::from(v4), 0)).await;
            assert_good(any).await;
            assert_good(SocketAddrV4::new(v4, 0)).await;
            assert_good(&any).await;
            assert_good(&[any, any][..]).await;
            let v6 = Ipv6Addr::LOCALHOST;
            if std::net::TcpListener::bind((v6, 0)).is_ok() {
                assert_good("[::1]:0").await;
                assert_good(("::1", 0)).await;
                assert_good((v6, 0)).await;
                assert_good(SocketAddrV6::new(v6, 0, 0, 0)).await;
            }
        });
    });
}

#[test]
fn bad_addresses_are_errors_that_show_them() {
    watchdog(|| {
        let bad = [
            "",
            ":",
            ":80",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:port",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1: 80",
            "127.0.0.1:80/",
            "127.0.0.1:80:80",
            "localhost",
            "localhost:",
            "localhost:99999999999999999999",
            "::1",
            "::1:80",
            "[::1]",
            "[::1]:",
            "[::1:80",
            "::1]:80",
            "[]:80",
            "[localhost]:80",
            "[127.0.0.1]:80",
            "http://localhost:80",
            "http://localhost",
            "//localhost:80",
        ];
        block_on(async {
            for address in bad {
                for error in [
                    soon(TcpStream::connect(address)).await.unwrap_err(),
                    soon(TcpListener::bind(address)).await.unwrap_err(),
                ] {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
                    let text = error.to_string();
                    assert!(text.contains(&format!("`{address}`")), "{text}");
                    assert!(text.contains("host:port"), "{text}");
                }
            }
            let none: &[SocketAddr] = &[];
            let error = TcpStream::connect(none).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            let error = TcpListener::bind(none).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            // No resolver is asked for these.
            for host in ["", "a\0b"] {
                let error = soon(TcpStream::connect((host, 80))).await.unwrap_err();
                assert!(
                    error.to_string().contains("could not be resolved"),
                    "{error}"
                );
            }
        });
    });
}

#[test]
fn the_addresses_are_tried_one_after_the_other() {
    watchdog(|| {
        let bound = || {
            let domain = socket2::Domain::IPV4;
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            socket.bind(&any.into()).unwrap();
            let address = socket.local_addr().unwrap().as_socket().unwrap();
            (socket, address)
        };
        // They are bound, so that nobody else gets their ports, and do not listen.
        let ((_first, first), (_second, second)) = (bound(), bound());
        block_on(async {
            let (listener, address) = listener().await;
            let all = [first, second, address];
            let stream = soon(TcpStream::connect(&all[..])).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            soon(listener.accept()).await.unwrap();

            let error = soon(TcpStream::connect(&[first, second][..])).await;
            let error = error.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            let text = error.to_string();
            assert!(text.contains(&second.to_string()), "{text}");

            let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let other = TcpListener::bind(&[address, free][..]).await.unwrap();
            assert_ne!(other.local_addr().unwrap(), address);
            let error = TcpListener::bind(address).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains(&address.to_string()), "{error}");
        });
    });
}

// Other threads.

/// Bytes go through it in both directions, with waits.
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
fn a_stream_that_was_accepted_here_is_used_there() {
    async_test(async || {
        let (listener, address) = listener().await;
        for _ in 0..3 {
            let client = std::net::TcpStream::connect(address).unwrap();
            let (stream, _) = soon(listener.accept()).await.unwrap();
            elsewhere(move || async move {
                let mut stream = stream;
                assert_echoes(&mut stream, client).await;
            });
        }
    });
}

#[test]
fn a_stream_moves_on_after_it_has_waited() {
    watchdog(|| {
        let (ours, theirs) = tcp_pair();
        let mut stream = block_on(async {
            let mut stream = from_std(ours);
            // Whoever waited has been told.
            let wait = zip(read_one(&mut stream), async {
                sleep(MS).await;
                (&theirs).write_all(b"x").unwrap();
            });
            soon(wait).await;
            stream
        });
        for n in 0..4 {
            let peer = theirs.try_clone().unwrap();
            stream = elsewhere(move || async move {
                let mut stream = stream;
                match n {
                    // Nobody takes this wait back.
                    0 => fails_soon(stream.read(&mut [0])).await,
                    1 => fails_soon(stream.peek(&mut [0])).await,
                    _ => {}
                }
                assert_echoes(&mut stream, peer).await;
                stream
            });
        }
        // Back on the thread where it was made.
        block_on(assert_echoes(&mut stream, theirs));
    });
}

#[test]
fn a_stream_is_used_there_by_reference() {
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
            listener = elsewhere(move || async move {
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
        let source = elsewhere(move || async move {
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
        elsewhere(move || async move {
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
        // Here they are as good as ever, and not slowed down.
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
fn a_socket_for_which_somebody_waits_stays_on_its_thread() {
    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        let stream = block_on(async { from_std(ours) });
        let (stream, theirs) = (&stream, &mut theirs);
        let (waits, is_waiting) = mpsc::channel();
        thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                // It is polled once, and then when it is woken.
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
            // Now it is free to go.
            block_on(fails_soon(stream.peek(&mut [0])));
        });
    });
}

#[test]
fn a_socket_that_is_dropped_elsewhere_is_closed() {
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
fn a_thread_hears_no_more_of_a_socket_that_has_left_it() {
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
        // It stays unread for a while.
        theirs.write_all(b"x").unwrap();
        assert_idle(100 * MS).await;
        go.send(()).unwrap();
        assert_eq!(soon(there).await, 1);
    });
}

#[test]
fn a_socket_outlives_the_thread_where_it_was_made() {
    watchdog(|| {
        for drop_it in [false, true] {
            let (ours, mut theirs) = tcp_pair();
            let mut ours = elsewhere(move || async move {
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
fn a_wait_that_is_dropped_elsewhere_harms_nobody() {
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

/// A future that waited on one thread is dropped, or polled, on the one that the socket
/// has gone to, where it is not known.
#[test]
#[expect(clippy::async_yields_async, reason = "the wait goes elsewhere")]
fn a_wait_that_moves_with_its_socket_is_not_taken_for_another_one() {
    for drop_it in [true, false] {
        watchdog(move || {
            let (ours, mut theirs) = tcp_pair();
            let (other, mut other_peer) = tcp_pair();
            let source = block_on(async { Async::new(ours).unwrap() });
            let source = &source;
            let wait = block_on(async {
                let mut wait = Box::pin(source.readable());
                assert!(poll_once(&mut wait).await.is_pending());
                theirs.write_all(b"x").unwrap();
                // It is told, and does not look.
                sleep(2 * MS).await;
                source.read_with(|mut io| io.read(&mut [0])).await.unwrap();
                wait
            });
            let there = move || {
                block_on(async {
                    // The first one that this thread waits for, as that was there.
                    let other = Async::new(other).unwrap();
                    let waiting = spawn(async move { other.readable().await.unwrap() });
                    yield_now().await;
                    // The socket comes here.
                    let mut wait = wait;
                    assert!(
                        poll_once(&mut Box::pin(source.readable()))
                            .await
                            .is_pending()
                    );
                    if drop_it {
                        drop(wait);
                    } else {
                        let _ = poll_once(&mut wait).await;
                    }
                    other_peer.write_all(b"x").unwrap();
                    let told = timeout(Duration::from_secs(3), waiting).await;
                    told.expect("the other one waits for ever");
                });
            };
            thread::scope(|scope| scope.spawn(there).join().unwrap());
        });
    }
}

/// The place of a socket that has gone is another one's by the time that somebody who
/// waited for it gives up.
#[test]
#[expect(clippy::async_yields_async, reason = "the wait goes elsewhere")]
fn b21_a_wait_that_is_given_up_late_does_not_hit_the_next_owner_of_the_place() {
    watchdog(|| {
        let (ours, mut theirs) = tcp_pair();
        let source = block_on(async { Async::new(ours).unwrap() });
        let source = &source;
        let wait = block_on(async {
            let mut wait = Box::pin(source.readable());
            assert!(poll_once(&mut wait).await.is_pending());
            theirs.write_all(b"x").unwrap();
            // It is told, and does not look.
            sleep(2 * MS).await;
            source.read_with(|mut io| io.read(&mut [0])).await.unwrap();
            wait
        });
        let take = || block_on(fails_soon(source.readable()));
        thread::scope(|scope| scope.spawn(take).join().unwrap());
        block_on(async {
            // The reactor hears that the socket has gone.
            sleep(MS).await;
            let (other, mut other_peer) = tcp_pair();
            let other = Async::new(other).unwrap();
            let waiting = spawn(async move { other.readable().await.unwrap() });
            yield_now().await;
            drop(wait);
            other_peer.write_all(b"x").unwrap();
            let told = timeout(Duration::from_secs(3), waiting).await;
            told.expect("the other one waits for ever");
        });
    });
}

/// Fills the stream until a write waits. Nobody reads: neither a flush nor a close waits for
/// that.
async fn flushes_and_closes<S>(mut stream: S, mut peer: impl Read)
where
    S: AsyncWrite + Unpin,
{
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
        flushed.expect("a flush waits for nobody").unwrap();
        // It has made no room, but the system may have.
        if let Some(written) = future::poll_once(stream.write(&chunk)).await {
            sent += written.unwrap();
        }
        yield_now().await;
    }
    let closed = future::poll_once(stream.close()).await;
    closed.expect("a close waits for nobody").unwrap();
    drop(stream);
    let mut received = Vec::new();
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), sent);
}

#[test]
fn a_stream_whose_buffer_is_full_is_flushed_and_closed_at_once() {
    async_test(async || {
        let (ours, theirs) = tcp_pair();
        flushes_and_closes(from_std(ours), theirs).await;
        let (ours, theirs) = tcp_pair();
        flushes_and_closes(Async::new(ours).unwrap(), theirs).await;
    });
}

#[test]
#[cfg(unix)]
fn a_unix_stream_whose_buffer_is_full_is_flushed_and_closed_at_once() {
    async_test(async || {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let ours = soloist::net::unix::UnixStream::try_from(ours).unwrap();
        flushes_and_closes(ours, theirs).await;
    });
}
