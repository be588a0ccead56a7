//! Values that belong to a task.

use std::pin::pin;

use soloist::task::AccessError;
use soloist::task_local;

use crate::support::*;

task_local! {
    /// The name of a user.
    static USER: String;
    pub(crate) static DEPTH: u32;
    static LOCAL: Rc<Cell<u32>>
}

fn depth() -> Option<u32> {
    DEPTH.try_with(|depth| *depth).ok()
}

#[test]
fn scopes_nest() {
    async_test(async || {
        assert_eq!(depth(), None);
        let output = DEPTH.scope(1, async {
            let inner = DEPTH.scope(2, async {
                // Each key has its own value.
                USER.scope("ada".into(), async {
                    assert_eq!((depth(), USER.get()), (Some(2), "ada".into()));
                    DEPTH.scope(3, async { assert_eq!(depth(), Some(3)) }).await;
                    assert_eq!((depth(), USER.get()), (Some(2), "ada".into()));
                })
                .await;
                assert!(USER.try_with(String::clone).is_err());
                depth()
            });
            assert_eq!(depth(), Some(1), "it is set when it is polled, not before");
            assert_eq!(inner.await, Some(2));
            depth()
        });
        assert_eq!(output.await, Some(1));
        assert_eq!(depth(), None);
    });
}

#[test]
fn a_value_survives_every_await() {
    watchdog(|| {
        block_on(DEPTH.scope(7, async {
            yield_now().await;
            assert_eq!(depth(), Some(7));
            sleep(MS).await;
            assert_eq!(depth(), Some(7));
            spawn(async {}).await;
            assert_eq!(depth(), Some(7));
        }));
    });
}

#[test]
fn tasks_do_not_see_values_of_other_tasks() {
    async_test(async || {
        let tasks: Vec<_> = (0..10)
            .map(|n| {
                let check = async move {
                    for _ in 0..10 {
                        assert_eq!(depth(), Some(n));
                        yield_now().await;
                    }
                };
                spawn(DEPTH.scope(n, check))
            })
            .collect();
        // Main has no value.
        for _ in 0..5 {
            assert_eq!(depth(), None);
            yield_now().await;
        }
        join_all(tasks).await;
        assert_eq!(depth(), None);
    });
}

#[test]
fn a_spawned_task_does_not_inherit_values() {
    watchdog(|| {
        block_on(DEPTH.scope(1, async {
            assert_eq!(spawn(async { depth() }).await, None);
            let passed_on = spawn(DEPTH.scope(DEPTH.get(), async { depth() }));
            assert_eq!(passed_on.await, Some(1));
        }));
    });
}

#[test]
fn two_scopes_in_one_task_keep_their_values() {
    watchdog(|| {
        let check = |n| async move {
            for _ in 0..5 {
                assert_eq!(depth(), Some(n));
                yield_now().await;
            }
            n
        };
        let both = futures_lite::future::zip(DEPTH.scope(1, check(1)), DEPTH.scope(2, check(2)));
        assert_eq!(block_on(both), (1, 2));
    });
}

#[test]
fn there_is_no_value_outside_a_scope() {
    watchdog(|| {
        let error: AccessError = DEPTH.try_with(|_| panic!("a value")).unwrap_err();
        let text = panic_of(|| DEPTH.with(|depth| *depth));
        assert_eq!(
            text,
            "a task-local value outside of its scope: run the future in `scope`"
        );
        assert_eq!(panic_of(|| DEPTH.get()), text);
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        assert_eq!(error.to_string(), text);
        // After a scope, too.
        block_on(DEPTH.scope(1, async {}));
        assert_eq!(depth(), None);
    });
}

#[test]
fn destructors_see_the_value() {
    watchdog(|| {
        let seen = Log::new();
        let look = |name| OnDrop(move || seen.push((name, depth())));
        block_on(async {
            let held = |name, n| {
                let guard = look(name);
                DEPTH.scope(n, hold(guard))
            };
            // Cancelled while it waits, by another task in another scope.
            let waiting = spawn(held("waiting", 1));
            yield_now().await;
            DEPTH.scope(100, async move { drop(waiting) }).await;
            // Dropped before its first poll.
            drop(held("not polled", 2));
            // Done: a variable, and what the future itself owns.
            let guards = (look("variable"), look("held"));
            let mut steps = Box::pin(async move {
                let _variable = guards.0;
                yield_now().await;
            });
            let mut done = pin!(DEPTH.scope(
                3,
                poll_fn(move |cx| {
                    let _held = &guards.1;
                    steps.as_mut().poll(cx)
                })
            ));
            done.as_mut().await;
            assert_eq!(seen.len(), 4, "it does not wait for the scope to go");
            // With a nested scope.
            let nested = spawn(DEPTH.scope(4, held("nested", 5)));
            yield_now().await;
            assert_eq!(nested.cancel().await, None);
            assert_eq!(depth(), None);
        });
        let expected = [
            ("waiting", Some(1)),
            ("not polled", Some(2)),
            ("variable", Some(3)),
            ("held", Some(3)),
            ("nested", Some(5)),
        ];
        assert_eq!(seen.take(), expected);
    });
}

#[test]
fn destructors_see_the_value_when_the_runtime_goes() {
    runtime_test(|runtime| {
        let seen = Rc::new(Cell::new(None));
        let guard = {
            let seen = seen.clone();
            OnDrop(move || seen.set(depth()))
        };
        let future = hold(guard);
        runtime.spawn(DEPTH.scope(8, future)).detach();
        runtime.block_on(yield_now());
        assert_eq!(seen.get(), None);
        drop(runtime);
        assert_eq!(seen.get(), Some(8));
    });
}

#[test]
fn a_panic_in_a_scope_restores_the_value_outside() {
    watchdog(|| {
        let seen = Rc::new(Cell::new(None));
        let guard = {
            let seen = seen.clone();
            OnDrop(move || seen.set(depth()))
        };
        block_on(DEPTH.scope(1, async {
            let inner = DEPTH.scope(2, async move {
                let _guard = guard;
                yield_now().await;
                panic!("in the inner scope")
            });
            let text = {
                let mut inner = Box::pin(inner);
                assert!(poll(inner.as_mut()).is_none());
                let text = panic_of(|| poll::<()>(inner.as_mut()));
                assert_eq!(depth(), Some(1));
                text
            };
            assert_eq!(text, "in the inner scope");
            assert_eq!(seen.get(), Some(2), "the destructor has seen the inner one");
            assert_eq!(depth(), Some(1));

            // The same in a task.
            let task: Task<()> = spawn(DEPTH.scope(3, async { panic!("in a task") }));
            let error = task.join().await.unwrap_err();
            assert!(error.is_panic());
            assert_eq!(depth(), Some(1));
        }));
        assert_eq!(depth(), None);
    });
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn a_panic_in_with_keeps_the_value() {
    watchdog(|| {
        block_on(DEPTH.scope(1, async {
            assert_eq!(
                panic_of(|| DEPTH.with(|_| panic!("in `with`"))),
                "in `with`"
            );
            assert_eq!(depth(), Some(1));
            DEPTH.scope(2, async { assert_eq!(depth(), Some(2)) }).await;
            assert_eq!(depth(), Some(1));
        }));
    });
}

#[test]
fn with_can_be_called_inside_with() {
    watchdog(|| {
        block_on(DEPTH.scope(
            1,
            USER.scope("ada".into(), async {
                let both = DEPTH.with(|depth| {
                    assert_eq!(DEPTH.get(), *depth);
                    USER.with(|user| format!("{user} {depth}"))
                });
                assert_eq!(both, "ada 1");
            }),
        ));
    });
}

#[test]
fn polling_a_scope_inside_with_panics() {
    watchdog(|| {
        block_on(DEPTH.scope(1, async {
            let mut inner = Box::pin(DEPTH.scope(2, async { depth() }));
            let polled = catch_unwind(AssertUnwindSafe(|| {
                DEPTH.with(|_| poll(inner.as_mut()));
            }));
            assert!(polled.is_err());
            assert_eq!(depth(), Some(1));
            // The scope still works.
            assert_eq!(inner.await, Some(2));
            // The scope of another key can be polled.
            let other = pin!(USER.scope("ada".into(), async { USER.get() }));
            assert_eq!(DEPTH.with(|_| poll(other)).as_deref(), Some("ada"));
        }));
    });
}

#[test]
fn a_scope_can_be_dropped_inside_with() {
    watchdog(|| {
        let drops = leak(Cell::new(0));
        let guard = { OnDrop(move || drops.set(drops.get() + 1)) };
        block_on(DEPTH.scope(1, async {
            let task = spawn(DEPTH.scope(2, hold(guard)));
            yield_now().await;
            DEPTH.with(|depth| {
                drop(task);
                assert_eq!((drops.get(), *depth), (1, 1));
            });
            assert_eq!(depth(), Some(1));
        }));
    });
}

#[test]
fn a_value_need_not_be_send() {
    watchdog(|| {
        let count = Rc::new(Cell::new(0));
        block_on(LOCAL.scope(count.clone(), async {
            for n in 1..=3 {
                LOCAL.with(|count| count.set(n));
                yield_now().await;
            }
        }));
        assert_eq!((count.get(), Rc::strong_count(&count)), (3, 1));
    });
}

#[test]
fn a_value_moves_with_its_future_to_another_thread() {
    watchdog(|| {
        let mut future = Box::pin(DEPTH.scope(9, async {
            assert_eq!(depth(), Some(9));
            yield_now().await;
            depth()
        }));
        assert_eq!(poll(future.as_mut()), None);
        assert_eq!(depth(), None);
        let there = thread::spawn(move || {
            assert_eq!(depth(), None);
            block_on(future)
        });
        assert_eq!(there.join().unwrap(), Some(9));
    });
}

#[test]
fn a_value_is_dropped_with_its_scope() {
    watchdog(|| {
        let value = Rc::new(Cell::new(1));
        block_on(async {
            // Done, cancelled, never polled.
            LOCAL.scope(value.clone(), async {}).await;
            assert_eq!(Rc::strong_count(&value), 1);
            let task = spawn(LOCAL.scope(value.clone(), pending::<()>()));
            yield_now().await;
            assert_eq!(Rc::strong_count(&value), 2);
            drop(task);
            assert_eq!(Rc::strong_count(&value), 1);
            drop(LOCAL.scope(value.clone(), async {}));
            assert_eq!(Rc::strong_count(&value), 1);
        });
    });
}
