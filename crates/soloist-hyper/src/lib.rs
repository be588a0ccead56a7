#![doc = include_str!("../README.md")]

mod connection;
mod connections;
mod connector;
mod io;
mod rt;
mod serve;
mod stream;
#[cfg(feature = "tls")]
pub mod tls;

pub use connector::{Connection, Connector};
pub use hyper_util::service::TowerToHyperService;
pub use io::Io;
pub use rt::{Executor, Timer};
pub use serve::{Listener, Server, serve, serve_with};

use http_body_util::Full;
use hyper::body::Bytes;

/// Any error.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The pooled client of hyper-util, on soloist's sockets.
pub type Client<B = Full<Bytes>> = hyper_util::client::legacy::Client<Connector, B>;

/// Returns a client that keeps connections open for later requests, for 90 seconds at most.
///
/// Its clones share the connections. It does not follow redirects. Another kind of body, or other
/// options, are up to a builder: see [`Connector`].
///
/// # Examples
///
/// ```no_run
/// use http_body_util::{BodyExt, Full};
/// use hyper::Request;
/// use soloist_hyper::{Error, client};
///
/// soloist::block_on(async {
///     let client = client();
///     let page = client.get("http://example.com/".parse()?).await?;
///     println!("{}: {} bytes", page.status(), page.into_body().collect().await?.to_bytes().len());
///
///     let request = Request::post("http://example.com/").body(Full::from("the body"))?;
///     println!("{}", client.request(request).await?.status());
///     Ok::<(), Error>(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
pub fn client() -> Client {
    hyper_util::client::legacy::Client::builder(Executor)
        .pool_timer(Timer)
        .timer(Timer)
        .build(Connector::new())
}
