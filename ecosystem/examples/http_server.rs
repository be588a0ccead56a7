//! A web server on `soloist_hyper::serve`: HTTP/1 and HTTP/2, with timeouts and a graceful shutdown.
//!
//! cargo run --release -p soloist-ecosystem --example http_server
//! cargo run --release -p soloist-ecosystem --example http_server -- --dir docs 127.0.0.1:8080
//! curl --data-binary @README.md http://127.0.0.1:8080/echo

#[path = "../../examples/cli/mod.rs"]
mod cli;

use cli::{say, seconds};
use futures_lite::future::or;
use futures_lite::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use lexopt::prelude::*;
use soloist::blocking::Unblock;
use soloist::io::AsyncReadExt;
use soloist::net::TcpListener;
use soloist::promise::promise;
use soloist::{block_on, time, unblock};
use std::convert::Infallible;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const USAGE: &str = "\
usage: http_server [OPTION]... [ADDRESS]

Listens on ADDRESS (127.0.0.1:8080; with port 0 the system picks one) and prints the address, then a
line for each request. It serves:

  /            a greeting
  /slow?N      a greeting after N milliseconds (1000)
  /echo        the body of a POST, sent back as it arrives
  /files/NAME  the files in DIR and its subdirectories

  --dir DIR                 the directory of /files/, which is empty without this
  --header-timeout SECONDS  close a connection if no complete request has arrived after this long (10)
  --idle-timeout SECONDS    close a connection if no byte was transferred for this long (at most twice
                            this long) in the middle of a request or a response (30)
  --quiet                   do not print requests

Ctrl-C stops accepting connections, closes idle ones, and lets the current requests finish. A second
Ctrl-C ends those too, with exit status 1.";

fn main() -> ExitCode {
    match block_on(serve(cli::parse(USAGE, Options::from_args))) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("http_server: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) struct Options {
    address: String,
    dir: Option<PathBuf>,
    header_timeout: Duration,
    idle_timeout: Duration,
    quiet: bool,
}

impl Options {
    pub(crate) fn from_args(args: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
        let (mut address, mut dir, mut quiet) = (None, None, false);
        let (mut header_timeout, mut idle_timeout) =
            (Duration::from_secs(10), Duration::from_secs(30));
        while let Some(arg) = args.next()? {
            match arg {
                Long("dir") => dir = Some(args.value()?.into()),
                Long("header-timeout") => header_timeout = args.value()?.parse_with(seconds)?,
                Long("idle-timeout") => idle_timeout = args.value()?.parse_with(seconds)?,
                Long("quiet") => quiet = true,
                Value(value) if address.is_none() => address = Some(value.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        let address = address.unwrap_or("127.0.0.1:8080".into());
        Ok(Options {
            address,
            dir,
            header_timeout,
            idle_timeout,
            quiet,
        })
    }
}

pub(crate) async fn serve(options: Options) -> io::Result<ExitCode> {
    let mut interrupts = interrupts()?;
    let (stop, stopping) = promise();
    let listener = TcpListener::bind(options.address.as_str()).await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    let quiet = options.quiet;
    let (header_timeout, idle_timeout) = (options.header_timeout, options.idle_timeout);
    let options = Rc::new(options);
    let service = move |&peer: &SocketAddr| {
        let options = options.clone();
        service_fn(move |request| respond(request, peer, options.clone()))
    };
    let server = soloist_hyper::serve_with(listener, service)
        .header_timeout(header_timeout)
        .idle_timeout(idle_timeout)
        .with_graceful_shutdown(async {
            let _ = stopping.await;
        })
        .on_error(move |peer, error| match peer {
            Some(peer) if !quiet => say(&format!("{peer} failed: {}", explain(error))),
            Some(_) => {}
            None => eprintln!("http_server: cannot accept: {error}"),
        });
    let finished = async {
        server.await;
        ExitCode::SUCCESS
    };
    let interrupted_twice = async {
        interrupts.next().await;
        say("stopping");
        let _ = stop.set(());
        interrupts.next().await;
        ExitCode::FAILURE
    };
    Ok(or(finished, interrupted_twice).await)
}

/// Every Ctrl-C, including one that comes while nothing waits for it, which `signal::ctrl_c` would miss.
#[cfg(unix)]
fn interrupts() -> io::Result<impl Stream<Item = io::Result<()>>> {
    use soloist::signal::unix::{SignalKind, signal};
    signal(SignalKind::interrupt())
}

/// On other systems Ctrl-C ends the process.
#[cfg(not(unix))]
fn interrupts() -> io::Result<impl Stream<Item = io::Result<()>>> {
    Ok(stream::pending())
}

async fn respond(
    request: Request<Incoming>,
    peer: SocketAddr,
    options: Rc<Options>,
) -> Result<Response<AnyBody>, Infallible> {
    let line = format!("{peer} {} {}", request.method(), request.uri());
    let response = answer(request, &options).await;
    if !options.quiet {
        say(&format!("{line} {}", response.status().as_u16()));
    }
    Ok(response)
}

fn explain(error: &soloist_hyper::Error) -> String {
    let source = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Not `Send`, which nothing here needs.
type AnyBody = Pin<Box<dyn Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>>>>;

async fn answer(request: Request<Incoming>, options: &Options) -> Response<AnyBody> {
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/echo" if request.method() == Method::POST => {
            let kind = request.headers().get(CONTENT_TYPE).cloned();
            let mut response = Response::new(request.into_body().map_err(Into::into));
            response
                .headers_mut()
                .extend(kind.map(|kind| (CONTENT_TYPE, kind)));
            response.map(|body| Box::pin(body) as AnyBody)
        }
        "/echo" => not_allowed("POST"),
        _ if !reading => not_allowed("GET, HEAD"),
        "/" => text(StatusCode::OK, "Hello from one thread.\n"),
        "/slow" => {
            let wanted = request.uri().query().unwrap_or("1000").parse();
            match wanted {
                Ok(milliseconds) => time::sleep(Duration::from_millis(milliseconds)).await,
                Err(_) => {
                    return text(
                        StatusCode::BAD_REQUEST,
                        "Expected a number of milliseconds.\n",
                    );
                }
            }
            text(StatusCode::OK, "Hello after a while.\n")
        }
        path => {
            let name = path.strip_prefix("/files/");
            match open(options, name.unwrap_or_default()).await {
                Ok(response) => response,
                Err(_) => text(StatusCode::NOT_FOUND, "Not found.\n"),
            }
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<AnyBody> {
    let body = Full::new(Bytes::from(text)).map_err(Into::into);
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(Box::pin(body) as AnyBody)
        .expect("these headers are valid")
}

fn not_allowed(methods: &'static str) -> Response<AnyBody> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed.\n");
    let methods = hyper::header::HeaderValue::from_static(methods);
    response.headers_mut().insert(ALLOW, methods);
    response
}

/// The response with a file of the directory, which the thread pool reads while it is sent.
async fn open(options: &Options, name: &str) -> io::Result<Response<AnyBody>> {
    const CHUNK: usize = 64 * 1024;
    let (Some(dir), Some(name)) = (&options.dir, decode(name)) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    // No parent directories, hidden files or other drives.
    let odd = |part: &str| part.is_empty() || part.starts_with('.') || part.contains(['\\', ':']);
    if name.split('/').any(odd) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let path = dir.join(&name);
    let (file, length) = unblock(move || {
        // Checked before opening it, since opening a pipe blocks until its other end is open.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    })
    .await?;
    // Sends no more bytes than announced, even if the file grows.
    let file = Unblock::with_capacity(CHUNK, file).take(length);
    let chunks = stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let n = file.read(&mut chunk).await?;
        chunk.truncate(n);
        Ok::<_, Box<dyn Error + Send + Sync>>(
            (n > 0).then(|| (Frame::data(Bytes::from(chunk)), file)),
        )
    });
    let kind = match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css",
        "js" => "text/javascript",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "md" | "rs" | "toml" | "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let response = Response::builder()
        .header(CONTENT_TYPE, kind)
        .header(CONTENT_LENGTH, length)
        .body(Box::pin(StreamBody::new(chunks)) as AnyBody);
    Ok(response.expect("these headers are valid"))
}

/// Decodes the path of a URL. Returns `None` if it is invalid.
fn decode(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut text = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        text.push(u8::from_str_radix(digits, 16).ok()?);
        text.extend(rest.as_bytes());
    }
    String::from_utf8(text)
        .ok()
        .filter(|text| !text.contains('\0'))
}
