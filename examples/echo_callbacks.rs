//! The echo server with callbacks instead of async functions: what an event loop and its selector
//! have one write by hand, and what `echo_server.rs` leaves to the compiler.
//!
//! cargo run --release --example echo_callbacks
//! cargo run --release --example echo_callbacks -- --quiet 127.0.0.1:0

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

Listens on ADDRESS (127.0.0.1:8888; with port 0 the system picks one), says so in its first line,
and prints who comes and who goes unless it is to be quiet.";

/// Accepts in a row, before the connections have their turn.
const BATCH: usize = 16;

/// How long to leave the listener alone when there is no file descriptor left for a connection:
/// it stays readable meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

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
                eprintln!("echo_callbacks: what is {arg:?}?\n\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
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

/// The selector's event that somebody waits for.
#[derive(Clone, Copy)]
enum Event {
    Readable,
    Writable,
}

/// What a callback has to say.
enum Next {
    /// To be called again, as registered.
    Wait,
    Close,
}

type Callback = fn(&mut Connection) -> io::Result<Next>;

/// All that an async function would keep in its variables, and where it is.
struct Connection {
    stream: Async<TcpStream>,
    peer: SocketAddr,
    quiet: bool,
    /// What is registered: the event, and whom to call.
    event: Event,
    callback: Callback,
    buffer: Box<[u8]>,
    /// The part of the buffer that has been read, and not yet written.
    unsent: Range<usize>,
    bytes: u64,
}

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, quiet: bool) -> io::Result<Connection> {
        // If it has gone by now, reading will say so.
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

    /// Called when the stream is readable, and all that was read before has been written.
    fn read(&mut self) -> io::Result<Next> {
        let mut stream = self.stream.get_ref();
        match stream.read(&mut self.buffer) {
            Ok(0) => Ok(Next::Close),
            Ok(n) => {
                self.unsent = 0..n;
                self.write()
            }
            Err(error) if is_early(&error) => Ok(Next::Wait),
            Err(error) => Err(error),
        }
    }

    /// Called when there is something to write, and again when the stream takes more.
    fn write(&mut self) -> io::Result<Next> {
        while !self.unsent.is_empty() {
            let mut stream = self.stream.get_ref();
            match stream.write(&self.buffer[self.unsent.clone()]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.unsent.start += n;
                    self.bytes += n as u64;
                }
                Err(error) if is_early(&error) => {
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

/// Waits for the event and calls the callback, as long as there is one.
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
                Ok(Next::Close) => format!("went after {} bytes", self.bytes),
                Err(error) => format!("was lost after {} bytes: {error}", self.bytes),
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

    /// Called when somebody has come.
    fn accept(&mut self) {
        for _ in 0..BATCH {
            let accepted = self.listener.get_ref().accept();
            let connection =
                accepted.and_then(|(stream, peer)| Connection::new(stream, peer, self.quiet));
            match connection {
                Ok(connection) => {
                    connection.say("came");
                    spawn(connection).detach();
                }
                // Came and went.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if is_early(&error) => return,
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

/// The selector may report an event by mistake: then it will come again.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// A server goes on when nobody reads its lines any more.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
