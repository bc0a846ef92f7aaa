//! Counters: a bank of words for each shard. All accesses are relaxed: each word is an independent number, and no two
//! are ordered.

use super::{Words, WordsMut};
use crate::sync::Ordering;

/// Adds to a counter of a bank. Atomic, because a program can interrupt another one on its CPU and count there as well.
#[inline]
pub fn add(bank: WordsMut<'_>, index: usize, by: u64) {
    bank.add(index, by);
}

/// The value of a counter of a bank.
#[inline]
pub fn get(bank: Words<'_>, index: usize) -> u64 {
    bank.load(index, Ordering::Relaxed)
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn each_counter_counts_for_itself() {
        let words = [7, 0, u64::MAX].map(AtomicU64::new);
        let bank = WordsMut::new(&words);
        (0..3).for_each(|index| add(bank, index, index as u64 + 1));
        assert_eq!([0, 1, 2].map(|index| get(*bank, index)), [8, 2, 2]);
    }
}
