//! Sends back to every client what it sends, until it ends its stream.
//!
//! cargo run --release --example echo_server
//! cargo run --release --example echo_server -- --quiet 127.0.0.1:0

use futures_lite::StreamExt;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::{block_on, spawn};
use std::io::{self, Write};
use std::process::ExitCode;

const USAGE: &str = "\
usage: echo_server [--quiet] [ADDRESS]

Listens on ADDRESS (127.0.0.1:8888; with port 0 the system picks one), says so in its first line,
and prints who comes and who goes unless it is to be quiet.";

fn main() -> ExitCode {
    let mut quiet = false;
    let mut address = None;
    for arg in std::env::args_os().skip(1) {
        match arg.to_string_lossy().into_owned() {
            arg if arg == "-h" || arg == "--help" => {
                say(USAGE);
                return ExitCode::SUCCESS;
            }
            arg if arg == "--quiet" => quiet = true,
            arg if address.is_none() && !arg.starts_with('-') => address = Some(arg),
            arg => {
                eprintln!("echo_server: what is {arg:?}?\n\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let address = address.unwrap_or("127.0.0.1:8888".into());
    match block_on(serve(&address, quiet)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(address: &str, quiet: bool) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    say(&format!("listening on {}", listener.local_addr()?));
    let mut incoming = listener.incoming();
    while let Some(connection) = incoming.next().await {
        match connection {
            Ok(stream) => spawn(echo(stream, quiet)).detach(),
            Err(error) => eprintln!("echo_server: cannot accept: {error}"),
        }
    }
    Ok(())
}

async fn echo(mut stream: TcpStream, quiet: bool) {
    // A client that has reset its connection by now has no address any more.
    let peer = stream
        .peer_addr()
        .map_or("somebody".into(), |peer| peer.to_string());
    if !quiet {
        say(&format!("{peer} came"));
    }
    let mut bytes = 0;
    let result = copy_back(&mut stream, &mut bytes).await;
    if !quiet {
        match result {
            Ok(()) => say(&format!("{peer} went after {bytes} bytes")),
            Err(error) => say(&format!("{peer} was lost after {bytes} bytes: {error}")),
        }
    }
}

async fn copy_back(stream: &mut TcpStream, bytes: &mut u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
        *bytes += n as u64;
    }
}

/// A server goes on when nobody reads its lines any more.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
