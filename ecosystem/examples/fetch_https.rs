//! Fetches many web pages at once, on one thread: over TLS, with HTTP/2 where the server has it, with
//! redirects, compression, retries and progress bars.
//!
//! cargo run --release -p soloist-ecosystem --example fetch_https -- https://www.rust-lang.org/ https://docs.rs/
//! cargo run --release -p soloist-ecosystem --example fetch_https -- --cacert ca.pem https://localhost:8443/

#[path = "../../examples/cli/mod.rs"]
mod cli;

use cli::{positive, say_or_exit as say, seconds};
use flate2::write::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::client::legacy::{self, Client};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lexopt::prelude::*;
use soloist::time::{now, sleep, timeout};
use soloist::{block_on, spawn};
use soloist_hyper::tls::rustls::pki_types::CertificateDer;
use soloist_hyper::tls::rustls::pki_types::pem::PemObject;
use soloist_hyper::tls::rustls::{self, CertificateError};
use soloist_hyper::tls::{RootCertStore, client_config};
use soloist_hyper::{Connector, Executor, Timer};
use std::cell::Cell;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use url::Url;

const USAGE: &str = "\
usage: fetch_https [OPTION]... URL...

Fetches all URLs, which must start with https:// or http://, and prints a line for each when it is done:
the status, the size of the body, the time, and the target of redirects. Any reply counts as a page, a 404
too. Follows up to 10 redirects, and decompresses bodies. Shows a progress bar for each page if standard
error is a terminal.

  --jobs N           fetch at most N pages at a time (8)
  --timeout SECONDS  give up on a page after SECONDS, which may be a fraction (30)
  --retries N        try a page up to N times more if the connection fails, or if the status is 429,
                     502, 503 or 504; with pauses of 0.5 s, 1 s, 2 s, ... (2)
  --from FILE        read more URLs from FILE, or from standard input if FILE is -; one per line,
                     skipping empty lines and lines that start with #
  --cacert FILE      trust only the certificate authorities in FILE (PEM), not those of the system
  --output DIR       write the bodies to DIR/1, DIR/2, ..., in the order of the URLs

Exits with 0, with 1 if a page could not be fetched, or with 2 if the arguments are invalid.";

const MAX_REDIRECTS: usize = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    block_on(fetch_all(cli::parse(USAGE, Options::from_args)))
}

struct Options {
    jobs: usize,
    timeout: Duration,
    retries: u32,
    connector: Connector,
    output: Option<PathBuf>,
    urls: Vec<String>,
}

impl Options {
    fn from_args(args: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
        let (mut jobs, mut timeout, mut retries) = (8, Duration::from_secs(30), 2);
        let mut connector = Connector::new();
        let (mut output, mut urls) = (None, Vec::new());
        while let Some(arg) = args.next()? {
            match arg {
                Long("jobs") => jobs = args.value()?.parse_with(positive)?,
                Long("timeout") => timeout = args.value()?.parse_with(seconds)?,
                Long("retries") => retries = args.value()?.parse()?,
                Long("from") => urls.extend(cli::read_list(args.value()?)?),
                Long("cacert") => connector = trust_only(&args.value()?.string()?)?,
                Long("output") => output = Some(PathBuf::from(args.value()?)),
                Value(url) => urls.push(url.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        if urls.is_empty() {
            return Err("there is no URL".into());
        }
        if let Some(dir) = &output {
            let created = fs::create_dir_all(dir);
            created.map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        }
        Ok(Options {
            jobs,
            timeout,
            retries,
            connector,
            output,
            urls,
        })
    }
}

/// Makes TLS connections that trust the authorities in a file.
fn trust_only(file: &str) -> Result<Connector, String> {
    let why = |error: &dyn Error| format!("cannot read certificates from {file}: {error}");
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(file).map_err(|error| why(&error))? {
        let authority = authority.map_err(|error| why(&error))?;
        roots.add(authority).map_err(|error| why(&error))?;
    }
    if roots.is_empty() {
        return Err(format!("there is no certificate in {file}"));
    }
    Ok(Connector::with_tls(client_config(roots)))
}

/// What all jobs share.
struct Run {
    options: Options,
    client: Client<Connector, Full<Bytes>>,
    bars: MultiProgress,
    /// The index of the next URL to fetch.
    next: Cell<usize>,
    pages: Cell<usize>,
    bytes: Cell<u64>,
}

impl Run {
    /// Prints a line above the progress bars.
    fn say(&self, line: &str) {
        self.bars.suspend(|| say(line));
    }
}

async fn fetch_all(options: Options) -> ExitCode {
    let started = now();
    let urls = options.urls.len();
    let jobs = options.jobs.min(urls);
    let client = Client::builder(Executor)
        .pool_timer(Timer)
        .build(options.connector.clone());
    let run = Rc::new(Run {
        options,
        client,
        bars: MultiProgress::new(),
        next: Cell::new(0),
        pages: Cell::new(0),
        bytes: Cell::new(0),
    });
    let workers: Vec<_> = (0..jobs).map(|_| spawn(work(run.clone()))).collect();
    for worker in workers {
        worker.await;
    }
    let (pages, bytes) = (run.pages.get(), run.bytes.get());
    let failed = match urls - pages {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let seconds = started.elapsed().as_secs_f64();
    say(&format!(
        "{pages} pages, {bytes} bytes{failed}, in {seconds:.3} s"
    ));
    ExitCode::from(u8::from(pages < urls))
}

/// One job: fetches the next URL until none is left.
async fn work(run: Rc<Run>) {
    let style = "{bytes:>11} of {total_bytes:<11} {bar:20} {msg}";
    let style = ProgressStyle::with_template(style).expect("the template is well-formed");
    let options = &run.options;
    while let Some(url) = options.urls.get(run.next.get()) {
        let number = run.next.get() + 1;
        run.next.set(number);
        let started = now();
        let output = options.output.as_ref();
        let file = output.map(|dir| dir.join(number.to_string()));
        let bar = run.bars.add(ProgressBar::no_length());
        bar.set_style(style.clone());
        bar.set_message(url.clone());
        let page = fetch(&run, url, file.as_deref(), &bar);
        let page = match timeout(options.timeout, page).await {
            Ok(page) => page,
            Err(_) => Err(format!(
                "timed out after {} s",
                options.timeout.as_secs_f64()
            )),
        };
        bar.finish_and_clear();
        run.bars.remove(&bar);
        let seconds = started.elapsed().as_secs_f64();
        match page {
            Ok(page) => {
                run.pages.set(run.pages.get() + 1);
                run.bytes.set(run.bytes.get() + page.bytes);
                let (status, bytes) = (page.status, page.bytes);
                let to = page.redirected.map(|to| format!(" -> {to}"));
                let to = to.unwrap_or_default();
                run.say(&format!(
                    "{status:>4} {bytes:>11} bytes {seconds:>8.3} s  {url}{to}"
                ));
            }
            Err(error) => {
                if let Some(file) = file {
                    let _ = fs::remove_file(file);
                }
                run.say(&format!("fail {:>17} {seconds:>8.3} s  {url}: {error}", ""));
            }
        }
    }
}

struct Page {
    status: u16,
    /// The size of the body, decompressed.
    bytes: u64,
    redirected: Option<Url>,
}

/// Follows redirects.
async fn fetch(
    run: &Run,
    url: &str,
    file: Option<&Path>,
    bar: &ProgressBar,
) -> Result<Page, String> {
    let mut url = Url::parse(url).map_err(|error| format!("invalid URL: {error}"))?;
    check(&url)?;
    let mut redirects = 0;
    loop {
        let (status, bytes, location) = retry(run, &url, file, bar).await?;
        let Some(location) = location else {
            return Ok(Page {
                status,
                bytes,
                redirected: (redirects > 0).then_some(url),
            });
        };
        redirects += 1;
        if redirects > MAX_REDIRECTS {
            return Err(format!(
                "more than {MAX_REDIRECTS} redirects, the last one to {location}"
            ));
        }
        let joined = url.join(&location).map_err(|error| error.to_string());
        let joined = joined.and_then(|url| check(&url).map(|()| url));
        url = joined.map_err(|error| format!("redirected to {location:?}: {error}"))?;
        url.set_fragment(None);
        bar.set_message(url.to_string());
    }
}

fn check(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "https" | "http") {
        return Err("invalid URL: it does not start with https:// or http://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user names in URLs are not supported".into());
    }
    Ok(())
}

/// Why a page could not be fetched, and whether another attempt may help.
struct Failure {
    why: String,
    temporary: bool,
}

/// The status, the size of the body, and the target of a redirect, for which no body is read.
type Reply = (u16, u64, Option<String>);

/// Repeats what may have failed only for a moment.
async fn retry(
    run: &Run,
    url: &Url,
    file: Option<&Path>,
    bar: &ProgressBar,
) -> Result<Reply, String> {
    let mut pause = FIRST_PAUSE;
    for _ in 0..run.options.retries {
        match get(run, url, file, bar).await {
            Ok((429 | 502 | 503 | 504, ..)) => {}
            Err(failure) if failure.temporary => {}
            done => return done.map_err(|failure| failure.why),
        }
        bar.reset();
        sleep(pause).await;
        pause *= 2;
    }
    let last = get(run, url, file, bar).await;
    last.map_err(|failure| failure.why)
}

async fn get(
    run: &Run,
    url: &Url,
    file: Option<&Path>,
    bar: &ProgressBar,
) -> Result<Reply, Failure> {
    let permanent = |why: String| Failure {
        why,
        temporary: false,
    };
    let request = Request::get(url.as_str())
        .header(USER_AGENT, "soloist")
        .header(ACCEPT_ENCODING, "gzip")
        .body(Full::default())
        .map_err(|error| permanent(format!("invalid URL: {error}")))?;
    let host = url.host_str().unwrap_or_default();
    let response = run.client.request(request).await;
    let response = response.map_err(|error| explain(host, &error))?;
    let status = response.status().as_u16();
    let location = response.headers().get(LOCATION);
    let location = location.filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308));
    if let Some(location) = location {
        // Some servers send characters that are not ASCII.
        let location = String::from_utf8_lossy(location.as_bytes());
        return Ok((status, 0, Some(location.into_owned())));
    }
    let output: Box<dyn Write> = match file {
        Some(file) => {
            let created = File::create(file);
            Box::new(created.map_err(|e| permanent(format!("cannot create the file: {e}")))?)
        }
        None => Box::new(io::sink()),
    };
    let mut output = Counted { output, bytes: 0 };
    let encoding = response.headers().get(CONTENT_ENCODING);
    let gzip = encoding.is_some_and(|encoding| encoding == "gzip");
    if gzip {
        let mut decoder = MultiGzDecoder::new(&mut output);
        read_body(response, &mut decoder, bar).await?;
        let finished = decoder.finish();
        finished.map_err(|e| permanent(format!("cannot decompress the body: {e}")))?;
    } else {
        read_body(response, &mut output, bar).await?;
    }
    Ok((status, output.bytes, None))
}

/// Counts what is written.
struct Counted {
    output: Box<dyn Write>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.output.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

async fn read_body(
    response: Response<Incoming>,
    output: &mut impl Write,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut body = response.into_body();
    if let Some(length) = body.size_hint().exact() {
        bar.set_length(length);
    }
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure {
            why: format!("connection lost after {bytes} bytes: {}", chain(&error)),
            temporary: true,
        })?;
        if let Ok(chunk) = frame.into_data() {
            output.write_all(&chunk).map_err(|error| Failure {
                why: format!("cannot write the body: {error}"),
                temporary: false,
            })?;
            bytes += chunk.len() as u64;
            bar.set_position(bytes);
        }
    }
    Ok(())
}

/// Describes why there is no response.
fn explain(host: &str, error: &legacy::Error) -> Failure {
    let source = error.source();
    let io = source.and_then(|error| error.downcast_ref::<io::Error>());
    let tls = io.and_then(io::Error::get_ref);
    let tls = tls.and_then(|error| error.downcast_ref::<rustls::Error>());
    let why = match (tls, io) {
        (Some(tls), _) => explain_tls(host, tls),
        (None, Some(io)) if error.is_connect() => format!("cannot connect: {io}"),
        _ => format!("connection lost before the reply: {}", chain(error)),
    };
    let temporary = tls.is_none();
    Failure { why, temporary }
}

/// Describes why a TLS handshake failed, in terms of the certificate.
fn explain_tls(host: &str, error: &rustls::Error) -> String {
    use CertificateError::*;
    let why = match error {
        rustls::Error::InvalidCertificate(why) => why,
        error => return format!("TLS handshake failed: {error}"),
    };
    let days = |from: u64, to: u64| match to.saturating_sub(from) / (24 * 60 * 60) {
        1 => "1 day".to_string(),
        days => format!("{days} days"),
    };
    let certificate = format!("the certificate of {host}");
    match why {
        NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("{certificate} contains no name")
        }
        NotValidForNameContext { presented, .. } => {
            // rustls formats them as `DnsName("www.example.com")` and `IpAddress(192.0.2.1)`.
            let plain = |name: &String| {
                let mut parts = name.split(['(', '"', ')']).skip(1);
                parts
                    .find(|part| !part.is_empty())
                    .unwrap_or(name)
                    .to_string()
            };
            let names: Vec<_> = presented.iter().map(plain).collect();
            format!("{certificate} is for another name: {}", names.join(", "))
        }
        NotValidForName => format!("{certificate} is for another name"),
        ExpiredContext { time, not_after } => {
            let days = days(not_after.as_secs(), time.as_secs());
            format!("{certificate} expired {days} ago")
        }
        Expired => format!("{certificate} has expired"),
        NotValidYetContext { time, not_before } => {
            let days = days(time.as_secs(), not_before.as_secs());
            format!("{certificate} is not valid yet, but in {days}")
        }
        NotValidYet => format!("{certificate} is not valid yet"),
        UnknownIssuer => format!("{certificate} is not from a trusted authority"),
        BadSignature => format!("{certificate} has an invalid signature"),
        // The default of `openssl req -x509`.
        Other(why) if format!("{why:?}").contains("CaUsedAsEndEntity") => {
            format!("{certificate} is for an authority, not for a server")
        }
        why => format!("{certificate} is not accepted: {why}"),
    }
}

/// The error and its sources.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
