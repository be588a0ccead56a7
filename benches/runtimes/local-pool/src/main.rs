// The executor of the `futures` crate. It has no timers and no sockets.

mod rt {
    use std::future::Future;
    use std::hint::black_box;

    use futures::executor::{LocalPool, LocalSpawner};
    use futures::future::RemoteHandle;
    use futures::task::LocalSpawnExt;

    #[derive(Clone, Copy)]
    pub struct Ctx(&'static LocalSpawner);

    impl Ctx {
        pub fn spawn<F: Future + 'static>(self, future: F) -> RemoteHandle<F::Output> {
            self.0.spawn_local_with_handle(future).unwrap()
        }

        pub fn spawn_local<F: Future + 'static>(
            self,
            future: F,
        ) -> Option<RemoteHandle<F::Output>> {
            Some(self.spawn(future))
        }
    }

    pub fn output<T>(output: T) -> T {
        output
    }

    pub fn detach<T: 'static>(task: RemoteHandle<T>) {
        task.forget();
    }

    /// The spawner is leaked, so that tasks can spawn more.
    pub fn run<F: Future>(main: impl FnOnce(Ctx) -> F) -> F::Output {
        let mut pool = LocalPool::new();
        let spawner = Box::leak(Box::new(pool.spawner()));
        pool.run_until(main(Ctx(spawner)))
    }

    pub fn with_runtime(body: impl FnOnce(&mut dyn FnMut() -> u32)) {
        let mut pool = LocalPool::new();
        body(&mut || pool.run_until(async { black_box(7) }));
    }

    pub fn fresh_block_on() -> u32 {
        LocalPool::new().run_until(async { black_box(7) })
    }

    /// It has none of its own.
    pub fn yield_now() -> impl Future<Output = ()> {
        crate::bodies::wakes::yield_now()
    }
}

#[path = "../../../bodies"]
mod bodies {
    pub mod measure;
    pub mod place;
    pub mod tasks;
    pub mod wakes;
}

fn main() {
    let (suite, _) = bodies::measure::arguments();
    match &*suite {
        "tasks" => bodies::tasks::main(),
        "memory" => bodies::tasks::memory(),
        "wakes" => bodies::wakes::main(),
        _ => bodies::measure::refused("no timers and no sockets"),
    }
}
