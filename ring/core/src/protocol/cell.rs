//! A cell: the latest value, guarded by a sequence word before it.
//!
//! This is a seqlock (Lameter's, in Linux since 2.5.60; in the form that Boehm gives for language memory models, "Can
//! seqlocks get along with programming language memory models?", MSPC 2012). Its writers never wait: a writer that
//! finds another one in the cell drops its update. The sequence is odd while the value is being written, never goes
//! back, and grows by two per write.

use bytemuck::{AnyBitPattern, NoUninit};

use super::words::used;
use super::{Words, WordsMut};
use crate::sync::{At, Ordering, fence, order};

/// One attempt to read a cell. Returns the sequence if the copy in `out` is whole. Makes no system call, never waits,
/// writes nothing to the cell. `cell` is the sequence word and the value's words.
#[inline]
pub fn try_read<T: AnyBitPattern>(cell: Words<'_>, out: &mut T) -> Option<u64> {
    let cell = cell.slice(0, used::<T>(cell.len(), 1)); // one check for all that follows
    let before = cell.load(0, Ordering::Relaxed);
    if before & 1 != 0 {
        return None;
    }
    fence(order!(At::CellCopy)); // SYNC publish: pairs with the store that ends `set`
    cell.copy(1, out);
    fence(order!(At::CellCheck)); // SYNC claim: pairs with the fence in `begin`
    (cell.load(0, Ordering::Relaxed) == before).then_some(before)
}

/// The first word of the value if the sequence is `seq`. `None` if the value is being written.
#[inline]
pub fn value_at(seq: u64) -> Option<usize> {
    (seq & 1 == 0).then_some(1)
}

/// Claims the cell for a write. Returns the odd sequence, or `None` if another writer is in the cell.
#[inline]
pub fn begin(cell: WordsMut<'_>) -> Option<u64> {
    let seen = cell.load(0, Ordering::Relaxed);
    // Acquire. SYNC follow: pairs with the store that ends the previous write.
    if seen & 1 != 0 || !cell.swap_if(0, seen, seen.wrapping_add(1), order!(At::CellClaim)) {
        return None;
    }
    fence(order!(At::CellClaimed)); // SYNC claim: pairs with the second fence in `try_read`
    Some(seen.wrapping_add(1))
}

/// Ends the write that [`begin`] began with `odd`.
#[inline]
pub fn end(cell: WordsMut<'_>, odd: u64) {
    cell.store(0, odd.wrapping_add(1), order!(At::CellEnd)); // SYNC publish, follow
}

/// Writes the whole value. Returns `false`, and writes nothing, if another writer is in the cell.
#[inline]
pub fn set<T: NoUninit>(cell: WordsMut<'_>, value: &T) -> bool {
    let Some(odd) = begin(cell) else { return false };
    cell.write(1, value);
    end(cell, odd);
    true
}

/// Ends the write of a writer that died, by writing a whole value of its own. Until then readers find the cell busy,
/// and no reader ever sees the dead writer's words. Returns `false`, and writes nothing, if no write was abandoned. No
/// other writer of this cell may be alive.
pub fn recover<T: NoUninit>(cell: WordsMut<'_>, value: &T) -> bool {
    let odd = cell.load(0, Ordering::Relaxed);
    if odd & 1 == 0 {
        return false;
    }
    // SYNC claim, as in `begin`, on behalf of the writer that stored `odd`.
    fence(order!(At::CellRecover));
    cell.write(1, value);
    end(cell, odd);
    true
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn an_abandoned_write_ends_with_the_value_of_who_recovers() {
        let words: Vec<_> = (0..3).map(|_| AtomicU64::new(0)).collect();
        let cell = WordsMut::new(&words);
        let read = || {
            let mut value = [0_u64; 2];
            try_read(*cell, &mut value).map(|seq| (seq, value))
        };
        assert!(set(cell, &[1_u64, 1]));
        assert!(!recover(cell, &[2_u64, 2]), "nothing is abandoned");
        assert_eq!(read(), Some((2, [1, 1])));

        assert_eq!(begin(cell), Some(3));
        cell.write(1, &9_u64);
        assert_eq!(read(), None);
        assert!(!set(cell, &[3_u64, 3]));
        assert!(recover(cell, &[4_u64, 4]));
        assert_eq!(read(), Some((4, [4, 4])));
        assert!(set(cell, &[5_u64, 5]));
        assert_eq!(read(), Some((6, [5, 5])));
    }
    #[test]
    fn a_copy_has_a_value_if_nobody_was_writing() {
        assert_eq!([0, 1, 2, 3, u64::MAX].map(value_at), [Some(1), None, Some(1), None, None]);
    }
}
