//! Panics of tasks without a handle.

use std::fmt;

use super::try_current;
use crate::cell::{Home, Message};
use crate::panics::{Payload, discard};
use crate::stderr;

/// The task `who` of the runtime `home` has panicked, and from now on nobody can await that:
/// it was detached, or its handle has gone.
pub(crate) fn orphaned(home: Home, who: String, payload: Payload) {
    let orphan = Orphan {
        who,
        payload: Some(payload),
    };
    let here = try_current().filter(|context| context.owner.home().id() == home.id());
    match here {
        Some(context) if !context.propagate_panics => drop(orphan),
        // Not here and now, where it would be the panic of whoever detaches: the runtime
        // itself is to hear of it.
        _ => {
            let refused = home.push(Message::Call(Box::new(move || orphan.arrive())));
            drop(refused);
        }
    }
}

/// A panic on its way to its runtime. It is reported if it does not arrive there.
struct Orphan {
    who: String,
    payload: Option<Payload>,
}

impl Orphan {
    fn arrive(mut self) {
        // A thread that is ending knows of no runtime: then it is reported.
        let Some(context) = try_current() else { return };
        if let Some(payload) = self.payload.take() {
            context.bury(&self.who, payload);
        }
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            report(&self.who, payload);
        }
    }
}

/// Reports the panic of a task without a handle.
pub(crate) fn report(who: &dyn fmt::Display, payload: Payload) {
    stderr::write(format_args!(
        "soloist: {who} has panicked, and nobody awaits it\n"
    ));
    discard(payload);
}
