//! The network of a world: its state, and the timer for what happens next.

use std::fmt;
use std::sync::Arc;
use std::task::{Wake, Waker};

use super::state::State;
use crate::executor::{self, Executor};
use crate::panics;
use crate::sync::{Mutex, lock};
use crate::task_cell::{Message, Remote};
use crate::testing::faults::Faults;
use crate::testing::transcript::Transcript;

/// A network. Sockets refer to it from any thread.
pub(super) struct Network {
    /// The executor of the world, which has the clock.
    remote: Remote,
    state: Mutex<State>,
}

impl Network {
    pub(super) fn new(
        executor: &Executor,
        faults: Arc<Faults>,
        transcript: Arc<Transcript>,
    ) -> Arc<Network> {
        let now = executor.now();
        Arc::new(Network {
            remote: executor.remote(),
            state: Mutex::new(State::new(now, faults, transcript)),
        })
    }

    /// Calls `f` with the state, after everything that is due has happened. What `f` causes at once
    /// has happened afterwards.
    pub(super) fn with<R>(self: &Arc<Self>, f: impl FnOnce(&mut State) -> R) -> R {
        let executor = executor::try_current();
        let executor = executor.filter(|executor| executor.remote().id() == self.remote.id());
        let (result, woken) = {
            let mut state = lock(&self.state);
            if let Some(executor) = &executor {
                state.now = executor.now();
            }
            state.catch_up();
            let result = f(&mut state);
            state.catch_up();
            self.set_timer(executor.as_deref(), &mut state);
            (result, std::mem::take(&mut state.woken))
        };
        panics::for_each(woken, Waker::wake);
        result
    }

    /// Sets the timer of the executor to the time at which something happens next.
    fn set_timer(self: &Arc<Self>, executor: Option<&Executor>, state: &mut State) {
        let next = state.later.first_key_value().map(|((at, _), _)| *at);
        if next == state.timer.map(|(at, _)| at) {
            return;
        }
        let Some(executor) = executor else {
            // Only the executor's own thread can set its timers.
            let network = self.clone();
            let call = move || network.with(|_| ());
            return self.remote.send(Message::Call(Box::new(call)));
        };
        if let Some((_, key)) = state.timer.take() {
            executor.remove_timer(key);
        }
        // The waker is our own, so no user code runs here.
        let add = |at| executor.add_timer(at, 0, &Waker::from(self.clone()));
        state.timer = next.map(|at| (at, add(at)));
    }
}

impl Wake for Network {
    fn wake(self: Arc<Self>) {
        self.with(|_| ());
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Network").field(&self.remote).finish()
    }
}
