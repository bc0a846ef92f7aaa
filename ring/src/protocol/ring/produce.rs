//! Writing into a shard: the same steps as `mapring_reserve`, `_commit` and `_discard` in BPF.

use bytemuck::NoUninit;

use super::{DROPPED, HEAD, ShardMut};
use crate::layout::seq::{DISCARDED, TRIES, WALK, state};
use crate::sync::{Ordering, fence};

impl ShardMut<'_> {
    /// Claims the next free ticket, in a bounded number of steps: two loads and one
    /// compare-and-swap, unless another producer was here in between. `None`: no slot was free
    /// within [`TRIES`], and the record is counted as dropped.
    #[inline]
    pub fn claim(&self) -> Option<u64> {
        let t = self.header.load(HEAD, Ordering::Acquire); // SYNC order: pairs with the store in `take`
        let claimed = if self.take(t, self.place.slots.free(t)) { Some(t) } else { self.claim_slow() };
        // SYNC claim: pairs with the second fence in `Shard::take`.
        fence(Ordering::Release);
        claimed
    }

    /// Fills the record of a ticket that [`claim`](Self::claim) gave.
    #[inline]
    pub fn fill<T: NoUninit>(&self, t: u64, record: &T) {
        self.elements.write(self.place.slot(t) + 1, record);
    }

    /// Ends a claimed ticket: from here on readers see the record, whole.
    #[inline]
    pub fn publish(&self, t: u64) {
        self.elements.store(self.place.slot(t), self.place.slots.published(t), Ordering::Release); // SYNC publish, follow
    }

    /// Ends a claimed ticket without a record: readers pass over it and count nothing lost.
    #[inline]
    pub fn discard(&self, t: u64) {
        self.elements.store(self.place.slot(t), self.place.slots.published(t) | DISCARDED, Ordering::Release); // SYNC follow
    }

    /// Publishes a record: its ticket, or `None` if it was dropped, and counted.
    #[inline]
    pub fn push<T: NoUninit>(&self, record: &T) -> Option<u64> {
        let t = self.claim()?;
        self.fill(t, record);
        self.publish(t);
        Some(t)
    }

    /// Ends every ticket that is being written as discarded, and returns how many there were. No
    /// producer of this shard may be alive: the slot of one that is would be taken from under it.
    pub fn recover(&self) -> usize {
        let mut ended = 0;
        for slot in 0..self.place.slots.count() {
            let seen = self.seq(slot);
            let discarded = state(seen).wrapping_add(1) | DISCARDED;
            // Of two that recover at once, one ends the ticket.
            // SYNC follow: on both sides, for the producer that died ended nothing.
            if seen & 1 != 0
                && self.elements.swap_if(self.place.slot(slot), seen, discarded, Ordering::AcqRel)
            {
                ended += 1;
            }
        }
        ended
    }

    /// `head` was not the next free ticket.
    #[cold]
    fn claim_slow(&self) -> Option<u64> {
        let mut t = self.header.load(HEAD, Ordering::Acquire); // SYNC order, as in `claim`
        // Taken by another producer, or still being written one lap behind: walk.
        for _ in 0..WALK {
            let seen = self.seq(t);
            if self.take_free(t, seen) {
                return Some(t);
            }
            if state(seen) > self.place.slots.published(t) {
                break;
            }
            t = t.wrapping_add(1);
        }
        let seen = state(self.seq(t));
        if seen > self.place.slots.free(t) {
            // Far behind: the last ticket of this slot is taken, and so are all up to the end.
            let taken = self.place.slots.taken(seen, t);
            t = self.place.slots.last_taken(taken, |t| self.seq(t)).wrapping_add(1);
            fence(Ordering::Acquire); // SYNC order: pairs with the swap in `take`
        }
        for _ in WALK..TRIES {
            if self.take_free(t, self.seq(t)) {
                return Some(t);
            }
            t = t.wrapping_add(1);
        }
        if self.place.slots.count() > u64::from(TRIES) {
            // Stuck slots in a row, or an end further on than they and a stale `head` let us find:
            // the next claim goes on from here. A smaller ring has been searched all round.
            self.header.store(HEAD, t, Ordering::Release); // SYNC order
        }
        self.header.add(DROPPED, 1);
        None
    }

    /// Takes the slot of `t`, if what it was `seen` to hold is free for `t`.
    fn take_free(&self, t: u64, seen: u64) -> bool {
        state(seen) <= self.place.slots.free(t) && seen & 1 == 0 && self.take(t, seen)
    }

    /// Takes the slot of `t`, if it still holds `seen`, and leaves the hint where to look next.
    #[inline]
    fn take(&self, t: u64, seen: u64) -> bool {
        // Acquire. SYNC follow: pairs with the store that ended the slot's last ticket.
        // Release. SYNC order: pairs with the fence behind the bisection.
        let taken =
            self.elements.swap_if(self.place.slot(t), seen, self.place.slots.writing(t), Ordering::AcqRel);
        if taken {
            self.header.store(HEAD, t.wrapping_add(1), Ordering::Release); // SYNC order
        }
        taken
    }

    fn seq(&self, t: u64) -> u64 {
        self.elements.load(self.place.slot(t), Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::super::{Cursor, Place, Shard, Start, Step, Tally};
    use super::*;
    use crate::layout::{Geometry, Kind};
    use crate::protocol::WordsMut;
    use crate::sync::AtomicU64;

    #[test]
    fn abandoned_tickets_end_as_discarded_and_their_slots_are_free_again() {
        let geometry = Geometry::new(Kind::Ring, 8, 4, 1).unwrap();
        let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let place = Place::new(&geometry, 0);
        let writer = ShardMut::new(WordsMut::new(&words), &place);
        let mut look = Shard::new(*WordsMut::new(&words), &place);
        let mut reader = Cursor::new(&mut look, Start::Oldest, 1 << 14);

        assert_eq!(writer.push(&10_u64), Some(0));
        assert_eq!((writer.claim(), writer.claim()), (Some(1), Some(2)));
        assert_eq!(writer.push(&13_u64), Some(3));
        assert_eq!(writer.recover(), 2);
        assert_eq!(writer.recover(), 0);
        for t in 4..8 {
            assert_eq!(writer.push(&(10 + t)), Some(t));
        }
        // Lapped by then: what follows is about the next lap.
        let mut late = Cursor::new(&mut look, Start::Oldest, 1 << 14);
        let mut read = vec![];
        let mut value = 0;
        while let Step::Record(t) = late.step(&mut look, &mut value) {
            read.push((t, value));
        }
        assert_eq!(read, [(4, 14), (5, 15), (6, 16), (7, 17)]);
        while reader.step::<u64>(&mut look, &mut value) != Step::Empty {}
        assert_eq!(reader.tally().delivered + reader.tally().lapped, 8);
    }

    #[test]
    fn readers_pass_what_was_recovered_without_a_loss() {
        let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
        let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let place = Place::new(&geometry, 0);
        let writer = ShardMut::new(WordsMut::new(&words), &place);
        let mut look = Shard::new(*WordsMut::new(&words), &place);
        let mut reader = Cursor::new(&mut look, Start::Oldest, 1 << 14);
        assert_eq!((writer.claim(), writer.push(&1_u64), writer.claim()), (Some(0), Some(1), Some(2)));
        assert_eq!(writer.recover(), 2);
        let mut value = 0_u64;
        let steps: Vec<_> = (0..4).map(|_| reader.step(&mut look, &mut value)).collect();
        assert_eq!(steps, [Step::Moved, Step::Record(1), Step::Moved, Step::Empty]);
        assert_eq!(reader.tally(), Tally { delivered: 1, discarded: 2, ..Tally::default() });
    }
}
