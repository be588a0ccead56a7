//! Simulated worlds under many seeds: which faults happen, how a failure is shrunk, and how it is
//! replayed.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::process::Command;

use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream, UdpSocket};
use soloist::testing::{self, Link, World};
use soloist::time;

use crate::support::*;

async fn echo() -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:7").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(async move { soloist::io::copy(&stream, &stream).await }).detach();
    }
}

/// Sends 1,000 bytes and reads them back.
async fn ask() -> io::Result<()> {
    let stream = TcpStream::connect("server:7").await?;
    let (mut read, mut write) = stream.into_split();
    let sent = spawn(async move { write.write_all(&[7; 1000]).await });
    let mut buf = vec![0; 1000];
    read.read_exact(&mut buf).await?;
    assert_eq!(buf, [7; 1000]);
    sent.await
}

/// Two clients talk to a server. Returns the transcript.
async fn echo_protocol(world: World) -> io::Result<String> {
    let link = Link::new().latency(10 * MS).jitter(10 * MS).loss(0.1);
    world.set_default(link.partial(true));
    world.host("server").spawn(echo()).detach();
    sleep(MS).await;
    let clients = ["one", "two"].map(|name| world.host(name).spawn(ask()));
    for client in clients {
        client.await?;
    }
    Ok(world.transcript())
}

fn transcripts(seeds: std::ops::Range<u64>) -> Vec<String> {
    let transcripts: RefCell<Vec<String>> = RefCell::default();
    testing::simulate(seeds, async |world| {
        let transcript = echo_protocol(world).await?;
        transcripts.borrow_mut().push(transcript);
        Ok::<(), io::Error>(())
    });
    transcripts.into_inner()
}

#[test]
fn a_thousand_seeds_have_the_same_transcripts_when_they_are_run_again() {
    watchdog(|| {
        let first = transcripts(0..1000);
        assert_eq!(first.len(), 1000);
        assert!(first == transcripts(0..1000));
        // No two seeds are the same.
        let different: BTreeSet<&String> = first.iter().collect();
        assert_eq!(different.len(), 1000);
        for text in first {
            assert!(
                text.contains("server:7") && text.contains(" lost"),
                "{text}"
            );
        }
    });
}

#[test]
fn simulate_returns_its_counts_and_sets_the_seed() {
    watchdog(|| {
        let seeds = Log::new();
        let explored = testing::simulate([3, 5, 8], |world| async move {
            seeds.push((world.seed(), testing::seed()));
            time::sleep(HOUR).await;
        });
        assert_eq!(seeds.take(), [(3, 3), (5, 5), (8, 8)]);
        assert_eq!((explored.seeds, explored.schedules), (3, 1));
    });
}

#[test]
fn a_handle_does_not_hold_the_clock_of_a_world() {
    watchdog(|| {
        testing::simulate([1], |world| async move {
            let start = time::now();
            let task = world.host("host").spawn(async {
                let handle = Handle::current();
                sleep(1000 * HOUR).await;
                handle.spawn(|| async { time::now() }).await.unwrap()
            });
            assert_eq!(task.await - start, 1000 * HOUR);
        });
    });
}

#[test]
fn an_error_fails_a_world() {
    watchdog(|| {
        let text = panic_of(|| testing::simulate(0..9, async |_| Err::<(), _>("no luck")));
        assert_eq!(text, "the test returned an error: \"no luck\"");
    });
}

/// The example, which is written for the system's network.
#[allow(dead_code)]
#[path = "../../examples/echo_server.rs"]
mod echo_server;

/// The example, likewise.
#[allow(dead_code)]
#[path = "../../examples/fetch.rs"]
mod fetch;

#[test]
fn the_example_echo_server_runs_in_a_world_as_it_is() {
    watchdog(|| {
        testing::simulate(0..20, |world| async move {
            let link = Link::new().latency(10 * MS).jitter(10 * MS).loss(0.1);
            world.set_default(link.partial(true));
            let server = world.host("server");
            let serve = || {
                let serve = server.spawn(echo_server::serve("0.0.0.0:7", true));
                serve.detach();
            };
            serve();
            sleep(MS).await;
            let [one, two] = ["one", "two"].map(|name| world.host(name));
            let asked = [one.spawn(ask()), two.spawn(ask())];
            for asked in asked {
                asked.await?;
            }
            // The next connection is cut by a crash, and the one after it is not.
            let interrupted = one.spawn(async {
                let mut stream = TcpStream::connect("server:7").await?;
                stream.read(&mut [0]).await
            });
            sleep(5 * SECOND).await;
            server.crash();
            let error = interrupted.await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            serve();
            sleep(MS).await;
            two.spawn(ask()).await
        });
    });
}

#[test]
fn the_example_fetch_runs_in_a_world_as_it_is() {
    watchdog(|| {
        testing::simulate(0..20, |world| async move {
            let link = Link::new().latency(10 * MS).jitter(10 * MS).loss(0.1);
            world.set_default(link.partial(true));
            let serve = world.host("server.example").spawn(async {
                let listener = TcpListener::bind("0.0.0.0:8080").await?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    spawn(fetch::answer(stream)).detach();
                }
                #[allow(unreachable_code)]
                Ok::<(), io::Error>(())
            });
            serve.detach();
            sleep(MS).await;
            let client = world.host("client");
            let pages = ["/", "/one", "/two"].map(|path| {
                let url = format!("http://server.example:8080{path}");
                client.spawn(async move { fetch::fetch(&url, None).await })
            });
            for (page, path) in pages.into_iter().zip(["/", "/one", "/two"]) {
                let body = format!("<!doctype html><title>{path}</title><p>This is {path}.</p>\n");
                assert_eq!(page.await?, (200, body.len() as u64));
            }
            let unknown = client.spawn(fetch::fetch("http://nowhere.example/", None));
            assert!(unknown.await.is_err());
            let refused = client.spawn(fetch::fetch("http://server.example/", None));
            assert!(refused.await.unwrap_err().contains("refused"));
            Ok::<(), String>(())
        });
    });
}

/// Sends 40 datagrams from host 1 to host 2, and returns which of them have arrived, with the time
/// that they took.
async fn forty_datagrams(world: World, link: Link) -> Vec<(usize, Duration)> {
    let [from, to] = ["from", "to"].map(|name| world.host(name));
    world.link(&from, &to).set(link);
    let received = to.spawn(async {
        let socket = UdpSocket::bind("0.0.0.0:9").await.unwrap();
        let mut received = Vec::new();
        let mut buf = [0; 64];
        while let Ok(len) = time::timeout(SECOND, socket.recv(&mut buf)).await {
            received.push((len.unwrap(), time::now()));
        }
        received
    });
    sleep(MS).await;
    let sent = from.spawn(async {
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let mut sent = vec![time::now()];
        for len in 1..=40 {
            sent.push(time::now());
            socket.send_to(&[0; 64][..len], "to:9").await.unwrap();
            sleep(20 * MS).await;
        }
        sent
    });
    let sent = sent.await;
    let received = received.await.into_iter();
    received.map(|(len, at)| (len, at - sent[len])).collect()
}

/// Not a test of its own: other tests run it in child processes.
#[test]
#[ignore = "another test runs it in a child process"]
fn prints_what_has_arrived() {
    testing::simulate(0..1, |world| async move {
        let arrived = forty_datagrams(world, Link::new().loss(0.3)).await;
        let arrived: Vec<_> = arrived.into_iter().map(|(len, _)| len).collect();
        println!("arrived: {arrived:?}");
    });
}

/// As above: fails if the datagrams 7 and 30 are lost.
#[test]
#[ignore = "it fails: another test runs it in a child process"]
fn fails_without_two_datagrams() {
    testing::simulate(0..1000, |world| async move {
        println!("a run");
        let link = Link::new().latency(MS).jitter(MS).loss(0.5);
        let arrived = forty_datagrams(world, link).await;
        let has = |len| arrived.iter().any(|(arrived, _)| *arrived == len);
        assert!(has(7) || has(30), "both are lost");
    });
}

/// As above: fails if datagram 12 takes more than 2 ms.
#[test]
#[ignore = "it fails: another test runs it in a child process"]
fn fails_with_a_slow_datagram() {
    testing::simulate(0..1000, |world| async move {
        let link = Link::new().jitter(16 * MS).loss(0.1);
        let arrived = forty_datagrams(world, link).await;
        let time = arrived.iter().find(|(len, _)| *len == 12);
        let time = time.map_or(Duration::ZERO, |(_, time)| *time);
        assert!(time <= 2 * MS, "it takes {} us", time.as_micros());
    });
}

/// As above: the second task must run first, which it only does in some orders.
#[test]
#[ignore = "it fails: another test runs it in a child process"]
fn fails_in_some_orders() {
    testing::simulate(0..1000, |world| async move {
        let host = world.host("host");
        let log = Log::new();
        let tasks = [1, 2].map(|n| host.spawn(async move { log.push(n) }));
        join_all(tasks).await;
        assert_eq!(log.take(), [1, 2], "seed {}", testing::seed());
    });
}

/// As above: each run of a process sends one byte more than the last one.
#[test]
#[ignore = "it fails: another test runs it in a child process"]
fn fails_with_another_length_in_each_run() {
    static RUNS: AtomicUsize = AtomicUsize::new(1);
    testing::simulate(0..10, |world| async move {
        let host = world.host("host");
        let send = host.spawn(async {
            let socket = UdpSocket::bind("0.0.0.0:1000").await?;
            socket.send_to(b"the same", "host:9").await?;
            let len = RUNS.fetch_add(1, Ordering::Relaxed);
            socket.send_to(&[0; 64][..len], "host:9").await
        });
        send.await.unwrap();
        Err::<(), _>("as always")
    });
}

/// As above: the order of the polls depends on the order of a map.
#[test]
#[ignore = "it fails: another test runs it in a child process"]
fn fails_in_the_order_of_a_map() {
    testing::simulate(0..10, async |_| {
        let map: HashMap<u32, ()> = (0..100).map(|n| (n, ())).collect();
        let tasks = map.into_keys().map(|n| {
            spawn(async move {
                for _ in 0..n {
                    yield_now().await;
                }
            })
        });
        join_all(tasks.collect::<Vec<_>>()).await;
        Err::<(), _>("as always")
    });
}

/// As above: a task panics after two datagrams, but is only awaited after the fourth one.
#[test]
#[ignore = "it fails: another test runs it in a child process"]
fn fails_before_it_is_awaited() {
    testing::simulate(0..10, |world| async move {
        let host = world.host("host");
        let send = host.spawn(async {
            let socket = UdpSocket::bind("0.0.0.0:1000").await.unwrap();
            for len in 1..5 {
                sleep(SECOND).await;
                socket.send_to(&[0; 9][..len], "host:9").await.unwrap();
            }
        });
        let panics = host.spawn(async {
            sleep(2 * SECOND + MS).await;
            panic!("in between");
        });
        send.await;
        panics.await;
    });
}

struct Child {
    passes: bool,
    out: String,
    err: String,
}

fn child(test: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("simulate::{test}"), "--exact"]);
    command.args(["--include-ignored", "--nocapture"]);
    // A backtrace of a panic that is expected takes longer than the test.
    command.env("RUST_BACKTRACE", "0");
    for variable in ["SOLOIST_SEED", "SOLOIST_FAULTS", "SOLOIST_TRACE"] {
        command.env_remove(variable);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    Child {
        passes: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Returns the seed and the faults of the command that the report prints.
fn replayed(child: &Child, test: &str) -> (String, String) {
    let mut lines = child.err.lines().rev();
    let line = lines.find(|line| line.starts_with("    SOLOIST_SEED=") && line.contains("FAULTS"));
    let line = line.unwrap_or_else(|| panic!("{}", child.err));
    let words: Vec<_> = line.trim().splitn(3, ' ').collect();
    let [seed, faults, command] = words[..] else {
        panic!("{line}");
    };
    assert_eq!(
        command,
        format!("cargo test simulate::{test} -- --exact"),
        "{line}"
    );
    (
        seed.strip_prefix("SOLOIST_SEED=").unwrap().into(),
        faults.strip_prefix("SOLOIST_FAULTS=").unwrap().into(),
    )
}

fn loss(datagram: usize) -> String {
    format!("loss/10.0.0.1/10.0.0.2/0/{datagram}")
}

#[test]
fn a_fault_that_is_left_out_leaves_the_others_as_they_were() {
    let test = "prints_what_has_arrived";
    let arrived = |variables: &[(&str, &str)]| {
        let out = child(test, variables).out;
        let line = out.lines().find_map(|line| line.split_once("arrived: "));
        line.unwrap_or_else(|| panic!("{out}")).1.to_string()
    };
    let all = arrived(&[("SOLOIST_SEED", "5")]);
    let has = |datagram: &usize| {
        let mut numbers = all.trim_matches(['[', ']']).split(", ");
        numbers.any(|number| number == datagram.to_string())
    };
    let lost: Vec<usize> = (1..=40).filter(|datagram| !has(datagram)).collect();
    assert!((5..20).contains(&lost.len()), "{all}");
    for left_out in &lost {
        let others = lost.iter().filter(|datagram| *datagram != left_out);
        let others: Vec<_> = others.map(|datagram| loss(*datagram)).collect();
        let faults = format!("shuffled,{}", others.join(","));
        let now = arrived(&[("SOLOIST_SEED", "5"), ("SOLOIST_FAULTS", &faults)]);
        let expected: Vec<_> = (1..=40).filter(|n| has(n) || n == left_out).collect();
        assert_eq!(now, format!("{expected:?}"));
    }
}

#[test]
fn a_failure_is_shrunk_to_the_faults_that_it_needs() {
    let test = "fails_without_two_datagrams";
    let failed = child(test, &[]);
    assert!(!failed.passes);
    let (seed, faults) = replayed(&failed, test);
    assert_eq!(faults, format!("fifo,{},{}", loss(7), loss(30)));
    let err = &failed.err;
    assert!(
        err.contains(&format!("seed {seed} fails with 2 of its ")),
        "{err}"
    );
    // The first run and the last one print the panic.
    assert_eq!(err.matches("both are lost").count(), 2, "{err}");
    let lost = err.lines().filter(|line| line.contains(" lost "));
    let lost: Vec<_> = lost.map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(lost, ["7", "30"], "{err}");

    let again = child(
        test,
        &[("SOLOIST_SEED", &seed), ("SOLOIST_FAULTS", &faults)],
    );
    assert!(!again.passes);
    assert!(again.err.contains("both are lost"), "{}", again.err);
    assert_eq!(again.out.matches("a run").count(), 1);
    // It is the same run as the last one.
    let transcript = |err: &str| {
        let lines = err.lines().filter(|line| line.starts_with("0."));
        lines.map(String::from).collect::<Vec<_>>()
    };
    assert!(!transcript(err).is_empty());
    assert_eq!(transcript(err), transcript(&again.err));

    for needed in [7, 30] {
        let faults = format!("fifo,{}", loss(needed));
        let again = child(
            test,
            &[("SOLOIST_SEED", &seed), ("SOLOIST_FAULTS", &faults)],
        );
        assert!(again.passes, "{}", again.err);
    }
}

#[test]
fn a_jitter_is_shrunk_to_less_than_twice_of_what_is_needed() {
    let test = "fails_with_a_slow_datagram";
    let failed = child(test, &[]);
    let (seed, faults) = replayed(&failed, test);
    assert!(
        faults.starts_with("fifo,jitter/10.0.0.1/10.0.0.2/0/12"),
        "{faults}"
    );
    assert!(!faults["fifo,".len()..].contains(','), "{faults}");
    let again = child(
        test,
        &[("SOLOIST_SEED", &seed), ("SOLOIST_FAULTS", &faults)],
    );
    let time = again.err.split_once("it takes ").unwrap().1;
    let time: u64 = time.split(' ').next().unwrap().parse().unwrap();
    assert!((2000..=4000).contains(&time), "{time}");
}

#[test]
fn a_failure_that_needs_another_order_keeps_it() {
    let test = "fails_in_some_orders";
    let failed = child(test, &[]);
    let (seed, faults) = replayed(&failed, test);
    assert_eq!(faults, "shuffled");
    let err = &failed.err;
    assert!(
        err.contains(&format!("seed {seed} fails with 0 of its 0 faults (")),
        "{err}"
    );
    let again = child(
        test,
        &[("SOLOIST_SEED", &seed), ("SOLOIST_FAULTS", &faults)],
    );
    assert!(
        again.err.contains(&format!("seed {seed}\n")),
        "{}",
        again.err
    );
    let fifo = child(test, &[("SOLOIST_SEED", &seed), ("SOLOIST_FAULTS", "fifo")]);
    assert!(fifo.passes, "{}", fifo.err);
}

#[test]
fn the_transcript_of_a_report_ends_at_the_panic() {
    let failed = child("fails_before_it_is_awaited", &[]);
    let transcript = "1.000000000 host:1000 > host:9 datagram 1\n\
                      2.000000000 host:1000 > host:9 datagram 2\n\
                      (2 events after the panic)\n";
    assert!(failed.err.contains(transcript), "{}", failed.err);
}

#[test]
fn the_first_difference_of_two_runs_is_reported_and_nothing_is_shrunk() {
    let failed = child("fails_with_another_length_in_each_run", &[]);
    let err = &failed.err;
    assert!(!failed.passes);
    assert!(err.contains("two runs of seed 0 differ"), "{err}");
    assert!(
        err.contains("The first event that differs is number 2"),
        "{err}"
    );
    let line = "    0.000000000 host:1000 > host:9 datagram";
    assert!(err.contains(&format!("{line} 1\n{line} 2\n")), "{err}");
    assert!(err.contains("the order of a `HashMap`"), "{err}");
    assert!(!err.contains("SOLOIST_FAULTS"), "{err}");
}

#[test]
fn two_runs_that_differ_only_in_their_polls_are_reported() {
    let failed = child("fails_in_the_order_of_a_map", &[]);
    let err = &failed.err;
    assert!(!failed.passes);
    assert!(err.contains("two runs of seed 0 differ"), "{err}");
    assert!(err.contains("have run in different orders"), "{err}");
}

#[test]
fn variables_that_cannot_be_used_are_refused() {
    let test = "prints_what_has_arrived";
    let without_seed = child(test, &[("SOLOIST_FAULTS", "fifo")]);
    assert!(!without_seed.passes);
    assert!(
        without_seed
            .err
            .contains("`SOLOIST_FAULTS` is only used with"),
        "{}",
        without_seed.err
    );
    for faults in [
        "",
        "lifo",
        "fifo,loss",
        "fifo,theft/10.0.0.1/10.0.0.2/0/1",
        "fifo,loss/10.0.0.1/here/0/1",
        "fifo,loss/10.0.0.1/10.0.0.2/0/1/0/0",
    ] {
        let refused = child(test, &[("SOLOIST_SEED", "5"), ("SOLOIST_FAULTS", faults)]);
        assert!(!refused.passes, "{faults}");
        assert!(
            refused.err.contains("is no list of faults"),
            "{}",
            refused.err
        );
    }
}

#[test]
#[cfg(feature = "trace")]
fn the_last_run_is_drawn() {
    let name = format!("simulate-{}.html", std::process::id());
    let page = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let page = page.to_str().unwrap();
    let failed = child("fails_without_two_datagrams", &[("SOLOIST_TRACE", page)]);
    assert!(
        failed.err.contains("shows the tasks of this run"),
        "{}",
        failed.err
    );
    let text = std::fs::read_to_string(page).unwrap();
    std::fs::remove_file(page).unwrap();
    // The tasks of one run, and not of all.
    assert_eq!(text.matches("tests/it/simulate.rs").count(), 2);
}
