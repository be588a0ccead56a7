//! The state of a network: its hosts, the links between them, and what is under way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use socket2::Type;

use super::endpoints::{Bound, Connection, OPEN, SocketId, errno};
use super::links::Link;
use crate::executor::ProcessId;
use crate::executor::timers::{TimerKey, saturating_add};
use crate::slab::Slab;
use crate::testing::faults::FaultKind::{Jitter, Loss};
use crate::testing::faults::{Faults, Place};
use crate::testing::transcript::{Event, Transcript};

pub(super) struct State {
    pub(super) faults: Arc<Faults>,
    transcript: Arc<Transcript>,
    start: Instant,
    pub(super) now: Instant,
    pub(super) hosts: Vec<HostState>,
    by_address: HashMap<IpAddr, usize>,
    pub(super) default: Link,
    lines: BTreeMap<(usize, usize), Line>,
    /// What happens later, with a number that keeps the order of what happens at the same time.
    pub(super) later: BTreeMap<(Instant, u64), Later>,
    pub(super) timer: Option<(Instant, TimerKey)>,
    pub(super) connections: Slab<Connection>,
    pub(super) bound: Slab<Bound>,
    /// The last number of a socket, or of something that happens later.
    number: u64,
    /// To be woken when the lock is released.
    pub(super) woken: Vec<Waker>,
}

pub(super) struct HostState {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) is_off: bool,
    next_port: u16,
    /// The ports of the listeners and UDP sockets, with their keys.
    ports: BTreeSet<(u16, usize)>,
}

/// One direction of a link.
#[derive(Default)]
struct Line {
    link: Option<Link>,
    is_cut: bool,
    /// When the last message has left, if the bandwidth is limited.
    busy_until: Option<Instant>,
    datagrams: u64,
    /// Only in one of the directions.
    connections: u64,
}

/// Something that happens later. It looks whether its socket still exists.
type Later = Box<dyn FnOnce(&mut State) + Send>;

/// The first port of those that are chosen by the network.
const FIRST_PORT: u16 = 49152;

impl State {
    pub(super) fn new(now: Instant, faults: Arc<Faults>, transcript: Arc<Transcript>) -> State {
        State {
            faults,
            transcript,
            start: now,
            now,
            hosts: Vec::new(),
            by_address: HashMap::new(),
            default: Link::new(),
            lines: BTreeMap::new(),
            later: BTreeMap::new(),
            timer: None,
            connections: Slab::default(),
            bound: Slab::default(),
            number: 0,
            woken: Vec::new(),
        }
    }

    pub(super) fn schedule(&mut self, at: Instant, f: impl FnOnce(&mut State) + Send + 'static) {
        self.number += 1;
        self.later.insert((at, self.number), Box::new(f));
    }

    /// Makes everything happen that is due.
    pub(super) fn catch_up(&mut self) {
        while let Some(next) = self.later.first_entry() {
            if next.key().0 > self.now {
                return;
            }
            let happens = next.remove();
            happens(self);
        }
    }

    /// The id of a new socket with this key.
    pub(super) fn new_id(&mut self, key: usize) -> SocketId {
        self.number += 1;
        let (number, end) = (self.number, 0);
        SocketId { key, number, end }
    }

    pub(super) fn record(&self, kind: &'static str, from: SocketAddr, to: SocketAddr, len: usize) {
        let time = self.now.saturating_duration_since(self.start);
        let event = Event {
            kind,
            from,
            to,
            len,
        };
        self.transcript.record(time, event);
    }

    /// Records something about two hosts, or about one.
    pub(super) fn record_hosts(&self, kind: &'static str, from: usize, to: usize) {
        let [from, to] = [from, to].map(|host| (self.hosts[host].address, 0).into());
        self.record(kind, from, to, 0);
    }

    // ---- Hosts ---------------------------------------------------------------------------

    /// The host with this name, if there is one.
    pub(super) fn find_host(&self, name: &str) -> Option<usize> {
        self.hosts.iter().position(|host| host.name == name)
    }

    /// Adds a host, and returns its index.
    pub(super) fn add_host(&mut self, name: &str) -> usize {
        let index = self.hosts.len();
        // 10.0.0.1 and so on.
        let number = u32::try_from(index + 1).expect("fewer hosts than addresses");
        let address = Ipv4Addr::from_bits((10 << 24) + number);
        self.hosts.push(HostState {
            name: name.to_string(),
            address,
            is_off: false,
            next_port: FIRST_PORT,
            ports: BTreeSet::new(),
        });
        self.by_address.insert(address.into(), index);
        self.transcript.set_name(address.into(), name);
        index
    }

    /// What a name stands for on a host.
    pub(super) fn look_up(&self, name: &str) -> Option<IpAddr> {
        if name == "localhost" {
            return Some(Ipv4Addr::LOCALHOST.into());
        }
        self.find_host(name)
            .map(|host| self.hosts[host].address.into())
    }

    /// The host that an address leads to from a host. `None` if no host has it.
    pub(super) fn route(&self, from: usize, to: IpAddr) -> Option<usize> {
        let to = to.to_canonical();
        if to.is_loopback() || to.is_unspecified() {
            return Some(from);
        }
        self.by_address.get(&to).copied()
    }

    /// The address with which a host reaches another.
    pub(super) fn source(&self, from: usize, to: IpAddr) -> IpAddr {
        match to.to_canonical() {
            IpAddr::V4(to) if to.is_loopback() || to.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V4(_) => self.hosts[from].address.into(),
        }
    }

    /// Checks that a socket of the host can be bound to an address.
    pub(super) fn check_local(&self, host: usize, ip: IpAddr) -> io::Result<()> {
        let ip = ip.to_canonical();
        if ip.is_loopback() || ip.is_unspecified() || ip == self.hosts[host].address {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!(
                "the host `{}` does not have this address",
                self.hosts[host].name
            ),
        ))
    }

    /// A port that nothing listens on and no UDP socket has.
    pub(super) fn free_port(&mut self, host: usize) -> u16 {
        loop {
            let port = self.hosts[host].next_port;
            self.hosts[host].next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            let mut others = self.hosts[host].ports.range((port, 0)..=(port, usize::MAX));
            if others.next().is_none() {
                return port;
            }
        }
    }

    /// The keys of the listeners or UDP sockets at a port of a host that fit.
    pub(super) fn at_port(
        &self,
        (host, port): (usize, u16),
        kind: Type,
        fits: impl Fn(&Bound) -> bool,
    ) -> Vec<usize> {
        let keys = self.hosts[host].ports.range((port, 0)..=(port, usize::MAX));
        let keys = keys.map(|(_, key)| *key);
        let fits = |key: &usize| self.bound[*key].kind == kind && fits(&self.bound[*key]);
        keys.filter(fits).collect()
    }

    /// Gives a socket its port.
    pub(super) fn bind(&mut self, mut socket: Bound) -> io::Result<SocketId> {
        let host = socket.host;
        self.check_local(host, socket.address.ip())?;
        if socket.address.port() == 0 {
            socket.address.set_port(self.free_port(host));
        }
        let port = socket.address.port();
        let others = self.at_port((host, port), socket.kind, |other| {
            socket.receives(other.address.ip()) || other.receives(socket.address.ip())
        });
        if !others.is_empty() {
            return Err(errno!(ADDRINUSE, elsewhere: AddrInUse));
        }
        let id = self.new_id(self.bound.vacant_key());
        self.bound.insert(Bound { id, ..socket });
        self.hosts[host].ports.insert((port, id.key));
        Ok(id)
    }

    /// The last handle of a listener or a UDP socket was dropped.
    pub(super) fn close_bound(&mut self, id: SocketId) {
        let mut socket = self.bound.remove(id.key).expect(OPEN);
        self.woken.append(&mut socket.readers);
        let ports = &mut self.hosts[socket.host].ports;
        ports.remove(&(socket.address.port(), id.key));
        for connection in socket.connections {
            self.close(connection, true);
        }
    }

    /// Closes the sockets of a process that is over. `silently`: the other sides do not notice.
    pub(super) fn end_process(&mut self, process: ProcessId, silently: bool) {
        let Some(host) = process.host() else { return };
        self.record_hosts(if silently { "power off" } else { "crash" }, host, host);
        self.hosts[host].is_off |= silently;
        self.hosts[host].ports.clear();
        let mut waiting = Vec::new();
        for kind in [Type::DGRAM, Type::STREAM] {
            let is_owned = |socket: &Bound| socket.owner == process && socket.kind == kind;
            for socket in self.bound.iter_mut().filter(|it| is_owned(it)) {
                socket.is_dead = true;
                socket.datagrams.clear();
                waiting.extend(socket.connections.drain(..));
                self.woken.append(&mut socket.readers);
            }
        }
        for id in self.all_ends() {
            if self.end(id).owner == process {
                self.end_crashes(id, silently);
            }
        }
        for id in waiting {
            self.close(id, false);
        }
    }

    /// A host that was off is on again.
    pub(super) fn power_on(&mut self, host: usize) {
        if std::mem::take(&mut self.hosts[host].is_off) {
            self.record_hosts("power on", host, host);
            self.resend_held();
        }
    }

    // ---- Links ---------------------------------------------------------------------------

    fn line(&mut self, hosts: (usize, usize)) -> &mut Line {
        self.lines.entry(hosts).or_default()
    }

    pub(super) fn set_link(&mut self, one: usize, other: usize, link: Link) {
        self.line((one, other)).link = Some(link);
        self.line((other, one)).link = Some(link);
    }

    /// A host reaches itself without faults.
    pub(super) fn link(&self, hosts: (usize, usize)) -> Link {
        if hosts.0 == hosts.1 {
            return Link::new();
        }
        let line = self.lines.get(&hosts);
        line.and_then(|line| line.link).unwrap_or(self.default)
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.line((from, to)).is_cut = true;
    }

    pub(super) fn heal(&mut self, one: usize, other: usize) {
        self.line((one, other)).is_cut = false;
        self.line((other, one)).is_cut = false;
        self.record_hosts("heal", one, other);
        self.resend_held();
    }

    /// Whether nothing gets from one host to another.
    pub(super) fn is_blocked(&self, hosts: (usize, usize)) -> bool {
        let is_cut = self.lines.get(&hosts).is_some_and(|line| line.is_cut);
        is_cut || self.hosts[hosts.1].is_off
    }

    /// The number of a new connection between two hosts.
    pub(super) fn number_connection(&mut self, one: usize, other: usize) -> u64 {
        let line = self.line((one.min(other), one.max(other)));
        line.connections += 1;
        line.connections
    }

    /// The place of a new datagram.
    pub(super) fn datagram_place(&mut self, hosts: (usize, usize)) -> Place {
        let line = self.line(hosts);
        line.datagrams += 1;
        let message = line.datagrams;
        self.place(hosts, 0, message)
    }

    pub(super) fn place(&self, hosts: (usize, usize), connection: u64, message: u64) -> Place {
        Place {
            from: self.hosts[hosts.0].address,
            to: self.hosts[hosts.1].address,
            connection,
            message,
        }
    }

    /// When a message of so many bytes arrives that is sent now, if it is not lost.
    pub(super) fn arrival(&mut self, hosts: (usize, usize), size: usize, place: Place) -> Instant {
        let link = self.link(hosts);
        let mut sent = self.now;
        if link.bandwidth > 0 {
            let nanos = size as u128 * 1_000_000_000 / u128::from(link.bandwidth);
            let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            let line = self.line(hosts);
            let free = line.busy_until.map_or(sent, |until| until.max(sent));
            sent = saturating_add(free, takes);
            line.busy_until = Some(sent);
        }
        let mut takes = link.latency;
        if !link.jitter.is_zero() {
            let most = u64::try_from(link.jitter.as_nanos()).unwrap_or(u64::MAX);
            let jitter = self.faults.amount(Jitter, place, most);
            takes += Duration::from_nanos(jitter);
        }
        saturating_add(sent, takes)
    }

    pub(super) fn is_lost(&self, hosts: (usize, usize), place: Place) -> bool {
        let link = self.link(hosts);
        self.faults.happens(Loss, place, link.loss)
    }
}
