//! `TaskTracker`: it counts tasks until they have finished, and dropping it cancels all.

use soloist::task::{TaskTracker, TrackerSpawner};
use soloist::time::timeout;

use crate::support::*;

/// A task that is done when its probe is told to finish.
fn add_probe(tracker: &TaskTracker) -> Rc<Seen> {
    let seen = Seen::new();
    tracker.spawn(seen.probe());
    seen
}

#[test]
fn a_tracker_without_tasks_is_idle() {
    async_test(async || {
        let tracker = TaskTracker::default();
        assert_eq!((tracker.len(), tracker.is_empty()), (0, true));
        tracker.wait_idle().await;
        tracker.abort_all();
        assert_eq!(format!("{tracker:?}"), "TaskTracker { len: 0, .. }");
    });
}

#[test]
fn tasks_are_counted_until_they_have_finished_for_whatever_reason() {
    async_test(async || {
        let tracker = TaskTracker::new();
        let (a, b) = (add_probe(&tracker), add_probe(&tracker));
        tracker.spawn(async { panic!("in the middle") });
        assert_eq!(tracker.len(), 3);
        yield_now().await;
        assert_eq!(tracker.len(), 2);
        a.finish();
        yield_now().await;
        assert_eq!((tracker.len(), a.counts(), b.counts()), (1, (2, 1), (1, 0)));
        tracker.abort_all();
        yield_now().await;
        assert_eq!((tracker.len(), b.counts()), (0, (1, 1)));
    });
}

#[test]
fn wait_idle_resolves_when_the_last_future_has_been_dropped() {
    async_test(async || {
        let tracker = TaskTracker::new();
        let seen = [add_probe(&tracker), add_probe(&tracker)];
        let polls = Cell::new(0);
        let mut idle = Box::pin(count_polls(&polls, tracker.wait_idle()));
        assert!(poll_once(&mut idle).await.is_pending());
        yield_now().await;
        for (seen, left) in seen.iter().zip([1, 0]) {
            seen.finish();
            yield_now().await;
            assert_eq!((tracker.len(), seen.counts()), (left, (2, 1)));
        }
        idle.await;
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn all_waiters_are_woken_once() {
    async_test(async || {
        let tracker = Rc::new(TaskTracker::new());
        let seen = add_probe(&tracker);
        let polls = leak(Cell::new(0));
        let waiters: Vec<_> = (0..5)
            .map(|_| {
                let tracker = tracker.clone();
                spawn(count_polls(polls, async move { tracker.wait_idle().await }))
            })
            .collect();
        yield_now().await;
        // One that is dropped leaves nothing behind.
        assert_pending(tracker.wait_idle()).await;
        seen.finish();
        join_all(waiters).await;
        assert_eq!(polls.get(), 10);
    });
}

#[test]
fn a_task_that_is_spawned_before_the_waiter_runs_is_waited_for() {
    async_test(async || {
        let tracker = Rc::new(TaskTracker::new());
        let first = add_probe(&tracker);
        let there = tracker.clone();
        let waiter = spawn(async move { there.wait_idle().await });
        yield_now().await;
        first.finish();
        // The first task finishes, and wakes the waiter, before the second one is spawned.
        let there = tracker.clone();
        let second = spawn(async move { add_probe(&there) });
        let second = second.await;
        yields(2).await;
        assert!(!waiter.is_finished());
        second.finish();
        waiter.await;
    });
}

#[test]
fn dropping_the_tracker_cancels_all_at_once() {
    async_test(async || {
        let tracker = TaskTracker::new();
        let seen = [add_probe(&tracker), add_probe(&tracker)];
        yield_now().await;
        drop(tracker);
        assert!(seen.iter().all(|seen| seen.counts() == (1, 1)));
    });
}

#[test]
fn tasks_spawn_siblings_and_a_spawner_keeps_nothing_alive() {
    async_test(async || {
        let tracker = TaskTracker::new();
        let spawner = tracker.spawner();
        let (siblings, log) = (spawner.clone(), Log::new());
        tracker.spawn(async move {
            for name in ["a", "b"] {
                siblings.spawn(async move { log.push(name) });
            }
        });
        assert_eq!(tracker.len(), 1);
        tracker.wait_idle().await;
        log.assert(&["a", "b"]);

        let seen = add_probe(&tracker);
        drop(tracker);
        assert_eq!(seen.counts(), (0, 1));
        let refused = Seen::new();
        spawner.spawn(refused.probe());
        assert_eq!(refused.counts(), (0, 1));
    });
}

#[test]
fn what_a_destructor_spawns_while_the_tracker_is_dropped_is_dropped() {
    async_test(async || {
        fn add(spawner: TrackerSpawner, seen: Rc<Seen>) {
            let siblings = spawner.clone();
            spawner.spawn(hold(OnDrop(move || siblings.spawn(seen.probe()))));
        }
        let tracker = TaskTracker::new();
        let seen = Seen::new();
        add(tracker.spawner(), seen.clone());
        yield_now().await;
        drop(tracker);
        assert_eq!(seen.counts(), (0, 1));
    });
}

#[test]
fn a_tracker_that_is_dropped_by_one_of_its_tasks_cancels_all_of_them() {
    async_test(async || {
        let tracker = Rc::new(RefCell::new(Some(TaskTracker::new())));
        let log = Log::new();
        let spawner = tracker.borrow().as_ref().unwrap().spawner();
        spawner.spawn(hold(log.on_drop("sibling")));
        let inner = tracker.clone();
        spawner.spawn(async move {
            let _guard = log.on_drop("itself");
            let tracker = inner.take();
            drop(tracker);
            log.push("dropped");
            yield_now().await;
            log.push("not reached");
        });
        yields(2).await;
        log.assert(&["sibling", "dropped", "itself"]);
        assert_eq!(Rc::strong_count(&tracker), 1);
    });
}

#[test]
fn a_destructor_that_drops_the_tracker_is_safe() {
    async_test(async || {
        let tracker = Rc::new(RefCell::new(Some(TaskTracker::new())));
        let (inner, log) = (tracker.clone(), Log::new());
        let spawner = tracker.borrow().as_ref().unwrap().spawner();
        spawner.spawn(hold(OnDrop(move || {
            let tracker = inner.take();
            drop(tracker);
            log.push("the tracker is gone");
        })));
        spawner.spawn(hold(log.on_drop("the sibling")));
        yield_now().await;
        tracker.borrow().as_ref().unwrap().abort_all();
        yields(2).await;
        log.assert(&["the sibling", "the tracker is gone"]);
    });
}

#[test]
fn an_abort_by_a_child_ends_all_and_the_drain() {
    async_test(async || {
        let tracker = Rc::new(TaskTracker::new());
        let seen = add_probe(&tracker);
        let inner = Rc::downgrade(&tracker);
        tracker.spawn(async move {
            inner.upgrade().unwrap().abort_all();
            pending::<()>().await;
        });
        tracker.wait_idle().await;
        assert_eq!(seen.counts(), (1, 1));
    });
}

#[test]
fn a_panic_is_reported_with_the_name_of_the_task() {
    let stderr = async_in_own_process(async || {
        let tracker = TaskTracker::new();
        tracker.spawn(async { panic!("the words of the child") });
        tracker.spawn(hold(OnDrop(|| panic!("the words of the destructor"))));
        yield_now().await;
        tracker.abort_all();
        tracker.wait_idle().await;
    });
    for (task, text) in [
        (1, "the words of the child"),
        (2, "the words of the destructor"),
    ] {
        let report = format!("soloist: task `task-{task}` (spawned at ");
        assert_eq!(stderr.matches(&report).count(), 1, "{stderr}");
        assert_eq!(stderr.matches(text).count(), 1, "{stderr}");
    }
}

#[test]
fn a_drain_with_a_deadline_says_how_many_are_left() {
    async_test(async || {
        let tracker = TaskTracker::new();
        let seen = [add_probe(&tracker), add_probe(&tracker)];
        seen[0].ready.set(true);
        assert!(timeout(MS, tracker.wait_idle()).await.is_err());
        assert_eq!(tracker.len(), 1);
        drop(tracker);
        assert_eq!(seen[1].counts().1, 1);
    });
}

#[test]
fn a_task_that_is_spawned_while_its_runtime_ends_is_not_counted() {
    runtime_test(|runtime| {
        let tracker = TaskTracker::new();
        let (spawner, seen) = (tracker.spawner(), Seen::new());
        let late = seen.clone();
        spawn_detached(&runtime, hold(OnDrop(move || spawner.spawn(late.probe()))));
        turn(&runtime);
        drop(runtime);
        assert_eq!((tracker.len(), seen.counts()), (0, (0, 1)));
        let text = panic_of(|| tracker.spawn(async {}));
        assert!(
            text.contains("`TaskTracker::spawn` outside of a soloist runtime"),
            "{text}"
        );
        assert!(tracker.is_empty());
    });
}
