//! A histogram as plain data: percentiles, differences, sums, text.

use core::fmt;
use core::ops::RangeInclusive;

use crate::abi::histogram::{BUCKETS, bucket, middle, values};

/// How many values fell into each bucket: a copy of a histogram in shared memory, or one of your own.
///
/// The buckets cover all `u64`. Values below 16 have a bucket each. From there on, each power of two has 8 buckets of
/// equal width. So the width of a bucket is at most 12.5 % of its smallest value, and the middle of a bucket differs
/// from each of its values by at most 6.25 %.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]) }
    }
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.add_n(value, 1);
    }

    /// Counts a value `n` times. With the buckets of another histogram, from a file perhaps, this makes it again.
    pub fn add_n(&mut self, value: u64, n: u64) {
        let count = &mut self.counts[bucket(value)];
        *count = count.wrapping_add(n);
    }

    /// The number of values, or `u64::MAX` if there are more.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The non-empty buckets, in ascending order: the values that each counts, and how many of them there were.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = (RangeInclusive<u64>, u64)> + '_ {
        self.filled().map(|(at, count)| (values(at), count))
    }

    /// The bucket of the value below or at which `percent` percent of all values are: the range that contains it. The
    /// smallest value for 0, the largest for 100 (also for anything less or more). `None` if the histogram is empty.
    ///
    /// ```
    /// let mut latencies = mapring::Histogram::new();
    /// (1..=100).for_each(|ns| latencies.add(ns));
    /// assert!(latencies.percentile(50.0).unwrap().contains(&50));
    /// assert_eq!(latencies.percentile(99.0), Some(96..=103));
    /// ```
    pub fn percentile(&self, percent: f64) -> Option<RangeInclusive<u64>> {
        let count: u128 = self.counts.iter().map(|count| u128::from(*count)).sum();
        // 16.1 percent of 1000 are 161, but the floating-point product is a little more.
        let rank = percent.clamp(0.0, 100.0) / 100.0 * count as f64 * (1.0 - 4.0 * f64::EPSILON);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number in range, or NaN"
        )]
        let rank = (rank.ceil() as u128).clamp(1, count.max(1));
        let mut seen = 0;
        let found = self.filled().find(|(_, count)| {
            seen += u128::from(*count);
            seen >= rank
        });
        found.map(|(at, _)| values(at))
    }

    /// The mean, as if each value were the middle of its bucket: it differs from the real mean by at most 6.25 %.
    /// `None` if the histogram is empty.
    pub fn mean(&self) -> Option<f64> {
        let (mut count, mut sum) = (0.0, 0.0);
        for (at, n) in self.filled() {
            count += n as f64;
            sum += n as f64 * middle(at) as f64;
        }
        (count > 0.0).then(|| sum / count)
    }

    /// The values that were added after `earlier`, an earlier copy of the same histogram. `None` if it can't be one: a
    /// bucket has less now. Then the loader started again with a new map.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut new = self.clone();
        for (count, before) in new.counts.iter_mut().zip(earlier.counts.iter()) {
            *count = count.checked_sub(*before)?;
        }
        Some(new)
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        let pairs = self.counts.iter_mut().zip(other.counts.iter());
        pairs.for_each(|(count, more)| *count = count.wrapping_add(*more));
    }

    /// Records all values in an `hdrhistogram`, each as the middle of its bucket. No count is lost: it records all
    /// values or, if the largest can't be recorded, none. An `hdrhistogram` with 2 significant digits or more keeps the
    /// buckets apart.
    ///
    /// # Errors
    /// [`RecordError`](hdrhistogram::RecordError) if `other` neither covers the largest value nor can be resized.
    #[cfg(feature = "hdrhistogram")]
    pub fn record_into(
        &self,
        other: &mut hdrhistogram::Histogram<u64>,
    ) -> Result<(), hdrhistogram::RecordError> {
        // The largest first: if it can be recorded, all others can.
        self.filled().rev().try_for_each(|(at, count)| other.record_n(middle(at), count))
    }

    /// The counts, to fill them.
    pub(crate) fn counts_mut(&mut self) -> &mut [u64; BUCKETS] {
        &mut self.counts
    }

    fn filled(&self) -> impl DoubleEndedIterator<Item = (usize, u64)> + '_ {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count != 0)
    }
}

/// Lists the non-empty buckets.
impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

/// Draws a bar for each power of two between the smallest and the largest value. Nothing if the histogram is empty.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BAR: u128 = 40;
        // Row 0 is the value 0, row n the values of n bits.
        let mut rows = [0_u128; 65];
        for (at, count) in self.filled() {
            rows[(u64::BITS - values(at).start().leading_zeros()) as usize] += u128::from(count);
        }
        let most = rows.iter().copied().max().unwrap_or_default().max(1);
        let first = rows.iter().position(|count| *count != 0).unwrap_or(rows.len());
        let last = rows.iter().rposition(|count| *count != 0).map_or(first, |last| last + 1);
        for (bits, count) in rows.iter().enumerate().take(last).skip(first) {
            let low = if bits == 0 { 0 } else { 1_u64 << (bits - 1) };
            let high = low + low.saturating_sub(1);
            // Rounded up: a row that is not empty has a bar.
            let bar = (count * BAR).div_ceil(most);
            writeln!(
                f,
                "{low:>20} ..= {high:<20} {count:>12} {:#<1$}",
                "",
                usize::try_from(bar).unwrap_or_default()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }

    /// Values of every magnitude.
    fn scattered(count: u64) -> impl Iterator<Item = u64> {
        (1..=count).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n * 7 % 64))
    }

    #[test]
    fn percentiles_contain_the_exact_ones() {
        let mut all: Vec<_> = scattered(1000).collect();
        let histogram = of(all.iter().copied());
        all.sort_unstable();
        for permille in 0..=1000_usize {
            let exact = all[permille.max(1) - 1];
            let range = histogram.percentile(permille as f64 / 10.0).unwrap();
            assert!(range.contains(&exact), "{permille} permille: {exact} is not in {range:?}");
        }
        for (percent, index) in [(f64::NAN, 0), (-1.0, 0), (f64::INFINITY, 999)] {
            assert!(histogram.percentile(percent).unwrap().contains(&all[index]), "{percent}");
        }
        assert_eq!(Histogram::new().percentile(50.0), None);
    }

    #[test]
    fn the_mean_is_as_exact_as_stated() {
        for values in [vec![3], vec![1_000_000; 9], (0..100_000).collect::<Vec<u64>>()] {
            let exact = values.iter().sum::<u64>() as f64 / values.len() as f64;
            let mean = of(values).mean().unwrap();
            assert!((mean - exact).abs() <= exact / 16.0, "{mean}, not {exact}");
        }
        assert_eq!(Histogram::new().mean(), None);
    }

    #[test]
    fn differences_and_sums_are_exact() {
        let (early, late) = (of(scattered(300)), of(scattered(1000)));
        let new = of(scattered(1000).skip(300));
        assert_eq!(late.since(&early), Some(new.clone()));
        assert_eq!((new.count(), late.count()), (700, 1000));
        assert_eq!(early.since(&late), None, "not an earlier one");
        let mut merged = early;
        merged.merge(&new);
        assert_eq!(merged, late);
    }

    #[test]
    fn any_content_can_be_read() {
        let mut full = Histogram::new();
        full.counts_mut().fill(u64::MAX);
        assert_eq!(full.count(), u64::MAX);
        assert_eq!(full.percentile(100.0), Some(15 << 60..=u64::MAX));
        assert!(full.mean().unwrap() > 0.0);
        assert_eq!((full.to_string().lines().count(), full.buckets().count()), (65, BUCKETS));
        full.merge(&full.clone());
        assert_eq!(full.counts_mut()[7], u64::MAX - 1);
    }

    #[test]
    fn bars_show_powers_of_two() {
        assert_eq!(Histogram::new().to_string(), "");
        let text = of([0, 1, 1, 1, 1, 6, u64::MAX]).to_string();
        let rows: Vec<_> = text.lines().map(|row| row.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(rows.len(), 65);
        assert_eq!(rows[0], ["0", "..=", "0", "1", "##########"]);
        assert_eq!(rows[1], ["1", "..=", "1", "4", "########################################"]);
        assert_eq!(rows[2], ["2", "..=", "3", "0"]);
        assert_eq!(rows[3], ["4", "..=", "7", "1", "##########"]);
        assert_eq!(rows[64][..4], ["9223372036854775808", "..=", "18446744073709551615", "1"]);
        assert_eq!(format!("{:?}", of([5, 32, 33])), "{5..=5: 1, 32..=35: 2}");
    }

    #[cfg(feature = "hdrhistogram")]
    #[test]
    fn hdrhistogram_gets_every_count() {
        let histogram = of(scattered(1000));
        let mut all = hdrhistogram::Histogram::<u64>::new_with_bounds(1, u64::MAX, 2).unwrap();
        histogram.record_into(&mut all).unwrap();
        assert_eq!(all.len(), 1000);
        for (range, count) in histogram.buckets() {
            assert_eq!(all.count_between(*range.start(), *range.end()), count, "{range:?}");
        }
        // One that is too small gets nothing.
        let mut small = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1000, 2).unwrap();
        assert!(histogram.record_into(&mut small).is_err());
        assert_eq!(small.len(), 0);
        let mut resized = hdrhistogram::Histogram::<u64>::new(2).unwrap();
        resized.auto(true);
        histogram.record_into(&mut resized).unwrap();
        assert_eq!(resized.len(), 1000);
    }
}
