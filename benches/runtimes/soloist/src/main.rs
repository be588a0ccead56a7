mod rt {
    use std::future::Future;
    use std::hint::black_box;
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use soloist::io::{AsyncReadExt, AsyncWriteExt};

    #[derive(Clone, Copy)]
    pub struct Ctx;

    impl Ctx {
        pub fn spawn<F: Future + 'static>(self, future: F) -> soloist::Task<F::Output> {
            soloist::spawn(future)
        }

        pub fn spawn_local<F: Future + 'static>(
            self,
            future: F,
        ) -> Option<soloist::Task<F::Output>> {
            Some(self.spawn(future))
        }
    }

    pub fn output<T>(output: T) -> T {
        output
    }

    pub fn detach<T>(task: soloist::Task<T>) {
        task.detach();
    }

    pub fn run<F: Future>(main: impl FnOnce(Ctx) -> F) -> F::Output {
        soloist::block_on(main(Ctx))
    }

    pub fn with_runtime(body: impl FnOnce(&mut dyn FnMut() -> u32)) {
        let runtime = soloist::Runtime::new();
        body(&mut || runtime.block_on(async { black_box(7) }));
    }

    pub fn fresh_block_on() -> u32 {
        soloist::Runtime::new().block_on(async { black_box(7) })
    }

    pub fn yield_now() -> impl Future<Output = ()> {
        soloist::task::yield_now()
    }

    pub fn sleep(duration: Duration) -> soloist::time::Sleep {
        soloist::time::sleep(duration)
    }

    pub fn without_budget<F: Future>(future: F) -> F {
        future
    }

    // ---- sockets --------------------------------------------------

    pub type Stream = soloist::net::TcpStream;
    pub type Listener = soloist::net::TcpListener;

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

    pub fn spawner(_: Ctx) -> Option<soloist::Handle> {
        Some(soloist::Handle::current())
    }

    pub fn spawn_from_thread<F>(handle: &soloist::Handle, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        handle.spawn(|| future).detach();
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
