//! A web server: hyper speaks HTTP, soloist has the sockets, the timers and Ctrl-C.
//!
//! cargo run --release -p soloist-ecosystem --example http_server
//! cargo run --release -p soloist-ecosystem --example http_server -- --dir docs 127.0.0.1:8080
//! curl --data-binary @README.md http://127.0.0.1:8080/echo

use futures_lite::future::or;
use futures_lite::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
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
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: http_server [OPTION]... [ADDRESS]

Listens on ADDRESS (127.0.0.1:8080; with port 0 the system picks one), says so in its first line,
and prints a line for each request unless it is to be quiet. It serves:

  /            a greeting
  /slow?N      a greeting that takes N milliseconds (1000)
  /echo        the body of a POST, sent back as it comes
  /files/NAME  the files in DIR and below it

  --dir DIR                 what is under /files/; without it nothing is
  --header-timeout SECONDS  close a connection when the next request has not come this long after
                            the last one was answered, or has come in part (10)
  --idle-timeout SECONDS    close a connection on which no byte has moved for this long, or twice
                            this long at most, in the middle of a request or of its answer (30)
  --quiet                   print no requests

Ctrl-C ends it: it accepts no connection any more, closes the idle ones, and lets the requests that
it works on finish. Another Ctrl-C ends these too; then the exit status is 1.";

fn main() -> ExitCode {
    let args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let options = match Options::parse(args.skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("http_server: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match block_on(serve(options)) {
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
    /// `None` is a request for help.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            address: "127.0.0.1:8080".into(),
            dir: None,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            quiet: false,
        };
        let mut addresses = 0;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            let seconds = |text: String| {
                let timeout = Duration::try_from_secs_f64(text.parse().unwrap_or(0.0));
                let timeout = timeout.ok().filter(|timeout| !timeout.is_zero());
                timeout.ok_or(format!("{arg} must be a number of seconds, above 0"))
            };
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--dir" => options.dir = Some(value()?.into()),
                "--header-timeout" => options.header_timeout = seconds(value()?)?,
                "--idle-timeout" => options.idle_timeout = seconds(value()?)?,
                "--quiet" => options.quiet = true,
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}")),
                _ if addresses > 0 => return Err(format!("what is {arg:?}?")),
                _ => {
                    options.address = arg;
                    addresses += 1;
                }
            }
        }
        Ok(Some(options))
    }
}

async fn serve(options: Options) -> io::Result<ExitCode> {
    let mut interrupts = interrupts()?;
    let listener = TcpListener::bind(options.address.as_str()).await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    let options = Rc::new(options);
    let (stop, stopping) = promise();
    // Every connection has a clone of `open`, which is never set: when the last of them is
    // gone, so is the promise.
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
                        converse(stream, options, stopping).await;
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
    let impatient = async {
        interrupts.next().await;
        ExitCode::FAILURE
    };
    Ok(or(finished, impatient).await)
}

/// Every Ctrl-C, also one that comes when nobody waits for it, as `signal::ctrl_c` would miss.
#[cfg(unix)]
fn interrupts() -> io::Result<impl Stream<Item = io::Result<()>>> {
    use soloist::signal::unix::{SignalKind, signal};
    signal(SignalKind::interrupt())
}

/// Here it ends the process, as ever.
#[cfg(not(unix))]
fn interrupts() -> io::Result<impl Stream<Item = io::Result<()>>> {
    Ok(stream::pending())
}

/// Serves a connection, for as many requests as the client has, one after the other. Those
/// that it sends ahead wait in the buffers.
async fn converse(stream: TcpStream, options: Rc<Options>, stopping: Promised<()>) {
    // A client that has reset its connection by now has no address any more.
    let peer = stream
        .peer_addr()
        .map_or("somebody".into(), |peer| peer.to_string());
    // An answer goes out at once. If it cannot be so, it goes out all the same.
    let _ = stream.set_nodelay(true);

    let traffic = Rc::new(Traffic::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (options, peer) = (options.clone(), peer.clone());
        let at_work = AtWork::new(traffic.clone());
        async move {
            let line = format!("{peer} {} {}", request.method(), request.uri());
            let response = answer(request, &options).await;
            if !options.quiet {
                say(&format!("{line} {}", response.status().as_u16()));
            }
            drop(at_work);
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
        Err("nothing has moved for too long".into())
    };
    if let Err(why) = or(served, idle).await {
        if !options.quiet {
            say(&format!("{peer} was lost: {why}"));
        }
    }
}

fn explain(error: &hyper::Error) -> String {
    if error.is_timeout() {
        return "no whole request came in time".into();
    }
    let source = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Nothing here needs to be `Send`.
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
                Err(_) => return text(StatusCode::BAD_REQUEST, "How many milliseconds?\n"),
            }
            text(StatusCode::OK, "Hello, at last.\n")
        }
        path => {
            let name = path.strip_prefix("/files/");
            match open(options, name.unwrap_or_default()).await {
                Ok(response) => response,
                Err(_) => text(StatusCode::NOT_FOUND, "There is no such thing here.\n"),
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
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "That cannot be done here.\n",
    );
    let methods = hyper::header::HeaderValue::from_static(methods);
    response.headers_mut().insert(ALLOW, methods);
    response
}

/// A file of the directory, read on the pool of threads while it is sent.
async fn open(options: &Options, name: &str) -> io::Result<Response<AnyBody>> {
    const CHUNK: usize = 64 * 1024;
    let (Some(dir), Some(name)) = (&options.dir, decode(name)) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    // Neither up, nor to what is hidden, nor to another drive.
    let odd = |part: &str| part.is_empty() || part.starts_with('.') || part.contains(['\\', ':']);
    if name.split('/').any(odd) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let path = dir.join(&name);
    let (file, length) = unblock(move || {
        // Before it is opened: opening a pipe would wait for its other end.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    })
    .await?;
    // Not a byte more than has been announced, also when the file grows.
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

/// The text of a path of a URL. `None` if it is none.
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

/// What moves on a connection.
#[derive(Default)]
struct Traffic {
    /// Set when a byte is read or written; taken by each look at it.
    moved: Cell<bool>,
    /// Set while an answer is worked out, which may take its time.
    at_work: Cell<bool>,
}

impl Traffic {
    /// Ready when nothing has moved for `time`. One timer and one flag: a timer that each
    /// byte sets anew would cost more.
    async fn stalled(&self, time: Duration) {
        loop {
            time::sleep(time).await;
            if !self.moved.take() && !self.at_work.get() {
                return;
            }
        }
    }
}

struct AtWork(Rc<Traffic>);

impl AtWork {
    fn new(traffic: Rc<Traffic>) -> AtWork {
        traffic.at_work.set(true);
        AtWork(traffic)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.set(false);
        self.0.moved.set(true);
    }
}

/// A connection that takes note when bytes move.
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

/// The timers of hyper: those of the runtime on whose thread it runs.
pub(crate) struct Timer;

struct Sleep(time::Sleep);

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(time::sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(time::sleep_until(deadline)))
    }

    /// By the clock of the runtime, which is not the system's in a test in virtual time.
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

/// A server goes on when nobody reads its lines any more.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
