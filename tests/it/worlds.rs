//! The network of a simulated world: delays, faults and partitions, the same on every run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::pin::pin;

use fastrand::Rng;
use futures_lite::StreamExt;
use soloist::future::zip;
use soloist::io::{AsyncReadExt, AsyncWriteExt, copy};
use soloist::net::{TcpListener, TcpStream, UdpSocket, resolve};
use soloist::testing::{self, Host, Link, World};
use soloist::time::{now, timeout};

use crate::support::*;

/// Runs a test once, in a world with the seed 0.
#[track_caller]
pub(crate) fn world_test(test: impl AsyncFn(World) + Send + 'static) {
    watchdog(|| {
        let test = Rc::new(test);
        testing::simulate(0..1, |world| {
            let test = test.clone();
            async move { test(world).await }
        });
    });
}

/// The hosts `client` and `server`, and both ends of a connection between them.
pub(crate) async fn pair(world: &World) -> (TcpStream, TcpStream) {
    let listener = listen(world, 80).await;
    let client = connect(world, "server:80").await.unwrap();
    let (server, from) = listener.accept().await.unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    (client, server)
}

pub(crate) async fn listen(world: &World, port: u16) -> TcpListener {
    let bind = TcpListener::bind(("0.0.0.0", port));
    world.host("server").spawn(bind).await.unwrap()
}

pub(crate) async fn connect(world: &World, address: &'static str) -> io::Result<TcpStream> {
    world
        .host("client")
        .spawn(TcpStream::connect(address))
        .await
}

pub(crate) async fn bind_udp(host: &Host, address: &'static str) -> UdpSocket {
    host.spawn(UdpSocket::bind(address)).await.unwrap()
}

#[test]
fn latency_and_bandwidth_are_exact() {
    world_test(async |world| {
        world.set_default(Link::new().latency(10 * MS).bandwidth(1_460_000));
        let start = now();
        let (mut client, mut server) = pair(&world).await;
        // A round trip.
        assert_eq!(now() - start, 20 * MS);
        let start = now();
        client.write_all(&[7; 14_600]).await.unwrap();
        assert_eq!(now() - start, Duration::ZERO, "it is all in the window");
        for packet in 1..=10 {
            server.read_exact(&mut [0; 1460]).await.unwrap();
            assert_eq!(now() - start, (10 + packet) * MS);
        }
        // Connections share the bandwidth, but each direction has its own.
        let start = now();
        let both = zip(
            client.write_all(&[7; 14_600]),
            server.write_all(&[7; 14_600]),
        );
        let (one, other) = both.await;
        one.and(other).unwrap();
        let (mut one, mut other) = ([0; 14_600], [0; 14_600]);
        let both = zip(client.read_exact(&mut one), server.read_exact(&mut other));
        let (one, other) = both.await;
        one.and(other).unwrap();
        assert_eq!(now() - start, 20 * MS);
    });
}

#[test]
fn each_link_has_its_own_latency_and_a_host_reaches_itself_at_once() {
    world_test(async |world| {
        let [server, client, other] = ["server", "client", "other"].map(|name| world.host(name));
        world.set_default(Link::new().latency(5 * MS));
        world
            .link(&client, &server)
            .set(Link::new().latency(30 * MS));
        let _listener = listen(&world, 80).await;
        let mut times = Vec::new();
        for (host, address) in [
            (&client, "server:80"),
            (&other, "server:80"),
            (&server, "server:80"),
            (&server, "127.0.0.1:80"),
            (&server, "localhost:80"),
            (&server, "0.0.0.0:80"),
        ] {
            let start = now();
            let stream = host.spawn(TcpStream::connect(address)).await.unwrap();
            let [local, peer] = [stream.local_addr(), stream.peer_addr()].map(Result::unwrap);
            times.push((now() - start, local.ip().to_string(), peer.to_string()));
        }
        let row = |ms, local: &str, peer: &str| (ms * MS, local.to_string(), peer.to_string());
        assert_eq!(
            times,
            [
                row(60, "10.0.0.2", "10.0.0.1:80"),
                row(10, "10.0.0.3", "10.0.0.1:80"),
                row(0, "10.0.0.1", "10.0.0.1:80"),
                row(0, "127.0.0.1", "127.0.0.1:80"),
                row(0, "127.0.0.1", "127.0.0.1:80"),
                row(0, "127.0.0.1", "127.0.0.1:80"),
            ]
        );
    });
}

#[test]
fn data_sent_to_a_closed_peer_is_answered_with_a_reset() {
    world_test(async |world| {
        world.set_default(Link::new().latency(10 * MS));
        let (mut client, server) = pair(&world).await;
        drop(server);
        // The end of the stream has not arrived yet: the write succeeds.
        client.write_all(b"are you there?").await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        sleep(9 * MS).await;
        client.write_all(b"hello?").await.unwrap();
        sleep(MS).await;
        // As on Linux: the end has arrived before the reset.
        let error = client.write(b"?").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_full_window_holds_the_writer_until_the_reader_reads() {
    world_test(async |world| {
        world.set_default(Link::new().window(4096));
        let (client, mut server) = pair(&world).await;
        let written = leak(Cell::new(0));
        let mut writer = client.clone();
        let writer = spawn(async move {
            for _ in 0..100 {
                writer.write_all(&[7; 1000]).await.unwrap();
                written.set(written.get() + 1000);
            }
        });
        sleep(MS).await;
        assert_eq!(written.get(), 4000);
        let mut read = 0;
        while read < 100_000 {
            read += server.read(&mut [0; 1500]).await.unwrap();
            testing::advance(Duration::ZERO).await;
            assert!(written.get() <= read + 4096);
        }
        writer.await;
    });
}

#[test]
fn partial_reads_and_writes_lose_nothing() {
    world_test(async |world| {
        world.set_default(Link::new().partial(true));
        let (mut client, mut server) = pair(&world).await;
        let sent: Vec<u8> = (0..50_000_u32).map(|n| (n % 251) as u8).collect();
        let bytes = sent.clone();
        let writer = spawn(async move {
            let (mut rest, mut writes) = (&bytes[..], BTreeSet::new());
            while !rest.is_empty() {
                let count = client.write(&rest[..rest.len().min(1000)]).await.unwrap();
                rest = &rest[count..];
                writes.insert(count);
            }
            assert!(writes.len() > 50, "{writes:?}");
        });
        let (mut got, mut reads, mut buf) = (Vec::new(), BTreeSet::new(), [0; 1000]);
        loop {
            let count = server.read(&mut buf).await.unwrap();
            if count == 0 {
                break;
            }
            got.extend_from_slice(&buf[..count]);
            reads.insert(count);
        }
        assert!(reads.len() > 50, "{reads:?}");
        assert_eq!(got, sent);
        writer.await;
    });
}

#[test]
fn a_partition_holds_streams_back_and_a_heal_delivers_them() {
    world_test(async |world| {
        world.set_default(Link::new().latency(10 * MS));
        let (mut client, mut server) = pair(&world).await;
        let [one, other] = [world.host("client"), world.host("server")];
        client.write_all(b"before").await.unwrap();
        sleep(10 * MS).await;
        client.write_all(b"on its way").await.unwrap();
        sleep(5 * MS).await;
        world.partition(&one, &other);
        client.write_all(b", after").await.unwrap();
        client.close().await.unwrap();
        // Data that has arrived can be read.
        let mut buf = [0; 64];
        assert_eq!(server.read(&mut buf).await.unwrap(), 6);
        let read = timeout(600 * SECOND, server.read(&mut buf)).await;
        assert!(read.is_err());
        let start = now();
        world.heal(&one, &other);
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "on its way, after");
        assert_eq!(now() - start, 10 * MS);
    });
}

#[test]
fn a_partition_one_way_cuts_only_that_way() {
    world_test(async |world| {
        let (mut client, mut server) = pair(&world).await;
        world.partition_one_way(&world.host("client"), &world.host("server"));
        client.write_all(b"held back").await.unwrap();
        server.write_all(b"hello").await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 5);
        let mut buf = [0; 16];
        assert!(timeout(SECOND, server.read(&mut buf)).await.is_err());
        world.heal(&world.host("client"), &world.host("server"));
        assert_eq!(server.read(&mut buf).await.unwrap(), 9);
    });
}

#[test]
fn a_connect_is_repeated_and_times_out_like_on_linux() {
    world_test(async |world| {
        let _listener = listen(&world, 80).await;
        let [client, server] = [world.host("client"), world.host("server")];
        world.partition(&client, &server);
        let start = now();
        let error = connect(&world, "server:80").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(now() - start, 127 * SECOND);
        // The requests are sent after 0, 1, 3 and 7 seconds.
        let start = now();
        let connecting = client.spawn(TcpStream::connect("server:80"));
        sleep(4 * SECOND).await;
        world.heal(&client, &server);
        connecting.await.unwrap();
        assert_eq!(now() - start, 7 * SECOND);
    });
}

#[test]
fn a_full_backlog_lets_the_request_be_repeated() {
    world_test(async |world| {
        let bind = TcpListener::builder().backlog(1).bind("0.0.0.0:80");
        let listener = world.host("server").spawn(bind).await.unwrap();
        let _queued = [
            connect(&world, "server:80").await.unwrap(),
            connect(&world, "server:80").await.unwrap(),
        ];
        let start = now();
        let third = world.host("client").spawn(TcpStream::connect("server:80"));
        sleep(2 * SECOND).await;
        assert!(!third.is_finished());
        listener.accept().await.unwrap();
        third.await.unwrap();
        assert_eq!(now() - start, 3 * SECOND);
    });
}

#[test]
fn a_peer_that_does_not_answer_times_out_a_writer() {
    world_test(async |world| {
        let (mut client, _server) = pair(&world).await;
        world.partition(&world.host("client"), &world.host("server"));
        let start = now();
        client.write_all(b"hello?").await.unwrap();
        let error = client.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(now() - start, Duration::from_millis(924_600));
        let error = client.write(b"?").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn lost_segments_delay_a_stream() {
    world_test(async |world| {
        let (mut client, mut server) = pair(&world).await;
        world.set_default(Link::new().loss(0.5));
        let start = now();
        let writer = spawn(async move {
            client.write_all(&[7; 100_000]).await.unwrap();
            client.close().await.unwrap();
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [7; 100_000]);
        writer.await;
        // Some segment was lost again and again: after 200 ms, 400 ms, 800 ms.
        assert!(now() - start >= 1400 * MS, "{:?}", now() - start);
        assert!(world.transcript().contains(" lost 1460\n"));
    });
}

#[test]
fn datagrams_are_lost_duplicated_and_reordered() {
    world_test(async |world| {
        let [server, client] = [world.host("server"), world.host("client")];
        let receiver = bind_udp(&server, "0.0.0.0:53").await;
        let sender = bind_udp(&client, "0.0.0.0:0").await;
        let to = (server.address(), 53);
        let exchange = async |link| {
            world.set_default(link);
            for n in 0..200_u8 {
                sender.send_to(&[n], to).await.unwrap();
                sleep(MS).await;
            }
            let (mut received, mut buf) = (Vec::new(), [0; 8]);
            while let Ok(result) = timeout(SECOND, receiver.recv_from(&mut buf)).await {
                assert_eq!(result.unwrap(), (1, sender_address(&client, &sender)));
                received.push(buf[0]);
            }
            received
        };
        let all: Vec<u8> = (0..200).collect();
        assert_eq!(exchange(Link::new()).await, all);
        let lossy = exchange(Link::new().loss(0.3)).await;
        assert!((100..180).contains(&lossy.len()), "{}", lossy.len());
        assert!(lossy.is_sorted());
        let mut doubled = exchange(Link::new().duplicates(0.3)).await;
        assert!((220..300).contains(&doubled.len()), "{}", doubled.len());
        assert!(doubled.is_sorted());
        doubled.dedup();
        assert_eq!(doubled, all);
        for link in [Link::new().reordering(0.3), Link::new().jitter(20 * MS)] {
            let mut mixed = exchange(link).await;
            assert!(!mixed.is_sorted());
            mixed.sort();
            assert_eq!(mixed, all);
        }
    });
}

fn sender_address(host: &Host, socket: &UdpSocket) -> std::net::SocketAddr {
    (host.address(), socket.local_addr().unwrap().port()).into()
}

#[test]
fn a_broadcast_reaches_all_hosts_with_a_socket_at_the_port() {
    world_test(async |world| {
        let hosts = ["a", "b", "c"].map(|name| world.host(name));
        let mut sockets = Vec::new();
        for host in &hosts[1..] {
            sockets.push(bind_udp(host, "0.0.0.0:99").await);
        }
        let elsewhere = bind_udp(&hosts[1], "0.0.0.0:98").await;
        world.partition(&hosts[0], &hosts[2]);
        let sender = bind_udp(&hosts[0], "0.0.0.0:0").await;
        let to = "255.255.255.255:99";
        let error = sender.send_to(b"hello", to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        sender.set_broadcast(true).unwrap();
        sender.send_to(b"hello", to).await.unwrap();
        assert_eq!(sockets[0].recv(&mut [0; 8]).await.unwrap(), 5);
        for socket in [&sockets[1], &elsewhere] {
            assert!(timeout(SECOND, socket.recv(&mut [0; 8])).await.is_err());
        }
    });
}

#[test]
fn a_socket_takes_a_limited_number_of_datagrams() {
    world_test(async |world| {
        let server = world.host("server");
        let socket = bind_udp(&server, "127.0.0.1:53").await;
        for _ in 0..300 {
            socket.send_to(&[7; 1000], "127.0.0.1:53").await.unwrap();
        }
        let mut received = 0;
        let mut buf = [0; 1000];
        while timeout(MS, socket.recv(&mut buf)).await.is_ok() {
            received += 1;
        }
        // 212,992 bytes, as on Linux, with 256 bytes beside each.
        assert_eq!(received, 169);
    });
}

#[test]
fn errors_of_binding_connecting_and_resolving_are_those_of_the_system() {
    world_test(async |world| {
        world.set_default(Link::new().latency(10 * MS));
        let [server, client] = [world.host("server"), world.host("client")];
        let listener = listen(&world, 80).await;
        for taken in ["10.0.0.1:80", "0.0.0.0:80", "[::]:80", "127.0.0.1:80"] {
            let error = server.spawn(TcpListener::bind(taken)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert!(error.to_string().contains(taken), "{error}");
        }
        let only_v6 = TcpListener::builder().only_v6(true);
        let _only_v6 = server.spawn(only_v6.bind("[::]:80")).await.unwrap();
        let foreign = server
            .spawn(TcpListener::bind("10.0.0.2:80"))
            .await
            .unwrap_err();
        assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable);
        // Another host has ports of its own, and the listener still exists.
        let _other = client.spawn(TcpListener::bind("0.0.0.0:80")).await.unwrap();
        let stream = connect(&world, "server:80").await.unwrap();
        let start = now();
        let error = connect(&world, "server:81").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("10.0.0.1:81"), "{error}");
        assert_eq!(now() - start, 20 * MS);
        let error = connect(&world, "10.9.9.9:80").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HostUnreachable);
        drop((stream, listener));
        let _again = listen(&world, 80).await;

        let error = client
            .spawn(resolve("nowhere.invalid:80"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("nowhere.invalid"), "{error}");
        let (system, system_text) = std::thread::spawn(|| {
            let error = soloist::block_on(resolve("nowhere.invalid:80")).unwrap_err();
            (error.kind(), error.to_string())
        })
        .join()
        .unwrap();
        if system_text.contains("Name or service not known") {
            assert_eq!((error.kind(), error.to_string()), (system, system_text));
        }
    });
}

#[test]
fn sockets_work_in_a_later_runtime_and_on_other_threads() {
    watchdog(|| {
        let kept = leak(Mutex::new(None));
        testing::simulate(0..1, async |world: World| {
            *kept.lock().unwrap() = Some(pair(&world).await);
        });
        let (mut client, mut server) = kept.lock().unwrap().take().unwrap();
        let error = futures_lite::future::block_on(client.read(&mut [0; 8])).unwrap_err();
        assert!(error.to_string().contains("outside of"), "{error}");
        // Between two threads.
        let reader = thread::spawn(move || {
            block_on(async move {
                let mut text = String::new();
                server.read_to_string(&mut text).await.unwrap();
                text
            })
        });
        block_on(async move {
            client.write_all(b"hello").await.unwrap();
            sleep(10 * MS).await;
        });
        assert_eq!(reader.join().unwrap(), "hello");
    });
}

#[test]
fn a_call_on_another_thread_sets_the_timer_of_the_world() {
    world_test(async |world| {
        world.set_default(Link::new().latency(10 * MS));
        let (client, mut server) = pair(&world).await;
        let reader = spawn(async move { server.read(&mut [0; 8]).await });
        sleep(MS).await;
        thread::spawn(move || drop(client)).join().unwrap();
        assert_eq!(timeout(SECOND, reader).await.unwrap().unwrap(), 0);
    });
}

#[test]
fn a_read_that_is_dropped_loses_nothing_and_a_connect_that_is_dropped_resets() {
    world_test(async |world| {
        world.set_default(Link::new().latency(10 * MS));
        let (mut client, mut server) = pair(&world).await;
        for n in 0..100 {
            let mut buf = [0; 1];
            let read = timeout(10 * MS * (n % 3), server.read(&mut buf));
            let (read, written) = zip(read, client.write(&[n as u8])).await;
            assert_eq!(written.unwrap(), 1);
            if read.is_err() {
                assert_eq!(server.read(&mut buf).await.unwrap(), 1);
            }
            assert_eq!(buf, [n as u8]);
        }
        let listener = listen(&world, 81).await;
        let connect = timeout(15 * MS, TcpStream::connect("server:81"));
        assert!(world.host("client").spawn(connect).await.is_err());
        let (mut stream, _) = listener.accept().await.unwrap();
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

/// Sends lines to an echo server over a bad link, and reconnects when it breaks. Returns
/// how often.
async fn echo_over_a_bad_link(world: &World, lines: usize) -> usize {
    let link = Link::new().latency(20 * MS).jitter(30 * MS).partial(true);
    let link = link.bandwidth(200_000).loss(0.01);
    world.set_default(link.resets(0.0005).window(2000));
    let [server, client] = [world.host("server"), world.host("client")];
    let listener = listen(world, 80).await;
    server
        .spawn(async move {
            let mut incoming = listener.incoming();
            while let Some(stream) = incoming.next().await {
                let stream = stream.unwrap();
                // The connection may break.
                spawn(async move { copy(&stream, &stream).await }).detach();
            }
        })
        .detach();
    let (cuts, near) = (world.clone(), client.clone());
    spawn(async move {
        let mut random = Rng::with_seed(cuts.seed());
        loop {
            sleep(random.u32(..2000) * MS).await;
            cuts.partition(&near, &server);
            sleep(random.u32(..1000) * MS).await;
            cuts.heal(&near, &server);
        }
    })
    .detach();
    client.spawn(send_lines(lines, world.seed())).await
}

async fn send_lines(lines: usize, seed: u64) -> usize {
    let mut broken = 0;
    let mut stream: Option<TcpStream> = None;
    let mut random = Rng::with_seed(seed ^ 1);
    for line in 0..lines {
        let text = format!("line {line} ").repeat(1 + random.u64(..300) as usize);
        loop {
            if stream.is_none() {
                stream = Some(TcpStream::connect("server:80").await.unwrap());
            }
            let connection = stream.as_ref().unwrap();
            let mut echo = vec![0; text.len()];
            let (mut reader, mut writer) = (connection, connection);
            let both = zip(
                writer.write_all(text.as_bytes()),
                reader.read_exact(&mut echo),
            );
            match timeout(10 * SECOND, both).await {
                Ok((Ok(()), Ok(()))) => {
                    assert_eq!(echo, text.as_bytes());
                    break;
                }
                Ok((one, other)) => {
                    let error = one.and(other).unwrap_err();
                    let kinds = [
                        ErrorKind::ConnectionReset,
                        ErrorKind::BrokenPipe,
                        ErrorKind::UnexpectedEof,
                    ];
                    assert!(kinds.contains(&error.kind()), "{error:?}");
                }
                Err(_) => {}
            }
            broken += 1;
            stream = None;
        }
    }
    broken
}

#[test]
fn two_hundred_seeds_of_an_echo_over_a_bad_link() {
    watchdog(|| {
        let (broken, whole) = (Cell::new(0), Cell::new(0));
        let explored =
            testing::simulate(0..200, async |world: World| {
                match echo_over_a_bad_link(&world, 12).await {
                    0 => whole.set(whole.get() + 1),
                    _ => broken.set(broken.get() + 1),
                }
            });
        assert_eq!((explored.seeds, explored.schedules), (200, 200));
        // Faults occur, but not in every run.
        assert!(
            broken.get() > 20 && whole.get() > 20,
            "{broken:?} {whole:?}"
        );
    });
}

fn transcript(seed: u64) -> (String, u64, Duration) {
    let result = RefCell::new(None);
    testing::simulate([seed], async |world: World| {
        let start = now();
        echo_over_a_bad_link(&world, 6).await;
        let end = (world.transcript(), testing::schedule_hash(), now() - start);
        *result.borrow_mut() = Some(end);
    });
    result.into_inner().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_events_at_the_same_times() {
    watchdog(|| {
        let mut all = BTreeSet::new();
        for seed in 0..20 {
            let first = transcript(seed);
            // On another thread, and after other runs.
            let again = std::thread::spawn(move || transcript(seed));
            assert_eq!(first, again.join().unwrap());
            assert!(first.0.lines().count() > 20, "{}", first.0);
            all.insert(first.0);
        }
        assert_eq!(all.len(), 20);
    });
}

#[test]
fn the_transcript_has_times_endpoints_kinds_and_lengths() {
    world_test(async |world| {
        world.set_default(Link::new().latency(MS));
        let (mut client, mut server) = pair(&world).await;
        client.write_all(b"hello").await.unwrap();
        client.close().await.unwrap();
        server.read_to_end(&mut Vec::new()).await.unwrap();
        world.partition(&world.host("client"), &world.host("server"));
        assert_eq!(
            world.transcript(),
            "0.000000000 client:49152 > server:80 connect\n\
             0.001000000 server:80 > client:49152 accept\n\
             0.002000000 client:49152 > server:80 data 5\n\
             0.002000000 client:49152 > server:80 fin\n\
             0.003000000 client > server partition\n"
        );
    });
}

/// What was sent after the packet that broke the connection arrived after it, so that the
/// middle of the data was missing.
#[test]
fn b114_what_arrives_before_a_reset_is_a_prefix_of_what_was_sent() {
    watchdog(|| {
        let cut = Cell::new(0);
        testing::simulate(0..1000, async |world: World| {
            let link = Link::new().latency(20 * MS).jitter(30 * MS);
            world.set_default(link.partial(true).resets(0.05));
            let (mut client, mut server) = pair(&world).await;
            let writer = spawn(async move {
                let mut sent = 0_u32;
                while sent < 400 {
                    let bytes: Vec<u8> = (0..100).flat_map(|n| (sent + n).to_be_bytes()).collect();
                    if client.write_all(&bytes).await.is_err() {
                        break;
                    }
                    sent += 100;
                    sleep(7 * MS).await;
                }
            });
            let mut got = Vec::new();
            let result = server.read_to_end(&mut got).await;
            cut.set(cut.get() + usize::from(result.is_err()));
            // No data arrives after the reset was reported.
            server.read_to_end(&mut got).await.unwrap();
            sleep(200 * MS).await;
            server.read_to_end(&mut got).await.unwrap();
            let sent = (0..400_u32).flat_map(u32::to_be_bytes);
            assert!(sent.take(got.len()).eq(got.iter().copied()), "{got:?}");
            writer.await;
        });
        // Faults occur, but not in every run.
        assert!(cut.get() > 100 && cut.get() < 900, "{cut:?}");
    });
}

/// A connection that waited for room kept the listener, and with it the port.
#[test]
fn a_listener_that_is_dropped_while_a_connection_waits_frees_its_port() {
    world_test(async |world| {
        world.set_default(Link::new().latency(10 * MS));
        let [server, client] = [world.host("server"), world.host("client")];
        let bind = TcpListener::builder().backlog(1).bind("0.0.0.0:80");
        let listener = server.spawn(bind).await.unwrap();
        let clients = (0..4).map(|_| client.spawn(TcpStream::connect("server:80")));
        let clients: Vec<_> = clients.collect();
        // All requests have arrived, and no answer has.
        sleep(15 * MS).await;
        drop(listener);
        let _again = listen(&world, 80).await;
        let mut connected = 0;
        for client in clients {
            connected += usize::from(client.await.is_ok());
        }
        assert_eq!(connected, 4);
    });
}

/// A waker that panicked kept the later connections held back.
#[test]
fn a_waker_that_panics_keeps_no_other_connection_from_being_healed() {
    world_test(async |world| {
        let listener = listen(&world, 80).await;
        let mut pairs = Vec::new();
        for _ in 0..2 {
            let client = connect(&world, "server:80").await.unwrap();
            pairs.push((client, listener.accept().await.unwrap().0));
        }
        let [(mut one, mut from_one), (mut other, mut from_other)] =
            pairs.try_into().expect("there are two");
        let [client, server] = [world.host("client"), world.host("server")];
        world.partition(&client, &server);
        one.write_all(b"x").await.unwrap();
        other.write_all(b"x").await.unwrap();
        let waker = waker_fn(|| panic!("from a waker"));
        let mut buf = [0; 8];
        let mut read = from_one.read(&mut buf);
        let polled = pin!(&mut read).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let text = panic_of(|| world.heal(&client, &server));
        assert_eq!(text, "from a waker");
        assert_eq!(read.await.unwrap(), 1);
        let read = timeout(SECOND, from_other.read(&mut buf));
        assert_eq!(read.await.unwrap().unwrap(), 1);
    });
}

/// No lock is held while wakers are dropped or woken: they may use the stream.
#[test]
fn a_waker_may_use_the_stream_that_wakes_it() {
    world_test(async |world| {
        let (mut client, mut server) = pair(&world).await;
        let (in_waker, in_drop) = (server.clone(), server.clone());
        let on_drop = OnDrop(move || drop(in_drop.peer_addr()));
        let on_drop = Mutex::new(on_drop);
        let waker = waker_fn(move || {
            let _ = &on_drop;
            in_waker.take_error().unwrap();
        });
        let mut buf = [0; 8];
        let mut read = server.read(&mut buf);
        for _ in 0..2 {
            let polled = pin!(&mut read).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(waker);
        client.write_all(b"x").await.unwrap();
        assert_eq!(read.await.unwrap(), 1);
    });
}

#[test]
fn a_world_of_a_thousand_hosts_exchanges_messages() {
    world_test(async |world| {
        world.set_default(Link::new().latency(MS));
        let count = 1000;
        let mut tasks = Vec::new();
        for n in 0..count {
            let host = world.host(&format!("host-{n}"));
            let next = format!("host-{}:80", (n + 1) % count);
            let listener = host.spawn(TcpListener::bind("0.0.0.0:80")).await.unwrap();
            tasks.push(host.spawn(async move {
                sleep(SECOND).await;
                let mut stream = TcpStream::connect(next.as_str()).await.unwrap();
                stream.write_all(&[7; 10]).await.unwrap();
                let (mut other, _) = listener.accept().await.unwrap();
                other.read_exact(&mut [0; 10]).await.unwrap();
            }));
        }
        for task in tasks {
            task.await;
        }
        let kinds = world.transcript();
        let kinds = kinds
            .lines()
            .map(|line| line.split(' ').nth(4).unwrap().to_string());
        let mut counts = BTreeMap::new();
        for kind in kinds {
            *counts.entry(kind).or_insert(0) += 1;
        }
        let of = |kind: &str| counts.get(kind).copied().unwrap_or(0);
        assert_eq!([of("connect"), of("accept"), of("data")], [count; 3]);
    });
}
