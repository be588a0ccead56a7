//! Values that the destructor of a thread-local uses and drops at the end of the thread, before or after the
//! thread-locals of the crate.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

use soloist::promise::Promise;
use soloist::task::TaskGroup;
use soloist::{Runtime, spawn};

use crate::future::Output;
use crate::process::{self, fail};
use crate::streams::End;
use crate::world::{Kept, Record, World, expect_panic, planned};

pub(crate) enum Late {
    Task(Kept),
    Runtime(Rc<Runtime>),
    Waker(Waker),
    Promise(Promise<Box<u8>>),
    End(End),
    Group(TaskGroup<u8, Output>),
    /// A separate runtime.
    Run,
    Exit,
}

#[derive(Default)]
struct AtEnd {
    what: RefCell<Vec<Late>>,
    records: RefCell<Vec<Rc<Record>>>,
    world: RefCell<Option<Rc<World>>>,
}

thread_local! {
    static AT_END: AtEnd = AtEnd::default();
}

/// Keeps a value until the end of the thread.
pub(crate) fn push(world: &Rc<World>, late: Option<Late>) {
    if let Some(Late::Task(_) | Late::Group(_) | Late::Runtime(_)) = &late {
        world.tells_later.set(true);
    }
    let pushed = AT_END.try_with(|at_end| {
        at_end.world.replace(Some(world.clone()));
        at_end.what.borrow_mut().extend(late);
    });
    // The thread is ending, and drops it.
    let _ = pushed;
}

/// Tasks of runtimes that still exist.
pub(crate) fn check_later(records: Vec<Rc<Record>>) {
    let _ = AT_END.try_with(|at_end| at_end.records.borrow_mut().extend(records));
}

/// Runs a runtime. That is refused if the process exits inside of one.
fn run(f: impl FnOnce()) {
    match expect_panic("inside a running soloist runtime", f) {
        Err(true) if !process::is_exiting() => fail("a run is refused where nothing runs"),
        _ => {}
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(world) = &*self.world.borrow() {
            world.is_late.set(true);
            world.end_input();
        }
        for late in self.what.take() {
            match late {
                Late::Task(task) => drop(planned(|| drop(task))),
                // Its tasks could not use timers any more if they were polled.
                Late::Runtime(runtime) => drop(planned(|| drop(runtime))),
                Late::Waker(waker) => waker.wake(),
                Late::Promise(promise) => drop(promise.set(Box::new(0))),
                Late::End(end) => drop(end),
                Late::Group(group) => drop(planned(|| drop(group))),
                Late::Run => run(|| {
                    let two = soloist::block_on(async {
                        let task = spawn(async { 2 });
                        soloist::task::yield_now().await;
                        task.await
                    });
                    assert_eq!(two, 2);
                }),
                Late::Exit => process::exit(),
            }
        }
        if let Some(world) = self.world.take() {
            world.clear();
        }
        for record in self.records.take() {
            if record.home.strong_count() == 0 && !record.is_settled() {
                fail("a future was never dropped, nor at the end of the thread");
            }
            drop(record.waker.take());
        }
    }
}
