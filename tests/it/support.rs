//! What the tests share: the watchdog, futures and wakers that record what happens to them, and
//! measurements.

#![allow(dead_code, unused_imports)]

use std::fmt::Debug;
use std::io::Write;
use std::net::UdpSocket;
use std::task::Wake;
use std::thread::ThreadId;

use futures_lite::FutureExt;
use soloist::io::Async;
use soloist::runtime::Turn;
use soloist::time::timeout;

/// What most tests use: they import all of this module.
pub(crate) use std::cell::{Cell, RefCell};
pub(crate) use std::future::{Future, pending, poll_fn};
pub(crate) use std::panic::{AssertUnwindSafe, catch_unwind};
pub(crate) use std::pin::Pin;
pub(crate) use std::rc::Rc;
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Mutex, mpsc};
pub(crate) use std::task::{Context, Poll, Waker};
pub(crate) use std::thread;
pub(crate) use std::time::{Duration, Instant};

pub(crate) use soloist::task::yield_now;
pub(crate) use soloist::time::sleep;
pub(crate) use soloist::{Handle, Runtime, Task, block_on, spawn};

/// Runs a test on a thread of its own, so that every runtime and reactor in it is new,
/// and ends the whole process if it hangs.
#[track_caller]
pub(crate) fn watchdog<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    *watch(boxed(test)).downcast().expect("its type")
}

type Any = Box<dyn std::any::Any + Send>;
type Boxed = Box<dyn FnOnce() -> Any + Send>;

/// As one type for all closures, since a copy of [`thread::spawn`] for each takes long to compile.
fn boxed<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> Boxed {
    Box::new(|| Box::new(f()))
}

fn watch(test: Boxed) -> Any {
    let (done, wait) = mpsc::channel();
    let name = thread::current().name().unwrap_or("test").to_string();
    let thread = thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let result = test();
            let _ = done.send(());
            result
        })
        .expect("a thread for the test");
    let patience = 60 * patience();
    if let Err(mpsc::RecvTimeoutError::Timeout) = wait.recv_timeout(patience * SECOND) {
        // Not `eprintln`: its output is captured, and lost with the process.
        let _ = writeln!(std::io::stderr(), "the test `{name}` hangs");
        std::process::abort();
    }
    match thread.join() {
        Ok(result) => result,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// As [`watchdog`], for a test that is the future of a [`soloist::block_on`].
#[track_caller]
pub(crate) fn async_test<R: Send + 'static>(test: impl AsyncFnOnce() -> R + Send + 'static) -> R {
    watchdog(|| {
        // As a trait object, since a copy of `block_on` for each takes long to compile.
        let test: Pin<Box<dyn Future<Output = R>>> = Box::pin(async { test().await });
        soloist::block_on(test)
    })
}

/// As [`watchdog`], for a test of a runtime.
#[track_caller]
pub(crate) fn runtime_test<R: Send + 'static>(
    test: impl FnOnce(Runtime) -> R + Send + 'static,
) -> R {
    watchdog(|| test(Runtime::new()))
}

/// Runs a test twice: on a thread that waits in its parker, and on one that waits in its reactor,
/// because it has had a socket.
pub(crate) fn with_both_waits(test: impl Fn() + Send + Clone + 'static) {
    watchdog(test.clone());
    watchdog(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        soloist::block_on(async { drop(Async::new(socket).unwrap()) });
        test();
    });
}

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The factor by which the tests are slower than usual, under a sanitizer or valgrind.
pub(crate) fn patience() -> u32 {
    let text = std::env::var("SOLOIST_TEST_PATIENCE");
    text.map_or(1, |text| text.parse().expect("a number"))
}

/// Runs `test` in a child process, and returns its exit status and its standard error.
/// `name` is the path of the calling test, as `cargo test` prints it.
/// In the child, `test` is called and the process exits with 0 after it.
pub(crate) fn in_child(name: &str, test: impl FnOnce()) -> Option<std::process::Output> {
    if std::env::var("SOLOIST_TEST_CHILD").as_deref() == Ok(name) {
        test();
        std::process::exit(0);
    }
    let child = std::process::Command::new(std::env::current_exe().expect("the test binary"))
        .args([name, "--exact", "--nocapture", "--include-ignored"])
        .env("SOLOIST_TEST_CHILD", name)
        // A backtrace of a panic that is expected takes longer than the test.
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("a child process");
    Some(child)
}

/// What a [`Probe`] has recorded.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) polls: Cell<usize>,
    pub(crate) drops: Cell<usize>,
    pub(crate) dropped_on: Cell<Option<ThreadId>>,
    /// The waker of the last poll.
    pub(crate) waker: RefCell<Option<Waker>>,
    /// Whether the next poll returns `Ready`.
    pub(crate) ready: Cell<bool>,
}

impl Seen {
    pub(crate) fn new() -> Rc<Seen> {
        Rc::new(Seen::default())
    }

    /// A future that records here.
    pub(crate) fn probe(self: &Rc<Self>) -> Probe {
        Probe { seen: self.clone() }
    }

    /// The numbers of polls and drops.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.polls.get(), self.drops.get())
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.borrow().clone().expect("it has been polled")
    }

    /// Makes the probe ready, and wakes it.
    pub(crate) fn finish(&self) {
        self.ready.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A future that records its polls, its waker, its drop and the thread of its drop.
pub(crate) struct Probe {
    seen: Rc<Seen>,
}

impl Future for Probe {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.seen.polls.set(self.seen.polls.get() + 1);
        let old = self.seen.waker.replace(Some(cx.waker().clone()));
        drop(old);
        if self.seen.ready.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.seen.drops.set(self.seen.drops.get() + 1);
        self.seen.dropped_on.set(Some(thread::current().id()));
    }
}

/// Calls a closure when it is dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A log of events.
pub(crate) struct Log<T: 'static>(&'static RefCell<Vec<T>>);

impl<T> Log<T> {
    pub(crate) fn new() -> Log<T> {
        Log(leak(RefCell::default()))
    }

    pub(crate) fn push(&self, entry: T) {
        self.0.borrow_mut().push(entry);
    }

    pub(crate) fn take(&self) -> Vec<T> {
        self.0.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Checks the entries since the last check.
    #[track_caller]
    pub(crate) fn assert<U: Debug>(&self, expected: &[U])
    where
        T: Debug + PartialEq<U>,
    {
        assert_eq!(self.take(), expected);
    }

    /// A guard that logs `entry` when it is dropped.
    pub(crate) fn on_drop(self, entry: T) -> OnDrop<impl FnMut() + use<T>> {
        let (log, mut entry) = (self, Some(entry));
        OnDrop(move || log.0.borrow_mut().extend(entry.take()))
    }
}

impl<T> Copy for Log<T> {}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Log<T> {
        *self
    }
}

/// A waker that counts its wakes.
#[derive(Default)]
pub(crate) struct CountWakes(pub(crate) AtomicUsize);

impl CountWakes {
    pub(crate) fn new() -> (Arc<CountWakes>, Waker) {
        let count = Arc::new(CountWakes::default());
        let waker = Waker::from(count.clone());
        (count, waker)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that calls a closure when it is woken.
pub(crate) struct CallOnWake<F: Fn() + Send + Sync + 'static>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for CallOnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

pub(crate) fn waker_fn(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(CallOnWake(f)))
}

/// A future that calls `first` with its waker in its first poll, and is ready at the second.
pub(crate) fn pending_once(first: impl FnOnce(&Waker)) -> impl Future<Output = ()> {
    let mut first = Some(first);
    poll_fn(move |cx| match first.take() {
        Some(first) => {
            first(cx.waker());
            Poll::Pending
        }
        None => Poll::Ready(()),
    })
}

/// Counts the polls of a future.
pub(crate) async fn count_polls<F: Future>(counter: &Cell<usize>, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        counter.set(counter.get() + 1);
        future.as_mut().poll(cx)
    })
    .await
}

/// Polls a future once with `waker`.
pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Awaits a future that must be done within 20 s.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    let result = timeout(20 * SECOND, future).await;
    result.unwrap_or_else(|_| panic!("still pending after 20 s"))
}

/// Checks that a future is still pending after 5 ms.
pub(crate) async fn fails_soon<F: Future>(future: F) {
    assert!(timeout(5 * MS, future).await.is_err(), "it is done");
}

/// Polls a future once, which must be pending, and drops it.
pub(crate) async fn assert_pending<F: Future>(future: F) {
    assert!(
        poll_once(&mut Box::pin(future)).await.is_pending(),
        "it is done"
    );
}

/// A `sleep` that is created inside the runtime, at its first poll.
pub(crate) async fn sleep_for(duration: Duration) {
    sleep(duration).await;
}

/// A future that is never done, and holds `guard`.
pub(crate) async fn hold<G>(_guard: G) {
    pending::<()>().await;
}

/// Spawns a task without a handle.
#[track_caller]
pub(crate) fn spawn_detached(runtime: &Runtime, future: impl Future<Output: 'static> + 'static) {
    runtime.spawn(future).detach();
}

/// Makes a turn without waiting.
#[track_caller]
pub(crate) fn turn(runtime: &Runtime) -> Turn {
    runtime.turn(Some(Duration::ZERO)).unwrap()
}

/// Makes so many turns without waiting.
pub(crate) fn turns(runtime: &Runtime, count: usize) {
    for _ in 0..count {
        turn(runtime);
    }
}

/// Yields so many times.
pub(crate) async fn yields(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Yields for ever, and counts its polls.
pub(crate) async fn count_yields(polls: &Cell<usize>) {
    loop {
        polls.set(polls.get() + 1);
        yield_now().await;
    }
}

/// Awaits the tasks one after the other.
pub(crate) async fn join_all(tasks: impl IntoIterator<Item = impl Future>) {
    for task in tasks {
        task.await;
    }
}

/// Makes turns without waiting, until no task is ready.
#[track_caller]
pub(crate) fn run_until_idle(runtime: &Runtime) {
    while turn(runtime).polled > 0 {}
}

/// Polls a future once with the waker of the task that calls this.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// The number of open file descriptors of this process. Other tests open some at the same time:
/// exact counts need a child process ([`in_child`]).
#[cfg(target_os = "linux")]
pub(crate) fn open_fds() -> usize {
    // One of them is that of the directory itself.
    std::fs::read_dir("/proc/self/fd").expect("/proc").count() - 1
}

/// The CPU time of this thread, user and system.
#[cfg(target_os = "linux")]
pub(crate) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The CPU time of this thread, user and system.
#[cfg(windows)]
pub(crate) fn thread_cpu_time() -> Duration {
    cpu_time::ThreadTime::now().as_duration()
}

/// The message of a panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a payload that is no text".to_string())
}

/// Calls `f`, which must panic, and returns the message.
#[track_caller]
pub(crate) fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match std::panic::catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => panic_text(&*payload),
    }
}

/// As [`panic_of`], for a future.
pub(crate) async fn panic_of_async<F: Future>(future: F) -> String {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => panic_text(&*payload),
    }
}

/// Runs `test` as [`in_child`] does, checks that it succeeds, and returns its
/// standard error.
#[track_caller]
pub(crate) fn passes_in_child(name: &str, test: impl FnOnce()) -> String {
    const DONE: &str = "the child is done";
    let child = in_child(name, || {
        test();
        eprintln!("{DONE}");
    });
    let child = child.expect("the child exits");
    let stderr = String::from_utf8_lossy(&child.stderr).into_owned();
    assert!(
        child.status.success() && stderr.contains(DONE),
        "{}: {}\n{stderr}",
        child.status,
        String::from_utf8_lossy(&child.stdout)
    );
    stderr
}

/// As [`passes_in_child`], under a [`watchdog`], for a closure that is written in the test itself.
#[track_caller]
pub(crate) fn in_own_process<F: FnOnce() + Send + 'static>(test: F) -> String {
    passes_in_child(test_name::<F>(), || watchdog(test))
}

/// As [`in_own_process`], for a test that is the future of a [`soloist::block_on`].
#[track_caller]
pub(crate) fn async_in_own_process<F: AsyncFnOnce() + Send + 'static>(test: F) -> String {
    passes_in_child(test_name::<F>(), || async_test(test))
}

/// The path of the test in which a closure, or an `async` block, is written.
pub(crate) fn test_name<F>() -> &'static str {
    // `it::area::name_of_the_test::{{closure}}`
    let path = std::any::type_name::<F>();
    let (path, _) = path.split_once("::{{closure}}").expect("a closure");
    path.split_once("::").expect("a test of a crate").1
}

/// The number of times that this thread has slept in the kernel.
#[cfg(target_os = "linux")]
pub(crate) fn kernel_waits() -> usize {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("/proc");
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    let count = count.expect("the count").trim();
    count.parse().expect("a number")
}

/// Sleeps for `time`, and checks that the thread is idle meanwhile.
pub(crate) async fn assert_idle(time: Duration) {
    #[cfg(any(target_os = "linux", windows))]
    let before = thread_cpu_time();
    sleep(time).await;
    #[cfg(any(target_os = "linux", windows))]
    {
        let used = thread_cpu_time() - before;
        // Windows counts in steps of 16 ms.
        let step = Duration::from_millis(if cfg!(windows) { 16 } else { 0 });
        assert!(used < time / 10 + step, "{used:?} of CPU time in {time:?}");
    }
}

/// Keeps the thread busy.
pub(crate) fn compute_for(time: Duration) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Both ends of a TCP connection.
pub(crate) fn tcp_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let client = std::net::TcpStream::connect(address).expect("a connection");
    let (server, from) = listener.accept().expect("the other end");
    assert_eq!(from, client.local_addr().expect("its address"));
    (client, server)
}

/// An address that refuses connections: a socket is bound to it, and does not listen.
pub(crate) fn refusing() -> (socket2::Socket, std::net::SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Runs `f` on another thread, and waits for its end.
#[track_caller]
pub(crate) fn elsewhere<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let result = thread::spawn(boxed(f)).join();
    let result = result.expect("no panic on the other thread");
    *result.downcast().expect("its type")
}

/// Runs `f` on another thread. The returned future is done when `f` is.
pub(crate) fn on_thread<R: Send + 'static>(
    f: impl FnOnce() -> R + Send + 'static,
) -> impl Future<Output = R> {
    struct Shared<R> {
        result: Option<thread::Result<R>>,
        waker: Option<Waker>,
    }
    let shared = Arc::new(Mutex::new(Shared {
        result: None,
        waker: None,
    }));
    let there = shared.clone();
    thread::spawn(move || {
        let result = std::panic::catch_unwind(AssertUnwindSafe(f));
        let waker = {
            let mut shared = there.lock().unwrap();
            shared.result = Some(result);
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    poll_fn(move |cx| {
        let mut shared = shared.lock().unwrap();
        match shared.result.take() {
            Some(Ok(result)) => Poll::Ready(result),
            Some(Err(payload)) => std::panic::resume_unwind(payload),
            None => {
                shared.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
}

/// As `Box::leak`: a test can use the reference anywhere, without clones. LeakSanitizer sees that
/// it is on purpose.
pub(crate) fn leak<T>(value: T) -> &'static T {
    let leaked = Box::leak(Box::new(value));
    forget(&raw const *leaked as usize);
    leaked
}

/// As `mem::forget`. LeakSanitizer finds the address, and does not report it.
pub(crate) fn forget<T>(value: T) {
    static FORGOTTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let place = Box::into_raw(Box::new(value));
    FORGOTTEN.lock().unwrap().push(place as usize);
}

/// Sends warnings to standard error from now on, also with the feature `log`. For child processes.
pub(crate) fn show_warnings() {
    #[cfg(feature = "log")]
    {
        static LOGGER: Logger = Logger;
        log::set_logger(&LOGGER).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// The warnings in the standard error of such a child.
pub(crate) fn warnings(stderr: &str) -> Vec<String> {
    let lines = stderr.lines().filter_map(|line| {
        if cfg!(feature = "log") {
            line.strip_prefix("logged WARN soloist: ")
        } else {
            line.strip_prefix("soloist: ")
        }
    });
    lines.map(str::to_string).collect()
}

#[cfg(feature = "log")]
struct Logger;

#[cfg(feature = "log")]
impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!(
            "logged {} {}: {}",
            record.level(),
            record.target(),
            record.args()
        );
    }

    fn flush(&self) {}
}
