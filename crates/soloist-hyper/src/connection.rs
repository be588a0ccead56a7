//! The task of a connection: the TLS handshake, the requests, and the timeouts.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::server::conn::auto;
use soloist::io::{AsyncRead, AsyncWrite};
use soloist::time::{now, sleep};

use crate::connections::{Open, State};
use crate::stream::BoxStream;
use crate::{Error, Executor, Io};

/// The options of a connection.
pub(crate) struct Options {
    pub(crate) http: auto::Builder<Executor>,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<futures_rustls::TlsAcceptor>,
}

/// Serves a connection until it is closed.
pub(crate) async fn drive<S, B>(
    stream: BoxStream,
    service: S,
    options: &Options,
    open: &Open,
) -> Result<(), Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Future: 'static,
    S::Error: Into<Error>,
    B: Body + 'static,
    B::Error: Into<Error>,
{
    open.register().await;
    let mut header = pin!(sleep(options.header_timeout));
    let vectored = true;
    #[cfg(feature = "tls")]
    let (stream, vectored) = match &options.tls {
        None => (stream, vectored),
        Some(acceptor) => {
            let mut handshake = acceptor.accept(stream);
            let stream = poll_fn(|cx| {
                if open.state() != State::Serving {
                    return Poll::Ready(Ok(None));
                }
                match Pin::new(&mut handshake).poll(cx) {
                    Poll::Ready(stream) => Poll::Ready(stream.map(Some)),
                    Poll::Pending => header.as_mut().poll(cx).map(|()| Err(no_request())),
                }
            });
            match stream.await? {
                Some(stream) => (Box::new(stream) as BoxStream, false),
                None => return Ok(()),
            }
        }
    };

    let traffic = Arc::new(Traffic::default());
    let stream = Watched {
        stream,
        traffic: traffic.clone(),
    };
    let service = Counted {
        service,
        traffic: traffic.clone(),
    };
    let http = options
        .http
        .serve_connection_with_upgrades(Io::with(stream, vectored), service);
    let mut http = pin!(http);
    let mut idle = pin!(sleep(options.idle_timeout));
    let watched = options.idle_timeout < Duration::MAX;
    let mut stopping = false;
    poll_fn(|cx| {
        match open.state() {
            State::Serving => {}
            State::Stopping if stopping => {}
            State::Stopping => {
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
            State::Aborted => return Poll::Ready(Ok(())),
        }
        if let Poll::Ready(served) = http.as_mut().poll(cx) {
            return Poll::Ready(served.or_else(|error| {
                let has_requested = traffic.has_requested.load(Relaxed);
                let kept_alive = has_requested && !traffic.received.load(Relaxed);
                match error.downcast_ref::<hyper::Error>() {
                    Some(error) if error.is_timeout() && kept_alive => Ok(()),
                    Some(error) if error.is_timeout() => Err(no_request().into()),
                    // How hyper-util reports a shutdown before the first request.
                    None if stopping && !has_requested => Ok(()),
                    _ => Err(error),
                }
            }));
        }
        if !traffic.has_requested.load(Relaxed) && header.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(no_request().into()));
        }
        while watched && idle.as_mut().poll(cx).is_ready() {
            if traffic.is_idle() {
                let why = "no byte was transferred within the idle timeout";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why).into()));
            }
            idle.reset(now() + options.idle_timeout);
        }
        Poll::Pending
    })
    .await
}

fn no_request() -> io::Error {
    let why = "no complete request within the header timeout";
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// The activity on a connection. Only its own task uses it, but a stream that is to be upgraded
/// must be `Send`.
#[derive(Default)]
struct Traffic {
    /// A byte was transferred, or a response was computed, since `is_idle` was called. A flag is
    /// cheaper than a timer that each read and write resets.
    moved: AtomicBool,
    /// A byte was read since the last write.
    received: AtomicBool,
    /// Responses that are being computed.
    busy: AtomicUsize,
    /// The service was called at least once.
    has_requested: AtomicBool,
}

impl Traffic {
    fn is_idle(&self) -> bool {
        let moved = self.moved.load(Relaxed);
        self.moved.store(false, Relaxed);
        !moved && self.busy.load(Relaxed) == 0
    }
}

/// A stream that records its activity.
struct Watched {
    stream: BoxStream,
    traffic: Arc<Traffic>,
}

impl Watched {
    fn record<T>(&self, result: Poll<T>, read: bool) -> Poll<T> {
        if result.is_ready() {
            self.traffic.moved.store(true, Relaxed);
            self.traffic.received.store(read, Relaxed);
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.record(read, true)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.record(written, false)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.record(written, false)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// A service that records when it is busy.
struct Counted<S> {
    service: S,
    traffic: Arc<Traffic>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Computing<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.traffic.has_requested.store(true, Relaxed);
        self.traffic.busy.fetch_add(1, Relaxed);
        let busy = Busy(self.traffic.clone());
        let future = self.service.call(request);
        Computing { future, busy }
    }
}

pin_project_lite::pin_project! {
    struct Computing<F> {
        #[pin]
        future: F,
        busy: Busy,
    }
}

impl<F: Future> Future for Computing<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

struct Busy(Arc<Traffic>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
        self.0.moved.store(true, Relaxed);
    }
}
