//! The two reference counts of a cell.
//!
//! Each change of an `Arc`'s count is a locked instruction, and a task that is spawned and
//! awaited would make six of them: a third of its cost. Most references never leave the
//! executor's thread. They have a count of their own without locked instructions, and together
//! hold one of the atomic references.

use std::cell::Cell;

use crate::sync::atomic::{AtomicU32, Ordering};

/// How many references to a cell exist. A new cell has one local reference.
pub(super) struct RefCounts {
    /// References that may be on any thread, plus one while there are local ones.
    remote: AtomicU32,
    /// References that stay on the executor's thread [THREAD].
    local: Cell<u32>,
}

impl RefCounts {
    pub(super) fn new() -> RefCounts {
        RefCounts {
            remote: AtomicU32::new(1),
            local: Cell::new(1),
        }
    }

    pub(super) fn add_remote(&self) {
        // It is made from an existing reference, so there is nothing to order.
        if self.remote.fetch_add(1, Ordering::Relaxed) > u32::MAX / 2 {
            // Something leaks wakers. If the counter wrapped around, the cell would be freed.
            std::process::abort();
        }
    }

    /// Returns whether this was the last reference of all.
    pub(super) fn remove_remote(&self) -> bool {
        // What was done through this reference happens before the cell is freed.
        if self.remote.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // So does what was done through the others. A load and not a fence, since
        // ThreadSanitizer does not know fences.
        self.remote.load(Ordering::Acquire);
        true
    }

    #[inline]
    pub(super) fn add_local(&self) {
        match self.local.get() {
            // The first local reference after the last one has gone.
            0 => self.add_remote(),
            u32::MAX => std::process::abort(),
            _ => {}
        }
        self.local.set(self.local.get() + 1);
    }

    /// Returns whether this was the last reference of all.
    #[inline]
    pub(super) fn remove_local(&self) -> bool {
        let left = self.local.get() - 1;
        self.local.set(left);
        // If only the reference of the local ones is left, no other can be made any more.
        left == 0 && (self.remote.load(Ordering::Acquire) == 1 || self.remove_remote())
    }

    /// Whether there is one reference, a local one.
    pub(super) fn is_unique(&self) -> bool {
        self.local.get() == 1 && self.remote.load(Ordering::Acquire) == 1
    }

    /// How many references may be on any thread: mostly wakers.
    pub(super) fn remote_count(&self) -> usize {
        let held_by_locals = u32::from(self.local.get() > 0);
        (self.remote.load(Ordering::Acquire) - held_by_locals) as usize
    }
}

/// Every interleaving of the last references' end, under loom.
#[cfg(all(test, soloist_loom))]
mod models {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;

    /// What the counts guard. loom reports a write that is not after all other accesses.
    struct Guarded {
        counts: RefCounts,
        cell: UnsafeCell<u32>,
    }

    #[expect(unsafe_code, reason = "a model of what the counts guard")]
    // SAFETY: `counts.local` is touched by one thread, and loom checks the uses of `cell`.
    unsafe impl Sync for Guarded {}
    #[expect(unsafe_code, reason = "a model of what the counts guard")]
    // SAFETY: as for `Sync`.
    unsafe impl Send for Guarded {}

    impl Guarded {
        #[expect(unsafe_code, reason = "a model of what the counts guard")]
        fn read(&self) {
            // SAFETY: loom checks it.
            self.cell.with(|cell| assert_eq!(unsafe { *cell }, 0));
        }

        /// Frees the cell if this was the last reference.
        #[expect(unsafe_code, reason = "a model of what the counts guard")]
        fn free_if(&self, last: bool) -> usize {
            if last {
                // SAFETY: loom checks it.
                self.cell.with_mut(|cell| unsafe { *cell += 1 });
            }
            usize::from(last)
        }
    }

    #[test]
    fn model_the_last_reference_frees_once_and_after_all_else() {
        loom::model(|| {
            let guarded = Arc::new(Guarded {
                counts: RefCounts::new(),
                cell: UnsafeCell::new(0),
            });
            guarded.counts.add_local();
            guarded.counts.add_remote();
            let other = guarded.clone();
            // A waker that is cloned there, and both are dropped.
            let thread = thread::spawn(move || {
                other.counts.add_remote();
                other.read();
                let first = other.counts.remove_remote();
                let first = other.free_if(first);
                if first == 0 {
                    other.read();
                }
                let second = other.counts.remove_remote();
                first + other.free_if(second)
            });
            let mut freed = 0;
            for _ in 0..2 {
                guarded.read();
                let last = guarded.counts.remove_local();
                freed += guarded.free_if(last);
            }
            assert_eq!(freed + thread.join().unwrap(), 1);
        });
    }
}
