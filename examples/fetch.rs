//! Fetches many web pages at once, on one thread.
//!
//! cargo run --release --example fetch
//! cargo run --release --example fetch -- http://127.0.0.1:8000/a http://127.0.0.1:8000/b
//! cargo run --release --example fetch -- --jobs 50 --timeout 2.5 --from urls.txt --output pages
//! cargo run --release --example fetch --features trace -- --trace out.html

mod cli;

use cli::{positive, say_or_exit as say, seconds};
use httparse::{EMPTY_HEADER, Response, Status};
use lexopt::prelude::*;
use soloist::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use soloist::net::{TcpListener, TcpStream};
use soloist::stream::StreamExt;
use soloist::time::{now, sleep, timeout};
use soloist::{block_on, spawn, task};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

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
const MAX_HEAD: usize = 256 * 1024;
const MAX_HEADERS: usize = 1024;

fn main() -> ExitCode {
    let run = Rc::new(cli::parse(USAGE, Run::from_args));
    #[cfg(feature = "trace")]
    let trace = run
        .trace
        .clone()
        .inspect(|_| soloist::trace::start(1_000_000));
    let code = block_on(fetch_all(run));
    #[cfg(feature = "trace")]
    if let Some(Err(error)) = trace.map(soloist::trace::save_html) {
        eprintln!("fetch: cannot write the trace: {error}");
        return ExitCode::FAILURE;
    }
    code
}

/// The options, and what the jobs share.
#[derive(Default)]
struct Run {
    jobs: usize,
    timeout: Duration,
    output: Option<PathBuf>,
    #[cfg(feature = "trace")]
    trace: Option<PathBuf>,
    urls: Vec<String>,
    /// The index of the next URL to fetch.
    next: Cell<usize>,
    pages: Cell<usize>,
    bytes: Cell<u64>,
    /// The sum of the times that the pages took.
    total: Cell<Duration>,
}

impl Run {
    fn from_args(args: &mut lexopt::Parser) -> Result<Run, lexopt::Error> {
        let mut run = Run {
            jobs: 100,
            timeout: Duration::from_secs(30),
            ..Run::default()
        };
        let mut from = None;
        while let Some(arg) = args.next()? {
            match arg {
                Long("jobs") => run.jobs = args.value()?.parse_with(positive)?,
                Long("timeout") => run.timeout = args.value()?.parse_with(seconds)?,
                Long("from") => {
                    let file = args.value()?.string()?;
                    let text = match &*file {
                        "-" => io::read_to_string(io::stdin()),
                        _ => fs::read_to_string(&file),
                    };
                    let text = text.map_err(context(&format!("cannot read {file}")))?;
                    let lines = text.lines().map(str::trim);
                    let urls = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
                    run.urls.extend(urls.map(String::from));
                    from = Some(file);
                }
                Long("output") => {
                    let dir = PathBuf::from(args.value()?);
                    let what = format!("cannot create {}", dir.display());
                    fs::create_dir_all(&dir).map_err(context(&what))?;
                    run.output = Some(dir);
                }
                #[cfg(feature = "trace")]
                Long("trace") => run.trace = Some(args.value()?.into()),
                #[cfg(not(feature = "trace"))]
                Long("trace") => return Err("--trace needs `cargo run --features trace`".into()),
                Value(url) => run.urls.push(url.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        if run.urls.is_empty() {
            if let Some(file) = from {
                return Err(format!("there is no URL in {file}").into());
            }
            let server = start_server().map_err(context("cannot start the server"))?;
            let urls = (0..10).map(|page| format!("http://{server}/{page}"));
            run.urls.extend(urls);
        }
        Ok(run)
    }
}

async fn fetch_all(run: Rc<Run>) -> ExitCode {
    let started = now();
    let urls = run.urls.len();
    let jobs = run.jobs.min(urls);
    let workers: Vec<_> = (1..=jobs)
        .map(|job| {
            task::Builder::new()
                .name(format!("job {job}"))
                .spawn(work(run.clone()))
        })
        .collect();
    for worker in workers {
        worker.await;
    }

    let (pages, bytes) = (run.pages.get(), run.bytes.get());
    let failed = match urls - pages {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let (seconds, total) = (
        started.elapsed().as_secs_f64(),
        run.total.get().as_secs_f64(),
    );
    say(&format!(
        "{pages} pages, {bytes} bytes{failed}, in {seconds:.3} s; one after the other: {total:.3} s"
    ));
    ExitCode::from(u8::from(pages < urls))
}

/// One job: fetches the next URL until none is left.
async fn work(run: Rc<Run>) {
    while let Some(url) = run.urls.get(run.next.get()) {
        let number = run.next.get() + 1;
        run.next.set(number);
        let started = now();
        let file = run.output.as_ref().map(|dir| dir.join(number.to_string()));
        let page = timeout(run.timeout, fetch(url, file.as_deref())).await;
        let page = page
            .unwrap_or_else(|_| Err(format!("timed out after {} s", run.timeout.as_secs_f64())));
        let time = started.elapsed();
        let seconds = time.as_secs_f64();
        run.total.set(run.total.get() + time);
        match page {
            Ok((status, bytes)) => {
                run.pages.set(run.pages.get() + 1);
                run.bytes.set(run.bytes.get() + bytes);
                say(&format!(
                    "{status:>4} {bytes:>11} bytes {seconds:>8.3} s  {url}"
                ));
            }
            Err(error) => {
                if let Some(file) = file {
                    let _ = fs::remove_file(file);
                }
                say(&format!("fail {:>17} {seconds:>8.3} s  {url}: {error}", ""));
            }
        }
    }
}

/// Fetches one page into `file`. Returns the status and the size of the body.
pub(crate) async fn fetch(url: &str, file: Option<&Path>) -> Result<(u16, u64), String> {
    let target = Target::parse(url)?;
    let connecting = TcpStream::connect(target.address.as_str());
    let mut stream = connecting.await.map_err(|error| error.to_string())?;
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: soloist\r\nConnection: close\r\n\r\n",
        target.path, target.host
    );
    let sending = stream.write_all(request.as_bytes());
    sending.await.map_err(context("cannot send the request"))?;

    let mut received = Vec::new();
    let head = read_head(&mut stream, &mut received).await?;
    let mut output: Box<dyn Write> = match file {
        Some(file) => Box::new(File::create(file).map_err(context("cannot create the file"))?),
        None => Box::new(io::sink()),
    };
    let body = &received[head.size..];
    let bytes = read_body(&mut stream, body, head.content_length, &mut *output).await?;
    Ok((head.status, bytes))
}

/// Reads until the head is complete. `received` then contains the head and the start of the body.
async fn read_head(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Head, String> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let reading = stream.read(&mut buffer);
        match reading
            .await
            .map_err(context("connection lost before the reply"))?
        {
            0 if received.is_empty() => return Err("closed without a reply".into()),
            0 => return Err("closed in the headers of the reply".into()),
            n => received.extend_from_slice(&buffer[..n]),
        }
        if let Some(head) = Head::parse(received)? {
            return Ok(head);
        }
        if received.len() > MAX_HEAD {
            return Err(format!("more than {MAX_HEAD} bytes of headers"));
        }
    }
}

/// Reads the body: `length` bytes, or up to the end of the stream if there is no length.
async fn read_body(
    stream: &mut TcpStream,
    mut chunk: &[u8],
    length: Option<u64>,
    output: &mut dyn Write,
) -> Result<u64, String> {
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        let left = length.map_or(u64::MAX, |length| length - bytes);
        let wanted = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        let written = output.write_all(&chunk[..wanted]);
        written.map_err(context("cannot write the file"))?;
        bytes += wanted as u64;
        if length == Some(bytes) {
            return Ok(bytes);
        }
        let reading = stream.read(&mut buffer).await;
        chunk = match reading.map_err(context(&format!("connection lost after {bytes} bytes")))? {
            0 => break,
            n => &buffer[..n],
        };
    }
    match length {
        Some(length) => Err(format!("closed after {bytes} of {length} bytes")),
        None => Ok(bytes),
    }
}

struct Head {
    size: usize,
    status: u16,
    content_length: Option<u64>,
}

impl Head {
    /// Returns `None` if the head is not complete yet.
    fn parse(received: &[u8]) -> Result<Option<Head>, String> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut response = Response::new(&mut headers);
        let size = match response.parse(received) {
            Ok(Status::Complete(size)) => size,
            Ok(Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("not an HTTP reply: {error}")),
        };
        let mut content_length = None;
        for header in response.headers {
            let value = String::from_utf8_lossy(header.value);
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = value.trim().parse();
                content_length = Some(length.map_err(|_| format!("Content-Length is {value:?}"))?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(format!(
                    "Transfer-Encoding {value:?} is not part of HTTP/1.0"
                ));
            }
        }
        let status = response.code.unwrap_or(0);
        Ok(Some(Head {
            size,
            status,
            content_length,
        }))
    }
}

/// The parts of a URL: the address to connect to, the host and the path of the request.
struct Target {
    address: String,
    host: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Target, String> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            _ => return Err("invalid URL: only http:// is supported".into()),
        };
        if let Some(c) = url.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!("invalid URL: {c:?} must be percent-encoded"));
        }
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if host.is_empty() || host.contains('@') {
            return Err("invalid URL: expected a host, without a user name".into());
        }
        // The colons of an IPv6 address are inside brackets.
        let has_port = host.rfind(':') > host.rfind(']');
        Ok(Target {
            address: format!("{host}{}", if has_port { "" } else { ":80" }),
            host: host.into(),
            path: format!("{}{path}", if path.starts_with('/') { "" } else { "/" }),
        })
    }
}

/// Puts what failed before an error.
fn context(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Starts a server on its own thread and runtime. It has a page for every path.
fn start_server() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(|| block_on(serve(listener)));
    Ok(address)
}

async fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::try_from(listener)?;
    let mut incoming = listener.incoming();
    while let Some(stream) = incoming.next().await {
        match stream {
            Ok(stream) => spawn(answer(stream)).detach(),
            Err(error) => eprintln!("server: cannot accept: {error}"),
        }
    }
    Ok(())
}

pub(crate) async fn answer(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().await.transpose()?.unwrap_or_default();
    while !lines
        .next()
        .await
        .transpose()?
        .unwrap_or_default()
        .is_empty()
    {}

    sleep(Duration::from_millis(100)).await;
    let path = request.split(' ').nth(1).unwrap_or("/");
    let body = format!("<!doctype html><title>{path}</title><p>This is {path}.</p>\n");
    let length = body.len();
    let reply = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    (&stream).write_all(reply.as_bytes()).await
}
