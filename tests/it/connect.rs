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

// The builder.

#[test]
fn the_options_of_a_builder_are_those_of_the_stream() {
    async_test(async || {
        let (listener, address) = live().await;
        let stream = TcpStream::builder()
            .nodelay(true)
            .recv_buffer_size(100_000)
            .send_buffer_size(50_000)
            .ttl(7)
            .keepalive(3 * SECOND / 2)
            .linger(3 * SECOND / 2)
            .reuse_address(true)
            .connect(address)
            .await
            .unwrap();
        assert_eq!(stream.ttl().unwrap(), 7);
        assert!(stream.nodelay().unwrap());
        assert_eq!(stream.linger().unwrap(), Some(2 * SECOND));
        #[cfg(unix)]
        assert_eq!(stream.keepalive().unwrap(), Some(2 * SECOND));
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.reuse_address().unwrap());
        // Linux doubles the numbers.
        assert!([100_000, 200_000].contains(&socket.recv_buffer_size().unwrap()));
        assert!([50_000, 100_000].contains(&socket.send_buffer_size().unwrap()));
        // The stream works.
        let (other, _) = soon(listener.accept()).await.unwrap();
        soon(other.writable()).await.unwrap();
        other.try_write(b"x").unwrap();
        soon(stream.readable()).await.unwrap();
        assert_eq!(stream.try_read(&mut [0; 8]).unwrap(), 1);

        // What is not set is as without a builder.
        let plain = TcpStream::builder().connect(address).await.unwrap();
        assert!(!plain.nodelay().unwrap());
        assert_eq!(plain.linger().unwrap(), None);
        #[cfg(unix)]
        assert_eq!(plain.keepalive().unwrap(), None);
        assert!(!socket2::SockRef::from(&plain).reuse_address().unwrap());
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_type_of_service_is_that_of_ipv4_connections() {
    async_test(async || {
        let (_listener, address) = live().await;
        let builder = TcpStream::builder().tos(0x10);
        let stream = builder.clone().connect(address).await.unwrap();
        assert_eq!(socket2::SockRef::from(&stream).tos_v4().unwrap(), 0x10);
        let Ok(listener) = TcpListener::bind("[::1]:0").await else {
            return eprintln!("no IPv6 here");
        };
        builder
            .connect(listener.local_addr().unwrap())
            .await
            .unwrap();
    });
}

/// Linux has all of 127.0.0.0/8.
#[cfg(target_os = "linux")]
#[test]
fn the_peer_sees_the_local_address_of_a_builder() {
    async_test(async || {
        let (listener, address) = live().await;
        let local = SocketAddr::from(([127, 1, 2, 3], 0));
        let builder = TcpStream::builder().bind(local);
        let stream = builder.clone().connect(address).await.unwrap();
        let (_, from) = soon(listener.accept()).await.unwrap();
        assert_eq!(from, stream.local_addr().unwrap());
        assert_eq!(from.ip(), local.ip());

        // A port that is in use, with the address in the error.
        let builder = builder.bind(address);
        let error = builder.connect(address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let text = format!("could not connect to {address}: binding to {address} failed: ");
        assert!(error.to_string().starts_with(&text), "{error}");
    });
}

/// Two of three addresses are of the other family, and cannot be reached from the local one.
#[test]
fn a_builder_with_a_local_address_connects_to_the_first_address_of_its_family() {
    async_test(async || {
        let (listener, address) = live().await;
        let other = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], address.port()));
        let builder = TcpStream::builder().bind(([127, 0, 0, 1], 0).into());
        let addresses = [other, address, other];
        let stream = builder.clone().connect(&addresses[..]);
        let is_late = clock(HEAD_START);
        assert_eq!(soon(stream).await.unwrap().peer_addr().unwrap(), address);
        assert!(!is_late.get(), "the other attempt has failed at once");
        assert_eq!(attempts(&listener).await, 1);
        soon(builder.connect(other)).await.unwrap_err();
    });
}

#[test]
fn a_refused_option_of_a_builder_fails_before_the_peer_hears_of_it() {
    async_test(async || {
        let (listener, address) = live().await;
        let error = TcpStream::builder().ttl(1000).connect(address).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains("setting the TTL to 1000 failed"), "{text}");
        assert_eq!(attempts(&listener).await, 0);
    });
}

#[test]
fn a_builder_outside_of_a_runtime_is_an_error_and_makes_no_connection() {
    watchdog(|| {
        let (listener, address) = block_on(live());
        let connect = TcpStream::builder().nodelay(true).connect(address);
        let error = futures_lite::future::block_on(connect).unwrap_err();
        assert!(error.to_string().contains("soloist::block_on"), "{error}");
        assert_eq!(block_on(attempts(&listener)), 0);
    });
}

#[test]
fn connections_have_the_buffer_sizes_of_their_listener() {
    async_test(async || {
        let listener = TcpListener::builder()
            .recv_buffer_size(100_000)
            .send_buffer_size(50_000)
            .bind("127.0.0.1:0")
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = soon(listener.accept()).await.unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert!([100_000, 200_000].contains(&socket.recv_buffer_size().unwrap()));
        assert!([50_000, 100_000].contains(&socket.send_buffer_size().unwrap()));
    });
}
