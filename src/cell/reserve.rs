//! What runtimes that are gone leave for later ones: their memory, and ids.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;

use super::home::Shared;

/// [ID]
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What gone runtimes have left: closed, and empty, but for a main cell that nobody else has.
static SPARE: std::sync::Mutex<Vec<&'static Shared>> = std::sync::Mutex::new(Vec::new());

std::thread_local! {
    pub(super) static RESERVE: Reserve = const { Reserve::new() };
}

/// What a thread has for its next runtime, so that one after the other need no lock.
pub(super) struct Reserve {
    /// What the last one has left. When the thread ends, this goes to `SPARE`.
    pub(super) shared: Cell<Option<&'static Shared>>,
    next_id: Cell<u64>,
    /// How many there are from there on that nobody else has.
    ids: Cell<u64>,
}

/// Ids that a thread takes at once.
const IDS: u64 = 256;

impl Reserve {
    const fn new() -> Reserve {
        Reserve {
            shared: Cell::new(None),
            next_id: Cell::new(0),
            ids: Cell::new(0),
        }
    }

    #[inline]
    pub(super) fn id(&self) -> u64 {
        if self.ids.get() == 0 {
            self.next_id.set(new_ids(IDS));
            self.ids.set(IDS);
        }
        self.ids.set(self.ids.get() - 1);
        self.next_id.replace(self.next_id.get() + 1)
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        spare().extend(self.shared.take());
    }
}

/// Returns the first of so many.
pub(super) fn new_ids(count: u64) -> u64 {
    NEXT_ID.fetch_add(count, std::sync::atomic::Ordering::Relaxed)
}

pub(super) fn spare() -> std::sync::MutexGuard<'static, Vec<&'static Shared>> {
    SPARE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
