//! The server in a simulated world.

#[allow(dead_code)]
#[path = "../src/main.rs"]
mod chat;

use soloist::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use soloist::net::TcpStream;
use soloist::stream::StreamExt;
use soloist::testing::{Link, World, simulate};
use soloist::time::sleep;
use std::time::Duration;

/// Joins, says a line, and returns all lines until the connection ends.
async fn member(name: &'static str) -> Vec<String> {
    let mut stream = TcpStream::connect("server:6667").await.unwrap();
    stream
        .write_all(format!("{name}\n").as_bytes())
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    stream
        .write_all(format!("I am {name}\n").as_bytes())
        .await
        .unwrap();
    let lines = BufReader::new(stream).lines();
    let lines = lines.take_while(Result::is_ok).map(Result::unwrap);
    lines
        .take_while(|line| !line.contains("bob leaves"))
        .collect()
        .await
}

#[test]
fn over_slow_links_all_members_see_the_same_lines_in_the_same_order() {
    simulate(0..20, async |world: World| {
        let link = Link::new()
            .latency(Duration::from_millis(20))
            .jitter(Duration::from_millis(50));
        world.set_default(link.partial(true));
        let server = world.host("server");
        server
            .spawn(chat::run("0.0.0.0:6667".into(), std::future::pending()))
            .detach();
        sleep(Duration::from_millis(10)).await;
        let ann = world.host("ann").spawn(member("ann"));
        sleep(Duration::from_millis(500)).await;
        let bob = world.host("bob");
        let lines = bob.spawn(member("bob"));
        sleep(Duration::from_secs(5)).await;
        bob.crash();
        let ann = ann.await;
        let says = [
            "* ann joins",
            "* bob joins",
            "ann: I am ann",
            "bob: I am bob",
        ];
        assert_eq!(ann[0], "Your name?");
        assert_eq!(ann[1..], says);
        drop(lines);
        server.crash();
    });
}
