//! Command lines and output of the examples.

#![allow(dead_code)]

use lexopt::{Arg, Error, Parser, ValueExt};
use std::ffi::OsString;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;
use std::{fs, process};

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

/// The URLs in a file, one per line, or in standard input if it is `-`. Skips empty lines and those
/// that start with `#`.
pub(crate) fn read_list(file: OsString) -> Result<Vec<String>, Error> {
    let file = file.string()?;
    let text = match &*file {
        "-" => io::read_to_string(io::stdin()),
        _ => fs::read_to_string(&file),
    };
    let text = text.map_err(|error| format!("cannot read {file}: {error}"))?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.map(String::from).collect::<Vec<_>>() {
        lines if lines.is_empty() => Err(format!("there is no URL in {file}").into()),
        lines => Ok(lines),
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
