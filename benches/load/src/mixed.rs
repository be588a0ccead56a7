//! Clients that wait for their replies, beside something that keeps the server busy.
//!
//! Each client sends a message of 64 bytes, waits for the reply, and sends the next. What is
//! reported is of the requests that were sent in the given time. To have their replies, it
//! goes on for as long again at most; what has no reply then has waited until then.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::{BOTH, Poller, READ, Server, attempt, connect_to, from_somewhere, report, unconnected};

const BYTES: usize = 64;
const BLOCK: usize = 64 << 10;
/// Edge-triggered: events in the order in which the replies came.
const REPLIES: u32 = READ | libc::EPOLLET as u32;
const BESIDE: u64 = u64::MAX;
/// So many short connections for each look at the clients.
const FLOOD: usize = 4;

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

/// What keeps the server busy from here.
enum Beside {
    Nothing,
    /// With whether there is room.
    In(TcpStream, bool),
    /// With whether there are bytes.
    Out(TcpStream, bool),
    Flood,
}

pub fn main(server: &Server, length: Duration, clients: usize, idle: usize, beside: &str) {
    // Whatever goes wrong, this process ends.
    // SAFETY: a system call that only starts a timer.
    unsafe { libc::alarm(30 + 2 * length.as_secs() as u32) };
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
    let end = Instant::now() + Duration::from_secs(5);
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
    let (cpu, start) = (server.cpu(), Instant::now());
    let (end, last) = (start + length, start + 2 * length);
    for client in clients.iter_mut() {
        // From the warm-up, if it still waits.
        if client.missing == 0 {
            client.send();
        }
    }
    // When the time is over.
    let mut figures = None;
    loop {
        let now = Instant::now();
        if now >= end {
            figures.get_or_insert_with(|| (server.cpu() - cpu, done));
            let all_replied = clients.iter().all(|client| client.sent >= end);
            if all_replied || now >= last {
                break;
            }
        }
        let busy = step(server, beside, &mut done);
        let goal = if now < end { end } else { last };
        let rest = goal.saturating_duration_since(now).as_millis() as i32 + 1;
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
            if client.sent < end {
                waits.push((now - client.sent).as_nanos() as f64 / 1000.0);
                client.replies += u64::from(now < end);
            }
            client.send();
        }
    }
    let (cpu, done) = figures.expect("the loop ends after the time");
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
    if done > 0 {
        report("done beside", done as f64 / length.as_secs_f64());
    }
}

/// A little of what is beside. Whether there is more to do at once.
fn step(server: &Server, beside: &mut Beside, done: &mut usize) -> bool {
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
            for _ in 0..FLOOD {
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
