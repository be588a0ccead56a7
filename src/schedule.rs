//! The order of tasks, timers and events that are ready at the same time. It is first in, first
//! out, unless a simulated run changes it.

/// The order of a simulated run, implemented by `testing`.
pub(crate) trait Order {
    /// Whether `shuffle_by` changes the order.
    fn is_shuffled(&self) -> bool;

    /// Shuffles `len` items, of which `swap` exchanges two.
    fn shuffle_by(&self, len: usize, swap: &mut dyn FnMut(usize, usize));

    /// Records which task runs next.
    fn note(&self, task: u64);
}

impl dyn Order + '_ {
    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        self.shuffle_by(items.len(), &mut |a, b| items.swap(a, b));
    }
}
