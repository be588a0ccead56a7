use std::cell::Cell;
use std::future::pending;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::testing::{Link, World, simulate};
use soloist::time::{now, sleep};
use soloist::{net, spawn};

use crate::{PATIENCE, Tool, servers};

#[allow(dead_code)]
#[path = "../../src/bin/proxy.rs"]
mod tool;

use tool::{Options, run};

fn start(target: &str, args: &[&str]) -> (Tool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    let mut tool = Tool::start(command.args(["127.0.0.1:0", target]).args(args));
    let address = tool.address("listening on ");
    (tool, address)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Redis on both sides: the answers, a connection that is open during the drain, and the counts.
#[test]
fn a_drain_lets_open_connections_finish_and_accepts_no_more() {
    let redis = servers::redis();
    let (mut tool, address) = start(&redis.address.to_string(), &[]);
    let mut client = connect(&address);
    let mut reply = [0; 7];
    client.write_all(b"PING\r\n").unwrap();
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply, *b"+PONG\r\n");

    tool.signal("TERM");
    while TcpStream::connect(&address).is_ok() {}
    client.write_all(b"PING\r\n").unwrap();
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply, *b"+PONG\r\n");
    drop(client);
    tool.line_with(": 12 bytes sent, 14 received");
    assert_eq!(tool.status(), Some(0));
}

#[test]
fn the_drain_closes_connections_that_stay_open() {
    let redis = servers::redis();
    let (mut tool, address) = start(&redis.address.to_string(), &["--drain", "0.1"]);
    let mut client = connect(&address);
    client.write_all(b"PING\r\n").unwrap();
    client.read_exact(&mut [0; 7]).unwrap();
    tool.signal("TERM");
    assert_eq!(tool.status(), Some(1));
}

#[test]
fn connections_beyond_the_limit_wait() {
    let redis = servers::redis();
    let (_tool, address) = start(&redis.address.to_string(), &["--max", "1"]);
    let mut reply = [0; 7];
    let mut first = connect(&address);
    first.write_all(b"PING\r\n").unwrap();
    first.read_exact(&mut reply).unwrap();
    let mut second = connect(&address);
    second.write_all(b"PING\r\n").unwrap();
    second
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert!(second.read(&mut reply).is_err());
    drop(first);
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    second.read_exact(&mut reply).unwrap();
    assert_eq!(reply, *b"+PONG\r\n");
}

#[test]
fn without_a_target_the_client_is_closed() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (mut tool, address) = start(&unused.to_string(), &[]);
    assert_eq!(connect(&address).read(&mut [0]).unwrap(), 0);
    tool.line_with("cannot connect to");
}

/// Echoes, and counts the connections that are open at a time.
async fn target(most: Rc<Cell<usize>>) {
    let listener = net::TcpListener::bind("0.0.0.0:80").await.unwrap();
    let open = Rc::new(Cell::new(0));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        open.set(open.get() + 1);
        most.set(most.get().max(open.get()));
        let open = open.clone();
        spawn(async move {
            let _ = soloist::io::copy(&stream, &mut &stream).await;
            open.set(open.get() - 1);
        })
        .detach();
    }
}

/// Sends `length` bytes and returns how many came back.
async fn echo(length: usize) -> std::io::Result<usize> {
    let stream = net::TcpStream::connect("proxy:8080").await?;
    let write = async {
        let mut writer = &stream;
        writer.write_all(&vec![b'x'; length]).await?;
        writer.close().await
    };
    let mut bytes = Vec::new();
    let read = async { (&stream).read_to_end(&mut bytes).await };
    Ok(soloist::future::try_zip(write, read).await?.1)
}

fn world(world: &World, change: impl FnOnce(&mut Options)) -> Rc<Cell<usize>> {
    world.set_default(Link::new().latency(Duration::from_millis(5)).partial(true));
    let most = Rc::new(Cell::new(0));
    world.host("target").spawn(target(most.clone())).detach();
    let mut options = Options::new("0.0.0.0:8080", "target:80");
    change(&mut options);
    world.host("proxy").spawn(run(options, pending())).detach();
    most
}

#[test]
fn in_a_world_all_bytes_arrive_and_the_limit_holds() {
    simulate(0..20, async |w: World| {
        let most = world(&w, |options| options.max = 3);
        sleep(Duration::from_secs(1)).await;
        let clients: Vec<_> = (0..10)
            .map(|n| w.host(&format!("client{n}")).spawn(echo(100_000 + n)))
            .collect();
        for (n, client) in clients.into_iter().enumerate() {
            assert_eq!(client.await.unwrap(), 100_000 + n);
        }
        assert_eq!(most.get(), 3);
        w.host("target").crash();
        w.host("proxy").crash();
    });
}

#[test]
fn in_a_world_a_crash_of_the_target_ends_the_connection_and_silence_the_idle_timeout() {
    simulate(0..10, async |w: World| {
        world(&w, |options| options.idle = Duration::from_secs(60));
        sleep(Duration::from_secs(1)).await;
        let client = w.host("client");
        let start = now();
        let stuck = client.spawn(async {
            let mut stream = net::TcpStream::connect("proxy:8080").await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        });
        sleep(Duration::from_secs(1)).await;
        w.partition(&w.host("proxy"), &w.host("target"));
        let _ = stuck.await;
        let took = now() - start;
        assert!(
            Duration::from_secs(60) <= took && took <= Duration::from_secs(121),
            "{took:?}"
        );
        w.heal(&w.host("proxy"), &w.host("target"));

        let cut = client.spawn(echo(10_000_000));
        sleep(Duration::from_millis(30)).await;
        w.host("target").crash();
        assert_ne!(cut.await.ok(), Some(10_000_000));
        w.host("proxy").crash();
    });
}
