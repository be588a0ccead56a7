//! One table of how TCP behaves, run against the system's network and the one in memory.
//!
//! The system is the oracle. A check yields what a program sees: lengths and kinds of errors,
//! in order. Both networks must give what the table says. Only the traits in here know the
//! types of the two networks.

use std::cell::RefCell;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use soloist::future::poll_once;
use soloist::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use soloist::time::{sleep, timeout};
use soloist::{spawn, testing};

use crate::support::watchdog;

const MS: Duration = Duration::from_millis(1);

/// A network: its two types, and how to make them.
trait Net: Sized + 'static {
    type Stream: Stream;
    type Listener: Clone + 'static;
    /// More bytes than fit between a writer and a reader.
    const TOO_MANY: usize;
    async fn bind(address: &str) -> io::Result<Self::Listener>;
    async fn bind_with_backlog(backlog: u32) -> io::Result<Self::Listener>;
    async fn connect(address: SocketAddr) -> io::Result<Self::Stream>;
    async fn accept(listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)>;
    fn local_addr(listener: &Self::Listener) -> SocketAddr;
    fn listener_error(listener: &Self::Listener) -> io::Result<Option<io::Error>>;
    fn set_ttl(listener: &Self::Listener, ttl: u32) -> io::Result<()>;
}

trait Stream: AsyncRead + AsyncWrite + Clone + Debug + Unpin + Sized + 'static {
    type ReadHalf: AsyncRead + Unpin + 'static;
    type WriteHalf: AsyncWrite + Unpin + 'static;
    async fn peek(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()>;
    fn linger(&self) -> io::Result<Option<Duration>>;
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()>;
    fn nodelay(&self) -> io::Result<bool>;
    fn set_ttl(&self, ttl: u32) -> io::Result<()>;
    fn ttl(&self) -> io::Result<u32>;
    fn set_keepalive(&self, keepalive: Option<Duration>) -> io::Result<()>;
    fn keepalive(&self) -> io::Result<Option<Duration>>;
    fn into_split(self) -> (Self::ReadHalf, Self::WriteHalf);
}

macro_rules! network {
    ($name:ident, $too_many:expr, $($net:tt)+) => {
        struct $name;

        impl Net for $name {
            type Stream = $($net)+::TcpStream;
            type Listener = $($net)+::TcpListener;
            const TOO_MANY: usize = $too_many;
            async fn bind(address: &str) -> io::Result<Self::Listener> {
                Self::Listener::bind(address).await
            }
            async fn bind_with_backlog(backlog: u32) -> io::Result<Self::Listener> {
                let builder = Self::Listener::builder().backlog(backlog);
                builder.bind("127.0.0.1:0").await
            }
            async fn connect(address: SocketAddr) -> io::Result<Self::Stream> {
                Self::Stream::connect(address).await
            }
            async fn accept(listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)> {
                listener.accept().await
            }
            fn local_addr(listener: &Self::Listener) -> SocketAddr {
                listener.local_addr().unwrap()
            }
            fn listener_error(listener: &Self::Listener) -> io::Result<Option<io::Error>> {
                listener.take_error()
            }
            fn set_ttl(listener: &Self::Listener, ttl: u32) -> io::Result<()> {
                listener.set_ttl(ttl)
            }
        }

        impl Stream for $($net)+::TcpStream {
            type ReadHalf = $($net)+::OwnedReadHalf<Self>;
            type WriteHalf = $($net)+::OwnedWriteHalf<Self>;
            async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
                Self::peek(self, buf).await
            }
            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                Self::shutdown(self, how)
            }
            fn peer_addr(&self) -> io::Result<SocketAddr> {
                Self::peer_addr(self)
            }
            fn local_addr(&self) -> io::Result<SocketAddr> {
                Self::local_addr(self)
            }
            fn take_error(&self) -> io::Result<Option<io::Error>> {
                Self::take_error(self)
            }
            fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
                Self::set_linger(self, linger)
            }
            fn linger(&self) -> io::Result<Option<Duration>> {
                Self::linger(self)
            }
            fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
                Self::set_nodelay(self, nodelay)
            }
            fn nodelay(&self) -> io::Result<bool> {
                Self::nodelay(self)
            }
            fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                Self::set_ttl(self, ttl)
            }
            fn ttl(&self) -> io::Result<u32> {
                Self::ttl(self)
            }
            fn set_keepalive(&self, keepalive: Option<Duration>) -> io::Result<()> {
                Self::set_keepalive(self, keepalive)
            }
            fn keepalive(&self) -> io::Result<Option<Duration>> {
                Self::keepalive(self)
            }
            fn into_split(self) -> (Self::ReadHalf, Self::WriteHalf) {
                Self::into_split(self)
            }
        }
    };
}

network!(Memory, 200_000, soloist::testing::net);
#[cfg(target_os = "linux")]
network!(System, 20_000_000, soloist::net);

/// What a check works with: the network, how long packets take, and its transcript.
struct Run<N> {
    transcript: Rc<RefCell<Vec<String>>>,
    settle: Duration,
    network: PhantomData<N>,
}

impl<N: Net> Run<N> {
    async fn pair(&self) -> (N::Stream, N::Stream) {
        let listener = self.listen().await;
        let client = N::connect(N::local_addr(&listener)).await.unwrap();
        let (server, _) = N::accept(&listener).await.unwrap();
        (client, server)
    }

    async fn listen(&self) -> N::Listener {
        N::bind("127.0.0.1:0").await.unwrap()
    }

    /// Waits until whatever was sent has arrived.
    async fn settle(&self) {
        sleep(self.settle).await;
    }

    fn say(&self, text: impl ToString) {
        self.transcript.borrow_mut().push(text.to_string());
    }

    fn result<T: Debug>(&self, result: io::Result<T>) {
        self.say(match result {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("{:?}", error.kind()),
        });
    }

    fn polled<T: Debug>(&self, result: Option<io::Result<T>>) {
        match result {
            Some(result) => self.result(result),
            None => self.say("pends"),
        }
    }

    /// Reads what is there.
    async fn read(&self, stream: &mut (impl AsyncRead + Unpin)) {
        self.result(stream.read(&mut [0; 64]).await);
    }

    async fn read_once(&self, stream: &mut (impl AsyncRead + Unpin)) {
        self.polled(poll_once(stream.read(&mut [0; 64])).await);
    }

    async fn read_to_end(&self, stream: &mut (impl AsyncRead + Unpin)) {
        let mut bytes = Vec::new();
        let result = stream.read_to_end(&mut bytes).await;
        self.say(bytes.len());
        self.result(result);
    }

    async fn peek(&self, stream: &N::Stream) {
        self.result(stream.peek(&mut [0; 64]).await);
    }

    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
        self.result(stream.write(bytes).await);
    }

    fn take_error(&self, stream: &N::Stream) {
        self.result(
            stream
                .take_error()
                .map(|error| error.map(|error| error.kind())),
        );
    }

    /// Whether an address is known.
    fn known(&self, address: io::Result<SocketAddr>) {
        self.result(address.map(|_| "known"));
    }
}

type Checking = Pin<Box<dyn Future<Output = ()>>>;

struct Check<N> {
    name: &'static str,
    expected: &'static str,
    test: Box<dyn Fn(Run<N>) -> Checking>,
}

fn check<N, F: Future<Output = ()> + 'static>(
    name: &'static str,
    expected: &'static str,
    test: impl Fn(Run<N>) -> F + 'static,
) -> Check<N> {
    let test = Box::new(move |run| Box::pin(test(run)) as Checking);
    Check {
        name,
        expected,
        test,
    }
}

/// Writes until that fails.
async fn fill(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        stream.write(&[7; 100_000]).await?;
    }
}

/// A write after which the other side, which has closed, has answered with a reset.
async fn write_to_a_closed_peer<N: Net>(t: &Run<N>) -> N::Stream {
    let (mut client, server) = t.pair().await;
    drop(server);
    t.settle().await;
    client.write_all(b"first").await.unwrap();
    t.settle().await;
    client
}

/// A connection that the other side has reset.
async fn reset<N: Net>(t: &Run<N>) -> N::Stream {
    let (client, server) = t.pair().await;
    server.set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    t.settle().await;
    client
}

/// A connection of which each side has said that it sends no more.
async fn both_ended<N: Net>(t: &Run<N>) -> (N::Stream, N::Stream) {
    let (client, server) = t.pair().await;
    client.shutdown(Shutdown::Write).unwrap();
    t.settle().await;
    server.shutdown(Shutdown::Write).unwrap();
    t.settle().await;
    (client, server)
}

fn table<N: Net>() -> Vec<Check<N>> {
    let mut table = opening();
    table.extend(ends());
    table.extend(resets());
    table.extend(shutdowns());
    table.extend(traffic());
    table.extend(options());
    table
}

fn opening<N: Net>() -> Vec<Check<N>> {
    vec![
        check(
            "connect, and nobody listens",
            "ConnectionRefused",
            |t: Run<N>| async move {
                let address = N::local_addr(&t.listen().await);
                t.result(N::connect(address).await);
            },
        ),
        check(
            "connect after the listener's last clone",
            "Ok ConnectionRefused",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                let (address, clone) = (N::local_addr(&listener), listener.clone());
                drop(listener);
                t.result(N::connect(address).await.map(|_| Word("Ok")));
                drop(clone);
                t.result(N::connect(address).await);
            },
        ),
        check("the port is in use", "AddrInUse", |t: Run<N>| async move {
            let listener = t.listen().await;
            let again = N::bind(&N::local_addr(&listener).to_string()).await;
            t.result(again.map(|_| ()));
        }),
        check(
            "the port is in use at all addresses",
            "AddrInUse",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                let all = format!("0.0.0.0:{}", N::local_addr(&listener).port());
                t.result(N::bind(&all).await.map(|_| ()));
            },
        ),
        check("the port is free again", "()", |t: Run<N>| async move {
            let address = N::local_addr(&t.listen().await).to_string();
            t.result(N::bind(&address).await.map(|_| ()));
        }),
        check(
            "the port is free while accepted connections live",
            "() 1",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                let address = N::local_addr(&listener);
                let mut client = N::connect(address).await.unwrap();
                let (mut server, _) = N::accept(&listener).await.unwrap();
                drop(listener);
                t.result(N::bind(&address.to_string()).await.map(|_| ()));
                server.write_all(b"x").await.unwrap();
                t.read(&mut client).await;
            },
        ),
        check(
            "ephemeral ports differ",
            "true true true",
            |t: Run<N>| async move {
                let (one, other) = (t.listen().await, t.listen().await);
                t.say(N::local_addr(&one) != N::local_addr(&other));
                let first = N::connect(N::local_addr(&one)).await.unwrap();
                let second = N::connect(N::local_addr(&one)).await.unwrap();
                t.say(first.local_addr().unwrap() != second.local_addr().unwrap());
                t.say(first.local_addr().unwrap().port() != 0);
            },
        ),
        check(
            "addresses mirror each other",
            "true true true",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                let client = N::connect(N::local_addr(&listener)).await.unwrap();
                let (server, from) = N::accept(&listener).await.unwrap();
                t.say(from == client.local_addr().unwrap());
                t.say(client.peer_addr().unwrap() == server.local_addr().unwrap());
                t.say(server.peer_addr().unwrap() == from);
            },
        ),
        check(
            "accept is first come, first served",
            "true true",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                let one = N::connect(N::local_addr(&listener)).await.unwrap();
                let other = N::connect(N::local_addr(&listener)).await.unwrap();
                for client in [one, other] {
                    let (_, from) = N::accept(&listener).await.unwrap();
                    t.say(from == client.local_addr().unwrap());
                }
            },
        ),
        check("accept waits", "pends", |t: Run<N>| async move {
            let listener = t.listen().await;
            t.polled(poll_once(N::accept(&listener)).await);
        }),
        check(
            "accept of a client that has ended",
            "true 2 0",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                let mut client = N::connect(N::local_addr(&listener)).await.unwrap();
                client.write_all(b"hi").await.unwrap();
                let from = client.local_addr().unwrap();
                drop(client);
                t.settle().await;
                let (mut server, peer) = N::accept(&listener).await.unwrap();
                t.say(peer == from);
                t.read(&mut server).await;
                t.read(&mut server).await;
            },
        ),
        check(
            "accept of a client that has aborted",
            "true ConnectionReset 0",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                let client = N::connect(N::local_addr(&listener)).await.unwrap();
                let from = client.local_addr().unwrap();
                client.set_linger(Some(Duration::ZERO)).unwrap();
                drop(client);
                t.settle().await;
                let (mut server, peer) = N::accept(&listener).await.unwrap();
                t.say(peer == from);
                t.read(&mut server).await;
                t.read(&mut server).await;
            },
        ),
        check(
            "the listener goes with a connection queued",
            "ConnectionReset 0",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                let mut client = N::connect(N::local_addr(&listener)).await.unwrap();
                drop(listener);
                t.settle().await;
                t.read(&mut client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "the backlog, and one more",
            "connected connected pends",
            |t: Run<N>| async move {
                let listener = N::bind_with_backlog(1).await.unwrap();
                let address = N::local_addr(&listener);
                let _one = N::connect(address).await.unwrap();
                t.say("connected");
                let _other = N::connect(address).await.unwrap();
                t.say("connected");
                let third = spawn(N::connect(address));
                t.settle().await;
                t.say(if third.is_finished() {
                    "connected"
                } else {
                    "pends"
                });
            },
        ),
        check("a listener has no error", "None", |t: Run<N>| async move {
            let error = N::listener_error(&t.listen().await);
            t.result(error.map(|error| error.map(|error| error.kind())));
        }),
    ]
}

/// Printed without quotes.
struct Word(&'static str);

impl Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

fn ends<N: Net>() -> Vec<Check<N>> {
    vec![
        check("the end repeats", "5 0 0 0", |t: Run<N>| async move {
            let (mut client, mut server) = t.pair().await;
            server.write_all(b"hello").await.unwrap();
            drop(server);
            t.settle().await;
            for _ in 0..4 {
                t.read(&mut client).await;
            }
        }),
        check("peek at the end", "0 0 0", |t: Run<N>| async move {
            let (mut client, server) = t.pair().await;
            drop(server);
            t.peek(&client).await;
            t.peek(&client).await;
            t.read(&mut client).await;
        }),
        check(
            "half-close: the other direction stands",
            "4 4 0 5 5 0",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                t.write(&mut client, b"last").await;
                client.shutdown(Shutdown::Write).unwrap();
                t.settle().await;
                t.read(&mut server).await;
                t.read(&mut server).await;
                t.write(&mut server, b"reply").await;
                t.settle().await;
                t.read(&mut client).await;
                drop(server);
                t.read(&mut client).await;
            },
        ),
        check(
            "close is a half-close",
            "() 0 1 1",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                t.result(client.close().await);
                t.read(&mut server).await;
                t.write(&mut server, b"x").await;
                t.settle().await;
                t.read(&mut client).await;
            },
        ),
        check("close twice", "() ()", |t: Run<N>| async move {
            let (mut client, _server) = t.pair().await;
            t.result(client.close().await);
            t.result(client.close().await);
        }),
        check("read_to_end", "5 5", |t: Run<N>| async move {
            let (mut client, mut server) = t.pair().await;
            server.write_all(b"hello").await.unwrap();
            drop(server);
            t.read_to_end(&mut client).await;
        }),
        check(
            "addresses and error after the peer has closed",
            "\"known\" \"known\" None",
            |t: Run<N>| async move {
                let (client, server) = t.pair().await;
                drop(server);
                t.settle().await;
                t.known(client.peer_addr());
                t.known(client.local_addr());
                t.take_error(&client);
            },
        ),
        check(
            "addresses and error after both have ended",
            "NotConnected NotConnected \"known\" None",
            |t: Run<N>| async move {
                let (client, server) = both_ended(&t).await;
                t.known(client.peer_addr());
                t.known(server.peer_addr());
                t.known(client.local_addr());
                t.take_error(&client);
            },
        ),
        check(
            "read and write after both have ended",
            "0 0 BrokenPipe BrokenPipe",
            |t: Run<N>| async move {
                let (mut client, mut server) = both_ended(&t).await;
                t.read(&mut client).await;
                t.read(&mut server).await;
                t.write(&mut client, b"x").await;
                t.write(&mut server, b"x").await;
            },
        ),
        check(
            "shutdown after both have ended",
            "NotConnected NotConnected NotConnected",
            |t: Run<N>| async move {
                let (client, server) = both_ended(&t).await;
                t.result(client.shutdown(Shutdown::Write));
                t.result(client.shutdown(Shutdown::Both));
                t.result(server.shutdown(Shutdown::Read));
            },
        ),
        check(
            "data before both have ended is read after it",
            "4 0",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                server.write_all(b"data").await.unwrap();
                server.shutdown(Shutdown::Write).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                t.settle().await;
                t.read(&mut client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "a clone keeps the connection",
            "pends 1",
            |t: Run<N>| async move {
                let (mut client, server) = t.pair().await;
                let mut clone = server.clone();
                drop(server);
                t.settle().await;
                t.read_once(&mut client).await;
                clone.write_all(b"x").await.unwrap();
                t.read(&mut client).await;
            },
        ),
        check(
            "a clone shares the shutdown",
            "BrokenPipe",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                let mut clone = client.clone();
                client.shutdown(Shutdown::Write).unwrap();
                t.write(&mut clone, b"x").await;
            },
        ),
        check(
            "dropping the writing half is a half-close",
            "1 0 1 1",
            |t: Run<N>| async move {
                let (client, mut server) = t.pair().await;
                let (mut read, mut write) = client.into_split();
                write.write_all(b"x").await.unwrap();
                drop(write);
                t.settle().await;
                t.read(&mut server).await;
                t.read(&mut server).await;
                t.write(&mut server, b"y").await;
                t.settle().await;
                t.read(&mut read).await;
            },
        ),
        check(
            "dropping the reading half changes nothing",
            "1 1 1",
            |t: Run<N>| async move {
                let (client, mut server) = t.pair().await;
                let (read, mut write) = client.into_split();
                drop(read);
                t.write(&mut server, b"y").await;
                t.settle().await;
                t.write(&mut write, b"x").await;
                t.settle().await;
                t.read(&mut server).await;
            },
        ),
    ]
}

fn resets<N: Net>() -> Vec<Check<N>> {
    vec![
        check(
            "writes after the peer has closed",
            "1 BrokenPipe BrokenPipe",
            |t: Run<N>| async move {
                let (mut client, server) = t.pair().await;
                drop(server);
                t.settle().await;
                for _ in 0..3 {
                    t.write(&mut client, b"x").await;
                    t.settle().await;
                }
            },
        ),
        check(
            "reads after a write to a closed peer",
            "0 0",
            |t: Run<N>| async move {
                let mut client = write_to_a_closed_peer(&t).await;
                t.read(&mut client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "read_to_end after a write to a closed peer",
            "0 0",
            |t: Run<N>| async move {
                let mut client = write_to_a_closed_peer(&t).await;
                t.read_to_end(&mut client).await;
            },
        ),
        check(
            "take_error after a write to a closed peer",
            "Some(BrokenPipe) None",
            |t: Run<N>| async move {
                let client = write_to_a_closed_peer(&t).await;
                t.take_error(&client);
                t.take_error(&client);
            },
        ),
        check(
            "the read of the end leaves the error",
            "0 Some(BrokenPipe)",
            |t: Run<N>| async move {
                let mut client = write_to_a_closed_peer(&t).await;
                t.read(&mut client).await;
                t.take_error(&client);
            },
        ),
        check(
            "addresses after a write to a closed peer",
            "NotConnected \"known\"",
            |t: Run<N>| async move {
                let client = write_to_a_closed_peer(&t).await;
                t.known(client.peer_addr());
                t.known(client.local_addr());
            },
        ),
        check(
            "the peer's data is read after a write to it, closed",
            "5 0",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                server.write_all(b"hello").await.unwrap();
                drop(server);
                t.settle().await;
                client.write_all(b"x").await.unwrap();
                t.settle().await;
                t.read(&mut client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "linger of 0: reads",
            "ConnectionReset 0 0",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                for _ in 0..3 {
                    t.read(&mut client).await;
                }
            },
        ),
        check(
            "linger of 0: peeks",
            "ConnectionReset 0",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.peek(&client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "linger of 0: writes",
            "ConnectionReset BrokenPipe",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.write(&mut client, b"x").await;
                t.write(&mut client, b"x").await;
            },
        ),
        check(
            "linger of 0: a read, then a write",
            "ConnectionReset BrokenPipe 0",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.read(&mut client).await;
                t.write(&mut client, b"x").await;
                t.read(&mut client).await;
            },
        ),
        check(
            "linger of 0: take_error, then the rest",
            "Some(ConnectionReset) None 0 BrokenPipe",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.take_error(&client);
                t.take_error(&client);
                t.read(&mut client).await;
                t.write(&mut client, b"x").await;
            },
        ),
        check(
            "linger of 0: read_to_end",
            "0 ConnectionReset",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.read_to_end(&mut client).await;
            },
        ),
        check(
            "linger of 0: addresses",
            "NotConnected \"known\"",
            |t: Run<N>| async move {
                let client = reset(&t).await;
                t.known(client.peer_addr());
                t.known(client.local_addr());
            },
        ),
        check(
            "linger of 0: shutdown and close",
            "NotConnected NotConnected ()",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.result(client.shutdown(Shutdown::Write));
                t.result(client.shutdown(Shutdown::Read));
                t.result(client.close().await);
            },
        ),
        check(
            "linger of 0: a shutdown leaves the error",
            "NotConnected ConnectionReset BrokenPipe",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.result(client.shutdown(Shutdown::Both));
                t.read(&mut client).await;
                t.write(&mut client, b"x").await;
            },
        ),
        check(
            "linger of 0 wakes a reader",
            "ConnectionReset",
            |t: Run<N>| async move {
                let (mut client, server) = t.pair().await;
                let reader = spawn(async move { client.read(&mut [0; 8]).await });
                t.settle().await;
                server.set_linger(Some(Duration::ZERO)).unwrap();
                drop(server);
                t.result(reader.await);
            },
        ),
        check(
            "data before a reset is read",
            "5 ConnectionReset 0",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                server.write_all(b"hello").await.unwrap();
                t.settle().await;
                server.set_linger(Some(Duration::ZERO)).unwrap();
                drop(server);
                t.settle().await;
                for _ in 0..3 {
                    t.read(&mut client).await;
                }
            },
        ),
        check(
            "read_to_end of data before a reset",
            "5 ConnectionReset",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                server.write_all(b"hello").await.unwrap();
                t.settle().await;
                server.set_linger(Some(Duration::ZERO)).unwrap();
                drop(server);
                t.settle().await;
                t.read_to_end(&mut client).await;
            },
        ),
        check(
            "a write takes the error, data is still read",
            "ConnectionReset 5 0",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                server.write_all(b"hello").await.unwrap();
                t.settle().await;
                server.set_linger(Some(Duration::ZERO)).unwrap();
                drop(server);
                t.settle().await;
                t.write(&mut client, b"x").await;
                t.read(&mut client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "closed with data unread: reads",
            "ConnectionReset 0",
            |t: Run<N>| async move {
                let (mut client, server) = t.pair().await;
                client.write_all(b"unread").await.unwrap();
                t.settle().await;
                drop(server);
                t.settle().await;
                t.read(&mut client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "closed with data unread: writes",
            "ConnectionReset BrokenPipe",
            |t: Run<N>| async move {
                let (mut client, server) = t.pair().await;
                client.write_all(b"unread").await.unwrap();
                t.settle().await;
                drop(server);
                t.settle().await;
                t.write(&mut client, b"x").await;
                t.write(&mut client, b"x").await;
            },
        ),
        check(
            "ended, then closed with data unread",
            "0 BrokenPipe 0",
            |t: Run<N>| async move {
                let (mut client, server) = t.pair().await;
                client.write_all(b"unread").await.unwrap();
                server.shutdown(Shutdown::Write).unwrap();
                t.settle().await;
                drop(server);
                t.settle().await;
                t.read(&mut client).await;
                t.write(&mut client, b"x").await;
                t.read(&mut client).await;
            },
        ),
        check(
            "ended, then linger of 0",
            "Some(BrokenPipe) NotConnected",
            |t: Run<N>| async move {
                let (client, server) = t.pair().await;
                server.shutdown(Shutdown::Write).unwrap();
                t.settle().await;
                server.set_linger(Some(Duration::ZERO)).unwrap();
                drop(server);
                t.settle().await;
                t.take_error(&client);
                t.known(client.peer_addr());
            },
        ),
        check(
            "a reset after our own end",
            "ConnectionReset 0 BrokenPipe",
            |t: Run<N>| async move {
                let (mut client, server) = t.pair().await;
                client.shutdown(Shutdown::Write).unwrap();
                t.settle().await;
                server.set_linger(Some(Duration::ZERO)).unwrap();
                drop(server);
                t.settle().await;
                t.read(&mut client).await;
                t.read(&mut client).await;
                t.write(&mut client, b"x").await;
            },
        ),
    ]
}

fn shutdowns<N: Net>() -> Vec<Check<N>> {
    vec![
        check(
            "shutdown(Write), then writes",
            "() BrokenPipe BrokenPipe",
            |t: Run<N>| async move {
                let (mut client, _server) = t.pair().await;
                t.result(client.shutdown(Shutdown::Write));
                t.write(&mut client, b"x").await;
                t.write(&mut client, b"").await;
            },
        ),
        check("shutdown twice", "() () () ()", |t: Run<N>| async move {
            let (client, _server) = t.pair().await;
            t.result(client.shutdown(Shutdown::Write));
            t.result(client.shutdown(Shutdown::Write));
            t.result(client.shutdown(Shutdown::Read));
            t.result(client.shutdown(Shutdown::Both));
        }),
        check(
            "shutdown leaves addresses and no error",
            "\"known\" None",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                client.shutdown(Shutdown::Both).unwrap();
                t.settle().await;
                t.known(client.peer_addr());
                t.take_error(&client);
            },
        ),
        check(
            "shutdown(Read), then reads",
            "() 0 0 0",
            |t: Run<N>| async move {
                let (mut client, _server) = t.pair().await;
                t.result(client.shutdown(Shutdown::Read));
                t.read(&mut client).await;
                t.peek(&client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "shutdown(Read) wakes a reader",
            "0",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                let mut clone = client.clone();
                let reader = spawn(async move { clone.read(&mut [0; 8]).await });
                t.settle().await;
                client.shutdown(Shutdown::Read).unwrap();
                t.result(reader.await);
            },
        ),
        check(
            "shutdown(Read) with data there",
            "5 0",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                server.write_all(b"hello").await.unwrap();
                t.settle().await;
                client.shutdown(Shutdown::Read).unwrap();
                t.read(&mut client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "data that arrives after shutdown(Read)",
            "0 5 5 0 1 1 0",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                client.shutdown(Shutdown::Read).unwrap();
                t.read(&mut client).await;
                t.write(&mut server, b"hello").await;
                t.settle().await;
                t.read(&mut client).await;
                t.read(&mut client).await;
                t.write(&mut server, b"x").await;
                t.settle().await;
                t.read(&mut client).await;
                t.read(&mut client).await;
            },
        ),
        check(
            "shutdown(Read) leaves writes",
            "1 1",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                client.shutdown(Shutdown::Read).unwrap();
                t.write(&mut client, b"x").await;
                t.settle().await;
                t.read(&mut server).await;
            },
        ),
        check(
            "shutdown(Both)",
            "() 0 BrokenPipe 0",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                t.result(client.shutdown(Shutdown::Both));
                t.read(&mut client).await;
                t.write(&mut client, b"x").await;
                t.read(&mut server).await;
            },
        ),
        check(
            "data that arrives after shutdown(Both)",
            "1 BrokenPipe ConnectionReset 0 NotConnected",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                client.shutdown(Shutdown::Both).unwrap();
                t.settle().await;
                t.write(&mut server, b"x").await;
                t.settle().await;
                t.write(&mut server, b"x").await;
                t.read(&mut client).await;
                t.read(&mut client).await;
                t.known(client.peer_addr());
            },
        ),
        check(
            "shutdown(Write) wakes a full writer",
            "BrokenPipe",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                let clone = client.clone();
                let writer = spawn(fill(clone));
                t.settle().await;
                client.shutdown(Shutdown::Write).unwrap();
                t.result(writer.await);
            },
        ),
    ]
}

fn traffic<N: Net>() -> Vec<Check<N>> {
    vec![
        check("a read waits", "pends", |t: Run<N>| async move {
            let (mut client, _server) = t.pair().await;
            t.read_once(&mut client).await;
        }),
        check(
            "a read takes what is there",
            "6 6",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                t.write(&mut server, b"hello!").await;
                t.settle().await;
                t.read(&mut client).await;
            },
        ),
        check("two writes are one read", "10", |t: Run<N>| async move {
            let (mut client, mut server) = t.pair().await;
            server.write_all(b"hello").await.unwrap();
            server.write_all(b"world").await.unwrap();
            t.settle().await;
            t.read(&mut client).await;
        }),
        check(
            "peeks take nothing",
            "5 5 5 pends",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                server.write_all(b"hello").await.unwrap();
                t.settle().await;
                t.peek(&client).await;
                t.peek(&client).await;
                t.read(&mut client).await;
                t.polled(poll_once(client.peek(&mut [0; 8])).await);
            },
        ),
        check("a read of no bytes", "Some 5", |t: Run<N>| async move {
            let (mut client, mut server) = t.pair().await;
            server.write_all(b"hello").await.unwrap();
            t.settle().await;
            t.say(match client.read(&mut []).await {
                Ok(0) => "Some",
                _ => "?",
            });
            t.read(&mut client).await;
        }),
        check(
            "a read of no bytes with nothing there",
            "0",
            |t: Run<N>| async move {
                let (mut client, _server) = t.pair().await;
                t.polled(poll_once(client.read(&mut [])).await);
            },
        ),
        check(
            "a read of no bytes after a reset",
            "0 ConnectionReset",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.polled(poll_once(client.read(&mut [])).await);
                t.read(&mut client).await;
            },
        ),
        check("a write of no bytes", "0 pends", |t: Run<N>| async move {
            let (mut client, mut server) = t.pair().await;
            t.write(&mut client, b"").await;
            t.settle().await;
            t.read_once(&mut server).await;
        }),
        check(
            "a write of no bytes after a reset",
            "ConnectionReset BrokenPipe",
            |t: Run<N>| async move {
                let mut client = reset(&t).await;
                t.write(&mut client, b"").await;
                t.write(&mut client, b"").await;
            },
        ),
        check(
            "a write of no bytes when full",
            "pends 0",
            |t: Run<N>| async move {
                let (mut client, _server) = t.pair().await;
                // A poll writes as much as its budget allows.
                for _ in 0..100 {
                    while poll_once(client.write(&[7; 100_000])).await.is_some() {}
                    soloist::task::yield_now().await;
                }
                t.settle().await;
                while poll_once(client.write(&[7; 100_000])).await.is_some() {}
                t.settle().await;
                t.polled(poll_once(client.write(&[7])).await);
                t.polled(poll_once(client.write(&[])).await);
            },
        ),
        check(
            "a write waits until somebody reads",
            "false true",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                let writer = spawn(async move { client.write_all(&vec![7; N::TOO_MANY]).await });
                t.settle().await;
                t.say(writer.is_finished());
                let mut all = Vec::new();
                server.read_to_end(&mut all).await.unwrap();
                t.say(writer.await.is_ok() && all.len() == N::TOO_MANY);
            },
        ),
        check(
            "a large transfer keeps its order",
            "true",
            |t: Run<N>| async move {
                let (mut client, mut server) = t.pair().await;
                let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
                let bytes = sent.clone();
                let writer = spawn(async move { client.write_all(&bytes).await });
                let mut all = Vec::new();
                server.read_to_end(&mut all).await.unwrap();
                writer.await.unwrap();
                t.say(all == sent);
            },
        ),
        check(
            "a full writer learns of a reset",
            "ConnectionReset",
            |t: Run<N>| async move {
                let (client, server) = t.pair().await;
                let writer = spawn(fill(client));
                t.settle().await;
                drop(server);
                t.result(writer.await);
            },
        ),
        check(
            "two readers are both woken by the end",
            "0 0",
            |t: Run<N>| async move {
                let (client, server) = t.pair().await;
                let readers = [client.clone(), client]
                    .map(|mut clone| spawn(async move { clone.read(&mut [0; 8]).await }));
                t.settle().await;
                drop(server);
                for reader in readers {
                    t.result(reader.await);
                }
            },
        ),
        check("a reader and a peeker", "1 1", |t: Run<N>| async move {
            let (client, mut server) = t.pair().await;
            let peeker = client.clone();
            let peeker = spawn(async move { peeker.peek(&mut [0; 8]).await });
            t.settle().await;
            server.write_all(b"x").await.unwrap();
            t.result(peeker.await);
            let mut client = client;
            t.read(&mut client).await;
        }),
    ]
}

fn options<N: Net>() -> Vec<Check<N>> {
    vec![
        check(
            "nodelay",
            "false () true () false",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                t.result(client.nodelay());
                t.result(client.set_nodelay(true));
                t.result(client.nodelay());
                t.result(client.set_nodelay(false));
                t.result(client.nodelay());
            },
        ),
        check(
            "ttl",
            "64 () 5 InvalidInput InvalidInput 5",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                t.result(client.ttl());
                t.result(client.set_ttl(5));
                t.result(client.ttl());
                t.result(client.set_ttl(0));
                t.result(client.set_ttl(256));
                t.result(client.ttl());
            },
        ),
        check(
            "ttl of the listener",
            "() InvalidInput 5",
            |t: Run<N>| async move {
                let listener = t.listen().await;
                t.result(N::set_ttl(&listener, 5));
                t.result(N::set_ttl(&listener, 256));
                let _client = N::connect(N::local_addr(&listener)).await.unwrap();
                let (server, _) = N::accept(&listener).await.unwrap();
                t.result(server.ttl());
            },
        ),
        check(
            "linger",
            "None () Some(3s) () Some(0ns) () None",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                t.result(client.linger());
                for linger in [Some(3000 * MS), Some(Duration::ZERO), None] {
                    t.result(client.set_linger(linger));
                    t.result(client.linger());
                }
            },
        ),
        check(
            "linger of less than a second",
            "() Some(1s) () Some(3s)",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                for linger in [MS, 2500 * MS] {
                    t.result(client.set_linger(Some(linger)));
                    t.result(client.linger());
                }
            },
        ),
        check(
            "keepalive",
            "None () Some(60s) () None",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                t.result(client.keepalive());
                t.result(client.set_keepalive(Some(60_000 * MS)));
                t.result(client.keepalive());
                t.result(client.set_keepalive(None));
                t.result(client.keepalive());
            },
        ),
        check(
            "keepalive at its limits",
            "() Some(1s) () Some(3s) InvalidInput Some(3s)",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                for keepalive in [MS, 2500 * MS, 40_000_000 * MS] {
                    t.result(client.set_keepalive(Some(keepalive)));
                    t.result(client.keepalive());
                }
            },
        ),
        check(
            "options are shared by clones",
            "true",
            |t: Run<N>| async move {
                let (client, _server) = t.pair().await;
                client.clone().set_nodelay(true).unwrap();
                t.result(client.nodelay());
            },
        ),
        check(
            "options after a reset",
            "() true 64",
            |t: Run<N>| async move {
                let client = reset(&t).await;
                t.result(client.set_nodelay(true));
                t.result(client.nodelay());
                t.result(client.ttl());
            },
        ),
    ]
}

async fn transcript<N: Net>(check: &Check<N>, settle: Duration) -> String {
    let transcript = Rc::new(RefCell::new(Vec::new()));
    let run = Run {
        transcript: transcript.clone(),
        settle,
        network: PhantomData,
    };
    // In virtual time as well.
    if timeout(10_000 * MS, (check.test)(run)).await.is_err() {
        transcript.borrow_mut().push("HANGS".to_string());
    }
    let transcript = transcript.borrow();
    transcript.join(" ")
}

/// Fails with all checks that are not as expected.
fn judge(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn differs(name: &str, expected: &str, got: &str) -> Option<String> {
    (got != expected).then(|| format!("{name}:\n  expected {expected}\n       got {got}"))
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_behaves_as_the_table_says() {
    watchdog(|| {
        soloist::block_on(async {
            let mut wrong = Vec::new();
            for check in table::<System>() {
                // On a busy machine a packet can be late: then with more time.
                let mut last = None;
                for settle in [2 * MS, 50 * MS, 500 * MS] {
                    let got = transcript(&check, settle).await;
                    last = differs(check.name, check.expected, &got);
                    if last.is_none() {
                        break;
                    }
                }
                wrong.extend(last);
            }
            judge(&wrong);
        });
    });
}

#[test]
fn b117_the_network_in_memory_behaves_as_the_table_says() {
    watchdog(|| {
        let mut wrong = Vec::new();
        for n in 0..table::<Memory>().len() {
            testing::block_on(async {
                let check = &table::<Memory>()[n];
                let got = transcript(check, 2 * MS).await;
                wrong.extend(differs(check.name, check.expected, &got));
            });
        }
        judge(&wrong);
    });
}

/// The same with packets that take their time.
#[test]
fn the_network_in_memory_behaves_as_the_table_says_with_latency() {
    use soloist::testing::net::{Link, Network};

    watchdog(|| {
        let mut wrong = Vec::new();
        for n in 0..table::<Memory>().len() {
            testing::block_on(async {
                Network::current().set_default(Link::new().latency(10 * MS).jitter(5 * MS));
                let check = &table::<Memory>()[n];
                let got = transcript(check, 100 * MS).await;
                wrong.extend(differs(check.name, check.expected, &got));
            });
        }
        judge(&wrong);
    });
}
