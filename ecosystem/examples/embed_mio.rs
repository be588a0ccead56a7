//! A runtime as a guest in the edge-triggered event loop of another crate: `mio`. On one thread, the
//! loop itself echoes datagrams, and tasks of the runtime echo TCP streams.
//!
//! cargo run --release -p soloist-ecosystem --example embed_mio -- --seconds 10 127.0.0.1:8888

#[path = "../../examples/cli/mod.rs"]
mod cli;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("embed_mio: guest mode needs Unix");
}

#[cfg(unix)]
mod unix {
    use super::cli;
    use lexopt::prelude::*;
    use mio::net::UdpSocket;
    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use soloist::io::{AsyncReadExt, AsyncWriteExt};
    use soloist::net::{TcpListener, TcpStream};
    use soloist::stream::StreamExt;
    use soloist::time::timeout;
    use soloist::{Runtime, spawn};
    use std::io::{self, ErrorKind, Write};
    use std::net::SocketAddr;
    use std::os::fd::AsRawFd;
    use std::process::ExitCode;
    use std::time::{Duration, Instant};

    const USAGE: &str = "\
usage: embed_mio [--seconds N] [ADDRESS]

Sends back what comes to ADDRESS (127.0.0.1:8888; with port 0 the system picks one) over TCP and UDP.
With --seconds, exits after N seconds.";

    const GUEST: Token = Token(0);
    const DATAGRAMS: Token = Token(1);
    /// Clients that send nothing for this long are disconnected.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

    pub(super) fn main() -> ExitCode {
        let (mut address, mut duration) = (None, None);
        cli::parse(USAGE, |args| {
            while let Some(arg) = args.next()? {
                match arg {
                    Long("seconds") => duration = Some(Duration::from_secs(args.value()?.parse()?)),
                    Value(value) if address.is_none() => address = Some(value.parse()?),
                    _ => return Err(cli::unknown(arg, USAGE)),
                }
            }
            Ok(())
        });
        let address = address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8888)));
        match run(address, duration) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("embed_mio: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn run(address: SocketAddr, duration: Option<Duration>) -> io::Result<()> {
        let runtime = Runtime::new();
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let mut socket = UdpSocket::bind(address)?;
        say(&format!("listening on {address}"))?;
        runtime.spawn(serve(listener)).detach();

        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(64);
        let registry = poll.registry();
        registry.register(&mut socket, DATAGRAMS, Interest::READABLE)?;
        // The file descriptor becomes readable when the runtime has something to do.
        let fd = runtime.poll_fd()?.as_raw_fd();
        registry.register(&mut SourceFd(&fd), GUEST, Interest::READABLE)?;

        let end = duration.map(|duration| Instant::now() + duration);
        loop {
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                return Ok(());
            }
            // On Linux a timer of the runtime that is due is an event, too. On other systems the loop has
            // to check the timers.
            if runtime.next_deadline().is_some_and(|timer| timer <= now) {
                runtime.turn(Some(Duration::ZERO))?;
            }
            let next = [runtime.next_deadline(), end].into_iter().flatten().min();
            let wait = next.map(|next| next.saturating_duration_since(now));
            match poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    // If a turn leaves work to do, there is another event.
                    GUEST => drop(runtime.turn(Some(Duration::ZERO))?),
                    // Reads all datagrams, since the rest would not be another event.
                    _ => answer_all(&socket)?,
                }
            }
        }
    }

    fn answer_all(socket: &UdpSocket) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        loop {
            match socket.recv_from(&mut buffer) {
                // Errors are ignored: any datagram may get lost.
                Ok((n, from)) => drop(socket.send_to(&buffer[..n], from)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The error of an earlier answer.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn serve(listener: TcpListener) {
        let mut incoming = listener.incoming();
        while let Some(connection) = incoming.next().await {
            match connection {
                // The error of a client that disconnects is ignored.
                Ok(stream) => spawn(echo(stream)).detach(),
                Err(error) => eprintln!("embed_mio: cannot accept: {error}"),
            }
        }
    }

    async fn echo(mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n) = timeout(IDLE_TIMEOUT, stream.read(&mut buffer)).await {
            match n? {
                0 => break,
                n => stream.write_all(&buffer[..n]).await?,
            }
        }
        Ok(())
    }

    fn say(line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    }
}
