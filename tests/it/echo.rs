//! The two echo servers, the one with async functions and the one with callbacks, against the same
//! clients: plain threads with std's sockets.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::programs::{KillOnDrop, example, run};
use crate::support::watchdog;
use fastrand::Rng;

/// Less than the watchdog's, so that the servers are killed before it ends this process.
const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) struct Server {
    child: KillOnDrop,
    pub(crate) address: SocketAddr,
    out: mpsc::Receiver<String>,
    err: mpsc::Receiver<String>,
}

fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    lines
}

impl Server {
    fn start(name: &str) -> Server {
        Server::run(example(name).arg("127.0.0.1:0"))
    }

    pub(crate) fn start_quiet(name: &str) -> Server {
        Server::run(example(name).args(["--quiet", "127.0.0.1:0"]))
    }

    fn run(command: &mut Command) -> Server {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = KillOnDrop(command.spawn().unwrap());
        let out = lines(child.0.stdout.take().unwrap());
        let err = lines(child.0.stderr.take().unwrap());
        let mut server = Server {
            child,
            address: ([0; 4], 0).into(),
            out,
            err,
        };
        let first = server.line();
        let address = first.strip_prefix("listening on ");
        server.address = address.expect("the first line").parse().unwrap();
        server
    }

    fn line(&self) -> String {
        self.out.recv_timeout(PATIENCE).expect("a line")
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Checks that the server still serves.
    #[track_caller]
    fn assert_serves(&self) {
        assert_echoes(&self.connect(), b"are you there?");
    }

    #[cfg(target_os = "linux")]
    fn open_fds(&self) -> usize {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", self.child.0.id()));
        fds.expect("/proc").count()
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[track_caller]
fn assert_echoes(mut stream: &TcpStream, message: &[u8]) {
    let mut echo = vec![0; message.len()];
    stream.write_all(message).unwrap();
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo, message);
}

/// Closes the connection with a reset.
fn reset(stream: TcpStream) {
    let linger = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.unwrap();
    drop(stream);
}

fn random_bytes(random: &mut Rng, len: usize) -> Vec<u8> {
    let words = std::iter::repeat_with(|| random.u64(..).to_le_bytes());
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// A pattern that a client writes repeatedly.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new() -> Pattern {
        Pattern(random_bytes(&mut Rng::with_seed(0), 65_521))
    }

    /// Writes until no buffer on the way to the server and back has room left. Returns how much
    /// that was.
    fn fill(&self, mut stream: &TcpStream) -> usize {
        stream.set_nonblocking(true).unwrap();
        let mut written = 0;
        let mut refusals = 0;
        while refusals < 10 {
            match stream.write(&self.0[written % self.0.len()..]) {
                Ok(n) => {
                    written += n;
                    refusals = 0;
                    assert!(written < 256 << 20, "it reads, and writes nothing back");
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    refusals += 1;
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
        }
        stream.set_nonblocking(false).unwrap();
        written
    }

    /// Reads that much, and checks it.
    fn check(&self, mut stream: &TcpStream, len: usize) {
        let mut buffer = vec![0; self.0.len()];
        let mut read = 0;
        while read < len {
            let expected = &self.0[read % self.0.len()..];
            let size = expected.len().min(len - read);
            let n = stream.read(&mut buffer[..size]).unwrap();
            assert!(n > 0, "the end after {read} of {len} bytes");
            assert!(buffer[..n] == expected[..n], "other bytes after {read}");
            read += n;
        }
    }
}

/// Each of these is a test of either server.
macro_rules! of_both {
    ($($(#[$attribute:meta])* $test:ident,)*) => {
        mod echo_server {
            $($(#[$attribute])* #[test] fn $test() {
                super::watchdog(|| super::$test("echo_server"));
            })*
        }
        mod echo_callbacks {
            $($(#[$attribute])* #[test] fn $test() {
                super::watchdog(|| super::$test("echo_callbacks"));
            })*
        }
    };
}

of_both!(
    every_byte_comes_back_on_200_connections,
    a_client_that_has_closed_its_half_gets_everything,
    a_client_that_does_not_read_blocks_no_other,
    a_reset_affects_no_other_client,
    a_reset_while_the_server_writes_affects_no_other_client,
    clients_that_reset_at_once_affect_no_other,
    #[cfg(target_os = "linux")]
    no_connection_is_kept_open,
    #[cfg(target_os = "linux")]
    an_accept_that_fails_is_tried_again,
    each_connection_and_its_end_are_printed,
    the_option_quiet_prints_nothing,
    wrong_arguments_get_the_usage_and_status_2,
);

/// A chunk as a client might write or read it: some tiny, some beyond all buffers.
fn chunk(random: &mut Rng) -> usize {
    let largest = [16, 2_000, 100_000][random.u64(..3) as usize];
    1 + random.u64(..largest) as usize
}

fn every_byte_comes_back_on_200_connections(name: &str) {
    const CONNECTIONS: u64 = 200;
    let server = Server::start_quiet(name);
    let address = server.address;
    let all_connected = &Barrier::new(CONNECTIONS as usize);
    thread::scope(|scope| {
        for seed in 0..CONNECTIONS {
            let client = move || client(address, seed, all_connected);
            let builder = thread::Builder::new().stack_size(256 * 1024);
            builder.spawn_scoped(scope, client).unwrap();
        }
    });
}

fn client(server: SocketAddr, seed: u64, all_connected: &Barrier) {
    let mut random = Rng::with_seed(seed);
    // Some send more than there is room for, and do not read before.
    let much = seed % 20 == 0;
    let len = 1 + random.u64(..65_536) as usize;
    let mut sent = random_bytes(&mut random, len);
    if much {
        sent = sent.repeat((8 << 20) / sent.len());
    }
    let stream = connect(server);
    all_connected.wait();

    thread::scope(|scope| {
        let write = || {
            let mut random = Rng::with_seed(!seed);
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let size = chunk(&mut random).min(rest.len());
                (&stream).write_all(&rest[..size]).unwrap();
                rest = &rest[size..];
                if random.u64(..64) == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            stream.shutdown(Shutdown::Write).unwrap();
        };
        let builder = thread::Builder::new().stack_size(256 * 1024);
        builder.spawn_scoped(scope, write).unwrap();

        if much {
            thread::sleep(Duration::from_millis(300));
        }
        let mut buffer = vec![0; 100_000];
        let mut rest = &sent[..];
        loop {
            let size = chunk(&mut random);
            let n = (&stream).read(&mut buffer[..size]).unwrap();
            if n == 0 {
                break;
            }
            assert!(
                n <= rest.len(),
                "connection {seed}: more came back than was sent"
            );
            let at = sent.len() - rest.len();
            assert!(
                buffer[..n] == rest[..n],
                "connection {seed}: other bytes after {at}"
            );
            rest = &rest[n..];
        }
        assert_eq!(
            rest.len(),
            0,
            "connection {seed}: so many bytes did not come back"
        );
    });
}

fn a_client_that_has_closed_its_half_gets_everything(name: &str) {
    let server = Server::start(name);
    let mut stream = server.connect();
    let peer = stream.local_addr().unwrap();
    // Little enough for the sockets' buffers: it is all written before the first byte is read.
    let sent = random_bytes(&mut Rng::with_seed(1), 50_000);
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.line(), format!("{peer} connected"));
    assert_eq!(
        server.line(),
        format!("{peer} disconnected after 50000 bytes")
    );
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).unwrap();
    assert!(echo == sent);
}

fn a_client_that_does_not_read_blocks_no_other(name: &str) {
    let server = Server::start_quiet(name);
    let _silent: Vec<_> = (0..20).map(|_| server.connect()).collect();
    let deaf = server.connect();
    let pattern = Pattern::new();
    let len = pattern.fill(&deaf);
    for _ in 0..3 {
        server.assert_serves();
    }
    // When it reads, nothing is missing.
    pattern.check(&deaf, len);
    assert_echoes(&deaf, b"and on it goes");
}

fn a_reset_affects_no_other_client(name: &str) {
    let server = Server::start(name);
    let witness = server.connect();
    assert_echoes(&witness, b"before");
    let peer = witness.local_addr().unwrap();
    assert_eq!(server.line(), format!("{peer} connected"));

    let stream = server.connect();
    let peer = stream.local_addr().unwrap();
    assert_echoes(&stream, b"gone");
    reset(stream);
    assert_eq!(server.line(), format!("{peer} connected"));
    let line = server.line();
    let lost = format!("{peer} failed after 4 bytes: ");
    assert!(line.starts_with(&lost), "{line}");

    assert_echoes(&witness, b"after");
    server.assert_serves();
}

fn a_reset_while_the_server_writes_affects_no_other_client(name: &str) {
    let server = Server::start(name);
    let deaf = server.connect();
    let peer = deaf.local_addr().unwrap();
    Pattern::new().fill(&deaf);
    assert_eq!(server.line(), format!("{peer} connected"));
    reset(deaf);
    let line = server.line();
    assert!(line.starts_with(&format!("{peer} failed after ")), "{line}");
    server.assert_serves();
}

fn clients_that_reset_at_once_affect_no_other(name: &str) {
    let server = Server::start_quiet(name);
    for round in 0..100 {
        let stream = server.connect();
        if round % 2 == 0 {
            (&stream).write_all(b"do not answer").unwrap();
        }
        reset(stream);
    }
    server.assert_serves();
    assert_eq!(server.err.try_recv(), Err(mpsc::TryRecvError::Empty));
}

#[cfg(target_os = "linux")]
fn no_connection_is_kept_open(name: &str) {
    let server = Server::start_quiet(name);
    let witness = server.connect();
    assert_echoes(&witness, b"all there?");
    // Its own, and one connection's.
    let before = server.open_fds();
    let wait_for = |fds: usize, when: &str| {
        let start = std::time::Instant::now();
        while server.open_fds() != fds {
            let open = server.open_fds();
            assert!(start.elapsed() < PATIENCE, "{open} fds {when}, not {fds}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    for ending in 0..4 {
        let clients: Vec<_> = (0..30).map(|_| server.connect()).collect();
        for client in &clients {
            assert_echoes(client, b"hello");
        }
        wait_for(before + 30, "with 30 connections");
        for stream in clients {
            match ending {
                0 => drop(stream),
                1 => reset(stream),
                2 => {
                    // Closed with something unread: a reset, too.
                    (&stream).write_all(&[0; 1000]).unwrap();
                    drop(stream);
                }
                _ => {
                    stream.shutdown(Shutdown::Write).unwrap();
                    assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
                }
            }
        }
        wait_for(before, "after they have gone");
    }
    assert_echoes(&witness, b"still there?");
}

#[cfg(target_os = "linux")]
fn an_accept_that_fails_is_tried_again(name: &str) {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 24; exec \"$0\" --quiet 127.0.0.1:0"]);
    let server = Server::run(limited.arg(example(name).get_program()));
    let clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for mut client in &clients {
        client.write_all(b"hello").unwrap();
    }
    let line = server.err.recv_timeout(PATIENCE).expect("a complaint");
    let complaint = format!("{name}: cannot accept: ");
    assert!(line.starts_with(&complaint), "{line}");
    // It does not try again and again meanwhile.
    let start = std::time::Instant::now();
    thread::sleep(Duration::from_millis(100));
    let complaints = server.err.try_iter().count() as u128;
    let most = 10 + start.elapsed().as_millis() / 10;
    assert!(complaints <= most, "{complaints} more complaints");
    // A client that disconnects leaves room for the next.
    for mut client in clients {
        let mut echo = [0; 5];
        client.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"hello");
    }
    server.assert_serves();
}

fn each_connection_and_its_end_are_printed(name: &str) {
    let server = Server::start(name);
    for size in [0, 12, 40_000] {
        let mut stream = server.connect();
        let peer = stream.local_addr().unwrap();
        assert_eq!(server.line(), format!("{peer} connected"));
        let sent = random_bytes(&mut Rng::with_seed(size), size as usize);
        assert_echoes(&stream, &sent);
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert_eq!(
            server.line(),
            format!("{peer} disconnected after {size} bytes")
        );
    }
}

fn the_option_quiet_prints_nothing(name: &str) {
    let mut server = Server::start_quiet(name);
    for _ in 0..3 {
        let mut stream = server.connect();
        assert_echoes(&stream, b"hush");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    server.child.0.kill().unwrap();
    let silence = Err(mpsc::RecvTimeoutError::Disconnected);
    assert_eq!(server.out.recv_timeout(PATIENCE), silence);
    assert_eq!(server.err.recv_timeout(PATIENCE), silence);
}

fn wrong_arguments_get_the_usage_and_status_2(name: &str) {
    let run = |args: &[&str]| {
        let output = run(example(name).args(args));
        (output.status, output.out, output.err)
    };
    let wrong: [(&[&str], &str); 3] = [
        (&["--nonsense"], "invalid option '--nonsense'"),
        (&["[::1]:0", "[::1]:1"], "unexpected argument \"[::1]:1\""),
        (&["--quiet", "127.0.0.1:0", "-q"], "invalid option '-q'"),
    ];
    for (args, why) in wrong {
        let (status, out, err) = run(args);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{args:?}");
        let complaint = format!("{name}: {why}\n\nusage: {name} ");
        assert!(err.starts_with(&complaint), "{err}");
    }
    let (status, out, err) = run(&["--help"]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("usage: {name} ")), "{out}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, out, err) = run(&[&address]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    let complaint = format!("{name}: cannot listen on {address}: ");
    assert!(err.starts_with(&complaint), "{err}");
}
