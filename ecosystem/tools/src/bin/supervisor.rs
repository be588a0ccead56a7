//! Runs programs, and restarts those that end.
//!
//! cargo run --release -p soloist-tools --bin supervisor -- services.conf

#[path = "../../../../examples/cli/mod.rs"]
mod cli;

use cli::{say, seconds};
use lexopt::prelude::*;
use soloist::future::{self, Either};
use soloist::io::{AsyncBufReadExt, AsyncRead, BufReader};
use soloist::process::{Child, Command, Stdio};
use soloist::promise::{Promised, promise};
use soloist::signal::unix::{SignalKind, signal};
use soloist::stream::StreamExt;
use soloist::time::{now, sleep, timeout};
use soloist::{block_on, spawn};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: supervisor [OPTION]... FILE

Runs the programs that FILE lists, and restarts those that end. Each line of FILE is `name: command`, for
the shell. Empty lines, and lines that start with #, are ignored. Each line that a program prints is
printed with its name.

A program that ends is restarted after a pause, which doubles each time, up to a minute. It starts again at
the shortest pause when a program has run for a minute. SIGHUP restarts all programs. SIGINT and SIGTERM
end them: with SIGTERM to all processes of each program, and with SIGKILL to those that do not end.

  --pause SECONDS  the first pause before a restart (1)
  --grace SECONDS  the time between SIGTERM and SIGKILL (10)

Exits with 0, with 1 if FILE cannot be read, or with 2 if the arguments are invalid.";

/// The longest pause. A program that has run for this long is a healthy one.
const MINUTE: Duration = Duration::from_secs(60);

struct Options {
    file: PathBuf,
    pause: Duration,
    grace: Duration,
}

fn parse(args: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
    let (mut file, mut pause, mut grace) = (None, Duration::from_secs(1), Duration::from_secs(10));
    while let Some(arg) = args.next()? {
        match arg {
            Long("pause") => pause = args.value()?.parse_with(seconds)?,
            Long("grace") => grace = args.value()?.parse_with(seconds)?,
            Value(value) if file.is_none() => file = Some(value.into()),
            _ => return Err(cli::unknown(arg, USAGE)),
        }
    }
    let file = file.ok_or("FILE is missing")?;
    Ok(Options { file, pause, grace })
}

fn main() -> ExitCode {
    let options = cli::parse(USAGE, parse);
    match block_on(run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supervisor: {}: {error}", options.file.display());
            ExitCode::FAILURE
        }
    }
}

/// The names and commands in the file.
fn services(options: &Options) -> io::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(&options.file)?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let service = |line: &str| {
        let (name, command) = line.split_once(':')?;
        Some((name.trim().to_string(), command.trim().to_string()))
    };
    let services: Option<_> = lines.map(service).collect();
    services.ok_or_else(|| io::Error::other("a line is not `name: command`"))
}

async fn run(options: &Options) -> io::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let stop = async { future::or(soloist::signal::ctrl_c(), stop.recv()).await };
    let mut stop = Box::pin(stop);
    let mut reload = signal(SignalKind::hangup())?;
    let mut list = services(options)?;
    loop {
        // A task returns its program when the promise is dropped.
        let (promises, tasks): (Vec<_>, Vec<_>) = list
            .into_iter()
            .map(|(name, command)| {
                let (promise, ended) = promise();
                let pause = options.pause;
                let supervise = async move { supervise(&name, &command, pause, ended).await };
                (promise, spawn(supervise))
            })
            .unzip();
        let next = loop {
            match future::either(&mut stop, reload.recv()).await {
                Either::Left(stopped) => break stopped.map(|()| None)?,
                Either::Right(reloaded) => reloaded?,
            }
            match services(options) {
                Ok(list) => break Some(list),
                Err(error) => say(&format!("nothing is restarted: {error}")),
            }
        };
        drop(promises);
        let mut children = Vec::new();
        for task in tasks {
            children.extend(task.await);
        }
        end(children, options.grace).await;
        match next {
            Some(next) => list = next,
            None => return Ok(()),
        }
    }
}

/// Runs a program again and again until `ended` is ready. Returns the one that runs then.
async fn supervise(
    name: &str,
    command: &str,
    first_pause: Duration,
    ended: Promised<()>,
) -> Option<Child> {
    let mut pause = first_pause;
    loop {
        let started = now();
        let why = match start(name, command) {
            Ok(mut child) => match future::either(ended.clone(), child.wait()).await {
                Either::Left(_) => return Some(child),
                Either::Right(Ok(status)) => status.to_string(),
                Either::Right(Err(error)) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        if now() - started >= MINUTE {
            pause = first_pause;
        }
        say(&format!("{name}: {why}, restarts in {pause:?}"));
        if let Either::Left(_) = future::either(ended.clone(), sleep(pause)).await {
            return None;
        }
        pause = (2 * pause).min(MINUTE);
    }
}

/// Starts a program in a process group of its own, so that a signal reaches its children, too.
fn start(name: &str, command: &str) -> io::Result<Child> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .process_group(0)
        .stdin(Stdio::null());
    let mut child = shell
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    say(&format!("{name}: started as {}", child.id()));
    spawn(print(name.to_string(), child.stdout.take())).detach();
    spawn(print(name.to_string(), child.stderr.take())).detach();
    Ok(child)
}

async fn print(name: String, from: Option<impl AsyncRead + Unpin>) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).split(b'\n');
    while let Some(Ok(line)) = lines.next().await {
        say(&format!("{name}> {}", String::from_utf8_lossy(&line)));
    }
}

async fn end(mut children: Vec<Child>, grace: Duration) {
    for child in &mut children {
        let _ = child.signal_group(SignalKind::terminate());
    }
    let wait = async {
        for child in &mut children {
            let _ = child.wait().await;
        }
    };
    if timeout(grace, wait).await.is_err() {
        for child in &mut children {
            let _ = child.signal_group(SignalKind::from_raw(9));
            let _ = child.wait().await;
        }
    }
}
