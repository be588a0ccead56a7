//! Speaks with Redis: PING, SET and GET, and a thousand INCR in one round trip.
//!
//! redis-server --port 6379 --save ''
//! cargo run --release -p soloist-ecosystem --example redis_ping
//! cargo run --release -p soloist-ecosystem --example redis_ping -- 127.0.0.1:6379
//!
//! The protocol is in `resp/mod.rs`, on top of nothing but `TcpStream`. Of the crates for
//! Redis, those with async connections bring the runtime along that these run on.

mod resp;

use resp::{Redis, Value};
use soloist::time::{now, timeout};
use soloist::{block_on, spawn};
use std::io;
use std::process::{self, ExitCode};
use std::time::Duration;

const USAGE: &str = "\
usage: redis_ping [ADDRESS]

Speaks with the Redis at ADDRESS (127.0.0.1:6379): PING, SET and GET, and 1000 INCR of one key, first
in one round trip, then by ten tasks with a connection each. It deletes the keys that it has made.";

const TIMEOUT: Duration = Duration::from_secs(10);
const INCREMENTS: usize = 1000;
const TASKS: usize = 10;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let address = match (args.next(), args.next()) {
        (Some(arg), _) if arg == "-h" || arg == "--help" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        (Some(arg), None) if !arg.starts_with('-') => arg,
        (None, _) => "127.0.0.1:6379".into(),
        _ => {
            eprintln!("redis_ping: one address, please\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
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

    // Others may use this server, too.
    let key = |name: &str| format!("redis_ping:{}:{name}", process::id()).into_bytes();
    let (greeting, counter) = (key("greeting"), key("counter"));
    let text = "grüß dich\r\n\0".as_bytes();
    let set: &[&[u8]] = &[b"SET", &greeting, text, b"EX", b"60"];
    let set = timeout(TIMEOUT, redis.call(set)).await??;
    println!("SET:  {}", show(&set));
    let get = timeout(TIMEOUT, redis.call(&[b"GET", &greeting])).await??;
    println!("GET:  {}", show(&get));
    if get != Value::Bytes(text.into()) {
        return Err(io::Error::other("GET is not what was SET"));
    }

    let started = now();
    let increment: &[&[u8]] = &[b"INCR", &counter];
    let replies = timeout(TIMEOUT, redis.pipeline(&[increment; INCREMENTS])).await??;
    let wanted = (1..=INCREMENTS as i64).map(Value::Number);
    if !wanted.eq(replies) {
        return Err(io::Error::other("the replies are not in order"));
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
        "INCR: {INCREMENTS} times in {:?}, by {TASKS} tasks, one by one",
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
