use std::convert::Infallible;
use std::process::Command;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use soloist::net::TcpListener;
use soloist::testing::{Link, World, simulate};
use soloist::time::{now, sleep};

use crate::programs::{Output, run};
use crate::servers;

#[allow(dead_code)]
#[path = "../../src/bin/links.rs"]
mod tool;

fn links(args: &[&str]) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_links")).args(args))
}

/// Python's server redirects a directory without a slash.
#[test]
fn broken_links_of_a_site_are_found() {
    let files = [
        (
            "index.html",
            r#"<a href="one.html">1</a> <a href="sub">2</a> <img src="x.png"> <a href="mailto:x@y">m</a>"#,
        ),
        (
            "one.html",
            r##"<a href="gone.html">1</a> <a href="one.html#top">2</a> <a href="/text.txt">3</a>"##,
        ),
        (
            "sub/index.html",
            r#"<a href="../one.html">1</a> <a href="http://127.0.0.1:1/">2</a>"#,
        ),
        ("text.txt", r#"href="not-a-link""#),
        ("unreachable.html", r#"<a href="nowhere.html">1</a>"#),
    ];
    let site = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("site");
    std::fs::create_dir_all(site.join("sub")).unwrap();
    for (name, text) in files {
        std::fs::write(site.join(name), text).unwrap();
    }
    let server = servers::http(&site);
    let url = format!("http://{}/", server.address);
    for jobs in ["1", "16"] {
        let output = links(&[&url, jobs]);
        let mut lines: Vec<_> = output.out.lines().collect();
        // /, one.html, sub, sub/, x.png, gone.html, text.txt, and the other site.
        assert_eq!(lines.pop(), Some("8 links, 3 broken"), "{}", output.out);
        lines.sort();
        assert_eq!(lines.len(), 3, "{}", output.out);
        assert!(
            lines[0].starts_with("http://127.0.0.1:1/: "),
            "{}",
            lines[0]
        );
        assert!(
            lines[0].ends_with(&format!(", on {url}sub/")),
            "{}",
            lines[0]
        );
        assert_eq!(
            lines[1],
            format!("{url}gone.html: 404 Not Found, on {url}one.html")
        );
        assert_eq!(lines[2], format!("{url}x.png: 404 Not Found, on {url}"));
        assert_eq!(output.status, Some(1));
    }
    let output = links(&[&format!("{url}text.txt")]);
    assert_eq!(
        (output.out.as_str(), output.status),
        ("1 links, 0 broken\n", Some(0))
    );
}

#[test]
fn wrong_arguments_get_the_usage() {
    for args in [&[][..], &["no url"], &["http://127.0.0.1/", "0"]] {
        let output = links(args);
        assert_eq!(output.err, "usage: links URL [AT-A-TIME]\n");
        assert_eq!(output.status, Some(2));
    }
}

/// A site of 30 pages, each with a link to the next two. One page does not answer.
async fn site() {
    let page = async |request: Request<Incoming>| {
        let n: u32 = request.uri().path()[1..].parse().unwrap_or(0);
        if n == 7 {
            std::future::pending::<()>().await;
        }
        let links = [n + 1, n + 2].map(|n| format!("<a href=\"/{}\">", n.min(30)));
        let response = Response::builder().header(CONTENT_TYPE, "text/html");
        Ok::<_, Infallible>(response.body(links.concat()).unwrap())
    };
    let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
    soloist_hyper::serve(listener, service_fn(page)).await;
}

#[test]
fn in_a_world_a_page_that_does_not_answer_is_broken_and_the_others_are_found() {
    simulate(0..10, async |world: World| {
        let link = Link::new()
            .latency(Duration::from_millis(20))
            .jitter(Duration::from_millis(20));
        world.set_default(link.partial(true));
        let server = world.host("site");
        server.spawn(site()).detach();
        sleep(Duration::from_secs(1)).await;
        let start = now();
        let check = tool::check("http://site/".parse().unwrap(), 4);
        assert_eq!(world.host("client").spawn(check).await, 1);
        // The timeout of the one page, in which all others are fetched.
        let took = now() - start;
        assert!(
            Duration::from_secs(20) < took && took < Duration::from_secs(22),
            "{took:?}"
        );
        server.crash();
    });
}
