//! `io::stdin`, as a pipe, a file and a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{OFlags, fcntl_getfl};
use soloist::io::{AsyncBufReadExt, AsyncReadExt, BufReader, stdin};
use soloist::stream::StreamExt;

use crate::support::*;
use crate::sys::pty;

const IN_CHILD: &str = "SOLOIST_STDIN_CHILD";

/// Runs the calling test, whose path this is, again as a child with this input.
fn child(name: &str, input: impl Into<Stdio>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("stdin::{name}"), "--exact", "--nocapture"])
        .env(IN_CHILD, name)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Runs `f` and exits, if this is the child.
fn if_child(name: &str, f: impl FnOnce()) {
    if std::env::var(IN_CHILD).as_deref() == Ok(name) {
        f();
        // Before the test harness prints more.
        println!("the child is done");
        std::process::exit(0);
    }
}

#[track_caller]
fn assert_done(child: Child) {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("the child is done"),
        "{text}"
    );
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Reads all lines, and checks that the mode of standard input stays what it is.
fn reads_lines(expected: &[&str]) {
    let check = || assert!(!is_nonblocking(std::io::stdin()));
    block_on(async {
        check();
        let input = stdin().unwrap();
        check();
        let mut lines = BufReader::new(input).lines();
        for line in expected {
            assert_eq!(lines.next().await.unwrap().unwrap(), *line);
            check();
        }
        assert!(lines.next().await.is_none());
    });
    check();
}

#[test]
fn lines_are_read_from_a_pipe() {
    if_child("lines_are_read_from_a_pipe", || {
        reads_lines(&["one", "two", "three"])
    });
    watchdog(|| {
        let mut child = child("lines_are_read_from_a_pipe", Stdio::piped());
        let mut input = child.stdin.take().unwrap();
        for line in ["one\n", "tw", "o\n", "three\n"] {
            input.write_all(line.as_bytes()).unwrap();
        }
        drop(input);
        assert_done(child);
    });
}

#[test]
fn a_megabyte_through_a_pipe() {
    if_child("a_megabyte_through_a_pipe", || {
        block_on(async {
            let mut bytes = Vec::new();
            stdin().unwrap().read_to_end(&mut bytes).await.unwrap();
            assert_eq!(bytes.len(), 1 << 20);
            assert!(
                bytes
                    .iter()
                    .enumerate()
                    .all(|(n, &byte)| byte == (n % 251) as u8)
            );
        });
    });
    watchdog(|| {
        let mut child = child("a_megabyte_through_a_pipe", Stdio::piped());
        let bytes: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert_done(child);
    });
}

#[test]
fn lines_are_read_from_a_file() {
    if_child("lines_are_read_from_a_file", || {
        reads_lines(&["one", "two", "three"])
    });
    watchdog(|| {
        let path = std::env::temp_dir().join(format!("soloist-stdin-{}", std::process::id()));
        std::fs::write(&path, "one\ntwo\nthree").unwrap();
        assert_done(child(
            "lines_are_read_from_a_file",
            File::open(&path).unwrap(),
        ));
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn an_empty_input_is_at_its_end() {
    if_child("an_empty_input_is_at_its_end", || reads_lines(&[]));
    watchdog(|| assert_done(child("an_empty_input_is_at_its_end", Stdio::null())));
}

#[test]
fn lines_are_read_from_a_socket() {
    if_child("lines_are_read_from_a_socket", || reads_lines(&["one"]));
    watchdog(|| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let child = child(
            "lines_are_read_from_a_socket",
            std::os::fd::OwnedFd::from(theirs),
        );
        (&ours).write_all(b"one\n").unwrap();
        drop(ours);
        assert_done(child);
    });
}

#[test]
fn lines_are_read_from_a_terminal() {
    if_child("lines_are_read_from_a_terminal", || {
        let check = || assert!(!is_nonblocking(std::io::stdin()));
        block_on(async {
            let mut lines = BufReader::new(stdin().unwrap()).lines();
            println!("what is your name?");
            assert_eq!(lines.next().await.unwrap().unwrap(), "me");
            check();
            println!("and then?");
            assert_eq!(lines.next().await.unwrap().unwrap(), "you");
            check();
        });
    });
    watchdog(|| {
        let (program, mut user) = pty();
        let mut child = child(
            "lines_are_read_from_a_terminal",
            program.try_clone().unwrap(),
        );
        let mut output = child.stdout.take().unwrap();
        let mut until = |text: &str| {
            let mut seen = Vec::new();
            while !String::from_utf8_lossy(&seen).contains(text) {
                let mut buf = [0; 256];
                let n = output.read(&mut buf).unwrap();
                assert_ne!(n, 0, "it has ended");
                seen.extend_from_slice(&buf[..n]);
            }
        };
        until("your name?");
        user.write_all(b"me\n").unwrap();
        until("and then?");
        user.write_all(b"you\n").unwrap();
        until("the child is done");
        assert!(child.wait().unwrap().success());
        assert!(!is_nonblocking(&program));
    });
}

#[test]
fn the_program_can_end_while_a_read_waits() {
    if_child("the_program_can_end_while_a_read_waits", || {
        block_on(async {
            // A task that waits forever.
            let waiting = spawn(async { stdin().unwrap().read(&mut [0]).await });
            for _ in 0..5 {
                yield_now().await;
            }
            assert!(!waiting.is_finished());
            waiting.detach();
        });
    });
    watchdog(|| {
        let mut piped = child("the_program_can_end_while_a_read_waits", Stdio::piped());
        let input = piped.stdin.take().unwrap();
        assert_done(piped);
        drop(input);
        let (program, user) = pty();
        assert_done(child("the_program_can_end_while_a_read_waits", program));
        drop(user);
    });
}

#[test]
fn a_read_that_was_dropped_has_read_nothing() {
    if_child("a_read_that_was_dropped_has_read_nothing", || {
        block_on(async {
            let mut input = stdin().unwrap();
            for _ in 0..3 {
                let mut buf = [0];
                let mut read = input.read(&mut buf);
                assert!(poll_once(&mut read).await.is_pending());
            }
            println!("now");
            let mut text = String::new();
            input.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "all of it");
            // Again, with another descriptor: the end stays the end.
            assert_eq!(stdin().unwrap().read(&mut [0]).await.unwrap(), 0);
        });
        // It has closed its own descriptor only.
        assert_eq!(std::io::stdin().read(&mut [0]).unwrap(), 0);
    });
    watchdog(|| {
        let mut child = child("a_read_that_was_dropped_has_read_nothing", Stdio::piped());
        let mut output = child.stdout.take().unwrap();
        let mut seen = String::new();
        while !seen.contains("now\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            seen.push(byte[0].into());
        }
        child.stdin.take().unwrap().write_all(b"all of it").unwrap();
        output.read_to_string(&mut seen).unwrap();
        assert!(
            child.wait().unwrap().success() && seen.contains("the child is done"),
            "{seen}"
        );
    });
}

#[test]
fn outside_of_a_runtime_it_is_an_error() {
    watchdog(|| {
        let error = stdin().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`io::stdin` outside of a soloist runtime"),
            "{error}"
        );
    });
}
