//! Streams of the network in memory.

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

/// For the error outside of a runtime.
const CONNECT: &str = "`TcpStream::connect`";

/// When a connection that the other side has no room for is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// The longest time of keepalive that Linux takes.
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// Whole seconds, and not more than `most`: what the system keeps.
#[inline]
fn round_up(time: Duration, most: u64) -> Duration {
    let part = time.subsec_nanos() > 0;
    Duration::from_secs(time.as_secs().saturating_add(part.into()).min(most))
}

/// The values that the system takes.
#[inline]
pub(super) fn check_ttl(ttl: u32) -> io::Result<()> {
    match ttl {
        1..=255 => Ok(()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// A connection in memory, with the methods of [`net::TcpStream`](crate::net::TcpStream).
///
/// Dropping the last handle ends it for the other side; if there are bytes that nobody has
/// read, it breaks it, as it is with the system's.
///
/// # Cancel safety
///
/// A read or write that is dropped before it is done has moved no byte.
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

/// One end of a connection, which the clones of its stream share.
struct Side {
    connection: Arc<Connection>,
    end: usize,
    options: Mutex<Options>,
}

/// What can be set, and changes nothing but what is read back (and `linger`).
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
    /// The two sides of a connection: of who has connected, and of who will accept.
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

    /// The address of the other side, also of a connection that is broken.
    #[inline]
    pub(super) fn peer(&self) -> SocketAddr {
        self.side.connection.addresses[1 - self.side.end]
    }

    /// Opens a connection, from [this task's host](super::on_host). It takes the latency of
    /// the link twice; where there are several addresses, it tries them side by side.
    ///
    /// # Errors
    ///
    /// If nobody listens there. If a host name is not known to the network. Outside of a
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it ends the connection.
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

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// None: it is a `Result` as in [`net`](crate::net).
    ///
    /// # Examples
    ///
    /// See [`peer_addr`](TcpStream::peer_addr).
    #[inline]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.side.connection.addresses[self.side.end])
    }

    /// The address of the other side.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if the connection is broken, or if both
    /// directions have ended.
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

    /// Shuts a direction down. After `Write` the other side reads the end of the stream;
    /// what is on its way arrives. After `Read`, as on Linux, reads return what has arrived
    /// and what still arrives, and 0 where they would wait.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if the connection is broken, or if both
    /// directions have ended.
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

    /// Reads without taking the bytes out: the next read gets them again.
    ///
    /// # Errors
    ///
    /// If the connection is broken, or outside of a runtime.
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

    /// What [`set_nodelay`](TcpStream::set_nodelay) has set.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Examples
    ///
    /// See [`set_nodelay`](TcpStream::set_nodelay).
    #[inline]
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(lock(&self.side.options).nodelay)
    }

    /// Is kept. Small writes are sent at once here anyway.
    ///
    /// # Errors
    ///
    /// None.
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

    /// What [`set_ttl`](TcpStream::set_ttl) has set.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Examples
    ///
    /// See [`set_ttl`](TcpStream::set_ttl).
    #[inline]
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(lock(&self.side.options).ttl)
    }

    /// Is kept. There are no hops here.
    ///
    /// # Errors
    ///
    /// If it is not from 1 to 255.
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

    /// What [`set_linger`](TcpStream::set_linger) has set.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Examples
    ///
    /// See [`set_linger`](TcpStream::set_linger).
    #[inline]
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(lock(&self.side.options).linger)
    }

    /// With `Some(Duration::ZERO)` the other side sees a reset when the stream is dropped.
    /// Any other time is kept, rounded up to seconds, and changes nothing: a drop never
    /// blocks here.
    ///
    /// # Errors
    ///
    /// None.
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

    /// What [`set_keepalive`](TcpStream::set_keepalive) has set.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Examples
    ///
    /// See [`set_keepalive`](TcpStream::set_keepalive).
    #[inline]
    pub fn keepalive(&self) -> io::Result<Option<Duration>> {
        Ok(lock(&self.side.options).keepalive)
    }

    /// Is kept, rounded up to seconds, and has no effect: no probes are sent.
    ///
    /// # Errors
    ///
    /// If it is more than Linux takes: 32,767 seconds.
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

    /// The error that waits for the connection, if there is one; after that it is gone.
    ///
    /// # Errors
    ///
    /// None.
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

    /// The stream in two halves, each with an owner of its own. The other side reads the end
    /// of the stream when the half that writes is dropped.
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
        // As the system does.
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
        // Kept while this waits, it would keep the port of a listener that is dropped.
        drop(listening);
        if let Some(client) = client {
            network.cross(to.ip(), from.ip()).await;
            return Ok(client);
        }
        // No room: as if it had been lost on the way.
        sleep(AGAIN).await;
    }
}

impl Stream for TcpStream {
    #[inline]
    fn shut_down_writing(&self) -> io::Result<()> {
        match self.shutdown(Shutdown::Write) {
            // Closed already.
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
