//! Talks to an echo server and checks every byte that comes back.
//!
//! cargo run --release --example echo_client
//! cargo run --release --example echo_client -- 127.0.0.1:8888 'Hello World!' 'and good bye'
//! cargo run --release --example echo_client -- --connections 1000 --size 4096 127.0.0.1:8888

use futures_lite::{StreamExt, future};
use soloist::io::{AsyncReadExt, AsyncWriteExt, copy};
use soloist::net::{TcpListener, TcpStream};
use soloist::{block_on, spawn, time};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{self, ExitCode};

const USAGE: &str = "\
usage: echo_client [OPTION]... [ADDRESS [LINE]...]

Sends the lines and prints what comes back. Without a line it sends messages of random content and
size, and prints the totals. Without an address it starts a server of its own.

  --connections N  so many connections at once (10)
  --messages N     so many messages on each of them (100)
  --size BYTES     the size of the longest message (65536)

The exit status is 0, or 1 if a connection failed or a byte came back wrong, or 2 if the arguments
are wrong.";

fn main() -> ExitCode {
    let args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let options = match Options::parse(args.skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("echo_client: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match block_on(run(options)) {
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
    /// `None` is a request for help.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            connections: 10,
            messages: 100,
            size: 65536,
            address: None,
            lines: Vec::new(),
        };
        while let Some(arg) = args.next() {
            let number = match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--connections" => &mut options.connections,
                "--messages" => &mut options.messages,
                "--size" => &mut options.size,
                _ if options.address.is_some() => {
                    options.lines.push(arg);
                    continue;
                }
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}")),
                _ => {
                    options.address = Some(arg);
                    continue;
                }
            };
            let value = args.next().and_then(|value| value.parse().ok());
            *number = value
                .filter(|&number| number > 0)
                .ok_or(format!("{arg} needs a number, at least 1"))?;
        }
        Ok(Some(options))
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
         and all came back, in {seconds:.3} s"
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
    let mut random = Random(seed);
    let mut bytes = 0;
    for _ in 0..messages {
        let mut message = vec![0; 1 + random.next() as usize % size];
        for chunk in message.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        }
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

/// Reads while it writes: a message may be larger than all the buffers on its way there and back.
async fn exchange(stream: &TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    let (mut reader, mut writer) = (stream, stream);
    let mut echo = vec![0; message.len()];
    future::try_zip(writer.write_all(message), reader.read_exact(&mut echo)).await?;
    if echo != message {
        return Err(io::Error::other("something else came back"));
    }
    Ok(echo)
}

/// The server has to end its stream when we have ended ours, and to send nothing more before.
async fn finish(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("more came back than was sent")),
    }
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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

/// Whoever reads the lines may have seen enough (`| head`): then there is nothing left to do.
fn say(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() {
        process::exit(1);
    }
}
