//! The example `all_cores`, which distributes connections among its threads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::programs::{KillOnDrop, example};
use crate::support::*;

/// So many that every thread practically always gets some.
const CLIENTS: usize = 200;

// Elsewhere all may go to one.
#[cfg_attr(not(target_os = "linux"), ignore)]
#[test]
fn every_thread_serves_some_connections() {
    watchdog(|| {
        let mut command = example("all_cores");
        command.args(["--cores", "4", "127.0.0.1:0"]);
        let mut server = KillOnDrop(command.spawn().unwrap());
        let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let first = line();
        let address = first.strip_prefix("listening on ").unwrap();
        let address = address.strip_suffix(" with 4 threads").expect(&first);

        for n in 0..CLIENTS {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(&[n as u8; 100]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut echo = Vec::new();
            client.read_to_end(&mut echo).unwrap();
            assert_eq!(echo, [n as u8; 100]);
        }
        let all = format!("{CLIENTS} connections: ");
        let split = loop {
            if let Some(split) = line().strip_prefix(&all) {
                break split.to_string();
            }
        };
        let split: Vec<usize> = split.split(" + ").map(|n| n.parse().unwrap()).collect();
        assert_eq!((split.len(), split.iter().sum()), (4, CLIENTS));
        assert!(split.iter().all(|&n| n > 0), "{split:?}");
    });
}

#[test]
fn it_ends_after_its_time_and_rejects_wrong_arguments() {
    watchdog(|| {
        let output = example("all_cores")
            .args(["--cores", "1", "--seconds", "0", "127.0.0.1:0"])
            .output();
        assert!(output.unwrap().status.success());
        for wrong in [
            &["--cores", "0"][..],
            &["--cores"],
            &["--what"],
            &["a", "b"],
        ] {
            let output = example("all_cores")
                .args(wrong)
                .stderr(std::process::Stdio::piped())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(2), "{wrong:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("usage: all_cores"));
        }
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let output = example("all_cores")
            .arg(taken.local_addr().unwrap().to_string())
            .stderr(std::process::Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("all_cores: "));
    });
}
