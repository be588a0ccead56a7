//! Wrong input: each case returns an error that says what was tried, or panics with
//! a message that says what to do instead.

use std::fs::File;
use std::future::ready;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use soloist::io::Async;
use soloist::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket, resolve};
use soloist::promise::promise;
use soloist::task::TaskGroup;
use soloist::time::{interval, interval_at, now, sleep_until, timeout, timeout_at};

use crate::support::*;

/// The rows of a table: what was called, and what came of it.
#[derive(Default)]
struct Errors {
    rows: usize,
    wrong: Vec<String>,
}

impl Errors {
    /// The error must be of this kind (`None`: one for which std has no public name), and have all
    /// these parts in its text.
    fn row<T>(
        &mut self,
        call: &str,
        result: io::Result<T>,
        kind: impl Into<Option<ErrorKind>>,
        parts: &[&str],
    ) {
        self.rows += 1;
        let kind = kind.into();
        let wrong = match result {
            Ok(_) => "no error".to_string(),
            Err(error) => {
                let text = error.to_string();
                let says_all = parts.iter().all(|part| text.contains(part));
                if says_all && kind.is_none_or(|kind| error.kind() == kind) {
                    return;
                }
                format!("{:?}: {text}", error.kind())
            }
        };
        let wrong = format!("{call}: {wrong} (not {kind:?}, {parts:?})");
        self.wrong.push(wrong);
    }

    /// Shows all rows that are wrong at once.
    #[track_caller]
    fn check(self, rows: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        assert_eq!(self.rows, rows);
    }
}

/// A row, described by the source text of its call.
macro_rules! row {
    ($errors:ident: $call:expr, $kind:expr, [$($part:expr),*]) => {
        $errors.row(stringify!($call), $call, $kind, &[$($part),*])
    };
}

/// Texts that are not the address of a socket, with a part of the error.
const NOT_ADDRESSES: [(&str, &str); 9] = [
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
fn texts_that_are_not_addresses() {
    async fn rows(errors: &mut Errors, address: impl ToSocketAddrs + Copy, part: &str) {
        let kind = ErrorKind::InvalidInput;
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        row!(errors: resolve(address).await, kind, [part]);
        row!(errors: TcpListener::bind(address).await, kind, [part]);
        row!(errors: TcpStream::connect(address).await, kind, [part]);
        row!(errors: UdpSocket::bind(address).await, kind, [part]);
        row!(errors: udp.connect(address).await, kind, [part]);
        row!(errors: udp.send_to(b"x", address).await, kind, [part]);
    }
    async_test(async || {
        let mut errors = Errors::default();
        for (text, part) in NOT_ADDRESSES {
            rows(&mut errors, text, part).await;
        }
        let none: &[SocketAddr] = &[];
        rows(&mut errors, none, "no address was given").await;
        let long = format!("{}:80", "a".repeat(300));
        let why = "could not be resolved";
        row!(errors: resolve(".:80").await, None, ["the host name `.`", why]);
        row!(errors: resolve(&*long).await, None, ["the host name `aaa", why]);
        errors.check(6 * NOT_ADDRESSES.len() + 8);
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
        // Nothing listens there: it is the port of one end of a connection.
        let (silent, _other) = tcp_pair();
        let silent_at = silent.local_addr().unwrap();
        // Reserved for documentation.
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));

        let listening = |at: SocketAddr| format!("listening at {at} failed");
        let binding = |at: SocketAddr| format!("binding to {at} failed");
        let (in_use, not_available) = (ErrorKind::AddrInUse, ErrorKind::AddrNotAvailable);
        row!(errors: TcpListener::bind(used).await, in_use, [&listening(used)]);
        row!(errors: TcpListener::bind(foreign).await, not_available, [&listening(foreign)]);
        let both = &[foreign, used][..];
        row!(errors: TcpListener::bind(both).await, in_use, [&listening(used)]);
        row!(errors: UdpSocket::bind(bound_at).await, in_use, [&binding(bound_at)]);
        row!(errors: UdpSocket::bind(foreign).await, not_available, [&binding(foreign)]);
        let refused = ErrorKind::ConnectionRefused;
        let first = format!("could not connect to {silent_at}: ");
        let second = format!(", nor to {silent_at}: ");
        row!(errors: TcpStream::connect(silent_at).await, refused, [&first]);
        let both = &[silent_at, silent_at][..];
        row!(errors: TcpStream::connect(both).await, refused, [&first, &second]);
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
        let kind = ErrorKind::InvalidInput;
        for ttl in [0, 256] {
            let part = format!("setting the TTL to {ttl} failed: ");
            row!(errors: listener.set_ttl(ttl), kind, [&part]);
            row!(errors: stream.set_ttl(ttl), kind, [&part]);
            row!(errors: udp.set_ttl(ttl), kind, [&part]);
        }
        let part = "setting the TTL of multicasts to 256 failed: ";
        row!(errors: udp.set_multicast_ttl_v4(256), kind, [part]);
        // More than the system has room for.
        for long in [32_768 * SECOND, Duration::MAX] {
            let part = format!("setting the time of keepalive to {long:?} failed: ");
            row!(errors: stream.set_keepalive(Some(long)), kind, [&part]);
        }
        let (one, any) = (Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
        let part = "joining the group 127.0.0.1 failed: ";
        row!(errors: udp.join_multicast_v4(&one, &any), kind, [part]);
        let mut rows = 6 + 1 + 2 + 1 + 1;
        if let Ok(udp6) = udp6 {
            let (udp6, one) = (udp6.unwrap(), Ipv6Addr::LOCALHOST);
            let part = "joining the group ::1 failed: ";
            row!(errors: udp6.join_multicast_v6(&one, 0), kind, [part]);
            rows += 1;
        }
        // It has not joined this group.
        let (group, kind) = (Ipv4Addr::new(224, 0, 0, 251), ErrorKind::AddrNotAvailable);
        let part = "leaving the group 224.0.0.251 failed: ";
        row!(errors: udp.leave_multicast_v4(&group, &any), kind, [part]);
        errors.check(rows);

        // Short times are rounded up: 0 has another meaning.
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
        // An empty datagram is sent. A datagram that does not fit is cut.
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
fn capacities_of_zero_and_empty_buffers() {
    async_test(async || {
        // A backlog of zero, and one above the limit of the system.
        for backlog in [0, 1, u32::MAX] {
            let builder = TcpListener::builder().backlog(backlog);
            let listener = builder.bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(at).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            // An empty buffer: the call returns 0 at once.
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

        // A blocking socket is made nonblocking.
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        a.set_nonblocking(false).unwrap();
        let (a, mut b) = (Async::new(a).unwrap(), Async::new(b).unwrap());
        assert!(timeout(MS, b.read(&mut [0])).await.is_err());
        // A closed peer is reported by each operation.
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
        // It fails while there are clones, and returns the socket.
        let clone = server.clone();
        let error = server.into_std().unwrap_err();
        assert!(error.to_string().contains("drop them"), "{error}");
        drop(clone);
        error.into_socket().into_std().unwrap();
        // Halves of two different streams.
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
fn paths_that_cannot_be_used() {
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

            for (path, kind) in [
                (&long, ErrorKind::InvalidInput),
                (&nul, ErrorKind::InvalidInput),
                (&missing, ErrorKind::NotFound),
            ] {
                let end = &format!("{} failed: ", path.display());
                row!(errors: UnixListener::bind(path), kind, ["listening at", end]);
                row!(errors: UnixStream::connect(path).await, kind, ["connecting to", end]);
                row!(errors: UnixDatagram::bind(path), kind, ["binding to", end]);
                row!(errors: socket.connect(path), kind, ["connecting to", end]);
                row!(errors: socket.send_to(b"x", path).await, kind, ["sending to", end]);
            }
            for path in [&taken, &file] {
                let shown = &path.display().to_string();
                let kind = ErrorKind::AddrInUse;
                row!(errors: UnixListener::bind(path), kind, [shown, " failed: "]);
                row!(errors: UnixDatagram::bind(path), kind, [shown, " failed: "]);
            }
            let kind = ErrorKind::ConnectionRefused;
            let (what, end) = ("connecting to", "file failed: ");
            row!(errors: UnixStream::connect(&file).await, kind, [what, end]);
            row!(errors: socket.connect(&file), kind, [what, end]);
            // A datagram for a stream: the kind has no name in std.
            let (what, end) = ("sending to", "taken failed: ");
            row!(errors: socket.send_to(b"x", &taken).await, None, [what, end]);
            errors.check(15 + 4 + 3);
        });
        std::fs::remove_dir_all(&dir).unwrap();
    });
}

#[cfg(all(unix, feature = "signal"))]
#[test]
fn signals_that_cannot_be_listened_to() {
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
fn programs_that_cannot_be_started() {
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
        // std replaces the name of such a program.
        row("a\0b", None, ErrorKind::InvalidInput, "`<string-with-nul>`");
        row(
            "sh",
            Some(&format!("{dir}/no-such")),
            ErrorKind::NotFound,
            &no_dir,
        );
        errors.check(15);

        // A child that was waited for is not killed: its number may belong to another process.
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().await.unwrap();
        child.kill().unwrap();
        assert!(child.wait().await.unwrap().success());
    });

    /// The future is ready at its first poll.
    fn block<F: Future>(future: F) -> F::Output {
        futures_lite::future::block_on(future)
    }
}

#[test]
fn durations_of_zero_and_beyond_the_clock() {
    const LONG: [Duration; 5] = [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_millis(u64::MAX),
        Duration::from_micros(u64::MAX),
        Duration::from_nanos(u64::MAX),
    ];
    watchdog(|| {
        // Zero, and less than the resolution of the clock.
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
            // A wait without a limit, which a stop ends.
            stop.stop();
            runtime.turn(Some(long)).unwrap();
            runtime.run_forever();
            let waker = thread::spawn(move || {
                thread::sleep(MS);
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
        refuses(
            || poll_with(&mut late, Waker::noop()),
            &with("polling a `Sleep`"),
        );

        // Inside a runtime.
        let runtime = Runtime::new();
        runtime.block_on(async {
            let inside = ["inside a running soloist runtime", "use `.await` there"];
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

            // After the end of a task or promise.
            let mut task = spawn(ready(1));
            assert_eq!((&mut task).await, 1);
            refuses(
                || poll_with(&mut task, Waker::noop()),
                &["awaited twice", "`join().await`"],
            );
            let task = spawn(pending::<()>());
            task.abort_handle().abort();
            let mut task = task;
            yield_now().await;
            refuses(
                || poll_with(&mut task, Waker::noop()),
                &["was cancelled", "`join().await`"],
            );
            let mut task = Handle::current().spawn(|| async { 1 });
            assert_eq!((&mut task).await.unwrap(), 1);
            refuses(
                || poll_with(&mut task, Waker::noop()),
                &["polled after it had completed"],
            );
            let (promise, mut promised) = promise();
            promise.set(1).unwrap();
            assert_eq!((&mut promised).await, Ok(1));
            refuses(
                || poll_with(&mut promised, Waker::noop()),
                &["polled after it had returned its result"],
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
