//! One table of how TCP behaves, run on the system's network and in a simulated world.
//!
//! The system is the reference: both networks must give what the table says. `udp_behaviours.rs` has
//! the same for UDP.
//!
//! # Scripts
//!
//! A script has steps, separated by `;`. It begins with a connection: `c` is the end of the
//! client, `s` that of the server. A step is an end or a listener, an operation and its argument,
//! and after `=` its result: the value in the form of `Debug`, or the kind of the error. A step without a result
//! must succeed. [`Script::step`] lists the operations, [`SHORTHANDS`] names some sequences.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};

use soloist::future::poll_once;
use soloist::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use soloist::net::{OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream, UdpSocket};
use soloist::testing::{self, Host, Link, World};
use soloist::time::timeout;

use crate::support::*;

/// Where the steps are made.
#[derive(Clone)]
pub(crate) enum Place {
    /// On the system's network, over loopback.
    System,
    /// In a simulated world: from the first host to the second, which may be the same.
    World(Host, Host),
}

impl Place {
    /// The address that the servers are bound to.
    pub(crate) fn ip(&self) -> IpAddr {
        match self {
            Place::World(client, server) if client.address() != server.address() => {
                server.address()
            }
            _ => [127, 0, 0, 1].into(),
        }
    }

    pub(crate) fn on_server<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        match self {
            Place::System => spawn(future),
            Place::World(_, server) => server.spawn(future),
        }
    }

    pub(crate) fn on_client<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        match self {
            Place::System => spawn(future),
            Place::World(client, _) => client.spawn(future),
        }
    }

    async fn bind(&self, address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
        let mut builder = TcpListener::builder();
        if let Some(backlog) = backlog {
            builder = builder.backlog(backlog);
        }
        self.on_server(builder.bind(address)).await
    }

    async fn listen(&self) -> TcpListener {
        self.bind((self.ip(), 0).into(), None).await.unwrap()
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.on_client(TcpStream::connect(address)).await
    }

    async fn pair(&self) -> (TcpStream, TcpStream) {
        let listener = self.listen().await;
        let client = self.connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (client, server)
    }
}

/// Sequences of steps that several scripts have.
#[rustfmt::skip]
const SHORTHANDS: &[(&str, &str)] = &[
    // The server resets the connection.
    ("reset", "s.abort; settle"),
    // The server has sent five bytes, and then resets the connection.
    ("data, reset", "s.write 5; settle; s.abort; settle"),
    // The client writes to a server that has closed, which answers with a reset.
    ("write to closed", "s.drop; settle; c.write 5; settle"),
    // The server closes with bytes of the client unread.
    ("close unread", "c.write 6; settle; s.drop; settle"),
    // Neither side will send any more.
    ("both ended", "c.shutdown write; settle; s.shutdown write; settle"),
];

/// A name and a script in each row; a line that is indented goes on with the row before it.
const SCRIPTS: &str = "\
# Listening, connecting and accepting.
connect without a listener | l.listen; l.close; a.connect l = ConnectionRefused
clones keep a listener | l.listen; l.clone_listener m; l.close; a.connect l; m.close;
    b.connect l = ConnectionRefused
the port is in use | l.listen; m.bind l = AddrInUse; m.bind_all l = AddrInUse
the port is free again | l.listen; l.close; m.bind l = ()
the port is free while accepted connections live | l.listen; a.connect l; b.accept l; l.close;
    m.bind l = (); b.write 1; a.read = 1
accept waits | l.listen; a.poll_accept l = pending
accept of a client that has ended | l.listen; a.connect l; a.write 2; a.drop; settle; b.accept l;
    b.read = 2; b.read = 0
accept of a client that has aborted | l.listen; a.connect l; a.abort; settle; b.accept l;
    b.read = ConnectionReset; b.read = 0
the listener is closed with a connection queued | l.listen; a.connect l; l.close; settle;
    a.read = ConnectionReset; a.read = 0
a backlog of one holds two | l.listen_with_backlog 1; a.connect l; b.connect l;
    d.poll_connect l = pending
a listener has no error | l.listen; l.listener_error = None
ttl of the listener | l.listen; l.set_listener_ttl 5 = (); l.set_listener_ttl 256 = InvalidInput;
    a.connect l; b.accept l; b.ttl = 5
# The end of a stream.
the end repeats | s.write 5; s.drop; settle; c.read = 5; c.read = 0; c.read = 0; c.read = 0
peek at the end | s.drop; c.peek = 0; c.peek = 0; c.read = 0
half-close: the other direction stands | c.write 4 = 4; c.shutdown write; settle; s.read = 4;
    s.read = 0; s.write 5 = 5; settle; c.read = 5; s.drop; c.read = 0
close is a half-close | c.close = (); s.read = 0; s.write 1 = 1; settle; c.read = 1
close twice | c.close = (); c.close = ()
read_to_end | s.write 5; s.drop; c.read_to_end = 5
addresses and error after the peer has closed | s.drop; settle; c.peer_addr = known;
    c.local_addr = known; c.take_error = None
addresses and error after both have ended | both ended; c.peer_addr = NotConnected;
    s.peer_addr = NotConnected; c.local_addr = known; c.take_error = None
read and write after both have ended | both ended; c.read = 0; s.read = 0; c.write 1 = BrokenPipe;
    s.write 1 = BrokenPipe
shutdown after both have ended | both ended; c.shutdown write = NotConnected;
    c.shutdown both = NotConnected; s.shutdown read = NotConnected
data before both have ended is read after it | s.write 4; s.shutdown write; c.shutdown write;
    settle; c.read = 4; c.read = 0
a clone keeps the connection | s.clone t; s.drop; settle; c.poll_read = pending; t.write 1;
    c.read = 1
the last clone closes the connection | c.clone d; c.write 1; c.drop; d.write 1; settle;
    s.read = 2; s.poll_read = pending; d.drop; s.read = 0
a clone shares the shutdown | c.clone d; c.shutdown write; d.write 1 = BrokenPipe
dropping the writing half is a half-close | c.split; c.half_write 1; c.drop_write; settle;
    s.read = 1; s.read = 0; s.write 1 = 1; settle; c.half_read = 1
dropping the reading half changes nothing | c.split; c.drop_read; s.write 1 = 1; settle;
    c.half_write 1 = 1; settle; s.read = 1
# Resets.
writes after the peer has closed | s.drop; settle; c.write 1 = 1; settle; c.write 1 = BrokenPipe;
    settle; c.write 1 = BrokenPipe
reads after a write to a closed peer | write to closed; c.read = 0; c.read = 0
read_to_end after a write to a closed peer | write to closed; c.read_to_end = 0
take_error after a write to a closed peer | write to closed; c.take_error = Some(BrokenPipe);
    c.take_error = None
the read of the end leaves the error | write to closed; c.read = 0;
    c.take_error = Some(BrokenPipe)
addresses after a write to a closed peer | write to closed; c.peer_addr = NotConnected;
    c.local_addr = known
data of the peer is read after a write to it, closed | s.write 5; s.drop; settle; c.write 1;
    settle; c.read = 5; c.read = 0
reset: reads | reset; c.read = ConnectionReset; c.read = 0; c.read = 0
reset: peeks | reset; c.peek = ConnectionReset; c.read = 0
reset: writes | reset; c.write 1 = ConnectionReset; c.write 1 = BrokenPipe
reset: a read, then a write | reset; c.read = ConnectionReset; c.write 1 = BrokenPipe; c.read = 0
reset: take_error, then the rest | reset; c.take_error = Some(ConnectionReset);
    c.take_error = None; c.read = 0; c.write 1 = BrokenPipe
reset: read_to_end | reset; c.read_to_end = 0 ConnectionReset
reset: addresses | reset; c.peer_addr = NotConnected; c.local_addr = known
reset: shutdown and close | reset; c.shutdown write = NotConnected;
    c.shutdown read = NotConnected; c.close = ()
reset: a shutdown leaves the error | reset; c.shutdown both = NotConnected;
    c.read = ConnectionReset; c.write 1 = BrokenPipe
a reset wakes a reader | c.spawn read; settle; s.abort; c.join = ConnectionReset
data before a reset is read | data, reset; c.read = 5; c.read = ConnectionReset; c.read = 0
read_to_end of data before a reset | data, reset; c.read_to_end = 5 ConnectionReset
a write takes the error, data is still read | data, reset; c.write 1 = ConnectionReset;
    c.read = 5; c.read = 0
closed with data unread: reads | close unread; c.read = ConnectionReset; c.read = 0
closed with data unread: writes | close unread; c.write 1 = ConnectionReset;
    c.write 1 = BrokenPipe
ended, then closed with data unread | c.write 6; s.shutdown write; settle; s.drop; settle;
    c.read = 0; c.write 1 = BrokenPipe; c.read = 0
ended, then reset | s.shutdown write; settle; s.abort; settle; c.take_error = Some(BrokenPipe);
    c.peer_addr = NotConnected
a reset after our own end | c.shutdown write; settle; s.abort; settle; c.read = ConnectionReset;
    c.read = 0; c.write 1 = BrokenPipe
# Shutdowns.
shutdown(Write), then writes | c.shutdown write = (); c.write 1 = BrokenPipe;
    c.write 0 = BrokenPipe
shutdown twice | c.shutdown write = (); c.shutdown write = (); c.shutdown read = ();
    c.shutdown both = ()
shutdown leaves addresses and no error | c.shutdown both; settle; c.peer_addr = known;
    c.take_error = None
shutdown(Read), then reads | c.shutdown read = (); c.read = 0; c.peek = 0; c.read = 0
shutdown(Read) wakes a reader | c.spawn read; settle; c.shutdown read; c.join = 0
shutdown(Both) wakes a reader | c.spawn read; settle; c.shutdown both; c.join = 0
shutdown(Read) with data there | s.write 5; settle; c.shutdown read; c.read = 5; c.read = 0
data that arrives after shutdown(Read) | c.shutdown read; c.read = 0; s.write 5 = 5; settle;
    c.read = 5; c.read = 0; s.write 1 = 1; settle; c.read = 1; c.read = 0
shutdown(Read) leaves writes | c.shutdown read; c.write 1 = 1; settle; s.read = 1
shutdown(Both) | c.shutdown both = (); c.read = 0; c.write 1 = BrokenPipe; s.read = 0
data that arrives after shutdown(Both) | c.shutdown both; settle; s.write 1 = 1; settle;
    s.write 1 = BrokenPipe; c.read = ConnectionReset; c.read = 0; c.peer_addr = NotConnected
shutdown(Write) wakes a full writer | c.spawn fill; settle; c.shutdown write; c.join = BrokenPipe
# Traffic.
a read waits | c.poll_read = pending
a read takes what is there | s.write 6 = 6; settle; c.read = 6
two writes are one read | s.write 5; s.write 5; settle; c.read = 10
peeks take nothing | s.write 5; settle; c.peek = 5; c.peek = 5; c.read = 5; c.poll_peek = pending
a read of no bytes | s.write 5; settle; c.poll_read_nothing = 0; c.read = 5
a read of no bytes with nothing there | c.poll_read_nothing = 0
a read of no bytes after a reset | reset; c.poll_read_nothing = 0; c.read = ConnectionReset
a write of no bytes | c.write 0 = 0; settle; s.poll_read = pending
a write of no bytes after a reset | reset; c.write 0 = ConnectionReset; c.write 0 = BrokenPipe
a write of no bytes when full | c.fill; settle; c.fill; settle; c.poll_write 1 = pending;
    c.poll_write 0 = 0
a full writer learns of a reset | c.spawn fill; settle; s.drop; c.join = ConnectionReset
two readers are both woken by the end | c.spawn read; c.spawn read; settle; s.drop; c.join = 0;
    c.join = 0
a reader and a peeker | c.spawn peek; settle; s.write 1; c.join = 1; c.read = 1
# Options.
nodelay | c.nodelay = false; c.set_nodelay true = (); c.nodelay = true; c.set_nodelay false = ();
    c.nodelay = false
ttl | c.ttl = 64; c.set_ttl 5 = (); c.ttl = 5; c.set_ttl 0 = InvalidInput;
    c.set_ttl 256 = InvalidInput; c.ttl = 5
linger | c.linger = None; c.set_linger 3000 = (); c.linger = Some(3s); c.set_linger 0 = ();
    c.linger = Some(0ns); c.set_linger none = (); c.linger = None
linger of less than a second | c.set_linger 1; c.linger = Some(1s); c.set_linger 2500;
    c.linger = Some(3s)
keepalive | c.keepalive = None; c.set_keepalive 60000 = (); c.keepalive = Some(60s);
    c.set_keepalive none = (); c.keepalive = None
keepalive at its limits | c.set_keepalive 1; c.keepalive = Some(1s); c.set_keepalive 2500;
    c.keepalive = Some(3s); c.set_keepalive 40000000 = InvalidInput; c.keepalive = Some(3s)
options are shared by clones | c.clone d; d.set_nodelay true; c.nodelay = true
options after a reset | reset; c.set_nodelay true = (); c.nodelay = true; c.ttl = 64
";

/// The names and the scripts of `SCRIPTS`.
fn scripts() -> Vec<(String, String)> {
    let text = SCRIPTS.replace("\n   ", "");
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let parts = rows.map(|row| row.split_once(" | ").expect(row));
    parts
        .map(|(name, script)| (name.into(), script.into()))
        .collect()
}

/// How long packets take at most.
pub(crate) type Settle = Duration;

pub(crate) fn show<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind()),
    }
}

pub(crate) fn show_polled<T: Debug>(result: Option<io::Result<T>>) -> String {
    result.map_or_else(|| "pending".to_string(), show)
}

/// Writes until that fails.
async fn fill(mut stream: impl AsyncWrite + Unpin) -> io::Result<usize> {
    loop {
        stream.write(&[7; 100_000]).await?;
    }
}

/// A script that is being run.
struct Script {
    place: Place,
    settle: Settle,
    ends: BTreeMap<String, TcpStream>,
    listeners: BTreeMap<String, TcpListener>,
    /// Those of all listeners that there have been.
    addresses: BTreeMap<String, SocketAddr>,
    read_half: Option<OwnedReadHalf>,
    write_half: Option<OwnedWriteHalf>,
    tasks: VecDeque<Task<io::Result<usize>>>,
}

impl Script {
    /// Runs the steps. Returns the first that does not give its result.
    async fn run(&mut self, steps: &str) -> Result<(), String> {
        for step in steps.split(';').map(str::trim) {
            if let Some((_, steps)) = SHORTHANDS.iter().find(|(name, _)| *name == step) {
                Box::pin(self.run(steps)).await?;
                continue;
            }
            let (action, expected) = match step.split_once(" = ") {
                Some((action, expected)) => (action, Some(expected)),
                None => (step, None),
            };
            let got = self.step(action).await;
            let is_right = match expected {
                Some(expected) => got == expected,
                None => got.starts_with(|c: char| c == '(' || c.is_ascii_digit()),
            };
            if !is_right {
                return Err(format!("`{step}` gives {got}"));
            }
        }
        Ok(())
    }

    fn listen(&mut self, name: &str, listener: io::Result<TcpListener>) -> String {
        let bound = listener.map(|listener| {
            let address = listener.local_addr().unwrap();
            self.addresses.insert(name.to_string(), address);
            self.listeners.insert(name.to_string(), listener);
        });
        show(bound)
    }

    /// Makes a step, and returns its result.
    async fn step(&mut self, action: &str) -> String {
        const DONE: &str = "()";
        if action == "settle" {
            // Whatever was sent has arrived after this.
            sleep(self.settle).await;
            return DONE.to_string();
        }
        let (end, operation) = action.split_once('.').expect(action);
        let (operation, argument) = operation.split_once(' ').unwrap_or((operation, ""));
        let number = || argument.parse::<usize>().expect(action);
        let millis = || (argument != "none").then(|| number() as u32 * MS);
        let mut buf = [0; 64];
        match operation {
            "listen" => {
                let address = (self.place.ip(), 0).into();
                return self.listen(end, self.place.bind(address, None).await);
            }
            "listen_with_backlog" => {
                let address = (self.place.ip(), 0).into();
                let backlog = Some(number() as u32);
                return self.listen(end, self.place.bind(address, backlog).await);
            }
            "bind" => {
                let address = self.addresses[argument];
                return self.listen(end, self.place.bind(address, None).await);
            }
            "bind_all" => {
                let address = ([0, 0, 0, 0], self.addresses[argument].port()).into();
                return self.listen(end, self.place.bind(address, None).await);
            }
            "clone_listener" => {
                let clone = self.listeners[end].clone();
                return self.listen(argument, Ok(clone));
            }
            "close" if self.listeners.contains_key(end) => drop(self.listeners.remove(end)),
            "listener_error" => {
                let error = self.listeners[end].take_error();
                return show(error.map(|error| error.map(|error| error.kind())));
            }
            "set_listener_ttl" => {
                return show(self.listeners[end].set_ttl(number() as u32));
            }
            "connect" => match self.place.connect(self.addresses[argument]).await {
                Ok(stream) => drop(self.ends.insert(end.to_string(), stream)),
                Err(error) => return format!("{:?}", error.kind()),
            },
            // It gets a while to connect.
            "poll_connect" => {
                let connect = TcpStream::connect(self.addresses[argument]);
                let connecting = self.place.on_client(connect);
                sleep(self.settle).await;
                return show_polled(poll_once(connecting).await);
            }
            "accept" => {
                let (stream, _) = self.listeners[argument].accept().await.unwrap();
                self.ends.insert(end.to_string(), stream);
            }
            "poll_accept" => {
                return show_polled(poll_once(self.listeners[argument].accept()).await);
            }
            "drop" => drop(self.ends.remove(end)),
            "abort" => {
                let stream = self.ends.remove(end).unwrap();
                stream.set_linger(Some(Duration::ZERO)).unwrap();
            }
            "clone" => drop(
                self.ends
                    .insert(argument.to_string(), self.ends[end].clone()),
            ),
            "split" => {
                let (read, write) = self.ends.remove(end).unwrap().into_split();
                (self.read_half, self.write_half) = (Some(read), Some(write));
            }
            "drop_read" => self.read_half = None,
            "drop_write" => self.write_half = None,
            "half_read" => return show(self.read_half.as_mut().unwrap().read(&mut buf).await),
            "half_write" => {
                let half = self.write_half.as_mut().unwrap();
                return show(half.write(&buf[..number()]).await);
            }
            "join" => return show(self.tasks.pop_front().unwrap().await),
            "spawn" => {
                let mut stream = self.ends[end].clone();
                self.tasks.push_back(match argument {
                    "read" => spawn(async move { stream.read(&mut [0; 8]).await }),
                    "peek" => spawn(async move { stream.peek(&mut [0; 8]).await }),
                    "fill" => spawn(fill(stream)),
                    _ => panic!("{action}"),
                });
            }
            _ => {
                let stream = self.ends.get_mut(end).expect(action);
                return match operation {
                    "read" => show(stream.read(&mut buf).await),
                    "peek" => show(stream.peek(&mut buf).await),
                    "write" => show(stream.write(&buf[..number()]).await),
                    "close" => show(stream.close().await),
                    "poll_read" => show_polled(poll_once(stream.read(&mut buf)).await),
                    "poll_read_nothing" => show_polled(poll_once(stream.read(&mut [])).await),
                    "poll_peek" => show_polled(poll_once(stream.peek(&mut buf)).await),
                    "poll_write" => show_polled(poll_once(stream.write(&buf[..number()])).await),
                    // The number of bytes, and the error.
                    "read_to_end" => {
                        let mut bytes = Vec::new();
                        match stream.read_to_end(&mut bytes).await {
                            Ok(count) => count.to_string(),
                            Err(error) => format!("{} {:?}", bytes.len(), error.kind()),
                        }
                    }
                    "fill" => {
                        // A poll writes as much as its budget allows.
                        for _ in 0..100 {
                            while poll_once(stream.write(&[7; 100_000])).await.is_some() {}
                            yield_now().await;
                        }
                        DONE.to_string()
                    }
                    "shutdown" => show(stream.shutdown(match argument {
                        "read" => Shutdown::Read,
                        "write" => Shutdown::Write,
                        _ => Shutdown::Both,
                    })),
                    "peer_addr" => show(stream.peer_addr().map(|_| Word("known"))),
                    "local_addr" => show(stream.local_addr().map(|_| Word("known"))),
                    "take_error" => show(
                        stream
                            .take_error()
                            .map(|error| error.map(|error| error.kind())),
                    ),
                    "nodelay" => show(stream.nodelay()),
                    "set_nodelay" => show(stream.set_nodelay(argument == "true")),
                    "ttl" => show(stream.ttl()),
                    "set_ttl" => show(stream.set_ttl(number() as u32)),
                    "linger" => show(stream.linger()),
                    "set_linger" => show(stream.set_linger(millis())),
                    "keepalive" => show(stream.keepalive()),
                    "set_keepalive" => show(stream.set_keepalive(millis())),
                    _ => panic!("{action}"),
                };
            }
        }
        DONE.to_string()
    }
}

/// Printed without quotes.
pub(crate) struct Word(pub(crate) &'static str);

impl Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// What a script cannot express. `too_many` bytes do not fit between a writer and a reader.
async fn check_addresses_and_order(place: &Place, too_many: u32) {
    // Ephemeral ports differ.
    let (listener, other) = (place.listen().await, place.listen().await);
    let address = listener.local_addr().unwrap();
    assert_ne!(address, other.local_addr().unwrap());
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(place.connect(address).await.unwrap());
    }
    let ours = clients.iter().map(|client| client.local_addr().unwrap());
    let ours: Vec<SocketAddr> = ours.collect();
    assert!(ours[0] != ours[1] && ours[0].port() != 0);
    // Connections are accepted in their order, and the addresses of the ends mirror each other.
    for client in clients {
        let (server, from) = listener.accept().await.unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        assert_eq!(server.peer_addr().unwrap(), from);
        assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    }
    // A write waits until the peer reads, and bytes keep their order.
    let (mut client, mut server) = place.pair().await;
    let bytes = move || (0..too_many).map(|n| (n % 251) as u8);
    let sent: Vec<u8> = bytes().collect();
    let writer = spawn(async move { client.write_all(&sent).await });
    sleep(100 * MS).await;
    assert!(!writer.is_finished());
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    writer.await.unwrap();
    assert!(bytes().eq(received));
}

/// Sockets for IPv6 at all addresses also serve IPv4.
async fn check_both_families(place: &Place) {
    let all: SocketAddr = "[::]:0".parse().unwrap();
    let listener = place.bind(all, None).await.unwrap();
    let udp = place.on_server(UdpSocket::bind(all)).await.unwrap();
    for target in ["127.0.0.1", "::1"] {
        let target: IpAddr = target.parse().unwrap();
        let to = (target, listener.local_addr().unwrap().port()).into();
        let client = place.connect(to).await.unwrap();
        let (server, from) = listener.accept().await.unwrap();
        assert_eq!(client.peer_addr().unwrap(), to);
        assert_eq!(server.peer_addr().unwrap(), from);
        let local = server.local_addr().unwrap();
        assert!(from.is_ipv6() && local.is_ipv6());
        assert_eq!(local.ip().to_canonical(), target);
        assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());

        let to: SocketAddr = (target, udp.local_addr().unwrap().port()).into();
        let client = place.on_client(UdpSocket::bind((target, 0))).await.unwrap();
        client.connect(to).await.unwrap();
        client.send(b"ping").await.unwrap();
        let (_, from) = udp.recv_from(&mut [0; 8]).await.unwrap();
        assert!(from.is_ipv6());
        udp.send_to(b"pong!", from).await.unwrap();
        assert_eq!(client.recv(&mut [0; 8]).await.unwrap(), 5);
    }
    // A socket for IPv4 takes no part in it.
    let only_v4 = place
        .bind("0.0.0.0:0".parse().unwrap(), None)
        .await
        .unwrap();
    let to = (
        [0, 0, 0, 0, 0, 0, 0, 1],
        only_v4.local_addr().unwrap().port(),
    )
        .into();
    let error = place.connect(to).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// Runs the script with this number, if there is one.
async fn check(place: Place, number: usize, settle: Settle) -> Option<Result<(), String>> {
    let (name, steps) = scripts().into_iter().nth(number)?;
    let (client, server) = place.pair().await;
    let mut script = Script {
        place,
        settle,
        ends: BTreeMap::from([("c".to_string(), client), ("s".to_string(), server)]),
        listeners: BTreeMap::new(),
        addresses: BTreeMap::new(),
        read_half: None,
        write_half: None,
        tasks: VecDeque::new(),
    };
    Some(in_time(&name, script.run(&steps)).await)
}

/// Adds the name of the script to its error. In virtual time as well, a script does not hang.
pub(crate) async fn in_time(
    name: &str,
    script: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let run = timeout(10 * SECOND, script).await;
    let checked = run.unwrap_or_else(|_| Err("it hangs".to_string()));
    checked.map_err(|what| format!("{name}: {what}"))
}

/// Runs all scripts on the system's network.
#[cfg(target_os = "linux")]
pub(crate) async fn check_system(
    check: impl AsyncFn(Place, usize, Settle) -> Option<Result<(), String>>,
) {
    let mut wrong = Vec::new();
    for number in 0.. {
        // On a busy machine a packet can be late: then with more time.
        let mut checked = Ok(());
        for settle in [2 * MS, 50 * MS, 500 * MS] {
            match check(Place::System, number, settle).await {
                Some(result) => checked = result,
                None => return assert!(wrong.is_empty(), "{wrong:#?}"),
            }
            if checked.is_ok() {
                break;
            }
        }
        wrong.extend(checked.err());
    }
}

/// Runs each script in a world of its own: on one host, or from one to another, whose link has a
/// latency and a jitter.
pub(crate) fn check_world(
    latency: Option<Duration>,
    check: impl AsyncFn(Place, usize, Settle) -> Option<Result<(), String>>,
) {
    let (mut wrong, mut is_over) = (Vec::new(), false);
    for number in 0.. {
        let result = RefCell::new(None);
        testing::simulate(0..1, async |world: World| {
            let server = world.host("server");
            let (client, settle) = match latency {
                Some(_) => (world.host("client"), 100 * MS),
                None => (server.clone(), 2 * MS),
            };
            let latency = latency.unwrap_or_default();
            world.set_default(Link::new().latency(latency).jitter(latency / 2));
            let place = Place::World(client, server);
            *result.borrow_mut() = check(place, number, settle).await;
        });
        match result.into_inner() {
            Some(result) => wrong.extend(result.err()),
            None => is_over = true,
        }
        if is_over {
            return assert!(wrong.is_empty(), "{wrong:#?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_behaves_as_the_table_says() {
    async_test(async || {
        check_addresses_and_order(&Place::System, 20_000_000).await;
        check_both_families(&Place::System).await;
        check_system(check).await;
    });
}

#[test]
fn b117_a_simulated_host_behaves_as_the_table_says() {
    watchdog(|| {
        testing::simulate(0..1, async |world: World| {
            let host = world.host("host");
            let place = Place::World(host.clone(), host);
            check_addresses_and_order(&place, 200_000).await;
            check_both_families(&place).await;
        });
        check_world(None, check);
    });
}

#[test]
fn simulated_hosts_behave_as_the_table_says_with_latency() {
    watchdog(|| {
        testing::simulate(0..1, async |world: World| {
            world.set_default(Link::new().latency(10 * MS).jitter(5 * MS));
            let (client, server) = (world.host("client"), world.host("server"));
            check_addresses_and_order(&Place::World(client, server), 200_000).await;
        });
        check_world(Some(10 * MS), check);
    });
}
