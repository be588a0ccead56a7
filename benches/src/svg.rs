//! The charts: bars for the suites, curves for `scale`.

use std::fmt::Write;

use crate::loads;
use crate::results::{Results, number};
use crate::rows::{self, Row};

const WIDTH: f64 = 760.0;
const SOLOIST: &str = "#c2410c";
const OTHERS: &str = "#94a3b8";
const LIMIT: &str = "#475569";

fn page(height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, style: &str, text: &str) {
    writeln!(
        out,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\" {style}>{text}</text>"
    )
    .unwrap();
}

/// A group of bars for each row, each with its own scale. Bars longer than four times the best are cut off.
pub fn bars(suite: &str, results: &Results) -> String {
    const LEFT: f64 = 110.0;
    const ROOM: f64 = 540.0;
    let mut out = String::new();
    let mut y = 10.0;
    for row in rows::of(suite).filter(|row| is_shown(row)) {
        let figures: Vec<(&str, f64)> = results
            .runtimes()
            .into_iter()
            .filter_map(|name| Some((name, results.median(&row.name, name)?)))
            .collect();
        let least = figures
            .iter()
            .map(|(_, value)| *value)
            .fold(f64::MAX, f64::min);
        let most = figures.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        if figures.len() < 2 || most == 0.0 {
            continue;
        }
        let full = if least > 0.0 {
            most.min(4.0 * least)
        } else {
            most
        };
        y += 16.0;
        let title = format!("{} ({})", row.name, row.unit).replace(" ()", "");
        text(&mut out, (8.0, y), "start", "font-weight=\"bold\"", &title);
        for (name, value) in figures {
            y += 14.0;
            let length = (value / full).min(1.0) * ROOM;
            let colour = match name {
                "soloist" => SOLOIST,
                "limit" | "limit-edge" => LIMIT,
                _ => OTHERS,
            };
            text(&mut out, (LEFT - 6.0, y), "end", "", name);
            writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"10\" fill=\"{colour}\"/>",
                y - 9.0
            )
            .unwrap();
            let more = if value > full { " »" } else { "" };
            let at = (LEFT + length + 6.0, y);
            text(
                &mut out,
                at,
                "start",
                "",
                &format!("{}{more}", number(value)),
            );
        }
        y += 6.0;
    }
    page(y + 10.0, &out)
}

/// Only some rows, since the charts of some suites would be too long.
fn is_shown(row: &Row) -> bool {
    match row.suite {
        "sockets" => row.name.ends_with(": CPU") || row.name.starts_with("instructions"),
        "mixed" => row.name.ends_with(": fewest replies") || row.name.ends_with(" p99"),
        _ => true,
    }
}

/// One curve for each runtime: nanoseconds per item over their number.
pub fn curves(what: &str, results: &Results) -> String {
    const HEIGHT: f64 = 300.0;
    let steps = match what {
        "tasks" => loads::TASKS,
        "timers" => loads::TIMERS,
        _ => loads::CONNECTIONS,
    };
    let figure = |n: usize, name| results.median(&format!("{what}: {n}"), name);
    let all = ["soloist", "tokio"]
        .into_iter()
        .flat_map(|name| steps.iter().filter_map(move |&n| figure(n, name)));
    let top = 1.15 * all.fold(1.0, f64::max);
    let (first, last) = (
        (steps[0] as f64).log10(),
        (steps[steps.len() - 1] as f64).log10(),
    );
    let x = |n: usize| 70.0 + ((n as f64).log10() - first) / (last - first) * 600.0;
    let y = |value: f64| HEIGHT - 40.0 - value / top * (HEIGHT - 80.0);
    let mut out = String::new();
    text(
        &mut out,
        (8.0, 18.0),
        "start",
        "font-weight=\"bold\"",
        &format!("{what}: ns each, by their number"),
    );
    for part in 0..=4 {
        let value = top * f64::from(part) / 4.0;
        writeln!(
            out,
            "<path d=\"M70 {0:.1}H670\" stroke=\"#e2e8f0\"/>",
            y(value)
        )
        .unwrap();
        text(&mut out, (62.0, y(value) + 4.0), "end", "", &number(value));
    }
    for &n in steps {
        let label = number(n as f64)
            .split('.')
            .next()
            .unwrap_or_default()
            .to_string();
        text(&mut out, (x(n), HEIGHT - 22.0), "middle", "", &label);
    }
    for (name, colour) in [("tokio", OTHERS), ("soloist", SOLOIST)] {
        let points: Vec<(f64, f64)> = steps
            .iter()
            .filter_map(|&n| Some((x(n), y(figure(n, name)?))))
            .collect();
        let Some(&end) = points.last() else {
            continue;
        };
        let line: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        )
        .unwrap();
        for (x, y) in &points {
            writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            )
            .unwrap();
        }
        text(
            &mut out,
            (end.0 + 8.0, end.1 + 4.0),
            "start",
            &format!("fill=\"{colour}\""),
            name,
        );
    }
    page(HEIGHT, &out)
}
