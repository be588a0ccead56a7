//! What all ways have in common: the job, how to ask for a page, and how to know that it is whole.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};

pub(crate) struct Job {
    pub(crate) server: SocketAddr,
    pub(crate) pages: usize,
    /// At most so many processes or threads at once.
    pub(crate) workers: usize,
}

/// What a way needed for the job, this thread and this process included.
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

/// The response: some thousand bytes, others for every page. Its end is where the server closes the
/// connection.
pub(crate) fn response(page: usize) -> Vec<u8> {
    let length = 2000 + page * 37 % 3000;
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let mut response = head.into_bytes();
    // Cheap to make, for every way does it in the time that is measured.
    response.extend((0..length).map(|at| b' ' + ((at + at / 64 + page) % 64) as u8));
    response
}

/// Whether these are the bytes that the server has sent for the page, all of them.
pub(crate) fn check(page: usize, bytes: &[u8]) -> io::Result<()> {
    let wanted = response(page);
    if wanted == bytes {
        return Ok(());
    }
    let same = wanted.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    Err(io::Error::other(format!(
        "{} came back wrong: {} bytes instead of {}, and the first {same} of them are right",
        path(page),
        bytes.len(),
        wanted.len()
    )))
}

/// Begins to connect, and does not wait for the end of it: `sock.setblocking(False)`, and a
/// `sock.connect(...)` whose `BlockingIOError` is caught.
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
