//! The table: for the terminal, for BENCHMARKS.md, and as JSON.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::finding::{Alike, Finding, Findings, Floor, Plot, Side, Target, Verdict};
use crate::rows::Row;

/// Where the table begins and ends in a file that has other text as well.
const MARKS: [&str; 2] = ["<!-- measured: begin -->", "<!-- measured: end -->"];

/// One run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What it was measured on.
    pub machine: Vec<(&'static str, String)>,
    /// The command line.
    pub command: String,
    /// The rows that were measured.
    pub rows: Vec<Measured>,
}

/// One row.
#[derive(Debug, Serialize)]
pub struct Measured {
    name: &'static str,
    what: &'static str,
    seconds: f64,
    #[serde(flatten)]
    found: Findings,
    /// Why there are no figures.
    pub error: Option<String>,
}

impl Measured {
    /// A row, and what came of it.
    pub fn new(row: &Row, took: Duration, outcome: Result<Findings>) -> Self {
        let (found, error) = match outcome {
            Ok(found) => (found, None),
            Err(error) => (Findings::default(), Some(format!("{error:#}"))),
        };
        Measured { name: row.name, what: row.what, seconds: took.as_secs_f64(), found, error }
    }

    /// For the terminal: a line for each figure.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(error) = &self.error {
            let _ = writeln!(text, "  failed    {}: {error}", self.name);
        }
        for finding in &self.found.findings {
            let _ = writeln!(
                text,
                "  {:<9} {}: {} ({}){}",
                verdict(finding),
                finding.what,
                figure(finding),
                target(finding),
                beside(finding).iter().map(|it| format!("; {it}")).collect::<String>(),
            );
        }
        let _ = write!(text, "  took {:.0} s", self.seconds);
        text
    }
}

impl Report {
    /// For the terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let _ = writeln!(text, "{}: {}\n{}", row.name, row.what, row.text());
        }
        let count = |wanted| self.findings().filter(|finding| finding.verdict() == wanted).count();
        let failed = self.rows.iter().filter(|row| row.error.is_some()).count();
        let seconds: f64 = self.rows.iter().map(|row| row.seconds).sum();
        let _ = writeln!(
            text,
            "{} met, {} missed, {} beyond the kernel, {failed} rows failed, {seconds:.0} s",
            count(Verdict::Met),
            count(Verdict::Missed),
            count(Verdict::Kernel),
        );
        text
    }

    /// The drawings of all rows.
    pub fn plots(&self) -> impl Iterator<Item = &Plot> {
        self.rows.iter().flat_map(|row| &row.found.plots)
    }

    /// A text with the table in it renewed.
    ///
    /// # Errors
    /// When the text has no place for it.
    pub fn renew(&self, old: &str) -> Result<String> {
        let [begin, end] = MARKS;
        let missing = || format!("there is no place for the table: it goes between {begin} and {end}");
        let (before, rest) = old.split_once(begin).with_context(missing)?;
        let (_, after) = rest.split_once(end).with_context(missing)?;
        Ok(format!("{before}{begin}\n{}{end}{after}", self.markdown()))
    }

    fn markdown(&self) -> String {
        let mut text = String::from("\nMeasured by\n\n");
        let _ = writeln!(text, "    {}\n\non this machine:\n", self.command);
        for (what, is) in &self.machine {
            let _ = writeln!(text, "* {what}: {is}");
        }
        text.push_str(
            "\n| what | target | median (95 % interval) | values | verdict |\n|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let _ = writeln!(text, "| **{}** (`{}`) | | | | |", row.what, row.name);
            if let Some(error) = &row.error {
                let _ = writeln!(text, "| not measured: {} | | | | failed |", error.replace('|', "/"));
            }
            for finding in &row.found.findings {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} |",
                    finding.what,
                    target(finding),
                    figure(finding),
                    beside(finding).join("; "),
                    verdict(finding),
                );
            }
        }
        for plot in self.plots() {
            let _ = write!(text, "\n![{}](docs/bench/{}.svg)\n", plot.title, plot.name);
        }
        text.push('\n');
        text
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.rows.iter().flat_map(|row| &row.found.findings)
    }
}

fn verdict(finding: &Finding) -> &'static str {
    match finding.verdict() {
        Verdict::Met => "met",
        Verdict::Kernel => "kernel",
        Verdict::Missed => "missed",
        Verdict::Shown => "",
    }
}

fn target(finding: &Finding) -> String {
    match finding.target {
        Target::AtMost(most) => format!("≤ {}", with_unit(&number(most), finding.unit)),
        Target::AtLeast(least) => format!("≥ {}", with_unit(&number(least), finding.unit)),
        Target::None => String::new(),
    }
}

/// What stands beside a figure.
fn beside(finding: &Finding) -> Vec<String> {
    [sides(finding), floor(finding), finding.alike.as_ref().map(alike), certainty(finding)]
        .into_iter()
        .flatten()
        .collect()
}

fn alike(alike: &Alike) -> String {
    format!("alike pairs {}–{}", number(alike.interval.lower), number(alike.interval.upper))
}

/// How far beyond the target is far enough, and whether the median is.
fn certainty(finding: &Finding) -> Option<String> {
    let least = format!("misses of {:.1} % show", finding.smallest_miss()? * 100.0);
    let within = finding.verdict() == Verdict::Met && !finding.target.is_met(finding.summary.median);
    Some(if within { format!("within the noise: {least}") } else { least })
}

fn sides(finding: &Finding) -> Option<String> {
    let side = |side: &Side| format!("{} {}", side.name, with_unit(&number(side.summary.median), side.unit));
    let sides: Vec<String> = finding.sides.iter().map(side).collect();
    (!sides.is_empty()).then(|| sides.join(", "))
}

fn floor(finding: &Finding) -> Option<String> {
    let shown =
        |floor: &Floor| format!("{}: {}", floor.name, with_unit(&number(floor.summary.median), finding.unit));
    let floors: Vec<String> = finding.floors.iter().map(shown).collect();
    (!floors.is_empty()).then(|| floors.join(", "))
}

fn figure(finding: &Finding) -> String {
    let median = with_unit(&number(finding.summary.median), finding.unit);
    match finding.interval {
        Some(interval) => format!("{median} ({}–{})", number(interval.lower), number(interval.upper)),
        None => median,
    }
}

fn with_unit(number: &str, unit: &str) -> String {
    if unit.is_empty() { number.to_owned() } else { format!("{number} {unit}") }
}

/// Three digits that say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "?".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        size if size >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = Row { name: "add", what: "ADD", run: |_| anyhow::bail!("never called") };
        let finding =
            Finding::ratio("ADD against it", Target::AtMost(0.5), "ms", ("us", &[1.0]), ("it", &[4.0]));
        let measured = Measured::new(&row, Duration::from_secs(2), Ok(vec![finding].into()));
        Report {
            machine: vec![("kernel", "6.18".into())],
            command: "minionet-bench".into(),
            rows: vec![measured],
        }
    }

    #[test]
    fn the_table_is_renewed_and_the_rest_stays() {
        let renewed = report().renew("# Before\n<!-- measured: begin -->old<!-- measured: end -->\nAfter\n");
        let renewed = renewed.unwrap();
        assert!(renewed.starts_with("# Before\n") && renewed.ends_with("\nAfter\n"), "{renewed}");
        assert!(
            renewed.contains("| ADD against it | ≤ 0.50 × | 0.25 × | us 1.00 ms, it 4.00 ms | met |"),
            "{renewed}"
        );
        assert!(!renewed.contains("old"));
        assert_eq!(report().renew(&renewed).unwrap(), renewed);
        assert!(report().renew("no marks").is_err());
    }

    #[test]
    fn a_line_says_how_sure_it_is() {
        let rounds = |ratio: f64| (-4..5).map(|it| ratio * (1.0 + f64::from(it) / 100.0)).collect::<Vec<_>>();
        let finding =
            |ratio| Finding::value("it", Target::AtLeast(0.98), "×", &rounds(ratio)).with_alike(&rounds(1.0));
        let line = |ratio: f64| (figure(&finding(ratio)), beside(&finding(ratio)).join("; "));
        let [sure, within, missed] = [1.0, 0.97, 0.9].map(line);
        assert_eq!(sure, ("1.00 × (0.97–1.03)".into(), "alike pairs 0.97–1.03; misses of 3.0 % show".into()));
        assert_eq!(within.1, "alike pairs 0.97–1.03; within the noise: misses of 3.0 % show");
        assert_eq!(missed.1, sure.1);
        assert_eq!(figure(&Finding::value("it", Target::None, "ms", &[1.0, 2.0])), "1.50 ms");
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [1234.5, 12.34, 1.234, 0.1234, 0.01234, 0.0, f64::NAN].map(number);
        assert_eq!(shown, ["1234", "12.3", "1.23", "0.12", "0.012", "0.00", "?"]);
    }
}
