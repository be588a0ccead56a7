//! Way 5: a selector tells us when a socket is ready, and calls us back. All pages at once, on one
//! thread, without a core burned.
//!
//! The tutorials' `Crawler` with `selectors.DefaultSelector`: `fetch` registers `connected`, which
//! registers `read_response`, which counts down when the page is there; and the loop that calls the
//! callbacks until none is left. This is all that an event loop is. The price is in the shape of
//! the code: a fetch is no longer one function that one reads from top to bottom, what its steps
//! share has to be kept in `self`, and an error has no caller to go to but the loop.

use crate::page::{Job, Used, check, request, start_connecting};
use crate::selector::{Event, Selector};
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

pub(crate) fn run(job: &Job) -> io::Result<Used> {
    let selector = Selector::new()?;
    let left = Rc::new(Cell::new(job.pages));
    for page in 0..job.pages {
        fetch(&selector, job.server, page, &left)?;
    }
    // The event loop.
    while left.get() > 0 {
        for callback in selector.select()? {
            callback(&selector)?;
        }
    }
    Ok(Used::THIS_THREAD)
}

fn fetch(
    selector: &Selector,
    server: SocketAddr,
    page: usize,
    left: &Rc<Cell<usize>>,
) -> io::Result<()> {
    let fetch = Fetch {
        page,
        socket: Rc::new(start_connecting(server)?),
        response: Vec::new(),
        left: left.clone(),
    };
    let socket = fetch.socket.clone();
    selector.register(&socket, Event::Write, |selector| fetch.connected(selector))
}

/// What Python keeps in `self`. It moves from one callback into the next.
struct Fetch {
    page: usize,
    socket: Rc<TcpStream>,
    response: Vec<u8>,
    /// The pages that are not done yet: the tutorials' `unfinished_fetches`.
    left: Rc<Cell<usize>>,
}

impl Fetch {
    fn connected(self, selector: &Selector) -> io::Result<()> {
        selector.unregister(&self.socket)?;
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        // A connection that is new has room for a line, so this need not wait.
        (&*self.socket).write_all(request(self.page).as_bytes())?;
        let socket = self.socket.clone();
        selector.register(&socket, Event::Read, |selector| {
            self.read_response(selector)
        })
    }

    fn read_response(mut self, selector: &Selector) -> io::Result<()> {
        let mut chunk = [0; 4096];
        match (&*self.socket).read(&mut chunk) {
            Ok(0) => {
                selector.unregister(&self.socket)?;
                check(self.page, &self.response)?;
                self.left.set(self.left.get() - 1);
                return Ok(());
            }
            Ok(n) => self.response.extend_from_slice(&chunk[..n]),
            // A false alarm.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let socket = self.socket.clone();
        selector.modify(&socket, Event::Read, |selector| {
            self.read_response(selector)
        })
    }
}
