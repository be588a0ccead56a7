//! The examples `embed` and `embed_mio`: a runtime as a guest in the event loops of calloop and mio.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};

use crate::programs::{KillOnDrop, example};
use crate::support::watchdog;

/// The three numbers of a line such as "frame 30: 0 bytes echoed, 2 turns".
fn numbers(line: &str) -> [u64; 3] {
    let words = line.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn embed_echoes_between_frames() {
    watchdog(|| {
        let mut command = example("embed");
        let mut program = KillOnDrop(command.arg("127.0.0.1:0").spawn().unwrap());
        let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let first = line();
        let address = first.strip_prefix("listening on ").unwrap();
        let [frames, echoed, turns] = numbers(&line());
        assert_eq!((frames, echoed), (30, 0));
        // No client has connected, so frames do not cause turns.
        assert!(turns < 5, "{turns}");

        let mut client = TcpStream::connect(address).unwrap();
        let mut idle = TcpStream::connect(address).unwrap();
        for n in 0..50 {
            let mut echo = [0; 10];
            client.write_all(&[n; 10]).unwrap();
            client.read_exact(&mut echo).unwrap();
            assert_eq!(echo, [n; 10]);
        }
        let [frames, _, turns] = loop {
            let numbers = numbers(&line());
            if numbers[1] == 500 {
                break numbers;
            }
        };
        // The clients send nothing, so frames do not cause turns.
        let [later, echoed, same] = numbers(&line());
        assert_eq!((later, echoed), (frames + 30, 500));
        assert!(same <= turns + 2, "{turns} turns, then {same}");

        idle.write_all(b"last words").unwrap();
        idle.shutdown(Shutdown::Write).unwrap();
        let mut echo = String::new();
        idle.read_to_string(&mut echo).unwrap();
        assert_eq!(echo, "last words");
    });
}

#[test]
fn embed_exits_after_its_time() {
    watchdog(|| {
        let output = example("embed")
            .args(["--seconds", "1", "127.0.0.1:0"])
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("listening on 127.0.0.1:"), "{text}");
        // At most one line for each 30 frames, and fewer on a busy machine.
        assert!(lines.len() <= 3, "{text}");
        let output = example("embed")
            .arg("--what")
            .stderr(std::process::Stdio::piped())
            .output();
        assert_eq!(output.unwrap().status.code(), Some(2));
    });
}

#[test]
fn embed_mio_echoes() {
    watchdog(|| {
        let mut command = example("embed_mio");
        let mut program = KillOnDrop(command.arg("127.0.0.1:0").spawn().unwrap());
        let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.strip_prefix("listening on ").unwrap();
        let mut clients: Vec<_> = (0..5)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagrams.connect(address).unwrap();
        for n in 0..200 {
            // Sockets become ready again during a turn.
            for client in &mut clients {
                client.write_all(&[n; 10]).unwrap();
            }
            datagrams.send(&[n; 20]).unwrap();
            let mut echo = [0; 20];
            assert_eq!(datagrams.recv(&mut echo).unwrap(), 20);
            assert_eq!(echo, [n; 20]);
            for client in &mut clients {
                client.read_exact(&mut echo[..10]).unwrap();
                assert_eq!(echo[..10], [n; 10]);
            }
        }
        for mut client in clients {
            client.write_all(b"last words").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut echo = String::new();
            client.read_to_string(&mut echo).unwrap();
            assert_eq!(echo, "last words");
        }
    });
}

#[test]
fn embed_mio_exits_after_its_time() {
    watchdog(|| {
        let output = example("embed_mio")
            .args(["--seconds", "1", "127.0.0.1:0"])
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("listening on 127.0.0.1:"), "{text}");
        let output = example("embed_mio")
            .arg("--what")
            .stderr(std::process::Stdio::piped())
            .output();
        assert_eq!(output.unwrap().status.code(), Some(2));
    });
}
