//! How a task is named in messages.

use std::fmt;
use std::panic::Location;

use crate::hooks::TaskId;

/// A task's name, if it has one. Boxed twice, so that it is one word in each task without.
pub(crate) type Name = Option<Box<Box<str>>>;

/// Number, name and place of a task, for messages.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TaskLabel {
    pub(crate) number: u64,
    pub(crate) name: Name,
    pub(crate) spawned_at: &'static Location<'static>,
}

impl TaskLabel {
    /// For a task that its runtime never received.
    pub(crate) fn not_started(spawned_at: &'static Location<'static>) -> TaskLabel {
        TaskLabel {
            number: 0,
            name: None,
            spawned_at,
        }
    }
}

impl fmt::Display for TaskLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().map(|name| &**name);
        match (name, self.number) {
            (None, 0) => f.write_str("a task that has not started")?,
            (name, number) => write_name(f, name, TaskId::new(number))?,
        }
        write!(f, " (spawned at {})", self.spawned_at)
    }
}

/// Writes how messages call a task: by its name, or by its number.
pub(crate) fn write_name(
    f: &mut fmt::Formatter<'_>,
    name: Option<&str>,
    id: TaskId,
) -> fmt::Result {
    f.write_str("task `")?;
    match name {
        Some(name) => f.write_str(name)?,
        None => write!(f, "task-{id}")?,
    }
    f.write_str("`")
}
