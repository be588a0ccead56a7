//! The child of a fork forgets the reactor of its parent.

use slab::Slab;

use super::{ID, REACTOR, Reactor};
use crate::panics::Panics;

impl Reactor {
    pub(super) fn forget_parents() {
        let parents = Reactor::get().filter(|reactor| !reactor.poller().is_ours());
        if let Some(parents) = parents {
            let _ = REACTOR.try_with(|slot| slot.borrow_mut().take());
            ID.set(0);
            parents.wake_all();
        }
    }

    #[cold]
    fn wake_all(&self) {
        let slots = std::mem::replace(&mut *self.slots.borrow_mut(), Slab::new());
        let mut panics = Panics::default();
        for (_, slot) in slots {
            for direction in slot.directions {
                direction.wake_all(&mut panics);
            }
        }
        panics.resume();
    }
}
