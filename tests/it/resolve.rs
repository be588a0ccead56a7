//! Resolving addresses: numeric ones at once, host names through the system.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::pin::pin;

use soloist::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket, resolve};

use crate::support::*;

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Resolves a numeric address, which must not wait.
#[track_caller]
fn at_once(address: impl ToSocketAddrs) -> Vec<SocketAddr> {
    block_on(async {
        let mut resolve = pin!(resolve(address));
        match poll_once(&mut resolve).await {
            Poll::Ready(addresses) => addresses.unwrap(),
            Poll::Pending => panic!("it waits"),
        }
    })
}

#[test]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "references are addresses as well"
)]
fn numeric_addresses_resolve_at_once() {
    watchdog(|| {
        let v4 = at("127.0.0.1:80");
        let v6 = at("[::1]:80");
        assert_eq!(at_once(v4), [v4]);
        assert_eq!(at_once(v6), [v6]);
        assert_eq!(at_once("127.0.0.1:80"), [v4]);
        assert_eq!(at_once("[::1]:80"), [v6]);
        assert_eq!(at_once(String::from("127.0.0.1:80")), [v4]);
        assert_eq!(at_once(("127.0.0.1", 80)), [v4]);
        assert_eq!(at_once(("::1", 80)), [v6]);
        assert_eq!(at_once((String::from("::1"), 80)), [v6]);
        assert_eq!(at_once((IpAddr::from([127, 0, 0, 1]), 80)), [v4]);
        assert_eq!(at_once((Ipv4Addr::LOCALHOST, 80)), [v4]);
        assert_eq!(at_once((Ipv6Addr::LOCALHOST, 80)), [v6]);
        assert_eq!(at_once(&[v6, v4][..]), [v6, v4]);
        assert_eq!(at_once(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80)), [v4]);
        assert_eq!(
            at_once(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 0)),
            [v6]
        );
        assert_eq!(at_once(&v4), [v4]);
        assert_eq!(at_once(&&"127.0.0.1:80"), [v4]);
        assert_eq!(at_once(&String::from("127.0.0.1:80")), [v4]);
        assert_eq!(at_once("[fe80::1%3]:80")[0].port(), 80);
        let SocketAddr::V6(scoped) = at_once("[fe80::1%3]:80")[0] else {
            panic!("a v6 address");
        };
        assert_eq!(scoped.scope_id(), 3);
        assert_eq!(
            at_once("255.255.255.255:65535"),
            [at("255.255.255.255:65535")]
        );
        assert_eq!(at_once("0.0.0.0:0"), [at("0.0.0.0:0")]);
    });
}

#[test]
fn malformed_addresses_are_errors_without_a_look_up() {
    watchdog(|| {
        for text in [
            "",
            ":",
            ":80",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "localhost:99999999999999999999",
            "localhost:-1",
            "localhost: 80",
            "localhost:80:80",
            "127.0.0.1: 80",
            "127.0.0.1:-1",
            "127.0.0.1:80:80",
            "127.0.0.1:port",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:80/path",
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
            "localhost/x:80",
        ] {
            let error = block_on(async {
                let mut resolve = pin!(resolve(text));
                match poll_once(&mut resolve).await {
                    Poll::Ready(result) => result.expect_err(text),
                    Poll::Pending => panic!("{text:?} is looked up"),
                }
            });
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
            assert!(error.to_string().contains("host:port"), "{error}");
        }
        let none: &[SocketAddr] = &[];
        let error = block_on(resolve(none)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "no address was given");
    });
}

#[test]
fn unresolvable_host_names_are_errors() {
    watchdog(|| {
        let long = format!("{}.invalid", "a".repeat(300));
        for host in [
            "",
            "a\0b",
            "a b.invalid",
            "..",
            "-.invalid",
            long.as_str(),
            "256.256.256.256",
        ] {
            let error = block_on(resolve((host, 80))).unwrap_err();
            let text = error.to_string();
            let expected = format!("the host name `{host}` could not be resolved: ");
            assert!(text.starts_with(&expected), "{text}");
            assert!(text.len() > expected.len());
        }
    });
}

#[test]
fn localhost_resolves_to_loopback_addresses() {
    watchdog(|| {
        let found = block_on(resolve("localhost:80")).unwrap();
        assert!(!found.is_empty());
        assert!(
            found.iter().all(|a| a.ip().is_loopback() && a.port() == 80),
            "{found:?}"
        );
        block_on(async {
            let listener = TcpListener::bind("localhost:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let stream = TcpStream::connect(("localhost", port)).await.unwrap();
            let (_, from) = listener.accept().await.unwrap();
            assert_eq!(from, stream.local_addr().unwrap());
            assert!(UdpSocket::bind("localhost:0").await.is_ok());
        });
    });
}

#[test]
fn an_unknown_host_name_is_an_error_that_names_it() {
    const EXPECTED: &str = "the host name `nonexistent.invalid` could not be resolved: ";
    async_test(async || {
        let name = "nonexistent.invalid:80";
        let texts = [
            resolve(name).await.unwrap_err().to_string(),
            TcpStream::connect(name).await.unwrap_err().to_string(),
            TcpListener::bind(name).await.unwrap_err().to_string(),
            UdpSocket::bind(name).await.unwrap_err().to_string(),
        ];
        for text in texts {
            assert!(text.contains(EXPECTED), "{text}");
        }
    });
}

/// The threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[cfg(target_os = "linux")]
#[test]
fn numeric_addresses_never_leave_the_thread() {
    passes_in_child("resolve::numeric_addresses_never_leave_the_thread", || {
        let before = threads();
        block_on(async {
            for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
                resolve(address).await.unwrap();
            }
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let _stream = TcpStream::connect(address.as_str()).await.unwrap();
            listener.accept().await.unwrap();
            resolve("127.0.0.1:x").await.unwrap_err();
        });
        assert_eq!(threads(), before);
        // A look-up starts a thread.
        #[cfg(feature = "blocking")]
        {
            block_on(resolve("localhost:80")).unwrap();
            assert_eq!(threads(), before + 1);
        }
    });
}

#[test]
fn b97_a_dropped_look_up_does_not_delay_the_end_of_its_runtime() {
    runtime_test(|runtime| {
        for n in 0..20 {
            let task = runtime.spawn(async move { resolve(("localhost", n)).await });
            runtime.turn(Some(std::time::Duration::ZERO)).unwrap();
            if n % 2 == 0 {
                drop(task);
            } else {
                assert!(runtime.block_on(task).is_ok());
            }
        }
        runtime
            .spawn(async { resolve("nonexistent.invalid:80").await })
            .detach();
        runtime.turn(Some(std::time::Duration::ZERO)).unwrap();
        drop(runtime);
    });
}

#[test]
fn many_look_ups_at_once() {
    async_test(async || {
        let tasks: Vec<_> = (0..50)
            .map(|port| soloist::spawn(async move { resolve(("localhost", port)).await }))
            .collect();
        for (port, task) in tasks.into_iter().enumerate() {
            let found = task.await.unwrap();
            assert!(found.iter().all(|a| usize::from(a.port()) == port));
        }
    });
}
