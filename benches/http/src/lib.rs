//! What all servers do: a short text for a GET, and the number of bytes in the body for a POST.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::server::conn::auto;
use std::net::TcpListener;
use std::time::Duration;

/// The same timeout in all servers. It is the default of soloist-hyper.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.method() == Method::GET {
        return Ok(Response::new(Full::from("Hello, World!")));
    }
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(Response::new(Full::from(length.to_string())))
}

/// The options of servers without soloist-hyper.
pub fn http<E, T>(executor: E, timer: T) -> auto::Builder<E>
where
    T: hyper::rt::Timer + Clone + Send + Sync + 'static,
{
    let mut http = auto::Builder::new(executor);
    let mut http1 = http.http1();
    http1.timer(timer).header_read_timeout(HEADER_TIMEOUT);
    http
}

/// Listens on a port that the system picks, and prints it.
pub fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    listener
}
