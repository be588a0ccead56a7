//! Ten pages, fetched in seven ways: what the tutorials on asyncio build step by step, measured in one
//! run.
//!
//! cargo run --release --example ten_pages
//! cargo run --release --example ten_pages -- --ways blocking,callbacks,tasks --delay 20
//! cargo run --release --example ten_pages -- --pages 1000 --workers 100 --delay 10
//!
//! A server on loopback sleeps before it sends a page, like a server that is far away. So fetching a
//! page is mostly waiting, and the ways differ in how they wait. Read them in this order: blocking.rs,
//! processes.rs, threads.rs, nonblocking.rs, callbacks.rs (with selector.rs), promises.rs, tasks.rs.

mod blocking;
mod callbacks;
#[path = "../cli/mod.rs"]
mod cli;
mod nonblocking;
mod page;
mod processes;
mod promises;
mod selector;
mod server;
mod system;
mod tasks;
mod threads;

use cli::{positive, say_or_exit as say};
use lexopt::prelude::*;
use page::{Job, Used};
use server::Server;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: ten_pages [OPTION]...

Fetches pages from a server in another process in seven ways, and checks every byte. Prints for each
way: the elapsed time; the CPU time (user and system, of this process and its child processes, without
the server); the number of threads and processes, including this one; and the elapsed time divided by
that of way 1.

  --ways NAMES  use only these ways, separated by commas: blocking, processes, threads, nonblocking,
                callbacks, promises, tasks
  --pages N     fetch N pages (10)
  --delay MS    the server takes MS milliseconds for each page (100)
  --workers N   use at most N processes or threads at once, in the ways that use them (10)

The ways 1 and 4 fetch one page after the other, so many pages need a short delay.

Exits with 0, with 1 if a way failed, or with 2 if the arguments are invalid. The example starts itself
as `ten_pages serve MS` for the server, and as `ten_pages worker ADDRESS PAGE` to fetch a page in
another process.";

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
    let command = cli::parse(USAGE, Command::from_args);
    let result = match command {
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
    fn from_args(args: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
        let mut options = Options {
            ways: [true; WAYS.len()],
            pages: 10,
            delay: Duration::from_millis(100),
            workers: 10,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Long("ways") => options.ways = args.value()?.parse_with(parse_ways)?,
                Long("pages") => options.pages = args.value()?.parse_with(positive)?,
                Long("workers") => options.workers = args.value()?.parse_with(positive)?,
                Long("delay") => options.delay = args.value()?.parse_with(milliseconds)?,
                Value(command) if command == "serve" => {
                    let delay = args.value()?.parse_with(milliseconds)?;
                    return Ok(Command::Serve { delay });
                }
                Value(command) if command == "worker" => {
                    let (server, page) = (args.value()?.parse()?, args.value()?.parse()?);
                    return Ok(Command::Worker { server, page });
                }
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(Command::Compare(options))
    }
}

fn milliseconds(text: &str) -> Result<Duration, &'static str> {
    let number = text.parse::<u32>();
    let number = number.map_err(|_| "expected a number of milliseconds")?;
    Ok(Duration::from_millis(number.into()))
}

fn parse_ways(names: &str) -> Result<[bool; WAYS.len()], String> {
    let mut ways = [false; WAYS.len()];
    for name in names.split(',') {
        match WAYS.iter().position(|way| way.0 == name) {
            Some(index) => ways[index] = true,
            None => {
                let known = WAYS.map(|way| way.0).join(", ");
                return Err(format!("there is no way {name:?}; the ways are {known}"));
            }
        }
    }
    Ok(ways)
}

/// The times of a way.
struct Figures {
    name: &'static str,
    wall: Duration,
    /// `None` if the system does not report it.
    cpu: Option<Duration>,
}

fn compare(options: &Options) -> Result<(), String> {
    // One socket for each page, or two pipes for each process. The server inherits the limit.
    let files = options.pages.max(2 * options.workers.min(options.pages)) + 64;
    if let Err(allowed) = system::allow_open_files(files.try_into().unwrap_or(u32::MAX)) {
        eprintln!(
            "ten_pages: {} at once need about {files} open files, but the system allows {allowed} \
             (`ulimit -n`); the ways that fetch all pages at once may fail",
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
    // `getrusage` reports the time of this process and of the child processes that have exited. The
    // server is still running, so its time is not included.
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

/// How much of its time each way computed.
fn summary(measured: &[Figures], pages: usize) -> Vec<String> {
    let computed: Vec<_> = measured
        .iter()
        .filter_map(|figures| Some((figures, figures.cpu?.as_secs_f64())))
        .collect();
    let share = |(figures, cpu): &(&Figures, f64)| cpu / figures.wall.as_secs_f64();
    let mut lines = Vec::new();

    for way in computed.iter().filter(|way| share(way) >= 0.5) {
        let (name, wall) = (way.0.name, way.0.wall.as_secs_f64());
        let used = match share(way) {
            share if share < 0.9 => "most of a core".to_string(),
            share if share < 1.5 => "a whole core".to_string(),
            share => format!("{share:.1} cores"),
        };
        let percent = 100.0 * share(way);
        lines.push(format!(
            "{name} used {used}: it computed for {percent:.0}% of its {wall:.3} s."
        ));
    }
    let idle: Vec<_> = computed
        .iter()
        .filter(|way| share(way) <= 0.1)
        .map(|way| format!("{} ({:.1}%)", way.0.name, 100.0 * share(way)))
        .collect();
    if !idle.is_empty() {
        lines.push(format!("Hardly any CPU time: {}.", idle.join(", ")));
    }
    let find = |name| computed.iter().find(|way| way.0.name == name);
    if let Some(tasks) = find("tasks") {
        let each = 1e6 * tasks.1 / pages as f64;
        let mut line = format!("tasks computed for {each:.0} µs per page");
        if let Some(busy) = find("nonblocking") {
            line += &format!(", nonblocking {:.0} times as much", busy.1 / tasks.1);
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
