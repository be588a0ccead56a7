//! What a trace says of known workloads, event by event, and the files made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use soloist::promise::promise;
use soloist::task::{self, TaskGroup, yield_now};
use soloist::time::{sleep, timeout};
use soloist::trace::{self, Cause, EventKind, Outcome, Trace, WaitReason};
use soloist::{Handle, Runtime, block_on, future, spawn};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

fn by(by: Cause) -> String {
    match by {
        Cause::Task(who) => who.to_string(),
        Cause::Timers => "timers".into(),
        Cause::Reactor => "reactor".into(),
        Cause::Inbox => "inbox".into(),
        Cause::Outside => "outside".into(),
        other => panic!("{other:?}"),
    }
}

/// A line for each event.
fn lines(trace: &Trace) -> Vec<String> {
    let line = |event: &trace::Event| {
        let who = event.task;
        match event.kind {
            EventKind::Spawn(source) => format!("{who} spawned by {}", by(source)),
            EventKind::Wake(source) => format!("{who} woken by {}", by(source)),
            EventKind::PollBegin => format!("{who} ["),
            EventKind::PollEnd(how) => format!("{who} ] {how:?}"),
            EventKind::WaitBegin(what) => format!("{who} waits for {what}"),
            EventKind::WaitEnd(what) => format!("{who} has waited for {what}"),
            EventKind::Cancel => format!("{who} cancelled"),
            other => panic!("{other:?}"),
        }
    };
    trace.events().iter().map(line).collect()
}

/// What is recorded of `block_on(future)`.
fn record<F: Future<Output = ()>>(future: F) -> Trace {
    trace::start(10_000);
    block_on(future);
    trace::stop().unwrap()
}

/// Those of one task.
fn of(lines: &[String], who: &str) -> Vec<String> {
    let prefix = format!("{who} ");
    let ours = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    ours.map(String::from).collect()
}

#[test]
fn a_task_that_yields_and_one_that_awaits_it() {
    let lines = watchdog(|| lines(&record(async { spawn(yield_now()).await })));
    assert_eq!(
        lines,
        [
            "main [",
            "task-1 spawned by main",
            "main ] Pending",
            "main waits for the end of task-1",
            "task-1 [",
            // In the queue again: it waits for nothing.
            "task-1 woken by task-1",
            "task-1 ] Pending",
            "task-1 [",
            "main woken by task-1",
            "main has waited for the end of task-1",
            "task-1 ] Done",
            "main [",
            "main ] Done",
        ]
    );
}

#[test]
fn times_do_not_go_back_and_totals_add_up() {
    let trace = watchdog(|| {
        record(async {
            let slow = spawn(async {
                thread::sleep(3 * MS);
                sleep(2 * MS).await;
                // From the end of this poll on it is in the queue, not from its wake.
                yield_now().await;
            });
            slow.await;
        })
    });
    let times: Vec<_> = trace.events().iter().map(|event| event.at).collect();
    assert!(times.is_sorted());
    assert!(trace.duration() >= *times.last().unwrap());
    let [main, slow] = &trace.totals()[..] else {
        panic!("{:?}", trace.totals());
    };
    assert_eq!((main.polls, slow.polls), (2, 3));
    assert!(slow.longest >= 3 * MS && slow.busy >= slow.longest);
    assert!(slow.waited > Duration::ZERO);
    assert!(main.queued + main.waited + main.busy <= trace.duration());
    let (ended, how) = slow.ended.unwrap();
    assert_eq!(how, Outcome::Done);
    let alive = ended - slow.spawned.unwrap();
    assert_eq!(alive, slow.busy + slow.queued + slow.waited);
    assert!(main.waited >= slow.waited);
    assert!(slow.spawned_at.unwrap().file().ends_with("trace.rs"));
    // Where `block_on` was called.
    assert!(main.spawned_at.unwrap().file().ends_with("trace.rs"));
}

#[cfg(feature = "testing")]
#[test]
fn the_times_are_real_under_a_virtual_clock() {
    let trace = watchdog(|| {
        trace::start(100);
        soloist::testing::block_on(async { sleep(24 * HOUR).await });
        trace::stop().unwrap()
    });
    let events = lines(&trace);
    assert!(
        events.contains(&"main woken by timers".into()),
        "{events:?}"
    );
    assert!(trace.duration() < HOUR, "{trace:?}");
}

#[test]
fn a_wait_with_a_timeout_is_two_waits() {
    let lines = watchdog(|| {
        let (promise, promised) = promise();
        lines(&record(async {
            let waiter = spawn(async { timeout(HOUR, promised).await });
            yield_now().await;
            promise.set(7).unwrap();
            assert_eq!(waiter.await, Ok(Ok(7)));
        }))
    });
    assert_eq!(
        of(&lines, "task-1"),
        [
            "spawned by main",
            "[",
            "] Pending",
            "waits for a promise",
            "waits for a timer",
            "woken by main",
            "has waited for a promise",
            "has waited for a timer",
            "[",
            "] Done",
        ]
    );
}

#[test]
fn what_others_do_is_named() {
    let lines = watchdog(|| {
        let (promise, promised) = promise();
        lines(&record(async {
            // One of two timers.
            future::or(sleep(MS), sleep(HOUR)).await;
            // Another thread.
            thread::spawn(move || {
                thread::sleep(5 * MS);
                promise.set(()).unwrap();
            });
            promised.await.unwrap();
            // A task of another runtime, and a task of this one that it spawns here.
            let handle = Handle::current();
            let remote = thread::spawn(move || handle.spawn(|| sleep(MS)));
            remote.join().unwrap().await.unwrap();
            // Something that nobody knows.
            let mut woken = false;
            std::future::poll_fn(|cx| {
                if woken {
                    return Poll::Ready(());
                }
                woken = true;
                let waker = cx.waker().clone();
                thread::spawn(move || {
                    thread::sleep(5 * MS);
                    waker.wake();
                });
                Poll::Pending
            })
            .await;
        }))
    });
    assert_eq!(
        of(&lines, "main"),
        [
            "[",
            "] Pending",
            "waits for a timer",
            "waits for a timer",
            "woken by timers",
            "has waited for a timer",
            "has waited for a timer",
            "[",
            "] Pending",
            "waits for a promise",
            "woken by inbox",
            "has waited for a promise",
            "[",
            "] Pending",
            "waits for a task of another runtime",
            "woken by task-r1",
            "has waited for a task of another runtime",
            "[",
            "] Pending",
            "waits for something outside",
            "woken by inbox",
            "has waited for something outside",
            "[",
            "] Done",
        ]
    );
    assert_eq!(of(&lines, "task-r1")[0], "spawned by inbox");
}

#[test]
fn what_comes_after_the_timers_is_not_theirs() {
    let lines = watchdog(|| {
        trace::start(100);
        let runtime = Runtime::new();
        runtime.block_on(async { sleep(MS).await });
        runtime.spawn(async {}).detach();
        lines(&trace::stop().unwrap())
    });
    assert!(lines.contains(&"main woken by timers".into()), "{lines:?}");
    assert!(
        lines.contains(&"task-1 spawned by outside".into()),
        "{lines:?}"
    );
}

#[test]
fn sockets_are_waited_for_by_their_number() {
    let lines = watchdog(|| {
        lines(&record(async {
            use futures_lite::{AsyncReadExt, AsyncWriteExt};
            let listener = soloist::net::TcpListener::bind("127.0.0.1:0")
                .await
                .unwrap();
            let address = listener.local_addr().unwrap();
            let (promise, accepted) = promise();
            let reader = spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                promise.set(()).unwrap();
                stream.read_exact(&mut [0; 4]).await.unwrap();
            });
            // The reader is at its accept.
            yield_now().await;
            let mut stream = soloist::net::TcpStream::connect(address).await.unwrap();
            accepted.await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            reader.await;
        }))
    });
    let reader = of(&lines, "task-1");
    let waits: Vec<_> = reader
        .iter()
        .filter(|line| line.starts_with("waits for fd "))
        .collect();
    assert_eq!(waits.len(), 2, "accept and read: {reader:?}");
    assert!(waits.iter().all(|line| line.ends_with(", to read")));
    assert_ne!(waits[0], waits[1]);
    let woken = reader.iter().filter(|line| *line == "woken by reactor");
    assert_eq!(woken.count(), 2, "{reader:?}");
}

#[test]
#[cfg(feature = "blocking")]
fn groups_and_jobs_are_waited_for() {
    let lines = watchdog(|| {
        lines(&record(async {
            let mut group: TaskGroup<(), ()> = TaskGroup::new();
            group.spawn(async { Ok(()) });
            group.next().await;
            soloist::unblock(|| thread::sleep(5 * MS)).await;
        }))
    });
    let main = of(&lines, "main");
    for what in ["a task of its group", "a job on the pool of threads"] {
        for line in [
            format!("waits for {what}"),
            format!("has waited for {what}"),
        ] {
            assert_eq!(main.iter().filter(|known| **known == line).count(), 1);
        }
    }
}

#[test]
fn to_wait_for_the_same_twice_is_one_wait() {
    let lines = watchdog(|| {
        let (promise, promised) = promise();
        lines(&record(async {
            let twice = spawn(future::zip(promised.clone(), promised));
            yield_now().await;
            promise.set(1).unwrap();
            assert_eq!(twice.await, (Ok(1), Ok(1)));
        }))
    });
    let waits = of(&lines, "task-1");
    let waits = waits.iter().filter(|line| line.starts_with("waits"));
    assert_eq!(waits.collect::<Vec<_>>(), ["waits for a promise"]);
}

#[test]
fn what_a_poll_waits_for_that_is_not_recorded_is_not_the_next_one_s() {
    let lines = watchdog(|| {
        block_on(async {
            let sleeps = spawn(async {
                trace::start(100);
                sleep(HOUR).await;
            });
            let waits = spawn(pending::<()>());
            yield_now().await;
            drop((sleeps, waits));
        });
        lines(&trace::stop().unwrap())
    });
    assert_eq!(
        of(&lines, "task-2")[..3],
        ["[", "] Pending", "waits for something outside"]
    );
    assert!(!lines.iter().any(|line| line.contains("timer")));
}

#[test]
fn a_wait_that_came_to_nothing_is_none() {
    // The sleep is polled, and given up in the same poll.
    let lines = watchdog(|| {
        lines(&record(async {
            let mut slept = sleep(HOUR);
            assert!(poll_once(&mut slept).await.is_pending());
        }))
    });
    assert_eq!(lines, ["main [", "main ] Done"]);
}

#[test]
fn every_end_of_a_task_is_told() {
    let lines = watchdog(|| {
        lines(&record(async {
            // 1: cancelled while it waits.
            let waits = spawn(pending::<()>());
            yield_now().await;
            drop(waits);
            // 2: cancelled before its first poll.
            drop(spawn(async {}));
            // 3: aborted: no poll, but a wake that leads to its end.
            let aborted = spawn(pending::<()>());
            yield_now().await;
            aborted.abort_handle().abort();
            aborted.join().await.unwrap_err();
            // 4: aborts itself, in a poll that is not the end otherwise.
            let (promise, promised) = promise::<task::AbortHandle>();
            let itself = spawn(async {
                promised.await.unwrap().abort();
                pending::<()>().await;
            });
            promise.set(itself.abort_handle()).unwrap();
            itself.join().await.unwrap_err();
            // 5: panics.
            spawn(async { panic!("on purpose") })
                .join()
                .await
                .unwrap_err();
        }))
    });
    assert_eq!(
        of(&lines, "task-1"),
        [
            "spawned by main",
            "[",
            "] Pending",
            "waits for something outside",
            "has waited for something outside",
            "cancelled",
        ]
    );
    assert_eq!(of(&lines, "task-2"), ["spawned by main", "cancelled"]);
    assert_eq!(
        of(&lines, "task-3"),
        [
            "spawned by main",
            "[",
            "] Pending",
            "waits for something outside",
            "woken by main",
            "has waited for something outside",
            "cancelled",
        ]
    );
    assert_eq!(
        of(&lines, "task-4"),
        ["spawned by main", "[", "woken by task-4", "] Cancelled"]
    );
    assert_eq!(of(&lines, "task-5"), ["spawned by main", "[", "] Panicked"]);
}

#[test]
fn a_panic_of_main_ends_its_poll() {
    let lines = watchdog(|| {
        trace::start(100);
        catch_unwind(|| block_on(async { panic!("on purpose") })).unwrap_err();
        Runtime::new().spawn(async {}).detach();
        lines(&trace::stop().unwrap())
    });
    assert_eq!(
        lines,
        [
            "main [",
            "main ] Panicked",
            "task-1 spawned by outside",
            // With its runtime.
            "task-1 cancelled",
        ]
    );
}

#[test]
fn a_destructor_that_panics_is_the_task_s_panic() {
    let lines = watchdog(|| {
        lines(&record(async {
            let panics = OnDrop(|| panic!("on purpose"));
            // It goes with the future, not in the poll.
            let task = spawn(std::future::poll_fn(move |_| {
                let _panics = &panics;
                Poll::Ready(())
            }));
            task.join().await.unwrap_err();
        }))
    });
    assert_eq!(of(&lines, "task-1").last().unwrap(), "] Panicked");
}

#[test]
fn the_ring_keeps_the_last_and_counts_the_rest() {
    let (all, some) = watchdog(|| {
        let run = |capacity| {
            trace::start(capacity);
            let runtime = Runtime::new();
            for number in 0..5 {
                let name = format!("n{number}");
                runtime.block_on(async move {
                    task::Builder::new().name(name).spawn(yield_now()).await
                });
            }
            trace::stop().unwrap()
        };
        (run(1000), run(20))
    });
    assert_eq!((all.lost(), all.events().len()), (0, 5 * 13));
    assert_eq!((some.lost(), some.events().len()), (5 * 13 - 20, 20));
    assert_eq!(lines(&all)[5 * 13 - 20..], lines(&some));
    // The names of those that are in the ring are known, though one was spawned before it.
    let names: Vec<_> = some.totals().iter().map(|task| task.name()).collect();
    assert_eq!(names, ["n3", "main", "n4"]);
    assert_eq!(some.totals()[0].spawned, None);
    assert_eq!(some.totals()[2].polls, 2);
}

#[test]
fn a_ring_of_one() {
    watchdog(|| {
        trace::start(1);
        block_on(async { spawn(yield_now()).await });
        let trace = trace::stop().unwrap();
        assert_eq!(lines(&trace), ["main ] Done"]);
        assert_eq!(trace.totals()[0].polls, 1);
        check_json(&trace);
    });
}

#[test]
fn the_recording_can_begin_and_end_anywhere() {
    watchdog(|| {
        // Before it: nothing.
        assert!(trace::snapshot().is_none() && trace::stop().is_none());
        let error = trace::save_json("nowhere").unwrap_err();
        assert!(error.to_string().contains("trace::start"), "{error}");
        assert!(!std::path::Path::new("nowhere").exists());
        block_on(async {
            let before = task::Builder::new().name("before").spawn(async {
                yield_now().await;
                yield_now().await;
            });
            yield_now().await;
            // The poll that is under way is not in it, but what it does is.
            trace::start(100);
            let (promise, promised) = promise::<()>();
            let later = spawn(promised);
            before.await;
            assert!(trace::is_recording());
            let trace = trace::stop().unwrap();
            assert!(!trace::is_recording());
            let events = lines(&trace);
            assert_eq!(events[0], "task-2 spawned by outside");
            assert_eq!(events.last().unwrap(), "main [");
            assert_eq!(trace.totals()[1].name(), "before");
            check_json(&trace);
            // What happens now is not in it, and the record stays as it is.
            drop((promise, later));
            yield_now().await;
            let again = trace::snapshot().unwrap();
            assert_eq!(lines(&again), events);
            assert_eq!(again.duration(), trace.duration());
            // Starting anew throws it away.
            trace::start(100);
            assert!(trace::snapshot().unwrap().events().is_empty());
        });
        // Half of a poll, and not stopped.
        assert_eq!(lines(&trace::snapshot().unwrap()), Vec::<String>::new());
        block_on(async {});
        assert_eq!(lines(&trace::snapshot().unwrap()).len(), 2);
    });
}

#[test]
fn how_a_poll_ends_that_is_not_recorded_says_nothing_of_the_next() {
    let lines = watchdog(|| {
        block_on(async {
            let panics = spawn(async {
                trace::start(100);
                panic!("on purpose")
            });
            panics.join().await.unwrap_err();
            spawn(async {}).await;
        });
        lines(&trace::stop().unwrap())
    });
    assert_eq!(lines[..2], ["main woken by outside", "main ["]);
    assert_eq!(of(&lines, "main").last().unwrap(), "] Done");
    assert!(!lines.iter().any(|line| line.ends_with("Panicked")));
}

#[test]
fn a_thread_s_record_is_its_own() {
    watchdog(|| {
        trace::start(100);
        let other = thread::spawn(|| {
            block_on(spawn_and_wait());
            trace::snapshot().is_none()
        });
        assert!(other.join().unwrap());
        assert!(trace::stop().unwrap().events().is_empty());
    });

    async fn spawn_and_wait() {
        spawn(async {}).await;
    }
}

#[test]
fn a_trace_is_data_for_any_thread() {
    watchdog(|| {
        let trace = record(async { spawn(yield_now()).await });
        let expected = lines(&trace);
        let there = thread::spawn(move || lines(&trace.clone()));
        assert_eq!(there.join().unwrap(), expected);
    });
}

#[test]
#[should_panic(expected = "trace::start(0)")]
fn a_ring_of_none_is_refused() {
    trace::start(0);
}

/// Waits, wakes, ends and names of all kinds.
fn rich_workload() {
    let runtime = Runtime::new();
    let hostile = "a \"quoted\" </script><!-- \\ \u{1} \n \u{2028} näme";
    let before = spawn_on(&runtime, hostile, pending::<()>());
    runtime.block_on(async {
        let (promise, promised) = promise();
        let waiter = spawn(async { timeout(HOUR, promised).await });
        let chain = spawn(waiter);
        let two = spawn(async { future::zip(sleep(MS), sleep(MS)).await });
        let cancelled = spawn(pending::<()>());
        let panics = spawn(async { panic!("on purpose") }).join();
        yield_now().await;
        drop(cancelled);
        panics.await.unwrap_err();
        promise.set(1).unwrap();
        chain.await.unwrap().unwrap();
        two.await;
    });
    drop(before);
    let _ = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { panic!("on purpose") })
    }));
    // A second runtime, whose tasks have the same numbers.
    block_on(async {
        let remote = Handle::current().spawn(yield_now);
        remote.await.unwrap();
    });
}

fn spawn_on<F: Future<Output = ()> + 'static>(
    runtime: &Runtime,
    name: &str,
    future: F,
) -> task::Task<()> {
    let name = name.to_string();
    let spawned = async { Some(task::Builder::new().name(name).spawn(future)) };
    runtime.block_on(spawned).unwrap()
}

#[test]
fn the_json_is_well_formed_however_the_ring_cuts() {
    watchdog(|| {
        trace::start(10_000);
        rich_workload();
        let all = trace::stop().unwrap().events().len();
        assert!(all > 60, "{all} events");
        for capacity in 1..=all + 1 {
            trace::start(capacity);
            rich_workload();
            check_json(&trace::stop().unwrap());
        }
    });
}

/// The structure that Perfetto and `chrome://tracing` rely on.
fn check_json(trace: &Trace) {
    let mut json = Vec::new();
    trace.write_json(&mut json).unwrap();
    let json = parse(&json);
    let lost = text(&json["otherData"]["lost"]);
    assert_eq!(lost, trace.lost().to_string());
    let mut named = BTreeSet::new();
    let mut used = BTreeSet::new();
    let mut last = 0.0;
    let mut open: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut waits = BTreeMap::new();
    let mut flows = BTreeMap::new();
    let (mut polls, mut ended) = (0, 0);
    for event in list(&json["traceEvents"]) {
        let (name, phase) = (text(&event["name"]), text(&event["ph"]));
        let thread = (number(&event["pid"]) as u64, number(&event["tid"]) as u64);
        if phase == "M" {
            match name {
                "process_name" | "thread_name" => {
                    assert!(!text(&event["args"]["name"]).is_empty());
                    assert!(named.insert((name.to_string(), thread)), "{name} twice");
                }
                "thread_sort_index" => {
                    number(&event["args"]["sort_index"]);
                }
                other => panic!("{other}"),
            }
            continue;
        }
        used.insert(thread);
        let at = number(&event["ts"]);
        assert!(at >= last, "sorted by time");
        last = at;
        let stack = open.entry(thread).or_default();
        match phase {
            "B" => {
                polls += 1;
                assert_eq!(name, "poll");
                assert!(stack.is_empty(), "polls of a task do not overlap");
                stack.push(name.into());
            }
            "E" => assert_eq!(stack.pop().as_deref(), Some(name)),
            "b" => {
                let key = (
                    text(&event["cat"]).to_string(),
                    text(&event["id2"]["local"]).to_string(),
                );
                assert!(waits.insert(key, name.to_string()).is_none());
            }
            "e" => {
                let key = (
                    text(&event["cat"]).to_string(),
                    text(&event["id2"]["local"]).to_string(),
                );
                assert_eq!(waits.remove(&key).as_deref(), Some(name));
                ended += 1;
            }
            "s" => {
                assert_eq!(stack.len(), 1, "a wake comes out of a poll");
                let id = number(&event["id"]) as u64;
                assert!(flows.insert(id, ()).is_none());
            }
            "f" => {
                assert_eq!(stack.len(), 1, "a wake leads into a poll");
                assert_eq!(text(&event["bp"]), "e");
                assert!(flows.remove(&(number(&event["id"]) as u64)).is_some());
            }
            "i" => assert_eq!(text(&event["s"]), "t"),
            other => panic!("{other}"),
        }
    }
    assert!(open.values().all(Vec::is_empty), "every poll has an end");
    assert!(waits.is_empty(), "every wait has an end: {waits:?}");
    let events = trace.events().iter().map(|event| event.kind);
    let ends = events.filter(|happened| matches!(happened, EventKind::WaitEnd(_)));
    assert!(ended >= ends.count(), "one that began before the ring did");
    let total: u64 = trace.totals().iter().map(|task| task.polls).sum();
    assert_eq!(polls, total);
    for (process, thread) in used {
        assert!(named.contains(&("process_name".into(), (process, 0))));
        assert!(named.contains(&("thread_name".into(), (process, thread))));
    }
}

#[test]
fn the_page_is_one_file_with_the_data_in_it() {
    watchdog(|| {
        trace::start(10_000);
        rich_workload();
        let trace = trace::stop().unwrap();
        let mut page = Vec::new();
        trace.write_html(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        // Nothing is loaded, and nothing that a task is called ends the script.
        for outside in ["http:", "https:", "src=", "@import", "url(", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("</script>").count(), 2);
        let start = "<script id=\"data\" type=\"application/json\">";
        let data = page.split_once(start).unwrap().1;
        let data = parse(data.split_once("</script>").unwrap().0.as_bytes());
        let totals = trace.totals();
        assert_eq!(number(&data["lost"]), 0.0);
        let tasks = list(&data["tasks"]);
        assert_eq!(tasks.len(), totals.len());
        for (task, totals) in tasks.iter().zip(&totals) {
            assert_eq!(number(&task["count"]), totals.polls as f64);
            assert_eq!(number(&task["busy"]), totals.busy.as_nanos() as f64);
            assert_eq!(number(&task["wait"]), totals.waited.as_nanos() as f64);
            let polls = numbers(&task["polls"]);
            assert_eq!(polls.len() as u64, 3 * totals.polls);
            let busy: f64 = polls.chunks(3).map(|poll| poll[1] - poll[0]).sum();
            assert_eq!(busy, totals.busy.as_nanos() as f64);
            // The page looks for what is at a place by bisection.
            assert!(polls.chunks(3).map(|poll| poll[1] as u64).is_sorted());
            for (spans, step) in [("queued", 2), ("waits", 3)] {
                let spans = numbers(&task[spans]);
                assert!(spans.chunks(step).map(|span| span[0] as u64).is_sorted());
                assert!(spans.chunks(step).all(|span| span[0] <= span[1]));
            }
            match totals.spawned_at {
                Some(place) => assert_eq!(text(&task["place"]), place.to_string()),
                None => assert_eq!(text(&task["place"]), ""),
            }
        }
        let name = tasks.iter().find_map(|task| task["name"].as_str());
        assert!(
            name.unwrap()
                .contains("</script><!-- \\ \u{1} \n \u{2028} näme")
        );
        // Two runtimes: their tasks are told apart.
        let ids: BTreeSet<_> = tasks.iter().map(|task| text(&task["id"])).collect();
        assert_eq!(ids.len(), tasks.len());
        let wakes = numbers(&data["wakes"]);
        assert_eq!(wakes.len() % 4, 0);
        assert!(wakes.chunks(4).map(|wake| wake[0] as u64).is_sorted());
        assert!(wakes.chunks(4).all(|wake| wake[2] < tasks.len() as f64));
    });
}

#[test]
fn timers_share_one_label_in_the_page() {
    let trace = watchdog(|| {
        record(async {
            for _ in 0..5 {
                sleep(MS).await;
            }
        })
    });
    let mut page = Vec::new();
    trace.write_html(&mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert_eq!(page.matches(r#"["timer","a timer"]"#).count(), 1);
}

#[test]
fn the_files_are_written_where_they_are_wanted() {
    watchdog(|| {
        let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = |end: &str| dir.join(format!("trace-{}.{end}", std::process::id()));
        trace::start(100);
        block_on(async {
            spawn(async {}).await;
            // Also from inside.
            trace::save_html(file("html")).unwrap();
        });
        trace::save_json(file("json")).unwrap();
        let page = std::fs::read_to_string(file("html")).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.contains("task-1"));
        let json = std::fs::read(file("json")).unwrap();
        assert!(parse(&json)["traceEvents"].is_array());
        std::fs::remove_file(file("html")).unwrap();
        std::fs::remove_file(file("json")).unwrap();
        let error = trace::save_json(dir.join("no/such/place")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
fn what_is_waited_for_has_words() {
    for (what, words) in [
        (WaitReason::Read { fd: 3 }, "fd 3, to read"),
        (WaitReason::Write { fd: 3 }, "fd 3, to write"),
        (
            WaitReason::Timer {
                deadline: std::time::Instant::now(),
            },
            "a timer",
        ),
        (WaitReason::Job, "a job on the pool of threads"),
    ] {
        assert_eq!(what.to_string(), words);
    }
}

fn parse(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

#[track_caller]
fn text(json: &Value) -> &str {
    json.as_str().expect("a string")
}

#[track_caller]
fn number(json: &Value) -> f64 {
    json.as_f64().expect("a number")
}

#[track_caller]
fn list(json: &Value) -> &[Value] {
    json.as_array().expect("a list")
}

#[track_caller]
fn numbers(json: &Value) -> Vec<f64> {
    list(json).iter().map(number).collect()
}
