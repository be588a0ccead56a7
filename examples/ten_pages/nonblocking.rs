//! Way 4: nothing stops us, and we ask again and again. The busy way.
//!
//! The tutorials' `nonblocking_way`: `sock.setblocking(False)`, and `try` / `except OSError` in a
//! loop. A `BlockingIOError` is an error of the kind `WouldBlock` here. It is still one page after
//! the other, so nothing is won yet, and a core is lost: the sockets can wait without us now, but
//! somebody has to tell us when the wait is over. That is what a selector is for (selector.rs).

use crate::page::{Job, Used, check, request, start_connecting};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) fn run(job: &Job) -> io::Result<Used> {
    for page in 0..job.pages {
        check(page, &fetch(job.server, page)?)?;
    }
    Ok(Used::THIS_THREAD)
}

fn fetch(server: SocketAddr, page: usize) -> io::Result<Vec<u8>> {
    let mut stream = start_connecting(server)?;
    let request = request(page);
    let mut sent = 0;
    while sent < request.len() {
        match stream.write(&request.as_bytes()[sent..]) {
            Ok(n) => sent += n,
            // Not connected yet.
            Err(error) => try_again(&stream, error)?,
        }
    }
    let mut response = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(response),
            Ok(n) => response.extend_from_slice(&chunk[..n]),
            // Nothing there yet.
            Err(error) => try_again(&stream, error)?,
        }
    }
}

/// Whether an error only says that the time has not come.
fn try_again(stream: &TcpStream, error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        // What some systems say while the connection is being made, and when it has failed.
        ErrorKind::NotConnected => stream.take_error()?.map_or(Ok(()), Err),
        _ => Err(error),
    }
}
