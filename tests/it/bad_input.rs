//! What comes from outside and is wrong: each gives a clear error that says what was
//! tried, or a panic that says what to do instead. One row for each case.

use std::fs::File;
use std::future::{Future, pending, ready};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use soloist::io::Async;
use soloist::net::{TcpListener, TcpStream, UdpSocket, resolve};
use soloist::promise::promise;
use soloist::task::{TaskGroup, yield_now};
use soloist::time::{interval, interval_at, now, sleep, sleep_until, timeout, timeout_at};
use soloist::{Handle, Runtime, block_on, spawn};

use crate::support::*;

/// The rows of a table: what was called, and what came of it.
#[derive(Default)]
struct Errors {
    rows: usize,
    wrong: Vec<String>,
}

impl Errors {
    /// The error has to be of this kind, and all these parts in its text.
    fn row<T>(&mut self, call: &str, result: io::Result<T>, kind: ErrorKind, parts: &[&str]) {
        self.of_kind(call, result, Some(kind), parts);
    }

    /// `None`: a kind that std has no public name for.
    fn of_kind<T>(
        &mut self,
        call: &str,
        result: io::Result<T>,
        kind: Option<ErrorKind>,
        parts: &[&str],
    ) {
        self.rows += 1;
        let wrong = match result {
            Ok(_) => Some("it works".to_string()),
            Err(error) => {
                let text = error.to_string();
                let says_all = parts.iter().all(|part| text.contains(part));
                let fits = kind.is_none_or(|kind| error.kind() == kind) && says_all;
                (!fits).then(|| format!("{:?}: {text}", error.kind()))
            }
        };
        let wrong = wrong.map(|wrong| format!("{call}: {wrong} (not {kind:?}, {parts:?})"));
        self.wrong.extend(wrong);
    }

    /// Shows all rows that are wrong at once.
    #[track_caller]
    fn check(self, rows: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        assert_eq!(self.rows, rows);
    }
}

/// What is no address of a socket, with a part of what is said of it.
const NO_ADDRESSES: [(&str, &str); 9] = [
    ("", "``"),
    ("127.0.0.1", "`127.0.0.1`"),
    ("127.0.0.1:", "`127.0.0.1:`"),
    ("127.0.0.1:65536", "`127.0.0.1:65536`"),
    ("127.0.0.1:-1", "`127.0.0.1:-1`"),
    ("127.0.0.1:http", "`127.0.0.1:http`"),
    ("::1", "`::1`"),
    (":80", "`:80`"),
    ("a\0b:80", "a\0b"),
];

#[test]
fn addresses_that_are_none() {
    async_test(async || {
        let mut errors = Errors::default();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let none: &[SocketAddr] = &[];
        let mut row = |call: &str, result, part| {
            errors.row(call, result, ErrorKind::InvalidInput, &[part]);
        };
        for (text, part) in NO_ADDRESSES {
            row("resolve", resolve(text).await.map(drop), part);
            row(
                "TcpListener::bind",
                TcpListener::bind(text).await.map(drop),
                part,
            );
            row(
                "TcpStream::connect",
                TcpStream::connect(text).await.map(drop),
                part,
            );
            row(
                "UdpSocket::bind",
                UdpSocket::bind(text).await.map(drop),
                part,
            );
            row("UdpSocket::connect", udp.connect(text).await, part);
            row(
                "UdpSocket::send_to",
                udp.send_to(b"x", text).await.map(drop),
                part,
            );
        }
        let part = "no address was given";
        row("resolve", resolve(none).await.map(drop), part);
        row(
            "TcpListener::bind",
            TcpListener::bind(none).await.map(drop),
            part,
        );
        row(
            "TcpStream::connect",
            TcpStream::connect(none).await.map(drop),
            part,
        );
        row(
            "UdpSocket::bind",
            UdpSocket::bind(none).await.map(drop),
            part,
        );
        row("UdpSocket::connect", udp.connect(none).await, part);
        row(
            "UdpSocket::send_to",
            udp.send_to(b"x", none).await.map(drop),
            part,
        );
        let long = format!("{}:80", "a".repeat(300));
        for (name, part) in [
            (".:80", "the host name `.`"),
            (&*long, "the host name `aaa"),
        ] {
            let result = resolve(name).await;
            errors.of_kind("resolve", result, None, &[part, "could not be resolved"]);
        }
        errors.check(6 * NO_ADDRESSES.len() + 8);
    });
}

#[test]
fn addresses_that_cannot_be_used() {
    async_test(async || {
        let mut errors = Errors::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let used = listener.local_addr().unwrap();
        let bound = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bound_at = bound.local_addr().unwrap();
        // Nobody listens there: it is the port of one side of a connection.
        let (silent, _other) = tcp_pair();
        let silent_at = silent.local_addr().unwrap();
        // Reserved for documentation.
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));

        let listening = |at: SocketAddr| format!("listening at {at} failed");
        errors.row(
            "TcpListener::bind, in use",
            TcpListener::bind(used).await,
            ErrorKind::AddrInUse,
            &[&listening(used)],
        );
        errors.row(
            "TcpListener::bind, foreign",
            TcpListener::bind(foreign).await,
            ErrorKind::AddrNotAvailable,
            &[&listening(foreign)],
        );
        errors.row(
            "TcpListener::bind, all of several",
            TcpListener::bind(&[foreign, used][..]).await,
            ErrorKind::AddrInUse,
            &[&listening(used)],
        );
        errors.row(
            "UdpSocket::bind, in use",
            UdpSocket::bind(bound_at).await,
            ErrorKind::AddrInUse,
            &[&format!("binding to {bound_at} failed")],
        );
        errors.row(
            "UdpSocket::bind, foreign",
            UdpSocket::bind(foreign).await,
            ErrorKind::AddrNotAvailable,
            &[&format!("binding to {foreign} failed")],
        );
        errors.row(
            "TcpStream::connect, nobody there",
            TcpStream::connect(silent_at).await,
            ErrorKind::ConnectionRefused,
            &[&format!("could not connect to {silent_at}: ")],
        );
        errors.row(
            "TcpStream::connect, nobody at two",
            TcpStream::connect(&[silent_at, silent_at][..]).await,
            ErrorKind::ConnectionRefused,
            &[
                &format!("could not connect to {silent_at}: "),
                &format!(", nor to {silent_at}: "),
            ],
        );
        errors.check(7);
    });
}

#[test]
fn options_that_the_system_refuses() {
    async_test(async || {
        let mut errors = Errors::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let udp6 = std::net::UdpSocket::bind("[::1]:0").map(UdpSocket::try_from);
        let mut row = |call: &str, result: io::Result<()>, part: &str| {
            errors.row(call, result, ErrorKind::InvalidInput, &[part, " failed: "]);
        };
        for ttl in [0, 256] {
            let part = format!("setting the TTL to {ttl}");
            row("TcpListener::set_ttl", listener.set_ttl(ttl), &part);
            row("TcpStream::set_ttl", stream.set_ttl(ttl), &part);
            row("UdpSocket::set_ttl", udp.set_ttl(ttl), &part);
        }
        let part = "setting the TTL of multicasts to 256";
        row("set_multicast_ttl_v4", udp.set_multicast_ttl_v4(256), part);
        // More than the system has room for.
        for long in [(32_768 * SECOND), Duration::MAX] {
            let part = format!("setting the time of keepalive to {long:?}");
            row("set_keepalive", stream.set_keepalive(Some(long)), &part);
        }
        let (one, any) = (Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
        let part = "joining the group 127.0.0.1";
        row("join_multicast_v4", udp.join_multicast_v4(&one, &any), part);
        if let Ok(udp6) = udp6 {
            let udp6 = udp6.unwrap();
            let part = "joining the group ::1";
            row(
                "join_multicast_v6",
                udp6.join_multicast_v6(&Ipv6Addr::LOCALHOST, 0),
                part,
            );
        } else {
            row(
                "no IPv6",
                Err(io::Error::new(ErrorKind::InvalidInput, " failed: ")),
                "",
            );
        }
        // Who is in no group cannot leave it.
        let group = Ipv4Addr::new(224, 0, 0, 251);
        let result = udp.leave_multicast_v4(&group, &any);
        errors.row(
            "leave_multicast_v4",
            result,
            ErrorKind::AddrNotAvailable,
            &["leaving the group 224.0.0.251 failed: "],
        );
        errors.check(6 + 1 + 2 + 1 + 1 + 1);

        // What is short is rounded up: 0 would be something else.
        stream.set_linger(Some(MS)).unwrap();
        assert_eq!(stream.linger().unwrap(), Some(SECOND));
        stream.set_linger(Some(Duration::ZERO)).unwrap();
        assert_eq!(stream.linger().unwrap(), Some(Duration::ZERO));
        for short in [Duration::ZERO, Duration::from_nanos(1)] {
            stream.set_keepalive(Some(short)).unwrap();
            assert_eq!(stream.keepalive().unwrap(), Some(SECOND));
        }
    });
}

#[test]
fn datagrams_that_cannot_be_sent() {
    async_test(async || {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        // The system's error as it is.
        let error = socket.send_to(&[0; 70_000], at).await.unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error:?}");
        let error = socket.send(b"to nobody").await.unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error:?}");
        // Nothing is a datagram, too; and one that has no room is cut.
        assert_eq!(socket.send_to(b"", at).await.unwrap(), 0);
        assert_eq!(socket.recv_from(&mut []).await.unwrap(), (0, at));
        assert_eq!(socket.send_to(b"long", at).await.unwrap(), 4);
        let cut = socket.recv_from(&mut [0; 2]).await;
        // Windows cuts it, too, and calls that an error (WSAEMSGSIZE).
        match cut {
            Err(error) if cfg!(windows) => assert_eq!(error.raw_os_error(), Some(10040)),
            cut => assert_eq!(cut.unwrap(), (2, at)),
        }
    });
}

#[test]
fn zero_capacities() {
    async_test(async || {
        // A queue of none, and one longer than the system knows.
        for backlog in [0, 1, u32::MAX] {
            let builder = TcpListener::builder().backlog(backlog);
            let listener = builder.bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(at).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            // No room, nothing to write: nothing happens, and nobody waits.
            assert_eq!(client.read(&mut []).await.unwrap(), 0);
            assert_eq!(client.write(&[]).await.unwrap(), 0);
            assert_eq!(client.peek(&mut []).await.unwrap(), 0);
            server.write_all(b"x").await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 1);
        }
        let group = TaskGroup::<(), ()>::new();
        assert_eq!(group.join_all().await, Ok(vec![]));
        let unnamed = soloist::task::Builder::new()
            .name("")
            .spawn(pending::<()>());
        unnamed.abort_handle().abort();
        let error = unnamed.join().await.unwrap_err();
        assert!(
            error.to_string().starts_with("task `` (spawned at "),
            "{error}"
        );
    });
}

#[cfg(unix)]
#[test]
fn objects_that_cannot_be_polled() {
    async_test(async || {
        let mut errors = Errors::default();
        let parts = ["this object cannot be polled for readiness: "];
        let own = std::env::current_exe().unwrap();
        let mut row = |what: &str, file: File| {
            errors.row(what, Async::new(file), ErrorKind::PermissionDenied, &parts);
        };
        row("a regular file", File::open(&own).unwrap());
        row("a directory", File::open(own.parent().unwrap()).unwrap());
        row("/dev/null", File::open("/dev/null").unwrap());
        errors.check(3);

        // A blocking socket is none any more.
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        a.set_nonblocking(false).unwrap();
        let (a, mut b) = (Async::new(a).unwrap(), Async::new(b).unwrap());
        assert!(timeout(MS, b.read(&mut [0])).await.is_err());
        // And one whose other end is closed says so, each time.
        drop(a);
        for _ in 0..2 {
            assert_eq!(b.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(
                b.write(b"x").await.unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
        }
    });
}

#[test]
fn sockets_that_are_closed_already() {
    async_test(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(at).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.close().await.unwrap();
        let kind = client.write(b"x").await.unwrap_err().kind();
        // std has no kind for what Windows says (WSAESHUTDOWN).
        assert!(kind == ErrorKind::BrokenPipe || cfg!(windows), "{kind:?}");
        client.close().await.unwrap();
        // It has clones: it comes back.
        let clone = server.clone();
        let error = server.into_std().unwrap_err();
        assert!(error.to_string().contains("drop them"), "{error}");
        drop(clone);
        error.into_socket().into_std().unwrap();
        // Halves of two streams.
        let (a, b) = tcp_pair();
        let (a, b) = (
            TcpStream::try_from(a).unwrap(),
            TcpStream::try_from(b).unwrap(),
        );
        let ((read, _keep), (_also, write)) = (a.into_split(), b.into_split());
        let error = read.reunite(write).unwrap_err();
        assert!(error.to_string().contains("stream"), "{error}");
    });
}

#[cfg(unix)]
#[test]
fn paths_that_are_none() {
    use soloist::net::unix::{UnixDatagram, UnixListener, UnixStream};

    watchdog(|| {
        let dir = std::env::temp_dir().join(format!("soloist-bad-input-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = |name: &str| dir.join(name);
        block_on(async {
            let mut errors = Errors::default();
            let socket = UnixDatagram::unbound().unwrap();
            let taken = path("taken");
            let _listener = UnixListener::bind(&taken).unwrap();
            let file = path("file");
            std::fs::write(&file, "no socket").unwrap();
            let (long, missing) = (path(&"long".repeat(50)), path("no/such/socket"));
            let nul = path("a\0b");

            // (what is done, the path, the kind of the error)
            let of_all = [
                (&long, ErrorKind::InvalidInput),
                (&nul, ErrorKind::InvalidInput),
                (&missing, ErrorKind::NotFound),
            ];
            for (path, kind) in of_all {
                let shown = path.display().to_string();
                let mut row = |call: &str, result: io::Result<()>, what: &str| {
                    errors.row(call, result, kind, &[what, &shown, " failed: "]);
                };
                let result = UnixListener::bind(path).map(drop);
                row("UnixListener::bind", result, "listening at");
                let result = UnixStream::connect(path).await.map(drop);
                row("UnixStream::connect", result, "connecting to");
                let result = UnixDatagram::bind(path).map(drop);
                row("UnixDatagram::bind", result, "binding to");
                row(
                    "UnixDatagram::connect",
                    socket.connect(path),
                    "connecting to",
                );
                let result = socket.send_to(b"x", path).await.map(drop);
                row("UnixDatagram::send_to", result, "sending to");
            }
            for path in [&taken, &file] {
                let shown = path.display().to_string();
                let mut row = |call: &str, result: io::Result<()>, kind| {
                    errors.row(call, result, kind, &[&shown, " failed: "]);
                };
                let result = UnixListener::bind(path).map(drop);
                row("UnixListener::bind", result, ErrorKind::AddrInUse);
                let result = UnixDatagram::bind(path).map(drop);
                row("UnixDatagram::bind", result, ErrorKind::AddrInUse);
            }
            let mut row = |call: &str, result: io::Result<()>| {
                let parts = ["connecting to", "file", " failed: "];
                errors.row(call, result, ErrorKind::ConnectionRefused, &parts);
            };
            row(
                "UnixStream::connect",
                UnixStream::connect(&file).await.map(drop),
            );
            row("UnixDatagram::connect", socket.connect(&file));
            // A datagram for a stream: the kind has no name in std.
            let result = socket.send_to(b"x", &taken).await;
            errors.of_kind(
                "send_to",
                result,
                None,
                &["sending to", "taken", " failed: "],
            );
            errors.check(15 + 4 + 3);
        });
        std::fs::remove_dir_all(&dir).unwrap();
    });
}

#[cfg(all(unix, feature = "signal"))]
#[test]
fn signals_that_are_none() {
    use soloist::signal::unix::{SignalKind, signal};

    async_test(async || {
        let mut errors = Errors::default();
        for (number, name) in [
            (libc::SIGKILL, "SIGKILL"),
            (libc::SIGSTOP, "SIGSTOP"),
            (libc::SIGSEGV, "SIGSEGV"),
            (0, "signal 0"),
            (-1, "signal -1"),
            (1000, "signal 1000"),
        ] {
            let result = signal(SignalKind::from_raw(number));
            let part = format!("{name} cannot be listened to");
            errors.row("signal", result, ErrorKind::InvalidInput, &[&part]);
        }
        errors.check(6);
    });
}

#[cfg(all(unix, feature = "process"))]
#[test]
fn programs_that_are_none() {
    use soloist::process::Command;

    async_test(async || {
        let mut errors = Errors::default();
        let own = std::env::current_exe().unwrap();
        let dir = own.parent().unwrap().to_str().unwrap();
        let no_dir = format!("`sh` in the directory `{dir}/no-such`");
        let mut row = |program: &str, cwd: Option<&str>, kind, part: &str| {
            for how in ["spawn", "status", "output"] {
                let mut command = Command::new(program);
                if let Some(cwd) = cwd {
                    command.current_dir(cwd);
                }
                let result = match how {
                    "spawn" => command.spawn().map(drop),
                    "status" => block(command.status()).map(drop),
                    _ => block(command.output()).map(drop),
                };
                errors.row(how, result, kind, &["starting ", part, " failed: "]);
            }
        };
        row("", None, ErrorKind::NotFound, "``");
        row(
            "/no/such/program",
            None,
            ErrorKind::NotFound,
            "`/no/such/program`",
        );
        row(dir, None, ErrorKind::PermissionDenied, dir);
        // std has put this in its place.
        row("a\0b", None, ErrorKind::InvalidInput, "`<string-with-nul>`");
        row(
            "sh",
            Some(&format!("{dir}/no-such")),
            ErrorKind::NotFound,
            &no_dir,
        );
        errors.check(15);

        // Whoever has been waited for is not killed: its number may be another's.
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().await.unwrap();
        child.kill().unwrap();
        assert!(child.wait().await.unwrap().success());
    });

    /// It has failed before it was polled.
    fn block<F: Future>(future: F) -> F::Output {
        futures_lite::future::block_on(future)
    }
}

#[test]
fn durations_at_both_ends() {
    const LONG: [Duration; 5] = [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_millis(u64::MAX),
        Duration::from_micros(u64::MAX),
        Duration::from_nanos(u64::MAX),
    ];
    watchdog(|| {
        // Nothing, and less than the clock can tell.
        block_on(async {
            for short in [Duration::ZERO, Duration::from_nanos(1)] {
                sleep(short).await;
                assert!(timeout(short, pending::<()>()).await.is_err());
                assert_eq!(timeout(short, ready(1)).await, Ok(1));
                sleep_until(now() - short).await;
                assert!(timeout_at(now() - short, pending::<()>()).await.is_err());
            }
            let mut interval = interval(Duration::from_nanos(1));
            interval.tick().await;
            interval.tick().await;
            interval_at(now() - MS, Duration::MAX).tick().await;
        });
        for long in LONG {
            let runtime = Runtime::new();
            let stop = runtime.handle();
            runtime.block_on(async {
                assert!(poll_once(&mut sleep(long)).await.is_pending());
                assert!(
                    poll_once(&mut timeout(long, pending::<()>()))
                        .await
                        .is_pending()
                );
                let mut sleep = sleep(Duration::ZERO);
                sleep.reset(sleep_until(now()).deadline());
                (&mut sleep).await;
            });
            assert_eq!(runtime.next_deadline(), None);
            // A wait without an end, that ends.
            stop.stop();
            runtime.turn(Some(long)).unwrap();
            runtime.run_forever();
            let waker = std::thread::spawn(move || {
                std::thread::sleep(MS);
                stop.stop();
            });
            runtime.turn(Some(long)).unwrap();
            waker.join().unwrap();
        }
    });
}

/// Calls `f`, which must panic, and checks what it says.
#[track_caller]
fn refuses<R>(f: impl FnOnce() -> R, parts: &[&str]) {
    let text = panic_of(f);
    for part in parts {
        assert!(text.contains(part), "{text}: not {part:?}");
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let waker = std::task::Waker::noop();
    Pin::new(future).poll(&mut std::task::Context::from_waker(waker))
}

#[test]
fn misuse_panics_with_the_fix_in_its_message() {
    watchdog(|| {
        let outside = ["outside of a soloist runtime", "`soloist::block_on`"];
        let with = |name: &'static str| [name, outside[0], outside[1]];
        let second = SECOND;
        let at = Instant::now();
        refuses(|| drop(spawn(ready(1))), &with("`spawn`"));
        let builder = soloist::task::Builder::new();
        refuses(|| drop(builder.spawn(ready(1))), &with("`spawn`"));
        refuses(
            || TaskGroup::<(), ()>::new().spawn(ready(Ok(()))),
            &with("`TaskGroup::spawn`"),
        );
        refuses(Handle::current, &with("`Handle::current`"));
        refuses(now, &with("`time::now`"));
        refuses(|| sleep(second), &with("`sleep`"));
        refuses(|| sleep_until(at), &with("`sleep_until`"));
        refuses(|| timeout(second, ready(1)), &with("`timeout`"));
        refuses(|| timeout_at(at, ready(1)), &with("`timeout_at`"));
        refuses(|| interval(second), &with("`interval`"));
        refuses(|| interval_at(at, second), &with("`interval_at`"));
        let [mut late] = block_on(async { [sleep(second)] });
        refuses(|| poll(&mut late), &with("polling a `Sleep`"));

        // Inside of one.
        let runtime = Runtime::new();
        runtime.block_on(async {
            let inside = ["inside of a running soloist runtime", "use `.await` there"];
            let with = |name: &'static str| [name, inside[0], inside[1]];
            refuses(|| block_on(ready(1)), &with("`block_on`"));
            refuses(|| runtime.block_on(ready(1)), &with("`block_on`"));
            refuses(|| runtime.run(), &with("`run`"));
            refuses(|| runtime.run_forever(), &with("`run_forever`"));
            refuses(|| runtime.turn(None), &with("`turn`"));
            let task = Handle::current().spawn(|| async { 1 });
            refuses(|| task.wait(), &["`RemoteTask::wait`", "`.await` it"]);

            refuses(
                || interval(Duration::ZERO),
                &["must not be zero", "`task::yield_now`"],
            );
            let zero = || interval_at(at, Duration::ZERO);
            refuses(zero, &["must not be zero", "`task::yield_now`"]);

            // What is over already.
            let mut task = spawn(ready(1));
            assert_eq!((&mut task).await, 1);
            refuses(|| poll(&mut task), &["awaited twice", "`join().await`"]);
            let task = spawn(pending::<()>());
            task.abort_handle().abort();
            let mut task = task;
            yield_now().await;
            refuses(|| poll(&mut task), &["was cancelled", "`join().await`"]);
            let mut task = Handle::current().spawn(|| async { 1 });
            assert_eq!((&mut task).await.unwrap(), 1);
            refuses(|| poll(&mut task), &["polled after it was done"]);
            let (promise, mut promised) = promise();
            promise.set(1).unwrap();
            assert_eq!((&mut promised).await, Ok(1));
            refuses(
                || poll(&mut promised),
                &["polled after its result was taken"],
            );
            let task = spawn(pending::<()>());
            task.abort_handle().abort();
            let error = task.join().await.unwrap_err();
            refuses(|| error.into_panic(), &["`into_panic` on another error"]);
        });
        soloist::task_local! {
            static NAME: u32;
        }
        refuses(
            || NAME.with(|name| *name),
            &["outside of its scope", "`scope`"],
        );
    });
}
