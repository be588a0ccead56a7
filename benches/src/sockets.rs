//! The suite `sockets`: each server runs in its own process, with the load on another core.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::loads::{ECHOES, Echo, echo};
use crate::place::{cores, on_cores, program};
use crate::results::Results;
use crate::runtimes::{Outcome, Runtime};
use crate::server::{Server, finish, load, load_echo};

pub fn run(runtimes: &[Runtime], rounds: usize, counts: bool) -> Results {
    let mut results = Results::default();
    for round in 1..=rounds {
        eprintln!("sockets: round {round} of {rounds}");
        for runtime in runtimes {
            for echo in ECHOES {
                let outcome = echo_once(runtime, echo, echo.requests);
                keep(&mut results, runtime, &echo.name(), outcome);
            }
            keep(
                &mut results,
                runtime,
                "connect, request, close",
                connect(runtime),
            );
            let pages = fetch(runtime);
            keep(&mut results, runtime, "", pages);
        }
    }
    if !counts {
        return results;
    }
    eprintln!("sockets: system calls and instructions");
    for runtime in runtimes {
        for echo in ECHOES {
            match system_calls(runtime, echo) {
                Ok(calls) => {
                    results.add(
                        &format!("{}: system calls", echo.name()),
                        runtime.name,
                        calls,
                    );
                }
                Err(why) => eprintln!("{}: no count of system calls: {why}", runtime.name),
            }
        }
        // The others' system calls are nothing that valgrind knows, or not their own.
        let counted = [
            "soloist",
            "soloist-other",
            "tokio",
            "tokio-local",
            "smol",
            "limit",
            "limit-edge",
        ];
        if counted.contains(&runtime.name) {
            match instructions(runtime) {
                Ok(n) => results.add("instructions per echo in user space", runtime.name, n),
                Err(why) => eprintln!("{}: no count of instructions: {why}", runtime.name),
            }
        }
    }
    results
}

fn keep(results: &mut Results, runtime: &Runtime, prefix: &str, outcome: Outcome) {
    for (name, value) in outcome.values {
        let row = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}: {name}")
        };
        results.add(&row, runtime.name, value);
    }
    if let Some(why) = outcome.refused {
        eprintln!("{}, {prefix}: {why}", runtime.name);
        results
            .refused
            .insert(format!("{}, {prefix}", runtime.name), why);
    }
}

// ---- one run ---------------------------------------------------------------------

fn echo_once(runtime: &Runtime, echo: &Echo, requests: usize) -> Outcome {
    match Server::of(runtime, &["echo", &echo.room.to_string()]) {
        Ok(server) => load_echo(&server, echo, requests),
        Err(why) => Outcome::failed(why),
    }
}

fn connect(runtime: &Runtime) -> Outcome {
    match Server::of(runtime, &["echo", "64"]) {
        Ok(server) => load(&["connect", &server.address, &server.pid(), "32", "4000"]),
        Err(why) => Outcome::failed(why),
    }
}

/// The runtime is the client in this one.
fn fetch(runtime: &Runtime) -> Outcome {
    let mut command = Command::new(program("bench-load"));
    on_cores(&mut command, cores());
    match Server::start({
        command.arg("pages");
        command
    }) {
        Ok(pages) => {
            let mut command = runtime.command(cores());
            command.args(["fetch", &pages.address, "1000"]);
            finish(command)
        }
        Err(why) => Outcome::failed(why),
    }
}

// ---- counts ----------------------------------------------------------------------

/// Per request: the difference between many requests and few, over the same connections.
fn system_calls(runtime: &Runtime, echo: &Echo) -> Result<f64, String> {
    let server = Server::of(runtime, &["echo", &echo.room.to_string()])?;
    let few = 2 * echo.connections;
    let more = few + 10_000.max(5 * echo.connections);
    let count = |requests| -> Result<f64, String> {
        let counter = Counter::start(&server.pid())?;
        let outcome = load_echo(&server, echo, requests);
        let calls = counter.end()?;
        outcome.refused.map_or(Ok(calls), Err)
    };
    let (first, second) = (count(few)?, count(more)?);
    Ok((second - first) / (more - few) as f64)
}

/// Counts system calls with perf, or with strace, which slows the program down more.
struct Counter {
    child: Child,
    path: PathBuf,
}

impl Counter {
    fn start(pid: &str) -> Result<Counter, String> {
        let path = std::env::temp_dir().join(format!("soloist-bench-{pid}"));
        let perf = [
            "stat",
            "-x,",
            "-e",
            "raw_syscalls:sys_enter",
            "-p",
            pid,
            "-o",
        ];
        let strace = ["-c", "-f", "-p", pid, "-o"];
        for (program, arguments) in [("perf", &perf[..]), ("strace", &strace[..])] {
            let mut command = Command::new(program);
            command.args(arguments).arg(&path);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let Ok(mut child) = child else {
                continue;
            };
            // Both need a moment to attach, or to fail.
            std::thread::sleep(Duration::from_millis(400));
            if child.try_wait().is_ok_and(|end| end.is_none()) {
                return Ok(Counter { child, path });
            }
        }
        Err("neither perf nor strace can be used here".into())
    }

    fn end(mut self) -> Result<f64, String> {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        let _ = self.child.wait();
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let _ = std::fs::remove_file(&self.path);
        let perf = text.lines().find(|line| line.contains("raw_syscalls"));
        let strace = text.lines().find(|line| line.ends_with(" total"));
        let number = perf.map_or_else(
            || strace.and_then(|line| line.split_whitespace().nth(3)),
            |line| line.split(',').next(),
        );
        let number = number.and_then(|number| number.parse().ok());
        number.ok_or_else(|| format!("no count in: {text}"))
    }
}

/// Instructions in user space per request at 64 connections, counted by callgrind.
fn instructions(runtime: &Runtime) -> Result<f64, String> {
    let few = echo(64, 1024, 640, &[]);
    let more = echo(64, 1024, 6_400, &[]);
    let count = |echo: &Echo| -> Result<f64, String> {
        let path = std::env::temp_dir().join(format!("soloist-bench-{}", std::process::id()));
        let plain = runtime.command(cores());
        let mut command = Command::new("valgrind");
        on_cores(&mut command, cores());
        command
            .args(["--quiet", "--tool=callgrind"])
            .arg(format!("--callgrind-out-file={}", path.display()))
            .arg(plain.get_program())
            .args(["echo", "1024"])
            .stderr(Stdio::null());
        let mut server = Server::start(command)?;
        let outcome = load_echo(&server, echo, echo.requests);
        // SAFETY: a signal to a child that has not been waited for. It writes its counts.
        unsafe { libc::kill(server.child.id() as i32, libc::SIGTERM) };
        let _ = server.child.wait();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(&path);
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total = total.and_then(|total| total.trim().parse().ok());
        let total = total.ok_or("callgrind wrote no totals");
        outcome.refused.map_or(Ok(total?), Err)
    };
    let (first, second) = (count(&few)?, count(&more)?);
    Ok((second - first) / (more.requests - few.requests) as f64)
}
