//! The command line.

use crate::loads;
use crate::rows::SUITES;

pub struct Options {
    pub suites: Vec<String>,
    pub rounds: usize,
    /// Empty for all runtimes.
    pub only: Vec<String>,
    /// Empty for all loads of the suite `mixed`.
    pub loads: Vec<String>,
    /// How long each load of the suite `mixed` is measured.
    pub seconds: f64,
    pub build: bool,
    /// Whether the suite `sockets` counts system calls and instructions.
    pub counts: bool,
    pub markdown: bool,
    pub svg: bool,
}

impl Options {
    pub fn of_command_line() -> Result<Options, String> {
        let mut options = Options {
            suites: Vec::new(),
            rounds: 5,
            only: Vec::new(),
            loads: Vec::new(),
            seconds: 3.0,
            build: true,
            counts: true,
            markdown: false,
            svg: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match &*argument {
                "--rounds" => {
                    let value = value()?;
                    let rounds = value.parse().ok().filter(|&rounds| rounds > 0);
                    options.rounds = rounds.ok_or(format!(
                        "--rounds: expected a number of at least 1, not {value:?}"
                    ))?;
                }
                "--only" => options.only = value()?.split(',').map(String::from).collect(),
                "--loads" => {
                    options.loads = value()?.split(',').map(String::from).collect();
                    if let Some(load) = options.loads.iter().find(|load| !loads::knows(load)) {
                        return Err(format!("no load of the suite mixed: {load}"));
                    }
                }
                "--seconds" => {
                    let value = value()?;
                    let seconds = value.parse().ok().filter(|s| (0.1..=20.0).contains(s));
                    options.seconds =
                        seconds.ok_or(format!("--seconds: expected 0.1 to 20, not {value:?}"))?;
                }
                "--no-counts" => options.counts = false,
                "--no-build" => options.build = false,
                "--markdown" => options.markdown = true,
                "--svg" => options.svg = true,
                "--help" | "-h" => return Err(usage()),
                suite if SUITES.iter().any(|(name, _)| *name == suite) => {
                    options.suites.push(suite.into());
                }
                other => return Err(format!("unexpected argument {other:?}\n\n{}", usage())),
            }
        }
        // All suites by default, unless only the documents are wanted.
        if options.suites.is_empty() && !options.markdown && !options.svg {
            options.suites = SUITES.iter().map(|(name, _)| name.to_string()).collect();
        }
        Ok(options)
    }

    /// Whether a runtime is to be measured.
    pub fn wants(&self, runtime: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == runtime)
    }
}

fn usage() -> String {
    let mut text = String::from(
        "cargo run --release --manifest-path benches/Cargo.toml -- [SUITE ...] [OPTIONS]\n\n",
    );
    for (name, what) in SUITES {
        text += &format!("  {name:<10} {what}\n");
    }
    text + "
  --rounds N    how often each runtime runs (5)
  --only A,B    these runtimes (all)
  --loads A,B   these loads of the suite mixed, a to g (all)
  --seconds S   how long each of those loads is measured (3)
  --no-counts   do not count system calls and instructions in the suite sockets
  --no-build    use the existing binaries
  --markdown    write docs/benchmarks.md from the last run of each suite
  --svg         write its charts

With SOLOIST_OTHER=PATH in the environment, the soloist in that checkout is measured as well, as
soloist-other."
}
