//! tokio itself, tokio-util and tower.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::StreamExt;
use soloist::net::{TcpListener, TcpStream};
use soloist::spawn;
use soloist::time::sleep;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{Framed, LinesCodec};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::support::panic_of_async;
use crate::{run, run_with_tokio};

/// The text for which users will search.
const NO_REACTOR: &str =
    "there is no reactor running, must be called from the context of a Tokio 1.x runtime";

#[test]
fn tokio_sync_works_as_it_is() {
    run(async || {
        let log = Rc::new(RefCell::new(Vec::new()));
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let consumer = spawn({
            let log = log.clone();
            async move {
                while let Some(n) = receiver.recv().await {
                    log.borrow_mut().push(n);
                }
            }
        });
        for n in 0..5 {
            sender.send(n).await.unwrap();
        }
        drop(sender);
        consumer.await;
        assert_eq!(*log.borrow(), [0, 1, 2, 3, 4]);

        let (sender, receiver) = tokio::sync::oneshot::channel();
        spawn(async { sender.send("once").unwrap() }).detach();
        assert_eq!(receiver.await, Ok("once"));

        let (sender, mut receiver) = tokio::sync::watch::channel(0);
        spawn(async move { sender.send(1).unwrap() }).detach();
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow(), 1);

        let (sender, mut receiver) = tokio::sync::broadcast::channel(4);
        let mut another = sender.subscribe();
        spawn(async move { sender.send(7).unwrap() }).detach();
        assert_eq!(
            (receiver.recv().await, another.recv().await),
            (Ok(7), Ok(7))
        );

        // At most two of the tasks hold a permit.
        let semaphore = Arc::new(tokio::sync::Semaphore::new(2));
        let most = Arc::new(tokio::sync::Mutex::new((0, 0)));
        let tasks: Vec<_> = (0..6)
            .map(|_| {
                let (semaphore, most) = (semaphore.clone(), most.clone());
                spawn(async move {
                    let _permit = semaphore.acquire().await.unwrap();
                    {
                        let mut most = most.lock().await;
                        most.0 += 1;
                        most.1 = most.1.max(most.0);
                    }
                    sleep(Duration::from_millis(1)).await;
                    most.lock().await.0 -= 1;
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        assert_eq!(*most.lock().await, (0, 2));

        let notify = Rc::new(tokio::sync::Notify::new());
        let waits = spawn({
            let notify = notify.clone();
            async move { notify.notified().await }
        });
        notify.notify_one();
        waits.await;
    });
}

#[test]
fn tokio_select_and_join_work_as_they_are() {
    run(async || {
        let first = tokio::select! {
            () = sleep(Duration::from_secs(60)) => "sleep",
            n = async { 1 } => if n == 1 { "future" } else { "no" },
        };
        assert_eq!(first, "future");
        assert_eq!(tokio::join!(async { 1 }, spawn(async { 2 })), (1, 2));
        let failed = tokio::try_join!(async { Ok::<_, ()>(1) }, async { Err::<u8, _>(()) });
        assert_eq!(failed, Err(()));
    });
}

#[test]
fn without_a_runtime_tokio_panics_with_the_text_on_the_page() {
    run(async || {
        let page = include_str!("../../../../docs/ecosystem.md");
        for panic in [
            panic_of_async(async { tokio::time::sleep(Duration::ZERO).await }).await,
            panic_of_async(async { drop(tokio::net::TcpListener::bind("127.0.0.1:0").await) })
                .await,
            panic_of_async(async { drop(tokio::spawn(async {})) }).await,
        ] {
            assert!(panic.contains(NO_REACTOR), "{panic}");
        }
        assert!(page.contains(NO_REACTOR));
    });
}

#[test]
fn tokio_tasks_timers_files_and_sockets_run_next_to_an_rc() {
    run_with_tokio(async || {
        let log = Rc::new(RefCell::new(Vec::new()));
        let task = spawn({
            let log = log.clone();
            async move {
                let sum = tokio::spawn(async { 1 + 2 }).await.unwrap();
                log.borrow_mut().push(sum);
                tokio::time::sleep(Duration::from_millis(1)).await;
                let late =
                    tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>());
                assert!(late.await.is_err());
                let toml = tokio::fs::read_to_string("Cargo.toml").await.unwrap();
                assert!(toml.contains("soloist-clients"));
                let blocking = tokio::task::spawn_blocking(|| 4).await.unwrap();
                log.borrow_mut().push(blocking);
            }
        });
        task.await;
        assert_eq!(*log.borrow(), [3, 4]);

        // A stream of tokio on one side, one of soloist on the other.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            soloist::io::copy(&stream, &mut &stream).await.unwrap()
        });
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert_eq!((reply.as_str(), echo.await), ("hello", 5));
    });
}

#[test]
fn a_local_set_of_tokio_is_not_needed_and_cannot_be_used_with_the_guard() {
    run_with_tokio(async || {
        let panic = panic_of_async(async { drop(tokio::task::spawn_local(async {})) }).await;
        assert!(panic.contains("spawn_local"), "{panic}");
    });
}

#[test]
fn tokio_util_works_as_it_is() {
    run(async || {
        let token = CancellationToken::new();
        let task = spawn(
            token
                .child_token()
                .run_until_cancelled_owned(std::future::pending::<()>()),
        );
        token.cancel();
        assert_eq!(task.await, None);

        let tracker = tokio_util::task::TaskTracker::new();
        for _ in 0..3 {
            spawn(tracker.track_future(sleep(Duration::from_millis(1)))).detach();
        }
        tracker.close();
        tracker.wait().await;
        assert_eq!(tracker.len(), 0);
    });
}

/// `compat` gives a stream of soloist tokio's traits, which the codecs need.
#[test]
fn tokio_util_codecs_over_compat() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = spawn(async move {
            let mut stream = TcpStream::connect(address).await?.compat();
            stream.write_all(b"one\ntwo\n").await?;
            io::Result::Ok(())
        });
        let (stream, _) = listener.accept().await.unwrap();
        let lines = Framed::new(stream.compat(), LinesCodec::new());
        let lines: Vec<_> = lines.map(Result::unwrap).collect().await;
        assert_eq!(lines, ["one", "two"]);
        client.await.unwrap();
    });
}

#[test]
fn tokio_util_delay_queue_with_the_guard() {
    run_with_tokio(async || {
        let mut queue = tokio_util::time::DelayQueue::new();
        queue.insert("late", Duration::from_millis(20));
        queue.insert("soon", Duration::from_millis(1));
        assert_eq!(queue.next().await.unwrap().into_inner(), "soon");
        assert_eq!(queue.next().await.unwrap().into_inner(), "late");
    });
}

/// Layers that need neither tasks nor timers. The service is not `Send`.
#[test]
fn tower_works_as_it_is() {
    run(async || {
        let calls = Rc::new(RefCell::new(0));
        let mut service = ServiceBuilder::new()
            .concurrency_limit(1)
            .map_request(|n: u32| n + 1)
            .service_fn({
                let calls = calls.clone();
                move |n: u32| {
                    *calls.borrow_mut() += 1;
                    async move { Ok::<_, io::Error>(n * 2) }
                }
            });
        assert_eq!(service.ready().await.unwrap().call(20).await.unwrap(), 42);
        assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 4);
        assert_eq!(*calls.borrow(), 2);
    });
}

/// `timeout` and `rate_limit` use tokio's timers. `buffer` spawns a task, so its service must be `Send`.
#[test]
fn tower_timeouts_and_buffers_with_the_guard() {
    run_with_tokio(async || {
        let mut service = ServiceBuilder::new()
            .timeout(Duration::from_millis(1))
            .service_fn(|n: u32| {
                let state = Rc::new(n);
                async move {
                    sleep(Duration::from_secs(60)).await;
                    Ok::<_, io::Error>(*state)
                }
            });
        let error = service.ready().await.unwrap().call(1).await.unwrap_err();
        assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");

        let mut buffered = ServiceBuilder::new()
            .buffer(4)
            .rate_limit(100, Duration::from_secs(1))
            .service_fn(|n: u32| async move { Ok::<_, io::Error>(n + 1) });
        assert_eq!(buffered.ready().await.unwrap().call(1).await.unwrap(), 2);
    });
}
