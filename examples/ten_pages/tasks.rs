//! Way 7: tasks and streams of soloist. The code is as simple as way 1, and waits like way 5.
//!
//! `asyncio.create_task` is [`spawn`], `asyncio.run` is [`block_on`], `asyncio.open_connection` is
//! [`TcpStream::connect`]. The selector, the callbacks and the event loop are now inside the library: a
//! read that has to wait registers the waker of the task with the reactor, which wakes it when the
//! socket is ready.

use crate::page::{Job, Used, check, request};
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::TcpStream;
use soloist::{block_on, spawn};
use std::io;
use std::net::SocketAddr;

pub(crate) fn run(job: &Job) -> io::Result<Used> {
    block_on(async {
        let fetches: Vec<_> = (0..job.pages)
            .map(|page| spawn(fetch(job.server, page)))
            .collect();
        for (page, fetch) in fetches.into_iter().enumerate() {
            check(page, &fetch.await?)?;
        }
        Ok(Used::THIS_THREAD)
    })
}

async fn fetch(server: SocketAddr, page: usize) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request(page).as_bytes()).await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    Ok(response)
}
