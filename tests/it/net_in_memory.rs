//! The network in memory: it behaves like the system's, and is deterministic to the byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::Shutdown;
use std::pin::pin;

use fastrand::Rng;
use futures_lite::StreamExt;
use soloist::future::{poll_once, zip};
use soloist::io::{AsyncReadExt, AsyncWriteExt, copy};
use soloist::runtime::{Clock, Runtime, Schedule};
use soloist::testing;
use soloist::testing::net::{Link, Network, TcpListener, TcpStream, on_host};
use soloist::time::{now, timeout};

use crate::support::*;
use crate::virtual_time::virtual_test;

const SERVER: &str = "10.0.0.1";
const ADDRESS: &str = "10.0.0.1:80";
const CLIENT: &str = "127.0.0.1";

/// Both ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(ADDRESS).await.unwrap();
    let client = TcpStream::connect(ADDRESS).await.unwrap();
    let (server, from) = listener.accept().await.unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    (client, server)
}

#[test]
fn latency_and_bandwidth_are_exact() {
    virtual_test(async || {
        let network = Network::current();
        network.set_default(Link::new().latency(10 * MS).bandwidth(1_460_000));
        let start = now();
        let (mut client, mut server) = pair().await;
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
fn a_link_connects_two_hosts() {
    virtual_test(async || {
        let network = Network::current();
        network.set_link(CLIENT, SERVER, Link::new().latency(30 * MS));
        let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
        let start = now();
        let near = TcpStream::connect("10.0.0.2:80").await.unwrap();
        assert_eq!(now() - start, Duration::ZERO);
        let _far = TcpStream::connect(ADDRESS).await.unwrap();
        assert_eq!(now() - start, 60 * MS);
        let other = on_host("10.0.0.9", TcpStream::connect(ADDRESS));
        let other = other.await.unwrap();
        assert_eq!(now() - start, 60 * MS);
        assert_eq!(other.local_addr().unwrap().ip().to_string(), "10.0.0.9");
        let mut addresses = Vec::new();
        for _ in 0..3 {
            let (stream, from) = listener.accept().await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), from);
            addresses.push(stream.local_addr().unwrap().to_string());
        }
        assert_eq!(addresses, ["10.0.0.2:80", ADDRESS, ADDRESS]);
        assert_eq!(near.peer_addr().unwrap().to_string(), "10.0.0.2:80");
    });
}

#[test]
fn data_sent_to_a_closed_peer_is_answered_with_a_reset() {
    virtual_test(async || {
        Network::current().set_default(Link::new().latency(10 * MS));
        let (mut client, server) = pair().await;
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
    virtual_test(async || {
        Network::current().set_default(Link::new().window(4096));
        let (client, mut server) = pair().await;
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
    virtual_test(async || {
        Network::current().set_default(Link::new().partial(true));
        let (mut client, mut server) = pair().await;
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
fn a_cut_link_holds_everything_back_and_a_healed_one_delivers_it() {
    virtual_test(async || {
        let network = Network::current();
        network.set_default(Link::new().latency(10 * MS));
        let (mut client, mut server) = pair().await;
        client.write_all(b"before").await.unwrap();
        sleep(10 * MS).await;
        client.write_all(b"on its way").await.unwrap();
        sleep(5 * MS).await;
        network.partition(CLIENT, SERVER);
        client.write_all(b", after").await.unwrap();
        client.close().await.unwrap();
        // Data that has arrived can be read.
        let mut buf = [0; 64];
        assert_eq!(server.read(&mut buf).await.unwrap(), 6);
        let read = timeout(3600 * SECOND, server.read(&mut buf)).await;
        assert!(read.is_err());
        let mut connecting = pin!(TcpStream::connect(ADDRESS));
        assert!(poll_once(connecting.as_mut()).await.is_none());
        let start = now();
        network.heal(CLIENT, SERVER);
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "on its way, after");
        assert_eq!(now() - start, 10 * MS);
        // The listener was dropped in `pair`.
        let error = connecting.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(now() - start, 30 * MS);
    });
}

#[test]
fn a_reset_of_the_link_breaks_all_of_its_connections() {
    virtual_test(async || {
        let network = Network::current();
        network.set_default(Link::new().latency(10 * MS));
        let listener = TcpListener::bind(ADDRESS).await.unwrap();
        let other = TcpListener::bind("10.0.0.2:80").await.unwrap();
        let mut broken = TcpStream::connect(ADDRESS).await.unwrap();
        let mut whole = TcpStream::connect("10.0.0.2:80").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"lost").await.unwrap();
        let waiting = spawn(async move { broken.read(&mut [0; 8]).await });
        testing::advance(Duration::ZERO).await;
        network.reset(SERVER, CLIENT);
        let error = waiting.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = server.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let (mut stream, _) = other.accept().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(whole.read(&mut [0; 8]).await.unwrap(), 1);
    });
}

#[test]
fn errors_of_binding_and_connecting_are_those_of_the_system() {
    virtual_test(async || {
        let network = Network::current();
        network.set_default(Link::new().latency(10 * MS));
        let listener = TcpListener::bind(ADDRESS).await.unwrap();
        for taken in [ADDRESS, "0.0.0.0:80", "[::]:80"] {
            let error = TcpListener::bind(taken).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert!(error.to_string().contains(taken), "{error}");
        }
        let only_v6 = TcpListener::builder().only_v6(true);
        let _only_v6 = only_v6.bind("[::]:80").await.unwrap();
        // The listener still exists: a refused bind does not remove it.
        let client = TcpStream::connect(ADDRESS).await.unwrap();
        let start = now();
        let error = TcpStream::connect("10.0.0.1:81").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("10.0.0.1:81"), "{error}");
        assert_eq!(now() - start, 20 * MS);
        drop((client, listener));
        let _again = TcpListener::bind(ADDRESS).await.unwrap();
        let error = TcpStream::connect("nowhere.example:80").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("add_name"), "{error}");
        network.add_name("somewhere.example", [10, 0, 0, 1]);
        TcpStream::connect("somewhere.example:80").await.unwrap();
        let text = panic_of(|| network.partition("somewhere.example", "elsewhere.example"));
        assert!(text.contains("elsewhere.example"), "{text}");
    });
}

#[test]
fn calls_outside_of_a_runtime_are_errors() {
    watchdog(|| {
        let (client, server) = testing::block_on(pair());
        let error = futures_lite::future::block_on((&client).read(&mut [0; 8])).unwrap_err();
        assert!(error.to_string().contains("outside of"), "{error}");
        let error = futures_lite::future::block_on(TcpStream::connect(ADDRESS)).unwrap_err();
        assert!(error.to_string().contains("outside of"), "{error}");
        drop(server);
        // The stream is usable in a later runtime.
        let count = testing::block_on(async { (&client).read(&mut [0; 8]).await });
        assert_eq!(count.unwrap(), 0);
        drop(client);
    });
}

#[test]
fn a_read_that_is_dropped_loses_nothing_and_a_connect_that_is_dropped_ends() {
    virtual_test(async || {
        Network::current().set_default(Link::new().latency(10 * MS));
        let (mut client, mut server) = pair().await;
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
        let listener = TcpListener::bind("10.0.0.1:81").await.unwrap();
        let connect = timeout(15 * MS, TcpStream::connect("10.0.0.1:81"));
        assert!(connect.await.is_err());
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn the_network_works_with_the_real_clock() {
    async_test(async || {
        let real = Instant::now();
        Network::current().set_default(Link::new().latency(2 * MS));
        let (mut client, server) = pair().await;
        let echo = spawn(async move { copy(&server, &server).await });
        client.write_all(b"hello").await.unwrap();
        client.close().await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        assert_eq!(echo.await.unwrap(), 5);
        assert!(real.elapsed() >= 8 * MS);
    });
}

/// Sends lines to an echo server over a bad link, and reconnects when it breaks. Returns
/// how often.
async fn echo_over_a_bad_link(lines: usize) -> usize {
    let network = Network::current();
    let link = Link::new().latency(20 * MS).jitter(30 * MS).partial(true);
    network.set_default(link.bandwidth(200_000).resets(0.0005).window(2000));
    let listener = TcpListener::bind(ADDRESS).await.unwrap();
    spawn(async move {
        let mut incoming = listener.incoming();
        while let Some(stream) = incoming.next().await {
            let stream = stream.unwrap();
            // The connection may break.
            spawn(async move { copy(&stream, &stream).await }).detach();
        }
    })
    .detach();
    let cuts = network.clone();
    spawn(async move {
        let mut random = Rng::with_seed(testing::seed());
        loop {
            sleep(random.u32(..2000) * MS).await;
            cuts.partition(CLIENT, SERVER);
            sleep(random.u32(..1000) * MS).await;
            cuts.heal(CLIENT, SERVER);
        }
    })
    .detach();
    let mut broken = 0;
    let mut stream: Option<TcpStream> = None;
    let mut random = Rng::with_seed(testing::seed() ^ 1);
    for line in 0..lines {
        let text = format!("line {line} ").repeat(1 + random.u64(..300) as usize);
        loop {
            if stream.is_none() {
                stream = Some(TcpStream::connect(ADDRESS).await.unwrap());
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
        let explored = testing::explore(0..200, async || match echo_over_a_bad_link(12).await {
            0 => whole.set(whole.get() + 1),
            _ => broken.set(broken.get() + 1),
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
    let builder = Runtime::builder().clock(Clock::Virtual);
    let runtime = builder.schedule(Schedule::Shuffled(seed)).build();
    runtime.block_on(async {
        let start = now();
        Network::current().record();
        echo_over_a_bad_link(6).await;
        let text = Network::current().transcript();
        (text, testing::schedule_hash(), now() - start)
    })
}

/// Checks that the packets of each direction arrive in the order in which they were sent.
fn check_that_none_overtakes(transcript: &str) {
    let seconds = |text: &str| text.parse::<f64>().unwrap();
    let mut last = BTreeMap::new();
    for line in transcript.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(takes) = words.last().and_then(|word| word.strip_prefix('+')) else {
            continue;
        };
        let arrives = seconds(words[0]) + seconds(takes);
        let last = last.entry((words[1], words[3])).or_insert(0.0);
        // In nanoseconds, as far as an `f64` goes.
        assert!(arrives > *last - 1e-9, "{line}\n{transcript}");
        *last = arrives;
    }
    assert!(!last.is_empty());
}

#[test]
fn the_same_seed_gives_the_same_bytes_at_the_same_times() {
    watchdog(|| {
        let mut all = BTreeSet::new();
        for seed in 0..20 {
            let first = transcript(seed);
            // On another thread, and after other runs.
            let again = std::thread::spawn(move || transcript(seed));
            assert_eq!(first, again.join().unwrap());
            assert!(first.0.lines().count() > 20, "{}", first.0);
            check_that_none_overtakes(&first.0);
            all.insert(first.0);
        }
        assert_eq!(all.len(), 20);
    });
}

#[test]
fn a_seed_of_the_network_decides_without_a_schedule() {
    watchdog(|| {
        let run = |seed| {
            testing::block_on(async move {
                let network = Network::current();
                network.set_seed(seed);
                network.set_default(Link::new().jitter(10 * MS));
                let start = now();
                let _pair = pair().await;
                now() - start
            })
        };
        assert_eq!(run(1), run(1));
        let times: BTreeSet<Duration> = (0..50).map(run).collect();
        assert_eq!(times.len(), 50);
        assert!(times.iter().all(|time| *time <= 20 * MS), "{times:?}");
    });
}

/// What was sent after the packet that broke the connection arrived after it, so that the
/// middle of the data was missing.
#[test]
fn b114_what_arrives_before_a_reset_is_a_prefix_of_what_was_sent() {
    watchdog(|| {
        let cut = Cell::new(0);
        testing::explore(0..1000, async || {
            let link = Link::new().latency(20 * MS).jitter(30 * MS);
            Network::current().set_default(link.partial(true).resets(0.05));
            let (mut client, mut server) = pair().await;
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

/// The timer of the connection was dropped, and the reader was not woken.
#[test]
fn a_call_outside_of_the_runtime_does_not_delay_a_reader() {
    watchdog(|| {
        let runtime = Runtime::builder().clock(Clock::Virtual).build();
        for call in [
            (|client| drop(client.peer_addr())) as fn(&TcpStream),
            |client| drop(client.take_error()),
            |client| client.shutdown(Shutdown::Write).unwrap(),
        ] {
            for on_another_thread in [false, true] {
                let (client, reader) = runtime.block_on(async {
                    Network::current().set_default(Link::new().latency(10 * MS));
                    let (mut client, mut server) = pair().await;
                    client.write_all(b"hello").await.unwrap();
                    let reader = spawn(async move { server.read(&mut [0; 8]).await });
                    testing::advance(MS).await;
                    (client, reader)
                });
                match on_another_thread {
                    false => call(&client),
                    true => {
                        let client = client.clone();
                        std::thread::spawn(move || call(&client)).join().unwrap();
                    }
                }
                let read = async { timeout(SECOND, reader).await };
                assert_eq!(runtime.block_on(read).unwrap().unwrap(), 5);
                drop(client);
            }
        }
    });
}

/// The end was sent where no timer could be set: it never arrived.
#[test]
fn a_shutdown_outside_of_the_runtime_wakes_the_reader_in_it() {
    watchdog(|| {
        let runtime = Runtime::builder().clock(Clock::Virtual).build();
        let (client, reader) = runtime.block_on(async {
            Network::current().set_default(Link::new().latency(10 * MS));
            let (client, mut server) = pair().await;
            let reader = spawn(async move { server.read(&mut [0; 8]).await });
            testing::advance(MS).await;
            (client, reader)
        });
        std::thread::spawn(move || drop(client)).join().unwrap();
        let read = async { timeout(SECOND, reader).await };
        assert_eq!(runtime.block_on(read).unwrap().unwrap(), 0);
    });
}

#[test]
fn the_ends_of_a_connection_may_be_in_two_runtimes() {
    watchdog(|| {
        let (hand_over, take) = std::sync::mpsc::channel();
        let echo = std::thread::spawn(move || {
            let server: TcpStream = take.recv().unwrap();
            soloist::block_on(async { copy(&server, &server).await.unwrap() })
        });
        soloist::block_on(async {
            Network::current().set_default(Link::new().latency(MS).window(100));
            let (client, server) = pair().await;
            hand_over.send(server).unwrap();
            let mut writer = client.clone();
            let writer = spawn(async move {
                writer.write_all(&[7; 5000]).await.unwrap();
                writer.close().await.unwrap();
            });
            let mut all = Vec::new();
            (&client).read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [7; 5000]);
            writer.await;
        });
        assert_eq!(echo.join().unwrap(), 5000);
    });
}

#[test]
fn a_stream_that_outlives_its_thread_locals_does_no_harm() {
    thread_local! {
        static KEPT: std::cell::RefCell<Option<TcpStream>> = const { std::cell::RefCell::new(None) };
    }
    watchdog(|| {
        let thread = std::thread::spawn(|| {
            KEPT.set(None);
            testing::block_on(async {
                let (client, server) = pair().await;
                KEPT.set(Some(client));
                server
            })
        });
        let mut server = thread.join().unwrap();
        let read = testing::block_on(async move { server.read(&mut [0; 8]).await });
        assert_eq!(read.unwrap(), 0);
    });
}

/// A connection that waited for room kept the listener, and with it the port.
#[test]
fn a_listener_that_is_dropped_while_a_connection_waits_frees_its_port() {
    virtual_test(async || {
        Network::current().set_default(Link::new().latency(10 * MS));
        let listener = TcpListener::builder()
            .backlog(1)
            .bind(ADDRESS)
            .await
            .unwrap();
        let clients: Vec<_> = (0..4).map(|_| spawn(TcpStream::connect(ADDRESS))).collect();
        // All requests have arrived, and no answer has.
        sleep(15 * MS).await;
        drop(listener);
        let _again = TcpListener::bind(ADDRESS).await.unwrap();
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
    virtual_test(async || {
        let network = Network::current();
        let (mut one, mut from_one) = pair().await;
        let (mut other, mut from_other) = pair().await;
        network.partition(CLIENT, SERVER);
        one.write_all(b"x").await.unwrap();
        other.write_all(b"x").await.unwrap();
        let waker = crate::support::waker_fn(|| panic!("from a waker"));
        let mut buf = [0; 8];
        let mut read = from_one.read(&mut buf);
        let polled = pin!(&mut read).poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
        let text = panic_of(|| network.heal(CLIENT, SERVER));
        assert_eq!(text, "from a waker");
        assert_eq!(read.await.unwrap(), 1);
        let read = timeout(SECOND, from_other.read(&mut buf));
        assert_eq!(read.await.unwrap().unwrap(), 1);
    });
}

/// No lock is held while wakers are dropped or woken: they may use the stream.
#[test]
fn a_waker_may_use_the_stream_that_wakes_it() {
    virtual_test(async || {
        let (mut client, mut server) = pair().await;
        let (in_waker, in_drop) = (server.clone(), server.clone());
        let on_drop = crate::support::OnDrop(move || drop(in_drop.peer_addr()));
        let on_drop = std::sync::Mutex::new(on_drop);
        let waker = crate::support::waker_fn(move || {
            let _ = &on_drop;
            in_waker.take_error().unwrap();
        });
        let mut buf = [0; 8];
        let mut read = server.read(&mut buf);
        for _ in 0..2 {
            let polled = pin!(&mut read).poll(&mut std::task::Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(waker);
        client.write_all(b"x").await.unwrap();
        assert_eq!(read.await.unwrap(), 1);
    });
}
