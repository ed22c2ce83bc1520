//! Metrics as data: what an encoder needs and no more.

use crate::histogram::Histogram;

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the daemon starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// A metric with all of its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub help: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// The series.
    pub samples: Vec<Sample>,
}

/// One series at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels with their values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Buckets {
        /// For each upper bound, how many were not above it.
        buckets: Vec<(f64, u64)>,
        /// How many there were.
        count: u64,
        /// All of them together.
        sum: f64,
    },
}

pub(super) fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Gauge, samples: Vec::new() }
}

pub(super) fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Counter, samples: Vec::new() }
}

pub(super) fn histogram(name: &'static str, help: &'static str, counts: &Histogram) -> Family {
    let buckets = counts.buckets().collect();
    let value = Value::Buckets { buckets, count: counts.count(), sum: counts.sum() };
    let samples = vec![Sample { labels: Vec::new(), value }];
    Family { name, help, kind: Kind::Histogram, samples }
}

impl Family {
    /// Adds a series without labels.
    pub(super) fn value(self, value: f64) -> Self {
        self.sample(&[], value)
    }

    /// Adds a series.
    pub(super) fn sample(mut self, labels: &[(&'static str, &str)], value: f64) -> Self {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.samples.push(Sample { labels, value: Value::Number(value) });
        self
    }
}
