//! The operations of UDP sockets, and how datagrams reach their receivers.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::endpoints::{
    Datagram, OPEN, OVERHEAD, SocketId, Udp, address_in_use, as_seen_by, collide, crashed, errno,
    receives,
};
use super::state::{Later, State};
use crate::executor::ProcessId;
use crate::testing::faults::FaultKind;

/// The largest datagram.
const LARGEST: usize = 65_507;

/// How many bytes wait in a socket. More are lost.
const BUFFER: usize = 212_992;

impl State {
    pub(super) fn bind_udp(
        &mut self,
        owner: ProcessId,
        host: usize,
        mut address: SocketAddr,
    ) -> io::Result<SocketId> {
        self.check_local(host, address.ip())?;
        if address.port() == 0 {
            address.set_port(self.free_port(host));
        }
        let others = self.hosts[host].udp.get(&address.port());
        let collides = |key: &usize| collide((address, false), (self.udp[*key].local, false));
        if others.is_some_and(|others| others.iter().any(collides)) {
            return Err(address_in_use());
        }
        let id = SocketId {
            key: self.udp.vacant_key(),
            number: self.next_number(),
        };
        self.udp.insert(Udp {
            id,
            owner,
            host,
            local: address,
            peer: None,
            waiting: VecDeque::new(),
            bytes: 0,
            error: None,
            broadcast: false,
            ttl: 64,
            multicast_loop_v4: true,
            multicast_ttl_v4: 1,
            readers: Vec::new(),
            is_dead: false,
        });
        let sockets = &mut self.hosts[host].udp;
        sockets.entry(address.port()).or_default().push(id.key);
        Ok(id)
    }

    pub(super) fn connect_udp(&mut self, id: SocketId, to: SocketAddr) -> io::Result<()> {
        let socket = &self.udp[id.key];
        let (host, local) = (socket.host, socket.local);
        if local.is_ipv4() && to.is_ipv6() {
            return Err(errno!(AFNOSUPPORT, elsewhere: InvalidInput));
        }
        if self.route(host, to.ip()).is_none() {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let source = self.source(host, to.ip());
        let target = if to.ip().is_unspecified() {
            source
        } else {
            to.ip()
        };
        let socket = &mut self.udp[id.key];
        socket.peer = Some(SocketAddr::new(target, to.port()));
        if local.ip().is_unspecified() {
            socket.local.set_ip(source);
            socket.local = as_seen_by(local, socket.local);
        }
        Ok(())
    }

    pub(super) fn send_datagram(
        &mut self,
        id: SocketId,
        bytes: &[u8],
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let socket = &mut self.udp[id.key];
        if let Some(error) = socket.take_error() {
            return Err(error);
        }
        let to = to
            .or(socket.peer)
            .ok_or_else(|| errno!(DESTADDRREQ, elsewhere: NotConnected))?;
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let is_broadcast = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        if socket.is_dead {
            return Err(crashed());
        } else if bytes.len() > LARGEST {
            return Err(errno!(MSGSIZE, elsewhere: InvalidInput));
        } else if to.port() == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        } else if socket.local.is_ipv4() && to.is_ipv6() {
            return Err(errno!(AFNOSUPPORT, elsewhere: InvalidInput));
        } else if is_broadcast && !socket.broadcast {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (host, local) = (socket.host, socket.local);
        let source = match local.ip().is_unspecified() {
            true => self.source(host, to.ip()),
            false => local.ip(),
        };
        let mut datagram = Datagram {
            sender: id,
            hosts: (host, host),
            from: SocketAddr::new(source, local.port()),
            to,
            bytes: bytes.to_vec(),
        };
        if is_broadcast {
            for peer in 0..self.hosts.len() {
                datagram.hosts.1 = peer;
                self.transmit_datagram(datagram.clone());
            }
        } else if let Some(peer) = self.route(host, to.ip()) {
            if to.ip().is_unspecified() {
                datagram.to.set_ip(source);
            }
            datagram.hosts.1 = peer;
            self.transmit_datagram(datagram);
        } else {
            self.record("lost", datagram.from, to, bytes.len());
        }
        Ok(bytes.len())
    }

    fn transmit_datagram(&mut self, datagram: Datagram) {
        let (hosts, size) = (datagram.hosts, datagram.bytes.len());
        let (from, to) = (datagram.from, datagram.to);
        let link = self.link(hosts);
        let place = self.datagram_place(hosts);
        self.record("datagram", from, to, size);
        let happens = |state: &State, kind, probability| {
            probability > 0.0 && state.faults.happens(kind, place, probability)
        };
        if self.is_blocked(hosts) || happens(self, FaultKind::Loss, link.loss) {
            return self.record("lost", from, to, size);
        }
        let mut at = self.arrival(hosts, size, place);
        if happens(self, FaultKind::Reorder, link.reordering) {
            at += Duration::from_millis(10) + 2 * (link.latency + link.jitter);
            self.record("reordered", from, to, size);
        }
        if happens(self, FaultKind::Duplicate, link.duplicates) {
            self.record("duplicated", from, to, size);
            let second = self.datagram_place(hosts);
            let at = self.arrival(hosts, size, second);
            self.schedule(at, Later::Datagram(datagram.clone()));
        }
        self.schedule(at, Later::Datagram(datagram));
    }

    pub(super) fn datagram_arrives(&mut self, datagram: Datagram) {
        let (host, peer) = datagram.hosts;
        let (from, to, size) = (datagram.from, datagram.to, datagram.bytes.len());
        if self.is_blocked(datagram.hosts) {
            return self.record("lost", from, to, size);
        }
        let is_broadcast = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        let receives = |socket: &Udp| match socket.peer {
            Some(peer) if peer != from && as_seen_by(socket.local, from) != peer => false,
            _ if is_broadcast => socket.local.ip().is_unspecified(),
            _ => receives(socket.local, false, to.ip()),
        };
        let keys = self.hosts[peer].udp.get(&to.port());
        let keys = keys.into_iter().flatten().copied();
        let receivers: Vec<usize> = keys.filter(|key| receives(&self.udp[*key])).collect();
        if receivers.is_empty() && !is_broadcast {
            let place = self.datagram_place((peer, host));
            let at = self.arrival((peer, host), 0, place);
            self.schedule(at, Later::Unreachable(datagram.sender));
        }
        for key in receivers {
            let socket = &mut self.udp[key];
            if socket.bytes + size + OVERHEAD > BUFFER {
                self.record("lost", from, to, size);
                continue;
            }
            socket.bytes += size + OVERHEAD;
            socket.waiting.push_back((from, datagram.bytes.clone()));
            self.woken.append(&mut socket.readers);
        }
    }

    /// Only a connected socket learns of it.
    pub(super) fn datagram_is_refused(&mut self, id: SocketId) {
        let socket = self.udp.get_mut(id.key).filter(|socket| socket.id == id);
        if let Some(socket) = socket.filter(|socket| socket.peer.is_some()) {
            socket.error = Some(io::ErrorKind::ConnectionRefused);
            self.woken.append(&mut socket.readers);
        }
    }

    pub(super) fn close_udp(&mut self, id: SocketId) {
        let mut socket = self.udp.remove(id.key).expect(OPEN);
        self.woken.append(&mut socket.readers);
        let sockets = &mut self.hosts[socket.host].udp;
        let port = socket.local.port();
        if let Some(keys) = sockets.get_mut(&port).filter(|_| !socket.is_dead) {
            keys.retain(|key| *key != id.key);
            if keys.is_empty() {
                sockets.remove(&port);
            }
        }
    }

    /// Closes the sockets of a process that is over.
    pub(super) fn end_udp(&mut self, process: ProcessId) {
        for socket in self.udp.iter_mut() {
            if socket.owner == process {
                socket.is_dead = true;
                socket.waiting.clear();
                self.woken.append(&mut socket.readers);
            }
        }
    }
}
