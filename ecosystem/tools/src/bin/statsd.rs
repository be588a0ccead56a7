//! Receives metrics in the format of statsd over UDP, and serves them to Prometheus over HTTP.
//!
//! cargo run --release -p soloist-tools --bin statsd -- 127.0.0.1:8125 127.0.0.1:9102
//! echo 'requests:1|c' | nc -u -w0 127.0.0.1 8125; curl http://127.0.0.1:9102/metrics

#[path = "../../../../examples/cli/mod.rs"]
mod cli;

use cli::say;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use lexopt::prelude::*;
use soloist::net::{TcpListener, UdpSocket};
use soloist::{block_on, future, spawn};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

const USAGE: &str = "\
usage: statsd [UDP-ADDRESS [HTTP-ADDRESS]]

Receives metrics of statsd on UDP-ADDRESS (127.0.0.1:8125), and serves them in the text format of Prometheus
as http://HTTP-ADDRESS/metrics (127.0.0.1:9102):

  name:N|c          a counter, with |@RATE if it is sampled
  name:N|g          a gauge; +N and -N change it
  name:N|ms, |h     a summary, with its count and sum
  name:TEXT|s       the number of different values

Tags (|#key:value,key:value) become labels. SIGINT stops it.";

/// So that tags with many values, or wrong names, cannot fill the memory.
const MAX_SERIES: usize = 100_000;

#[derive(Debug, PartialEq)]
pub(crate) enum Metric {
    Counter(f64),
    Gauge(f64),
    Summary { count: f64, sum: f64 },
    Set(HashSet<String>),
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By name and labels, so that all series of a name are next to each other.
    series: BTreeMap<(String, String), Metric>,
    received: u64,
    rejected: u64,
}

impl Metrics {
    /// Adds the lines of a datagram.
    pub(crate) fn receive(&mut self, datagram: &[u8]) {
        let text = String::from_utf8_lossy(datagram);
        for line in text.lines().filter(|line| !line.is_empty()) {
            self.received += 1;
            let is_added = self.add(line).is_some();
            self.rejected += u64::from(!is_added);
        }
    }

    /// Returns `None` if the line is invalid, or if there are too many series.
    fn add(&mut self, line: &str) -> Option<()> {
        let (name, rest) = line.split_once(':')?;
        let mut fields = rest.split('|');
        let (value, kind) = (fields.next()?, fields.next()?);
        let (mut rate, mut labels) = (1.0, String::new());
        for field in fields {
            if let Some(text) = field.strip_prefix('@') {
                rate = text
                    .parse()
                    .ok()
                    .filter(|rate| 0.0 < *rate && *rate <= 1.0)?;
            } else if let Some(tags) = field.strip_prefix('#') {
                for tag in tags.split(',') {
                    let (key, value) = tag.split_once(':')?;
                    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                    let comma = if labels.is_empty() { "" } else { "," };
                    let _ = write!(labels, "{comma}{}=\"{value}\"", sanitize(key)?);
                }
            }
        }
        let number = match kind {
            "s" => 0.0,
            _ => value
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite())?,
        };
        let new = match kind {
            "c" => Metric::Counter(0.0),
            "g" => Metric::Gauge(0.0),
            "ms" | "h" => Metric::Summary {
                count: 0.0,
                sum: 0.0,
            },
            "s" => Metric::Set(HashSet::new()),
            _ => return None,
        };
        let key = (sanitize(name)?, labels);
        if self.series.len() >= MAX_SERIES && !self.series.contains_key(&key) {
            return None;
        }
        match (self.series.entry(key).or_insert(new), kind) {
            (Metric::Counter(total), "c") => *total += number / rate,
            (Metric::Gauge(gauge), "g") if value.starts_with(['+', '-']) => *gauge += number,
            (Metric::Gauge(gauge), "g") => *gauge = number,
            (Metric::Summary { count, sum }, "ms" | "h") => {
                *count += 1.0 / rate;
                *sum += number / rate;
            }
            (Metric::Set(values), "s") if values.len() < MAX_SERIES => {
                values.insert(value.to_string());
            }
            // The name has another type already.
            _ => return None,
        }
        Some(())
    }

    /// The text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        let (mut out, mut last) = (String::new(), "");
        for ((name, labels), metric) in &self.series {
            let labels = match labels.as_str() {
                "" => String::new(),
                labels => format!("{{{labels}}}"),
            };
            let (kind, lines) = match metric {
                Metric::Counter(n) => ("counter", vec![("", *n)]),
                Metric::Gauge(n) => ("gauge", vec![("", *n)]),
                Metric::Set(values) => ("gauge", vec![("", values.len() as f64)]),
                Metric::Summary { count, sum } => {
                    ("summary", vec![("_count", *count), ("_sum", *sum)])
                }
            };
            if name != last {
                let _ = writeln!(out, "# TYPE {name} {kind}");
                last = name;
            }
            for (suffix, value) in lines {
                let _ = writeln!(out, "{name}{suffix}{labels} {value}");
            }
        }
        out.push_str("# TYPE statsd_lines_total counter\n");
        let _ = writeln!(
            out,
            "statsd_lines_total{{result=\"received\"}} {}",
            self.received
        );
        let _ = writeln!(
            out,
            "statsd_lines_total{{result=\"rejected\"}} {}",
            self.rejected
        );
        out
    }
}

/// A name that Prometheus accepts.
fn sanitize(name: &str) -> Option<String> {
    let valid = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let first = name.chars().next()?;
    let prefix = if first.is_ascii_digit() { "_" } else { "" };
    Some(prefix.chars().chain(name.chars().map(valid)).collect())
}

fn main() -> ExitCode {
    let mut addresses = cli::parse(USAGE, |args| {
        let mut addresses = Vec::new();
        while let Some(arg) = args.next()? {
            match arg {
                Value(address) if addresses.len() < 2 => addresses.push(address.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(addresses)
    })
    .into_iter();
    let udp = addresses.next().unwrap_or("127.0.0.1:8125".into());
    let http = addresses.next().unwrap_or("127.0.0.1:9102".into());
    let run = future::or(run(udp, http), soloist::signal::ctrl_c());
    match block_on(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("statsd: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) async fn run(udp: String, http: String) -> io::Result<()> {
    let socket = UdpSocket::bind(udp.as_str()).await?;
    let listener = TcpListener::bind(http.as_str()).await?;
    say(&format!("statsd on {}", socket.local_addr()?));
    say(&format!("http on {}", listener.local_addr()?));
    let metrics = Rc::new(RefCell::new(Metrics::default()));
    let receive = spawn({
        let metrics = metrics.clone();
        async move {
            let mut buffer = vec![0; 65_536];
            loop {
                // The error of an earlier send or receive, which does not concern the next one.
                if let Ok((length, _)) = socket.recv_from(&mut buffer).await {
                    metrics.borrow_mut().receive(&buffer[..length]);
                }
            }
        }
    });
    let page = move |request: Request<Incoming>| {
        let (status, text) = match request.uri().path() {
            "/metrics" => (StatusCode::OK, metrics.borrow().render()),
            _ => (StatusCode::NOT_FOUND, "see /metrics\n".into()),
        };
        let response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, "text/plain; version=0.0.4");
        let response = response.body(text).expect("a valid header");
        async { Ok::<_, Infallible>(response) }
    };
    soloist_hyper::serve(listener, service_fn(page)).await;
    receive.await
}
