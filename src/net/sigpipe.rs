//! Writes that raise no SIGPIPE.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use socket2::SockRef;

use crate::source::AsRaw;

/// A connected socket. A write fails with `BrokenPipe` when the other side is gone, and
/// that is all: std's vectored writes raise SIGPIPE too (before Rust 1.89 all writes to
/// Unix sockets), which ends a program whose `main` is not of Rust.
#[derive(Debug)]
pub(super) struct NoSigpipe<T>(T);

#[cfg(all(unix, not(target_vendor = "apple")))]
const FLAGS: i32 = libc::MSG_NOSIGNAL;
/// Apple's systems have an option of the socket instead, Windows has no such signal.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const FLAGS: i32 = 0;

/// The system refuses more buffers than this in one call, and takes the first as well.
const BUFFERS: usize = 1024;

impl<T: AsRaw> NoSigpipe<T> {
    pub(super) fn new(socket: T) -> NoSigpipe<T> {
        // It fails for a connection that is gone already: its next write will tell.
        #[cfg(target_vendor = "apple")]
        let _ = SockRef::from(&socket).set_nosigpipe(true);
        NoSigpipe(socket)
    }
}

impl<T> NoSigpipe<T> {
    pub(super) fn get_ref(&self) -> &T {
        &self.0
    }

    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

impl<T: AsRaw> Read for &NoSigpipe<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(&self.0)).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = bufs.len().min(BUFFERS);
        (&*SockRef::from(&self.0)).read_vectored(&mut bufs[..count])
    }
}

impl<T: AsRaw> Write for &NoSigpipe<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        SockRef::from(&self.0).send_with_flags(buf, FLAGS)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = &bufs[..bufs.len().min(BUFFERS)];
        SockRef::from(&self.0).send_vectored_with_flags(bufs, FLAGS)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
impl<T: AsRaw> std::os::fd::AsFd for NoSigpipe<T> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(windows)]
impl<T: AsRaw> std::os::windows::io::AsSocket for NoSigpipe<T> {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.0.as_socket()
    }
}
