//! Blocking reads and writes on top of async ones.

use std::fmt;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use futures_lite::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, AsyncWrite,
    AsyncWriteExt,
};

use crate::executor;
use crate::runtime::Runtime;

/// A blocking adapter for an async I/O object: it implements the traits of `std::io`.
///
/// It has its own [`Runtime`], which runs while the thread waits. If `T` buffers what is written,
/// flush it before dropping the adapter.
///
/// # Panics
///
/// Reading, writing and seeking panic inside a running runtime: they would block the thread
/// that has to run the runtime's tasks. Use `.await` there.
///
/// # Examples
///
/// ```
/// use std::io::Read;
/// use soloist::io::{BlockOn, Cursor};
///
/// let mut text = String::new();
/// BlockOn::new(Cursor::new(b"hello")).read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct BlockOn<T> {
    inner: T,
    runtime: Runtime,
}

impl<T> BlockOn<T> {
    /// Wraps an object.
    ///
    /// # Examples
    ///
    /// See [`BlockOn`].
    pub fn new(inner: T) -> BlockOn<T> {
        BlockOn {
            inner,
            runtime: Runtime::new(),
        }
    }

    /// Returns a reference to the object.
    ///
    /// # Examples
    ///
    /// ```
    /// let blocking = soloist::io::BlockOn::new(5);
    /// assert_eq!(*blocking.get_ref(), 5);
    /// ```
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the object.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut blocking = soloist::io::BlockOn::new(5);
    /// *blocking.get_mut() += 1;
    /// assert_eq!(blocking.into_inner(), 6);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the object. Tasks that it has spawned are cancelled.
    ///
    /// # Examples
    ///
    /// See [`get_mut`](BlockOn::get_mut).
    pub fn into_inner(self) -> T {
        self.inner
    }
}

#[track_caller]
fn check() {
    assert!(
        !executor::is_inside(),
        "`io::BlockOn` inside a running soloist runtime would block the thread that runs it: use \
         `.await` there, or another thread"
    );
}

impl<T: AsyncRead + Unpin> Read for BlockOn<T> {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        check();
        self.runtime.block_on(self.inner.read(buf))
    }
}

impl<T: AsyncBufRead + Unpin> BufRead for BlockOn<T> {
    #[track_caller]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        check();
        self.runtime.block_on(self.inner.fill_buf())
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
    }
}

impl<T: AsyncWrite + Unpin> Write for BlockOn<T> {
    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        check();
        self.runtime.block_on(self.inner.write(buf))
    }

    #[track_caller]
    fn flush(&mut self) -> io::Result<()> {
        check();
        self.runtime.block_on(self.inner.flush())
    }
}

impl<T: AsyncSeek + Unpin> Seek for BlockOn<T> {
    #[track_caller]
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        check();
        self.runtime.block_on(self.inner.seek(to))
    }
}

impl<T: fmt::Debug> fmt::Debug for BlockOn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockOn").field(&self.inner).finish()
    }
}
