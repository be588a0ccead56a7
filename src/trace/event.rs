//! The parts of events as text.

use std::fmt;

use crate::hooks::{TaskRef, WaitReason};

/// `main`, or `task-` with the number of the task.
impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "task-{id}"),
            None => f.write_str("main"),
        }
    }
}

impl WaitReason {
    /// The name of the kind of wait, for the legend of the page.
    pub(super) fn category(self) -> &'static str {
        match self {
            WaitReason::Read { .. } => "read",
            WaitReason::Write { .. } => "write",
            WaitReason::Timer { .. } => "timer",
            WaitReason::Task(_) | WaitReason::Group | WaitReason::RemoteTask => "task",
            WaitReason::Promise => "promise",
            WaitReason::Job => "job",
            WaitReason::Other => "other",
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::Read { fd } => write!(f, "fd {fd}, to read"),
            WaitReason::Write { fd } => write!(f, "fd {fd}, to write"),
            WaitReason::Timer { .. } => f.write_str("a timer"),
            WaitReason::Task(task) => write!(f, "the end of {task}"),
            WaitReason::Group => f.write_str("a task of its group"),
            WaitReason::RemoteTask => f.write_str("a task of another runtime"),
            WaitReason::Promise => f.write_str("a promise"),
            WaitReason::Job => f.write_str("a job on the pool of threads"),
            WaitReason::Other => f.write_str("something outside"),
        }
    }
}
