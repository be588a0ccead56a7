//! The examples `ten_pages` and `await_cost`: that they work, not how fast they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::programs::{Output, example, run};
use crate::support::*;

const WAYS: [&str; 7] = [
    "blocking",
    "processes",
    "threads",
    "nonblocking",
    "callbacks",
    "promises",
    "tasks",
];

fn ten_pages(args: &str) -> Output {
    run(example("ten_pages").args(args.split_whitespace()))
}

struct Row {
    number: usize,
    way: String,
    threads: usize,
    processes: usize,
    ratio: String,
}

/// The rows of the table; there was no error.
#[track_caller]
fn rows(output: &Output) -> Vec<Row> {
    assert_eq!((output.status, output.err.as_str()), (Some(0), ""));
    let lines = output.out.lines().skip_while(|line| !line.contains("wall"));
    let rows = lines.skip(1).take_while(|line| !line.is_empty());
    rows.map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [number, way, _, "s", .., threads, processes, ratio] = words[..] else {
            panic!("what is this? {line}");
        };
        Row {
            number: number.parse().unwrap(),
            way: way.to_string(),
            threads: threads.parse().unwrap(),
            processes: processes.parse().unwrap(),
            ratio: ratio.to_string(),
        }
    })
    .collect()
}

#[test]
fn every_way_gets_all_pages() {
    watchdog(|| {
        let output = ten_pages("--delay 10");
        let rows = rows(&output);
        let names: Vec<_> = rows.iter().map(|row| row.way.as_str()).collect();
        assert_eq!(names, WAYS);
        for (number, row) in (1..).zip(&rows) {
            assert_eq!(row.number, number);
            row.ratio.parse::<f64>().unwrap();
        }
        assert_eq!(rows[0].ratio, "1.00");
        let used: Vec<_> = rows
            .iter()
            .map(|row| (row.threads, row.processes))
            .collect();
        let alone = (1, 1);
        let wanted = [alone, (1, 11), (11, 1), alone, alone, alone, alone];
        assert_eq!(used, wanted, "{}", output.out);
        #[cfg(unix)]
        assert!(
            output.out.contains("\ntasks computed for "),
            "{}",
            output.out
        );
    });
}

#[test]
fn every_way_gets_many_pages_with_few_workers() {
    watchdog(|| {
        let output = ten_pages("--delay 1 --pages 50 --workers 3");
        let rows = rows(&output);
        assert_eq!(rows.len(), WAYS.len(), "{}", output.out);
        assert_eq!(rows[1].processes, 51);
        assert_eq!(rows[2].threads, 4);
    });
}

#[test]
fn a_thousand_pages_at_once() {
    watchdog(|| {
        let ways = "threads,callbacks,promises,tasks";
        let args = format!("--delay 1 --pages 1000 --workers 1000 --ways {ways}");
        let rows = rows(&ten_pages(&args));
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0].threads, 1001);
    });
}

#[test]
fn picked_ways_come_in_their_order() {
    watchdog(|| {
        let rows = rows(&ten_pages("--delay 0 --ways tasks,callbacks"));
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.number, row.way.as_str(), row.ratio.as_str()))
            .collect();
        assert_eq!(rows, [(5, "callbacks", "-"), (7, "tasks", "-")]);
    });
}

/// More sockets than the soft limit allows; the hard one does.
#[cfg(unix)]
#[test]
fn a_low_soft_limit_of_open_files_is_raised() {
    watchdog(|| {
        let program = example("ten_pages").get_program().to_owned();
        let output = run(Command::new("sh")
            .args(["-c", "ulimit -Sn 50; exec \"$0\" \"$@\""])
            .arg(program)
            .args("--delay 1 --pages 200 --ways callbacks,promises,tasks".split(' '))
            .stdin(Stdio::null()));
        assert_eq!(rows(&output).len(), 3);
    });
}

/// The others go on, and there is a sentence about it.
#[cfg(unix)]
#[test]
fn a_way_that_fails_says_so() {
    watchdog(|| {
        let program = example("ten_pages").get_program().to_owned();
        let output = run(Command::new("sh")
            .args(["-c", "ulimit -n 50; exec \"$0\" \"$@\""])
            .arg(program)
            .args("--delay 1 --pages 200 --ways blocking,callbacks".split(' '))
            .stdin(Stdio::null()));
        assert_eq!(output.status, Some(1));
        let find = |start| output.out.lines().find(|line| line.starts_with(start));
        assert!(find("1 blocking ").is_some_and(|line| line.ends_with(" 1.00")));
        assert!(find("5 callbacks ").is_some_and(|line| line.contains("failed: ")));
        assert!(
            output.err.contains("allows 50 (`ulimit -n`)"),
            "{}",
            output.err
        );
        assert!(output.err.contains("1 way failed"), "{}", output.err);
    });
}

#[test]
fn ten_pages_refuses_bad_arguments() {
    watchdog(|| {
        for (args, why) in [
            ("--ways tasks,goroutines", "there is no way \"goroutines\""),
            ("--ways", "missing argument for option '--ways'"),
            ("--pages 0", "\"0\": expected a number of at least 1"),
            ("--workers -1", "\"-1\": expected a number of at least 1"),
            (
                "--delay soon",
                "\"soon\": expected a number of milliseconds",
            ),
            ("--fast", "invalid option '--fast'"),
            ("10", "unexpected argument \"10\""),
            ("worker here 1", "cannot parse argument \"here\""),
        ] {
            let output = ten_pages(args);
            assert_eq!(
                (output.status, output.out.as_str()),
                (Some(2), ""),
                "{args}"
            );
            assert!(output.err.contains(why), "{args}: {}", output.err);
            assert!(output.err.contains("usage: ten_pages"), "{args}");
        }
        let help = ten_pages("--help");
        assert_eq!(help.status, Some(0));
        assert!(help.out.starts_with("usage: ten_pages"));
    });
}

#[test]
fn the_server_serves_until_its_input_ends() {
    watchdog(|| {
        let mut server = example("ten_pages")
            .args(["serve", "1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut out = BufReader::new(server.stdout.take().unwrap());
        out.read_line(&mut address).unwrap();
        let address: SocketAddr = address.trim_end().parse().unwrap();
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            response
        };

        let page = ask("GET /3 HTTP/1.0\r\n\r\n");
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        let length = format!("HTTP/1.0 200 OK\r\nContent-Length: {}", body.len());
        assert_eq!(head, length);
        assert_ne!(page, ask("GET / HTTP/1.0\r\n\r\n"));
        assert!(ask("GET /ten HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404 "));
        // A worker's pipe has the page as it came.
        let worker = ten_pages(&format!("worker {address} 3"));
        assert_eq!((worker.status, worker.out), (Some(0), page));

        drop(server.stdin.take());
        assert!(server.wait().unwrap().success());
    });
}

#[test]
fn a_worker_without_a_server_says_so() {
    watchdog(|| {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let worker = ten_pages(&format!("worker {address} 3"));
        assert_eq!((worker.status, worker.out.as_str()), (Some(1), ""));
        assert!(worker.err.starts_with("ten_pages: cannot fetch /3: "));
    });
}

#[test]
fn await_cost_prints_its_medians() {
    watchdog(|| {
        let args = "--calls 100 --largest 20 --rounds 2";
        let output = run(example("await_cost").args(args.split(' ')));
        assert_eq!((output.status, output.err.as_str()), (Some(0), ""));
        assert!(output.out.starts_with("100 calls, medians of 2 rounds\n"));
        for way in ["plain", "awaited", "spawned"] {
            let rows = output.out.lines().map(str::trim_start);
            let rows = rows.filter(|line| line.starts_with(way) && line.contains(" ns per call"));
            assert_eq!(rows.count(), 2, "{way}: {}", output.out);
        }
        assert!(output.out.contains("\nSpawning adds "), "{}", output.out);
    });
}

#[test]
fn await_cost_refuses_bad_arguments() {
    watchdog(|| {
        for args in ["--calls 0", "--rounds", "--largest big", "--fast", "10"] {
            let output = run(example("await_cost").args(args.split(' ')));
            assert_eq!(output.status, Some(2), "{args}");
            assert!(output.err.contains("usage: await_cost"), "{args}");
        }
    });
}
