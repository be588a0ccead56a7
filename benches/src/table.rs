//! Tables for the terminal.

use crate::results::{Results, number};
use crate::rows::{self, Row};
use crate::target::Against;

/// One suite: a line per row, a column per runtime.
pub fn print(suite: &str, results: &Results) {
    let runtimes = results.runtimes();
    let mut head = vec![suite.to_string()];
    head.extend(runtimes.iter().map(|name| name.to_string()));
    head.extend(["best peer", "ratio"].map(String::from));
    // The others to which a ratio is shown, if they were measured.
    let mut beside = vec!["soloist-other", "limit", "limit-edge"];
    beside.retain(|name| runtimes.contains(name));
    head.extend(beside.iter().map(|name| format!("to {name}")));
    head.push("target".into());
    let mut lines = vec![head];
    for row in rows::of(suite) {
        let mut line = vec![format!("{} {}", row.name, row.unit)];
        for name in &runtimes {
            let cell = results.get(&row.name, name);
            line.push(cell.map_or("-".into(), |cell| {
                format!("{} ±{:.0}%", number(cell.median), cell.spread())
            }));
        }
        let Some(own) = results.median(&row.name, "soloist") else {
            continue;
        };
        let best = results.best_peer(row);
        line.push(best.map_or("-".into(), |(name, _)| name.into()));
        line.push(best.map_or("-".into(), |(_, figure)| format!("{:.2}", own / figure)));
        for name in &beside {
            let figure = results.median(&row.name, name);
            line.push(figure.map_or("-".into(), |figure| format!("{:.2}", own / figure)));
        }
        line.push(verdicts(row, results, own).join(", "));
        lines.push(line);
    }
    align(&lines);
    for (what, why) in &results.refused {
        println!("{what}: {why}");
    }
    println!();
}

/// The result of each target of a row.
pub fn verdicts(row: &Row, results: &Results, own: f64) -> Vec<String> {
    let verdict = |&(bound, against): &(f64, Against)| {
        let (name, figure) = results.against(row, against)?;
        let ratio = own / figure;
        let met = if row.reaches(ratio, bound) {
            "met"
        } else {
            "MISSED"
        };
        Some(match against {
            Against::Absolute => format!("{met}: {} of {}", number(own), number(bound)),
            _ => format!("{met}: {ratio:.2} of {bound} x {name}"),
        })
    };
    row.targets.iter().filter_map(verdict).collect()
}

fn align(lines: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Names to the left, figures to the right.
            text += &if column == 0 || column + 1 == line.len() {
                format!("{cell:<width$}  ")
            } else {
                format!("{cell:>width$}  ")
            };
        }
        println!("{}", text.trim_end());
    }
}
