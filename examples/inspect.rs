//! A server that reports what it is doing: `kill -USR1` prints all tasks and what each of them waits
//! for. Every 15 minutes it prints a line of counts.
//!
//! cargo run --release --example inspect --features signal
//! cargo run --release --example inspect --features signal -- 127.0.0.1:0
//!
//! Connect with `nc 127.0.0.1 8889` and type a line. Then run `kill -USR1` in another terminal. The
//! line `slow` blocks the thread for a moment, which prints a warning.

mod cli;

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use lexopt::prelude::*;
use soloist::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use soloist::net::{TcpListener, TcpStream};
use soloist::runtime::Runtime;
use soloist::stream::StreamExt;
use soloist::task::Builder;
use soloist::time::{sleep, timeout};
use soloist::{inspect, spawn};

/// Clients that send nothing for this long are disconnected.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

const USAGE: &str = "usage: inspect [ADDRESS]";

fn main() -> io::Result<()> {
    let mut address = None;
    cli::parse(USAGE, |args| {
        while let Some(arg) = args.next()? {
            match arg {
                Value(value) if address.is_none() => address = Some(value.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(())
    });
    let address = address.unwrap_or("127.0.0.1:8889".to_string());
    let runtime = Runtime::builder()
        .inspect(true)
        .warn_slow(Duration::from_millis(50))
        .build();
    runtime.block_on(serve(&address))
}

async fn serve(address: &str) -> io::Result<()> {
    #[cfg(unix)]
    inspect::dump_on_signal(soloist::signal::unix::SignalKind::user_defined1())?;
    let listener = TcpListener::bind(address).await?;
    println!(
        "listening on {}; `kill -USR1 {}` prints the tasks",
        listener.local_addr()?,
        process::id()
    );
    Builder::new().name("report").spawn(report()).detach();
    let mut incoming = listener.incoming();
    while let Some(stream) = incoming.next().await {
        let stream = stream?;
        let Ok(peer) = stream.peer_addr() else {
            continue;
        };
        let client = Builder::new().name(format!("client {peer}"));
        client.spawn(answer(stream)).detach();
    }
    Ok(())
}

/// Prints the counts every 15 minutes.
async fn report() {
    loop {
        sleep(Duration::from_secs(15 * 60)).await;
        let metrics = inspect::metrics();
        println!(
            "{} clients so far, {} polls, busy for {:.1?}",
            metrics.spawned - 1,
            metrics.polls,
            metrics.busy.unwrap_or_default()
        );
    }
}

/// Sends each line back in upper case.
async fn answer(stream: TcpStream) {
    let mut lines = BufReader::new(stream.clone()).lines();
    while let Ok(Some(Ok(line))) = timeout(IDLE_TIMEOUT, lines.next()).await {
        if line == "slow" {
            thread::sleep(Duration::from_millis(60));
        }
        // As a task, so that there is more to see in the dump.
        let work = spawn(async move { line.to_uppercase() + "\n" });
        let answer = work.await;
        if (&stream).write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
