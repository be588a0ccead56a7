mod rt {
    use std::future::Future;
    use std::hint::black_box;
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use smol::LocalExecutor;
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    #[derive(Clone, Copy)]
    pub struct Ctx(&'static LocalExecutor<'static>);

    impl Ctx {
        pub fn spawn<F: Future + 'static>(self, future: F) -> smol::Task<F::Output> {
            self.0.spawn(future)
        }

        pub fn spawn_local<F: Future + 'static>(self, future: F) -> Option<smol::Task<F::Output>> {
            Some(self.spawn(future))
        }
    }

    pub fn output<T>(output: T) -> T {
        output
    }

    pub fn detach<T>(task: smol::Task<T>) {
        task.detach();
    }

    /// The executor is leaked, so that its tasks can spawn more.
    pub fn run<F: Future>(main: impl FnOnce(Ctx) -> F) -> F::Output {
        let executor: &LocalExecutor = Box::leak(Box::default());
        smol::block_on(executor.run(main(Ctx(executor))))
    }

    pub fn with_runtime(body: impl FnOnce(&mut dyn FnMut() -> u32)) {
        let executor = LocalExecutor::new();
        body(&mut || smol::block_on(executor.run(async { black_box(7) })));
    }

    pub fn fresh_block_on() -> u32 {
        let executor = LocalExecutor::new();
        smol::block_on(executor.run(async { black_box(7) }))
    }

    pub fn yield_now() -> impl Future<Output = ()> {
        smol::future::yield_now()
    }

    pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
        let timer = smol::Timer::after(duration);
        async { _ = timer.await }
    }

    pub fn without_budget<F: Future>(future: F) -> F {
        future
    }

    // ---- sockets --------------------------------------------------

    pub type Stream = smol::net::TcpStream;
    pub type Listener = smol::net::TcpListener;

    pub fn listener(listener: TcpListener) -> Listener {
        listener.try_into().unwrap()
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

    // ---- other threads --------------------------------------------

    type Shared = std::sync::Arc<smol::Executor<'static>>;

    /// `LocalExecutor` belongs to its thread. An `Executor` that runs as one of its tasks does not.
    pub fn spawner(ctx: Ctx) -> Option<Shared> {
        let shared = Shared::default();
        let own = shared.clone();
        ctx.spawn(async move { own.run(std::future::pending::<()>()).await })
            .detach();
        Some(shared)
    }

    pub fn spawn_from_thread<F: Future<Output = ()> + Send + 'static>(shared: &Shared, future: F) {
        shared.spawn(future).detach();
    }
}

#[path = "../../../bodies"]
mod bodies {
    pub mod footprint;
    pub mod measure;
    pub mod mixed;
    pub mod place;
    pub mod scale;
    pub mod sockets;
    pub mod tasks;
    pub mod timers;
    pub mod wakes;
}

fn main() {
    let (suite, arguments) = bodies::measure::arguments();
    match &*suite {
        "tasks" => bodies::tasks::main(),
        "memory" => bodies::tasks::memory(),
        "wakes" => bodies::wakes::main(),
        "timers" => bodies::timers::main(),
        "timers-among" => bodies::timers::among_others(),
        "timers-firing" => bodies::timers::firing(),
        "echo" => bodies::sockets::echo(&arguments),
        "fetch" => bodies::sockets::fetch(&arguments),
        "empty" => bodies::footprint::empty(),
        "idle" => bodies::footprint::idle(&arguments),
        "scale-tasks" => bodies::scale::of_tasks(),
        "mixed" => bodies::mixed::main(&arguments),
        "scale-timers" => bodies::scale::of_timers(),
        _ => panic!("no suite {suite}"),
    }
}
