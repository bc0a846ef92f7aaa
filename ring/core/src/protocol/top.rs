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

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn a_new_key_takes_the_place_of_the_smallest() {
        let words: Vec<_> = (0..STRIDE).map(|_| AtomicU64::new(0)).collect();
        let bucket = WordsMut::new(&words);
        let copy = || {
            let mut copy = [0; STRIDE - 1];
            cell::try_read(*bucket, &mut copy).map(|_| copy)
        };
        let whole = || copy().unwrap();
        assert_eq!((entries(&whole()).count(), least(&whole()), other(&whole())), (0, 0, 0));
        assert!(add(bucket, 0, 5) && add(bucket, 0, 2), "0 is a key as any other");
        assert_eq!(entries(&whole()).collect::<Vec<_>>(), [(0, 7, 0)]);
        assert_eq!(least(&whole()), 0);
        for key in 1..WAYS as u64 {
            assert!(add(bucket, key, 10 + key));
        }
        assert_eq!((entries(&whole()).count(), least(&whole())), (WAYS, 7));
        assert!(add(bucket, 77, 1), "in the place of key 0, whose count is its error");
        assert_eq!(entries(&whole()).next(), Some((77, 8, 7)));
        assert_eq!(entries(&whole()).nth(3), Some((3, 13, 0)));
        assert!(add(bucket, 77, 1) && add(bucket, 3, 1));
        assert_eq!(entries(&whole()).next(), Some((77, 9, 7)));
        assert_eq!((entries(&whole()).nth(3), other(&whole())), (Some((3, 14, 0)), 0));

        let odd = cell::begin(bucket).unwrap();
        assert!(!add(bucket, 3, 4) && !add(bucket, 5, 2), "another writer is in the bucket");
        assert_eq!(copy(), None);
        cell::end(bucket, odd);
        assert_eq!((entries(&whole()).nth(3), other(&whole())), (Some((3, 14, 0)), 6));
    }
}
