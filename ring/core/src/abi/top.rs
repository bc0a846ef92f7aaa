//! Top keys: buckets with the counts of a few keys each. A bucket is a cell.

use super::WORD;

/// The keys that a bucket counts at the same time.
pub const WAYS: usize = 10;
/// Words of a bucket, its sequence included.
pub const STRIDE: usize = 32;
/// Bytes of a bucket after its sequence: the record of a region of top keys.
pub const BUCKET: usize = (STRIDE - 1) * WORD;

/// The word of what could not be added to a key, because a program was interrupted in this bucket.
pub const OTHER: usize = 1;
/// The first word of the keys. A key whose count is 0 is free.
pub const KEYS: usize = 2;
/// The first word of the counts, in the order of the keys.
pub const COUNTS: usize = KEYS + WAYS;
/// The first word of the errors: the parts of the counts that may be of keys that were counted here before.
pub const ERRORS: usize = COUNTS + WAYS;

/// The bucket of a key in a shard with this number of buckets, a power of two.
#[inline]
#[allow(clippy::cast_possible_truncation)] // 32 bits
pub const fn bucket(key: u64, buckets: usize) -> usize {
    ((key ^ key >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_four_lines_and_keys_spread() {
        assert_eq!((ERRORS + WAYS, STRIDE * WORD), (STRIDE, 256));
        // Numbers in a row, addresses, ids in the high half: no bucket gets many.
        for shift in [0, 6, 12, 32, 40] {
            let mut counts = [0; 64];
            (0..640_u64).for_each(|n| counts[bucket(n << shift, 64)] += 1);
            assert!(counts.iter().all(|count| *count < 40), "{shift}: {counts:?}");
        }
        assert_eq!((bucket(u64::MAX, 1), bucket(1, 1 << 31)), (0, 0x1e37_79b9));
        assert_eq!((BUCKET, bucket(1 << 32 | 1, 1 << 31)), (248, 0x7f4a_7c15));
    }
}
