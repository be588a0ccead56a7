//! The simulated hosts that the tasks of an executor belong to, and the processes that run on them.

use std::cell::{Cell, RefCell};
use std::mem::take;
use std::sync::Arc;

use super::network::Network;
use crate::clock::{self, HostClock};
use crate::executor::{self, Hosts, ProcessId};
use crate::panics;
use crate::task_cell::LocalTask;

impl ProcessId {
    /// The index of the host.
    pub(super) fn host(self) -> Option<usize> {
        self.0.map(|(host, _)| host)
    }
}

/// The hosts of an executor that runs a simulated world.
pub(in crate::testing) struct WorldHosts {
    pub(super) network: Arc<Network>,
    /// The process of the task that runs.
    current: Cell<ProcessId>,
    /// The process of each task, by its slot in the registry.
    of_tasks: RefCell<Vec<ProcessId>>,
    hosts: RefCell<Vec<HostTasks>>,
}

#[derive(Default)]
struct HostTasks {
    /// How often the host has crashed.
    crashes: usize,
    is_paused: bool,
    /// Tasks that were to be polled while it is paused. They count as queued.
    parked: Vec<LocalTask>,
    clock: Option<HostClock>,
}

impl WorldHosts {
    pub(super) fn new(network: Arc<Network>) -> WorldHosts {
        WorldHosts {
            network,
            current: Cell::default(),
            of_tasks: RefCell::default(),
            hosts: RefCell::default(),
        }
    }

    /// Adds a host, and returns its index.
    pub(super) fn add(&self, name: &str) -> usize {
        self.hosts.borrow_mut().push(HostTasks::default());
        self.network.with(|state| state.add_host(name))
    }

    fn with_host<R>(&self, index: usize, f: impl FnOnce(&mut HostTasks) -> R) -> R {
        f(&mut self.hosts.borrow_mut()[index])
    }

    /// The process that runs on a host, or will.
    pub(super) fn process_on(&self, index: usize) -> ProcessId {
        ProcessId(Some((index, self.with_host(index, |host| host.crashes))))
    }

    /// Whether the host has crashed since the process started.
    pub(super) fn is_over(&self, process: ProcessId) -> bool {
        let on_host = process.host().map(|index| self.process_on(index));
        on_host.is_some_and(|on_host| on_host != process)
    }

    /// From now on tasks of the host are not polled.
    pub(super) fn pause(&self, index: usize) {
        self.with_host(index, |host| host.is_paused = true);
        let network = &self.network;
        network.with(|state| state.record_hosts("pause", index, index));
    }

    /// Tasks of the host are polled again.
    pub(super) fn resume(&self, index: usize) {
        let network = &self.network;
        network.with(|state| state.record_hosts("resume", index, index));
        let parked = self.with_host(index, |host| {
            host.is_paused = false;
            take(&mut host.parked)
        });
        executor::current("`Host::resume`").requeue(parked);
    }

    /// Sets the rate of a host's clock. Its time goes on from what it is now.
    pub(super) fn set_clock(&self, index: usize, rate: f64) {
        let now = clock::runtime_now();
        let clock = self.with_host(index, |host| {
            let local = host.clock.map_or(now, |clock| clock.local(now));
            host.clock = Some(HostClock::new(now, local, rate));
            host.clock
        });
        if self.current.get().host() == Some(index) {
            clock::replace_host(clock);
        }
    }

    /// Ends the process of a host: closes its sockets, and drops its tasks, the one that is being
    /// polled at the end of its poll. What they spawn meanwhile is dropped at once. `silently`:
    /// other hosts do not notice.
    pub(super) fn stop(&self, index: usize, silently: bool) {
        let process = self.process_on(index);
        let network = &self.network;
        network.with(|state| state.end_process(process, silently));
        // The tasks in `parked` are in the registry, too.
        let _parked = self.with_host(index, |host| {
            host.crashes += 1;
            host.is_paused = false;
            take(&mut host.parked)
        });
        let executor = executor::current("`Host::crash`");
        let tasks = executor.live_tasks(|task| self.process(Some(task)) == process);
        panics::for_each(tasks, |task| {
            if let Some(payload) = executor::cancel(&task) {
                executor.report_panic(&task.label(), payload);
            }
        });
    }
}

impl Hosts for WorldHosts {
    fn process(&self, task: Option<&LocalTask>) -> ProcessId {
        let Some(task) = task else {
            return self.current.get();
        };
        let slot = task.slot();
        let process = slot.and_then(|slot| self.of_tasks.borrow().get(slot).copied());
        process.unwrap_or_default()
    }

    fn enter(&self, process: ProcessId) -> ProcessId {
        let host = process.host();
        let clock = host.and_then(|index| self.with_host(index, |host| host.clock));
        clock::replace_host(clock);
        self.current.replace(process)
    }

    fn keeps(&self, task: &LocalTask) -> bool {
        let keep = |host: &mut HostTasks| {
            if host.is_paused {
                host.parked.push(task.clone());
            }
            host.is_paused
        };
        let host = self.process(Some(task)).host();
        host.is_some_and(|index| self.with_host(index, keep))
    }

    fn join(&self, task: &LocalTask) -> bool {
        let process = self.current.get();
        if let Some(slot) = task.slot() {
            let mut of_tasks = self.of_tasks.borrow_mut();
            if of_tasks.len() <= slot {
                of_tasks.resize(slot + 1, ProcessId::default());
            }
            of_tasks[slot] = process;
        }
        !self.is_over(process)
    }
}
