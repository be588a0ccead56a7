//! Programs that tests start: the examples, as a user runs them, and what they write.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);

pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let program = profile.join("examples").join(name);
    let program = program.with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        program.exists(),
        "there is no {}: `cargo build --examples` makes it, a plain `cargo test` does too",
        program.display()
    );
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

pub(crate) struct KillOnDrop(pub(crate) Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Output {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Output {
    /// The line for this page, whether it was fetched or not.
    pub(crate) fn line(&self, url: &str) -> &str {
        let failed = format!(" {url}: ");
        let mut lines = self.out.lines();
        lines
            .find(|line| line.ends_with(&format!(" {url}")) || line.contains(&failed))
            .unwrap_or_else(|| panic!("no line for {url} in:\n{}{}", self.out, self.err))
    }

    #[track_caller]
    pub(crate) fn assert_fetched(&self, url: &str, bytes: usize) {
        let line = self.line(url);
        let words: Vec<_> = line.split_whitespace().take(3).collect();
        assert_eq!(words, ["200", &bytes.to_string(), "bytes"], "{line}");
    }

    #[track_caller]
    pub(crate) fn assert_failed(&self, url: &str, why: &str) {
        let line = self.line(url);
        assert!(
            line.starts_with("fail ") && line.contains(&format!(" {url}: {why}")),
            "{line}"
        );
    }
}

pub(crate) fn run(command: &mut Command) -> Output {
    run_with_input(command, "")
}

pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = KillOnDrop(command.spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    // A program that ignores its input may end before all of it is written.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let out = read_to_end(child.0.stdout.take().unwrap());
    let err = read_to_end(child.0.stderr.take().unwrap());
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < WATCHDOG, "{command:?} does not end");
        thread::sleep(Duration::from_millis(5));
    };
    Output {
        status: status.code(),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

fn read_to_end(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

/// Fails a test that needs a program that is not installed: a test that checked nothing must not
/// pass.
#[track_caller]
pub(crate) fn fail_without(program: &str) {
    panic!("there is no {program}: install it, or leave this test out with `--skip`");
}
