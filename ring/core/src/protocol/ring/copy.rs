//! Copies a shard while writers write it.

use super::tails::Area;
use super::{HEAD, HEADER, Shard};
use crate::abi::seq::{DISCARDED, PENDING};
use crate::sync::{At, Ordering, fence, order};

/// How often a slot is copied until its writers count as faster than the copy.
const TRIES: usize = 4;

/// Between the load of a slot's sequence and the copy of its words.
#[inline]
pub(super) fn begin_copy() {
    fence(order!(At::RingCopy)); // SYNC publish: pairs with the store that ends the ticket
}

/// Between the copy and the second load.
#[inline]
pub(super) fn end_copy() {
    fence(order!(At::RingCheck)); // SYNC claim: pairs with the fence in `claim`
}

impl Shard<'_> {
    /// Copies the shard, with its tails at `area`, to the same words of `to`, which has the words of the whole region. A
    /// reader of the copy finds the records that had ended before, except for those that writers overwrite meanwhile: these
    /// count as lost, or later ones are in their place. Each record and tail that it finds is whole.
    ///
    /// # Panics
    /// If `to` ends before the shard does.
    pub fn copy_to(&self, area: Option<&Area>, to: &mut [u64]) {
        let Self { words, place } = self;
        // Before the slots. A later hint would be ahead of slots that were copied before their records came.
        let header = place.header..place.header + HEADER;
        header.for_each(|at| to[at] = words.load(at, Ordering::Relaxed));
        to[place.header + HEAD] &= !PENDING; // no claim goes on in the copy
        let slots = &mut to[place.elements..place.elements + place.len];
        for (slot, to) in slots.chunks_exact_mut(place.stride).enumerate() {
            self.copy_slot(place.elements + slot * place.stride, to);
        }
        if let Some(area) = area {
            area.copy_to(*words, to); // after the slots, whose records had ended: their tails were whole
        }
    }

    /// Copies a slot by the steps of a reader: its sequence was the same before and after. A plain copy could have an old
    /// sequence with words of the next record.
    fn copy_slot(&self, at: usize, to: &mut [u64]) {
        let slot = self.words.slice(at, to.len());
        for _ in 0..TRIES {
            let seen = slot.load(0, Ordering::Relaxed);
            to[0] = seen;
            if seen == 0 || seen & (DISCARDED | 1) != 0 {
                return; // without a record
            }
            begin_copy();
            to.iter_mut().enumerate().skip(1).for_each(|(at, to)| *to = slot.load(at, Ordering::Relaxed));
            end_copy();
            if slot.load(0, Ordering::Relaxed) == seen {
                return;
            }
        }
        to[0] -= 1; // as if it were still being written: readers count it as lost
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::super::{ShardMut, ShardPlace};
    use super::*;
    use crate::abi::{Geometry, Kind};
    use crate::protocol::WordsMut;
    use crate::sync::AtomicU64;

    #[test]
    fn a_copy_has_what_had_ended_and_the_states_of_the_rest() {
        let geometry = Geometry::new(Kind::Ring, 16, 4, 2).unwrap();
        let memory: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let words = WordsMut::new(&memory);
        let place = ShardPlace::new(&geometry, 1);
        let writer = ShardMut::new(words, &place);
        assert_eq!(writer.push(&[1_u64, 2]), Some(0));
        writer.reserve::<[u64; 2]>().unwrap().discard();
        assert_eq!(writer.push(&[5_u64, 6]), Some(2));
        let mut open = writer.reserve::<[u64; 2]>().unwrap();
        open.write(&[7, 8]);
        words.set(place.head(), PENDING);
        writer.drop_one();

        let mut copy = vec![99; memory.len()];
        Shard::new(*words, &place).copy_to(None, &mut copy);
        assert!(copy[..place.header].iter().all(|&word| word == 99), "the other shard is not copied");
        assert_eq!((copy[place.head()], copy[place.header + 1]), (4, 1));
        assert_eq!(copy[place.elements..][..12], [2, 1, 2, 2 | DISCARDED, 99, 99, 2, 5, 6, 1, 99, 99]);
        assert_eq!(open.commit(), Some(3));
        Shard::new(*words, &place).copy_to(None, &mut copy);
        assert_eq!(copy[place.elements..][9..12], [2, 7, 8]);
    }
}
