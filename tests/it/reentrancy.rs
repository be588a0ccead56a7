//! User code that runs inside the runtime's code: destructors and wakers that call back.

use std::net::UdpSocket;
use std::task::Wake;

use soloist::io::Async;
use soloist::task::Task;
use soloist::time::{Sleep, interval, now, sleep_until};

use crate::support::*;

fn socket() -> Async<UdpSocket> {
    Async::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
}

/// The runtime that is entered. Handles can be compared only by their `Debug` output.
fn current() -> String {
    format!("{:?}", Handle::try_current())
}

#[test]
fn b31_a_wake_does_not_poll_the_task_at_once() {
    watchdog(|| {
        let lock = Arc::new(Mutex::new(0));
        let inside = lock.clone();
        let seen = Seen::new();
        let mut probe = seen.probe();
        let runtime = Runtime::new();
        let task = runtime.spawn(poll_fn(move |cx| {
            // Held by another thread for a moment, never by this one.
            *inside.lock().unwrap() += 1;
            Pin::new(&mut probe).poll(cx)
        }));
        runtime.block_on(async {
            yield_now().await;
            for round in 1..=3 {
                {
                    let count = lock.lock().unwrap();
                    seen.waker().wake();
                    assert_eq!(*count, round);
                }
                yield_now().await;
                assert_eq!(*lock.lock().unwrap(), round + 1);
            }
            let (there, waker) = (lock.clone(), seen.waker());
            elsewhere(move || {
                let _held = there.lock().unwrap();
                waker.wake();
            });
            let held = lock.lock().unwrap();
            seen.finish();
            task.abort_handle().abort();
            drop(held);
        });
        assert_eq!(*lock.lock().unwrap(), 4);
        assert!(runtime.block_on(task.join()).unwrap_err().is_cancelled());
    });
}

thread_local! {
    /// What a [`Reentrant`] waker resets, and what it wakes.
    static TIMER: RefCell<Option<Sleep>> = const { RefCell::new(None) };
    static TASK: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// A waker that calls back when it is woken, and when it is dropped.
struct Reentrant {
    calls: &'static AtomicUsize,
    ran: &'static AtomicUsize,
}

impl Reentrant {
    fn call_back(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let ran = self.ran;
        spawn(async move { _ = ran.fetch_add(1, Ordering::SeqCst) }).detach();
        let ran = self.ran;
        let there =
            Handle::current().spawn(move || async move { ran.fetch_add(1, Ordering::SeqCst) });
        there.detach();
        drop(spawn(pending::<()>()));
        TASK.with_borrow(|task| task.as_ref().unwrap().wake_by_ref());
        TIMER.with_borrow_mut(|timer| {
            let timer = timer.as_mut().unwrap();
            timer.reset(now() + HOUR);
            let _ = poll_with(timer, Waker::noop());
        });
        let mut other = sleep(SECOND);
        assert!(poll_with(&mut other, Waker::noop()).is_pending());
        let socket = socket();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(socket.poll_readable(&mut cx).is_pending());
    }
}

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        self.call_back();
    }
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        self.call_back();
    }
}

#[test]
fn b32_wakers_can_use_the_runtime_when_dropped_and_when_woken() {
    watchdog(|| {
        let calls = leak(AtomicUsize::new(0));
        let ran = leak(AtomicUsize::new(0));
        let seen = Seen::new();
        let waker = || Waker::from(Arc::new(Reentrant { calls, ran }));
        /// Polls twice, with a new waker each time, and then to the end if `finish` is set.
        async fn twice<F: Future + Unpin>(mut future: F, waker: &dyn Fn() -> Waker, finish: bool) {
            for _ in 0..2 {
                if poll_with(&mut future, &waker()).is_ready() {
                    // A timer, on a busy machine.
                    return;
                }
            }
            if finish {
                future.await;
            }
        }
        let runtime = Runtime::new();
        runtime.block_on(async {
            spawn(seen.probe()).detach();
            yield_now().await;
            TASK.set(Some(seen.waker()));
            TIMER.set(Some(sleep(HOUR)));

            for finish in [true, false] {
                twice(sleep(MS), &waker, finish).await;
                twice(spawn(yield_now()), &waker, finish).await;
                twice(Box::pin(spawn(yield_now()).join()), &waker, finish).await;
                twice(Handle::current().spawn(yield_now), &waker, finish).await;
                let mut interval = interval(MS);
                interval.tick().await;
                twice(Box::pin(interval.tick()), &waker, finish).await;
                let socket = socket();
                twice(Box::pin(socket.writable()), &waker, finish).await;
                let poll_writable = poll_fn(|cx| socket.poll_writable(cx));
                twice(poll_writable, &waker, finish).await;
                drop(socket);
            }
            // 14 futures with two wakers each; the tasks that they have spawned run.
            yields(10).await;
        });
        let calls_inside = calls.load(Ordering::SeqCst);
        assert!(calls_inside >= 2 * 14, "{calls_inside}");
        assert_eq!(ran.load(Ordering::SeqCst), 2 * calls_inside);
        assert!(seen.polls.get() > 1);
        // All timers were dropped but the one that was reset.
        let timer = TIMER.take().unwrap();
        assert_eq!(runtime.next_deadline(), Some(timer.deadline()));
        runtime.block_on(async { drop(timer) });
        assert_eq!(runtime.next_deadline(), None);

        // The last wakers are dropped with the runtime.
        let timers = runtime.block_on(async {
            TIMER.set(Some(sleep(HOUR)));
            let mut task = spawn(pending::<()>());
            assert!(poll_with(&mut task, &waker()).is_pending());
            let mut sleep = sleep(SECOND);
            assert!(poll_with(&mut sleep, &waker()).is_pending());
            task.detach();
            [sleep]
        });
        drop(runtime);
        assert!(calls.load(Ordering::SeqCst) >= calls_inside + 2);
        drop(timers);
        TIMER.set(None);
        TASK.set(None);
    });
}

/// A future whose destructor uses every part of the runtime.
struct Busy {
    spawned: &'static Cell<usize>,
    unspawned: &'static Cell<usize>,
    sibling: Waker,
    victim: Option<Task<()>>,
    socket: Option<Async<UdpSocket>>,
    sleep: Option<Sleep>,
    done: bool,
    panics: bool,
}

impl Future for Busy {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let socket = self.socket.get_or_insert_with(socket);
        assert!(socket.poll_readable(cx).is_pending());
        let sleep = self.sleep.get_or_insert_with(|| sleep(HOUR));
        assert!(Pin::new(sleep).poll(cx).is_pending());
        assert!(!self.panics, "busy");
        if self.done {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let (spawned, dropped) = (self.spawned, self.unspawned);
        let guard = OnDrop(move || dropped.set(dropped.get() + 1));
        spawn(async move {
            let _guard = guard;
            yield_now().await;
            spawned.set(spawned.get() + 1);
        })
        .detach();
        self.sibling.wake_by_ref();
        drop(self.victim.take());
        drop(self.socket.take());
        drop(self.sleep.take());
        let mut sleep = sleep(SECOND);
        assert!(poll_with(&mut sleep, &self.sibling).is_pending());
        let socket = socket();
        let mut cx = Context::from_waker(&self.sibling);
        assert!(socket.poll_readable(&mut cx).is_pending());
        self.sleep = Some(sleep);
        Handle::current().spawn(|| async {}).detach();
    }
}

#[test]
fn b33_a_destructor_can_spawn_wake_cancel_deregister_and_set_timers() {
    /// How the task ends.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum End {
        Dropped,
        Cancelled,
        Aborted,
        Done,
        Panics,
        WithTheRuntime,
    }
    use End::*;
    watchdog(move || {
        for end in [Dropped, Cancelled, Aborted, Done, Panics, WithTheRuntime] {
            let spawned = leak(Cell::new(0));
            let unspawned = leak(Cell::new(0));
            let (sibling, victim) = (Seen::new(), Seen::new());
            let runtime = Runtime::new();
            runtime.block_on(async {
                spawn(sibling.probe()).detach();
                let victim_task = spawn(victim.probe());
                yield_now().await;
                let task = spawn(Busy {
                    spawned,
                    unspawned,
                    sibling: sibling.waker(),
                    victim: Some(victim_task),
                    socket: None,
                    sleep: None,
                    done: end == Done,
                    panics: end == Panics,
                });
                if !matches!(end, Done | Panics) {
                    yield_now().await;
                }
                match end {
                    Dropped => drop(task),
                    Cancelled => assert!(task.cancel().await.is_none()),
                    Aborted => {
                        task.abort_handle().abort();
                        assert!(task.join().await.is_err());
                    }
                    Done => task.await,
                    Panics => assert!(task.join().await.unwrap_err().is_panic()),
                    WithTheRuntime => task.detach(),
                }
                yields(4).await;
            });
            let with_runtime = end == WithTheRuntime;
            let counts = || (spawned.get(), unspawned.get(), victim.drops.get());
            let expected = if with_runtime { (0, 0, 0) } else { (1, 1, 1) };
            assert_eq!(counts(), expected, "{end:?}");
            let polls = if with_runtime { 1 } else { 2 };
            assert_eq!(sibling.polls.get(), polls, "{end:?}");
            // Neither timers nor sockets are left behind.
            assert_eq!(runtime.next_deadline().is_some(), with_runtime);
            drop(runtime);
            let expected = if with_runtime { (0, 1, 1) } else { (1, 1, 1) };
            assert_eq!(counts(), expected, "{end:?}");
            assert_eq!(sibling.drops.get(), 1);
        }
    });
}

#[test]
fn b34_destructors_that_wake_and_spawn_in_a_ring_terminate() {
    watchdog(|| {
        let size = 50;
        let runtime = Runtime::new();
        let wakers: &'static RefCell<Vec<Waker>> = leak(RefCell::default());
        let ring: Vec<_> = (0..size).map(|_| Seen::new()).collect();
        let late: Vec<_> = (0..size).map(|_| Seen::new()).collect();
        for number in 0..size {
            let (probe, late) = (ring[number].probe(), late[number].clone());
            let guard = OnDrop(move || {
                wakers.borrow()[(number + 1) % size].wake_by_ref();
                spawn(late.probe()).detach();
                wakers.borrow()[(number + size - 1) % size].wake_by_ref();
            });
            spawn_detached(&runtime, async move {
                let _guard = guard;
                probe.await;
            });
        }
        run_until_idle(&runtime);
        wakers
            .borrow_mut()
            .extend(ring.iter().map(|seen| seen.waker()));
        drop(runtime);
        for (ring, late) in ring.iter().zip(&late) {
            assert_eq!(ring.counts(), (1, 1));
            assert_eq!(late.counts(), (0, 1));
        }
    });
}

#[test]
fn b34_destructors_that_spawn_the_next_one_terminate() {
    /// Spawns another one like itself when it is dropped, `left` times.
    struct Chain {
        left: usize,
        dropped: &'static Cell<usize>,
    }
    impl Future for Chain {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }
    impl Drop for Chain {
        fn drop(&mut self) {
            self.dropped.set(self.dropped.get() + 1);
            if self.left > 0 {
                let task = spawn(Chain {
                    left: self.left - 1,
                    dropped: self.dropped,
                });
                // The runtime is being dropped: the task is finished at once.
                assert!(task.is_finished());
                task.detach();
            }
        }
    }
    watchdog(|| {
        let dropped = leak(Cell::new(0));
        let runtime = Runtime::new();
        for left in [0, 1, 100] {
            runtime.spawn(Chain { left, dropped }).detach();
        }
        run_until_idle(&runtime);
        drop(runtime);
        assert_eq!(dropped.get(), 1 + 2 + 101);
    });
}

#[test]
fn b35_destructors_at_the_end_of_a_runtime_run_inside_it() {
    watchdog(|| {
        let checked = leak(Cell::new(0));
        let guard = || {
            let here = thread::current().id();
            OnDrop(move || {
                assert_eq!(thread::current().id(), here);
                let late = Seen::new();
                let task = spawn(late.probe());
                // Nothing is polled any more here.
                assert_eq!(late.polls.get(), 0);
                let _ = sleep(MS).deadline();
                assert!(now() <= now());
                drop(task);
                assert_eq!(late.drops.get(), 1);
                Handle::current().spawn(|| async {}).detach();
                checked.set(checked.get() + 1);
            })
        };
        // The end of a `block_on`, of a `Runtime`, and after a panic of main.
        let holds = |guard: OnDrop<_>| hold(guard);
        block_on(async {
            spawn(holds(guard())).detach();
            spawn(holds(guard())).detach();
            yield_now().await;
            // Not polled, and with a forgotten handle.
            spawn(holds(guard())).detach();
            forget(spawn(holds(guard())));
        });
        assert_eq!(checked.take(), 4);
        let runtime = Runtime::new();
        runtime.spawn(holds(guard())).detach();
        drop(runtime);
        assert_eq!(checked.take(), 1);
        panic_of(|| {
            block_on(async {
                let _main = guard();
                spawn(holds(guard())).detach();
                yield_now().await;
                panic!("main");
            })
        });
        assert_eq!(checked.take(), 2);
        // A value that the future of `block_on` has captured.
        let moved = guard();
        block_on(poll_fn(move |_| {
            let _moved = &moved;
            Poll::Ready(())
        }));
        assert_eq!(checked.take(), 1);
    });
}

#[test]
fn b36_runtimes_and_handles_are_dropped_inside_of_tasks_and_on_other_threads() {
    watchdog(|| {
        let inner = Seen::new();
        let other = Runtime::new();
        other.spawn(inner.probe()).detach();
        run_until_idle(&other);
        let handle = other.handle();
        let waker = inner.waker();
        let outer = Rc::new(Runtime::new());
        let own = outer.clone();
        let task = outer.spawn(async move {
            // A runtime of this thread, in a task of another one.
            drop(other);
            // A reference to the running runtime, which is not the last.
            drop(own);
            yield_now().await;
            waker.wake();
            handle.stop();
            // The last handle.
            let _ = handle;
            spawn(async { 7 }).await
        });
        assert_eq!(outer.block_on(task), 7);
        assert_eq!(inner.counts(), (1, 1));
        assert_eq!(inner.dropped_on.get(), Some(thread::current().id()));

        // The last handle is dropped on another thread, with messages that were not read.
        let handle = outer.handle();
        let token = Arc::new(());
        let there = token.clone();
        let (remote, handle) = elsewhere(move || {
            let remote = handle.spawn(move || async move { drop(there) });
            (remote, handle)
        });
        drop(outer);
        assert_eq!(Arc::strong_count(&token), 1);
        elsewhere(move || {
            let _ = handle;
            assert!(remote.wait().unwrap_err().is_cancelled());
        });
    });
}

#[test]
fn b37_a_nested_block_on_panics_wherever_it_is_called() {
    watchdog(|| {
        let check = || {
            let texts = [
                panic_of(|| block_on(async {})),
                panic_of(|| Runtime::new().block_on(async {})),
            ];
            for text in texts {
                assert!(text.starts_with("`block_on` inside a running"), "{text}");
                assert!(text.contains("use `.await` there"), "{text}");
            }
        };
        let checked = leak(Cell::new(0));
        let guard = || {
            OnDrop(move || {
                check();
                checked.set(checked.get() + 1);
            })
        };
        block_on(async {
            // In main, in a task, in the destructor of a cancelled and of a finished one.
            check();
            spawn(async move { check() }).await;
            let guarded = guard();
            let task = spawn(hold(guarded));
            yield_now().await;
            drop(task);
            assert_eq!(checked.get(), 1);
            let guarded = guard();
            spawn(async move { drop(guarded) }).await;
            assert_eq!(checked.get(), 2);
            // In a waker, for a timer and for the end of a task.
            let woken = leak(AtomicUsize::new(0));
            let waker = waker_fn(move || {
                check();
                woken.fetch_add(1, Ordering::SeqCst);
            });
            let mut timer = sleep(MS);
            assert!(poll_with(&mut timer, &waker).is_pending());
            let mut task = spawn(yield_now());
            assert!(poll_with(&mut task, &waker).is_pending());
            while woken.load(Ordering::SeqCst) < 2 {
                sleep(MS).await;
            }
            // In a destructor while the runtime is dropped.
            let guarded = guard();
            spawn(hold(guarded)).detach();
        });
        assert_eq!(checked.get(), 3);
        // On another thread it works, and on this one afterwards.
        let sum = block_on(async { elsewhere(|| block_on(async { 1 })) + 1 });
        assert_eq!(sum, 2);
        assert_eq!(block_on(async { 3 }), 3);
    });
}

#[test]
fn b116_block_on_of_futures_and_streams_panics_in_a_task_and_says_what_to_do() {
    use std::io::{Read, Write};

    use soloist::io::BlockOn;
    use soloist::stream::{self, StreamExt};
    watchdog(|| {
        let check = || {
            let text = panic_of(|| soloist::future::block_on(pending::<()>()));
            assert!(text.starts_with("`block_on` inside a running"), "{text}");
            assert!(text.contains("use `.await` there"), "{text}");
            let text = panic_of(|| stream::block_on(stream::pending::<()>()).next());
            assert!(
                text.starts_with("`stream::block_on` inside a running"),
                "{text}"
            );
            assert!(text.contains("use `.next().await`"), "{text}");
            let (_write, read) = tcp_pair();
            let read = soloist::net::TcpStream::try_from(read).unwrap();
            let text = panic_of(|| BlockOn::new(read).read(&mut [0]));
            assert!(text.starts_with("`io::BlockOn` inside a running"), "{text}");
        };
        block_on(async {
            check();
            spawn(async move { check() }).await;
            spawn(async move {
                let _guard = OnDrop(check);
                yield_now().await;
            })
            .await;
        });
        // Outside a runtime they run one.
        assert_eq!(
            soloist::future::block_on(async { spawn(async { 5 }).await }),
            5
        );
        let (mut write, read) = tcp_pair();
        let read = block_on(async { soloist::net::TcpStream::try_from(read).unwrap() });
        let thread = thread::spawn(move || write.write_all(b"hello"));
        let mut text = String::new();
        BlockOn::new(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        thread.join().unwrap().unwrap();
        let mut ticks = 0;
        let every = async |()| {
            sleep(Duration::from_micros(10)).await;
            Some((spawn(async { 1 }).await, ()))
        };
        for one in stream::block_on(Box::pin(stream::unfold((), every)).take(3)) {
            ticks += one;
        }
        assert_eq!(ticks, 3);
        // Tasks that an item has spawned continue with the next item, and end with the iterator.
        let seen = Seen::new();
        let probe = RefCell::new(Some(seen.probe()));
        let items = stream::repeat_with(|| {
            if let Some(probe) = probe.take() {
                spawn(probe).detach();
            }
        });
        let mut items = stream::block_on(items.then(|()| yield_now()).boxed_local());
        items.next();
        items.next();
        assert_eq!(seen.counts(), (1, 0));
        assert_eq!(items.size_hint().1, None);
        drop(items);
        assert_eq!(seen.drops.get(), 1);
        // A stream is dropped inside the runtime that has polled it.
        let inside = leak(Cell::new(false));
        let guard = OnDrop(move || inside.set(Handle::try_current().is_some()));
        let guarded = stream::once(1).map(move |one| {
            let _guard = &guard;
            one
        });
        assert_eq!(stream::block_on(guarded).next(), Some(1));
        assert!(inside.get());
    });
}

#[test]
fn b38_the_outer_runtime_is_current_again_after_an_inner_one() {
    watchdog(|| {
        assert_eq!(current(), "None");
        let log = Log::new();
        let note = move || log.push(current());
        let name = |runtime: &Runtime| format!("{:?}", Some(runtime.handle()));
        let (one, two, three) = (Runtime::new(), Runtime::new(), Runtime::new());
        let names = [name(&one), name(&two), name(&three)];
        let guard = OnDrop(move || {
            note();
            panic!("a destructor in the third");
        });
        three.spawn(hold(guard)).detach();
        // A task of the second runtime owns the third.
        let mut three = Some(three);
        let guard = OnDrop(move || {
            note();
            let text = panic_of(|| drop(three.take()));
            assert_eq!(text, "a destructor in the third");
            note();
        });
        two.spawn(hold(guard)).detach();

        let seen = Seen::new();
        one.block_on(async {
            assert_eq!(current(), names[0]);
            spawn(seen.probe()).detach();
            yield_now().await;
            drop(two);
            assert_eq!(current(), names[0]);
            // The wake and the spawn go to the queue of the first, in this order.
            seen.waker().wake();
            let order = seen.clone();
            spawn(async move { assert_eq!(order.polls.get(), 2) }).await;
        });
        assert_eq!(seen.polls.get(), 2);
        assert_eq!(current(), "None");
        let [_, two, three] = names;
        log.assert(&[two.clone(), three, two]);
    });
}

#[test]
fn b39_a_source_dropped_by_the_wake_of_its_reader_still_wakes_its_writer() {
    async_test(async || {
        let shared = Arc::new(Mutex::new(Some(socket())));
        let there = shared.clone();
        let read = leak(AtomicUsize::new(0));
        let reader = waker_fn(move || {
            read.fetch_add(1, Ordering::SeqCst);
            let source = there.lock().unwrap().take();
            drop(source);
            // The fd and the slot are reused at once.
            let new = socket();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(new.poll_writable(&mut cx).is_pending());
            *there.lock().unwrap() = Some(new);
        });
        let (wrote, writer) = CountWakes::new();
        {
            let source = shared.lock().unwrap();
            let source = source.as_ref().unwrap();
            let (mut read, mut write) =
                (Context::from_waker(&reader), Context::from_waker(&writer));
            assert!(source.poll_readable(&mut read).is_pending());
            assert!(source.poll_writable(&mut write).is_pending());
            let to = source.get_ref().local_addr().unwrap();
            source.get_ref().send_to(b"to itself", to).unwrap();
        }
        while wrote.get() == 0 || read.load(Ordering::SeqCst) == 0 {
            sleep(MS).await;
        }
        for _ in 0..3 {
            sleep(MS).await;
        }
        assert_eq!((read.load(Ordering::SeqCst), wrote.get()), (1, 1));
    });
}

#[test]
fn b40_a_waker_can_set_reset_and_drop_timers_when_a_timer_fires() {
    runtime_test(|runtime| {
        let fired = leak(AtomicUsize::new(0));
        let (late, late_waker) = CountWakes::new();
        let ran = leak(AtomicUsize::new(0));
        let due = runtime.block_on(async { now() + 2 * MS });
        // Dropped, reset and made by the first waker of the batch.
        let timers: Arc<Mutex<Vec<Sleep>>> = Arc::default();
        let there = timers.clone();
        let waker = waker_fn(move || {
            fired.fetch_add(1, Ordering::SeqCst);
            assert!(now() >= due);
            spawn(async move { _ = ran.fetch_add(1, Ordering::SeqCst) }).detach();
            let mut timers = there.lock().unwrap();
            timers.pop();
            timers[0].reset(due + HOUR);
            let mut new = sleep(Duration::ZERO);
            assert!(poll_with(&mut new, &late_waker).is_pending());
            timers.push(new);
        });
        runtime.block_on(async {
            for number in 0..4 {
                let mut timer = sleep_until(due);
                let own = if number == 0 { &waker } else { Waker::noop() };
                assert!(poll_with(&mut timer, own).is_pending());
                timers.lock().unwrap().push(timer);
            }
            thread::sleep(4 * MS);
            sleep(MS).await;
            assert_eq!(fired.load(Ordering::SeqCst), 1);
            // The reset one, and the new one.
            let new = {
                let mut timers = timers.lock().unwrap();
                assert_eq!(timers.len(), 4);
                assert!(poll_with(&mut timers[0], Waker::noop()).is_pending());
                timers.remove(3)
            };
            new.await;
        });
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        assert_eq!(late.get(), 1);
        assert_eq!(runtime.next_deadline(), Some(due + HOUR));
    });
}
