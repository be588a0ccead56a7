//! The tasks of an executor: from the spawn to the end.

use std::collections::BinaryHeap;
use std::future::Future;
use std::panic::Location;
use std::time::Instant;

use super::budget;
use super::state::Executor;
use crate::hooks::watch::Watch;
use crate::hooks::{self, TaskId};
use crate::panics::{Payload, discard};
use crate::stderr::{self, warn};
use crate::task_cell::{JoinRef, LocalTask, MainTask, Name, Ran, TaskLabel};

/// What came of one entry of the ready queue.
pub(crate) enum Step {
    Polled,
    /// The task was over before.
    Stale,
    MainIsDone,
}

impl Executor {
    /// Puts the future into a cell and on the ready queue. It is never polled in here.
    #[inline]
    pub(crate) fn spawn<F>(
        &self,
        future: F,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> JoinRef<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let number = self.spawned.get() + 1;
        self.spawn_numbered(number, future, name, spawned_at)
    }

    /// As [`Executor::spawn`], with a number that the caller has chosen.
    #[inline(always)]
    pub(crate) fn spawn_numbered<F>(
        &self,
        number: u64,
        future: F,
        name: Name,
        spawned_at: &'static Location<'static>,
    ) -> JoinRef<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.spawned.set(self.spawned.get() + 1);
        let task_name = name.as_deref().map(|name| &**name);
        // It calls the user's subscriber, which may spawn.
        let future = hooks::in_span(future, TaskId::new(number), task_name, spawned_at);
        let slot = self.tasks.borrow().vacant_key();
        let (task, handle) = self
            .owner
            .new_task::<_, Executor>(slot, number, future, name, spawned_at);
        self.enqueue_new(task);
        handle
    }

    #[inline(always)]
    fn enqueue_new(&self, task: LocalTask) {
        let is_late = self.hosts().is_some_and(|hosts| !hosts.join(&task));
        if is_late || self.is_closed.get() {
            // There is a handle, which keeps what the destructor panics with.
            let panic = task.cancel();
            debug_assert!(panic.is_none());
            return;
        }
        hooks::task_spawned(|| task.meta());
        if let Some(watch) = &self.watch {
            watch.on_spawn(task.slot(), task.number());
        }
        self.tasks.borrow_mut().insert(task.clone());
        self.ready.borrow_mut().push_back(task);
    }

    /// The cell of a `block_on`. It counts as queued.
    #[inline]
    pub(crate) fn begin_main(&self, called_at: &'static Location<'static>) -> MainTask {
        let number = self.main_calls.get() + 1;
        self.main_calls.set(number);
        if let Some(watch) = &self.watch {
            watch.on_spawn(None, number);
        }
        let mut main = self.main.borrow_mut();
        if let Some(main) = &mut *main {
            if main.reuse(number, called_at) {
                return main.clone();
            }
        }
        main.insert(self.owner.new_main::<Executor>(number, called_at))
            .clone()
    }

    /// Puts main on the ready queue before its first poll.
    pub(crate) fn queue_main(&self, main: &MainTask) {
        self.ready.borrow_mut().push_back(main.task());
    }

    /// Runs the next task of the ready queue. `main` polls the future of a `block_on`, and
    /// returns whether it is done.
    #[inline(always)]
    pub(crate) fn poll_next(&self, main: &mut dyn FnMut() -> bool) -> Step {
        let Some(task) = self.pop_ready() else {
            return Step::Stale;
        };
        budget::begin_poll();
        match &self.watch {
            None => self.run(&task, main),
            Some(watch) => self.run_timed(watch, &task, main),
        }
    }

    #[inline(always)]
    fn run(&self, task: &LocalTask, main: &mut dyn FnMut() -> bool) -> Step {
        if self.hosts().is_some_and(|hosts| hosts.keeps(task)) {
            return Step::Stale;
        }
        let _entered = self.enter_process(self.process(Some(task)));
        let (panic, was_polled) = match task.run() {
            Ran::Pending => {
                self.counts.polls.add(1);
                hooks::poll_ended(false);
                return Step::Polled;
            }
            Ran::Main => {
                let is_done = main();
                return if is_done {
                    Step::MainIsDone
                } else {
                    Step::Polled
                };
            }
            Ran::Stale => return Step::Stale,
            Ran::Over(panic) => (panic, true),
            Ran::Cancelled(panic) => (panic, false),
        };
        self.counts.polls.add(usize::from(was_polled));
        self.retire(task);
        hooks::poll_ended(true);
        if let Some(payload) = panic {
            self.report_panic(&task.label(), payload);
        }
        Step::Polled
    }

    /// The task is over: removes it from the registry, and wakes what awaits its end.
    fn retire(&self, task: &LocalTask) {
        let registered = task
            .slot()
            .and_then(|slot| self.tasks.borrow_mut().remove(slot));
        debug_assert!(registered.as_ref().is_none_or(|other| other.is_same(task)));
        drop(registered);
        task.wake_joiner();
    }

    /// Drops the future of a task of this executor, which is entered and idle. Returns a panic
    /// that no handle can receive.
    pub(super) fn cancel(&self, task: &LocalTask) -> Option<Payload> {
        let _entered = self.enter_process(self.process(Some(task)));
        let panic = task.cancel();
        self.retire(task);
        panic
    }

    /// Queues tasks that `Hosts::keeps` has kept.
    #[cfg(feature = "testing")]
    pub(crate) fn requeue(&self, tasks: Vec<LocalTask>) {
        self.ready.borrow_mut().extend(tasks);
    }

    /// The tasks that are not over and fit, in the order of the registry.
    #[cfg(feature = "testing")]
    pub(crate) fn live_tasks(&self, fits: impl Fn(&LocalTask) -> bool) -> Vec<LocalTask> {
        let tasks = self.tasks.borrow();
        tasks.iter().filter(|task| fits(task)).cloned().collect()
    }

    #[cold]
    fn run_timed(&self, watch: &Watch, task: &LocalTask, main: &mut dyn FnMut() -> bool) -> Step {
        let start = Instant::now();
        let step = self.run(task, main);
        let took = start.elapsed();
        if matches!(step, Step::Stale) {
            return step;
        }
        watch.polled(task.slot(), task.number(), took);
        if watch.slow.is_some_and(|slow| took >= slow) {
            watch.has_warned.set(true);
            match task.slot() {
                Some(_) => warn(format_args!(
                    "slow poll: {} has blocked the thread for {took:.1?}",
                    task.label()
                )),
                None => warn(format_args!(
                    "slow poll: the future of `block_on` has blocked the thread for {took:.1?}"
                )),
            }
        }
        step
    }

    /// How many tasks were spawned.
    pub(crate) fn spawned(&self) -> u64 {
        self.spawned.get()
    }

    /// How many tasks are not over.
    pub(crate) fn live(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Calls `f` for the future of the `block_on` that is under way, and for the tasks that are not
    /// over, in the order of their numbers.
    pub(crate) fn for_each_task(&self, f: &mut dyn FnMut(LocalTask)) {
        let mut call = |task: LocalTask| {
            if task.is_live() {
                f(task);
            }
        };
        if let Some(main) = &*self.main.borrow() {
            call(main.task());
        }
        let tasks = self.tasks.borrow();
        let mut order = BinaryHeap::new();
        for task in tasks.iter() {
            let slot = task.slot().expect("it is in the registry");
            order.push((task.number(), slot));
        }
        for (_, slot) in order.into_sorted_vec() {
            call(tasks.get(slot).expect("it is there").clone());
        }
    }

    /// Handles the panic of a task without a handle: resumes it if that was asked for, or
    /// reports it. The second panic of a batch is always reported.
    pub(crate) fn report_panic(&self, task: &TaskLabel, payload: Payload) {
        if self.propagate_panics && !self.is_panicking.get() {
            std::panic::resume_unwind(payload);
        }
        report_panic(task, payload);
    }
}

/// Reports the panic of a task without a handle on standard error.
pub(super) fn report_panic(task: &TaskLabel, payload: Payload) {
    stderr::write(format_args!(
        "soloist: {task} has panicked, and no handle receives the panic\n"
    ));
    discard(payload);
}
