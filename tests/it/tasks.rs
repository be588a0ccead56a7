//! `Task`, `JoinError` and `yield_now`: how a task ends, and when its future and
//! its output are dropped.

use std::collections::HashSet;
use std::error::Error;
use std::hint::black_box;
use std::io;
use std::panic::panic_any;

use soloist::task::{Builder, JoinError, Task};

use crate::support::*;

#[track_caller]
fn assert_dropped(seen: &Seen, polls: usize) {
    assert_eq!(seen.counts(), (polls, 1));
    assert_eq!(seen.dropped_on.get(), Some(thread::current().id()));
}

/// The place of a spawn in this file, as errors display it.
fn spawned_at(line: u32) -> String {
    format!("(spawned at {}:{line}:", file!())
}

#[test]
fn awaiting_a_task_returns_its_output() {
    async_test(async || {
        assert_eq!(spawn(async { 1 }).await, 1);
        assert_eq!(spawn(async { 2 }).join().await.unwrap(), 2);
        // Long after its end, with an output that is not `Send`.
        let task = spawn(async { Rc::new(3) });
        yield_now().await;
        assert_eq!(*task.await, 3);
        // By reference.
        let mut task = spawn(async {
            yield_now().await;
            4
        });
        assert!(poll_once(&mut task).await.is_pending());
        assert_eq!((&mut task).await, 4);
        // The future has been dropped before that.
        let seen = Seen::new();
        seen.ready.set(true);
        spawn(seen.probe()).await;
        assert_dropped(&seen, 1);
    });
}

#[test]
fn the_queue_entry_of_a_dropped_task_is_not_a_poll() {
    runtime_test(|runtime| {
        let (ready, next) = (Seen::new(), Seen::new());
        let task = runtime.spawn(ready.probe());
        turn(&runtime);
        runtime.block_on(async {
            ready.waker().wake();
            drop(task);
            spawn(next.probe()).detach();
        });
        let done = turn(&runtime);
        assert_eq!((done.polled, done.ready), (1, 0));
        assert_eq!(turn(&runtime).polled, 0);
        assert_eq!((ready.polls.get(), next.polls.get()), (1, 1));
        assert_eq!((ready.drops.get(), next.drops.get()), (1, 0));
    });
}

#[test]
fn a_detached_task_runs_to_its_end() {
    watchdog(|| {
        let (seen, output) = (Seen::new(), Rc::new(()));
        let runtime = Runtime::new();
        let (probe, there) = (seen.probe(), output.clone());
        spawn_detached(&runtime, async move {
            probe.await;
            there
        });
        // A task whose handle is forgotten continues, too.
        let forgotten = Seen::new();
        forget(runtime.spawn(forgotten.probe()));
        turn(&runtime);
        for seen in [&seen, &forgotten] {
            assert_eq!(seen.counts(), (1, 0));
            seen.finish();
        }
        runtime.run();
        assert_dropped(&seen, 2);
        assert_dropped(&forgotten, 2);
        // An unwanted output is dropped when it is returned, or with the handle.
        assert_eq!(Rc::strong_count(&output), 1);
        let there = output.clone();
        let task = runtime.spawn(async move { there });
        runtime.run();
        assert_eq!(Rc::strong_count(&output), 2);
        task.detach();
        assert_eq!(Rc::strong_count(&output), 1);
    });
}

/// A slot for the handle of a task.
type Own = Rc<RefCell<Option<Task<()>>>>;

#[test]
fn a_task_that_awaits_its_own_cancel_is_dropped_at_the_end_of_its_poll() {
    runtime_test(|runtime| {
        let (own, log) = (Own::default(), Log::new());
        let (handle, guard) = (own.clone(), log.on_drop("dropped"));
        *own.borrow_mut() = Some(runtime.spawn(async move {
            let _guard = guard;
            let cancel = handle.take().unwrap().cancel();
            log.push("cancelled");
            cancel.await;
            log.push("never");
        }));
        assert_eq!(turn(&runtime).polled, 1);
        log.assert(&["cancelled", "dropped"]);
        assert_eq!(turn(&runtime).polled, 0);
    });
}

#[test]
fn a_future_can_drop_its_own_handle_in_its_destructor() {
    watchdog(|| {
        for abort in [false, true] {
            let own = Own::default();
            let drops = leak(Cell::new(0));
            let handle = own.clone();
            let guard = OnDrop(move || {
                drop(handle.take());
                drops.set(drops.get() + 1);
            });
            let runtime = Runtime::new();
            let task = runtime.spawn(async move {
                let _guard = guard;
                if abort {
                    pending::<()>().await;
                }
            });
            if abort {
                task.abort_handle().abort();
            }
            *own.borrow_mut() = Some(task);
            runtime.run();
            assert_eq!(drops.get(), 1);
            assert!(own.borrow().is_none());
        }
    });
}

#[test]
fn awaiting_an_aborted_task_panics_and_names_it() {
    watchdog(|| {
        let line = line!() + 2;
        let text = block_on(async {
            let task = Builder::new().name("endless").spawn(pending::<()>());
            task.abort_handle().abort();
            spawn(task).join().await.unwrap_err().to_string()
        });
        let expected = format!("task `endless` {}", spawned_at(line));
        assert!(text.contains(&expected), "{text}: not {expected}");
        assert!(text.contains("was cancelled"), "{text}");
        assert!(text.contains("`join().await`"), "{text}");
    });
}

#[test]
fn join_mut_returns_the_result_once_and_then_says_cancelled() {
    async_test(async || {
        let mut task = spawn(async { 5 });
        assert_eq!(task.join_mut().await.unwrap(), 5);
        assert!(task.join_mut().await.unwrap_err().is_cancelled());
        assert!(task.is_finished());
        assert!(task.join().await.unwrap_err().is_cancelled());
    });
}

#[test]
fn join_mut_that_is_dropped_leaves_the_task_alone() {
    async_test(async || {
        let seen = Seen::new();
        let mut task = spawn(seen.probe());
        yield_now().await;
        for _ in 0..3 {
            assert_pending(task.join_mut()).await;
        }
        assert_eq!(seen.counts(), (1, 0));
        seen.finish();
        task.join_mut().await.unwrap();
        assert_eq!(seen.counts(), (2, 1));
    });
}

#[test]
fn join_mut_of_a_task_that_panicked_returns_the_panic() {
    async_test(async || {
        let mut task = spawn(async { panic!("out of ink") });
        let error = task.join_mut().await.unwrap_err();
        assert_eq!(error.into_panic().downcast_ref(), Some(&"out of ink"));
    });
}

#[test]
fn abort_drops_the_future_in_the_next_turn_and_join_mut_says_so() {
    async_test(async || {
        let seen = Seen::new();
        let mut task = spawn(seen.probe());
        yield_now().await;
        task.abort();
        assert_eq!((seen.counts(), task.is_finished()), ((1, 0), false));
        let error = task.join_mut().await.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(seen.counts(), (1, 1));
        // Nothing is left to abort.
        task.abort();
        let text = panic_of_async(task).await;
        assert!(
            text.contains("was cancelled: `join().await` and `join_mut().await`"),
            "{text}"
        );
    });
}

#[test]
fn a_task_that_aborts_itself_ends_with_its_poll() {
    async_test(async || {
        let handle = Rc::new(RefCell::new(None::<Task<()>>));
        let (own, log) = (handle.clone(), Log::new());
        *handle.borrow_mut() = Some(spawn(async move {
            own.borrow().as_ref().unwrap().abort();
            log.push("aborted");
            yield_now().await;
            log.push("not reached");
        }));
        yields(2).await;
        log.assert(&["aborted"]);
        let task = handle.take().unwrap();
        assert!(task.join().await.unwrap_err().is_cancelled());
    });
}

#[test]
fn awaiting_a_task_twice_panics_and_names_it() {
    watchdog(|| {
        let text = block_on(async {
            let mut task = Builder::new().name("once").spawn(async {});
            (&mut task).await;
            panic_of(|| poll_with(&mut task, Waker::noop()))
        });
        assert!(text.starts_with("task `once` (spawned at "), "{text}");
        assert!(text.contains("awaited twice"), "{text}");
    });
}

/// The errors of three tasks, with the lines of their spawns: one was cancelled, and two have
/// panicked.
fn errors() -> [(JoinError, u32); 3] {
    block_on(async {
        let at = line!();
        let aborted = Builder::new().name("gone").spawn(pending::<()>());
        aborted.abort_handle().abort();
        let panicked = Builder::new()
            .name(String::from("lost"))
            .spawn(async { panic!("ink: {}", black_box(0)) });
        let other = spawn(async { panic_any(7_u8) });
        [
            (aborted.join().await.unwrap_err(), at + 1),
            (panicked.join().await.unwrap_err(), at + 5),
            (other.join().await.unwrap_err(), at + 6),
        ]
    })
}

#[test]
fn a_join_error_names_the_task_its_place_and_the_cause() {
    watchdog(|| {
        let expected = [
            ("gone", " was cancelled"),
            ("lost", " panicked: ink: 0"),
            ("task-3", " panicked"),
        ];
        for ((error, line), (name, end)) in errors().iter().zip(expected) {
            let text = error.to_string();
            let start = format!("task `{name}` {}", spawned_at(*line));
            let rest = text.strip_prefix(&start);
            let rest = rest.unwrap_or_else(|| panic!("{text}: not {start}"));
            // The rest of the place is the column.
            let (column, said) = rest.split_once(')').unwrap();
            assert!(column.parse::<u32>().is_ok(), "{text}");
            assert_eq!(said, end);
            assert_eq!(format!("{error:?}"), format!("JoinError({text})"));
        }
    });
}

#[test]
fn a_join_error_distinguishes_cancellation_from_panic() {
    watchdog(|| {
        let [aborted, panicked, other] = errors().map(|(error, _)| error);
        let kinds = [&aborted, &panicked, &other].map(|e| (e.is_cancelled(), e.is_panic()));
        assert_eq!(kinds, [(true, false), (false, true), (false, true)]);
        let ids = [&aborted, &panicked, &other].map(|e| e.id().unwrap().to_string());
        assert_eq!(ids, ["1", "2", "3"]);

        let aborted = aborted.try_into_panic().unwrap_err();
        let text = panic_of(|| aborted.into_panic());
        assert!(
            text.contains("`into_panic`") && text.ends_with("was cancelled"),
            "{text}"
        );
        let payload = panicked.into_panic();
        assert_eq!(payload.downcast_ref::<String>().unwrap(), "ink: 0");
        assert_eq!(other.try_into_panic().unwrap().downcast_ref(), Some(&7_u8));
    });
}

#[test]
fn a_join_error_converts_to_an_io_error() {
    watchdog(|| {
        for (error, _) in errors() {
            let text = error.to_string();
            let id = error.id();
            let error = io::Error::from(error);
            assert_eq!(error.kind(), io::ErrorKind::Other);
            assert_eq!(error.to_string(), text);
            let error: Box<dyn Error> = Box::new(error);
            let error = error.downcast_ref::<io::Error>().unwrap();
            let inner = error.get_ref().unwrap().downcast_ref::<JoinError>();
            assert_eq!(inner.unwrap().id(), id);
        }
    });
}

#[test]
fn every_way_to_spawn_records_the_place_of_the_call() {
    runtime_test(|runtime| {
        let from_runtime = (runtime.spawn(pending::<()>()), line!());
        let from_handle = (runtime.handle().spawn(pending::<()>), line!());
        let from_within = runtime.block_on(async { (spawn(pending::<()>()), line!()) });
        drop(runtime);
        let errors = [
            (block_on(from_runtime.0.join()).unwrap_err(), from_runtime.1),
            (block_on(from_handle.0).unwrap_err(), from_handle.1),
            (block_on(from_within.0.join()).unwrap_err(), from_within.1),
        ];
        for (error, line) in errors {
            let text = error.to_string();
            assert!(text.contains(&spawned_at(line)), "{text}: not {line}");
        }
    });
}

#[test]
fn tasks_are_numbered_from_one_in_each_runtime() {
    watchdog(|| {
        for _ in 0..2 {
            let runtime = Runtime::new();
            let one = runtime.spawn(async {});
            let (two, three, five) = runtime.block_on(async {
                let (two, three) = (spawn(async {}), Builder::new().name("x").spawn(async {}));
                // Remote tasks and finished tasks count, too.
                Handle::current().spawn(|| async {}).await.unwrap();
                (two, three, spawn(async {}))
            });
            let ids = [one.id(), two.id(), three.id(), five.id()];
            assert_eq!(ids.map(|id| id.to_string()), ["1", "2", "3", "5"]);
            assert!(ids.is_sorted());
            assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), 4);
            assert_eq!(ids[0], one.id());
            assert_eq!(ids[3], five.abort_handle().id());
        }
    });
}

#[test]
fn is_finished_is_true_after_completion_panic_and_abort() {
    runtime_test(|runtime| {
        let own = Own::default();
        let inside = own.clone();
        let running = runtime.spawn(async move {
            let task = inside.take().unwrap();
            assert!(!task.is_finished());
            *inside.borrow_mut() = Some(task);
        });
        *own.borrow_mut() = Some(running);
        let panicked = runtime.spawn(async { panic!("no more") });
        let waiting = runtime.spawn(pending::<()>());
        let aborted = runtime.spawn(pending::<()>());
        let states = || {
            let own = own.borrow();
            let tasks = [own.as_ref().unwrap(), &waiting, &aborted];
            (tasks.map(Task::is_finished), panicked.is_finished())
        };
        assert_eq!(states(), ([false, false, false], false));
        turn(&runtime);
        assert_eq!(states(), ([true, false, false], true));
        aborted.abort_handle().abort();
        turn(&runtime);
        assert_eq!(states(), ([true, false, true], true));
        drop(runtime);
        assert_eq!(states(), ([true, true, true], true));
    });
}

#[test]
fn outputs_outlive_their_runtime_and_unfinished_tasks_are_cancelled() {
    runtime_test(|runtime| {
        let done = runtime.spawn(async { Rc::new(5) });
        let done_too = runtime.spawn(async { 6 });
        let panicked = runtime.spawn(async { panic!("before the end") });
        runtime.run();
        let lost = runtime.spawn(async {});
        let lost_too = runtime.spawn(async {});
        drop(runtime);
        assert_eq!(*block_on(done), 5);
        assert_eq!(block_on(done_too.cancel()), Some(6));
        assert!(block_on(panicked.join()).unwrap_err().is_panic());
        assert!(block_on(lost.join()).unwrap_err().is_cancelled());
        assert_eq!(block_on(lost_too.cancel()), None);
    });
}

#[test]
fn a_task_is_awaited_from_another_runtime_of_its_thread() {
    watchdog(|| {
        let (one, two) = (Runtime::new(), Runtime::new());
        let mut task = one.spawn(async {
            yield_now().await;
            8
        });
        let seen = leak(Cell::new(0));
        spawn_detached(&two, async move {
            seen.set((&mut task).await);
        });
        for expected in [0, 0, 8] {
            turn(&two);
            assert_eq!(seen.get(), expected);
            turn(&one);
        }
    });
}

#[test]
fn only_the_last_waker_is_kept_and_woken_when_a_task_ends() {
    runtime_test(|runtime| {
        for abort in [false, true] {
            let seen = Seen::new();
            let mut task = runtime.spawn(seen.probe());
            let (one, one_waker) = CountWakes::new();
            let (two, two_waker) = CountWakes::new();
            for waker in [&one_waker, &one_waker, &two_waker] {
                assert!(poll_with(&mut task, waker).is_pending());
            }
            drop((one_waker, two_waker));
            // The task holds the second waker, once.
            let counts = || [&one, &two].map(Arc::strong_count);
            assert_eq!(counts(), [1, 2]);
            if abort {
                task.abort_handle().abort();
            } else {
                seen.finish();
            }
            turn(&runtime);
            assert_eq!((one.get(), two.get()), (0, 1));
            assert_eq!(counts(), [1, 1]);
            drop(task);
        }
    });
}

#[test]
fn futures_and_outputs_can_have_any_size_and_alignment() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(align(128))]
    struct Aligned(u8);
    fn check(value: &Aligned) {
        assert_eq!(std::ptr::from_ref(value).addr() % 128, 0);
    }
    async_test(async || {
        // A large future with a small output, and the opposite.
        let small = spawn(async {
            let aligned = Aligned(1);
            let large = [2_u8; 50_000];
            yield_now().await;
            check(&aligned);
            (aligned.0, large.iter().all(|&byte| byte == 2))
        });
        let large = spawn(async { [Aligned(3); 100] });
        let nothing = spawn(async {});
        assert_eq!(small.await, (1, true));
        let large = large.await;
        check(&large[99]);
        assert_eq!(large, [Aligned(3); 100]);
        nothing.await;
    });
}

#[test]
fn debug_of_a_task_has_its_id_and_state() {
    runtime_test(|runtime| {
        let task = runtime.spawn(async {});
        assert_eq!(
            format!("{task:?}"),
            "Task { id: 1, is_finished: false, .. }"
        );
        let abort = task.abort_handle();
        assert_eq!(format!("{abort:?}"), "AbortHandle { id: TaskId(1), .. }");
    });
}

#[test]
fn tasks_spawn_tasks_that_await_tasks() {
    fn depth(left: usize) -> Pin<Box<dyn Future<Output = usize>>> {
        Box::pin(async move {
            if left == 0 {
                return 0;
            }
            let inner = spawn(depth(left - 1));
            let other = spawn(depth(left / 2));
            1 + inner.await.max(other.await)
        })
    }
    watchdog(|| assert_eq!(block_on(async { spawn(depth(14)).await }), 14));
}

#[test]
fn yield_now_runs_all_ready_tasks_first_and_takes_two_polls() {
    watchdog(|| {
        let polls = Cell::new(0);
        let order: Rc<RefCell<Vec<u32>>> = Rc::default();
        block_on(async {
            for number in 0..3 {
                let order = order.clone();
                spawn(async move { order.borrow_mut().push(number) }).detach();
            }
            count_polls(&polls, yield_now()).await;
            order.borrow_mut().push(3);
        });
        assert_eq!(polls.get(), 2);
        assert_eq!(*order.borrow(), [0, 1, 2, 3]);
    });
}
