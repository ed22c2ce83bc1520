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

/// Where a figure lies, with a certainty of at least 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// It is no less than this.
    pub lower: f64,
    /// It is no more than this.
    pub upper: f64,
}

impl Interval {
    /// Of the median of whatever the samples were taken from, without a belief about how they are
    /// distributed: as many are left out at either end as can be on the wrong side of it in one of
    /// 40 cases (the sign test). `None` where there are fewer than six: of five, all are on the same
    /// side once in 16 cases.
    ///
    /// The samples have to be independent of each other.
    pub fn of_median(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let left_out = (0..).take_while(|k| at_most(*k, samples.len()) <= 0.025).count().checked_sub(1)?;
        Some(Interval { lower: sorted[left_out], upper: sorted[sorted.len() - 1 - left_out] })
    }

    /// The one that holds both.
    pub fn hull(self, other: Self) -> Self {
        Interval { lower: self.lower.min(other.lower), upper: self.upper.max(other.upper) }
    }

    /// By what factor, 1 or more, a ratio that should be 1 can be away from it.
    pub fn off_one(self) -> f64 {
        [self.lower.recip(), self.upper].into_iter().fold(1.0, f64::max)
    }
}

/// How likely it is that, of so many throws of a coin, so few or fewer show the head.
fn at_most(heads: usize, throws: usize) -> f64 {
    // Logarithms: the chance of a single outcome is too small a number from 1075 throws on.
    let mut outcome = throws as f64 * 0.5f64.ln();
    let mut sum = 0.0;
    for k in 0..=heads.min(throws) {
        sum += outcome.exp();
        outcome += ((throws - k) as f64 / (k + 1) as f64).ln();
    }
    sum
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
    fn a_coin_is_fair() {
        assert_eq!(at_most(0, 1), 0.5);
        assert!((at_most(1, 4) - 5.0 / 16.0).abs() < 1e-12);
        assert!((at_most(4, 4) - 1.0).abs() < 1e-12);
        assert!((at_most(999, 2000) + at_most(1000, 2000) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_interval_leaves_out_what_tables_of_the_sign_test_do() {
        let of = |n: usize| Interval::of_median(&(1..=n).rev().map(|it| it as f64).collect::<Vec<_>>());
        let numbered = |lower, upper| Some(Interval { lower, upper });
        assert_eq!(of(0), None);
        assert_eq!(of(5), None);
        assert_eq!(of(6), numbered(1.0, 6.0));
        assert_eq!(of(8), numbered(1.0, 8.0));
        assert_eq!(of(9), numbered(2.0, 8.0));
        assert_eq!(of(20), numbered(6.0, 15.0));
        assert_eq!(of(50), numbered(18.0, 33.0));
    }

    #[test]
    fn one_wild_sample_does_not_widen_it() {
        let mut samples: Vec<f64> = (0..12).map(|it| 1.0 + f64::from(it) / 100.0).collect();
        let tame = Interval::of_median(&samples).unwrap();
        samples[11] = 100.0;
        assert_eq!(Interval::of_median(&samples), Some(tame));
    }

    #[test]
    fn alike_is_1_from_either_side() {
        let off = |lower, upper| Interval { lower, upper }.off_one();
        assert_eq!(off(0.99, 1.02), 1.02);
        assert_eq!(off(0.8, 0.99), 1.25);
        assert_eq!(off(1.1, 1.2), 1.2);
        let hull = Interval { lower: 1.0, upper: 3.0 }.hull(Interval { lower: 2.0, upper: 4.0 });
        assert_eq!(hull, Interval { lower: 1.0, upper: 4.0 });
    }

    #[test]
    fn a_ratio_is_of_one_round() {
        assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
    }
}
