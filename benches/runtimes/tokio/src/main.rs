mod rt {
    include!("rt.rs");

    impl Ctx {
        pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
        where
            F: Future<Output: Send> + Send + 'static,
        {
            tokio::spawn(future)
        }

        /// `tokio::spawn` takes only what is Send.
        pub fn spawn_local<F: Future + 'static>(self, _: F) -> Option<JoinHandle<F::Output>> {
            None
        }
    }

    pub fn run<F: Future>(main: impl FnOnce(Ctx) -> F) -> F::Output {
        runtime().block_on(main(Ctx))
    }

    pub fn with_runtime(body: impl FnOnce(&mut dyn FnMut() -> u32)) {
        let runtime = runtime();
        body(&mut || runtime.block_on(async { black_box(7) }));
    }

    pub fn fresh_block_on() -> u32 {
        runtime().block_on(async { black_box(7) })
    }

    // ---- other threads --------------------------------------------

    pub fn spawner(_: Ctx) -> Option<tokio::runtime::Handle> {
        Some(tokio::runtime::Handle::current())
    }

    pub fn spawn_from_thread<F>(handle: &tokio::runtime::Handle, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(handle.spawn(future));
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
