//! Clients and servers on several hosts of a simulated world.

use std::future::IntoFuture;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use soloist::net::TcpListener;
use soloist::testing::{self, Host, Link, World};
use soloist::time::now;
use soloist_hyper::{Client, Error, client, serve};

use crate::support::{Site, large};

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn start(host: &Host) {
    let server = async {
        let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
        serve(listener, Site::default()).into_future().await;
    };
    host.spawn(server).detach();
}

async fn get(client: &Client, path: &str) -> Result<Bytes, Error> {
    let response = client.get(format!("http://web{path}").parse()?).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

#[test]
fn a_request_takes_a_round_trip_and_a_connection_another() {
    testing::simulate(0..10, async |world: World| {
        world.set_default(Link::new().latency(millis(20)));
        let (web, user) = (world.host("web"), world.host("user"));
        start(&web);
        let requests = async {
            let (client, start) = (client(), now());
            assert_eq!(get(&client, "/").await.unwrap(), "hello\n");
            assert_eq!(now() - start, millis(80));
            // Past the pause after which the connection is back in the pool.
            soloist::time::sleep(millis(20)).await;
            assert_eq!(get(&client, "/").await.unwrap(), "hello\n");
            assert_eq!(now() - start, millis(140));
        };
        user.spawn(requests).await;
    });
}

#[test]
fn bytes_survive_partial_reads_and_writes() {
    testing::simulate(0..1, async |world: World| {
        let link = Link::new().latency(millis(5)).jitter(millis(5));
        world.set_default(link.partial(true).window(20_000));
        let (web, user) = (world.host("web"), world.host("user"));
        start(&web);
        let request = async { get(&client(), "/large").await.unwrap() };
        assert!(user.spawn(request).await == large());
    });
}

#[test]
fn a_client_finds_a_server_again_that_was_killed() {
    testing::simulate(0..10, async |world: World| {
        world.set_default(Link::new().latency(millis(20)));
        let (web, user) = (world.host("web"), world.host("user"));
        start(&web);
        let client = client();
        let request = async |path: &'static str| {
            let client = client.clone();
            user.spawn(async move { get(&client, path).await }).await
        };
        assert_eq!(request("/").await.unwrap(), "hello\n");
        let killed = {
            let web = web.clone();
            soloist::spawn(async move {
                soloist::time::sleep(millis(30)).await;
                web.crash();
            })
        };
        // In the middle of a request.
        assert!(request("/slow?60").await.is_err());
        killed.await;
        // While nothing listens.
        assert!(request("/").await.is_err());
        start(&web);
        assert_eq!(request("/").await.unwrap(), "hello\n");
    });
}
