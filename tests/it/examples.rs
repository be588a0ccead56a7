//! The example programs as a user runs them, against servers and clients that use std.

use socket2::SockRef;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use crate::echo::Server;
use crate::programs::{WATCHDOG, example, run, run_with_input};

#[test]
fn hello_says_hello() {
    let output = run(&mut example("hello"));
    assert_eq!(
        (output.status, output.out.as_str()),
        (Some(0), "hello\nworld\n")
    );
}

/// Calls `serve` with each connection and its request, on a thread for each.
fn http_server(
    address: &str,
    serve: impl Fn(TcpStream, &str) + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), serve.clone());
            thread::spawn(move || {
                let lines = BufReader::new(&stream).lines().map(Result::unwrap);
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                serve(stream, &head.join("\n"));
            });
        }
    });
    Ok(address)
}

fn reply(mut stream: TcpStream, body: &[u8]) {
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
}

fn path(request: &str) -> &str {
    request.split(' ').nth(1).unwrap()
}

fn urls(server: SocketAddr, pages: usize) -> Vec<String> {
    (0..pages)
        .map(|page| format!("http://{server}/{page}"))
        .collect()
}

#[test]
fn fetch_without_arguments_fetches_ten_pages_of_its_own() {
    let output = run(&mut example("fetch"));
    assert_eq!(output.status, Some(0), "{}", output.err);
    let lines: Vec<_> = output.out.lines().collect();
    assert_eq!(lines.len(), 11, "{}", output.out);
    assert!(
        lines[..10].iter().all(|line| line.starts_with(" 200 ")),
        "{}",
        output.out
    );
    for path in ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9"] {
        assert!(
            lines[..10].iter().any(|line| line.ends_with(path)),
            "{path}: {}",
            output.out
        );
    }
    assert!(lines[10].starts_with("10 pages, "), "{}", output.out);
}

#[test]
#[cfg(feature = "trace")]
fn fetch_draws_what_its_jobs_did() {
    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fetch-{}.html", std::process::id()));
    let output = run(example("fetch").arg("--trace").arg(&file));
    assert_eq!(output.status, Some(0), "{}", output.err);
    let page = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    for job in 1..=10 {
        assert!(page.contains(&format!("\"name\":\"job {job}\"")), "{job}");
    }
    let output = run(example("fetch").args(["--trace", "/no/such/place.html"]));
    assert_eq!(output.status, Some(1));
    assert!(
        output.err.contains("cannot write the trace"),
        "{}",
        output.err
    );
}

#[test]
#[cfg(not(feature = "trace"))]
fn fetch_says_how_to_draw() {
    let output = run(example("fetch").args(["--trace", "page.html"]));
    assert_eq!(output.status, Some(2));
    assert!(output.err.contains("--features trace"), "{}", output.err);
}

#[test]
fn fetch_has_all_pages_in_flight_at_once() {
    let all_are_here = Barrier::new(10);
    let server = http_server("127.0.0.1:0", move |stream, _| {
        all_are_here.wait();
        reply(stream, b"together");
    })
    .unwrap();
    let output = run(example("fetch").args(urls(server, 10)));
    assert_eq!(output.status, Some(0), "{}", output.out);
}

#[test]
fn fetch_jobs_bounds_how_many_are_in_flight() {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let two_are_here = Barrier::new(2);
    let seen = most.clone();
    let server = http_server("127.0.0.1:0", move |stream, _| {
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        two_are_here.wait();
        // Time for a third one to come, if there is a third one.
        thread::sleep(Duration::from_millis(20));
        now.fetch_sub(1, Ordering::SeqCst);
        reply(stream, b"in pairs");
    })
    .unwrap();
    let output = run(example("fetch")
        .args(["--jobs", "2"])
        .args(urls(server, 12)));
    assert_eq!(output.status, Some(0), "{}", output.out);
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[test]
fn fetch_reports_each_failure_and_fetches_the_other_pages() {
    let server = http_server("127.0.0.1:0", |mut stream, request| match path(request) {
        "/reset" => SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap(),
        "/empty" => {}
        "/half-a-head" => stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Len").unwrap(),
        "/ssh" => stream
            .write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
            .unwrap(),
        "/truncated" => {
            stream
                .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")
                .unwrap();
        }
        "/bad-length" => {
            stream
                .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: ten\r\n\r\n0123456789")
                .unwrap();
        }
        "/chunked" => {
            let reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
            stream.write_all(reply).unwrap();
        }
        "/headers" => {
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n");
            while stream.write_all(b"Another: one\r\n").is_ok() {}
        }
        _ => reply(stream, b"unharmed"),
    })
    .unwrap();
    let (_bound, nobody) = crate::support::refusing();

    let refused = format!("http://{nobody}/");
    let invalid = "127.0.0.1:8000/page";
    let failures = [
        (&*refused, "could not connect to "),
        (invalid, "invalid URL: only http:// is supported"),
        (
            "https://127.0.0.1/",
            "invalid URL: only http:// is supported",
        ),
        ("/reset", "connection lost before the reply: "),
        ("/empty", "closed without a reply"),
        ("/half-a-head", "closed in the headers of the reply"),
        ("/ssh", "not an HTTP reply: "),
        ("/truncated", "closed after 10 of 1000 bytes"),
        ("/bad-length", "Content-Length is \"ten\""),
        ("/chunked", "\"chunked\" is not part of HTTP/1.0"),
        ("/headers", "not an HTTP reply: too many headers"),
    ]
    .map(|(url, why)| match url.strip_prefix('/') {
        Some(path) => (format!("http://{server}/{path}"), why),
        None => (url.to_string(), why),
    });
    let mut fetch = example("fetch");
    for (number, (url, _)) in failures.iter().enumerate() {
        fetch.args([url, &format!("http://{server}/{number}")]);
    }
    let output = run(&mut fetch);

    assert_eq!(output.status, Some(1), "{}", output.err);
    for (number, (url, why)) in failures.iter().enumerate() {
        output.assert_failed(url, why);
        output.assert_fetched(&format!("http://{server}/{number}"), 8);
    }
    let total = output.out.lines().last().unwrap();
    assert!(
        total.starts_with("11 pages, 88 bytes, 11 failed, "),
        "{total}"
    );
}

#[test]
fn fetch_gives_up_on_a_silent_server_after_its_timeout() {
    let server = http_server("127.0.0.1:0", |mut stream, _| {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    })
    .unwrap();
    let url = format!("http://{server}/");
    let output = run(example("fetch").args(["--timeout", "0.2", &url]));
    assert_eq!(output.status, Some(1), "{}", output.err);
    output.assert_failed(&url, "timed out after 0.2 s");
}

#[test]
fn fetch_says_what_is_wrong_with_a_url() {
    let no_http = "invalid URL: only http:// is supported";
    let no_host = "invalid URL: expected a host, without a user name";
    let wrong = [
        ("ftp://127.0.0.1/", no_http),
        ("HTTPS://127.0.0.1/", no_http),
        ("http://", no_host),
        ("http:///path", no_host),
        ("http://me:secret@127.0.0.1/", no_host),
        ("http://:80/", "`:80` is not an address"),
        (
            "http://127.0.0.1:http/",
            "`127.0.0.1:http` is not an address",
        ),
        (
            "http://127.0.0.1:65536/",
            "`127.0.0.1:65536` is not an address",
        ),
        ("http://127.0.0.1:/", "`127.0.0.1:` is not an address"),
        ("http://::1/", "`::1` is not an address"),
        ("http://[::1/", "`[::1` is not an address"),
        ("http://[127.0.0.1]/", "`[127.0.0.1]:80` is not an address"),
        (
            "http://127.0.0.1/a b",
            "invalid URL: ' ' must be percent-encoded",
        ),
        (
            "http://127.0.0.1/\r\nX: y",
            "invalid URL: '\\r' must be percent-encoded",
        ),
        (
            "http://127.0.0.1/ä",
            "invalid URL: 'ä' must be percent-encoded",
        ),
    ];
    for (url, why) in wrong {
        let output = run(example("fetch").arg(url));
        assert_eq!(output.status, Some(1), "{url:?}");
        assert!(
            output.out.contains(&format!("  {url}: {why}")),
            "{url:?}: {}",
            output.out
        );
    }
}

#[test]
fn fetch_asks_in_http_1_0_and_names_the_host() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let server = http_server("127.0.0.1:0", move |stream, request| {
        tell.lock().unwrap().send(request.to_string()).unwrap();
        reply(stream, b"");
    })
    .unwrap();
    let port = server.port();
    for (url, path, host) in [
        (
            format!("http://127.0.0.1:{port}"),
            "/",
            format!("127.0.0.1:{port}"),
        ),
        (
            format!("HTTP://127.0.0.1:{port}/a/b?c=d#e"),
            "/a/b?c=d",
            format!("127.0.0.1:{port}"),
        ),
        (
            format!("http://localhost:{port}?c=d"),
            "/?c=d",
            format!("localhost:{port}"),
        ),
    ] {
        let output = run(example("fetch").arg(&url));
        assert_eq!(output.status, Some(0), "{}", output.out);
        let request = told.recv_timeout(WATCHDOG).unwrap();
        assert!(
            request.starts_with(&format!("GET {path} HTTP/1.0\nHost: {host}\n")),
            "{request}"
        );
    }
}

#[test]
fn fetch_connects_to_ipv6_addresses() {
    let Ok(server) = http_server("[::1]:0", |stream, _| reply(stream, b"six")) else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    let url = format!("http://{server}/");
    let output = run(example("fetch").arg(&url));
    assert_eq!(output.status, Some(0), "{}", output.out);
    output.assert_fetched(&url, 3);
}

#[test]
fn fetch_writes_what_it_fetched() {
    let pages: Arc<[Vec<u8>]> = [0, 1, 100, 65_536, 1 << 20]
        .map(|size| {
            let mut bytes = vec![0; size];
            fastrand::Rng::with_seed(size as u64).fill(&mut bytes);
            bytes
        })
        .into();
    let served = pages.clone();
    let server = http_server("127.0.0.1:0", move |mut stream, request| {
        match path(request)[1..].parse::<usize>() {
            Ok(page) if page < served.len() => reply(stream, &served[page]),
            // No length, and more headers than the first guess has room for, in small pieces.
            Ok(page) => {
                stream.set_nodelay(true).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r").unwrap();
                for header in 0..200 {
                    write!(stream, "\nHeader-{header}: {header}\r").unwrap();
                }
                stream.write_all(b"\n\r\n").unwrap();
                stream.write_all(&served[page - served.len()]).unwrap();
            }
            Err(_) => stream
                .write_all(b"HTTP/1.0 404 Not Found\r\n\r\nno such page")
                .unwrap(),
        }
    })
    .unwrap();

    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fetch-{}", std::process::id()));
    let bad = format!("http://{server}:bad/");
    let list = format!("# pages\n\n  {}  \n{bad}\r\n", urls(server, 10).join("\n"));
    let mut fetch = example("fetch");
    fetch.arg(format!("http://{server}/none"));
    fetch
        .args(["--jobs", "3", "--from", "-", "--output"])
        .arg(&dir);
    let output = run_with_input(&mut fetch, &list);
    let file = |number: usize| fs::read(dir.join(number.to_string()));
    let missing = file(1).unwrap();
    let files: Vec<_> = (2..12).map(|number| file(number).unwrap()).collect();
    let failed = file(12);
    fs::remove_dir_all(&dir).unwrap();

    assert_eq!(output.status, Some(1), "{}", output.err);
    assert!(
        output
            .line(&format!("http://{server}/none"))
            .starts_with(" 404          12 bytes")
    );
    assert_eq!(missing, b"no such page");
    for (page, file) in files.iter().enumerate() {
        output.assert_fetched(&format!("http://{server}/{page}"), pages[page % 5].len());
        assert!(
            *file == pages[page % 5],
            "page {page} has other bytes in its file"
        );
    }
    assert!(failed.is_err());
}

#[test]
fn wrong_arguments_get_the_usage_and_status_2() {
    let at_least_1 = "expected a number of at least 1";
    let above_0 = "expected a number of seconds above 0";
    let unknown = "invalid option '--nonsense'";
    let wrong: [(&str, &[&str], &str); 15] = [
        ("fetch", &["--jobs"], "missing argument for option '--jobs'"),
        ("fetch", &["--jobs", "0"], at_least_1),
        ("fetch", &["--jobs", "many"], at_least_1),
        ("fetch", &["--timeout", "0"], above_0),
        ("fetch", &["--timeout", "-1"], above_0),
        ("fetch", &["--timeout", "NaN"], above_0),
        ("fetch", &["--timeout", "soon"], above_0),
        (
            "fetch",
            &["--from", "/no/such/file"],
            "cannot read /no/such/file: ",
        ),
        ("fetch", &["--from", "-"], "there is no URL in -"),
        ("fetch", &["--nonsense"], unknown),
        ("echo_server", &["--nonsense"], unknown),
        (
            "echo_server",
            &["127.0.0.1:0", "127.0.0.1:1"],
            "unexpected argument \"127.0.0.1:1\"",
        ),
        ("echo_client", &["--nonsense"], unknown),
        ("echo_client", &["--size", "0"], at_least_1),
        (
            "echo_client",
            &["--messages"],
            "missing argument for option '--messages'",
        ),
    ];
    for (program, args, why) in wrong {
        let output = run(example(program).args(args));
        assert_eq!(output.status, Some(2), "{program} {args:?}: {}", output.err);
        assert!(
            output.err.starts_with(&format!("{program}: ")) && output.err.contains(why),
            "{}",
            output.err
        );
        assert!(
            output.err.contains(&format!("\n\nusage: {program} ")),
            "{}",
            output.err
        );
        assert_eq!(output.out, "", "{program} {args:?}");
    }
    for program in ["fetch", "echo_server", "echo_client"] {
        let output = run(example(program).arg("--help"));
        assert_eq!(output.status, Some(0));
        assert!(
            output.out.starts_with(&format!("usage: {program} ")),
            "{}",
            output.out
        );
    }
}

#[test]
fn echo_client_checks_what_comes_back() {
    let output = run(example("echo_client").args(["--connections", "3", "--messages", "20"]));
    assert_eq!(output.status, Some(0), "{}", output.err);
    assert!(
        output.out.starts_with("3 connections, 60 messages, "),
        "{}",
        output.out
    );

    let server = Server::start_quiet("echo_server");
    let address = server.address.to_string();
    let output =
        run(example("echo_client").args(["--messages", "5", "--size", "400000", &address]));
    assert_eq!(output.status, Some(0), "{}", output.err);
    let output = run(example("echo_client").args([&address, "Hello World!", "--bye"]));
    assert_eq!(
        (output.status, output.out.as_str()),
        (Some(0), "Hello World!\n--bye\n")
    );
}

#[test]
fn echo_client_notices_an_echo_that_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let answers: [&[u8]; 3] = [b"hella\n", b"hello\n and more", b"hel"];
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 6]).unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    for complaint in [
        "the echo differs from what was sent",
        "the server sent more than the echo",
        "",
    ] {
        let output = run(example("echo_client").args([&address, "hello"]));
        assert_eq!(output.status, Some(1), "{}", output.out);
        let begin = format!("echo_client: {address}: {complaint}");
        assert!(output.err.starts_with(&begin), "{}", output.err);
    }
}

#[test]
fn the_example_event_loop_prints_the_same_results_for_the_same_seed() {
    let run = || {
        let mut child = crate::programs::example("event_loop");
        let child = child.args(["--seed", "7", "--tasks", "10"]);
        child.stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    crate::support::watchdog(move || {
        let outputs = [run(), run()].map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        });
        let results = outputs.each_ref().map(|text| {
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines.len(), 12, "{text}");
            // In the order of the tasks, whatever the order in which they end.
            let results = lines[10].strip_prefix("results: [").unwrap();
            let results: Vec<&str> = results.trim_end_matches(']').split(", ").collect();
            for (index, number) in results.iter().enumerate() {
                let line = format!("task {}: {number} after ", index + 1);
                let ended = lines[..10].iter().filter(|text| text.starts_with(&line));
                assert_eq!(ended.count(), 1, "{text}");
            }
            assert!(
                lines[11].starts_with("the waits of 10 tasks add up to "),
                "{text}"
            );
            results
        });
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0].len(), 10);
    });
}

/// Returns the words of the last command in the report that sets both variables.
#[cfg(feature = "testing")]
fn replay(report: &str) -> Vec<(&str, &str)> {
    let mut lines = report.lines().rev();
    let line = lines.find(|line| line.contains(" SOLOIST_FAULTS="));
    let line = line.unwrap_or_else(|| panic!("{report}"));
    let words = line.split_whitespace();
    words.filter_map(|word| word.split_once('=')).collect()
}

#[test]
#[cfg(feature = "testing")]
fn kv_reads_nothing_stale() {
    // The CI runs 1,000 seeds, in an optimized build.
    let output = run(example("kv").arg("20"));
    assert_eq!(output.status, Some(0), "{}", output.err);
    assert_eq!(output.out, "20 seeds: no read was stale\n");
}

#[test]
#[cfg(feature = "testing")]
fn the_bug_of_kv_is_found_shrunk_and_replayed() {
    let output = run(example("kv").arg("--bug"));
    assert_eq!(output.status, Some(101), "{}", output.err);
    assert!(
        output.err.contains(" writes, and this sees "),
        "{}",
        output.err
    );
    // Only the requests for the lease are lost, from the leader to both of the others.
    let variables = replay(&output.err);
    let [("SOLOIST_SEED", _), ("SOLOIST_FAULTS", faults)] = variables[..] else {
        panic!("{variables:?}");
    };
    let faults: Vec<_> = faults.split(',').collect();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!(faults[0], "fifo");
    assert!(
        faults[1].starts_with("loss/10.0.0.1/10.0.0.2/0/"),
        "{faults:?}"
    );
    assert!(
        faults[2].starts_with("loss/10.0.0.1/10.0.0.3/0/"),
        "{faults:?}"
    );

    let again = run(example("kv").arg("--bug").envs(variables.iter().copied()));
    assert_eq!(again.status, Some(101), "{}", again.err);
    assert!(
        again.err.contains(" writes, and this sees "),
        "{}",
        again.err
    );
    // The store without the bug survives the same faults.
    let fixed = run(example("kv").envs(variables.iter().copied()));
    assert_eq!(fixed.status, Some(0), "{}", fixed.err);
}
