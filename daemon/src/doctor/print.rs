//! The findings, for people and for machines.

use std::fmt::Write;

use minionet_core::doctor::{Report, Verdict};
use minionet_core::words::count;
use serde_json::json;

use crate::terminal::{Colour, Paint, wrap};

/// Version of the JSON document; raised when an older reader would misunderstand it.
const SCHEMA: u32 = 1;

/// Where the texts begin: behind verdict and check.
const INDENT: usize = 27;

/// As lines; of what is well and of what was skipped only the number, unless all is asked for.
pub fn text(report: &Report, all: bool) -> String {
    let paint = Paint::stdout();
    let mut out = String::new();
    let shown = |verdict: Verdict| all || verdict >= Verdict::Note;
    for finding in report.findings.iter().filter(|f| shown(f.verdict)) {
        let word = paint.paint(colour(finding.verdict), &format!("{:<7}", finding.verdict));
        for (number, line) in wrap(&finding.finding, INDENT).iter().enumerate() {
            // A string takes whatever is written to it.
            let _ = match number {
                0 => writeln!(out, "{word}  {:<16}  {line}", finding.check),
                _ => writeln!(out, "{:INDENT$}{line}", ""),
            };
        }
        let Some(remedy) = &finding.remedy else { continue };
        for (number, line) in wrap(remedy, INDENT + 3).iter().enumerate() {
            let arrow = if number == 0 { paint.paint(Colour::Bold, "-> ") } else { "   ".to_owned() };
            let _ = writeln!(out, "{:INDENT$}{arrow}{line}", "");
        }
    }
    let of = |verdict| report.findings.iter().filter(|f| f.verdict == verdict).count();
    if !out.is_empty() {
        out.push('\n');
    }
    let word = match report.verdict {
        Verdict::Error => paint.paint(Colour::Red, "something does not work"),
        Verdict::Warning => paint.paint(Colour::Yellow, "something deserves a look"),
        _ => paint.paint(Colour::Green, "nothing is wrong"),
    };
    let _ = writeln!(
        out,
        "{word}: {}, {}, {}, {} ok, {} skipped",
        count(of(Verdict::Error), "error"),
        count(of(Verdict::Warning), "warning"),
        count(of(Verdict::Note), "note"),
        of(Verdict::Ok),
        of(Verdict::Skipped),
    );
    out
}

fn colour(verdict: Verdict) -> Colour {
    match verdict {
        Verdict::Error => Colour::Red,
        Verdict::Warning | Verdict::Note => Colour::Yellow,
        Verdict::Ok => Colour::Green,
        Verdict::Skipped => Colour::Dim,
    }
}

/// As a document with a stable schema.
pub fn json(report: &Report) -> String {
    let document = json!({"schema": SCHEMA, "verdict": report.verdict, "findings": report.findings});
    format!("{document:#}\n")
}
