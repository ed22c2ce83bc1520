//! Counts of durations by size, as Prometheus wants them.

use std::time::Duration;

/// How many durations fell below which bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper bounds in seconds, inclusive, growing.
    bounds: &'static [f64],
    /// For each bound, what fell between it and the one before it; the last for what is above all.
    counts: Vec<u64>,
    /// All durations together.
    sum: Duration,
}

impl Histogram {
    /// A histogram without counts, for these upper bounds in seconds, which must grow.
    pub fn new(bounds: &'static [f64]) -> Self {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: Duration::ZERO }
    }

    /// Counts a duration.
    pub fn push(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// For each bound in seconds, how many were not above it.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut total = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            total += count;
            (*bound, total)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_buckets_add_up() {
        let mut histogram = Histogram::new(&[0.001, 0.01, 0.1]);
        for millis in [0, 1, 2, 10, 11, 5000] {
            histogram.push(Duration::from_millis(millis));
        }
        let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
        assert_eq!(buckets, [(0.001, 2), (0.01, 4), (0.1, 5)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, 5.024));
    }
}
