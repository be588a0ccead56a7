//! Forwards TCP connections to another server.
//!
//! cargo run --release -p soloist-tools --bin proxy -- 127.0.0.1:8080 127.0.0.1:80 --max 100

#[path = "../../../../examples/cli/mod.rs"]
mod cli;

use async_lock::Semaphore;
use cli::{positive, say, seconds};
use lexopt::prelude::*;
use soloist::io::CopyBidirectional;
use soloist::net::{TcpListener, TcpStream};
use soloist::signal::unix::{SignalKind, signal};
use soloist::task::TaskTracker;
use soloist::time::{sleep, timeout};
use soloist::{block_on, future};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "\
usage: proxy [OPTION]... LISTEN TARGET

Accepts connections on the address LISTEN, and forwards each to TARGET. Prints a line for each connection
that ends. SIGINT and SIGTERM stop it: it accepts no more, and gives the open connections time to end.

  --max N          forward at most N connections at a time; more wait until one ends (1000)
  --connect SECS   give up on connecting to TARGET after SECS (5)
  --idle SECS      close a connection on which nothing is transferred for SECS (300)
  --drain SECS     close what is still open SECS after a signal (30)

Exits with 0, with 1 if it had to close connections or cannot listen, or with 2 if the arguments are
invalid.";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) listen: String,
    pub(crate) target: String,
    pub(crate) max: usize,
    pub(crate) connect: Duration,
    pub(crate) idle: Duration,
    pub(crate) drain: Duration,
}

impl Options {
    pub(crate) fn new(listen: &str, target: &str) -> Options {
        Options {
            listen: listen.into(),
            target: target.into(),
            max: 1000,
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(300),
            drain: Duration::from_secs(30),
        }
    }

    fn from_args(args: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
        let mut options = Options::new("", "");
        while let Some(arg) = args.next()? {
            match arg {
                Long("max") => options.max = args.value()?.parse_with(positive)?,
                Long("connect") => options.connect = args.value()?.parse_with(seconds)?,
                Long("idle") => options.idle = args.value()?.parse_with(seconds)?,
                Long("drain") => options.drain = args.value()?.parse_with(seconds)?,
                Value(value) if options.listen.is_empty() => options.listen = value.string()?,
                Value(value) if options.target.is_empty() => options.target = value.string()?,
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        match options.target.is_empty() {
            true => Err("LISTEN and TARGET are missing".into()),
            false => Ok(options),
        }
    }
}

fn main() -> ExitCode {
    let options = cli::parse(USAGE, Options::from_args);
    let stop = async {
        let mut terminate = signal(SignalKind::terminate())?;
        future::or(soloist::signal::ctrl_c(), terminate.recv()).await
    };
    match block_on(run(options, stop)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(open) => {
            eprintln!("proxy: closed {open} connections that were still open");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of connections that had to be closed.
pub(crate) async fn run(
    options: Options,
    stop: impl Future<Output = io::Result<()>>,
) -> io::Result<usize> {
    let listener = TcpListener::bind(options.listen.as_str()).await?;
    say(&format!("listening on {}", listener.local_addr()?));
    let (options, connections) = (Rc::new(options), TaskTracker::new());
    let permits = Arc::new(Semaphore::new(options.max));
    let accept = async {
        loop {
            // Without a permit, a new connection waits in the queue of the system.
            let permit = permits.acquire_arc().await;
            match listener.accept().await {
                Ok((client, _)) => {
                    let options = options.clone();
                    connections.spawn(async move {
                        forward(client, &options).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    eprintln!("proxy: cannot accept: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    future::or(stop, accept).await?;
    // Refuses new connections.
    drop(listener);
    let _ = timeout(options.drain, connections.wait_idle()).await;
    Ok(connections.len())
}

async fn forward(client: TcpStream, options: &Options) {
    let peer = client
        .peer_addr()
        .map_or("?".into(), |peer| peer.to_string());
    let connect = timeout(options.connect, TcpStream::connect(options.target.as_str())).await;
    let server = match connect.map_err(io::Error::from).and_then(|server| server) {
        Ok(server) => server,
        Err(error) => {
            return say(&format!(
                "{peer}: cannot connect to {}: {error}",
                options.target
            ));
        }
    };
    let mut copy = CopyBidirectional::new(client, server).idle_timeout(options.idle);
    let result = (&mut copy).await;
    let (sent, received) = copy.copied();
    let why = result
        .err()
        .map_or(String::new(), |error| format!(": {error}"));
    say(&format!(
        "{peer}: {sent} bytes sent, {received} received{why}"
    ));
}
