//! The end of tasks and runtimes while wakers, handles and other threads still exist.

use std::net::UdpSocket;

use soloist::io::Async;
use soloist::task::AbortHandle;

use crate::support::*;

#[track_caller]
fn assert_dropped_here(seen: &Seen) {
    assert_eq!(seen.drops.get(), 1);
    assert_eq!(seen.dropped_on.get(), Some(thread::current().id()));
}

/// What another thread has of a runtime.
struct Known {
    handle: Handle,
    waker: Waker,
    abort: AbortHandle,
    token: Arc<()>,
}

#[test]
fn b12_handles_and_wakers_are_used_on_another_thread_while_the_runtime_is_dropped() {
    watchdog(|| {
        let (send, receive) = mpsc::channel::<Known>();
        let (done, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            for known in receive {
                known.waker.wake_by_ref();
                let token = known.token;
                let task = known.handle.spawn(move || async move { drop(token) });
                known.abort.abort();
                known.waker.wake();
                known.handle.stop();
                done.send(task.wait()).unwrap();
            }
        });
        for round in 0..2_000 {
            let runtime = Runtime::new();
            let seen = Seen::new();
            let task = runtime.spawn(seen.probe());
            turn(&runtime);
            let token = Arc::new(());
            let known = Known {
                handle: runtime.handle(),
                waker: seen.waker.take().unwrap(),
                abort: task.abort_handle(),
                token: token.clone(),
            };
            task.detach();
            send.send(known).unwrap();
            for _ in 0..round % 20 * 50 {
                std::hint::spin_loop();
            }
            drop(runtime);
            assert_dropped_here(&seen);
            assert_eq!(seen.polls.get(), 1);
            assert!(wait.recv().unwrap().unwrap_err().is_cancelled());
            assert_eq!(Arc::strong_count(&token), 1);
        }
        drop(send);
        thread.join().unwrap();
    });
}

#[test]
fn b13_b15_the_last_waker_of_a_task_is_used_after_its_runtime_is_dropped() {
    /// What is done with the waker.
    type End = fn(Waker);
    let ends: [End; 4] = [
        Waker::wake,
        |waker| elsewhere(move || waker.wake()),
        |waker| elsewhere(move || drop(waker)),
        // Inside another runtime.
        |waker| block_on(async { waker.wake() }),
    ];
    watchdog(move || {
        for end in ends {
            let seen = Seen::new();
            let runtime = Runtime::new();
            runtime.spawn(seen.probe()).detach();
            turn(&runtime);
            drop(runtime);
            assert_dropped_here(&seen);
            end(seen.waker.take().unwrap());

            // The waker of a main.
            end(block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone()))));
            assert_eq!(seen.counts(), (1, 1));
        }
    });
}

/// A probe whose destructor panics.
struct PanicsOnDrop {
    probe: Probe,
}

impl PanicsOnDrop {
    fn new(seen: &Rc<Seen>) -> PanicsOnDrop {
        let probe = seen.probe();
        PanicsOnDrop { probe }
    }
}

impl Future for PanicsOnDrop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.probe).poll(cx)
    }
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("the destructor of a future");
    }
}

#[test]
fn b14_a_future_that_panics_when_it_is_cancelled_is_dropped_once() {
    runtime_test(|runtime| {
        let all: Vec<_> = (0..4).map(|_| Seen::new()).collect();
        let mut tasks: Vec<_> = all
            .iter()
            .map(|seen| runtime.spawn(PanicsOnDrop::new(seen)))
            .collect();
        let sibling = Seen::new();
        let sibling_task = runtime.spawn(sibling.probe());
        turn(&runtime);

        // It is reported, and not resumed.
        drop(tasks.remove(0));
        // The joiner is woken, as by a task that is done.
        let cancel = tasks.remove(0).cancel();
        let text = panic_of(|| runtime.block_on(cancel));
        assert_eq!(text, "the destructor of a future");
        tasks[0].abort_handle().abort();
        let error = runtime.block_on(tasks.remove(0).join()).unwrap_err();
        assert!(error.is_panic());
        all[3].finish();
        let error = runtime.block_on(tasks.remove(0).join()).unwrap_err();
        assert!(error.to_string().ends_with("the destructor of a future"));

        for seen in &all {
            assert_dropped_here(seen);
            if let Some(waker) = seen.waker.take() {
                waker.wake_by_ref();
                elsewhere(move || waker.wake());
            }
        }
        assert_eq!(turn(&runtime).polled, 0);
        assert!(all.iter().all(|seen| seen.drops.get() == 1));
        sibling.finish();
        runtime.block_on(sibling_task);
    });
}

#[test]
fn b14_b101_a_destructor_that_panics_leaves_no_future_to_another_thread() {
    runtime_test(|runtime| {
        let all: Vec<_> = (0..6).map(|_| Seen::new()).collect();
        for (n, seen) in all.iter().enumerate() {
            if n % 2 == 0 {
                runtime.spawn(PanicsOnDrop::new(seen)).detach();
            } else {
                runtime.spawn(seen.probe()).detach();
            }
        }
        turn(&runtime);
        let wakers: Vec<_> = all.iter().filter_map(|seen| seen.waker.take()).collect();
        assert_eq!(wakers.len(), 6);
        let (go, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            wait.recv().unwrap();
            // The last references, if the registry has dropped its own.
            for (n, waker) in wakers.into_iter().enumerate() {
                (n < 3).then(|| waker.wake_by_ref());
            }
        });
        // The first panic is resumed after all were dropped.
        let text = panic_of(|| drop(runtime));
        assert_eq!(text, "the destructor of a future");
        all.iter().for_each(|seen| assert_dropped_here(seen));
        go.send(()).unwrap();
        thread.join().unwrap();
        assert!(all.iter().all(|seen| seen.drops.get() == 1));
        // The thread can be used again.
        assert!(Handle::try_current().is_none());
        assert_eq!(block_on(async { spawn(async { 5 }).await }), 5);
    });
}

#[test]
fn b16_wakers_of_a_thread_that_has_ended_do_nothing() {
    watchdog(|| {
        // The wakers of a main, of a task, and of the executor that waits for a `RemoteTask`:
        // it keeps its waker in a thread-local.
        let runtime = Runtime::new();
        let handle = runtime.handle();
        let (mut task, wakers) = elsewhere(move || {
            let mut task = handle.spawn(yield_now);
            let pending = futures_lite::future::block_on(poll_once(&mut task)).is_pending();
            assert!(pending);
            let wakers = block_on(async {
                let main = poll_fn(|cx| Poll::Ready(cx.waker().clone()));
                let task = spawn(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
                [main.await, task.await]
            });
            (task, wakers)
        });
        wakers.iter().for_each(Waker::wake_by_ref);
        wakers.into_iter().for_each(Waker::wake);
        runtime.run();
        assert!(runtime.block_on(&mut task).is_ok());
    });
}

#[test]
fn b17_abort_and_drop_from_other_threads_drop_the_future_here() {
    runtime_test(|runtime| {
        let (aborted, remote, unpolled) = (Seen::new(), Seen::new(), Seen::new());
        let task = runtime.spawn(aborted.probe());
        let unpolled_task = runtime.spawn(unpolled.probe());
        thread_local! {
            static HERE: RefCell<Option<Rc<Seen>>> = const { RefCell::new(None) };
        }
        HERE.set(Some(remote.clone()));
        let handle = runtime.handle();
        let remote_task = elsewhere(move || {
            handle.spawn(|| HERE.with_borrow(|seen| seen.clone().unwrap().probe()))
        });

        // Before the first poll.
        let abort = unpolled_task.abort_handle();
        elsewhere(move || abort.abort());
        assert_eq!(unpolled.drops.get(), 0);
        turn(&runtime);
        assert_dropped_here(&unpolled);
        assert_eq!(unpolled.polls.get(), 0);

        turn(&runtime);
        assert_eq!((aborted.polls.get(), remote.polls.get()), (1, 1));
        let (abort, wakers) = (task.abort_handle(), [aborted.waker(), remote.waker()]);
        elsewhere(move || {
            abort.abort();
            drop(remote_task);
            wakers.into_iter().for_each(Waker::wake);
        });
        assert_eq!((aborted.drops.get(), remote.drops.get()), (0, 0));
        turn(&runtime);
        assert_dropped_here(&aborted);
        assert_dropped_here(&remote);
        assert_eq!((aborted.polls.get(), remote.polls.get()), (1, 1));
        assert!(task.is_finished());
    });
}

#[test]
fn b18_a_foreign_waker_never_drops_a_future_while_the_runtime_is_dropped() {
    watchdog(|| {
        let (send, receive) = mpsc::channel::<Vec<Waker>>();
        let thread = thread::spawn(move || {
            for wakers in receive {
                wakers.iter().for_each(Waker::wake_by_ref);
                wakers.into_iter().for_each(Waker::wake);
            }
        });
        for round in 0..300 {
            let runtime = Runtime::new();
            let all: Vec<_> = (0..20).map(|_| Seen::new()).collect();
            for seen in &all {
                runtime.spawn(seen.probe()).detach();
            }
            turn(&runtime);
            send.send(all.iter().filter_map(|seen| seen.waker.take()).collect())
                .unwrap();
            // Some are polled again, some are just being woken.
            for _ in 0..round % 3 {
                turn(&runtime);
            }
            drop(runtime);
            all.iter().for_each(|seen| assert_dropped_here(seen));
        }
        drop(send);
        thread.join().unwrap();
    });
}

#[test]
fn b19_a_foreign_wake_in_the_last_poll_leads_to_no_other_poll() {
    runtime_test(|runtime| {
        let polls = leak(Cell::new(0));
        let drops = leak(Cell::new(0));
        let guard = OnDrop(move || drops.set(drops.get() + 1));
        let task = runtime.spawn(poll_fn(move |cx| {
            let _guard = &guard;
            polls.set(polls.get() + 1);
            cx.waker().wake_by_ref();
            let waker = cx.waker().clone();
            elsewhere(move || {
                waker.wake_by_ref();
                waker.wake();
            });
            Poll::Ready("done")
        }));
        runtime.run();
        turns(&runtime, 3);
        assert_eq!((polls.get(), drops.get()), (1, 1));
        assert_eq!(runtime.block_on(task), "done");
    });
}

#[test]
fn b19_foreign_wakes_around_the_last_poll_lead_to_one_drop() {
    watchdog(|| {
        let (send, receive) = mpsc::channel::<Waker>();
        let thread = thread::spawn(move || {
            for waker in receive {
                waker.wake_by_ref();
                waker.wake();
            }
        });
        block_on(async {
            for _ in 0..1_000 {
                let (seen, send) = (Seen::new(), send.clone());
                let mut probe = seen.probe();
                let task = spawn(poll_fn(move |cx| {
                    send.send(cx.waker().clone()).unwrap();
                    Pin::new(&mut probe).poll(cx)
                }));
                yield_now().await;
                seen.ready.set(true);
                task.await;
                let polls = seen.polls.get();
                yields(3).await;
                assert_eq!(seen.counts(), (polls, 1));
            }
        });
        drop(send);
        thread.join().unwrap();
    });
}

#[test]
fn b20_wakers_work_in_every_state_of_their_task() {
    /// What is done with a waker, and whether that wakes the task.
    type Use = (fn(Waker), bool);
    const USES: [Use; 6] = [
        (|waker| waker.wake(), true),
        (|waker| waker.wake_by_ref(), true),
        (
            |waker| {
                let other = waker.clone();
                drop(waker);
                other.wake();
            },
            true,
        ),
        (
            |waker| {
                waker.wake_by_ref();
                waker.wake_by_ref();
                let other = waker.clone();
                waker.wake();
                drop(other);
            },
            true,
        ),
        (|waker| drop(waker.clone()), false),
        (drop, false),
    ];
    /// Where it is done.
    type Place = fn(fn(Waker), Waker);
    const PLACES: [Place; 2] = [
        |then, waker| then(waker),
        |then, waker| elsewhere(move || then(waker)),
    ];
    watchdog(|| {
        for (then, wakes) in USES {
            for place in PLACES {
                let runtime = Runtime::new();
                let (between, within) = (Seen::new(), Seen::new());
                runtime.spawn(between.probe()).detach();
                let mut probe = within.probe();
                let mut first = true;
                spawn_detached(
                    &runtime,
                    poll_fn(move |cx| {
                        let result = Pin::new(&mut probe).poll(cx);
                        if std::mem::take(&mut first) {
                            place(then, cx.waker().clone());
                        }
                        result
                    }),
                );
                turn(&runtime);
                place(then, between.waker());
                turns(&runtime, 3);
                let expected = 1 + usize::from(wakes);
                assert_eq!(between.polls.get(), expected);
                assert_eq!(within.polls.get(), expected);

                // Inside the runtime.
                runtime.block_on(async {
                    place(then, between.waker());
                    yield_now().await;
                    yield_now().await;
                });
                let expected = expected + usize::from(wakes);
                assert_eq!(between.polls.get(), expected);

                // Done, and then dropped.
                let wakers = [between.waker(), within.waker()];
                between.finish();
                turns(&runtime, 3);
                let polls = between.polls.get();
                place(then, wakers[0].clone());
                turn(&runtime);
                drop(runtime);
                for waker in wakers {
                    place(then, waker.clone());
                    place(then, waker);
                }
                assert_eq!(between.polls.get(), polls);
                assert_dropped_here(&between);
                assert_dropped_here(&within);
            }
        }
    });
}

#[test]
fn b21_an_event_of_a_source_dropped_in_the_same_batch_wakes_no_other() {
    fn socket() -> (Async<UdpSocket>, std::net::SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (Async::new(socket).unwrap(), address)
    }
    watchdog(|| {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        block_on(async {
            // The source whose event comes first drops the other, and makes a third in its slot.
            let sockets = Arc::new(Mutex::new(Vec::<Option<Async<UdpSocket>>>::new()));
            let third = Arc::new(Mutex::new(None));
            let (wakes, count) = CountWakes::new();
            let events = leak(AtomicUsize::new(0));
            let mut addresses = Vec::new();
            for own in 0..2 {
                let (sockets_there, third, count) = (sockets.clone(), third.clone(), count.clone());
                let waker = waker_fn(move || {
                    // The dropped source wakes its waker, too.
                    if events.fetch_add(1, Ordering::SeqCst) > 0 {
                        return;
                    }
                    let other = sockets_there.lock().unwrap()[1 - own].take();
                    drop(other);
                    let (new, address) = socket();
                    let mut cx = Context::from_waker(&count);
                    assert!(new.poll_readable(&mut cx).is_pending());
                    *third.lock().unwrap() = Some((new, address));
                });
                let (socket, address) = socket();
                let mut cx = Context::from_waker(&waker);
                assert!(socket.poll_readable(&mut cx).is_pending());
                sockets.lock().unwrap().push(Some(socket));
                addresses.push(address);
            }
            for address in addresses {
                sender.send_to(b"both in one batch", address).unwrap();
            }
            yields(300).await;
            assert_eq!(events.load(Ordering::SeqCst), 2);
            assert_eq!(wakes.get(), 0, "the third has got an event of the second");
            let address = third.lock().unwrap().as_ref().expect("it was made").1;
            sender.send_to(b"for the third", address).unwrap();
            while wakes.get() == 0 {
                yield_now().await;
            }
            assert_eq!(wakes.get(), 1);
        });
    });
}

#[test]
fn b22_a_thread_that_reuses_a_thread_number_is_not_the_owner() {
    /// Counters that any thread can read.
    #[derive(Default)]
    struct Counts {
        polls: AtomicUsize,
        drops: AtomicUsize,
    }
    watchdog(|| {
        let mut last: Option<(Waker, AbortHandle, Handle)> = None;
        let all: Vec<Arc<Counts>> = (0..20).map(|_| Arc::default()).collect();
        for counts in &all {
            let counts = counts.clone();
            // The system reuses the number of a thread that has just ended.
            last = Some(elsewhere(move || {
                let runtime = Runtime::new();
                let waker = Rc::new(Cell::new(None));
                let (there, on_drop) = (waker.clone(), counts.clone());
                let guard = OnDrop(move || _ = on_drop.drops.fetch_add(1, Ordering::SeqCst));
                let task = runtime.spawn(poll_fn(move |cx| {
                    let _guard = &guard;
                    counts.polls.fetch_add(1, Ordering::SeqCst);
                    there.set(Some(cx.waker().clone()));
                    Poll::<()>::Pending
                }));
                turn(&runtime);
                // The previous runtime was never dropped: its task still exists,
                // with the same number as the new one, and must not be touched.
                if let Some((waker, abort, handle)) = last {
                    waker.wake_by_ref();
                    abort.abort();
                    runtime.block_on(async {
                        waker.wake();
                        abort.abort();
                        handle.spawn(|| async {}).detach();
                        yield_now().await;
                    });
                    turn(&runtime);
                }
                let known = (waker.take().unwrap(), task.abort_handle(), runtime.handle());
                task.detach();
                forget(runtime);
                known
            }));
        }
        drop(last);
        for counts in all {
            assert_eq!(counts.polls.load(Ordering::SeqCst), 1);
            assert_eq!(counts.drops.load(Ordering::SeqCst), 0);
        }
    });
}

#[test]
fn handles_of_a_dropped_runtime_do_not_affect_the_next_one() {
    watchdog(|| {
        // The next runtime on this thread, and one on another thread.
        for other_thread in [false, true] {
            let runtime = Runtime::new();
            let old = Seen::new();
            let mut task = runtime.spawn(old.probe());
            let mut timer = runtime.block_on(async {
                yield_now().await;
                let mut timer = sleep(HOUR);
                assert!(poll_once(&mut timer).await.is_pending());
                assert!(poll_once(&mut task).await.is_pending());
                [timer]
            });
            let main = runtime.block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
            let mut remote = runtime.handle().spawn(pending::<()>);
            turn(&runtime);
            let (handle, abort, waker) = (runtime.handle(), task.abort_handle(), old.waker());
            drop(runtime);
            let disturb = move || {
                for waker in [&main, &waker] {
                    waker.wake_by_ref();
                    let clone = waker.clone();
                    clone.wake();
                }
                abort.abort();
                remote.abort();
                handle.stop();
                timer[0].reset(Instant::now());
                let token = Arc::new(());
                let there = token.clone();
                let spawned = handle.spawn(move || async move { drop(there) });
                assert_eq!(Arc::strong_count(&token), 1);
                assert!(spawned.wait().unwrap_err().is_cancelled());
                let lost = futures_lite::future::block_on(&mut remote);
                assert!(lost.unwrap_err().is_cancelled());
                drop((timer, remote));
            };
            let check = |disturb: &mut dyn FnMut()| {
                let runtime = Runtime::new();
                let new = Seen::new();
                // With the same number, in the same slot.
                let task = runtime.spawn(new.probe());
                runtime.block_on(yield_now());
                assert_eq!((task.id().to_string(), new.polls.get()), ("1".into(), 1));
                disturb();
                let turn = turn(&runtime);
                assert_eq!((turn.polled, turn.ready), (0, 0));
                assert_eq!(new.counts(), (1, 0));
                // No stop has arrived either.
                let mut left = 3;
                let busy = runtime.spawn(async move {
                    while left > 0 {
                        left -= 1;
                        yield_now().await;
                    }
                });
                drop(task);
                runtime.run();
                assert!(busy.is_finished());
            };
            let mut disturb = Some(disturb);
            if other_thread {
                elsewhere(move || check(&mut || disturb.take().unwrap()()));
            } else {
                check(&mut || disturb.take().unwrap()());
            }
            assert_dropped_here(&old);
            assert_eq!(old.polls.get(), 1);
            assert!(block_on(task.join()).unwrap_err().is_cancelled());
        }
    });
}
