//! What the tests share: a simulated host, a service, and a raw client.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::service::Service;
use hyper::{Error, Request, Response};
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::testing::{self, World};
use soloist::time::{now, sleep};

pub(crate) const ADDRESS: &str = "server:80";

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Runs a test on a simulated host, with several orders of its tasks.
pub(crate) fn on_host<F>(test: impl Fn(World) -> F)
where
    F: Future<Output = ()> + 'static,
{
    testing::simulate(0..10, async |world| {
        world.host("server").spawn(test(world)).await;
    });
}

pub(crate) async fn listen() -> TcpListener {
    TcpListener::bind(ADDRESS).await.unwrap()
}

/// `/` is a greeting, `/slow?N` one after N seconds, `/echo` the body of the request, `/large` a
/// megabyte, and `/panic` panics. It is not `Send`.
#[derive(Clone, Default)]
pub(crate) struct Site {
    pub(crate) requests: Rc<Cell<usize>>,
}

type Body = BoxBody<Bytes, Error>;

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    let body = http_body_util::Full::new(text.into());
    Response::new(body.map_err(|never| match never {}).boxed())
}

impl Service<Request<Incoming>> for Site {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let requests = self.requests.clone();
        Box::pin(async move {
            requests.set(requests.get() + 1);
            Ok(match request.uri().path() {
                "/slow" => {
                    let wait = request.uri().query().unwrap().parse().unwrap();
                    sleep(seconds(wait)).await;
                    text("slow\n")
                }
                "/echo" => Response::new(request.into_body().boxed()),
                "/large" => text(large()),
                "/panic" => panic!("as requested"),
                _ => text("hello\n"),
            })
        })
    }
}

/// Bytes that differ, so that a wrong order is noticed.
pub(crate) fn large() -> Vec<u8> {
    (0..1_000_000u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect()
}

/// A client that sends what a test says.
pub(crate) struct Raw {
    stream: TcpStream,
    started: Instant,
}

impl Raw {
    pub(crate) async fn connect() -> Raw {
        Raw::connect_to(ADDRESS).await
    }

    pub(crate) async fn connect_to(address: &str) -> Raw {
        let stream = TcpStream::connect(address).await.unwrap();
        let started = now();
        Raw { stream, started }
    }

    pub(crate) fn local_addr(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Requests a page, and returns the body of the response, of which the length must be given.
    pub(crate) async fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.send(&request).await;
        self.response().await.unwrap()
    }

    /// Returns the body of the next response, or `None` if the connection is closed before it.
    pub(crate) async fn response(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte).await {
                Ok(1) => head.push(byte[0].into()),
                _ => return None,
            }
        }
        let head = head.to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        Some(String::from_utf8(body).unwrap())
    }

    /// Waits until the server closes the connection. Returns the seconds since it was made.
    pub(crate) async fn closed(&mut self) -> f64 {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
        (now() - self.started).as_secs_f64()
    }
}
