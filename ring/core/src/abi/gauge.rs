//! Gauges: the largest and the smallest value in each window of about a millisecond.
//!
//! A word holds the time of its window and a value, so that a later window, or a larger value in the same window, is
//! a larger number. The smallest value is stored as its difference to [`VALUE_MAX`]. So both words only grow.

use super::WORD;

/// The number of windows in memory. Window `n` of all time has the place `n % WINDOWS`.
pub const WINDOWS: usize = 1024;
/// Words from one gauge to the next: two for each window.
pub const STRIDE: usize = 2 * WINDOWS;
/// Bytes of a gauge of one CPU.
pub const GAUGE: usize = STRIDE * WORD;
/// The largest value; larger ones are stored as this one.
pub const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;
/// The binary logarithm of the nanoseconds of a window.
pub const WINDOW_BITS: u32 = 20;

/// The low bits of a word, which have the value.
pub const VALUE_BITS: u32 = 36;

/// The number of the window at a time in nanoseconds.
#[inline]
pub const fn window(ns: u64) -> u64 {
    ns >> WINDOW_BITS
}

/// The words of the largest and the smallest value, if `value` is the only one in a window.
#[inline]
pub fn words(window: u64, value: u64) -> [u64; 2] {
    // Plus one: an unused word is 0. 28 bits are enough for nine years after the boot.
    let turn = (window / WINDOWS as u64 + 1) << VALUE_BITS;
    let value = value.min(VALUE_MAX);
    [turn | value, turn | (VALUE_MAX - value)]
}

/// The window and the value in a word, if it is used; `at` is the place of the window.
#[inline]
pub fn unpack(word: u64, at: usize) -> Option<(u64, u64)> {
    let turn = (word >> VALUE_BITS).checked_sub(1)?;
    Some((turn * WINDOWS as u64 + at as u64, word & VALUE_MAX))
}

/// Whether two words are of the same window, at the same place.
#[inline]
pub const fn same_window(a: u64, b: u64) -> bool {
    (a ^ b) >> VALUE_BITS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_grow_with_time_and_value() {
        let place = |n: u64| usize::try_from(n % WINDOWS as u64).unwrap();
        for n in [0, 1, 1023, 1024, (1 << 38) - 2049] {
            for value in [0, 1, VALUE_MAX] {
                let [max, min] = words(n, value);
                assert_eq!(unpack(max, place(n)), Some((n, value)));
                assert_eq!(unpack(min, place(n)), Some((n, VALUE_MAX - value)));
                assert!(
                    max > 0 && min > 0 && words(n + 1024, 0)[0] > max && words(n + 1024, VALUE_MAX)[1] > min
                );
                assert!(same_window(max, min) && !same_window(max, words(n + 1024, value)[0]));
            }
            assert!(words(n, 6)[0] > words(n, 5)[0] && words(n, 6)[1] < words(n, 5)[1]);
            assert_eq!(words(n, u64::MAX), words(n, VALUE_MAX));
        }
        assert_eq!(unpack(VALUE_MAX, 3), None);
        assert_eq!((window(0), window((1 << 20) - 1), window(1 << 20)), (0, 0, 1));
    }
}
