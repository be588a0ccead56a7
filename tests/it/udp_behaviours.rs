//! One table of how UDP behaves, run on the system's network and in a simulated world, in the
//! language of `tcp_behaviours.rs`. A step names a socket: `u`, `v` or `w`, which the first step of
//! most scripts binds.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use soloist::future::poll_once;
use soloist::net::UdpSocket;

use crate::support::*;
#[cfg(target_os = "linux")]
use crate::tcp_behaviours::check_system;
use crate::tcp_behaviours::{Place, Settle, Word, check_world, in_time, show, show_polled};

/// A name and a script in each row; a line that is indented goes on with the row before it.
const SCRIPTS: &str = "\
send_to and recv_from | u.send_to v 5 = 5; v.recv_from = 5 u
datagrams stay apart | u.send_to v 5; u.send_to v 3; settle; v.recv_from = 5 u; v.recv_from = 3 u;
    v.poll_recv = pending
an empty datagram | u.send_to v 0 = 0; v.recv_from = 0 u
the largest datagram | u.send_to v 65507 = 65507; v.recv_large = 65507
a datagram that is too large | u.send_to v 65508 = Uncategorized; settle; v.poll_recv = pending
a datagram is cut to the buffer | u.send_to v 60; u.send_to v 2; settle; v.recv_small = 8;
    v.recv_small = 2
a receive into no bytes takes a datagram | u.send_to v 5; u.send_to v 3; settle; v.recv_nothing = 0;
    v.recv = 3
peeks take nothing | u.send_to v 5; settle; v.peek_from = 5 u; v.peek = 5; v.recv = 5;
    v.poll_recv = pending
a receive waits | v.poll_recv = pending
send without a connection | u.send 1 = Uncategorized
no peer without a connection | u.peer_addr = NotConnected
connect | u.connect v = (); u.send 5 = 5; v.recv_from = 5 u; u.peer_addr = v
connect binds the local address | x.bind_all; x.connect v; x.local_ip = server; x.send 1; settle;
    v.recv = 1
a connected socket receives only from its peer | u.connect v; w.send_to u 5; settle;
    u.poll_recv = pending; v.send_to u 3; settle; u.recv = 3
what came before connect stays | w.send_to u 5; settle; u.connect v; u.recv = 5
a connected socket may send to others | u.connect v; u.send_to w 5 = 5; w.recv_from = 5 u
connect again | u.connect v; u.connect w; u.send 2; w.recv = 2; u.peer_addr = w
nobody receives: not connected | v.close; u.send_to v 5 = 5; settle; u.take_error = None;
    u.poll_recv = pending; u.send_to w 1 = 1; w.recv = 1
nobody receives: connected, then a receive | u.connect v; v.close; u.send 5 = 5; settle;
    u.recv = ConnectionRefused; u.poll_recv = pending
nobody receives: connected, then a send | u.connect v; v.close; u.send 5 = 5; settle;
    u.send 5 = ConnectionRefused; u.send 5 = 5
nobody receives: connected, then take_error | u.connect v; v.close; u.send 5; settle;
    u.take_error = Some(ConnectionRefused); u.take_error = None; u.poll_recv = pending
nobody receives: it wakes a receiver | u.connect v; v.close; u.spawn_recv; settle; u.send 5; settle;
    join = ConnectionRefused
the port is in use | x.bind_at v = AddrInUse; x.bind_all_at v = AddrInUse
the port is free again | v.close; x.bind_at v = (); u.send_to x 5; x.recv = 5
ports of TCP are others | x.listen_at v = ()
a clone is the same socket | u.clone x; u.close; x.send_to v 5; v.recv_from = 5 x
two receivers | v.spawn_recv; v.spawn_recv; settle; u.send_to v 5; u.send_to v 3; settle;
    join_any = 3 5
port 0 is no destination | u.send_to_port 0 = InvalidInput
IPv6 from an IPv4 socket | u.send_to_v6 = Uncategorized
broadcast is off | u.broadcast = false; u.set_broadcast true = (); u.broadcast = true
broadcast without permission | u.send_broadcast = PermissionDenied
ttl | u.ttl = 64; u.set_ttl 5 = (); u.ttl = 5; u.set_ttl 0 = InvalidInput;
    u.set_ttl 256 = InvalidInput; u.ttl = 5
options of multicast | u.multicast_ttl = 1; u.set_multicast_ttl 4 = (); u.multicast_ttl = 4;
    u.multicast_loop = true; u.set_multicast_loop false = (); u.multicast_loop = false
an address of another host | x.bind_foreign = AddrNotAvailable
";

struct Script {
    place: Place,
    settle: Settle,
    sockets: BTreeMap<String, UdpSocket>,
    addresses: BTreeMap<String, SocketAddr>,
    tasks: Vec<Task<io::Result<usize>>>,
}

impl Script {
    async fn run(&mut self, steps: &str) -> Result<(), String> {
        for name in ["u", "v", "w"] {
            self.bind(name, (self.place.ip(), 0).into()).await;
        }
        for step in steps.split(';').map(str::trim) {
            let (action, expected) = step.split_once(" = ").unwrap_or((step, ""));
            let got = self.step(action).await;
            let is_right = match expected {
                "" => got.starts_with(|c: char| c == '(' || c.is_ascii_digit()),
                // Some errors have a kind of their own only on Windows.
                "Uncategorized" if cfg!(windows) => got.starts_with(|c: char| c.is_uppercase()),
                expected => got == expected,
            };
            if !is_right {
                return Err(format!("`{step}` gives {got}"));
            }
        }
        Ok(())
    }

    async fn bind(&mut self, name: &str, address: SocketAddr) -> String {
        let bound = self.place.on_server(UdpSocket::bind(address)).await;
        show(bound.map(|socket| {
            self.addresses
                .insert(name.into(), socket.local_addr().unwrap());
            self.sockets.insert(name.into(), socket);
        }))
    }

    fn name_of(&self, address: SocketAddr) -> &str {
        let mut names = self.addresses.iter().rev();
        names
            .find(|(_, known)| **known == address)
            .map_or("unknown", |(name, _)| name)
    }

    /// Makes a step, and returns its result.
    async fn step(&mut self, action: &str) -> String {
        match action {
            // Whatever was sent has arrived after this.
            "settle" => {
                sleep(self.settle).await;
                return "()".to_string();
            }
            "join" => return show(self.tasks.remove(0).await),
            "join_any" => {
                let mut counts = Vec::new();
                for task in self.tasks.drain(..) {
                    counts.push(task.await.unwrap());
                }
                counts.sort();
                return format!("{} {}", counts[0], counts[1]);
            }
            _ => {}
        }
        let (name, operation) = action.split_once('.').expect(action);
        let (operation, argument) = operation.split_once(' ').unwrap_or((operation, ""));
        let (to, count) = argument.split_once(' ').unwrap_or((argument, argument));
        let number = || count.parse::<usize>().expect(action);
        match operation {
            "bind_all" => return self.bind(name, ([0, 0, 0, 0], 0).into()).await,
            "bind_at" => return self.bind(name, self.addresses[to]).await,
            "bind_all_at" => {
                let port = self.addresses[to].port();
                return self.bind(name, ([0, 0, 0, 0], port).into()).await;
            }
            "bind_foreign" => return self.bind(name, ([192, 0, 2, 1], 0).into()).await,
            "listen_at" => {
                let bind = soloist::net::TcpListener::bind(self.addresses[to]);
                return show(self.place.on_server(bind).await.map(drop));
            }
            "close" => {
                self.sockets.remove(name).unwrap();
                return "()".to_string();
            }
            "clone" => {
                let clone = self.sockets[name].clone();
                self.addresses
                    .insert(to.into(), clone.local_addr().unwrap());
                self.sockets.insert(to.into(), clone);
                return "()".to_string();
            }
            _ => {}
        }
        let socket = self.sockets[name].clone();
        let mut buf = [7; 64];
        let from = |result: io::Result<(usize, SocketAddr)>| {
            show(result.map(|(n, from)| Words(format!("{n} {}", self.name_of(from)))))
        };
        match operation {
            "connect" => {
                let to = self.addresses[to];
                // Numeric addresses need no look-up.
                show(socket.connect(to).await)
            }
            "send" => show(socket.send(&vec![7; number()]).await),
            "send_to" => show(socket.send_to(&vec![7; number()], self.addresses[to]).await),
            "send_to_port" => show(socket.send_to(b"x", (self.place.ip(), 0)).await),
            "send_to_v6" => show(socket.send_to(b"x", "[::1]:9").await),
            "send_broadcast" => show(socket.send_to(b"x", "255.255.255.255:9").await),
            "recv" => show(socket.recv(&mut buf).await),
            "recv_small" => show(socket.recv(&mut buf[..8]).await),
            "recv_nothing" => show(socket.recv(&mut []).await),
            "recv_large" => show(socket.recv(&mut vec![0; 70_000]).await),
            "recv_from" => from(socket.recv_from(&mut buf).await),
            "peek" => show(socket.peek(&mut buf).await),
            "peek_from" => from(socket.peek_from(&mut buf).await),
            "poll_recv" => show_polled(poll_once(socket.recv(&mut buf)).await),
            "spawn_recv" => {
                self.tasks
                    .push(spawn(async move { socket.recv(&mut [0; 64]).await }));
                "()".to_string()
            }
            "peer_addr" => show(
                socket
                    .peer_addr()
                    .map(|peer| Words(self.name_of(peer).into())),
            ),
            "local_ip" => show(socket.local_addr().map(|local| {
                Word(if local.ip() == self.place.ip() {
                    "server"
                } else {
                    "another"
                })
            })),
            "take_error" => show(
                socket
                    .take_error()
                    .map(|error| error.map(|error| error.kind())),
            ),
            "broadcast" => show(socket.broadcast()),
            "set_broadcast" => show(socket.set_broadcast(argument == "true")),
            "ttl" => show(socket.ttl()),
            "set_ttl" => show(socket.set_ttl(number() as u32)),
            "multicast_ttl" => show(socket.multicast_ttl_v4()),
            "set_multicast_ttl" => show(socket.set_multicast_ttl_v4(number() as u32)),
            "multicast_loop" => show(socket.multicast_loop_v4()),
            "set_multicast_loop" => show(socket.set_multicast_loop_v4(argument == "true")),
            _ => panic!("{action}"),
        }
    }
}

/// Printed without quotes.
struct Words(String);

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs the script with this number, if there is one.
async fn check(place: Place, number: usize, settle: Settle) -> Option<Result<(), String>> {
    let text = SCRIPTS.replace("\n   ", "");
    let (name, steps) = text.lines().nth(number)?.split_once(" | ").unwrap();
    let mut result = Ok(());
    // On the system another program may have the port that a script needs: it is tried again.
    for _ in 0..3 {
        let mut script = Script {
            place: place.clone(),
            settle,
            sockets: BTreeMap::new(),
            addresses: BTreeMap::new(),
            tasks: Vec::new(),
        };
        result = in_time(name, script.run(steps)).await;
        let is_taken = |text: &String| text.contains("AddrInUse");
        if matches!(place, Place::World(..)) || !result.as_ref().is_err_and(is_taken) {
            break;
        }
    }
    Some(result)
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_behaves_as_the_table_of_udp_says() {
    async_test(async || check_system(check).await);
}

#[test]
fn a_simulated_host_behaves_as_the_table_of_udp_says() {
    watchdog(|| check_world(None, check));
}

#[test]
fn simulated_hosts_behave_as_the_table_of_udp_says_with_latency() {
    watchdog(|| check_world(Some(10 * MS), check));
}
