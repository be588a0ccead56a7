//! Runs commands on any number of machines, which share a queue in Redis.
//!
//! redis-server --port 6379
//! cargo run --release -p soloist-tools --bin jobs -- add 'echo hello; sleep 1'
//! cargo run --release -p soloist-tools --bin jobs -- work
//!
//! The queue is a stream, and the workers are a consumer group of it. A job that was taken is *pending*
//! until its outcome is stored, and its worker renews the lease: the time since the last delivery. When a
//! lease has expired, since the worker was killed or its machine is gone, another worker takes the job. So
//! each job runs at least once. It runs twice if a worker was only slow, or if the command outlives its
//! killed worker.
//!
//! | key | value |
//! |---|---|
//! | `jobs:QUEUE` | the stream of jobs that have no outcome yet |
//! | `jobs:QUEUE:done` | the number of tries of each job that succeeded |
//! | `jobs:QUEUE:failed` | the command of each job that failed too often, and why |

#[path = "../../../../examples/cli/mod.rs"]
mod cli;
#[allow(dead_code)]
#[path = "../../../examples/resp/mod.rs"]
mod resp;

use cli::{positive, say, seconds};
use lexopt::prelude::*;
use resp::{Redis, Value as Reply};
use soloist::future::{self, Either};
use soloist::process::Command;
use soloist::signal::unix::{SignalKind, signal};
use soloist::task::TaskTracker;
use soloist::time::{interval, sleep, timeout};
use soloist::{block_on, spawn};
use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const USAGE: &str = "\
usage: jobs [OPTION]... add COMMAND...
       jobs [OPTION]... work
       jobs [OPTION]... status

Shares a queue of shell commands among workers, on one or more machines. A command sees JOB_ID and JOB_TRY.
One that fails is tried again, after a pause that doubles each time. SIGINT and SIGTERM let a worker finish
its current jobs.

  --redis ADDRESS  the address of Redis 6.2 or later (127.0.0.1:6379)
  --queue NAME     the name of the queue (default)
  --jobs N         run N commands at a time (4)
  --tries N        give up on a job after N tries (3)
  --lease SECONDS  another worker takes over the jobs of one that is silent for this long (30)
  --pause SECONDS  the first pause after a failure, at most the lease (1)
  --until-empty    exit when all jobs have an outcome

Exits with 0, with 1 if Redis is not there, or with 2 if the arguments are invalid.";

/// Takes a job whose lease has expired, or else a new one. Returns its id, command and number of
/// deliveries. KEYS: stream. ARGV: consumer, lease.
const TAKE: &str = "
local jobs = redis.call('XAUTOCLAIM', KEYS[1], 'workers', ARGV[1], ARGV[2], '0-0', 'COUNT', 1)[2]
if #jobs == 0 then
    local read = redis.call('XREADGROUP', 'GROUP', 'workers', ARGV[1], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
    if not read then return {} end
    jobs = read[1][2]
end
local id, fields = jobs[1][1], jobs[1][2]
return {id, fields[2], redis.call('XPENDING', KEYS[1], 'workers', id, id, 1)[1][4]}";

/// If the job is still ours, stores its outcome. KEYS: stream, hash. ARGV: consumer, id, outcome.
const FINISH: &str = "
if #redis.call('XPENDING', KEYS[1], 'workers', ARGV[2], ARGV[2], 1, ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('XACK', KEYS[1], 'workers', ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])";

/// If the job is still ours, sets how long ago the lease was renewed. KEYS: stream. ARGV: consumer, id, ms.
const RENEW: &str = "
if #redis.call('XPENDING', KEYS[1], 'workers', ARGV[2], ARGV[2], 1, ARGV[1]) == 0 then return 0 end
redis.call('XCLAIM', KEYS[1], 'workers', ARGV[1], 0, ARGV[2], 'IDLE', ARGV[3], 'JUSTID')
return 1";

#[derive(Default)]
struct Options {
    action: String,
    commands: Vec<String>,
    redis: String,
    queue: String,
    jobs: usize,
    tries: u32,
    lease: Duration,
    pause: Duration,
    until_empty: bool,
}

fn parse(args: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options {
        redis: "127.0.0.1:6379".into(),
        queue: "jobs:default".into(),
        jobs: 4,
        tries: 3,
        lease: Duration::from_secs(30),
        pause: Duration::from_secs(1),
        ..Options::default()
    };
    while let Some(arg) = args.next()? {
        match arg {
            Long("redis") => options.redis = args.value()?.string()?,
            Long("queue") => options.queue = format!("jobs:{}", args.value()?.string()?),
            Long("jobs") => options.jobs = args.value()?.parse_with(positive)?,
            Long("tries") => options.tries = args.value()?.parse_with(positive)?,
            Long("lease") => options.lease = args.value()?.parse_with(seconds)?,
            Long("pause") => options.pause = args.value()?.parse_with(seconds)?,
            Long("until-empty") => options.until_empty = true,
            Value(action) if options.action.is_empty() => options.action = action.string()?,
            Value(command) if options.action == "add" => options.commands.push(command.string()?),
            _ => return Err(cli::unknown(arg, USAGE)),
        }
    }
    match options.action.as_str() {
        "add" | "work" | "status" => Ok(options),
        _ => Err("expected `add`, `work` or `status`".into()),
    }
}

fn main() -> ExitCode {
    let options = Rc::new(cli::parse(USAGE, parse));
    let result = block_on(run(options.clone()));
    if let Err(error) = &result {
        eprintln!("jobs: Redis at {}: {error}", options.redis);
    }
    ExitCode::from(u8::from(result.is_err()))
}

async fn run(options: Rc<Options>) -> io::Result<()> {
    let mut redis = Connection::open(&options).await?;
    let queue = options.queue.as_str();
    // Fails if the group is there already.
    let _ = redis
        .call(&["XGROUP", "CREATE", queue, "workers", "0", "MKSTREAM"])
        .await;
    match options.action.as_str() {
        "add" => {
            for command in &options.commands {
                say(&redis
                    .call(&["XADD", queue, "*", "command", command])
                    .await?
                    .concat());
            }
        }
        "status" => {
            let open = redis.call(&["XLEN", queue]).await?.concat();
            let done = redis
                .call(&["HLEN", &format!("{queue}:done")])
                .await?
                .concat();
            let failed = redis.call(&["HGETALL", &format!("{queue}:failed")]).await?;
            say(&format!(
                "{open} open, {done} done, {} failed",
                failed.len() / 2
            ));
            failed.chunks(2).for_each(|job| say(&job.join(" ")));
        }
        _ => work(options).await?,
    }
    Ok(())
}

/// Runs jobs until a signal, or until no job is left.
async fn work(options: Rc<Options>) -> io::Result<()> {
    let (slots, stopping) = (TaskTracker::new(), Rc::new(Cell::new(false)));
    let worker = fastrand::u64(..);
    for n in 0..options.jobs {
        let (options, stopping) = (options.clone(), stopping.clone());
        // Two slots are two consumers, so that neither takes over the other's job unnoticed.
        let name = format!("{worker:016x}/{n}");
        slots.spawn(async move {
            while let Err(error) = run_jobs(&options, &stopping, &name).await {
                say(&format!("{name}: connects again in 1 s: {error}"));
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    say(&format!(
        "worker {worker:016x} runs {} jobs at a time",
        options.jobs
    ));
    let mut terminate = signal(SignalKind::terminate())?;
    let _stop = spawn(async move {
        let _ = future::or(soloist::signal::ctrl_c(), terminate.recv()).await;
        stopping.set(true);
    });
    slots.wait_idle().await;
    Ok(())
}

/// One job at a time.
async fn run_jobs(options: &Options, stopping: &Cell<bool>, name: &str) -> io::Result<()> {
    let mut redis = Connection::open(options).await?;
    let (queue, lease) = (
        options.queue.as_str(),
        options.lease.as_millis().to_string(),
    );
    while !stopping.get() {
        if let [id, command, n] = &redis.eval(TAKE, &[queue], &[name, &lease]).await?[..] {
            let n = n.parse().map_err(io::Error::other)?;
            run_job(&mut redis, options, name, (id, command, n)).await?;
        } else if options.until_empty && redis.call(&["XLEN", queue]).await?.concat() == "0" {
            break;
        } else {
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

async fn run_job(
    redis: &mut Connection,
    options: &Options,
    name: &str,
    (id, command, n): (&str, &str, u32),
) -> io::Result<()> {
    let queue = options.queue.as_str();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .env("JOB_ID", id)
        .env("JOB_TRY", n.to_string());
    let child = match n <= options.tries {
        true => shell.process_group(0).kill_on_drop(true).spawn(),
        false => Err(io::Error::other("its workers did not survive it")),
    };
    let failure = match child {
        Err(error) => Some(error.to_string()),
        Ok(mut child) => {
            let mut renewals = interval(options.lease / 3);
            let status = loop {
                match future::either(child.wait(), renewals.tick()).await {
                    Either::Left(status) => break status?,
                    Either::Right(_) => {}
                }
                let renewed = redis.eval(RENEW, &[queue], &[name, id, "0"]).await;
                if !renewed
                    .as_ref()
                    .is_ok_and(|renewed| renewed.concat() == "1")
                {
                    let _ = child.signal_group(SignalKind::from_raw(9));
                    say(&format!(
                        "{id}: try {n} is ended, since its lease could not be renewed"
                    ));
                    return renewed.map(drop);
                }
            };
            (!status.success()).then(|| status.to_string())
        }
    };
    match failure {
        None => {
            redis
                .eval(
                    FINISH,
                    &[queue, &format!("{queue}:done")],
                    &[name, id, &n.to_string()],
                )
                .await?
        }
        Some(why) if n < options.tries => {
            let pause = options
                .pause
                .saturating_mul(1 << (n - 1).min(20))
                .min(options.lease);
            say(&format!("{id}: try {n}: {why}, again in {pause:?}"));
            // The lease expires after the pause.
            let idle = (options.lease - pause).as_millis().to_string();
            redis.eval(RENEW, &[queue], &[name, id, &idle]).await?
        }
        Some(why) => {
            let why = format!("{command:?}: {why}");
            redis
                .eval(
                    FINISH,
                    &[queue, &format!("{queue}:failed")],
                    &[name, id, &why],
                )
                .await?
        }
    };
    Ok(())
}

struct Connection(Redis);

impl Connection {
    async fn open(options: &Options) -> io::Result<Connection> {
        let redis = timeout(Duration::from_secs(10), Redis::connect(&options.redis)).await??;
        Ok(Connection(redis))
    }

    /// Returns the reply, or its items, as text.
    async fn call(&mut self, command: &[&str]) -> io::Result<Vec<String>> {
        let command: Vec<_> = command.iter().map(|word| word.as_bytes()).collect();
        let reply = timeout(Duration::from_secs(10), self.0.call(&command)).await??;
        let items = match reply {
            Reply::List(items) => items,
            reply => vec![reply],
        };
        Ok(items
            .into_iter()
            .map(|item| match item {
                Reply::Bytes(bytes) => String::from_utf8_lossy(&bytes).into(),
                Reply::Number(number) => number.to_string(),
                _ => String::new(),
            })
            .collect())
    }

    /// Runs a script, atomically.
    async fn eval(
        &mut self,
        script: &str,
        keys: &[&str],
        args: &[&str],
    ) -> io::Result<Vec<String>> {
        let count = keys.len().to_string();
        self.call(&[&["EVAL", script, &count], keys, args].concat())
            .await
    }
}
