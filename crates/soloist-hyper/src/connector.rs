//! What the pooled client of hyper-util connects with.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{self, Connected};
use soloist::net::TcpStream;
use tower_service::Service;

use crate::Io;
use crate::stream::BoxStream;
#[cfg(feature = "tls")]
use crate::tls::{self, ClientConfig};

/// Connects for the client of hyper-util, and for other users of a `tower` service.
///
/// It looks up the host name, tries the addresses side by side (Happy Eyeballs), and encrypts the
/// connection if the scheme is `https` (feature `tls`). With TLS it offers HTTP/2 and HTTP/1.1.
///
/// # Errors
///
/// The service returns the error of the lookup, of the connection or of the TLS handshake. The
/// `rustls::Error` of the latter is the [inner error](io::Error::get_ref).
///
/// # Examples
///
/// A client with other options than that of [`client`](crate::client):
///
/// ```
/// use std::time::Duration;
/// use http_body_util::Full;
/// use hyper::body::Bytes;
/// use hyper_util::client::legacy::Client;
/// use soloist_hyper::{Connector, Executor, Timer};
///
/// let client: Client<_, Full<Bytes>> = Client::builder(Executor)
///     .pool_timer(Timer)
///     .pool_idle_timeout(Duration::from_secs(5))
///     .pool_max_idle_per_host(2)
///     .build(Connector::new());
/// ```
#[derive(Clone, Default)]
pub struct Connector {
    #[cfg(feature = "tls")]
    tls: tls::Client,
}

impl Connector {
    /// Returns a connector that trusts the certificate authorities of the system, which are read
    /// at the first `https` connection. Where there are none, it trusts those of Mozilla if the
    /// feature `webpki-roots` is on.
    pub fn new() -> Connector {
        Connector::default()
    }

    /// Returns a connector with a configuration of rustls.
    ///
    /// HTTP/2 is used with a server that chooses it, if `h2` is among the
    /// [`alpn_protocols`](ClientConfig::alpn_protocols).
    #[cfg(feature = "tls")]
    pub fn with_tls(config: ClientConfig) -> Connector {
        let tls = tls::Client::with_config(config);
        Connector { tls }
    }

    async fn connect(self, uri: Uri) -> io::Result<Connection> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "tls") => true,
            Some("https") => return Err(invalid("https needs the feature `tls` of soloist-hyper")),
            _ => return Err(invalid("the URL does not start with http:// or https://")),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await?;
        // Without Nagle's delay, if possible: the peer may have reset the connection.
        let _ = stream.set_nodelay(true);
        #[cfg(feature = "tls")]
        if secure {
            let (stream, h2) = self.tls.handshake(host, stream).await?;
            let io = Io::new(stream);
            return Ok(Connection { io, h2 });
        }
        let io = Io::vectored(Box::new(stream) as BoxStream);
        Ok(Connection { io, h2: false })
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection of a [`Connector`], encrypted or not.
pub struct Connection {
    io: Io<BoxStream>,
    h2: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("h2", &self.h2)
            .finish_non_exhaustive()
    }
}

impl connect::Connection for Connection {
    fn connected(&self) -> Connected {
        match self.h2 {
            true => Connected::new().negotiated_h2(),
            false => Connected::new(),
        }
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
