//! Registering a socket with the reactor, changing its interest, and deregistering it.

use std::io::{self, Read, Write};

use soloist::io::Async;

use crate::support::*;

#[test]
fn waits_for_reading_and_writing_are_independent() {
    async_test(async || {
        let (here, mut there) = tcp_pair();
        let here = Async::new(here).unwrap();
        let log = Log::new();

        // A wait for reading, while the socket is always writable.
        let mut readable = Box::pin(here.readable());
        assert!(poll_once(&mut readable).await.is_pending());
        here.writable().await.unwrap();
        sleep(5 * MS).await;
        assert!(poll_once(&mut readable).await.is_pending());
        there.write_all(b"one").unwrap();
        readable.await.unwrap();
        assert_eq!(here.get_ref().read(&mut [0; 8]).unwrap(), 3);

        // A wait for writing, while the socket is always readable.
        there.write_all(b"two").unwrap();
        let written = fill(&here);
        let mut writable = Box::pin(here.writable());
        assert!(poll_once(&mut writable).await.is_pending());
        here.readable().await.unwrap();
        sleep(5 * MS).await;
        assert!(poll_once(&mut writable).await.is_pending());
        drain(&mut there, written);
        writable.await.unwrap();
        assert_eq!(here.get_ref().read(&mut [0; 8]).unwrap(), 3);

        // Both at once.
        let written = fill(&here);
        let here = Rc::new(here);
        let (reader, writer) = (here.clone(), here.clone());
        let (read, wrote) = (log, log);
        let reader = spawn(async move {
            reader.readable().await.unwrap();
            read.push("readable");
        });
        let writer = spawn(async move {
            writer.writable().await.unwrap();
            wrote.push("writable");
        });
        sleep(5 * MS).await;
        log.assert::<&str>(&[]);
        there.write_all(b"three").unwrap();
        reader.await;
        assert_eq!(log.take(), ["readable"]);
        drain(&mut there, written);
        writer.await;
        assert_eq!(log.take(), ["writable"]);
    });
}

/// Writes until the buffers are full. Returns the number of bytes.
fn fill(stream: &Async<std::net::TcpStream>) -> usize {
    let mut written = 0;
    let mut refusals = 0;
    // The peer's buffer takes more for a while.
    while refusals < 5 {
        match stream.get_ref().write(&[0; 65536]) {
            Ok(n) => {
                written += n;
                refusals = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                refusals += 1;
                thread::sleep(2 * MS);
            }
        }
    }
    written
}

fn drain(from: &mut std::net::TcpStream, bytes: usize) {
    let drained = io::copy(&mut from.take(bytes as u64), &mut io::sink());
    assert_eq!(drained.unwrap(), bytes as u64);
}

#[test]
fn into_inner_returns_a_usable_socket() {
    async_test(async || {
        let (here, mut there) = tcp_pair();
        let mut here = here;
        // Repeatedly: nothing is left of the last registration.
        for _ in 0..3 {
            let source = Async::new(here).unwrap();
            there.write_all(b"x").unwrap();
            source.readable().await.unwrap();
            here = source.into_inner();
            // Still nonblocking, and with its unread bytes.
            assert_eq!(here.read(&mut [0; 2]).unwrap(), 1);
            let error = here.read(&mut [0; 2]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    });
}

/// The registrations in the kernel.
#[cfg(target_os = "linux")]
mod selector {
    use std::os::fd::{AsRawFd, RawFd};

    use crate::support::in_own_process;

    use super::*;

    const READABLE: u32 = 1;
    const WRITABLE: u32 = 4;

    /// The events for which the fd is registered in an epoll of this process.
    fn registered(fd: RawFd) -> Option<u32> {
        let mut found = None;
        for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap() {
            // The fd of the directory has been closed.
            let Ok(info) = std::fs::read_to_string(entry.unwrap().path()) else {
                continue;
            };
            for line in info.lines() {
                let mut words = line.split_whitespace();
                if words.next() == Some("tfd:") && words.next() == Some(&fd.to_string()) {
                    assert_eq!((found, words.next()), (None, Some("events:")));
                    let events = u32::from_str_radix(words.next().unwrap(), 16).unwrap();
                    found = Some(events & (READABLE | WRITABLE));
                }
            }
        }
        found
    }

    fn test() {
        block_on(async {
            let (here, mut there) = tcp_pair();
            let fd = here.as_raw_fd();
            assert_eq!(registered(fd), None);
            // register
            let here = Async::new(here).unwrap();
            assert!(registered(fd).is_some());
            let mut readable = Box::pin(here.readable());
            assert!(poll_once(&mut readable).await.is_pending());
            assert_eq!(registered(fd), Some(READABLE));
            // modify
            let written = fill(&here);
            let mut writable = Box::pin(here.writable());
            assert!(poll_once(&mut writable).await.is_pending());
            assert_eq!(registered(fd), Some(READABLE | WRITABLE));
            drain(&mut there, written);
            writable.await.unwrap();
            there.write_all(b"x").unwrap();
            readable.await.unwrap();
            // unregister
            let here = here.into_inner();
            assert_eq!(registered(fd), None);
            let here = Async::new(here).unwrap();
            assert!(registered(fd).is_some());
            drop(here);
            assert_eq!(registered(fd), None);
            assert_eq!(there.read(&mut [0]).unwrap_or(0), 0, "it is closed");
        });
    }

    #[test]
    fn a_source_is_registered_modified_and_unregistered() {
        in_own_process(|| watchdog(test));
    }
}
