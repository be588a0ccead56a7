//! Fetches many web pages at once, on one thread.
//!
//! cargo run --release --example fetch
//! cargo run --release --example fetch -- http://127.0.0.1:8000/a http://127.0.0.1:8000/b
//! cargo run --release --example fetch -- --jobs 50 --timeout 2.5 --from urls.txt --output pages
//! cargo run --release --example fetch --features trace -- --trace out.html

mod cli;

use cli::{positive, say_or_exit as say, seconds};
use lexopt::prelude::*;
use soloist::io::{self, AssertAsync, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use soloist::net::{TcpListener, TcpStream};
use soloist::stream::StreamExt;
use soloist::time::{now, sleep, timeout};
use soloist::{block_on, spawn, task};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{cell::Cell, fs, rc::Rc, thread, time::Duration};

const USAGE: &str = "\
usage: fetch [OPTION]... [URL]...

Fetches all URLs, which must start with http://, and prints a line for each when it is done: the
status, the size of the body and the time. Any reply counts as a page, a 404 too. Without a URL,
fetches ten pages from a server in this process, which takes 100 ms for each page.

  --jobs N           fetch at most N pages at a time (100)
  --timeout SECONDS  give up on a page after SECONDS, which may be a fraction (30)
  --from FILE        read more URLs from FILE, or from standard input if FILE is -; one per line,
                     skipping empty lines and lines that start with #
  --output DIR       write the bodies to DIR/1, DIR/2, ..., in the order of the URLs
  --trace FILE       record what the tasks do, as an HTML page (needs --features trace)

Exits with 0, with 1 if a page could not be fetched, or with 2 if the arguments are invalid.";

/// Replies with longer headers are rejected.
const MAX_HEAD: u64 = 256 * 1024;

fn main() -> ExitCode {
    let run = Rc::new(cli::parse(USAGE, Run::from_args));
    #[cfg(feature = "trace")]
    if run.trace.is_some() {
        soloist::trace::start(1_000_000);
    }
    let failures = block_on(fetch_all(run.clone()));
    #[cfg(feature = "trace")]
    if let Some(Err(error)) = run.trace.as_ref().map(soloist::trace::save_html) {
        eprintln!("fetch: cannot write the trace: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::from(failures > 0))
}

/// The options, and what the jobs share.
#[derive(Default)]
struct Run {
    jobs: usize,
    timeout: Duration,
    output: Option<PathBuf>,
    trace: Option<PathBuf>,
    urls: Vec<String>,
    /// The index of the next URL to fetch.
    next: Cell<usize>,
    /// The pages, their bytes, and the sum of the times that they took.
    done: Cell<(usize, u64, Duration)>,
}

impl Run {
    fn from_args(args: &mut lexopt::Parser) -> Result<Run, lexopt::Error> {
        let mut run = Run::default();
        (run.jobs, run.timeout) = (100, Duration::from_secs(30));
        while let Some(arg) = args.next()? {
            match arg {
                Long("jobs") => run.jobs = args.value()?.parse_with(positive)?,
                Long("timeout") => run.timeout = args.value()?.parse_with(seconds)?,
                Long("from") => run.urls.extend(cli::read_list(args.value()?)?),
                Long("output") => run.output = Some(PathBuf::from(args.value()?)),
                Long("trace") if cfg!(feature = "trace") => run.trace = Some(args.value()?.into()),
                Long("trace") => return Err("--trace needs `cargo run --features trace`".into()),
                Value(url) => run.urls.push(url.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        if let Some(dir) = &run.output {
            let what = format!("cannot create {}", dir.display());
            fs::create_dir_all(dir).map_err(context(&what))?;
        }
        if run.urls.is_empty() {
            let server = start_server().map_err(context("cannot start the server"))?;
            run.urls = (0..10).map(|n| format!("http://{server}/{n}")).collect();
        }
        Ok(run)
    }
}

/// Returns how many URLs could not be fetched.
async fn fetch_all(run: Rc<Run>) -> usize {
    let started = now();
    let jobs = (1..=run.jobs.min(run.urls.len())).map(|job| {
        let builder = task::Builder::new().name(format!("job {job}"));
        builder.spawn(work(run.clone()))
    });
    for job in jobs.collect::<Vec<_>>() {
        job.await;
    }
    let (pages, bytes, time) = run.done.get();
    let failures = run.urls.len() - pages;
    let failed = match failures {
        0 => String::new(),
        _ => format!(", {failures} failed"),
    };
    let (seconds, time) = (started.elapsed().as_secs_f64(), time.as_secs_f64());
    let summary = format!("{pages} pages, {bytes} bytes{failed}, in {seconds:.3} s");
    say(&format!("{summary}; one after the other: {time:.3} s"));
    failures
}

/// One job: fetches the next URL until none is left.
async fn work(run: Rc<Run>) {
    while let Some(url) = run.urls.get(run.next.get()) {
        let number = run.next.get() + 1;
        run.next.set(number);
        let started = now();
        let file = run.output.as_ref().map(|dir| dir.join(number.to_string()));
        let page = timeout(run.timeout, fetch(url, file.as_deref())).await;
        let late = |_| Err(format!("timed out after {} s", run.timeout.as_secs_f64()));
        let time = started.elapsed();
        let seconds = format!("{:>8.3} s  {url}", time.as_secs_f64());
        let mut done = run.done.get();
        done.2 += time;
        match page.unwrap_or_else(late) {
            Ok((status, bytes)) => {
                done.0 += 1;
                done.1 += bytes;
                say(&format!("{status:>4} {bytes:>11} bytes {seconds}"));
            }
            Err(error) => {
                let _ = file.map(fs::remove_file);
                say(&format!("fail {:>17} {seconds}: {error}", ""));
            }
        }
        run.done.set(done);
    }
}

/// Fetches one page into `file`. Returns the status and the size of the body.
pub(crate) async fn fetch(url: &str, file: Option<&Path>) -> Result<(u16, u64), String> {
    let (host, path) = split(url)?;
    // The colons of an IPv6 address are inside brackets.
    let has_port = host.rfind(':') > host.rfind(']');
    let address = format!("{host}{}", if has_port { "" } else { ":80" });
    let connecting = TcpStream::connect(address.as_str());
    let mut stream = connecting.await.map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: soloist\r\n\r\n");
    let sending = stream.write_all(request.as_bytes());
    sending.await.map_err(context("cannot send the request"))?;

    let (mut reply, mut head, mut line) = (BufReader::new(stream), Vec::new(), usize::MAX);
    let mut lines = (&mut reply).take(MAX_HEAD);
    // The last line is empty.
    while line > 2 {
        let reading = lines.read_until(b'\n', &mut head).await;
        line = reading.map_err(context("connection lost before the reply"))?;
    }
    let (status, length) = parse_head(&head)?;
    let output: Box<dyn std::io::Write + Unpin> = match file {
        Some(file) => Box::new(fs::File::create(file).map_err(context("cannot create the file"))?),
        None => Box::new(std::io::sink()),
    };
    let body = reply.take(length.unwrap_or(u64::MAX));
    let copying = io::copy(body, AssertAsync::new(output));
    let bytes = copying.await.map_err(context("cannot copy the body"))?;
    match length {
        Some(length) if bytes < length => Err(format!("closed after {bytes} of {length} bytes")),
        _ => Ok((status, bytes)),
    }
}

/// Returns the host, with the port, and the path.
fn split(url: &str) -> Result<(&str, String), String> {
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        _ => return Err("invalid URL: only http:// is supported".into()),
    };
    if let Some(c) = url.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("invalid URL: {c:?} must be percent-encoded"));
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if host.is_empty() || host.contains('@') {
        return Err("invalid URL: expected a host, without a user name".into());
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((host, format!("{slash}{path}")))
}

/// Returns the status, and the length of the body if the headers say it.
fn parse_head(head: &[u8]) -> Result<(u16, Option<u64>), String> {
    let mut headers = [httparse::EMPTY_HEADER; 1024];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(parsed) if parsed.is_complete() => {}
        Ok(_) if head.is_empty() => return Err("closed without a reply".into()),
        Ok(_) => return Err("closed in the headers of the reply".into()),
        Err(error) => return Err(format!("not an HTTP reply: {error}")),
    }
    let mut length = None;
    for header in response.headers {
        let value = String::from_utf8_lossy(header.value);
        match &*header.name.to_ascii_lowercase() {
            "content-length" => match value.trim().parse() {
                Ok(bytes) => length = Some(bytes),
                Err(_) => return Err(format!("Content-Length is {value:?}")),
            },
            "transfer-encoding" => return Err(format!("{value:?} is not part of HTTP/1.0")),
            _ => {}
        }
    }
    Ok((response.code.unwrap_or(0), length))
}

/// Puts what failed before an error.
fn context(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Starts a server on its own thread and runtime. It has a page for every path.
fn start_server() -> io::Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(|| block_on(serve(listener)));
    Ok(address)
}

async fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::try_from(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(answer(stream)).detach();
    }
}

pub(crate) async fn answer(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.try_next().await?.unwrap_or_default();
    while lines.try_next().await?.is_some_and(|line| !line.is_empty()) {}
    sleep(Duration::from_millis(100)).await;
    let path = request.split(' ').nth(1).unwrap_or("/");
    let body = format!("<!doctype html><title>{path}</title><p>This is {path}.</p>\n");
    let reply = format!(
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    (&stream).write_all(reply.as_bytes()).await
}
