//! Fetches many web pages over TLS at once, on one thread, with hyper for HTTP and rustls for TLS.
//!
//! cargo run --release -p soloist-ecosystem --example https_fetch -- https://www.rust-lang.org/ https://docs.rs/
//! cargo run --release -p soloist-ecosystem --example https_fetch -- --cacert ca.pem https://localhost:8443/

#[path = "../../examples/cli/mod.rs"]
mod cli;

use cli::{positive, say_or_exit as say, seconds};
use futures_rustls::TlsConnector;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, ServerName};
use futures_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, Uri};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lexopt::prelude::*;
use smol_hyper::rt::FuturesIo;
use soloist::io::{AsyncRead, AsyncWrite};
use soloist::net::TcpStream;
use soloist::time::{now, timeout};
use soloist::{Task, block_on, spawn};
use std::cell::Cell;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "\
usage: https_fetch [OPTION]... URL...

Fetches all URLs, which must start with https:// or http://, and prints a line for each when it is done:
the status, the size of the body, the time, and the target of redirects. Any reply counts as a page, a 404
too. Follows up to 10 redirects. Does not decompress bodies. Shows a progress bar for each page if standard
error is a terminal.

  --jobs N           fetch at most N pages at a time (8)
  --timeout SECONDS  give up on a page after SECONDS, which may be a fraction (30)
  --cacert FILE      trust only the certificate authorities in FILE (PEM), not those of Mozilla
  --output DIR       write the bodies to DIR/1, DIR/2, ..., in the order of the URLs

Exits with 0, with 1 if a page could not be fetched, or with 2 if the arguments are invalid.";

const MAX_REDIRECTS: usize = 10;

fn main() -> ExitCode {
    block_on(fetch_all(cli::parse(USAGE, Options::from_args)))
}

struct Options {
    jobs: usize,
    timeout: Duration,
    tls: TlsConnector,
    output: Option<PathBuf>,
    urls: Vec<String>,
}

impl Options {
    fn from_args(args: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
        let (mut jobs, mut timeout) = (8, Duration::from_secs(30));
        let (mut cacert, mut output, mut urls) = (None, None, Vec::new());
        while let Some(arg) = args.next()? {
            match arg {
                Long("jobs") => jobs = args.value()?.parse_with(positive)?,
                Long("timeout") => timeout = args.value()?.parse_with(seconds)?,
                Long("cacert") => cacert = Some(args.value()?.string()?),
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
            tls: connector(cacert.as_deref())?,
            output,
            urls,
        })
    }
}

/// Makes TLS connections that trust the authorities in `cacert`, or those of Mozilla.
fn connector(cacert: Option<&str>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match cacert {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let why = |error: &dyn Error| format!("cannot read certificates from {file}: {error}");
            for authority in CertificateDer::pem_file_iter(file).map_err(|error| why(&error))? {
                let authority = authority.map_err(|error| why(&error))?;
                roots.add(authority).map_err(|error| why(&error))?;
            }
            if roots.is_empty() {
                return Err(format!("there is no certificate in {file}"));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What all jobs share.
struct Run {
    options: Options,
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
    let run = Rc::new(Run {
        options,
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
        let page = fetch(&options.tls, url, file.as_deref(), &bar);
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
    bytes: u64,
    redirected: Option<Uri>,
}

async fn fetch(
    tls: &TlsConnector,
    url: &str,
    file: Option<&Path>,
    bar: &ProgressBar,
) -> Result<Page, String> {
    let mut url = parse(url)?;
    let mut redirects = 0;
    loop {
        // Dropping the task of the connection closes it.
        let (_connection, response) = get(tls, &url).await?;
        let status = response.status().as_u16();
        let location = response.headers().get(LOCATION);
        match location.filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308)) {
            Some(location) => {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(format!(
                        "more than {MAX_REDIRECTS} redirects, the last one to {}",
                        printable(location.as_bytes())
                    ));
                }
                url = join(&url, location.as_bytes())?;
                bar.set_message(url.to_string());
            }
            None => {
                let bytes = match file {
                    Some(file) => {
                        let why = |error| format!("cannot create the file: {error}");
                        let mut file = File::create(file).map_err(why)?;
                        read_body(response, &mut file, bar).await?
                    }
                    None => read_body(response, &mut io::sink(), bar).await?,
                };
                return Ok(Page {
                    status,
                    bytes,
                    redirected: (redirects > 0).then_some(url),
                });
            }
        }
    }
}

/// A connection, encrypted or not.
trait Connection: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection for S {}

/// Requests a page on a new connection, and returns the reply when its headers have arrived. The task
/// drives the connection.
async fn get(tls: &TlsConnector, url: &Uri) -> Result<(Task<()>, Response<Incoming>), String> {
    let authority = url.authority().expect("checked by `parse`").as_str();
    let secure = url.scheme_str() == Some("https");
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let connecting = TcpStream::connect((host, port));
    let stream = connecting
        .await
        .map_err(|error| format!("cannot connect: {error}"))?;
    stream
        .set_nodelay(true)
        .map_err(|error| format!("cannot connect: {error}"))?;
    let stream: Box<dyn Connection> = if secure {
        let name = ServerName::try_from(host.to_string())
            .map_err(|_| format!("{host:?} is not a name for a certificate"))?;
        let handshake = tls.connect(name, stream);
        Box::new(handshake.await.map_err(|error| explain_tls(host, &error))?)
    } else {
        Box::new(stream)
    };

    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, "soloist")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("invalid URL: {error}"))?;
    let lost =
        |error: hyper::Error| format!("connection lost before the reply: {}", explain(&error));
    let (mut sender, connection) = http1::handshake(FuturesIo::new(stream))
        .await
        .map_err(lost)?;
    let connection = spawn(async move {
        // Its errors are also returned by the request and by the body.
        let _ = connection.await;
    });
    let response = sender.send_request(request).await.map_err(lost)?;
    Ok((connection, response))
}

async fn read_body(
    response: Response<Incoming>,
    file: &mut impl Write,
    bar: &ProgressBar,
) -> Result<u64, String> {
    let mut body = response.into_body();
    if let Some(length) = hyper::body::Body::size_hint(&body).exact() {
        bar.set_length(length);
    }
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let lost = |error| format!("connection lost after {bytes} bytes: {}", explain(&error));
        if let Ok(chunk) = frame.map_err(lost)?.into_data() {
            let why = |error| format!("cannot write the file: {error}");
            file.write_all(&chunk).map_err(why)?;
            bytes += chunk.len() as u64;
            bar.set_position(bytes);
        }
    }
    Ok(bytes)
}

fn parse(url: &str) -> Result<Uri, String> {
    let invalid = |why: &str| format!("invalid URL: {why}");
    let url: Uri = url
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| invalid(&error.to_string()))?;
    if !matches!(url.scheme_str(), Some("https" | "http")) {
        return Err(invalid("it does not start with https:// or http://"));
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("user names in URLs are not supported".into());
    }
    let host = url.host().unwrap_or_default();
    if host.is_empty() {
        return Err(invalid("there is no host"));
    }
    if authority != host && url.port_u16().is_none() {
        return Err(invalid("the port is not a number up to 65535"));
    }
    Ok(url)
}

/// The target of a redirect, which may be relative to the page: RFC 3986, section 5.2.
fn join(base: &Uri, location: &[u8]) -> Result<Uri, String> {
    let location = printable(location);
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str().unwrap_or_default();
    let head = &location[..location.find(['/', '?']).unwrap_or(location.len())];
    let joined = if head.contains(':') {
        location.to_string()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else {
        let origin = format!(
            "{scheme}://{}",
            base.authority().expect("checked by `parse`")
        );
        let path = base.path();
        let (path, query) = match location.chars().next() {
            None => (base.path_and_query().map_or("/", |path| path.as_str()), ""),
            Some('/') => (location, ""),
            Some('?') => (path, location),
            Some(_) => (&path[..=path.rfind('/').unwrap_or(0)], location),
        };
        let path = format!("{path}{query}");
        let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        format!("{origin}{}{query}", without_dots(path))
    };
    let location = printable(location.as_bytes());
    parse(&joined).map_err(|error| format!("redirected to {location:?}: {error}"))
}

/// Removes `.` and `..`: `/a/./b/../c` becomes `/a/c`.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        parts.push("");
    }
    format!("/{}", parts.join("/"))
}

/// Percent-encodes blanks and non-ASCII characters, which some servers send in headers.
fn printable(text: &[u8]) -> String {
    let encode = |&byte: &u8| match byte {
        b'!'..=b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.trim_ascii().iter().map(encode).collect()
}

/// Describes why a TLS handshake failed, in terms of the certificate.
fn explain_tls(host: &str, error: &io::Error) -> String {
    use CertificateError::*;
    let tls = error.get_ref().and_then(|error| error.downcast_ref());
    let why = match tls {
        Some(rustls::Error::InvalidCertificate(why)) => why,
        Some(error) => return format!("TLS handshake failed: {error}"),
        None => return format!("connection lost during the TLS handshake: {error}"),
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
fn explain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
