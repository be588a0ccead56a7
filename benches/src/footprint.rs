//! The suite `footprint`: the cost of having a runtime.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::{cores, here, on_cores, program};
use crate::results::Results;
use crate::runtimes::{Outcome, Runtime};
use crate::server::{Server, finish};

/// The first rows: with the default features of soloist.
const DEFAULT: &str = "hello";
/// The same without them.
const MINIMAL: &str = "hello, no default features";

/// The runtimes with a program `hello/NAME.rs`, which listens, accepts, connects, spawns and
/// sleeps, the dependencies of that program, and the rows that a build of it belongs to.
const HELLOS: &[(&str, &str, &[&str])] = &[
    ("soloist", "soloist = { path = \"SOLOIST\" }", &[DEFAULT]),
    (
        "tokio",
        "tokio = { version = \"1\", features = [\"io-util\", \"net\", \"rt\", \"time\"] }",
        &[DEFAULT, MINIMAL],
    ),
    (
        "soloist",
        "soloist = { path = \"SOLOIST\", default-features = false }",
        &[MINIMAL],
    ),
    ("smol", "smol = \"2\"", &[DEFAULT]),
    ("monoio", "monoio = \"0.2\"", &[DEFAULT]),
    (
        "compio",
        "compio = { version = \"0.19\", features = [\"io\", \"net\", \"time\"] }",
        &[DEFAULT],
    ),
    (
        "glommio",
        "glommio = \"0.9\"\nfutures-lite = \"2\"",
        &[DEFAULT],
    ),
];

pub fn run(runtimes: &[Runtime], rounds: usize) -> Results {
    let mut results = Results::default();
    for round in 1..=rounds {
        eprintln!("footprint: round {round} of {rounds}");
        for runtime in runtimes {
            keep(&mut results, runtime, runtime.run(&["empty"], cores()));
            keep(&mut results, runtime, idle(runtime));
        }
    }
    for round in 1..=rounds {
        for (name, dependencies, rows) in HELLOS {
            let Some(runtime) = runtimes.iter().find(|runtime| runtime.name == *name) else {
                continue;
            };
            eprintln!("footprint: build {round} of hello on {name}");
            keep(&mut results, runtime, hello(name, dependencies, rows));
        }
    }
    results
}

fn keep(results: &mut Results, runtime: &Runtime, outcome: Outcome) {
    for (row, value) in outcome.values {
        results.add(&row, runtime.name, value);
    }
    if let Some(why) = outcome.refused {
        eprintln!("{}: {why}", runtime.name);
        results.refused.insert(runtime.name.into(), why);
    }
}

/// The server reports the figures and ends the run.
fn idle(runtime: &Runtime) -> Outcome {
    const CONNECTIONS: &str = "9000";
    let server = match Server::of(runtime, &["idle", CONNECTIONS]) {
        Ok(server) => server,
        Err(why) => return Outcome::failed(why),
    };
    let mut load = Command::new(program("bench-load"));
    on_cores(&mut load, cores());
    load.args(["idle", &server.address, CONNECTIONS]);
    let load = finish(load);
    let mut outcome = Outcome::parse(&server.rest());
    outcome.refused = outcome.refused.or(load.refused);
    outcome
}

// ---- builds ----------------------------------------------------------------------

fn hello(name: &str, dependencies: &str, rows: &[&str]) -> Outcome {
    let directory =
        std::env::temp_dir().join(format!("soloist-bench-hello-{}", std::process::id()));
    let outcome = hello_in(&directory, name, dependencies, rows);
    let _ = fs::remove_dir_all(&directory);
    outcome.unwrap_or_else(|error| Outcome::failed(format!("failed: {error}")))
}

fn hello_in(
    directory: &Path,
    name: &str,
    dependencies: &str,
    rows: &[&str],
) -> Result<Outcome, String> {
    let text = |error: std::io::Error| error.to_string();
    let root = here().parent().expect("the crate's directory");
    let dependencies = dependencies.replace("SOLOIST", &root.to_string_lossy());
    let manifest = format!(
        "[workspace]\n[package]\nname = \"hello\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [profile.release]\nstrip = true\n[dependencies]\n{dependencies}\n"
    );
    let main = directory.join("src/main.rs");
    fs::create_dir_all(directory.join("src")).map_err(text)?;
    fs::write(directory.join("Cargo.toml"), manifest).map_err(text)?;
    fs::copy(here().join(format!("hello/{name}.rs")), &main).map_err(text)?;
    // The same versions as in the other suites.
    fs::copy(here().join("Cargo.lock"), directory.join("Cargo.lock")).map_err(text)?;
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        command
            .args(arguments)
            .current_dir(directory)
            .stderr(Stdio::null());
        command.env("CARGO_TARGET_DIR", directory.join("target"));
        command
    };
    // The elapsed time and the CPU time.
    let run = |arguments: &[&str]| -> Result<(Duration, Duration), String> {
        let before = children_time();
        let start = Instant::now();
        let status = cargo(arguments)
            .stdout(Stdio::null())
            .status()
            .map_err(text)?;
        let time = (start.elapsed(), children_time() - before);
        status
            .success()
            .then_some(time)
            .ok_or(format!("cargo {arguments:?}: {status}"))
    };
    run(&["fetch"])?;
    let tree = cargo(&["tree", "--prefix", "none", "--edges", "normal,build"]).output();
    let tree = String::from_utf8_lossy(&tree.map_err(text)?.stdout).into_owned();
    let crates: std::collections::BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(" (").next())
        .collect();
    let build = ["build", "--release", "--offline"];
    let cold = run(&build)?;
    let program = directory.join("target/release/hello");
    let output = Command::new(&program).output().map_err(text)?;
    if output.stdout != b"hello\n" {
        return Err(format!("hello on {name} says {output:?}"));
    }
    let size = fs::metadata(&program).map_err(text)?.len();
    let source = fs::read_to_string(&main).map_err(text)?;
    fs::write(&main, source.replace("\"hello\"", "\"hallo\"")).map_err(text)?;
    let again = run(&build)?;
    let values = [
        // Without the program itself.
        ("crates in the tree", crates.len() as f64 - 1.0),
        ("cold build", cold.0.as_secs_f64()),
        ("cold build, CPU", cold.1.as_secs_f64()),
        ("incremental build", again.0.as_secs_f64()),
        ("stripped size", size as f64 / 1024.0),
    ];
    let named = |row: &&str| values.map(|(name, value)| (format!("{row}: {name}"), value));
    Ok(Outcome {
        values: rows.iter().flat_map(named).collect(),
        refused: None,
    })
}

/// The CPU time of all child processes that have exited.
fn children_time() -> Duration {
    // SAFETY: the call writes to `usage`.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage), 0);
        usage
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
