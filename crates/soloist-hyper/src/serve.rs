//! A server: accepts connections, and serves HTTP/1 and HTTP/2 on them.

use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::server::conn::auto;
use soloist::future::or;
use soloist::io::{AsyncRead, AsyncWrite};
use soloist::net::{TcpListener, TcpStream};
use soloist::time::sleep;
use soloist::{spawn, task::yield_now};

use crate::connection::{Options, drive};
use crate::connections::{AbortOnDrop, Connections, Open, State};
use crate::{Error, Executor, Timer};

/// What a [`Server`] accepts connections from.
///
/// It is implemented for `soloist::net::TcpListener` and, on Unix, `UnixListener`.
pub trait Listener {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// The address of the peer.
    type Addr;

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// The server reports an error to [`Server::on_error`] and calls `accept` again.
    ///
    /// # Cancel safety
    ///
    /// An implementation must not lose a connection if the future is dropped.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Addr)>>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, Self::Addr)> {
        let (stream, peer) = self.accept().await?;
        // Without Nagle's delay, if possible: the peer may have reset the connection.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

#[cfg(unix)]
impl Listener for soloist::net::unix::UnixListener {
    type Stream = soloist::net::unix::UnixStream;
    type Addr = std::os::unix::net::SocketAddr;

    async fn accept(&self) -> io::Result<(Self::Stream, Self::Addr)> {
        self.accept().await
    }
}

/// Serves HTTP/1 and HTTP/2 on the connections of a listener, with one service for all.
///
/// The service need not be `Send`. For a service of tower, such as the router of axum, wrap it in
/// [`TowerToHyperService`](crate::TowerToHyperService).
///
/// # Examples
///
/// ```no_run
/// use std::convert::Infallible;
/// use hyper::{Request, Response, body::Incoming, service::service_fn};
/// use soloist::{block_on, net::TcpListener};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
///     let hello = async |request: Request<Incoming>| {
///         Ok::<_, Infallible>(Response::new(format!("This is {}.\n", request.uri().path())))
///     };
///     soloist_hyper::serve(listener, service_fn(hello)).max_connections(1000).await;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn serve<L, S>(listener: L, service: S) -> Server<L, impl Fn(&L::Addr) -> Rc<S>>
where
    L: Listener,
{
    let service = Rc::new(service);
    serve_with(listener, move |_: &L::Addr| service.clone())
}

/// Like [`serve`], with a service for each connection, made by a function that gets the address of
/// the peer.
///
/// # Examples
///
/// ```no_run
/// use std::{convert::Infallible, net::SocketAddr};
/// use hyper::{Request, Response, body::Incoming, service::service_fn};
/// use soloist::{block_on, net::TcpListener};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
///     soloist_hyper::serve_with(listener, |peer: &SocketAddr| {
///         let greeting = format!("Hello, {peer}.\n");
///         service_fn(move |_: Request<Incoming>| {
///             let response = Response::new(greeting.clone());
///             async { Ok::<_, Infallible>(response) }
///         })
///     })
///     .await;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn serve_with<L, M, S>(listener: L, make: M) -> Server<L, M>
where
    L: Listener,
    M: Fn(&L::Addr) -> S,
{
    Server {
        listener,
        make,
        options: Options {
            http: auto::Builder::new(Executor),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::MAX,
            #[cfg(feature = "tls")]
            tls: None,
        },
        max_connections: usize::MAX,
        shutdown: Box::pin(pending()),
        shutdown_timeout: Duration::MAX,
        on_error: Box::new(|_, _| {}),
    }
}

/// A server with its options. `.await` runs it.
///
/// It ends only after [`with_graceful_shutdown`](Server::with_graceful_shutdown), when all
/// connections are closed. Each connection is a task. A service that panics ends its own
/// connection.
///
/// # Cancel safety
///
/// If the future is dropped, all connections are closed.
///
/// # Examples
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use hyper::{Request, Response, body::Incoming, service::service_fn};
/// use soloist::{block_on, net::TcpListener, time::sleep};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let hello = service_fn(async |_: Request<Incoming>| {
///         Ok::<_, Infallible>(Response::new("Hello.\n".to_string()))
///     });
///     soloist_hyper::serve(listener, hello)
///         .max_connections(1000)
///         .header_timeout(Duration::from_secs(10))
///         .idle_timeout(Duration::from_secs(60))
///         .with_graceful_shutdown(sleep(Duration::from_millis(10)))
///         .shutdown_timeout(Duration::from_secs(5))
///         .on_error(|peer, error| eprintln!("{peer:?}: {error}"))
///         .await;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a server does nothing unless it is awaited"]
pub struct Server<L: Listener, M> {
    listener: L,
    make: M,
    options: Options,
    max_connections: usize,
    shutdown: Pin<Box<dyn Future<Output = ()>>>,
    shutdown_timeout: Duration,
    on_error: OnError<L::Addr>,
}

type OnError<A> = Box<dyn Fn(Option<&A>, &Error)>;

impl<L: Listener, M> Server<L, M> {
    /// Limits the connections at once. While there are so many, no more are accepted: they wait in
    /// the queue of the listener. There is no limit by default.
    ///
    /// # Panics
    ///
    /// Panics if the limit is 0.
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server needs at least one connection");
        self.max_connections = connections;
        self
    }

    /// Closes a connection that has brought no complete head of a request for this long (30 s):
    /// after it was accepted, TLS handshake included, and in HTTP/1 after each response.
    ///
    /// The second case is the usual end of a connection that is kept alive, and no error.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.options.header_timeout = timeout;
        self
    }

    /// Closes a connection that has transferred no byte for this long (at most twice this long)
    /// while the service is not computing a response. Off by default.
    ///
    /// This is for peers that stop in the middle of a request or of a response. A response whose
    /// body has nothing to send for this long is cut off, too.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = timeout;
        self
    }

    /// Sets other options of HTTP/1 and HTTP/2.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(listener: soloist::net::TcpListener) {
    /// # let service = hyper::service::service_fn(async |_: hyper::Request<hyper::body::Incoming>| {
    /// #     Ok::<_, std::convert::Infallible>(hyper::Response::new(String::new()))
    /// # });
    /// soloist_hyper::serve(listener, service)
    ///     .http(|http| {
    ///         http.http1().max_buf_size(64 * 1024);
    ///         http.http2().max_concurrent_streams(100);
    ///     })
    ///     .await;
    /// # }
    /// ```
    pub fn http(mut self, set: impl FnOnce(&mut auto::Builder<Executor>)) -> Self {
        set(&mut self.options.http);
        self
    }

    /// Encrypts the connections. Clients that offer `h2` get HTTP/2 only if it is among the
    /// [`alpn_protocols`](crate::tls::ServerConfig::alpn_protocols) of the
    /// configuration.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: crate::tls::ServerConfig) -> Self {
        self.options.tls = Some(std::sync::Arc::new(config).into());
        self
    }

    /// Stops when `signal` is ready: closes the listener and the idle connections, and lets the
    /// current requests finish.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(listener: soloist::net::TcpListener) {
    /// # let service = hyper::service::service_fn(async |_: hyper::Request<hyper::body::Incoming>| {
    /// #     Ok::<_, std::convert::Infallible>(hyper::Response::new(String::new()))
    /// # });
    /// soloist_hyper::serve(listener, service)
    ///     .with_graceful_shutdown(async { soloist::signal::ctrl_c().await.unwrap() })
    ///     .await;
    /// # }
    /// ```
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + 'static) -> Self {
        self.shutdown = Box::pin(signal);
        self
    }

    /// Limits how long a graceful shutdown waits for the current requests. Then it closes their
    /// connections. There is no limit by default.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Calls `report` with each error: without an address if no connection could be accepted, and
    /// with the address of the peer if a connection failed. Without this, errors are ignored.
    pub fn on_error(mut self, report: impl Fn(Option<&L::Addr>, &Error) + 'static) -> Self {
        self.on_error = Box::new(report);
        self
    }
}

impl<L: Listener + fmt::Debug, M> fmt::Debug for Server<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl<L, M, S, B> IntoFuture for Server<L, M>
where
    L: Listener + 'static,
    M: Fn(&L::Addr) -> S + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Future: 'static,
    S::Error: Into<Error>,
    B: Body + 'static,
    B::Error: Into<Error>,
{
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()>>>;

    fn into_future(mut self) -> Self::IntoFuture {
        let http = &mut self.options.http;
        http.http2().timer(Timer);
        let mut http1 = http.http1();
        http1.timer(Timer);
        // hyper adds the timeout to the time, which must not overflow.
        let timeout = self.options.header_timeout;
        let deadline = Instant::now().checked_add(timeout);
        http1.header_read_timeout(deadline.map(|_| timeout));
        Box::pin(self.run())
    }
}

impl<L: Listener + 'static, M> Server<L, M> {
    async fn run<S, B>(self)
    where
        M: Fn(&L::Addr) -> S + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Future: 'static,
        S::Error: Into<Error>,
        B: Body + 'static,
        B::Error: Into<Error>,
    {
        let connections = Rc::new(Connections::default());
        let _abort = AbortOnDrop(connections.clone());
        let (options, on_error) = (Rc::new(self.options), Rc::new(self.on_error));
        let accept = async {
            loop {
                connections.fewer_than(self.max_connections).await;
                let (stream, peer) = match self.listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        on_error(None, &error.into());
                        yield_now().await;
                        continue;
                    }
                };
                let service = (self.make)(&peer);
                let (options, on_error) = (options.clone(), on_error.clone());
                let open = Open::new(&connections);
                spawn(async move {
                    let served = drive(Box::new(stream), service, &options, &open).await;
                    if let Err(error) = served {
                        on_error(Some(&peer), &error);
                    }
                })
                .detach();
            }
        };
        or(self.shutdown, accept).await;
        drop(self.listener);
        connections.tell(State::Stopping);
        or(connections.fewer_than(1), sleep(self.shutdown_timeout)).await;
    }
}
