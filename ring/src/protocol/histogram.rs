//! Histograms: [`BUCKETS`] counters for each shard. As for all counters, each word is an independent number, and no two
//! are ordered.

use super::{Words, WordsMut, counters};
use crate::abi::histogram::{BUCKETS, bucket};

/// Counts a value. Atomic, because a program can interrupt another one on its CPU and count there as well.
#[inline]
pub fn add(buckets: WordsMut<'_>, value: u64) {
    counters::add(buckets, bucket(value), 1);
}

/// Adds the counts of one shard to `sums` (wrapping).
///
/// # Panics
/// If the view has fewer words than buckets.
#[inline]
pub fn collect(buckets: Words<'_>, sums: &mut [u64; BUCKETS]) {
    let mut counts = [0; BUCKETS];
    buckets.copy(0, &mut counts);
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
}
