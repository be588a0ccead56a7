//! A runtime as a guest in a loop of somebody else: `calloop`, as in a Wayland client. Sixty
//! frames a second are "drawn" beside an echo server, on one thread.
//!
//! cargo run --release -p soloist-ecosystem --example embed -- --seconds 10 127.0.0.1:8888

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("embed: a guest runtime needs a file descriptor to be watched by: Unix");
}

#[cfg(unix)]
mod unix {
    use calloop::generic::Generic;
    use calloop::timer::{TimeoutAction, Timer};
    use calloop::{EventLoop, Interest, Mode, PostAction};
    use soloist::io::{AsyncReadExt, AsyncWriteExt};
    use soloist::net::{TcpListener, TcpStream};
    use soloist::stream::StreamExt;
    use soloist::{Runtime, spawn};
    use std::cell::Cell;
    use std::io::{self, Write};
    use std::process::ExitCode;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    const USAGE: &str = "\
usage: embed [--seconds N] [ADDRESS]

Draws sixty frames a second, and beside them sends back what comes to ADDRESS (127.0.0.1:8888; with
port 0 the system picks one). Ends after N seconds, if that is said.";

    const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);
    /// Frames between two lines of output.
    const LINE: u64 = 30;

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
                _ if address.is_none() && !arg.starts_with('-') => address = Some(arg),
                _ => return misused(&format!("what is {arg:?}?")),
            }
        }
        let address = address.unwrap_or("127.0.0.1:8888".into());
        match run(&address, length) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("embed: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn misused(why: &str) -> ExitCode {
        eprintln!("embed: {why}\n\n{USAGE}");
        ExitCode::from(2)
    }

    /// What the callbacks of the loop share.
    struct App<'a> {
        runtime: &'a Runtime,
        echoed: Rc<Cell<u64>>,
        frames: u64,
        turns: u64,
    }

    impl App<'_> {
        fn turn(&mut self) -> io::Result<()> {
            self.turns += 1;
            self.runtime.turn(Some(Duration::ZERO)).map(drop)
        }

        fn draw(&mut self) -> io::Result<()> {
            self.frames += 1;
            if self.frames % LINE == 0 {
                let App { frames, turns, .. } = self;
                let echoed = self.echoed.get();
                return say(&format!(
                    "frame {frames}: {echoed} bytes echoed, {turns} turns"
                ));
            }
            Ok(())
        }
    }

    fn run(address: &str, length: Option<Duration>) -> calloop::Result<()> {
        let runtime = Runtime::new();
        let echoed = Rc::new(Cell::new(0));
        let listener = runtime.block_on(TcpListener::bind(address))?;
        say(&format!("listening on {}", listener.local_addr()?))?;
        runtime.spawn(serve(listener, echoed.clone())).detach();

        let mut event_loop = EventLoop::try_new()?;
        let handle = event_loop.handle();
        // All that the runtime has to do shows in one file descriptor.
        let guest = Generic::new(runtime.poll_fd()?, Interest::READ, Mode::Level);
        handle.insert_source(guest, |_, _, app: &mut App<'_>| {
            app.turn()?;
            Ok(PostAction::Continue)
        })?;
        handle.insert_source(Timer::from_duration(FRAME), |due, _, app| {
            // Nobody reads the lines any more: no reason to draw.
            match app.draw() {
                Ok(()) => TimeoutAction::ToInstant(due + FRAME),
                Err(_) => TimeoutAction::Drop,
            }
        })?;

        let mut app = App {
            runtime: &runtime,
            echoed,
            frames: 0,
            turns: 0,
        };
        let end = length.map(|length| Instant::now() + length);
        loop {
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                return Ok(());
            }
            // On Linux a timer of the runtime that is due shows in its file descriptor, too;
            // elsewhere the loop has to come by itself.
            let timer = runtime.next_deadline();
            if timer.is_some_and(|timer| timer <= now) {
                app.turn()?;
            }
            let next = [runtime.next_deadline(), end].into_iter().flatten().min();
            let wait = next.map(|next| next.saturating_duration_since(Instant::now()));
            event_loop.dispatch(wait, &mut app)?;
        }
    }

    async fn serve(listener: TcpListener, echoed: Rc<Cell<u64>>) {
        let mut incoming = listener.incoming();
        while let Some(connection) = incoming.next().await {
            match connection {
                // A client that breaks off is no news.
                Ok(stream) => spawn(echo(stream, echoed.clone())).detach(),
                Err(error) => eprintln!("embed: cannot accept: {error}"),
            }
        }
    }

    async fn echo(mut stream: TcpStream, echoed: Rc<Cell<u64>>) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let n = stream.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..n]).await?;
            echoed.set(echoed.get() + n as u64);
        }
    }

    fn say(line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    }
}
