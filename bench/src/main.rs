//! `minionet-bench`: every figure is a ratio between this project and a rival or a floor, measured
//! alternately in the same run.
//!
//! A row of the table is a function in [`rows`]; it takes samples ([`measure`]), makes figures with
//! targets of them ([`finding`]), and those are shown ([`report`], [`plot`]).

mod arrivals;
mod crowd;
mod echo;
mod finding;
mod machine;
mod measure;
mod neighbours;
mod pair;
mod plot;
mod programs;
mod raw;
mod report;
mod rows;
mod stats;
mod streams;
mod subjects;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use self::programs::Programs;
use self::report::{Measured, Report};
use self::rows::{Bench, ROWS, Row};

/// Measure minionet beside what could be used instead, and beside what the kernel itself costs
///
/// Everything happens in namespaces that end with the program. `make bench` builds what is
/// measured as it is shipped, and writes BENCHMARKS.md; figures of a busy machine say little.
#[derive(Parser)]
#[command(name = "minionet-bench", version)]
struct Options {
    /// Measure these rows alone; may be given several times
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Print the names of the rows
    #[arg(long)]
    list: bool,
    /// Take few samples: to see that it works, not to know
    #[arg(long)]
    quick: bool,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the curves into files in this directory
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Renew the table in this file, between its two marks
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("minionet-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        let lines = ROWS.iter().map(|row| format!("{:<14} {}\n", row.name, row.what));
        print(&lines.collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = selected(&options.only)?;
    let programs = Programs::locate()?;
    programs::require(rows::NEEDS)?;
    let machine = machine::describe();
    netns_testbed::enter()?;
    let bench = Bench { programs: Programs::place(&programs)?, quick: options.quick };
    let mut report = Report { machine, command: command_line(), rows: Vec::new() };
    for row in rows {
        say(&format!("{}: {}", row.name, row.what));
        let start = Instant::now();
        let outcome = (row.run)(&bench);
        let measured = Measured::new(row, start.elapsed(), outcome);
        say(&format!("  took {:.0} s", start.elapsed().as_secs_f64()));
        report.rows.push(measured);
    }
    print(&report.text())?;
    let wrote = |path: &PathBuf| format!("write {}", path.display());
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n").with_context(|| wrote(path))?;
    }
    if let Some(directory) = &options.plot {
        fs::create_dir_all(directory).with_context(|| wrote(directory))?;
        for drawing in report.plots() {
            let path = directory.join(drawing.name).with_extension("svg");
            fs::write(&path, plot::svg(drawing)).with_context(|| wrote(&path))?;
        }
    }
    if let Some(path) = &options.markdown {
        let old = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        fs::write(path, report.renew(&old)?).with_context(|| wrote(path))?;
    }
    let failed = report.rows.iter().any(|row| row.error.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn selected(names: &[String]) -> Result<Vec<&'static Row>> {
    for name in names {
        if !ROWS.iter().any(|row| row.name == name) {
            let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            bail!("there is no row {name}; there are {}", known.join(", "));
        }
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)).collect())
}

/// As a person would type it.
fn command_line() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!("minionet-bench {}", words.join(" ")).trim_end().to_owned()
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// Progress, for whoever watches.
fn say(text: &str) {
    // Where standard error is closed, nobody does.
    let _unheard = writeln!(std::io::stderr(), "{text}");
}
