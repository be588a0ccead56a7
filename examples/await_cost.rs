//! What an await costs: the same calls made directly, awaited one by one, and spawned as a task each.
//!
//! cargo run --release --example await_cost
//! cargo run --release --example await_cost -- --largest 10000 --rounds 3
//!
//! The tutorials on asyncio begin with 10,000 calls of n ** n: 5.31 s as plain calls, 5.61 s (5.7%
//! more) as coroutines that are awaited. In Python, the interpreter executes each `await`. In Rust, an
//! `async fn` that never has to wait is an ordinary function: its caller polls it once, and it returns
//! `Ready`.

mod cli;

use lexopt::prelude::*;
use soloist::{block_on, spawn};
use std::hint::black_box;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: await_cost [OPTION]...

Computes n ** n, for n from 1 to the largest and then from 1 again: in plain calls, in calls of an
async function that are awaited, and in a task for each call. Prints the medians of several rounds.
Then does the same with 1 ** 1, where the time is mostly that of the calls.

  --calls N    make N calls in each round (10000)
  --largest N  the largest n (1000); the tutorials use 10000, which takes longer
  --rounds N   measure N rounds (21)

Exits with 0, or with 2 if the arguments are invalid.";

fn main() {
    let (mut calls, mut largest, mut rounds) = (10_000, 1000, 21);
    cli::parse(USAGE, |args| {
        while let Some(arg) = args.next()? {
            let number = match arg {
                Long("calls") => &mut calls,
                Long("largest") => &mut largest,
                Long("rounds") => &mut rounds,
                _ => return Err(cli::unknown(arg, USAGE)),
            };
            *number = args.value()?.parse_with(cli::positive)?;
        }
        Ok(())
    });
    println!("{calls} calls, medians of {rounds} rounds\n");
    println!("n ** n, n up to {largest}");
    Medians::of(calls, largest, rounds).print(calls);
    println!("\n1 ** 1");
    let medians = Medians::of(calls, 1, rounds);
    medians.print(calls);
    let adds = per_call(medians.spawned, calls) - per_call(medians.plain, calls);
    println!("\nSpawning adds {adds:.0} ns per call.");
}

// Not inlined, since calls are what is compared.
#[inline(never)]
fn power(n: u32) -> Natural {
    let mut power = Natural::from(1);
    // Square and multiply, from the highest bit of the exponent to the lowest.
    for bit in (0..n.checked_ilog2().map_or(0, |highest| highest + 1)).rev() {
        power = power.times(&power);
        if n >> bit & 1 == 1 {
            power = power.times(&Natural::from(n));
        }
    }
    power
}

/// A natural number of any size: its digits in base 2^64, lowest first.
struct Natural(Vec<u64>);

impl From<u32> for Natural {
    fn from(n: u32) -> Natural {
        Natural(vec![n.into()])
    }
}

impl Natural {
    /// Long multiplication.
    fn times(&self, other: &Natural) -> Natural {
        let mut product = vec![0; self.0.len() + other.0.len()];
        for (place, &one) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (digit, &two) in product[place..].iter_mut().zip(&other.0) {
                let sum = u128::from(one) * u128::from(two) + u128::from(*digit) + carry;
                *digit = sum as u64;
                carry = sum >> 64;
            }
            product[place + other.0.len()] = carry as u64;
        }
        while product.len() > 1 && product.last() == Some(&0) {
            product.pop();
        }
        Natural(product)
    }
}

async fn power_later(n: u32) -> Natural {
    power(n)
}

fn plain(numbers: impl Iterator<Item = u32>) {
    for n in numbers {
        black_box(power(black_box(n)));
    }
}

async fn awaited(numbers: impl Iterator<Item = u32>) {
    for n in numbers {
        black_box(power_later(black_box(n)).await);
    }
}

async fn spawned(numbers: impl Iterator<Item = u32>) {
    for n in numbers {
        black_box(spawn(power_later(black_box(n))).await);
    }
}

struct Medians {
    plain: Duration,
    awaited: Duration,
    spawned: Duration,
}

impl Medians {
    fn of(calls: u32, largest: u32, rounds: u32) -> Medians {
        let numbers = || (1..=largest).cycle().take(calls as usize);
        let (mut plains, mut awaits, mut spawns) = (Vec::new(), Vec::new(), Vec::new());
        // The first round warms up the caches and the allocator, and is not counted.
        for round in 0..=rounds {
            // Interleaved, so that other load on the machine affects all three.
            let times = [
                time(|| plain(numbers())),
                time(|| block_on(awaited(numbers()))),
                time(|| block_on(spawned(numbers()))),
            ];
            if round > 0 {
                plains.push(times[0]);
                awaits.push(times[1]);
                spawns.push(times[2]);
            }
        }
        Medians {
            plain: median(plains),
            awaited: median(awaits),
            spawned: median(spawns),
        }
    }

    fn print(&self, calls: u32) {
        let ways = [
            ("plain", self.plain),
            ("awaited", self.awaited),
            ("spawned", self.spawned),
        ];
        for (name, time) in ways {
            println!(
                "  {name:8} {:>10.3} ms {:>10.0} ns per call   ratio {:.3}",
                time.as_secs_f64() * 1e3,
                per_call(time, calls),
                time.as_secs_f64() / self.plain.as_secs_f64()
            );
        }
    }
}

fn time(f: impl FnOnce()) -> Duration {
    let started = Instant::now();
    f();
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    let middle = times.len() / 2;
    match times.len() % 2 {
        0 => (times[middle - 1] + times[middle]) / 2,
        _ => times[middle],
    }
}

/// In nanoseconds.
fn per_call(time: Duration, calls: u32) -> f64 {
    time.as_secs_f64() * 1e9 / f64::from(calls)
}
