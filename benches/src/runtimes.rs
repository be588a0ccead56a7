//! The runtimes. Each has its own binary, so that none pays for the features of another.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::place::{here, on_cores, program};

#[derive(Clone, Copy)]
pub struct Runtime {
    /// The name in the tables.
    pub name: &'static str,
    /// The package of its binary, if cargo builds it.
    package: &'static str,
    program: Program,
    suites: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Program {
    Binary(&'static str),
    /// soloist from another checkout: see `OTHER`.
    Other,
    /// bodies.py, with the module whose event loop is used.
    Python(&'static str),
}

const COMPUTE: &[&str] = &["tasks", "wakes"];
const PYTHON: &[&str] = &["tasks", "wakes", "timers", "sockets"];
const ALL: &[&str] = &["tasks", "wakes", "timers", "sockets", "footprint"];
const MIXED: &[&str] = &["tasks", "wakes", "timers", "sockets", "mixed", "footprint"];
const WORLDS: &[&str] = &["worlds"];
const CURVES: &[&str] = &[
    "tasks",
    "wakes",
    "timers",
    "sockets",
    "mixed",
    "footprint",
    "scale",
];

const fn binary(
    name: &'static str,
    package: &'static str,
    binary: &'static str,
    suites: &'static [&'static str],
) -> Runtime {
    Runtime {
        name,
        package,
        program: Program::Binary(binary),
        suites,
    }
}

/// soloist first, since the tables show them in this order.
pub const RUNTIMES: &[Runtime] = &[
    binary("soloist", "bench-soloist", "bench-soloist", CURVES),
    // With the feature `testing`.
    binary(
        "soloist",
        "bench-soloist-world",
        "bench-soloist-world",
        WORLDS,
    ),
    Runtime {
        name: "soloist-other",
        package: "",
        program: Program::Other,
        suites: CURVES,
    },
    binary("turmoil", "bench-turmoil", "bench-turmoil", WORLDS),
    binary("madsim", MADSIM, "bench-madsim", WORLDS),
    binary("tokio", "bench-tokio", "bench-tokio", CURVES),
    binary("tokio-local", "bench-tokio", "bench-tokio-local", ALL),
    binary("smol", "bench-smol", "bench-smol", MIXED),
    binary("monoio", "bench-monoio", "bench-monoio", MIXED),
    binary("monoio-uring", "bench-monoio", "bench-monoio-uring", MIXED),
    binary("compio", "bench-compio", "bench-compio", ALL),
    binary("glommio", "bench-glommio", "bench-glommio", ALL),
    binary(
        "local-pool",
        "bench-local-pool",
        "bench-local-pool",
        COMPUTE,
    ),
    Runtime {
        name: "asyncio",
        package: "",
        program: Program::Python("asyncio"),
        suites: PYTHON,
    },
    Runtime {
        name: "uvloop",
        package: "",
        program: Program::Python("uvloop"),
        suites: PYTHON,
    },
    binary("limit", "bench-limit", "bench-limit", &["sockets"]),
    binary(
        "limit-edge",
        "bench-limit",
        "bench-limit-edge",
        &["sockets"],
    ),
];

/// The result of a run.
#[derive(Default)]
pub struct Outcome {
    /// Names and values.
    pub values: Vec<(String, f64)>,
    /// Why values are missing: the system does not support the runtime, or it failed.
    pub refused: Option<String>,
}

impl Runtime {
    pub fn has(&self, suite: &str) -> bool {
        let is_here = !matches!(self.program, Program::Other) || env::var_os(OTHER).is_some();
        is_here && self.suites.contains(&suite)
    }

    /// Whether soloist is compared with this runtime.
    pub fn is_peer(name: &str) -> bool {
        !name.starts_with("soloist") && !name.starts_with("limit")
    }

    pub fn build(&self) -> Result<(), String> {
        match self.program {
            Program::Binary(_) => build(self.package),
            Program::Other => build_other(),
            Program::Python(module) => {
                let import = ["-c", &format!("import {module}")];
                let done = Command::new("python3")
                    .args(import)
                    .stderr(Stdio::null())
                    .status();
                match done {
                    Ok(status) if status.success() => Ok(()),
                    _ => Err(format!("python3 has no {module}")),
                }
            }
        }
    }

    /// The command that runs the runtime on the first of `cores` and everything else on the second.
    pub fn command(&self, cores: Option<(usize, usize)>) -> Command {
        let mut command = match self.program {
            Program::Binary(name) => Command::new(program(name)),
            Program::Other => Command::new(program(OTHER_DIRECTORY).join("release/bench-soloist")),
            Program::Python(module) => {
                let mut command = Command::new("python3");
                command.arg(here().join("python/bodies.py")).arg(module);
                command
            }
        };
        on_cores(&mut command, cores);
        command
    }

    pub fn run(&self, arguments: &[&str], cores: Option<(usize, usize)>) -> Outcome {
        let mut command = self.command(cores);
        let output = match command.args(arguments).output() {
            Ok(output) => output,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        let mut outcome = Outcome::parse(&String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            eprintln!("{} {arguments:?}: {}\n{error}", self.name, output.status);
            // The message of a panic.
            let mut lines = error
                .lines()
                .skip_while(|line| !line.contains("panicked at"));
            let message = lines.nth(1).unwrap_or("");
            let short: String = message.chars().take(70).collect();
            outcome.refused = Some(format!("failed: {short}"));
        }
        outcome
    }
}

impl Outcome {
    pub fn failed(why: String) -> Outcome {
        Outcome {
            values: Vec::new(),
            refused: Some(why),
        }
    }

    /// Parses the output of a run.
    pub fn parse(text: &str) -> Outcome {
        let mut outcome = Outcome::default();
        for line in text.lines() {
            match line.split_once('\t') {
                Some(("refused", why)) => outcome.refused = Some(format!("refused: {why}")),
                Some((name, value)) if value.parse::<f64>().is_ok() => {
                    outcome.values.push((name.into(), value.parse().unwrap()));
                }
                _ => outcome.refused = Some(format!("not a result: {line}")),
            }
        }
        outcome
    }
}

const MADSIM: &str = "bench-madsim";

/// Builds a package of this workspace.
pub fn build(package: &str) -> Result<(), String> {
    let flags: &[&str] = match package {
        // Without this flag madsim uses the system's network.
        MADSIM => &["--config", "build.rustflags=['--cfg','madsim']"],
        _ => &[],
    };
    let done = Command::new(cargo())
        .args(["build", "--release", "--quiet", "--package", package])
        .args(flags)
        .arg("--manifest-path")
        .arg(here().join("Cargo.toml"))
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("{package} does not build here")),
    }
}

/// The environment variable with another checkout of soloist, to compare two versions in one run.
const OTHER: &str = "SOLOIST_OTHER";
const OTHER_DIRECTORY: &str = "soloist-bench-other";

/// Builds the program of this checkout with the crate of the other.
fn build_other() -> Result<(), String> {
    let directory = program(OTHER_DIRECTORY);
    let done = write_other(&directory);
    done.map_err(|error| format!("{}: {error}", directory.display()))?;
    let done = Command::new(cargo())
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(directory.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&directory)
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("what is in {OTHER} does not build here")),
    }
}

fn write_other(directory: &Path) -> io::Result<()> {
    let other = PathBuf::from(env::var_os(OTHER).unwrap_or_default()).canonicalize()?;
    let own = here().join("runtimes/soloist");
    let manifest = fs::read_to_string(own.join("Cargo.toml"))?;
    let manifest = manifest.replace("../../..", &other.to_string_lossy());
    let main = own.join("src/main.rs");
    let manifest = format!(
        "{manifest}\n[workspace]\n[[bin]]\nname = \"bench-soloist\"\npath = \"{}\"\n\
         [profile.release]\ndebug = false\n",
        main.display()
    );
    fs::create_dir_all(directory)?;
    fs::write(directory.join("Cargo.toml"), manifest)?;
    // The same versions of the dependencies.
    fs::copy(here().join("Cargo.lock"), directory.join("Cargo.lock"))?;
    Ok(())
}

fn cargo() -> String {
    env::var("CARGO").unwrap_or("cargo".into())
}
