//! The feature `tracing`: a span for each task, and warnings as events.

use std::fmt::Debug;

use soloist::task::{Builder, JoinSet};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, set_global_default, with_default};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::support::*;

/// Records what happens to spans, and checks that they are entered one at a time.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The fields of the spans, from number 1 on.
    spans: Vec<String>,
    /// The span that is entered.
    current: Option<u64>,
    log: Vec<String>,
}

impl Recorder {
    fn record(&self, what: impl FnOnce(&mut State) -> String) {
        let mut state = self.0.lock().unwrap();
        let line = what(&mut state);
        state.log.push(line);
    }

    /// What has been recorded since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    fn spans(&self) -> Vec<String> {
        self.0.lock().unwrap().spans.clone()
    }
}

/// The fields of a span or an event.
struct Fields(Vec<String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push(format!("{field}={value:?}"));
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "soloist" || metadata.target() == "test"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let metadata = span.metadata();
        assert_eq!((metadata.name(), *metadata.level()), ("task", Level::INFO));
        assert!(span.is_root());
        let mut fields = Fields(Vec::new());
        span.record(&mut fields);
        let mut state = self.0.lock().unwrap();
        state.spans.push(fields.0.join(" "));
        let id = state.spans.len() as u64;
        state.log.push(format!("new {id}"));
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        self.record(|state| {
            let place = state
                .current
                .map_or("outside".into(), |id| format!("in {id}"));
            format!(
                "{} {place}: {}",
                event.metadata().level(),
                fields.0.join(" ")
            )
        });
    }

    fn enter(&self, span: &Id) {
        self.record(|state| {
            assert_eq!(state.current.replace(span.into_u64()), None);
            format!("enter {}", span.into_u64())
        });
    }

    fn exit(&self, span: &Id) {
        self.record(|state| {
            assert_eq!(state.current.take(), Some(span.into_u64()));
            format!("exit {}", span.into_u64())
        });
    }

    fn try_close(&self, span: Id) -> bool {
        self.record(|_| format!("close {}", span.into_u64()));
        true
    }
}

/// The subscriber of all other threads. While there is only one subscriber, tracing lets the thread
/// that comes first to a span decide for all threads whether the span is enabled. With this one there
/// are two, and each thread is asked.
struct Undecided;

impl Subscriber for Undecided {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        unreachable!("no span is enabled")
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Calls `f` with a subscriber of this thread.
fn with_subscriber<R>(subscriber: impl Subscriber + Send + Sync, f: impl FnOnce() -> R) -> R {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| set_global_default(Undecided).expect("it is the first"));
    with_default(subscriber, f)
}

/// As [`async_test`], with a recorder.
fn recorded<R: Send + 'static>(test: impl AsyncFnOnce(Recorder) -> R + Send + 'static) -> R {
    watchdog(|| {
        let recorder = Recorder::default();
        with_subscriber(recorder.clone(), || block_on(test(recorder)))
    })
}

fn event(text: &str) {
    tracing::info!(target: "test", "{text}");
}

#[test]
fn a_span_has_the_number_name_and_place_of_its_task() {
    recorded(async |recorder| {
        let line = line!() + 1;
        spawn(async {}).await;
        Builder::new().name("fetch /index").spawn(async {}).await;
        let mut set = JoinSet::new();
        set.spawn(async {});
        set.join_next().await.unwrap().unwrap();
        Handle::current().spawn(|| async {}).await.unwrap();
        let place = |line, column| format!("spawned_at={}:{line}:{column}", file!());
        let expected = [
            format!("id=1 {}", place(line, 9)),
            format!("id=2 name=\"fetch /index\" {}", place(line + 1, 45)),
            format!("id=3 {}", place(line + 3, 13)),
            format!("id=r1 {}", place(line + 5, 27)),
        ];
        assert_eq!(recorder.spans(), expected);
    });
}

#[test]
fn it_is_entered_for_each_poll_and_the_drop_and_closed_with_the_future() {
    recorded(async |recorder| {
        let task = spawn(async {
            event("first poll");
            yield_now().await;
            event("second poll");
            let _guard = OnDrop(|| event("a destructor"));
        });
        assert_eq!(recorder.take(), ["new 1"]);
        event("before");
        yield_now().await;
        event("between");
        task.await;
        let expected = [
            "INFO outside: message=before",
            "enter 1",
            "INFO in 1: message=first poll",
            "exit 1",
            "INFO outside: message=between",
            "enter 1",
            "INFO in 1: message=second poll",
            "INFO in 1: message=a destructor",
            "exit 1",
            "enter 1",
            "exit 1",
            "close 1",
        ];
        assert_eq!(recorder.take(), expected);
    });
}

#[test]
fn a_task_that_is_cancelled_aborted_or_panics_leaves_no_span_open() {
    recorded(async |recorder| {
        let wait = || hold(OnDrop(|| event("dropped")));
        let (cancelled, aborted) = (spawn(wait()), spawn(wait()));
        let never_polled = spawn(wait());
        drop(never_polled);
        yield_now().await;
        recorder.take();

        drop(cancelled);
        let dropped = |id| {
            let event = format!("INFO in {id}: message=dropped");
            [
                format!("enter {id}"),
                event,
                format!("exit {id}"),
                format!("close {id}"),
            ]
        };
        assert_eq!(recorder.take(), dropped(1));
        aborted.abort();
        yield_now().await;
        assert_eq!(recorder.take(), dropped(2));
        aborted.join().await.unwrap_err();

        let panicked = spawn(async { panic!("in the poll") });
        panicked.join().await.unwrap_err();
        let expected = ["new 4", "enter 4", "exit 4", "enter 4", "exit 4", "close 4"];
        assert_eq!(recorder.take(), expected);
    });
}

#[test]
fn a_task_that_another_spawns_has_a_span_of_its_own() {
    recorded(async |recorder| {
        spawn(async {
            let inner = spawn(async { event("inner") });
            event("outer");
            inner.await;
        })
        .await;
        let log = recorder.take();
        let events: Vec<_> = log.iter().filter(|line| line.starts_with("INFO")).collect();
        assert_eq!(
            events,
            ["INFO in 1: message=outer", "INFO in 2: message=inner"]
        );
        // The inner one is closed first: the outer one waits for it.
        let closed: Vec<_> = log
            .iter()
            .filter(|line| line.starts_with("close"))
            .collect();
        assert_eq!(closed, ["close 2", "close 1"]);
    });
}

#[test]
fn a_subscriber_may_spawn_a_task() {
    /// Spawns a task for each span. (The `tracing` crate reports none of what a subscriber does.)
    struct Spawning;

    impl Subscriber for Spawning {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            spawn(async {}).detach();
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    runtime_test(|runtime| {
        with_subscriber(Spawning, || {
            runtime.block_on(async { spawn(async {}).await });
            runtime.run();
        });
        assert_eq!((runtime.metrics().spawned, runtime.metrics().live), (2, 0));
    });
}

#[test]
fn a_warning_is_an_event() {
    watchdog(|| {
        let recorder = Recorder::default();
        with_subscriber(recorder.clone(), || {
            let runtime = Runtime::builder().warn_slow(MS).build();
            let task = Builder::new().name("busy");
            runtime.block_on(async { task.spawn(async { compute_for(2 * MS) }).await });
        });
        let log = recorder.take();
        let expected = "WARN outside: message=slow poll: task `busy` (spawned at ";
        assert_eq!(
            log.iter().filter(|line| line.starts_with(expected)).count(),
            1,
            "{log:?}"
        );
    });
}
