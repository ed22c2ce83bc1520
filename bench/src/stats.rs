//! Numbers out of samples.

use serde::Serialize;

/// What samples say together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many there are.
    pub samples: usize,
    /// The middle one.
    pub median: f64,
    /// Below it are a quarter of them.
    pub lower: f64,
    /// Above it are a quarter of them.
    pub upper: f64,
}

impl Summary {
    /// Of samples in any order; not a number where there are none.
    pub fn of(samples: &[f64]) -> Self {
        Summary {
            samples: samples.len(),
            median: quantile(samples, 0.5),
            lower: quantile(samples, 0.25),
            upper: quantile(samples, 0.75),
        }
    }
}

/// The value below which a share (0 to 1) of the samples lies, between neighbours in proportion.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = share.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// The ratio of each sample to the one of the other side that was taken in the same round.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&samples, 0.5), 2.5);
        assert_eq!(quantile(&samples, 0.0), 1.0);
        assert_eq!(quantile(&samples, 1.0), 4.0);
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(Summary::of(&[7.0]), Summary { samples: 1, median: 7.0, lower: 7.0, upper: 7.0 });
    }

    #[test]
    fn a_ratio_is_of_one_round() {
        assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
    }
}
