//! hyper and rustls in a simulated world.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::StreamExt;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::testing::{self, Link};
use soloist::time::{self, now, sleep};
use soloist::{Task, spawn};
use soloist_hyper::Io;

use crate::support::watchdog;

/// The programs, as they are.
#[allow(dead_code)]
#[path = "../../examples/http_server.rs"]
mod http_server;
#[allow(dead_code)]
#[path = "../../examples/resp/mod.rs"]
mod resp;

use resp::{Redis, Value};

type Error = Box<dyn std::error::Error>;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Answers each request with its path. Counts the connections.
async fn serve(connections: Rc<Cell<usize>>) -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    let mut incoming = listener.incoming();
    while let Some(stream) = incoming.next().await {
        connections.set(connections.get() + 1);
        let service = hyper::service::service_fn(async |request: Request<Incoming>| {
            let path = request.uri().path().to_string();
            Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(path))))
        });
        let stream = Io::new(stream?);
        spawn(async move {
            let server = hyper::server::conn::http1::Builder::new();
            server.serve_connection(stream, service).await
        })
        .detach();
    }
    Ok(())
}

/// What sends requests, and the task of the connection.
type Connection = (SendRequest<Empty<Bytes>>, Task<hyper::Result<()>>);

/// A client that keeps its connection until a request fails, or takes more than two seconds.
#[derive(Default)]
struct Client {
    connection: Option<Connection>,
}

impl Client {
    async fn get(&mut self, path: &str) -> Result<Bytes, Error> {
        let result = time::timeout(millis(2000), self.try_to_get(path)).await;
        let result = result.unwrap_or_else(|elapsed| Err(elapsed.into()));
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    async fn try_to_get(&mut self, path: &str) -> Result<Bytes, Error> {
        let (sender, _) = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let stream = Io::new(TcpStream::connect("server:80").await?);
                let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
                none.insert((sender, spawn(connection)))
            }
        };
        sender.ready().await?;
        let request = Request::get(path).header("host", "server");
        let response = sender.send_request(request.body(Empty::new())?).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }
}

#[test]
fn hyper_keeps_a_connection_alive_and_replaces_it_after_a_partition() {
    watchdog(|| {
        testing::simulate(0..20, |world| async move {
            let [server, client] = ["server", "client"].map(|name| world.host(name));
            let link = Link::new()
                .latency(millis(40))
                .jitter(millis(10))
                .partial(true);
            world.link(&server, &client).set(link);
            let connections = Rc::new(Cell::new(0));
            server.spawn(serve(connections.clone())).detach();
            sleep(millis(1)).await;

            let start = now();
            let requests = client.spawn(async move {
                let mut client = Client::default();
                let mut failed = Vec::new();
                for number in 0..60 {
                    // Each second.
                    time::sleep_until(start + millis(1000) * number).await;
                    match client.get(&format!("/{number}")).await {
                        Ok(body) => assert_eq!(body, format!("/{number}")),
                        Err(_) => failed.push(number),
                    }
                }
                failed
            });
            time::sleep_until(start + millis(9_500)).await;
            assert_eq!(connections.get(), 1);
            world.partition(&server, &client);
            time::sleep_until(start + millis(14_500)).await;
            world.heal(&server, &client);
            let failed = requests.await;
            // Each takes two seconds. The third one reaches the server when the link is healed.
            assert_eq!(failed, [10, 11]);
            assert_eq!(connections.get(), 2);
        });
    });
}

#[test]
fn hyper_sees_the_crash_of_a_server() {
    watchdog(|| {
        testing::simulate(0..20, |world| async move {
            let [server, client] = ["server", "client"].map(|name| world.host(name));
            world.set_default(Link::new().latency(millis(5)));
            let connections = Rc::new(Cell::new(0));
            server.spawn(serve(connections.clone())).detach();
            sleep(millis(1)).await;
            let requests = client.spawn(async {
                let mut client = Client::default();
                let mut results = Vec::new();
                for _ in 0..4 {
                    results.push(client.get("/").await.is_ok());
                    sleep(millis(1000)).await;
                }
                results
            });
            sleep(millis(1500)).await;
            server.crash();
            sleep(millis(1000)).await;
            server.spawn(serve(connections.clone())).detach();
            assert_eq!(requests.await, [true, true, false, true]);
            assert_eq!(connections.get(), 2);
        });
    });
}

/// The two ends of TLS, with a certificate for the host `server`.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let names = vec!["server".to_string()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = server.with_no_client_auth();
    let server = server
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

#[test]
fn a_rustls_handshake_and_its_data_pass_a_lossy_link() {
    watchdog(|| {
        let (acceptor, connector) = tls();
        testing::simulate(0..20, |world| {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            async move {
                let link = Link::new().latency(millis(20)).jitter(millis(20));
                world.set_default(link.loss(0.1).partial(true));
                let server = world.host("server").spawn(async move {
                    let listener = TcpListener::bind("0.0.0.0:443").await?;
                    let (stream, _) = listener.accept().await?;
                    let mut stream = acceptor.accept(stream).await?;
                    let mut data = Vec::new();
                    stream.read_to_end(&mut data).await?;
                    stream.write_all(&data).await?;
                    stream.close().await
                });
                sleep(millis(1)).await;
                let client = world.host("client").spawn(async move {
                    let stream = TcpStream::connect("server:443").await?;
                    let name = ServerName::try_from("server").unwrap();
                    let mut stream = connector.connect(name, stream).await?;
                    let data: Vec<u8> = (0..30_000_u32).map(|n| n as u8).collect();
                    stream.write_all(&data).await?;
                    stream.close().await?;
                    let mut echo = Vec::new();
                    stream.read_to_end(&mut echo).await?;
                    assert!(echo == data);
                    Ok::<_, io::Error>(())
                });
                client.await?;
                server.await?;
                assert!(world.transcript().contains(" lost"));
                Ok::<_, io::Error>(())
            }
        });
    });
}

#[test]
fn the_http_server_of_the_examples_runs_in_a_world() {
    watchdog(|| {
        testing::simulate(0..5, |world| async move {
            let [server, client] = ["server", "client"].map(|name| world.host(name));
            let link = Link::new().latency(millis(5)).partial(true);
            world.link(&server, &client).set(link);
            let mut args = lexopt::Parser::from_args(["--quiet", "0.0.0.0:80"]);
            let options = http_server::Options::from_args(&mut args).unwrap();
            let serving = server.spawn(http_server::serve(options));
            sleep(millis(1)).await;
            let request = client.spawn(async {
                let mut stream = TcpStream::connect("server:80").await?;
                let request = "POST /echo HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\
                               content-length: 5\r\n\r\nhello";
                stream.write_all(request.as_bytes()).await?;
                let mut response = String::new();
                stream.read_to_string(&mut response).await?;
                Ok::<_, io::Error>(response)
            });
            let response = request.await?;
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            assert!(response.contains("hello"), "{response}");
            drop(serving);
            Ok::<_, io::Error>(())
        });
    });
}

/// A server with one counter, which speaks the protocol of Redis.
async fn counter() -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:6379").await?;
    let mut count = 0;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut received = Vec::new();
        let mut buf = [0; 100];
        // `INCR n` as the client sends it.
        let command = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
        loop {
            let n = stream.read(&mut buf).await?;
            if n == 0 {
                break;
            }
            received.extend_from_slice(&buf[..n]);
            while let Some(rest) = received.strip_prefix(command) {
                received = rest.to_vec();
                count += 1;
                stream.write_all(format!(":{count}\r\n").as_bytes()).await?;
            }
        }
    }
}

#[test]
fn the_redis_client_of_the_examples_runs_in_a_world() {
    watchdog(|| {
        testing::simulate(0..20, |world| async move {
            let [server, client] = ["redis", "client"].map(|name| world.host(name));
            let link = Link::new().latency(millis(5)).jitter(millis(5));
            let link = link.loss(0.1).partial(true);
            world.link(&server, &client).set(link);
            server.spawn(counter()).detach();
            sleep(millis(1)).await;
            let connecting = client.spawn(Redis::connect("redis:6379"));
            let mut redis = connecting.await?;
            let incr: &[&[u8]] = &[b"INCR", b"n"];
            let replies = redis.pipeline(&[incr, incr, incr]).await?;
            assert_eq!(replies, [1, 2, 3].map(Value::Number));
            assert_eq!(redis.call(incr).await?, Value::Number(4));
            server.crash();
            assert!(redis.call(incr).await.is_err());
            Ok::<_, io::Error>(())
        });
    });
}
