//! The open connections of a server: how many they are, and how they are told to stop.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum State {
    #[default]
    Serving,
    /// The connections finish their current requests.
    Stopping,
    /// The connections close at once.
    Aborted,
}

#[derive(Default)]
pub(crate) struct Connections {
    state: Cell<State>,
    next_id: Cell<u64>,
    /// In the order in which they were accepted. Each has the waker of its task from its first
    /// poll on.
    open: RefCell<BTreeMap<u64, Option<Waker>>>,
    /// The task of the server, which waits for connections to close.
    server: Cell<Option<Waker>>,
}

impl Connections {
    /// Waits until fewer than `count` connections are open.
    pub(crate) async fn fewer_than(&self, count: usize) {
        poll_fn(|cx| {
            if self.open.borrow().len() < count {
                return Poll::Ready(());
            }
            self.server.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn tell(&self, state: State) {
        self.state.set(state);
        let wakers: Vec<Waker> = self.open.borrow().values().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Counts as an open connection until it is dropped.
pub(crate) struct Open {
    connections: Rc<Connections>,
    id: u64,
}

impl Open {
    pub(crate) fn new(connections: &Rc<Connections>) -> Open {
        let id = connections.next_id.get();
        connections.next_id.set(id + 1);
        connections.open.borrow_mut().insert(id, None);
        let connections = connections.clone();
        Open { connections, id }
    }

    /// Lets the task that calls this be woken when the state changes.
    pub(crate) async fn register(&self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut open = self.connections.open.borrow_mut();
            open.insert(self.id, Some(waker));
            Poll::Ready(())
        })
        .await;
    }

    pub(crate) fn state(&self) -> State {
        self.connections.state.get()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let waker = self.connections.open.borrow_mut().remove(&self.id);
        drop(waker);
        if let Some(server) = self.connections.server.take() {
            server.wake();
        }
    }
}

pub(crate) struct AbortOnDrop(pub(crate) Rc<Connections>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.tell(State::Aborted);
    }
}
