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
        if state(self.seq(t.wrapping_sub(1))) > self.place.slots.free(t.wrapping_sub(1)) {
            // The end is further on than a stale `head` and a stuck slot let us find: the next
            // claim goes on from here.
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
