//! A simulated world: hosts with tasks of their own, and a network between them.

mod endpoints;
mod hosts;
mod links;
mod network;
mod sockets;
mod state;
mod streams;
mod tcp;
mod udp;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::panic::Location;
use std::sync::Arc;

pub(super) use self::hosts::WorldHosts;
pub use self::links::Link;
use self::network::Network;
pub(crate) use self::sockets::{Placeholder, Process, TcpListener, TcpStream, UdpSocket};
use self::state::State;
use super::faults::Faults;
use super::simulation::{Simulated, hosts_of};
use super::transcript::Transcript;
use crate::executor;
use crate::task::Task;

/// The hosts and the network of a test that runs in [`simulate`](super::simulate).
///
/// A clone is another handle to the same world.
///
/// # Examples
///
/// ```
/// use soloist::{io::{AsyncReadExt, AsyncWriteExt}, testing};
/// use soloist::net::{TcpListener, TcpStream};
///
/// testing::simulate(0..10, |world| async move {
///     let server = world.host("server");
///     let listener = server.spawn(TcpListener::bind("0.0.0.0:80")).await?;
///     let hello = server.spawn(async move {
///         let (mut stream, _) = listener.accept().await?;
///         stream.write_all(b"hello").await
///     });
///     let text = world.host("client").spawn(async {
///         let mut text = String::new();
///         TcpStream::connect("server:80").await?.read_to_string(&mut text).await?;
///         Ok::<_, std::io::Error>(text)
///     });
///     assert_eq!(text.await?, "hello");
///     hello.await
/// });
/// ```
#[derive(Clone)]
pub struct World {
    network: Arc<Network>,
    transcript: Arc<Transcript>,
    seed: u64,
}

impl World {
    /// Makes the world of the runtime that is entered. It has no hosts yet. From now on the tasks
    /// of the runtime cannot reach the system's network.
    pub(crate) fn new(seed: u64, faults: Arc<Faults>, transcript: Arc<Transcript>) -> World {
        let executor = executor::current("`World::new`");
        let network = Network::new(&executor, faults, transcript.clone());
        let simulated = Simulated::of(&executor).expect("`Builder::world` was called");
        let hosts = WorldHosts::new(network.clone());
        assert!(simulated.hosts.set(hosts).is_ok(), "it has no world yet");
        World {
            network,
            transcript,
            seed,
        }
    }

    /// Returns the host with this name. The first call makes it. Its name resolves to its address,
    /// on all hosts.
    ///
    /// # Panics
    ///
    /// Panics if the name is empty, `localhost` or an IP address, and outside of the runtime of the
    /// world.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::{net::resolve, testing};
    ///
    /// testing::simulate(0..1, |world| async move {
    ///     let (one, other) = (world.host("one"), world.host("other"));
    ///     let addresses = one.spawn(resolve("other:80")).await?;
    ///     assert_eq!(addresses, [(other.address(), 80).into()]);
    ///     Ok::<(), std::io::Error>(())
    /// });
    /// ```
    #[track_caller]
    pub fn host(&self, name: &str) -> Host {
        assert!(
            !name.is_empty() && name != "localhost" && name.parse::<IpAddr>().is_err(),
            "`{name}` cannot be the name of a host"
        );
        let executor = executor::current("`World::host`");
        let find = |state: &mut State| state.find_host(name);
        let index = self.network.with(find).unwrap_or_else(|| {
            let hosts = hosts_of(&executor).expect("the runtime has a world");
            hosts.add(name)
        });
        Host {
            network: self.network.clone(),
            index,
        }
    }

    /// Returns the link between two hosts, in both directions.
    ///
    /// # Examples
    ///
    /// See [`Link`].
    pub fn link(&self, one: &Host, other: &Host) -> LinkHandle {
        LinkHandle {
            network: self.network.clone(),
            hosts: (one.index, other.index),
        }
    }

    /// Sets the link between all hosts for which no other is set. A host reaches itself without
    /// delays and faults.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::testing::{self, Link};
    /// testing::simulate(0..10, |world| async move {
    ///     world.set_default(Link::new().latency(Duration::from_millis(5)).loss(0.01));
    /// });
    /// ```
    pub fn set_default(&self, link: Link) {
        self.network.with(|state| state.default = link);
    }

    /// Cuts the connection between two hosts. Datagrams are lost. Bytes of streams are sent again
    /// until they arrive, or for about 15 minutes. Requests to connect are repeated for about two
    /// minutes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{net::{TcpListener, TcpStream}, testing, time};
    ///
    /// testing::simulate(0..10, |world| async move {
    ///     let (server, client) = (world.host("server"), world.host("client"));
    ///     let listener = server.spawn(TcpListener::bind("0.0.0.0:80")).await?;
    ///     world.partition(&server, &client);
    ///     let connect = client.spawn(TcpStream::connect("server:80"));
    ///     time::sleep(Duration::from_secs(20)).await;
    ///     assert!(!connect.is_finished());
    ///     world.heal(&server, &client);
    ///     connect.await?;
    ///     drop(listener);
    ///     Ok::<(), std::io::Error>(())
    /// });
    /// ```
    pub fn partition(&self, one: &Host, other: &Host) {
        self.network.with(|state| {
            state.cut(one.index, other.index);
            state.cut(other.index, one.index);
            state.record_hosts("partition", one.index, other.index);
        });
    }

    /// Cuts the connection from one host to another, and leaves the other direction.
    ///
    /// # Examples
    ///
    /// See [`partition`](World::partition).
    pub fn partition_one_way(&self, from: &Host, to: &Host) {
        self.network.with(|state| {
            state.cut(from.index, to.index);
            state.record_hosts("partition one way", from.index, to.index);
        });
    }

    /// Restores the connection between two hosts, in both directions.
    ///
    /// # Examples
    ///
    /// See [`partition`](World::partition).
    pub fn heal(&self, one: &Host, other: &Host) {
        self.network
            .with(|state| state.heal(one.index, other.index));
    }

    /// Returns what has happened on the network, one event per line: the time since the start of
    /// the world in seconds, the endpoints, the kind of event, and the number of bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{net::UdpSocket, testing};
    /// testing::simulate(0..1, |world| async move {
    ///     world.host("client").spawn(async {
    ///         let socket = UdpSocket::bind("0.0.0.0:5000").await?;
    ///         socket.send_to(b"ping", "127.0.0.1:7").await
    ///     }).await?;
    ///     assert_eq!(world.transcript(), "0.000000000 127.0.0.1:5000 > 127.0.0.1:7 datagram 4\n");
    ///     Ok::<(), std::io::Error>(())
    /// });
    /// ```
    pub fn transcript(&self) -> String {
        self.transcript.text()
    }

    /// Returns the seed of this run.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing;
    /// testing::simulate(5..8, |world| async move {
    ///     assert!((5..8).contains(&world.seed()));
    /// });
    /// ```
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// The link between two hosts, returned by [`World::link`].
///
/// # Examples
///
/// See [`Link`].
#[derive(Clone)]
pub struct LinkHandle {
    network: Arc<Network>,
    hosts: (usize, usize),
}

impl LinkHandle {
    /// Sets the properties of the link, in both directions. Messages that are under way are not
    /// affected.
    ///
    /// # Examples
    ///
    /// See [`Link`].
    pub fn set(&self, link: Link) {
        let (one, other) = self.hosts;
        self.network.with(|state| state.set_link(one, other, link));
    }
}

impl fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LinkHandle").field(&self.hosts).finish()
    }
}

/// A host of a simulated world, returned by [`World::host`].
///
/// A task that is spawned on a host belongs to it, and so do all tasks that this one spawns, with
/// any function: [`spawn`](crate::spawn), [`TaskGroup`](crate::task::TaskGroup), or a
/// [`Handle`](crate::Handle) that [`Handle::current`](crate::Handle::current) has returned on the
/// host. The sockets of these tasks belong to the host, too. A clone is another handle to the same
/// host.
///
/// # Examples
///
/// See [`World`].
#[derive(Clone)]
pub struct Host {
    network: Arc<Network>,
    index: usize,
}

impl Host {
    /// Returns the host that the current task belongs to. Returns `None` if it belongs to none, and
    /// outside of a simulated world.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::testing::{self, Host};
    ///
    /// testing::simulate(0..1, |world| async move {
    ///     assert!(Host::current().is_none());
    ///     let name = world.host("server").spawn(async { Host::current().unwrap().name() });
    ///     assert_eq!(name.await, "server");
    /// });
    /// ```
    pub fn current() -> Option<Host> {
        let executor = executor::try_current()?;
        let index = executor.process(None).host()?;
        let network = hosts_of(&executor)?.network.clone();
        Some(Host { network, index })
    }

    /// Returns the name.
    ///
    /// # Examples
    ///
    /// See [`current`](Host::current).
    pub fn name(&self) -> String {
        let name = |state: &mut State| state.hosts[self.index].name.clone();
        self.network.with(name)
    }

    /// Returns the address that other hosts reach this host at.
    ///
    /// # Examples
    ///
    /// See [`World::host`].
    pub fn address(&self) -> IpAddr {
        self.network
            .with(|state| state.hosts[self.index].address.into())
    }

    /// Spawns a task on the host. If the host has lost power, this turns it on again.
    ///
    /// # Panics
    ///
    /// Panics outside of the runtime of the world.
    ///
    /// # Examples
    ///
    /// See [`World`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let spawned_at = Location::caller();
        let executor = executor::current("`Host::spawn`");
        self.with("`Host::spawn`", |hosts| {
            self.network.with(|state| state.power_on(self.index));
            let _entered = executor.enter_process(hosts.process_on(self.index));
            Task::new(executor.spawn(future, None, spawned_at))
        })
    }

    /// Ends all tasks of the host, like a process that is killed. The host can be used again: spawn
    /// its tasks anew.
    ///
    /// First all connections are reset, and the listeners closed. Then the tasks are dropped. If
    /// the current task is one of them, it is dropped when its poll ends. What the tasks do from now
    /// on, in their destructors, has no effect on other hosts, and tasks that they spawn do not run.
    /// A [`Task`] of the host that is still held counts as cancelled: use
    /// [`join`](crate::Task::join), since `.await` panics.
    ///
    /// # Panics
    ///
    /// Panics outside of the runtime of the world. Also panics with the panic of a destructor, if
    /// no handle of its task is left.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use soloist::{io::AsyncReadExt, net::{TcpListener, TcpStream}, testing};
    ///
    /// testing::simulate(0..10, |world| async move {
    ///     let server = world.host("server");
    ///     let listener = server.spawn(TcpListener::bind("0.0.0.0:80")).await?;
    ///     server.spawn(async move {
    ///         let _connection = listener.accept().await;
    ///         std::future::pending::<()>().await;
    ///     }).detach();
    ///     let connect = world.host("client").spawn(TcpStream::connect("server:80"));
    ///     let mut stream = connect.await?;
    ///     server.crash();
    ///     let error = stream.read(&mut [0; 8]).await.unwrap_err();
    ///     assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    ///     Ok::<(), std::io::Error>(())
    /// });
    /// ```
    #[track_caller]
    pub fn crash(&self) {
        self.with("`Host::crash`", |hosts| hosts.stop(self.index, false));
    }

    /// Ends all tasks of the host, like [`crash`](Host::crash), but other hosts do not notice: from
    /// now on they get no answer. [`spawn`](Host::spawn) turns the host on again. Then it answers
    /// with a reset to what arrives for one of its earlier connections.
    ///
    /// # Panics
    ///
    /// The same as for [`crash`](Host::crash).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{net::{TcpListener, TcpStream}, testing, time::timeout};
    ///
    /// testing::simulate(0..10, |world| async move {
    ///     let server = world.host("server");
    ///     let _listener = server.spawn(TcpListener::bind("0.0.0.0:80")).await?;
    ///     server.power_off();
    ///     let connect = timeout(Duration::from_secs(60), TcpStream::connect("server:80"));
    ///     assert!(world.host("client").spawn(connect).await.is_err());
    ///     Ok::<(), std::io::Error>(())
    /// });
    /// ```
    #[track_caller]
    pub fn power_off(&self) {
        self.with("`Host::power_off`", |hosts| hosts.stop(self.index, true));
    }

    /// Stops polling the tasks of the host, until [`resume`](Host::resume) is called. Its sockets
    /// still receive data, and other hosts can connect. If the current task is one of them, it stops
    /// when its poll ends.
    ///
    /// # Panics
    ///
    /// Panics outside of the runtime of the world.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{testing, time};
    ///
    /// testing::simulate(0..10, |world| async move {
    ///     let host = world.host("host");
    ///     let task = host.spawn(time::sleep(Duration::from_secs(1)));
    ///     host.pause();
    ///     time::sleep(Duration::from_secs(60)).await;
    ///     assert!(!task.is_finished());
    ///     host.resume();
    ///     task.await;
    /// });
    /// ```
    #[track_caller]
    pub fn pause(&self) {
        self.with("`Host::pause`", |hosts| hosts.pause(self.index));
    }

    /// Continues to poll the tasks of the host.
    ///
    /// # Panics
    ///
    /// Panics outside of the runtime of the world.
    ///
    /// # Examples
    ///
    /// See [`pause`](Host::pause).
    #[track_caller]
    pub fn resume(&self) {
        self.with("`Host::resume`", |hosts| hosts.resume(self.index));
    }

    /// Sets how fast the clock of the host runs: with 2, [`time::now`](crate::time::now) advances by
    /// two seconds per second, and a sleep takes half as long. The clock of the world, which
    /// [`advance`](super::advance) moves, runs at rate 1.
    ///
    /// A deadline is converted when its timer is registered. So a sleep that is under way while the
    /// rate changes ends at the time that was computed before, or later if the clock has slowed
    /// down. The time of the system, `SystemTime` and `Instant::now`, is not simulated.
    ///
    /// # Panics
    ///
    /// Panics if the rate is not a number above 0, and outside of the runtime of the world.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{testing, time};
    ///
    /// testing::simulate(0..10, |world| async move {
    ///     let host = world.host("host");
    ///     host.set_clock_rate(1.25);
    ///     let start = time::now();
    ///     host.spawn(async { time::sleep(Duration::from_secs(10)).await }).await;
    ///     assert_eq!(time::now() - start, Duration::from_secs(8));
    /// });
    /// ```
    #[track_caller]
    pub fn set_clock_rate(&self, rate: f64) {
        assert!(
            rate.is_finite() && rate > 0.0,
            "{rate} is no rate of a clock: pass a number above 0"
        );
        self.with("`Host::set_clock_rate`", |hosts| {
            hosts.set_clock(self.index, rate);
        });
    }

    /// `what` is named in the panic outside of the runtime of the world.
    #[track_caller]
    fn with<R>(&self, what: &str, f: impl FnOnce(&WorldHosts) -> R) -> R {
        let executor = executor::current(what);
        let hosts = hosts_of(&executor);
        match hosts.filter(|hosts| Arc::ptr_eq(&hosts.network, &self.network)) {
            Some(hosts) => f(hosts),
            None => panic!("{what} outside of the runtime that the host belongs to"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Host");
        debug
            .field("name", &self.name())
            .field("address", &self.address())
            .finish()
    }
}
