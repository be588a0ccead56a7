//! A selector: it knows which sockets somebody waits for, and sleeps until one of them is ready.
//!
//! Python's `selectors.DefaultSelector`, on the `polling` crate: epoll on Linux, kqueue on the BSDs
//! and macOS, and so on. The names are Python's. Two things differ. The callback is not data that
//! the caller finds in `key.data`: `select` hands it out. And a callback is called once, not again
//! until somebody unregisters: it can therefore own what it works on (`FnOnce`), and `modify` gives
//! the socket its next one.
//!
//! soloist has such a part inside. This one is here to show what it does.

use polling::{Event as Interest, Events, Poller};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;

/// `EVENT_READ` and `EVENT_WRITE`. A new connection is ready to write when it stands.
pub(crate) enum Event {
    Read,
    Write,
}

pub(crate) type Callback = Box<dyn FnOnce(&Selector) -> io::Result<()>>;

pub(crate) struct Selector {
    poller: Poller,
    /// By the number of their sockets.
    ///
    /// # Invariant
    ///
    /// A socket that the poller knows is in here, which keeps it open.
    registered: RefCell<HashMap<usize, Registered>>,
}

struct Registered {
    socket: Rc<TcpStream>,
    /// `None` when it has been handed out.
    callback: Option<Callback>,
}

impl Selector {
    pub(crate) fn new() -> io::Result<Selector> {
        Ok(Selector {
            poller: Poller::new()?,
            registered: RefCell::default(),
        })
    }

    /// Has `callback` called when the event has come. A socket can be registered once.
    #[expect(unsafe_code, reason = "a poller does not keep its sockets open")]
    pub(crate) fn register(
        &self,
        socket: &Rc<TcpStream>,
        event: Event,
        callback: impl FnOnce(&Selector) -> io::Result<()> + 'static,
    ) -> io::Result<()> {
        let number = number(socket);
        // SAFETY: the socket must be deleted from the poller before it is closed. It goes into
        // `registered`, which keeps it open, and it leaves that only after `delete` (the invariant).
        unsafe { self.poller.add(&**socket, event.interest(number))? };
        let registered = Registered {
            socket: socket.clone(),
            callback: Some(Box::new(callback)),
        };
        self.registered.borrow_mut().insert(number, registered);
        Ok(())
    }

    /// The next event and callback for a socket that is registered.
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

    /// Sleeps until there are events, and returns their callbacks, for the caller to call.
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
                // Rather open for ever than closed while the poller knows it.
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

/// Nobody else has it while the socket is open.
fn number(socket: &TcpStream) -> usize {
    #[cfg(unix)]
    return std::os::fd::AsRawFd::as_raw_fd(socket) as usize;
    #[cfg(windows)]
    return std::os::windows::io::AsRawSocket::as_raw_socket(socket) as usize;
}
