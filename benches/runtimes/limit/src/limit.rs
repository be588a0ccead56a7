//! The limit: an epoll loop by hand, which knows nothing but this work. Two system calls
//! for each request when many are ready at once, and no tasks, wakers or timers.
//!
//! There are two of it, by `crate::EDGE`. Level-triggered, a socket is registered for what
//! it waits for, and each event is one read and one write. Edge-triggered, it is registered
//! once for everything, and each event is read to the end: until a read does not fill the
//! buffer, or would block.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::EDGE;
use crate::bodies::measure::{self, process_time, report, resident};

pub fn main() {
    let (suite, arguments) = measure::arguments();
    let number = |i: usize| arguments[i].parse::<usize>().expect("a number");
    match &*suite {
        "echo" => echo(number(0), usize::MAX),
        "idle" => echo(16, number(0)),
        "fetch" => {
            fetch_all(&arguments[0], number(1));
            let cpu = process_time();
            fetch_all(&arguments[0], number(1));
            let cpu = (process_time() - cpu).as_nanos() as f64;
            report("fetch of 1,000 pages: CPU", cpu / number(1) as f64 / 1000.0);
        }
        _ => measure::refused("there is no limit to hold this against"),
    }
}

/// The sockets by their fds. The buffers of all are one: nothing is left in it between
/// two events.
fn echo(room: usize, until: usize) {
    let listener = listen();
    listener.set_nonblocking(true).unwrap();
    let poller = Poller::new();
    poller.add(&listener, libc::EPOLLIN);
    let mut streams: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; room];
    let (mut accepted, mut before) = (0, 0.0);
    poller.run(|fd, events| {
        if fd == listener.as_raw_fd() {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).unwrap();
                poller.add(&stream, if EDGE { ALL_EDGES } else { libc::EPOLLIN });
                let fd = stream.as_raw_fd() as usize;
                if streams.len() <= fd {
                    streams.resize_with(fd + 1, || None);
                }
                streams[fd] = Some(Connection {
                    stream,
                    unsent: Vec::new(),
                });
                accepted += 1;
                // The same as the others' body: one, then all, then three.
                if accepted == 1 {
                    before = resident();
                }
                if accepted - 1 == until {
                    report(
                        "bytes per idle connection",
                        (resident() - before) / until as f64,
                    );
                    std::process::exit(0);
                }
            }
            return true;
        }
        let one = streams[fd as usize].as_mut().expect("a connection");
        let open = if EDGE {
            one.echo_edge(events, &mut buffer)
        } else {
            one.echo(&poller, events, &mut buffer)
        };
        if !open {
            streams[fd as usize] = None;
        }
        true
    });
}

struct Connection {
    stream: TcpStream,
    /// What the system would not take at once.
    unsent: Vec<u8>,
}

impl Connection {
    /// Whether it is still open.
    fn echo(&mut self, poller: &Poller, events: u32, buffer: &mut [u8]) -> bool {
        if events & libc::EPOLLOUT as u32 != 0 {
            let n = written(self.stream.write(&self.unsent));
            self.unsent.drain(..n);
            if self.unsent.is_empty() {
                poller.change(&self.stream, libc::EPOLLIN);
            }
            return true;
        }
        match self.stream.read(buffer) {
            Ok(0) => false,
            Ok(n) => {
                let sent = written(self.stream.write(&buffer[..n]));
                if sent < n {
                    self.unsent.extend(&buffer[sent..n]);
                    poller.change(&self.stream, libc::EPOLLOUT);
                }
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    /// The same, edge-triggered.
    fn echo_edge(&mut self, events: u32, buffer: &mut [u8]) -> bool {
        if !self.unsent.is_empty() {
            let n = written(self.stream.write(&self.unsent));
            self.unsent.drain(..n);
            if !self.unsent.is_empty() {
                return true;
            }
            // There may be more to read, of which there is no event any more.
        } else if events & !(libc::EPOLLOUT as u32) == 0 {
            return true;
        }
        // A read that finds less than it could says that there was no more. The end may
        // have come with those bytes.
        let end = events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    let sent = written(self.stream.write(&buffer[..n]));
                    if sent < n {
                        self.unsent.extend(&buffer[sent..n]);
                        return true;
                    }
                    if n < buffer.len() && !end {
                        return true;
                    }
                }
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

fn written(result: std::io::Result<usize>) -> usize {
    result.unwrap_or_else(|error| {
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        0
    })
}

/// As many connections at once; each sends its request when it can, and reads to the end.
fn fetch_all(address: &str, pages: usize) {
    let address: std::net::SocketAddrV4 = address.parse().expect("an address");
    let poller = Poller::new();
    let mut streams = HashMap::new();
    for _ in 0..pages {
        let stream = connect(address);
        poller.add(&stream, if EDGE { ALL_EDGES } else { libc::EPOLLOUT });
        streams.insert(stream.as_raw_fd(), (stream, 0, false));
    }
    let mut buffer = vec![0; 4096];
    poller.run(|fd, events| {
        let (stream, length, sent) = streams.get_mut(&fd).expect("a connection");
        if !*sent && events & libc::EPOLLOUT as u32 != 0 {
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            *sent = true;
            if !EDGE {
                poller.change(stream, libc::EPOLLIN);
            }
            return true;
        }
        if events & !(libc::EPOLLOUT as u32) == 0 {
            return true;
        }
        let end = events & libc::EPOLLRDHUP as u32 != 0;
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(*length > 1_000);
                    streams.remove(&fd);
                    break;
                }
                Ok(n) => {
                    *length += n;
                    if !EDGE || (n < buffer.len() && !end) {
                        break;
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        !streams.is_empty()
    });
}

fn connect(address: std::net::SocketAddrV4) -> TcpStream {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a socket of our own, and an address that lives as long as the call.
    unsafe {
        let fd = libc::socket(libc::AF_INET, kind, 0);
        assert!(fd >= 0);
        let size = size_of_val(&address) as libc::socklen_t;
        libc::connect(fd, (&raw const address).cast(), size);
        TcpStream::from_raw_fd(fd)
    }
}

fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let yes: libc::c_int = 1;
    // SAFETY: the option's value is an int, and is only read.
    unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        );
        libc::listen(listener.as_raw_fd(), 4096);
    }
    println!("{}", listener.local_addr().unwrap());
    listener
}

// ---- epoll -----------------------------------------------------------------------

const ALL_EDGES: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;

struct Poller(OwnedFd);

impl Poller {
    fn new() -> Poller {
        // SAFETY: a new fd, owned by nobody else.
        unsafe {
            Poller(OwnedFd::from_raw_fd(libc::epoll_create1(
                libc::EPOLL_CLOEXEC,
            )))
        }
    }

    fn add(&self, source: &impl AsRawFd, interest: i32) {
        self.control(libc::EPOLL_CTL_ADD, source.as_raw_fd(), interest);
    }

    fn change(&self, source: &impl AsRawFd, interest: i32) {
        self.control(libc::EPOLL_CTL_MOD, source.as_raw_fd(), interest);
    }

    fn control(&self, what: i32, fd: RawFd, interest: i32) {
        let mut event = libc::epoll_event {
            events: interest as u32,
            u64: fd as u64,
        };
        // SAFETY: the event is only read.
        let done = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &mut event) };
        assert_eq!(done, 0);
    }

    /// Until `ready` says that this was the last.
    fn run(&self, mut ready: impl FnMut(RawFd, u32) -> bool) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 1024];
        loop {
            // SAFETY: there is room for 1,024 events.
            let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 1024, -1) };
            for event in &events[..n.max(0) as usize] {
                let (fd, events) = (event.u64 as RawFd, event.events);
                if !ready(fd, events) {
                    return;
                }
            }
        }
    }
}
