//! Writes to sockets without `SIGPIPE`.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::ops::Deref;

use socket2::SockRef;

use crate::reactor::AsRaw;
use crate::socket::MAX_BUFFERS;

/// A connected socket whose writes fail with `BrokenPipe` when the peer is gone, and raise no
/// signal.
///
/// std's vectored writes raise `SIGPIPE` (and before Rust 1.89 all its writes to Unix sockets).
/// That ends the process if `main` is not written in Rust.
#[derive(Debug)]
pub(super) struct NoSigpipe<T>(T);

#[cfg(all(unix, not(target_vendor = "apple")))]
const FLAGS: i32 = libc::MSG_NOSIGNAL;
/// Apple's systems have a socket option instead. Windows has no such signal.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const FLAGS: i32 = 0;

impl<T: AsRaw> NoSigpipe<T> {
    pub(super) fn new(io: T) -> NoSigpipe<T> {
        // This fails if the connection is gone already. Its next write returns an error, too.
        #[cfg(target_vendor = "apple")]
        let _ = SockRef::from(&io).set_nosigpipe(true);
        NoSigpipe(io)
    }

    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for NoSigpipe<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: AsRaw> Read for &NoSigpipe<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(&self.0)).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = bufs.len().min(MAX_BUFFERS);
        (&*SockRef::from(&self.0)).read_vectored(&mut bufs[..count])
    }
}

impl<T: AsRaw> Write for &NoSigpipe<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        SockRef::from(&self.0).send_with_flags(buf, FLAGS)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = &bufs[..bufs.len().min(MAX_BUFFERS)];
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
