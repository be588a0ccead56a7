mod rt {
    use std::future::Future;
    use std::hint::black_box;
    use std::net::{SocketAddr, TcpListener};
    use std::os::fd::{FromRawFd, IntoRawFd};
    use std::time::Duration;

    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, Task};

    #[derive(Clone, Copy)]
    pub struct Ctx;

    impl Ctx {
        pub fn spawn<F: Future + 'static>(self, future: F) -> Task<F::Output> {
            glommio::spawn_local(future)
        }

        pub fn spawn_local<F: Future + 'static>(self, future: F) -> Option<Task<F::Output>> {
            Some(self.spawn(future))
        }
    }

    fn executor() -> LocalExecutor {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).make();
        executor.unwrap_or_else(|error| crate::bodies::measure::refused(error))
    }

    pub fn output<T>(output: T) -> T {
        output
    }

    pub fn detach<T>(task: Task<T>) {
        task.detach();
    }

    pub fn run<F: Future>(main: impl FnOnce(Ctx) -> F) -> F::Output {
        executor().run(async { main(Ctx).await })
    }

    pub fn with_runtime(body: impl FnOnce(&mut dyn FnMut() -> u32)) {
        let executor = executor();
        body(&mut || executor.run(async { black_box(7) }));
    }

    pub fn fresh_block_on() -> u32 {
        executor().run(async { black_box(7) })
    }

    pub fn yield_now() -> impl Future<Output = ()> {
        async { glommio::executor().yield_now().await }
    }

    pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
        let timer = glommio::timer::Timer::new(duration);
        async { _ = timer.await }
    }

    pub fn without_budget<F: Future>(future: F) -> F {
        future
    }

    // ---- sockets --------------------------------------------------

    pub type Stream = glommio::net::TcpStream;
    pub type Listener = glommio::net::TcpListener;

    pub fn listener(listener: TcpListener) -> Listener {
        // SAFETY: the fd is owned by nobody else.
        unsafe { Listener::from_raw_fd(listener.into_raw_fd()) }
    }

    pub async fn accept(listener: &Listener) -> Stream {
        listener.accept().await.unwrap()
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
