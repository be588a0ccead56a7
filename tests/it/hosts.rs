//! Simulated hosts: which tasks and sockets belong to them, crashes, pauses, and their clocks.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream, UdpSocket, resolve};
use soloist::task::{JoinError, JoinSet, TaskGroup, TaskTracker};
use soloist::testing::{self, Host, Link, World};
use soloist::time::{interval, now, timeout};

use crate::support::*;
use crate::worlds::{bind_udp, connect, listen, pair, world_test};

fn current_name() -> String {
    Host::current().map_or("none".to_string(), |host| host.name())
}

#[test]
fn what_a_task_spawns_belongs_to_its_host() {
    world_test(async |world| {
        assert_eq!(current_name(), "none");
        let outside = Handle::current();
        let names = world.host("server").spawn(async move {
            let mut names = vec![current_name()];
            names.push(spawn(async { spawn(async { current_name() }).await }).await);
            let group = TaskGroup::new();
            group.spawn(async { Ok::<_, ()>(current_name()) });
            names.extend(group.join_all().await.unwrap());
            let mut set = JoinSet::new();
            set.spawn(async { current_name() });
            names.extend(set.join_next().await.unwrap());
            let (tracker, log) = (TaskTracker::new(), Log::new());
            tracker.spawn(async move { log.push(current_name()) });
            tracker.wait_idle().await;
            names.extend(log.take());
            let handle = Handle::current();
            let remote = thread::spawn(move || handle.spawn(async || current_name()));
            names.push(remote.join().unwrap().await.unwrap());
            names.push(outside.spawn(async || current_name()).await.unwrap());
            // The destructor of a task, too.
            let log = Log::new();
            let task = spawn(async move {
                let _on_drop = OnDrop(|| log.push(current_name()));
                pending::<()>().await;
            });
            yield_now().await;
            (names, task, log)
        });
        let (names, task, log) = names.await;
        let (last, names) = names.split_last().unwrap();
        assert_eq!(
            (names, last.as_str()),
            (&["server"; 6].map(String::from)[..], "none")
        );
        drop(task);
        log.assert(&["server"]);
        assert_eq!(current_name(), "none");
    });
}

#[test]
fn a_task_without_a_host_has_no_network() {
    world_test(async |world| {
        let errors = [
            TcpListener::bind("127.0.0.1:0").await.unwrap_err(),
            TcpStream::connect("127.0.0.1:80").await.unwrap_err(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap_err(),
            resolve("localhost:80").await.unwrap_err(),
            TcpStream::try_from(tcp_pair().0).unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains("Host::spawn"), "{error}");
        }
        // Nor does a task of a host get a socket of the system.
        let (stream, _) = tcp_pair();
        let adopt = world
            .host("host")
            .spawn(async { TcpStream::try_from(stream) });
        assert_eq!(adopt.await.unwrap_err().kind(), ErrorKind::Unsupported);
    });
    // Outside of a world it is the system's.
    async_test(async || drop(TcpListener::bind("127.0.0.1:0").await.unwrap()));
}

#[test]
fn a_socket_stays_with_its_host_in_any_task() {
    world_test(async |world| {
        world.set_default(Link::new().latency(10 * MS));
        let listener = listen(&world, 80).await;
        let stream = connect(&world, "server:80").await.unwrap();
        // Accepted and used in a task of a third host.
        let third = world.host("third").spawn(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            server.write_all(b"hello").await.unwrap();
            server.local_addr().unwrap().to_string()
        });
        assert_eq!(third.await, "10.0.0.1:80");
        let start = now();
        let mut text = String::new();
        (&stream).read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), now() - start), ("hello", 10 * MS));
    });
}

#[test]
fn into_std_returns_the_socket_and_as_fd_a_placeholder() {
    let test = async |world: World| {
        let before = open_fds();
        let (client, mut server) = pair(&world).await;
        let udp = bind_udp(&world.host("client"), "0.0.0.0:0").await;
        assert_eq!(open_fds(), before);
        let error = client.into_std().unwrap_err();
        let client = error.into_socket();
        let clone = socket2::SockRef::from(&client).try_clone().unwrap();
        assert!(clone.peer_addr().is_err());
        assert_eq!(
            socket2::SockRef::from(&udp.as_fd()).r#type().unwrap(),
            socket2::Type::DGRAM
        );
        drop(clone);
        assert_eq!(open_fds(), before + 2);
        (&client).write_all(b"hello").await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 5);
        drop((client, udp));
        assert_eq!(open_fds(), before);
    };
    in_own_process(move || world_test(test));
}

#[test]
fn a_crash_resets_the_peers_and_drops_the_tasks() {
    world_test(async |world| {
        let (server, log) = (world.host("server"), Log::new());
        let listener = listen(&world, 80).await;
        let task = server.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let _child = spawn(async move {
                let _on_drop = OnDrop(|| log.push("child"));
                pending::<()>().await;
            });
            let _on_drop = OnDrop(|| {
                // The connection is gone, and what is spawned does not run.
                assert_eq!(
                    stream.peer_addr().unwrap_err().kind(),
                    ErrorKind::NotConnected
                );
                spawn(async move { log.push("never") }).detach();
                assert_eq!(current_name(), "server");
            });
            (&stream).write_all(b"hello").await.unwrap();
            pending::<()>().await;
        });
        let mut client = connect(&world, "server:80").await.unwrap();
        let queued = connect(&world, "server:80").await;
        sleep(SECOND).await;
        server.crash();
        log.assert(&["child"]);
        let error: JoinError = task.join().await.unwrap_err();
        assert!(error.is_cancelled());
        let mut buf = [0; 8];
        assert_eq!(client.read(&mut buf).await.unwrap(), 5);
        for mut stream in [client, queued.unwrap()] {
            let error = stream.read(&mut buf).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        let error = connect(&world, "server:80").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // It comes back, at the same port.
        let listener = listen(&world, 80).await;
        connect(&world, "server:80").await.unwrap();
        listener.accept().await.unwrap();
        assert_eq!(log.len(), 0);
    });
}

#[test]
fn a_task_that_crashes_its_own_host_goes_on_to_the_end_of_its_poll() {
    world_test(async |world| {
        let (host, log) = (world.host("host"), Log::new());
        let crashing = host.clone();
        let task = host.spawn(async move {
            let socket = UdpSocket::bind("0.0.0.0:53").await.unwrap();
            let listener = TcpListener::bind("0.0.0.0:53").await.unwrap();
            crashing.crash();
            log.push("after the crash");
            // All of it belongs to the process that is over.
            spawn(async move { log.push("never") }).detach();
            for error in [
                socket.send_to(b"x", "127.0.0.1:53").await.unwrap_err(),
                socket.recv(&mut [0; 8]).await.unwrap_err(),
                listener.accept().await.unwrap_err(),
                UdpSocket::bind("0.0.0.0:54").await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::NetworkDown);
            }
            yield_now().await;
            log.push("never");
        });
        assert!(task.join().await.unwrap_err().is_cancelled());
        log.assert(&["after the crash"]);
        let bind = host.spawn(UdpSocket::bind("0.0.0.0:53"));
        bind.await.unwrap();
    });
}

#[test]
fn a_panic_in_a_destructor_during_a_crash_is_resumed_after_all_are_dropped() {
    world_test(async |world| {
        let (host, log) = (world.host("host"), Log::new());
        for n in 0..3 {
            let task = host.spawn(async move {
                let _on_drop = OnDrop(|| {
                    log.push(n);
                    assert!(n != 1, "in a destructor");
                });
                pending::<()>().await;
            });
            task.detach();
        }
        sleep(MS).await;
        let text = panic_of(|| host.crash());
        assert_eq!(text, "in a destructor");
        assert_eq!(log.len(), 3);
    });
}

#[test]
fn a_host_without_power_is_silent_and_answers_with_a_reset_when_it_is_back() {
    world_test(async |world| {
        let server = world.host("server");
        let (mut client, kept) = pair(&world).await;
        let other = listen(&world, 81).await;
        let mut idle = connect(&world, "server:81").await.unwrap();
        let _accepted = other.accept().await.unwrap();
        server.power_off();
        client.write_all(b"hello?").await.unwrap();
        let mut buf = [0; 8];
        assert!(timeout(60 * SECOND, client.read(&mut buf)).await.is_err());
        let connecting = world.host("client").spawn(TcpStream::connect("server:80"));
        sleep(SECOND).await;
        assert!(!connecting.is_finished());
        let listener = listen(&world, 80).await;
        let error = client.read(&mut buf).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        connecting.await.unwrap();
        listener.accept().await.unwrap();
        // A peer that sends nothing learns nothing.
        assert!(timeout(3600 * SECOND, idle.read(&mut buf)).await.is_err());
        drop(kept);
    });
}

#[test]
fn the_tasks_of_a_paused_host_are_not_polled() {
    world_test(async |world| {
        let (server, client) = (world.host("server"), world.host("client"));
        let ticks = leak(Cell::new(0));
        let ticking = server.spawn(async {
            let mut interval = interval(SECOND);
            loop {
                interval.tick().await;
                ticks.set(ticks.get() + 1);
            }
        });
        let listener = listen(&world, 80).await;
        let accepting = server.spawn(async move { listener.accept().await.unwrap().0 });
        sleep(2500 * MS).await;
        assert_eq!(ticks.get(), 3);
        server.pause();
        // Its sockets work on: the connection is queued, and takes data.
        let stream = client.spawn(async {
            let mut stream = TcpStream::connect("server:80").await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream
        });
        let _stream = stream.await;
        let woken = server.spawn(async { now() });
        sleep(60 * SECOND).await;
        assert_eq!(ticks.get(), 3);
        assert!(!accepting.is_finished() && !woken.is_finished());
        server.resume();
        assert_eq!(woken.await, now());
        let mut stream = accepting.await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 5);
        assert_eq!(ticks.get(), 4);
        // A task can be dropped while its host is paused, and a host can crash.
        server.pause();
        sleep(2 * SECOND).await;
        drop(ticking);
        let crashed = server.spawn(pending::<()>());
        server.crash();
        assert!(crashed.join().await.is_err());
        assert_eq!(server.spawn(async { 7 }).await, 7);
        server.resume();
        sleep(10 * SECOND).await;
        assert_eq!(ticks.get(), 4);
    });
}

#[test]
fn a_clock_at_another_rate_is_exact() {
    world_test(async |world| {
        let host = world.host("host");
        for (rate, seconds) in [(2.0, 5), (0.5, 20), (1.25, 8)] {
            host.set_clock_rate(rate);
            let start = now();
            let elapsed = host.spawn(async {
                let start = now();
                sleep(10 * SECOND).await;
                now() - start
            });
            assert_eq!(elapsed.await, 10 * SECOND);
            assert_eq!(now() - start, seconds * SECOND);
        }
        // Its time goes on from where it was: 30 of its seconds are over, and 33 of the world's.
        let own = host.spawn(async { now() }).await;
        assert_eq!(now() - own, 3 * SECOND);
        // Timeouts and intervals, too, to the nanosecond at any rate.
        for rate in [0.1, 1.0 / 3.0, 0.999, 1.000_001, 7.3, 1000.0] {
            host.set_clock_rate(rate);
            let task = host.spawn(async {
                let start = now();
                let late = timeout(SECOND, pending::<()>()).await;
                assert!(late.is_err());
                let late = now() - start - SECOND;
                let mut interval = interval(7 * MS);
                let mut ticks = BTreeSet::new();
                for _ in 0..10 {
                    ticks.insert(interval.tick().await);
                }
                let ticks: Vec<Instant> = ticks.into_iter().collect();
                assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == 7 * MS));
                late
            });
            // One nanosecond of the world can be many of the host.
            assert!(task.await < Duration::from_nanos(1001));
        }
    });
}

#[test]
fn a_change_of_the_rate_applies_to_timers_that_are_registered_later() {
    world_test(async |world| {
        let host = world.host("host");
        let (start, before) = (now(), host.spawn(async { sleep(10 * SECOND).await }));
        sleep(SECOND).await;
        host.set_clock_rate(10.0);
        let after = host.spawn(async { sleep(10 * SECOND).await });
        after.await;
        assert_eq!(now() - start, 2 * SECOND);
        before.await;
        assert_eq!(now() - start, 10 * SECOND);
        let text = panic_of(|| host.set_clock_rate(0.0));
        assert!(text.contains("number above 0"), "{text}");
    });
}

#[cfg(feature = "blocking")]
#[test]
fn unblock_runs_in_place_and_outside_of_the_runtime() {
    world_test(async |world| {
        let here = thread::current().id();
        let job = || {
            // It may use a runtime of its own, and the system's network.
            let local = block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                listener.local_addr().unwrap()
            });
            (
                thread::current().id(),
                Handle::try_current().is_none(),
                local,
            )
        };
        for task in [
            world.host("host").spawn(soloist::unblock(job)),
            spawn(soloist::unblock(job)),
        ] {
            let (thread, outside, local) = task.await;
            assert_eq!((thread, outside), (here, true));
            assert_ne!(local.port(), 0);
        }
        let failing = world
            .host("host")
            .spawn(soloist::unblock(|| -> () { panic!("in a job") }));
        assert!(failing.join().await.unwrap_err().is_panic());
        assert_eq!(current_name(), "none");
    });
}

#[test]
fn hosts_are_made_once_and_have_names_and_addresses() {
    world_test(async |world| {
        let server = world.host("server");
        let again = world.host("server");
        assert_eq!(
            (again.name(), again.address()),
            ("server".into(), server.address())
        );
        assert_ne!(world.host("client").address(), server.address());
        let addresses = world
            .host("client")
            .spawn(resolve(("server", 80)))
            .await
            .unwrap();
        assert_eq!(addresses, [(server.address(), 80).into()]);
        for name in ["", "localhost", "10.0.0.1", "::1"] {
            let text = panic_of(|| world.host(name));
            assert!(text.contains("cannot be the name of a host"), "{text}");
        }
    });
}

#[test]
fn a_host_can_be_used_in_its_own_runtime_only() {
    watchdog(|| {
        let kept = leak(Mutex::new(None));
        testing::simulate(0..1, async |world: World| {
            *kept.lock().unwrap() = Some(world.host("server"));
        });
        let server = kept.lock().unwrap().take().unwrap();
        for text in [
            panic_of(|| drop(server.spawn(async {}))),
            panic_of(|| block_on(async { server.crash() })),
        ] {
            assert!(text.contains("outside of"), "{text}");
        }
        assert_eq!(server.name(), "server");
    });
}

/// A program under test, and its client: neither knows of the world.
async fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(async move { soloist::io::copy(&stream, &stream).await }).detach();
    }
}

async fn ask(address: &str) -> io::Result<Vec<u8>> {
    loop {
        let attempt = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"hello").await?;
            stream.close().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        match timeout(2 * SECOND, attempt).await {
            Ok(Ok(answer)) if answer.len() == 5 => return Ok(answer),
            _ => sleep(100 * MS).await,
        }
    }
}

#[test]
fn a_client_survives_crashes_of_its_server_under_many_seeds() {
    watchdog(|| {
        testing::simulate(0..100, |world| async move {
            let (server, client) = (world.host("server"), world.host("client"));
            let link = Link::new().latency(20 * MS).jitter(15 * MS).loss(0.05);
            world.link(&server, &client).set(link.partial(true));
            server.spawn(serve("0.0.0.0:80")).detach();
            let work = client.spawn(ask("server:80"));
            for pause in [30, 90, 250] {
                sleep(pause * MS).await;
                server.crash();
                server.spawn(serve("0.0.0.0:80")).detach();
            }
            assert_eq!(work.await?, b"hello");
            Ok::<(), io::Error>(())
        });
    });
}
