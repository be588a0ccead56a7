//! The clients of the socket suites, on a separate core. One thread and epoll.
//!
//! * `echo ADDRESS PID CONNECTIONS BYTES REQUESTS`: each connection sends its next
//!   message as soon as the reply to the last is there;
//! * `connect ADDRESS PID CONNECTIONS REQUESTS`: a new connection for each request;
//! * `idle ADDRESS CONNECTIONS`: connections that send nothing;
//! * `mixed ADDRESS PID MILLISECONDS CLIENTS IDLE BESIDE`: clients of which each waits for a
//!   reply, beside connections that send nothing, and beside `nothing`, a connection that
//!   sends blocks `in`, one that gets blocks `out`, or a `flood` of short connections;
//! * `pages`: a server of pages of 2 KiB, for those who fetch.
//!
//! What it prints of the server is the CPU time of all its threads (the kernel's clock of
//! that process), from when the connections are there to the last reply.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

mod mixed;
#[path = "../../bodies/place.rs"]
mod place;

fn main() {
    place::first();
    place::on_core(1);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(|word| &**word).collect();
    let number = |word: &str| word.parse::<usize>().expect("a number");
    match words[..] {
        ["echo", address, pid, connections, bytes, requests] => {
            let server = Server::new(address, pid);
            echo(
                &server,
                number(connections),
                number(bytes),
                number(requests),
            );
        }
        ["connect", address, pid, connections, requests] => {
            connect(
                &Server::new(address, pid),
                number(connections),
                number(requests),
            );
        }
        ["idle", address, connections] => idle(address.parse().unwrap(), number(connections)),
        ["mixed", address, pid, milliseconds, clients, idle, beside] => mixed::main(
            &Server::new(address, pid),
            Duration::from_millis(number(milliseconds) as u64),
            number(clients),
            number(idle),
            beside,
        ),
        ["pages"] => pages(),
        _ => panic!("what is {words:?}?"),
    }
}

// ---- echo ------------------------------------------------------------------------

struct Connection {
    stream: TcpStream,
    /// The bytes of this reply that have not arrived yet.
    missing: usize,
    sent: Instant,
    /// The bytes of this message that have not been sent yet: a large one does not fit at once.
    unsent: usize,
}

fn echo(server: &Server, connections: usize, bytes: usize, requests: usize) {
    let mut poller = Poller::new();
    let message = vec![b'x'; bytes];
    let mut all: Vec<Connection> = (0..connections)
        .map(|i| {
            let stream = from_somewhere(server.address, i);
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            // Large messages: the end of one may have to wait for the start of its reply.
            let interest = if bytes > 4096 { BOTH } else { REPLIES };
            poller.add(&stream, i as u64, interest);
            let (missing, unsent) = (0, 0);
            let sent = Instant::now();
            Connection {
                stream,
                missing,
                sent,
                unsent,
            }
        })
        .collect();
    let send = |one: &mut Connection| {
        one.sent = Instant::now();
        one.missing = bytes;
        one.unsent = bytes;
        push(one, &message);
    };
    // One reply each, so that the server has them all; then it comes to rest.
    let mut buffer = vec![0; bytes.max(4096)];
    let mut round = |requests: usize, times: &mut Vec<f64>| {
        let mut left = requests - connections;
        all.iter_mut().for_each(send);
        let mut open = connections;
        while open > 0 {
            for i in poller.wait() {
                let one = &mut all[i as usize];
                push(one, &message);
                while one.missing > 0 {
                    let Some(n) = attempt(one.stream.read(&mut buffer)) else {
                        break;
                    };
                    assert!(n > 0, "the server has closed a connection");
                    one.missing -= n;
                    if one.missing > 0 {
                        continue;
                    }
                    times.push(one.sent.elapsed().as_nanos() as f64 / 1000.0);
                    if left > 0 {
                        left -= 1;
                        send(one);
                    } else {
                        open -= 1;
                    }
                    // The reply has not arrived yet.
                    break;
                }
            }
        }
    };
    round(connections, &mut Vec::new());
    std::thread::sleep(Duration::from_millis(50));
    let mut times = Vec::with_capacity(requests);
    let (cpu, start) = (server.cpu(), Instant::now());
    round(requests.max(connections), &mut times);
    let (cpu, wall) = (server.cpu() - cpu, start.elapsed());
    let requests = times.len() as f64;
    report("CPU", cpu.as_nanos() as f64 / requests / 1000.0);
    report("requests per second", requests / wall.as_secs_f64());
    times.sort_by(f64::total_cmp);
    report("RTT p50", times[times.len() / 2]);
    report("RTT p99", times[times.len() * 99 / 100]);
    report("RTT p99.9", times[times.len() * 999 / 1000]);
}

/// Writes as much as fits.
fn push(one: &mut Connection, message: &[u8]) {
    while one.unsent > 0 {
        let from = message.len() - one.unsent;
        let Some(n) = attempt(one.stream.write(&message[from..])) else {
            return;
        };
        one.unsent -= n;
    }
}

fn attempt(result: std::io::Result<usize>) -> Option<usize> {
    match result {
        Ok(n) => Some(n),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

// ---- connect, one request, close ---------------------------------------------------

fn connect(server: &Server, connections: usize, requests: usize) {
    let one = |i: usize| {
        let mut stream = from_somewhere(server.address, i);
        stream.write_all(&[b'x'; 64]).unwrap();
        stream
    };
    let mut reply = [0; 64];
    let (cpu, start) = (server.cpu(), Instant::now());
    let mut open: VecDeque<TcpStream> = (0..connections).map(one).collect();
    for i in connections..requests {
        // The oldest is answered by now; this one's place is taken by the next.
        let mut oldest = open.pop_front().unwrap();
        oldest.read_exact(&mut reply).unwrap();
        drop(oldest);
        open.push_back(one(i));
    }
    for mut stream in open {
        stream.read_exact(&mut reply).unwrap();
    }
    let wall = start.elapsed();
    // Lets the server notice the end of the last connections.
    std::thread::sleep(Duration::from_millis(20));
    let cpu = server.cpu() - cpu;
    report("CPU", cpu.as_nanos() as f64 / requests as f64 / 1000.0);
    report("requests per second", requests as f64 / wall.as_secs_f64());
}

fn idle(address: SocketAddr, connections: usize) {
    let mut all: Vec<TcpStream> = (0..=connections)
        .map(|i| from_somewhere(address, i))
        .collect();
    // Three more that are closed, each after a while: for the server to come to rest.
    for i in 0..3 {
        std::thread::sleep(Duration::from_millis(100));
        drop(from_somewhere(address, i));
    }
    // Until the server ends.
    let mut end = [0];
    let _ = all[0].read(&mut end);
}

// ---- pages -----------------------------------------------------------------------

/// Answers the first bytes of each connection with a page, and closes it.
fn pages() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: a larger queue for the same socket.
    unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    println!("{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let mut page = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
    page.resize(2048, b'x');
    let mut poller = Poller::new();
    poller.add(&listener, u64::MAX, READ);
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        for key in poller.wait() {
            if key == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    poller.add(&stream, streams.len() as u64, READ);
                    streams.push(Some(stream));
                }
                continue;
            }
            if let Some(mut stream) = streams[key as usize].take() {
                assert!(stream.read(&mut buffer).unwrap() > 0);
                stream.write_all(&page).unwrap();
            }
        }
    }
}

// ---- shared parts --------------------------------------------------------------------

fn report(name: &str, value: f64) {
    println!("{name}\t{value}");
}

struct Server {
    address: SocketAddr,
    pid: libc::pid_t,
}

impl Server {
    fn new(address: &str, pid: &str) -> Server {
        let address = address.parse().expect("an address");
        let pid = pid.parse().expect("the number of a process");
        Server { address, pid }
    }

    fn cpu(&self) -> Duration {
        // SAFETY: both calls write to local variables.
        unsafe {
            let mut clock = 0;
            assert_eq!(libc::clock_getcpuclockid(self.pid, &mut clock), 0);
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            assert_eq!(libc::clock_gettime(clock, &mut time), 0);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        }
    }
}

/// The `i`th connection. It uses many addresses, since one has too few ports for all connections that are
/// open or were closed within the last minute.
fn from_somewhere(to: SocketAddr, i: usize) -> TcpStream {
    let stream = unconnected(i);
    connect_to(&stream, to).unwrap_or_else(|error| panic!("{error}"));
    stream
}

/// A socket that is bound to one of the addresses, and blocks.
fn unconnected(i: usize) -> TcpStream {
    let from = Ipv4Addr::new(
        127,
        0,
        1 + (std::process::id() % 200) as u8,
        1 + (i / 2000 % 250) as u8,
    );
    // SAFETY: a socket of our own, and an address that lives as long as the call.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        let stream = TcpStream::from_raw_fd(fd);
        let yes: libc::c_int = 1;
        // The port is chosen when the other end is known.
        let done = libc::setsockopt(
            fd,
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        );
        assert_eq!(done, 0);
        let from = raw(SocketAddrV4::new(from, 0));
        let size = size_of_val(&from) as libc::socklen_t;
        let done = libc::bind(fd, (&raw const from).cast(), size);
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        stream
    }
}

/// Waits for the connection, unless the socket does not block.
fn connect_to(stream: &TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let SocketAddr::V4(to) = to else {
        panic!("not an address of IPv4: {to}");
    };
    let to = raw(to);
    let size = size_of_val(&to) as libc::socklen_t;
    // SAFETY: the address lives as long as the call.
    let done = unsafe { libc::connect(stream.as_raw_fd(), (&raw const to).cast(), size) };
    if done == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

fn raw(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.ip().octets()),
        },
        sin_zero: [0; 8],
    }
}

const READ: u32 = libc::EPOLLIN as u32;
/// Edge-triggered, so that the events are in the order in which the replies came.
/// Level-triggered epoll reports those first that it reported last: at 64 connections that
/// alone takes p99 of the round trips from 250 to 380 us.
const REPLIES: u32 = READ | libc::EPOLLET as u32;
/// Edge-triggered, or there would be room to write all the time.
const BOTH: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET) as u32;

struct Poller {
    fd: i32,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    fn new() -> Poller {
        // SAFETY: a new fd.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0);
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
        Poller { fd, events }
    }

    fn add(&self, source: &impl AsRawFd, key: u64, events: u32) {
        let mut event = libc::epoll_event { events, u64: key };
        // SAFETY: the event is only read.
        let done = unsafe {
            libc::epoll_ctl(self.fd, libc::EPOLL_CTL_ADD, source.as_raw_fd(), &mut event)
        };
        assert_eq!(done, 0);
    }

    /// Waits, and returns the keys of the sockets that are ready.
    fn wait(&mut self) -> Vec<u64> {
        self.wait_at_most(-1)
    }

    /// The same, for at most this many milliseconds.
    fn wait_at_most(&mut self, timeout: i32) -> Vec<u64> {
        // SAFETY: room for as many events as are asked for.
        let n = unsafe { libc::epoll_wait(self.fd, self.events.as_mut_ptr(), 256, timeout) };
        self.events[..n.max(0) as usize]
            .iter()
            .map(|event| event.u64)
            .collect()
    }
}
