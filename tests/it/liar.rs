//! A workload on a reactor that lies: see `src/reactor/liar.rs`.
//!
//!     RUSTFLAGS="--cfg soloist_liar" cargo test --release --test it --target-dir target/liar -- liar
//!
//! `SOLOIST_LIES=from..to` says which seeds; 1..=10,000 if nothing is said, 300 in a debug
//! build.

use std::io::{self, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use fastrand::Rng;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future};
use soloist::liar;
use soloist::net::unix::UnixStream;
use soloist::net::{TcpListener, TcpStream};
use soloist::promise::promise;
use soloist::time::{sleep_until, timeout};

use crate::support::*;

const SIZE: usize = 12_000;

fn seeds() -> Range<u64> {
    let all = if cfg!(debug_assertions) { 300 } else { 10_000 };
    let Ok(text) = std::env::var("SOLOIST_LIES") else {
        return 1..all + 1;
    };
    let ends = text.split_once("..").map(|(a, b)| (a.parse(), b.parse()));
    match ends {
        Some((Ok(from), Ok(to))) => from..to,
        _ => panic!("SOLOIST_LIES is {text:?}, and should be as 1..1001"),
    }
}

#[test]
fn nothing_is_lost_on_a_reactor_that_lies() {
    let name = "liar::nothing_is_lost_on_a_reactor_that_lies";
    // Alone in its process, so that fds can be counted.
    let told = passes_in_child(name, || {
        // What a foreign thread's wake panics with when its notification fails.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.to_string().contains("a lie: ") {
                hook(info);
            }
        }));
        let fds = open_fds();
        let seeds = seeds();
        let (count, next) = (seeds.end - seeds.start, AtomicU64::new(seeds.start));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            break;
                        }
                        run(seed);
                    }
                });
            }
        });
        assert_eq!(open_fds(), fds, "file descriptors are left open");
        let told = liar::lies();
        // How many notifications there are hangs on how busy the machine is.
        if count >= 1000 {
            assert!(
                told.iter().all(|&count| count > 0),
                "a kind of lie was never told: {told:?}"
            );
        }
        eprintln!("{count} seeds; lies of each kind: {told:?}");
    });
    eprint!("{told}");
}

/// One seed, on a thread of its own: its reactor is new.
fn run(seed: u64) {
    let waits_may_fail = seed % 3 == 0;
    let thread = thread::spawn(move || {
        liar::lie(seed, waits_may_fail);
        let live = Rc::new(Cell::new(0));
        let runtime = Runtime::new();
        let main = workload(Rc::new(Load {
            random: RefCell::new(Rng::with_seed(seed)),
            live: live.clone(),
        }));
        if waits_may_fail {
            let task = runtime.spawn(main);
            while !task.is_finished() {
                // The turn returns the error, and the next one continues.
                if let Err(error) = runtime.turn(None) {
                    assert!(error.to_string().contains("a lie: "), "{error}");
                }
            }
        } else {
            runtime.block_on(main);
        }
        assert_ne!(live.get(), 0, "some still wait");
        drop(runtime);
        assert_eq!(live.get(), 0, "tasks are left");
        assert_eq!(liar::slots(), 0, "sources are left in the reactor");
    });
    let start = Instant::now();
    while !thread.is_finished() {
        if start.elapsed() > 60 * patience() * SECOND {
            let _ = writeln!(io::stderr(), "seed {seed} hangs");
            std::process::abort();
        }
        // The machine may have better things to do than to look.
        thread::park_timeout(Duration::from_micros(200));
    }
    if thread.join().is_err() {
        let _ = writeln!(io::stderr(), "seed {seed} has failed");
        std::process::abort();
    }
}

struct Load {
    random: RefCell<Rng>,
    /// The number of futures that have not been dropped.
    live: Rc<Cell<usize>>,
}

impl Load {
    fn below(&self, limit: usize) -> usize {
        self.random.borrow_mut().u64(..limit as u64) as usize
    }

    fn micros(&self, limit: usize) -> Duration {
        Duration::from_micros(self.below(limit) as u64)
    }

    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let live = self.live.clone();
        live.set(live.get() + 1);
        let gone = OnDrop(move || live.set(live.get() - 1));
        spawn(async move {
            let _gone = gone;
            future.await
        })
    }

    /// Tries again what has failed with a lie; other errors are the caller's.
    async fn insist<T>(&self, mut f: impl AsyncFnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match f().await {
                Err(error) if error.to_string().contains("a lie: ") => yield_now().await,
                result => return result,
            }
        }
    }

    /// Reads, or waits and tries.
    async fn read<S: Stream>(&self, stream: &mut S, buf: &mut [u8]) -> io::Result<usize> {
        if self.below(2) == 0 {
            return self.insist(async || stream.read(buf).await).await;
        }
        loop {
            self.insist(async || stream.readable().await).await?;
            match stream.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Writes, or waits and tries.
    async fn write<S: Stream>(&self, stream: &mut S, buf: &[u8]) -> io::Result<usize> {
        if self.below(2) == 0 {
            return self.insist(async || stream.write(buf).await).await;
        }
        loop {
            self.insist(async || stream.writable().await).await?;
            match stream.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

/// What both kinds of streams have in common.
trait Stream: AsyncRead + AsyncWrite + Clone + Unpin + 'static {
    async fn readable(&self) -> io::Result<()>;
    async fn writable(&self) -> io::Result<()>;
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn try_write(&self, buf: &[u8]) -> io::Result<usize>;
}

macro_rules! impl_stream {
    ($($type:ty),*) => {$(
        impl Stream for $type {
            async fn readable(&self) -> io::Result<()> {
                self.readable().await
            }
            async fn writable(&self) -> io::Result<()> {
                self.writable().await
            }
            fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.try_read(buf)
            }
            fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                self.try_write(buf)
            }
        }
    )*};
}

impl_stream!(TcpStream, UnixStream);

fn pattern(which: usize, at: usize) -> u8 {
    ((at * 31 + which * 101) ^ (at >> 8)) as u8
}

async fn workload(load: Rc<Load>) {
    let mut clients = Vec::new();
    // Connections that live to the end.
    load.spawn(pending::<()>()).detach();
    for which in 0..2 {
        let listener = load.insist(async || TcpListener::bind("127.0.0.1:0").await);
        let listener = listener.await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = load.clone();
        let echoes = async move {
            // A connection that failed with a lie is there, too.
            loop {
                let (stream, _) = server
                    .insist(async || listener.accept().await)
                    .await
                    .unwrap();
                let echo = echo(server.clone(), stream);
                server.spawn(echo).detach();
            }
        };
        load.spawn(echoes).detach();
        let client = load.clone();
        clients.push(load.spawn(async move {
            let connect = client.insist(async || TcpStream::connect(address).await);
            let stream = connect.await.unwrap();
            let end = stream.clone();
            talk(client, which, stream.clone(), stream, move || {
                end.shutdown(Shutdown::Write).unwrap()
            })
            .await;
        }));
    }
    for which in 2..4 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for end in [&ours, &theirs] {
            socket2::SockRef::from(end)
                .set_send_buffer_size(2048)
                .unwrap();
        }
        load.spawn(echo(load.clone(), theirs)).detach();
        let end = ours.clone();
        clients.push(
            load.spawn(talk(load.clone(), which, ours.clone(), ours, move || {
                end.shutdown(Shutdown::Write).unwrap()
            })),
        );
    }
    for _ in 0..2 {
        clients.push(load.spawn(churn(load.clone())));
    }
    clients.push(load.spawn(timers(load.clone())));
    clients.push(load.spawn(calls_from_elsewhere(load.clone())));
    for client in clients {
        client.await;
    }
}

/// Sends back what comes, until the end of the stream.
async fn echo(load: Rc<Load>, stream: impl Stream) {
    let (mut reader, mut writer) = (stream.clone(), stream);
    let mut buf = [0; 1024];
    loop {
        let room = 1 + load.below(buf.len());
        let read = load.read(&mut reader, &mut buf[..room]);
        // A client that has failed with a lie is gone by a reset, perhaps.
        let Ok(n @ 1..) = read.await else { return };
        let mut sent = 0;
        while sent < n {
            let write = load.write(&mut writer, &buf[sent..n]);
            let Ok(n) = write.await else { return };
            sent += n;
        }
    }
}

/// Sends the pattern, and checks that it comes back; gives up and comes back itself.
async fn talk<S: Stream>(
    load: Rc<Load>,
    which: usize,
    mut reader: S,
    mut writer: S,
    end: impl FnOnce(),
) {
    let send = async {
        let mut at = 0;
        while at < SIZE {
            let len = (1 + load.below(3000)).min(SIZE - at);
            let chunk: Vec<u8> = (at..at + len).map(|at| pattern(which, at)).collect();
            let patience = load.micros(300);
            let write = load.write(&mut writer, &chunk);
            // Cancelled, it has written nothing.
            if let Ok(n) = timeout(patience, write).await {
                at += n.unwrap();
            }
            match load.below(8) {
                0 => sleep(load.micros(100)).await,
                1 => yield_now().await,
                _ => {}
            }
        }
        end();
    };
    let receive = async {
        let mut at = 0;
        let mut buf = [0; 2048];
        loop {
            let room = 1 + load.below(buf.len());
            let patience = load.micros(500);
            let read = load.read(&mut reader, &mut buf[..room]);
            let Ok(n) = timeout(patience, read).await else {
                continue;
            };
            let n = n.unwrap();
            if n == 0 {
                break;
            }
            for &byte in &buf[..n] {
                assert_eq!(byte, pattern(which, at), "byte {at} of {which}");
                at += 1;
            }
        }
        assert_eq!(at, SIZE, "the stream ends early");
    };
    future::zip(send, receive).await;
}

/// Sources that are created and dropped, with tasks that wait for them and are cancelled: their
/// slots are reused soon.
async fn churn(load: Rc<Load>) {
    for _ in 0..12 {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut reader = ours.clone();
        let inner = load.clone();
        let task = load.spawn(async move {
            let mut buf = [0; 8];
            let read = inner.insist(async || reader.read(&mut buf).await);
            read.await.unwrap();
            buf[0]
        });
        let mut writing = ours;
        match load.below(4) {
            0 => {
                sleep(load.micros(60)).await;
                drop(task);
            }
            1 => {
                yield_now().await;
                assert_eq!(task.cancel().await, None);
            }
            2 => {
                let write = load.insist(async || theirs.write(&[7]).await);
                assert_eq!(write.await.unwrap(), 1);
                assert_eq!(task.await, 7);
            }
            _ => {
                // The other way, and the end of a stream.
                let write = load.insist(async || writing.write(&[9]).await);
                assert_eq!(write.await.unwrap(), 1);
                let mut buf = [0];
                let read = load.insist(async || theirs.read(&mut buf).await);
                assert_eq!(read.await.unwrap(), 1);
                assert_eq!(buf, [9]);
                drop(theirs);
                assert_eq!(task.await, 0);
            }
        }
    }
}

async fn timers(load: Rc<Load>) {
    for _ in 0..12 {
        let deadline = Instant::now() + load.micros(400);
        let mut sleep = Box::pin(sleep_until(deadline));
        if load.below(2) == 0 {
            let other = load.micros(200);
            assert!(timeout(other, pending::<()>()).await.is_err());
            let later = Instant::now() + load.micros(200);
            sleep.reset(later);
        }
        let deadline = sleep.deadline();
        sleep.await;
        assert!(Instant::now() >= deadline, "a sleep that ends early");
    }
}

/// Another thread spawns tasks, and sets a promise. A notification that fails panics on that
/// thread: the message is in the inbox, and is read with the next one.
async fn calls_from_elsewhere(load: Rc<Load>) {
    let handle = Handle::current();
    let calls = Arc::new(AtomicU64::new(0));
    let (set, promised) = promise();
    let (count, pauses): (_, Vec<_>) = (calls.clone(), (0..8).map(|_| load.micros(150)).collect());
    let thread = thread::spawn(move || {
        let insist = |f: &mut dyn FnMut()| {
            let mut panicked = catch_unwind(AssertUnwindSafe(f)).is_err();
            while panicked {
                let knock = || handle.spawn(async || {}).detach();
                panicked = catch_unwind(AssertUnwindSafe(knock)).is_err();
            }
        };
        for pause in pauses {
            thread::sleep(pause);
            let count = count.clone();
            let mut call = Some(async move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            insist(&mut || handle.spawn(call.take().unwrap()).detach());
        }
        let mut set = Some(set);
        insist(&mut || set.take().unwrap().set(42).unwrap());
    });
    assert_eq!(promised.await.unwrap(), 42);
    while calls.load(Ordering::Relaxed) < 8 {
        sleep(Duration::from_micros(20)).await;
    }
    while !thread.is_finished() {
        sleep(Duration::from_micros(20)).await;
    }
    thread.join().unwrap();
}
