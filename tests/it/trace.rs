//! The events of a trace of known workloads, and the files that are written of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use soloist::future;
use soloist::promise::promise;
use soloist::task::{self, TaskGroup};
use soloist::time::timeout;
use soloist::trace::{self, By, For, Happened, How, Trace};

use crate::support::*;

fn by(by: By) -> String {
    match by {
        By::Task(who) => who.to_string(),
        By::Timers => "timers".into(),
        By::Reactor => "reactor".into(),
        By::Inbox => "inbox".into(),
        By::Outside => "outside".into(),
        other => panic!("{other:?}"),
    }
}

/// A line for each event.
fn lines(trace: &Trace) -> Vec<String> {
    let line = |event: &trace::Event| {
        let who = event.who;
        match event.happened {
            Happened::Spawn(source) => format!("{who} spawned by {}", by(source)),
            Happened::Wake(source) => format!("{who} woken by {}", by(source)),
            Happened::PollBegin => format!("{who} ["),
            Happened::PollEnd(how) => format!("{who} ] {how:?}"),
            Happened::WaitBegin(what) => format!("{who} waits for {what}"),
            Happened::WaitEnd(what) => format!("{who} has waited for {what}"),
            Happened::Cancel => format!("{who} cancelled"),
            other => panic!("{other:?}"),
        }
    };
    trace.events().iter().map(line).collect()
}

#[track_caller]
fn assert_lines(lines: impl AsRef<[String]>, expected: &str) {
    assert_eq!(lines.as_ref().join("; "), expected);
}

/// Records `block_on(future)`.
fn record<F: Future<Output = ()>>(future: F) -> Trace {
    trace::start(10_000);
    block_on(future);
    trace::stop().unwrap()
}

fn lines_of(test: impl AsyncFnOnce() + Send + 'static) -> Vec<String> {
    watchdog(|| lines(&record(test())))
}

/// The lines of one task.
fn of(lines: &[String], who: &str) -> Vec<String> {
    let prefix = format!("{who} ");
    let ours = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    ours.map(String::from).collect()
}

#[test]
fn a_task_that_yields_and_one_that_awaits_it() {
    let lines = watchdog(|| lines(&record(async { spawn(yield_now()).await })));
    // A task that is woken in its own poll waits for nothing.
    assert_lines(
        lines,
        "main [; task-1 spawned by main; main ] Pending; main waits for the end of task-1; \
         task-1 [; task-1 woken by task-1; task-1 ] Pending; task-1 [; main woken by task-1; \
         main has waited for the end of task-1; task-1 ] Done; main [; main ] Done",
    );
}

#[test]
fn times_are_monotonic_and_totals_add_up() {
    let trace = watchdog(|| {
        record(async {
            let slow = spawn(async {
                thread::sleep(3 * MS);
                sleep(2 * MS).await;
                // It counts as queued from the end of this poll on, not from its wake.
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
    assert_eq!(how, How::Done);
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
    assert_lines(
        of(&lines, "task-1"),
        "spawned by main; [; ] Pending; waits for a promise; waits for a timer; woken by main; \
         has waited for a promise; has waited for a timer; [; ] Done",
    );
}

#[test]
fn wakes_by_timers_threads_and_tasks_are_attributed() {
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
            // A waker of another thread.
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
    assert_lines(
        of(&lines, "main"),
        "[; ] Pending; waits for a timer; waits for a timer; woken by timers; \
         has waited for a timer; has waited for a timer; [; ] Pending; waits for a promise; \
         woken by inbox; has waited for a promise; [; ] Pending; \
         waits for a task of another runtime; woken by task-1; \
         has waited for a task of another runtime; [; ] Pending; waits for something outside; \
         woken by inbox; has waited for something outside; [; ] Done",
    );
    assert_eq!(of(&lines, "task-1")[0], "spawned by inbox");
}

#[test]
fn a_spawn_after_a_timer_is_not_attributed_to_it() {
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
fn waits_for_sockets_name_the_fd() {
    let lines = lines_of(async || {
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
fn waits_for_groups_and_jobs_are_recorded() {
    let lines = lines_of(async || {
        let mut group: TaskGroup<(), ()> = TaskGroup::new();
        group.spawn(async { Ok(()) });
        group.next().await;
        soloist::unblock(|| thread::sleep(5 * MS)).await;
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
fn two_waits_for_the_same_promise_are_one() {
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
fn a_wait_in_an_unrecorded_poll_is_not_attributed_to_the_next() {
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
fn a_wait_given_up_in_the_same_poll_is_not_recorded() {
    // The sleep is polled, and given up in the same poll.
    let lines = lines_of(async || {
        let mut slept = sleep(HOUR);
        assert!(poll_once(&mut slept).await.is_pending());
    });
    assert_eq!(lines, ["main [", "main ] Done"]);
}

#[test]
fn every_end_of_a_task_is_recorded() {
    let lines = lines_of(async || {
        // 1: cancelled while it waits.
        let waits = spawn(pending::<()>());
        yield_now().await;
        drop(waits);
        // 2: cancelled before its first poll.
        drop(spawn(async {}));
        // 3: aborted: a wake, and no poll.
        let aborted = spawn(pending::<()>());
        yield_now().await;
        aborted.abort_handle().abort();
        aborted.join().await.unwrap_err();
        // 4: aborts itself in a poll that returns pending.
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
    });
    assert_lines(
        of(&lines, "task-1"),
        "spawned by main; [; ] Pending; waits for something outside; \
         has waited for something outside; cancelled",
    );
    assert_eq!(of(&lines, "task-2"), ["spawned by main", "cancelled"]);
    assert_lines(
        of(&lines, "task-3"),
        "spawned by main; [; ] Pending; waits for something outside; woken by main; \
         has waited for something outside; cancelled",
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
    // Cancelled with its runtime.
    assert_lines(
        lines,
        "main [; main ] Panicked; task-1 spawned by outside; task-1 cancelled",
    );
}

#[test]
fn a_panic_of_a_destructor_is_recorded_as_that_of_its_task() {
    let lines = lines_of(async || {
        let panics = OnDrop(|| panic!("on purpose"));
        // It is dropped with the future, not in the poll.
        let task = spawn(std::future::poll_fn(move |_| {
            let _panics = &panics;
            Poll::Ready(())
        }));
        task.join().await.unwrap_err();
    });
    assert_eq!(of(&lines, "task-1").last().unwrap(), "] Panicked");
}

#[test]
fn the_ring_keeps_the_last_events_and_counts_the_lost() {
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
    // The names of all tasks in the ring are known, also of one that was spawned before its first event.
    let names: Vec<_> = some.totals().iter().map(|task| task.name()).collect();
    assert_eq!(names, ["n3", "main", "n4"]);
    assert_eq!(some.totals()[0].spawned, None);
    assert_eq!(some.totals()[2].polls, 2);
}

#[test]
fn a_ring_with_room_for_one_event_works() {
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
        // Before the recording.
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
            // The current poll is not recorded, but its spawns and wakes are.
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
            // Nothing is recorded any more, and the record stays as it is.
            drop((promise, later));
            yield_now().await;
            let again = trace::snapshot().unwrap();
            assert_eq!(lines(&again), events);
            assert_eq!(again.duration(), trace.duration());
            // A new start discards it.
            trace::start(100);
            assert!(trace::snapshot().unwrap().events().is_empty());
        });
        // The second half of a poll; the recording goes on.
        assert_eq!(lines(&trace::snapshot().unwrap()), Vec::<String>::new());
        block_on(async {});
        assert_eq!(lines(&trace::snapshot().unwrap()).len(), 2);
    });
}

#[test]
fn the_end_of_an_unrecorded_poll_is_not_attributed_to_the_next() {
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
fn each_thread_records_for_itself() {
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
fn a_trace_can_move_to_another_thread() {
    watchdog(|| {
        let trace = record(async { spawn(yield_now()).await });
        let expected = lines(&trace);
        let there = thread::spawn(move || lines(&trace.clone()));
        assert_eq!(there.join().unwrap(), expected);
    });
}

#[test]
#[should_panic(expected = "trace::start(0)")]
fn a_capacity_of_zero_panics() {
    trace::start(0);
}

/// A workload with all kinds of waits, wakes, ends and names.
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
fn the_json_is_well_formed_for_every_capacity() {
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

/// Checks the structure that Perfetto and `chrome://tracing` rely on.
fn check_json(trace: &Trace) {
    let mut text = Vec::new();
    trace.write_json(&mut text).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    let lost = json["otherData"]["lost"].as_str().unwrap();
    assert_eq!(lost, trace.lost().to_string());
    let mut named = BTreeSet::new();
    let mut used = BTreeSet::new();
    let mut last = 0.0;
    let mut open: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut waits = BTreeMap::new();
    let mut flows = BTreeMap::new();
    let (mut polls, mut ended) = (0, 0);
    for event in json["traceEvents"].as_array().unwrap() {
        let (name, phase) = (
            event["name"].as_str().unwrap(),
            event["ph"].as_str().unwrap(),
        );
        let thread = (
            event["pid"].as_f64().unwrap() as u64,
            event["tid"].as_f64().unwrap() as u64,
        );
        if phase == "M" {
            match name {
                "process_name" | "thread_name" => {
                    assert!(!event["args"]["name"].as_str().unwrap().is_empty());
                    assert!(named.insert((name.to_string(), thread)), "{name} twice");
                }
                "thread_sort_index" => {
                    event["args"]["sort_index"].as_f64().unwrap();
                }
                other => panic!("{other}"),
            }
            continue;
        }
        used.insert(thread);
        let at = event["ts"].as_f64().unwrap();
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
                    event["cat"].as_str().unwrap().to_string(),
                    event["id2"]["local"].as_str().unwrap().to_string(),
                );
                assert!(waits.insert(key, name.to_string()).is_none());
            }
            "e" => {
                let key = (
                    event["cat"].as_str().unwrap().to_string(),
                    event["id2"]["local"].as_str().unwrap().to_string(),
                );
                assert_eq!(waits.remove(&key).as_deref(), Some(name));
                ended += 1;
            }
            "s" => {
                assert_eq!(stack.len(), 1, "a wake comes out of a poll");
                let id = event["id"].as_f64().unwrap() as u64;
                assert!(flows.insert(id, ()).is_none());
            }
            "f" => {
                assert_eq!(stack.len(), 1, "a wake leads into a poll");
                assert_eq!(event["bp"].as_str().unwrap(), "e");
                assert!(
                    flows
                        .remove(&(event["id"].as_f64().unwrap() as u64))
                        .is_some()
                );
            }
            "i" => assert_eq!(event["s"].as_str().unwrap(), "t"),
            other => panic!("{other}"),
        }
    }
    assert!(open.values().all(Vec::is_empty), "every poll has an end");
    assert!(waits.is_empty(), "every wait has an end: {waits:?}");
    let events = trace.events().iter().map(|event| event.happened);
    let ends = events.filter(|happened| matches!(happened, Happened::WaitEnd(_)));
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
        // The page loads nothing, and no name of a task ends the script.
        for outside in ["http:", "https:", "src=", "@import", "url(", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("</script>").count(), 2);
        let start = "<script id=\"data\" type=\"application/json\">";
        let data = page.split_once(start).unwrap().1;
        let data = data.split_once("</script>").unwrap().0;
        let data: Value = serde_json::from_str(data).unwrap();
        let totals = trace.totals();
        assert_eq!(data["lost"].as_f64().unwrap(), 0.0);
        let tasks = data["tasks"].as_array().unwrap();
        assert_eq!(tasks.len(), totals.len());
        for (task, totals) in tasks.iter().zip(&totals) {
            assert_eq!(task["count"].as_f64().unwrap(), totals.polls as f64);
            assert_eq!(
                task["busy"].as_f64().unwrap(),
                totals.busy.as_nanos() as f64
            );
            assert_eq!(
                task["wait"].as_f64().unwrap(),
                totals.waited.as_nanos() as f64
            );
            let polls = numbers(&task["polls"]);
            assert_eq!(polls.len() as u64, 3 * totals.polls);
            let busy: f64 = polls.chunks(3).map(|poll| poll[1] - poll[0]).sum();
            assert_eq!(busy, totals.busy.as_nanos() as f64);
            // The page searches them by bisection.
            assert!(polls.chunks(3).map(|poll| poll[1] as u64).is_sorted());
            for (list, step) in [("queued", 2), ("waits", 3)] {
                let spans = numbers(&task[list]);
                assert!(spans.chunks(step).map(|span| span[0] as u64).is_sorted());
                assert!(spans.chunks(step).all(|span| span[0] <= span[1]));
            }
            match totals.spawned_at {
                Some(place) => assert_eq!(task["place"].as_str().unwrap(), place.to_string()),
                None => assert_eq!(task["place"].as_str().unwrap(), ""),
            }
        }
        let name = tasks.iter().find_map(|task| task["name"].as_str());
        assert!(
            name.unwrap()
                .contains("</script><!-- \\ \u{1} \n \u{2028} näme")
        );
        // Two runtimes: their tasks are told apart.
        let ids: BTreeSet<_> = tasks
            .iter()
            .map(|task| task["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), tasks.len());
        let wakes = numbers(&data["wakes"]);
        assert_eq!(wakes.len() % 4, 0);
        assert!(wakes.chunks(4).map(|wake| wake[0] as u64).is_sorted());
        assert!(wakes.chunks(4).all(|wake| wake[2] < tasks.len() as f64));
    });
}

#[test]
fn save_json_and_save_html_write_files() {
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
        let json = std::fs::read_to_string(file("json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        assert!(json["traceEvents"].is_array());
        std::fs::remove_file(file("html")).unwrap();
        std::fs::remove_file(file("json")).unwrap();
        let error = trace::save_json(dir.join("no/such/place")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
fn wait_reasons_are_displayed_as_text() {
    for (what, words) in [
        (For::Read { fd: 3 }, "fd 3, to read"),
        (For::Write { fd: 3 }, "fd 3, to write"),
        (For::Timer, "a timer"),
        (For::Job, "a job on the pool of threads"),
    ] {
        assert_eq!(what.to_string(), words);
    }
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap().iter();
    list.map(|number| number.as_f64().unwrap()).collect()
}
