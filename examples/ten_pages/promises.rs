//! Way 6: the callbacks complete promises, and tasks await the promises. The event loop is the same, but
//! a fetch is one function again.
//!
//! This is the step of the tutorials from callbacks to coroutines: a `Future` whose `set_result` is
//! called by `on_connected` or `on_readable`, and a `Task` that continues when it is done. A [`promise`]
//! is their `Future`, and `await` is their `yield` or `yield from`. Their `Task.step` sends the result
//! into the generator and registers itself with the next `Future`. Here `poll` and a waker do that:
//! awaiting a promise stores the waker of the task in it, setting it wakes the task, and
//! [`Runtime::turn`] polls the tasks that were woken.

use crate::page::{Job, Used, check, request, start_connecting};
use crate::selector::{Event, Selector};
use soloist::Runtime;
use soloist::promise::promise;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

pub(crate) fn run(job: &Job) -> io::Result<Used> {
    let selector = Rc::new(Selector::new()?);
    let runtime = Runtime::new();
    let fetches: Vec<_> = (0..job.pages)
        .map(|page| runtime.spawn(fetch(selector.clone(), job.server, page)))
        .collect();
    // The event loop: runs the tasks until all of them wait, and then the callbacks.
    loop {
        while runtime.turn(Some(Duration::ZERO))?.ready > 0 {}
        if selector.is_empty() {
            break;
        }
        for callback in selector.select()? {
            callback(&selector)?;
        }
    }
    for (page, fetch) in fetches.into_iter().enumerate() {
        check(page, &runtime.block_on(fetch)?)?;
    }
    Ok(Used::THIS_THREAD)
}

async fn fetch(selector: Rc<Selector>, server: SocketAddr, page: usize) -> io::Result<Vec<u8>> {
    let socket = Rc::new(start_connecting(server)?);
    connected(&selector, &socket).await?;
    // The send buffer of a new connection has room for a line, so this does not block.
    (&*socket).write_all(request(page).as_bytes())?;
    let mut response = Vec::new();
    loop {
        match read(&selector, &socket).await {
            Ok(chunk) if chunk.is_empty() => return Ok(response),
            Ok(chunk) => response.extend_from_slice(&chunk),
            // The event was spurious.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn connected(selector: &Selector, socket: &Rc<TcpStream>) -> io::Result<()> {
    let (promise, promised) = promise();
    selector.register(socket, Event::Write, move |_| {
        // The error, that the task is gone, does not matter.
        let _ = promise.set(());
        Ok(())
    })?;
    promised.await?;
    selector.unregister(socket)?;
    socket.take_error()?.map_or(Ok(()), Err)
}

/// Returns some bytes, or none at the end of the stream.
async fn read(selector: &Selector, socket: &Rc<TcpStream>) -> io::Result<Vec<u8>> {
    let (promise, promised) = promise();
    let on_readable = {
        let socket = socket.clone();
        move || {
            let mut chunk = [0; 4096];
            let n = (&*socket).read(&mut chunk)?;
            Ok(chunk[..n].to_vec())
        }
    };
    selector.register(socket, Event::Read, move |_| {
        let _ = promise.set(on_readable());
        Ok(())
    })?;
    let chunk = promised.await?;
    selector.unregister(socket)?;
    chunk
}
