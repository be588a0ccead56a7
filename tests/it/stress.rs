//! Races that the models do not cover, because they depend on the reference counts of std: another
//! thread has a waker of a task while the task, or its runtime, ends.
//!
//! The heavy tests, here and elsewhere:
//!
//!     cargo test --release --test it -- --ignored stress:: threads::b82
//!     .ci/sanitize.sh thread       # the light ones under ThreadSanitizer
//!
//! (`threads::b82_none_of_a_million_calls_is_lost` races calls with going idle. It needs two
//! cores.)

use fastrand::Rng;

use crate::support::*;

/// What the other thread does with the waker.
fn use_up(how: u64, waker: Waker) {
    match how % 4 {
        0 => waker.wake(),
        1 => drop(waker),
        2 => {
            waker.wake_by_ref();
            drop(waker.clone());
            waker.wake();
        }
        _ => {
            let clone = waker.clone();
            drop(waker);
            clone.wake();
        }
    }
}

/// Gives the waker of a task to another thread, which uses it at about the time at which
/// `end` ends the task or its runtime. The future must be dropped once, on this thread.
fn race(rounds: u64, end: impl Fn(Runtime, &Seen, u64) + Send + 'static) {
    watchdog(move || {
        let (send, receive) = mpsc::sync_channel::<(u64, Waker)>(0);
        let turns = Arc::new(AtomicUsize::new(0));
        let done = turns.clone();
        let thread = thread::spawn(move || {
            let mut random = Rng::with_seed(1);
            for (how, waker) in receive {
                for _ in 0..random.u64(..300) {
                    std::hint::spin_loop();
                }
                use_up(how, waker);
                done.fetch_add(1, Ordering::Release);
            }
        });
        let mut random = Rng::with_seed(2);
        for round in 0..rounds {
            let runtime = Runtime::new();
            let seen = Seen::new();
            let task = runtime.spawn(seen.probe());
            turn(&runtime);
            // The only waker: the last reference to the task may be that of the other thread.
            let waker = seen.waker.take().unwrap();
            match round % 3 {
                0 => task.detach(),
                _ => drop(task),
            }
            send.send((round, waker)).unwrap();
            for _ in 0..random.u64(..300) {
                std::hint::spin_loop();
            }
            end(runtime, &seen, round);
            assert_eq!(seen.drops.get(), 1);
            assert_eq!(seen.dropped_on.get(), Some(thread::current().id()));
            // In half of the rounds the next runtime is created before the other thread is done.
            while round % 2 == 0 && turns.load(Ordering::Acquire) as u64 <= round {
                std::hint::spin_loop();
                thread::yield_now();
            }
        }
        drop(send);
        thread.join().unwrap();
    });
}

fn drop_the_runtime(rounds: u64) {
    race(rounds, |runtime, _, _| drop(runtime));
}

fn end_the_task(rounds: u64) {
    race(rounds, |runtime, seen, round| {
        seen.ready.set(true);
        turn(&runtime);
        if round % 5 == 0 {
            runtime.block_on(yield_now());
        }
        drop(runtime);
    });
}

#[test]
fn a_wake_races_with_the_drop_of_the_runtime() {
    drop_the_runtime(3_000);
}

#[test]
#[ignore = "heavy: a hundred thousand runtimes"]
fn a_hundred_thousand_wakes_race_with_drops_of_the_runtime() {
    drop_the_runtime(100_000);
}

#[test]
fn the_last_reference_to_a_task_is_dropped_on_another_thread() {
    end_the_task(3_000);
}

#[test]
#[ignore = "heavy: a hundred thousand tasks"]
fn a_hundred_thousand_last_references_are_dropped_on_another_thread() {
    end_the_task(100_000);
}
