//! The example `http_server`, against curl and against clients that curl is too polite to be.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use http_body_util::Empty;
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::FuturesIo;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::{spawn, testing, time};

use crate::programs::{KillOnDrop, Output, WATCHDOG, example, run, skip_without};
use crate::support::watchdog;

/// The example itself, for its timers.
#[allow(dead_code)]
#[path = "../../examples/http_server.rs"]
mod example_server;

struct Server {
    child: KillOnDrop,
    address: SocketAddr,
    lines: mpsc::Receiver<String>,
}

impl Server {
    fn start(args: &[&str]) -> Server {
        let mut command = example("http_server");
        command.args(args).arg("127.0.0.1:0");
        let mut child = KillOnDrop(command.spawn().unwrap());
        let stdout = BufReader::new(child.0.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let first = lines.recv_timeout(WATCHDOG).unwrap();
        let address = first.strip_prefix("listening on http://").unwrap();
        let address = address.parse().unwrap();
        Server {
            child,
            address,
            lines,
        }
    }

    fn connect(&self) -> Client {
        Client(BufReader::new(TcpStream::connect(self.address).unwrap()))
    }

    /// Waits for a line that ends with this.
    fn awaits(&self, end: &str) {
        loop {
            if self.lines.recv_timeout(WATCHDOG).unwrap().ends_with(end) {
                return;
            }
        }
    }

    fn interrupt(&self) {
        let kill = format!("kill -INT {}", self.child.0.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success());
    }

    fn status(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < WATCHDOG, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Client(BufReader<TcpStream>);

struct Response {
    status: String,
    head: String,
    body: Vec<u8>,
}

impl Client {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    fn head(&mut self) -> (String, String) {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            assert!(line.ends_with("\r\n"), "{lines:?} {line:?}");
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_ascii_lowercase());
        }
        let status = lines[0].strip_prefix("http/1.1 ").unwrap();
        (status[..3].to_string(), lines[1..].join("\n"))
    }

    fn response(&mut self) -> Response {
        let (status, head) = self.head();
        let mut lengths = head.lines();
        let length = lengths.find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        Response { status, head, body }
    }

    /// The server has closed the connection, in order or not, and sent nothing more.
    fn is_closed(&mut self) {
        match self.0.read(&mut [0; 16]) {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

const HELLO: &[u8] = b"Hello from one thread.\n";
const AT_LAST: &[u8] = b"Hello, at last.\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

fn post(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A directory for a test, which is gone after it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let name = format!("http-{name}-{}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
    bytes
}

/// Runs curl. `None`, and a note, if there is none.
fn curl(args: &[&str]) -> Option<Output> {
    let found = Command::new("curl").arg("--version").output();
    if found.is_err() {
        skip_without("curl");
        return None;
    }
    let mut command = Command::new("curl");
    command.stdout(Stdio::piped());
    // Neither ~/.curlrc nor a proxy.
    command.args(["-q", "--noproxy", "*", "-sS", "--max-time", "50"]);
    let output = run(command.args(args));
    assert_eq!(output.status, Some(0), "{args:?}: {}", output.err);
    Some(output)
}

#[test]
fn curl_gets_what_is_there_and_is_told_what_is_not() {
    watchdog(|| {
        let dir = Dir::new("curl");
        fs::create_dir(dir.0.join("below")).unwrap();
        fs::write(dir.0.join("below/a page.txt"), "in a directory\n").unwrap();
        fs::write(dir.0.join(".hidden"), "secret").unwrap();
        let server = Server::start(&["--dir", dir.0.to_str().unwrap()]);
        let at = |path: &str| format!("http://{}{path}", server.address);
        let code = ["-w", "%{http_code}"];
        for (args, path, expected) in [
            (&[][..], "/", "Hello from one thread.\n200"),
            (&["-I", "-o", "/dev/null"], "/", "200"),
            (&[], "/slow?1", "Hello, at last.\n200"),
            (&[], "/slow?soon", "How many milliseconds?\n400"),
            (&["-d", "some words"], "/echo", "some words200"),
            (&["-d", ""], "/echo", "200"),
            (&[], "/echo", "That cannot be done here.\n405"),
            (&["-X", "DELETE"], "/", "That cannot be done here.\n405"),
            (
                &["-w", "%{http_code} %{content_type}"],
                "/files/below/a%20page.txt",
                "in a directory\n200 text/plain; charset=utf-8",
            ),
            (
                &["-I", "-o", "/dev/null"],
                "/files/below/a%20page.txt",
                "200",
            ),
        ] {
            let path = at(path);
            let args = [&code[..], args, &[&*path]].concat();
            let Some(output) = curl(&args) else { return };
            assert_eq!(output.out, expected, "{args:?}");
        }
        for path in [
            "/nothing",
            "/files/",
            "/files/below",
            "/files/below/",
            "/files/none",
            "/files/.hidden",
            "/files/../Cargo.toml",
            "/files/below/../../x",
            "/files/%2e%2e/Cargo.toml",
            "/files//etc/passwd",
            "/files/%2fetc/passwd",
            "/files/below/a page.txt%00",
            "/files/%zz",
            "/files/%ff",
            "/files/%",
        ] {
            let path = at(&path.replace(' ', "%20"));
            let args = [&code[..], &["--path-as-is", &path]].concat();
            let Some(output) = curl(&args) else { return };
            assert_eq!(output.out, "There is no such thing here.\n404", "{path}");
        }
    });
}

#[test]
fn curl_keeps_its_connection() {
    watchdog(|| {
        let server = Server::start(&["--quiet"]);
        let url = format!("http://{}/[1-5]", server.address);
        let Some(output) = curl(&["-o", "/dev/null", "-w", "%{num_connects} ", &url]) else {
            return;
        };
        assert_eq!(output.out, "1 0 0 0 0 ");
    });
}

#[test]
fn wrk_gets_an_answer_to_each_request() {
    watchdog(|| {
        let server = Server::start(&["--quiet"]);
        let url = format!("http://{}/", server.address);
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c50", "-d1s", "--timeout", "20s", &url]);
        let Ok(output) = command.output() else {
            skip_without("wrk");
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        // It says these two only if there were any.
        assert!(!text.contains("Socket errors"), "{text}");
        assert!(!text.contains("Non-2xx"), "{text}");
        let mut words = text.split_whitespace();
        let requests = words.position(|word| word == "requests").unwrap();
        let requests: u64 = text
            .split_whitespace()
            .nth(requests - 1)
            .unwrap()
            .parse()
            .unwrap();
        assert!(requests >= 50, "{text}");
    });
}

#[test]
fn curl_gets_every_byte_back() {
    watchdog(|| {
        let dir = Dir::new("bytes");
        let (sent, echo) = (dir.0.join("sent"), dir.0.join("echo"));
        let bytes = random_bytes(3_000_000);
        fs::write(&sent, &bytes).unwrap();
        let server = Server::start(&["--quiet", "--dir", dir.0.to_str().unwrap()]);
        let data = format!("@{}", sent.display());
        let post = format!("http://{}/echo", server.address);
        let file = format!("http://{}/files/sent", server.address);
        for args in [
            &["--data-binary", &data, &post][..],
            &["-H", "Expect: 100-continue", "--data-binary", &data, &post],
            &[
                "-H",
                "Transfer-Encoding: chunked",
                "--data-binary",
                &data,
                &post,
            ],
            &[&file],
        ] {
            let to = ["-o", echo.to_str().unwrap()];
            let Some(_) = curl(&[args, &to].concat()) else {
                return;
            };
            assert!(fs::read(&echo).unwrap() == bytes, "{args:?}");
            fs::remove_file(&echo).unwrap();
        }
    });
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    watchdog(|| {
        let server = Server::start(&["--quiet"]);
        let mut client = server.connect();
        // The slow one in the middle holds up those behind it, and none overtakes it.
        let mut requests = Vec::new();
        for number in 0..100 {
            requests.extend(match number % 4 {
                0 => get("/").into_bytes(),
                1 => post(format!("number {number}").as_bytes()),
                2 => get("/slow?2").into_bytes(),
                _ => get("/nothing").into_bytes(),
            });
        }
        client.send(requests);
        for number in 0..100 {
            let response = client.response();
            let echo = format!("number {number}");
            let expected = match number % 4 {
                0 => ("200", HELLO),
                1 => ("200", echo.as_bytes()),
                2 => ("200", AT_LAST),
                _ => ("404", &b"There is no such thing here.\n"[..]),
            };
            assert_eq!((&*response.status, &*response.body), expected, "{number}");
        }
    });
}

#[test]
fn a_client_that_sends_ahead_without_reading_is_held_back_and_then_served() {
    const REQUESTS: usize = 50_000;
    watchdog(|| {
        let server = Server::start(&["--quiet"]);
        let mut client = server.connect();
        let mut stream = client.0.get_ref().try_clone().unwrap();
        let sender = thread::spawn(move || {
            let batch = get("/").repeat(100);
            for _ in 0..REQUESTS / 100 {
                stream.write_all(batch.as_bytes()).unwrap();
            }
        });
        // Beside it others are served.
        let mut other = server.connect();
        other.send(get("/"));
        assert_eq!(other.response().body, HELLO);
        for _ in 0..REQUESTS {
            assert_eq!(client.response().body, HELLO);
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_head_that_does_not_come_to_its_end_closes_the_connection() {
    watchdog(|| {
        let server = Server::start(&["--header-timeout", "0.3"]);
        let (mut silent, mut half) = (server.connect(), server.connect());
        half.send("GET / HTTP/1.1\r\nHost: te");
        let mut served = server.connect();
        served.send(get("/"));
        assert_eq!(served.response().body, HELLO);
        served.send("GET / HTT");
        let mut late = server.connect();
        // Longer than the timeout, which is for the head.
        late.send(get("/slow?600"));
        for client in [&mut silent, &mut half, &mut served] {
            client.is_closed();
            server.awaits(" was lost: no whole request came in time");
        }
        assert_eq!(late.response().body, AT_LAST);
    });
}

#[test]
fn a_head_that_comes_in_drops_does_not_start_the_timeout_anew() {
    watchdog(|| {
        let server = Server::start(&["--header-timeout", "0.3"]);
        let mut client = server.connect();
        let mut stream = client.0.get_ref().try_clone().unwrap();
        // First of all: what comes before it is no request.
        client.send("GET / HTTP/1.1\r\nHost: test");
        thread::spawn(move || {
            // Until the server has had enough: each write is well inside of the timeout.
            while stream.write_all(b"\r\nA: b").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        client.is_closed();
        server.awaits(" was lost: no whole request came in time");
    });
}

#[test]
fn a_body_that_stalls_closes_the_connection_and_slow_work_does_not() {
    watchdog(|| {
        let dir = Dir::new("stalls");
        // No bytes on the disk, and more than the buffers of a connection take.
        let file = File::create(dir.0.join("big")).unwrap();
        file.set_len(1 << 30).unwrap();
        let dir = dir.0.to_str().unwrap();
        let server = Server::start(&["--idle-timeout", "0.2", "--dir", dir]);

        let mut slow = server.connect();
        slow.send(get("/slow?1000"));
        let mut upload = server.connect();
        upload.send(&post(b"0123456789")[..post(b"0123456789").len() - 3]);
        upload.head();
        let mut echo = [0; 7];
        upload.0.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"0123456");
        upload.is_closed();
        server.awaits(" was lost: nothing has moved for too long");

        let mut download = server.connect();
        download.send(get("/files/big"));
        server.awaits(" was lost: nothing has moved for too long");

        assert_eq!(slow.response().body, AT_LAST);
    });
}

#[test]
fn ctrl_c_lets_the_requests_finish_that_are_worked_on() {
    watchdog(|| {
        let mut server = Server::start(&[]);
        let mut idle = server.connect();
        idle.send(get("/"));
        assert_eq!(idle.response().body, HELLO);
        let mut silent = server.connect();
        let mut upload = server.connect();
        upload.send(&post(b"0123456789")[..post(b"0123456789").len() - 3]);
        upload.head();
        // They are read together: when the first is answered, the second is worked on.
        let mut running = server.connect();
        running.send(get("/") + &get("/slow?700") + &get("/"));
        assert_eq!(running.response().body, HELLO);

        server.interrupt();
        server.awaits("stopping");
        idle.is_closed();
        silent.is_closed();
        // Nobody listens any more.
        assert!(TcpStream::connect(server.address).is_err());
        let last = running.response();
        assert_eq!(last.body, AT_LAST);
        assert!(last.head.contains("connection: close"), "{}", last.head);
        running.is_closed();
        // The body that is on its way comes to its end, too.
        assert_eq!(server.child.0.try_wait().unwrap(), None);
        upload.send("789");
        let mut echo = [0; 10];
        upload.0.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"0123456789");
        upload.is_closed();
        assert_eq!(server.status(), Some(0));
    });
}

#[test]
fn another_ctrl_c_does_not_wait() {
    watchdog(|| {
        let mut server = Server::start(&[]);
        let mut client = server.connect();
        client.send(get("/") + &get("/slow?3600000"));
        assert_eq!(client.response().body, HELLO);
        server.interrupt();
        server.awaits("stopping");
        server.interrupt();
        assert_eq!(server.status(), Some(1));
        client.is_closed();
    });
}

#[test]
fn what_is_not_http_harms_nobody() {
    watchdog(|| {
        let server = Server::start(&[]);
        for nonsense in [
            &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        ] {
            let mut client = server.connect();
            client.send(nonsense);
            assert_eq!(client.response().status, "400");
            client.is_closed();
            let line = server.lines.recv_timeout(WATCHDOG).unwrap();
            assert!(line.contains(" was lost: "), "{line}");
        }
        // Longer than any head should be.
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\n");
        let mut stream = client.0.get_ref().try_clone().unwrap();
        thread::spawn(move || while stream.write_all(&[b'a'; 4096]).is_ok() {});
        server.awaits(" was lost: message head is too large");

        let mut client = server.connect();
        client.send(get("/"));
        assert_eq!(client.response().body, HELLO);
    });
}

#[test]
fn wrong_arguments_get_the_usage() {
    watchdog(|| {
        for args in [
            &["--dir"][..],
            &["--header-timeout", "0"],
            &["--idle-timeout", "soon"],
            &["--nonsense"],
            &["127.0.0.1:0", "127.0.0.1:0"],
        ] {
            let output = run(example("http_server").args(args));
            assert_eq!((output.status, &*output.out), (Some(2), ""), "{args:?}");
            assert!(output.err.starts_with("http_server: "), "{}", output.err);
            assert!(
                output.err.contains("\n\nusage: http_server "),
                "{}",
                output.err
            );
        }
        let output = run(example("http_server").arg("--help"));
        assert_eq!(output.status, Some(0));
        assert!(
            output.out.starts_with("usage: http_server "),
            "{}",
            output.out
        );
    });
}

#[test]
fn in_virtual_time_a_head_has_its_whole_timeout() {
    const MINUTE: Duration = Duration::from_secs(60);
    watchdog(|| {
        testing::block_on(async {
            // The system's clock is far behind.
            time::sleep(24 * 60 * MINUTE).await;
            let listener = testing::net::TcpListener::bind("10.0.0.1:80")
                .await
                .unwrap();
            spawn(async move {
                let stream = listener.incoming().next().await.unwrap().unwrap();
                let service = service_fn(async |_: Request<Incoming>| {
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
                });
                let _ = http1::Builder::new()
                    .timer(example_server::Timer)
                    .header_read_timeout(MINUTE)
                    .serve_connection(FuturesIo::new(stream), service)
                    .await;
            })
            .detach();
            let client = testing::net::TcpStream::connect("10.0.0.1:80").await;
            let mut client = client.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            time::sleep(MINUTE / 2).await;
            client.write_all(b"Host: test\r\n\r\n").await.unwrap();
            let mut answer = [0; 15];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            // And no more than that.
            let start = time::now();
            client.write_all(b"GET").await.unwrap();
            client.read_to_end(&mut Vec::new()).await.unwrap();
            assert_eq!(time::now() - start, MINUTE);
        });
    });
}
