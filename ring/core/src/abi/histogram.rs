//! The buckets of a histogram: which values each of them counts.

use core::ops::RangeInclusive;

use super::WORD;

/// The number of buckets. Values below 16 have a bucket each; from there on, each power of two has 8 buckets of equal
/// width, up to `u64::MAX`.
pub const BUCKETS: usize = 496;
/// Words from one histogram to the next: a power of two, so that programs find theirs by a shift. The words after the
/// buckets are zero.
pub const STRIDE: usize = 512;
/// Bytes of a histogram of one CPU.
pub const HISTOGRAM: usize = STRIDE * WORD;

/// The bucket that counts `value`.
#[inline]
pub fn bucket(value: u64) -> usize {
    // The binary logarithm of the width of the bucket.
    let shift = u64::BITS - (value >> 4).leading_zeros();
    usize::try_from(u64::from(shift) * 8 + (value >> shift)).expect("at most 60 * 8 + 15")
}

/// The values that a bucket counts. Their number is at most an eighth of the smallest one, or 1.
///
/// # Panics
/// If `bucket` is not below [`BUCKETS`].
pub const fn values(bucket: usize) -> RangeInclusive<u64> {
    assert!(bucket < BUCKETS, "no such bucket");
    if bucket < 16 {
        return bucket as u64..=bucket as u64;
    }
    let shift = bucket / 8 - 1;
    let first = (bucket as u64 - shift as u64 * 8) << shift;
    first..=first + ((1 << shift) - 1)
}

/// The middle of a bucket, rounded down. It differs from each value in the bucket by at most a sixteenth of that value.
///
/// # Panics
/// If `bucket` is not below [`BUCKETS`].
pub const fn middle(bucket: usize) -> u64 {
    let values = values(bucket);
    *values.start() + (*values.end() - *values.start()) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_value_once() {
        let mut next = 0_u128;
        for at in 0..BUCKETS {
            let values = values(at);
            assert_eq!(u128::from(*values.start()), next, "bucket {at}");
            next = u128::from(*values.end()) + 1;
            for value in [*values.start(), middle(at), *values.end()] {
                assert_eq!(bucket(value), at, "{value}");
            }
        }
        assert_eq!(next, 1 << 64);
    }

    #[test]
    fn errors_are_as_stated() {
        for at in 0..BUCKETS {
            let (first, last, middle) = (*values(at).start(), *values(at).end(), middle(at));
            let count = u128::from(last - first) + 1;
            assert!(count == 1 || count * 8 <= u128::from(first), "bucket {at}");
            for value in [first, last] {
                assert!(u128::from(value.abs_diff(middle)) * 16 <= u128::from(value), "bucket {at}");
            }
        }
    }
}
