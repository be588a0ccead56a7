//! hyper in a simulated world.

use std::time::Duration;

use futures_lite::StreamExt;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use soloist::net::{TcpListener, TcpStream};
use soloist::spawn;
use soloist::testing::{self, Link, World};
use soloist::time::now;
use soloist_hyper::Io;

use crate::support::watchdog;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A client and a server of hyper in one test.
#[test]
fn hyper_client_and_server_in_a_simulated_world() {
    watchdog(|| {
        testing::simulate(0..1, async |world: World| {
            let link = Link::new().latency(millis(40)).partial(true);
            world.set_default(link.bandwidth(100_000));
            let (server, client) = (world.host("server"), world.host("client"));
            let listener = server.spawn(TcpListener::bind("0.0.0.0:80")).await.unwrap();
            let serve = async move {
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
            };
            server.spawn(serve).detach();
            let start = now();
            let connect = client.spawn(TcpStream::connect("server:80"));
            let stream = Io::new(connect.await.unwrap());
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
