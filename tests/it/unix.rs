//! Unix sockets.

use std::fs;
use std::io::{self};
use std::net::Shutdown;
use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;

use futures_lite::future::zip;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use soloist::net::unix::{UnixDatagram, UnixListener, UnixStream};
use soloist::time::timeout;

use crate::support::*;

/// A directory for sockets, with a short name.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("soloist-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An abstract name, which is free again when its socket is closed.
#[cfg(target_os = "linux")]
fn abstract_name(name: &str) -> SocketAddr {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("soloist-test-{}-{name}", std::process::id());
    SocketAddr::from_abstract_name(name).unwrap()
}

/// Checks that an error says what was tried, and with which path.
#[track_caller]
fn assert_says<T>(result: io::Result<T>, kind: io::ErrorKind, what: &str, path: &Path) {
    let error = match result {
        Ok(_) => panic!("it worked: {what} {}", path.display()),
        Err(error) => error,
    };
    let text = format!("{what} {} failed: ", path.display());
    assert!(error.to_string().starts_with(&text), "{error}");
    assert_eq!(error.kind(), kind, "{error}");
}

async fn echo(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    futures_lite::io::copy(&mut from, &mut to).await.unwrap();
    to.close().await.unwrap();
}

async fn read_all(mut from: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    soon(from.read_to_string(&mut text)).await.unwrap();
    text
}

// Streams.

#[test]
fn clients_and_a_server_at_a_path() {
    async_test(async || {
        let dir = Dir::new();
        let path = dir.path("socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        assert!(format!("{listener:?}").contains("socket"), "{listener:?}");
        assert!(listener.take_error().unwrap().is_none());
        let server = spawn(async move {
            let mut incoming = listener.incoming();
            let mut served = Vec::new();
            while served.len() < 20 {
                let stream = incoming.next().await.unwrap().unwrap();
                assert!(stream.peer_addr().unwrap().is_unnamed());
                served.push(spawn(async move { echo(&stream, &stream).await }));
            }
            for task in served {
                task.await;
            }
        });
        let clients: Vec<_> = (0..20)
            .map(|n| {
                let path = path.clone();
                spawn(async move {
                    let mut stream = UnixStream::connect(&path).await.unwrap();
                    assert!(stream.local_addr().unwrap().is_unnamed());
                    assert!(stream.take_error().unwrap().is_none());
                    assert!(stream.as_fd().try_clone_to_owned().is_ok());
                    let peer = stream.peer_addr().unwrap();
                    assert_eq!(peer.as_pathname(), Some(&*path));
                    let text = format!("client {n}").repeat(n * 1000);
                    let (mut read, mut write) = stream.clone().into_split();
                    let all = text.clone();
                    let writer = spawn(async move {
                        write.write_all(all.as_bytes()).await.unwrap();
                    });
                    let mut back = String::new();
                    read.read_to_string(&mut back).await.unwrap();
                    assert!(back == text);
                    writer.await;
                    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
                })
            })
            .collect();
        for client in clients {
            soon(client).await;
        }
        soon(server).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn clients_and_a_server_at_an_abstract_name() {
    async_test(async || {
        let address = abstract_name("stream");
        let listener = UnixListener::bind_addr(&address).unwrap();
        let (client, server) =
            soon(zip(UnixStream::connect_addr(&address), listener.accept())).await;
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        client.write_all(b"hello").await.unwrap();
        client.close().await.unwrap();
        assert_eq!(read_all(&mut server).await, "hello");

        let error = UnixListener::bind_addr(&address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("soloist-test-"), "{error}");
        drop(listener);
        let error = UnixStream::connect_addr(&address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("soloist-test-"), "{error}");
        // The name is free again.
        UnixListener::bind_addr(&address).unwrap();
    });
}

#[test]
fn b74_a_datagram_to_a_closed_peer_is_an_error_and_no_signal() {
    in_own_process(|| {
        crate::sys::restore_sigpipe();
        block_on(async {
            let (one, other) = UnixDatagram::pair().unwrap();
            drop(other);
            one.send(b"x").await.unwrap_err();
            one.shutdown(Shutdown::Both).unwrap();
            let error = one.send(b"x").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    });
}

#[test]
fn a_stream_moves_to_another_thread() {
    watchdog(|| {
        let (mut one, mut other) = block_on(async {
            let (mut one, other) = UnixStream::pair().unwrap();
            fails_soon(one.read(&mut [0])).await;
            (one, other)
        });
        let there = std::thread::spawn(move || {
            block_on(async {
                let mut buf = [0; 5];
                one.read_exact(&mut buf).await.unwrap();
                one.write_all(&buf).await.unwrap();
            });
        });
        block_on(async {
            other.write_all(b"hello").await.unwrap();
            let mut buf = [0; 5];
            soon(other.read_exact(&mut buf)).await.unwrap();
            assert_eq!(&buf, b"hello");
        });
        there.join().unwrap();
    });
}

// Connecting.

#[test]
fn b64_a_failed_connect_is_an_error_that_names_the_path() {
    async_test(async || {
        let dir = Dir::new();
        const WHAT: &str = "connecting to";
        // The file of a listener that was closed.
        let stale = dir.path("stale");
        drop(UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        let connect = UnixStream::connect(&stale).await;
        assert_says(connect, io::ErrorKind::ConnectionRefused, WHAT, &stale);
        // A socket of another kind.
        let datagram = dir.path("datagram");
        let _datagram = UnixDatagram::bind(&datagram).unwrap();
        let error = UnixStream::connect(&datagram).await.unwrap_err();
        assert!(
            error.to_string().contains(datagram.to_str().unwrap()),
            "{error}"
        );
        let file = dir.path("file");
        fs::write(&file, "text").unwrap();
        let below = file.join("socket");
        let connect = UnixStream::connect(&below).await;
        assert_says(connect, io::ErrorKind::NotADirectory, WHAT, &below);

        // Addresses without a name.
        let (stream, _other) = UnixStream::pair().unwrap();
        let unnamed = stream.local_addr().unwrap();
        let error = UnixStream::connect_addr(&unnamed).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("no name"), "{error}");
        let error = UnixStream::connect("").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

/// A listener with room for one or two that wait.
#[cfg(target_os = "linux")]
fn narrow_listener(path: &Path) -> std::os::unix::net::UnixListener {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&socket2::SockAddr::unix(path).unwrap())
        .unwrap();
    socket.listen(1).unwrap();
    std::os::fd::OwnedFd::from(socket).into()
}

/// Makes connections until the queue is full.
#[cfg(target_os = "linux")]
async fn fill(path: &Path) -> Vec<UnixStream> {
    let mut waiting = Vec::new();
    loop {
        let mut connect = Box::pin(UnixStream::connect(path));
        match poll_once(&mut connect).await {
            std::task::Poll::Ready(stream) => waiting.push(stream.unwrap()),
            std::task::Poll::Pending => return waiting,
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn b64_a_connect_waits_for_a_full_backlog_without_a_busy_loop() {
    async_test(async || {
        let dir = Dir::new();
        let path = dir.path("socket");
        let listener = UnixListener::try_from(narrow_listener(&path)).unwrap();
        let waiting = fill(&path).await;
        assert!((1..=3).contains(&waiting.len()), "{}", waiting.len());

        let polls = leak(Cell::new(0));
        let connect = spawn({
            let path = path.clone();
            async move { count_polls(polls, UnixStream::connect(path)).await }
        });
        assert_idle(200 * MS).await;
        assert!(!connect.is_finished());
        // 1, 2, 4, 8 ... ms: about 8 pauses.
        assert!((2..=20).contains(&polls.get()), "{} polls", polls.get());

        // When one is accepted, there is room for it.
        let accepted = listener.accept().await.unwrap();
        let mut stream = soon(connect).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.close().await.unwrap();
        let mut last = accepted.0;
        for _ in &waiting {
            last = soon(listener.accept()).await.unwrap().0;
        }
        assert_eq!(read_all(last).await, "hello");

        // More than there is room for, at once.
        let connects: Vec<_> = (0..50)
            .map(|_| spawn(UnixStream::connect(path.clone())))
            .collect();
        for _ in &connects {
            soon(listener.accept()).await.unwrap();
        }
        for connect in connects {
            soon(connect).await.unwrap();
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b64_a_connect_that_waits_for_room_ends_with_the_listener() {
    async_test(async || {
        let dir = Dir::new();
        let path = dir.path("socket");
        let listener = UnixListener::try_from(narrow_listener(&path)).unwrap();
        let _waiting = fill(&path).await;
        let connect = spawn(UnixStream::connect(path.clone()));
        yield_now().await;
        drop(listener);
        let kind = io::ErrorKind::ConnectionRefused;
        assert_says(soon(connect).await, kind, "connecting to", &path);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_connect_that_is_dropped_has_not_connected() {
    async_test(async || {
        let dir = Dir::new();
        let path = dir.path("socket");
        let listener = UnixListener::try_from(narrow_listener(&path)).unwrap();
        // The last of these connects was dropped.
        let waiting = fill(&path).await;
        fails_soon(UnixStream::connect(&path)).await;
        for _ in &waiting {
            soon(listener.accept()).await.unwrap();
        }
        fails_soon(listener.accept()).await;
    });
}

// Listeners.

#[test]
fn the_file_of_a_listener_stays_until_it_is_removed() {
    watchdog(|| {
        let dir = Dir::new();
        let path = dir.path("socket");
        // No file is made outside of a runtime.
        let error = UnixListener::bind(&path).unwrap_err();
        assert!(error.to_string().contains("block_on"), "{error}");
        let error = UnixDatagram::bind(&path).unwrap_err();
        assert!(error.to_string().contains("block_on"), "{error}");
        assert!(!path.exists());
        block_on(async {
            drop(UnixListener::bind(&path).unwrap());
            let again = UnixListener::bind(&path);
            assert_says(again, io::ErrorKind::AddrInUse, "listening at", &path);
            fs::remove_file(&path).unwrap();
            UnixListener::bind(&path).unwrap();
        });
    });
}

#[test]
fn an_accept_that_is_dropped_loses_no_connection() {
    async_test(async || {
        let dir = Dir::new();
        let path = dir.path("socket");
        let listener = UnixListener::bind(&path).unwrap();
        fails_soon(listener.accept()).await;
        fails_soon(listener.incoming().next()).await;
        for _ in 0..50 {
            let accept = spawn({
                let listener = listener.clone();
                async move { listener.accept().await.unwrap().0 }
            });
            yield_now().await;
            let mut client = UnixStream::connect(&path).await.unwrap();
            yield_now().await;
            let mut server = match accept.cancel().await {
                Some(stream) => stream,
                None => soon(listener.incoming().next()).await.unwrap().unwrap(),
            };
            client.write_all(b"x").await.unwrap();
            assert_eq!(soon(server.read(&mut [0; 8])).await.unwrap(), 1);
        }
        fails_soon(listener.accept()).await;
    });
}

// Datagrams.

async fn recv(socket: &UnixDatagram) -> Vec<u8> {
    let mut buf = [0; 2000];
    let n = soon(socket.recv(&mut buf)).await.unwrap();
    buf[..n].to_vec()
}

#[test]
fn datagrams_between_paths() {
    async_test(async || {
        let dir = Dir::new();
        let (here, there) = (dir.path("here"), dir.path("there"));
        let one = UnixDatagram::bind(&here).unwrap();
        let other = UnixDatagram::bind(&there).unwrap();
        assert_eq!(one.local_addr().unwrap().as_pathname(), Some(&*here));
        let mut buf = [0; 100];
        for round in 0..100 {
            let text = vec![round; round as usize];
            let (sent, received) =
                soon(zip(one.send_to(&text, &there), other.recv_from(&mut buf))).await;
            let (n, from) = received.unwrap();
            assert_eq!(sent.unwrap(), n);
            assert_eq!(&buf[..n], text);
            assert_eq!(from.as_pathname(), Some(&*here));
            other.send_to_addr(b"answer", &from).await.unwrap();
            assert_eq!(recv(&one).await, b"answer");
        }
        one.connect(&there).unwrap();
        assert_eq!(one.peer_addr().unwrap().as_pathname(), Some(&*there));
        one.send(b"connected").await.unwrap();
        assert_eq!(recv(&other).await, b"connected");
        let stranger = UnixDatagram::unbound().unwrap();
        stranger.send_to(b"stranger", &there).await.unwrap();
        let (_, from) = other.recv_from(&mut buf).await.unwrap();
        assert!(from.is_unnamed());
    });
}

#[cfg(target_os = "linux")]
#[test]
fn datagrams_between_abstract_names() {
    async_test(async || {
        let (here, there) = (abstract_name("here"), abstract_name("there"));
        let one = UnixDatagram::bind_addr(&here).unwrap();
        let other = UnixDatagram::bind_addr(&there).unwrap();
        one.send_to_addr(b"one", &there).await.unwrap();
        assert_eq!(recv(&other).await, b"one");
        other.connect_addr(&here).unwrap();
        other.send(b"other").await.unwrap();
        assert_eq!(recv(&one).await, b"other");
        drop(one);
        let error = other.send(b"nobody").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = other.connect_addr(&here).unwrap_err();
        assert!(error.to_string().contains("soloist-test-"), "{error}");
    });
}

/// Sends until a send has to wait. Returns how many were sent.
#[cfg(target_os = "linux")]
async fn send_until_full(mut send: impl AsyncFnMut(u32) -> io::Result<usize>) -> u32 {
    for n in 0.. {
        // The budget of a poll limits the number of writes.
        yield_now().await;
        let mut send = Box::pin(send(n));
        match poll_once(&mut send).await {
            std::task::Poll::Ready(result) => assert_eq!(result.unwrap(), 4),
            std::task::Poll::Pending => return n,
        }
    }
    unreachable!("a queue without an end")
}

#[cfg(target_os = "linux")]
#[test]
fn b64_a_send_waits_for_a_full_queue_without_a_busy_loop() {
    async_test(async || {
        let dir = Dir::new();
        let path = dir.path("receiver");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        // A send that is dropped while it is pending has sent nothing.
        let sent =
            send_until_full(async |n: u32| sender.send_to(&n.to_ne_bytes(), &path).await).await;
        assert!(sent >= 1);
        let polls = leak(Cell::new(0));
        let last = spawn({
            let (path, sender) = (path.clone(), sender.clone());
            async move {
                let send = sender.send_to(b"last", path);
                count_polls(polls, send).await
            }
        });
        assert_idle(200 * MS).await;
        assert!(!last.is_finished());
        assert!((2..=20).contains(&polls.get()), "{} polls", polls.get());
        for n in 0..sent {
            assert_eq!(recv(&receiver).await, n.to_ne_bytes());
        }
        assert_eq!(soon(last).await.unwrap(), 4);
        assert_eq!(recv(&receiver).await, b"last");
        fails_soon(receiver.recv(&mut [0; 8])).await;
    });
}

/// Whether there is room depends on the receiver.
#[cfg(target_os = "linux")]
#[test]
fn a_full_queue_of_one_receiver_does_not_delay_a_send_to_another() {
    async_test(async || {
        let dir = Dir::new();
        let (here, there) = (dir.path("here"), dir.path("there"));
        let _peer = UnixDatagram::bind(&here).unwrap();
        let other = UnixDatagram::bind(&there).unwrap();
        let one = std::os::unix::net::UnixDatagram::unbound().unwrap();
        one.connect(&here).unwrap();
        let one = UnixDatagram::try_from(one).unwrap();
        send_until_full(async |n| one.send(&n.to_ne_bytes()).await).await;
        let sent = timeout(5 * SECOND, one.send_to(b"hello", &there)).await;
        assert_eq!(sent.expect("it waits for the peer").unwrap(), 5);
        let mut buf = [0; 16];
        assert_eq!(other.recv(&mut buf).await.unwrap(), 5);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b64_a_send_to_a_peer_whose_queue_is_full_waits_for_room() {
    async_test(async || {
        let dir = Dir::new();
        let path = dir.path("receiver");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        let (one, other) = UnixDatagram::pair().unwrap();
        for (sender, receiver) in [(&sender, &receiver), (&one, &other)] {
            let sent = send_until_full(async |n: u32| sender.send(&n.to_ne_bytes()).await).await;
            assert!(sent >= 1);
            let polls = leak(Cell::new(0));
            let last = spawn({
                let sender = sender.clone();
                async move { count_polls(polls, sender.send(b"last")).await }
            });
            assert_idle(100 * MS).await;
            assert!(!last.is_finished());
            assert_eq!(polls.get(), 1);
            for n in 0..sent {
                assert_eq!(recv(receiver).await, n.to_ne_bytes());
            }
            assert_eq!(soon(last).await.unwrap(), 4);
            assert_eq!(recv(receiver).await, b"last");
        }
        // A send that waits when the receiver is closed fails.
        send_until_full(async |n: u32| sender.send(&n.to_ne_bytes()).await).await;
        let last = spawn({
            let sender = sender.clone();
            async move { sender.send(b"last").await }
        });
        yield_now().await;
        drop(receiver);
        soon(last).await.unwrap_err();
    });
}

#[test]
fn errors_of_datagrams_name_the_path() {
    async_test(async || {
        let dir = Dir::new();
        let socket = UnixDatagram::unbound().unwrap();
        // The file of a closed socket, and a file that is no socket.
        let (stale, file) = (dir.path("stale"), dir.path("file"));
        drop(UnixDatagram::bind(&stale).unwrap());
        fs::write(&file, "text").unwrap();
        for path in [&stale, &file] {
            let sent = socket.send_to(b"x", path).await;
            assert_says(sent, io::ErrorKind::ConnectionRefused, "sending to", path);
        }
        let error = socket.send(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        socket.peer_addr().unwrap_err();
        assert!(socket.take_error().unwrap().is_none());
        let (one, _other) = UnixDatagram::pair().unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        let error = one.send(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn calls_outside_of_a_runtime_are_errors_that_name_the_fix() {
    watchdog(|| {
        let dir = Dir::new();
        let path = dir.path("socket");
        let names_the_fix = |error: io::Error| {
            assert!(error.to_string().contains("block_on"), "{error}");
        };
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        names_the_fix(futures_lite::future::block_on(UnixStream::connect(&path)).unwrap_err());
        names_the_fix(UnixStream::pair().unwrap_err());
        names_the_fix(UnixDatagram::pair().unwrap_err());
        names_the_fix(UnixDatagram::unbound().unwrap_err());
    });
}
