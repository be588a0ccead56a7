//! An echo server that uses all cores: one thread and one runtime for each core. Their listeners share
//! a port, and the system distributes the connections among them.
//!
//! cargo run --release --example all_cores
//! cargo run --release --example all_cores -- --cores 4 --seconds 10 127.0.0.1:8888

mod cli;

use lexopt::prelude::*;
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

Listens on ADDRESS (127.0.0.1:8888; with port 0 the system picks one) and sends back what clients
send. Prints how many connections each thread has accepted, whenever that changes.

  --cores N    start N threads (as many as there are cores)
  --seconds N  exit after N seconds (never)";

/// How often it checks whether there is something to print.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match run(&Options::from_args()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("all_cores: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    address: String,
    cores: usize,
    duration: Option<Duration>,
}

impl Options {
    fn from_args() -> Options {
        let mut address = None;
        let mut cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let mut duration = None;
        cli::parse(USAGE, |args| {
            while let Some(arg) = args.next()? {
                match arg {
                    Long("cores") => cores = args.value()?.parse_with(cli::positive)?,
                    Long("seconds") => duration = Some(Duration::from_secs(args.value()?.parse()?)),
                    Value(value) if address.is_none() => address = Some(value.string()?),
                    _ => return Err(cli::unknown(arg, USAGE)),
                }
            }
            let address = address.unwrap_or("127.0.0.1:8888".into());
            Ok(Options {
                address,
                cores,
                duration,
            })
        })
    }
}

fn run(options: &Options) -> io::Result<()> {
    let cores = options.cores;
    let accepted: Arc<Vec<AtomicU64>> = Arc::new((0..cores).map(|_| AtomicU64::new(0)).collect());
    let first = Core::start(0, options.address.clone(), accepted.clone())?;
    let address = first.address;
    let mut all = vec![first];
    for index in 1..cores {
        // The address of the first listener: the system may have picked the port.
        all.push(Core::start(index, address.to_string(), accepted.clone())?);
    }
    say(&format!("listening on {address} with {cores} threads"))?;

    let result = block_on(async {
        match options.duration {
            Some(duration) => time::timeout(duration, print(&accepted))
                .await
                .unwrap_or(Ok(())),
            None => print(&accepted).await,
        }
    });
    for core in all {
        core.stop();
    }
    result
}

/// A thread with a runtime and a listener.
struct Core {
    address: SocketAddr,
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Core {
    fn start(index: usize, address: String, accepted: Arc<Vec<AtomicU64>>) -> io::Result<Core> {
        let (started, start) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("core-{index}"));
        let thread = thread.spawn(move || {
            let runtime = Runtime::new();
            let listener = runtime.block_on(async {
                let listener = TcpListener::builder()
                    // Not every system supports this, and one listener does not need it.
                    .reuse_port(accepted.len() > 1)
                    .bind(&address)
                    .await?;
                Ok::<_, io::Error>((listener.local_addr()?, listener))
            });
            match listener {
                Ok((address, listener)) => {
                    let _ = started.send(Ok((address, runtime.handle())));
                    runtime.spawn(serve(listener, index, accepted)).detach();
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

    /// Stops the runtime, which closes its connections, and waits for the thread.
    fn stop(self) {
        self.handle.stop();
        let _ = self.thread.join();
    }
}

async fn serve(listener: TcpListener, index: usize, accepted: Arc<Vec<AtomicU64>>) {
    let mut incoming = listener.incoming();
    while let Some(connection) = incoming.next().await {
        match connection {
            Ok(stream) => {
                accepted[index].fetch_add(1, Ordering::Relaxed);
                // The error of a client that disconnects is ignored.
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

/// Prints the number of connections of each thread when it has changed, until standard output is closed.
async fn print(accepted: &[AtomicU64]) -> io::Result<()> {
    let mut previous = vec![0; accepted.len()];
    loop {
        time::sleep(CHECK_INTERVAL).await;
        let now: Vec<u64> = accepted.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        if now != previous {
            let total: u64 = now.iter().sum();
            let each: Vec<_> = now.iter().map(u64::to_string).collect();
            say(&format!("{total} connections: {}", each.join(" + ")))?;
            previous = now;
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush())
}
