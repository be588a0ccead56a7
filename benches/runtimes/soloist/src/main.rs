mod rt {
    use std::future::Future;
    use std::hint::black_box;
    use std::time::Duration;

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
