//! The same tests for each of the three servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> Server {
    let program = option_env!("CARGO_BIN_EXE_chat-soloist")
        .or(option_env!("CARGO_BIN_EXE_chat-tokio"))
        .or(option_env!("CARGO_BIN_EXE_chat-smol"));
    let mut command = Command::new(program.unwrap());
    let mut child = command
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.as_mut().unwrap());
    out.read_line(&mut line).unwrap();
    let address = line
        .trim()
        .strip_prefix("listening on ")
        .unwrap()
        .to_string();
    Server(child, address)
}

struct Member(BufReader<TcpStream>);

impl Member {
    /// Returns when the server has said that the member joined.
    fn join(server: &Server, name: &str) -> Member {
        let stream = TcpStream::connect(&server.1).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut member = Member(BufReader::new(stream));
        member.expect("Your name?");
        member.say(name);
        member.expect(&format!("* {name} joins"));
        member
    }

    fn say(&mut self, line: &str) {
        self.0
            .get_ref()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    #[track_caller]
    fn expect(&mut self, wanted: &str) {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{wanted}\n"));
    }

    #[track_caller]
    fn expect_end(mut self) {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

#[test]
fn each_member_receives_what_all_say() {
    let server = start();
    let mut ann = Member::join(&server, "ann");
    let mut bob = Member::join(&server, "bob");
    ann.expect("* bob joins");
    for n in 0..100 {
        bob.say(&n.to_string());
        ann.expect(&format!("bob: {n}"));
        bob.expect(&format!("bob: {n}"));
    }
    drop(bob);
    ann.expect("* bob leaves");
    ann.say("alone");
    ann.expect("ann: alone");
}

#[test]
fn a_long_line_is_split() {
    let server = start();
    let mut ann = Member::join(&server, "ann");
    ann.say(&"x".repeat(2500));
    for length in [1000, 1000, 500] {
        ann.expect(&format!("ann: {}", "x".repeat(length)));
    }
}

#[test]
fn a_member_that_does_not_read_is_disconnected() {
    let server = start();
    let mut ann = Member::join(&server, "ann");
    let _idle = Member::join(&server, "idle");
    ann.expect("* idle joins");
    let text = "x".repeat(990);
    // More than the buffers of a socket hold.
    for _ in 0..20_000 {
        ann.say(&text);
        ann.expect(&format!("ann: {text}"));
    }
    ann.expect("* idle leaves");
}

#[test]
fn ctrl_c_says_so_and_stops() {
    let mut server = start();
    let mut ann = Member::join(&server, "ann");
    let kill = Command::new("kill")
        .args(["-INT", &server.0.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    ann.expect("* the server stops");
    ann.expect_end();
    assert!(server.0.wait().unwrap().success());
}
