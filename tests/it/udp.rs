//! UDP sockets, and what all datagram sockets have in common.

use std::io;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::net::{Ipv4Addr, Ipv6Addr};

use futures_lite::future::zip;
use soloist::net::UdpSocket;
#[cfg(unix)]
use soloist::net::unix::UnixDatagram;

use crate::support::*;

/// A socket on the loopback interface, and its address.
async fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Two sockets that are connected to each other.
async fn pair() -> (UdpSocket, UdpSocket) {
    let ((one, here), (other, there)) = (udp().await, udp().await);
    one.connect(there).await.unwrap();
    other.connect(here).await.unwrap();
    (one, other)
}

async fn recv(socket: &UdpSocket) -> Vec<u8> {
    let mut buf = [0; 2000];
    let n = soon(socket.recv(&mut buf)).await.unwrap();
    buf[..n].to_vec()
}

// Sending and receiving.

#[test]
fn datagrams_go_both_ways() {
    watchdog(|| {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let mut buf = [0; 2000];
            for _ in 0..100 {
                let (n, from) = server.recv_from(&mut buf).unwrap();
                server.send_to(&buf[..n], from).unwrap();
            }
        });
        block_on(async {
            let (client, _) = udp().await;
            let mut buf = [0; 2000];
            for n in 0..100 {
                let sent: Vec<u8> = (0..n * 15).map(|n| n as u8).collect();
                // With each kind of address.
                let result = match n % 3 {
                    0 => client.send_to(&sent, address).await,
                    1 => client.send_to(&sent, address.to_string()).await,
                    _ => client.send_to(&sent, ("127.0.0.1", address.port())).await,
                };
                assert_eq!(result.unwrap(), sent.len());
                let (n, from) = soon(client.recv_from(&mut buf)).await.unwrap();
                assert_eq!((&buf[..n], from), (&sent[..], address));
            }
        });
        echo.join().unwrap();
    });
}

#[test]
fn a_connected_socket_receives_only_from_its_peer() {
    async_test(async || {
        let (one, other) = pair().await;
        let (stranger, _) = udp().await;
        let address = one.local_addr().unwrap();
        stranger.send_to(b"stranger", address).await.unwrap();
        other.send(b"friend").await.unwrap();
        assert_eq!(recv(&one).await, b"friend");
        fails_soon(one.recv(&mut [0; 8])).await;
        assert_eq!(one.peer_addr().unwrap(), other.local_addr().unwrap());

        // It may be connected again.
        one.connect(stranger.local_addr().unwrap()).await.unwrap();
        stranger.send_to(b"stranger", address).await.unwrap();
        assert_eq!(recv(&one).await, b"stranger");
    });
}

/// Each of these is a test of UDP and, where there are any, of Unix sockets.
macro_rules! of_both_kinds {
    ($test:ident, $one:ident, $other:ident, $body:block) => {
        #[test]
        fn $test() {
            async_test(async || {
                let ($one, $other) = pair().await;
                $body
                #[cfg(unix)]
                {
                    let ($one, $other) = UnixDatagram::pair().unwrap();
                    $body
                }
            });
        }
    };
}

macro_rules! receive {
    ($socket:expr) => {{
        let mut buf = [0; 2000];
        let n = soon($socket.recv(&mut buf)).await.unwrap();
        buf[..n].to_vec()
    }};
}

of_both_kinds!(datagrams_keep_their_boundaries, one, other, {
    one.send(b"a long datagram").await.unwrap();
    assert_eq!(one.send(b"").await.unwrap(), 0);
    assert_eq!(one.send(b"the last").await.unwrap(), 8);
    if cfg!(unix) {
        // What does not fit into the buffer is lost.
        let mut buf = [0; 6];
        assert_eq!(soon(other.recv(&mut buf)).await.unwrap(), 6);
        assert_eq!(&buf, b"a long");
    } else {
        receive!(other);
    }
    assert_eq!(receive!(other), b"");
    assert_eq!(receive!(other), b"the last");
    fails_soon(other.recv(&mut [0; 8])).await;
    if cfg!(unix) {
        // A buffer without room is not the end either.
        one.send(b"x").await.unwrap();
        one.send(b"y").await.unwrap();
        assert_eq!(soon(other.recv(&mut [])).await.unwrap(), 0);
        assert_eq!(receive!(other), b"y");
    }
});

of_both_kinds!(a_receive_that_is_dropped_loses_no_datagram, one, other, {
    for n in 0..100 {
        let task = spawn({
            let other = other.clone();
            async move { receive!(other) }
        });
        yield_now().await;
        one.send(&[n]).await.unwrap();
        // Before the reactor has been visited, or when the task has been woken.
        if n % 2 == 0 {
            yield_now().await;
        }
        match task.cancel().await {
            Some(got) => assert_eq!(got, [n]),
            None => assert_eq!(receive!(other), [n]),
        }
    }
    fails_soon(other.recv(&mut [0; 8])).await;
});

of_both_kinds!(sockets_come_from_std_and_go_back, one, other, {
    fails_soon(one.recv(&mut [0; 8])).await;
    let clone = one.clone();
    let socket = one.into_std().unwrap_err().into_socket();
    drop(clone);
    let socket = socket.into_std().unwrap();
    // Still in nonblocking mode.
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
    socket.send(b"x").unwrap();
    assert_eq!(receive!(other), b"x");
    let back = of_same_kind(&other, socket.try_into().unwrap());
    fails_soon(back.recv(&mut [0; 8])).await;
    other.send(b"y").await.unwrap();
    assert_eq!(receive!(back), b"y");
});

/// Tells the compiler the type of a socket.
fn of_same_kind<T>(_: &T, socket: T) -> T {
    socket
}

#[cfg(unix)]
#[test]
fn a_peek_is_cut_to_the_buffer() {
    async_test(async || {
        let (one, other) = pair().await;
        one.send(b"a long datagram").await.unwrap();
        let mut buf = [0; 6];
        assert_eq!(soon(other.peek(&mut buf)).await.unwrap(), 6);
        assert_eq!(soon(other.recv_from(&mut buf)).await.unwrap().0, 6);
        assert_eq!(&buf, b"a long");
    });
}

#[test]
fn what_was_peeked_at_is_received_again() {
    async_test(async || {
        let (one, other) = pair().await;
        let address = one.local_addr().unwrap();
        let mut buf = [0; 8];
        fails_soon(other.peek(&mut buf)).await;
        let peek = spawn({
            let other = other.clone();
            async move {
                let mut buf = [0; 8];
                let n = other.peek(&mut buf).await.unwrap();
                assert_eq!(&buf[..n], b"one");
            }
        });
        yield_now().await;
        one.send(b"one").await.unwrap();
        one.send(b"two").await.unwrap();
        soon(peek).await;
        for _ in 0..20 {
            let peeked = soon(other.peek_from(&mut buf)).await.unwrap();
            assert_eq!(peeked, (3, address));
            assert_eq!(&buf[..3], b"one");
        }
        assert_eq!(recv(&other).await, b"one");
        assert_eq!(recv(&other).await, b"two");
    });
}

#[test]
fn clones_send_and_receive_side_by_side() {
    async_test(async || {
        let (server, address) = udp().await;
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let server = server.clone();
                spawn(async move {
                    let mut buf = [0; 8];
                    let (n, _) = server.recv_from(&mut buf).await.unwrap();
                    buf[..n].to_vec()
                })
            })
            .collect();
        yield_now().await;
        let (client, _) = udp().await;
        for n in 0..4 {
            client.send_to(&[n], address).await.unwrap();
        }
        let mut got = Vec::new();
        for receiver in receivers {
            got.extend(soon(receiver).await);
        }
        got.sort();
        assert_eq!(got, [0, 1, 2, 3]);
    });
}

/// Other tasks run during a flood of datagrams.
#[test]
fn a_socket_that_is_never_empty_starves_no_other_task() {
    async_test(async || {
        let (one, other) = pair().await;
        for n in 0..200 {
            one.send(&[n]).await.unwrap();
        }
        let turns = leak(Cell::new(0));
        let bystander = spawn(async move {
            loop {
                turns.set(turns.get() + 1);
                yield_now().await;
            }
        });
        for n in 0..200 {
            assert_eq!(recv(&other).await, [n]);
        }
        drop(bystander);
        // A poll may send and receive 128 times.
        assert_eq!(turns.get(), 2);
    });
}

// Waits that are dropped, and errors.

#[test]
fn b09_a_poll_without_data_does_not_delay_the_next_reader() {
    async_test(async || {
        let (one, other) = pair().await;
        let mut buf = [0; 8];
        for _ in 0..1000 {
            let mut recv = Box::pin(other.recv(&mut buf));
            assert!(poll_once(&mut recv).await.is_pending());
            // It is always writable, and no task waits for that.
            let mut send = Box::pin(one.send(b""));
            assert!(poll_once(&mut send).await.is_ready());
            drop(recv);
            assert_eq!(soon(other.recv(&mut buf)).await.unwrap(), 0);
        }
        let polls = Cell::new(0);
        for _ in 0..1000 {
            let sender = async {
                yield_now().await;
                one.send(b"x").await.unwrap();
            };
            let receiver = count_polls(&polls, other.recv(&mut buf));
            let (n, ()) = soon(zip(receiver, sender)).await;
            assert_eq!(n.unwrap(), 1);
        }
        // The first of them, one with the sender's yield, one with the datagram.
        assert!(polls.get() <= 3 * 1000, "{} polls", polls.get());
        assert_idle(50 * MS).await;
    });
}

#[test]
fn b99_a_server_receives_on_after_a_reply_to_a_closed_socket() {
    async_test(async || {
        let (server, address) = udp().await;
        let (client, _) = udp().await;
        for n in 0..20 {
            let closed = {
                let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                gone.send_to(b"question", address).unwrap();
                gone.local_addr().unwrap()
            };
            let mut buf = [0; 8];
            let received = soon(server.recv_from(&mut buf)).await;
            assert_eq!(received.unwrap(), (8, closed));
            server.send_to(b"answer", closed).await.unwrap();
            server.send_to(b"answer", closed).await.unwrap();
            client.send_to(&[n], address).await.unwrap();
            let (n, from) = soon(server.recv_from(&mut buf)).await.unwrap();
            assert_eq!((n, from), (1, client.local_addr().unwrap()));
        }
        fails_soon(server.recv_from(&mut [0; 8])).await;
        assert_idle(50 * MS).await;
    });
}

#[test]
fn b99_a_connected_socket_receives_on_after_a_refusal() {
    async_test(async || {
        let (socket, address) = udp().await;
        let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = gone.local_addr().unwrap();
        drop(gone);
        socket.connect(peer).await.unwrap();
        let refused = |error: io::Error| {
            assert!(
                matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
                ),
                "{error}"
            );
        };
        for _ in 0..3 {
            socket.send(b"x").await.unwrap();
            if cfg!(target_os = "linux") {
                refused(soon(socket.recv(&mut [0; 8])).await.unwrap_err());
            }
        }
        if cfg!(target_os = "linux") {
            socket.send(b"x").await.unwrap();
            refused(socket.take_error().unwrap().expect("it was refused"));
            assert!(socket.take_error().unwrap().is_none());
        }
        assert_idle(50 * MS).await;
        let back = std::net::UdpSocket::bind(peer).unwrap();
        back.send_to(b"back", address).unwrap();
        loop {
            match soon(socket.recv(&mut [0; 8])).await {
                Ok(n) => break assert_eq!(n, 4),
                Err(error) => refused(error),
            }
        }
    });
}

// Options.

#[cfg(target_os = "linux")]
#[test]
fn broadcasts_need_a_permission() {
    async_test(async || {
        let all = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let port = all.local_addr().unwrap().port();
        let (sender, _) = udp().await;
        let broadcast = "127.255.255.255";
        let error = sender.send_to(b"x", (broadcast, port)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        sender.set_broadcast(true).unwrap();
        sender.send_to(b"all", (broadcast, port)).await.unwrap();
        assert_eq!(recv(&all).await, b"all");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn members_of_a_group_receive_what_is_sent_to_it() {
    async_test(async || {
        let group = Ipv4Addr::new(239, 255, 77, 1);
        let interface = Ipv4Addr::LOCALHOST;
        let member = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let to = (group, member.local_addr().unwrap().port());
        let (sender, _) = udp().await;
        let options = socket2::SockRef::from(&sender);
        options.set_multicast_if_v4(&interface).unwrap();

        member.join_multicast_v4(&group, &interface).unwrap();
        assert!(member.join_multicast_v4(&group, &interface).is_err());
        sender.send_to(b"one", to).await.unwrap();
        assert_eq!(recv(&member).await, b"one");

        member.leave_multicast_v4(&group, &interface).unwrap();
        sender.send_to(b"after", to).await.unwrap();
        fails_soon(member.recv(&mut [0; 8])).await;
        assert!(member.leave_multicast_v4(&group, &interface).is_err());
        let refused = member.join_multicast_v4(&Ipv4Addr::LOCALHOST, &interface);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn groups_of_ipv6_are_joined_and_left() {
    async_test(async || {
        // An interface-local group.
        let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x77);
        let Ok(member) = UdpSocket::bind("[::]:0").await else {
            return eprintln!("no IPv6 here");
        };
        let Ok(sender) = UdpSocket::bind("[::1]:0").await else {
            return eprintln!("no IPv6 here");
        };
        let loopback = 1;
        socket2::SockRef::from(&sender)
            .set_multicast_if_v6(loopback)
            .unwrap();
        let to = (group, member.local_addr().unwrap().port());
        member.join_multicast_v6(&group, loopback).unwrap();
        assert!(member.join_multicast_v6(&group, loopback).is_err());
        // There may be no route to groups of the loopback interface.
        let is_sent = sender.send_to(b"one", to).await.is_ok();
        if is_sent {
            assert_eq!(recv(&member).await, b"one");
        }
        member.leave_multicast_v6(&group, loopback).unwrap();
        assert!(member.leave_multicast_v6(&group, loopback).is_err());
        if is_sent {
            sender.send_to(b"after", to).await.unwrap();
            fails_soon(member.recv(&mut [0; 8])).await;
        }
        // An IPv4 socket has no IPv6 groups.
        assert!(udp().await.0.join_multicast_v6(&group, loopback).is_err());
    });
}

// Errors.

#[test]
fn errors_of_an_unconnected_socket_leave_it_usable() {
    async_test(async || {
        let (socket, address) = udp().await;
        // The first address that is free.
        let addresses = [address, SocketAddr::from(([127, 0, 0, 1], 0))];
        UdpSocket::bind(&addresses[..]).await.unwrap();

        let error = socket.connect("[::1]:9").await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("connecting to [::1]:9 failed"), "{text}");
        socket.send_to(b"x", "[::1]:9").await.unwrap_err();
        let error = socket.peer_addr().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        socket.send_to(&[0; 70_000], address).await.unwrap_err();
        socket.send_to(b"x", address).await.unwrap();
        assert_eq!(recv(&socket).await, b"x");
    });
}

#[test]
fn calls_outside_of_a_runtime_are_errors_that_name_the_fix() {
    watchdog(|| {
        let names_the_fix = |error: io::Error| {
            assert!(error.to_string().contains("block_on"), "{error}");
        };
        names_the_fix(futures_lite::future::block_on(UdpSocket::bind("127.0.0.1:0")).unwrap_err());
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        names_the_fix(UdpSocket::try_from(socket).unwrap_err());
        let (socket, address) = block_on(udp());
        // These need a runtime also if they would not wait.
        names_the_fix(futures_lite::future::block_on(socket.send_to(b"x", address)).unwrap_err());
        names_the_fix(futures_lite::future::block_on(socket.recv(&mut [0; 8])).unwrap_err());
    });
}

// Threads.

#[test]
fn a_socket_moves_to_another_thread() {
    watchdog(|| {
        let (one, other) = block_on(async {
            let (one, other) = pair().await;
            fails_soon(one.recv(&mut [0; 8])).await;
            (one, other)
        });
        let there = thread::spawn(move || {
            block_on(async {
                let got = recv(&one).await;
                one.send(&got).await.unwrap();
            });
        });
        block_on(async {
            other.send(b"hello").await.unwrap();
            assert_eq!(recv(&other).await, b"hello");
        });
        there.join().unwrap();
    });
}
