//! Accepting connections, of TCP and of Unix sockets.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use futures_lite::StreamExt;
#[cfg(target_os = "linux")]
use soloist::net::unix::{UnixListener, UnixStream};
use soloist::net::{TcpListener, TcpStream};

use crate::support::*;

/// Clients whose connections wait to be accepted.
fn waiting_clients(address: SocketAddr, count: usize) -> Vec<std::net::TcpStream> {
    let connect = |_| std::net::TcpStream::connect(address).unwrap();
    (0..count).map(connect).collect()
}

#[test]
fn clones_of_a_listener_accept_side_by_side() {
    async_test(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
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
        yield_now().await;
        let clients = waiting_clients(address, 5);
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = listener.incoming();
        // More than a short queue holds, and one that comes later.
        for count in [200, 1] {
            for client in waiting_clients(address, count) {
                let stream = soon(incoming.next()).await.unwrap().unwrap();
                assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
            }
            fails_soon(incoming.next()).await;
        }
    });
}

#[test]
fn listeners_come_from_std_and_go_back() {
    macro_rules! check {
        ($listener:expr, $connect:expr) => {
            fails_soon($listener.accept()).await;
            let clone = $listener.clone();
            let listener = $listener.into_std().unwrap_err().into_socket();
            let _client = $connect;
            soon(listener.accept()).await.unwrap();
            let error: std::io::Error = listener.into_std().unwrap_err().into();
            assert!(error.to_string().contains("clones"), "{error}");
            let listener = clone.into_std().unwrap();
            // Still in nonblocking mode.
            let error = listener.accept().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            $listener = listener.try_into().unwrap();
            fails_soon($listener.accept()).await;
        };
    }

    async_test(async || {
        let mut listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        check!(listener, std::net::TcpStream::connect(address).unwrap());
        #[cfg(target_os = "linux")]
        {
            let (mut listener, address) = unix_listener("std");
            check!(listener, UnixStream::connect_addr(&address).await.unwrap());
        }
    });
}

/// Lets no file descriptor be opened any more.
#[cfg(target_os = "linux")]
fn exhaust_fds() {
    use std::os::fd::AsRawFd;
    let next = std::fs::File::open("/dev/null").unwrap();
    crate::sys::limit_fds(next.as_raw_fd() as usize);
}

/// Accepts the connections of 30 clients that wait, at first without a file descriptor for them.
#[cfg(target_os = "linux")]
async fn accept_without_fds<S>(mut accept: impl AsyncFnMut() -> io::Result<S>) {
    exhaust_fds();
    let errors = Cell::new(0);
    let accepting = async {
        let mut accepted = Vec::new();
        while accepted.len() < 30 {
            match accept().await {
                Ok(stream) => accepted.push(stream),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    errors.set(errors.get() + 1);
                }
            }
        }
    };
    let watching = async {
        assert_idle(150 * MS).await;
        assert!((1..=10).contains(&errors.get()), "{} errors", errors.get());
        crate::sys::limit_fds(1000);
    };
    soon(futures_lite::future::zip(accepting, watching)).await;
}

/// A listener for which clients wait, and the clients.
#[cfg(target_os = "linux")]
async fn busy_listener(count: usize) -> (TcpListener, Vec<std::net::TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clients = waiting_clients(listener.local_addr().unwrap(), count);
    (listener, clients)
}

/// A listener at an abstract name, and that name.
#[cfg(target_os = "linux")]
fn unix_listener(name: &str) -> (UnixListener, std::os::unix::net::SocketAddr) {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("soloist-test-{}-{name}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    (UnixListener::bind_addr(&address).unwrap(), address)
}

#[cfg(target_os = "linux")]
async fn busy_unix_listener() -> (UnixListener, Vec<UnixStream>) {
    let (listener, address) = unix_listener("busy");
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(UnixStream::connect_addr(&address).await.unwrap());
    }
    (listener, clients)
}

#[cfg(target_os = "linux")]
#[test]
fn b66_accept_without_fds_does_not_spin() {
    async_in_own_process(async || {
        let (listener, _clients) = busy_listener(30).await;
        accept_without_fds(async || listener.accept().await).await;
        let (listener, _clients) = busy_unix_listener().await;
        accept_without_fds(async || listener.accept().await).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b66_incoming_without_fds_does_not_spin() {
    async_in_own_process(async || {
        let (listener, _clients) = busy_listener(30).await;
        let mut incoming = listener.incoming();
        accept_without_fds(async || incoming.next().await.unwrap()).await;
        let (listener, _clients) = busy_unix_listener().await;
        let mut incoming = listener.incoming();
        accept_without_fds(async || incoming.next().await.unwrap()).await;
    });
}

/// A stream of connections that is made anew for each of them.
#[cfg(target_os = "linux")]
#[test]
fn b66_one_incoming_after_the_other_without_fds_does_not_spin() {
    async_in_own_process(async || {
        let (listener, _clients) = busy_listener(30).await;
        accept_without_fds(async || listener.incoming().next().await.unwrap()).await;
    });
}

/// The pause after an accept that failed goes on from one call to the next.
#[cfg(target_os = "linux")]
#[test]
fn b66_accepts_dropped_early_recover_from_a_lack_of_fds() {
    use soloist::time::{now, timeout};

    async_in_own_process(async || {
        let (listener, _clients) = busy_listener(1).await;
        exhaust_fds();
        for _ in 0..3 {
            listener.accept().await.unwrap_err();
        }
        crate::sys::limit_fds(1000);
        let start = now();
        while timeout(2 * MS, listener.accept()).await.is_err() {
            assert!(now() - start < 2 * SECOND, "it never accepts again");
        }
    });
}

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
