//! A client for Redis: PING, SET and GET, and a thousand INCR in one round trip.
//!
//! redis-server --port 6379 --save ''
//! cargo run --release -p soloist-ecosystem --example redis_ping
//! cargo run --release -p soloist-ecosystem --example redis_ping -- 127.0.0.1:6379
//!
//! `resp/mod.rs` implements the protocol on a `TcpStream`. The crates for Redis that have async
//! connections depend on the runtime that these connections use.

#[path = "../../examples/cli/mod.rs"]
mod cli;
mod resp;

use lexopt::{Arg, ValueExt};
use resp::{Redis, Value};
use soloist::time::{now, timeout};
use soloist::{block_on, spawn};
use std::io;
use std::process::{self, ExitCode};
use std::time::Duration;

const USAGE: &str = "\
usage: redis_ping [ADDRESS]

Sends commands to the Redis at ADDRESS (127.0.0.1:6379): PING, SET and GET, and INCR of one key, 1000
times in one round trip and 1000 times by ten tasks with a connection each. Deletes its keys at the end.";

const TIMEOUT: Duration = Duration::from_secs(10);
const INCREMENTS: usize = 1000;
const TASKS: usize = 10;

fn main() -> ExitCode {
    let mut address = None;
    cli::parse(USAGE, |args| {
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Value(value) if address.is_none() => address = Some(value.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(())
    });
    let address = address.unwrap_or("127.0.0.1:6379".into());
    match block_on(run(address)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis_ping: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(address: String) -> io::Result<()> {
    let mut redis = timeout(TIMEOUT, Redis::connect(&address)).await??;

    let started = now();
    let pong = timeout(TIMEOUT, redis.call(&[b"PING"])).await??;
    println!("PING: {} after {:?}", show(&pong), started.elapsed());

    // Other programs may use this server, too.
    let key = |name: &str| format!("redis_ping:{}:{name}", process::id()).into_bytes();
    let (greeting, counter) = (key("greeting"), key("counter"));
    let text = "grüß dich\r\n\0".as_bytes();
    let set: &[&[u8]] = &[b"SET", &greeting, text, b"EX", b"60"];
    let set = timeout(TIMEOUT, redis.call(set)).await??;
    println!("SET:  {}", show(&set));
    let get = timeout(TIMEOUT, redis.call(&[b"GET", &greeting])).await??;
    println!("GET:  {}", show(&get));
    if get != Value::Bytes(text.into()) {
        return Err(io::Error::other("GET returned another value than was SET"));
    }

    let started = now();
    let increment: &[&[u8]] = &[b"INCR", &counter];
    let replies = timeout(TIMEOUT, redis.pipeline(&[increment; INCREMENTS])).await??;
    let wanted = (1..=INCREMENTS as i64).map(Value::Number);
    if !wanted.eq(replies) {
        return Err(io::Error::other("the replies to INCR are out of order"));
    }
    println!(
        "INCR: {INCREMENTS} times in {:?}, in one round trip",
        started.elapsed()
    );

    let started = now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| spawn(increment_one_by_one(address.clone(), counter.clone())))
        .collect();
    for task in tasks {
        timeout(TIMEOUT, task).await??;
    }
    println!(
        "INCR: {INCREMENTS} times in {:?}, one by one, in {TASKS} tasks",
        started.elapsed()
    );
    let total = timeout(TIMEOUT, redis.call(&[b"GET", &counter])).await??;
    println!("GET:  {}", show(&total));

    let deleted = timeout(TIMEOUT, redis.call(&[b"DEL", &greeting, &counter])).await??;
    println!("DEL:  {}", show(&deleted));
    Ok(())
}

async fn increment_one_by_one(address: String, counter: Vec<u8>) -> io::Result<()> {
    let mut redis = Redis::connect(&address).await?;
    for _ in 0..INCREMENTS / TASKS {
        redis.call(&[b"INCR", &counter]).await?;
    }
    Ok(())
}

fn show(value: &Value) -> String {
    match value {
        Value::Status(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bytes(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        value => format!("{value:?}"),
    }
}
