// What both drivers have in common.

use std::future::Future;
use std::hint::black_box;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use monoio::{Runtime, RuntimeBuilder, task::JoinHandle, time::TimeDriver};
use monoio::buf::IoBuf;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};

#[derive(Clone, Copy)]
pub struct Ctx;

impl Ctx {
    pub fn spawn<F: Future + 'static>(self, future: F) -> JoinHandle<F::Output> {
        monoio::spawn(future)
    }

    pub fn spawn_local<F: Future + 'static>(self, future: F) -> Option<JoinHandle<F::Output>> {
        Some(self.spawn(future))
    }
}

fn runtime() -> Runtime<TimeDriver<Driver>> {
    let runtime = RuntimeBuilder::<Driver>::new().enable_timer().build();
    runtime.unwrap_or_else(|error| crate::bodies::measure::refused(error))
}

pub fn output<T>(output: T) -> T {
    output
}

pub fn detach<T>(task: JoinHandle<T>) {
    drop(task);
}

pub fn run<F: Future>(main: impl FnOnce(Ctx) -> F) -> F::Output {
    let mut runtime = runtime();
    // `main` may spawn.
    runtime.block_on(async { main(Ctx).await })
}

pub fn with_runtime(body: impl FnOnce(&mut dyn FnMut() -> u32)) {
    let mut runtime = runtime();
    body(&mut || runtime.block_on(async { black_box(7) }));
}

pub fn fresh_block_on() -> u32 {
    runtime().block_on(async { black_box(7) })
}

/// It has none of its own.
pub fn yield_now() -> impl Future<Output = ()> {
    crate::bodies::wakes::yield_now()
}

pub fn sleep(duration: Duration) -> monoio::time::Sleep {
    monoio::time::sleep(duration)
}

pub fn without_budget<F: Future>(future: F) -> F {
    future
}

// ---- sockets --------------------------------------------------

pub type Stream = monoio::net::TcpStream;
pub type Listener = monoio::net::TcpListener;

pub fn listener(listener: TcpListener) -> Listener {
    // epoll needs it, and it is all that io_uring must not have.
    listener.set_nonblocking(EPOLL).unwrap();
    Listener::from_std(listener).unwrap()
}

pub async fn accept(listener: &Listener) -> Stream {
    listener.accept().await.unwrap().0
}

pub async fn connect(address: SocketAddr) -> Stream {
    Stream::connect(address).await.unwrap()
}

pub async fn read(stream: &mut Stream, buffer: Vec<u8>) -> (usize, Vec<u8>) {
    let (n, buffer) = stream.read(buffer).await;
    (n.unwrap(), buffer)
}

pub async fn write_all(stream: &mut Stream, buffer: Vec<u8>, n: usize) -> Vec<u8> {
    let (done, slice) = stream.write_all(buffer.slice(..n)).await;
    done.unwrap();
    slice.into_inner()
}

/// Nothing after an error.
pub async fn try_read(stream: &mut Stream, buffer: Vec<u8>) -> (usize, Vec<u8>) {
    let (n, buffer) = stream.read(buffer).await;
    (n.unwrap_or(0), buffer)
}

/// The buffer, unless there was an error.
pub async fn try_write_all(stream: &mut Stream, buffer: Vec<u8>, n: usize) -> Option<Vec<u8>> {
    let (done, slice) = stream.write_all(buffer.slice(..n)).await;
    done.ok().map(|_| slice.into_inner())
}

// ---- other threads --------------------------------------------

/// They have no way to spawn here.
pub fn spawner(_: Ctx) -> Option<()> {
    None
}

pub fn spawn_from_thread<F: Future<Output = ()> + Send + 'static>(_: &(), _: F) {}
