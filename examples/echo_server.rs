//! Sends the bytes of every client back to it.
//!
//! cargo run --release --example echo_server
//! cargo run --release --example echo_server -- --quiet 127.0.0.1:0

mod cli;

use cli::say;
use lexopt::prelude::*;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::stream::StreamExt;
use soloist::{block_on, spawn};
use std::io;
use std::process::ExitCode;

const USAGE: &str = "\
usage: echo_server [--quiet] [ADDRESS]

Listens on ADDRESS (127.0.0.1:8888; with port 0 the system picks one) and prints the address. Then
prints a line when a client connects and when it disconnects, unless --quiet is given.";

fn main() -> ExitCode {
    let (mut address, mut quiet) = (None, false);
    cli::parse(USAGE, |args| {
        while let Some(arg) = args.next()? {
            match arg {
                Long("quiet") => quiet = true,
                Value(value) if address.is_none() => address = Some(value.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(())
    });
    let address = address.unwrap_or("127.0.0.1:8888".into());
    match block_on(serve(&address, quiet)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) async fn serve(address: &str, quiet: bool) -> io::Result<()> {
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
    // This fails if the client has already reset the connection.
    let peer = stream.peer_addr();
    let peer = peer.map_or("unknown".into(), |peer| peer.to_string());
    if !quiet {
        say(&format!("{peer} connected"));
    }
    let mut bytes = 0;
    let result = copy_back(&mut stream, &mut bytes).await;
    if !quiet {
        match result {
            Ok(()) => say(&format!("{peer} disconnected after {bytes} bytes")),
            Err(error) => say(&format!("{peer} failed after {bytes} bytes: {error}")),
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
