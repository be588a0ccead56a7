//! Checks all links of a web site, and prints those that are broken.
//!
//! cargo run --release -p soloist-tools --bin links -- http://127.0.0.1:8000/ [AT-A-TIME]
//!
//! Follows the links of each HTML page below the URL, and checks those that lead elsewhere. Exits with 1 if
//! one is broken.

use http_body_util::{BodyExt, Limited};
use hyper::header::{CONTENT_TYPE, HeaderName, LOCATION};
use soloist::{block_on, task::JoinSet, time::timeout};
use soloist_hyper::{Client, Error};
use std::{collections::HashMap, process::ExitCode, time::Duration};
use url::Url;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let start = args.next().and_then(|url| url.parse().ok());
    let jobs = args.next().map_or(Ok(16), |jobs| jobs.parse());
    let (Some(start), Ok(jobs @ 1..)) = (start, jobs) else {
        eprintln!("usage: links URL [AT-A-TIME]");
        return ExitCode::from(2);
    };
    ExitCode::from(u8::from(block_on(check(start, jobs)) > 0))
}

/// Returns the number of broken links.
pub(crate) async fn check(start: Url, jobs: usize) -> usize {
    let (client, mut running, mut broken) = (soloist_hyper::client(), JoinSet::new(), 0);
    // Each link that was found, with the first page that has it.
    let mut found = HashMap::from([(start.clone(), start.clone())]);
    let mut queue = vec![start.clone()];
    loop {
        while running.len() < jobs {
            let Some(url) = queue.pop() else { break };
            let (client, below) = (client.clone(), url.as_str().starts_with(start.as_str()));
            running.spawn(async move {
                let links = timeout(Duration::from_secs(20), links(&client, &url, below)).await;
                (url, links.unwrap_or_else(|late| Err(late.into())))
            });
        }
        match running.join_next().await {
            None => break,
            Some(Err(panic)) => panic!("{panic}"),
            Some(Ok((url, Err(error)))) => {
                println!("{url}: {error}, on {}", found[&url]);
                broken += 1;
            }
            Some(Ok((url, Ok(mut links)))) => {
                links.retain(|link| link.scheme().starts_with("http"));
                for link in links {
                    if !found.contains_key(&link) {
                        found.insert(link.clone(), url.clone());
                        queue.push(link);
                    }
                }
            }
        }
    }
    println!("{} links, {broken} broken", found.len());
    broken
}

/// Fetches a page. Returns the target of a redirect, or the links of an HTML page if they are wanted.
async fn links(client: &Client, url: &Url, wanted: bool) -> Result<Vec<Url>, Error> {
    let (head, body) = client.get(url.as_str().parse()?).await?.into_parts();
    let header = |name: HeaderName| {
        head.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or(""))
    };
    if head.status.is_redirection() {
        return Ok(vec![url.join(header(LOCATION))?]);
    } else if !head.status.is_success() {
        return Err(head.status.to_string().into());
    } else if !wanted || !header(CONTENT_TYPE).starts_with("text/html") {
        return Ok(Vec::new());
    }
    let html = Limited::new(body, 10 << 20).collect().await?.to_bytes();
    let html = String::from_utf8_lossy(&html);
    let links = ["href=\"", "src=\""]
        .into_iter()
        .flat_map(|name| html.split(name).skip(1));
    let links = links.filter_map(|rest| rest.split(['"', '#']).next());
    Ok(links.filter_map(|link| url.join(link).ok()).collect())
}
