//! The largest of many: what a list of the report keeps.

use std::cmp::Reverse;
use std::collections::HashMap;

pub(super) type Map<K, T> = HashMap<K, T, foldhash::fast::RandomState>;

/// Lines of a list that are kept.
pub(super) const SHOWN: usize = 20;

/// The largest first, and not too many of them. Of equal ones the first by its key: a recording has one report, however often it is
/// read.
pub(super) fn sorted<K: Ord + Copy, V>(
    all: Map<K, V>,
    size: impl Fn(&V) -> u64,
) -> impl Iterator<Item = (K, V)> {
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_cached_key(|(key, value)| (Reverse(size(value)), *key));
    all.into_iter().take(SHOWN)
}
