//! The network of a runtime: its links, listeners, names and transcript.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::listener::Listening;
use crate::clock;
use crate::executor::{self, Executor};
use crate::net::{Target, ToSocketAddrs};
use crate::panics::Panics;
use crate::sync::{Mutex, lock};
use crate::testing::schedule::Random;
use crate::testing::simulation::Simulated;
use crate::time::sleep;

/// The properties of the link between two hosts, which are the same in both directions.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::testing::net::Link;
///
/// let transatlantic = Link::new()
///     .latency(Duration::from_millis(40))
///     .jitter(Duration::from_millis(5))
///     .bandwidth(1_000_000)
///     .partial(true)
///     .resets(0.001);
/// # let _ = transatlantic;
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[must_use = "give it to `Network::set_link` or `Network::set_default`"]
pub struct Link {
    latency: Duration,
    jitter: Duration,
    /// In bytes per second, or 0 for no limit.
    bandwidth: u64,
    pub(super) partial: bool,
    /// The number of packets out of 2^32 that reset the connection.
    resets: u64,
    pub(super) window: usize,
}

impl Link {
    /// Returns a link without latency, faults and limits, except for a window of 64 KiB.
    ///
    /// # Examples
    ///
    /// See [`Link`].
    #[inline]
    pub fn new() -> Link {
        Link {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: 0,
            partial: false,
            resets: 0,
            window: 64 * 1024,
        }
    }

    /// Sets the time that a packet takes. Connecting takes twice as long: one round trip.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{testing, time};
    /// use soloist::testing::net::{Link, Network, TcpListener, TcpStream};
    ///
    /// testing::block_on(async {
    ///     let link = Link::new().latency(Duration::from_millis(40));
    ///     Network::current().set_default(link);
    ///     let _listener = TcpListener::bind("10.0.0.1:80").await?;
    ///     let start = time::now();
    ///     TcpStream::connect("10.0.0.1:80").await?;
    ///     assert_eq!(time::now() - start, Duration::from_millis(80));
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn latency(mut self, latency: Duration) -> Link {
        self.latency = latency;
        self
    }

    /// Sets the maximum of a random delay that is added to the latency of each packet. The delay is
    /// chosen by the seed. Packets are not reordered.
    ///
    /// # Examples
    ///
    /// See [`Link`].
    #[inline]
    pub fn jitter(mut self, jitter: Duration) -> Link {
        self.jitter = jitter;
        self
    }

    /// Sets the bandwidth of each direction in bytes per second, which all connections of the link
    /// share. The default is 0, which means no limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{testing, time};
    /// use soloist::io::{AsyncReadExt, AsyncWriteExt};
    /// use soloist::testing::net::{Link, Network, TcpListener, TcpStream};
    ///
    /// testing::block_on(async {
    ///     Network::current().set_default(Link::new().bandwidth(1000));
    ///     let listener = TcpListener::bind("10.0.0.1:80").await?;
    ///     let mut client = TcpStream::connect("10.0.0.1:80").await?;
    ///     let (mut server, _) = listener.accept().await?;
    ///     let start = time::now();
    ///     client.write_all(&[7; 5000]).await?;
    ///     server.read_exact(&mut [0; 5000]).await?;
    ///     assert_eq!(time::now() - start, Duration::from_secs(5));
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Link {
        self.bandwidth = bytes_per_second;
        self
    }

    /// Sets whether reads and writes are partial: they transfer at least one byte, but not always as
    /// many as they could. The number is chosen by the seed. This finds programs that should use
    /// `read_exact` or `write_all`.
    ///
    /// # Examples
    ///
    /// See [`Link`].
    #[inline]
    pub fn partial(mut self, partial: bool) -> Link {
        self.partial = partial;
        self
    }

    /// Sets the probability that a packet resets its connection. The packet is lost, and both sides
    /// see [`ConnectionReset`](io::ErrorKind::ConnectionReset) when it would have arrived. Later
    /// packets are lost as well. A packet has at most 1,460 bytes.
    ///
    /// # Panics
    ///
    /// Panics if the value is not between 0 and 1.
    ///
    /// # Examples
    ///
    /// See [`Link`].
    #[track_caller]
    #[inline]
    pub fn resets(mut self, probability: f64) -> Link {
        assert!(
            (0.0..=1.0).contains(&probability),
            "{probability} is no probability: give a number from 0 to 1"
        );
        self.resets = (probability * (1_u64 << 32) as f64) as u64;
        self
    }

    /// Sets the number of bytes that can be in transit or unread in each direction of a connection.
    /// When it is reached, writes wait.
    ///
    /// # Panics
    ///
    /// Panics if it is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{future::poll_once, testing, io::AsyncWriteExt};
    /// use soloist::testing::net::{Link, Network, TcpListener, TcpStream};
    ///
    /// testing::block_on(async {
    ///     Network::current().set_default(Link::new().window(1000));
    ///     let _listener = TcpListener::bind("10.0.0.1:80").await?;
    ///     let mut client = TcpStream::connect("10.0.0.1:80").await?;
    ///     assert_eq!(client.write(&[7; 5000]).await?, 1000);
    ///     // Nobody reads.
    ///     assert!(poll_once(client.write(&[7])).await.is_none());
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    #[inline]
    pub fn window(mut self, bytes: usize) -> Link {
        assert!(bytes > 0, "a window of 0 bytes would let nothing pass");
        self.window = bytes;
        self
    }

    /// Returns whether the next packet resets the connection.
    #[inline]
    pub(super) fn breaks(&self, random: &Random) -> bool {
        self.resets > 0 && random.next() >> 32 < self.resets
    }

    #[inline]
    fn delay(&self, random: &Random) -> Duration {
        let jitter = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX - 1);
        let extra = if jitter > 0 {
            random.below(jitter + 1)
        } else {
            0
        };
        self.latency + Duration::from_nanos(extra)
    }
}

impl Default for Link {
    #[inline]
    fn default() -> Link {
        Link::new()
    }
}

/// The in-memory network of a runtime. Clones are handles to the same network.
///
/// Methods take a host as its IP address in text form, or as a name that was
/// [added](Network::add_name). They panic if it is neither.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{spawn, testing, time};
/// use soloist::testing::net::{Network, TcpListener, TcpStream};
///
/// testing::block_on(async {
///     let network = Network::current();
///     let _listener = TcpListener::bind("10.0.0.1:80").await?;
///     network.partition("127.0.0.1", "10.0.0.1");
///     let start = time::now();
///     let client = spawn(TcpStream::connect("10.0.0.1:80"));
///     time::sleep(Duration::from_secs(60)).await;
///     assert!(!client.is_finished());
///     network.heal("127.0.0.1", "10.0.0.1");
///     client.await?;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

struct State {
    seed: u64,
    /// The random numbers that do not belong to a connection.
    random: Random,
    /// The number of connections so far. Each connection has its own random numbers.
    opened: u64,
    default: Link,
    /// The directions of links, by source and target. Links that have not been set are missing.
    lines: HashMap<[IpAddr; 2], Line>,
    names: Vec<(String, IpAddr)>,
    next_port: u16,
    listeners: Vec<(SocketAddr, Weak<Listening>)>,
    connections: Vec<Weak<Connection>>,
    /// Tasks that wait for a link to be healed.
    waiters: Vec<Waker>,
    /// The start and the text of the transcript.
    transcript: Option<(Instant, String)>,
}

/// One direction of a link.
#[derive(Default)]
struct Line {
    /// `None` for the default.
    link: Option<Link>,
    is_cut: bool,
    /// With a bandwidth: the time at which the last packet has been sent.
    busy_until: Option<Instant>,
}

impl State {
    /// Calls `f` for both directions of a link.
    #[inline]
    fn each_line(&mut self, [one, other]: [IpAddr; 2], f: impl Fn(&mut Line)) {
        for line in [[one, other], [other, one]] {
            f(self.lines.entry(line).or_default());
        }
    }

    #[inline]
    fn is_cut(&self, from: IpAddr, to: IpAddr) -> bool {
        self.lines.get(&[from, to]).is_some_and(|line| line.is_cut)
    }
}

/// The first port that the network chooses.
const FIRST_PORT: u16 = 49152;

/// Returns the hosts of a link in a fixed order.
#[inline]
fn pair(one: IpAddr, other: IpAddr) -> [IpAddr; 2] {
    [one.min(other), one.max(other)]
}

impl Network {
    /// Returns the network of the runtime that runs on this thread. The first call creates it.
    ///
    /// Its seed is that of the [schedule](crate::runtime::Builder::schedule), or 0.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    ///
    /// # Examples
    ///
    /// See [`Network`].
    #[track_caller]
    #[inline]
    pub fn current() -> Network {
        Network::of(&executor::current("`Network::current`"))
    }

    #[inline]
    pub(super) fn current_or_error(what: &str) -> io::Result<Network> {
        Ok(Network::of(&*executor::current_or_error(what)?))
    }

    #[inline]
    fn of(executor: &Executor) -> Network {
        let network = executor.network.get_or_init(|| {
            let seed = Simulated::seed(executor);
            let network = Network {
                state: Arc::new(Mutex::new(State {
                    seed,
                    random: Random::new(seed),
                    opened: 0,
                    default: Link::new(),
                    lines: HashMap::new(),
                    names: Vec::new(),
                    next_port: FIRST_PORT,
                    listeners: Vec::new(),
                    connections: Vec::new(),
                    waiters: Vec::new(),
                    transcript: None,
                })),
            };
            Box::new(network)
        });
        let network = network.downcast_ref::<Network>();
        network.expect("nobody else keeps anything there").clone()
    }

    /// Sets the seed of faults and delays.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::testing::{self, net::Network};
    ///
    /// testing::block_on(async { Network::current().set_seed(7) });
    /// ```
    #[inline]
    pub fn set_seed(&self, seed: u64) {
        let mut state = lock(&self.state);
        state.seed = seed;
        state.random = Random::new(seed);
        state.opened = 0;
    }

    /// Sets the default of links, which includes links of a host to itself.
    ///
    /// # Examples
    ///
    /// See [`Link::latency`].
    #[inline]
    pub fn set_default(&self, link: Link) {
        lock(&self.state).default = link;
    }

    /// Sets the link between two hosts.
    ///
    /// # Panics
    ///
    /// Panics if a host is not known.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::testing::{self, net::{Link, Network}};
    ///
    /// testing::block_on(async {
    ///     let slow = Link::new().latency(Duration::from_secs(1));
    ///     Network::current().set_link("10.0.0.1", "10.0.0.2", slow);
    /// });
    /// ```
    #[track_caller]
    #[inline]
    pub fn set_link(&self, one: &str, other: &str, link: Link) {
        let pair = pair(self.host(one), self.host(other));
        lock(&self.state).each_line(pair, |line| line.link = Some(link));
    }

    /// Cuts the link between two hosts: nothing passes until it is [healed](Network::heal).
    /// Packets in transit are held back, and connecting waits. There is no error, so only a timeout
    /// can detect this.
    ///
    /// # Panics
    ///
    /// Panics if a host is not known.
    ///
    /// # Examples
    ///
    /// See [`Network`].
    #[track_caller]
    #[inline]
    pub fn partition(&self, one: &str, other: &str) {
        let pair = pair(self.host(one), self.host(other));
        lock(&self.state).each_line(pair, |line| line.is_cut = true);
        self.note(format_args!("{} | {}", pair[0], pair[1]));
        // A panic of a waker must not prevent the change of the other connections.
        let mut panics = Panics::default();
        for connection in self.between(pair) {
            panics.catch(|| connection.hold());
        }
        panics.resume();
    }

    /// Heals a link that was [cut](Network::partition). Packets that were held back are sent again.
    ///
    /// # Panics
    ///
    /// Panics if a host is not known.
    ///
    /// # Examples
    ///
    /// See [`Network`].
    #[track_caller]
    #[inline]
    pub fn heal(&self, one: &str, other: &str) {
        let pair = pair(self.host(one), self.host(other));
        let waiters = {
            let mut state = lock(&self.state);
            state.each_line(pair, |line| line.is_cut = false);
            std::mem::take(&mut state.waiters)
        };
        self.note(format_args!("{} - {}", pair[0], pair[1]));
        // A panic of a waker must not prevent the change of the other connections.
        let mut panics = Panics::default();
        for connection in self.between(pair) {
            panics.catch(|| connection.release());
        }
        panics.catch(|| wake_all(waiters));
        panics.resume();
    }

    /// Resets all connections between two hosts. Packets in transit are lost, and both sides see
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset) at once.
    ///
    /// # Panics
    ///
    /// Panics if a host is not known.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{testing, io::AsyncReadExt};
    /// use soloist::testing::net::{Network, TcpListener, TcpStream};
    ///
    /// testing::block_on(async {
    ///     let _listener = TcpListener::bind("10.0.0.1:80").await?;
    ///     let mut client = TcpStream::connect("10.0.0.1:80").await?;
    ///     Network::current().reset("127.0.0.1", "10.0.0.1");
    ///     let error = client.read(&mut [0; 8]).await.unwrap_err();
    ///     assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    #[inline]
    pub fn reset(&self, one: &str, other: &str) {
        let pair = pair(self.host(one), self.host(other));
        // A panic of a waker must not prevent the change of the other connections.
        let mut panics = Panics::default();
        for connection in self.between(pair) {
            panics.catch(|| connection.reset_now());
        }
        panics.resume();
    }

    /// Adds a name for a host. Names are only looked up here, and not by the system. `localhost` is
    /// always known.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::testing;
    /// use soloist::testing::net::{Network, TcpListener, TcpStream};
    ///
    /// testing::block_on(async {
    ///     Network::current().add_name("example.org", [10, 0, 0, 1]);
    ///     let _listener = TcpListener::bind("example.org:80").await?;
    ///     let client = TcpStream::connect(("example.org", 80)).await?;
    ///     assert_eq!(client.peer_addr()?.to_string(), "10.0.0.1:80");
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn add_name(&self, name: &str, address: impl Into<IpAddr>) {
        let address = address.into();
        lock(&self.state).names.push((name.to_string(), address));
    }

    /// Starts to record a transcript.
    ///
    /// # Examples
    ///
    /// See [`transcript`](Network::transcript).
    #[inline]
    pub fn record(&self) {
        let now = clock::now();
        lock(&self.state).transcript = Some((now, String::new()));
    }

    /// Returns the transcript since [`record`](Network::record). It has a line for each packet, with
    /// the time at which it was sent and its delay, for each read, and for each connection. Two runs
    /// of the same test with the same seed have the same transcript.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{testing, io::{AsyncReadExt, AsyncWriteExt}};
    /// use soloist::testing::net::{Link, Network, TcpListener, TcpStream};
    ///
    /// let transcript = testing::block_on(async {
    ///     let network = Network::current();
    ///     network.set_default(Link::new().latency(Duration::from_millis(20)));
    ///     network.record();
    ///     let listener = TcpListener::bind("10.0.0.1:80").await?;
    ///     let mut client = TcpStream::connect("10.0.0.1:80").await?;
    ///     client.write_all(b"hello").await?;
    ///     let (mut server, _) = listener.accept().await?;
    ///     server.read_exact(&mut [0; 5]).await?;
    ///     Ok::<_, std::io::Error>(network.transcript())
    /// })?;
    /// assert_eq!(transcript, "\
    /// 0.020000000 127.0.0.1:49152 > 10.0.0.1:80 connects
    /// 0.040000000 127.0.0.1:49152 > 10.0.0.1:80 \"hello\" +0.020000000
    /// 0.060000000 10.0.0.1:80 reads 5
    /// ");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn transcript(&self) -> String {
        let state = lock(&self.state);
        let transcript = state.transcript.as_ref();
        transcript.map_or(String::new(), |(_, text)| text.clone())
    }

    /// Adds a line to the transcript, if it is recorded.
    #[inline]
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        if let Some((start, text)) = &mut lock(&self.state).transcript {
            let at = clock::now().saturating_duration_since(*start);
            // Writing to a `String` does not fail.
            let _ = writeln!(text, "{}.{:09} {what}", at.as_secs(), at.subsec_nanos());
        }
    }

    /// Returns the address of a host. Panics if the host is not known.
    #[track_caller]
    #[inline]
    pub(super) fn host(&self, host: &str) -> IpAddr {
        let known = host.parse().ok().or_else(|| self.look_up(host));
        known.unwrap_or_else(|| {
            panic!("`{host}` is no IP address and no name: add it with `Network::add_name`")
        })
    }

    #[inline]
    fn look_up(&self, name: &str) -> Option<IpAddr> {
        let names = &lock(&self.state).names;
        // The name that was added last takes precedence.
        let known = names.iter().rev().find(|(known, _)| known == name);
        let known = known.map(|(_, address)| *address);
        known.or_else(|| (name == "localhost").then(|| IpAddr::from([127, 0, 0, 1])))
    }

    /// Resolves an argument of `bind` or `connect` to at least one address.
    #[inline]
    pub(super) fn resolve(&self, address: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
        let addresses = match address.target()? {
            Target::Addresses(addresses) => addresses,
            Target::Name(name, port) => match self.look_up(&name) {
                Some(ip) => vec![SocketAddr::new(ip, port)],
                None => {
                    let text = format!(
                        "the host name `{name}` is not known to the network in memory: add it with \
                         `Network::add_name`"
                    );
                    return Err(io::Error::new(io::ErrorKind::NotFound, text));
                }
            },
        };
        if addresses.is_empty() {
            let text = "no address was given";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(addresses)
    }

    #[inline]
    pub(super) fn link(&self, from: IpAddr, to: IpAddr) -> Link {
        let state = lock(&self.state);
        let line = state.lines.get(&[from, to]);
        line.and_then(|line| line.link).unwrap_or(state.default)
    }

    /// Returns the time of arrival of a packet that is sent now.
    #[inline]
    pub(super) fn arrival(
        &self,
        from: IpAddr,
        to: IpAddr,
        size: usize,
        random: &Random,
    ) -> Instant {
        let link = self.link(from, to);
        let mut sent = clock::now();
        if link.bandwidth > 0 {
            let mut state = lock(&self.state);
            let line = state.lines.entry([from, to]).or_default();
            let nanos = size as u128 * 1_000_000_000 / u128::from(link.bandwidth);
            let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            sent = line.busy_until.map_or(sent, |until| until.max(sent)) + takes;
            line.busy_until = Some(sent);
        }
        sent + link.delay(random)
    }

    /// Waits for the latency from one host to the other, and while the link is cut.
    #[inline]
    pub(super) async fn cross(&self, from: IpAddr, to: IpAddr) {
        loop {
            poll_fn(|cx| {
                let waker = cx.waker().clone();
                // Dropped after the lock is released.
                let _spare;
                let mut state = lock(&self.state);
                if !state.is_cut(from, to) {
                    _spare = Some(waker);
                    return Poll::Ready(());
                }
                _spare = wait_in(&mut state.waiters, waker);
                Poll::Pending
            })
            .await;
            let link = self.link(from, to);
            let delay = link.delay(&lock(&self.state).random);
            sleep(delay).await;
            if !self.is_cut(from, to) {
                return;
            }
        }
    }

    #[inline]
    pub(super) fn is_cut(&self, from: IpAddr, to: IpAddr) -> bool {
        lock(&self.state).is_cut(from, to)
    }

    /// Returns the random numbers of a new connection, which do not depend on other connections.
    #[inline]
    pub(super) fn random(&self) -> Random {
        let mut state = lock(&self.state);
        state.opened += 1;
        Random::new(Random::new(state.seed).next() ^ state.opened.rotate_right(16))
    }

    /// Returns a port that no listener uses.
    #[inline]
    pub(super) fn free_port(&self) -> u16 {
        let mut state = lock(&self.state);
        loop {
            let port = state.next_port;
            state.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if state
                .listeners
                .iter()
                .all(|(known, _)| known.port() != port)
            {
                return port;
            }
        }
    }

    /// Registers a connection, so that it is cut, healed and reset together with its link.
    #[inline]
    pub(super) fn add_connection(&self, connection: &Arc<Connection>) {
        let mut state = lock(&self.state);
        state.connections.retain(|known| known.strong_count() > 0);
        state.connections.push(Arc::downgrade(connection));
    }

    #[inline]
    fn between(&self, pair_of: [IpAddr; 2]) -> Vec<Arc<Connection>> {
        // The connections are dropped without the lock, by the caller.
        let known = lock(&self.state).connections.clone();
        let known = known.iter().filter_map(Weak::upgrade);
        known
            .filter(|connection| {
                let [one, other] = connection.addresses;
                pair(one.ip(), other.ip()) == pair_of
            })
            .collect()
    }

    #[inline]
    pub(super) fn add_listener(&self, listening: &Arc<Listening>) -> io::Result<()> {
        let address = listening.address;
        // Dropped after the lock is released.
        let known: Vec<Arc<Listening>>;
        let mut state = lock(&self.state);
        let there = state.listeners.iter();
        known = there.filter_map(|(_, known)| known.upgrade()).collect();
        let taken = known.iter().any(|known| {
            let theirs = known.address;
            theirs.port() == address.port()
                && (known.listens_to(address.ip()) || listening.listens_to(theirs.ip()))
        });
        if taken {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another listener of this network is there already",
            ));
        }
        let listening = Arc::downgrade(listening);
        state.listeners.push((address, listening));
        Ok(())
    }

    /// Removes a listener, if it is registered.
    #[inline]
    pub(super) fn remove_listener(&self, listening: &Listening) {
        let mut state = lock(&self.state);
        let is_it = |known: &Weak<Listening>| std::ptr::eq(known.as_ptr(), listening);
        state.listeners.retain(|(_, known)| !is_it(known));
    }

    /// Returns the listener that accepts connections to this address.
    #[inline]
    pub(super) fn listener(&self, address: SocketAddr) -> Option<Arc<Listening>> {
        let known: Vec<Arc<Listening>> = {
            let state = lock(&self.state);
            let port = state
                .listeners
                .iter()
                .filter(|(known, _)| known.port() == address.port());
            port.filter_map(|(_, known)| known.upgrade()).collect()
        };
        // There is at most one: a listener at all addresses excludes others at its port.
        known
            .into_iter()
            .find(|listening| listening.listens_to(address.ip()))
    }
}

impl fmt::Debug for Network {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Network")
            .field("listeners", &state.listeners.len())
            .field("connections", &state.opened)
            .finish_non_exhaustive()
    }
}

/// Wakes all wakers. The caller must not hold a lock.
#[inline]
pub(super) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    let mut panics = Panics::default();
    for waker in wakers {
        panics.catch(|| waker.wake());
    }
    panics.resume();
}

/// Adds `waker` to `list`. If the same task already waits there, `waker` is returned, to be dropped
/// without a lock.
#[inline]
pub(super) fn wait_in(list: &mut Vec<Waker>, waker: Waker) -> Option<Waker> {
    if list.iter().any(|known| known.will_wake(&waker)) {
        return Some(waker);
    }
    list.push(waker);
    None
}
