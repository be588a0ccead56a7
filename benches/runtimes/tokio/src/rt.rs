// What `spawn` and `LocalSet` have in common.

use std::future::Future;
use std::hint::black_box;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};

#[derive(Clone, Copy)]
pub struct Ctx;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn output<T>(output: Result<T, JoinError>) -> T {
    output.unwrap()
}

pub fn detach<T>(task: JoinHandle<T>) {
    drop(task);
}

pub fn yield_now() -> impl Future<Output = ()> {
    tokio::task::yield_now()
}

pub fn sleep(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

/// Within the budget, a task's 129th `Sleep` in one poll would not be registered.
pub fn without_budget<F: Future>(future: F) -> impl Future<Output = F::Output> {
    tokio::task::unconstrained(future)
}
