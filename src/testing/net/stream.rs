//! Streams of the in-memory network.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use super::connection::Connection;
use super::here;
use super::network::Network;
use crate::io::{AsyncRead, AsyncWrite};
use crate::net::{OwnedReadHalf, OwnedWriteHalf, Stream, ToSocketAddrs, first_to_connect, halves};
use crate::sync::{Mutex, lock};
use crate::time::sleep;

/// The name in the error outside of a runtime.
const CONNECT: &str = "`TcpStream::connect`";

/// The pause before connecting is retried if the listener's backlog is full.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The longest keepalive time that Linux accepts.
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// Rounds up to whole seconds, and limits to `most` seconds, as the system does.
#[inline]
fn round_up(time: Duration, most: u64) -> Duration {
    let part = time.subsec_nanos() > 0;
    Duration::from_secs(time.as_secs().saturating_add(part.into()).min(most))
}

/// Returns an error for values that the system does not accept.
#[inline]
pub(super) fn check_ttl(ttl: u32) -> io::Result<()> {
    match ttl {
        1..=255 => Ok(()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// An in-memory connection, with the methods of [`net::TcpStream`](crate::net::TcpStream).
///
/// When the last handle is dropped, the other side reads the end of the stream. If there are unread
/// bytes, the connection is reset, like with the system's TCP.
///
/// # Cancel safety
///
/// A read or write that is dropped before it completes has read or written nothing.
///
/// # Examples
///
/// ```
/// use soloist::{spawn, testing};
/// use soloist::io::{AsyncReadExt, AsyncWriteExt};
/// use soloist::testing::net::{TcpListener, TcpStream};
///
/// testing::block_on(async {
///     let listener = TcpListener::bind("10.0.0.1:80").await?;
///     let server = spawn(async move {
///         let (mut stream, _) = listener.accept().await?;
///         stream.write_all(b"hello").await
///     });
///     let mut text = String::new();
///     TcpStream::connect("10.0.0.1:80").await?.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     server.await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct TcpStream {
    side: Arc<Side>,
}

/// One end of a connection, which is shared by the clones of a stream.
struct Side {
    connection: Arc<Connection>,
    end: usize,
    options: Mutex<Options>,
}

/// Options. They have no effect, except for `linger`, but can be read back.
struct Options {
    nodelay: bool,
    ttl: u32,
    linger: Option<Duration>,
    keepalive: Option<Duration>,
}

impl Drop for Side {
    #[inline]
    fn drop(&mut self) {
        let abort = lock(&self.options).linger == Some(Duration::ZERO);
        self.connection.close(self.end, abort);
    }
}

impl TcpStream {
    /// Returns the streams of the client and of the server.
    #[inline]
    pub(super) fn pair(network: &Network, from: SocketAddr, to: SocketAddr) -> [TcpStream; 2] {
        let connection = Connection::new(network.clone(), [from, to]);
        [0, 1].map(|end| TcpStream {
            side: Arc::new(Side {
                connection: connection.clone(),
                end,
                options: Mutex::new(Options {
                    nodelay: false,
                    ttl: 64,
                    linger: None,
                    keepalive: None,
                }),
            }),
        })
    }

    /// Returns the address of the other side, even after a reset.
    #[inline]
    pub(super) fn peer(&self) -> SocketAddr {
        self.side.connection.addresses[1 - self.side.end]
    }

    /// Opens a connection from [the host of this task](super::on_host). It takes one round trip. If
    /// there are several addresses, it tries them concurrently.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no listener at the address, if a host name is not known to the
    /// network, and outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, a connection that was opened is closed.
    ///
    /// # Examples
    ///
    /// See [`TcpStream`].
    #[inline]
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let network = Network::current_or_error(CONNECT)?;
        let addresses = network.resolve(address)?;
        first_to_connect(addresses, |address| connect_to(network.clone(), address)).await
    }

    /// Returns the address of this side.
    ///
    /// # Errors
    ///
    /// Never returns an error. It returns a `Result` like the method in [`net`](crate::net).
    ///
    /// # Examples
    ///
    /// See [`peer_addr`](TcpStream::peer_addr).
    #[inline]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.side.connection.addresses[self.side.end])
    }

    /// Returns the address of the other side.
    ///
    /// # Errors
    ///
    /// Returns [`NotConnected`](io::ErrorKind::NotConnected) if the connection has been reset, or if
    /// both directions have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing;
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let client = TcpStream::connect("10.0.0.1:80").await?;
    /// let (server, _) = listener.accept().await?;
    /// assert_eq!(client.peer_addr()?, server.local_addr()?);
    /// assert_eq!(server.peer_addr()?, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let Side {
            connection, end, ..
        } = &*self.side;
        if !connection.is_connected(*end) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(connection.addresses[1 - end])
    }

    /// Shuts down one or both directions. After `Write`, bytes in transit still arrive, and then the
    /// other side reads the end of the stream. After `Read`, like on Linux, reads still return bytes
    /// that have arrived or will arrive, and return 0 instead of waiting.
    ///
    /// # Errors
    ///
    /// Returns [`NotConnected`](io::ErrorKind::NotConnected) if the connection has been reset, or if
    /// both directions have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::net::Shutdown;
    /// # use soloist::{io::AsyncReadExt, testing};
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let client = TcpStream::connect("10.0.0.1:80").await?;
    /// let (mut server, _) = listener.accept().await?;
    /// client.shutdown(Shutdown::Write)?;
    /// assert_eq!(server.read(&mut [0; 8]).await?, 0);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.side.connection.shutdown(self.side.end, how)
    }

    /// Reads bytes without removing them: the next read returns them again.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has been reset, and outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{io::{AsyncReadExt, AsyncWriteExt}, testing};
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let mut client = TcpStream::connect("10.0.0.1:80").await?;
    /// let (mut server, _) = listener.accept().await?;
    /// client.write_all(b"GET /").await?;
    /// let mut buf = [0; 3];
    /// assert_eq!(server.peek(&mut buf).await?, 3);
    /// let mut all = [0; 5];
    /// server.read_exact(&mut all).await?;
    /// assert_eq!(&all, b"GET /");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let Side {
            connection, end, ..
        } = &*self.side;
        std::future::poll_fn(|cx| connection.poll_read(*end, cx, buf, true)).await
    }

    /// Returns the value set by [`set_nodelay`](TcpStream::set_nodelay).
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// See [`set_nodelay`](TcpStream::set_nodelay).
    #[inline]
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(lock(&self.side.options).nodelay)
    }

    /// Sets the option, which has no effect: small writes are always sent at once.
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing;
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let stream = TcpStream::connect("10.0.0.1:80").await?;
    /// stream.set_nodelay(true)?;
    /// assert!(stream.nodelay()?);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        lock(&self.side.options).nodelay = nodelay;
        Ok(())
    }

    /// Returns the value set by [`set_ttl`](TcpStream::set_ttl).
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// See [`set_ttl`](TcpStream::set_ttl).
    #[inline]
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(lock(&self.side.options).ttl)
    }

    /// Sets the TTL, which has no effect.
    ///
    /// # Errors
    ///
    /// Returns an error if the value is not between 1 and 255.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing;
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let stream = TcpStream::connect("10.0.0.1:80").await?;
    /// stream.set_ttl(5)?;
    /// assert_eq!(stream.ttl()?, 5);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        check_ttl(ttl)?;
        lock(&self.side.options).ttl = ttl;
        Ok(())
    }

    /// Returns the value set by [`set_linger`](TcpStream::set_linger).
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// See [`set_linger`](TcpStream::set_linger).
    #[inline]
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(lock(&self.side.options).linger)
    }

    /// Sets the linger time, rounded up to seconds. With `Some(Duration::ZERO)` the other side sees a
    /// reset when the stream is dropped. Other values have no effect: dropping never blocks.
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::{io::AsyncReadExt, testing};
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let client = TcpStream::connect("10.0.0.1:80").await?;
    /// let (mut server, _) = listener.accept().await?;
    /// client.set_linger(Some(Duration::ZERO))?;
    /// drop(client);
    /// let error = server.read(&mut [0; 8]).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn set_linger(&self, time: Option<Duration>) -> io::Result<()> {
        let time = time.map(|time| round_up(time, i32::MAX as u64));
        lock(&self.side.options).linger = time;
        Ok(())
    }

    /// Returns the value set by [`set_keepalive`](TcpStream::set_keepalive).
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// See [`set_keepalive`](TcpStream::set_keepalive).
    #[inline]
    pub fn keepalive(&self) -> io::Result<Option<Duration>> {
        Ok(lock(&self.side.options).keepalive)
    }

    /// Sets the keepalive time, rounded up to seconds. It has no effect: no probes are sent.
    ///
    /// # Errors
    ///
    /// Returns an error if the time is longer than the maximum of Linux, 32,767 seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::testing;
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let stream = TcpStream::connect("10.0.0.1:80").await?;
    /// stream.set_keepalive(Some(Duration::from_secs(60)))?;
    /// assert_eq!(stream.keepalive()?, Some(Duration::from_secs(60)));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn set_keepalive(&self, after: Option<Duration>) -> io::Result<()> {
        let after = after.map(|after| round_up(after, u64::MAX).max(Duration::from_secs(1)));
        if after.is_some_and(|after| after > MAX_KEEPALIVE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        lock(&self.side.options).keepalive = after;
        Ok(())
    }

    /// Returns the pending error of the connection, and clears it.
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing;
    /// # use soloist::testing::net::{Network, TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let stream = TcpStream::connect("10.0.0.1:80").await?;
    /// assert!(stream.take_error()?.is_none());
    /// Network::current().reset("127.0.0.1", "10.0.0.1");
    /// assert!(stream.take_error()?.is_some());
    /// assert!(stream.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.side.connection.take_error(self.side.end))
    }

    /// Splits the stream into two owned halves. When the write half is dropped, the other side reads
    /// the end of the stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::{io::{AsyncReadExt, AsyncWriteExt}, spawn, testing};
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// let stream = TcpStream::connect("10.0.0.1:80").await?;
    /// let (other, _) = listener.accept().await?;
    /// let (mut read, mut write) = stream.into_split();
    /// let writer = spawn(async move { write.write_all(b"hello").await });
    /// let echo = spawn(async move { soloist::io::copy(&other, &other).await });
    /// let mut text = String::new();
    /// # writer.await?;
    /// # echo.await?;
    /// read.read_to_string(&mut text).await?;
    /// assert_eq!(text, "hello");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn into_split(self) -> (OwnedReadHalf<TcpStream>, OwnedWriteHalf<TcpStream>) {
        halves(self)
    }
}

#[inline]
async fn connect_to(network: Network, address: SocketAddr) -> io::Result<TcpStream> {
    let from = here(address.ip());
    let to = if address.ip().is_unspecified() {
        // Like the system, which connects to the local host.
        SocketAddr::new(from, address.port())
    } else {
        address
    };
    let from = SocketAddr::new(from, network.free_port());
    loop {
        network.cross(from.ip(), to.ip()).await;
        let Some(listening) = network.listener(to) else {
            network.cross(to.ip(), from.ip()).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let client = listening.offer(&network, from, to);
        // It must not be kept during the pause: its port would stay in use if it is dropped.
        drop(listening);
        if let Some(client) = client {
            network.cross(to.ip(), from.ip()).await;
            return Ok(client);
        }
        // The backlog is full, so the attempt is lost.
        sleep(RETRY_PAUSE).await;
    }
}

impl Stream for TcpStream {
    #[inline]
    fn shut_down_writing(&self) -> io::Result<()> {
        match self.shutdown(Shutdown::Write) {
            // It has already been closed.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    #[inline]
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.side, &other.side)
    }
}

impl AsyncRead for &TcpStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Side {
            connection, end, ..
        } = &*self.side;
        connection.poll_read(*end, cx, buf, false)
    }
}

impl AsyncWrite for &TcpStream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.side.connection.poll_write(self.side.end, cx, buf)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn poll_close(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut_down_writing())
    }
}

impl AsyncRead for TcpStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, buf)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    #[inline]
    fn poll_close(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

impl fmt::Debug for TcpStream {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Side {
            connection, end, ..
        } = &*self.side;
        f.debug_struct("TcpStream")
            .field("addr", &connection.addresses[*end])
            .field("peer", &connection.addresses[1 - end])
            .finish()
    }
}
