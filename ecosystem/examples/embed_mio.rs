//! A runtime as a guest in an edge-triggered loop of somebody else: `mio`. The loop answers
//! datagrams by itself, and beside it tasks send back what comes over TCP, on one thread.
//!
//! cargo run --release -p soloist-ecosystem --example embed_mio -- --seconds 10 127.0.0.1:8888

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("embed_mio: a guest runtime needs a file descriptor to be watched by: Unix");
}

#[cfg(unix)]
mod unix {
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

Sends back what comes to ADDRESS (127.0.0.1:8888; with port 0 the system picks one), over TCP and
UDP. Ends after N seconds, if that is said.";

    const GUEST: Token = Token(0);
    const DATAGRAMS: Token = Token(1);
    /// A client that says nothing for so long is sent away.
    const IDLE: Duration = Duration::from_secs(60);

    pub(super) fn main() -> ExitCode {
        let mut address = None;
        let mut length = None;
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-h" | "--help" => {
                    println!("{USAGE}");
                    return ExitCode::SUCCESS;
                }
                "--seconds" => match args.next().map(|n| n.parse()) {
                    Some(Ok(seconds)) => length = Some(Duration::from_secs(seconds)),
                    _ => return misused("--seconds needs a number"),
                },
                _ => match arg.parse() {
                    Ok(parsed) if address.is_none() => address = Some(parsed),
                    _ => return misused(&format!("what is {arg:?}?")),
                },
            }
        }
        let address = address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8888)));
        match run(address, length) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("embed_mio: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn misused(why: &str) -> ExitCode {
        eprintln!("embed_mio: {why}\n\n{USAGE}");
        ExitCode::from(2)
    }

    fn run(address: SocketAddr, length: Option<Duration>) -> io::Result<()> {
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
        // All that the runtime has to do shows in one file descriptor.
        let fd = runtime.poll_fd()?.as_raw_fd();
        registry.register(&mut SourceFd(&fd), GUEST, Interest::READABLE)?;

        let end = length.map(|length| Instant::now() + length);
        loop {
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                return Ok(());
            }
            // On Linux a timer of the runtime that is due is an event, too; elsewhere the loop
            // has to come by itself.
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
                    // What a turn leaves to do is another event.
                    GUEST => drop(runtime.turn(Some(Duration::ZERO))?),
                    // What is left in this socket would be none.
                    _ => answer_all(&socket)?,
                }
            }
        }
    }

    fn answer_all(socket: &UdpSocket) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        loop {
            match socket.recv_from(&mut buffer) {
                // As with any datagram, an answer may get lost.
                Ok((n, from)) => drop(socket.send_to(&buffer[..n], from)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // An earlier answer has found nobody.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn serve(listener: TcpListener) {
        let mut incoming = listener.incoming();
        while let Some(connection) = incoming.next().await {
            match connection {
                // A client that breaks off is no news.
                Ok(stream) => spawn(echo(stream)).detach(),
                Err(error) => eprintln!("embed_mio: cannot accept: {error}"),
            }
        }
    }

    async fn echo(mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n) = timeout(IDLE, stream.read(&mut buffer)).await {
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
