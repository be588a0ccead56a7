//! The figures of all rounds, which are kept in files, and their summaries.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::place::{commit, program};
use crate::rows::Row;
use crate::runtimes::{RUNTIMES, Runtime};
use crate::target::Against;

/// All rounds of one suite.
#[derive(Default)]
pub struct Results {
    /// By row and runtime.
    values: BTreeMap<(String, String), Vec<f64>>,
    /// The commit of soloist that was measured.
    pub commit: String,
    /// By runtime and part of the suite: why there are no figures.
    pub refused: BTreeMap<String, String>,
}

/// A summary of the rounds of one runtime.
#[derive(Clone, Copy)]
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Results {
    pub fn add(&mut self, row: &str, runtime: &str, value: f64) {
        let key = (row.to_string(), runtime.to_string());
        self.values.entry(key).or_default().push(value);
    }

    pub fn get(&self, row: &str, runtime: &str) -> Option<Summary> {
        let mut values = self.values.get(&(row.into(), runtime.into()))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        let (least, most) = (values[0], values[values.len() - 1]);
        Some(Summary {
            median,
            least,
            most,
        })
    }

    pub fn median(&self, row: &str, runtime: &str) -> Option<f64> {
        self.get(row, runtime).map(|summary| summary.median)
    }

    /// The largest number of rounds of a row.
    pub fn rounds(&self) -> usize {
        self.values.values().map(Vec::len).max().unwrap_or(0)
    }

    /// The runtimes that have figures, in the order of the tables.
    pub fn runtimes(&self) -> Vec<&'static str> {
        let names = RUNTIMES.iter().map(|runtime| runtime.name);
        let has = |name: &&str| self.values.keys().any(|(_, runtime)| runtime == name);
        let mut names: Vec<_> = names.filter(has).collect();
        // soloist has two binaries.
        names.dedup();
        names
    }

    /// The peer with the best figure.
    pub fn best_peer(&self, row: &Row) -> Option<(&'static str, f64)> {
        self.best(row, Runtime::is_peer)
    }

    /// The figure to compare with, and its runtime.
    pub fn against(&self, row: &Row, against: Against) -> Option<(&'static str, f64)> {
        match against {
            Against::Best => self.best_peer(row),
            Against::Limit => self.best(row, |name| name == "limit"),
            Against::One(one) => self.best(row, |name| name == one),
            Against::Among(names) => self.best(row, |name| names.contains(&name)),
            Against::AmongOrEdge(names) => {
                let peer = self.best(row, |name| names.contains(&name));
                let edge = self.best(row, |name| name == "limit-edge");
                let both = peer.into_iter().chain(edge);
                both.max_by(|(_, a), (_, b)| a.total_cmp(b))
            }
            Against::Absolute => Some(("", 1.0)),
        }
    }

    fn best(&self, row: &Row, who: impl Fn(&str) -> bool) -> Option<(&'static str, f64)> {
        let figure = |name| Some((name, self.median(&row.name, name)?));
        let all = self.runtimes().into_iter().filter(|name| who(name));
        all.filter_map(figure).min_by(|(_, a), (_, b)| {
            let order = a.total_cmp(b);
            if row.more { order.reverse() } else { order }
        })
    }

    // ---- files -------------------------------------------------------------------

    fn path(suite: &str) -> PathBuf {
        program("soloist-bench-results").join(format!("{suite}.tsv"))
    }

    /// Saves the results, so that the documents can be written from several runs.
    pub fn save(&self, suite: &str) {
        let mut text = format!("commit\t-\t{}\n", commit());
        for ((row, runtime), values) in &self.values {
            for value in values {
                text += &format!("{row}\t{runtime}\t{value}\n");
            }
        }
        for (runtime, why) in &self.refused {
            text += &format!("refused\t{runtime}\t{why}\n");
        }
        let path = Self::path(suite);
        let done = fs::create_dir_all(path.parent().unwrap()).and_then(|()| fs::write(&path, text));
        done.unwrap_or_else(|error| eprintln!("{}: {error}", path.display()));
    }

    pub fn load(suite: &str) -> Option<Results> {
        let mut results = Results::default();
        for line in fs::read_to_string(Self::path(suite)).ok()?.lines() {
            let [row, runtime, value] = line.split('\t').collect::<Vec<_>>()[..] else {
                return None;
            };
            match value.parse() {
                _ if row == "commit" => results.commit = value.into(),
                Ok(value) => results.add(row, runtime, value),
                Err(_) => {
                    results.refused.insert(runtime.into(), value.into());
                }
            }
        }
        Some(results)
    }
}

impl Summary {
    /// Half of the range of the rounds, in percent of the median.
    pub fn spread(&self) -> f64 {
        let half = (self.most - self.least) / 2.0;
        if half == 0.0 {
            0.0
        } else {
            half / self.median * 100.0
        }
    }
}

/// Formats a number with three significant digits, and commas.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}
