//! A server that tells what it is doing: `kill -USR1` prints all its tasks, and for what each
//! of them waits; the quarter-hourly report is a line of counts.
//!
//! cargo run --release --example inspect --features signal
//! cargo run --release --example inspect --features signal -- 127.0.0.1:0
//!
//! Then connect (`nc 127.0.0.1 8889`), type a line, and `kill -USR1` it from elsewhere. A line
//! `slow` blocks the thread for a while, which it warns of.

use std::io;
use std::thread;
use std::time::Duration;

use futures_lite::StreamExt;
use futures_lite::io::BufReader;
use soloist::io::{AsyncBufReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::runtime::Runtime;
use soloist::task::Builder;
use soloist::time::{sleep, timeout};
use soloist::{inspect, spawn};

const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1);
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
        "listening on {}; kill -USR1 {} tells more",
        listener.local_addr()?,
        std::process::id()
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

/// Every quarter of an hour.
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

/// Sends each line back, in capitals.
async fn answer(stream: TcpStream) {
    let mut lines = BufReader::new(stream.clone()).lines();
    while let Ok(Some(Ok(line))) = timeout(PATIENCE, lines.next()).await {
        if line == "slow" {
            thread::sleep(Duration::from_millis(60));
        }
        // In a task of its own, so that there is something to see.
        let work = spawn(async move { line.to_uppercase() + "\n" });
        let answer = work.await;
        if (&stream).write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
