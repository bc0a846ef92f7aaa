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
