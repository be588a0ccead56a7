//! Load and faults over real sockets, on loopback, bounded in time and count.
//!
//!     cargo test --release --test load                          # a taste of three seconds
//!     cargo test --release --test load -- --full                # 10 minutes and more
//!     cargo test --release --test load -- --full connections    # only this one
//!     cargo test --release --test load -- --seconds 60 --connections 2000 connections
//!
//! The server is a process of its own, so that its memory and its files can be looked at from
//! outside. What came of it last is in docs/reliability.md.

#[cfg(target_os = "linux")]
#[path = "it/sys.rs"]
#[allow(dead_code)]
mod sys;

#[cfg(target_os = "linux")]
fn main() {
    load::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the load test looks into /proc, which this system does not have");
}

#[cfg(target_os = "linux")]
mod load {
    use std::cell::Cell;
    use std::future::pending;
    use std::io::{self, BufRead, Read};
    use std::net::{Shutdown, SocketAddr};
    use std::process::{Child, Command, Stdio, exit};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
    use soloist::net::{TcpListener, TcpStream};
    use soloist::time::{sleep, timeout};
    use soloist::{Runtime, block_on, spawn};

    use crate::sys;

    const MIB: usize = 1 << 20;
    const LIMIT: usize = 20_000;

    struct Settings {
        full: bool,
        connections: usize,
        seconds: u64,
    }

    type Check = fn(&Settings) -> String;

    const CHECKS: [(&str, Check); 5] = [
        ("connections", connections),
        ("signals", signals),
        ("deaf", deaf),
        ("timeouts", timeouts),
        ("handles", handles),
    ];

    pub(crate) fn main() {
        let mut settings = Settings {
            full: false,
            connections: 0,
            seconds: 0,
        };
        let mut names = Vec::new();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number");
            match arg.as_str() {
                "serve" => serve(false),
                "serve-interrupted" => serve(true),
                "--full" => settings.full = true,
                "--connections" => settings.connections = number(),
                "--seconds" => settings.seconds = number() as u64,
                // What is meant for libtest.
                _ if arg.starts_with('-') => {}
                _ => names.push(arg),
            }
        }
        let or = |given, full, taste| match (given, settings.full) {
            (0, true) => full,
            (0, false) => taste,
            (given, _) => given,
        };
        settings.connections = or(settings.connections, 9000, 200);
        settings.seconds = or(settings.seconds as usize, 600, 2) as u64;
        if names.is_empty() && !settings.full {
            return all_at_once();
        }
        for (name, check) in CHECKS {
            if names.is_empty() || names.iter().any(|wanted| wanted == name) {
                let start = Instant::now();
                let said = check(&settings);
                println!(
                    "ok {name:11} {said} ({:.1} s)",
                    start.elapsed().as_secs_f64()
                );
            }
        }
    }

    /// Each in a process of its own: some of them look at the memory and the files of theirs.
    fn all_at_once() {
        let program = std::env::current_exe().expect("this program");
        let start = |(name, _)| {
            Command::new(&program)
                .args(std::env::args().skip(1))
                .arg(name)
                .spawn()
        };
        let checks = CHECKS.map(|check| start(check).expect("a process"));
        let failed = checks.map(|mut check| !check.wait().expect("its status").success());
        assert!(!failed.contains(&true), "{failed:?}");
    }

    // The server: it sends back what comes.

    fn serve(interrupted: bool) -> ! {
        // Whoever started it has gone.
        thread::spawn(|| {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            exit(0);
        });
        raise_limit();
        let _interrupts = interrupted.then(sys::Interrupts::start);
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            println!("{}", listener.local_addr().expect("its address"));
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => spawn(echo(stream)).detach(),
                    Err(error) => eprintln!("accept: {error}"),
                }
            }
        });
        exit(1)
    }

    async fn echo(mut stream: TcpStream) {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buf).await {
            if stream.write_all(&buf[..n]).await.is_err() {
                return;
            }
        }
    }

    fn raise_limit() {
        sys::limit_fds(LIMIT);
    }

    struct Server {
        child: Child,
        address: SocketAddr,
        fds: usize,
    }

    impl Server {
        fn start(how: &str) -> Server {
            let program = std::env::current_exe().expect("this program");
            let mut child = Command::new(program)
                .arg(how)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the server");
            let stdout = child.stdout.take().expect("its output");
            let mut line = String::new();
            io::BufReader::new(stdout)
                .read_line(&mut line)
                .expect("a line");
            let address = line.trim().parse().expect("its address");
            let mut server = Server {
                child,
                address,
                fds: 0,
            };
            // The reactor is there when the first client has been.
            block_on(async { assert_serves(server.address).await });
            thread::sleep(Duration::from_millis(100));
            server.fds = server.fds();
            server
        }

        fn fds(&self) -> usize {
            let path = format!("/proc/{}/fd", self.child.id());
            std::fs::read_dir(path).expect("it runs").count()
        }

        fn memory(&self) -> usize {
            memory(&self.child.id().to_string())
        }

        /// User and system, in clock ticks of 10 ms.
        fn cpu(&self) -> usize {
            let path = format!("/proc/{}/stat", self.child.id());
            let stat = std::fs::read_to_string(path).expect("it runs");
            let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
            fields
                .skip(11)
                .take(2)
                .map(|n| n.parse::<usize>().expect("a number"))
                .sum()
        }

        /// All clients have gone: it closes its ends, too.
        fn assert_all_closed(&self) {
            let start = Instant::now();
            while self.fds() > self.fds {
                assert!(
                    start.elapsed() < Duration::from_secs(20),
                    "{} fds were open, and now {} are",
                    self.fds,
                    self.fds()
                );
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Resident memory, in bytes.
    fn memory(process: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|kib| kib.parse::<usize>().ok())
            .expect("a number")
            * 1024
    }

    fn mib(bytes: usize) -> String {
        format!("{:.1} MiB", bytes as f64 / MIB as f64)
    }

    async fn assert_serves(address: SocketAddr) {
        let talk = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"still there?").await?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await?;
            assert_eq!(&answer, b"still there?");
            io::Result::Ok(())
        };
        let served = timeout(Duration::from_secs(10), talk).await;
        served
            .expect("the server does not answer")
            .expect("it serves");
    }

    // Connections that come and go.

    /// splitmix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % limit
        }
    }

    #[derive(Default)]
    struct Tally {
        sessions: Cell<usize>,
        resets: Cell<usize>,
        bytes: Cell<usize>,
        open: Cell<usize>,
        most_open: Cell<usize>,
    }

    fn add(to: &Cell<usize>, n: usize) {
        to.set(to.get() + n);
    }

    fn pattern(salt: usize, at: usize) -> u8 {
        ((at * 31 + salt * 101) ^ (at >> 8)) as u8
    }

    /// One connection from its beginning to its end: all that is sent comes back. It begins
    /// when so many have been `open` at once.
    async fn session(
        address: SocketAddr,
        tally: &Tally,
        random: &mut Random,
        pause: u64,
        open: usize,
    ) {
        let connect = TcpStream::connect(address).await;
        let stream = connect.unwrap_or_else(|error| panic!("cannot connect: {error}"));
        add(&tally.open, 1);
        tally
            .most_open
            .set(tally.most_open.get().max(tally.open.get()));
        while tally.most_open.get() < open {
            sleep(Duration::from_millis(20)).await;
        }
        let salt = random.below(1 << 20) as usize;
        let size = match random.below(50) {
            0 => 0,
            1 => 300_000,
            _ => random.below(6000) as usize,
        };
        let resets = random.below(8) == 0;
        let (mut reader, mut writer) = (stream.clone(), stream.clone());
        let sent = Cell::new(0);
        let mut numbers = Random(random.below(u64::MAX));
        let send = async {
            while sent.get() < size {
                let len = (1 + numbers.below(3000) as usize).min(size - sent.get());
                let chunk: Vec<u8> = (0..len).map(|n| pattern(salt, sent.get() + n)).collect();
                // Before the write: it may come back at once.
                add(&sent, len);
                writer.write_all(&chunk).await.expect("a write");
                if numbers.below(2) == 0 {
                    sleep(Duration::from_millis(numbers.below(pause))).await;
                }
            }
        };
        let received = Cell::new(0);
        let receive = async {
            let mut buf = [0; 4096];
            loop {
                let n = reader.read(&mut buf).await.expect("a read");
                for &byte in &buf[..n] {
                    assert_eq!(
                        byte,
                        pattern(salt, received.get()),
                        "byte {}",
                        received.get()
                    );
                    add(&received, 1);
                }
                assert!(received.get() <= sent.get(), "more came back than was sent");
                if n == 0 {
                    break;
                }
            }
        };
        if resets {
            // In the midst of it: what is under way is lost, and nothing else.
            future::or(send, async {
                receive.await;
                panic!("the server has ended the stream");
            })
            .await;
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).expect("an option");
            add(&tally.resets, 1);
        } else {
            let send = async {
                send.await;
                stream.shutdown(Shutdown::Write).expect("a half-close");
            };
            future::zip(send, receive).await;
            assert_eq!(received.get(), size, "bytes are lost");
        }
        add(&tally.bytes, received.get());
        add(&tally.sessions, 1);
        tally.open.set(tally.open.get() - 1);
    }

    /// Keeps so many connections open for a time. Returns what came of them, and the
    /// server's memory as it went.
    fn crowd(server: &Server, count: usize, time: Duration, pause: u64) -> (Rc<Tally>, Vec<usize>) {
        let tally = Rc::new(Tally::default());
        let address = server.address;
        let memory = block_on(async {
            let end = Instant::now() + time;
            let clients: Vec<_> = (0..count)
                .map(|n| {
                    let tally = tally.clone();
                    spawn(async move {
                        let mut random = Random(n as u64);
                        // Not all at once: the queue of a listener is short.
                        sleep(Duration::from_micros(300 * n as u64)).await;
                        while Instant::now() < end {
                            session(address, &tally, &mut random, pause, count).await;
                        }
                    })
                })
                .collect();
            let mut memory = Vec::new();
            while Instant::now() < end {
                sleep(time / 100).await;
                memory.push(server.memory());
            }
            for client in clients {
                client.await;
            }
            memory
        });
        assert_eq!(tally.open.get(), 0);
        (tally, memory)
    }

    fn connections(settings: &Settings) -> String {
        raise_limit();
        let server = Server::start("serve");
        let ours = std::fs::read_dir("/proc/self/fd").expect("/proc").count();
        let time = Duration::from_secs(settings.seconds);
        let pause = if settings.full { 3000 } else { 10 };
        let (tally, memory) = crowd(&server, settings.connections, time, pause);
        server.assert_all_closed();
        let left = std::fs::read_dir("/proc/self/fd").expect("/proc").count();
        assert!(
            left <= ours,
            "{ours} fds were open here, and now {left} are"
        );
        // The first fifth is to warm up.
        let highest = |part: &[usize]| part.iter().copied().max().unwrap_or(0);
        let len = memory.len();
        let warm = highest(&memory[len / 5..len * 2 / 5]);
        let last = highest(&memory[len * 4 / 5..]);
        assert!(
            last <= warm + warm / 10 + some(4 * MIB),
            "the server grows from {} to {}",
            mib(warm),
            mib(last)
        );
        format!(
            "{} open at once, {} sessions, {} of them reset, {} bytes there and back; \
             the server has {} after a fifth of the time, {} at the end; fds as before",
            tally.most_open.get(),
            tally.sessions.get(),
            tally.resets.get(),
            tally.bytes.get(),
            mib(warm),
            mib(last)
        )
    }

    /// The same with a server that is interrupted every millisecond.
    fn signals(settings: &Settings) -> String {
        let server = Server::start("serve-interrupted");
        let time = Duration::from_secs(if settings.full { 30 } else { 2 });
        let (tally, _) = crowd(&server, 200, time, 10);
        server.assert_all_closed();
        format!(
            "{} sessions and {} bytes with a signal every millisecond for {} s",
            tally.sessions.get(),
            tally.bytes.get(),
            time.as_secs()
        )
    }

    /// Of memory: more where a sanitizer keeps what was freed, for which tests have patience.
    fn some(bytes: usize) -> usize {
        let is_checked = std::env::var_os("SOLOIST_TEST_PATIENCE").is_some();
        if is_checked { 16 * bytes } else { bytes }
    }

    /// Clients that send and never read: the tasks wait, the memory is bounded, the others
    /// are served, and nothing spins.
    fn deaf(settings: &Settings) -> String {
        let server = Server::start("serve");
        let count = if settings.full { 200 } else { 50 };
        let before = server.memory();
        block_on(async {
            let deaf: Vec<_> = (0..count)
                .map(|_| {
                    let address = server.address;
                    spawn(async move {
                        let mut stream = TcpStream::connect(address).await.expect("a connection");
                        let chunk = vec![1; 65536];
                        let mut sent = 0;
                        while let Ok(wrote) =
                            timeout(Duration::from_secs(1), stream.write(&chunk)).await
                        {
                            sent += wrote.expect("a write");
                            assert!(sent < 64 * MIB, "somebody keeps all of it");
                        }
                        (stream, sent)
                    })
                })
                .collect();
            let mut streams = Vec::new();
            let mut sent = 0;
            for task in deaf {
                let (stream, n) = task.await;
                streams.push(stream);
                sent += n;
            }
            let cpu = server.cpu();
            let seconds = if settings.full { 10 } else { 1 };
            for _ in 0..seconds * 5 {
                assert_serves(server.address).await;
                sleep(Duration::from_millis(200)).await;
            }
            let cpu = server.cpu() - cpu;
            let grown = server.memory().saturating_sub(before);
            // A task has a buffer of 4 KiB.
            assert!(
                grown < some(count * 16 * 1024 + 4 * MIB),
                "{} more",
                mib(grown)
            );
            assert!(cpu <= 20 * seconds, "{cpu} ticks of CPU in {seconds} s");
            drop(streams);
            server.assert_all_closed();
            format!(
                "{count} clients never read the {} that the system takes: the server grows by \
                 {}, uses {} ms of CPU in {seconds} s, and serves the others",
                mib(sent),
                mib(grown),
                cpu * 10
            )
        })
    }

    /// Timers that never fire leave at once.
    fn timeouts(settings: &Settings) -> String {
        let count = if settings.full { 1_000_000 } else { 100_000 };
        block_on(async {
            let hour = Duration::from_secs(3600);
            let mut before = 0;
            for n in 0..count {
                let once = timeout(hour, soloist::task::yield_now()).await;
                assert!(once.is_ok());
                if n == count / 10 {
                    before = memory("self");
                }
            }
            let after = memory("self");
            assert!(
                after <= before + some(MIB),
                "from {} to {}",
                mib(before),
                mib(after)
            );
            // And all at the same time.
            let sleeping: Vec<_> = (0..count / 10)
                .map(|_| spawn(timeout(hour, pending::<()>())))
                .collect();
            sleep(Duration::from_millis(1)).await;
            let start = Instant::now();
            drop(sleeping);
            let took = start.elapsed();
            format!(
                "{count} timeouts of an hour, one after the other, {} more in memory; {} at \
                 the same time are cancelled in {took:.1?}",
                mib(after.saturating_sub(before)),
                count / 10
            )
        })
    }

    /// Calls from four threads: each is served once.
    fn handles(settings: &Settings) -> String {
        let each = if settings.full { 250_000 } else { 25_000 };
        let runtime = Runtime::new();
        let served = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (handle, served) = (runtime.handle(), served.clone());
                thread::spawn(move || {
                    let mut random = Random(n);
                    for _ in 0..each {
                        let served = served.clone();
                        let call = async move || served.fetch_add(1, Ordering::Relaxed);
                        let task = handle.spawn(call);
                        match random.below(64) {
                            // Now and then the runtime goes idle in between.
                            0 => drop(task.wait().expect("it was served")),
                            _ => task.detach(),
                        }
                    }
                })
            })
            .collect();
        let last = runtime.handle();
        let end = thread::spawn(move || {
            for thread in threads {
                thread.join().expect("nothing panics there");
            }
            last.spawn(async || {}).wait().expect("it was served");
            last.stop();
        });
        runtime.run_forever();
        end.join().expect("nothing panics there");
        assert_eq!(served.load(Ordering::Relaxed), 4 * each);
        format!("{} calls from 4 threads, each served once", 4 * each)
    }
}
