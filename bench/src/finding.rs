//! What a row found: figures with their targets, and the verdicts.

use serde::Serialize;

use crate::stats::{Summary, ratios};

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// It is only shown.
    None,
}

impl Target {
    /// Whether a value is as it should be.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtMost(most) => value <= most,
            Target::AtLeast(least) => value >= least,
            Target::None => true,
        }
    }
}

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The median is as it should be.
    Met,
    /// It is not, and neither is that of the floor: the kernel itself costs more.
    Kernel,
    /// It is not.
    Missed,
    /// There is no target.
    Shown,
}

/// The samples of one side, for the values beside the ratio.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Who.
    pub name: String,
    /// What of.
    pub unit: &'static str,
    /// The values.
    pub summary: Summary,
}

impl Side {
    /// A side with its samples.
    pub fn new(name: &str, unit: &'static str, samples: &[f64]) -> Self {
        Side { name: name.to_owned(), unit, summary: Summary::of(samples) }
    }
}

/// A figure that must not be exceeded by more than the kernel's own.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    /// What it is.
    pub name: String,
    /// The same figure for it.
    pub summary: Summary,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was compared with what.
    pub what: String,
    /// `×` for ratios.
    pub unit: &'static str,
    /// What it should be.
    pub target: Target,
    /// What it is.
    pub summary: Summary,
    /// The values behind a ratio.
    pub sides: Vec<Side>,
    /// The least that the kernel makes of it, where that was measured.
    pub floor: Option<Floor>,
}

impl Finding {
    /// The ratio of two sides, round by round.
    pub fn ratio(what: &str, target: Target, unit: &'static str, ours: Named<'_>, theirs: Named<'_>) -> Self {
        Finding {
            what: what.to_owned(),
            unit: "×",
            target,
            summary: Summary::of(&ratios(ours.1, theirs.1)),
            sides: vec![Side::new(ours.0, unit, ours.1), Side::new(theirs.0, unit, theirs.1)],
            floor: None,
        }
    }

    /// A value by itself.
    pub fn value(what: &str, target: Target, unit: &'static str, samples: &[f64]) -> Self {
        let summary = Summary::of(samples);
        Finding { what: what.to_owned(), unit, target, summary, sides: Vec::new(), floor: None }
    }

    /// With a side beside it.
    pub fn beside(mut self, name: &str, unit: &'static str, samples: &[f64]) -> Self {
        self.sides.push(Side::new(name, unit, samples));
        self
    }

    /// With what the kernel makes of the same figure.
    pub fn with_floor(mut self, name: &str, samples: &[f64]) -> Self {
        self.floor = Some(Floor { name: name.to_owned(), summary: Summary::of(samples) });
        self
    }

    /// What became of the target.
    pub fn verdict(&self) -> Verdict {
        match &self.floor {
            _ if self.target == Target::None => Verdict::Shown,
            _ if self.target.is_met(self.summary.median) => Verdict::Met,
            Some(floor) if !self.target.is_met(floor.summary.median) => Verdict::Kernel,
            _ => Verdict::Missed,
        }
    }
}

/// Samples and whose they are.
pub type Named<'a> = (&'a str, &'a [f64]);

/// A curve: cost against a number of things.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Whose cost it is.
    pub name: String,
    /// Number of things, and what the samples with as many say.
    pub points: Vec<(f64, Summary)>,
}

/// A drawing of curves.
#[derive(Clone, Debug, Serialize)]
pub struct Plot {
    /// The name of its file, without the ending.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// What is counted.
    pub x: &'static str,
    /// What it costs, with the unit.
    pub y: &'static str,
    /// The curves.
    pub series: Vec<Series>,
}

/// All that a row found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// The figures.
    pub findings: Vec<Finding>,
    /// The drawings.
    pub plots: Vec<Plot>,
}

impl From<Vec<Finding>> for Findings {
    fn from(findings: Vec<Finding>) -> Self {
        Findings { findings, plots: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_to_blame_only_where_the_floor_misses_the_target_too() {
        let finding = |value, floor: Option<f64>| {
            let finding = Finding::value("cost", Target::AtMost(1.0), "ms", &[value]);
            match floor {
                Some(floor) => finding.with_floor("the kernel", &[floor]).verdict(),
                None => finding.verdict(),
            }
        };
        assert_eq!(finding(0.9, None), Verdict::Met);
        assert_eq!(finding(0.9, Some(2.0)), Verdict::Met);
        assert_eq!(finding(1.1, None), Verdict::Missed);
        assert_eq!(finding(1.1, Some(0.9)), Verdict::Missed);
        assert_eq!(finding(1.1, Some(1.05)), Verdict::Kernel);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert_eq!(Finding::value("cost", Target::AtMost(1.0), "ms", &[]).verdict(), Verdict::Missed);
    }
}
