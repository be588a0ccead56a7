//! A selector: it keeps track of the sockets that are waited for, and blocks until one of them is ready.
//!
//! Python's `selectors.DefaultSelector`, on the `polling` crate: epoll on Linux, kqueue on the BSDs and
//! macOS, and so on. The names are Python's. There are two differences. `select` returns the callbacks,
//! where Python's returns keys with the callback in `key.data`. And a callback is called once: it owns
//! its state (`FnOnce`), and `modify` registers the next one.
//!
//! soloist contains such a part, the reactor. This one shows how it works.

use polling::{Event as Interest, Events, Poller};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;

/// `EVENT_READ` and `EVENT_WRITE`. A socket that connects becomes writable when it is connected.
pub(crate) enum Event {
    Read,
    Write,
}

pub(crate) type Callback = Box<dyn FnOnce(&Selector) -> io::Result<()>>;

pub(crate) struct Selector {
    poller: Poller,
    /// By the number of the socket.
    ///
    /// # Invariant
    ///
    /// Every socket in the poller is in this map, which keeps it open.
    registered: RefCell<HashMap<usize, Registered>>,
}

struct Registered {
    socket: Rc<TcpStream>,
    /// `None` after `select` has returned it.
    callback: Option<Callback>,
}

impl Selector {
    pub(crate) fn new() -> io::Result<Selector> {
        Ok(Selector {
            poller: Poller::new()?,
            registered: RefCell::default(),
        })
    }

    /// Registers a callback for an event. A socket can be registered once.
    #[expect(unsafe_code, reason = "a poller does not keep its sockets open")]
    pub(crate) fn register(
        &self,
        socket: &Rc<TcpStream>,
        event: Event,
        callback: impl FnOnce(&Selector) -> io::Result<()> + 'static,
    ) -> io::Result<()> {
        let number = number(socket);
        // SAFETY: the socket must be deleted from the poller before it is closed. `registered` keeps it
        // open from here on, and it is removed from there only after `delete` (the invariant).
        unsafe { self.poller.add(&**socket, event.interest(number))? };
        let registered = Registered {
            socket: socket.clone(),
            callback: Some(Box::new(callback)),
        };
        self.registered.borrow_mut().insert(number, registered);
        Ok(())
    }

    /// Sets the next event and callback of a registered socket.
    pub(crate) fn modify(
        &self,
        socket: &TcpStream,
        event: Event,
        callback: impl FnOnce(&Selector) -> io::Result<()> + 'static,
    ) -> io::Result<()> {
        let number = number(socket);
        self.poller.modify(socket, event.interest(number))?;
        if let Some(registered) = self.registered.borrow_mut().get_mut(&number) {
            registered.callback = Some(Box::new(callback));
        }
        Ok(())
    }

    pub(crate) fn unregister(&self, socket: &TcpStream) -> io::Result<()> {
        self.poller.delete(socket)?;
        self.registered.borrow_mut().remove(&number(socket));
        Ok(())
    }

    /// Blocks until there are events, and returns their callbacks. The caller calls them.
    pub(crate) fn select(&self) -> io::Result<Vec<Callback>> {
        let mut events = Events::new();
        self.poller.wait(&mut events, None)?;
        let mut registered = self.registered.borrow_mut();
        let callbacks = events
            .iter()
            .filter_map(|event| registered.get_mut(&event.key)?.callback.take());
        Ok(callbacks.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.registered.borrow().is_empty()
    }
}

impl Drop for Selector {
    fn drop(&mut self) {
        for (_, Registered { socket, .. }) in self.registered.take() {
            if self.poller.delete(&*socket).is_err() {
                // It must not be closed while it is in the poller.
                std::mem::forget(socket);
            }
        }
    }
}

impl Event {
    fn interest(self, key: usize) -> Interest {
        match self {
            Event::Read => Interest::readable(key),
            Event::Write => Interest::writable(key),
        }
    }
}

/// A number that no other open socket has.
fn number(socket: &TcpStream) -> usize {
    #[cfg(unix)]
    return std::os::fd::AsRawFd::as_raw_fd(socket) as usize;
    #[cfg(windows)]
    return std::os::windows::io::AsRawSocket::as_raw_socket(socket) as usize;
}
