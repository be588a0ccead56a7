//! The registry: the tasks of an executor that have a future in place.

use crate::task_cell::LocalTask;

/// A place for each task: one word, where `slab` needs two. With 100,000 tasks at once that is
/// felt.
#[derive(Default)]
pub(super) struct Registry {
    places: Vec<Option<LocalTask>>,
    free: Vec<u32>,
}

impl Registry {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The slot that the next task will have.
    #[inline]
    pub(super) fn vacant_slot(&self) -> usize {
        self.free
            .last()
            .map_or(self.places.len(), |slot| *slot as usize)
    }

    /// Adds a task at the vacant slot, which it knows.
    #[inline]
    pub(super) fn insert(&mut self, task: LocalTask) {
        match self.free.pop() {
            Some(slot) => self.places[slot as usize] = Some(task),
            None => self.places.push(Some(task)),
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, slot: usize) -> Option<LocalTask> {
        let task = self.places.get_mut(slot)?.take()?;
        self.free.push(slot as u32);
        Some(task)
    }

    pub(super) fn get(&self, slot: usize) -> Option<&LocalTask> {
        self.places.get(slot)?.as_ref()
    }

    /// How many slots there are, free or not.
    pub(super) fn slots(&self) -> usize {
        self.places.len()
    }

    /// In the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LocalTask> {
        self.places.iter().flatten()
    }

    pub(super) fn into_tasks(self) -> impl Iterator<Item = LocalTask> {
        self.places.into_iter().flatten()
    }
}
