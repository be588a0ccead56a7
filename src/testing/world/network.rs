//! The network of a world: its hosts, the links between them, and the messages under way.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::link::Link;
use super::tcp::{Connection, Listener};
use super::udp::{Datagram, Udp};
use crate::executor::timers::{TimerKey, saturating_add};
use crate::executor::{self, Executor, ProcessId};
use crate::panics::Panics;
use crate::sync::{Mutex, lock};
use crate::task_cell::{Message, Remote};
use crate::testing::faults::{FaultKind, Faults, Place};
use crate::testing::transcript::{Event, Transcript};

/// A network. Sockets refer to it from any thread.
pub(super) struct Network {
    /// The executor of the world, which has the clock.
    remote: Remote,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) faults: Arc<Faults>,
    transcript: Arc<Transcript>,
    start: Instant,
    pub(super) now: Instant,
    pub(super) hosts: Vec<HostState>,
    by_name: HashMap<String, usize>,
    by_address: HashMap<IpAddr, usize>,
    default: Link,
    lines: HashMap<(usize, usize), Line>,
    /// What happens later, with a number that keeps the order of what happens at the same time.
    later: BinaryHeap<Reverse<(Instant, u64, Later)>>,
    scheduled: u64,
    timer: Option<(Instant, TimerKey)>,
    pub(super) connections: Slab<Connection>,
    pub(super) listeners: Slab<Listener>,
    pub(super) udp: Slab<Udp>,
    /// The next number of a socket.
    number: u64,
    /// To be woken when the lock is released.
    pub(super) woken: Vec<Waker>,
}

pub(super) struct HostState {
    name: String,
    pub(super) address: IpAddr,
    pub(super) is_off: bool,
    next_port: u16,
    /// The keys of the listeners and UDP sockets at each port.
    pub(super) listeners: HashMap<u16, Vec<usize>>,
    pub(super) udp: HashMap<u16, Vec<usize>>,
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

/// Something that happens later. Sockets that are gone by then are told apart by their number.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Later {
    /// A request to connect arrives.
    Request(SocketId),
    /// A request to connect has had no answer.
    Repeat(SocketId),
    /// The first segment that one end of a connection has sent arrives.
    Segment(SocketId, usize),
    /// Segments of one end have not arrived for a long time.
    GiveUp(SocketId, usize),
    Datagram(Datagram),
    /// A datagram has found no socket.
    Unreachable(SocketId),
}

/// The key of a socket in its slab, and its number, which is never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SocketId {
    pub(super) key: usize,
    pub(super) number: u64,
}

/// The first port of those that are chosen by the network.
const FIRST_PORT: u16 = 49152;

impl Network {
    pub(super) fn new(
        executor: &Executor,
        faults: Arc<Faults>,
        transcript: Arc<Transcript>,
    ) -> Arc<Network> {
        let now = executor.now();
        Arc::new(Network {
            remote: executor.remote(),
            state: Mutex::new(State {
                faults,
                transcript,
                start: now,
                now,
                hosts: Vec::new(),
                by_name: HashMap::new(),
                by_address: HashMap::new(),
                default: Link::new(),
                lines: HashMap::new(),
                later: BinaryHeap::new(),
                scheduled: 0,
                timer: None,
                connections: Slab::new(),
                listeners: Slab::new(),
                udp: Slab::new(),
                number: 0,
                woken: Vec::new(),
            }),
        })
    }

    /// Calls `f` with the state, after everything that is due has happened. What `f` causes at once
    /// has happened afterwards.
    pub(super) fn with<R>(self: &Arc<Self>, f: impl FnOnce(&mut State) -> R) -> R {
        let executor = executor::try_current();
        let executor = executor.filter(|executor| executor.remote().id() == self.remote.id());
        let (result, woken) = {
            let mut state = lock(&self.state);
            if let Some(executor) = &executor {
                state.now = executor.now();
            }
            state.catch_up();
            let result = f(&mut state);
            state.catch_up();
            self.set_timer(executor.as_deref(), &mut state);
            (result, std::mem::take(&mut state.woken))
        };
        wake_all(woken);
        result
    }

    /// Sets the timer of the executor to the time at which something happens next.
    fn set_timer(self: &Arc<Self>, executor: Option<&Executor>, state: &mut State) {
        let next = state.later.peek().map(|Reverse((at, ..))| *at);
        if next == state.timer.map(|(at, _)| at) {
            return;
        }
        let Some(executor) = executor else {
            // Only the executor's own thread can set its timers.
            let network = self.clone();
            let call = move || network.with(|_| ());
            return self.remote.send(Message::Call(Box::new(call)));
        };
        let key = state.timer.take().map(|(_, key)| key);
        let Some(next) = next else {
            return key.into_iter().for_each(|key| executor.remove_timer(key));
        };
        let reset = key.and_then(|key| executor.reset_timer(key, next));
        // The waker is our own, so no user code runs here.
        let key = reset.unwrap_or_else(|| {
            let waker = Waker::from(self.clone());
            executor.add_timer(next, 0, &waker)
        });
        state.timer = Some((next, key));
    }
}

impl Wake for Network {
    fn wake(self: Arc<Self>) {
        self.with(|_| ());
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Network").field(&self.remote).finish()
    }
}

impl State {
    fn catch_up(&mut self) {
        while let Some(Reverse((at, ..))) = self.later.peek() {
            if *at > self.now {
                return;
            }
            let Some(Reverse((_, _, what))) = self.later.pop() else {
                return;
            };
            match what {
                Later::Request(id) => self.request_arrives(id),
                Later::Repeat(id) => self.repeat_request(id),
                Later::Segment(id, from) => self.segments_arrive(id, from),
                Later::GiveUp(id, from) => self.give_up(id, from),
                Later::Datagram(datagram) => self.datagram_arrives(datagram),
                Later::Unreachable(id) => self.datagram_is_refused(id),
            }
        }
    }

    pub(super) fn schedule(&mut self, at: Instant, what: Later) {
        self.scheduled += 1;
        self.later.push(Reverse((at, self.scheduled, what)));
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
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
        let [from, to] = [from, to].map(|host| SocketAddr::new(self.hosts[host].address, 0));
        self.record(kind, from, to, 0);
    }

    // ---- Hosts ---------------------------------------------------------------------------

    /// The host with this name, if there is one.
    pub(super) fn find_host(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn add_host(&mut self, name: &str) {
        let index = self.hosts.len();
        // 10.0.0.1 and so on.
        let number = u32::try_from(index + 1).expect("fewer hosts than addresses");
        let address = IpAddr::V4(Ipv4Addr::from_bits((10 << 24) + number));
        self.hosts.push(HostState {
            name: name.to_string(),
            address,
            is_off: false,
            next_port: FIRST_PORT,
            listeners: HashMap::new(),
            udp: HashMap::new(),
        });
        self.by_name.insert(name.to_string(), index);
        self.by_address.insert(address, index);
        self.transcript.set_name(address, name);
    }

    pub(super) fn name(&self, host: usize) -> &str {
        &self.hosts[host].name
    }

    /// What a name stands for on a host.
    pub(super) fn look_up(&self, name: &str) -> Option<IpAddr> {
        match self.by_name.get(name) {
            Some(host) => Some(self.hosts[*host].address),
            None if name == "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            None => None,
        }
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
            IpAddr::V4(_) => self.hosts[from].address,
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
            format!("the host `{}` does not have this address", self.name(host)),
        ))
    }

    /// A port that nothing listens on and no UDP socket has.
    pub(super) fn free_port(&mut self, host: usize) -> u16 {
        let host = &mut self.hosts[host];
        loop {
            let port = host.next_port;
            host.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !host.listeners.contains_key(&port) && !host.udp.contains_key(&port) {
                return port;
            }
        }
    }

    /// Closes the sockets of a process that is over. `silently`: the other sides do not notice.
    pub(super) fn end_process(&mut self, process: ProcessId, silently: bool) {
        let Some(host) = process.host() else { return };
        self.record_hosts(if silently { "power off" } else { "crash" }, host, host);
        self.hosts[host].is_off |= silently;
        self.hosts[host].listeners.clear();
        self.hosts[host].udp.clear();
        self.end_udp(process);
        self.end_tcp(process, silently);
    }

    /// A host that was off is on again.
    pub(super) fn power_on(&mut self, host: usize) {
        if std::mem::take(&mut self.hosts[host].is_off) {
            self.record_hosts("power on", host, host);
            self.resend_held();
        }
    }

    // ---- Links ---------------------------------------------------------------------------

    fn line(&mut self, from: usize, to: usize) -> &mut Line {
        self.lines.entry((from, to)).or_default()
    }

    pub(super) fn set_default(&mut self, link: Link) {
        self.default = link;
    }

    pub(super) fn set_link(&mut self, one: usize, other: usize, link: Link) {
        self.line(one, other).link = Some(link);
        self.line(other, one).link = Some(link);
    }

    /// A host reaches itself without faults.
    pub(super) fn link(&self, from: usize, to: usize) -> Link {
        if from == to {
            return Link::new();
        }
        let line = self.lines.get(&(from, to));
        line.and_then(|line| line.link).unwrap_or(self.default)
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.line(from, to).is_cut = true;
    }

    pub(super) fn heal(&mut self, one: usize, other: usize) {
        self.line(one, other).is_cut = false;
        self.line(other, one).is_cut = false;
        self.record_hosts("heal", one, other);
        self.resend_held();
    }

    /// Whether nothing gets from one host to another.
    pub(super) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.hosts[from].is_off
            || self.hosts[to].is_off
            || self.lines.get(&(from, to)).is_some_and(|line| line.is_cut)
    }

    /// The number of a new connection between two hosts.
    pub(super) fn number_connection(&mut self, one: usize, other: usize) -> u64 {
        let line = self.line(one.min(other), one.max(other));
        line.connections += 1;
        line.connections
    }

    /// The place of a new datagram.
    pub(super) fn datagram_place(&mut self, from: usize, to: usize) -> Place {
        let line = self.line(from, to);
        line.datagrams += 1;
        let message = line.datagrams;
        self.place(from, to, 0, message)
    }

    pub(super) fn place(&self, from: usize, to: usize, connection: u64, message: u64) -> Place {
        Place {
            from: self.hosts[from].address,
            to: self.hosts[to].address,
            connection,
            message,
        }
    }

    /// When a message of so many bytes arrives that is sent now, if it is not lost.
    pub(super) fn arrival(&mut self, from: usize, to: usize, size: usize, place: Place) -> Instant {
        let link = self.link(from, to);
        let mut sent = self.now;
        if link.bandwidth > 0 {
            let nanos = size as u128 * 1_000_000_000 / u128::from(link.bandwidth);
            let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            let line = self.line(from, to);
            let free = line.busy_until.map_or(sent, |until| until.max(sent));
            sent = saturating_add(free, takes);
            line.busy_until = Some(sent);
        }
        let mut takes = link.latency;
        if !link.jitter.is_zero() {
            let most = u64::try_from(link.jitter.as_nanos()).unwrap_or(u64::MAX);
            let jitter = self.faults.amount(FaultKind::Jitter, place, most);
            takes += Duration::from_nanos(jitter);
        }
        saturating_add(sent, takes)
    }
}

/// Whether a socket at `address` receives what is sent to `ip` of its host.
pub(super) fn receives(address: SocketAddr, only_v6: bool, ip: IpAddr) -> bool {
    match address.ip() {
        own if !own.is_unspecified() => own.to_canonical() == ip.to_canonical(),
        IpAddr::V4(_) => ip.to_canonical().is_ipv4(),
        IpAddr::V6(_) => ip.is_ipv6() || !only_v6,
    }
}

/// Whether two sockets exclude each other.
pub(super) fn collide(
    (one, v6): (SocketAddr, bool),
    (other, other_v6): (SocketAddr, bool),
) -> bool {
    receives(one, v6, other.ip()) || receives(other, other_v6, one.ip())
}

/// An address as a socket for IPv6 shows it, which also has connections of IPv4.
pub(super) fn as_seen_by(local: SocketAddr, address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if local.is_ipv6() => {
            SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
        }
        _ => address,
    }
}

/// A panic of a waker does not keep the others from being woken.
fn wake_all(wakers: Vec<Waker>) {
    let mut panics = Panics::default();
    for waker in wakers {
        panics.catch(|| waker.wake());
    }
    panics.resume();
}

/// Adds a waker to a list, without duplicates.
pub(super) fn wait_in(list: &mut Vec<Waker>, waker: &mut Option<Waker>) -> Poll<()> {
    let is_known = |waker: &Waker| list.iter().any(|known| known.will_wake(waker));
    if let Some(waker) = waker.take_if(|waker| !is_known(waker)) {
        list.push(waker);
    }
    Poll::Pending
}

pub(super) fn address_in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "Address already in use")
}
