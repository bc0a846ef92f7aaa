//! The longest of many, and how long something took many times.

use mapring::Histogram;

use super::figures::Distribution;

/// So many of the longest are shown.
pub(super) const LONGEST: usize = 10;
/// So many are kept: some are not shown.
const KEPT: usize = 64;

/// The longest of many.
#[derive(Debug)]
pub(super) struct Longest<T>(Vec<(u64, T)>);

impl<T> Default for Longest<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Longest<T> {
    /// Keeps it if it is one of the longest.
    pub(super) fn see(&mut self, ns: u64, new: impl FnOnce() -> T) {
        if self.0.len() == KEPT && self.0.last().is_some_and(|(last, _)| *last >= ns) {
            return;
        }
        self.0.truncate(KEPT - 1);
        let at = self.0.partition_point(|(other, _)| *other >= ns);
        self.0.insert(at, (ns, new()));
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut (u64, T)> {
        self.0.iter_mut()
    }

    /// The longest first.
    pub(super) fn take(&mut self) -> Vec<(u64, T)> {
        std::mem::take(&mut self.0)
    }
}

/// How long something took, many times.
#[derive(Debug, Default)]
pub(super) struct Took {
    histogram: Histogram,
    pub(super) total: u64,
    pub(super) max: u64,
}

impl Took {
    /// Counts it, and says whether it is the longest up to now.
    pub(super) fn see(&mut self, ns: u64) -> bool {
        self.histogram.add(ns);
        self.total = self.total.saturating_add(ns);
        let is_longest = ns >= self.max;
        self.max = self.max.max(ns);
        is_longest
    }

    pub(super) fn distribution(&self) -> Distribution {
        Distribution::of(&self.histogram, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_longest_are_kept() {
        let mut longest = Longest::default();
        (0..100).for_each(|n| longest.see(n * 7 % 100, || n));
        let kept: Vec<_> = longest.take().into_iter().map(|(ns, _)| ns).collect();
        assert!(kept.iter().copied().eq((36..100).rev()), "{kept:?}");
    }
}
