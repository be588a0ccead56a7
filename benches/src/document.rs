//! docs/benchmarks.md, from the last run of each suite.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::place::{here, output};
use crate::results::{Results, number};
use crate::rows::{self, Row, SUITES};
use crate::target::Against;
use crate::{notes, svg};

fn docs() -> PathBuf {
    here().parent().expect("the crate's directory").join("docs")
}

fn all() -> BTreeMap<&'static str, Results> {
    let loaded = SUITES
        .iter()
        .map(|(suite, _)| (*suite, Results::load(suite)));
    loaded
        .filter_map(|(suite, results)| Some((suite, results?)))
        .collect()
}

pub fn charts() {
    let directory = docs().join("benchmarks");
    fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let write = |name: &str, text: String| {
        let path = directory.join(format!("{name}.svg"));
        fs::write(&path, text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    };
    for (suite, results) in all() {
        if suite == "scale" {
            for what in ["tasks", "timers", "connections"] {
                write(&format!("scale-{what}"), svg::curves(what, &results));
            }
        } else {
            write(suite, svg::bars(suite, &results));
        }
    }
}

/// Writes docs/benchmarks.md. The sections of suites without results are kept.
pub fn markdown() {
    let all = all();
    let path = docs().join("benchmarks.md");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let mut out = String::from(INTRODUCTION);
    write!(out, "{}", about_here(&all, &before)).unwrap();
    out += "\n## Goals\n\n\
            The goals were set before the first run. Ratios compare medians of the same run.\n\n\
            | suite | work | unit | soloist | the best others | goal | reached |\n\
            |---|---|---|--:|---|---|---|\n";
    let mut missed = Vec::new();
    for row in rows::ROWS.iter().filter(|row| !row.targets.is_empty()) {
        match all.get(row.suite) {
            Some(results) => out += &goal(row, results, &mut missed),
            None => out += &goal_before(row, &before, &mut missed),
        }
    }
    if !missed.is_empty() {
        out += "\nThe goals that were missed, and why:\n\n";
        // Rows that miss for the same reason are one item.
        let mut items: Vec<(&str, Vec<String>)> = Vec::new();
        for name in missed {
            let why = notes::of(&name);
            match items.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(name),
                None => items.push((why, vec![name])),
            }
        }
        for (why, names) in items {
            writeln!(out, "* **{}**: {why}", names.join("**, **")).unwrap();
        }
    }
    for (suite, what) in SUITES {
        let Some(results) = all.get(suite) else {
            out += section_before(suite, &before);
            continue;
        };
        write!(out, "\n## {suite}\n\n{what}.\n\n").unwrap();
        out += notes::about(suite);
        if *suite == "scale" {
            for what in ["tasks", "timers", "connections"] {
                write!(out, "![{what}](benchmarks/scale-{what}.svg)\n\n").unwrap();
            }
        } else {
            write!(out, "![{what}](benchmarks/{suite}.svg)\n\n").unwrap();
        }
        out += &figures(suite, results);
    }
    // The table of http/run.py, which is copied by hand.
    out += section_before("http", &before);
    fs::write(&path, out).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}

const INTRODUCTION: &str = "\
# Benchmarks

This page compares soloist with tokio, smol, monoio, compio, glommio, the `LocalPool` of `futures`,
Python's asyncio and uvloop, and two hand-written epoll loops that show the limit. The program that
measures writes the page:

```sh
cargo run --release --manifest-path benches/Cargo.toml -- --rounds 5
cargo run --release --manifest-path benches/Cargo.toml -- --markdown --svg
```

All runtimes run the same code (`benches/bodies`). Only spawning, sleeping and reading differ
(`benches/runtimes`). The runtimes take turns. Each runs on one core, and the load on another. Rows
of computation show the CPU time of the thread, and rows of servers the CPU time of the server's
process. Rows that measure waiting show real time. Only compare figures of the same table, since they
depend on the machine and its load. `±` is half the range of the rounds.
";

const SOURCES: &str = "| soloist's sources, as measured |";

// ---- what was there before ---------------------------------------------------------

/// The section of a suite, or nothing.
fn section_before<'a>(suite: &str, before: &'a str) -> &'a str {
    let Some(start) = before.find(&format!("\n## {suite}\n")) else {
        return "";
    };
    let section = &before[start..];
    let end = section[1..]
        .find("\n## ")
        .map_or(section.len(), |end| end + 1);
    &section[..end]
}

fn goal_before(row: &Row, before: &str, missed: &mut Vec<String>) -> String {
    let start = format!("| {} | {} |", row.suite, row.name);
    let Some(line) = before.lines().find(|line| line.starts_with(&start)) else {
        return String::new();
    };
    if line.contains("**no**") {
        missed.push(row.name.clone());
    }
    format!("{line}\n")
}

/// The value for a suite in a line of the first table, such as "tasks 3, timers 5".
fn entry_before(start: &str, suite: &str, before: &str) -> Option<String> {
    let line = before.lines().find(|line| line.starts_with(start))?;
    let entries = line.trim_end_matches([' ', '|']).split([',', ':', '|']);
    let mut entries = entries.filter_map(|entry| entry.trim().split_once(' '));
    let (_, value) = entries.find(|(name, _)| *name == suite)?;
    Some(value.into())
}

/// The values of all suites, from the results or from the previous document.
fn entries(
    start: &str,
    all: &BTreeMap<&'static str, Results>,
    before: &str,
    now: impl Fn(&Results) -> String,
) -> String {
    let entry = |(suite, _): &(&'static str, _)| {
        let value = match all.get(suite) {
            Some(results) => now(results),
            None => entry_before(start, suite, before)?,
        };
        Some(format!("{suite} {value}"))
    };
    let entries: Vec<String> = SUITES.iter().filter_map(entry).collect();
    entries.join(", ")
}

// ---- the parts of the document -----------------------------------------------------

/// Machine, versions, date, command.
fn about_here(all: &BTreeMap<&'static str, Results>, before: &str) -> String {
    let mut out = String::from("\n## Where and when\n\n| | |\n|---|---|\n");
    let mut line = |what: &str, value: &str| writeln!(out, "| {what} | {value} |").unwrap();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |model| {
        model.trim_start_matches(['\t', ' ', ':'])
    });
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    line("processor", &format!("{model}, {cores} cores, virtual"));
    line("system", &output("uname", &["-sr"]));
    line("date", &output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]));
    let command = "cargo run --release --manifest-path benches/Cargo.toml --";
    let rounds = entries("| command |", all, before, |results| {
        results.rounds().to_string()
    });
    line(
        "command",
        &format!("`{command} SUITE --rounds N`, with N for each suite: {rounds}"),
    );
    line("compiler", &output("rustc", &["--version"]));
    let lock = fs::read_to_string(here().join("Cargo.lock")).unwrap_or_default();
    let version = |name: &str| {
        let start = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
        start
            .and_then(|(_, rest)| rest.split('"').next())
            .unwrap_or("?")
    };
    let names = [
        "tokio", "smol", "async-io", "monoio", "compio", "glommio", "futures", "polling",
        "turmoil", "madsim",
    ];
    let commits = entries(SOURCES, all, before, |results| results.commit.clone());
    line(&SOURCES[2..SOURCES.len() - 2], &commits);
    let versions = names
        .map(|name| format!("{name} {}", version(name)))
        .join(", ");
    line(
        "versions",
        &format!("soloist {}, {versions}", version("soloist")),
    );
    let uvloop = output(
        "python3",
        &["-c", "import uvloop; print(uvloop.__version__)"],
    );
    // Without it, its figures are those from before.
    let old = entry_before("| Python |", "uvloop", before).filter(|_| uvloop == "none");
    let python = output("python3", &["--version"]);
    line(
        "Python",
        &format!("{python}, uvloop {}", old.unwrap_or(uvloop)),
    );
    out
}

fn goal(row: &Row, results: &Results, missed: &mut Vec<String>) -> String {
    let Some(own) = results.median(&row.name, "soloist") else {
        return String::new();
    };
    let mut others: Vec<(&str, f64)> = results
        .runtimes()
        .into_iter()
        .filter(|name| !name.starts_with("soloist"))
        .filter_map(|name| Some((name, results.median(&row.name, name)?)))
        .collect();
    others.sort_by(|(_, a), (_, b)| {
        let order = a.total_cmp(b);
        if row.more { order.reverse() } else { order }
    });
    let others: Vec<String> = others
        .iter()
        .take(3)
        .map(|(name, value)| format!("{name} {}", number(*value)))
        .collect();
    let (mut goals, mut reached) = (Vec::new(), Vec::new());
    for &(bound, against) in &row.targets {
        let Some((name, figure)) = results.against(row, against) else {
            continue;
        };
        let absolute = matches!(against, Against::Absolute);
        let ratio = own / figure;
        let name = match against {
            Against::Best => "the best",
            Against::Limit => "the limit",
            _ => name,
        };
        let sign = if row.more { '≥' } else { '≤' };
        goals.push(if absolute {
            format!("{sign} {}", number(bound).replace(".00", ""))
        } else {
            format!("{sign} {bound} × {name}")
        });
        let reached_it = row.reaches(ratio, bound);
        let verdict = if reached_it { "yes" } else { "**no**" };
        reached.push(if absolute {
            verdict.into()
        } else {
            // A miss that two digits would not show gets a third.
            let hides = !reached_it && (ratio - bound).abs() < 0.005;
            let digits = if hides { 3 } else { 2 };
            format!("{verdict}: {ratio:.digits$}")
        });
        if !reached_it && !missed.contains(&row.name) {
            missed.push(row.name.clone());
        }
    }
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |\n",
        row.suite,
        row.name,
        row.unit,
        number(own),
        others.join(", "),
        goals.join("; "),
        reached.join("; ")
    )
}

fn figures(suite: &str, results: &Results) -> String {
    let runtimes = results.runtimes();
    let mut out = format!(
        "| | {} |\n|---|{}\n",
        runtimes.join(" | "),
        "--:|".repeat(runtimes.len())
    );
    for row in rows::of(suite) {
        let cells: Vec<String> = runtimes
            .iter()
            .map(|name| match results.get(&row.name, name) {
                Some(cell) if cell.most > cell.least => {
                    format!("{} ±{:.0}%", number(cell.median), cell.spread())
                }
                Some(cell) => number(cell.median),
                None => "–".into(),
            })
            .collect();
        if cells.iter().any(|cell| cell != "–") {
            let unit = if row.unit.is_empty() {
                String::new()
            } else {
                format!(", {}", row.unit)
            };
            writeln!(out, "| {}{unit} | {} |", row.name, cells.join(" | ")).unwrap();
        }
    }
    if !results.refused.is_empty() {
        out += "\nNot measured:\n\n";
        for (what, why) in &results.refused {
            writeln!(
                out,
                "* {}: {}",
                what.trim_end_matches(", "),
                why.replace('<', "&lt;")
            )
            .unwrap();
        }
    }
    out
}
