//! A server under test, and the program that puts load on it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::loads::Echo;
use crate::place::{cores, on_cores, program};
use crate::runtimes::{Outcome, Runtime};

/// A program that prints its address.
pub struct Server {
    pub child: Child,
    pub address: String,
}

impl Server {
    pub fn start(mut command: Command) -> Result<Server, String> {
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.as_mut().expect("its output"));
        lines
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        let line = line.trim();
        let mut server = Server {
            address: line.to_string(),
            child,
        };
        if line.starts_with("127.") {
            return Ok(server);
        }
        server.end();
        Err(line.replace("refused\t", "refused: "))
    }

    pub fn of(runtime: &Runtime, arguments: &[&str]) -> Result<Server, String> {
        let mut command = runtime.command(cores());
        command.args(arguments);
        Server::start(command)
    }

    /// Closes standard input, which ends some programs, and returns the rest of the output.
    pub fn rest(mut self) -> String {
        drop(self.child.stdin.take());
        let mut text = String::new();
        let mut output = self.child.stdout.take().expect("its output");
        let _ = output.read_to_string(&mut text);
        text
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn load_echo(server: &Server, echo: &Echo, requests: usize) -> Outcome {
    let numbers = [echo.connections, echo.bytes, requests].map(|n| n.to_string());
    let [connections, bytes, requests] = &numbers;
    load(&[
        "echo",
        &server.address,
        &server.pid(),
        connections,
        bytes,
        requests,
    ])
}

pub fn load(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(program("bench-load"));
    on_cores(&mut command, cores());
    command.args(arguments);
    finish(command)
}

/// Waits for a program to exit, and parses its output.
pub fn finish(mut command: Command) -> Outcome {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let end = Instant::now() + Duration::from_secs(120);
    let status = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Outcome::failed("failed: no end after two minutes".into());
            }
            Ok(Some(status)) => break status,
            Err(error) => panic!("the program's end: {error}"),
        }
    };
    let (mut text, mut error) = (String::new(), String::new());
    let _ = child.stdout.take().unwrap().read_to_string(&mut text);
    let _ = child.stderr.take().unwrap().read_to_string(&mut error);
    let mut outcome = Outcome::parse(&text);
    if !status.success() {
        let mut lines = error
            .lines()
            .skip_while(|line| !line.contains("panicked at"));
        let why: String = lines.nth(1).unwrap_or("").chars().take(70).collect();
        outcome.refused = Some(format!("failed: {why}"));
    }
    outcome
}
