//! `readable`, `writable`, and the forms of the socket operations that do not wait: `try_*` and
//! `poll_*`.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::pin;

use futures_lite::future::zip;
#[cfg(unix)]
use soloist::net::unix::{UnixDatagram, UnixListener, UnixStream};
use soloist::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::*;

/// Tests that run on the system and on a simulated host.
macro_rules! also_in_a_world {
    ($($test:ident,)*) => {
        mod system {
            $(#[test] fn $test() {
                crate::support::async_test(super::$test);
            })*
        }
        #[cfg(feature = "testing")]
        mod world {
            $(#[test] fn $test() {
                super::in_a_world(super::$test);
            })*
        }
    };
}

also_in_a_world!(
    after_a_short_read_a_stream_is_readable_again_with_the_next_byte_and_at_its_end,
    a_flush_of_a_full_stream_does_not_make_it_writable,
    what_was_peeked_at_is_read_again,
    accepting_in_a_loop_starves_no_other_task,
    udp_is_tried_and_polled_with_addresses_and_peeks,
    waits_tries_and_reads_share_a_stream,
    a_listener_is_tried_and_polled,
);

/// What the connected sockets have in common.
trait Socket: Clone + 'static {
    async fn pair() -> (Self, Self);
    async fn readable(&self) -> io::Result<()>;
    async fn writable(&self) -> io::Result<()>;
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_send(&self, buf: &[u8]) -> io::Result<usize>;
    fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize>;
}

macro_rules! impl_socket {
    ($type:ty, $pair:expr, $try_send:ident, $try_recv:ident) => {
        impl Socket for $type {
            async fn pair() -> (Self, Self) {
                let pair: (Self, Self) = $pair;
                pair
            }
            async fn readable(&self) -> io::Result<()> {
                self.readable().await
            }
            async fn writable(&self) -> io::Result<()> {
                self.writable().await
            }
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_readable(cx)
            }
            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_writable(cx)
            }
            fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
                self.$try_send(buf)
            }
            fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.$try_recv(buf)
            }
        }
    };
}

impl_socket!(TcpStream, tcp().await, try_write, try_read);
impl_socket!(UdpSocket, udp().await, try_send, try_recv);
#[cfg(unix)]
impl_socket!(UnixStream, UnixStream::pair().unwrap(), try_write, try_read);
#[cfg(unix)]
impl_socket!(
    UnixDatagram,
    UnixDatagram::pair().unwrap(),
    try_send,
    try_recv
);

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let one = TcpStream::connect(address).await.unwrap();
    let (other, from) = listener.accept().await.unwrap();
    assert_eq!(from, one.local_addr().unwrap());
    (one, other)
}

async fn udp() -> (UdpSocket, UdpSocket) {
    let one = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    one.connect(other.local_addr().unwrap()).await.unwrap();
    other.connect(one.local_addr().unwrap()).await.unwrap();
    (one, other)
}

/// Runs a test on a simulated host, under some schedules.
#[cfg(feature = "testing")]
fn in_a_world<F: Future<Output = ()> + 'static>(test: impl Fn() -> F + Send + 'static) {
    watchdog(move || {
        soloist::testing::simulate(0..3, async |world: soloist::testing::World| {
            world.host("host").spawn(test()).await;
        });
    });
}

macro_rules! of_each_kind {
    ($($test:ident,)*) => {
        of_each_kind!(@ tcp, super::TcpStream, $($test,)*);
        of_each_kind!(@ udp, super::UdpSocket, $($test,)*);
        #[cfg(unix)]
        of_each_kind!(@ unix_stream, super::UnixStream, $($test,)*);
        #[cfg(unix)]
        of_each_kind!(@ unix_datagram, super::UnixDatagram, $($test,)*);
        #[cfg(feature = "testing")]
        of_each_kind!(@@ tcp_in_a_world, super::TcpStream, $($test,)*);
        #[cfg(feature = "testing")]
        of_each_kind!(@@ udp_in_a_world, super::UdpSocket, $($test,)*);
    };
    (@@ $kind:ident, $type:ty, $($test:ident,)*) => {
        mod $kind {
            $(#[test] fn $test() {
                super::in_a_world(|| async {
                    let (one, other) = <$type as super::Socket>::pair().await;
                    super::$test::<$type>(one, other).await
                });
            })*
        }
    };
    (@ $kind:ident, $type:ty, $($test:ident,)*) => {
        mod $kind {
            $(#[test] fn $test() {
                crate::support::async_test(async || {
                    let (one, other) = <$type as super::Socket>::pair().await;
                    super::$test::<$type>(one, other).await
                });
            })*
        }
    };
}

of_each_kind!(
    a_socket_is_readable_from_the_first_datagram_to_the_empty_receive,
    a_try_finds_what_came_since_the_last_one_without_a_wait,
    two_tasks_that_wait_receive_one_each,
    a_wait_that_is_dropped_half_way_loses_nothing,
    a_poll_with_another_waker_wakes_both_once,
    a_loop_on_a_socket_that_is_always_ready_starves_no_other_task,
    a_task_that_only_waits_for_a_ready_socket_starves_no_other_task,
);

#[track_caller]
fn assert_would_block<T>(result: io::Result<T>) {
    match result {
        Ok(_) => panic!("it does not block"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
    }
}

/// Receives one datagram, or so many bytes, as the users of tokio do.
async fn receive(socket: &impl Socket, buf: &mut [u8]) -> usize {
    loop {
        soon(socket.readable()).await.unwrap();
        match socket.try_recv(buf) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result.unwrap(),
        }
    }
}

async fn a_socket_is_readable_from_the_first_datagram_to_the_empty_receive<S: Socket>(
    one: S,
    other: S,
) {
    let mut buf = [0; 8];
    soon(one.writable()).await.unwrap();
    // Before a try, and after one.
    fails_soon(one.readable()).await;
    assert_would_block(one.try_recv(&mut buf));
    fails_soon(one.readable()).await;
    for n in 0..20 {
        assert_eq!(other.try_send(&[n; 2]).unwrap(), 2);
        assert_eq!(other.try_send(&[n; 2]).unwrap(), 2);
        for _ in 0..3 {
            soon(one.readable()).await.unwrap();
        }
        assert_eq!(receive(&one, &mut buf[..2]).await, 2);
        soon(one.readable()).await.unwrap();
        assert_eq!(receive(&one, &mut buf[..2]).await, 2);
        assert_eq!(buf[..2], [n; 2]);
        assert_would_block(one.try_recv(&mut buf));
        fails_soon(one.readable()).await;
    }
    fails_soon(other.readable()).await;
}

async fn a_try_finds_what_came_since_the_last_one_without_a_wait<S: Socket>(one: S, other: S) {
    let mut buf = [0; 8];
    for n in 0..20 {
        assert_would_block(one.try_recv(&mut buf));
        other.try_send(&[n]).unwrap();
        while let Err(error) = one.try_recv(&mut buf) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            sleep(MS / 10).await;
        }
        assert_eq!(buf[0], n);
        // It has been waited for only in one half of the rounds.
        if n == 10 {
            fails_soon(one.readable()).await;
        }
    }
}

async fn two_tasks_that_wait_receive_one_each<S: Socket>(one: S, other: S) {
    for n in 0..20 {
        let got = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let (one, got) = (one.clone(), got.clone());
                spawn(async move {
                    let mut buf = [0];
                    assert_eq!(receive(&one, &mut buf).await, 1);
                    got.set(got.get() + 1);
                    buf[0]
                })
            })
            .collect();
        yields(n % 3).await;
        other.try_send(&[1]).unwrap();
        yields(n % 4).await;
        assert!(got.get() <= 1);
        other.try_send(&[2]).unwrap();
        let mut bytes = Vec::new();
        for task in tasks {
            bytes.push(soon(task).await);
        }
        bytes.sort();
        assert_eq!(bytes, [1, 2]);
    }
}

async fn a_wait_that_is_dropped_half_way_loses_nothing<S: Socket>(one: S, other: S) {
    let mut buf = [0; 8];
    for n in 0..50_u8 {
        let mut waits = Box::pin(one.readable());
        // Not polled, polled once, or polled again after the event.
        let is_polled = n % 5 > 0;
        if is_polled {
            assert!(poll_once(&mut waits).await.is_pending());
        }
        other.try_send(&[n]).unwrap();
        yields(n as usize % 4).await;
        if n % 5 == 2 {
            let _ = poll_once(&mut waits).await;
        }
        drop(waits);
        soon(one.readable()).await.unwrap();
        assert_eq!(receive(&one, &mut buf).await, 1);
        assert_eq!(buf[0], n);
        assert_would_block(one.try_recv(&mut buf));
    }
}

async fn a_poll_with_another_waker_wakes_both_once<S: Socket>(one: S, other: S) {
    let (first, first_waker) = CountWakes::new();
    let (second, second_waker) = CountWakes::new();
    let poll = |waker: &Waker| one.poll_readable(&mut Context::from_waker(waker));
    assert!(poll(&first_waker).is_pending());
    assert!(poll(&second_waker).is_pending());
    assert!(poll(&second_waker).is_pending());
    other.try_send(b"x").unwrap();
    soon(poll_fn(|cx| one.poll_readable(cx))).await.unwrap();
    assert_eq!((first.get(), second.get()), (1, 1));
    assert_eq!(receive(&one, &mut [0; 8]).await, 1);
    assert_would_block(one.try_recv(&mut [0; 8]));
    assert!(poll(&second_waker).is_pending());
    assert_eq!((first.get(), second.get()), (1, 1));
    soon(poll_fn(|cx| one.poll_writable(cx))).await.unwrap();
}

async fn a_loop_on_a_socket_that_is_always_ready_starves_no_other_task<S: Socket>(
    one: S,
    other: S,
) {
    let done = Cell::new(0);
    other.try_send(b"x").unwrap();
    let busy = async {
        while done.get() < 1000 {
            // Before the receive, so that it is never empty.
            other.try_send(b"x").unwrap();
            assert_eq!(receive(&one, &mut [0]).await, 1);
            done.set(done.get() + 1);
        }
    };
    // The send, the wait and the receive.
    assert!(most_in_a_poll(&done, busy).await <= 128 / 3 + 2);
}

async fn a_task_that_only_waits_for_a_ready_socket_starves_no_other_task<S: Socket>(
    one: S,
    _other: S,
) {
    let done = Cell::new(0);
    let busy = async {
        while done.get() < 500 {
            one.writable().await.unwrap();
            done.set(done.get() + 1);
        }
        while done.get() < 1000 {
            poll_fn(|cx| one.poll_writable(cx)).await.unwrap();
            done.set(done.get() + 1);
        }
    };
    assert!(most_in_a_poll(&done, busy).await <= 128);
}

/// The most that `done` grows in one poll of `busy`, which ends at 1,000.
async fn most_in_a_poll(done: &Cell<usize>, busy: impl Future<Output = ()>) -> usize {
    let mut most = 0;
    let mut busy = pin!(busy);
    poll_fn(|cx| {
        let before = done.get();
        let polled = busy.as_mut().poll(cx);
        most = most.max(done.get() - before);
        polled
    })
    .await;
    assert_eq!(done.get(), 1000);
    most
}

fn assert_names_the_fix<S: Socket>() {
    use futures_lite::future::block_on as plain;

    let (one, other) = block_on(S::pair());
    // Twice.
    for _ in 0..2 {
        let results = [
            one.try_recv(&mut [0]).map(drop),
            one.try_send(b"x").map(drop),
            plain(one.readable()),
            plain(one.writable()),
            plain(poll_fn(|cx| one.poll_readable(cx))),
            plain(poll_fn(|cx| one.poll_writable(cx))),
        ];
        for result in results {
            let text = result.unwrap_err().to_string();
            for part in ["outside of a soloist runtime", "soloist::block_on"] {
                assert!(text.contains(part), "{text}");
            }
        }
    }
    // Nothing was sent, and the sockets still work.
    block_on(async {
        assert_would_block(other.try_recv(&mut [0]));
        other.try_send(b"y").unwrap();
        assert_eq!(receive(&one, &mut [0]).await, 1);
    });
}

#[test]
fn calls_outside_of_a_runtime_are_errors_that_name_the_fix() {
    watchdog(|| {
        assert_names_the_fix::<TcpStream>();
        assert_names_the_fix::<UdpSocket>();
        #[cfg(unix)]
        assert_names_the_fix::<UnixStream>();
        #[cfg(unix)]
        assert_names_the_fix::<UnixDatagram>();
    });
}

/// A socket that has moved in the middle of an operation of its first thread is not trusted.
#[test]
fn a_socket_is_tried_on_the_thread_that_it_moves_to() {
    async_test(async || {
        let (one, other) = tcp().await;
        assert_would_block(one.try_recv(&mut [0]));
        soon(one.writable()).await.unwrap();
        other.try_send(b"xy").unwrap();
        let there = on_thread(move || {
            block_on(async {
                assert_eq!(receive(&one, &mut [0]).await, 1);
                assert_eq!(one.try_recv(&mut [0; 8]).unwrap(), 1);
                fails_soon(one.readable()).await;
                one
            })
        });
        let one = there.await;
        other.try_send(b"z").unwrap();
        assert_eq!(receive(&one, &mut [0]).await, 1);

        let clone = one.clone();
        let error = on_thread(move || block_on(async { clone.try_recv(&mut [0]) }));
        let text = error.await.unwrap_err().to_string();
        assert!(text.contains("belongs to another thread"), "{text}");
    });
}

// Streams.

/// Writes until the buffer is full, waits, and goes on, as the users of tokio do.
async fn send_all(stream: &impl Socket, mut bytes: &[u8]) {
    let mut fills = 0;
    while !bytes.is_empty() {
        soon(stream.writable()).await.unwrap();
        loop {
            match stream.try_send(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            if bytes.is_empty() {
                return;
            }
        }
        fills += 1;
    }
    assert!(fills > 1);
}

async fn receive_all(stream: &impl Socket, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = [0; 3000];
    while all.len() < count {
        let n = receive(stream, &mut buf).await;
        all.extend_from_slice(&buf[..n]);
    }
    all
}

async fn both_ways<S: Socket>(count: u32) {
    let bytes: Vec<u8> = (0..count).map(|n| (n ^ (n >> 9)) as u8).collect();
    let (one, other) = S::pair().await;
    let there = zip(send_all(&one, &bytes), receive_all(&other, bytes.len()));
    let back = zip(send_all(&other, &bytes), receive_all(&one, bytes.len()));
    let (((), first), ((), second)) = zip(there, back).await;
    assert!(first == bytes && second == bytes);
}

#[test]
fn full_buffers_are_filled_and_emptied_in_both_directions() {
    async_test(async || {
        both_ways::<TcpStream>(8 << 20).await;
        #[cfg(unix)]
        both_ways::<UnixStream>(8 << 20).await;
    });
}

async fn fill<S: Socket>() {
    let (one, other) = S::pair().await;
    let mut sent = 0;
    loop {
        match one.try_send(&[1; 1 << 16]) {
            Ok(n) => sent += n,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    fails_soon(one.writable()).await;
    fails_soon(poll_fn(|cx| one.poll_writable(cx))).await;
    assert_would_block(one.try_send(b"x"));
    // The other direction does not depend on it.
    other.try_send(b"x").unwrap();
    assert_eq!(receive(&one, &mut [0; 8]).await, 1);
    let waits = async { soon(one.writable()).await.unwrap() };
    let ((), all) = zip(waits, receive_all(&other, sent)).await;
    assert_eq!(all.len(), sent);
    assert_eq!(one.try_send(b"x").unwrap(), 1);
}

#[test]
fn a_full_buffer_is_not_writable_until_it_is_read() {
    async_test(async || {
        fill::<TcpStream>().await;
        #[cfg(unix)]
        fill::<UnixStream>().await;
    });
}

macro_rules! several_buffers {
    ($pair:expr) => {{
        let (one, other) = $pair;
        let parts = [&b"one"[..], b"", b"two"].map(IoSlice::new);
        assert_eq!(one.try_write_vectored(&parts).unwrap(), 6);
        soon(other.readable()).await.unwrap();
        let (mut a, mut b) = ([0; 2], [0; 10]);
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(other.try_read_vectored(&mut bufs).unwrap(), 6);
        assert_eq!((&a, &b[..4]), (b"on", &b"etwo"[..]));
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_would_block(other.try_read_vectored(&mut bufs));
        // Without room nothing is read, and nothing would block.
        assert_eq!(other.try_read_vectored(&mut []).unwrap(), 0);
        assert_eq!(other.try_read(&mut []).unwrap(), 0);
        assert_eq!(other.try_write(&[]).unwrap(), 0);
    }};
}

#[test]
fn several_buffers_are_tried_at_once() {
    async_test(async || {
        several_buffers!(tcp().await);
        #[cfg(unix)]
        several_buffers!(UnixStream::pair().unwrap());
    });
}

/// A short read of a TCP stream shows that it is empty, as in `AsyncRead`.
async fn after_a_short_read_a_stream_is_readable_again_with_the_next_byte_and_at_its_end() {
    let (one, other) = tcp().await;
    for _ in 0..10 {
        other.try_write(b"abc").unwrap();
        soon(one.readable()).await.unwrap();
        assert_eq!(one.try_read(&mut [0; 8]).unwrap(), 3);
        fails_soon(one.readable()).await;
    }
    other.try_write(b"abc").unwrap();
    drop(other);
    let mut buf = [0; 8];
    assert_eq!(receive(&one, &mut buf).await, 3);
    for _ in 0..3 {
        assert_eq!(receive(&one, &mut buf).await, 0);
    }
    let error = loop {
        match one.try_write(b"x") {
            Ok(_) => soon(one.writable()).await.unwrap(),
            Err(error) => break error,
        }
    };
    let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(kinds.contains(&error.kind()), "{error}");
}

/// A flush sets the readiness for the next write, and not that for a wait.
async fn a_flush_of_a_full_stream_does_not_make_it_writable() {
    let (one, other) = tcp().await;
    while one.try_write(&[1; 1 << 16]).is_ok() {}
    futures_lite::AsyncWriteExt::flush(&mut &one).await.unwrap();
    fails_soon(one.writable()).await;
    drop(other);
    soon(one.writable()).await.unwrap();
}

async fn what_was_peeked_at_is_read_again() {
    let (one, other) = tcp().await;
    let mut buf = [0; 8];
    assert_would_block(one.try_peek(&mut buf));
    assert_eq!(one.try_peek(&mut []).unwrap(), 0);
    let (wakes, waker) = CountWakes::new();
    let mut cx = Context::from_waker(&waker);
    assert!(one.poll_peek(&mut cx, &mut buf).is_pending());
    assert!(one.poll_peek(&mut cx, &mut []).is_ready());
    other.try_write(b"hello").unwrap();
    for n in [3, 8] {
        let peek = poll_fn(|cx| one.poll_peek(cx, &mut buf[..n]));
        assert_eq!(soon(peek).await.unwrap(), n.min(5));
        assert_eq!(one.try_peek(&mut buf[..n]).unwrap(), n.min(5));
        soon(one.readable()).await.unwrap();
    }
    assert_eq!(wakes.get(), 1);
    assert_eq!(one.try_read(&mut buf).unwrap(), 5);
    assert_eq!(&buf[..5], b"hello");
}

// Listeners.

/// The verbs of a listener that has clones.
macro_rules! listener {
    ($listener:expr, $connect:expr, $check:expr) => {{
        let (listener, connect, check) = ($listener, $connect, $check);
        let (wakes, waker) = CountWakes::new();
        let cx = &mut Context::from_waker(&waker);
        assert_would_block(listener.try_accept());
        fails_soon(listener.readable()).await;
        assert!(listener.poll_readable(cx).is_pending());
        assert!(listener.poll_accept(cx).is_pending());
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(connect().await);
        }
        soon(listener.readable()).await.unwrap();
        assert_eq!(wakes.get(), 1, "both have waited with the same waker");
        let (stream, from) = listener.try_accept().unwrap();
        check(&clients[0], stream, from);
        let (stream, from) = soon(poll_fn(|cx| listener.poll_accept(cx))).await.unwrap();
        check(&clients[1], stream, from);
        let (stream, from) = soon(listener.accept()).await.unwrap();
        check(&clients[2], stream, from);
        soon(poll_fn(|cx| listener.poll_readable(cx)))
            .await
            .unwrap();
        soon(listener.readable()).await.unwrap();
        let (stream, from) = listener.try_accept().unwrap();
        check(&clients[3], stream, from);
        assert_would_block(listener.try_accept());
        assert!(listener.poll_readable(cx).is_pending());
        let (wait, _client) = zip(soon(listener.readable()), connect()).await;
        wait.unwrap();
        assert_eq!(wakes.get(), 2);
        soon(listener.accept()).await.unwrap();
    }};
}

async fn a_listener_is_tried_and_polled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connect = async || TcpStream::connect(address).await.unwrap();
    let check = |client: &TcpStream, stream: TcpStream, from: SocketAddr| {
        assert_eq!(stream.peer_addr().unwrap(), from);
        assert_eq!(client.local_addr().unwrap(), from);
    };
    listener!(listener, connect, check);
}

#[cfg(target_os = "linux")]
#[test]
fn a_unix_listener_is_tried_and_polled() {
    use std::io::Read;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net;

    async_test(async || {
        let name = format!("soloist-test-{}-try-io", std::process::id());
        let address = net::SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let connect = async || net::UnixStream::connect_addr(&address).unwrap();
        let check = |mut client: &net::UnixStream, stream: UnixStream, from: net::SocketAddr| {
            assert!(from.is_unnamed());
            stream.try_write(b"x").unwrap();
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 1);
        };
        listener!(listener, connect, check);
    });
}

async fn accepting_in_a_loop_starves_no_other_task() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let done = Cell::new(900);
    let busy = async {
        while done.get() < 1000 {
            listener.readable().await.unwrap();
            listener.try_accept().unwrap();
            done.set(done.get() + 1);
        }
    };
    // An accept costs four operations, and the wait one.
    assert!(most_in_a_poll(&done, busy).await <= 128 / 5 + 1);
    drop(clients);
}

// Datagrams.

macro_rules! datagrams {
    ($pair:expr) => {{
        let (one, other) = $pair;
        let mut buf = [0; 8];
        let (wakes, waker) = CountWakes::new();
        let cx = &mut Context::from_waker(&waker);
        assert!(one.poll_recv(cx, &mut buf).is_pending());
        assert!(one.poll_recv_from(cx, &mut buf).is_pending());
        assert_would_block(one.try_recv_from(&mut buf));
        soon(poll_fn(|cx| other.poll_send(cx, b"one")))
            .await
            .unwrap();
        soon(one.readable()).await.unwrap();
        assert_eq!(
            soon(poll_fn(|cx| one.poll_recv(cx, &mut buf)))
                .await
                .unwrap(),
            3
        );
        assert_eq!((&buf[..3], wakes.get()), (&b"one"[..], 1));
        assert_eq!(other.try_send(b"").unwrap(), 0);
        assert_eq!(other.try_send(b"two").unwrap(), 3);
        let received = poll_fn(|cx| one.poll_recv_from(cx, &mut buf));
        assert_eq!(soon(received).await.unwrap().0, 0);
        assert_eq!(one.try_recv_from(&mut buf).unwrap().0, 3);
        assert_would_block(one.try_recv(&mut buf));
    }};
}

#[test]
fn datagrams_are_tried_and_polled() {
    async_test(async || {
        datagrams!(udp().await);
        #[cfg(unix)]
        datagrams!(UnixDatagram::pair().unwrap());
    });
}

async fn udp_is_tried_and_polled_with_addresses_and_peeks() {
    let one = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (here, there) = (one.local_addr().unwrap(), other.local_addr().unwrap());
    let mut buf = [0; 8];
    assert_would_block(one.try_peek(&mut buf));
    assert_would_block(one.try_peek_from(&mut buf));
    assert_eq!(other.try_send_to(b"hello", here).unwrap(), 5);
    let send = poll_fn(|cx| other.poll_send_to(cx, b"x", here));
    assert_eq!(soon(send).await.unwrap(), 1);
    assert_eq!(
        soon(poll_fn(|cx| one.poll_peek(cx, &mut buf)))
            .await
            .unwrap(),
        5
    );
    let peek = poll_fn(|cx| one.poll_peek_from(cx, &mut buf));
    assert_eq!(soon(peek).await.unwrap(), (5, there));
    assert_eq!(one.try_peek(&mut buf).unwrap(), 5);
    assert_eq!(one.try_peek_from(&mut buf).unwrap(), (5, there));
    assert_eq!(one.try_recv_from(&mut buf).unwrap(), (5, there));
    assert_eq!(one.try_recv_from(&mut buf).unwrap(), (1, there));
    // The other family.
    let v6 = "[::1]:1".parse().unwrap();
    let error = one.try_send_to(b"x", v6).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::WouldBlock);
}

/// Linux: the queue of a receiver is short.
#[cfg(target_os = "linux")]
#[test]
fn unix_datagrams_are_sent_to_a_name_until_the_queue_is_full() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net;

    async_test(async || {
        let name = format!("soloist-test-{}-try-send", std::process::id());
        let address = net::SocketAddr::from_abstract_name(name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        let (to_name, connected) = (
            UnixDatagram::unbound().unwrap(),
            UnixDatagram::unbound().unwrap(),
        );
        connected.connect_addr(&address).unwrap();
        let mut sent = 0;
        while to_name.try_send_to_addr(b"x", &address).is_ok() {
            sent += 1;
        }
        assert!(sent > 0);
        let error = to_name.try_send_to_addr(b"x", &address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().contains("sending to"), "{error}");
        // The system reports the queue of the connected peer, and that of no other.
        assert_would_block(connected.try_send(b"x"));
        fails_soon(connected.writable()).await;
        soon(to_name.writable()).await.unwrap();
        let (wait, received) = zip(connected.writable(), receive(&receiver, &mut [0; 8])).await;
        wait.unwrap();
        assert_eq!((received, connected.try_send(b"x").unwrap()), (1, 1));
        // The loop that waits for the socket makes progress when the receiver does.
        let sends = async {
            while let Err(error) = to_name.try_send_to_addr(b"last", &address) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                to_name.writable().await.unwrap();
            }
        };
        let receives = async {
            let mut buf = [0; 8];
            while receive(&receiver, &mut buf).await < 4 {}
        };
        soon(zip(sends, receives)).await;
        let missing = std::env::temp_dir().join("soloist-no-such-socket");
        let error = to_name.try_send_to(b"x", &missing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

// Other users of the same socket.

/// A task that reads and one that waits do not take each other's events.
async fn waits_tries_and_reads_share_a_stream() {
    use futures_lite::AsyncReadExt;

    let (one, other) = tcp().await;
    for n in 0..40_u8 {
        let mut buf = [0; 2];
        let mut reader = &one;
        let mut read = pin!(reader.read_exact(&mut buf));
        let mut wait = pin!(one.readable());
        let polled = (poll_once(&mut read).await, poll_once(&mut wait).await);
        assert!(polled.0.is_pending() && polled.1.is_pending());
        other.try_write(&[n]).unwrap();
        // Either sees the byte first.
        if n % 2 == 0 {
            soon(&mut wait).await.unwrap();
        }
        other.try_write(&[n]).unwrap();
        soon(&mut read).await.unwrap();
        assert_eq!(
            one.try_peek(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        if n % 2 == 1 {
            // It was reported, and is empty again.
            fails_soon(&mut wait).await;
        }
    }
}

/// A system reads only so many buffers in one call: the rest is not a short read.
#[test]
#[cfg_attr(
    windows,
    ignore = "Windows takes any number of buffers, and reports bytes that were read meanwhile"
)]
fn a_read_into_more_buffers_than_the_system_takes_does_not_lose_the_rest() {
    async_test(async || {
        use futures_lite::AsyncReadExt;

        let (mut one, other) = tcp().await;
        let mut bytes = vec![[0]; 5000];
        for round in 0..2 {
            fails_soon(one.readable()).await;
            other.try_write(&[7; 5000]).unwrap();
            let mut all = 0;
            while all < 5000 {
                let mut bufs: Vec<_> = bytes.iter_mut().map(|b| IoSliceMut::new(b)).collect();
                all += if round == 0 {
                    soon(one.read_vectored(&mut bufs)).await.unwrap()
                } else {
                    soon(one.readable()).await.unwrap();
                    one.try_read_vectored(&mut bufs).unwrap()
                };
            }
            assert_eq!(all, 5000);
            assert_would_block(one.try_read(&mut [0]));
        }
    });
}

// In a simulated world.

#[cfg(feature = "testing")]
#[test]
fn a_window_is_filled_and_emptied() {
    in_a_world(|| async {
        fill::<TcpStream>().await;
        both_ways::<TcpStream>(300_000).await;
    });
}

#[cfg(feature = "testing")]
#[test]
fn a_builder_connects_from_an_address_of_its_host() {
    use soloist::testing::{World, simulate};

    watchdog(|| {
        simulate(0..1, async |world: World| {
            let (client, server) = (world.host("client"), world.host("server"));
            let bind = async || TcpListener::bind("0.0.0.0:80").await.unwrap();
            let listener = server.spawn(bind()).await;
            let (here, there) = (client.address(), server.address());
            let stream = client.spawn(async move {
                let from = |ip| {
                    TcpStream::builder()
                        .nodelay(true)
                        .ttl(9)
                        .bind((ip, 7000).into())
                };
                let error = from(there).connect((there, 80)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
                let stream = from(here).connect((there, 80)).await.unwrap();
                assert_eq!(stream.local_addr().unwrap(), (here, 7000).into());
                assert!(stream.nodelay().unwrap() && stream.ttl().unwrap() == 9);
                stream
            });
            let (stream, accepted) = zip(stream, listener.accept()).await;
            assert_eq!(accepted.unwrap().1, (here, 7000).into());
            drop(stream);
        });
    });
}
