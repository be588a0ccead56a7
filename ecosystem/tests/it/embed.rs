//! The example `embed`: a guest in calloop's loop serves its clients while frames are drawn. And
//! `embed_mio`, in a loop that is edge-triggered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};

use crate::programs::{KillOnDrop, example};
use crate::support::watchdog;

/// "frame 30: 0 bytes echoed, 2 turns", as its three numbers.
fn numbers(line: &str) -> [u64; 3] {
    let words = line.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn an_echo_while_frames_go_on() {
    watchdog(|| {
        let mut command = example("embed");
        let mut program = KillOnDrop(command.arg("127.0.0.1:0").spawn().unwrap());
        let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let first = line();
        let address = first.strip_prefix("listening on ").unwrap();
        let [frames, echoed, turns] = numbers(&line());
        assert_eq!((frames, echoed), (30, 0));
        // Nobody has come: the frames cost the runtime nothing.
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
        // It is connected and says nothing: no frame costs a turn.
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
fn it_ends_when_its_time_is_up() {
    watchdog(|| {
        let output = example("embed")
            .args(["--seconds", "1", "127.0.0.1:0"])
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("listening on 127.0.0.1:"), "{text}");
        // A machine that is busy draws fewer, and none draws more.
        assert!(lines.len() <= 3, "{text}");
        let output = example("embed")
            .arg("--what")
            .stderr(std::process::Stdio::piped())
            .output();
        assert_eq!(output.unwrap().status.code(), Some(2));
    });
}

#[test]
fn an_echo_in_an_edge_triggered_loop() {
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
            // Something is ready again while the last turn is made.
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
fn the_edge_triggered_one_ends_when_its_time_is_up_too() {
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
