use std::cell::Cell;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use soloist::io::{AsyncReadExt, AsyncWriteExt};
use soloist::net;
use soloist::testing::{Link, World, simulate};
use soloist::time::sleep;

use crate::Tool;
use crate::programs::run as run_program;

#[allow(dead_code)]
#[path = "../../src/bin/statsd.rs"]
mod tool;

use tool::{Metrics, run};

fn rendered(datagrams: &[&str]) -> String {
    let mut metrics = Metrics::default();
    for datagram in datagrams {
        metrics.receive(datagram.as_bytes());
    }
    metrics.render()
}

fn lines(received: usize, rejected: usize) -> String {
    format!(
        "# TYPE statsd_lines_total counter\n\
         statsd_lines_total{{result=\"received\"}} {received}\n\
         statsd_lines_total{{result=\"rejected\"}} {rejected}\n"
    )
}

#[test]
fn each_kind_of_metric() {
    let text = rendered(&[
        "a.b:1|c\na.b:2|c|@0.1\n",
        "g:5|g",
        "g:-2|g",
        "t:10|ms",
        "t:20|h|@0.5",
        "u:x|s",
        "u:y|s",
        "u:x|s",
    ]);
    let metrics = "# TYPE a_b counter\na_b 21\n# TYPE g gauge\ng 3\n\
                   # TYPE t summary\nt_count 3\nt_sum 50\n# TYPE u gauge\nu 2\n";
    assert_eq!(text, format!("{metrics}{}", lines(9, 0)));
}

#[test]
fn tags_become_labels() {
    let text = rendered(&[
        "n:1|c|#path:/x,kind:a\"b",
        "n:1|c",
        "n:1|c|#path:/x,kind:a\"b",
    ]);
    let metrics = "# TYPE n counter\nn 1\nn{path=\"/x\",kind=\"a\\\"b\"} 2\n";
    assert_eq!(text, format!("{metrics}{}", lines(3, 0)));
}

#[test]
fn invalid_lines_are_counted_and_change_nothing() {
    let invalid = [
        "", "n", "n:1", "n:x|c", "n:inf|c", ":1|c", "n:1|z", "n:1|c|@0", "n:1|c|@2", "n:1|c|#x",
        "n:|g",
    ];
    let text = rendered(&invalid);
    assert_eq!(text, lines(10, 10));
    let text = rendered(&["n:1|c", "n:1|g"]);
    assert_eq!(text, format!("# TYPE n counter\nn 1\n{}", lines(2, 1)));
}

#[test]
fn nc_sends_and_curl_reads() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statsd"));
    let mut tool = Tool::start(command.args(["127.0.0.1:0", "127.0.0.1:0"]));
    let udp = tool.address("statsd on ");
    let http = tool.address("http on ");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..10 {
        socket.send_to(b"requests:1|c", &udp).unwrap();
    }
    let (host, port) = udp.split_once(':').unwrap();
    let nc = format!("printf 'requests:90|c\\n' | nc -u -w0 {host} {port}");
    assert_eq!(
        run_program(Command::new("sh").args(["-c", &nc])).status,
        Some(0)
    );
    let curl = |path: &str| {
        let url = format!("http://{http}{path}");
        run_program(Command::new("curl").args(["-s", "-w", "%{http_code} %{content_type}", &url]))
            .out
    };
    // The datagrams are received in order, and before a request that is made later.
    let wanted = format!(
        "# TYPE requests counter\nrequests 100\n{}200 text/plain; version=0.0.4",
        lines(11, 0)
    );
    assert_eq!(curl("/metrics"), wanted);
    assert!(curl("/").starts_with("see /metrics\n404"));
    tool.signal("INT");
    assert_eq!(tool.status(), Some(0));
}

/// Datagrams that the network loses are missing, and nothing else is.
#[test]
fn in_a_world_that_loses_datagrams_the_count_is_that_of_those_that_arrive() {
    let least = &Cell::new(100);
    simulate(0..20, |world: World| async move {
        world.set_default(Link::new().latency(Duration::from_millis(2)).loss(0.2));
        let server = world.host("server");
        server
            .spawn(run("0.0.0.0:8125".into(), "0.0.0.0:80".into()))
            .detach();
        sleep(Duration::from_secs(1)).await;
        let client = world.host("client").spawn(async {
            let socket = net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
            for _ in 0..100 {
                socket.send_to(b"n:1|c", "server:8125").await.unwrap();
            }
            sleep(Duration::from_secs(1)).await;
            let mut stream = net::TcpStream::connect("server:80").await.unwrap();
            let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        });
        let text = client.await;
        let number = |name: &str| {
            let rest = &text[text.find(name).expect(&text) + name.len()..];
            rest.lines().next().unwrap().trim().parse::<u64>().unwrap()
        };
        let count = number("\nn ");
        assert_eq!(number("result=\"received\"}"), count);
        assert!(count <= 100);
        least.set(least.get().min(count));
        server.crash();
    });
    assert!((50..100).contains(&least.get()), "{least:?}");
}
