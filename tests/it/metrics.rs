//! `Runtime::metrics`: exact counts of known workloads.

use soloist::inspect;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::TcpStream;

use crate::support::*;

#[test]
fn a_new_runtime_has_counted_nothing() {
    watchdog(|| {
        let metrics = Runtime::new().metrics();
        assert_eq!(format!("{metrics:?}").matches(": 0").count(), 12);
        // A new runtime starts at zero again.
        let first = Runtime::new();
        first.block_on(async { spawn(yield_now()).await });
        assert_ne!(first.metrics(), metrics);
        drop(first);
        assert_eq!(Runtime::new().metrics(), metrics);
    });
}

#[test]
fn metrics_count_tasks_polls_and_turns() {
    runtime_test(|runtime| {
        let count = 7;
        let task = runtime.spawn(async move {
            yields(count as usize).await;
        });
        runtime.spawn(async {}).detach();
        let metrics = runtime.metrics();
        assert_eq!((metrics.spawned, metrics.live, metrics.polls), (2, 2, 0));
        runtime.block_on(task);
        let metrics = runtime.metrics();
        assert_eq!((metrics.spawned, metrics.live), (2, 0));
        // Main twice: last in the first turn, and when woken in the last.
        assert_eq!(metrics.polls, (count + 1) + 1 + 2);
        assert_eq!(metrics.wakes_local, count + 1);
        assert_eq!(metrics.turns, count + 2);
        assert_eq!(metrics.longest_queue, 3);
        assert_eq!((metrics.waits, metrics.wakes_redundant), (0, 0));
    });
}

#[test]
fn wakes_of_ready_tasks_count_as_redundant() {
    runtime_test(|runtime| {
        let mut left = 3;
        let task = runtime.spawn(poll_fn(move |cx| {
            left -= 1;
            let waker = cx.waker().clone();
            for _ in 0..5 {
                waker.wake_by_ref();
            }
            if left == 0 {
                return Poll::Ready(waker);
            }
            Poll::Pending
        }));
        let waker = runtime.block_on(task);
        let metrics = runtime.metrics();
        // Also in its last poll; and one wake of main.
        assert_eq!(metrics.wakes_local, 3 + 1);
        assert_eq!(metrics.wakes_redundant, 4 * 3);
        // The task is done.
        runtime.block_on(async { waker.wake() });
        assert_eq!(runtime.metrics().wakes_redundant, 4 * 3 + 1);
    });
}

#[test]
fn metrics_count_wakes_of_other_threads() {
    runtime_test(|runtime| {
        let probe = Seen::new();
        let task = runtime.spawn(probe.probe());
        turn(&runtime);
        let waker = probe.waker();
        elsewhere(move || waker.wake());
        assert_eq!(
            runtime.metrics().wakes_remote,
            0,
            "it has not been seen yet"
        );
        turn(&runtime);
        let metrics = runtime.metrics();
        assert_eq!((metrics.wakes_remote, metrics.wakes_local), (1, 0));
        assert_eq!(metrics.polls, 2);
        drop(task);
    });
}

#[test]
fn metrics_count_timers() {
    runtime_test(|runtime| {
        let long = runtime.spawn(sleep_for(HOUR));
        let never = runtime.spawn(sleep_for(Duration::MAX));
        runtime.block_on(async {
            sleep(MS).await;
            let metrics = inspect::metrics();
            // A timer that never fires is not counted.
            assert_eq!((metrics.timers_pending, metrics.timers_fired), (1, 1));
        });
        // Outside the runtime, a message removes the timer.
        drop((long, never));
        turn(&runtime);
        let metrics = runtime.metrics();
        assert_eq!((metrics.timers_pending, metrics.timers_fired), (0, 1));
        assert!(metrics.waits >= 1);
        assert_eq!(metrics.events, 0);
    });
}

#[test]
fn metrics_count_waits_and_events() {
    runtime_test(|runtime| {
        runtime.block_on(async {
            let (ours, theirs) = tcp_pair();
            let mut ours = TcpStream::try_from(ours).unwrap();
            let mut theirs = TcpStream::try_from(theirs).unwrap();
            let before = inspect::metrics();
            let reader = spawn(async move { ours.read(&mut [0; 8]).await.unwrap() });
            yield_now().await;
            assert_eq!(inspect::metrics().events, before.events);
            theirs.write_all(b"hello").await.unwrap();
            assert_eq!(reader.await, 5);
            let after = inspect::metrics();
            assert_eq!(after.events, before.events + 1);
            // For the event, for the yield, and for the end of the task.
            assert_eq!(after.wakes_local, before.wakes_local + 3);
        });
    });
}
