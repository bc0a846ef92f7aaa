//! Histograms: [`BUCKETS`] counters for each shard. As for all counters, each word is an independent number, and no two
//! are ordered.

use super::{Words, WordsMut, counters};
use crate::abi::histogram::{BUCKETS, bucket};

/// Counts a value. Atomic, because a program can interrupt another one on its CPU and count there as well.
#[inline]
pub fn add(buckets: WordsMut<'_>, value: u64) {
    counters::add(buckets, bucket(value), 1);
}

/// The counts of a histogram, summed over some shards (wrapping).
///
/// # Panics
/// If there is no shard, or one has fewer words than buckets.
#[inline]
pub fn sum<'a>(mut shards: impl Iterator<Item = Words<'a>>, sums: &mut [u64; BUCKETS]) {
    shards.next().expect("at least one shard").copy(0, sums);
    let mut counts = [0; BUCKETS];
    for shard in shards {
        // A copy, because loads of two words at once are faster than additions of single words.
        shard.copy(0, &mut counts);
        sums.iter_mut().zip(&counts).for_each(|(sum, count)| *sum = sum.wrapping_add(*count));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn shards_are_added_up() {
        let memory: Vec<_> = (0..3 * BUCKETS).map(|_| AtomicU64::new(0)).collect();
        let shard = |at: usize| WordsMut::new(&memory[at * BUCKETS..][..BUCKETS]);
        for (at, value) in [(0, 3), (1, 3), (1, 17), (2, u64::MAX), (2, u64::MAX)] {
            add(shard(at), value);
        }
        let sum = |shards: &[usize]| {
            let mut sums = [9; BUCKETS];
            sum(shards.iter().map(|&at| *shard(at)), &mut sums);
            [sums[3], sums[bucket(17)], sums[BUCKETS - 1], sums.iter().sum()]
        };
        assert_eq!((sum(&[0]), sum(&[1, 0]), sum(&[0, 1, 2])), ([1, 0, 0, 1], [2, 1, 0, 3], [2, 1, 2, 5]));
    }
}
