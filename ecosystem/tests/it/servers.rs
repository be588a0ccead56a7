//! Servers that the tests start, each on a free loopback port.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use crate::programs::fail_without;

/// A running server. It is killed when this is dropped, and when the process of the test ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shell: Child,
    /// The shell kills the server when this is closed.
    alive: Option<ChildStdin>,
}

/// Without files.
pub(crate) fn redis() -> Server {
    start(
        "redis-server",
        "redis-server --port $port --bind 127.0.0.1 --save '' --appendonly no --dir /",
        "Ready to accept connections",
    )
}

pub(crate) fn nats() -> Server {
    start(
        "nats-server",
        "nats-server --addr 127.0.0.1 --port $port 2>&1",
        "Server is ready",
    )
}

/// A new cluster whose superuser is `postgres`, without a password. It refuses to run as root.
pub(crate) fn postgres() -> Server {
    let script = r#"
        PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"
        as=
        if [ "$(id -u)" = 0 ]; then
            chown postgres "$data"
            as="setpriv --reuid=postgres --regid=postgres --clear-groups"
        fi
        $as initdb --pgdata "$data" --username postgres --auth trust --no-sync --no-locale --encoding UTF8 &&
            $as postgres -D "$data" -p $port -h 127.0.0.1 -k "" -F 2>&1"#;
    // After KILL its shared memory would remain.
    start_with_signal("postgres", script, "ready to accept connections", "QUIT")
}

/// The user `guest` has the password `guest`.
pub(crate) fn rabbitmq() -> Server {
    let script = r#"
        export HOME="$data" ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((port - 1))
        export RABBITMQ_NODENAME=test@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$port
        export RABBITMQ_DIST_PORT=$((port - 2)) RABBITMQ_BASE="$data" RABBITMQ_MNESIA_BASE="$data/mnesia"
        export RABBITMQ_LOG_BASE="$data" RABBITMQ_ENABLED_PLUGINS_FILE="$data/plugins"
        export RABBITMQ_PID_FILE="$data/pid"
        # The server would start it as a daemon, which stays.
        epmd &
        /usr/lib/rabbitmq/bin/rabbitmq-server 2>&1"#;
    start(
        "/usr/lib/rabbitmq/bin/rabbitmq-server",
        script,
        "completed with",
    )
}

/// Python's, which serves the files of `directory`.
pub(crate) fn http(directory: &std::path::Path) -> Server {
    let script = format!(
        "python3 -u -m http.server --bind 127.0.0.1 --directory '{}' $port 2>/dev/null",
        directory.display()
    );
    start("python3", &script, "Serving HTTP")
}

fn start(program: &str, script: &str, ready: &str) -> Server {
    start_with_signal(program, script, ready, "KILL")
}

/// Starts `script`, in which `$port` is a free port and `$data` an empty directory, and waits for a line
/// that contains `ready`.
fn start_with_signal(program: &str, script: &str, ready: &str, signal: &str) -> Server {
    let mut which = Command::new("sh");
    which
        .args(["-c", "command -v $0", program])
        .stdout(Stdio::null());
    if !which.status().unwrap().success() {
        fail_without(program);
    }
    // Another program may take the port before the server does.
    let server = (0..20).find_map(|_| try_start(script, ready, signal));
    server.unwrap_or_else(|| panic!("no {program} that listens"))
}

/// `setsid` makes a process group of the server and what it starts.
const RUN: &str = r#"
    data=$(mktemp -d) || exit
    export data
    cd "$data"
    setsid sh -c "$0" </dev/null &
    exec >/dev/null
    read -r _
    kill "-$1" "-$!"
    wait
    rm -r "$data""#;

fn try_start(script: &str, ready: &str, signal: &str) -> Option<Server> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut shell = Command::new("sh")
        .args(["-c", RUN, script, signal])
        .env("port", address.port().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let alive = shell.stdin.take();
    let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
    let server = Server {
        address,
        shell,
        alive,
    };
    let is_ready = |line: Result<String>| line.is_ok_and(|line| line.contains(ready));
    if !lines.by_ref().any(is_ready) {
        return None;
    }
    // Reads the rest of its output, so that it does not block.
    thread::spawn(move || lines.count());
    Some(server)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.alive = None;
        let _ = self.shell.wait();
    }
}
