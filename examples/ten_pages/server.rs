//! The server: every page takes a while, and many clients can wait at the same time.
//!
//! It runs in another process, so that its CPU time is not in the figures, and its sockets do not count
//! towards the limit of open files of the clients.

use crate::page::response;
use crate::say;
use socket2::{Domain, Protocol, Socket, Type};
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::{block_on, spawn, time::sleep};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A running server. It exits when this is dropped or when this process exits.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start(delay: Duration) -> io::Result<Server> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", &delay.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = process.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        match line.trim_end().parse() {
            Ok(address) => Ok(Server { process, address }),
            Err(_) => {
                process.kill()?;
                process.wait()?;
                let text = format!("it printed {line:?} instead of its address");
                Err(io::Error::other(text))
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server exits at the end of its input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Runs in the process of the server: prints its address, and serves until the end of its input.
pub(crate) fn serve(delay: Duration) -> io::Result<()> {
    // Not std's `bind`, which chooses the backlog: a thousand clients may connect at once.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4096)?;
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    thread::Builder::new()
        .name("server".into())
        .spawn(move || {
            if let Err(error) = block_on(accept_all(listener, delay)) {
                eprintln!("ten_pages: the server failed: {error}");
                process::exit(1);
            }
        })?;
    say(&address.to_string());
    while io::stdin().read(&mut [0; 64])? > 0 {}
    Ok(())
}

async fn accept_all(listener: std::net::TcpListener, delay: Duration) -> io::Result<()> {
    let listener = TcpListener::try_from(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => spawn(async move {
                // The error of a client that disconnects early is ignored.
                let _ = answer(stream, delay).await;
            })
            .detach(),
            Err(error) => eprintln!("ten_pages: the server cannot accept: {error}"),
        }
    }
}

async fn answer(mut stream: TcpStream, delay: Duration) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => head.extend_from_slice(&buffer[..n]),
        }
        if head.len() > 8192 {
            return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        }
    }
    sleep(delay).await;
    match requested_page(&head) {
        Some(page) => stream.write_all(&response(page)).await,
        None => stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n").await,
    }
}

/// The page of a request such as `GET / HTTP/1.0` or `GET /7 HTTP/1.0`.
fn requested_page(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let path = head.strip_prefix("GET /")?.split(' ').next()?;
    match path {
        "" => Some(0),
        _ => path.parse().ok(),
    }
}
