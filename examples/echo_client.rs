//! A client for an echo server. It checks every byte that comes back.
//!
//! cargo run --release --example echo_client
//! cargo run --release --example echo_client -- 127.0.0.1:8888 'Hello World!' Goodbye
//! cargo run --release --example echo_client -- --connections 1000 --size 4096 127.0.0.1:8888

mod cli;

use cli::{positive, say_or_exit as say};
use lexopt::prelude::*;
use soloist::io::{AsyncReadExt, AsyncWriteExt, copy};
use soloist::net::{TcpListener, TcpStream};
use soloist::stream::StreamExt;
use soloist::{block_on, future, spawn, time};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::process::ExitCode;

const USAGE: &str = "\
usage: echo_client [OPTION]... [ADDRESS [LINE]...]

Sends the lines to the echo server at ADDRESS and prints the replies. Without lines, sends messages
of random size and content and prints the totals. Without an address, starts an echo server in this
process.

  --connections N  open N connections at once (10)
  --messages N     send N messages on each connection (100)
  --size BYTES     send messages of at most BYTES bytes (65536)

Exits with 0, with 1 if a connection failed or a wrong byte came back, or with 2 if the arguments
are invalid.";

fn main() -> ExitCode {
    match block_on(run(Options::from_args())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_client: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    connections: usize,
    messages: usize,
    size: usize,
    address: Option<String>,
    lines: Vec<String>,
}

impl Options {
    fn from_args() -> Options {
        let (mut connections, mut messages, mut size) = (10, 100, 65536);
        let (mut address, mut lines) = (None, Vec::new());
        cli::parse(USAGE, |args| {
            while let Some(arg) = args.next()? {
                match arg {
                    Long("connections") => connections = args.value()?.parse_with(positive)?,
                    Long("messages") => messages = args.value()?.parse_with(positive)?,
                    Long("size") => size = args.value()?.parse_with(positive)?,
                    Value(value) => {
                        address = Some(value.string()?);
                        // A line may start with a hyphen.
                        let rest = args.raw_args()?.map(|line| line.string());
                        lines = rest.collect::<Result<_, _>>()?;
                    }
                    _ => return Err(cli::unknown(arg, USAGE)),
                }
            }
            Ok(Options {
                connections,
                messages,
                size,
                address,
                lines,
            })
        })
    }
}

async fn run(options: Options) -> Result<(), String> {
    let Options {
        connections,
        messages,
        size,
        address,
        lines,
    } = options;
    let address = match address {
        Some(address) => address,
        None => match start_server().await {
            Ok(address) => address.to_string(),
            Err(error) => return Err(format!("cannot start the server: {error}")),
        },
    };
    if !lines.is_empty() {
        let sending = send_lines(&address, &lines);
        return sending.await.map_err(|error| format!("{address}: {error}"));
    }

    let started = time::now();
    let tasks: Vec<_> = (0..connections as u64)
        .map(|seed| spawn(send_messages(address.clone(), seed, messages, size)))
        .collect();
    let mut bytes = 0;
    let mut failed = 0;
    for (number, task) in (1..).zip(tasks) {
        match task.await {
            Ok(sent) => bytes += sent,
            Err(error) => {
                failed += 1;
                eprintln!("echo_client: connection {number} to {address}: {error}");
            }
        }
    }
    if failed > 0 {
        return Err(format!("{failed} of {connections} connections failed"));
    }
    let messages = connections * messages;
    let seconds = started.elapsed().as_secs_f64();
    say(&format!(
        "{connections} connections, {messages} messages, {bytes} bytes, \
         all echoed, in {seconds:.3} s"
    ));
    Ok(())
}

async fn send_lines(address: &str, lines: &[String]) -> io::Result<()> {
    let stream = connect(address).await?;
    for line in lines {
        let echo = exchange(&stream, format!("{line}\n").as_bytes()).await?;
        say(String::from_utf8_lossy(&echo).trim_end());
    }
    finish(&stream).await
}

async fn send_messages(
    address: String,
    seed: u64,
    messages: usize,
    size: usize,
) -> io::Result<u64> {
    let stream = connect(&address).await?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = 0;
    for _ in 0..messages {
        let mut message = vec![0; random.usize(1..=size)];
        random.fill(&mut message);
        exchange(&stream, &message).await?;
        bytes += message.len() as u64;
    }
    finish(&stream).await?;
    Ok(bytes)
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads while it writes, since a message may be larger than all the socket buffers in between.
async fn exchange(stream: &TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    let (mut reader, mut writer) = (stream, stream);
    let mut echo = vec![0; message.len()];
    future::try_zip(writer.write_all(message), reader.read_exact(&mut echo)).await?;
    if echo != message {
        return Err(io::Error::other("the echo differs from what was sent"));
    }
    Ok(echo)
}

/// Checks that the server ends its stream after ours, without sending anything more.
async fn finish(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("the server sent more than the echo")),
    }
}

async fn start_server() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    spawn(async move {
        let mut incoming = listener.incoming();
        while let Some(connection) = incoming.next().await {
            match connection {
                Ok(stream) => spawn(async move {
                    if let Err(error) = echo(stream).await {
                        eprintln!("server: {error}");
                    }
                })
                .detach(),
                Err(error) => eprintln!("server: cannot accept: {error}"),
            }
        }
    })
    .detach();
    Ok(address)
}

async fn echo(stream: TcpStream) -> io::Result<u64> {
    stream.set_nodelay(true)?;
    copy(&stream, &stream).await
}
