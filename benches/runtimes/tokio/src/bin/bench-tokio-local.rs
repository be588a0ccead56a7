mod rt {
    include!("../rt.rs");

    impl Ctx {
        pub fn spawn<F: Future + 'static>(self, future: F) -> JoinHandle<F::Output> {
            tokio::task::spawn_local(future)
        }

        pub fn spawn_local<F: Future + 'static>(self, future: F) -> Option<JoinHandle<F::Output>> {
            Some(self.spawn(future))
        }
    }

    pub fn run<F: Future>(main: impl FnOnce(Ctx) -> F) -> F::Output {
        tokio::task::LocalSet::new().block_on(&runtime(), main(Ctx))
    }

    pub fn with_runtime(body: impl FnOnce(&mut dyn FnMut() -> u32)) {
        let (runtime, set) = (runtime(), tokio::task::LocalSet::new());
        body(&mut || set.block_on(&runtime, async { black_box(7) }));
    }

    pub fn fresh_block_on() -> u32 {
        tokio::task::LocalSet::new().block_on(&runtime(), async { black_box(7) })
    }

    // ---- other threads --------------------------------------------

    /// They have no way to spawn on a `LocalSet`.
    pub fn spawner(_: Ctx) -> Option<()> {
        None
    }

    pub fn spawn_from_thread<F: Future<Output = ()> + Send + 'static>(_: &(), _: F) {}
}

#[path = "../../../../bodies"]
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
