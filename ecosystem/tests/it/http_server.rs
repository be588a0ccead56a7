//! The example `http_server`, with curl, wrk and misbehaving clients.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::programs::{KillOnDrop, Output, WATCHDOG, example, fail_without, run};
use crate::support::watchdog;

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

    /// Checks that the server has closed or reset the connection without sending more.
    fn assert_closed(&mut self) {
        match self.0.read(&mut [0; 16]) {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

const HELLO: &[u8] = b"Hello from one thread.\n";
const AFTER_A_WHILE: &[u8] = b"Hello after a while.\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

fn post(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A directory that is removed after the test.
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

/// Runs curl. Returns `None`, and skips the test, if it is not installed.
fn curl(args: &[&str]) -> Option<Output> {
    let found = Command::new("curl").arg("--version").output();
    if found.is_err() {
        fail_without("curl");
        return None;
    }
    let mut command = Command::new("curl");
    command.stdout(Stdio::piped());
    // Without ~/.curlrc and without a proxy.
    command.args(["-q", "--noproxy", "*", "-sS", "--max-time", "50"]);
    let output = run(command.args(args));
    assert_eq!(output.status, Some(0), "{args:?}: {}", output.err);
    Some(output)
}

#[test]
fn curl_gets_pages_and_errors() {
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
            (&[], "/slow?1", "Hello after a while.\n200"),
            (&[], "/slow?soon", "Expected a number of milliseconds.\n400"),
            (&["-d", "some words"], "/echo", "some words200"),
            (&["-d", ""], "/echo", "200"),
            (&[], "/echo", "Method not allowed.\n405"),
            (&["-X", "DELETE"], "/", "Method not allowed.\n405"),
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
            assert_eq!(output.out, "Not found.\n404", "{path}");
        }
    });
}

#[test]
fn curl_reuses_its_connection() {
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
            fail_without("wrk");
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        // wrk prints these two only if there were any.
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
        // Slow requests delay the ones behind them, which do not overtake.
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
                2 => ("200", AFTER_A_WHILE),
                _ => ("404", &b"Not found.\n"[..]),
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
        // Other clients are served meanwhile.
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
fn an_incomplete_head_closes_the_connection() {
    watchdog(|| {
        let server = Server::start(&["--header-timeout", "0.3"]);
        let (mut silent, mut half) = (server.connect(), server.connect());
        half.send("GET / HTTP/1.1\r\nHost: te");
        let mut served = server.connect();
        served.send(get("/"));
        assert_eq!(served.response().body, HELLO);
        served.send("GET / HTT");
        let mut late = server.connect();
        // Takes longer than the timeout, which applies to the head only.
        late.send(get("/slow?600"));
        for client in [&mut silent, &mut half, &mut served] {
            client.assert_closed();
            server.awaits(" failed: no complete request within the header timeout");
        }
        assert_eq!(late.response().body, AFTER_A_WHILE);
    });
}

#[test]
fn parts_of_a_head_do_not_restart_the_timeout() {
    watchdog(|| {
        let server = Server::start(&["--header-timeout", "0.3"]);
        let mut client = server.connect();
        let mut stream = client.0.get_ref().try_clone().unwrap();
        // The request line first, since header lines alone are not a request.
        client.send("GET / HTTP/1.1\r\nHost: test");
        thread::spawn(move || {
            // Until the server closes the connection. The pauses are much shorter than the timeout.
            while stream.write_all(b"\r\nA: b").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        client.assert_closed();
        server.awaits(" failed: no complete request within the header timeout");
    });
}

#[test]
fn a_body_that_stalls_closes_the_connection_and_slow_work_does_not() {
    watchdog(|| {
        let dir = Dir::new("stalls");
        // A sparse file that is larger than the buffers of a connection.
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
        upload.assert_closed();
        server.awaits(" failed: no byte was transferred within the idle timeout");

        let mut download = server.connect();
        download.send(get("/files/big"));
        server.awaits(" failed: no byte was transferred within the idle timeout");

        assert_eq!(slow.response().body, AFTER_A_WHILE);
    });
}

#[test]
fn ctrl_c_lets_current_requests_finish() {
    watchdog(|| {
        let mut server = Server::start(&[]);
        let mut idle = server.connect();
        idle.send(get("/"));
        assert_eq!(idle.response().body, HELLO);
        let mut silent = server.connect();
        let mut upload = server.connect();
        upload.send(&post(b"0123456789")[..post(b"0123456789").len() - 3]);
        upload.head();
        // The server reads them together: when the first is answered, it has started the second.
        let mut running = server.connect();
        running.send(get("/") + &get("/slow?700") + &get("/"));
        assert_eq!(running.response().body, HELLO);

        server.interrupt();
        server.awaits("stopping");
        idle.assert_closed();
        silent.assert_closed();
        // The listener is closed.
        assert!(TcpStream::connect(server.address).is_err());
        let last = running.response();
        assert_eq!(last.body, AFTER_A_WHILE);
        assert!(last.head.contains("connection: close"), "{}", last.head);
        running.assert_closed();
        // The rest of the body is still read and sent back.
        assert_eq!(server.child.0.try_wait().unwrap(), None);
        upload.send("789");
        let mut echo = [0; 10];
        upload.0.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"0123456789");
        upload.assert_closed();
        assert_eq!(server.status(), Some(0));
    });
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    watchdog(|| {
        let mut server = Server::start(&[]);
        let mut client = server.connect();
        client.send(get("/") + &get("/slow?3600000"));
        assert_eq!(client.response().body, HELLO);
        server.interrupt();
        server.awaits("stopping");
        server.interrupt();
        assert_eq!(server.status(), Some(1));
        client.assert_closed();
    });
}

#[test]
fn invalid_requests_do_not_harm_other_clients() {
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
            client.assert_closed();
            let line = server.lines.recv_timeout(WATCHDOG).unwrap();
            assert!(line.contains(" failed: "), "{line}");
        }
        // A head that is too long.
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\n");
        let mut stream = client.0.get_ref().try_clone().unwrap();
        thread::spawn(move || while stream.write_all(&[b'a'; 4096]).is_ok() {});
        server.awaits(" failed: message head is too large");

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
