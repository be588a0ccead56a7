//! `Builder::warn_slow`, and the times that `Builder::inspect` measures.

use std::iter;

use soloist::inspect;
use soloist::task::Builder;

use crate::support::*;

/// The warnings of a child process that runs `test` on a runtime which warns of polls and turns
/// that take `from` or longer.
fn said<F: Future<Output = ()>>(from: Duration, test: F) -> Vec<String> {
    let stderr = passes_in_child(test_name::<F>(), || {
        show_warnings();
        Runtime::builder().warn_slow(from).build().block_on(test);
    });
    warnings(&stderr)
}

#[test]
fn a_slow_poll_names_the_task() {
    let said = said(200 * MS, async {
        let slow = Builder::new().name("blocks").spawn(async {
            yield_now().await;
            thread::sleep(210 * MS);
            yield_now().await;
        });
        let over = spawn(async { thread::sleep(210 * MS) });
        slow.await;
        over.await;
        thread::sleep(210 * MS);
    });
    // On a busy machine other polls may be slow, too.
    let has = |start: &str, end: &str| {
        let mut lines = said.iter();
        lines.any(|line| line.starts_with(start) && line.contains(end))
    };
    let kept = "has blocked the thread for ";
    // In its last poll, too.
    assert!(
        has("slow poll: task `task-2` (spawned at ", kept),
        "{said:?}"
    );
    assert!(
        has("slow poll: task `blocks` (spawned at ", kept),
        "{said:?}"
    );
    assert!(
        has(
            "slow poll: the future of `block_on` has ",
            kept.trim_start_matches("has ")
        ),
        "{said:?}"
    );
    assert!(
        said.iter()
            .all(|line| !line.starts_with("slow poll: task") || line.contains("slow.rs:"))
    );
}

#[test]
fn many_short_polls_are_reported_as_a_slow_turn() {
    let test = || {
        said(300 * MS, async {
            let tasks: Vec<_> = (0..70)
                .map(|_| spawn(async { thread::sleep(5 * MS) }))
                .collect();
            join_all(tasks).await;
        })
    };
    // On a busy machine a single poll may be slow.
    let held_up = |said: &Vec<String>| said.iter().any(|line| line.starts_with("slow poll"));
    let mut times = iter::repeat_with(test).take(20);
    let said = times.find(|said| !held_up(said)).expect("one in peace");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("slow turn: 70 polls have taken "),
        "{said:?}"
    );
}

#[test]
fn waiting_is_not_reported_as_slow() {
    let said = said(500 * MS, async {
        spawn(async { sleep(600 * MS).await }).await;
    });
    assert_eq!(said, [""; 0]);
}

#[test]
fn times_are_measured_only_with_inspect() {
    watchdog(|| {
        let plain = Runtime::new();
        let warns = Runtime::builder().warn_slow(Duration::MAX).build();
        let not = Runtime::builder().inspect(true).inspect(false).build();
        for runtime in [plain, warns, not] {
            let task = runtime.spawn(pending::<()>());
            turn(&runtime);
            let info = &runtime.tasks()[0];
            assert_eq!(
                (info.age, info.total_poll, info.longest_poll),
                (None, None, None)
            );
            assert_eq!(
                (runtime.metrics().busy, runtime.metrics().idle),
                (None, None)
            );
            drop(task);
        }
    });
}

#[test]
fn inspect_measures_the_polls_of_a_task() {
    watchdog(|| {
        let runtime = Runtime::builder().inspect(true).build();
        let first = runtime.spawn(async { thread::sleep(20 * MS) });
        let task = runtime.spawn(async {
            for _ in 0..3 {
                thread::sleep(10 * MS);
                yield_now().await;
            }
            thread::sleep(30 * MS);
            pending::<()>().await;
        });
        let new = &runtime.tasks()[1];
        assert_eq!(
            (new.total_poll, new.longest_poll),
            (Some(Duration::ZERO), Some(Duration::ZERO))
        );
        turns(&runtime, 4);
        let tasks = runtime.tasks();
        let [info] = &tasks[..] else {
            panic!("{tasks:?}")
        };
        let [age, total, longest] =
            [info.age, info.total_poll, info.longest_poll].map(Option::unwrap);
        assert!(longest >= 30 * MS, "{longest:?}");
        assert!(total >= longest + 30 * MS, "{total:?}");
        assert!(age >= total + 20 * MS, "{age:?}");
        let text = info.to_string();
        assert!(
            text.contains(" polls, ") && text.ends_with(" at once"),
            "{text}"
        );
        // The next task has the slot of the first, but not its times.
        drop(first);
        let next = runtime.spawn(async {});
        let info = &runtime.tasks()[1];
        assert_eq!(info.id, next.id());
        assert_eq!(info.total_poll, Some(Duration::ZERO));
        assert!(info.age.unwrap() < age);
        drop((task, next));
    });
}

#[test]
fn inspect_measures_main_and_the_runtime() {
    watchdog(|| {
        let runtime = Runtime::builder().inspect(true).build();
        runtime.block_on(async {
            thread::sleep(20 * MS);
            sleep(30 * MS).await;
            let main = inspect::dump().main.unwrap();
            assert!(main.total_poll >= Some(20 * MS));
            assert!(main.age >= Some(50 * MS));
            let table = inspect::dump().to_string();
            assert!(
                table.lines().next().unwrap().contains("  busy  longest  "),
                "{table}"
            );
        });
        let (busy, idle) = (
            runtime.metrics().busy.unwrap(),
            runtime.metrics().idle.unwrap(),
        );
        assert!(busy >= 20 * MS, "{busy:?}");
        assert!(idle >= 29 * MS, "{idle:?}");
        // Time outside of it does not count.
        thread::sleep(10 * MS);
        let metrics = runtime.metrics();
        assert_eq!((metrics.busy, metrics.idle), (Some(busy), Some(idle)));
        // The next main starts at zero.
        runtime.block_on(async {
            let main = inspect::dump().main.unwrap();
            assert_eq!(main.total_poll, Some(Duration::ZERO));
        });
    });
}
