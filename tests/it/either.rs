//! `future::either`: the first of two futures, and the other is dropped.

use std::future::ready;

use soloist::future::{Either, either};

use crate::support::*;

#[test]
fn the_first_future_is_polled_first_and_wins_a_tie() {
    async_test(async || {
        let log = Log::new();
        let logged = |name| async move {
            log.push(name);
        };
        assert_eq!(either(logged("a"), logged("b")).await, Either::Left(()));
        log.assert(&["a"]);
        assert_eq!(
            either(pending::<u8>(), ready("b")).await,
            Either::Right("b")
        );
    });
}

#[test]
fn the_other_future_is_dropped_with_the_poll_that_completes() {
    async_test(async || {
        for (index, expected) in [Either::Left(()), Either::Right(())]
            .into_iter()
            .enumerate()
        {
            let seen = [Seen::new(), Seen::new()];
            let mut both = Box::pin(either(seen[0].probe(), seen[1].probe()));
            assert!(poll_once(&mut both).await.is_pending());
            assert_eq!([seen[0].counts(), seen[1].counts()], [(1, 0), (1, 0)]);
            seen[index].finish();
            assert_eq!(poll_once(&mut both).await, Poll::Ready(expected));
            // The second one is not polled when the first is done.
            let polls = if index == 0 { (2, 1) } else { (2, 2) };
            assert_eq!((seen[0].polls.get(), seen[1].polls.get()), polls);
            assert_eq!((seen[0].drops.get(), seen[1].drops.get()), (1, 1));
            drop(both);
            assert_eq!((seen[0].drops.get(), seen[1].drops.get()), (1, 1));
        }
    });
}

#[test]
fn a_future_by_reference_is_kept() {
    async_test(async || {
        let mut task = spawn(async {
            yield_now().await;
            7
        });
        assert_eq!(either(yield_now(), &mut task).await, Either::Left(()));
        assert_eq!(task.await, 7);
    });
}

#[test]
fn polling_it_again_panics_with_a_message() {
    async_test(async || {
        let mut both = Box::pin(either(ready(1), ready(2)));
        assert_eq!(poll_once(&mut both).await, Poll::Ready(Either::Left(1)));
        let text = panic_of(|| poll_with(&mut both, Waker::noop()));
        assert!(
            text.contains("`either` was polled after it was done"),
            "{text}"
        );
    });
}
