//! A latch: two copies of a value, one of which is always whole.
//!
//! After Desnoyers' `seqcount_latch` (Linux, `include/linux/seqlock.h`), with one difference: each write fills the copy
//! that is not in use and then makes it the one in use, so that a value is written once. The sequence counts the
//! writes; its lowest bit is the number of the copy in use. A reader that interrupts the writer, or runs after the
//! writer died, finds the last value whole. It retries only if a whole write came in between. There must be one writer
//! at a time.

use bytemuck::{AnyBitPattern, NoUninit};

use super::words::used;
use super::{Words, WordsMut};
use crate::sync::{At, Ordering, fence, order};

/// One attempt to read a latch. Returns the sequence if the copy in `out` is whole. Makes no system call, never waits,
/// writes nothing to the latch. `latch` is the sequence word and the two copies.
#[inline]
pub fn try_read<T: AnyBitPattern>(latch: Words<'_>, out: &mut T) -> Option<u64> {
    let before = latch.load(0, Ordering::Relaxed);
    fence(order!(At::LatchCopy)); // SYNC publish: pairs with the store that ends `set`
    let (at, len) = copy_at::<T>(before, latch.len());
    latch.slice(at, len).read(0, out);
    fence(order!(At::LatchCheck)); // SYNC claim: pairs with the fence that begins `set`
    (latch.load(0, Ordering::Relaxed) == before).then_some(before)
}

/// Writes the value. The caller is the only writer. If an earlier writer died at any point, this write is still
/// correct.
#[inline]
pub fn set<T: NoUninit>(latch: WordsMut<'_>, value: &T) {
    let seq = latch.load(0, Ordering::Relaxed).wrapping_add(1);
    // SYNC claim: pairs with the second fence in `try_read`: a reader that sees a word of this write sees that the previous
    // write had ended, and so that its copy is the one in use.
    fence(order!(At::LatchClaim));
    let (at, len) = copy_at::<T>(seq, latch.len());
    latch.slice(at, len).write(0, value);
    latch.store(0, seq, order!(At::LatchEnd)); // SYNC publish
}

/// The first word of the copy that is in use when the sequence is `seq`, and its number of words, in a latch of `words`
/// words.
#[inline]
pub fn copy_at<T>(seq: u64, words: usize) -> (usize, usize) {
    let len = (used::<T>(words, 2) - 1) / 2;
    (if seq & 1 == 0 { 1 } else { 1 + len }, len)
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn writes_fill_the_second_copy_and_the_first_in_turn() {
        let words: Vec<_> = (0..5).map(|_| AtomicU64::new(0)).collect();
        let after = |value: [u32; 3]| {
            set(WordsMut::new(&words), &value);
            words.iter().map(|word| word.load(Ordering::Relaxed)).collect::<Vec<_>>()
        };
        // As in docs/abi.md: programs and other processes expect the copies there.
        assert_eq!(after([7, 0, 8]), [1, 0, 0, 7, 8]);
        assert_eq!(after([9, 0, 6]), [2, 9, 6, 7, 8]);
        assert_eq!(after([5, 0, 4]), [3, 9, 6, 5, 4]);
        let mut value = [0_u32; 3];
        assert_eq!(try_read(*WordsMut::new(&words), &mut value), Some(3));
        assert_eq!(value, [5, 0, 4]);
    }

    #[test]
    fn a_value_that_a_writer_replaced_is_not_whole() {
        let words: Vec<_> = (0..3).map(|_| AtomicU64::new(0)).collect();
        let latch = WordsMut::new(&words);
        set(latch, &7_u64);
        assert_eq!((copy_at::<u64>(0, 3), copy_at::<u64>(1, 3)), ((1, 1), (2, 1)));
        assert_eq!(copy_at::<[u8; 12]>(3, 5), (3, 2));
        let mut value = 0_u64;
        assert_eq!((try_read(*latch, &mut value), value), (Some(1), 7));
    }
}
