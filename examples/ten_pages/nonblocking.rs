//! Way 4: non-blocking sockets, tried again and again until they are ready (busy waiting).
//!
//! The tutorials' `nonblocking_way`: `sock.setblocking(False)`, and `try` / `except OSError` in a
//! loop. Python's `BlockingIOError` is an error of the kind `WouldBlock` here. It still fetches one page
//! after the other, so it is not faster than way 1, and it keeps a core busy. To wait for several
//! sockets without that, something must report which of them is ready: a selector (selector.rs).

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
            // No data yet.
            Err(error) => try_again(&stream, error)?,
        }
    }
}

/// Returns `Ok` if the error means that the operation is to be tried again.
fn try_again(stream: &TcpStream, error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        // Reported by some systems while the connection is being made, and after it has failed.
        ErrorKind::NotConnected => stream.take_error()?.map_or(Ok(()), Err),
        _ => Err(error),
    }
}
