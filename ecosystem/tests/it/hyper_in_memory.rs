//! hyper over the network in memory.

use std::time::Duration;

use futures_lite::StreamExt;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use soloist::testing::net::{Link, Network, TcpListener, TcpStream};
use soloist::time::now;
use soloist::{spawn, testing};
use soloist_hyper::Io;

use crate::support::watchdog;

const ADDRESS: &str = "10.0.0.1:80";

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A client and a server of hyper in one test.
#[test]
fn hyper_client_and_server_over_the_network_in_memory() {
    watchdog(|| {
        testing::block_on(async {
            let link = Link::new().latency(millis(40)).partial(true);
            Network::current().set_default(link.bandwidth(100_000));
            let listener = TcpListener::bind(ADDRESS).await.unwrap();
            spawn(async move {
                let mut incoming = listener.incoming();
                while let Some(stream) = incoming.next().await {
                    let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                        let path = request.uri().path().to_string();
                        let body = format!("{path} ").repeat(1000);
                        Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(body))))
                    });
                    let stream = Io::new(stream.unwrap());
                    spawn(async move {
                        let server = hyper::server::conn::http1::Builder::new();
                        server.serve_connection(stream, service).await
                    })
                    .detach();
                }
            })
            .detach();
            let start = now();
            let stream = Io::new(TcpStream::connect(ADDRESS).await.unwrap());
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.unwrap();
            spawn(connection).detach();
            for path in ["/one", "/two"] {
                let request = Request::get(path).header("host", "x");
                let request = request.body(Empty::<Bytes>::new()).unwrap();
                let response = sender.send_request(request).await.unwrap();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body.len(), 5000);
            }
            // Two round trips and the handshake, and 10 kB at 100 kB/s.
            let took = now() - start;
            assert!(millis(340) < took && took < millis(360), "{took:?}");
        });
    });
}
