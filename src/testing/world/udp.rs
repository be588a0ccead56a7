//! The operations of UDP sockets, and how datagrams reach their receivers.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::Type;

use super::endpoints::{Bound, Datagram, OVERHEAD, SocketId};
use super::endpoints::{as_seen_by, crashed, errno, specified};
use super::state::State;
use crate::testing::faults::FaultKind::{Duplicate, Reorder};

/// The largest datagram.
const LARGEST: usize = 65_507;

/// How many bytes wait in a socket. More are lost.
const BUFFER: usize = 212_992;

impl State {
    pub(super) fn connect_udp(&mut self, id: SocketId, to: SocketAddr) -> io::Result<()> {
        let Bound { host, address, .. } = self.bound[id.key];
        if address.is_ipv4() && to.is_ipv6() {
            return Err(errno!(AFNOSUPPORT, elsewhere: InvalidInput));
        }
        self.route(host, to.ip())
            .ok_or(ErrorKind::NetworkUnreachable)?;
        let source = self.source(host, to.ip());
        let socket = &mut self.bound[id.key];
        socket.peer = Some(SocketAddr::new(specified(to.ip(), source), to.port()));
        if address.ip().is_unspecified() {
            socket.address.set_ip(source);
            socket.address = as_seen_by(address, socket.address);
        }
        Ok(())
    }

    pub(super) fn send_datagram(
        &mut self,
        id: SocketId,
        bytes: &[u8],
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let socket = &mut self.bound[id.key];
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
            return Err(ErrorKind::InvalidInput.into());
        } else if socket.address.is_ipv4() && to.is_ipv6() {
            return Err(errno!(AFNOSUPPORT, elsewhere: InvalidInput));
        } else if is_broadcast && !socket.broadcast {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let (host, local) = (socket.host, socket.address);
        let source = specified(local.ip(), self.source(host, to.ip()));
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
            datagram.to.set_ip(specified(to.ip(), source));
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
        if self.is_blocked(hosts) || self.is_lost(hosts, place) {
            return self.record("lost", from, to, size);
        }
        let mut at = self.arrival(hosts, size, place);
        if self.faults.happens(Reorder, place, link.reordering) {
            at += Duration::from_millis(10) + 2 * (link.latency + link.jitter);
            self.record("reordered", from, to, size);
        }
        if self.faults.happens(Duplicate, place, link.duplicates) {
            self.record("duplicated", from, to, size);
            let second = self.datagram_place(hosts);
            let at = self.arrival(hosts, size, second);
            let twin = datagram.clone();
            self.schedule(at, |state| state.datagram_arrives(twin));
        }
        self.schedule(at, |state| state.datagram_arrives(datagram));
    }

    fn datagram_arrives(&mut self, datagram: Datagram) {
        let (host, peer) = datagram.hosts;
        let (from, to, size) = (datagram.from, datagram.to, datagram.bytes.len());
        if self.is_blocked(datagram.hosts) {
            return self.record("lost", from, to, size);
        }
        let is_broadcast = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        let receives = |socket: &Bound| match socket.peer {
            Some(peer) if peer != from && as_seen_by(socket.address, from) != peer => false,
            _ if is_broadcast => socket.address.ip().is_unspecified(),
            _ => socket.receives(to.ip()),
        };
        let receivers = self.at_port((peer, to.port()), Type::DGRAM, receives);
        if receivers.is_empty() && !is_broadcast {
            let place = self.datagram_place((peer, host));
            let at = self.arrival((peer, host), 0, place);
            self.schedule(at, move |state| state.datagram_is_refused(datagram.sender));
        }
        for key in receivers {
            let socket = &mut self.bound[key];
            if socket.bytes + size + OVERHEAD > BUFFER {
                self.record("lost", from, to, size);
                continue;
            }
            socket.bytes += size + OVERHEAD;
            socket.datagrams.push_back((from, datagram.bytes.clone()));
            self.woken.append(&mut socket.readers);
        }
    }

    /// Only a connected socket learns of it.
    fn datagram_is_refused(&mut self, id: SocketId) {
        let socket = self.bound.get_mut(id.key).filter(|socket| socket.id == id);
        if let Some(socket) = socket.filter(|socket| socket.peer.is_some()) {
            socket.error = Some(ErrorKind::ConnectionRefused);
            self.woken.append(&mut socket.readers);
        }
    }
}
