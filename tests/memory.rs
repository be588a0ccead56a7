//! What is allocated, and that it is given back. A binary of its own, for the allocator
//! that counts.

#![expect(unsafe_code, reason = "an allocator")]

#[path = "it/support.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::io::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use soloist::io::Async;
use soloist::net::{TcpListener, TcpStream};
use soloist::task::{JoinSet, TaskTracker, yield_now};
use soloist::time::{interval, sleep, timeout};
use soloist::{Runtime, block_on, spawn};

use support::*;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

thread_local! {
    /// Each thread counts its own: the tests run side by side.
    static BYTES: Cell<isize> = const { Cell::new(0) };
    static BLOCKS: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// And all threads together: for tests in a child process.
static ALL_BYTES: AtomicIsize = AtomicIsize::new(0);
static ALL_BLOCKS: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(bytes: isize, blocks: isize) {
    // They are const and have no destructor: this works to the very end of a thread.
    BYTES.set(BYTES.get() + bytes);
    BLOCKS.set(BLOCKS.get() + blocks);
    ALL_BYTES.fetch_add(bytes, Ordering::Relaxed);
    ALL_BLOCKS.fetch_add(blocks, Ordering::Relaxed);
    if bytes > 0 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

// SAFETY: the system's allocator does the work, with what we are given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as isize), -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize - layout.size() as isize, 0);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// What this thread has allocated and not given back: bytes and blocks.
fn live() -> (isize, isize) {
    (BYTES.get(), BLOCKS.get())
}

/// What all threads have allocated and not given back.
fn all_live() -> (isize, isize) {
    (
        ALL_BYTES.load(Ordering::Relaxed),
        ALL_BLOCKS.load(Ordering::Relaxed),
    )
}

/// Runs it a few times, and then checks that it leaves nothing behind when it runs on.
#[track_caller]
fn assert_flat(times: usize, mut f: impl FnMut()) {
    // Until what is kept to be used again has grown to what it will be.
    for _ in 0..30 {
        f();
    }
    let before = live();
    for _ in 0..times {
        f();
    }
    assert_eq!(live(), before, "bytes and blocks, after {times} times");
}

fn tcp() -> (TcpStream, std::net::TcpStream) {
    let (ours, theirs) = tcp_pair();
    (TcpStream::try_from(ours).unwrap(), theirs)
}

#[test]
fn the_allocator_counts() {
    watchdog(|| {
        let before = (live(), ALLOCATIONS.get());
        let boxed = Box::new([0_u8; 1000]);
        assert_eq!(live(), (before.0.0 + 1000, before.0.1 + 1));
        assert_eq!(ALLOCATIONS.get(), before.1 + 1);
        drop(boxed);
        assert_eq!(live(), before.0);
    });
}

// What a task holds.

#[test]
fn b85_a_waker_that_is_kept_does_not_keep_the_future() {
    watchdog(|| {
        thread_local! {
            static KEPT: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
        }
        block_on(async {
            let before = live();
            let big = vec![0_u8; 1 << 20];
            let alive = Rc::new(());
            let weak = Rc::downgrade(&alive);
            let task = spawn(async move {
                let _alive = alive;
                let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                KEPT.with_borrow_mut(|kept| kept.push(waker));
                yield_now().await;
                big.len()
            });
            assert_eq!(task.await, 1 << 20);
            assert!(weak.upgrade().is_none());
            assert!(live().0 - before.0 < 4096, "{:?}", live());
            // Nor does that of a task that was cancelled.
            let alive = Rc::new(());
            let weak = Rc::downgrade(&alive);
            let task = spawn(async move {
                let _alive = alive;
                let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                KEPT.with_borrow_mut(|kept| kept.push(waker));
                pending::<()>().await;
            });
            yield_now().await;
            drop(task);
            assert!(weak.upgrade().is_none());
            drop(weak);
            for waker in KEPT.take() {
                waker.wake();
            }
        });
        drop(KEPT.take());
    });
}

#[test]
fn b86_who_awaited_a_task_is_not_kept_by_it() {
    watchdog(|| {
        block_on(async {
            let (count, waker) = CountWakes::new();
            let mut cx = Context::from_waker(&waker);
            let wakers = || std::sync::Arc::strong_count(&count);
            let mut poll = |task: &mut (dyn Future<Output = ()> + Unpin)| {
                Pin::new(task).poll(&mut cx).is_ready()
            };

            // When it is done: the handle of its abort keeps the cell.
            let seen = Seen::new();
            let mut task = spawn(seen.probe());
            let abort = task.abort_handle();
            yield_now().await;
            assert!(!poll(&mut task));
            assert!(!poll(&mut task));
            assert_eq!(wakers(), 3);
            seen.finish();
            yield_now().await;
            assert_eq!((wakers(), count.get()), (2, 1));
            assert!(poll(&mut task));

            // When nobody awaits it any more, however it goes on.
            for detach in [false, true] {
                let seen = Seen::new();
                let mut task = spawn(seen.probe());
                let _abort = task.abort_handle();
                let _waker = {
                    yield_now().await;
                    seen.waker()
                };
                assert!(!poll(&mut task));
                if detach {
                    task.detach();
                } else {
                    drop(task);
                }
                assert_eq!((wakers(), count.get()), (2, 1), "detach: {detach}");
                seen.finish();
                yield_now().await;
            }
            drop(abort);
        });
    });
}

#[test]
fn b86_a_parent_is_freed_while_something_of_its_child_is_left() {
    watchdog(|| {
        block_on(async {
            let alive = Rc::new(());
            let weak = Rc::downgrade(&alive);
            let child = spawn(yield_now());
            let abort = child.abort_handle();
            let parent = spawn(async move {
                let _alive = alive;
                child.await;
            });
            parent.await;
            assert_eq!(weak.strong_count(), 0);
            abort.abort();
        });
    });
}

// Timers.

#[test]
fn b87_timers_that_are_given_up_are_freed_at_once() {
    watchdog(|| {
        let runtime = Runtime::new();
        runtime.block_on(async {
            // As many alive as there are in a busy program.
            let mut alive: Vec<_> = (0..1000).map(|_| sleep(HOUR)).collect();
            for sleep in &mut alive {
                assert!(poll_once(sleep).await.is_pending());
            }
            let before = live();
            for _ in 0..100_000 {
                timeout(HOUR, ready(())).await.unwrap();
            }
            assert_eq!(live(), before);
            for _ in 0..20_000 {
                timeout(HOUR, yield_now()).await.unwrap();
                for _ in 0..3 {
                    let mut given_up = sleep(HOUR);
                    assert!(poll_once(&mut given_up).await.is_pending());
                }
            }
            // The heap and the queue have room for a few more, now.
            let grown = live().0 - before.0;
            assert!(grown < 200_000, "{grown} bytes");
            let before = live();
            for _ in 0..20_000 {
                timeout(HOUR, yield_now()).await.unwrap();
            }
            assert_eq!(live(), before);
        });
    });
}

#[test]
fn b87_timers_that_other_threads_give_up_are_freed() {
    watchdog(|| {
        passes_in_child("b87_timers_that_other_threads_give_up_are_freed", || {
            let runtime = Runtime::new();
            let round = || {
                let sleeps: Vec<_> = runtime.block_on(async {
                    let mut sleeps: Vec<_> = (0..100).map(|_| sleep(HOUR)).collect();
                    for sleep in &mut sleeps {
                        assert!(poll_once(sleep).await.is_pending());
                    }
                    sleeps
                });
                assert!(runtime.next_deadline().is_some());
                let thread = thread::spawn(move || drop(sleeps));
                thread.join().unwrap();
                runtime.block_on(yield_now());
                assert!(runtime.next_deadline().is_none());
            };
            assert_all_flat(50, round);
        });
    });
}

/// As [`assert_flat`], for all threads together, in a process that runs nothing else.
#[track_caller]
fn assert_all_flat(times: isize, mut f: impl FnMut()) {
    for _ in 0..10 {
        f();
    }
    let before = all_live();
    for _ in 0..times {
        f();
    }
    // A thread that has been joined may still be busy with its last word.
    let mut now = all_live();
    for _ in 0..100 {
        if now.1 - before.1 < times / 4 {
            return;
        }
        thread::sleep(MS);
        now = all_live();
    }
    panic!("from {before:?} to {now:?} bytes and blocks, after {times} times");
}

// Runtimes.

async fn use_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It will have closed first: no port of ours stays behind.
    let mut text = String::new();
    timeout(HOUR, stream.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(text, "hello");
    server.await;
    // Left alone at the end.
    spawn(pending::<()>()).detach();
    spawn(sleep(HOUR)).detach();
    spawn(async {
        let (mut stream, _theirs) = tcp();
        stream.read(&mut [0]).await.map(drop)
    })
    .detach();
    let mut ticks = interval(HOUR);
    ticks.tick().await;
    yield_now().await;
    assert!(
        timeout(Duration::from_micros(10), ticks.tick())
            .await
            .is_err()
    );
}

#[test]
fn b88_a_runtime_gives_back_all_it_had() {
    watchdog(|| {
        assert_flat(100, || block_on(use_everything()));
        assert_flat(1000, || drop(Runtime::new()));
        assert_flat(1000, || {
            let runtime = Runtime::new();
            let task = runtime.spawn(yield_now());
            runtime.spawn(pending::<()>()).detach();
            runtime.handle().spawn(pending::<()>).detach();
            runtime.block_on(task);
            let late = runtime.handle();
            drop(runtime);
            late.spawn(pending::<()>).detach();
            late.stop();
        });
        // One that never ran.
        assert_flat(1000, || {
            let runtime = Runtime::new();
            let waiting = runtime.spawn(async { sleep(HOUR).await });
            runtime.handle().spawn(pending::<()>).detach();
            drop(runtime);
            drop(waiting);
        });
    });
}

#[test]
fn b88_what_a_thread_keeps_for_its_next_runtime_goes_on_when_it_ends() {
    watchdog(|| {
        let name = "b88_what_a_thread_keeps_for_its_next_runtime_goes_on_when_it_ends";
        passes_in_child(name, || {
            assert_all_flat(100, || {
                let thread = thread::spawn(|| {
                    drop(Runtime::new());
                    block_on(async { spawn(yield_now()).await });
                });
                thread.join().unwrap();
            });
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b88_a_runtime_gives_back_its_fds() {
    watchdog(|| {
        passes_in_child("b88_a_runtime_gives_back_its_fds", || {
            block_on(use_everything());
            let before = open_fds();
            for _ in 0..100 {
                block_on(use_everything());
            }
            assert_eq!(open_fds(), before);
            for _ in 0..30 {
                thread::spawn(|| block_on(use_everything())).join().unwrap();
            }
            assert_eq!(open_fds(), before);
        });
    });
}

#[test]
fn b83_a_waker_that_goes_after_its_runtime_leaks_nothing() {
    watchdog(|| {
        static KEPT: Mutex<Vec<Waker>> = Mutex::new(Vec::new());
        fn keep() -> impl Future<Output = ()> {
            poll_fn(|cx| {
                KEPT.lock().unwrap().push(cx.waker().clone());
                Poll::Ready(())
            })
        }
        KEPT.lock().unwrap().reserve(10);
        assert_flat(1000, || {
            let drops = Rc::new(Cell::new(0));
            let guard = {
                let drops = drops.clone();
                OnDrop(move || drops.set(drops.get() + 1))
            };
            block_on(async {
                spawn(async move {
                    let _guard = guard;
                    keep().await;
                    pending::<()>().await;
                })
                .detach();
                spawn(async { keep().await }).await;
                keep().await;
            });
            assert_eq!(drops.get(), 1);
            let kept: Vec<_> = KEPT.lock().unwrap().drain(..).collect();
            assert_eq!(kept.len(), 3);
            for waker in kept {
                waker.wake_by_ref();
                let clone = waker.clone();
                drop(waker);
                clone.wake();
            }
        });
    });
}

#[test]
fn a_tracker_keeps_nothing_of_tasks_that_have_finished() {
    watchdog(|| {
        block_on(async {
            let tracker = TaskTracker::new();
            let batch = async || {
                for _ in 0..1000 {
                    tracker.spawn(yield_now());
                }
                tracker.wait_idle().await;
            };
            batch().await;
            let before = live();
            for _ in 0..200 {
                batch().await;
            }
            assert_eq!(live(), before, "after 200,000 tasks");
        });
    });
}

#[test]
fn a_set_keeps_results_until_they_are_taken_and_then_nothing() {
    watchdog(|| {
        block_on(async {
            let mut set = JoinSet::new();
            let mut batch = async || {
                for _ in 0..100_000 {
                    set.spawn(ready([0_u8; 64]));
                }
                yield_now().await;
                let held = live();
                while set.try_join_next().is_some() {}
                held
            };
            batch().await;
            let before = live();
            let held = batch().await;
            let per_task = (held.0 - before.0) / 100_000;
            assert!((64..400).contains(&per_task), "{per_task} bytes");
            assert_eq!(live(), before, "after 200,000 tasks");
        });
    });
}

#[test]
fn tasks_that_a_set_has_detached_leave_nothing_in_it() {
    watchdog(|| {
        block_on(async {
            let mut set = JoinSet::new();
            let mut batch = async || {
                for _ in 0..1000 {
                    set.spawn(ready([0_u8; 64]));
                    set.detach_all();
                    yield_now().await;
                }
                live()
            };
            let before = batch().await;
            assert_eq!(batch().await, before);
        });
    });
}

#[test]
fn b109_a_runtime_that_goes_with_one_of_its_own_futures_leaks_nothing() {
    watchdog(|| {
        assert_flat(1000, || {
            let runtime = Rc::new(Runtime::new());
            let own = runtime.clone();
            let task = runtime.spawn(async move {
                let _own = own;
                pending::<()>().await;
            });
            runtime.spawn(pending::<()>()).detach();
            runtime.turn(Some(Duration::ZERO)).unwrap();
            let weak = Rc::downgrade(&runtime);
            drop(runtime);
            // The task's future goes, and with it the last reference to its runtime.
            drop(task);
            assert_eq!(weak.strong_count(), 0);
        });
    });
}

#[test]
fn b89_a_task_that_is_cancelled_before_it_ran_is_freed() {
    watchdog(|| {
        block_on(async {
            let round = async |count| {
                for n in 0..count {
                    let task = spawn(async { yield_now().await });
                    match n % 4 {
                        0 => drop(task),
                        1 => drop(task.cancel()),
                        2 => drop(task.join()),
                        _ => {
                            task.abort_handle().abort();
                            task.detach();
                        }
                    }
                    if n % 100 == 0 {
                        yield_now().await;
                    }
                }
                yield_now().await;
                yield_now().await;
            };
            round(2000).await;
            let before = live();
            round(50_000).await;
            assert_eq!(live(), before);
        });
    });
}

#[test]
fn b89_an_abort_of_a_task_that_never_ran_frees_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        assert_flat(1000, || {
            let task = runtime.spawn(async { 1 });
            let abort = task.abort_handle();
            abort.abort();
            runtime.turn(Some(Duration::ZERO)).unwrap();
            assert!(task.is_finished());
        });
    });
}

// Sources.

#[cfg(unix)]
#[test]
fn b71_a_regular_file_that_is_refused_leaves_nothing_behind() {
    watchdog(|| {
        let program = std::env::current_exe().unwrap();
        block_on(async {
            let (_keep, _peer) = tcp();
            assert_flat(1000, || {
                let file = std::fs::File::open(&program).unwrap();
                Async::new(file).unwrap_err();
            });
        });
    });
}

#[test]
fn b92_waits_that_are_given_up_leave_nothing_behind() {
    watchdog(|| {
        block_on(async {
            let (ours, _theirs) = tcp_pair();
            let source = Async::new(ours).unwrap();
            let mut waiting = Box::pin(source.readable());
            assert!(poll_once(&mut waiting).await.is_pending());
            let (_, waker) = CountWakes::new();
            let poll = |future: &mut (dyn Future<Output = std::io::Result<()>> + Unpin)| {
                let poll = Pin::new(future).poll(&mut Context::from_waker(&waker));
                assert!(poll.is_pending());
            };
            assert_flat(30_000, || {
                poll(&mut Box::pin(source.readable()));
                let mut both = (
                    Box::pin(source.readable()),
                    Box::pin(
                        source.read_with(|mut io| std::io::Read::read(&mut io, &mut [0]).map(drop)),
                    ),
                );
                poll(&mut both.1);
                poll(&mut both.0);
            });
            // What nobody takes back is bounded.
            let before = live();
            for _ in 0..10_000 {
                let (_, waker) = CountWakes::new();
                let mut cx = Context::from_waker(&waker);
                assert!(source.poll_readable(&mut cx).is_pending());
                assert!(
                    Pin::new(&mut &source)
                        .poll_read(&mut cx, &mut [0])
                        .is_pending()
                );
            }
            let grown = live().0 - before.0;
            assert!(grown < 200_000, "{grown} bytes");
        });
    });
}

#[test]
fn b94_sockets_that_come_and_go_leave_nothing_behind() {
    watchdog(|| {
        block_on(async {
            let round = async || {
                let (mut ours, theirs) = tcp();
                let read = timeout(Duration::ZERO, ours.read(&mut [0])).await;
                assert!(read.is_err());
                let clone = ours.clone();
                drop(theirs);
                assert_eq!((&clone).read(&mut [0]).await.unwrap(), 0);
                drop(ours);
                clone.into_std().unwrap();
            };
            for _ in 0..10 {
                round().await;
            }
            let before = live();
            for _ in 0..1000 {
                round().await;
            }
            // On Windows, polling may keep a few of the last sockets until its next waits: it
            // did so before, or does now.
            let grown = live().0 - before.0;
            let some = cfg!(windows) && (-1000..=1000).contains(&grown);
            assert!(some || live() == before, "{:?}, not {before:?}", live());
        });
    });
}

#[test]
#[cfg_attr(
    windows,
    ignore = "polling keeps what belongs to a deleted socket until its next wait"
)]
fn sockets_that_move_to_other_threads_leave_nothing_behind() {
    async fn wait(stream: &mut TcpStream) {
        let read = timeout(Duration::ZERO, stream.read(&mut [0])).await;
        assert!(read.is_err());
    }

    watchdog(|| {
        let name = "sockets_that_move_to_other_threads_leave_nothing_behind";
        passes_in_child(name, || {
            let runtime = Runtime::new();
            assert_all_flat(100, || {
                let (mut stream, _theirs) = runtime.block_on(async {
                    let (mut stream, theirs) = tcp();
                    wait(&mut stream).await;
                    (stream, theirs)
                });
                for there_at_the_end in [false, true] {
                    let thread = thread::spawn(move || {
                        block_on(wait(&mut stream));
                        (!there_at_the_end).then_some(stream)
                    });
                    match thread.join().unwrap() {
                        Some(moved) => stream = moved,
                        None => break,
                    }
                    runtime.block_on(wait(&mut stream));
                }
                // The reactor frees what others have left to it when it is visited.
                runtime.block_on(async { sleep(Duration::from_micros(10)).await });
            });
        })
    });
}

#[test]
#[cfg_attr(
    windows,
    ignore = "polling keeps what belongs to a deleted socket until its next wait"
)]
fn sockets_that_other_threads_drop_are_freed_by_a_thread_that_never_waits() {
    watchdog(|| {
        let name = "sockets_that_other_threads_drop_are_freed_by_a_thread_that_never_waits";
        passes_in_child(name, || {
            assert_all_flat(100, || {
                let (stream, _theirs) = block_on(async {
                    let (mut stream, theirs) = tcp();
                    // It is registered here, and the call is over before it could wait.
                    poll_fn(|cx| {
                        let read = Pin::new(&mut stream).poll_read(cx, &mut [0]);
                        assert!(read.is_pending());
                        Poll::Ready(())
                    })
                    .await;
                    (stream, theirs)
                });
                thread::spawn(move || drop(stream)).join().unwrap();
            });
        })
    });
}

// What things cost.

#[track_caller]
fn assert_allocates(most: usize, times: usize, what: &str, mut f: impl FnMut()) {
    for _ in 0..100 {
        f();
    }
    let before = ALLOCATIONS.get();
    for _ in 0..times {
        f();
    }
    let allocations = ALLOCATIONS.get() - before;
    assert!(
        allocations <= most * times,
        "{what}: {allocations} for {times}"
    );
}

/// As [`assert_allocates`], in a runtime.
async fn allocates(most: usize, times: usize, what: &str, f: impl AsyncFn()) {
    for _ in 0..100 {
        f().await;
    }
    let before = ALLOCATIONS.get();
    for _ in 0..times {
        f().await;
    }
    let allocations = ALLOCATIONS.get() - before;
    assert!(
        allocations <= most * times,
        "{what}: {allocations} for {times}"
    );
}

#[test]
#[cfg(target_pointer_width = "64")]
fn the_cell_of_an_empty_future_is_small() {
    let runtime = Runtime::new();
    // After this the queue and the registry have room for it.
    drop(runtime.spawn(async {}));
    let before = (BYTES.get(), BLOCKS.get());
    let task = runtime.spawn(async {});
    let after = (BYTES.get(), BLOCKS.get());
    drop(task);
    assert_eq!(after.1 - before.1, 1);
    // With the feature `tracing` the span is beside the future.
    let most = if cfg!(feature = "tracing") { 144 } else { 112 };
    assert!(after.0 - before.0 <= most, "{} bytes", after.0 - before.0);
}

#[test]
fn a_task_is_one_allocation_and_its_turns_are_none() {
    watchdog(|| {
        block_on(async {
            allocates(0, 1000, "yield_now", async || yield_now().await).await;
            allocates(1, 1000, "spawn", async || spawn(async {}).await).await;
            allocates(1, 1000, "spawn and cancel", async || {
                drop(spawn(async {}));
                yield_now().await;
            })
            .await;
            allocates(0, 1000, "sleep", async || sleep(Duration::ZERO).await).await;
            allocates(0, 1000, "timeout", async || {
                timeout(HOUR, yield_now()).await.unwrap();
            })
            .await;
        });
        let runtime = Runtime::new();
        let waker = runtime.block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
        assert_allocates(0, 1000, "a stale wake", || waker.wake_by_ref());
        assert_allocates(0, 1000, "an empty turn", || {
            runtime.turn(Some(Duration::ZERO)).unwrap();
        });
    });
}

#[test]
fn waiting_for_a_socket_allocates_nothing() {
    watchdog(|| {
        block_on(async {
            let (ours, theirs) = tcp();
            let (stream, mut peer) = (ours, theirs);
            let source = Async::new(stream.into_std().unwrap()).unwrap();
            let write = || (&peer).write_all(b"x").unwrap();
            let wait_and_read = async || {
                let mut wait = std::pin::pin!(source.readable());
                let mut written = false;
                poll_fn(|cx| {
                    let poll = wait.as_mut().poll(cx);
                    if !std::mem::replace(&mut written, true) {
                        assert!(poll.is_pending());
                        write();
                    }
                    poll
                })
                .await
                .unwrap();
                let read = source.read_with(|mut io| std::io::Read::read(&mut io, &mut [0; 8]));
                assert_eq!(read.await.unwrap(), 1);
            };
            allocates(0, 1000, "readable", wait_and_read).await;

            let stream = RefCell::new(TcpStream::try_from(source.into_inner()).unwrap());
            let read = async || {
                let mut written = false;
                let n = poll_fn(|cx| {
                    let mut stream = stream.borrow_mut();
                    let poll = Pin::new(&mut *stream).poll_read(cx, &mut [0; 8]);
                    if !std::mem::replace(&mut written, true) {
                        assert!(poll.is_pending());
                        (&peer).write_all(b"x").unwrap();
                    }
                    poll
                });
                assert_eq!(n.await.unwrap(), 1);
            };
            allocates(0, 1000, "read", read).await;
            peer.flush().unwrap();
        });
    });
}

#[test]
fn an_idle_wait_allocates_nothing() {
    watchdog(|| {
        block_on(async {
            allocates(0, 100, "parked", async || sleep(MS / 10).await).await;
            let (_ours, _theirs) = tcp();
            allocates(0, 100, "in the reactor", async || sleep(MS / 10).await).await;
        });
    });
}

#[test]
#[cfg(feature = "trace")]
fn a_trace_takes_no_more_than_its_ring() {
    watchdog(|| {
        soloist::trace::start(100);
        let run = || {
            let runtime = Runtime::new();
            for _ in 0..2000 {
                let named = soloist::task::Builder::new().name("a name of its own");
                runtime.block_on(async { named.spawn(yield_now()).await });
                block_on(async {});
            }
        };
        run();
        let before = BYTES.get();
        run();
        assert_eq!(BYTES.get(), before, "what is known of tasks that are over");
    });
}
