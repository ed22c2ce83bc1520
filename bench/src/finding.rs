//! What a row found: figures with their targets, and the verdicts.

use serde::Serialize;

use crate::stats::{Interval, Summary, ratios};

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

/// A median that is beyond its target by more than this share is never put down to noise: a real loss
/// must not go by because the machine was restless.
const EXCUSED: f64 = 0.05;

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The figure is as it should be, or no further from it than it can be known.
    Met,
    /// It is not, and neither is that of the floor: the kernel itself costs more.
    Kernel,
    /// It is not, by more than the noise.
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

/// What two subjects that were made alike differ by, measured like the figure and beside it.
#[derive(Clone, Debug, Serialize)]
pub struct Alike {
    /// Their ratios, round by round.
    pub summary: Summary,
    /// Where the median of such ratios lies.
    pub interval: Interval,
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
    /// Where it lies with a certainty of 95 %, if there are samples enough to say.
    pub interval: Option<Interval>,
    /// The values behind a ratio.
    pub sides: Vec<Side>,
    /// The control of a ratio, where there is one.
    pub alike: Option<Alike>,
    /// The least that the kernel makes of it, where that was measured; of several, each after one with
    /// less in it.
    pub floors: Vec<Floor>,
}

impl Finding {
    /// The ratio of two sides, round by round.
    pub fn ratio(what: &str, target: Target, unit: &'static str, ours: Named<'_>, theirs: Named<'_>) -> Self {
        let sides = vec![Side::new(ours.0, unit, ours.1), Side::new(theirs.0, unit, theirs.1)];
        Finding { sides, ..Finding::value(what, target, "×", &ratios(ours.1, theirs.1)) }
    }

    /// A value by itself.
    pub fn value(what: &str, target: Target, unit: &'static str, samples: &[f64]) -> Self {
        Finding {
            what: what.to_owned(),
            unit,
            target,
            summary: Summary::of(samples),
            interval: Interval::of_median(samples),
            sides: Vec::new(),
            alike: None,
            floors: Vec::new(),
        }
    }

    /// With a side beside it.
    pub fn beside(mut self, name: &str, unit: &'static str, samples: &[f64]) -> Self {
        self.sides.push(Side::new(name, unit, samples));
        self
    }

    /// With the ratios of two subjects that were made alike. The figure is known no better than
    /// theirs, which should be 1: the interval becomes wide enough for that.
    pub fn with_alike(mut self, samples: &[f64]) -> Self {
        if let Some(interval) = Interval::of_median(samples) {
            let (median, off) = (self.summary.median, interval.off_one());
            let wide = Interval { lower: median / off, upper: median * off };
            self.interval = self.interval.map(|own| own.hull(wide));
            self.alike = Some(Alike { summary: Summary::of(samples), interval });
        }
        self
    }

    /// With what the kernel makes of the same figure. Another one says what it makes of more that is
    /// needed as well, and the target has to be within reach of the last.
    pub fn with_floor(mut self, name: &str, samples: &[f64]) -> Self {
        self.floors.push(Floor { name: name.to_owned(), summary: Summary::of(samples) });
        self
    }

    /// The end of the interval that is nearer to what the figure should be, as far as noise excuses.
    fn at_best(&self) -> f64 {
        let median = self.summary.median;
        match (self.target, self.interval) {
            (Target::AtMost(_), Some(interval)) => interval.lower.max(median / (1.0 + EXCUSED)),
            (Target::AtLeast(_), Some(interval)) => interval.upper.min(median / (1.0 - EXCUSED)),
            _ => median,
        }
    }

    /// By what share a median has to be worse than the target to be called missed; more than 0. What
    /// is less is not told from noise.
    pub fn smallest_miss(&self) -> Option<f64> {
        self.interval?;
        match self.target {
            Target::AtMost(_) => Some(self.summary.median / self.at_best() - 1.0),
            Target::AtLeast(_) => Some(1.0 - self.summary.median / self.at_best()),
            Target::None => None,
        }
    }

    /// What became of the target. It is missed only if the whole interval is beyond it: a median that
    /// is just beyond would be on the other side in another run.
    pub fn verdict(&self) -> Verdict {
        match self.floors.last() {
            _ if self.target == Target::None => Verdict::Shown,
            _ if self.target.is_met(self.at_best()) => Verdict::Met,
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
    fn of_several_floors_the_last_decides() {
        let verdict = |floors: [f64; 2]| {
            let finding = Finding::value("cost", Target::AtMost(1.0), "ms", &[1.1]);
            finding
                .with_floor("the messages", &floors[..1])
                .with_floor("and the files", &floors[1..])
                .verdict()
        };
        assert_eq!(verdict([0.9, 1.05]), Verdict::Kernel);
        assert_eq!(verdict([0.8, 0.9]), Verdict::Missed);
    }

    /// A ratio around this, in 12 rounds that scatter by 2 %.
    fn around(ratio: f64) -> Vec<f64> {
        (-6..6).map(|it| ratio * (1.0 + f64::from(2 * it + 1) / 11.0 * 0.02)).collect()
    }

    fn streams(ratio: f64, alike: &[f64]) -> Finding {
        Finding::value("one stream", Target::AtLeast(0.98), "×", &around(ratio)).with_alike(alike)
    }

    #[test]
    fn a_median_just_beyond_the_target_is_noise_and_a_real_loss_is_none() {
        let verdict = |ratio| streams(ratio, &around(1.0)).verdict();
        assert_eq!(verdict(0.99), Verdict::Met);
        assert_eq!(verdict(0.975), Verdict::Met);
        assert_eq!(verdict(0.95), Verdict::Missed);
        let cost = |ratio| Finding::value("cost", Target::AtMost(1.0), "×", &around(ratio)).verdict();
        assert_eq!([cost(0.99), cost(1.005), cost(1.05)], [Verdict::Met, Verdict::Met, Verdict::Missed]);
    }

    #[test]
    fn what_alike_pairs_differ_by_is_noise_for_others_too() {
        let missed = streams(0.95, &around(1.0));
        assert_eq!(missed.verdict(), Verdict::Missed);
        // The same figure where alike pairs were 3 % apart, one way or the other.
        for apart in [1.03, 0.97] {
            assert_eq!(streams(0.95, &around(apart)).verdict(), Verdict::Met);
        }
        // A control cannot make a figure surer than its own rounds are.
        let sure = streams(0.95, &[1.0; 12]);
        assert_eq!(sure.interval, Finding::value("", Target::None, "×", &around(0.95)).interval);
    }

    #[test]
    fn what_is_said_to_show_does() {
        for alike in [1.0, 1.01, 0.97] {
            let alike = around(alike);
            let smallest = streams(1.0, &alike).smallest_miss().unwrap();
            assert!((0.001..0.06).contains(&smallest), "{smallest}");
            assert_eq!(streams(0.98 * (1.0 - smallest + 1e-6), &alike).verdict(), Verdict::Met);
            assert_eq!(streams(0.98 * (1.0 - smallest - 1e-6), &alike).verdict(), Verdict::Missed);
        }
        let cost = |ratio| Finding::value("cost", Target::AtMost(2.0), "×", &around(ratio));
        let smallest = cost(1.0).smallest_miss().unwrap();
        assert_eq!(cost(2.0 * (1.0 + smallest - 1e-6)).verdict(), Verdict::Met);
        assert_eq!(cost(2.0 * (1.0 + smallest + 1e-6)).verdict(), Verdict::Missed);
    }

    #[test]
    fn a_loss_of_a_twentieth_is_found_however_restless_the_machine_is() {
        let restless = [0.5, 2.0, 0.8, 1.3, 0.6, 1.7];
        let streams = |ratio: f64| {
            let rounds = restless.map(|it| it * ratio / 1.05);
            Finding::value("one stream", Target::AtLeast(0.98), "×", &rounds).with_alike(&restless)
        };
        assert_eq!(streams(0.92).verdict(), Verdict::Missed);
        assert_eq!(streams(0.95).verdict(), Verdict::Met);
        assert!((streams(0.95).smallest_miss().unwrap() - EXCUSED).abs() < 1e-9);
        let cost = Finding::value("cost", Target::AtMost(0.5), "×", &restless);
        assert_eq!(cost.verdict(), Verdict::Missed);
    }

    #[test]
    fn few_samples_excuse_nothing() {
        let few = Finding::value("cost", Target::AtMost(1.0), "ms", &[0.9, 1.1, 1.2]);
        assert_eq!((few.interval, few.smallest_miss(), few.verdict()), (None, None, Verdict::Missed));
        let counted = streams(0.95, &[0.5, 1.5]);
        assert!(counted.alike.is_none());
        assert_eq!(counted.verdict(), Verdict::Missed);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert_eq!(Finding::value("cost", Target::AtMost(1.0), "ms", &[]).verdict(), Verdict::Missed);
    }
}
