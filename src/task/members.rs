//! [`Members`]: the tasks of a set, a group or a tracker.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;

use super::Task;
use crate::executor;
use crate::panics::Panics;

/// Tasks that are numbered in the order in which they are spawned. Dropping it cancels them.
pub(super) struct Members<T> {
    tasks: RefCell<Numbered<T>>,
    spawned: Cell<u64>,
}

/// The tasks, in the order of their numbers. A `BTreeMap` would do, but it is compiled for each
/// type of output, and is ten times as much code.
struct Numbered<T> {
    /// A task that was removed leaves a gap. When there are more gaps than tasks, the gaps are
    /// closed.
    places: Vec<(u64, Option<Task<T>>)>,
    len: usize,
}

impl<T> Numbered<T> {
    fn find(&self, number: u64) -> Result<usize, usize> {
        self.places.binary_search_by_key(&number, |place| place.0)
    }
}

impl<T: 'static> Members<T> {
    /// Spawns a task, and returns its number. `what` names the function for panics. The guard is
    /// made with the number, and dropped after the future, for whatever reason that is dropped.
    #[track_caller]
    pub(super) fn spawn<G: 'static>(
        &self,
        what: &str,
        future: impl Future<Output = T> + 'static,
        guard: impl FnOnce(u64) -> G,
    ) -> u64 {
        let executor = executor::current(what);
        let number = self.next_number();
        self.spawned.set(number + 1);
        let guard = guard(number);
        let future = Guarded { future, guard };
        let task = Task::new(executor.spawn(future, None, Location::caller()));
        self.insert(number, task);
        number
    }
}

impl<T> Members<T> {
    pub(super) fn len(&self) -> usize {
        self.tasks.borrow().len
    }

    /// The number of the next task that is spawned.
    pub(super) fn next_number(&self) -> u64 {
        self.spawned.get()
    }

    /// Calls `f` with a task. `f` runs no user code.
    pub(super) fn get<R>(&self, number: u64, f: impl FnOnce(&Task<T>) -> R) -> Option<R> {
        let tasks = self.tasks.borrow();
        tasks.places[tasks.find(number).ok()?].1.as_ref().map(f)
    }

    /// Adds a task. The number is new, or that of a task that was removed.
    pub(super) fn insert(&self, number: u64, task: Task<T>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.len += 1;
        match tasks.find(number) {
            Ok(place) => tasks.places[place].1 = Some(task),
            Err(place) => tasks.places.insert(place, (number, Some(task))),
        }
    }

    pub(super) fn remove(&self, number: u64) -> Option<Task<T>> {
        let mut tasks = self.tasks.borrow_mut();
        let place = tasks.find(number).ok()?;
        let task = tasks.places[place].1.take()?;
        tasks.len -= 1;
        let len = tasks.len;
        if tasks.places.len() / 2 > len {
            tasks.places.retain(|place| place.1.is_some());
            tasks.places.shrink_to(4 * len);
        }
        Some(task)
    }

    /// Removes all tasks.
    pub(super) fn take(&self) -> impl Iterator<Item = (u64, Task<T>)> + use<T> {
        let places = self.tasks.take().places.into_iter();
        places.filter_map(|(number, task)| Some((number, task?)))
    }

    pub(super) fn abort_all(&self) {
        // No user code is called: a task's own waker only queues it.
        for (_, task) in &self.tasks.borrow().places {
            task.iter().for_each(Task::abort);
        }
    }

    /// Removes and cancels all tasks.
    pub(super) fn cancel_all(&self, panics: &mut Panics) {
        cancel(self.take().map(|(_, task)| task), panics);
    }
}

/// Drops futures, which runs user code: the caller must not hold a borrow.
pub(super) fn cancel<T>(tasks: impl Iterator<Item = Task<T>>, panics: &mut Panics) {
    for task in tasks {
        panics.catch(|| drop(task));
    }
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Members {
            tasks: RefCell::default(),
            spawned: Cell::new(0),
        }
    }
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        let places = Vec::new();
        Numbered { places, len: 0 }
    }
}

impl<T> Drop for Members<T> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        self.cancel_all(&mut panics);
        panics.resume();
    }
}

pin_project! {
    /// The future of a task. The guard is dropped last.
    struct Guarded<F, G> {
        #[pin]
        future: F,
        guard: G,
    }
}

impl<F: Future, G> Future for Guarded<F, G> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}
