//! The client, over real sockets.

use std::cell::Cell;
use std::error::Error as _;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use soloist::net::TcpListener;
use soloist::task::yield_now;
use soloist::{Task, block_on, spawn};
use soloist_hyper::{Client, Error, client, serve_with};

use crate::support::{Site, large};

/// A server on a real socket, and the number of its connections.
async fn start(address: &str) -> (SocketAddr, Rc<Cell<usize>>, Task<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Rc::new(Cell::new(0));
    let count = connections.clone();
    let server = serve_with(listener, move |_: &SocketAddr| {
        count.set(count.get() + 1);
        Site::default()
    });
    (address, connections, spawn(server.into_future()))
}

async fn get(client: &Client, url: String) -> Result<Bytes, Error> {
    let response = client.get(url.parse()?).await?;
    let body = response.into_body().collect().await?.to_bytes();
    // The connection goes back to the pool when its tasks have run.
    for _ in 0..10 {
        yield_now().await;
    }
    Ok(body)
}

#[test]
fn requests_one_after_the_other_share_a_connection() {
    block_on(async {
        let (address, connections, _server) = start("127.0.0.1:0").await;
        let client = client();
        for _ in 0..3 {
            assert_eq!(
                get(&client, format!("http://{address}/")).await.unwrap(),
                "hello\n"
            );
        }
        assert!(
            get(&client, format!("http://{address}/large"))
                .await
                .unwrap()
                == large()
        );
        let request = Request::post(format!("http://{address}/echo"));
        let request = request.body(Full::from(large())).unwrap();
        let response = client.request(request).await.unwrap();
        assert!(response.into_body().collect().await.unwrap().to_bytes() == large());
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn host_names_and_ipv6_addresses_are_reached() {
    block_on(async {
        let (address, _, _server) = start("127.0.0.1:0").await;
        let url = format!("http://localhost:{}/", address.port());
        assert_eq!(get(&client(), url).await.unwrap(), "hello\n");
        let (address, _, _server) = start("[::1]:0").await;
        assert_eq!(
            get(&client(), format!("http://{address}/")).await.unwrap(),
            "hello\n"
        );
    });
}

#[test]
fn errors_say_what_failed() {
    block_on(async {
        let cause = async |url: String| {
            let error = client().get(url.parse().unwrap()).await.unwrap_err();
            let source = error.source().unwrap().downcast_ref::<io::Error>();
            let source = source.unwrap();
            (source.kind(), source.to_string())
        };
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let (kind, _) = cause(format!("http://{free}/")).await;
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);
        let (kind, why) = cause("ftp://localhost/".into()).await;
        assert_eq!(kind, io::ErrorKind::InvalidInput);
        assert_eq!(why, "the URL does not start with http:// or https://");
        if cfg!(not(feature = "tls")) {
            let (_, why) = cause("https://localhost/".into()).await;
            assert_eq!(why, "https needs the feature `tls` of soloist-hyper");
        }
    });
}
