mod rt {
    use std::future::Future;
    use std::hint::black_box;
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use compio::buf::{IntoInner, IoBuf};
    use compio::io::{AsyncRead, AsyncWriteExt};
    use compio::runtime::{JoinError, JoinHandle, Runtime};

    #[derive(Clone, Copy)]
    pub struct Ctx;

    impl Ctx {
        pub fn spawn<F: Future + 'static>(self, future: F) -> JoinHandle<F::Output> {
            compio::runtime::spawn(future)
        }

        pub fn spawn_local<F: Future + 'static>(self, future: F) -> Option<JoinHandle<F::Output>> {
            Some(self.spawn(future))
        }
    }

    fn runtime() -> Runtime {
        Runtime::new().unwrap_or_else(|error| crate::bodies::measure::refused(error))
    }

    pub fn output<T>(output: Result<T, JoinError>) -> T {
        output.unwrap()
    }

    pub fn detach<T>(task: JoinHandle<T>) {
        task.detach();
    }

    pub fn run<F: Future>(main: impl FnOnce(Ctx) -> F) -> F::Output {
        runtime().block_on(async { main(Ctx).await })
    }

    pub fn with_runtime(body: impl FnOnce(&mut dyn FnMut() -> u32)) {
        let runtime = runtime();
        body(&mut || runtime.block_on(async { black_box(7) }));
    }

    pub fn fresh_block_on() -> u32 {
        runtime().block_on(async { black_box(7) })
    }

    /// It has none of its own.
    pub fn yield_now() -> impl Future<Output = ()> {
        crate::bodies::wakes::yield_now()
    }

    pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
        compio::time::sleep(duration)
    }

    pub fn without_budget<F: Future>(future: F) -> F {
        future
    }

    // ---- sockets --------------------------------------------------

    pub type Stream = compio::net::TcpStream;
    pub type Listener = compio::net::TcpListener;

    pub fn listener(listener: TcpListener) -> Listener {
        Listener::from_std(listener).unwrap()
    }

    pub async fn accept(listener: &Listener) -> Stream {
        listener.accept().await.unwrap().0
    }

    pub async fn connect(address: SocketAddr) -> Stream {
        Stream::connect(address).await.unwrap()
    }

    pub async fn read(stream: &mut Stream, buffer: Vec<u8>) -> (usize, Vec<u8>) {
        let compio::BufResult(n, buffer) = stream.read(buffer).await;
        (n.unwrap(), buffer)
    }

    pub async fn write_all(stream: &mut Stream, buffer: Vec<u8>, n: usize) -> Vec<u8> {
        let compio::BufResult(done, slice) = stream.write_all(buffer.slice(..n)).await;
        done.unwrap();
        slice.into_inner()
    }
}

#[path = "../../../bodies"]
mod bodies {
    pub mod footprint;
    pub mod measure;
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
        "scale-timers" => bodies::scale::of_timers(),
        _ => panic!("no suite {suite}"),
    }
}
