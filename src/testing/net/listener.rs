//! Listeners of the network in memory.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures_lite::Stream;

use super::TcpStream;
use super::network::{Network, wait_in, wake_all};
use super::stream::check_ttl;
use crate::executor;
use crate::net::ToSocketAddrs;
use crate::sync::{Mutex, lock};

/// Connections that wait to be accepted, as in `net`.
const BACKLOG: u32 = 4096;

/// An in-memory listener, with the methods of [`net::TcpListener`](crate::net::TcpListener).
///
/// # Examples
///
/// ```
/// use soloist::testing;
/// use soloist::testing::net::{TcpListener, TcpStream};
///
/// testing::block_on(async {
///     let listener = TcpListener::bind("10.0.0.1:0").await?;
///     let client = TcpStream::connect(listener.local_addr()?).await?;
///     let (_stream, from) = listener.accept().await?;
///     assert_eq!(from, client.local_addr()?);
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct TcpListener {
    listening: Arc<Listening>,
}

/// A listener, which is shared by its clones.
pub(super) struct Listening {
    network: Network,
    pub(super) address: SocketAddr,
    only_v6: bool,
    state: Mutex<State>,
}

struct State {
    room: usize,
    ttl: u32,
    waiting: VecDeque<TcpStream>,
    accepters: Vec<Waker>,
}

impl Listening {
    #[inline]
    pub(super) fn listens_to(&self, host: IpAddr) -> bool {
        match self.address.ip() {
            own if !own.is_unspecified() => own == host,
            IpAddr::V4(_) => host.is_ipv4(),
            IpAddr::V6(_) => host.is_ipv6() || !self.only_v6,
        }
    }

    /// Adds a connection to the backlog. Returns the client's stream, or `None` if the backlog is
    /// full.
    #[inline]
    pub(super) fn offer(
        &self,
        network: &Network,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<TcpStream> {
        {
            let state = lock(&self.state);
            if state.waiting.len() >= state.room {
                return None;
            }
        }
        network.note(format_args!("{from} > {to} connects"));
        let [client, server] = TcpStream::pair(network, from, to);
        let accepters = {
            let mut state = lock(&self.state);
            state.waiting.push_back(server);
            std::mem::take(&mut state.accepters)
        };
        wake_all(accepters);
        Some(client)
    }

    #[inline]
    fn poll_accept(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        executor::inside_or_error("accepting a connection in memory")?;
        let mut waker = Some(cx.waker().clone());
        let accepted = {
            let mut state = lock(&self.state);
            let accepted = state.waiting.pop_front();
            if accepted.is_none() {
                let new = waker.take().expect("it was cloned above");
                waker = wait_in(&mut state.accepters, new);
            }
            accepted.map(|stream| (stream, state.ttl))
        };
        drop(waker);
        let Some((stream, ttl)) = accepted else {
            return Poll::Pending;
        };
        stream.set_ttl(ttl)?;
        // The address is also known if the connection has already been reset.
        let from = stream.peer();
        Poll::Ready(Ok((stream, from)))
    }
}

impl Drop for Listening {
    #[inline]
    fn drop(&mut self) {
        self.network.remove_listener(self);
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        for stream in waiting {
            // Connections that have not been accepted are reset.
            let _ = stream.set_linger(Some(Duration::ZERO));
        }
    }
}

impl TcpListener {
    /// Listens at the first of the addresses that is free. With port 0 the network chooses a port.
    /// At `0.0.0.0` it accepts connections to all IPv4 hosts, at `[::]` to all IPv4 and IPv6 hosts.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is in use, if a host name is not known to the network, and
    /// outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// The future completes at its first poll.
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    #[inline]
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::builder().bind(address).await
    }

    /// Returns a builder, for options that must be set before a listener is created.
    ///
    /// # Examples
    ///
    /// See [`TcpListenerBuilder`].
    #[inline]
    pub fn builder() -> TcpListenerBuilder {
        TcpListenerBuilder {
            backlog: BACKLOG,
            only_v6: false,
            reuse_port: false,
        }
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// Returns an error outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost.
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    #[inline]
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| self.listening.poll_accept(cx)).await
    }

    /// Returns a [`Stream`] of incoming connections, which never ends.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing;
    /// # use soloist::testing::net::{TcpListener, TcpStream};
    /// use soloist::stream::StreamExt;
    /// # testing::block_on(async {
    /// # let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// # let _client = TcpStream::connect("10.0.0.1:80").await?;
    /// let mut incoming = listener.incoming();
    /// while let Some(stream) = incoming.next().await {
    ///     println!("connection from {}", stream?.peer_addr()?);
    /// #   break;
    /// }
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Returns the address that it listens at.
    ///
    /// # Errors
    ///
    /// Never returns an error. It returns a `Result` like the method in [`net`](crate::net).
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    #[inline]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listening.address)
    }

    /// Returns the value set by [`set_ttl`](TcpListener::set_ttl).
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// See [`set_ttl`](TcpListener::set_ttl).
    #[inline]
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(lock(&self.listening.state).ttl)
    }

    /// Sets the TTL, which has no effect. Accepted connections inherit it.
    ///
    /// # Errors
    ///
    /// Returns an error if the value is not between 1 and 255.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing;
    /// # use soloist::testing::net::TcpListener;
    /// # testing::block_on(async {
    /// let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// listener.set_ttl(5)?;
    /// assert_eq!(listener.ttl()?, 5);
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        check_ttl(ttl)?;
        lock(&self.listening.state).ttl = ttl;
        Ok(())
    }

    /// Returns the pending error of the listener. There never is one.
    ///
    /// # Errors
    ///
    /// Never returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use soloist::testing;
    /// # use soloist::testing::net::TcpListener;
    /// # testing::block_on(async {
    /// let listener = TcpListener::bind("10.0.0.1:80").await?;
    /// assert!(listener.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
}

impl fmt::Debug for TcpListener {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.listening.address)
            .finish()
    }
}

/// The stream of [`TcpListener::incoming`]. It never ends.
///
/// # Cancel safety
///
/// No connection is lost.
///
/// # Examples
///
/// See [`TcpListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless they are polled"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let accepted = self.listener.listening.poll_accept(cx);
        accepted.map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}

/// A builder for a [`TcpListener`], for options that must be set before it is created.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{testing, time::timeout};
/// use soloist::testing::net::{TcpListener, TcpStream};
///
/// testing::block_on(async {
///     let _listener = TcpListener::builder().backlog(1).bind("10.0.0.1:80").await?;
///     let _first = TcpStream::connect("10.0.0.1:80").await?;
///     let _second = TcpStream::connect("10.0.0.1:80").await?;
///     // Nobody accepts, and there is no room for another.
///     let third = TcpStream::connect("10.0.0.1:80");
///     assert!(timeout(Duration::from_secs(60), third).await.is_err());
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `bind` to make the listener"]
pub struct TcpListenerBuilder {
    backlog: u32,
    only_v6: bool,
    reuse_port: bool,
}

impl TcpListenerBuilder {
    /// Not supported: with `true`, [`bind`](TcpListenerBuilder::bind) fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use soloist::testing::{self, net::TcpListener};
    ///
    /// testing::block_on(async {
    ///     let builder = TcpListener::builder().reuse_port(true);
    ///     let error = builder.bind("10.0.0.1:80").await.unwrap_err();
    ///     assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    /// });
    /// ```
    #[inline]
    pub fn reuse_port(mut self, reuse: bool) -> TcpListenerBuilder {
        self.reuse_port = reuse;
        self
    }

    /// Sets the number of connections that can wait to be accepted. The default is 4096. Like on
    /// Linux, one more connection can wait.
    ///
    /// # Examples
    ///
    /// See [`TcpListenerBuilder`].
    #[inline]
    pub fn backlog(mut self, connections: u32) -> TcpListenerBuilder {
        self.backlog = connections;
        self
    }

    /// Sets whether a listener at `[::]` accepts only connections to IPv6 addresses. By default it
    /// also accepts connections to IPv4 addresses.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::testing::{self, net::{TcpListener, TcpStream}};
    ///
    /// testing::block_on(async {
    ///     let _listener = TcpListener::builder().only_v6(true).bind("[::]:80").await?;
    ///     assert!(TcpStream::connect("[fd00::1]:80").await.is_ok());
    ///     assert!(TcpStream::connect("10.0.0.1:80").await.is_err());
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn only_v6(mut self, only: bool) -> TcpListenerBuilder {
        self.only_v6 = only;
        self
    }

    /// Listens at the first of the addresses that is free.
    ///
    /// # Errors
    ///
    /// The same as for [`TcpListener::bind`]. Also returns an error if an option is not supported.
    ///
    /// # Cancel safety
    ///
    /// The future completes at its first poll.
    ///
    /// # Examples
    ///
    /// See [`TcpListenerBuilder`].
    #[inline]
    pub async fn bind(self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let network = Network::current_or_error("`TcpListener::bind`")?;
        if self.reuse_port {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the network in memory has no `SO_REUSEPORT`",
            ));
        }
        let mut last = None;
        for address in network.resolve(address)? {
            match self.listen(&network, address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some((address, error)),
            }
        }
        let (address, error) = last.expect("there is at least one address");
        let text = format!("listening at {address} failed: {error}");
        Err(io::Error::new(error.kind(), text))
    }

    #[inline]
    fn listen(&self, network: &Network, mut address: SocketAddr) -> io::Result<TcpListener> {
        if address.port() == 0 {
            address.set_port(network.free_port());
        }
        let listening = Arc::new(Listening {
            network: network.clone(),
            address,
            only_v6: self.only_v6,
            state: Mutex::new(State {
                // Like Linux, it accepts one more.
                room: usize::try_from(self.backlog)
                    .map_or(usize::MAX, |room| room.saturating_add(1)),
                ttl: 64,
                waiting: VecDeque::new(),
                accepters: Vec::new(),
            }),
        });
        network.add_listener(&listening)?;
        Ok(TcpListener { listening })
    }
}
