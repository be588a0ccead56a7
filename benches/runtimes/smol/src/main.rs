mod rt {
    use std::future::Future;
    use std::hint::black_box;
    use std::time::Duration;

    use smol::LocalExecutor;

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
