//! What all ways share: the job, the request for a page, and the check of the response.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};

pub(crate) struct Job {
    pub(crate) server: SocketAddr,
    pub(crate) pages: usize,
    /// The largest number of processes or threads at once.
    pub(crate) workers: usize,
}

/// How many threads and processes a way used, including this one.
pub(crate) struct Used {
    pub(crate) threads: usize,
    pub(crate) processes: usize,
}

impl Used {
    pub(crate) const THIS_THREAD: Used = Used {
        threads: 1,
        processes: 1,
    };
}

/// `/`, `/1`, `/2`, ...
pub(crate) fn path(page: usize) -> String {
    match page {
        0 => "/".to_string(),
        _ => format!("/{page}"),
    }
}

pub(crate) fn request(page: usize) -> String {
    format!("GET {} HTTP/1.0\r\n\r\n", path(page))
}

/// The response: a few thousand bytes, different for every page. It ends where the server closes the
/// connection.
pub(crate) fn response(page: usize) -> Vec<u8> {
    let length = 2000 + page * 37 % 3000;
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let mut response = head.into_bytes();
    // Cheap to compute, since every way does it within the measured time.
    response.extend((0..length).map(|at| b' ' + ((at + at / 64 + page) % 64) as u8));
    response
}

/// Checks that these are all bytes of the page.
pub(crate) fn check(page: usize, bytes: &[u8]) -> io::Result<()> {
    let wanted = response(page);
    if wanted == bytes {
        return Ok(());
    }
    let same = wanted.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    Err(io::Error::other(format!(
        "{} differs: {} bytes instead of {}, of which the first {same} are right",
        path(page),
        bytes.len(),
        wanted.len()
    )))
}

/// Starts to connect without waiting for the connection: `sock.setblocking(False)`, and
/// `sock.connect(...)` in a `try` that ignores `BlockingIOError`.
pub(crate) fn start_connecting(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(server),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    match socket.connect(&server.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    return rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS);
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::WouldBlock;
}
