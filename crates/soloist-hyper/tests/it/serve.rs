//! What a server does, in virtual time.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, upgrade};
use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::testing::Link;
use soloist::time::{now, sleep};
use soloist::{block_on, spawn};
use soloist_hyper::{Error, Executor, Io, Listener, serve, serve_with};

use crate::support::{ADDRESS, Raw, Site, large, listen, on_host, seconds, text};

type Errors = Rc<RefCell<Vec<String>>>;

/// For `on_error`: records the errors of connections.
fn record(errors: &Errors) -> impl Fn(Option<&SocketAddr>, &Error) + 'static {
    let errors = errors.clone();
    move |peer, error| {
        assert!(peer.is_some());
        errors.borrow_mut().push(error.to_string());
    }
}

const NO_REQUEST: &str = "no complete request within the header timeout";
const IDLE: &str = "no byte was transferred within the idle timeout";

#[test]
fn one_connection_serves_several_requests() {
    on_host(async |_| {
        let site = Site::default();
        let server = serve(listen().await, site.clone());
        let _server = spawn(server.into_future());
        let mut client = Raw::connect().await;
        assert_eq!(client.get("/").await, "hello\n");
        assert_eq!(client.get("/slow?3").await, "slow\n");
        client
            .send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345")
            .await;
        assert_eq!(client.response().await.unwrap(), "12345");
        assert_eq!(site.requests.get(), 3);
    });
}

#[test]
fn a_service_can_know_the_peer() {
    on_host(async |_| {
        let server = serve_with(listen().await, |peer: &SocketAddr| {
            let peer = peer.to_string();
            service_fn(move |_: Request<Incoming>| {
                let response = text(peer.clone());
                async { Ok::<_, Infallible>(response) }
            })
        });
        let _server = spawn(server.into_future());
        let mut clients = [Raw::connect().await, Raw::connect().await];
        for client in &mut clients {
            let peer = client.local_addr();
            assert_eq!(client.get("/").await, peer);
        }
    });
}

#[test]
fn http_2_is_recognised_and_runs_requests_side_by_side() {
    on_host(async |_| {
        let _server = spawn(serve(listen().await, Site::default()).into_future());
        let stream = Io::new(TcpStream::connect(ADDRESS).await.unwrap());
        let (sender, connection) = http2::handshake(Executor, stream).await.unwrap();
        spawn(connection).detach();
        let start = now();
        let requests: Vec<_> = ["/slow?2", "/slow?3", "/large"]
            .into_iter()
            .map(|path| {
                let mut sender = sender.clone();
                spawn(async move {
                    let request = Request::get(format!("http://x{path}"));
                    let request = request.body(Full::<Bytes>::default()).unwrap();
                    let response = sender.send_request(request).await.unwrap();
                    response.into_body().collect().await.unwrap().to_bytes()
                })
            })
            .collect();
        let mut bodies = Vec::new();
        for request in requests {
            bodies.push(request.await);
        }
        assert_eq!(bodies[..2], ["slow\n", "slow\n"]);
        assert!(bodies[2] == large());
        assert_eq!(now() - start, seconds(3));
    });
}

#[test]
fn connections_beyond_the_limit_wait_for_one_to_close() {
    on_host(async |_| {
        let server = serve(listen().await, Site::default()).max_connections(2);
        let _server = spawn(server.into_future());
        let (mut first, mut second) = (Raw::connect().await, Raw::connect().await);
        assert_eq!(first.get("/").await, "hello\n");
        assert_eq!(second.get("/").await, "hello\n");
        let start = now();
        let third = spawn(async {
            let body = Raw::connect().await.get("/").await;
            (body, now())
        });
        sleep(seconds(5)).await;
        assert!(!third.is_finished());
        drop(second);
        let (body, when) = third.await;
        assert_eq!((body.as_str(), when - start), ("hello\n", seconds(5)));
        assert_eq!(first.get("/").await, "hello\n");
    });
}

#[test]
fn a_connection_without_a_complete_request_is_closed_after_the_header_timeout() {
    on_host(async |_| {
        // Far from the clock of the system.
        sleep(seconds(24 * 3600)).await;
        let errors = Errors::default();
        let server = serve(listen().await, Site::default())
            .header_timeout(seconds(10))
            .on_error(record(&errors));
        let _server = spawn(server.into_future());
        for sent in [
            "",
            "P",
            "PRI * HTTP/2.0\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n",
        ] {
            let mut client = Raw::connect().await;
            client.send(sent).await;
            assert_eq!(client.closed().await, 10.0, "{sent:?}");
            assert_eq!(errors.take(), [NO_REQUEST], "{sent:?}");
        }
        // The timeout is not for the response.
        let mut client = Raw::connect().await;
        assert_eq!(client.get("/slow?60").await, "slow\n");
        // A connection that is kept alive ends without an error.
        assert_eq!(client.closed().await, 70.0);
        assert!(errors.borrow().is_empty());
        // Unless it stops in the middle of a request.
        let mut client = Raw::connect().await;
        assert_eq!(client.get("/").await, "hello\n");
        sleep(seconds(5)).await;
        client.send("GET / HTT").await;
        assert_eq!(client.closed().await, 10.0);
        assert_eq!(errors.take(), [NO_REQUEST]);
    });
}

#[test]
fn http_2_without_a_request_is_closed_after_the_header_timeout() {
    on_host(async |_| {
        let errors = Errors::default();
        let server = serve(listen().await, Site::default()).on_error(record(&errors));
        let _server = spawn(server.into_future());
        let start = now();
        let stream = Io::new(TcpStream::connect(ADDRESS).await.unwrap());
        let (_sender, connection) = http2::handshake::<_, _, Full<Bytes>>(Executor, stream)
            .await
            .unwrap();
        let _ = connection.await;
        assert_eq!(now() - start, seconds(30));
        assert_eq!(errors.take(), [NO_REQUEST]);
    });
}

#[test]
fn a_connection_that_stalls_is_closed_after_the_idle_timeout() {
    on_host(async |world| {
        world.set_default(Link::new().window(1000));
        let errors = Errors::default();
        let server = serve(listen().await, Site::default())
            .idle_timeout(seconds(10))
            .on_error(record(&errors));
        let _server = spawn(server.into_future());
        // In the middle of a request, after a byte per second.
        let mut client = Raw::connect().await;
        client
            .send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
            .await;
        for _ in 0..25 {
            sleep(seconds(1)).await;
            client.send("x").await;
        }
        // The flag is read every 10 s: at 30 s it is set, and at 40 s it is not.
        assert_eq!(client.closed().await, 40.0);
        assert_eq!(errors.take(), [IDLE]);
        // In the middle of a response that is not read.
        let mut client = Raw::connect().await;
        client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        sleep(seconds(19)).await;
        assert!(errors.borrow().is_empty());
        sleep(seconds(2)).await;
        assert_eq!(errors.take(), [IDLE]);
        // A service that takes long is not idle.
        let mut client = Raw::connect().await;
        assert_eq!(client.get("/slow?100").await, "slow\n");
        assert!(errors.borrow().is_empty());
    });
}

#[test]
fn a_graceful_shutdown_lets_requests_finish_and_closes_idle_connections() {
    on_host(async |_| {
        let server =
            serve(listen().await, Site::default()).with_graceful_shutdown(sleep(seconds(5)));
        let server = spawn(server.into_future());
        let start = now();
        let (mut idle, mut silent) = (Raw::connect().await, Raw::connect().await);
        assert_eq!(idle.get("/").await, "hello\n");
        let mut busy = Raw::connect().await;
        let request = spawn(async move { (busy.get("/slow?8").await, busy.closed().await) });
        assert_eq!(idle.closed().await, 5.0);
        assert_eq!(silent.closed().await, 5.0);
        assert!(TcpStream::connect(ADDRESS).await.is_err());
        assert!(!server.is_finished());
        server.await;
        assert_eq!(now() - start, seconds(8));
        assert_eq!(request.await, ("slow\n".to_string(), 8.0));
    });
}

#[test]
fn a_shutdown_ends_at_its_timeout() {
    on_host(async |_| {
        let server = serve(listen().await, Site::default())
            .with_graceful_shutdown(sleep(seconds(5)))
            .shutdown_timeout(seconds(2));
        let server = spawn(server.into_future());
        let mut client = Raw::connect().await;
        client
            .send("GET /slow?100 HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        let start = now();
        server.await;
        assert_eq!(now() - start, seconds(7));
        assert_eq!(client.response().await, None);
        assert_eq!(now() - start, seconds(7));
    });
}

#[test]
fn a_server_that_is_dropped_closes_its_connections() {
    on_host(async |_| {
        let server = spawn(serve(listen().await, Site::default()).into_future());
        let mut client = Raw::connect().await;
        assert_eq!(client.get("/").await, "hello\n");
        sleep(seconds(1)).await;
        drop(server);
        assert_eq!(client.closed().await, 1.0);
    });
}

#[test]
fn a_panic_of_the_service_ends_only_its_connection() {
    // Not in a simulated world, where a panic fails the test.
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = serve(listener, Site::default()).max_connections(2);
        let _server = spawn(server.into_future());
        let mut one = Raw::connect_to(&address).await;
        let mut other = Raw::connect_to(&address).await;
        one.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(one.response().await, None);
        assert_eq!(other.get("/").await, "hello\n");
        // The place of the first is free.
        let mut third = Raw::connect_to(&address).await;
        assert_eq!(third.get("/").await, "hello\n");
    });
}

#[test]
fn an_error_of_the_service_is_reported() {
    on_host(async |_| {
        let errors = Errors::default();
        let failing = service_fn(async |_: Request<Incoming>| {
            Err::<Response<String>, _>(io::Error::other("no answer"))
        });
        let server = serve(listen().await, failing).on_error(record(&errors));
        let _server = spawn(server.into_future());
        let mut client = Raw::connect().await;
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.response().await, None);
        assert_eq!(errors.take(), ["error from user's Service"]);
    });
}

/// A listener of which the first accepts fail.
struct Failing(TcpListener, Cell<usize>);

impl Listener for Failing {
    type Stream = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        if self.1.get() > 0 {
            self.1.set(self.1.get() - 1);
            return Err(io::Error::other("cannot accept"));
        }
        self.0.accept().await
    }
}

#[test]
fn a_failed_accept_is_reported_and_repeated() {
    on_host(async |_| {
        let failures = Rc::new(Cell::new(0));
        let reported = failures.clone();
        let listener = Failing(listen().await, Cell::new(3));
        let server = serve(listener, Site::default()).on_error(move |peer, error| {
            assert_eq!((peer, error.to_string().as_str()), (None, "cannot accept"));
            reported.set(reported.get() + 1);
        });
        let _server = spawn(server.into_future());
        assert_eq!(Raw::connect().await.get("/").await, "hello\n");
        assert_eq!(failures.get(), 3);
    });
}

#[test]
fn an_upgraded_connection_is_a_stream_of_futures_io() {
    on_host(async |_| {
        let service = service_fn(async |request: Request<Incoming>| {
            spawn(async {
                let mut stream = Io::new(upgrade::on(request).await.unwrap());
                let mut received = [0; 4];
                stream.read_exact(&mut received).await.unwrap();
                received.reverse();
                stream.write_all(&received).await.unwrap();
                stream.close().await.unwrap();
            })
            .detach();
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            let response = response
                .header("connection", "upgrade")
                .header("upgrade", "x");
            Ok::<_, Infallible>(response.body(String::new()).unwrap())
        });
        let server = serve(listen().await, service).idle_timeout(seconds(1));
        let _server = spawn(server.into_future());
        let mut client = TcpStream::connect(ADDRESS).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        client.write_all(request).await.unwrap();
        // The timeouts of the server end with the upgrade.
        sleep(seconds(100)).await;
        client.write_all(b"abcd").await.unwrap();
        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        assert!(received.starts_with("HTTP/1.1 101 "), "{received}");
        assert!(received.ends_with("\r\n\r\ndcba"), "{received}");
    });
}

#[cfg(unix)]
#[test]
fn it_serves_on_a_unix_socket() {
    use soloist::net::unix::{UnixListener, UnixStream};
    let path = std::env::temp_dir().join(format!("soloist-hyper-{}", std::process::id()));
    block_on(async {
        let listener = UnixListener::bind(&path).unwrap();
        let _server = spawn(serve(listener, Site::default()).into_future());
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        assert!(received.ends_with("\r\n\r\nhello\n"), "{received}");
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn timeouts_may_be_longer_than_the_clock_can_say() {
    on_host(async |_| {
        for timeout in [Duration::MAX, seconds(u64::MAX)] {
            let server = serve(listen().await, Site::default())
                .header_timeout(timeout)
                .idle_timeout(timeout)
                .shutdown_timeout(timeout);
            let server = spawn(server.into_future());
            let mut client = Raw::connect().await;
            sleep(seconds(24 * 3600)).await;
            assert_eq!(client.get("/").await, "hello\n");
            server.cancel().await;
        }
    });
}
