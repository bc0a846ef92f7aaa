//! Medians and quantiles.

/// A median and how far the samples spread around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A twentieth of the samples is below.
    pub low: f64,
    /// Half of the samples are below.
    pub median: f64,
    /// A twentieth of the samples is above.
    pub high: f64,
}

impl Spread {
    /// Of at least one sample.
    ///
    /// # Panics
    /// Without a sample.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
        Self { low: at(5), median: at(50), high: at(95) }
    }

    /// Of `ours / theirs`, block by block.
    ///
    /// # Panics
    /// Without a sample.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Self {
        Self::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let spread = Spread::of((0..=100).rev().map(f64::from));
        assert_eq!(spread, Spread { low: 5.0, median: 50.0, high: 95.0 });
        assert_eq!(Spread::of([3.0]), Spread { low: 3.0, median: 3.0, high: 3.0 });
    }

    #[test]
    fn ratios_are_of_the_same_block() {
        let spread = Spread::of_ratios(&[1.0, 10.0, 100.0], &[2.0, 20.0, 200.0]);
        assert_eq!(spread, Spread { low: 0.5, median: 0.5, high: 0.5 });
    }
}
