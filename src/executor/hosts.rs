//! The simulated hosts of an executor, and the processes that run on them.

use std::any::Any;
use std::cell::{Cell, RefCell};

use crate::clock::{self, HostClock};
use crate::task_cell::LocalTask;

/// A process of a simulated host: what runs there from its first task, or from the first one after
/// a crash, to the next crash. The default is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ProcessId {
    /// The index of the host plus 1.
    pub(super) host: u32,
    pub(super) start: u32,
}

impl ProcessId {
    /// The index of the host.
    pub(crate) fn host(self) -> Option<usize> {
        self.host.checked_sub(1).map(|index| index as usize)
    }
}

/// The hosts of an executor that runs a simulated world.
pub(crate) struct Hosts {
    /// The process of the task that runs.
    pub(super) current: Cell<ProcessId>,
    /// The process of each task, by its slot in the registry.
    pub(super) of_tasks: RefCell<Vec<ProcessId>>,
    pub(super) hosts: RefCell<Vec<HostState>>,
    /// What `testing` keeps here.
    pub(super) world: Box<dyn Any>,
}

#[derive(Default)]
pub(super) struct HostState {
    /// How often it has crashed.
    pub(super) crashes: u32,
    pub(super) is_paused: bool,
    /// Tasks that were to be polled while it is paused. They count as queued.
    pub(super) parked: Vec<LocalTask>,
    pub(super) clock: Option<HostClock>,
}

impl Hosts {
    pub(super) fn process_of(&self, task: &LocalTask) -> ProcessId {
        let slot = task.slot();
        let process = slot.and_then(|slot| self.of_tasks.borrow().get(slot).copied());
        process.unwrap_or_default()
    }

    pub(super) fn is_over(&self, process: ProcessId) -> bool {
        let hosts = self.hosts.borrow();
        let host = process.host().and_then(|index| hosts.get(index));
        host.is_some_and(|host| host.crashes != process.start)
    }

    pub(super) fn enter(&self, process: ProcessId) -> ProcessGuard<'_> {
        let hosts = self.hosts.borrow();
        let host = process.host().and_then(|index| hosts.get(index));
        ProcessGuard(Some((
            self,
            self.current.replace(process),
            clock::replace_host(host.and_then(|host| host.clock)),
        )))
    }
}

/// Restores the process that ran before.
pub(crate) struct ProcessGuard<'a>(pub(super) Option<(&'a Hosts, ProcessId, Option<HostClock>)>);

impl Drop for ProcessGuard<'_> {
    fn drop(&mut self) {
        if let Some((hosts, process, clock)) = self.0.take() {
            hosts.current.set(process);
            clock::replace_host(clock);
        }
    }
}
