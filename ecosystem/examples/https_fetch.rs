//! Fetches web pages over TLS, many at once, on one thread: hyper speaks HTTP and rustls TLS.
//!
//! cargo run --release -p soloist-ecosystem --example https_fetch -- https://www.rust-lang.org/ https://docs.rs/
//! cargo run --release -p soloist-ecosystem --example https_fetch -- --cacert ca.pem https://localhost:8443/

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
use std::process::{self, ExitCode};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "\
usage: https_fetch [OPTION]... URL...

Fetches all URLs, which are https:// or http://, and prints a line for each as it finishes: the
status, the bytes of the body, the time, and where it was redirected to. Whatever the server
answers is a page, a 404 too. Up to 10 redirects are followed. What comes compressed is left as it
is. While a page comes, it has a progress bar, if standard error is a terminal.

  --jobs N           fetch at most N pages at a time (8)
  --timeout SECONDS  give up on a page after this long, fractions are welcome (30)
  --cacert FILE      trust the authorities in FILE, which is in PEM format, and no others; without
                     it those that Mozilla trusts
  --output DIR       write the bodies to DIR/1, DIR/2, ..., numbered as the URLs were given

The exit status is 0, or 1 if a page could not be fetched, or 2 if the arguments are wrong.";

const MAX_REDIRECTS: usize = 10;

fn main() -> ExitCode {
    let args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let options = match Options::parse(args.skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("https_fetch: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    block_on(fetch_all(options))
}

struct Options {
    jobs: usize,
    timeout: Duration,
    tls: TlsConnector,
    output: Option<PathBuf>,
    urls: Vec<String>,
}

impl Options {
    /// `None` is a request for help.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let (mut jobs, mut seconds) = (8, 30.0);
        let (mut cacert, mut output, mut urls) = (None, None, Vec::new());
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--jobs" => {
                    let number = value()?.parse().ok().filter(|&jobs| jobs > 0);
                    jobs = number.ok_or("--jobs must be a number, at least 1")?;
                }
                "--timeout" => seconds = value()?.parse().unwrap_or(0.0),
                "--cacert" => cacert = Some(value()?),
                "--output" => output = Some(PathBuf::from(value()?)),
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}")),
                _ => urls.push(arg),
            }
        }
        let timeout = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        if timeout.is_zero() {
            return Err("--timeout must be a number of seconds, above 0".into());
        }
        if urls.is_empty() {
            return Err("there is no URL".into());
        }
        if let Some(dir) = &output {
            let created = fs::create_dir_all(dir);
            created.map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        }
        Ok(Some(Options {
            jobs,
            timeout,
            tls: connector(cacert.as_deref())?,
            output,
            urls,
        }))
    }
}

/// What makes TLS connections to whom the authorities vouch for.
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

struct Run {
    options: Options,
    bars: MultiProgress,
    /// The index of the first URL that nobody has taken.
    next: Cell<usize>,
    pages: Cell<usize>,
    bytes: Cell<u64>,
}

impl Run {
    /// Prints a line above the bars.
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

/// One of the jobs: takes the next page that nobody has taken, until there is none.
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
        // The connection goes with the reply: dropping its task closes it.
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

/// Asks for a page on a connection of its own, and returns the reply as soon as its headers
/// are here. The task moves the bytes.
async fn get(tls: &TlsConnector, url: &Uri) -> Result<(Task<()>, Response<Incoming>), String> {
    let authority = url.authority().expect("it has been checked").as_str();
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
            .map_err(|_| format!("no certificate can be for the name {host:?}"))?;
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
        .map_err(|error| format!("malformed URL: {error}"))?;
    let lost = |error: hyper::Error| format!("lost before the reply: {}", explain(&error));
    let (mut sender, connection) = http1::handshake(FuturesIo::new(stream))
        .await
        .map_err(lost)?;
    let connection = spawn(async move {
        // An error reaches whoever waits for the reply or for its body.
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
        let lost = |error| format!("lost after {bytes} bytes: {}", explain(&error));
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
    let malformed = |why: &str| format!("malformed URL: {why}");
    let url: Uri = url
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| malformed(&error.to_string()))?;
    if !matches!(url.scheme_str(), Some("https" | "http")) {
        return Err(malformed("it does not begin with https:// or http://"));
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("user names in URLs are not supported".into());
    }
    let host = url.host().unwrap_or_default();
    if host.is_empty() {
        return Err(malformed("there is no host"));
    }
    if authority != host && url.port_u16().is_none() {
        return Err(malformed("the port is none"));
    }
    Ok(url)
}

/// Where a redirect leads to, which may leave out what it has in common with the page that
/// it is from: RFC 3986, section 5.2.
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
        let origin = format!("{scheme}://{}", base.authority().expect("it has one"));
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

/// `/a/./b/../c` is `/a/c`.
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

/// Servers send blanks and letters of all alphabets that should be percent-encoded.
fn printable(text: &[u8]) -> String {
    let encode = |&byte: &u8| match byte {
        b'!'..=b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.trim_ascii().iter().map(encode).collect()
}

/// Why there is no TLS connection, in the words of somebody who looks at the certificate.
fn explain_tls(host: &str, error: &io::Error) -> String {
    use CertificateError::*;
    let tls = error.get_ref().and_then(|error| error.downcast_ref());
    let why = match tls {
        Some(rustls::Error::InvalidCertificate(why)) => why,
        Some(error) => return format!("no TLS connection: {error}"),
        None => return format!("lost during the TLS handshake: {error}"),
    };
    let days = |from: u64, to: u64| match to.saturating_sub(from) / (24 * 60 * 60) {
        1 => "1 day".to_string(),
        days => format!("{days} days"),
    };
    let certificate = format!("the certificate of {host}");
    match why {
        NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("{certificate} is for no name at all")
        }
        NotValidForNameContext { presented, .. } => {
            // They come as `DnsName("www.example.com")` and `IpAddress(192.0.2.1)`.
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
            format!("{certificate} has expired, {days} ago")
        }
        Expired => format!("{certificate} has expired"),
        NotValidYetContext { time, not_before } => {
            let days = days(time.as_secs(), not_before.as_secs());
            format!("{certificate} is not valid yet, it will be in {days}")
        }
        NotValidYet => format!("{certificate} is not valid yet"),
        UnknownIssuer => format!("{certificate} is not from an authority that is trusted"),
        BadSignature => format!("{certificate} has a signature that is wrong"),
        // What `openssl req -x509` makes, unless it is told otherwise.
        Other(why) if format!("{why:?}").contains("CaUsedAsEndEntity") => {
            format!("{certificate} is that of an authority, which may only sign those of servers")
        }
        why => format!("{certificate} is not accepted: {why}"),
    }
}

/// The error, and what has led to it.
fn explain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Whoever reads the lines may have seen enough (`| head`): then there is nothing left to do.
fn say(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() {
        process::exit(1);
    }
}
