//! A replicated key-value store, and its test in a simulated world, with 1,000 seeds.
//!
//! Three replicas keep the log of all writes. One of them is the leader: a majority has promised to
//! follow no other one until its lease ends. So it can answer reads by itself. It answers a write
//! when a majority has stored it. Clients retry until a leader answers. With --bug, the lease starts
//! when the promises arrive, and not when the leader has asked for them.
//!
//! cargo run --release --example kv --features testing
//! cargo run --release --example kv --features testing -- --bug

use soloist::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use soloist::net::{TcpListener, TcpStream, UdpSocket};
use soloist::testing::{self, Link};
use soloist::time::{self, sleep, sleep_until, timeout};
use soloist::{future, spawn};
use std::cell::{Cell, RefCell};
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
#[derive(Default)]
struct Disk {
    /// The term that it follows, and until when it follows no later one.
    promised: u64,
    until: Option<Instant>,
    log: Log,
}

impl Disk {
    /// Returns its log if it follows the sender.
    fn answer(&mut self, kind: &str, log: &Log) -> Option<Log> {
        let (now, term) = (time::now(), log.0);
        let is_promised = term == self.promised;
        match kind {
            "lease" if is_promised || term > self.promised && Some(now) >= self.until => {
                self.until = Some(now + LEASE);
            }
            // Datagrams may arrive in another order.
            "store" if term >= self.promised && *log >= self.log => self.log = log.clone(),
            _ => return None,
        }
        self.promised = term;
        Some(self.log.clone())
    }
}

struct Leader {
    until: Instant,
    /// What a majority has stored.
    log: Log,
    is_writing: bool,
}

struct Replica {
    id: usize,
    has_bug: bool,
    disk: Rc<RefCell<Disk>>,
    leader: RefCell<Option<Leader>>,
}

impl Replica {
    async fn start(id: usize, has_bug: bool, disk: Rc<RefCell<Disk>>) -> io::Result<()> {
        let replica = Rc::new(Replica {
            id,
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
            let answer = parse(&buf[..len])
                .and_then(|(kind, log)| self.disk.borrow_mut().answer(kind, &log));
            if let Some(log) = answer {
                socket.send_to(message("ok", &log).as_bytes(), from).await?;
            }
        }
    }

    /// Asks the others. Returns the logs of a majority: of the first to answer, and of this one.
    async fn ask(&self, kind: &str, log: &Log) -> Option<[Log; 2]> {
        // Answers to an earlier question do not arrive at this socket.
        let socket = UdpSocket::bind("0.0.0.0:0").await.ok()?;
        let question = message(kind, log);
        for replica in REPLICAS.iter().filter(|name| **name != REPLICAS[self.id]) {
            let sent = socket.send_to(question.as_bytes(), (*replica, 7000)).await;
            sent.ok()?;
        }
        let mut buf = [0; 8192];
        let answer = timeout(LEASE / 2, socket.recv_from(&mut buf)).await;
        let (len, _) = answer.ok()?.ok()?;
        let (_, other) = parse(&buf[..len])?;
        Some([other, self.disk.borrow_mut().answer(kind, log)?])
    }

    /// Asks for the lease. Returns its end, and the logs of a majority.
    async fn lease(&self, term: u64) -> Option<(Instant, [Log; 2])> {
        let asked = time::now();
        let logs = self.ask("lease", &(term, Vec::new())).await?;
        let start = if self.has_bug { time::now() } else { asked };
        Some((start + LEASE, logs))
    }

    /// Becomes the leader when there is no other, again and again.
    async fn lead(&self) -> io::Result<()> {
        let mut random = fastrand::Rng::with_seed(testing::seed() ^ self.id as u64);
        // Not all of them ask at the same time.
        let mut pause = 300 * self.id as u64;
        loop {
            let until = self.disk.borrow().until;
            sleep_until(until.unwrap_or_else(time::now) + ms(pause)).await;
            pause = random.u64(0..100);
            if self.disk.borrow().until > until {
                continue;
            }
            // Each term belongs to one replica.
            let term = (self.disk.borrow().promised / 3 + 1) * 3 + self.id as u64;
            let Some((until, logs)) = self.lease(term).await else {
                continue;
            };
            // The latest log has all writes that have been answered.
            let log = (term, logs.into_iter().max().unwrap_or_default().1);
            if self.ask("store", &log).await.is_none() {
                continue;
            }
            let is_writing = false;
            self.leader.replace(Some(Leader {
                until,
                log,
                is_writing,
            }));
            while self.leader(|_| ()).is_some() {
                let next = time::now() + RENEW;
                if let Some((until, _)) = self.lease(term).await {
                    self.leader(|leader| leader.until = until);
                }
                sleep_until(next).await;
            }
        }
    }

    /// Calls `f` if this is the leader.
    fn leader<T>(&self, f: impl FnOnce(&mut Leader) -> T) -> Option<T> {
        let mut leader = self.leader.borrow_mut();
        let leader = leader.as_mut().filter(|leader| leader.until > time::now());
        leader.map(f)
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).await?;
        let answer = match line.trim_end().split_once(' ') {
            Some(("get", key)) => self.get(key),
            Some(("put", write)) => self.put(write).await,
            _ => None,
        };
        let answer = answer.unwrap_or("retry".into());
        stream.write_all((answer + "\n").as_bytes()).await
    }

    /// Returns the length of the log, and the last write to the key.
    fn get(&self, key: &str) -> Option<String> {
        let writes = self.leader(|leader| leader.log.1.clone())?;
        let is_of_key = |write: &&String| write.split(' ').nth(1) == Some(key);
        let write = writes.iter().rfind(is_of_key);
        Some(format!("{} {write:?}", writes.len()))
    }

    /// Adds a write to the log, unless it is there. Returns its index.
    async fn put(&self, write: &str) -> Option<String> {
        let mut log = self.leader(|leader| leader.log.clone())?;
        if let Some(index) = log.1.iter().position(|known| known == write) {
            return Some((index + 1).to_string());
        }
        if self.leader(|leader| std::mem::replace(&mut leader.is_writing, true))? {
            return None;
        }
        log.1.push(write.to_string());
        if self.ask("store", &log).await.is_none() {
            // The next leader finds out whether the write is stored.
            self.leader.take();
            return None;
        }
        let len = log.1.len();
        self.leader(|leader| (leader.log, leader.is_writing) = (log, false))?;
        Some(len.to_string())
    }
}

/// Asks one replica after another until a leader answers. Returns the number in the answer.
async fn call(random: &mut fastrand::Rng, request: String) -> usize {
    loop {
        let mut answer = String::new();
        let attempt = async {
            let replica = (REPLICAS[random.usize(..3)], 80);
            let mut stream = TcpStream::connect(replica).await?;
            stream.write_all(request.as_bytes()).await?;
            BufReader::new(stream).read_line(&mut answer).await
        };
        let _ = timeout(LEASE, attempt).await;
        if let Some(Ok(number)) = answer.split_whitespace().next().map(str::parse) {
            return number;
        }
        sleep(ms(50)).await;
    }
}

/// Reads and writes. `seen` is the longest log that a client has seen.
async fn client(id: u64, seen: Rc<Cell<usize>>) {
    let mut random = fastrand::Rng::with_seed(testing::seed() ^ id);
    for number in 0..25 {
        sleep(ms(random.u64(0..100))).await;
        let before = seen.get();
        let (len, least) = if random.bool() {
            (call(&mut random, "get x\n".into()).await, before)
        } else {
            let put = format!("put {id}.{number} x {number}\n");
            (call(&mut random, put).await, before + 1)
        };
        assert!(len >= least, "{before} writes, and this sees {len}");
        seen.set(seen.get().max(len));
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn main() {
    let has_bug = std::env::args().any(|arg| arg == "--bug");
    let seeds = std::env::args().find_map(|arg| arg.parse().ok());
    let explored = testing::simulate(0..seeds.unwrap_or(1000), |world| async move {
        let link = Link::new().latency(ms(1));
        world.set_default(link);
        let hosts = REPLICAS.map(|name| world.host(name));
        let [a, b, c] = &hosts;
        // Replica `a` is far from the others.
        world.link(a, b).set(link.latency(ms(200)).loss(0.1));
        world.link(a, c).set(link.latency(ms(200)).loss(0.1));
        world.link(b, c).set(link.jitter(ms(10)).loss(0.1));
        let disks = [(); 3].map(|()| Rc::<RefCell<Disk>>::default());
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
