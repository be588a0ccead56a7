//! `TaskGroup`: the first failure cancels the others, dropping cancels all, and all children are
//! dropped when it resolves.

use std::pin::pin;

use fastrand::Rng;
use soloist::promise::promise;
use soloist::task::TaskGroup;

use crate::support::*;

type Group<T> = TaskGroup<T, &'static str>;

/// A child that is never done by itself.
fn add_probe<T: 'static>(group: &Group<T>) -> Rc<Seen> {
    let seen = Seen::new();
    let probe = seen.probe();
    group.spawn(async move {
        probe.await;
        pending().await
    });
    seen
}

#[test]
fn an_empty_group_resolves_at_once() {
    async_test(async || {
        let mut group = Group::<u32>::default();
        assert!(group.is_empty());
        assert_eq!(group.next().await, None);
        assert_eq!(group.next().await, None);
        group.spawn(async { Ok(1) });
        assert_eq!(group.next().await, Some(Ok(1)));
        assert_eq!(group.next().await, None);
        assert_eq!(group.join_all().await, Ok(vec![]));
        Group::<u32>::new().cancel().await;
    });
}

#[test]
fn join_all_returns_the_outputs_in_the_order_of_the_spawns() {
    async_test(async || {
        let group = Group::new();
        let mut random = Rng::with_seed(7);
        for n in 0..100 {
            let turns = random.usize(..20);
            group.spawn(async move {
                yields(turns).await;
                Ok(n)
            });
        }
        assert_eq!(group.len(), 100);
        assert_eq!(group.join_all().await, Ok((0..100).collect()));
    });
}

#[test]
fn next_returns_the_outputs_in_the_order_of_completion() {
    async_test(async || {
        let mut group = Group::new();
        for n in [3, 1, 2] {
            group.spawn(async move {
                yields(n).await;
                Ok(n)
            });
        }
        for (left, n) in [(2, 1), (1, 2), (0, 3)] {
            assert_eq!(group.next().await, Some(Ok(n)));
            assert_eq!(group.len(), left);
        }
        assert_eq!(group.next().await, None);
    });
}

#[test]
fn children_are_polled_once_for_each_wake_and_not_in_spawn() {
    async_test(async || {
        let group = Group::<()>::new();
        let seen: Vec<_> = (0..10).map(|_| add_probe(&group)).collect();
        assert!(seen.iter().all(|seen| seen.counts() == (0, 0)));
        yield_now().await;
        assert!(seen.iter().all(|seen| seen.counts() == (1, 0)));
        seen[4].waker().wake();
        yield_now().await;
        let polls: Vec<_> = seen.iter().map(|seen| seen.polls.get()).collect();
        assert_eq!(polls, [1, 1, 1, 1, 2, 1, 1, 1, 1, 1]);
        drop(group);
        assert!(seen.iter().all(|seen| seen.drops.get() == 1));
    });
}

#[test]
fn join_all_is_polled_once_for_each_completion() {
    async_test(async || {
        let group = Group::new();
        let (polls, children) = (Cell::new(0), 5);
        let mut wakers = Vec::new();
        for n in 0..children {
            let (set, told) = promise();
            wakers.push(set);
            group.spawn(async move {
                told.await.unwrap();
                Ok(n)
            });
        }
        let mut join = pin!(count_polls(&polls, group.join_all()));
        assert!(poll_once(&mut join).await.is_pending());
        // Each in its own turn.
        let task = spawn(async move {
            for set in wakers {
                set.set(()).unwrap();
                yield_now().await;
                yield_now().await;
            }
        });
        assert_eq!(join.await, Ok((0..children).collect()));
        // One poll by hand, and one at the start of the await.
        assert_eq!(polls.get(), 2 + children);
        drop(task);
    });
}

#[test]
fn the_first_failure_drops_the_others_before_join_all_returns() {
    async_test(async || {
        for place in 0..5 {
            let group = Group::<()>::new();
            let mut seen = Vec::new();
            for n in 0..5 {
                if n == place {
                    group.spawn(async {
                        // By then the others have been polled, even on a slow machine.
                        yield_now().await;
                        sleep(MS).await;
                        Err("no such page")
                    });
                } else {
                    seen.push(add_probe(&group));
                }
            }
            assert_eq!(group.join_all().await, Err("no such page"));
            assert!(seen.iter().all(|seen| seen.counts() == (1, 1)), "{place}");
        }
    });
}

#[test]
fn a_failure_cancels_the_others_while_the_group_is_not_awaited() {
    async_test(async || {
        let mut group = Group::new();
        group.spawn(async { Ok(1) });
        group.spawn(async {
            yield_now().await;
            Err("oh no")
        });
        let polls = leak(Cell::new(0));
        group.spawn(async {
            count_yields(polls).await;
            Ok(0)
        });
        let seen = add_probe(&group);
        yields(10).await;
        // It was polled once, before the failure in the same generation.
        assert_eq!(polls.get(), 1);
        assert_eq!(seen.counts(), (1, 1));
        assert_eq!(group.len(), 2, "one result, and one error");
        // A child that is spawned later is not started.
        let late = add_probe(&group);
        assert_eq!(late.counts(), (0, 1));
        assert_eq!(group.next().await, Some(Ok(1)));
        assert_eq!(group.next().await, Some(Err("oh no")));
        assert_eq!(group.next().await, None);
    });
}

#[test]
fn a_failure_in_the_first_poll_cancels_children_that_have_not_started() {
    async_test(async || {
        let mut group = Group::<()>::new();
        group.spawn(async { Err("first") });
        let seen = add_probe(&group);
        group.spawn(async { unreachable!("it would fail, too") });
        assert_eq!(group.next().await, Some(Err("first")));
        assert_eq!(group.next().await, None);
        assert_eq!(seen.counts(), (0, 1));
    });
}

#[test]
fn dropping_the_group_cancels_all_at_once() {
    async_test(async || {
        let group = Group::<()>::new();
        let started = [add_probe(&group), add_probe(&group)];
        yield_now().await;
        let not_started = add_probe(&group);
        let spawner = group.spawner();
        drop(group);
        assert!(started.iter().all(|seen| seen.counts() == (1, 1)));
        assert_eq!(not_started.counts(), (0, 1));
        // The spawner still exists, and spawns nothing.
        let dropped = leak(Cell::new(false));
        let guard = OnDrop(move || dropped.set(true));
        spawner.spawn(async move {
            let _guard = guard;
            Ok(())
        });
        assert!(dropped.get());
    });
}

#[test]
fn dropping_next_loses_no_result_and_dropping_join_all_cancels() {
    async_test(async || {
        let mut group = Group::new();
        let (set, told) = promise();
        group.spawn(async move { told.await.map_err(|_| "cancelled") });
        let seen = add_probe(&group);
        for _ in 0..3 {
            let mut next = pin!(group.next());
            assert!(poll_once(&mut next).await.is_pending());
        }
        set.set(5).unwrap();
        yield_now().await;
        // It ends while the group is not polled.
        assert_eq!(group.next().await, Some(Ok(5)));
        let mut join = Box::pin(group.join_all());
        assert!(poll_once(&mut join).await.is_pending());
        assert_eq!(seen.counts(), (1, 0));
        drop(join);
        assert_eq!(seen.counts(), (1, 1));
    });
}

#[test]
fn children_spawn_siblings_of_any_depth() {
    fn tree(
        spawner: soloist::task::Spawner<u32, &'static str>,
        depth: u32,
    ) -> Pin<Box<dyn Future<Output = Result<u32, &'static str>>>> {
        Box::pin(async move {
            if depth > 0 {
                for _ in 0..2 {
                    spawner.spawn(tree(spawner.clone(), depth - 1));
                    yield_now().await;
                }
            }
            Ok(depth)
        })
    }
    async_test(async || {
        let group = Group::new();
        group.spawn(tree(group.spawner(), 7));
        let depths = group.join_all().await.unwrap();
        assert_eq!(depths.len(), (1 << 8) - 1);
        assert_eq!(depths[0], 7);
        for depth in 0..=7 {
            let count = depths.iter().filter(|&&d| d == depth).count();
            assert_eq!(count, 1 << (7 - depth), "{depth}");
        }
    });
}

#[test]
fn the_failure_of_a_child_cancels_the_siblings_it_spawned() {
    async_test(async || {
        let group = Group::<()>::new();
        let siblings = group.spawner();
        let seen = Seen::new();
        let probe = seen.probe();
        group.spawn(async move {
            siblings.spawn(async move {
                probe.await;
                Ok(())
            });
            yield_now().await;
            Err("after it has started")
        });
        assert!(group.join_all().await.is_err());
        assert_eq!(seen.counts(), (1, 1));
    });
}

#[test]
fn a_panic_cancels_the_others_and_is_resumed_by_join_all() {
    runtime_test(|runtime| {
        let seen = leak(RefCell::new(Vec::new()));
        let text = panic_of(|| {
            runtime.block_on(async move {
                let group = Group::<()>::new();
                seen.borrow_mut().push(add_probe(&group));
                group.spawn(async {
                    yield_now().await;
                    panic!("the child's own words")
                });
                seen.borrow_mut().push(add_probe(&group));
                group.join_all().await
            })
        });
        assert_eq!(text, "the child's own words");
        assert!(seen.borrow().iter().all(|seen| seen.counts() == (1, 1)));
        // The runtime still works.
        assert_eq!(runtime.block_on(async { 1 }), 1);
    });
}

#[test]
fn a_panic_cancels_the_others_while_the_group_is_not_awaited() {
    async_test(async || {
        let mut group = Group::<()>::new();
        group.spawn(async { panic!("unheard so far") });
        let seen = add_probe(&group);
        yield_now().await;
        assert_eq!(seen.counts(), (0, 1));
        let text = panic_of_async(group.next()).await;
        assert_eq!(text, "unheard so far");
        assert_eq!(group.next().await, None);
    });
}

#[test]
fn cancel_resolves_after_all_children_are_dropped() {
    async_test(async || {
        let group = Group::<()>::new();
        group.spawn(async { Ok(()) });
        let seen: Vec<_> = (0..5).map(|_| add_probe(&group)).collect();
        yield_now().await;
        group.cancel().await;
        assert!(seen.iter().all(|seen| seen.counts() == (1, 1)));
    });
}

/// A child that drops or cancels its own group.
async fn in_a_child<F: Future>(
    what: impl FnOnce(Group<()>) -> F + 'static,
) -> (Rc<Seen>, Rc<Cell<&'static str>>) {
    let group = Rc::new(RefCell::new(Some(Group::<()>::new())));
    let (inner, state) = (group.clone(), Rc::new(Cell::new("not started")));
    let told = state.clone();
    let seen = {
        let group = group.borrow();
        let group = group.as_ref().unwrap();
        group.spawn(async move {
            let after = told.clone();
            let _guard = OnDrop(move || after.set("dropped"));
            let group = inner.take().unwrap();
            told.set("running");
            what(group).await;
            // Its poll continues to its end, and is the last.
            assert_eq!(told.get(), "running");
            told.set("went on");
            yield_now().await;
            unreachable!("it has been cancelled");
        });
        add_probe(group)
    };
    yields(5).await;
    (seen, state)
}

#[test]
fn a_child_that_drops_or_cancels_its_group_is_dropped_after_its_poll() {
    async_test(async || {
        let dropped = in_a_child(|group| async { drop(group) }).await;
        let cancelled = in_a_child(Group::cancel).await;
        for (seen, state) in [dropped, cancelled] {
            assert_eq!(seen.counts(), (0, 1));
            assert_eq!(state.get(), "dropped");
        }
    });
}

#[test]
fn a_child_that_waits_for_its_own_group_is_dropped_with_it() {
    runtime_test(|runtime| {
        let state = runtime.spawn(in_a_child(|mut group| async move {
            while group.next().await.is_some() {}
        }));
        // It waits for itself, until the runtime is dropped.
        let (seen, state) = runtime.block_on(state);
        assert_eq!(seen.counts(), (1, 0));
        assert_eq!(state.get(), "running");
        drop(runtime);
        assert_eq!(seen.counts(), (1, 1));
        assert_eq!(state.get(), "dropped");
    });
}

#[test]
fn a_failing_child_can_own_the_group() {
    async_test(async || {
        let group = Rc::new(RefCell::new(Some(Group::<()>::new())));
        let inner = group.clone();
        let dropped = leak(Cell::new(0));
        let seen = {
            let group = group.borrow();
            let group = group.as_ref().unwrap();
            group.spawn(async move {
                let _guard = OnDrop(move || dropped.set(dropped.get() + 1));
                let _group = inner.take();
                Err("with the group in its hands")
            });
            add_probe(group)
        };
        yields(3).await;
        assert_eq!((dropped.get(), seen.drops.get()), (1, 1));
    });
}

#[test]
fn a_child_can_drop_the_group_while_it_is_cancelled() {
    async_test(async || {
        let group = Rc::new(RefCell::new(Some(Group::<()>::new())));
        let inner = group.clone();
        let seen = {
            let group = group.borrow();
            let group = group.as_ref().unwrap();
            group.spawn(async { Err("it fails") });
            let guard = OnDrop(move || drop(inner.take()));
            group.spawn(async move {
                let _guard = guard;
                pending().await
            });
            add_probe(group)
        };
        yield_now().await;
        assert!(group.borrow().is_none());
        assert_eq!(seen.counts(), (0, 1));
    });
}

#[test]
fn a_failure_in_an_inner_group_cancels_the_outer_one() {
    async_test(async || {
        let outer = Group::<Vec<u32>>::new();
        let seen = leak(RefCell::new(Vec::new()));
        for n in 0..3 {
            outer.spawn(async move {
                let inner = Group::new();
                if n < 2 {
                    seen.borrow_mut().push(add_probe(&inner));
                } else {
                    inner.spawn(async {
                        sleep(MS).await;
                        Err("deep inside")
                    });
                }
                inner.join_all().await
            });
        }
        assert_eq!(outer.join_all().await, Err("deep inside"));
        let seen = seen.borrow();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|seen| seen.counts() == (1, 1)));
    });
}

#[test]
fn results_are_dropped_with_the_group() {
    async_test(async || {
        struct Output(#[expect(dead_code, reason = "it is dropped")] OnDrop<Box<dyn FnMut()>>);
        let dropped = leak(Cell::new(0));
        let group = TaskGroup::<Output, ()>::new();
        for _ in 0..3 {
            group.spawn(async move {
                Ok(Output(OnDrop(Box::new(move || {
                    dropped.set(dropped.get() + 1);
                }))))
            });
        }
        yield_now().await;
        assert_eq!((group.len(), dropped.get()), (3, 0));
        drop(group);
        assert_eq!(dropped.get(), 3);
    });
}

#[test]
fn random_groups_match_a_model() {
    async_test(async || {
        let mut random = Rng::with_seed(2026);
        for round in 0..1000 {
            let group = TaskGroup::new();
            let alive = leak(Cell::new(0));
            let mut first = None;
            let children = 1 + random.u64(..8);
            for n in 0..children {
                let (turns, fails) = (random.usize(..4), random.u64(..8) == 0);
                if fails && first.is_none_or(|(known, _)| turns < known) {
                    first = Some((turns, n));
                }
                alive.set(alive.get() + 1);
                let guard = OnDrop(move || alive.set(alive.get() - 1));
                group.spawn(async move {
                    let _guard = guard;
                    yields(turns).await;
                    if fails { Err(n) } else { Ok(n) }
                });
            }
            let result = group.join_all().await;
            assert_eq!(alive.get(), 0, "{round}");
            match first {
                Some((_, n)) => assert_eq!(result, Err(n), "{round}"),
                None => assert_eq!(result, Ok((0..children).collect()), "{round}"),
            }
        }
    });
}

#[test]
fn spawning_into_a_group_outside_a_runtime_panics() {
    watchdog(|| {
        let group = Group::<()>::new();
        let text = panic_of(|| group.spawn(async { Ok(()) }));
        assert!(
            text.contains("`TaskGroup::spawn` outside of a soloist runtime"),
            "{text}"
        );
        assert!(group.is_empty());
        let mut join = pin!(group.join_all());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(join.as_mut().poll(&mut cx), Poll::Ready(Ok(vec![])));
    });
}
