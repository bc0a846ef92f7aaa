//! Top keys: buckets of ten counts (Space-Saving; Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and
//! top-k elements in data streams", ICDT 2005, in each bucket). A new key takes the place of the one with the smallest
//! count, and begins with that count as its error.
//!
//! A bucket is a [`cell`] that its writers update in place, so an entry never has the count of another key. A writer
//! that finds another one in the bucket adds to [`OTHER`] instead: it never waits, and nothing is lost.

use super::{WordsMut, cell};
use crate::abi::top::{COUNTS, ERRORS, KEYS, OTHER, STRIDE, WAYS};
use crate::sync::Ordering;

/// A copy of a bucket, without its sequence.
pub type Copy = [u64; STRIDE - 1];

/// Adds `amount` to the count of a key in its bucket. Returns `false` if another writer is in the bucket: the amount then
/// is among those of no key.
#[inline]
pub fn add(bucket: WordsMut<'_>, key: u64, amount: u64) -> bool {
    let Some(odd) = cell::begin(bucket) else {
        bucket.add(OTHER, amount);
        return false;
    };
    let load = |at| bucket.load(at, Ordering::Relaxed);
    let count = |way: &usize| load(COUNTS + way);
    let found = (0..WAYS).find(|way| load(KEYS + way) == key && count(way) != 0);
    let way = found.or_else(|| (0..WAYS).min_by_key(count)).unwrap_or_default();
    let before = count(&way);
    if found.is_none() {
        bucket.store(KEYS + way, key, Ordering::Relaxed);
        bucket.store(ERRORS + way, before, Ordering::Relaxed);
    }
    bucket.store(COUNTS + way, before.wrapping_add(amount), Ordering::Relaxed);
    cell::end(bucket, odd);
    true
}

/// The entries of a copy: key, count, error.
pub fn entries(copy: &Copy) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
    let word = |at: usize| copy[at - 1];
    let entry = move |way| (word(KEYS + way), word(COUNTS + way), word(ERRORS + way));
    (0..WAYS).map(entry).filter(|(_, count, _)| *count != 0)
}

/// The most that was added to a key that has no entry, apart from [`other`].
pub fn least(copy: &Copy) -> u64 {
    (0..WAYS).map(|way| copy[COUNTS + way - 1]).min().unwrap_or_default()
}

/// What was added to keys of this bucket and is in no entry.
pub fn other(copy: &Copy) -> u64 {
    copy[OTHER - 1]
}
