//! The tools, with real programs and in the simulated world.

#![cfg(unix)]
// The tools that run in the simulated world share examples/cli.
#![allow(clippy::duplicate_mod)]

#[path = "../../../../tests/it/programs.rs"]
mod programs;
#[path = "../../../tests/it/servers.rs"]
mod servers;

mod jobs;
mod links;
mod proxy;
mod statsd;
mod supervisor;

use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use programs::KillOnDrop;

static WATCHDOG: Once = Once::new();
const PATIENCE: Duration = Duration::from_secs(30);

/// A tool that runs, and the lines of its output.
struct Tool {
    child: KillOnDrop,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tool {
    fn start(command: &mut Command) -> Tool {
        WATCHDOG.call_once(|| {
            let abort = || {
                thread::sleep(Duration::from_secs(300));
                eprintln!("the tests hang");
                std::process::abort();
            };
            thread::spawn(abort);
        });
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Tool {
            child: KillOnDrop(child),
            lines,
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.lines.next().expect("another line").unwrap()
    }

    /// Skips lines up to one that contains `text`.
    #[track_caller]
    fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The address after `prefix` in the next line.
    #[track_caller]
    fn address(&mut self, prefix: &str) -> String {
        let line = self.line();
        line.strip_prefix(prefix).expect(&line).to_string()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.0.id().to_string();
        let kill = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(kill.unwrap().success());
    }

    /// Its exit status.
    fn status(&mut self) -> Option<i32> {
        self.child.0.wait().unwrap().code()
    }
}
