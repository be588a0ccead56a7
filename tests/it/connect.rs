//! Happy Eyeballs: several addresses are tried one after the other, and concurrently.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use soloist::net::{TcpListener, TcpStream};
use soloist::time::timeout;

use crate::support::*;

/// How long an attempt runs before the next one starts.
const HEAD_START: Duration = Duration::from_millis(250);

/// A listener whose queue is full: a connect gets no answer, and fails after minutes.
#[cfg(target_os = "linux")]
struct Dead {
    address: SocketAddr,
    _listener: Socket,
    _queue: Vec<Socket>,
}

#[cfg(target_os = "linux")]
impl Dead {
    fn new() -> Dead {
        let (listener, address) = refusing();
        listener.listen(0).unwrap();
        let mut queue: Vec<Socket> = Vec::new();
        // The first fits into the queue; the next ones do not.
        while queue.len() < 2 || is_connected(queue.last().unwrap()) {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            queue.push(socket);
            assert!(queue.len() < 100, "its queue is never full");
        }
        Dead {
            address,
            _listener: listener,
            _queue: queue,
        }
    }
}

#[cfg(target_os = "linux")]
fn is_connected(socket: &Socket) -> bool {
    std::thread::sleep(20 * MS);
    socket.peer_addr().is_ok()
}

async fn live() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// How many connections wait to be accepted there.
async fn attempts(listener: &TcpListener) -> usize {
    let mut count = 0;
    while let Ok(accepted) = timeout(20 * MS, listener.accept()).await {
        accepted.unwrap();
        count += 1;
    }
    count
}

/// Whether `time` of the runtime's own clock has passed meanwhile.
fn clock(time: Duration) -> &'static Cell<bool> {
    let passed = leak(Cell::new(false));
    spawn(async move {
        sleep(time).await;
        passed.set(true);
    })
    .detach();
    passed
}

#[test]
fn only_the_first_address_that_answers_is_connected_to() {
    async_test(async || {
        let (first, a) = live().await;
        let (second, b) = live().await;
        let stream = TcpStream::connect(&[a, b][..]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), a);
        assert_eq!((attempts(&first).await, attempts(&second).await), (1, 0));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn an_unresponsive_address_delays_the_next_by_one_head_start() {
    async_test(async || {
        let dead = Dead::new();
        let (second, b) = live().await;
        let (third, c) = live().await;
        let half = clock(HEAD_START / 2);
        // A connect timeout takes longer than the watchdog waits.
        let stream = TcpStream::connect(&[dead.address, b, c][..]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), b);
        assert!(half.get(), "the first one had no head start");
        assert_eq!((attempts(&second).await, attempts(&third).await), (1, 0));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn each_unresponsive_address_delays_the_next_by_one_head_start() {
    async_test(async || {
        let dead = [Dead::new(), Dead::new(), Dead::new()];
        let (listener, address) = live().await;
        let mut addresses: Vec<_> = dead.iter().map(|dead| dead.address).collect();
        addresses.push(address);
        let most = clock(3 * HEAD_START - 10 * MS);
        let stream = TcpStream::connect(addresses.as_slice()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(most.get());
        assert_eq!(attempts(&listener).await, 1);
    });
}

#[test]
fn a_refusing_address_delays_nothing() {
    const REFUSED: u32 = 100;
    watchdog(|| {
        let refused: Vec<_> = (0..REFUSED).map(|_| refusing()).collect();
        block_on(async {
            let (listener, address) = live().await;
            let mut addresses: Vec<_> = refused.iter().map(|(_, address)| *address).collect();
            addresses.push(address);
            // Head starts would be 25 seconds.
            let head_starts = clock(REFUSED * HEAD_START);
            let stream = TcpStream::connect(addresses.as_slice()).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            assert!(!head_starts.get());
            assert_eq!(attempts(&listener).await, 1);
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_refusal_starts_the_next_attempt_at_once() {
    watchdog(|| {
        let dead = Dead::new();
        let refused: Vec<_> = (0..100).map(|_| refusing()).collect();
        block_on(async {
            let (_listener, address) = live().await;
            let mut addresses = vec![dead.address];
            addresses.extend(refused.iter().map(|(_, address)| *address));
            addresses.push(address);
            let head_starts = clock(100 * HEAD_START);
            let stream = TcpStream::connect(addresses.as_slice()).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            assert!(!head_starts.get());
        });
    });
}

#[test]
fn if_all_fail_the_error_lists_every_attempt() {
    watchdog(|| {
        let refused: Vec<_> = (0..5).map(|_| refusing()).collect();
        let addresses: Vec<_> = refused.iter().map(|(_, address)| *address).collect();
        let error = block_on(TcpStream::connect(addresses.as_slice())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        let why = io::Error::from_raw_os_error(libc_refused()).to_string();
        assert_eq!(text.matches(&why).count(), 5, "{text}");
        let mut rest = text.as_str();
        for address in addresses {
            // In the order of the addresses.
            let at = rest.find(&address.to_string()).expect(&text);
            rest = &rest[at..];
        }
    });
}

/// ECONNREFUSED, as the system says it.
fn libc_refused() -> i32 {
    let (_socket, address) = refusing();
    let error = std::net::TcpStream::connect(address).unwrap_err();
    error.raw_os_error().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn an_earlier_attempt_may_still_succeed() {
    async_test(async || {
        let mut dead = Dead::new();
        let (_taken, refused) = refusing();
        let connecting = spawn({
            let addresses = [dead.address, refused];
            async move { TcpStream::connect(&addresses[..]).await }
        });
        sleep(HEAD_START + 50 * MS).await;
        assert!(!connecting.is_finished());
        // Makes room in the queue: the system tries again after about a second.
        dead._queue.clear();
        while dead
            ._listener
            .accept()
            .is_ok_and(|(_, from)| from.as_socket().is_some())
        {
            dead._listener.set_nonblocking(true).unwrap();
        }
        let stream = connecting.await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), dead.address);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_other_attempts_are_closed() {
    use crate::support::{open_fds, passes_in_child};

    passes_in_child("connect::the_other_attempts_are_closed", || {
        async_test(async || {
            let dead = [Dead::new(), Dead::new()];
            let (_taken, refused) = refusing();
            let (_listener, address) = live().await;
            // The first socket creates the reactor.
            drop(TcpStream::connect(address).await.unwrap());
            let before = open_fds();
            let addresses = [dead[0].address, refused, dead[1].address, address];
            let stream = TcpStream::connect(&addresses[..]).await.unwrap();
            assert_eq!(open_fds(), before + 1);
            drop(stream);
            assert_eq!(open_fds(), before);
            // Attempts are closed when the connect is dropped.
            let connecting = timeout(HEAD_START + 50 * MS, TcpStream::connect(&addresses[..3]));
            assert!(connecting.await.is_err());
            assert_eq!(open_fds(), before);
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn connecting_to_an_unresponsive_address_waits_until_it_is_dropped() {
    async_test(async || {
        let dead = Dead::new();
        let connecting = timeout(2 * HEAD_START, TcpStream::connect(dead.address));
        assert!(connecting.await.is_err());
    });
}

#[test]
fn families_take_turns() {
    watchdog(|| {
        let Ok(v6) = std::net::TcpListener::bind("[::1]:0") else {
            eprintln!("there is no IPv6 here");
            return;
        };
        let refused: Vec<_> = (0..3).map(|_| refusing()).collect();
        block_on(async {
            let mut addresses: Vec<_> = refused.iter().map(|(_, address)| *address).collect();
            let (_listener, last) = live().await;
            addresses.extend([last, v6.local_addr().unwrap()]);
            // The v6 address stands last, and comes second.
            let stream = TcpStream::connect(addresses.as_slice()).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), v6.local_addr().unwrap());
        });
    });
}
