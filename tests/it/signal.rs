//! Signals: the last one is never lost, and a flood of wakes does not delay them.

use std::io;
use std::pin::pin;
use std::sync::atomic::AtomicBool;

use futures_lite::StreamExt;
use futures_lite::future::{or, zip};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGUSR1, SIGUSR2};
use signal_hook::low_level::raise;
use soloist::signal::ctrl_c;
use soloist::signal::unix::{SignalKind, signal};

use crate::support::*;

const USR1: SignalKind = SignalKind::user_defined1();

#[test]
fn pending_signals_coalesce_and_later_ones_are_reported() {
    async_in_own_process(async || {
        let mut signals = signal(USR1).unwrap();
        for _ in 0..3 {
            assert_pending(signals.recv()).await;
            for _ in 0..1_000 {
                raise(SIGUSR1).unwrap();
            }
            signals.recv().await.unwrap();
            assert_pending(signals.recv()).await;
            // The same while a task waits.
            let raised = async {
                sleep(MS).await;
                raise(SIGUSR1).unwrap();
            };
            zip(async { signals.recv().await.unwrap() }, raised).await;
        }
    });
}

#[test]
fn the_last_of_a_thousand_signals_is_not_lost() {
    async_in_own_process(async || {
        let mut signals = signal(USR1).unwrap();
        // As fast as possible: the last signal must be reported.
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let sender = thread::spawn(move || {
            for n in 1..=1_000 {
                counter.store(n, Ordering::SeqCst);
                raise(SIGUSR1).unwrap();
            }
        });
        while sent.load(Ordering::SeqCst) < 1_000 {
            signals.recv().await.unwrap();
        }
        sender.join().unwrap();

        // One at a time: each is the last one for a while.
        drop(signals);
        let mut signals = signal(USR1).unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = seen.clone();
        let sender = thread::spawn(move || {
            for n in 1..=1_000 {
                raise(SIGUSR1).unwrap();
                while counter.load(Ordering::SeqCst) < n {
                    thread::yield_now();
                }
            }
        });
        for n in 1..=1_000 {
            signals.recv().await.unwrap();
            seen.store(n, Ordering::SeqCst);
        }
        sender.join().unwrap();
        assert_pending(signals.recv()).await;
    });
}

#[test]
fn a_signal_is_a_stream() {
    async_in_own_process(async || {
        let mut signals = signal(USR1).unwrap();
        for _ in 0..3 {
            raise(SIGUSR1).unwrap();
            let report: Option<io::Result<()>> = signals.next().await;
            report.expect("it has no end").unwrap();
        }
    });
}

#[test]
fn ctrl_c_is_reported_beside_tasks_that_wake_themselves() {
    async_in_own_process(async || {
        for _ in 0..100 {
            spawn(async {
                loop {
                    yield_now().await;
                }
            })
            .detach();
        }
        let polls = Cell::new(0);
        let busy = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            if polls.get() == 100 {
                raise(SIGINT).unwrap();
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        or(ctrl_c(), busy).await.unwrap();
    });
}

#[test]
fn b98_ctrl_c_is_reported_during_a_flood_of_wakes_and_signals() {
    async_in_own_process(async || {
        // More than any buffer holds, and not read.
        let mut unread = signal(SignalKind::user_defined2()).unwrap();
        for _ in 0..10_000 {
            raise(SIGUSR2).unwrap();
        }
        let over = Arc::new(AtomicBool::new(false));
        let flood = |waker: std::task::Waker| {
            let over = over.clone();
            thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    waker.wake_by_ref();
                }
            })
        };
        let mut threads = Vec::new();
        let polls = Cell::new(0);
        let busy = poll_fn(|cx| {
            if threads.is_empty() {
                threads.extend((0..2).map(|_| flood(cx.waker().clone())));
            }
            polls.set(polls.get() + 1);
            if polls.get() == 100 {
                thread::spawn(|| raise(SIGINT).unwrap());
            }
            Poll::<io::Result<()>>::Pending
        });
        or(ctrl_c(), busy).await.unwrap();
        over.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }

        unread.recv().await.unwrap();
        assert_pending(unread.recv()).await;
        raise(SIGUSR2).unwrap();
        unread.recv().await.unwrap();
    });
}

#[test]
fn each_listener_receives_its_signal_and_no_other() {
    in_own_process(|| {
        let (told, wait) = std::sync::mpsc::channel();
        let elsewhere = thread::spawn(move || {
            block_on(async {
                let mut signals = signal(USR1).unwrap();
                told.send(()).unwrap();
                signals.recv().await.unwrap();
            });
        });
        wait.recv().unwrap();
        block_on(async {
            let (mut a, mut b) = (signal(USR1).unwrap(), signal(USR1).unwrap());
            let mut other = signal(SignalKind::user_defined2()).unwrap();
            raise(SIGUSR1).unwrap();
            let (a_heard, b_heard) = zip(a.recv(), b.recv()).await;
            a_heard.unwrap();
            b_heard.unwrap();
            assert_pending(other.recv()).await;

            drop(a);
            raise(SIGUSR1).unwrap();
            b.recv().await.unwrap();
        });
        elsewhere.join().unwrap();
    });
}

#[test]
fn a_dropped_listener_leaves_nothing_behind() {
    async_in_own_process(async || {
        drop(signal(USR1).unwrap());
        // It does not end the process, and the next listener does not hear of it.
        raise(SIGUSR1).unwrap();
        let mut signals = signal(USR1).unwrap();
        assert_pending(signals.recv()).await;

        #[cfg(target_os = "linux")]
        let before = open_fds();
        for _ in 0..1_000 {
            let mut given_up = signal(USR1).unwrap();
            assert_pending(given_up.recv()).await;
            assert_pending(ctrl_c()).await;
        }
        #[cfg(target_os = "linux")]
        assert_eq!(open_fds(), before);
        raise(SIGINT).unwrap();
        raise(SIGUSR1).unwrap();
        signals.recv().await.unwrap();
    });
}

#[test]
fn a_listener_moves_to_another_thread_and_outlives_a_runtime() {
    in_own_process(|| {
        let mut signals = block_on(async { signal(USR1) }).unwrap();
        raise(SIGUSR1).unwrap();
        block_on(signals.recv()).unwrap();
        // It has waited on this thread.
        block_on(async {
            assert_pending(signals.recv()).await;
        });
        raise(SIGUSR1).unwrap();
        thread::spawn(move || {
            block_on(signals.recv()).unwrap();
            thread::spawn(|| {
                thread::sleep(5 * MS);
                raise(SIGUSR1).unwrap();
            });
            block_on(signals.recv()).unwrap();
        })
        .join()
        .unwrap();
    });
}

#[test]
fn a_signal_from_another_process_arrives() {
    async_in_own_process(async || {
        let mut hangup = signal(SignalKind::hangup()).unwrap();
        let kill = format!("kill -HUP {}", std::process::id());
        let kill = std::process::Command::new("sh").args(["-c", &kill]).spawn();
        hangup.recv().await.unwrap();
        assert!(kill.unwrap().wait().unwrap().success());
    });
}

#[test]
fn outside_of_a_runtime_it_is_an_error() {
    watchdog(|| {
        let error = signal(USR1).unwrap_err();
        assert!(error.to_string().contains("block_on"), "{error}");

        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match pin!(ctrl_c()).poll(&mut cx) {
            Poll::Ready(Err(error)) => assert!(error.to_string().contains("block_on"), "{error}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn kinds_have_names_and_numbers() {
    assert_eq!(SignalKind::child().as_raw(), SIGCHLD);
    assert_eq!(SignalKind::from_raw(SIGINT), SignalKind::interrupt());
    assert_eq!(
        format!("{:?}", SignalKind::interrupt()),
        "SignalKind(SIGINT)"
    );
    assert_eq!(SignalKind::from_raw(60).to_string(), "signal 60");
}

#[test]
fn a_program_that_waits_for_ctrl_c_is_idle() {
    async_in_own_process(async || {
        let waiting = spawn(async {
            ctrl_c().await.unwrap();
            pending::<()>().await;
        });
        assert_idle(50 * MS).await;
        assert!(!waiting.is_finished());
    });
}
