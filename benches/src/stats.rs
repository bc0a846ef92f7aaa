//! Medians, the spread of samples, and the confidence in the median.

use serde_json::{Value, json};
use statrs::distribution::{Binomial, DiscreteCDF};

/// The median of samples, their spread, and the confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// 5 % of the samples are below.
    pub low: f64,
    /// 50 % of the samples are below.
    pub median: f64,
    /// 5 % of the samples are above.
    pub high: f64,
    /// The 95 % confidence interval of the median, by order statistics. It assumes that blocks are independent, but no
    /// distribution of the samples.
    pub sure: [f64; 2],
    /// The number of samples.
    pub count: usize,
}

impl Spread {
    /// Of at least one sample.
    ///
    /// # Panics
    /// Panics without a sample.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let at = |percent: usize| sorted[(count - 1) * percent / 100];
        let below = rank_below(count);
        let sure = [sorted[below], sorted[count - 1 - below]];
        Self { low: at(5), median: at(50), high: at(95), sure, count }
    }

    /// Of `ours / theirs`, block by block.
    ///
    /// # Panics
    /// Panics without a sample.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Self {
        Self::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        json!({ "low": self.low, "median": self.median, "high": self.high, "sure": self.sure, "blocks": self.count })
    }
}

/// How many of the lowest of `count` samples, and as many of the highest, are outside the median's 95 % confidence
/// interval: the number of samples below the median is binomial, and in at most 2.5 % of all runs it is this many or
/// fewer.
fn rank_below(count: usize) -> usize {
    let below = Binomial::new(0.5, count as u64).expect("a half is a probability");
    (0..).take_while(|&rank| below.cdf(rank) <= 0.025).count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let spread = Spread::of((0..=100).rev().map(f64::from));
        assert_eq!((spread.low, spread.median, spread.high, spread.count), (5.0, 50.0, 95.0, 101));
        let one = Spread::of([3.0]);
        assert_eq!((one.low, one.median, one.high, one.sure), (3.0, 3.0, 3.0, [3.0, 3.0]));
    }

    #[test]
    fn the_confidence_interval_is_the_one_in_tables() {
        // Tables count ranks from one, both inclusive: 6 samples: 1 and 6; 10: 2 and 9; 30: 10 and 21; 100: 40 and 61.
        assert_eq!([1, 5, 6, 10, 30, 100].map(rank_below), [0, 0, 0, 1, 9, 39]);
        // By the normal distribution: 2500 - 1.96 * sqrt(5000) / 2.
        assert_eq!(rank_below(5000), 2430);
        assert_eq!(Spread::of((1..=100).map(f64::from)).sure, [40.0, 61.0]);
    }

    #[test]
    fn ratios_are_of_the_same_block() {
        let spread = Spread::of_ratios(&[1.0, 10.0, 100.0], &[2.0, 20.0, 200.0]);
        assert_eq!((spread.low, spread.median, spread.high), (0.5, 0.5, 0.5));
    }
}
