mod rt {
    use std::future::Future;
    use std::hint::black_box;
    use std::time::Duration;

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
        async { drop(timer.await) }
    }

    pub fn without_budget<F: Future>(future: F) -> F {
        future
    }
}

#[path = "../../../bodies"]
mod bodies {
    pub mod measure;
    pub mod tasks;
    pub mod timers;
    pub mod wakes;
}

fn main() {
    let (suite, _) = bodies::measure::arguments();
    match &*suite {
        "tasks" => bodies::tasks::main(),
        "memory" => bodies::tasks::memory(),
        "wakes" => bodies::wakes::main(),
        "timers" => bodies::timers::main(),
        "timers-among" => bodies::timers::among_others(),
        "timers-firing" => bodies::timers::firing(),
        _ => panic!("no suite {suite}"),
    }
}
