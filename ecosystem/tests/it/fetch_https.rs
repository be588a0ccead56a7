//! The example `fetch_https`, with servers on Python's `ssl` and generated certificates.

use std::convert::Infallible;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use socket2::{Domain, Socket, Type};
use soloist::block_on;
use soloist::net::TcpListener;
use soloist_hyper::tls::ServerConfig;
use soloist_hyper::tls::rustls::crypto::ring;
use soloist_hyper::tls::rustls::pki_types::pem::PemObject;
use soloist_hyper::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::programs::{KillOnDrop, Output, example, fail_without, run};
use crate::support::watchdog;

/// Starts a server for each certificate and prints their ports. All serve the same pages.
const SERVER: &str = r#"
import gzip, http.server, ssl, sys, threading, time

attempts, lock = {}, threading.Lock()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Transfer_Encoding" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        kind, _, rest = self.path[1:].partition("/")
        if kind == "":
            self.reply(200, b"hello\n")
        elif kind == "none":
            self.reply(404, b"no such page\n")
        elif kind == "host":
            self.reply(200, self.headers["Host"].encode())
        elif kind == "gzip":
            self.reply(200, gzip.compress(b"hello\n" * 1000, mtime=0), Content_Encoding="gzip")
        elif kind == "chunked":
            self.reply(200, b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n", Transfer_Encoding="chunked")
        elif kind == "big":
            self.reply(200, bytes(range(256)) * 8192)
        elif kind == "hops":
            n = int(rest)
            if n == 0:
                self.reply(200, b"landed\n")
            else:
                host, n = self.headers["Host"], n - 1
                forms = ["https://%s/hops/%d" % (host, n), "//%s/hops/%d" % (host, n),
                         "/hops/%d#here" % n, "%d" % n, "./x/../../hops/%d" % n]
                self.reply([301, 302, 303, 307, 308][n % 5], b"elsewhere\n", Location=forms[n % 5])
        elif kind == "loop":
            self.reply(302, Location="/loop")
        elif kind == "to":
            self.reply(302, Location="https://localhost:%s/" % rest)
        elif kind == "ftp":
            self.reply(302, Location="ftp://localhost/")
        elif kind == "nowhere":
            self.reply(304)
        elif kind == "truncated":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"0123456789")
            self.close_connection = True
        elif kind == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            for _ in range(10):
                self.wfile.write(bytes(10000))
                time.sleep(0.05)
        elif kind == "silent":
            time.sleep(3600)
        elif kind in ("busy", "cut"):
            with lock:
                attempts[self.path] = attempts.get(self.path, 0) + 1
                attempt = attempts[self.path]
            if attempt > int(rest):
                self.reply(200, b"attempt %d\n" % attempt)
            elif kind == "busy":
                self.reply(503, b"later\n")
            else:
                self.close_connection = True

class Server(http.server.ThreadingHTTPServer):
    # Clients that refuse the certificate disconnect without a request.
    def handle_error(self, *args):
        pass

for name in sys.argv[2:]:
    server = Server(("127.0.0.1", 0), Handler)
    if name != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1] + "/" + name + ".pem", sys.argv[1] + "/" + name + ".key")
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"#;

/// Servers whose certificates are signed by the authority in `cacert`.
struct Servers {
    _python: KillOnDrop,
    dir: PathBuf,
    cacert: String,
    ports: Vec<u16>,
}

impl Servers {
    /// Returns `None`, and skips the test, if Python is not installed.
    fn start<const N: usize>(test: &str, names: [&str; N]) -> Option<(Servers, [u16; N])> {
        let dir = format!("https-{test}-{}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(dir);
        fs::create_dir_all(&dir).unwrap();
        make_certificates(&dir);
        let mut python = Command::new("python3");
        python.args(["-c", SERVER]).arg(&dir).args(names);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(python) = python.spawn() else {
            fail_without("python3");
            let _ = fs::remove_dir_all(dir);
            return None;
        };
        let mut python = KillOnDrop(python);
        let lines = BufReader::new(python.0.stdout.take().unwrap()).lines();
        let ports = lines.take(N).map(|line| line.unwrap().parse().unwrap());
        let ports: Vec<u16> = ports.collect();
        let array = ports[..].try_into().expect("a port for each name");
        let cacert = dir.join("ca.pem").to_str().unwrap().to_string();
        let servers = Servers {
            _python: python,
            dir,
            cacert,
            ports,
        };
        Some((servers, array))
    }

    /// The URL of a page of the first server.
    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.ports[0])
    }

    fn fetch(&self, args: &[&str]) -> Output {
        let mut fetch = example("fetch_https");
        fetch.args(["--cacert", &self.cacert]).args(args);
        run(&mut fetch)
    }

    /// Checks the line and the exit status for a page that cannot be fetched.
    #[track_caller]
    fn fails(&self, url: &str, why: &str) {
        let output = self.fetch(&["--timeout", "20", "--retries", "0", url]);
        assert_eq!(output.status, Some(1), "{}{}", output.out, output.err);
        output.assert_failed(url, why);
        let last = output.out.lines().last().unwrap();
        assert!(
            last.starts_with("0 pages, 0 bytes, 1 failed, in "),
            "{last}"
        );
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn make_certificates(dir: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (trusted, other) = (authority("trusted"), authority("other"));
    fs::write(dir.join("ca.pem"), trusted.pem()).unwrap();
    fs::write(dir.join("other-ca.pem"), other.pem()).unwrap();
    for name in ["good", "other-name", "expired", "early", "stranger"] {
        let names = match name {
            "other-name" => vec!["www.example.com".to_string(), "192.0.2.1".to_string()],
            _ => vec!["localhost".to_string(), "127.0.0.1".to_string()],
        };
        let mut params = CertificateParams::new(names).unwrap();
        match name {
            "expired" => params.not_after = date_time_ymd(2021, 2, 3),
            "early" => params.not_before = date_time_ymd(2500, 1, 1),
            _ => {}
        }
        let key = KeyPair::generate().unwrap();
        let issuer = if name == "stranger" { &other } else { &trusted };
        let certificate = params.signed_by(&key, issuer).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn pages_are_fetched_unchanged() {
    watchdog(|| {
        let Some((servers, [port, plain])) = Servers::start("pages", ["good", "plain"]) else {
            return;
        };
        let output_dir = servers.dir.join("pages");
        let urls = ["/", "/none", "/chunked", "/gzip", "/big", "/host"];
        let mut urls = urls.map(|path| servers.url(path)).to_vec();
        urls.push(format!("https://127.0.0.1:{port}"));
        urls.push(format!("http://127.0.0.1:{plain}/host#fragment"));
        let mut args = vec!["--output", output_dir.to_str().unwrap(), "--jobs", "3"];
        args.extend(urls.iter().map(String::as_str));
        let output = servers.fetch(&args);
        assert_eq!(output.status, Some(0), "{}{}", output.out, output.err);
        // Standard error is not a terminal, so there are no progress bars.
        assert_eq!(output.err, "");

        let page = |number: usize| fs::read(output_dir.join(number.to_string())).unwrap();
        assert_eq!(page(1), b"hello\n");
        assert_eq!(page(2), b"no such page\n");
        assert!(output.line(&urls[1]).starts_with(" 404          13 bytes"));
        assert_eq!(page(3), b"hello, world");
        assert_eq!(page(4), b"hello\n".repeat(1000));
        let big: Vec<u8> = (0..8192).flat_map(|_| 0..=255).collect();
        assert!(page(5) == big);
        assert_eq!(page(6), format!("localhost:{port}").as_bytes());
        assert_eq!(page(7), b"hello\n");
        assert_eq!(page(8), format!("127.0.0.1:{plain}").as_bytes());
        for number in [1, 3, 4, 5, 6, 7, 8] {
            output.assert_fetched(&urls[number - 1], page(number).len());
        }
        let bytes: usize = (1..=8).map(|number| page(number).len()).sum();
        let last = output.out.lines().last().unwrap();
        assert!(
            last.starts_with(&format!("8 pages, {bytes} bytes, in ")),
            "{last}"
        );
    });
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    watchdog(|| {
        let Some((servers, [port])) = Servers::start("name", ["other-name"]) else {
            return;
        };
        for host in ["localhost", "127.0.0.1"] {
            let why = format!(
                "the certificate of {host} is for another name: www.example.com, 192.0.2.1"
            );
            servers.fails(&format!("https://{host}:{port}/"), &why);
        }
    });
}

#[test]
fn an_expired_or_early_certificate_is_refused() {
    watchdog(|| {
        let Some((servers, [_, early])) = Servers::start("time", ["expired", "early"]) else {
            return;
        };
        let why = "the certificate of localhost expired ";
        servers.fails(&servers.url("/"), why);
        let url = format!("https://localhost:{early}/");
        servers.fails(
            &url,
            "the certificate of localhost is not valid yet, but in ",
        );
    });
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    watchdog(|| {
        let Some((servers, [_, good])) = Servers::start("authority", ["stranger", "good"]) else {
            return;
        };
        let why = "the certificate of localhost is not from a trusted authority";
        servers.fails(&servers.url("/"), why);
        // `--cacert` replaces the built-in authorities. Without it, only those are trusted.
        let good = format!("https://localhost:{good}/");
        let other = servers.dir.join("other-ca.pem");
        for args in [&["--cacert", other.to_str().unwrap(), &good][..], &[&good]] {
            let output = run(example("fetch_https").args(args));
            assert_eq!(output.status, Some(1), "{}", output.out);
            output.assert_failed(&good, why);
        }
        // Other pages are fetched nevertheless.
        let output = servers.fetch(&[&servers.url("/"), &good]);
        assert_eq!(output.status, Some(1), "{}", output.out);
        output.assert_failed(&servers.url("/"), why);
        output.assert_fetched(&good, 6);
    });
}

#[test]
fn ten_redirects_are_followed_and_no_more() {
    watchdog(|| {
        let Some((servers, [port, plain, other])) =
            Servers::start("redirects", ["good", "plain", "other-name"])
        else {
            return;
        };
        let output = servers.fetch(&[&servers.url("/hops/10")]);
        assert_eq!(output.status, Some(0), "{}", output.out);
        let line = output.out.lines().next().unwrap();
        assert!(line.starts_with(" 200           7 bytes "), "{line}");
        let way = format!("{} -> {}", servers.url("/hops/10"), servers.url("/hops/0"));
        assert!(line.ends_with(&way), "{line}");

        servers.fails(
            &servers.url("/hops/11"),
            "more than 10 redirects, the last one to ",
        );
        servers.fails(
            &servers.url("/loop"),
            "more than 10 redirects, the last one to /loop",
        );
        servers.fails(
            &servers.url("/ftp"),
            "redirected to \"ftp://localhost/\": invalid URL: it does not start with https://",
        );
        servers.fails(
            &servers.url(&format!("/to/{other}")),
            "the certificate of localhost is for another name: ",
        );
        // From http:// to https://, as on most sites.
        let url = format!("http://localhost:{plain}/to/{port}");
        let output = servers.fetch(&[&url]);
        assert_eq!(output.status, Some(0), "{}", output.out);
        assert!(
            output
                .out
                .contains(&format!("{url} -> {}\n", servers.url("/")))
        );
        // Not every status 3xx is a redirect.
        let output = servers.fetch(&[&servers.url("/nowhere")]);
        assert_eq!(output.status, Some(0), "{}", output.out);
        assert!(
            output.out.starts_with(" 304           0 bytes "),
            "{}",
            output.out
        );
    });
}

#[test]
fn each_failure_has_its_line() {
    watchdog(|| {
        let Some((servers, [_, plain])) = Servers::start("failures", ["good", "plain"]) else {
            return;
        };
        servers.fails(
            &servers.url("/truncated"),
            "connection lost after 10 bytes: ",
        );
        let url = format!("https://localhost:{plain}/");
        servers.fails(&url, "TLS handshake failed: ");
        // Bound, so that no other program gets the port, but not listening.
        let unused = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        unused
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        let address = unused.local_addr().unwrap().as_socket().unwrap();
        let url = format!("https://{address}/");
        servers.fails(&url, "cannot connect: ");
        for (url, why) in [
            ("localhost/page", "invalid URL: "),
            (
                "ftp://localhost/",
                "invalid URL: it does not start with https://",
            ),
            ("https://", "invalid URL: "),
            ("https://localhost:65536/", "invalid URL: "),
            (
                "https://me:secret@localhost/",
                "user names in URLs are not supported",
            ),
        ] {
            servers.fails(url, why);
        }
        let silent = servers.url("/silent");
        let page = servers.url("/");
        let output = servers.fetch(&["--timeout", "3", &silent, &page]);
        assert_eq!(output.status, Some(1), "{}", output.out);
        output.assert_failed(&silent, "timed out after 3 s");
        output.assert_fetched(&page, 6);
    });
}

#[test]
fn temporary_failures_are_retried() {
    watchdog(|| {
        let Some((servers, _)) = Servers::start("retries", ["good"]) else {
            return;
        };
        let (busy, cut) = (servers.url("/busy/2"), servers.url("/cut/2"));
        let output = servers.fetch(&[&busy, &cut]);
        assert_eq!(output.status, Some(0), "{}{}", output.out, output.err);
        output.assert_fetched(&busy, "attempt 3\n".len());
        output.assert_fetched(&cut, "attempt 3\n".len());

        let (busy, cut) = (servers.url("/busy/9"), servers.url("/cut/9"));
        let output = servers.fetch(&["--retries", "1", &busy, &cut]);
        assert_eq!(output.status, Some(1), "{}{}", output.out, output.err);
        let line = output.line(&busy);
        assert!(line.starts_with(" 503           6 bytes"), "{line}");
        output.assert_failed(&cut, "connection lost before the reply: ");
    });
}

/// A server of this repository, with a certificate of `servers`. Its page is the version of HTTP.
fn start_http_2(servers: &Servers) -> SocketAddr {
    let certificates = CertificateDer::pem_file_iter(servers.dir.join("good.pem")).unwrap();
    let certificates = certificates.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(servers.dir.join("good.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_no_client_auth();
    let mut config = config.with_single_cert(certificates, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(|| {
        block_on(async {
            let version = service_fn(async |request: Request<Incoming>| {
                Ok::<_, Infallible>(Response::new(format!("{:?}\n", request.version())))
            });
            let listener = TcpListener::try_from(listener).unwrap();
            soloist_hyper::serve(listener, version).tls(config).await;
        });
    });
    address
}

#[test]
fn http_2_is_used_where_the_server_has_it() {
    watchdog(|| {
        let Some((servers, _)) = Servers::start("h2", ["good"]) else {
            return;
        };
        let output_dir = servers.dir.join("pages");
        let url = format!("https://localhost:{}/", start_http_2(&servers).port());
        let output = servers.fetch(&["--output", output_dir.to_str().unwrap(), &url, &url]);
        assert_eq!(output.status, Some(0), "{}{}", output.out, output.err);
        for number in ["1", "2"] {
            assert_eq!(fs::read(output_dir.join(number)).unwrap(), b"HTTP/2.0\n");
        }
        let list = servers.dir.join("urls.txt");
        fs::write(&list, format!("# the page\n\n{url}\n")).unwrap();
        let output = servers.fetch(&["--from", list.to_str().unwrap()]);
        assert_eq!(output.status, Some(0), "{}{}", output.out, output.err);
        output.assert_fetched(&url, 9);
    });
}

#[test]
#[cfg(unix)]
fn a_terminal_shows_a_progress_bar() {
    watchdog(|| {
        let Some((servers, _)) = Servers::start("bar", ["good"]) else {
            return;
        };
        let url = servers.url("/drip");
        let fetch = example("fetch_https");
        let mut python = Command::new("python3");
        python
            .args([
                "-c",
                "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)",
            ])
            .args(["sh", "-c", "stty cols 120 rows 24 && exec \"$0\" \"$@\""])
            .arg(fetch.get_program())
            .args(["--cacert", &servers.cacert, &url])
            .env("TERM", "xterm")
            .stdout(Stdio::piped());
        let output = run(&mut python);
        assert_eq!(output.status, Some(0), "{}{}", output.out, output.err);
        assert!(output.out.contains("of 97.66 KiB"), "{}", output.out);
        assert!(
            output.out.contains(" 200      100000 bytes"),
            "{}",
            output.out
        );
    });
}

#[test]
fn wrong_arguments_get_the_usage() {
    watchdog(|| {
        let empty = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let empty = empty.join(format!("https-empty-{}.pem", std::process::id()));
        fs::write(&empty, "no certificate\n").unwrap();
        let url = "https://localhost/";
        for args in [
            &[][..],
            &["--jobs", "0", url],
            &["--timeout", "0", url],
            &["--timeout", "NaN", url],
            &["--cacert"],
            &["--cacert", "/no/such/file", url],
            &["--cacert", empty.to_str().unwrap(), url],
            &["--nonsense", url],
        ] {
            let output = run(example("fetch_https").args(args));
            assert_eq!((output.status, &*output.out), (Some(2), ""), "{args:?}");
            assert!(output.err.starts_with("fetch_https: "), "{}", output.err);
            assert!(
                output.err.contains("\n\nusage: fetch_https "),
                "{}",
                output.err
            );
        }
        fs::remove_file(&empty).unwrap();
        let output = run(example("fetch_https").arg("--help"));
        assert_eq!(output.status, Some(0));
        assert!(
            output.out.starts_with("usage: fetch_https "),
            "{}",
            output.out
        );
    });
}
