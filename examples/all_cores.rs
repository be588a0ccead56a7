//! An echo server on every core: as many threads as there are cores, a runtime on each, and
//! listeners that share one port. The system deals the connections out among them.
//!
//! cargo run --release --example all_cores
//! cargo run --release --example all_cores -- --cores 4 --seconds 10 127.0.0.1:8888

use soloist::net::{TcpListener, TcpStream};
use soloist::stream::StreamExt;
use soloist::{Handle, Runtime, block_on, io, spawn, time};
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const USAGE: &str = "\
usage: all_cores [--cores N] [--seconds N] [ADDRESS]

Sends back what comes to ADDRESS (127.0.0.1:8888; with port 0 the system picks one), on all cores or
as many as that. Whenever it has changed, prints how many connections each of them has taken. Ends
after so many seconds, if that is said.";

/// How often it looks whether there is something to print.
const LOOK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let mut cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut length = None;
    let mut address = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-h" | "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            "--cores" => match args.next().map(|n| n.parse()) {
                Some(Ok(n)) if n > 0 => cores = n,
                _ => return misused("--cores needs a number, 1 or more"),
            },
            "--seconds" => match args.next().map(|n| n.parse()) {
                Some(Ok(seconds)) => length = Some(Duration::from_secs(seconds)),
                _ => return misused("--seconds needs a number"),
            },
            _ if address.is_none() && !arg.starts_with('-') => address = Some(arg),
            _ => return misused(&format!("what is {arg:?}?")),
        }
    }
    let address = address.unwrap_or("127.0.0.1:8888".into());
    match run(&address, cores, length) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("all_cores: {error}");
            ExitCode::FAILURE
        }
    }
}

fn misused(why: &str) -> ExitCode {
    eprintln!("all_cores: {why}\n\n{USAGE}");
    ExitCode::from(2)
}

fn run(address: &str, cores: usize, length: Option<Duration>) -> io::Result<()> {
    let taken: Arc<Vec<AtomicU64>> = Arc::new((0..cores).map(|_| AtomicU64::new(0)).collect());
    let first = Core::start(0, address.to_string(), taken.clone())?;
    let port = first.address;
    let mut all = vec![first];
    for index in 1..cores {
        // The port is known by now, should the system have picked it.
        all.push(Core::start(index, port.to_string(), taken.clone())?);
    }
    say(&format!("listening on {port} with {cores} threads"))?;

    let result = block_on(async {
        match length {
            Some(length) => time::timeout(length, print(&taken)).await.unwrap_or(Ok(())),
            None => print(&taken).await,
        }
    });
    for core in all {
        core.stop();
    }
    result
}

/// A thread with a runtime that listens.
struct Core {
    address: SocketAddr,
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Core {
    fn start(index: usize, address: String, taken: Arc<Vec<AtomicU64>>) -> io::Result<Core> {
        let (started, start) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("core-{index}"));
        let thread = thread.spawn(move || {
            let runtime = Runtime::new();
            let listener = runtime.block_on(async {
                let listener = TcpListener::builder()
                    // Not every system has it; one core does without.
                    .reuse_port(taken.len() > 1)
                    .bind(&address)
                    .await?;
                Ok::<_, io::Error>((listener.local_addr()?, listener))
            });
            match listener {
                Ok((address, listener)) => {
                    let _ = started.send(Ok((address, runtime.handle())));
                    runtime.spawn(serve(listener, index, taken)).detach();
                    runtime.run_forever();
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        let (address, handle) = start.recv().map_err(io::Error::other)??;
        Ok(Core {
            address,
            handle,
            thread,
        })
    }

    /// Ends it, and the connections that are open there.
    fn stop(self) {
        self.handle.stop();
        let _ = self.thread.join();
    }
}

async fn serve(listener: TcpListener, index: usize, taken: Arc<Vec<AtomicU64>>) {
    let mut incoming = listener.incoming();
    while let Some(connection) = incoming.next().await {
        match connection {
            Ok(stream) => {
                taken[index].fetch_add(1, Ordering::Relaxed);
                // A client that breaks off is no news.
                spawn(echo(stream)).detach();
            }
            Err(error) => eprintln!("all_cores: cannot accept: {error}"),
        }
    }
}

async fn echo(stream: TcpStream) -> io::Result<u64> {
    stream.set_nodelay(true)?;
    io::copy(&stream, &stream).await
}

/// Prints the split of the connections whenever it has changed, until nobody reads it.
async fn print(taken: &[AtomicU64]) -> io::Result<()> {
    let mut known = vec![0; taken.len()];
    loop {
        time::sleep(LOOK).await;
        let now: Vec<u64> = taken.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        if now != known {
            let total: u64 = now.iter().sum();
            let split: Vec<_> = now.iter().map(u64::to_string).collect();
            say(&format!("{total} connections: {}", split.join(" + ")))?;
            known = now;
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush())
}
