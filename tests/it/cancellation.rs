//! How tasks end: cancelled at an await point, with an error, with a panic; and what each of the
//! ways to cancel does, row by row of the table in the docs of `task`.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;

use futures_lite::FutureExt;
use soloist::task::{AbortHandle, Builder, JoinError, yield_now};
use soloist::{Handle, Runtime, Task, block_on, spawn};

use crate::support::{OnDrop, Seen, panic_of, panic_text, passes_in_child, watchdog};

/// What happened, in order.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<&'static str>>>);

impl Trace {
    fn push(&self, what: &'static str) {
        self.0.borrow_mut().push(what);
    }

    fn on_drop(&self, what: &'static str) -> OnDrop<impl FnMut() + use<>> {
        let trace = self.clone();
        OnDrop(move || trace.push(what))
    }

    #[track_caller]
    fn assert(&self, expected: &[&str]) {
        assert_eq!(self.0.take(), expected);
    }
}

/// Three calls deep, with something to drop on each floor.
async fn outer(trace: Trace) {
    let _first = trace.on_drop("outer: first");
    let _second = trace.on_drop("outer: second");
    middle(&trace, trace.on_drop("middle: argument")).await;
    trace.push("outer: after");
}

async fn middle(trace: &Trace, _argument: OnDrop<impl FnMut()>) {
    let _variable = trace.on_drop("middle: variable");
    {
        let _gone = trace.on_drop("middle: gone before");
    }
    inner(trace).await;
    trace.push("middle: after");
}

async fn inner(trace: &Trace) {
    let _first = trace.on_drop("inner: first");
    let _second = trace.on_drop("inner: second");
    trace.push("inner: waits");
    wait_for(pending(), trace.on_drop("what is awaited")).await;
    trace.push("inner: after");
}

/// A future that is dropped when whoever awaits it is.
async fn wait_for(future: impl Future<Output = ()>, _guard: OnDrop<impl FnMut()>) {
    future.await;
}

#[test]
fn destructors_run_at_the_await_point_from_the_inside_out() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let task = spawn(outer(trace.clone()));
            yield_now().await;
            trace.assert(&["middle: gone before", "inner: waits"]);
            trace.push("cancelled");
            drop(task);
            trace.push("back");
            trace.assert(&[
                "cancelled",
                "what is awaited",
                "inner: second",
                "inner: first",
                "middle: variable",
                "middle: argument",
                "outer: second",
                "outer: first",
                "back",
            ]);
        });
    });
}

#[test]
fn destructors_run_inside_of_the_runtime_on_its_thread() {
    watchdog(|| {
        let here = thread::current().id();
        block_on(async {
            let ran = Rc::new(Cell::new(false));
            let count = ran.clone();
            let guard = OnDrop(move || {
                assert_eq!(thread::current().id(), here);
                assert!(Handle::try_current().is_some());
                let count = count.clone();
                spawn(async move { count.set(true) }).detach();
            });
            let task = spawn(wait_for(pending(), guard));
            yield_now().await;
            let handle = task.abort_handle();
            thread::spawn(move || handle.abort()).join().unwrap();
            assert!(task.join().await.unwrap_err().is_cancelled());
            // What a destructor spawns is a task like any other.
            yield_now().await;
            assert!(ran.get());
        });
    });
}

#[test]
fn a_task_that_was_never_polled_drops_what_it_has_captured() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let inside = trace.clone();
            let captured = trace.on_drop("captured");
            let task = spawn(async move {
                inside.push("polled");
                drop(captured);
            });
            drop(task);
            trace.assert(&["captured"]);
        });
    });
}

#[test]
fn what_a_task_awaits_is_cancelled_with_it() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let child = spawn(wait_for(pending(), trace.on_drop("child")));
            let detached = spawn(wait_for(pending(), trace.on_drop("detached child")));
            let guard = trace.on_drop("parent");
            let parent = spawn(async move {
                let _guard = guard;
                detached.detach();
                child.await;
            });
            yield_now().await;
            drop(parent);
            trace.assert(&["child", "parent"]);
        });
    });
}

#[test]
fn a_loop_of_cleanups_can_be_cancelled_at_each_await_point() {
    watchdog(|| {
        block_on(async {
            // Cancelled after so many polls, it has come so far.
            for polls in 0..5 {
                let reached = Rc::new(Cell::new(0));
                let inside = reached.clone();
                let task = spawn(async move {
                    for step in 1..=3 {
                        inside.set(step);
                        yield_now().await;
                    }
                    "all done"
                });
                for _ in 0..polls {
                    yield_now().await;
                }
                let output = task.cancel().await;
                assert_eq!(reached.get(), polls.min(3));
                assert_eq!(output, (polls > 3).then_some("all done"));
            }
        });
    });
}

// The table: dropping the `Task`

#[test]
fn dropping_a_task_drops_its_future_at_once() {
    watchdog(|| {
        block_on(async {
            let seen = Seen::new();
            let task = spawn(seen.probe());
            yield_now().await;
            assert_eq!((seen.polls.get(), seen.drops.get()), (1, 0));
            drop(task);
            assert_eq!((seen.polls.get(), seen.drops.get()), (1, 1));
            assert_eq!(seen.dropped_on.get(), Some(thread::current().id()));
            // A wake that comes late finds nobody.
            seen.finish();
            yield_now().await;
            assert_eq!((seen.polls.get(), seen.drops.get()), (1, 1));
        });
    });
}

/// A task that ends itself, in some way, in the middle of its poll.
async fn ends_itself<T: 'static>(
    end: impl FnOnce(Task<&'static str>) -> T + 'static,
) -> (Trace, T) {
    let trace = Trace::default();
    let slot = Rc::new(Cell::new(None));
    let result = Rc::new(Cell::new(None));
    let task = {
        let (trace, slot, result) = (trace.clone(), slot.clone(), result.clone());
        let guard = trace.on_drop("dropped");
        spawn(async move {
            let _guard = guard;
            result.set(Some(end(slot.take().unwrap())));
            trace.push("goes on");
            trace.push("waits");
            pending::<()>().await;
            trace.push("never");
            "never"
        })
    };
    slot.set(Some(task));
    yield_now().await;
    (trace, result.take().unwrap())
}

#[test]
fn dropping_the_running_task_drops_its_future_at_the_end_of_the_poll() {
    watchdog(|| {
        block_on(async {
            let (trace, ()) = ends_itself(drop).await;
            trace.assert(&["goes on", "waits", "dropped"]);
        });
    });
}

#[test]
fn of_a_task_that_is_dropped_one_hears_nothing() {
    let name = "cancellation::of_a_task_that_is_dropped_one_hears_nothing";
    let stderr = passes_in_child(name, || {
        watchdog(|| {
            block_on(async {
                // While it waits, when it has an output, and when it has panicked.
                drop(spawn(pending::<()>()));
                let done = spawn(async { "an output" });
                yield_now().await;
                drop(done);
                let panicked =
                    spawn(async { std::panic::resume_unwind(Box::new("without a hook")) });
                yield_now().await;
                drop::<Task<()>>(panicked);
            });
        });
    });
    assert_eq!(stderr, "the child is done\n");
}

#[test]
fn dropping_a_task_drops_its_output() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let (future, output) = (trace.on_drop("future"), trace.on_drop("output"));
            let task = spawn(async move {
                let _future = future;
                output
            });
            yield_now().await;
            // The future has gone when the task was done.
            trace.assert(&["future"]);
            drop(task);
            trace.assert(&["output"]);
        });
    });
}

#[test]
fn dropping_the_join_future_cancels() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let join = spawn(wait_for(pending(), trace.on_drop("joined"))).join();
            let task = spawn(wait_for(pending(), trace.on_drop("polled once")));
            {
                let mut join = pin!(task.join());
                yield_now().await;
                let poll = join.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(poll.is_pending());
                trace.assert(&[]);
            }
            trace.assert(&["polled once"]);
            drop(join);
            trace.assert(&["joined"]);
        });
    });
}

#[test]
fn awaiting_a_task_by_reference_keeps_it() {
    watchdog(|| {
        block_on(async {
            let mut task = spawn(async {
                yield_now().await;
                "kept"
            });
            {
                let mut task = pin!(&mut task);
                let poll = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(poll.is_pending());
            }
            assert_eq!(task.await, "kept");
        });
    });
}

// The table: `cancel().await`

#[test]
fn cancel_drops_the_future_at_once_and_resolves_after_it() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let guard = trace.on_drop("dropped");
            let task = spawn(async move {
                let _guard = guard;
                pending::<&str>().await
            });
            yield_now().await;
            let cancel = task.cancel();
            // Without a poll of it.
            trace.assert(&["dropped"]);
            assert_eq!(cancel.await, None);
            trace.assert(&[]);
        });
    });
}

#[test]
fn cancel_has_the_output_of_a_task_that_had_finished() {
    watchdog(|| {
        block_on(async {
            let task = spawn(async { "finished" });
            yield_now().await;
            assert!(task.is_finished());
            assert_eq!(task.cancel().await, Some("finished"));

            // A panic, as `.await` does.
            let panicked = spawn(async { std::panic::resume_unwind(Box::new("no")) });
            yield_now().await;
            let cancelled = AssertUnwindSafe(panicked.cancel()).catch_unwind().await;
            let payload = cancelled.map(|_: Option<()>| ()).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"no"));
        });
    });
}

#[test]
fn cancelling_the_running_task_resolves_when_its_poll_has_ended() {
    watchdog(|| {
        block_on(async {
            let (trace, cancel) = ends_itself(Task::cancel).await;
            trace.assert(&["goes on", "waits", "dropped"]);
            assert_eq!(cancel.await, None);
        });
    });
}

#[test]
fn cancelling_a_task_that_ends_in_the_same_poll_has_its_output() {
    watchdog(|| {
        block_on(async {
            let slot: Rc<Cell<Option<Task<&str>>>> = Rc::default();
            let cancel = Rc::new(RefCell::new(None));
            let task = {
                let (slot, cancel) = (slot.clone(), cancel.clone());
                spawn(async move {
                    *cancel.borrow_mut() = Some(Box::pin(slot.take().unwrap().cancel()));
                    "in time"
                })
            };
            slot.set(Some(task));
            yield_now().await;
            let cancel = cancel.take().unwrap();
            assert_eq!(cancel.await, Some("in time"));
        });
    });
}

#[test]
fn cancelling_need_not_be_awaited() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let task = spawn(wait_for(pending(), trace.on_drop("dropped")));
            yield_now().await;
            drop(task.cancel());
            trace.assert(&["dropped"]);
        });
    });
}

// The table: `abort`

#[test]
fn abort_has_the_future_dropped_when_the_runtime_next_turns() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let guard = trace.on_drop("dropped");
            let inside = trace.clone();
            let task = spawn(async move {
                let _guard = guard;
                loop {
                    inside.push("polled");
                    pending::<()>().await;
                }
            });
            yield_now().await;
            trace.assert(&["polled"]);
            task.abort_handle().abort();
            trace.push("aborted");
            assert!(!task.is_finished());
            yield_now().await;
            // Without another poll.
            trace.assert(&["aborted", "dropped"]);
            assert!(task.is_finished());
        });
    });
}

#[test]
fn abort_works_from_another_thread_and_wakes_a_parked_runtime() {
    watchdog(|| {
        let here = thread::current().id();
        let (tell, told) = mpsc::channel::<AbortHandle>();
        let thread = thread::spawn(move || {
            let handle = told.recv().unwrap();
            thread::sleep(std::time::Duration::from_millis(20));
            handle.abort();
            // Once more does no harm.
            handle.clone().abort();
        });
        block_on(async {
            let seen = Seen::new();
            let task = spawn(seen.probe());
            yield_now().await;
            tell.send(task.abort_handle()).unwrap();
            let error = task.join().await.unwrap_err();
            assert!(error.is_cancelled());
            assert_eq!((seen.polls.get(), seen.drops.get()), (1, 1));
            assert_eq!(seen.dropped_on.get(), Some(here));
        });
        thread.join().unwrap();
    });
}

#[test]
fn aborting_the_running_task_drops_its_future_at_the_end_of_the_poll() {
    watchdog(|| {
        block_on(async {
            let abort = |task: Task<_>| {
                task.abort_handle().abort();
                task
            };
            let (trace, task) = ends_itself(abort).await;
            trace.assert(&["goes on", "waits", "dropped"]);
            assert!(task.join().await.unwrap_err().is_cancelled());
        });
    });
}

#[test]
fn aborting_a_task_that_is_over_changes_nothing() {
    watchdog(|| {
        block_on(async {
            let task = spawn(async { 1 });
            yield_now().await;
            task.abort_handle().abort();
            yield_now().await;
            assert_eq!(task.join().await.unwrap(), 1);

            // Also one that ends in the very poll in which it is aborted.
            let handle: Rc<Cell<Option<AbortHandle>>> = Rc::default();
            let inside = handle.clone();
            let task = spawn(async move {
                inside.take().unwrap().abort();
                2
            });
            handle.set(Some(task.abort_handle()));
            assert_eq!(task.await, 2);
        });
    });
}

#[test]
fn aborting_a_detached_task_ends_it() {
    watchdog(|| {
        let runtime = Runtime::new();
        let seen = Seen::new();
        let task = runtime.spawn(seen.probe());
        let handle = task.abort_handle();
        task.detach();
        runtime.block_on(yield_now());
        handle.abort();
        // It would never return, were the task still there.
        runtime.run();
        assert_eq!((seen.polls.get(), seen.drops.get()), (1, 1));
    });
}

#[test]
fn join_of_an_aborted_task_is_an_error_that_names_it() {
    watchdog(|| {
        block_on(async {
            let task = Builder::new().name("the poller").spawn(pending::<()>());
            let spawned_at = format!("{}:{}:", file!(), line!() - 1);
            let id = task.id();
            task.abort_handle().abort();
            let error = task.join().await.unwrap_err();
            assert!(error.is_cancelled() && !error.is_panic());
            assert_eq!(error.id(), Some(id));
            let text = error.to_string();
            let begins = format!("task `the poller` (spawned at {spawned_at}");
            assert!(text.starts_with(&begins), "{text}");
            assert!(text.ends_with(") was cancelled"), "{text}");
            let error = error.try_into_panic().unwrap_err();
            assert_eq!(io::Error::from(error).to_string(), text);
        });
    });
}

#[test]
fn awaiting_an_aborted_task_panics_and_names_it() {
    watchdog(|| {
        let mut spawned_at = String::new();
        let text = panic_of(|| {
            block_on(async {
                let task = Builder::new().name("the poller").spawn(pending::<()>());
                spawned_at = format!("{}:{}:", file!(), line!() - 1);
                task.abort_handle().abort();
                task.await;
            });
        });
        let begins = format!("task `the poller` (spawned at {spawned_at}");
        assert!(text.starts_with(&begins), "{text}");
        assert!(text.contains(") was cancelled"), "{text}");
        assert!(text.contains("`join().await`"), "{text}");
    });
}

#[test]
fn a_task_whose_runtime_is_gone_was_cancelled() {
    watchdog(|| {
        let trace = Trace::default();
        let runtime = Runtime::new();
        let task = runtime.spawn(wait_for(pending(), trace.on_drop("dropped")));
        runtime.block_on(yield_now());
        drop(runtime);
        trace.assert(&["dropped"]);
        assert!(block_on(task.join()).unwrap_err().is_cancelled());
    });
}

// Errors

/// Each floor of the call says what it was doing, and keeps what it was told.
#[derive(Debug)]
struct Failure {
    doing: &'static str,
    source: Box<dyn Error>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has failed", self.doing)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

fn while_doing<E: Into<Box<dyn Error>>>(doing: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure {
        doing,
        source: error.into(),
    }
}

async fn start(trace: &Trace) -> Result<(), Failure> {
    let _guard = trace.on_drop("start");
    read_settings(trace)
        .await
        .map_err(while_doing("starting"))?;
    trace.push("never");
    Ok(())
}

async fn read_settings(trace: &Trace) -> Result<(), Failure> {
    let _guard = trace.on_drop("read_settings");
    yield_now().await;
    let read = open(trace).await;
    read.map_err(while_doing("reading the settings"))?;
    trace.push("never");
    Ok(())
}

async fn open(trace: &Trace) -> io::Result<()> {
    let _guard = trace.on_drop("open");
    yield_now().await;
    Err(io::Error::new(io::ErrorKind::NotFound, "no settings.toml"))
}

fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        texts.push(error.to_string());
        source = error.source();
    }
    texts
}

#[test]
fn an_error_three_calls_deep_arrives_with_its_whole_chain() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let inside = trace.clone();
            let task = spawn(async move { start(&inside).await });
            let error = task.await.unwrap_err();
            trace.assert(&["open", "read_settings", "start"]);
            let expected = [
                "starting has failed",
                "reading the settings has failed",
                "no settings.toml",
            ];
            assert_eq!(chain(&error), expected);
            // The types are there as well as the texts.
            let root = error.source().and_then(Error::source).unwrap();
            let root = root.downcast_ref::<io::Error>().unwrap();
            assert_eq!(root.kind(), io::ErrorKind::NotFound);
        });
    });
}

#[test]
fn an_error_arrives_through_tasks_and_promises() {
    watchdog(|| {
        block_on(async {
            let (promise, promised) = soloist::promise::promise();
            // From a task that awaits a task that awaits a promise.
            let inner = spawn(async {
                let read: io::Result<()> = promised.await.map_err(while_doing("waiting"))?;
                read.map_err(while_doing("reading"))
            });
            let outer = spawn(async { inner.await.map_err(while_doing("serving")) });
            yield_now().await;
            promise.set(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
            let error = outer.await.unwrap_err();
            let expected = ["serving has failed", "reading has failed", "broken pipe"];
            assert_eq!(chain(&error), expected);

            let (promise, promised) = soloist::promise::promise::<()>();
            let task = spawn(async { promised.await.map_err(while_doing("waiting")) });
            drop(promise);
            let expected = [
                "waiting has failed",
                "the promise was dropped before it was set",
            ];
            assert_eq!(chain(&task.await.unwrap_err()), expected);
        });
    });
}

#[test]
fn a_join_error_is_a_source_like_any_other() {
    watchdog(|| {
        block_on(async {
            let panics = async { std::panic::resume_unwind(Box::new("out of ink")) };
            let task: Task<()> = spawn(panics);
            let result = task.join().await.map_err(while_doing("printing"));
            let error = result.unwrap_err();
            let source = error.source().unwrap().downcast_ref::<JoinError>().unwrap();
            assert!(source.is_panic());
            assert_eq!(
                chain(&error),
                ["printing has failed".into(), source.to_string()]
            );
        });
    });
}

// Panics

async fn falls(deep: u32) {
    yield_now().await;
    if deep == 0 {
        panic!("{} calls deep", 3);
    }
    Box::pin(falls(deep - 1)).await;
}

#[test]
fn a_panic_three_calls_deep_names_the_task_and_where_it_was_spawned() {
    watchdog(|| {
        block_on(async {
            let named = Builder::new().name("the diver").spawn(falls(2));
            let named_at = format!("{}:{}:", file!(), line!() - 1);
            let unnamed = spawn(falls(2));
            let unnamed_at = format!("{}:{}:", file!(), line!() - 1);
            let unnamed_name = format!("task-{}", unnamed.id());
            for (task, name, spawned_at) in [
                (named, "the diver", named_at),
                (unnamed, &unnamed_name, unnamed_at),
            ] {
                let error = task.join().await.unwrap_err();
                assert!(error.is_panic() && !error.is_cancelled());
                let text = error.to_string();
                let begins = format!("task `{name}` (spawned at {spawned_at}");
                assert!(text.starts_with(&begins), "{text}");
                assert!(text.ends_with(") panicked: 3 calls deep"), "{text}");
                assert_eq!(format!("{error:?}"), format!("JoinError({text})"));
                assert_eq!(panic_text(&*error.into_panic()), "3 calls deep");
            }
        });
    });
}

#[test]
fn the_place_is_that_of_the_spawn_whoever_spawns() {
    watchdog(|| {
        let runtime = Runtime::new();
        let task = runtime.spawn(falls(0));
        let here = line!() - 1;
        let error = runtime.block_on(task.join()).unwrap_err();
        let place = format!("(spawned at {}:{here}:", file!());
        assert!(error.to_string().contains(&place), "{error}");

        let handle = runtime.handle();
        let remote = thread::spawn(move || (handle.spawn(|| falls(0)), line!()));
        let (task, there) = remote.join().unwrap();
        let error = runtime.block_on(task).unwrap_err();
        let place = format!("task `task-2` (spawned at {}:{there}:", file!());
        assert!(error.to_string().starts_with(&place), "{error}");
    });
}

#[test]
fn a_payload_that_is_no_text_goes_to_whoever_awaits() {
    watchdog(|| {
        block_on(async {
            let boom = || -> Task<()> { spawn(async { std::panic::panic_any(42) }) };
            let error = boom().join().await.unwrap_err();
            assert!(error.to_string().ends_with(") panicked"), "{error}");
            assert_eq!(error.into_panic().downcast_ref(), Some(&42));
            // `.await` goes on with the very same.
            let task = boom();
            yield_now().await;
            let mut task = pin!(task);
            let awaited = catch_unwind(AssertUnwindSafe(|| {
                let poll = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                poll.is_ready()
            }));
            assert_eq!(awaited.unwrap_err().downcast_ref(), Some(&42));
        });
    });
}

#[test]
fn a_panic_runs_the_destructors_and_leaves_the_others_alone() {
    watchdog(|| {
        block_on(async {
            let trace = Trace::default();
            let other = spawn(async {
                for _ in 0..3 {
                    yield_now().await;
                }
                "unharmed"
            });
            let guards = (trace.on_drop("captured"), trace.on_drop("variable"));
            let task: Task<()> = spawn(async move {
                let (_captured, variable) = (&guards.0, guards.1);
                yield_now().await;
                let _variable = variable;
                std::panic::resume_unwind(Box::new("no"));
            });
            let error = task.join().await.unwrap_err();
            trace.assert(&["variable", "captured"]);
            assert!(error.is_panic());
            assert_eq!(other.await, "unharmed");
        });
    });
}

#[test]
fn a_detached_tasks_panic_is_reported_with_its_name() {
    let name = "cancellation::a_detached_tasks_panic_is_reported_with_its_name";
    let stderr = passes_in_child(name, || {
        watchdog(|| {
            block_on(async {
                let task = Builder::new().name("the diver").spawn(falls(2));
                eprintln!("spawned at {}:{}:", file!(), line!() - 1);
                task.detach();
                // One that has panicked before it is detached is reported then.
                let late = Builder::new().name("the late one").spawn(falls(0));
                for _ in 0..5 {
                    yield_now().await;
                }
                eprintln!("the others run on");
                late.detach();
            });
        });
    });
    let lines: Vec<_> = stderr.lines().collect();
    let find = |text: &str| {
        let line = lines.iter().position(|line| line.starts_with(text));
        line.unwrap_or_else(|| panic!("no `{text}` in:\n{stderr}"))
    };
    let place = lines[find("spawned at ")];
    let diver = find(&format!("soloist: task `the diver` ({place}"));
    let others = find("the others run on");
    let late = find("soloist: task `the late one` (spawned at ");
    assert!(diver < others && others < late, "{stderr}");
    for line in [diver, late] {
        let says = ") has panicked, and nobody awaits it";
        assert!(lines[line].ends_with(says), "{stderr}");
    }
    // The panic hook had its say about each, before.
    let hook = lines.iter().filter(|line| line.contains("panicked at "));
    assert_eq!(hook.count(), 2, "{stderr}");
    assert!(find("3 calls deep") < diver);
}

#[test]
fn a_detached_tasks_panic_goes_through_if_that_is_asked_for() {
    watchdog(|| {
        let runtime = Runtime::builder().propagate_panics(true).build();
        let seen = Seen::new();
        let other = runtime.spawn(seen.probe());
        runtime.spawn(falls(2)).detach();
        // Not that of one whom somebody awaits.
        let awaited = runtime.spawn(falls(0));
        assert!(runtime.block_on(awaited.join()).unwrap_err().is_panic());
        assert_eq!(panic_of(|| runtime.run()), "3 calls deep");
        // The others are intact.
        seen.finish();
        runtime.block_on(other);
        assert_eq!(seen.polls.get(), 2);
    });
}
