//! A runtime as a guest in the event loop of another crate: `calloop`, as in a Wayland client. One
//! thread "draws" 60 frames per second and runs an echo server.
//!
//! cargo run --release -p soloist-ecosystem --example embed -- --seconds 10 127.0.0.1:8888

#[path = "../../examples/cli/mod.rs"]
mod cli;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("embed: guest mode needs Unix");
}

#[cfg(unix)]
mod unix {
    use super::cli;
    use calloop::generic::Generic;
    use calloop::timer::{TimeoutAction, Timer};
    use calloop::{EventLoop, Interest, Mode, PostAction};
    use lexopt::prelude::*;
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

Draws 60 frames per second. Meanwhile listens on ADDRESS (127.0.0.1:8888; with port 0 the system picks
one) and sends back what clients send. With --seconds, exits after N seconds.";

    const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);
    /// Prints a line after this many frames.
    const FRAMES_PER_LINE: u64 = 30;

    pub(super) fn main() -> ExitCode {
        let (mut address, mut duration) = (None, None);
        cli::parse(USAGE, |args| {
            while let Some(arg) = args.next()? {
                match arg {
                    Long("seconds") => duration = Some(Duration::from_secs(args.value()?.parse()?)),
                    Value(value) if address.is_none() => address = Some(value.string()?),
                    _ => return Err(cli::unknown(arg, USAGE)),
                }
            }
            Ok(())
        });
        let address = address.unwrap_or("127.0.0.1:8888".into());
        match run(&address, duration) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("embed: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// The state of the callbacks of the event loop.
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
            if self.frames % FRAMES_PER_LINE == 0 {
                let App { frames, turns, .. } = self;
                let echoed = self.echoed.get();
                return say(&format!(
                    "frame {frames}: {echoed} bytes echoed, {turns} turns"
                ));
            }
            Ok(())
        }
    }

    fn run(address: &str, duration: Option<Duration>) -> calloop::Result<()> {
        let runtime = Runtime::new();
        let echoed = Rc::new(Cell::new(0));
        let listener = runtime.block_on(TcpListener::bind(address))?;
        say(&format!("listening on {}", listener.local_addr()?))?;
        runtime.spawn(serve(listener, echoed.clone())).detach();

        let mut event_loop = EventLoop::try_new()?;
        let handle = event_loop.handle();
        // The file descriptor becomes readable when the runtime has something to do.
        let guest = Generic::new(runtime.poll_fd()?, Interest::READ, Mode::Level);
        handle.insert_source(guest, |_, _, app: &mut App<'_>| {
            app.turn()?;
            Ok(PostAction::Continue)
        })?;
        handle.insert_source(Timer::from_duration(FRAME), |due, _, app| {
            // Stops drawing if standard output is closed.
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
        let end = duration.map(|duration| Instant::now() + duration);
        loop {
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                return Ok(());
            }
            // On Linux the file descriptor also becomes readable when a timer of the runtime is due.
            // On other systems the loop has to check the timers.
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
                // The error of a client that disconnects is ignored.
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
