// What `spawn` and `LocalSet` have in common.

use std::future::Future;
use std::hint::black_box;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Clone, Copy)]
pub struct Ctx;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn output<T>(output: Result<T, JoinError>) -> T {
    output.unwrap()
}

pub fn detach<T>(task: JoinHandle<T>) {
    drop(task);
}

pub fn yield_now() -> impl Future<Output = ()> {
    tokio::task::yield_now()
}

pub fn sleep(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

/// Within the budget, a task's 129th `Sleep` in one poll would not be registered.
pub fn without_budget<F: Future>(future: F) -> impl Future<Output = F::Output> {
    tokio::task::unconstrained(future)
}

// ---- sockets --------------------------------------------------

pub type Stream = tokio::net::TcpStream;
pub type Listener = tokio::net::TcpListener;

pub fn listener(listener: TcpListener) -> Listener {
    listener.set_nonblocking(true).unwrap();
    Listener::from_std(listener).unwrap()
}

pub async fn accept(listener: &Listener) -> Stream {
    listener.accept().await.unwrap().0
}

pub async fn connect(address: SocketAddr) -> Stream {
    Stream::connect(address).await.unwrap()
}

pub async fn read(stream: &mut Stream, mut buffer: Vec<u8>) -> (usize, Vec<u8>) {
    (stream.read(&mut buffer).await.unwrap(), buffer)
}

pub async fn write_all(stream: &mut Stream, buffer: Vec<u8>, n: usize) -> Vec<u8> {
    stream.write_all(&buffer[..n]).await.unwrap();
    buffer
}

/// Nothing after an error.
pub async fn try_read(stream: &mut Stream, mut buffer: Vec<u8>) -> (usize, Vec<u8>) {
    (stream.read(&mut buffer).await.unwrap_or(0), buffer)
}

/// The buffer, unless there was an error.
pub async fn try_write_all(stream: &mut Stream, buffer: Vec<u8>, n: usize) -> Option<Vec<u8>> {
    stream.write_all(&buffer[..n]).await.ok()?;
    Some(buffer)
}
