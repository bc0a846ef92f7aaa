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
