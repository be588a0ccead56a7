//! The example `crawl_workers`: workers crawl one site together, and some are killed or stopped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::programs::{KillOnDrop, example};
use crate::redis_server::connect;
use crate::servers::{self, Server};
use crate::support::watchdog;

const PAGES: usize = 300;

/// A site of 300 pages that records which worker requests a page.
struct Site {
    address: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The workers that have requested each page, in order.
    asked: HashMap<usize, Vec<String>>,
    answered: usize,
    /// Holds the requests of a worker once this many pages have been answered.
    hold: HashMap<String, usize>,
    /// The requests that are held: worker and page.
    held: Vec<(String, usize)>,
}

impl Site {
    fn start() -> Arc<Site> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Arc::new(Site {
            address: listener.local_addr().unwrap(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let there = site.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (site, stream) = (there.clone(), stream.unwrap());
                thread::spawn(move || site.answer(stream));
            }
        });
        site
    }

    fn answer(&self, mut stream: TcpStream) {
        let lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let path = head[0].split(' ').nth(1).unwrap();
        let page: usize = path[1..].parse().unwrap_or(0);
        let agent = "User-Agent: crawl_workers/";
        let worker = head.iter().find_map(|line| line.strip_prefix(agent));
        let worker = worker.unwrap().to_string();

        let mut state = self.state.lock().unwrap();
        state.asked.entry(page).or_default().push(worker.clone());
        let waits = |state: &State| {
            let limit = state.hold.get(&worker);
            limit.is_some_and(|&limit| state.answered >= limit)
        };
        if waits(&state) {
            state.held.push((worker.clone(), page));
        }
        self.changed.notify_all();
        let waiting = self.changed.wait_while(state, |state| waits(state));
        state = waiting.unwrap();
        state.answered += 1;
        drop(state);

        let links = (7 * page + 1..=7 * page + 7).filter(|&next| next < PAGES);
        let links: String = links
            .map(|next| format!("<a href=\"./{next}#top\">{next}</a>"))
            .collect();
        let elsewhere = "<a href=\"http://elsewhere.example/\"></a><a href=\"mailto:a@b\"></a>";
        let body = format!("<a href=\"/\">start</a>{elsewhere}{links}");
        let length = body.len();
        let reply = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        // The worker may have been killed.
        let _ = stream.write_all(reply.as_bytes());
    }

    /// Holds the requests of a worker from that count on, or no longer.
    fn hold(&self, worker: &str, when_answered: Option<usize>) {
        let mut state = self.state.lock().unwrap();
        match when_answered {
            Some(limit) => drop(state.hold.insert(worker.into(), limit)),
            None => drop(state.hold.remove(worker)),
        }
        self.changed.notify_all();
    }

    /// Waits until this many requests of a worker are held, and returns their pages.
    fn wait_for_held(&self, worker: &str, count: usize) -> HashSet<usize> {
        let of = |state: &State| -> HashSet<usize> {
            let held = state.held.iter().filter(|(who, _)| who == worker);
            held.map(|(_, page)| *page).collect()
        };
        let state = self.state.lock().unwrap();
        let few = |state: &mut State| of(state).len() < count;
        of(&self.changed.wait_while(state, few).unwrap())
    }
}

fn worker(name: &str, redis: &Server, site: &Site) -> Command {
    let mut worker = example("crawl_workers");
    worker
        .args(["--crawl", "test", "--worker", name, "--lease", "1"])
        .args(["--redis", &redis.address.to_string()])
        .arg(format!("http://{}/", site.address));
    worker
}

/// Waits for the workers to exit with success, and returns their output.
#[track_caller]
fn finish(workers: Vec<KillOnDrop>) -> String {
    let mut all = String::new();
    for mut worker in workers {
        let out = worker.0.stdout.take().unwrap();
        all += &std::io::read_to_string(out).unwrap();
        let status = worker.0.wait().unwrap();
        assert!(status.success(), "{status}: {all}");
    }
    all
}

#[track_caller]
fn assert_all_is_done(redis: &Server, site: &Site) {
    let mut redis = connect(redis);
    let done: BTreeMap<String, String> = redis::cmd("HGETALL")
        .arg("crawl:test:done")
        .query(&mut redis)
        .unwrap();
    assert_eq!(done.len(), PAGES);
    for page in 0..PAGES {
        let path = if page == 0 {
            String::new()
        } else {
            page.to_string()
        };
        let outcome = &done[&format!("http://{}/{path}", site.address)];
        assert!(outcome.starts_with("200 "), "{page}: {outcome}");
    }
    // Redis removes empty lists.
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
    keys.retain(|key| !key.contains(":alive:"));
    keys.sort();
    let rest = ["crawl:test:done", "crawl:test:seen", "crawl:test:workers"];
    assert_eq!(keys, rest);
}

#[test]
fn a_killed_worker_loses_no_page() {
    watchdog(|| {
        let redis = servers::redis();
        let site = Site::start();
        // The victim is held first, with four pages. The others are held until it has been killed.
        site.hold("victim", Some(100));
        site.hold("ann", Some(150));
        site.hold("bob", Some(150));
        let start = |name: &str| KillOnDrop(worker(name, &redis, &site).spawn().unwrap());
        let (ann, bob, mut victim) = (start("ann"), start("bob"), start("victim"));

        let taken = site.wait_for_held("victim", 4);
        site.wait_for_held("ann", 4);
        site.wait_for_held("bob", 4);
        // SIGKILL.
        victim.0.kill().unwrap();
        victim.0.wait().unwrap();
        site.hold("ann", None);
        site.hold("bob", None);

        let out = finish(vec![ann, bob]);
        assert!(out.contains("recovered "), "{out}");
        assert_all_is_done(&redis, &site);
        let state = site.state.lock().unwrap();
        for page in taken {
            let asked = &state.asked[&page];
            assert!(asked.iter().any(|who| who != "victim"), "{page}: {asked:?}");
        }
    });
}

/// Other workers have crawled the pages of a slow worker before it continues.
#[test]
fn a_worker_that_was_stopped_does_no_harm_later() {
    watchdog(|| {
        let redis = servers::redis();
        let site = Site::start();
        site.hold("late", Some(50));
        site.hold("ann", Some(100));
        let start = |name: &str| KillOnDrop(worker(name, &redis, &site).spawn().unwrap());
        let (ann, late) = (start("ann"), start("late"));
        let taken = site.wait_for_held("late", 4);
        site.wait_for_held("ann", 4);
        let signal = |name: &str| {
            let pid = late.0.id().to_string();
            let kill = Command::new("kill").args([name, &pid]).status();
            assert!(kill.unwrap().success());
        };
        signal("-STOP");
        site.hold("ann", None);
        // Waits until the other worker has requested its pages.
        let state = site.state.lock().unwrap();
        let missing = |state: &mut State| {
            let by_ann = |page| state.asked[page].iter().any(|who| who == "ann");
            !taken.iter().all(by_ann)
        };
        drop(site.changed.wait_while(state, missing).unwrap());
        site.hold("late", None);
        signal("-CONT");
        finish(vec![ann, late]);
        assert_all_is_done(&redis, &site);
    });
}

#[test]
fn pages_that_cannot_be_fetched_are_retried_and_then_reported() {
    watchdog(|| {
        let redis = servers::redis();
        let unused = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let output = example("crawl_workers")
            .args(["--redis", &redis.address.to_string()])
            .arg(format!("http://{address}/"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(out.matches("fail http://").count(), 3, "{out}");
        assert!(out.ends_with("crawled 0 of 1 pages; 1 failed\n"), "{out}");
    });
}

#[test]
fn without_a_url_the_built_in_site_is_crawled() {
    watchdog(|| {
        let redis = servers::redis();
        let start = || {
            let mut worker = example("crawl_workers");
            worker.args(["--redis", &redis.address.to_string(), "--jobs", "50"]);
            KillOnDrop(worker.spawn().unwrap())
        };
        let out = finish(vec![start(), start()]);
        let pages = out.lines().filter(|line| line.starts_with("200 ")).count();
        assert_eq!(pages, 300, "{out}");
        assert_eq!(out.matches("of 300 pages; 0 failed").count(), 2, "{out}");
    });
}

#[test]
fn without_redis_there_is_an_error() {
    watchdog(|| {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let output = example("crawl_workers")
            .args(["--redis", &address.to_string()])
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(
            err.contains(&format!("cannot connect to Redis at {address}")),
            "{err}"
        );
    });
}
