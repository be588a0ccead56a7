//! Fetches many web pages at once, on one thread.
//!
//! cargo run --release --example fetch
//! cargo run --release --example fetch -- http://127.0.0.1:8000/a http://127.0.0.1:8000/b
//! cargo run --release --example fetch -- --jobs 50 --timeout 2.5 --from urls.txt --output pages
//! cargo run --release --example fetch --features trace -- --trace out.html

use futures_lite::StreamExt;
use httparse::{EMPTY_HEADER, Response, Status};
use soloist::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use soloist::net::{TcpListener, TcpStream};
use soloist::time::{now, sleep, timeout};
use soloist::{block_on, spawn, task};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const USAGE: &str = "\
usage: fetch [OPTION]... [URL]...

Fetches all URLs, which must be http://, and prints a line for each as it finishes: the status, the
bytes of the body, the time. Whatever the server answers is a page, a 404 too. Without any URL it
fetches ten pages from a server of its own, which takes 100 ms for each.

  --jobs N           fetch at most N pages at a time (100)
  --timeout SECONDS  give up on a page after this long, fractions are welcome (30)
  --from FILE        read more URLs from FILE, one per line, or from standard input if it is -;
                     empty lines and lines that begin with # are skipped
  --output DIR       write the bodies to DIR/1, DIR/2, ..., numbered as the URLs were given
  --trace FILE       draw what the tasks did, as a page for a browser (needs --features trace)

The exit status is 0, or 1 if a page could not be fetched, or 2 if the arguments are wrong.";

/// More than any real reply has: beyond these it is broken, or means harm.
const MAX_HEAD: usize = 256 * 1024;
const MAX_HEADERS: usize = 1024;

fn main() -> ExitCode {
    let args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let options = match Options::parse(args.skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("fetch: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    #[cfg(feature = "trace")]
    let file = options.trace.clone();
    #[cfg(feature = "trace")]
    if file.is_some() {
        soloist::trace::start(1_000_000);
    }
    let code = block_on(fetch_all(options));
    #[cfg(feature = "trace")]
    if let Some(Err(error)) = file.map(soloist::trace::save_html) {
        eprintln!("fetch: cannot write the trace: {error}");
        return ExitCode::FAILURE;
    }
    code
}

struct Options {
    jobs: usize,
    timeout: Duration,
    output: Option<PathBuf>,
    #[cfg(feature = "trace")]
    trace: Option<String>,
    urls: Vec<String>,
}

impl Options {
    /// `None` is a request for help.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            jobs: 100,
            timeout: Duration::from_secs(30),
            output: None,
            #[cfg(feature = "trace")]
            trace: None,
            urls: Vec::new(),
        };
        let mut from = None;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--jobs" => {
                    let jobs = value()?.parse().ok().filter(|&jobs| jobs > 0);
                    options.jobs = jobs.ok_or("--jobs must be a number, at least 1")?;
                }
                "--timeout" => {
                    let seconds = value()?.parse().unwrap_or(0.0);
                    let timeout = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                    if timeout.is_zero() {
                        return Err("--timeout must be a number of seconds, above 0".into());
                    }
                    options.timeout = timeout;
                }
                "--from" => {
                    let file = value()?;
                    let urls = read_urls(&file).map_err(because(&format!("cannot read {file}")))?;
                    options.urls.extend(urls);
                    from = Some(file);
                }
                "--output" => {
                    let dir = value()?;
                    fs::create_dir_all(&dir).map_err(because(&format!("cannot create {dir}")))?;
                    options.output = Some(dir.into());
                }
                #[cfg(feature = "trace")]
                "--trace" => options.trace = Some(value()?),
                #[cfg(not(feature = "trace"))]
                "--trace" => return Err("--trace needs cargo run with --features trace".into()),
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}")),
                _ => options.urls.push(arg),
            }
        }
        if options.urls.is_empty() {
            if let Some(file) = from {
                return Err(format!("there is no URL in {file}"));
            }
            let server = start_server().map_err(because("cannot start the server"))?;
            options.urls.push(format!("http://{server}/"));
            options
                .urls
                .extend((1..10).map(|page| format!("http://{server}/{page}")));
        }
        Ok(Some(options))
    }
}

fn read_urls(file: &str) -> io::Result<Vec<String>> {
    let text = match file {
        "-" => io::read_to_string(io::stdin())?,
        _ => fs::read_to_string(file)?,
    };
    let urls = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(urls.map(String::from).collect())
}

struct Run {
    options: Options,
    /// The index of the first URL that nobody has taken.
    next: Cell<usize>,
    pages: Cell<usize>,
    bytes: Cell<u64>,
    times: Cell<Duration>,
}

async fn fetch_all(options: Options) -> ExitCode {
    let started = now();
    let urls = options.urls.len();
    let jobs = options.jobs.min(urls);
    let run = Rc::new(Run {
        options,
        next: Cell::new(0),
        pages: Cell::new(0),
        bytes: Cell::new(0),
        times: Cell::new(Duration::ZERO),
    });
    let named = |job| task::Builder::new().name(format!("job {job}"));
    let workers: Vec<_> = (1..=jobs)
        .map(|job| named(job).spawn(work(run.clone())))
        .collect();
    for worker in workers {
        worker.await;
    }

    let (pages, bytes) = (run.pages.get(), run.bytes.get());
    let failed = match urls - pages {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let (seconds, sum) = (
        started.elapsed().as_secs_f64(),
        run.times.get().as_secs_f64(),
    );
    say(&format!(
        "{pages} pages, {bytes} bytes{failed}, in {seconds:.3} s; the single times add up to {sum:.3} s"
    ));
    ExitCode::from(u8::from(pages < urls))
}

/// One of the jobs: takes the next page that nobody has taken, until there is none.
async fn work(run: Rc<Run>) {
    let options = &run.options;
    while let Some(url) = options.urls.get(run.next.get()) {
        let number = run.next.get() + 1;
        run.next.set(number);
        let started = now();
        let file = options
            .output
            .as_ref()
            .map(|dir| dir.join(number.to_string()));
        let page = match timeout(options.timeout, fetch(url, file.as_deref())).await {
            Ok(page) => page,
            Err(_) => Err(format!(
                "timed out after {} s",
                options.timeout.as_secs_f64()
            )),
        };
        let time = started.elapsed();
        let seconds = time.as_secs_f64();
        run.times.set(run.times.get() + time);
        match page {
            Ok(Page { status, bytes }) => {
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

struct Page {
    status: u16,
    bytes: u64,
}

async fn fetch(url: &str, file: Option<&Path>) -> Result<Page, String> {
    let target = Target::parse(url)?;
    let connecting = TcpStream::connect(target.address.as_str());
    let mut stream = connecting.await.map_err(because("cannot connect"))?;
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: soloist\r\nConnection: close\r\n\r\n",
        target.path, target.host
    );
    let sending = stream.write_all(request.as_bytes());
    sending.await.map_err(because("cannot send the request"))?;

    let mut received = Vec::new();
    let head = read_head(&mut stream, &mut received).await?;
    let body = &received[head.size..];
    let length = head.content_length;
    let bytes = match file {
        Some(file) => {
            let mut file = File::create(file).map_err(because("cannot create the file"))?;
            read_body(&mut stream, body, length, &mut file).await?
        }
        None => read_body(&mut stream, body, length, &mut io::sink()).await?,
    };
    Ok(Page {
        status: head.status,
        bytes,
    })
}

/// What has been received at the end is the head and, behind it, the first bytes of the body.
async fn read_head(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Head, String> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let reading = stream.read(&mut buffer);
        match reading.await.map_err(because("lost before the reply"))? {
            0 if received.is_empty() => return Err("closed without a reply".into()),
            0 => return Err("closed before the reply's headers ended".into()),
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

/// The body ends where its `Content-Length` says, or else where the stream does.
async fn read_body(
    stream: &mut TcpStream,
    mut chunk: &[u8],
    length: Option<u64>,
    file: &mut impl Write,
) -> Result<u64, String> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = length.unwrap_or(u64::MAX);
    let mut bytes = 0;
    loop {
        let wanted = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        file.write_all(&chunk[..wanted])
            .map_err(because("cannot write the file"))?;
        bytes += wanted as u64;
        left -= wanted as u64;
        if left == 0 {
            return Ok(bytes);
        }
        let reading = stream.read(&mut buffer);
        match reading
            .await
            .map_err(because(&format!("lost after {bytes} bytes")))?
        {
            0 => break,
            n => chunk = &buffer[..n],
        }
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
    /// `None` as long as the head has not come to its end.
    fn parse(received: &[u8]) -> Result<Option<Head>, String> {
        let mut room = 32;
        loop {
            let mut headers = vec![EMPTY_HEADER; room];
            let mut response = Response::new(&mut headers);
            let size = match response.parse(received) {
                Ok(Status::Complete(size)) => size,
                Ok(Status::Partial) => return Ok(None),
                Err(httparse::Error::TooManyHeaders) if room < MAX_HEADERS => {
                    room *= 2;
                    continue;
                }
                Err(httparse::Error::TooManyHeaders) => {
                    return Err(format!("more than {MAX_HEADERS} headers"));
                }
                Err(error) => return Err(format!("not an HTTP reply: {error}")),
            };
            let mut content_length = None;
            for header in response.headers {
                let value = String::from_utf8_lossy(header.value);
                if header.name.eq_ignore_ascii_case("content-length") {
                    let length = value.trim().parse();
                    content_length =
                        Some(length.map_err(|_| format!("Content-Length is {value:?}"))?);
                } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                    return Err(format!(
                        "Transfer-Encoding {value:?}, which HTTP/1.0 does not have"
                    ));
                }
            }
            let status = response.code.unwrap_or(0);
            return Ok(Some(Head {
                size,
                status,
                content_length,
            }));
        }
    }
}

/// Where a URL leads, in the words of the connection and of the request.
struct Target {
    address: String,
    host: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Target, String> {
        let malformed = |why: &str| format!("malformed URL: {why}");
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err("https is not supported, only plain http is".into());
            }
            _ => return Err(malformed("it does not begin with http://")),
        };
        if let Some(c) = url.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(malformed(&format!("{c:?} must be percent-encoded")));
        }
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let slash = if path.starts_with('/') { "" } else { "/" };

        if host.contains('@') {
            return Err("user names in URLs are not supported".into());
        }
        // The colons of an IPv6 address are inside of its brackets.
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port),
            _ => (host, "80"),
        };
        if name.is_empty() {
            return Err(malformed("there is no host"));
        }
        if let Some(address) = name.strip_prefix('[') {
            let address = address.strip_suffix(']').map(str::parse::<Ipv6Addr>);
            if !matches!(address, Some(Ok(_))) {
                return Err(malformed("there is no IPv6 address in the brackets"));
            }
        } else if name.contains([':', '[', ']']) {
            return Err(malformed("an IPv6 address must be in brackets"));
        }
        if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() {
            return Err(malformed(&format!("{port:?} is not a port")));
        }
        Ok(Target {
            address: format!("{name}:{port}"),
            host: host.into(),
            path: format!("{slash}{path}"),
        })
    }
}

fn because(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Whoever reads the lines may have seen enough (`| head`): then there is nothing left to do.
fn say(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() {
        process::exit(1);
    }
}

/// Serves a page for every path, on a thread and a runtime of its own.
fn start_server() -> io::Result<SocketAddr> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || block_on(serve(&tell)));
    told.recv()
        .expect("the server has said where it listens, or why it does not")
}

async fn serve(tell: &mpsc::Sender<io::Result<SocketAddr>>) {
    let listener = match TcpListener::bind("127.0.0.1:0").await {
        Ok(listener) => listener,
        Err(error) => return tell.send(Err(error)).unwrap_or(()),
    };
    tell.send(listener.local_addr()).unwrap_or(());
    let mut incoming = listener.incoming();
    while let Some(connection) = incoming.next().await {
        match connection {
            Ok(stream) => spawn(async move {
                if let Err(error) = answer(stream).await {
                    eprintln!("server: {error}");
                }
            })
            .detach(),
            Err(error) => eprintln!("server: cannot accept: {error}"),
        }
    }
}

async fn answer(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().await.transpose()?.unwrap_or_default();
    while lines
        .next()
        .await
        .transpose()?
        .is_some_and(|header| !header.is_empty())
    {}

    sleep(Duration::from_millis(100)).await;
    let path = request.split(' ').nth(1).unwrap_or("nowhere");
    let body = format!("<!doctype html><title>{path}</title><p>This is {path}.</p>\n");
    let length = body.len();
    let reply = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    (&stream).write_all(reply.as_bytes()).await
}
