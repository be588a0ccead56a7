//! Other crates in tasks of soloist, and soloist together with other executors.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use futures_lite::StreamExt;
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::task::yield_now;
use soloist::time::{sleep, timeout};
use soloist::{Handle, Runtime, block_on, spawn};

use crate::support::{OnDrop, watchdog};

const TASKS: usize = 1000;
const SUM: usize = TASKS * (TASKS - 1) / 2;
const SOON: Duration = Duration::from_millis(1);

/// A runtime on another thread, which is stopped when this is dropped.
struct Elsewhere {
    handle: Handle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Elsewhere {
    fn start() -> Elsewhere {
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = Runtime::new();
            tell.send(runtime.handle()).unwrap();
            runtime.run_forever();
        });
        Elsewhere {
            handle: told.recv().unwrap(),
            thread: Some(thread),
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.handle.stop();
        let result = self.thread.take().unwrap().join();
        if !thread::panicking() {
            result.unwrap();
        }
    }
}

#[test]
fn async_channel_senders_and_receivers_wait_for_each_other() {
    watchdog(|| {
        block_on(async {
            let (sender, receiver) = async_channel::bounded(1);
            let waits = Rc::new(Cell::new(0));
            let senders: Vec<_> = (0..TASKS)
                .map(|n| {
                    let (sender, waits) = (sender.clone(), waits.clone());
                    spawn(async move {
                        if sender.is_full() {
                            waits.set(waits.get() + 1);
                        }
                        sender.send(n).await.unwrap();
                    })
                })
                .collect();
            drop(sender);
            let receivers: Vec<_> = (0..3)
                .map(|_| {
                    let mut receiver = Box::pin(receiver.clone());
                    spawn(async move {
                        let mut received = Vec::new();
                        while let Some(n) = receiver.next().await {
                            received.push(n);
                        }
                        received
                    })
                })
                .collect();
            let mut all = Vec::new();
            for receiver in receivers {
                all.extend(receiver.await);
            }
            for sender in senders {
                sender.await;
            }
            all.sort();
            assert!(all.into_iter().eq(0..TASKS));
            // The channel has room for one message before a receiver runs.
            assert_eq!(waits.get(), TASKS - 1);
        });
    });
}

#[test]
fn async_channel_from_another_thread_wakes_the_loop() {
    watchdog(|| {
        let (there, here) = async_channel::bounded::<usize>(1);
        let (back, answers) = async_channel::bounded::<usize>(1);
        let thread = thread::spawn(move || {
            let mut sum = 0;
            for n in 0..TASKS {
                there.send_blocking(n).unwrap();
                sum += answers.recv_blocking().unwrap();
            }
            sum
        });
        block_on(async {
            while let Ok(n) = here.recv().await {
                back.send(n).await.unwrap();
            }
        });
        assert_eq!(thread.join().unwrap(), SUM);
    });
}

#[test]
fn async_lock_excludes_tasks() {
    watchdog(|| {
        block_on(async {
            let mutex = Arc::new(async_lock::Mutex::new(0));
            let semaphore = Arc::new(async_lock::Semaphore::new(10));
            let once = Arc::new(async_lock::OnceCell::new());
            let (inside, most, inits) = (Cell::new(0), Cell::new(0), Cell::new(0));
            let counts = Rc::new((inside, most, inits));
            let tasks: Vec<_> = (0..TASKS)
                .map(|n| {
                    let (mutex, semaphore) = (mutex.clone(), semaphore.clone());
                    let (once, counts) = (once.clone(), counts.clone());
                    spawn(async move {
                        let (inside, most, inits) = &*counts;
                        let permit = semaphore.acquire().await;
                        inside.set(inside.get() + 1);
                        most.set(most.get().max(inside.get()));
                        let first = once
                            .get_or_init(|| async {
                                inits.set(inits.get() + 1);
                                sleep(SOON).await;
                                n
                            })
                            .await;
                        let mut guard = mutex.lock().await;
                        // Without the lock this would lose counts.
                        let count = *guard;
                        yield_now().await;
                        *guard = count + 1;
                        drop(guard);
                        inside.set(inside.get() - 1);
                        drop(permit);
                        *first
                    })
                })
                .collect();
            for task in tasks {
                assert_eq!(task.await, 0);
            }
            assert_eq!(*mutex.lock().await, TASKS);
            let (inside, most, inits) = &*counts;
            assert_eq!((inside.get(), most.get(), inits.get()), (0, 10, 1));
        });
    });
}

#[test]
fn async_lock_readers_share_and_a_barrier_has_one_leader() {
    watchdog(|| {
        block_on(async {
            let lock = Arc::new(async_lock::RwLock::new(0));
            let barrier = Arc::new(async_lock::Barrier::new(TASKS));
            let readers = Rc::new(Cell::new(0));
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let (lock, barrier) = (lock.clone(), barrier.clone());
                    let readers = readers.clone();
                    spawn(async move {
                        let guard = lock.read().await;
                        readers.set(readers.get() + 1);
                        // The barrier opens only if all read at the same time.
                        let leads = barrier.wait().await.is_leader();
                        drop(guard);
                        *lock.write().await += 1;
                        leads
                    })
                })
                .collect();
            let mut leaders = 0;
            for task in tasks {
                leaders += usize::from(task.await);
            }
            assert_eq!(
                (leaders, readers.get(), *lock.read().await),
                (1, TASKS, TASKS)
            );
        });
    });
}

#[test]
fn async_broadcast_waits_for_its_slowest_receiver() {
    watchdog(|| {
        block_on(async {
            let (sender, receiver) = async_broadcast::broadcast(16);
            let receivers: Vec<_> = (0..50)
                .map(|n| {
                    let mut receiver = receiver.clone();
                    spawn(async move {
                        let mut received = Vec::new();
                        while let Ok(message) = receiver.recv().await {
                            received.push(message);
                            if n == 0 && message % 100 == 0 {
                                sleep(SOON).await;
                            }
                        }
                        received
                    })
                })
                .collect();
            drop(receiver);
            let mut full = 0;
            for message in 0..TASKS {
                full += usize::from(sender.is_full());
                assert_eq!(sender.broadcast_direct(message).await.unwrap(), None);
            }
            drop(sender);
            for receiver in receivers {
                assert!(receiver.await.into_iter().eq(0..TASKS));
            }
            assert!(full > 0);
        });
    });
}

#[test]
fn async_fs_reads_and_writes_while_the_loop_runs() {
    watchdog(|| {
        let name = format!("soloist-async-fs-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        block_on(async {
            async_fs::create_dir_all(&dir).await.unwrap();
            let ticks = Rc::new(Cell::new(0));
            let counter = ticks.clone();
            let ticker = spawn(async move {
                loop {
                    counter.set(counter.get() + 1);
                    sleep(SOON).await;
                }
            });
            let tasks: Vec<_> = (0..100_u32)
                .map(|n| {
                    let path = dir.join(n.to_string());
                    spawn(async move {
                        let mut file = async_fs::File::create(&path).await?;
                        for _ in 0..1000 {
                            file.write_all(&n.to_be_bytes()).await?;
                        }
                        file.flush().await?;
                        drop(file);
                        let bytes = async_fs::read(&path).await?;
                        assert_eq!(bytes, n.to_be_bytes().repeat(1000));
                        async_fs::rename(&path, path.with_extension("done")).await?;
                        io::Result::Ok(bytes.len())
                    })
                })
                .collect();
            let mut total = 0;
            for task in tasks {
                total += task.await.unwrap();
            }
            assert_eq!(total, 400_000);
            let mut names = Vec::new();
            let mut entries = async_fs::read_dir(&dir).await.unwrap();
            while let Some(entry) = entries.next().await {
                names.push(entry.unwrap().file_name().into_string().unwrap());
            }
            assert_eq!(names.len(), 100);
            assert!(names.iter().all(|name| name.ends_with(".done")));
            // The operations did not block the loop.
            assert!(ticks.get() > 1);
            drop(ticker);
            async_fs::remove_dir_all(&dir).await.unwrap();
        });
    });
}

/// Awaits `RemoteTask`s. Called inside another executor.
async fn use_remote_tasks(handle: &Handle) {
    // All of them wait at the same time, and only their own wakes wake them.
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| {
            handle.spawn(move || async move {
                let local = Rc::new(n);
                sleep(SOON).await;
                *local
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    assert_eq!(sum, SUM);

    let error = handle.spawn(|| async { panic!("over there") }).await;
    let error = error.map(|(): ()| ()).unwrap_err();
    assert!(error.is_panic(), "{error}");
    assert!(error.to_string().ends_with("panicked: over there"));

    let task = handle.spawn(std::future::pending::<()>);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());

    // Dropping the task drops the future on the other thread.
    let (tell, told) = async_channel::bounded::<()>(1);
    let (started, has_started) = async_channel::bounded::<()>(1);
    let task = handle.spawn(|| async move {
        let _guard = OnDrop(move || tell.try_send(()).unwrap());
        started.send(()).await.unwrap();
        std::future::pending::<()>().await;
    });
    has_started.recv().await.unwrap();
    drop(task);
    told.recv().await.unwrap();
}

#[test]
fn remote_tasks_are_awaited_inside_tokio() {
    watchdog(|| {
        let elsewhere = Elsewhere::start();
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        tokio.block_on(async {
            use_remote_tasks(&elsewhere.handle).await;
            // In tokio's tasks, and with its timeout.
            let tasks: Vec<_> = (0..TASKS)
                .map(|n| {
                    let task = elsewhere.handle.spawn(move || async move {
                        yield_now().await;
                        n
                    });
                    tokio::spawn(task)
                })
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap().unwrap();
            }
            assert_eq!(sum, SUM);
            let endless = elsewhere.handle.spawn(std::future::pending::<()>);
            assert!(tokio::time::timeout(SOON, endless).await.is_err());
        });
    });
}

#[test]
fn remote_tasks_are_awaited_inside_smol() {
    watchdog(|| {
        let elsewhere = Elsewhere::start();
        smol::block_on(async {
            use_remote_tasks(&elsewhere.handle).await;
            let tasks: Vec<_> = (0..TASKS)
                .map(|n| {
                    let task = elsewhere.handle.spawn(move || async move {
                        yield_now().await;
                        n
                    });
                    smol::spawn(task)
                })
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            assert_eq!(sum, SUM);
            let endless = elsewhere.handle.spawn(std::future::pending::<()>);
            let timer = async {
                smol::Timer::after(SOON).await;
                None
            };
            let first = futures_lite::future::or(async { Some(endless.await) }, timer).await;
            assert!(first.is_none());
        });
    });
}

#[test]
fn join_handles_of_tokio_are_awaited_in_soloist() {
    watchdog(|| {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            tell.send(tokio.handle().clone()).unwrap();
            tokio.block_on(stopped).unwrap();
        });
        let tokio = told.recv().unwrap();
        block_on(async {
            let tasks: Vec<_> = (0..TASKS)
                .map(|n| {
                    let handle = tokio.spawn(async move {
                        tokio::time::sleep(SOON).await;
                        n
                    });
                    spawn(async move { handle.await.unwrap() })
                })
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await;
            }
            assert_eq!(sum, SUM);

            let endless = tokio.spawn(std::future::pending::<()>());
            endless.abort();
            assert!(endless.await.unwrap_err().is_cancelled());
            let panics = tokio.spawn(async { panic!("over there") });
            assert!(panics.await.unwrap_err().is_panic());

            // The channels of tokio need no runtime, so they work between the two.
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            let sending = tokio.spawn(async move {
                for n in 0..TASKS {
                    sender.send(n).await.unwrap();
                }
            });
            let mut sum = 0;
            while let Some(n) = timeout(Duration::from_secs(50), receiver.recv())
                .await
                .unwrap()
            {
                sum += n;
            }
            assert_eq!(sum, SUM);
            sending.await.unwrap();
        });
        stop.send(()).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn tasks_of_smol_are_awaited_in_soloist() {
    watchdog(|| {
        block_on(async {
            let tasks: Vec<_> = (0..TASKS)
                .map(|n| {
                    let task = smol::spawn(async move {
                        smol::Timer::after(SOON).await;
                        n
                    });
                    spawn(task)
                })
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await;
            }
            assert_eq!(sum, SUM);
            let endless = smol::spawn(std::future::pending::<()>());
            assert_eq!(endless.cancel().await, None);
            // smol's timer and blocking pool also work when they are polled by soloist.
            smol::Timer::after(SOON).await;
            assert_eq!(smol::unblock(|| 5).await, 5);
        });
    });
}

/// By default, `async_trait` requires `Send` futures.
#[async_trait]
trait Service: Send + Sync {
    async fn serve(&self, stream: &mut TcpStream) -> io::Result<usize>;
}

struct Upper;

#[async_trait]
impl Service for Upper {
    async fn serve(&self, stream: &mut TcpStream) -> io::Result<usize> {
        let mut total = 0;
        let mut buffer = [0; 64];
        loop {
            let n = stream.read(&mut buffer).await?;
            if n == 0 {
                return Ok(total);
            }
            sleep(Duration::ZERO).await;
            buffer.make_ascii_uppercase();
            stream.write_all(&buffer[..n]).await?;
            total += n;
        }
    }
}

struct Limited<S> {
    inner: S,
    limit: Duration,
}

#[async_trait]
impl<S: Service> Service for Limited<S> {
    async fn serve(&self, stream: &mut TcpStream) -> io::Result<usize> {
        timeout(self.limit, self.inner.serve(stream)).await?
    }
}

async fn speak(address: std::net::SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"hello").await?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

#[test]
fn async_trait_with_its_default_send() {
    watchdog(|| {
        let service: Arc<dyn Service> = Arc::new(Limited {
            inner: Upper,
            limit: Duration::from_secs(50),
        });
        let elsewhere = Elsewhere::start();
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..100).map(|_| spawn(speak(address))).collect();
            let mut served = Vec::new();
            for n in 0..100 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                // Half of them on this thread, half of them on another.
                let serve = async move { service.serve(&mut stream).await };
                let serve: Pin<Box<dyn Future<Output = io::Result<usize>> + Send>> =
                    Box::pin(serve);
                served.push(if n % 2 == 0 {
                    spawn(serve)
                } else {
                    let there = elsewhere.handle.spawn(|| serve);
                    spawn(async { there.await.unwrap() })
                });
            }
            for client in clients {
                assert_eq!(client.await.unwrap(), "HELLO");
            }
            for served in served {
                assert_eq!(served.await.unwrap(), 5);
            }
        });
    });
}

#[test]
fn a_boxed_send_future_moves_with_its_sockets_and_sleeps() {
    type Boxed = Pin<Box<dyn Future<Output = io::Result<usize>> + Send>>;
    const FUTURES: usize = 100;

    async fn make(steps: Arc<AtomicUsize>, moved: async_channel::Receiver<()>) -> Boxed {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        Box::pin(async move {
            // The first part runs on this thread,
            client.write_all(b"here").await?;
            server.read_exact(&mut [0; 4]).await?;
            sleep(SOON).await;
            let mut long = sleep(Duration::from_secs(3600));
            assert_eq!(futures_lite::future::poll_once(&mut long).await, None);
            steps.fetch_add(1, Ordering::SeqCst);
            moved.recv().await.unwrap();
            // and the second on another, with the same sockets and the same sleep.
            long.reset(soloist::time::now() + SOON);
            long.await;
            let mut rest = Vec::new();
            let read = server.read_to_end(&mut rest);
            let write = async {
                yield_now().await;
                client.write_all(b"there").await?;
                client.shutdown(std::net::Shutdown::Write)
            };
            futures_lite::future::try_zip(read, write).await?;
            assert_eq!(rest, b"there");
            Ok(rest.len())
        })
    }

    watchdog(|| {
        let steps = Arc::new(AtomicUsize::new(0));
        let mut have_moved = Vec::new();
        let futures = block_on(async {
            let mut futures = Vec::new();
            for _ in 0..FUTURES {
                let (moved, wait) = async_channel::bounded(1);
                have_moved.push(moved);
                futures.push(make(steps.clone(), wait).await);
            }
            poll_fn(|cx| {
                for future in &mut futures {
                    assert!(future.as_mut().poll(cx).is_pending());
                }
                if steps.load(Ordering::SeqCst) < FUTURES {
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            futures
        });
        let elsewhere = Elsewhere::start();
        for (future, moved) in futures.into_iter().zip(have_moved) {
            let task = elsewhere.handle.spawn(|| future);
            moved.try_send(()).unwrap();
            assert_eq!(task.wait().unwrap().unwrap(), 5);
        }
    });
}

/// `MultiplexedConnection` takes any `Send` stream with tokio's traits, and a task has to drive it. No
/// runtime of tokio runs.
#[cfg(unix)]
#[test]
fn the_redis_crate_over_a_tcp_stream_of_soloist() {
    use redis::aio::MultiplexedConnection;
    use redis::{AsyncConnectionConfig, RedisConnectionInfo};
    use tokio_util::compat::FuturesAsyncReadCompatExt;

    watchdog(|| {
        let server = crate::servers::redis();
        block_on(async {
            let stream = TcpStream::connect(server.address).await.unwrap();
            let info = RedisConnectionInfo::default();
            // The timeouts of the crate need tokio's clock.
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let (redis, driver) =
                MultiplexedConnection::new_with_config(&info, stream.compat(), config)
                    .await
                    .unwrap();
            let driver = spawn(driver);

            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let mut redis = redis.clone();
                    spawn(async move {
                        let increment = redis::cmd("INCR").arg("counter").take();
                        let n: usize = increment.query_async(&mut redis).await.unwrap();
                        n
                    })
                })
                .collect();
            let mut numbers = Vec::new();
            for task in tasks {
                numbers.push(task.await);
            }
            numbers.sort();
            assert!(numbers.into_iter().eq(1..=TASKS));

            let mut redis = redis;
            let mut pipe = redis::pipe();
            for n in 0..TASKS {
                pipe.cmd("ECHO").arg(n);
            }
            let echoes: Vec<usize> = pipe.query_async(&mut redis).await.unwrap();
            assert!(echoes.into_iter().eq(0..TASKS));

            // More than any socket buffer holds, in both directions.
            let large = vec![b'x'; 16 << 20];
            let set = redis::cmd("SET").arg("large").arg(&large).take();
            let () = set.query_async(&mut redis).await.unwrap();
            let get = redis::cmd("GET").arg("large").take();
            let get = get.query_async::<Vec<u8>>(&mut redis);
            let back = timeout(Duration::from_secs(50), get)
                .await
                .unwrap()
                .unwrap();
            assert!(back == large);

            drop(redis);
            // The driver ends when all connections are dropped.
            driver.await;
        });
    });
}
