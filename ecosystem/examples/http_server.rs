//! A web server: HTTP by hyper, sockets, timers and Ctrl-C by soloist.
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
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use lexopt::prelude::*;
use smol_hyper::rt::FuturesIo;
use soloist::blocking::Unblock;
use soloist::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use soloist::net::{TcpListener, TcpStream};
use soloist::promise::{Promised, promise};
use soloist::{block_on, spawn, time, unblock};
use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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

struct Options {
    address: String,
    dir: Option<PathBuf>,
    header_timeout: Duration,
    idle_timeout: Duration,
    quiet: bool,
}

impl Options {
    fn from_args(args: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
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

async fn serve(options: Options) -> io::Result<ExitCode> {
    let mut interrupts = interrupts()?;
    let listener = TcpListener::bind(options.address.as_str()).await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    let options = Rc::new(options);
    let (stop, stopping) = promise();
    // Every connection has a clone of `open`, which is never set. `closed` completes when the last
    // clone is dropped.
    let (open, closed) = promise::<()>();
    let open = Rc::new(open);

    let accept = async {
        let mut incoming = listener.incoming();
        while let Some(connection) = incoming.next().await {
            match connection {
                Ok(stream) => {
                    let (options, stopping) = (options.clone(), stopping.clone());
                    let open = open.clone();
                    spawn(async move {
                        serve_connection(stream, options, stopping).await;
                        drop(open);
                    })
                    .detach();
                }
                Err(error) => eprintln!("http_server: cannot accept: {error}"),
            }
        }
    };
    let interrupted = async {
        interrupts.next().await;
    };
    or(interrupted, accept).await;
    drop(listener);
    say("stopping");
    let _ = stop.set(());
    drop(open);
    let finished = async {
        let _ = closed.await;
        ExitCode::SUCCESS
    };
    let interrupted_again = async {
        interrupts.next().await;
        ExitCode::FAILURE
    };
    Ok(or(finished, interrupted_again).await)
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

/// Serves the requests of a connection one after the other. Requests that the client sends ahead wait in
/// the buffers.
async fn serve_connection(stream: TcpStream, options: Rc<Options>, stopping: Promised<()>) {
    // This fails if the client has already reset the connection.
    let peer = stream.peer_addr();
    let peer = peer.map_or("unknown".into(), |peer| peer.to_string());
    // Without Nagle's delay, if possible.
    let _ = stream.set_nodelay(true);

    let traffic = Rc::new(Traffic::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (options, peer) = (options.clone(), peer.clone());
        let busy = Busy::new(traffic.clone());
        async move {
            let line = format!("{peer} {} {}", request.method(), request.uri());
            let response = answer(request, &options).await;
            if !options.quiet {
                say(&format!("{line} {}", response.status().as_u16()));
            }
            drop(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let io = FuturesIo::new(Watched {
        stream,
        traffic: traffic.clone(),
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(Timer)
            .header_read_timeout(options.header_timeout)
            .serve_connection(io, service)
    );

    let served = async {
        let ended = async { Some(connection.as_mut().await) };
        let stopped = async {
            let _ = stopping.await;
            None
        };
        if let Some(result) = or(ended, stopped).await {
            return result.map_err(|error| explain(&error));
        }
        connection.as_mut().graceful_shutdown();
        connection.await.map_err(|error| explain(&error))
    };
    let idle = async {
        traffic.stalled(options.idle_timeout).await;
        Err("idle for too long".into())
    };
    if let Err(why) = or(served, idle).await {
        if !options.quiet {
            say(&format!("{peer} failed: {why}"));
        }
    }
}

fn explain(error: &hyper::Error) -> String {
    if error.is_timeout() {
        return "no complete request within the timeout".into();
    }
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

/// Activity on a connection.
#[derive(Default)]
struct Traffic {
    /// Set when bytes are read or written. `stalled` resets it.
    moved: Cell<bool>,
    /// Set while a response is computed, which may take long.
    busy: Cell<bool>,
}

impl Traffic {
    /// Waits until nothing was transferred for `time`. A flag is cheaper than a timer that is reset with
    /// each read and write.
    async fn stalled(&self, time: Duration) {
        loop {
            time::sleep(time).await;
            if !self.moved.take() && !self.busy.get() {
                return;
            }
        }
    }
}

struct Busy(Rc<Traffic>);

impl Busy {
    fn new(traffic: Rc<Traffic>) -> Busy {
        traffic.busy.set(true);
        Busy(traffic)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.moved.set(true);
    }
}

/// A connection that records its activity.
struct Watched {
    stream: TcpStream,
    traffic: Rc<Traffic>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_ready() {
            self.traffic.moved.set(true);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if result.is_ready() {
            self.traffic.moved.set(true);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Timers for hyper, on the current runtime.
pub(crate) struct Timer;

struct Sleep(time::Sleep);

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(time::sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(time::sleep_until(deadline)))
    }

    /// The clock of the runtime, which is virtual in tests.
    fn now(&self) -> Instant {
        time::now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(sleep) => sleep.get_mut().0.reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

impl hyper::rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}
