//! The suite `sockets`: a server that echoes, and a client that fetches many pages.
//!
//! Reads and writes take and return their buffer, since all runtimes support that: those on io_uring need
//! to own it, the others borrow it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use super::measure::{process_time, report};
use crate::rt::{self, Ctx};

/// Runs until it is killed: `echo BUFFER`, with a buffer of so many bytes per connection.
pub fn echo(arguments: &[String]) {
    let room = arguments[0].parse().expect("the size of a buffer");
    rt::run(|ctx| async move {
        let listener = rt::listener(listen());
        loop {
            let stream = rt::accept(&listener).await;
            rt::detach(ctx.spawn(serve(stream, room)));
        }
    });
}

pub async fn serve(mut stream: rt::Stream, room: usize) {
    let mut buffer = vec![0; room];
    loop {
        let n;
        (n, buffer) = rt::read(&mut stream, buffer).await;
        if n == 0 {
            return;
        }
        buffer = rt::write_all(&mut stream, buffer, n).await;
    }
}

/// Listens and prints the address. Sets TCP_NODELAY, which accepted connections inherit.
pub fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let yes: libc::c_int = 1;
    // SAFETY: the option's value is an int, and is only read.
    unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        );
        // Thousands of clients connect at once.
        libc::listen(listener.as_raw_fd(), 4096);
    }
    println!("{}", listener.local_addr().unwrap());
    listener
}

/// `fetch ADDRESS PAGES`: fetches the pages at once, each on its own connection, which the server closes.
pub fn fetch(arguments: &[String]) {
    let address: SocketAddr = arguments[0].parse().expect("an address");
    let pages: usize = arguments[1].parse().expect("a number of pages");
    rt::run(|ctx| async move {
        // The first time is a warm-up.
        fetch_all(ctx, address, pages).await;
        let cpu = process_time();
        fetch_all(ctx, address, pages).await;
        let cpu = (process_time() - cpu).as_nanos() as f64;
        report("fetch of 1,000 pages: CPU", cpu / pages as f64 / 1000.0);
    });
}

async fn fetch_all(ctx: Ctx, address: SocketAddr, pages: usize) {
    let fetch = |_| ctx.spawn(fetch_one(address));
    let tasks: Vec<_> = (0..pages).map(fetch).collect();
    for task in tasks {
        assert!(rt::output(task.await) > 1_000);
    }
}

async fn fetch_one(address: SocketAddr) -> usize {
    let mut stream = rt::connect(address).await;
    let mut buffer = vec![0; 4096];
    let request = b"GET / HTTP/1.0\r\n\r\n";
    buffer[..request.len()].copy_from_slice(request);
    buffer = rt::write_all(&mut stream, buffer, request.len()).await;
    let (mut n, mut length) = (1, 0);
    while n > 0 {
        (n, buffer) = rt::read(&mut stream, buffer).await;
        length += n;
    }
    length
}
