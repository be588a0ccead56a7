//! Sleeps, timeouts and intervals.

#![expect(
    clippy::async_yields_async,
    reason = "sleeps go from one runtime to the other"
)]

use std::future::ready;
use std::io;

use fastrand::Rng;
use futures_lite::future::or;
use futures_lite::{StreamExt, stream};
use soloist::time::{
    MissedTickBehavior, Sleep, interval, interval_at, now, sleep_until, timeout, timeout_at,
};

use crate::support::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The names of what was woken, in order.
type Log = Arc<Mutex<Vec<u64>>>;

fn logging_waker(log: &Log, id: u64) -> Waker {
    let log = log.clone();
    waker_fn(move || log.lock().unwrap().push(id))
}

fn async_with_both_waits(test: impl AsyncFn() + Send + Clone + 'static) {
    with_both_waits(move || block_on(test()));
}

// Durations and deadlines at their limits.

#[test]
fn b41_a_deadline_that_overflows_never_fires() {
    watchdog(|| {
        for far in [
            Duration::MAX,
            Duration::from_nanos(u64::MAX),
            Duration::from_millis(u64::MAX),
            Duration::from_secs(u64::MAX),
            Duration::from_secs(i64::MAX as u64),
            Duration::from_secs(i64::MAX as u64) - MS,
        ] {
            block_on(async {
                let mut sleeps = [sleep(far), sleep(Duration::ZERO), sleep(HOUR)];
                let [first, second, third] = &mut sleeps;
                (&mut *second).await;
                assert!(poll_once(first).await.is_pending());
                // Deadlines can be copied from one sleep to another.
                second.reset(first.deadline());
                assert!(poll_once(second).await.is_pending());
                assert!(poll_once(third).await.is_pending());
                third.reset(first.deadline());
                assert!(poll_once(third).await.is_pending());

                assert_eq!(timeout(far, ready(1)).await, Ok(1));
                assert_eq!(timeout(far, async { yield_now().await }).await, Ok(()));
                let mut pending = timeout(far, pending::<()>());
                assert!(poll_once(&mut pending).await.is_pending());

                let mut ticks = interval(far);
                ticks.tick().await;
                assert!(timeout(2 * MS, ticks.tick()).await.is_err());
                ticks.reset();
                assert!(timeout(2 * MS, ticks.tick()).await.is_err());
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);

                let mut late = interval_at(now() - 50 * MS, far);
                late.tick().await;
                assert!(timeout(2 * MS, late.tick()).await.is_err());

                for sleep in &mut sleeps {
                    assert!(poll_once(sleep).await.is_pending());
                }
            });
        }
    });
}

#[test]
fn b41_the_last_instant_of_the_clock_never_fires() {
    watchdog(|| {
        let mut last = Instant::now();
        let mut step = Duration::MAX;
        while step > Duration::ZERO {
            match last.checked_add(step) {
                Some(later) => last = later,
                None => step /= 2,
            }
        }
        block_on(async {
            let mut sleep = sleep_until(last);
            assert!(poll_once(&mut sleep).await.is_pending());
            assert_eq!(timeout_at(last, ready(1)).await, Ok(1));
            let mut ticks = interval_at(last, HOUR);
            assert!(timeout(2 * MS, ticks.tick()).await.is_err());
            assert!(poll_once(&mut sleep).await.is_pending());
        });
    });
}

#[test]
fn b42_far_deadlines_do_not_fire_early() {
    watchdog(|| {
        let mut random = Rng::with_seed(42);
        let (count, waker) = CountWakes::new();
        block_on(async {
            // Log-uniform from 17 s up to what overflows.
            let mut sleeps: Vec<Sleep> = (0..5000)
                .map(|_| {
                    let bits = 34 + random.u64(..56) as u32;
                    let nanos =
                        (1_u128 << bits) + (u128::from(random.u64(..)) >> (64 - bits.min(64)));
                    let nanos = nanos.min(Duration::MAX.as_nanos());
                    let seconds = (nanos / 1_000_000_000) as u64;
                    sleep(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
                })
                .collect();
            for _ in 0..2 {
                for sleep in &mut sleeps {
                    assert!(poll_with(sleep, &waker).is_pending());
                }
                sleep(10 * MS).await;
            }
        });
        assert_eq!(count.get(), 0);
    });
}

#[test]
fn b43_a_far_deadline_is_waited_for_without_a_busy_loop() {
    with_both_waits(|| {
        let a_bit_over = |millis: u64| Duration::from_millis(millis) + MS;
        for far in [
            25 * DAY,
            50 * DAY,
            68 * 365 * DAY,
            140 * 365 * DAY,
            a_bit_over(i32::MAX as u64),
            a_bit_over(u32::MAX.into()),
            Duration::MAX,
        ] {
            block_on(async {
                #[cfg(target_os = "linux")]
                let (cpu, waits) = (thread_cpu_time(), kernel_waits());
                // A machine that is busy elsewhere leaves little CPU time to spin with: so
                // the runtime's own count, too.
                let asked = soloist::inspect::metrics().waits;
                let woken = async {
                    on_thread(|| thread::sleep(20 * MS)).await;
                    true
                };
                let far_off = async {
                    sleep(far).await;
                    false
                };
                assert!(or(far_off, woken).await, "{far:?}");
                let asked = soloist::inspect::metrics().waits - asked;
                assert!(asked <= 20, "{far:?}: {asked} waits");
                #[cfg(target_os = "linux")]
                {
                    let cpu = thread_cpu_time() - cpu;
                    assert!(cpu < 10 * MS, "{far:?}: {cpu:?}");
                    let waits = kernel_waits() - waits;
                    assert!(waits <= 20, "{far:?}: {waits} waits");
                }
            });
        }
    });
}

#[test]
fn b44_sleeps_neither_spin_nor_end_a_millisecond_late() {
    async_with_both_waits(async || {
        // The reactor's timer for the last millisecond is made at its first use.
        sleep(100 * Duration::from_micros(1)).await;
        #[cfg(target_os = "linux")]
        let (cpu, waits) = (thread_cpu_time(), kernel_waits());
        let start = Instant::now();
        sleep(Duration::from_micros(100_700)).await;
        assert!(start.elapsed() >= Duration::from_micros(100_700));
        #[cfg(target_os = "linux")]
        {
            let waits = kernel_waits() - waits;
            assert!(waits <= 6, "{waits} waits");
            let cpu = thread_cpu_time() - cpu;
            assert!(cpu < 10 * MS, "{cpu:?}");
        }

        // The last millisecond is waited for, too.
        #[cfg(target_os = "linux")]
        {
            let cpu = thread_cpu_time();
            for _ in 0..100 {
                sleep(Duration::from_micros(700)).await;
            }
            let cpu = thread_cpu_time() - cpu;
            assert!(cpu < 35 * MS, "{cpu:?}");
        }

        // However busy the machine is, one of a hundred is in time.
        let latest = if cfg!(windows) {
            // The system's tick is up to 15.6 ms long.
            20 * MS
        } else {
            Duration::from_micros(900)
        };
        for micros in [0, 1, 50, 300, 1000, 1050] {
            let wanted = Duration::from_micros(micros);
            let mut took = (0..100).map(|_| async move {
                let start = Instant::now();
                sleep(wanted).await;
                let took = start.elapsed();
                assert!(took >= wanted, "{wanted:?}: {took:?}");
                took
            });
            let mut best = Duration::MAX;
            for future in &mut took {
                best = best.min(future.await);
                if best < wanted + latest {
                    break;
                }
            }
            assert!(best < wanted + latest, "{wanted:?}: {best:?}");
        }
    });
}

#[test]
fn sleeps_never_end_early() {
    with_both_waits(|| {
        let mut random = Rng::with_seed(7);
        block_on(async {
            let tasks: Vec<_> = (0..300)
                .map(|_| {
                    let wanted = Duration::from_nanos(random.u64(..30_000_000));
                    spawn(async move {
                        let start = Instant::now();
                        sleep(wanted).await;
                        assert!(start.elapsed() >= wanted);
                        let deadline = now() + wanted / 10;
                        sleep_until(deadline).await;
                        assert!(Instant::now() >= deadline);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
        });
    });
}

#[test]
fn b45_zero_sleeps_end_during_a_flood_of_wakes() {
    async_with_both_waits(async || {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let stop = Arc::new(Mutex::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !*stopped.lock().unwrap() {
                waker.wake_by_ref();
            }
        });
        for _ in 0..5000 {
            sleep(Duration::ZERO).await;
        }
        *stop.lock().unwrap() = true;
        thread.join().unwrap();
    });
}

#[test]
fn b46_zero_sleeps_let_other_tasks_run() {
    async_test(async || {
        let zeros = leak(Cell::new(0));
        let _zeros = spawn(async move {
            loop {
                sleep(Duration::ZERO).await;
                zeros.set(zeros.get() + 1);
            }
        });
        for _ in 0..1000 {
            let before = zeros.get();
            yield_now().await;
            assert!(zeros.get() - before <= 3);
        }
        let before = zeros.get();
        sleep(2 * MS).await;
        assert!(zeros.get() > before);
    });
}

/// Each poll takes so long that the turn loop looks at the timers after it.
#[test]
fn b46_a_zero_sleep_loop_with_long_polls_starves_no_other_task() {
    async_test(async || {
        let turns = leak(Cell::new(0));
        let _other = spawn(async move {
            loop {
                yield_now().await;
                turns.set(turns.get() + 1);
            }
        });
        let mut longest_pause = 0;
        let (mut seen, mut pause) = (0, 0);
        for _ in 0..100 {
            sleep(Duration::ZERO).await;
            compute_for(2 * MS);
            if turns.get() == seen {
                pause += 1;
                longest_pause = longest_pause.max(pause);
            } else {
                seen = turns.get();
                pause = 0;
            }
        }
        assert!(longest_pause <= 3, "{longest_pause} polls in a row");
    });
}

#[test]
fn b47_deadlines_close_to_now_are_not_missed() {
    async_with_both_waits(async || {
        for nanos in 0..4000 {
            let past = Duration::from_nanos(nanos % 1000);
            sleep_until(now() - past).await;
            sleep_until(now()).await;
            sleep_until(now() + Duration::from_nanos(nanos % 1001)).await;
        }
        // All of them at once.
        let base = now();
        let all: Vec<_> = (0..4000)
            .map(|nanos| sleep_until(base + Duration::from_nanos(nanos)))
            .map(spawn)
            .collect();
        for one in all {
            one.await;
        }
    });
}

#[test]
fn b48_a_sleep_ends_within_a_poll_that_does_not_return() {
    async_test(async || {
        let mut sleep = sleep(5 * MS);
        let start = Instant::now();
        let mut busy = stream::repeat(());
        poll_fn(|cx| {
            loop {
                if Pin::new(&mut sleep).poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                assert!(busy.poll_next(cx).is_ready());
                assert!(start.elapsed() < 20 * SECOND, "it does not end");
            }
        })
        .await;
        assert!(start.elapsed() >= 5 * MS);
    });
}

#[test]
fn b48_a_sleep_ends_beside_a_stream_that_wakes_itself() {
    async_test(async || {
        let busy = async {
            loop {
                yield_now().await;
            }
        };
        or(sleep(5 * MS), busy).await;
        let never = stream::repeat(()).then(|()| yield_now()).count();
        assert!(timeout(5 * MS, never).await.is_err());
    });
}

#[test]
fn b49_only_the_waker_of_the_last_poll_is_woken() {
    async_test(async || {
        let [(a, waker_a), (b, waker_b)] = [CountWakes::new(), CountWakes::new()];
        let mut first = sleep(100 * MS);
        assert!(poll_with(&mut first, &waker_a).is_pending());
        assert!(poll_with(&mut first, &waker_a).is_pending());
        assert!(poll_with(&mut first, &waker_b).is_pending());
        // The new deadline wakes the waiter of the old one.
        let mut second = sleep(HOUR);
        assert!(poll_with(&mut second, &waker_a).is_pending());
        assert!(poll_with(&mut second, &waker_b).is_pending());
        second.reset(now() + 5 * MS);
        sleep(110 * MS).await;
        assert_eq!((a.get(), b.get()), (0, 2));
        assert_eq!(Arc::strong_count(&b), 2, "no waker is kept");
    });
}

/// Random operations, each timer with a waker of its own; what is woken, in which order,
/// against a list.
fn random_operations(rounds: usize, timers_per_round: usize) {
    let mut random = Rng::with_seed(50);
    block_on(async {
        let context = &mut Context::from_waker(Waker::noop());
        let mut operations = 0;
        let mut left = rounds;
        while left > 0 {
            let log = Log::default();
            let base = now() + 2 * MS;
            let within = |random: &mut Rng| {
                // Many of them are equal.
                base + Duration::from_micros(random.u64(..20)) * 10
            };
            // A sleep, its name, and when and in which place it was set.
            let mut sleeps: Vec<(Sleep, u64, Instant, usize)> = Vec::new();
            for name in 0..timers_per_round as u64 {
                operations += 1;
                let due = within(&mut random);
                let mut sleep = sleep_until(due);
                let waker = logging_waker(&log, name);
                let _ = poll_with(&mut sleep, &waker);
                sleeps.push((sleep, name, due, operations));
                for _ in 0..3 {
                    let nth = random.u64(..sleeps.len() as u64) as usize;
                    operations += 1;
                    match random.u64(..6) {
                        0 => drop(sleeps.swap_remove(nth)),
                        1 => {
                            let entry = &mut sleeps[nth];
                            entry.2 = within(&mut random);
                            entry.3 = operations;
                            entry.0.reset(entry.2);
                        }
                        // To a distant time and back.
                        2 => {
                            let entry = &mut sleeps[nth];
                            entry.0.reset(base + HOUR);
                            entry.2 = within(&mut random);
                            entry.3 = operations;
                            entry.0.reset(entry.2);
                        }
                        // Another waker for the same sleep.
                        _ => {
                            let entry = &mut sleeps[nth];
                            let waker = logging_waker(&log, entry.1);
                            let _ = poll_with(&mut entry.0, &waker);
                        }
                    }
                    if sleeps.is_empty() {
                        break;
                    }
                }
            }
            if Instant::now() >= base {
                // The machine was too busy for this round: some may have fired.
                continue;
            }
            left -= 1;
            let last = sleeps.iter().map(|entry| entry.2).max();
            sleep_until(last.unwrap_or(base) + Duration::from_nanos(1)).await;
            sleeps.sort_by_key(|&(_, _, due, order)| (due, order));
            let expected: Vec<u64> = sleeps.iter().map(|entry| entry.1).collect();
            assert_eq!(*log.lock().unwrap(), expected);
            for (sleep, ..) in &mut sleeps {
                assert!(Pin::new(sleep).poll(context).is_ready());
            }
        }
        operations
    });
}

#[test]
fn b50_random_operations_wake_in_the_order_of_a_model() {
    watchdog(|| random_operations(300, 60));
}

#[test]
#[ignore = "takes half a minute: a million operations"]
fn b50_a_million_random_operations_wake_in_the_order_of_a_model() {
    watchdog(|| random_operations(5000, 60));
}

#[test]
fn b51_an_interval_costs_one_poll_per_tick() {
    async_with_both_waits(async || {
        let polls = Cell::new(0);
        let start = Instant::now();
        let ticks = count_polls(&polls, async {
            let mut interval = interval(2 * MS);
            for _ in 0..20 {
                interval.tick().await;
            }
        });
        ticks.await;
        assert!(start.elapsed() >= 19 * 2 * MS);
        // The first poll returns the first tick. A late poll returns several.
        assert!(polls.get() <= 20, "{} polls for 20 ticks", polls.get());
    });
}

#[test]
fn b52_equal_deadlines_fire_first_in_first_out() {
    async_test(async || {
        let log = Log::default();
        let due = now() + 10 * MS;
        let mut sleeps: Vec<Sleep> = (0..100).map(|_| sleep_until(due)).collect();
        // The order of the first polls counts, not the one in which they were made.
        let order = (0..100).map(|n| (n * 37) % 100);
        for name in order.clone() {
            let waker = logging_waker(&log, name);
            assert!(poll_with(&mut sleeps[name as usize], &waker).is_pending());
        }
        sleep_until(due).await;
        assert_eq!(*log.lock().unwrap(), order.collect::<Vec<_>>());
    });
}

#[test]
fn b52_a_timer_set_by_a_woken_task_fires_in_a_later_batch() {
    watchdog(|| {
        let expected = [
            "first 0", "first 1", "first 2", "second 0", "second 1", "second 2",
        ];
        let attempt = || {
            block_on(async {
                let log: Rc<RefCell<Vec<String>>> = Rc::default();
                let due = now() + 5 * MS;
                let tasks: Vec<_> = (0..3)
                    .map(|task| {
                        let log = log.clone();
                        spawn(async move {
                            let say = |text: String| log.borrow_mut().push(text);
                            sleep_until(due).await;
                            say(format!("first {task}"));
                            // It is due before the others are polled.
                            sleep(Duration::ZERO).await;
                            say(format!("second {task}"));
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await;
                }
                log.take() == expected
            })
        };
        // If the machine takes its time between two polls, the timers are looked at there.
        assert!((0..20).any(|_| attempt()));
    });
}

/// As the test above, but the waker itself sets the timer.
#[test]
fn b52_a_timer_set_by_a_waker_fires_after_the_tasks_of_its_batch() {
    async_test(async || {
        let log = Log::default();
        let due = now() + 5 * MS;
        let set: Arc<Mutex<Option<Sleep>>> = Arc::default();
        let (inner, keep) = (logging_waker(&log, 2), set.clone());
        let waker = waker_fn(move || {
            let mut sleep = sleep(Duration::ZERO);
            assert!(poll_with(&mut sleep, &inner).is_pending());
            *keep.lock().unwrap() = Some(sleep);
        });
        let mut first = sleep_until(due);
        assert!(poll_with(&mut first, &waker).is_pending());
        sleep_until(due).await;
        assert!(log.lock().unwrap().is_empty());
        log.lock().unwrap().push(1);
        sleep(MS).await;
        assert_eq!(*log.lock().unwrap(), [1, 2]);
    });
}

#[test]
fn b53_sooner_and_nested_deadlines_fire_in_order() {
    with_both_waits(|| {
        let order = |task: u32| Duration::from_micros(2500) * (task + 1);
        block_on(async {
            let base = now();
            let log: Rc<RefCell<Vec<u32>>> = Rc::default();
            let tasks: Vec<_> = (0..8)
                .rev()
                .map(|task| {
                    let log = log.clone();
                    spawn(async move {
                        sleep_until(base + order(task)).await;
                        log.borrow_mut().push(task);
                        // Between two deadlines of other tasks.
                        sleep_until(base + order(task) + Duration::from_micros(1200)).await;
                        log.borrow_mut().push(100 + task);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            let expected: Vec<u32> = (0..8).flat_map(|task| [task, 100 + task]).collect();
            assert_eq!(*log.borrow(), expected);
        });
    });
}

#[test]
fn b53_a_sooner_deadline_from_another_thread_shortens_the_wait() {
    async_with_both_waits(async || {
        let handle = Handle::current();
        let woken = on_thread(move || {
            // The runtime waits for the end of the hour by now.
            thread::sleep(20 * MS);
            handle.spawn(|| sleep(5 * MS)).wait().unwrap();
            true
        });
        let hour = async {
            sleep(HOUR).await;
            false
        };
        assert!(or(hour, woken).await);
    });
}

#[test]
fn b54_a_dropped_timer_wakes_no_task() {
    with_both_waits(|| {
        let runtime = Runtime::new();
        runtime.block_on(async {
            #[cfg(target_os = "linux")]
            let waits = kernel_waits();
            let polls = Cell::new(0);
            let start = now();
            let kept = sleep_until(start + 60 * MS);
            let waiting = count_polls(&polls, async {
                let mut given_up: Vec<Sleep> =
                    (10..=50).map(|n| sleep_until(start + n * MS)).collect();
                for sleep in &mut given_up {
                    let _ = poll_once(sleep).await;
                }
                drop(given_up);
                kept.await;
            });
            waiting.await;
            assert!(polls.get() <= 2, "{} polls", polls.get());
            #[cfg(target_os = "linux")]
            assert!(kernel_waits() - waits <= 8);
        });
    });
}

#[test]
fn b54_a_dropped_timer_is_removed_at_once() {
    runtime_test(|runtime| {
        assert_eq!(runtime.next_deadline(), None);
        let (soon, later) = (Instant::now() + HOUR, Instant::now() + 2 * HOUR);
        let (mut first, mut second) =
            runtime.block_on(async { (sleep_until(soon), sleep_until(later)) });
        assert_eq!(runtime.next_deadline(), None, "no task waits yet");
        runtime.block_on(async {
            assert!(poll_once(&mut second).await.is_pending());
            assert!(poll_once(&mut first).await.is_pending());
        });
        assert_eq!(runtime.next_deadline(), Some(soon));
        runtime.block_on(async { drop(first) });
        assert_eq!(runtime.next_deadline(), Some(later));
        runtime.block_on(async { second.reset(soon) });
        assert_eq!(runtime.next_deadline(), Some(soon));

        // Outside of its runtime it leaves when that runs next.
        drop(second);
        runtime.block_on(yield_now());
        assert_eq!(runtime.next_deadline(), None);

        // A timeout whose future is done has no timer.
        runtime.block_on(async {
            timeout(HOUR, ready(())).await.unwrap();
            timeout(HOUR, yield_now()).await.unwrap();
        });
        assert_eq!(runtime.next_deadline(), None);
    });
}

// `Sleep`.

#[test]
fn a_sleep_that_is_done_stays_done_until_it_is_reset() {
    async_test(async || {
        let mut sleep = sleep(MS);
        (&mut sleep).await;
        assert!(poll_once(&mut sleep).await.is_ready());
        assert!(poll_once(&mut sleep).await.is_ready());
        let due = now() + 3 * MS;
        sleep.reset(due);
        assert_eq!(sleep.deadline(), due);
        assert!(poll_once(&mut sleep).await.is_pending());
        sleep.await;
        assert!(now() >= due);
    });
}

/// One task waits for a sleep, and another one resets it.
fn reset_from_outside(first: Duration, then: Duration) {
    let attempt = || {
        block_on(async move {
            let sleep = leak(RefCell::new(sleep(first)));
            let old = sleep.borrow().deadline();
            let polls = Rc::new(Cell::new(0));
            let waiting = {
                let polls = polls.clone();
                spawn(async move {
                    let waiting = poll_fn(|cx| Pin::new(&mut *sleep.borrow_mut()).poll(cx));
                    count_polls(&polls, waiting).await;
                    now()
                })
            };
            yield_now().await;
            let due = now() + then;
            sleep.borrow_mut().reset(due);
            if now() >= old {
                // The machine was too busy: it may have fired.
                return false;
            }
            let done = timeout(3 * SECOND, waiting).await;
            assert!(done.expect("no task was woken") >= due);
            assert!(polls.get() <= 3, "{} polls", polls.get());
            true
        })
    };
    while !attempt() {}
}

#[test]
fn a_reset_wakes_at_the_new_time_without_another_poll() {
    watchdog(|| {
        reset_from_outside(HOUR, 5 * MS);
        reset_from_outside(HOUR, Duration::ZERO);
        reset_from_outside(10 * MS, 30 * MS);
        reset_from_outside(Duration::MAX, 5 * MS);
    });
}

#[test]
fn a_reset_of_a_sleep_without_an_end_wakes_at_the_new_time() {
    async_test(async || {
        let (count, waker) = CountWakes::new();
        let mut first = sleep(HOUR);
        assert!(poll_with(&mut first, &waker).is_pending());
        first.reset(sleep(Duration::MAX).deadline());
        first.reset(now() + MS);
        sleep(5 * MS).await;
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn a_sleep_moves_to_the_runtime_that_polls_it() {
    with_both_waits(|| {
        let (here, there) = (Runtime::new(), Runtime::new());
        let mut sleep = here.block_on(async {
            let mut sleep = sleep(HOUR);
            assert!(poll_once(&mut sleep).await.is_pending());
            sleep
        });
        let due = sleep.deadline();
        assert_eq!(here.next_deadline(), Some(due));
        there.block_on(async { assert!(poll_once(&mut sleep).await.is_pending()) });
        assert_eq!(there.next_deadline(), Some(due));
        here.block_on(yield_now());
        assert_eq!(here.next_deadline(), None, "the entry has moved");

        // To another thread, whose runtime is another one.
        let sleep = thread::spawn(move || {
            block_on(async {
                assert!(poll_once(&mut sleep).await.is_pending());
                let due = now() + 2 * MS;
                sleep.reset(due);
                (&mut sleep).await;
                assert!(now() >= due);
                sleep
            })
        });
        let mut sleep = sleep.join().unwrap();
        there.block_on(yield_now());
        assert_eq!(there.next_deadline(), None);

        // Back, after its last runtime is gone.
        here.block_on(async {
            sleep.reset(now() + 2 * MS);
            sleep.await;
        });
    });
}

#[test]
fn a_drop_or_reset_on_another_thread_reaches_the_runtime_of_a_sleep() {
    runtime_test(|runtime| {
        let (count, waker) = CountWakes::new();
        let mut first = runtime.block_on(async {
            let mut first = sleep(HOUR);
            assert!(poll_with(&mut first, &waker).is_pending());
            first
        });
        let due = Instant::now() + 2 * HOUR;
        let first = thread::spawn(move || {
            first.reset(due);
            first
        });
        let mut first = first.join().unwrap();
        runtime.block_on(yield_now());
        assert_eq!(count.get(), 1, "the waiter is woken");
        runtime.block_on(async { assert!(poll_with(&mut first, &waker).is_pending()) });
        assert_eq!(runtime.next_deadline(), Some(due));

        thread::spawn(move || drop(first)).join().unwrap();
        runtime.block_on(yield_now());
        assert_eq!(runtime.next_deadline(), None);
        assert_eq!(count.get(), 1);
        assert_eq!(Arc::strong_count(&count), 2);
    });
}

#[test]
fn a_sleep_outlives_its_runtime() {
    watchdog(|| {
        let mut first = block_on(async {
            let mut first = sleep(HOUR);
            assert!(poll_once(&mut first).await.is_pending());
            first
        });
        block_on(async {
            first.reset(now() + MS);
            first.await;
        });
        let second = block_on(async {
            let mut second = sleep(3 * MS);
            assert!(poll_once(&mut second).await.is_pending());
            second
        });
        let due = second.deadline();
        block_on(second);
        assert!(Instant::now() >= due);
    });
}

// `timeout`.

#[test]
fn b93_a_timeout_polls_the_future_first() {
    async_test(async || {
        assert_eq!(timeout(Duration::ZERO, ready(1)).await, Ok(1));
        assert_eq!(timeout_at(now() - MS, ready(2)).await, Ok(2));
        // Ready in the poll in which the time is up.
        let late = async {
            yield_now().await;
            compute_for(2 * MS);
            3
        };
        assert_eq!(timeout(MS, late).await, Ok(3));
        assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
    });
}

#[test]
fn a_timeout_polls_the_future_once_for_each_wake() {
    async_test(async || {
        let seen = Seen::new();
        let mut waiting = timeout(5 * MS, seen.probe());
        assert!(poll_once(&mut waiting).await.is_pending());
        assert_eq!(seen.polls.get(), 1);
        assert!((&mut waiting).await.is_err());
        assert!((2..=3).contains(&seen.polls.get()));
        assert_eq!(seen.drops.get(), 0);
        drop(waiting);
        assert_eq!(seen.drops.get(), 1);
    });
}

#[test]
fn nested_timeouts_end_with_the_shorter_one() {
    async_test(async || {
        let inner = timeout(2 * MS, timeout(HOUR, pending::<()>())).await;
        assert!(inner.is_err());
        let outer = timeout(HOUR, timeout(2 * MS, pending::<()>())).await;
        assert!(outer.unwrap().is_err());
    });
}

#[test]
fn elapsed_is_an_error_that_turns_into_an_io_error() {
    watchdog(|| {
        let error = block_on(async { timeout(Duration::ZERO, pending::<()>()).await.unwrap_err() });
        let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
        assert!(boxed.to_string().contains("time was up"), "{boxed}");
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), boxed.to_string());
    });
}

// The clock and the loop.

#[test]
fn runtimes_on_a_thread_have_timers_of_their_own() {
    watchdog(|| {
        let (a, b) = (Runtime::new(), Runtime::new());
        let first = a.spawn(sleep_in(20 * MS));
        let second = b.spawn(sleep_in(2 * MS));
        a.block_on(yield_now());
        b.block_on(second);
        assert!(b.next_deadline().is_none());
        assert!(!first.is_finished());
        a.block_on(first);
    });

    async fn sleep_in(time: Duration) {
        sleep(time).await;
    }
}

#[test]
fn a_turn_waits_for_a_timer_and_at_most_its_limit() {
    runtime_test(|runtime| {
        let task = runtime.spawn(async { sleep(HOUR).await });
        let start = Instant::now();
        let turn = runtime.turn(Some(5 * MS)).unwrap();
        assert_eq!((turn.polled, turn.ready), (1, 0));
        let turn = runtime.turn(Some(5 * MS)).unwrap();
        assert_eq!((turn.polled, turn.ready), (0, 0));
        assert!(start.elapsed() >= 5 * MS);
        assert!(turn.next_deadline.unwrap() >= start + HOUR);
        drop(task);
        runtime.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(runtime.next_deadline(), None);

        let task = runtime.spawn(async { sleep(5 * MS).await });
        while !task.is_finished() {
            assert!(runtime.turn(None).unwrap().polled > 0);
        }
    });
}
