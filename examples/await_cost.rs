//! What awaiting costs: the same calls made plainly, awaited one by one, and as a task each.
//!
//! cargo run --release --example await_cost
//! cargo run --release --example await_cost -- --largest 10000 --rounds 3
//!
//! The tutorials on asyncio begin with 10,000 calls of n ** n: 5.31 s plain, 5.61 s as coroutines
//! that are awaited, 5.7% more. In Python an `await` is work for the interpreter. Here an
//! `async fn` that never has to wait is a function: its caller polls it, and it returns `Ready`
//! from that very call.

use soloist::{block_on, spawn};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: await_cost [OPTION]...

Calls a function that computes n ** n, with n from 1 to the largest and again from 1: plainly, as an
async function that is awaited, and as a task for each call that is awaited. They take turns for
several rounds, and the medians count. Then the same with 1 ** 1, where little is left but the call.

  --calls N    so many calls in each round (10000)
  --largest N  the largest n (1000); with 10000 it is what the tutorials compute, and takes longer
  --rounds N   so many rounds (21)

The exit status is 0, or 2 if the arguments are wrong.";

fn main() -> ExitCode {
    let args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let options = match Options::parse(args.skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("await_cost: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Options {
        calls,
        largest,
        rounds,
    } = options;

    println!("{calls} calls, medians of {rounds} rounds\n");
    println!("n ** n, n up to {largest}");
    Medians::of(calls, largest, rounds).print(calls);
    println!("\n1 ** 1");
    let medians = Medians::of(calls, 1, rounds);
    medians.print(calls);
    let adds = per_call(medians.spawned, calls) - per_call(medians.plain, calls);
    println!("\nSpawning adds {adds:.0} ns per call.");
    ExitCode::SUCCESS
}

struct Options {
    calls: u32,
    largest: u32,
    rounds: u32,
}

impl Options {
    /// `None` is a request for help.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            calls: 10_000,
            largest: 1000,
            rounds: 21,
        };
        while let Some(arg) = args.next() {
            let number = match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--calls" => &mut options.calls,
                "--largest" => &mut options.largest,
                "--rounds" => &mut options.rounds,
                _ => return Err(format!("there is no option {arg}")),
            };
            let value = args.next().and_then(|value| value.parse().ok());
            *number = value
                .filter(|&number| number > 0)
                .ok_or(format!("{arg} needs a number, at least 1"))?;
        }
        Ok(Some(options))
    }
}

// Both are kept from being merged into their callers: it is calls that are compared.

#[inline(never)]
fn power(n: u32) -> Natural {
    let mut power = Natural::from(1);
    // From the highest bit of the exponent to the lowest.
    for bit in (0..n.checked_ilog2().map_or(0, |highest| highest + 1)).rev() {
        power = power.times(&power);
        if n >> bit & 1 == 1 {
            power = power.times(&Natural::from(n));
        }
    }
    power
}

/// A natural number of any size: its digits to the base of 2^64, the lowest first.
struct Natural(Vec<u64>);

impl From<u32> for Natural {
    fn from(n: u32) -> Natural {
        Natural(vec![n.into()])
    }
}

impl Natural {
    /// Multiplies as one does on paper.
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
        // The first round warms caches and the allocator up, and does not count.
        for round in 0..=rounds {
            // In turns, so that what else the machine does hits all of them.
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
