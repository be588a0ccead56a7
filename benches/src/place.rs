//! Paths, programs and cores.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of this workspace.
pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path of a program in the directory of this one.
pub fn program(name: &str) -> PathBuf {
    let own = env::current_exe().expect("the path of this program");
    own.parent().expect("its directory").join(name)
}

/// A core for the measured program and a core for everything else, if there are two.
pub fn cores() -> Option<(usize, usize)> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    (cores > 1).then_some((0, 1))
}

/// Tells a program which cores to use. It is killed when this process exits.
pub fn on_cores(command: &mut Command, cores: Option<(usize, usize)>) {
    if let Some((own, others)) = cores {
        command.env("BENCH_CORES", format!("{own},{others}"));
    }
    // SAFETY: the closure only makes a system call, which is allowed between `fork` and `exec`.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// The last commit that changed the sources of soloist.
pub fn commit() -> String {
    let root = here().parent().expect("the crate's directory");
    let root = root.to_string_lossy();
    output(
        "git",
        &["-C", &root, "log", "-1", "--format=%h", "--", "src"],
    )
}

/// What a program prints, or "none".
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    output
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or("none".into())
}
