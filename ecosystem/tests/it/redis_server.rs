//! Tests of the example `redis_ping`.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;

use crate::programs::{KillOnDrop, example};
use crate::servers::{self, Server};
use crate::support::watchdog;

/// A blocking connection.
pub(crate) fn connect(server: &Server) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{}/", server.address)).unwrap();
    client.get_connection().unwrap()
}

#[test]
fn redis_ping_with_a_server() {
    watchdog(|| {
        let server = servers::redis();
        let output = example("redis_ping")
            .arg(server.address.to_string())
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{out}{err}");
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 7, "{out}");
        assert!(lines[0].starts_with("PING: PONG after "), "{out}");
        assert_eq!(lines[1], "SET:  OK");
        assert_eq!(lines[2], r#"GET:  "grüß dich\r\n\0""#);
        assert!(lines[3].starts_with("INCR: 1000 times in "), "{out}");
        assert!(lines[4].starts_with("INCR: 1000 times in "), "{out}");
        assert_eq!(lines[5], r#"GET:  "2000""#);
        assert_eq!(lines[6], "DEL:  2");
        let keys: usize = redis::cmd("DBSIZE").query(&mut connect(&server)).unwrap();
        assert_eq!(keys, 0);
    });
}

#[test]
fn redis_ping_without_a_server() {
    watchdog(|| {
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let output = example("redis_ping")
            .arg(address.to_string())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.starts_with("redis_ping: ") && err.contains(&address.to_string()));
    });
}

/// Whatever another kind of server sends, the example exits with an error.
#[test]
fn redis_ping_with_another_kind_of_server() {
    let no_redis: [&[u8]; 6] = [
        b"",
        b"HTTP/1.0 400 Bad Request\r\n\r\n",
        b"+PON",
        b"$999999999999\r\n",
        b"*2\r\n:1\r\n",
        b"$5\r\nab",
    ];
    for answer in no_redis {
        watchdog(move || {
            use std::io::{Read, Write};
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let mut ping = example("redis_ping");
            ping.arg(address.to_string()).stderr(Stdio::piped());
            let mut ping = KillOnDrop(ping.spawn().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
            let mut err = String::new();
            let mut stderr = ping.0.stderr.take().unwrap();
            stderr.read_to_string(&mut err).unwrap();
            assert_eq!(ping.0.wait().unwrap().code(), Some(1), "{err}");
            assert!(err.starts_with("redis_ping: "), "{err}");
        });
    }
}
