//! The simulated hosts that the tasks of an executor belong to.

use std::any::Any;
use std::cell::{Cell, RefCell};

use super::current;
use super::hosts::{HostState, Hosts, ProcessGuard, ProcessId};
use super::state::Executor;
use crate::clock::{self, HostClock};
use crate::panics::Panics;
use crate::task_cell::LocalTask;

impl Executor {
    /// From now on the executor runs a simulated world.
    pub(crate) fn set_world(&self, world: Box<dyn Any>) {
        let hosts = Hosts {
            current: Cell::default(),
            of_tasks: RefCell::default(),
            hosts: RefCell::default(),
            world,
        };
        assert!(
            self.hosts.set(Box::new(hosts)).is_ok(),
            "this runtime has a simulated world already"
        );
    }

    fn hosts(&self) -> Option<&Hosts> {
        self.hosts.get().map(|hosts| &**hosts)
    }

    /// What was passed to `set_world`.
    pub(crate) fn world(&self) -> Option<&dyn Any> {
        self.hosts().map(|hosts| &*hosts.world)
    }

    #[cfg(feature = "blocking")]
    pub(super) fn has_world(&self) -> bool {
        self.hosts.get().is_some()
    }

    fn with_host<R>(&self, index: usize, f: impl FnOnce(&mut HostState) -> R) -> R {
        let hosts = self.hosts().expect("there is a world");
        f(&mut hosts.hosts.borrow_mut()[index])
    }

    /// Adds a host, and returns its index.
    pub(crate) fn add_host(&self) -> usize {
        let hosts = self.hosts().expect("there is a world");
        let mut hosts = hosts.hosts.borrow_mut();
        hosts.push(HostState::default());
        hosts.len() - 1
    }

    /// The process that runs on a host, or will.
    pub(crate) fn process_on(&self, index: usize) -> ProcessId {
        self.with_host(index, |host| ProcessId {
            host: index as u32 + 1,
            start: host.crashes,
        })
    }

    /// The process of the task that runs.
    pub(crate) fn current_process(&self) -> ProcessId {
        self.hosts()
            .map(|hosts| hosts.current.get())
            .unwrap_or_default()
    }

    /// Whether a host has crashed since the process started.
    pub(crate) fn is_process_over(&self, process: ProcessId) -> bool {
        self.hosts().is_some_and(|hosts| hosts.is_over(process))
    }

    /// Calls `f` as a task of the process does.
    pub(crate) fn in_process<R>(&self, process: ProcessId, f: impl FnOnce() -> R) -> R {
        let _guard = self.hosts().map(|hosts| hosts.enter(process));
        f()
    }

    /// A task at this slot is spawned: it belongs to the process of its spawner. Returns false if
    /// that is over.
    pub(super) fn join_process(&self, slot: Option<usize>) -> bool {
        let (Some(hosts), Some(slot)) = (self.hosts(), slot) else {
            return true;
        };
        let process = hosts.current.get();
        let mut of_tasks = hosts.of_tasks.borrow_mut();
        if of_tasks.len() <= slot {
            of_tasks.resize(slot + 1, ProcessId::default());
        }
        of_tasks[slot] = process;
        !hosts.is_over(process)
    }

    /// A task is to run. Returns `None` if its host is paused: then it is queued when that goes on.
    #[inline]
    pub(super) fn begin_run(&self, task: &LocalTask) -> Option<ProcessGuard<'_>> {
        let Some(hosts) = self.hosts() else {
            return Some(ProcessGuard(None));
        };
        let process = hosts.process_of(task);
        if let Some(index) = process.host() {
            let mut all = hosts.hosts.borrow_mut();
            if all[index].is_paused {
                all[index].parked.push(task.clone());
                return None;
            }
        }
        Some(hosts.enter(process))
    }

    /// The destructor of a task is to run.
    #[inline]
    pub(super) fn begin_drop(&self, task: &LocalTask) -> ProcessGuard<'_> {
        match self.hosts() {
            Some(hosts) => hosts.enter(hosts.process_of(task)),
            None => ProcessGuard(None),
        }
    }

    /// From now on tasks of the host are not polled.
    pub(crate) fn pause_host(&self, index: usize) {
        self.with_host(index, |host| host.is_paused = true);
    }

    /// Tasks of the host are polled again.
    pub(crate) fn resume_host(&self, index: usize) {
        let parked = self.with_host(index, |host| {
            host.is_paused = false;
            std::mem::take(&mut host.parked)
        });
        self.ready.borrow_mut().extend(parked);
    }

    /// Sets the rate of a host's clock. Its time goes on from what it is now.
    pub(crate) fn set_host_clock(&self, index: usize, rate: f64) {
        let now = self.now();
        let clock = self.with_host(index, |host| {
            let local = host.clock.map_or(now, |clock| clock.local(now));
            host.clock = Some(HostClock::new(now, local, rate));
            host.clock
        });
        if self.current_process().host() == Some(index) {
            clock::replace_host(clock);
        }
    }

    /// Ends the process of a host: drops its tasks, the one that is being polled at the end of its
    /// poll. What they spawn meanwhile is dropped at once.
    pub(crate) fn end_process(&self, index: usize) {
        let Some(hosts) = self.hosts() else { return };
        let process = self.process_on(index);
        let parked = self.with_host(index, |host| {
            host.crashes += 1;
            host.is_paused = false;
            std::mem::take(&mut host.parked)
        });
        let tasks: Vec<LocalTask> = {
            let tasks = self.tasks.borrow();
            let tasks = tasks.iter();
            tasks
                .filter(|task| hosts.process_of(task) == process)
                .cloned()
                .collect()
        };
        let mut panics = Panics::default();
        for task in tasks.iter().chain(&parked) {
            panics.catch(|| {
                if let Some(payload) = current::cancel(task) {
                    self.report_panic(&task.label(), payload);
                }
            });
        }
        panics.resume();
    }
}
