//! Work that blocks: `unblock` and `Unblock`, and the pool behind them.

use std::collections::HashSet;
use std::panic::panic_any;
use std::pin::pin;
use std::sync::Barrier;

use futures_lite::FutureExt;
use soloist::blocking::Unblock;
use soloist::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use soloist::unblock;

use crate::support::*;

#[test]
fn unblock_runs_a_closure_on_another_thread_and_returns_its_output() {
    watchdog(|| {
        let here = thread::current().id();
        let there = block_on(unblock(|| thread::current().id()));
        assert_ne!(here, there);
        // Outside a runtime, too.
        assert_eq!(
            futures_lite::future::block_on(unblock(|| vec![1, 2])),
            [1, 2]
        );
    });
}

#[test]
fn unblock_starts_the_closure_before_the_first_poll() {
    watchdog(|| {
        let (send, receive) = mpsc::channel();
        let future = unblock(move || send.send(5).unwrap());
        assert_eq!(receive.recv(), Ok(5));
        block_on(future);
    });
}

#[test]
fn tasks_run_while_a_closure_blocks() {
    async_test(async || {
        let (send, receive) = mpsc::channel::<()>();
        let mut blocked = pin!(unblock(move || receive.recv().is_ok()));
        let turns = leak(Cell::new(0));
        let ticker = spawn(async move {
            for _ in 0..10 {
                turns.set(turns.get() + 1);
                yield_now().await;
            }
        });
        assert!(poll_once(&mut blocked).await.is_pending());
        ticker.await;
        assert_eq!(turns.get(), 10);
        send.send(()).unwrap();
        assert!(blocked.await);
    });
}

#[test]
fn b29_a_panic_of_a_closure_is_resumed_by_the_await_and_the_pool_survives() {
    // In a child process, because the panic hook prints 1,000 messages.
    in_own_process(|| {
        std::panic::set_hook(Box::new(|_| {}));
        block_on(async {
            for n in 0..1000_u32 {
                let task = unblock(move || panic_any(n));
                let result: thread::Result<()> = AssertUnwindSafe(task).catch_unwind().await;
                assert_eq!(*result.unwrap_err().downcast::<u32>().unwrap(), n);
                assert_eq!(unblock(move || n + 1).await, n + 1);
            }
        });
    });
}

#[test]
fn a_panic_of_a_closure_that_is_not_awaited_harms_nothing() {
    watchdog(|| {
        let (send, receive) = mpsc::channel();
        let future = unblock(move || {
            let _told = send;
            panic!("on purpose, unheard");
        });
        assert_eq!(receive.recv(), Err::<(), _>(mpsc::RecvError));
        drop(future);
        assert_eq!(block_on(unblock(|| 6)), 6);
    });
}

/// Keeps all threads of the pool busy. They continue when the returned senders are dropped.
fn fill_the_pool() -> Vec<mpsc::Sender<()>> {
    let threads: usize = std::env::var("BLOCKING_MAX_THREADS")
        .unwrap()
        .parse()
        .unwrap();
    let barrier = Arc::new(Barrier::new(threads + 1));
    let senders = (0..threads).map(|_| {
        let (send, receive) = mpsc::channel();
        let barrier = barrier.clone();
        let busy = unblock(move || {
            barrier.wait();
            let _ = receive.recv();
        });
        // It has started, so it continues without its future.
        (send, busy)
    });
    let (senders, busy): (Vec<_>, Vec<_>) = senders.unzip();
    barrier.wait();
    drop(busy);
    senders
}

#[test]
fn a_closure_that_is_dropped_before_it_starts_does_not_run() {
    in_own_process(|| {
        // The variable must be set before the pool starts its first thread.
        let pool = std::env::var("BLOCKING_MAX_THREADS");
        let name = std::env::var("SOLOIST_TEST_CHILD").unwrap();
        if pool.as_deref() != Ok("2") {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args([&name, "--exact", "--nocapture"])
                .env("BLOCKING_MAX_THREADS", "2")
                .status();
            assert!(status.unwrap().success());
            return;
        }
        let release = fill_the_pool();
        let ran = leak(AtomicUsize::new(0));
        let job = || unblock(move || ran.fetch_add(1, Ordering::SeqCst));
        let (dropped, kept) = (job(), job());
        block_on(async {
            let mut polled = pin!(job());
            assert!(poll_once(&mut polled).await.is_pending());
        });
        drop(dropped);
        drop(release);
        assert_eq!(block_on(kept), 0);
        assert_eq!(block_on(unblock(|| 1)), 1);
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn b97_a_runtime_ends_while_its_closure_blocks() {
    runtime_test(|runtime| {
        let (release, wait) = mpsc::channel::<()>();
        let (started, start) = mpsc::channel();
        let (ended, end) = mpsc::channel();
        let task = runtime.spawn(async move {
            unblock(move || {
                started.send(()).unwrap();
                let _ = wait.recv();
                ended.send("it has run to its end").unwrap();
            })
            .await
        });
        runtime.block_on(async {
            while start.try_recv().is_err() {
                yield_now().await;
            }
        });
        drop(task);
        // If it were joined here, it would wait for what follows.
        drop(runtime);
        assert!(end.try_recv().is_err());
        drop(release);
        assert_eq!(end.recv(), Ok("it has run to its end"));
    });
}

#[test]
fn b96_many_tiny_jobs_from_many_threads() {
    const THREADS: usize = 4;
    watchdog(|| {
        let sum = leak(AtomicUsize::new(0));
        let run = |jobs: usize| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    thread::spawn(move || {
                        block_on(async {
                            for _ in 0..jobs {
                                unblock(move || sum.fetch_add(1, Ordering::Relaxed)).await;
                            }
                        });
                    })
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        };
        run(5_000);
        // Idle threads of the pool end after half a second: these jobs come at that time.
        for n in 0..3 {
            thread::sleep(Duration::from_micros(499_000 + n * 1_000));
            run(10);
        }
        assert_eq!(sum.load(Ordering::Relaxed), THREADS * 5_030);
    });
}

#[test]
fn a_thousand_closures_at_once() {
    async_test(async || {
        let jobs: Vec<_> = (0..2_000).map(|n| spawn(unblock(move || n * n))).collect();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await, n * n);
        }
    });
}

#[test]
fn the_future_of_unblock_can_be_polled_on_another_thread() {
    watchdog(|| {
        let future: std::pin::Pin<Box<dyn Future<Output = u8> + Send>> = Box::pin(unblock(|| 9));
        let thread = thread::spawn(move || block_on(future));
        assert_eq!(thread.join().unwrap(), 9);
    });
}

#[test]
fn a_file_through_unblock() {
    watchdog(|| {
        let path = std::env::temp_dir().join(format!("soloist-unblock-{}", std::process::id()));
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        block_on(async {
            let file = unblock({
                let path = path.clone();
                move || {
                    std::fs::File::options()
                        .create(true)
                        .truncate(true)
                        .read(true)
                        .write(true)
                        .open(path)
                }
            });
            let mut file = Unblock::new(file.await.unwrap());
            file.write_all(&bytes).await.unwrap();
            file.flush().await.unwrap();
            let length = file
                .with_mut(|file| file.metadata().map(|data| data.len()))
                .await;
            assert_eq!(length.unwrap(), bytes.len() as u64);
            file.seek(std::io::SeekFrom::Start(1000)).await.unwrap();
            let mut read = Vec::new();
            file.read_to_end(&mut read).await.unwrap();
            assert!(read == bytes[1000..]);
            let _file: std::fs::File = file.into_inner().await;
            // The file does not exist: the error is that of the system.
            let missing = path.with_extension("missing");
            let error = unblock(move || std::fs::read(missing)).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        });
        std::fs::remove_file(path).unwrap();
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_without_blocking_work_has_one_thread() {
    in_own_process(|| {
        // In addition to the threads of the test and of the test harness.
        let names = || -> HashSet<String> {
            std::fs::read_dir("/proc/self/task")
                .unwrap()
                .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
                .collect()
        };
        block_on(async { yield_now().await });
        assert!(!names().iter().any(|name| name.starts_with("blocking-")));
        block_on(unblock(|| ()));
        assert!(names().iter().any(|name| name.starts_with("blocking-")));
    });
}

/// While the system refuses to start threads, the pool tries again and again.
#[cfg(target_os = "linux")]
#[test]
fn b95_a_job_survives_a_lack_of_threads() {
    let text = in_own_process(|| {
        let (go, wait) = mpsc::channel();
        let helper = thread::spawn(move || {
            wait.recv().unwrap();
            thread::sleep(50 * MS);
            crate::sys::limit_threads(None);
        });
        // The limit does not apply to root.
        crate::sys::become_nobody();
        crate::sys::limit_threads(Some(1));
        if thread::Builder::new().spawn(|| ()).is_ok() {
            eprintln!("this system does not limit threads");
            return;
        }
        go.send(()).unwrap();
        assert_eq!(block_on(unblock(|| 8)), 8);
        helper.join().unwrap();
        eprintln!("the limit was felt");
    });
    assert!(
        text.contains("the limit was felt") || text.contains("does not limit"),
        "{text}"
    );
}
