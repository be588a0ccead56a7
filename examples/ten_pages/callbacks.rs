//! Way 5: a selector reports when a socket is ready, and a callback continues the fetch. All pages at
//! once, on one thread, without busy waiting.
//!
//! The tutorials' `Crawler` with `selectors.DefaultSelector`: `fetch` registers `connected`, which
//! registers `read_response`, which counts down when the page is complete. The loop calls callbacks
//! until all pages are done: this is an event loop. The price is the shape of the code. A fetch is no
//! longer one function, the state that its steps share is kept in `self`, and an error can only be
//! returned to the loop.

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

/// The state that Python keeps in `self`. Each callback passes it on to the next.
struct Fetch {
    page: usize,
    socket: Rc<TcpStream>,
    response: Vec<u8>,
    /// The number of pages that are not done yet: the tutorials' `unfinished_fetches`.
    left: Rc<Cell<usize>>,
}

impl Fetch {
    fn connected(self, selector: &Selector) -> io::Result<()> {
        selector.unregister(&self.socket)?;
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        // The send buffer of a new connection has room for a line, so this does not block.
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
            // The event was spurious.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let socket = self.socket.clone();
        selector.modify(&socket, Event::Read, |selector| {
            self.read_response(selector)
        })
    }
}
