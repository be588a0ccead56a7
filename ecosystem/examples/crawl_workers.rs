//! Processes, on one or more machines, that crawl one site together. The queue is in Redis. A worker that
//! is killed loses no page.
//!
//! redis-server --port 6379 --save ''
//! cargo run --release -p soloist-ecosystem --example crawl_workers
//! cargo run --release -p soloist-ecosystem --example crawl_workers -- --crawl docs --jobs 8 http://127.0.0.1:8000/
//!
//! Run it in several terminals, and kill one of them. The keys in Redis start with `crawl:NAME:`
//!
//! | key | value |
//! |---|---|
//! | `seen` | the set of all URLs that have been found |
//! | `todo` | the list of URLs that no worker has taken |
//! | `doing:WORKER` | for each worker, the list of URLs that it has taken |
//! | `alive:WORKER` | the lease of a worker, which it renews |
//! | `workers` | the set of all workers, including dead ones, which may be slow and still take a page |
//! | `failures` | how often each URL could not be fetched |
//! | `done` | the outcome of each URL |
//!
//! A URL moves from `todo` to `doing` in one step (`BLMOVE`). A script then moves it to `done` and adds its
//! links, also in one step. So at any time, each URL that is not done is in one of the two lists. When the
//! lease of a worker has expired, the other workers move its list back to `todo`. If that worker was only
//! slow, a page is crawled twice; this is the price of losing none. The crawl is done when all these lists
//! are empty.

#[path = "../../examples/cli/mod.rs"]
mod cli;
mod resp;

use cli::say;
use futures_lite::{FutureExt, StreamExt};
use httparse::{EMPTY_HEADER, Response, Status};
use lexopt::{Arg, Parser, ValueExt};
use resp::{Redis, Value};
use soloist::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use soloist::net::{TcpListener, TcpStream};
use soloist::task::TaskGroup;
use soloist::time::{interval, sleep, timeout};
use soloist::{block_on, spawn};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const USAGE: &str = "\
usage: crawl_workers [OPTION]... [URL]

Crawls a site together with all processes that run this with the same Redis and the same crawl: the page
at URL, which must start with http://, and all pages of that host that it leads to. Without URL, crawls a
built-in site of 300 pages. Exits when the crawl is done.

  --redis ADDRESS  the address of Redis 6.2 or later (127.0.0.1:6379)
  --crawl NAME     the name of the crawl (demo)
  --worker NAME    the name of this worker, which must be unique (a random one)
  --jobs N         crawl N pages at a time (4)
  --lease SECONDS  other workers take over the pages of this one if it is silent for this long (10)

Exits with 0, with 1 if the crawl could not continue or pages failed, or with 2 if the arguments are
invalid.";

const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a page is tried before it counts as failed.
const TRIES: &[u8] = b"3";
const MAX_PAGE: u64 = 4 * 1024 * 1024;
const MAX_HEADERS: usize = 256;
const OWN_SITE: &str = "http://site.example/";
const OWN_PAGES: usize = 300;

/// Adds the first URL. KEYS: seen, todo. ARGV: the URL.
const START: &[u8] = b"
if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
    redis.call('LPUSH', KEYS[2], ARGV[1])
end";

/// Stores the outcome of a page. KEYS: doing, seen, todo, done. ARGV: the URL, its outcome, its links.
const FINISH: &[u8] = b"
redis.call('LREM', KEYS[1], 1, ARGV[1])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[2])
for i = 3, #ARGV do
    if redis.call('SADD', KEYS[2], ARGV[i]) == 1 then
        redis.call('LPUSH', KEYS[3], ARGV[i])
    end
end";

/// Counts a failure. KEYS: doing, failures, todo, done. ARGV: the URL, the reason, the number of tries.
/// Moves the URL to the end of the queue, unless another worker has taken it over.
const FAIL: &[u8] = b"
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
    return
end
if redis.call('HINCRBY', KEYS[2], ARGV[1], 1) < tonumber(ARGV[3]) then
    redis.call('LPUSH', KEYS[3], ARGV[1])
else
    redis.call('HSETNX', KEYS[4], ARGV[1], 'failed: ' .. ARGV[2])
end";

/// Moves the pages of dead workers back to the queue. KEYS: workers, todo. ARGV: the prefix. Returns the
/// number of pages.
const RESCUE: &[u8] = b"
local rescued = 0
for _, worker in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    if redis.call('EXISTS', ARGV[1] .. 'alive:' .. worker) == 0 then
        while redis.call('LMOVE', ARGV[1] .. 'doing:' .. worker, KEYS[2], 'LEFT', 'RIGHT') do
            rescued = rescued + 1
        end
    end
end
return rescued";

/// Returns the number of pages that are not done. KEYS: workers, todo. ARGV: the prefix.
const LEFT: &[u8] = b"
local left = redis.call('LLEN', KEYS[2])
for _, worker in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    left = left + redis.call('LLEN', ARGV[1] .. 'doing:' .. worker)
end
return left";

fn main() -> ExitCode {
    match block_on(crawl(cli::parse(USAGE, Options::from_args))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crawl_workers: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    redis: String,
    crawl: String,
    worker: String,
    jobs: usize,
    lease: Duration,
    url: Option<Url>,
}

impl Options {
    fn from_args(args: &mut Parser) -> Result<Options, lexopt::Error> {
        let mut options = Options {
            redis: "127.0.0.1:6379".into(),
            crawl: "demo".into(),
            worker: format!("{:016x}", fastrand::u64(..)),
            jobs: 4,
            lease: Duration::from_secs(10),
            url: None,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Long("redis") => options.redis = args.value()?.string()?,
                Arg::Long("crawl") => options.crawl = args.value()?.string()?,
                Arg::Long("worker") => options.worker = args.value()?.string()?,
                Arg::Long("jobs") => options.jobs = args.value()?.parse_with(cli::positive)?,
                Arg::Long("lease") => {
                    options.lease = args.value()?.parse_with(cli::seconds)?;
                    if options.lease < Duration::from_millis(100) {
                        return Err("--lease must be at least 0.1 seconds".into());
                    }
                }
                Arg::Value(url) if options.url.is_none() => {
                    options.url = Some(Url::parse(&url.string()?)?);
                }
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(options)
    }
}

/// The state that the jobs of this process share.
struct Worker {
    options: Options,
    /// The first page. Only pages of the same host are crawled.
    start: Url,
    /// The address of the built-in site, whose URLs contain a made-up host.
    own_site: Option<SocketAddr>,
    prefix: String,
    /// The keys of this worker.
    doing: Vec<u8>,
    alive: Vec<u8>,
    pages: Cell<usize>,
}

/// Returns whether all pages were crawled without a failure.
async fn crawl(mut options: Options) -> io::Result<bool> {
    let prefix = format!("crawl:{}:", options.crawl);
    let (start, own_site) = match options.url.take() {
        Some(url) => (url, None),
        None => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            spawn(serve_own_site(listener)).detach();
            let url = Url::parse(OWN_SITE).map_err(io::Error::other)?;
            (url, Some(address))
        }
    };
    let worker = Rc::new(Worker {
        doing: format!("{prefix}doing:{}", options.worker).into(),
        alive: format!("{prefix}alive:{}", options.worker).into(),
        options,
        start,
        own_site,
        prefix,
        pages: Cell::new(0),
    });

    let mut redis = worker.connect().await?;
    worker.join(&mut redis).await?;
    // If a job fails, all end: its page stays taken as long as this worker renews the lease.
    let jobs = TaskGroup::new();
    for _ in 0..worker.options.jobs {
        let worker = worker.clone();
        jobs.spawn(async move { worker.work().await });
    }
    let work = async { jobs.join_all().await.map(drop) };
    work.or(worker.beat(&mut redis)).await?;

    let mut redis = worker.connect().await?;
    // So that the name can be used again at once.
    ask(&mut redis, &[b"DEL", &worker.alive]).await?;
    let outcomes = match ask(&mut redis, &[b"HVALS", &worker.key("done")]).await? {
        Value::List(outcomes) => outcomes,
        _ => Vec::new(),
    };
    let failed = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Value::Bytes(text) if text.starts_with(b"failed")))
        .count();
    say(&format!(
        "worker {} crawled {} of {} pages; {failed} failed",
        worker.options.worker,
        worker.pages.get(),
        outcomes.len()
    ));
    Ok(failed == 0)
}

impl Worker {
    fn key(&self, name: &str) -> Vec<u8> {
        format!("{}{name}", self.prefix).into()
    }

    async fn connect(&self) -> io::Result<Redis> {
        let address = &self.options.redis;
        let connected = timeout(TIMEOUT, Redis::connect(address)).await;
        connected.map_err(io::Error::from)?.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot connect to Redis at {address}: {error}"),
            )
        })
    }

    fn lease(&self) -> Vec<u8> {
        self.options.lease.as_millis().to_string().into()
    }

    /// Registers this worker, and adds the first page to the queue.
    async fn join(&self, redis: &mut Redis) -> io::Result<()> {
        let lease = self.lease();
        let taken: &[&[u8]] = &[b"SET", &self.alive, b"1", b"NX", b"PX", &lease];
        if ask(redis, taken).await? == Value::Nothing {
            return Err(io::Error::other(format!(
                "there is a worker {} already, or its lease has not expired yet",
                self.options.worker
            )));
        }
        let name = self.options.worker.as_bytes();
        ask(redis, &[b"SADD", &self.key("workers"), name]).await?;
        let keys: &[&[u8]] = &[&self.key("seen"), &self.key("todo")];
        eval(redis, START, keys, &[self.start.to_string().as_bytes()]).await?;
        Ok(())
    }

    /// Renews the lease and moves the pages of dead workers back to the queue, until that fails.
    async fn beat(&self, redis: &mut Redis) -> io::Result<()> {
        let lease = self.lease();
        let keys: &[&[u8]] = &[&self.key("workers"), &self.key("todo")];
        let mut beats = interval(self.options.lease / 4);
        loop {
            beats.tick().await;
            ask(redis, &[b"SET", &self.alive, b"1", b"PX", &lease]).await?;
            let rescued = eval(redis, RESCUE, keys, &[self.prefix.as_bytes()]).await?;
            if let Value::Number(pages @ 1..) = rescued {
                say(&format!("recovered {pages} pages of a dead worker"));
            }
        }
    }

    /// One job: crawls pages until none is left. It has its own connection to Redis, since its commands
    /// block the connection.
    async fn work(&self) -> io::Result<()> {
        let mut redis = self.connect().await?;
        let (todo, workers) = (self.key("todo"), self.key("workers"));
        let take: &[&[u8]] = &[b"BLMOVE", &todo, &self.doing, b"RIGHT", b"LEFT", b"0.2"];
        loop {
            if let Value::Bytes(url) = ask(&mut redis, take).await? {
                let url = String::from_utf8_lossy(&url);
                self.crawl_page(&mut redis, &url).await?;
                continue;
            }
            let prefix = self.prefix.as_bytes();
            let left = eval(&mut redis, LEFT, &[&workers, &todo], &[prefix]).await?;
            if left == Value::Number(0) {
                return Ok(());
            }
        }
    }

    async fn crawl_page(&self, redis: &mut Redis, url: &str) -> io::Result<()> {
        let page = match timeout(TIMEOUT, self.fetch(url)).await {
            Ok(page) => page,
            Err(_) => Err(format!("timed out after {} s", TIMEOUT.as_secs())),
        };
        let (seen, todo) = (self.key("seen"), self.key("todo"));
        let (done, failures) = (self.key("done"), self.key("failures"));
        match page {
            Ok(page) => {
                let outcome = format!("{} {} bytes", page.status, page.body.len());
                let links = page.links(&self.start);
                let mut args = vec![url.as_bytes(), outcome.as_bytes()];
                args.extend(links.iter().map(String::as_bytes));
                let keys: &[&[u8]] = &[&self.doing, &seen, &todo, &done];
                eval(redis, FINISH, keys, &args).await?;
                self.pages.set(self.pages.get() + 1);
                say(&format!("{outcome} {url}"));
            }
            Err(why) => {
                let keys: &[&[u8]] = &[&self.doing, &failures, &todo, &done];
                let args = &[url.as_bytes(), why.as_bytes(), TRIES];
                eval(redis, FAIL, keys, args).await?;
                say(&format!("fail {url}: {why}"));
            }
        }
        Ok(())
    }

    async fn fetch(&self, url: &str) -> Result<Page, String> {
        let url = Url::parse(url)?;
        let stream = match self.own_site {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect(url.address()).await,
        };
        let mut stream = stream.map_err(|error| error.to_string())?;
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: crawl_workers/{}\r\n\r\n",
            url.path, url.host, self.options.worker
        );
        let mut reply = Vec::new();
        let exchange = async {
            stream.write_all(request.as_bytes()).await?;
            let mut stream = stream.take(MAX_PAGE + 1);
            stream.read_to_end(&mut reply).await
        };
        exchange.await.map_err(|error| error.to_string())?;
        if reply.len() as u64 > MAX_PAGE {
            return Err(format!("more than {MAX_PAGE} bytes"));
        }
        Page::parse(url, &reply)
    }
}

/// Runs a command with a timeout.
async fn ask(redis: &mut Redis, command: &[&[u8]]) -> io::Result<Value> {
    timeout(TIMEOUT, redis.call(command)).await?
}

/// Runs a script in Redis, atomically.
async fn eval(
    redis: &mut Redis,
    script: &[u8],
    keys: &[&[u8]],
    args: &[&[u8]],
) -> io::Result<Value> {
    let count = keys.len().to_string();
    let head: &[&[u8]] = &[b"EVAL", script, count.as_bytes()];
    ask(redis, &[head, keys, args].concat()).await
}

struct Page {
    url: Url,
    status: u16,
    body: String,
}

impl Page {
    fn parse(url: Url, reply: &[u8]) -> Result<Page, String> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut response = Response::new(&mut headers);
        let size = match response.parse(reply) {
            Ok(Status::Complete(size)) => size,
            Ok(Status::Partial) => return Err("closed in the headers".into()),
            Err(error) => return Err(format!("not an HTTP reply: {error}")),
        };
        let body = &reply[size..];
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = String::from_utf8_lossy(header.value).trim().parse();
                let length: usize = length.map_err(|_| "Content-Length is not a number")?;
                if body.len() < length {
                    return Err(format!("closed after {} of {length} bytes", body.len()));
                }
            }
        }
        Ok(Page {
            url,
            status: response.code.unwrap_or(0),
            body: String::from_utf8_lossy(body).into_owned(),
        })
    }

    /// The links to pages of the same host. This is not an HTML parser: it only finds `href="..."`.
    fn links(&self, start: &Url) -> BTreeSet<String> {
        let hrefs = self.body.split("href=\"").skip(1);
        let links = hrefs.filter_map(|rest| {
            let (link, _) = rest.split_once('"')?;
            let link = self.url.join(link)?;
            (link.host == start.host).then(|| link.to_string())
        });
        links.collect()
    }
}

/// An http:// URL, without its fragment.
#[derive(Clone)]
struct Url {
    host: String,
    /// With the query.
    path: String,
}

impl Url {
    fn parse(url: &str) -> Result<Url, String> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(format!("{url}: only http:// is supported"));
        };
        if let Some(c) = url.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!("{url}: {c:?} must be percent-encoded"));
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if host.is_empty() || host.contains('@') {
            return Err(format!("{url}: expected a host, without a user name"));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url {
            host: host.to_ascii_lowercase(),
            path: format!("{slash}{path}"),
        })
    }

    fn address(&self) -> String {
        // The colons of an IPv6 address are inside brackets.
        match self.host.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => self.host.clone(),
            _ => format!("{}:80", self.host),
        }
    }

    /// The target of a link on this page. Returns `None` if the target is not an http:// URL.
    fn join(&self, link: &str) -> Option<Url> {
        let link = link.split('#').next().unwrap_or(link);
        let scheme = link.find(':').filter(|&colon| !link[..colon].contains('/'));
        let page = self.path.split('?').next().unwrap_or(&self.path);
        let url = if scheme.is_some() {
            link.to_string()
        } else if let Some(rest) = link.strip_prefix("//") {
            format!("http://{rest}")
        } else if link.starts_with('/') {
            format!("http://{}{link}", self.host)
        } else if link.is_empty() || link.starts_with('?') {
            format!("http://{}{page}{link}", self.host)
        } else {
            let folder = &page[..=page.rfind('/')?];
            format!("http://{}{folder}{link}", self.host)
        };
        let mut url = Url::parse(&url).ok()?;
        url.remove_dots();
        Some(url)
    }

    /// Removes `.` and `..`. Otherwise one page could have infinitely many URLs.
    fn remove_dots(&mut self) {
        let (path, query) = self
            .path
            .split_at(self.path.find('?').unwrap_or(self.path.len()));
        let mut names: Vec<&str> = Vec::new();
        let ends_in_folder = path.ends_with(['/']) || path.ends_with("/.") || path.ends_with("/..");
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match name {
                "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let end = if ends_in_folder && !names.is_empty() {
            "/"
        } else {
            ""
        };
        self.path = format!("/{}{end}{query}", names.join("/"));
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

/// Serves the built-in site until the process exits. Each page takes a while.
async fn serve_own_site(listener: TcpListener) {
    let mut incoming = listener.incoming();
    while let Some(connection) = incoming.next().await {
        match connection {
            Ok(stream) => spawn(async move {
                if let Err(error) = answer(stream).await {
                    eprintln!("site: {error}");
                }
            })
            .detach(),
            Err(error) => eprintln!("site: cannot accept: {error}"),
        }
    }
}

/// Each page links to three more pages, and to page 0, which is the first.
async fn answer(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().await.transpose()?.unwrap_or_default();
    while !lines
        .next()
        .await
        .transpose()?
        .unwrap_or_default()
        .is_empty()
    {}
    sleep(Duration::from_millis(50)).await;
    let path = request.split(' ').nth(1).unwrap_or("/");
    let page: Option<usize> = match path {
        "/" => Some(0),
        path => path[1..].parse().ok(),
    };
    let reply = match page.filter(|&page| page < OWN_PAGES) {
        Some(page) => {
            let links: String = (3 * page + 1..=3 * page + 3)
                .filter(|&next| next < OWN_PAGES)
                .map(|next| format!("<a href=\"{next}\">{next}</a>\n"))
                .collect();
            let body =
                format!("<!doctype html><title>{page}</title>\n<a href=\"/\">0</a>\n{links}");
            let length = body.len();
            format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
        }
        None => "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
    };
    (&stream).write_all(reply.as_bytes()).await
}
