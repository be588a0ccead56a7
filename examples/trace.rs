//! Records what about a hundred tasks do: their polls, what each waits for, and which task wakes which.
//!
//! cargo run --release --example trace --features trace -- out.html
//! cargo run --release --example trace --features trace -- out.html 2000
//!
//! A file name that ends in .json selects the format of https://ui.perfetto.dev.

mod cli;

use lexopt::prelude::*;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::promise::promise;
use soloist::time::{sleep, timeout};
use soloist::{block_on, spawn, task, trace};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: trace FILE.html|FILE.json [TASKS]";

fn main() -> ExitCode {
    let (mut file, mut tasks) = (None, 100);
    let file: String = cli::parse(USAGE, |args| {
        while let Some(arg) = args.next()? {
            match arg {
                Value(value) if file.is_none() => file = Some(value.string()?),
                Value(value) => tasks = value.parse()?,
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        file.ok_or("there is no file name".into())
    });
    trace::start(1_000_000);
    let result = block_on(work(tasks)).and_then(|()| match file.ends_with(".json") {
        true => trace::save_json(&file),
        false => trace::save_html(&file),
    });
    if let Err(error) = result {
        eprintln!("trace: {error}");
        return ExitCode::FAILURE;
    }
    let totals = trace::stop().expect("it was started").totals();
    let polls: u64 = totals.iter().map(|task| task.polls).sum();
    let busy: Duration = totals.iter().map(|task| task.busy).sum();
    println!(
        "{} tasks, {polls} polls, busy for {busy:?}: {file}",
        totals.len()
    );
    ExitCode::SUCCESS
}

async fn work(tasks: u64) -> io::Result<()> {
    let echo = task::Builder::new().name("echo over TCP").spawn(echo());

    // A chain of tasks, each of which waits for the previous one.
    let (start, mut previous) = promise();
    let mut chain = Vec::new();
    for number in 1..=10 {
        let (done, next) = promise();
        let link = async move {
            previous.await.expect("the previous link sets its promise");
            sleep(Duration::from_millis(2)).await;
            done.set(()).expect("the next link waits");
        };
        let name = format!("link {number}");
        chain.push(task::Builder::new().name(name).spawn(link));
        previous = next;
    }
    let _ = start.set(());

    let sleepers: Vec<_> = (0..tasks)
        .map(|number| {
            spawn(async move {
                for round in 0..4 {
                    sleep(Duration::from_micros(
                        1000 + (number * 7919 + round * 104_729) % 9000,
                    ))
                    .await;
                }
            })
        })
        .collect();
    for sleeper in sleepers {
        sleeper.await;
    }
    for link in chain {
        link.await;
    }
    previous.await.expect("the last link sets its promise");
    echo.await
}

/// Two tasks that exchange messages, with a timeout around each read.
async fn echo() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let client = async move {
        let mut stream = TcpStream::connect(address).await?;
        let mut reply = [0; 4];
        for _ in 0..5 {
            stream.write_all(b"ping").await?;
            timeout(Duration::from_secs(5), stream.read_exact(&mut reply)).await??;
            sleep(Duration::from_millis(1)).await;
        }
        io::Result::Ok(())
    };
    let client = task::Builder::new().name("client").spawn(client);
    let (mut stream, _) = listener.accept().await?;
    let mut bytes = [0; 4];
    for _ in 0..5 {
        timeout(Duration::from_secs(5), stream.read_exact(&mut bytes)).await??;
        stream.write_all(&bytes).await?;
    }
    client.await
}
