//! The report as text, for a person at a terminal.

mod node;
mod paint;
mod peers;
mod pods;
mod registration;
mod table;

use std::fmt::Write;

pub use self::paint::{Colour, Style};
use self::table::wrap;
use super::{Report, Severity, Verdict};
use crate::membership::Liveness;
use crate::words::{choose, count};

/// Columns of the words before warnings.
const MARK: usize = 9;

/// Most peers in the overview; `minionetd peers` has all.
const OVERVIEW: usize = 20;

/// The whole report: warnings on top.
pub fn status(report: &Report, style: Style) -> String {
    let mut text = match report.verdict {
        Verdict::Well => marked("well", Colour::Green, &well(report), style),
        Verdict::Warnings | Verdict::Failed => String::new(),
    };
    text += &warnings(report, style);
    text += if text.is_empty() { "" } else { "\n" };
    text += &node::text(report, style);
    text += &section("Peers", &peers::text(report, style, Some(OVERVIEW)), style);
    text += &section("Pods of this node", &pods::text(report, style), style);
    text += &node::repairs(report, style);
    text
}

/// The peers alone.
pub fn peers(report: &Report, style: Style) -> String {
    heads(report, style) + &peers::text(report, style, None)
}

/// The pods alone.
pub fn pods(report: &Report, style: Style) -> String {
    let text = pods::text(report, style);
    match &report.pods_unknown {
        Some(why) => format!("{why}\n"),
        None if text.is_empty() => "no pods\n".to_owned(),
        None => text,
    }
}

/// At a glance: what is meant by nothing being wrong.
fn well(report: &Report) -> String {
    let probes: Vec<_> = report.peers.iter().filter_map(|peer| peer.peer.probe.as_ref()).collect();
    let alive = probes.iter().filter(|probe| probe.state == Liveness::Alive).count();
    let reached = match probes.len() {
        0 => String::new(),
        all => format!(
            "; {alive} of {} {} through the tunnel",
            count(all, "peer"),
            choose(alive, "answers", "answer")
        ),
    };
    format!("nothing is wrong{reached}")
}

/// The warnings.
fn warnings(report: &Report, style: Style) -> String {
    let mut text = String::new();
    for warning in &report.warnings {
        let (mark, colour) = match warning.severity {
            Severity::Failure => ("FAILED", Colour::Red),
            Severity::Warning => ("WARNING", Colour::Yellow),
            Severity::Note => ("note", Colour::Dim),
        };
        text += &marked(mark, colour, &warning.text, style);
    }
    text
}

/// Lines behind a word.
fn marked(mark: &str, colour: Colour, content: &str, style: Style) -> String {
    let mut text = String::new();
    for (number, line) in wrap(content, style.width.saturating_sub(MARK)).into_iter().enumerate() {
        let mark = if number == 0 { mark } else { "" };
        let _ = writeln!(text, "{}", style.paint(colour, &format!("{mark:MARK$}{line}")));
    }
    text
}

/// What of the warnings matters to somebody who asked for a part.
fn heads(report: &Report, style: Style) -> String {
    let failed = report.warnings.iter().filter(|w| w.severity == Severity::Failure).cloned().collect();
    let text = warnings(&Report { warnings: failed, ..report.clone() }, style);
    if text.is_empty() { text } else { text + "\n" }
}

fn section(title: &str, content: &str, style: Style) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("\n{}\n{content}", style.paint(Colour::Bold, title))
}
