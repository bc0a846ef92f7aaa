//! Counters: a bank of words for each shard. Relaxed throughout: each word is a number of its
//! own, and nothing is inferred from one about another.

use super::{Words, WordsMut};
use crate::sync::Ordering;

/// Adds to a counter of a bank. Atomic, because what runs on one CPU may be interrupted by
/// something that counts there, too.
#[inline]
pub fn add(bank: WordsMut<'_>, index: usize, by: u64) {
    bank.add(index, by);
}

/// The value of a counter of a bank.
#[inline]
pub fn get(bank: Words<'_>, index: usize) -> u64 {
    bank.load(index, Ordering::Relaxed)
}
