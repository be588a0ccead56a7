//! Clients that wait for their replies while other load keeps the server busy.
//!
//! Each client sends a message of 64 bytes, waits for the reply, and sends the next. After a
//! warm-up, the number of replies is that of the given time. The waits are those of all
//! requests that were open in this time. To have the last replies, it goes on for as long
//! again at most; a request without a reply has waited until then.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::place;
use super::{
    BOTH, Poller, REPLIES, Server, attempt, connect_to, from_somewhere, report, unconnected,
};

const BYTES: usize = 64;
const BLOCK: usize = 64 << 10;
const BESIDE: u64 = u64::MAX;
/// So many short connections at most between two looks at the clients.
const FLOOD: usize = 4;
/// Fewer than it could do, so that the flood is the same for all servers.
const CONNECTS_PER_SECOND: f64 = 20_000.0;
/// Until then nothing counts. The clients start one after the other in its first half, since
/// those of real servers do not send all at once.
const WARM_UP: Duration = Duration::from_millis(300);

struct Client {
    stream: TcpStream,
    sent: Instant,
    missing: usize,
    replies: u64,
}

impl Client {
    fn send(&mut self) {
        self.sent = Instant::now();
        self.missing = BYTES;
        // It fits: there is nothing else on the way.
        let n = self.stream.write(&[b'x'; BYTES]).expect("a server");
        assert_eq!(n, BYTES);
    }

    /// Whether the reply is complete.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; BYTES];
        while self.missing > 0 {
            let Some(n) = attempt(self.stream.read(&mut buffer[..self.missing])) else {
                return false;
            };
            assert!(n > 0, "the server has closed a connection");
            self.missing -= n;
        }
        true
    }
}

/// The other load of this program.
enum Beside {
    Nothing,
    /// With whether there is room.
    In(TcpStream, bool),
    /// With whether there are bytes.
    Out(TcpStream, bool),
    Flood,
}

pub fn main(server: &Server, length: Duration, clients: usize, idle: usize, beside: &str) {
    // Ends this process in any case.
    // SAFETY: a system call that only starts a timer.
    unsafe { libc::alarm(30 + 2 * length.as_secs() as u32) };
    // One client waits nearly always, so it can have the core when it is to run. What else is
    // on this core are threads of the server.
    if clients == 1 {
        place::policy(libc::SCHED_FIFO, 1);
    }
    let mut poller = Poller::new();
    let connect = |i| {
        let stream = from_somewhere(server.address, i);
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    // The clients are spread among those that send nothing.
    let all: Vec<TcpStream> = (0..clients + idle).map(connect).collect();
    let every = (clients + idle) / clients;
    let (mut waiting, mut silent) = (Vec::new(), Vec::new());
    for (i, stream) in all.into_iter().enumerate() {
        if i % every == 0 && waiting.len() < clients {
            poller.add(&stream, waiting.len() as u64, REPLIES);
            waiting.push(Client {
                stream,
                sent: Instant::now(),
                missing: 0,
                replies: 0,
            });
        } else {
            silent.push(stream);
        }
    }
    // One reply each, so that the server has them all, if it can.
    waiting.iter_mut().for_each(Client::send);
    let end = Instant::now() + Duration::from_secs(2);
    let mut missing = clients;
    while missing > 0 && Instant::now() < end {
        for i in poller.wait_at_most(100) {
            missing -= usize::from(waiting[i as usize].receive());
        }
    }
    let mut beside = match beside {
        "nothing" => Beside::Nothing,
        "flood" => Beside::Flood,
        "in" => {
            let stream = connect(clients + idle);
            poller.add(&stream, BESIDE, BOTH);
            Beside::In(stream, true)
        }
        "out" => {
            let mut stream = connect(clients + idle);
            poller.add(&stream, BESIDE, BOTH);
            assert_eq!(stream.write(b"o").unwrap(), 1);
            Beside::Out(stream, true)
        }
        other => panic!("what is {other}?"),
    };
    std::thread::sleep(Duration::from_millis(50));
    run(server, length, &mut poller, &mut waiting, &mut beside);
}

fn run(
    server: &Server,
    length: Duration,
    poller: &mut Poller,
    clients: &mut [Client],
    beside: &mut Beside,
) {
    let mut waits: Vec<f64> = Vec::new();
    let mut done = 0;
    let begin = Instant::now();
    let start = begin + WARM_UP;
    let (end, last) = (start + length, start + 2 * length);
    let (mut started, apart) = (0, WARM_UP / 2 / clients.len() as u32);
    // At the start and at the end of the time that counts: the server's CPU time, and what
    // has been done beside.
    let (mut first, mut second) = (None, None);
    loop {
        let now = Instant::now();
        while started < clients.len() && now >= begin + apart * started as u32 {
            // It may still wait for its very first reply.
            if clients[started].missing == 0 {
                clients[started].send();
            }
            started += 1;
        }
        if now >= start {
            first.get_or_insert_with(|| (server.cpu(), done));
        }
        if now >= end {
            second.get_or_insert_with(|| (server.cpu(), done));
            let all_replied = clients.iter().all(|client| client.sent >= end);
            if all_replied || now >= last {
                break;
            }
        }
        let busy = step(server, beside, now - begin, &mut done);
        let rest = if now < start {
            1
        } else {
            let goal = if now < end { end } else { last };
            goal.saturating_duration_since(now).as_millis() as i32 + 1
        };
        for i in poller.wait_at_most(if busy { 0 } else { rest }) {
            if i == BESIDE {
                if let Beside::In(_, ready) | Beside::Out(_, ready) = beside {
                    *ready = true;
                }
                continue;
            }
            let client = &mut clients[i as usize];
            if client.missing == 0 || !client.receive() {
                continue;
            }
            let now = Instant::now();
            if client.sent < end && now >= start {
                waits.push((now - client.sent).as_nanos() as f64 / 1000.0);
                client.replies += u64::from(now < end);
            }
            client.send();
        }
    }
    let ((before, done_before), (after, done)) = first.zip(second).expect("the loop's end");
    let (cpu, done) = (after - before, done - done_before);
    let now = Instant::now();
    for client in clients.iter().filter(|one| one.sent < end) {
        waits.push((now - client.sent).as_nanos() as f64 / 1000.0);
    }
    waits.sort_by(f64::total_cmp);
    let replies = clients.iter().map(|client| client.replies);
    report("fewest replies", replies.clone().min().unwrap() as f64);
    report("most replies", replies.clone().max().unwrap() as f64);
    let part = |part: f64| waits[((waits.len() as f64 * part) as usize).min(waits.len() - 1)];
    report("p50", part(0.5));
    report("p99", part(0.99));
    report("p99.9", part(0.999));
    report("worst", part(1.0));
    let replies = replies.sum::<u64>().max(1) as f64;
    report("CPU", cpu.as_nanos() as f64 / 1000.0 / replies);
    if done > 0 && !matches!(beside, Beside::Flood) {
        report("done beside", done as f64 / length.as_secs_f64());
    }
}

/// A little of what is beside. Whether there is more to do at once.
fn step(server: &Server, beside: &mut Beside, time: Duration, done: &mut usize) -> bool {
    match beside {
        Beside::Nothing => false,
        Beside::In(stream, ready) => {
            if *ready {
                match attempt(stream.write(&[b'i'; BLOCK])) {
                    Some(n) => *done += n,
                    None => *ready = false,
                }
            }
            *ready
        }
        Beside::Out(stream, ready) => {
            if *ready {
                match attempt(stream.read(&mut [0; BLOCK])) {
                    Some(n) => *done += n,
                    None => *ready = false,
                }
            }
            *ready
        }
        Beside::Flood => {
            let due = (time.as_secs_f64() * CONNECTS_PER_SECOND) as usize;
            for _ in *done..due.min(*done + FLOOD) {
                flood(server, *done);
                *done += 1;
            }
            true
        }
    }
}

/// Connects, and resets the connection at once, so that no port stays taken.
fn flood(server: &Server, i: usize) {
    let stream = unconnected(i);
    stream.set_nonblocking(true).unwrap();
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option's value is only read.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
    // In progress, as a rule. When the server's queue is full, the system drops it.
    let _ = connect_to(&stream, server.address);
}
