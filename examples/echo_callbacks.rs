//! The echo server with callbacks instead of async functions. It spells out by hand the state machine
//! that the compiler generates for `echo_server.rs`.
//!
//! cargo run --release --example echo_callbacks
//! cargo run --release --example echo_callbacks -- --quiet 127.0.0.1:0

mod cli;

use cli::say;
use lexopt::prelude::*;
use soloist::io::Async;
use soloist::time::{Sleep, sleep};
use soloist::{block_on, spawn};
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll, ready};
use std::time::Duration;

const USAGE: &str = "\
usage: echo_callbacks [--quiet] [ADDRESS]

Listens on ADDRESS (127.0.0.1:8888; with port 0 the system picks one) and prints the address. Then
prints a line when a client connects and when it disconnects, unless --quiet is given.";

/// Connections to accept in a row before others get their turn.
const BATCH: usize = 16;

/// How long to wait after a failed accept, for example because there is no free file descriptor.
/// The listener stays readable meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

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
    let result = block_on(async { Server::bind(&address, quiet).await?.await });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_callbacks: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The event that a connection waits for.
#[derive(Clone, Copy)]
enum Event {
    Readable,
    Writable,
}

/// What to do after a callback.
enum Next {
    /// Call the registered callback at its next event.
    Wait,
    Close,
}

type Callback = fn(&mut Connection) -> io::Result<Next>;

/// The state of one connection: what an async function keeps in its variables, and the point at which
/// it waits.
struct Connection {
    stream: Async<TcpStream>,
    peer: SocketAddr,
    quiet: bool,
    /// The event that is registered, and its callback.
    event: Event,
    callback: Callback,
    buffer: Box<[u8]>,
    /// The part of the buffer that has been read and not been written yet.
    unsent: Range<usize>,
    bytes: u64,
}

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, quiet: bool) -> io::Result<Connection> {
        // If the client is gone already, the first read reports it.
        let _ = stream.set_nodelay(true);
        Ok(Connection {
            stream: Async::new(stream)?,
            peer,
            quiet,
            event: Event::Readable,
            callback: Connection::read,
            buffer: vec![0; 16 * 1024].into(),
            unsent: 0..0,
            bytes: 0,
        })
    }

    fn register(&mut self, event: Event, callback: Callback) {
        self.event = event;
        self.callback = callback;
    }

    /// Called when the stream is readable. Everything read before has been written.
    fn read(&mut self) -> io::Result<Next> {
        let mut stream = self.stream.get_ref();
        match stream.read(&mut self.buffer) {
            Ok(0) => Ok(Next::Close),
            Ok(n) => {
                self.unsent = 0..n;
                self.write()
            }
            Err(error) if is_spurious(&error) => Ok(Next::Wait),
            Err(error) => Err(error),
        }
    }

    /// Called after a read, and again when the stream is writable.
    fn write(&mut self) -> io::Result<Next> {
        while !self.unsent.is_empty() {
            let mut stream = self.stream.get_ref();
            match stream.write(&self.buffer[self.unsent.clone()]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.unsent.start += n;
                    self.bytes += n as u64;
                }
                Err(error) if is_spurious(&error) => {
                    self.register(Event::Writable, Connection::write);
                    return Ok(Next::Wait);
                }
                Err(error) => return Err(error),
            }
        }
        self.register(Event::Readable, Connection::read);
        Ok(Next::Wait)
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            say(&format!("{} {what}", self.peer));
        }
    }
}

/// Waits for the registered event and calls its callback, until the connection is closed.
impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let ready = match self.event {
                Event::Readable => self.stream.poll_readable(cx),
                Event::Writable => self.stream.poll_writable(cx),
            };
            let callback = self.callback;
            let end = match ready!(ready).and_then(|()| callback(&mut self)) {
                Ok(Next::Wait) => continue,
                Ok(Next::Close) => format!("disconnected after {} bytes", self.bytes),
                Err(error) => format!("failed after {} bytes: {error}", self.bytes),
            };
            self.say(&end);
            return Poll::Ready(());
        }
    }
}

struct Server {
    listener: Async<TcpListener>,
    quiet: bool,
    pause: Option<Sleep>,
}

impl Server {
    async fn bind(address: &str, quiet: bool) -> io::Result<Server> {
        let listener = soloist::net::TcpListener::bind(address).await?.into_std()?;
        say(&format!("listening on {}", listener.local_addr()?));
        Ok(Server {
            listener: Async::new(listener)?,
            quiet,
            pause: None,
        })
    }

    /// Called when the listener is readable.
    fn accept(&mut self) {
        for _ in 0..BATCH {
            let accepted = self.listener.get_ref().accept();
            let connection =
                accepted.and_then(|(stream, peer)| Connection::new(stream, peer, self.quiet));
            match connection {
                Ok(connection) => {
                    connection.say("connected");
                    spawn(connection).detach();
                }
                // The client is gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if is_spurious(&error) => return,
                Err(error) => {
                    eprintln!("echo_callbacks: cannot accept: {error}");
                    self.pause = Some(sleep(PAUSE));
                    return;
                }
            }
        }
    }
}

impl Future for Server {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(Pin::new(pause).poll(cx));
                self.pause = None;
            }
            ready!(self.listener.poll_readable(cx))?;
            self.accept();
        }
    }
}

/// Whether an event was reported by mistake. It will be reported again.
fn is_spurious(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
