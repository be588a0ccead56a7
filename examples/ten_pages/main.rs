//! Ten pages, seven ways: what the tutorials on asyncio build step by step, measured in one run.
//!
//! cargo run --release --example ten_pages
//! cargo run --release --example ten_pages -- --ways blocking,callbacks,tasks --delay 20
//! cargo run --release --example ten_pages -- --pages 1000 --workers 100 --delay 10
//!
//! A server on loopback takes a while for every page, as a far one does, and computes nothing
//! meanwhile. So whoever fetches them has nothing to do but to wait, and the ways differ in how
//! they do that. Read them in their order: blocking.rs, processes.rs, threads.rs, nonblocking.rs,
//! callbacks.rs (with selector.rs), promises.rs, tasks.rs.

mod blocking;
mod callbacks;
mod nonblocking;
mod page;
mod processes;
mod promises;
mod selector;
mod server;
mod system;
mod tasks;
mod threads;

use page::{Job, Used};
use server::Server;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: ten_pages [OPTION]...

Fetches pages from a server of its own in seven ways, checks every byte, and prints what each way
took: the time on the wall, the CPU time (user and system, of this process and of those that it
starts, but without the server), how many threads and processes it used, this one included, and the
time on the wall in relation to way 1.

  --ways NAMES  only these, with commas between: blocking, processes, threads, nonblocking,
                callbacks, promises, tasks
  --pages N     so many pages (10)
  --delay MS    the server takes so many milliseconds for each (100)
  --workers N   at most so many processes and threads at once, in the ways that use them (10)

The ways 1 and 4 fetch one page after the other: many pages need a short delay.

The exit status is 0, or 1 if a way failed, or 2 if the arguments are wrong. The example starts
itself again: as `ten_pages serve MS` for the server, and as `ten_pages worker ADDRESS PAGE` for a
page in a process of its own.";

type Way = (&'static str, fn(&Job) -> io::Result<Used>);

const WAYS: [Way; 7] = [
    ("blocking", blocking::run),
    ("processes", processes::run),
    ("threads", threads::run),
    ("nonblocking", nonblocking::run),
    ("callbacks", callbacks::run),
    ("promises", promises::run),
    ("tasks", tasks::run),
];

fn main() -> ExitCode {
    let args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let command = match Command::parse(args.skip(1)) {
        Ok(command) => command,
        Err(message) => {
            eprintln!("ten_pages: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Help => {
            say(USAGE);
            Ok(())
        }
        Command::Serve { delay } => {
            server::serve(delay).map_err(|error| format!("the server has failed: {error}"))
        }
        Command::Worker { server, page } => processes::work(server, page)
            .map_err(|error| format!("cannot fetch {}: {error}", page::path(page))),
        Command::Compare(options) => compare(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ten_pages: {message}");
            ExitCode::FAILURE
        }
    }
}

enum Command {
    Help,
    Serve { delay: Duration },
    Worker { server: SocketAddr, page: usize },
    Compare(Options),
}

struct Options {
    ways: [bool; WAYS.len()],
    pages: usize,
    delay: Duration,
    workers: usize,
}

impl Command {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
        let mut options = Options {
            ways: [true; WAYS.len()],
            pages: 10,
            delay: Duration::from_millis(100),
            workers: 10,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "-h" | "--help" => return Ok(Command::Help),
                "--ways" => options.ways = parse_ways(&value()?)?,
                "--pages" => options.pages = at_least_1(&arg, &value()?)?,
                "--workers" => options.workers = at_least_1(&arg, &value()?)?,
                "--delay" => options.delay = milliseconds(&arg, &value()?)?,
                "serve" => {
                    let delay = milliseconds("the delay", &value()?)?;
                    return Ok(Command::Serve { delay });
                }
                "worker" => {
                    let (server, page) = (value()?, value()?);
                    return Ok(Command::Worker {
                        server: parse("ADDRESS", "an IP address and a port", &server)?,
                        page: parse("PAGE", "a number", &page)?,
                    });
                }
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}")),
                _ => return Err(format!("what is {arg:?}?")),
            }
        }
        Ok(Command::Compare(options))
    }
}

fn parse<T: std::str::FromStr>(what: &str, kind: &str, value: &str) -> Result<T, String> {
    let error = |_| format!("{what} must be {kind}, and {value:?} is not");
    value.parse().map_err(error)
}

fn at_least_1(what: &str, value: &str) -> Result<usize, String> {
    match parse(what, "a number, at least 1", value)? {
        0 => Err(format!("{what} must be a number, at least 1")),
        number => Ok(number),
    }
}

fn milliseconds(what: &str, value: &str) -> Result<Duration, String> {
    let number = parse::<u32>(what, "a number of milliseconds", value)?;
    Ok(Duration::from_millis(number.into()))
}

fn parse_ways(names: &str) -> Result<[bool; WAYS.len()], String> {
    let mut ways = [false; WAYS.len()];
    for name in names.split(',') {
        match WAYS.iter().position(|way| way.0 == name) {
            Some(index) => ways[index] = true,
            None => {
                let known = WAYS.map(|way| way.0).join(", ");
                return Err(format!("there is no way {name:?}: the ways are {known}"));
            }
        }
    }
    Ok(ways)
}

/// What a way has taken.
struct Figures {
    name: &'static str,
    wall: Duration,
    /// `None` where the system does not tell.
    cpu: Option<Duration>,
}

fn compare(options: &Options) -> Result<(), String> {
    // A socket for each page, or two pipes for each process; and the server inherits the limit.
    let files = options.pages.max(2 * options.workers.min(options.pages)) + 64;
    if let Err(allowed) = system::allow_open_files(files.try_into().unwrap_or(u32::MAX)) {
        eprintln!(
            "ten_pages: {} at once need about {files} open files, and the system allows {allowed} \
             (`ulimit -n`): the ways that fetch so many at once may fail",
            count(options.pages, "page")
        );
    }
    let server = Server::start(options.delay)
        .map_err(|error| format!("cannot start the server: {error}"))?;
    let job = Job {
        server: server.address(),
        pages: options.pages,
        workers: options.workers,
    };
    say(&format!(
        "{} from a server that takes {} ms for each; at most {}\n",
        count(job.pages, "page"),
        options.delay.as_millis(),
        count(job.workers, "worker"),
    ));
    say("  way               wall         CPU  threads  processes  ratio");

    let mut measured: Vec<Figures> = Vec::new();
    let mut failed = 0;
    let ways = (1..).zip(WAYS).zip(options.ways);
    for ((number, (name, run)), _) in ways.filter(|(_, wanted)| *wanted) {
        match measure(name, run, &job) {
            Ok((figures, used)) => {
                measured.push(figures);
                let first = measured.first().filter(|first| first.name == WAYS[0].0);
                say(&row(number, &measured[measured.len() - 1], &used, first));
            }
            Err(error) => {
                failed += 1;
                say(&format!("{number} {name:12} failed: {error}"));
            }
        }
    }
    let summary = summary(&measured, job.pages);
    if !summary.is_empty() {
        say(&format!("\n{}", summary.join("\n")));
    }
    match failed {
        0 => Ok(()),
        _ => Err(format!("{} failed", count(failed, "way"))),
    }
}

fn measure(
    name: &'static str,
    run: fn(&Job) -> io::Result<Used>,
    job: &Job,
) -> io::Result<(Figures, Used)> {
    // The server is a process of its own that is still running. What it computes is in neither of
    // the two figures of `getrusage`: not in ours, and not in that of the children that have ended.
    let cpu = system::cpu_time();
    let started = Instant::now();
    let used = run(job)?;
    let wall = started.elapsed();
    let cpu = system::cpu_time()
        .zip(cpu)
        .map(|(after, before)| after.saturating_sub(before));
    Ok((Figures { name, wall, cpu }, used))
}

fn row(number: usize, figures: &Figures, used: &Used, first: Option<&Figures>) -> String {
    let Figures { name, wall, cpu } = figures;
    let ratio = first.map(|first| wall.as_secs_f64() / first.wall.as_secs_f64());
    format!(
        "{number} {name:12} {:>9} {:>11} {:>8} {:>10} {:>6}",
        format!("{:.3} s", wall.as_secs_f64()),
        cpu.map_or("?".into(), milli),
        used.threads,
        used.processes,
        ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
    )
}

/// What the figures say about waiting.
fn summary(measured: &[Figures], pages: usize) -> Vec<String> {
    let computed: Vec<_> = measured
        .iter()
        .filter_map(|figures| Some((figures, figures.cpu?.as_secs_f64())))
        .collect();
    let share = |(figures, cpu): &(&Figures, f64)| cpu / figures.wall.as_secs_f64();
    let mut lines = Vec::new();

    for way in computed.iter().filter(|way| share(way) >= 0.5) {
        let (name, wall) = (way.0.name, way.0.wall.as_secs_f64());
        let burned = match share(way) {
            share if share < 0.9 => "most of a core".to_string(),
            share if share < 1.5 => "a whole core".to_string(),
            share => format!("{share:.1} cores"),
        };
        let percent = 100.0 * share(way);
        lines.push(format!(
            "{name} burned {burned}: it computed for {percent:.0}% of its {wall:.3} s."
        ));
    }
    let idle: Vec<_> = computed
        .iter()
        .filter(|way| share(way) <= 0.1)
        .map(|way| format!("{} ({:.1}%)", way.0.name, 100.0 * share(way)))
        .collect();
    if !idle.is_empty() {
        lines.push(format!("Next to nothing of a core: {}.", idle.join(", ")));
    }
    let find = |name| computed.iter().find(|way| way.0.name == name);
    if let Some(tasks) = find("tasks") {
        let each = 1e6 * tasks.1 / pages as f64;
        let mut line = format!("tasks computed for {each:.0} µs per page");
        if let Some(busy) = find("nonblocking") {
            line += &format!(", nonblocking {:.0} times as long", busy.1 / tasks.1);
        }
        lines.push(line + ".");
    }
    lines
}

fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

fn milli(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Whoever reads the table may have seen enough (`| head`): then there is nothing left to do.
fn say(line: &str) {
    let mut out = io::stdout();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        process::exit(1);
    }
}
