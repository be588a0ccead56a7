//! Way 1: one page after the other.
//!
//! The tutorials' `blocking_way`: `sock.connect`, `sock.send` and `sock.recv` each block the thread
//! until they are done. This takes hardly any CPU time, and as long as all delays together.

use crate::page::{Job, Used, check, request};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) fn run(job: &Job) -> io::Result<Used> {
    for page in 0..job.pages {
        check(page, &fetch(job.server, page)?)?;
    }
    Ok(Used::THIS_THREAD)
}

/// Also used by the processes of processes.rs and the threads of threads.rs.
pub(crate) fn fetch(server: SocketAddr, page: usize) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(request(page).as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    Ok(response)
}
