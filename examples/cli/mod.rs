//! Command lines and output of the examples.

#![allow(dead_code)]

use lexopt::{Arg, Error, Parser};
use std::io::{self, Write};
use std::process;
use std::str::FromStr;
use std::time::Duration;

/// Calls `parse` with the arguments of this program. If one of them is invalid, prints the error and
/// `usage`, and exits with status 2.
pub(crate) fn parse<T>(usage: &str, parse: impl FnOnce(&mut Parser) -> Result<T, Error>) -> T {
    parse(&mut Parser::from_env()).unwrap_or_else(|error| {
        let name = usage.split_whitespace().nth(1).unwrap_or_default();
        eprintln!("{name}: {error}\n\n{usage}");
        process::exit(2);
    })
}

/// The error for an argument that the example does not have. Exits with `usage` if it is `--help`.
pub(crate) fn unknown(arg: Arg<'_>, usage: &str) -> Error {
    if matches!(arg, Arg::Short('h') | Arg::Long("help")) {
        say(usage);
        process::exit(0);
    }
    arg.unexpected()
}

/// For `parse_with`: a number of at least 1.
pub(crate) fn positive<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, &'static str> {
    let number = text.parse().ok().filter(|number| *number >= T::from(1));
    number.ok_or("expected a number of at least 1")
}

/// For `parse_with`: a number of seconds above 0, which may be a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, &'static str> {
    let time = Duration::try_from_secs_f64(text.parse().unwrap_or(0.0)).unwrap_or_default();
    match time.is_zero() {
        true => Err("expected a number of seconds above 0"),
        false => Ok(time),
    }
}

/// Prints a line at once. A program that uses this continues if standard output is closed.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line at once, and exits if standard output is closed, as by `| head`.
pub(crate) fn say_or_exit(line: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        process::exit(1);
    }
}
