//! A replicated key-value store, and its test in a simulated world.
//!
//! Three replicas keep the log of all writes. One of them is the leader: a majority has promised
//! not to follow another leader until its lease ends. So the leader answers reads by itself. It
//! answers a write as soon as a majority has stored it. A client retries until a leader answers.
//!
//! The test runs 1,000 seeds, each with other delays, lost datagrams and crashes. With --bug, the
//! lease of a leader starts when the promises arrive, and not when it has asked for them. So it may
//! still answer reads while there is already another leader.
//!
//! cargo run --release --example kv --features testing
//! cargo run --release --example kv --features testing -- --bug

use soloist::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use soloist::net::{TcpListener, TcpStream, UdpSocket};
use soloist::testing::{self, Link};
use soloist::time::{self, sleep, sleep_until, timeout};
use soloist::{future, spawn};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

const REPLICAS: [&str; 3] = ["a", "b", "c"];
const LEASE: Duration = Duration::from_millis(1000);
const RENEW: Duration = Duration::from_millis(600);

/// The term of the leader that has sent the log, and the writes: `REQUEST KEY VALUE`. The later one
/// of two logs is greater.
type Log = (u64, Vec<String>);

/// Parses `KIND TERM WRITE,WRITE,...`.
fn parse(message: &[u8]) -> Option<(&str, Log)> {
    let mut words = std::str::from_utf8(message).ok()?.splitn(3, ' ');
    let (kind, term) = (words.next()?, words.next()?.parse().ok()?);
    let writes = words.next()?.split_terminator(',').map(String::from);
    Some((kind, (term, writes.collect())))
}

fn message(kind: &str, log: &Log) -> String {
    format!("{kind} {} {}", log.0, log.1.join(","))
}

/// What a replica has written to its disk.
struct Disk {
    /// The term that it follows, and until when it follows no later one.
    promised: u64,
    until: Instant,
    log: Log,
}

impl Disk {
    /// Returns its log if it follows the sender.
    fn answer(&mut self, kind: &str, log: Log) -> Option<String> {
        let (now, term) = (time::now(), log.0);
        let is_promised = term == self.promised;
        match kind {
            "lease" if is_promised || term > self.promised && now >= self.until => {
                self.until = now + LEASE;
            }
            // Datagrams may arrive in another order.
            "store" if term >= self.promised && log >= self.log => self.log = log,
            _ => return None,
        }
        self.promised = term;
        Some(message("ok", &self.log))
    }
}

struct Leader {
    until: Instant,
    /// What a majority has stored.
    log: Log,
    is_writing: bool,
}

struct Replica {
    id: u64,
    has_bug: bool,
    disk: Rc<RefCell<Disk>>,
    leader: RefCell<Option<Leader>>,
}

impl Replica {
    async fn start(id: usize, has_bug: bool, disk: Rc<RefCell<Disk>>) -> io::Result<()> {
        let replica = Rc::new(Replica {
            id: id as u64,
            has_bug,
            disk,
            leader: RefCell::default(),
        });
        let listener = TcpListener::bind("0.0.0.0:80").await?;
        let serve = async {
            loop {
                let (stream, _) = listener.accept().await?;
                let replica = replica.clone();
                spawn(async move { replica.serve(stream).await }).detach();
            }
        };
        future::or(serve, future::or(replica.receive(), replica.lead())).await
    }

    /// Answers the questions of the others.
    async fn receive(&self) -> io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:7000").await?;
        let mut buf = [0; 8192];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await?;
            let question = parse(&buf[..len]);
            let answer = question.and_then(|(kind, log)| self.disk.borrow_mut().answer(kind, log));
            if let Some(answer) = answer {
                socket.send_to(answer.as_bytes(), from).await?;
            }
        }
    }

    /// Asks all replicas, itself included. Returns the logs of a majority.
    async fn ask(&self, question: String) -> Option<Vec<Log>> {
        // Answers to an earlier question do not arrive at this socket.
        let socket = UdpSocket::bind("0.0.0.0:0").await.ok()?;
        for replica in REPLICAS {
            let sent = socket.send_to(question.as_bytes(), (replica, 7000)).await;
            sent.ok()?;
        }
        let mut answers = BTreeMap::new();
        let mut buf = [0; 8192];
        let majority = async {
            while answers.len() <= REPLICAS.len() / 2 {
                let (len, from) = socket.recv_from(&mut buf).await.ok()?;
                answers.insert(from, parse(&buf[..len])?.1);
            }
            Some(())
        };
        timeout(LEASE / 2, majority).await.ok()??;
        Some(answers.into_values().collect())
    }

    /// Asks for the lease. Returns its end, and the logs of a majority.
    async fn lease(&self, term: u64) -> Option<(Instant, Vec<Log>)> {
        let asked = time::now();
        let logs = self.ask(format!("lease {term} ")).await?;
        let start = if self.has_bug { time::now() } else { asked };
        Some((start + LEASE, logs))
    }

    /// Becomes the leader when there is no other, again and again.
    async fn lead(&self) -> io::Result<()> {
        let mut random = fastrand::Rng::with_seed(testing::seed() ^ self.id);
        loop {
            let until = self.disk.borrow().until;
            // Not all of them at once.
            sleep_until(until + ms(random.u64(0..100))).await;
            let promised = self.disk.borrow().promised;
            if self.disk.borrow().until > until {
                continue;
            }
            // Each term belongs to one replica.
            let term = (promised / 3 + 1) * 3 + self.id;
            let Some((until, logs)) = self.lease(term).await else {
                continue;
            };
            // The latest log has all writes that have been answered.
            let (_, writes) = logs.into_iter().max().unwrap_or_default();
            let log = (term, writes);
            if self.ask(message("store", &log)).await.is_some() {
                let is_writing = false;
                self.leader.replace(Some(Leader {
                    until,
                    log,
                    is_writing,
                }));
                self.keep_lease(term).await;
            }
        }
    }

    /// Renews the lease until it has ended.
    async fn keep_lease(&self, term: u64) {
        while self.leader(|_| ()).is_some() {
            let next = time::now() + RENEW;
            if let Some((until, _)) = self.lease(term).await {
                self.leader(|leader| leader.until = until);
            }
            sleep_until(next).await;
        }
    }

    /// Calls `f` if this is the leader.
    fn leader<T>(&self, f: impl FnOnce(&mut Leader) -> T) -> Option<T> {
        let mut leader = self.leader.borrow_mut();
        let leader = leader.as_mut();
        leader.filter(|leader| leader.until > time::now()).map(f)
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).await?;
        let answer = match line.trim_end().split_once(' ') {
            Some(("get", key)) => self.leader(|leader| get(leader, key)),
            Some(("put", write)) => self.put(write).await,
            _ => None,
        };
        let answer = answer.unwrap_or("retry".into());
        stream.write_all((answer + "\n").as_bytes()).await
    }

    /// Adds a write to the log, unless it is there. Returns its index.
    async fn put(&self, write: &str) -> Option<String> {
        let mut log = self.leader(|leader| leader.log.clone())?;
        let known = log.1.iter().position(|known| known == write);
        if let Some(index) = known {
            return Some((index + 1).to_string());
        }
        if self.leader(|leader| std::mem::replace(&mut leader.is_writing, true))? {
            return None;
        }
        log.1.push(write.to_string());
        let stored = self.ask(message("store", &log)).await;
        let mut leader = self.leader.borrow_mut();
        match leader.as_mut().filter(|leader| leader.log.0 == log.0) {
            Some(leader) if stored.is_some() => {
                (leader.log, leader.is_writing) = (log, false);
                Some(leader.log.1.len().to_string())
            }
            // The next leader finds out whether the write is stored.
            _ => {
                leader.take();
                None
            }
        }
    }
}

/// Returns the length of the log, and the value of the key.
fn get(leader: &mut Leader, key: &str) -> String {
    let writes = &leader.log.1;
    let is_of_key = |write: &&String| write.split(' ').nth(1) == Some(key);
    let value = writes.iter().rev().find(is_of_key);
    let value = value.and_then(|write| write.rsplit(' ').next());
    format!("{} {}", writes.len(), value.unwrap_or(""))
}

/// Asks one replica after another until a leader answers. Returns the number in the answer.
async fn call(random: &mut fastrand::Rng, request: String) -> usize {
    loop {
        let attempt = async {
            let replica = (REPLICAS[random.usize(..3)], 80);
            let mut stream = TcpStream::connect(replica).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let answer = timeout(LEASE, attempt).await;
        let answer = answer.ok().and_then(Result::ok).unwrap_or_default();
        if let Some(Ok(number)) = answer.split_whitespace().next().map(str::parse) {
            return number;
        }
        sleep(ms(10)).await;
    }
}

/// Reads and writes. `seen` is the longest log that a client has seen.
async fn client(id: u64, seen: Rc<Cell<usize>>) {
    let mut random = fastrand::Rng::with_seed(testing::seed() ^ id);
    for number in 0..40 {
        sleep(ms(random.u64(0..200))).await;
        let before = seen.get();
        let len = if random.bool() {
            call(&mut random, "get x\n".into()).await
        } else {
            let put = format!("put {id}.{number} x {number}\n");
            call(&mut random, put).await - 1
        };
        assert!(
            len >= before,
            "write {before} was done, and this sees only {len}"
        );
        seen.set(seen.get().max(len));
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn main() {
    let has_bug = std::env::args().any(|arg| arg == "--bug");
    let explored = testing::simulate(0..1000, |world| async move {
        let link = Link::new().latency(ms(1)).jitter(ms(2)).loss(0.1);
        world.set_default(link);
        let hosts = REPLICAS.map(|name| world.host(name));
        // The first one is far from the others.
        for other in &hosts[1..] {
            world.link(&hosts[0], other).set(link.latency(ms(100)));
        }
        let disks = [(); 3].map(|()| {
            let (promised, until, log) = (0, time::now(), Log::default());
            Rc::new(RefCell::new(Disk {
                promised,
                until,
                log,
            }))
        });
        let start = |id: usize| {
            let replica = Replica::start(id, has_bug, disks[id].clone());
            hosts[id].spawn(replica).detach();
        };
        (0..3).for_each(start);
        let seen = Rc::new(Cell::new(0));
        let clients = [10, 11, 12].map(|id| {
            let host = world.host(&format!("client-{id}"));
            host.spawn(client(id, seen.clone()))
        });
        let mut random = fastrand::Rng::with_seed(world.seed());
        for _ in 0..3 {
            sleep(ms(random.u64(500..3000))).await;
            let id = random.usize(..3);
            hosts[id].crash();
            start(id);
        }
        for client in clients {
            client.await;
        }
    });
    println!("{} seeds: no read was stale", explored.seeds);
}
