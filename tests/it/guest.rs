//! Guest mode: the fd is readable when the runtime has something to do, and only then.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use fastrand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use soloist::io::{Async, AsyncReadExt, AsyncWriteExt};
use soloist::time::{sleep_until, timeout};

use crate::support::*;
use crate::sys;

const ZERO: Option<Duration> = Some(Duration::ZERO);
/// Whether a timer makes the fd readable on this system.
const TIMERS: bool = cfg!(all(target_os = "linux", not(soloist_portable)));

/// Waits until the fd is readable, at most for `wait`. Returns whether it is.
fn wait_readable(runtime: &Runtime, wait: Option<Duration>) -> bool {
    let fd = runtime.poll_fd().unwrap();
    let wait = wait.map(|wait| Timespec::try_from(wait).unwrap());
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, wait.as_ref()).unwrap() == 1
}

fn is_readable(runtime: &Runtime) -> bool {
    wait_readable(runtime, ZERO)
}

/// Waits until the fd is readable; the watchdog knows how long that may take.
fn until_readable(runtime: &Runtime) {
    assert!(wait_readable(runtime, None));
}

/// Makes turns until the fd is not readable. Returns how many there were.
#[track_caller]
fn settle(runtime: &Runtime) -> usize {
    let mut turns = 0;
    while is_readable(runtime) {
        runtime.turn(ZERO).unwrap();
        turns += 1;
        assert!(turns < 20, "it is readable for ever");
    }
    turns
}

/// An idle guest, and a probe in it that has been polled once.
fn guest() -> (Runtime, Rc<Seen>) {
    let runtime = Runtime::new();
    let seen = Seen::new();
    runtime.spawn(seen.probe()).detach();
    runtime.poll_fd().unwrap();
    settle(&runtime);
    assert_eq!(seen.polls.get(), 1);
    (runtime, seen)
}

fn with_guest(test: impl FnOnce(Runtime, Rc<Seen>) + Send + 'static) {
    watchdog(|| {
        let (runtime, seen) = guest();
        test(runtime, seen);
    });
}

/// The loop of a host that does nothing else, until `done`. Returns the number of turns.
fn host(runtime: &Runtime, mut done: impl FnMut() -> bool) -> usize {
    let mut turns = 0;
    while !done() {
        let deadline = runtime.next_deadline().filter(|_| !TIMERS);
        let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let readable = wait_readable(runtime, wait);
        let due = deadline.is_some_and(|at| at <= Instant::now());
        // poll(2) never waits for less than it was told.
        assert!(readable || due || wait.is_some());
        runtime.turn(ZERO).unwrap();
        turns += 1;
    }
    turns
}

#[test]
fn the_fd_is_not_readable_without_work() {
    runtime_test(|runtime| {
        assert!(!is_readable(&runtime));
        for _ in 0..10 {
            let turn = runtime.turn(ZERO).unwrap();
            assert_eq!((turn.polled, turn.ready), (0, 0));
            assert!(!is_readable(&runtime));
        }
        // The same with a task that waits forever.
        let (runtime, seen) = {
            drop(runtime);
            guest()
        };
        for _ in 0..10 {
            runtime.turn(ZERO).unwrap();
            assert!(!is_readable(&runtime));
        }
        assert_eq!(seen.polls.get(), 1);
    });
}

#[test]
fn tasks_spawned_before_the_fd_was_created_make_it_readable() {
    runtime_test(|runtime| {
        let task = runtime.spawn(async { 1 });
        until_readable(&runtime);
        runtime.turn(ZERO).unwrap();
        assert!(task.is_finished());
        settle(&runtime);
    });
}

#[test]
fn b103_a_wake_between_turns_makes_the_fd_readable() {
    with_guest(|runtime, seen| {
        for n in 2..200 {
            assert!(!is_readable(&runtime));
            let waker = seen.waker();
            if n % 2 == 0 {
                let thread = thread::spawn(move || waker.wake());
                until_readable(&runtime);
                thread.join().unwrap();
            } else {
                waker.wake_by_ref();
                waker.wake();
                assert!(is_readable(&runtime));
            }
            assert_eq!(runtime.turn(ZERO).unwrap().polled, 1);
            assert_eq!(seen.polls.get(), n);
            assert!(settle(&runtime) <= 1);
        }
    });
}

#[test]
fn b103_a_timer_that_is_due_makes_the_fd_readable() {
    with_guest(|runtime, _| {
        for wait in [0, 1, 300, 1000, 1500, 20_000].map(Duration::from_micros) {
            let deadline = Instant::now() + wait;
            let task = runtime.spawn(async move { sleep_until(deadline).await });
            let turns = host(&runtime, || task.is_finished());
            assert!(Instant::now() >= deadline);
            // One to poll it, one to find it due, one to poll it again, and spurious ones.
            if TIMERS {
                assert!(turns <= 5, "{wait:?}: {turns}");
            }
            settle(&runtime);
            assert_eq!(runtime.next_deadline(), None);
        }
    });
}

#[test]
fn b103_the_fd_is_not_readable_before_the_timer_is_due() {
    with_guest(|runtime, _| {
        let far = Instant::now() + 1000 * SECOND;
        let task = runtime.spawn(async move { sleep_until(far).await });
        settle(&runtime);
        assert_eq!(runtime.next_deadline(), Some(far));
        assert!(!wait_readable(&runtime, Some(20 * MS)));
        // A nearer timer replaces it until it has fired.
        let near = runtime.spawn(async { sleep(5 * MS).await });
        host(&runtime, || near.is_finished());
        settle(&runtime);
        assert_eq!(runtime.next_deadline(), Some(far));
        assert!(!wait_readable(&runtime, Some(20 * MS)));
        drop(task);
    });
}

#[test]
fn a_timer_that_is_dropped_between_turns_is_forgotten() {
    with_guest(|runtime, _| {
        let task = runtime.spawn(async { sleep(5 * MS).await });
        settle(&runtime);
        drop(task);
        // Outside of its runtime it cannot reach the timers: it sends a message.
        assert!(is_readable(&runtime));
        assert!(settle(&runtime) <= 2);
        assert_eq!(runtime.next_deadline(), None);
        assert!(!wait_readable(&runtime, Some(30 * MS)));
    });
}

#[test]
fn a_timer_that_is_reset_between_turns_fires_at_the_new_time() {
    with_guest(|runtime, _| {
        let timer = leak(RefCell::new(None));
        let task = runtime.spawn(poll_fn(move |cx| {
            let mut timer = timer.borrow_mut();
            let timer = timer.get_or_insert_with(|| sleep(1000 * SECOND));
            Pin::new(timer).poll(cx)
        }));
        settle(&runtime);
        assert!(runtime.next_deadline().is_some());
        timer
            .borrow_mut()
            .as_mut()
            .unwrap()
            .reset(Instant::now() + 2 * MS);
        host(&runtime, || task.is_finished());
        settle(&runtime);
    });
}

#[test]
fn b103_tasks_left_ready_keep_the_fd_readable() {
    with_guest(|runtime, _| {
        let polls = leak(Cell::new(0));
        let task = runtime.spawn(async move {
            for _ in 0..300 {
                polls.set(polls.get() + 1);
                yield_now().await;
            }
        });
        for n in 1..=300 {
            assert!(is_readable(&runtime), "{n}");
            let turn = runtime.turn(ZERO).unwrap();
            assert_eq!((turn.polled, turn.ready, polls.get()), (1, 1, n));
        }
        assert!(is_readable(&runtime));
        assert_eq!(runtime.turn(ZERO).unwrap().polled, 1);
        assert!(task.is_finished());
        assert!(settle(&runtime) <= 1);
    });
}

#[test]
fn b103_a_spawn_between_turns_makes_the_fd_readable() {
    with_guest(|runtime, _| {
        for n in 0..50 {
            assert!(!is_readable(&runtime));
            let task = runtime.spawn(async move { n });
            assert!(is_readable(&runtime));
            runtime.turn(ZERO).unwrap();
            assert!(task.is_finished());
            assert_eq!(runtime.block_on(task), n);
            settle(&runtime);
        }
        // Through the handle, from this thread and from another.
        let handle = runtime.handle();
        let task = handle.spawn(|| async { 1 });
        assert!(is_readable(&runtime));
        runtime.turn(ZERO).unwrap();
        assert_eq!(block_on(task).unwrap(), 1);
        settle(&runtime);
        let thread = thread::spawn(move || handle.spawn(|| async { 2 }).wait().unwrap());
        let mut turns = 0;
        while !thread.is_finished() {
            turns += usize::from(wait_readable(&runtime, Some(10 * MS)));
            runtime.turn(ZERO).unwrap();
        }
        assert_eq!(thread.join().unwrap(), 2);
        assert!(turns >= 1);
        settle(&runtime);
    });
}

#[test]
fn b103_a_ready_socket_makes_the_fd_readable() {
    with_guest(|runtime, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let read = leak(Cell::new(0));
        let task = runtime.spawn(async move {
            let mut ours = Async::new(ours).unwrap();
            let mut buf = [0; 4];
            loop {
                match ours.read(&mut buf).await.unwrap() {
                    0 => break,
                    n => read.set(read.get() + n),
                }
            }
        });
        settle(&runtime);
        for round in 1..=20 {
            assert!(!is_readable(&runtime));
            theirs.write_all(&[7; 10]).unwrap();
            assert!(is_readable(&runtime));
            assert!(settle(&runtime) < 10);
            assert_eq!(read.get(), 10 * round);
        }
        drop(theirs);
        until_readable(&runtime);
        settle(&runtime);
        assert!(task.is_finished());
    });
}

#[test]
fn a_ready_socket_that_is_not_read_does_not_keep_the_fd_readable() {
    with_guest(|runtime, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = runtime.block_on(async { Rc::new(Async::new(ours).unwrap()) });
        let inner = ours.clone();
        let task = runtime.spawn(async move { inner.readable().await });
        settle(&runtime);
        theirs.write_all(&[7; 10]).unwrap();
        until_readable(&runtime);
        assert!(settle(&runtime) < 10);
        assert!(task.is_finished());
        // The bytes are still unread, and more arrive; then the peer closes.
        for _ in 0..3 {
            theirs.write_all(b"x").unwrap();
            assert!(settle(&runtime) < 3);
        }
        drop(theirs);
        assert!(settle(&runtime) < 5);
        assert!(!wait_readable(&runtime, Some(10 * MS)));
        // A read now returns all of it.
        let mut bytes = Vec::new();
        let task = runtime.spawn(async move {
            { ours.get_ref() }
                .read_to_end(&mut bytes)
                .map(|_| bytes.len())
        });
        host(&runtime, || task.is_finished());
        assert_eq!(runtime.block_on(task).unwrap(), 13);
    });
}

#[test]
fn a_socket_whose_reader_was_dropped_does_not_keep_the_fd_readable() {
    with_guest(|runtime, _| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = runtime.block_on(async { Rc::new(Async::new(ours).unwrap()) });
        for _ in 0..5 {
            let inner = ours.clone();
            let task = runtime.spawn(async move { inner.readable().await });
            settle(&runtime);
            // From the second round on there is an unread byte: the reader is done at once.
            drop(task);
            theirs.write_all(b"x").unwrap();
            assert!(settle(&runtime) < 5);
            assert!(!wait_readable(&runtime, Some(2 * MS)));
        }
    });
}

#[test]
fn an_echo_between_two_guests_of_two_threads() {
    const ROUNDS: usize = 500;
    watchdog(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let run = |socket: UnixStream, first: bool| {
            move || {
                let runtime = Runtime::new();
                let task = runtime.spawn(async move {
                    let mut socket = Async::new(socket).unwrap();
                    let mut byte = [0];
                    for n in 0..ROUNDS {
                        if first {
                            socket.write_all(&[n as u8]).await.unwrap();
                        }
                        socket.read_exact(&mut byte).await.unwrap();
                        assert_eq!(byte, [n as u8]);
                        if !first {
                            socket.write_all(&byte).await.unwrap();
                        }
                    }
                });
                host(&runtime, || task.is_finished())
            }
        };
        let thread = thread::spawn(run(other, false));
        let turns = [run(one, true)(), thread.join().unwrap()];
        // At worst one turn for the bytes, and one that finds nothing.
        assert!(turns.iter().all(|&turns| turns <= 3 * ROUNDS), "{turns:?}");
    });
}

#[test]
fn idle_tasks_cost_no_turns() {
    with_guest(|runtime, seen| {
        let (mut theirs, _ours) = {
            let (a, b) = UnixStream::pair().unwrap();
            runtime
                .spawn(async move {
                    let mut socket = Async::new(b).unwrap();
                    let _ = socket.read(&mut [0]).await;
                })
                .detach();
            (a, ())
        };
        for _ in 0..100 {
            runtime
                .spawn(async {
                    let _ = timeout(1000 * SECOND, pending::<()>()).await;
                })
                .detach();
        }
        settle(&runtime);
        let mut turns = 0;
        let end = Instant::now() + 100 * MS;
        while Instant::now() < end {
            if wait_readable(&runtime, Some(10 * MS)) {
                runtime.turn(ZERO).unwrap();
                turns += 1;
            }
        }
        assert_eq!((turns, seen.polls.get()), (0, 1));
        theirs.write_all(b"x").unwrap();
        assert!(is_readable(&runtime));
    });
}

#[test]
fn a_second_guest_is_refused() {
    watchdog(|| {
        let first = Runtime::new();
        first.poll_fd().unwrap();
        let second = Runtime::new();
        let error = second.poll_fd().unwrap_err();
        assert!(error.to_string().contains("already a guest"), "{error}");
        // Each time. The first is not affected, and the second one runs.
        assert!(second.poll_fd().is_err());
        assert!(!is_readable(&first));
        assert_eq!(second.block_on(async { 1 }), 1);
        // Another thread can have a guest of its own.
        thread::spawn(|| Runtime::new().poll_fd().map(drop))
            .join()
            .unwrap()
            .unwrap();
        drop(first);
        second.poll_fd().unwrap();
        let task = second.spawn(async { 2 });
        host(&second, || task.is_finished());
        settle(&second);
    });
}

#[test]
fn another_runtime_on_the_thread_forwards_wakeups_of_the_guest() {
    with_guest(|guest, seen| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let read = guest.spawn(async move {
            let mut ours = Async::new(ours).unwrap();
            ours.read(&mut [0; 8]).await.unwrap()
        });
        let timer = guest.spawn(async { sleep(3 * MS).await });
        settle(&guest);
        // All events for the guest arrive while another runtime waits in the reactor.
        let waker = seen.waker();
        block_on(async {
            // It needs the timer for the last millisecond, which the guest uses.
            let thread = thread::spawn(move || {
                waker.wake();
                theirs.write_all(b"hello").unwrap();
                theirs
            });
            sleep(Duration::from_micros(5300)).await;
            let theirs = thread.join().unwrap();
            // It has a socket of its own.
            let (a, mut b) = UnixStream::pair().unwrap();
            b.write_all(b"x").unwrap();
            Async::new(a).unwrap().readable().await.unwrap();
            drop(theirs);
        });
        assert!(is_readable(&guest));
        let turns = host(&guest, || timer.is_finished() && read.is_finished());
        assert!(turns <= 5, "{turns}");
        assert_eq!(guest.block_on(read), 5);
        assert_eq!(seen.polls.get(), 2);
        settle(&guest);
    });
}

#[test]
fn a_timer_of_the_guest_survives_the_waits_of_another_runtime() {
    with_guest(|guest, _| {
        let timer = guest.spawn(async { sleep(20 * MS).await });
        settle(&guest);
        for _ in 0..5 {
            block_on(async {
                let (a, _b) = UnixStream::pair().unwrap();
                let a = Async::new(a).unwrap();
                let _ = timeout(Duration::from_micros(300), a.readable()).await;
            });
        }
        host(&guest, || timer.is_finished());
        settle(&guest);
    });
}

#[test]
fn another_runtime_whose_turns_find_nothing_does_not_keep_the_guest_busy() {
    with_guest(|guest, _| {
        let other = Runtime::new();
        let mut readable = 0;
        for _ in 0..100 {
            other.turn(ZERO).unwrap();
            if is_readable(&guest) {
                readable += 1;
                guest.turn(ZERO).unwrap();
            }
        }
        // The portable wait does not tell whether it has consumed a wakeup of the guest.
        if TIMERS {
            assert_eq!(readable, 0);
        }
    });
}

#[test]
fn stop_and_abort_between_turns() {
    with_guest(|runtime, seen| {
        let handle = runtime.handle();
        handle.stop();
        assert!(is_readable(&runtime));
        assert!(settle(&runtime) <= 2);
        let probe = Seen::new();
        let task = runtime.spawn(probe.probe());
        settle(&runtime);
        task.abort_handle().abort();
        assert!(is_readable(&runtime));
        settle(&runtime);
        assert_eq!((probe.drops.get(), seen.drops.get()), (1, 0));
        assert!(task.is_finished());
        // The stop is remembered for a `run`.
        runtime.run();
    });
}

#[test]
fn wakes_that_race_with_turns_are_never_lost() {
    const WAKES: usize = 10_000;
    with_guest(|runtime, seen| {
        let (send, receive) = mpsc::sync_channel::<Waker>(1);
        let thread = thread::spawn(move || {
            for waker in receive {
                waker.wake();
            }
        });
        for n in 2..WAKES {
            send.send(seen.waker()).unwrap();
            // Readable until it has been polled, whenever the wake comes.
            host(&runtime, || seen.polls.get() >= n);
        }
        drop(send);
        thread.join().unwrap();
        settle(&runtime);
    });
}

/// A host with an edge-triggered loop, which makes one turn per event.
struct EdgeHost<'a> {
    runtime: &'a Runtime,
    poll: mio::Poll,
    events: mio::Events,
    turns: usize,
}

impl EdgeHost<'_> {
    fn new(runtime: &Runtime) -> EdgeHost<'_> {
        let poll = mio::Poll::new().unwrap();
        let fd = runtime.poll_fd().unwrap().as_raw_fd();
        let interest = mio::Interest::READABLE;
        poll.registry()
            .register(&mut mio::unix::SourceFd(&fd), mio::Token(0), interest)
            .unwrap();
        EdgeHost {
            runtime,
            poll,
            events: mio::Events::with_capacity(8),
            turns: 0,
        }
    }

    /// Waits for an event for so long at most, and makes a turn for it. Returns whether one
    /// came.
    fn turn(&mut self, wait: Duration) -> bool {
        let timer = self.runtime.next_deadline().filter(|_| !TIMERS);
        let timer = timer.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = timer.map_or(wait, |timer| timer.min(wait));
        self.poll.poll(&mut self.events, Some(wait)).unwrap();
        if self.events.is_empty() && timer.is_none() {
            return false;
        }
        self.runtime.turn(ZERO).unwrap();
        self.turns += 1;
        true
    }

    /// Makes turns until no event comes, and returns how many there were.
    fn settle(&mut self) -> usize {
        let mut turns = 0;
        while self.turn(Duration::ZERO) {
            turns += 1;
            assert!(turns < 20, "there are events for ever");
        }
        turns
    }

    /// Makes turns until `done`, one per event.
    #[track_caller]
    fn until(&mut self, mut done: impl FnMut() -> bool) {
        while !done() {
            assert!(self.turn(STALLED * patience()), "no event has come");
        }
    }
}

/// If no event arrives within this time, none will: nothing here takes as long.
const STALLED: Duration = Duration::from_secs(10);

/// Reads one byte at a time, and counts them.
async fn read_bytes(socket: UnixStream, count: &'static Cell<usize>) {
    let mut socket = Async::new(socket).unwrap();
    while socket.read(&mut [0]).await.unwrap() > 0 {
        count.set(count.get() + 1);
    }
}

/// A task that runs `read_bytes`, the count, and the other end of its socket.
fn spawn_reader(runtime: &Runtime) -> (Task<()>, &'static Cell<usize>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let count = leak(Cell::new(0));
    (runtime.spawn(read_bytes(ours, count)), count, theirs)
}

#[test]
fn b115_a_socket_and_a_task_ready_at_once_are_both_served() {
    with_guest(|runtime, seen| {
        let (reader, count, mut theirs) = spawn_reader(&runtime);
        let mut host = EdgeHost::new(&runtime);
        host.settle();
        for n in 1..=100 {
            theirs.write_all(b"x").unwrap();
            seen.waker().wake();
            host.until(|| count.get() == n);
            assert_eq!(seen.polls.get(), 1 + n);
            assert!(host.settle() <= 2);
        }
        drop(theirs);
        host.until(|| reader.is_finished());
        assert!(host.settle() <= 2);
        assert!(!host.turn(10 * MS));
    });
}

#[test]
fn b115_unread_data_triggers_another_event() {
    runtime_test(|runtime| {
        let count = leak(Cell::new(0));
        let mut host = EdgeHost::new(&runtime);
        for n in 1..=50 {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let reader = runtime.spawn(async move {
                let mut ours = Async::new(ours).unwrap();
                let mut bytes = [0; 64];
                // Shorter than there was room for: it waits for the end, which is there.
                while ours.read(&mut bytes).await.unwrap() > 0 {}
                count.set(count.get() + 1);
            });
            host.settle();
            theirs.write_all(&[7; 10]).unwrap();
            drop(theirs);
            host.until(|| reader.is_finished());
            assert_eq!(count.get(), n);
            host.settle();
            // More than is read between two visits of the reactor.
            let (reader, bytes, mut theirs) = spawn_reader(&runtime);
            host.settle();
            theirs.write_all(&[7; 100]).unwrap();
            host.until(|| bytes.get() == 100);
            drop(theirs);
            host.until(|| reader.is_finished());
            assert!(host.settle() <= 3);
        }
        assert!(!host.turn(10 * MS));
    });
}

/// Wakers that the host wakes between two turns.
type ByHost = Rc<RefCell<Vec<Waker>>>;

/// Done when the waker that it has given to `give` was woken, and not before.
async fn woken_by(give: impl Fn(Waker)) {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        give(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// One kind of wait. Whatever ends it is under way when it is polled: nothing else would make the
/// host turn.
async fn stimulus(kind: u64, n: u64, by_host: ByHost, wakes: mpsc::Sender<Waker>) {
    match kind {
        0 => sleep(Duration::from_micros(n)).await,
        1 => {
            for _ in 0..n % 8 {
                yield_now().await;
            }
        }
        2 => woken_by(|waker| wakes.send(waker).unwrap()).await,
        3 => woken_by(|waker| by_host.borrow_mut().push(waker)).await,
        4 => {
            let (a, b) = UnixStream::pair().unwrap();
            let count = leak(Cell::new(0));
            let reader = spawn(read_bytes(a, count));
            let mut b = Async::new(b).unwrap();
            b.write_all(&[7; 50][..n as usize % 50]).await.unwrap();
            if n % 2 == 0 {
                yield_now().await;
            }
            drop(b);
            reader.await;
            assert_eq!(count.get(), n as usize % 50);
        }
        _ => {
            // An echo by a thread at the other end.
            let (a, mut b) = UnixStream::pair().unwrap();
            let thread = thread::spawn(move || {
                let mut bytes = [0; 8];
                while b.read_exact(&mut bytes).is_ok() {
                    b.write_all(&bytes).unwrap();
                }
            });
            let mut a = Async::new(a).unwrap();
            for _ in 0..20 {
                a.write_all(&[9; 8]).await.unwrap();
                let mut bytes = [0; 8];
                a.read_exact(&mut bytes[..n as usize % 8]).await.unwrap();
                a.read_exact(&mut bytes[n as usize % 8..]).await.unwrap();
                assert_eq!(bytes, [9; 8]);
            }
            drop(a);
            thread.join().unwrap();
        }
    }
}

fn one_turn_per_event(turns: usize) {
    let runtime = Runtime::new();
    let by_host = ByHost::default();
    let (wakes, woken) = mpsc::channel::<Waker>();
    let waker = thread::spawn(move || {
        for waker in woken {
            waker.wake();
        }
    });
    let (rounds, is_over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (count, over, wakers) = (rounds.clone(), is_over.clone(), by_host.clone());
    let task = runtime.spawn(async move {
        let mut random = Rng::with_seed(115);
        while !over.get() {
            // Few at a time, so that none hides the stall of another.
            let tasks: Vec<_> = (0..1 + random.u64(..3))
                .map(|_| {
                    // Threads are slow to start, so they are rare.
                    let kind = random.u64(..101) / 20;
                    let n = random.u64(..200);
                    spawn(stimulus(kind, n, wakers.clone(), wakes.clone()))
                })
                .collect();
            for task in tasks {
                task.await;
            }
            count.set(count.get() + 1);
        }
    });
    let mut host = EdgeHost::new(&runtime);
    while !task.is_finished() {
        for waker in by_host.take() {
            waker.wake();
        }
        assert!(host.turn(STALLED * patience()), "no event has come");
        is_over.set(host.turns >= turns);
    }
    waker.join().unwrap();
    assert!(rounds.get() > turns / 50, "{} rounds", rounds.get());
    assert!(host.settle() <= 2);
}

#[test]
fn b115_one_turn_per_event_is_enough_for_an_edge_triggered_loop() {
    watchdog(|| one_turn_per_event(5_000));
}

#[test]
#[ignore = "takes a while: a hundred thousand turns"]
fn b115_a_hundred_thousand_turns_of_an_edge_triggered_loop() {
    watchdog(|| one_turn_per_event(100_000));
}

#[test]
fn b120_the_child_of_a_fork_does_not_wake_its_parent() {
    in_own_process(|| {
        let (runtime, seen) = guest();
        let mut timer = Some(runtime.spawn(async { sleep(200 * MS).await }));
        // From now on the parent has nothing to do but this.
        settle(&runtime);
        let child = sys::fork(|| {
            // The runtime is not parked in the reactor of the parent.
            seen.waker().wake();
            runtime.spawn(yield_now()).detach();
            let turn = runtime.turn(ZERO).unwrap();
            assert_eq!((turn.polled, turn.ready), (2, 1));
            // The child does not share the timer of the parent.
            drop(timer.take());
            runtime.turn(ZERO).unwrap();
            assert_eq!(runtime.next_deadline(), None);
        });
        assert_eq!(child.wait(), 0);
        assert!(!is_readable(&runtime), "the parent is woken");
        assert_eq!(seen.polls.get(), 1);
        // The child has not disarmed it.
        let timer = timer.unwrap();
        host(&runtime, || timer.is_finished());
        settle(&runtime);
    });
}

#[test]
fn b120_the_child_of_a_fork_may_be_a_guest_again() {
    in_own_process(|| {
        let (runtime, seen) = guest();
        let parents = runtime.poll_fd().unwrap().as_raw_fd();
        let child = sys::fork(|| {
            // What was left before the fd is asked for shows in it.
            seen.waker().wake();
            assert!(is_readable(&runtime));
            assert_ne!(runtime.poll_fd().unwrap().as_raw_fd(), parents);
            assert!(settle(&runtime) <= 2);
            assert_eq!(seen.polls.get(), 2);
            let (task, count, mut theirs) = spawn_reader(&runtime);
            let timer = runtime.spawn(async { sleep(3 * MS).await });
            theirs.write_all(&[1; 30]).unwrap();
            host(&runtime, || count.get() == 30 && timer.is_finished());
            drop(theirs);
            host(&runtime, || task.is_finished());
            settle(&runtime);
            let grandchild = sys::fork(|| {
                seen.waker().wake();
                assert!(is_readable(&runtime));
                settle(&runtime);
                assert_eq!(seen.polls.get(), 3);
            });
            assert_eq!(grandchild.wait(), 0);
            assert!(!is_readable(&runtime), "the parent is woken");
            // A thread has one guest, here as well.
            assert!(Runtime::new().poll_fd().is_err());
        });
        assert_eq!(child.wait(), 0);
        assert!(!is_readable(&runtime), "the parent is woken");
        seen.waker().wake();
        assert!(is_readable(&runtime));
        settle(&runtime);
        assert_eq!(seen.polls.get(), 2);
    });
}

#[cfg(feature = "testing")]
#[test]
fn a_spawn_from_a_runtime_with_a_virtual_clock_uses_the_real_time() {
    with_guest(|runtime, _| {
        let far = runtime.spawn(async { sleep(1000 * SECOND).await });
        settle(&runtime);
        let mut early = None;
        soloist::testing::block_on(async {
            sleep(Duration::from_secs(24 * 60 * 60)).await;
            early = Some(runtime.spawn(async {
                let deadline = Instant::now() + 20 * MS;
                sleep_until(deadline).await;
                Instant::now() < deadline
            }));
        });
        let early = early.unwrap();
        host(&runtime, || early.is_finished());
        assert!(!runtime.block_on(early));
        drop(far);
        settle(&runtime);
    });
}

#[test]
fn other_runtimes_on_the_thread_leave_an_event_for_the_host() {
    with_guest(|runtime, seen| {
        let (reader, count, mut theirs) = spawn_reader(&runtime);
        let mut host = EdgeHost::new(&runtime);
        host.settle();
        for n in 1..=20 {
            // Another runtime visits the reactor, and takes the event.
            theirs.write_all(b"x").unwrap();
            block_on(async {
                let (a, mut b) = UnixStream::pair().unwrap();
                b.write_all(b"x").unwrap();
                Async::new(a).unwrap().readable().await.unwrap();
            });
            host.until(|| count.get() == 3 * n - 2);
            // The guest itself runs, and its `block_on` ends with work left.
            theirs.write_all(b"x").unwrap();
            let task = runtime.spawn(yield_now());
            runtime.block_on(async {});
            host.until(|| count.get() == 3 * n - 1 && task.is_finished());
            // A turn inside a runtime, which fails.
            theirs.write_all(b"x").unwrap();
            let text = block_on(async { panic_of(|| runtime.turn(ZERO)) });
            assert!(text.contains("inside a running"), "{text}");
            host.until(|| count.get() == 3 * n);
            host.settle();
        }
        assert_eq!(seen.polls.get(), 1);
        drop(theirs);
        host.until(|| reader.is_finished());
    });
}

#[test]
fn a_panic_and_a_stop_leave_an_event_for_the_host() {
    watchdog(|| {
        let runtime = Runtime::builder().propagate_panics(true).build();
        let mut host = EdgeHost::new(&runtime);
        let (reader, count, mut theirs) = spawn_reader(&runtime);
        host.settle();
        for n in 1..=20 {
            theirs.write_all(b"x").unwrap();
            runtime.spawn(async { panic!("on purpose") }).detach();
            let other = runtime.spawn(async {});
            assert_eq!(panic_of(|| host.turn(STALLED)), "on purpose");
            assert!(is_readable(&runtime));
            host.until(|| count.get() == n && other.is_finished());
            host.settle();
        }
        // A stop does not affect a turn, and is no reason for another one.
        thread::scope(|scope| {
            let handle = runtime.handle();
            scope.spawn(move || handle.stop());
        });
        assert!(host.settle() <= 3);
        theirs.write_all(b"x").unwrap();
        host.until(|| count.get() == 21);
        drop(theirs);
        host.until(|| reader.is_finished());
        assert!(host.settle() <= 3);
    });
}

#[test]
fn a_runtime_can_become_a_guest_after_another_was_dropped() {
    watchdog(|| {
        let seen = Seen::new();
        let first = Runtime::new();
        first.spawn(seen.probe()).detach();
        EdgeHost::new(&first).settle();
        let waker = seen.waker();
        drop(first);
        assert_eq!(seen.drops.get(), 1);
        let second = Runtime::new();
        let mut host = EdgeHost::new(&second);
        host.settle();
        // Its runtime is gone.
        waker.wake();
        assert_eq!(host.settle(), 0);
        drop(host);
        drop(second);
        // A runtime that becomes a guest in one of its own tasks.
        let third = Rc::new(Runtime::new());
        let inner = third.clone();
        let task = third.spawn(async move { inner.poll_fd().is_ok() });
        assert!(third.block_on(task));
        let mut host = EdgeHost::new(&third);
        host.settle();
        let timer = third.spawn(async { sleep(MS).await });
        host.until(|| timer.is_finished());
    });
}
