//! First in, first out, with any number of ready tasks: the queue grows, wraps around, and
//! is used again by the next runtime.

use std::collections::VecDeque;

use crate::support::*;

#[test]
fn tasks_are_polled_in_the_order_of_their_spawns_whatever_else_is_ready() {
    watchdog(|| {
        for seed in 0..20 {
            // Left by the previous runtime.
            drop(Runtime::new());
            block_on(async move {
                let mut random = fastrand::Rng::with_seed(seed);
                let ran = Rc::new(RefCell::new(VecDeque::new()));
                let (mut next, mut expected) = (0, 0);
                for _ in 0..200 {
                    for _ in 0..random.usize(0..50) {
                        let (ran, number) = (ran.clone(), next);
                        let again = random.bool();
                        spawn(async move {
                            ran.borrow_mut().push_back(number);
                            if again {
                                // It stays in the queue, behind all others.
                                yield_now().await;
                            }
                        })
                        .detach();
                        next += 1;
                    }
                    if random.bool() {
                        yield_now().await;
                    }
                    while let Some(number) = ran.borrow_mut().pop_front() {
                        assert_eq!(number, expected);
                        expected += 1;
                    }
                }
                yield_now().await;
                assert!(ran.borrow().iter().copied().eq(expected..next));
            });
        }
    });
}

#[test]
fn tasks_woken_within_a_generation_run_after_it_in_order() {
    async_test(async || {
        let log = leak(RefCell::new(Vec::new()));
        // More timers than slots that are free so far.
        let at = Instant::now() + 20 * MS;
        for n in 0..100 {
            spawn(async move {
                soloist::time::sleep_until(at).await;
                log.borrow_mut().push(n);
            })
            .detach();
        }
        yield_now().await;
        // They are due in the middle of this generation.
        let slow = leak(Cell::new(0));
        for n in 100..200 {
            spawn(poll_fn(move |_| {
                thread::sleep(MS);
                slow.set(slow.get() + 1);
                log.borrow_mut().push(n);
                Poll::Ready(())
            }))
            .detach();
        }
        while log.borrow().len() < 200 {
            yield_now().await;
        }
        let log = log.borrow();
        let timers: Vec<_> = log.iter().copied().filter(|n| *n < 100).collect();
        let others: Vec<_> = log.iter().copied().filter(|n| *n >= 100).collect();
        assert_eq!(timers, (0..100).collect::<Vec<_>>());
        assert_eq!(others, (100..200).collect::<Vec<_>>());
        assert!(log[..100].iter().all(|n| *n >= 100), "{log:?}");
    });
}
