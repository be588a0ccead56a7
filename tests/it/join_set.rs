//! `JoinSet`: independent tasks, a result for each, and dropping cancels all.

use soloist::stream::StreamExt;
use soloist::task::{JoinError, JoinSet};

use crate::support::*;

/// A task that is done when its probe is told to finish.
fn add_probe(set: &JoinSet<()>) -> Rc<Seen> {
    let seen = Seen::new();
    set.spawn(seen.probe());
    seen
}

/// The results that are there, without waiting.
fn finished<T: 'static>(set: &mut JoinSet<T>) -> Vec<Result<T, JoinError>> {
    std::iter::from_fn(|| set.try_join_next()).collect()
}

/// What an error says after the name of the task and its place.
fn text<T: std::fmt::Debug>(result: Result<T, JoinError>) -> String {
    let text = result.unwrap_err().to_string();
    let (_, text) = text.split_once(") ").expect("the place");
    text.to_string()
}

#[test]
fn an_empty_set_returns_none_and_can_be_used_again() {
    async_test(async || {
        let mut set = JoinSet::default();
        assert!(set.is_empty());
        assert!(set.join_next().await.is_none());
        assert!(set.try_join_next().is_none());
        set.shutdown().await;
        set.spawn(async { 1 });
        assert_eq!(set.join_next().await.unwrap().unwrap(), 1);
        assert!(set.join_next().await.is_none());
    });
}

#[test]
fn results_come_in_the_order_in_which_the_tasks_finish() {
    async_test(async || {
        let mut set = JoinSet::new();
        for n in [3, 1, 2] {
            set.spawn(async move {
                yields(n).await;
                n
            });
        }
        for (left, n) in [(2, 1), (1, 2), (0, 3)] {
            assert_eq!(set.join_next().await.unwrap().unwrap(), n);
            assert_eq!(set.len(), left);
        }
    });
}

#[test]
fn it_is_a_stream_of_results() {
    async_test(async || {
        let set = JoinSet::new();
        for n in 0..3 {
            set.spawn(async move { n });
        }
        let results: Vec<_> = set.map(Result::unwrap).collect().await;
        assert_eq!(results, [0, 1, 2]);
    });
}

#[test]
fn a_panic_is_the_result_of_its_task_only() {
    async_test(async || {
        let mut set = JoinSet::new();
        let at = line!() + 1;
        set.spawn(async { panic!("the words of the child") });
        let other = add_probe(&set);
        let error = set.join_next().await.unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "task `task-1` (spawned at {}:{at}:13) panicked: the words of the child",
                file!()
            )
        );
        assert_eq!(other.counts(), (1, 0));
        other.finish();
        set.join_next().await.unwrap().unwrap();
        assert_eq!(other.counts(), (2, 1));
    });
}

#[test]
fn a_task_that_is_aborted_is_one_result_and_the_others_run_on() {
    async_test(async || {
        let mut set = JoinSet::new();
        let seen = [add_probe(&set), add_probe(&set), add_probe(&set)];
        let handle = set.spawn(pending());
        yield_now().await;
        handle.abort();
        let error = set.join_next().await.unwrap().unwrap_err();
        assert_eq!(
            (error.is_cancelled(), error.id()),
            (true, Some(handle.id()))
        );
        // It is over: this does nothing.
        handle.abort();
        assert!(set.try_join_next().is_none());
        assert!(seen.iter().all(|seen| seen.counts() == (1, 0)));
        assert_eq!(set.len(), 3);
    });
}

#[test]
fn abort_all_keeps_the_results_of_tasks_that_have_finished() {
    async_test(async || {
        let mut set = JoinSet::new();
        set.spawn(async { 1 });
        set.spawn(pending());
        yield_now().await;
        set.spawn(pending());
        set.abort_all();
        assert_eq!(set.len(), 3);
        assert_eq!(set.join_next().await.unwrap().unwrap(), 1);
        for _ in 0..2 {
            assert_eq!(text(set.join_next().await.unwrap()), "was cancelled");
        }
        assert!(set.join_next().await.is_none());
    });
}

#[test]
fn a_child_aborts_all_and_itself_at_the_end_of_its_poll() {
    async_test(async || {
        let set = Rc::new(RefCell::new(JoinSet::<()>::new()));
        let log = Log::new();
        for name in ["a", "b"] {
            set.borrow().spawn(hold(log.on_drop(name)));
        }
        let (inner, in_task) = (set.clone(), log);
        set.borrow().spawn(async move {
            let _guard = in_task.on_drop("child");
            inner.borrow().abort_all();
            in_task.push("aborted");
            yield_now().await;
            in_task.push("not reached");
        });
        yields(2).await;
        log.assert(&["aborted", "child", "a", "b"]);
        let results = finished(&mut set.borrow_mut());
        assert_eq!(results.len(), 3);
        assert!(
            results
                .into_iter()
                .all(|result| result.unwrap_err().is_cancelled())
        );
    });
}

#[test]
fn a_set_that_is_dropped_by_one_of_its_tasks_cancels_all_of_them() {
    async_test(async || {
        let set = Rc::new(RefCell::new(Some(JoinSet::<()>::new())));
        let log = Log::new();
        let spawn = |future: Pin<Box<dyn Future<Output = ()>>>| {
            set.borrow().as_ref().unwrap().spawn(future)
        };
        spawn(Box::pin(hold(log.on_drop("sibling"))));
        let (inner, in_task) = (set.clone(), log);
        let own = spawn(Box::pin(async move {
            let _guard = in_task.on_drop("itself");
            let set = inner.take();
            drop(set);
            in_task.push("dropped");
            yield_now().await;
            in_task.push("not reached");
        }));
        let late = spawn(Box::pin(hold(log.on_drop("never polled"))));
        yields(3).await;
        log.assert(&["sibling", "never polled", "dropped", "itself"]);
        own.abort();
        late.abort();
        assert_eq!(Rc::strong_count(&set), 1);
    });
}

#[test]
fn sets_nest_and_dropping_the_outer_one_drops_the_inner_one() {
    async_test(async || {
        let seen = Seen::new();
        let probe = seen.probe();
        let outer = JoinSet::new();
        outer.spawn(async move {
            let mut inner = JoinSet::new();
            inner.spawn(async move {
                let innermost = JoinSet::new();
                innermost.spawn(probe);
                pending::<()>().await;
            });
            inner.join_next().await;
        });
        yields(3).await;
        assert_eq!(seen.counts(), (1, 0));
        drop(outer);
        assert_eq!(seen.counts(), (1, 1));
    });
}

#[test]
fn a_panic_of_a_nested_set_is_a_result_at_each_level() {
    async_test(async || {
        let mut outer = JoinSet::new();
        outer.spawn(async {
            let mut inner = JoinSet::new();
            inner.spawn(async { panic!("from the depth") });
            inner.spawn(async { 1 });
            let first: Result<i32, JoinError> = inner.join_next().await.unwrap();
            first.map_err(|error| std::panic::resume_unwind(error.into_panic()))
        });
        let result: Result<Result<i32, ()>, JoinError> = outer.join_next().await.unwrap();
        assert_eq!(text(result), "panicked: from the depth");
    });
}

#[test]
fn tasks_are_aborted_in_the_order_of_their_spawns_after_most_of_a_set_has_finished() {
    async_test(async || {
        let log = Log::new();
        let mut set = JoinSet::new();
        for n in 0..300 {
            if n % 100 == 50 {
                set.spawn(hold(log.on_drop(n)));
            } else {
                set.spawn(async {});
            }
        }
        for _ in 0..297 {
            set.join_next().await.unwrap().unwrap();
        }
        for n in 300..303 {
            set.spawn(hold(log.on_drop(n)));
        }
        assert_eq!(set.len(), 6);
        yields(1).await;
        set.shutdown().await;
        log.assert(&[50, 150, 250, 300, 301, 302]);
    });
}

#[test]
fn join_next_that_is_dropped_loses_nothing() {
    async_test(async || {
        let mut set = JoinSet::new();
        let seen = add_probe(&set);
        assert_pending(set.join_next()).await;
        seen.finish();
        yield_now().await;
        assert_eq!(set.len(), 1);
        set.join_next().await.unwrap().unwrap();
        assert_eq!(set.len(), 0);
    });
}

#[test]
fn try_join_next_keeps_the_waker_of_an_earlier_poll() {
    async_test(async || {
        let mut set = JoinSet::new();
        let seen = add_probe(&set);
        let (wakes, waker) = CountWakes::new();
        assert!(
            Pin::new(&mut set)
                .poll_next(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert!(set.try_join_next().is_none());
        seen.finish();
        yield_now().await;
        assert_eq!(wakes.get(), 1);
        assert!(set.try_join_next().unwrap().is_ok());
    });
}

#[test]
fn a_waiter_is_woken_once_for_each_task_that_finishes_while_it_waits() {
    async_test(async || {
        let mut set = JoinSet::new();
        let seen: Vec<_> = (0..10).map(|_| add_probe(&set)).collect();
        let polls = Rc::new(Cell::new(0));
        let counter = polls.clone();
        let task = spawn(async move {
            let mut next = std::pin::pin!(async {
                let mut count = 0;
                while let Some(result) = set.join_next().await {
                    result.unwrap();
                    count += 1;
                }
                count
            });
            poll_fn(move |cx| {
                counter.set(counter.get() + 1);
                next.as_mut().poll(cx)
            })
            .await
        });
        yield_now().await;
        assert_eq!(polls.get(), 1);
        seen.iter().for_each(|seen| seen.finish());
        // All ten finish in one generation, and wake the waiter once.
        assert_eq!(task.await, 10);
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn detach_all_lets_the_tasks_run_on() {
    async_test(async || {
        let mut set = JoinSet::new();
        let seen = add_probe(&set);
        yield_now().await;
        set.detach_all();
        assert_eq!((set.len(), seen.counts()), (0, (1, 0)));
        assert!(set.join_next().await.is_none());
        let own = add_probe(&set);
        own.ready.set(true);
        seen.finish();
        yields(2).await;
        assert_eq!(seen.counts(), (2, 1));
        // Only the task that was spawned after that is a result.
        assert_eq!(finished(&mut set).len(), 1);
    });
}

#[test]
fn a_waker_that_was_left_before_detach_all_is_woken_by_a_later_task() {
    async_test(async || {
        let mut set = JoinSet::new();
        set.spawn(pending());
        let (wakes, waker) = CountWakes::new();
        assert!(
            Pin::new(&mut set)
                .poll_next(&mut Context::from_waker(&waker))
                .is_pending()
        );
        set.detach_all();
        set.spawn(async {});
        yield_now().await;
        assert_eq!(wakes.get(), 1);
    });
}

#[test]
fn shutdown_returns_when_all_futures_are_dropped() {
    async_test(async || {
        let mut set = JoinSet::new();
        set.spawn(async {});
        set.spawn(async { panic!("its result is dropped") });
        let seen = [add_probe(&set), add_probe(&set)];
        yield_now().await;
        set.shutdown().await;
        assert!(set.is_empty());
        assert!(seen.iter().all(|seen| seen.counts() == (1, 1)));
    });
}

#[test]
fn a_shutdown_that_is_dropped_has_aborted_all() {
    async_test(async || {
        let mut set = JoinSet::new();
        let seen = [add_probe(&set), add_probe(&set)];
        yield_now().await;
        assert_pending(set.shutdown()).await;
        assert_eq!(set.len(), 2);
        yield_now().await;
        assert!(seen.iter().all(|seen| seen.counts() == (1, 1)));
        assert_eq!(finished(&mut set).len(), 2);
    });
}

#[test]
fn a_destructor_that_panics_makes_an_aborted_task_a_panic() {
    async_test(async || {
        let mut set = JoinSet::<()>::new();
        set.spawn(hold(OnDrop(|| panic!("in the destructor"))));
        yield_now().await;
        set.abort_all();
        assert_eq!(
            text(set.join_next().await.unwrap()),
            "panicked: in the destructor"
        );
    });
}

#[test]
fn tasks_of_a_runtime_that_is_gone_are_cancelled() {
    runtime_test(|runtime| {
        let mut set = runtime.block_on(async {
            let set = JoinSet::<()>::new();
            set.spawn(pending());
            set
        });
        drop(runtime);
        let results = finished(&mut set);
        assert_eq!(results.len(), 1);
        assert!(results[0].as_ref().unwrap_err().is_cancelled());
        let text = panic_of(|| set.spawn(async {}));
        assert!(
            text.contains("`JoinSet::spawn` outside of a soloist runtime"),
            "{text}"
        );
        assert!(set.is_empty());
    });
}

#[test]
fn a_task_that_is_spawned_while_its_runtime_ends_is_cancelled() {
    runtime_test(|runtime| {
        let set = Rc::new(RefCell::new(JoinSet::<()>::new()));
        let inner = set.clone();
        let guard = OnDrop(move || {
            inner.borrow().spawn(async {});
        });
        spawn_detached(&runtime, hold(guard));
        turn(&runtime);
        drop(runtime);
        let results = finished(&mut set.borrow_mut());
        assert_eq!(results.len(), 1);
        assert!(results[0].as_ref().unwrap_err().is_cancelled());
    });
}
